//! What there is to measure: Projects with their Stages, Environments, repositories and webhooks, and releases that come to them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sqlx::postgres::PgListener;
use sqlx::{Connection as _, PgConnection};
use stagekeeper::api::{Environment, Project, Stage};

use crate::registry::{Registry, Repository};
use crate::{AT_ONCE, Failure, Place, QUIET, SERVICE};

/// Stages of a Project.
pub const STAGES: usize = 20;
/// Projects of a namespace.
const PROJECTS: usize = 10;
/// The Project that has more to deploy than others.
const GREEDY: &str = "greedy";
/// What everything runs first.
const FIRST: &str = "1.0.0";
/// One of so many Projects has a port, and with it Services; the others are workers. For each address of a Service the API server
/// counts all that there are (`Used` in `pkg/registry/core/service/ipallocator` of Kubernetes 1.36), so with Services for all,
/// what is measured would be that.
const WITH_PORT: usize = 4;

/// Where the database tells of deploys.
const CHANNEL: &str = "bench";

/// Tells who has begun to pull, and who has succeeded.
const EARS: &str = "
    CREATE OR REPLACE FUNCTION bench_tell_project() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify('bench', p.namespace || '/' || p.name || ' ' || NEW.to_state || ' ' || d.id)
        FROM deploys AS d JOIN projects AS p ON p.id = d.project_id WHERE d.id = NEW.deploy_id;
        RETURN NULL;
    END
    $$;
    CREATE OR REPLACE TRIGGER bench_tell_project AFTER INSERT ON deploy_transitions
    FOR EACH ROW WHEN (NEW.to_state IN ('pulling', 'success')) EXECUTE FUNCTION bench_tell_project();";

#[derive(kube::Resource, Deserialize, Clone, Debug)]
#[resource(inherit = Stage)]
pub struct SeenStage {
    metadata: ObjectMeta,
    status: Option<SeenStatus>,
}

impl SeenStage {
    /// Its newest deploy has succeeded.
    pub fn is_deployed(&self) -> bool {
        let deploy = self.status.as_ref().and_then(|status| status.deploy.as_ref());
        deploy.is_some_and(|deploy| deploy.state == "Success")
    }
}

#[derive(Deserialize, Clone, Debug, Default)]
struct SeenStatus {
    deploy: Option<SeenDeploy>,
}

#[derive(Deserialize, Clone, Debug, Default)]
struct SeenDeploy {
    #[serde(default)]
    state: String,
}

#[derive(kube::Resource, Deserialize, Clone, Debug)]
#[resource(inherit = Environment)]
pub struct SeenEnvironment {
    metadata: ObjectMeta,
    status: Option<SeenPhase>,
}

impl SeenEnvironment {
    /// It can be visited.
    pub fn is_ready(&self) -> bool {
        self.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Ready")
    }
}

#[derive(Deserialize, Clone, Debug, Default)]
struct SeenPhase {
    phase: Option<String>,
}

#[derive(kube::Resource, Deserialize, Clone, Debug)]
#[resource(inherit = Project)]
struct SeenProject {
    metadata: ObjectMeta,
    status: Option<SeenWebhooks>,
}

#[derive(Deserialize, Clone, Debug, Default)]
struct SeenWebhooks {
    #[serde(default)]
    webhooks: Vec<SeenWebhook>,
}

#[derive(Deserialize, Clone, Debug)]
struct SeenWebhook {
    path: String,
}

/// A Project, and what belongs to it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Owner {
    pub namespace: String,
    pub name: String,
    pub stages: usize,
    pub has_port: bool,
}

impl Owner {
    pub fn numbered(number: usize) -> Self {
        Self {
            namespace: format!("crowd-{:02}", number / PROJECTS),
            name: format!("p{number:03}"),
            stages: STAGES,
            has_port: number.is_multiple_of(WITH_PORT),
        }
    }

    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    fn repository(&self) -> String {
        format!("bench/{}", self.name)
    }
}

/// Everything that a step needs.
pub struct Ground<'a> {
    pub client: &'a Client,
    pub registry: Arc<Registry>,
    pub address: SocketAddr,
    pub database: &'a str,
    /// Of the operator.
    pub port: u16,
    pub http: reqwest::Client,
}

impl Ground<'_> {
    /// Makes the Projects from that number on with their Stages, and these Environments.
    pub async fn grow(
        &self,
        owners: &[Owner],
        from: usize,
        environments: std::ops::Range<usize>,
    ) -> Result<(), Failure> {
        let namespaces: BTreeSet<&str> = owners.iter().map(|owner| owner.namespace.as_str()).collect();
        for name in namespaces {
            let namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
            made(&Api::<Namespace>::all(self.client.clone()), &namespace).await?;
        }
        for owner in owners.iter().skip(from) {
            self.own(owner).await?;
        }
        let environments = environments.map(|number| {
            let owner = &owners[number % owners.len()];
            // In a namespace of their own each, they would be as many namespaces.
            let isolation = if number % 10 == 0 { "Namespace" } else { "Project" };
            json!({
                "metadata": {"name": format!("e{number:04}"), "namespace": owner.namespace},
                "spec": {
                    "project": owner.name,
                    "ttl": "720h",
                    "isolation": isolation,
                    "services": {SERVICE: {"tag": FIRST}},
                },
            })
        });
        self.make::<Environment>(environments).await
    }

    /// Makes a Project, its repository and its Stages.
    async fn own(&self, owner: &Owner) -> Result<(), Failure> {
        self.registry.add(owner.repository(), Repository::default());
        self.registry.push(&owner.repository(), FIRST)?;
        let ports = if owner.has_port { json!([{"name": "http", "port": 8080}]) } else { json!([]) };
        let project = json!({
            "metadata": {"name": owner.name, "namespace": owner.namespace},
            "spec": {
                "services": [{
                    "name": SERVICE,
                    "image": {
                        "repository": format!("{}/{}", self.address, owner.repository()),
                        "policy": {"semver": ">=1.0"},
                        "interval": "24h",
                        "insecure": true,
                    },
                    "ports": ports,
                }],
                "webhooks": [{"name": "push", "source": "generic"}],
            },
        });
        self.make::<Project>(std::iter::once(project)).await?;
        let stages = (0..owner.stages).map(|number| {
            json!({
                "metadata": {"name": format!("{}-{number:03}", owner.name), "namespace": owner.namespace},
                "spec": {"project": owner.name, "rollback": {"keepPrevious": "0s", "watch": "0s"}},
            })
        });
        self.make::<Stage>(stages).await
    }

    async fn make<K>(&self, objects: impl Iterator<Item = Value>) -> Result<(), Failure>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + serde::Serialize
            + std::fmt::Debug,
    {
        let kind = (K::api_version(&()), K::kind(&()));
        futures::stream::iter(objects)
            .map(|mut object| {
                object["apiVersion"] = kind.0.clone().into();
                object["kind"] = kind.1.clone().into();
                async move {
                    let object: K = serde_json::from_value(object)?;
                    let namespace = object.namespace().ok_or("no namespace")?;
                    made(&Api::<K>::namespaced(self.client.clone(), &namespace), &object).await
                }
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    /// Makes the Project that has more to do, waits for its Stages, and gives it.
    pub async fn greedy(&self, beside: usize, deadline: Instant) -> Result<Owner, Failure> {
        let stages = (beside * 2).clamp(10, 1000);
        let greedy = Owner { namespace: Owner::numbered(0).namespace, name: GREEDY.into(), stages, has_port: false };
        self.own(&greedy).await?;
        let theirs = |stage: &SeenStage| stage.name_any().starts_with(GREEDY) && stage.is_deployed();
        until(self.client, "more Stages deployed", stages, deadline, theirs).await?;
        Ok(greedy)
    }

    /// Deletes it and its Stages.
    pub async fn leave(&self, greedy: &Owner, deadline: Instant) -> Result<(), Failure> {
        let stages: Api<Stage> = Api::namespaced(self.client.clone(), &greedy.namespace);
        let projects: Api<Project> = Api::namespaced(self.client.clone(), &greedy.namespace);
        futures::stream::iter(0..greedy.stages)
            .map(|number| {
                let stages = &stages;
                async move { stages.delete(&format!("{GREEDY}-{number:03}"), &DeleteParams::default()).await }
            })
            .buffer_unordered(AT_ONCE)
            .try_for_each(|_| std::future::ready(Ok(())))
            .await?;
        projects.delete(GREEDY, &DeleteParams::default()).await?;
        let ours = |stage: &SeenStage| stage.name_any().starts_with(GREEDY);
        until::<SeenStage>(self.client, "Stages gone", 0, deadline, ours).await
    }

    /// Where the webhooks of the Projects go, by their keys.
    pub async fn paths(&self, deadline: Instant) -> Result<BTreeMap<String, String>, Failure> {
        let api: Api<SeenProject> = Api::all(self.client.clone());
        loop {
            let all = api.list(&kube::api::ListParams::default()).await?.items;
            let count = all.len();
            let paths = all.into_iter().filter_map(|project| {
                let key = format!("{}/{}", project.namespace()?, project.name_any());
                Some((key, project.status?.webhooks.into_iter().next()?.path))
            });
            let paths: BTreeMap<String, String> = paths.collect();
            if paths.len() == count {
                return Ok(paths);
            }
            if Instant::now() > deadline {
                return Err(format!("{} of {count} Projects have a path for their webhook", paths.len()).into());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn listen(&self) -> Result<PgListener, Failure> {
        let mut sql = PgConnection::connect(self.database).await?;
        sqlx::raw_sql(EARS).execute(&mut sql).await?;
        let mut ears = PgListener::connect(self.database).await?;
        ears.listen(CHANNEL).await?;
        Ok(ears)
    }

    pub async fn deafen(&self) -> Result<(), Failure> {
        let mut sql = PgConnection::connect(self.database).await?;
        sqlx::raw_sql("DROP FUNCTION bench_tell_project() CASCADE").execute(&mut sql).await?;
        Ok(())
    }

    /// Lets the releases come, and waits until all Stages of all Projects have theirs. Gives how long each deploy took from its
    /// webhook on, those of the greedy one left out.
    pub async fn release(
        &self,
        wave: &Wave<'_>,
        paths: &BTreeMap<String, String>,
        deadline: Instant,
    ) -> Result<Value, Failure> {
        // From now on: what was told of deploys before belongs to none of these.
        let mut ears = self.listen().await?;
        let all = wave.greedy.into_iter().chain(wave.owners.iter().copied());
        let count = all.map(|owner| owner.stages).sum();
        let begun = Instant::now();
        let (posted, heard) = tokio::try_join!(self.post(wave, paths), hear(&mut ears, count, deadline))?;
        let times = |state: &str| -> Vec<f64> {
            let of = heard.iter().filter(|(_, said, _)| said == state);
            of.filter_map(|(key, _, at)| Some(at.duration_since(*posted.get(key)?).as_secs_f64() * 1000.0)).collect()
        };
        Ok(json!({
            "releases": wave.owners.len(),
            "seconds": begun.elapsed().as_secs_f64(),
            "pullingMillis": spread(times("pulling")),
            "successMillis": spread(times("success")),
        }))
    }

    /// Pushes a tag for each, with its webhook; says when each webhook was sent.
    async fn post(
        &self,
        wave: &Wave<'_>,
        paths: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, Instant>, Failure> {
        if let Some(greedy) = wave.greedy {
            self.tell(greedy, &wave.tag, paths).await?;
        }
        let mut posted = BTreeMap::new();
        let mut next = tokio::time::interval(wave.pace);
        for owner in &wave.owners {
            next.tick().await;
            posted.insert(owner.key(), Instant::now());
            self.tell(owner, &wave.tag, paths).await?;
        }
        Ok(posted)
    }

    async fn tell(&self, owner: &Owner, tag: &str, paths: &BTreeMap<String, String>) -> Result<(), Failure> {
        let key = owner.key();
        self.registry.push(&owner.repository(), tag)?;
        let path = paths.get(&key).ok_or_else(|| format!("{key} has no webhook"))?;
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let image = format!("{}/{}:{tag}", self.address, owner.repository());
        let answer = self.http.post(url).json(&json!({"image": image})).send().await?;
        if answer.status().is_success() { Ok(()) } else { Err(format!("{key}: {}", answer.status()).into()) }
    }
}

/// Releases that come one after the other.
pub struct Wave<'a> {
    pub owners: Vec<&'a Owner>,
    pub tag: String,
    /// From one to the next.
    pub pace: Duration,
    /// Who gets one too, before all others.
    pub greedy: Option<&'a Owner>,
}

/// What the database tells until so many deploys have succeeded: of which Project, which state, and when it was heard.
async fn hear(
    ears: &mut PgListener,
    count: usize,
    deadline: Instant,
) -> Result<Vec<(String, String, Instant)>, Failure> {
    let (mut heard, mut succeeded, mut spoke) = (Vec::new(), 0, Instant::now());
    while succeeded < count {
        let told = tokio::time::timeout_at(deadline.into(), ears.recv()).await;
        let told = told.map_err(|_| format!("{succeeded} of {count} deploys have succeeded"))??;
        let mut words = told.payload().split(' ');
        let (Some(key), Some(state)) = (words.next(), words.next()) else { continue };
        succeeded += usize::from(state == "success");
        heard.push((key.to_owned(), state.to_owned(), Instant::now()));
        if spoke.elapsed() > Duration::from_secs(20) {
            spoke = Instant::now();
            eprintln!("  …     {succeeded} of {count} deploys have succeeded");
        }
    }
    Ok(heard)
}

/// Makes an object, if it is not there.
async fn made<K>(api: &Api<K>, object: &K) -> Result<(), Failure>
where
    K: Clone + DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    match api.create(&PostParams::default(), object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Waits until it is true of so many objects.
pub async fn until<K>(
    client: &Client,
    what: &str,
    count: usize,
    deadline: Instant,
    is: impl Fn(&K) -> bool,
) -> Result<(), Failure>
where
    K: kube::Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    let mut events = watcher(Api::<K>::all(client.clone()), watcher::Config::default()).default_backoff().boxed();
    let (mut true_of, mut listed, mut spoke) = (BTreeSet::new(), false, Instant::now());
    loop {
        if listed && true_of.len() == count {
            return Ok(());
        }
        if spoke.elapsed() > Duration::from_secs(20) {
            spoke = Instant::now();
            eprintln!("  …     {} of {count} {what}", true_of.len());
        }
        let event = tokio::time::timeout_at(deadline.into(), events.next()).await;
        let event = event.map_err(|_| format!("{} of {count} {what}", true_of.len()))?;
        match event.ok_or("the watch has ended")? {
            Ok(watcher::Event::Apply(one) | watcher::Event::InitApply(one)) => {
                let key = (one.namespace(), one.name_any());
                if is(&one) {
                    true_of.insert(key);
                } else {
                    true_of.remove(&key);
                }
            }
            Ok(watcher::Event::Delete(one)) => {
                true_of.remove(&(one.namespace(), one.name_any()));
            }
            Ok(watcher::Event::Init) => true_of.clear(),
            Ok(watcher::Event::InitDone) => listed = true,
            // It is opened again, from a new list.
            Err(_) => {}
        }
    }
}

/// Waits until the operator has written nothing for a while.
pub async fn rest(place: &Place, deadline: Instant) -> Result<(), Failure> {
    loop {
        let mark = place.mark()?;
        tokio::time::sleep(QUIET).await;
        if mark.since()?.writes == 0 {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err("the operator does not stop writing".into());
        }
    }
}

/// The middle one, the one that 99 of 100 do not exceed, and the worst.
fn spread(mut times: Vec<f64>) -> Value {
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1))).copied();
    json!({"p50": at(50), "p99": at(99), "worst": times.last(), "count": times.len()})
}
