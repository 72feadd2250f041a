//! `stagekeeper env …`: what lives for a while. Lists environments, makes them, wakes them, puts them to sleep, moves their
//! end.

use std::{collections::BTreeMap, io::Write};

use clap::{Args, Subcommand};
use jiff::Timestamp;
use kube::{
    Api, ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde::Serialize;
use serde_json::json;

use super::{
    Context,
    ask::{self, instant},
    cluster::unread,
    failure::{Code, Failure},
    output::{self, Columns, Format},
    remote::Call,
    source::Source,
};
use crate::{
    api,
    config::settings::DatabaseArgs,
    domain::request::{Action, RequestState},
    http::api::environments::Environment,
};

/// Who applies what this command makes.
const MANAGER: &str = "stagekeeper-cli";

/// What `env` takes.
#[derive(Args)]
pub struct EnvArgs {
    #[command(subcommand)]
    command: EnvCommand,
}

#[derive(Subcommand)]
enum EnvCommand {
    /// List the environments of a namespace.
    List {
        /// Only of this project.
        #[arg(long, value_name = "NAME")]
        project: Option<String>,
        /// Form of the output.
        #[arg(short, long, value_name = "FORM", default_value = "table")]
        output: Format,
        #[command(flatten)]
        database: DatabaseArgs,
    },
    /// Make an environment, or change one, with the rights of the kubeconfig.
    Create {
        /// Its name.
        #[arg(value_name = "NAME")]
        name: String,
        /// Its project.
        #[arg(long, value_name = "NAME")]
        project: String,
        /// The stage whose configuration it copies.
        #[arg(long, value_name = "STAGE")]
        base: Option<String>,
        /// The tag that a service runs, such as `web=pr-42`; may be given several times.
        #[arg(long = "tag", value_name = "SERVICE=TAG")]
        tags: Vec<String>,
        /// How long it lives, such as `72h`.
        #[arg(long, value_name = "TIME")]
        ttl: Option<api::Duration>,
        /// It sleeps when nobody has looked at it for so long, such as `1h`.
        #[arg(long, value_name = "TIME")]
        idle_after: Option<api::Duration>,
        /// Only print it as YAML.
        #[arg(long)]
        dry_run: bool,
    },
    /// Wake an environment.
    Wake(LifeArgs),
    /// Put an environment to sleep until somebody uses it.
    Sleep(LifeArgs),
    /// Move the end of an environment; it never gets earlier.
    Extend {
        #[command(flatten)]
        life: LifeArgs,
        /// Until when: a time such as `2026-01-31T12:00:00Z`, or from now, such as `48h`.
        #[arg(long, value_name = "TIME")]
        until: String,
    },
    /// Let an environment not end by itself.
    Pin(LifeArgs),
    /// Let it end by itself again.
    Unpin(LifeArgs),
    /// End an environment: what it made goes, its history stays.
    Delete(LifeArgs),
}

/// What is asked of the life of an environment.
#[derive(Args)]
struct LifeArgs {
    /// The environment.
    #[arg(value_name = "NAME")]
    name: String,
    /// Why: it stays in the audit log.
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Form of the output.
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: Format,
    #[command(flatten)]
    database: DatabaseArgs,
}

#[derive(Serialize)]
struct EnvironmentList {
    environments: Vec<Environment>,
}

/// Does what is asked.
///
/// # Errors
/// There is no such environment, the request is refused, or what it takes cannot be reached.
pub async fn env(context: &Context, arguments: &EnvArgs, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    match &arguments.command {
        EnvCommand::List { project, output, database } => {
            let source = context.source(database).await?;
            let namespace = context.namespace().await?;
            let all = source.environments(&namespace, project.as_deref()).await?;
            print(all, *output, out)
        }
        EnvCommand::Create { name, project, base, tags, ttl, idle_after, dry_run } => {
            let mut spec = json!({"project": project});
            let services = services(tags)?;
            if !services.is_empty() {
                spec["services"] = json!(services);
            }
            let given = [("base", base.as_ref().map(|base| json!(base))), ("ttl", ttl.map(|ttl| json!(ttl)))];
            let given = given.into_iter().chain([("idleAfter", idle_after.map(|after| json!(after)))]);
            for (field, value) in given {
                if let Some(value) = value {
                    spec[field] = value;
                }
            }
            create(context, name, spec, *dry_run, out).await
        }
        EnvCommand::Wake(life) => asked(context, life, Action::Wake, now, out).await,
        EnvCommand::Sleep(life) => asked(context, life, Action::Sleep, now, out).await,
        EnvCommand::Extend { life, until } => {
            asked(context, life, Action::Extend { until: instant(until, now)? }, now, out).await
        }
        EnvCommand::Pin(life) => asked(context, life, Action::Pin, now, out).await,
        EnvCommand::Unpin(life) => asked(context, life, Action::Unpin, now, out).await,
        EnvCommand::Delete(life) => asked(context, life, Action::Delete, now, out).await,
    }
}

fn services(tags: &[String]) -> Result<BTreeMap<&str, serde_json::Value>, Failure> {
    let mut services = BTreeMap::new();
    for text in tags {
        match text.split_once('=') {
            Some((service, tag)) if !service.is_empty() && !tag.is_empty() => {
                services.insert(service, json!({"tag": tag}));
            }
            _ => {
                return Err(Failure::usage(
                    format!("--tag: `{text}` does not say which service runs which tag"),
                    "write it as SERVICE=TAG, such as web=pr-42",
                ));
            }
        }
    }
    Ok(services)
}

async fn create(
    context: &Context,
    name: &str,
    spec: serde_json::Value,
    dry_run: bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let namespace = context.namespace().await?;
    let object = json!({
        "apiVersion": format!("{}/{}", api::GROUP, api::VERSION),
        "kind": "Environment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    });
    if dry_run {
        return output::print_value(out, &object, true);
    }
    let client = Context::client(context.cluster_config().await?)?;
    let environments: Api<api::Environment> = Api::namespaced(client, &namespace);
    let params = PatchParams::apply(MANAGER);
    let made = environments
        .patch(name, &params, &Patch::Apply(&object))
        .await
        .map_err(|error| unread::<api::Environment>("patch", Some(&namespace), name, &error))?;
    Ok(writeln!(
        out,
        "environment {} is asked for; `kubectl get environment {0} -n {namespace} -w` shows how far it is",
        made.name_any()
    )?)
}

async fn asked(
    context: &Context,
    life: &LifeArgs,
    action: Action,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let source = context.source(&life.database).await?;
    let namespace = context.namespace().await?;
    let settled = source.ask("environments", (&namespace, &life.name), action, &life.reason, now).await?;
    ask::tell(&settled, life.output, out)?;
    match settled.state() {
        RequestState::Done => Ok(()),
        RequestState::Refused => Err(Failure::Told(Code::Refused)),
        RequestState::Pending => Err(Failure::unavailable(
            "the operator has not acted on it yet",
            "it stays asked; `stagekeeper doctor` says whether the operator runs",
        )),
    }
}

impl Source {
    async fn environments(&self, namespace: &str, project: Option<&str>) -> Result<Vec<Environment>, Failure> {
        const PAGE: i64 = 500;
        match self {
            Self::Api(remote) => {
                let path = ["namespaces", namespace, "environments"];
                let call = Call::new(&path, format!("namespace {namespace}")).with_some("project", project);
                Ok(remote.list(call, usize::MAX).await?.0)
            }
            Self::Database(store) => {
                let mut all: Vec<Environment> = Vec::new();
                loop {
                    let after = all.last().map(|last| last.name.clone());
                    let page = store.environments_list(namespace, project, after.as_deref(), PAGE).await?;
                    let is_last = page.len() < usize::try_from(PAGE).unwrap_or_default();
                    all.extend(page.into_iter().map(Environment::from));
                    if is_last {
                        return Ok(all);
                    }
                }
            }
        }
    }
}

fn print(environments: Vec<Environment>, format: Format, out: &mut dyn Write) -> Result<(), Failure> {
    match format {
        Format::Json => output::print_value(out, &EnvironmentList { environments }, false),
        Format::Yaml => output::print_value(out, &EnvironmentList { environments }, true),
        Format::Name => Ok(environments.iter().try_for_each(|one| writeln!(out, "environment/{}", one.name))?),
        Format::Table | Format::Wide => {
            let mut columns =
                Columns::new(&["NAME", "PROJECT", "SUBDOMAIN", "STATE", "LAST ACTIVITY", "CREATED", "ENDS"]);
            for one in environments {
                let state = match (&one.ending_because, one.asleep_since) {
                    (Some(_), _) => "ending",
                    (None, Some(_)) => "asleep",
                    (None, None) => "awake",
                };
                let ends = match (one.ending_because, one.pinned, one.extended_until) {
                    (Some(why), ..) => why,
                    (None, true, _) => "never: it is pinned".into(),
                    (None, false, Some(until)) => format!("not before {until}"),
                    (None, false, None) => "by its spec".into(),
                };
                columns.row([
                    one.name,
                    one.project,
                    one.subdomain,
                    state.to_owned(),
                    one.last_activity_at.to_string(),
                    one.created_at.to_string(),
                    ends,
                ]);
            }
            Ok(write!(out, "{}", columns.render())?)
        }
    }
}
