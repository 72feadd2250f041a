//! `stagekeeper export`: the manifests that make what runs run again: Projects and Stages as they are declared, each Stage
//! pinned to the digests that it serves, or served at an instant.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

use clap::Args;
use jiff::Timestamp;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DynamicObject, ListParams},
    core::ApiResource,
};
use serde_json::{Map, Value, json};

use super::{
    Context,
    cluster::unread,
    deploys::DeployView,
    failure::Failure,
    output::{one_line, print_value},
};
use crate::{
    api::{self, labels},
    config::settings::DatabaseArgs,
    store::ServedFilter,
};

/// Stages of a namespace that are read at most.
const STAGES: i64 = 10_000;

/// What `export` takes.
#[derive(Args)]
pub struct ExportArgs {
    /// Only these stages, without their projects.
    #[arg(value_name = "STAGE")]
    stages: Vec<String>,
    /// Only this project and its stages.
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// Pin what served then, such as `2026-11-01T12:00:00Z`, instead of what serves now.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Write the declarations as they are, and pin nothing.
    #[arg(long, conflicts_with = "at")]
    unpinned: bool,
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Prints the manifests, one document each.
///
/// # Errors
/// The cluster, the API or the database is away, or a stage that was named does not exist.
pub async fn export(
    context: &Context,
    arguments: &ExportArgs,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let namespace = context.namespace().await?;
    let client = Context::client(context.cluster_config().await?)?;
    let wanted = |project: Option<&str>| arguments.project.as_deref().is_none_or(|only| project == Some(only));
    let mut stages = list::<api::Stage>(&client, &namespace).await?;
    stages.retain(|stage| wanted(stage.data["spec"]["project"].as_str()));
    if !arguments.stages.is_empty() {
        let there: BTreeSet<String> = stages.iter().map(ResourceExt::name_any).collect();
        if let Some(missing) = arguments.stages.iter().find(|name| !there.contains(*name)) {
            return Err(Failure::failed(
                format!("there is no Stage {missing} in namespace {namespace}"),
                "`kubectl get stages` lists them",
            ));
        }
        stages.retain(|stage| arguments.stages.contains(&stage.name_any()));
    }
    let mut projects =
        if arguments.stages.is_empty() { list::<api::Project>(&client, &namespace).await? } else { Vec::new() };
    projects.retain(|project| wanted(Some(&project.name_any())));
    let serves = if arguments.unpinned {
        BTreeMap::new()
    } else {
        let filter = ServedFilter {
            at: arguments.at.unwrap_or(now),
            namespace: Some(namespace.clone()),
            project: arguments.project.clone(),
            stage: None,
            image: None,
            after: None,
            limit: STAGES,
        };
        let (served, more) = context.source(&arguments.database).await?.served(&filter, now).await?;
        if more {
            return Err(Failure::failed(
                format!(
                    "namespace {namespace} has more than {STAGES} stages: some would be written without what they serve"
                ),
                "name a project with --project",
            ));
        }
        served.into_iter().map(|deploy| (deploy.stage.clone(), deploy)).collect()
    };
    for project in projects {
        document(out, None, &manifest(project))?;
    }
    for stage in stages {
        let name = stage.name_any();
        let (mut stage, served) = (manifest(stage), serves.get(&name));
        if let Some(deploy) = served {
            pin(&mut stage, deploy);
        } else if !arguments.unpinned {
            writeln!(io::stderr(), "stage {name} served nothing: it is written as it is declared")?;
        }
        let about = served.map(|deploy| format!("{name} serves {} (deploy {})", deploy.summary, deploy.id));
        document(out, about.as_deref(), &stage)?;
    }
    Ok(())
}

/// Everything of a kind, as it stands in the cluster: also fields that this program does not know.
async fn list<K>(client: &Client, namespace: &str) -> Result<Vec<DynamicObject>, Failure>
where
    K: Resource<DynamicType = ()>,
{
    let all: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<K>(&()));
    let found = all.list(&ListParams::default()).await;
    Ok(found.map_err(|error| unread::<K>("list", Some(namespace), "", &error))?.items)
}

/// What somebody would have written: neither what the cluster adds nor what asks for something once.
fn manifest(object: DynamicObject) -> Value {
    let kept = |all: &BTreeMap<String, String>| -> Map<String, Value> {
        let all = all.iter().filter(|(key, _)| !is_of_a_tool(key));
        all.map(|(key, value)| (key.clone(), json!(value))).collect()
    };
    let mut metadata = json!({"name": object.name_any(), "namespace": object.namespace()});
    let texts = [("labels", kept(object.labels())), ("annotations", kept(object.annotations()))];
    for (field, texts) in texts.into_iter().filter(|(_, texts)| !texts.is_empty()) {
        metadata[field] = Value::Object(texts);
    }
    let types = object.types.unwrap_or_default();
    json!({
        "apiVersion": types.api_version,
        "kind": types.kind,
        "metadata": metadata,
        "spec": object.data["spec"],
    })
}

/// Whether a label or an annotation belongs to whoever applied the object, or to what was asked of it once.
fn is_of_a_tool(key: &str) -> bool {
    const TOOLS: [&str; 5] = [
        "kubectl.kubernetes.io/",
        "argocd.argoproj.io/",
        "kustomize.toolkit.fluxcd.io/",
        "helm.toolkit.fluxcd.io/",
        "meta.helm.sh/",
    ];
    TOOLS.iter().any(|tool| key.starts_with(tool)) || key.starts_with(labels::REQUEST) || key == labels::RETRY
}

/// Fixes the images of a stage to those of a deploy.
fn pin(stage: &mut Value, deploy: &DeployView) {
    let digests: Map<String, Value> =
        deploy.images.iter().map(|(service, image)| (service.clone(), json!(image.digest))).collect();
    if let Some(services) = stage.pointer_mut("/spec/services").and_then(Value::as_object_mut) {
        let pinned = services.iter_mut().filter(|(name, _)| digests.contains_key(*name));
        for fields in pinned.filter_map(|(_, service)| service.as_object_mut()) {
            // Said twice it would be refused.
            fields.retain(|field, _| field != "tag" && field != "digest");
        }
    }
    stage["spec"]["pin"] = Value::Object(digests);
}

fn document(out: &mut dyn Write, about: Option<&str>, object: &Value) -> Result<(), Failure> {
    writeln!(out, "---")?;
    if let Some(about) = about {
        writeln!(out, "# {}", one_line(about))?;
    }
    print_value(out, object, true)
}
