//! What a stage declares, and what is stored of the registries that it asks.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::{Api, Client};

use crate::{
    api::{Project, Stage, StageSpec},
    cli::{Context, cluster::unread, failure::Failure},
    controllers::{
        images::{Known, Question, recalled},
        stage::sources::{self, Source},
    },
    domain::{deploy::State, release::Release, share::Share},
    render::Identity,
    store::{ImageScan, Store},
};

/// Everything that is looked at.
pub struct Seen {
    /// The namespace.
    pub namespace: String,
    /// Where the images come from.
    pub sources: Vec<Source>,
    /// What is on its way to the stage, or serves.
    pub current: Option<Release>,
    stage: Option<String>,
    scans: BTreeMap<String, ImageScan>,
    known: BTreeMap<String, Known>,
}

impl Seen {
    /// What a stage of a project declares.
    ///
    /// # Errors
    /// There is no such stage or project, they cannot be used, or the cluster is away.
    pub async fn of_stage(context: &Context, project: &str, name: &str) -> Result<Self, Failure> {
        let (namespace, client) = reach(context).await?;
        let Some(stage) = read::<Stage>(&client, &namespace, name).await? else {
            return Err(Failure::failed(
                format!("there is no Stage {name} in namespace {namespace}"),
                "`kubectl get stages -A` lists them",
            ));
        };
        if stage.spec.project != project {
            return Err(Failure::failed(
                format!("stage {name} is one of project {}, not of {project}", stage.spec.project),
                format!("say {}/{name}", stage.spec.project),
            ));
        }
        let found = project_of(&client, &namespace, project).await?;
        Self::declared(namespace, &found, project, &stage.spec, Some(name))
    }

    /// What a project declares for all its stages.
    ///
    /// # Errors
    /// There is no such project, it cannot be used, or the cluster is away.
    pub async fn of_project(context: &Context, project: &str) -> Result<Self, Failure> {
        let (namespace, client) = reach(context).await?;
        let found = project_of(&client, &namespace, project).await?;
        Self::declared(namespace, &found, project, &StageSpec::unchanged(project), None)
    }

    fn declared(
        namespace: String,
        found: &Project,
        project: &str,
        stage: &StageSpec,
        name: Option<&str>,
    ) -> Result<Self, Failure> {
        let names = Identity {
            namespace: namespace.clone(),
            home: None,
            project: project.into(),
            stage: name.unwrap_or("stage").into(),
        };
        let sources = sources::sources(&names, &found.spec, stage).map_err(|refused| {
            let said: Vec<String> = refused.iter().map(|one| format!("{}: {}", one.field, one.message)).collect();
            Failure::failed(format!("what is declared cannot be used: {}", said.join("; ")), "correct it first")
        })?;
        let (scans, known) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { namespace, sources, current: None, stage: name.map(Into::into), scans, known })
    }

    /// Reads what is stored.
    ///
    /// # Errors
    /// The database is away.
    pub async fn remember(&mut self, store: &Store) -> Result<(), Failure> {
        let repositories: BTreeSet<String> = self.sources.iter().map(|source| source.repository.to_string()).collect();
        let repositories: Vec<String> = repositories.into_iter().collect();
        let scans = store.image_scans_of(&repositories).await?;
        self.known = scans.iter().map(|scan| (scan.key.clone(), recalled(scan.clone()))).collect();
        self.scans = scans.into_iter().map(|scan| (scan.key.clone(), scan)).collect();
        let Some(stage) = &self.stage else {
            return Ok(());
        };
        let targets = store.targets_load(&Share::all().only(&self.namespace)).await?;
        let Some(target) = targets.into_iter().find(|target| target.name == *stage) else {
            return Ok(());
        };
        // As the operator looks at it: what is on its way counts, and what failed on its way does not.
        self.current = store.target_state_load(target.id).await?.and_then(|state| {
            let open = state.open.last();
            let moving = open.filter(|open| open.stored.deploy.state != State::Failed);
            let current = moving.or(state.good.as_ref()).or(open);
            current.map(|found| found.stored.release.clone())
        });
        Ok(())
    }

    /// The source of a service.
    ///
    /// # Errors
    /// There is no such service.
    pub fn source(&self, service: &str) -> Result<&Source, Failure> {
        self.sources.iter().find(|source| source.service == service).ok_or_else(|| {
            let names: Vec<&str> = self.sources.iter().map(|source| source.service.as_str()).collect();
            Failure::failed(format!("there is no service {service}"), format!("there are: {}", names.join(", ")))
        })
    }

    /// What is stored of a question.
    pub fn scan(&self, question: &Question) -> Option<&ImageScan> {
        self.scans.get(&question.key().hex())
    }

    /// What the operator knows about a question, as far as it is stored.
    pub fn known(&self, question: &Question) -> Known {
        self.known.get(&question.key().hex()).cloned().unwrap_or_default()
    }

    /// When it was asked.
    pub fn scanned_at(&self, question: &Question) -> Option<Timestamp> {
        self.scan(question).map(|scan| scan.scanned_at)
    }
}

async fn reach(context: &Context) -> Result<(String, Client), Failure> {
    let namespace = context.namespace().await?;
    Ok((namespace, Context::client(context.cluster_config().await?)?))
}

async fn project_of(client: &Client, namespace: &str, name: &str) -> Result<Project, Failure> {
    read::<Project>(client, namespace, name).await?.ok_or_else(|| {
        Failure::failed(
            format!("there is no Project {name} in namespace {namespace}"),
            "`kubectl get projects -A` lists them",
        )
    })
}

async fn read<K>(client: &Client, namespace: &str, name: &str) -> Result<Option<K>, Failure>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let found = Api::<K>::namespaced(client.clone(), namespace).get_opt(name).await;
    found.map_err(|error| unread::<K>("get", Some(namespace), name, &error))
}
