//! A whole company in one cluster: very many Stages and Environments in very many Projects, of one operator. It grows from size to
//! size; at each, it is left alone, the operator is started again, releases come at a steady rate, and one Project has more to
//! deploy than all others. A quarter of it has Services.
//!
//! longer than 500 lines because it is one story, told in the order in which it happens.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
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

use crate::registry::{self, Registry, Repository};
use crate::report::{Figure, Goal};
use crate::start::{Launch, Launched};
use crate::{AT_ONCE, Failure, Place, QUIET, SERVICE};

/// Stages of a Project, and Environments of as many Stages.
const STAGES: usize = 20;
const STAGES_OF_AN_ENVIRONMENT: usize = 5;
/// Projects of a namespace.
const PROJECTS: usize = 10;
/// One of so many Projects has a port, and with it Services; the others are workers. For each address of a Service the API server
/// counts all that there are (`Used` in `pkg/registry/core/service/ipallocator` of Kubernetes 1.36), so with Services for all,
/// what is measured would be that.
const WITH_PORT: usize = 4;
/// What everything runs first.
const FIRST: &str = "1.0.0";
/// Releases that come at a steady rate, each to one Project: its Stages are deployed to at once.
const RELEASES: usize = 30;
/// Deploys a second that follow from them.
const RATE: usize = 20;
/// The Project that has more to deploy than others, and how many others are looked at beside it.
const GREEDY: &str = "greedy";
const OTHERS: usize = 10;
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

#[derive(Args)]
pub struct Crowd {
    /// How many Stages there are, from size to size; a fifth as many Environments.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,10000")]
    sizes: Vec<usize>,
    /// Seconds that it is left alone.
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// Port of the operator.
    #[arg(long)]
    port: u16,
    /// File for what the operator says.
    #[arg(long)]
    log: PathBuf,
    /// The operator's binary, which is told how fast the registry may be asked.
    #[arg(long)]
    program: PathBuf,
    /// Seconds until a step is given up.
    #[arg(long, default_value_t = 7200)]
    deadline: u64,
    #[command(flatten)]
    place: Place,
    /// The operator with its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(kube::Resource, Deserialize, Clone, Debug)]
#[resource(inherit = Stage)]
struct SeenStage {
    metadata: ObjectMeta,
    status: Option<SeenStatus>,
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
struct SeenEnvironment {
    metadata: ObjectMeta,
    status: Option<SeenPhase>,
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
struct Owner {
    namespace: String,
    name: String,
    stages: usize,
    has_port: bool,
}

impl Owner {
    fn numbered(number: usize) -> Self {
        Self {
            namespace: format!("crowd-{:02}", number / PROJECTS),
            name: format!("p{number:03}"),
            stages: STAGES,
            has_port: number.is_multiple_of(WITH_PORT),
        }
    }

    fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    fn repository(&self) -> String {
        format!("bench/{}", self.name)
    }
}

/// The operator, as long as it runs.
struct Running(Child);

impl Running {
    fn stop(mut self) -> Result<(), Failure> {
        let asked = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status()?;
        if !asked.success() {
            return Err("the operator cannot be told to stop".into());
        }
        // It answers nobody meanwhile that this program waits for.
        tokio::task::block_in_place(|| self.0.wait())?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nobody else knows of it when a step has failed.
        if matches!(self.0.try_wait(), Ok(None)) {
            let _gone = self.0.kill();
        }
    }
}

/// Everything that a step needs.
struct Ground<'a> {
    client: &'a Client,
    registry: Arc<Registry>,
    address: SocketAddr,
    database: &'a str,
    /// Of the operator.
    port: u16,
    http: reqwest::Client,
}

impl Crowd {
    pub async fn run(&self, client: &Client) -> Result<Value, Failure> {
        let registry = Arc::new(Registry::default());
        let address = registry.serve().await?;
        let database = self.place.database.as_deref().ok_or("no database of the operator")?;
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_mins(1)).build()?;
        let ground = Ground { client, registry, address, database, port: self.port, http };
        let Launched { child, .. } = self.launch().run(&[]).await?;
        // It has made the schema.
        registry::allow(&self.program, database, address)?;
        let mut running = Running(child);
        let (mut before, mut sizes) = (0, Vec::new());
        for (round, &size) in self.sizes.iter().enumerate() {
            let (measured, again) = self.size(&ground, running, before, size, round).await?;
            // What was measured is not lost with a run that is ended early.
            eprintln!("  ok    {size} stages: {measured}");
            sizes.push(measured);
            (running, before) = (again, size);
        }
        running.stop()?;
        Ok(json!({"kind": "crowd", "idleSeconds": self.idle, "sizes": sizes}))
    }

    fn launch(&self) -> Launch<'_> {
        Launch { command: &self.command, log: &self.log, port: self.port }
    }

    /// Where its costs are read.
    fn place(&self, running: &Running) -> Place {
        Place { operator: Some(running.0.id()), ..self.place.clone() }
    }

    async fn size(
        &self,
        ground: &Ground<'_>,
        running: Running,
        before: usize,
        size: usize,
        round: usize,
    ) -> Result<(Value, Running), Failure> {
        let environments = size / STAGES_OF_AN_ENVIRONMENT;
        let owners: Vec<Owner> = (0..size / STAGES).map(Owner::numbered).collect();
        let deadline = Instant::now() + Duration::from_secs(self.deadline);
        let place = self.place(&running);

        let (processes, mark) = (place.processes()?, place.mark()?);
        let (used, begun) = (processes.usage()?, Instant::now());
        ground.grow(&owners, before / STAGES, before / STAGES_OF_AN_ENVIRONMENT..environments).await?;
        until::<SeenStage>(ground.client, "Stages deployed", size, deadline, |stage| {
            stage
                .status
                .as_ref()
                .and_then(|status| status.deploy.as_ref())
                .is_some_and(|deploy| deploy.state == "Success")
        })
        .await?;
        until::<SeenEnvironment>(ground.client, "Environments ready", environments, deadline, |environment| {
            environment.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Ready")
        })
        .await?;
        let grown = begun.elapsed();
        rest(&place, deadline).await?;
        let grow = json!({
            "seconds": grown.as_secs_f64(),
            "cpu": used.until(&processes.usage()?),
            "requests": mark.since()?,
            "memory": place.memory()?,
        });

        let idle = crate::watch_idle(&place, size, self.idle).await?;
        eprintln!("  ok    {size} stages, {environments} environments: left alone for {} s", self.idle);

        running.stop()?;
        let (mark, sql) = (place.mark()?, place.settled_sql().await?);
        let launched = self.launch().run(&[("stage", size), ("environment", environments)]).await?;
        let running = Running(launched.child);
        let place = self.place(&running);
        rest(&place, deadline).await?;
        let after = place.settled_sql().await?;
        let start = json!({
            "readySeconds": launched.ready.as_secs_f64(),
            "observedSeconds": launched.observed.as_secs_f64(),
            "requests": mark.since()?,
            "sql": sql.zip(after).map(|(before, after)| before.until(after)),
            "memory": place.memory()?,
        });
        eprintln!("  ok    {size} stages: all observed {:.1} s after a start", launched.observed.as_secs_f64());

        let paths = ground.paths(deadline).await?;
        let pace = Duration::from_secs_f64(f64_of(STAGES) / f64_of(RATE));
        let wave = |step: usize, count: usize| Wave {
            owners: owners.iter().take(count).collect(),
            tag: format!("2.{round}.{step}"),
            pace,
            greedy: None,
        };
        let rate = ground.release(&wave(0, RELEASES), &paths, deadline).await?;
        rest(&place, deadline).await?;
        eprintln!("  ok    {size} stages: releases for {RATE} deploys a second");

        // The same Projects, without and with the one that has more to do.
        let greedy = ground.greedy(size / STAGES, deadline).await?;
        let paths = ground.paths(deadline).await?;
        let alone = ground.release(&wave(1, OTHERS), &paths, deadline).await?;
        rest(&place, deadline).await?;
        let crowded = Wave { greedy: Some(&greedy), ..wave(2, OTHERS) };
        let beside = ground.release(&crowded, &paths, deadline).await?;
        rest(&place, deadline).await?;
        ground.leave(&greedy, deadline).await?;
        ground.deafen().await?;
        rest(&place, deadline).await?;
        eprintln!("  ok    {size} stages: {} deploys of one Project beside those of others", greedy.stages);
        let measured = json!({
            "stages": size,
            "environments": environments,
            "projects": owners.len(),
            "grow": grow,
            "idle": idle,
            "start": start,
            "rate": rate,
            "alone": alone,
            "beside": beside,
            "greedy": greedy.stages,
            "memoryAfter": place.memory()?,
        });
        Ok((measured, running))
    }
}

impl Ground<'_> {
    /// Makes the Projects from that number on with their Stages, and these Environments.
    async fn grow(&self, owners: &[Owner], from: usize, environments: std::ops::Range<usize>) -> Result<(), Failure> {
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
    async fn greedy(&self, beside: usize, deadline: Instant) -> Result<Owner, Failure> {
        let stages = (beside * 2).clamp(10, 1000);
        let greedy = Owner { namespace: Owner::numbered(0).namespace, name: GREEDY.into(), stages, has_port: false };
        self.own(&greedy).await?;
        until::<SeenStage>(self.client, "more Stages deployed", stages, deadline, |stage| {
            let status = stage.status.as_ref().and_then(|status| status.deploy.as_ref());
            stage.name_any().starts_with(GREEDY) && status.is_some_and(|deploy| deploy.state == "Success")
        })
        .await?;
        Ok(greedy)
    }

    /// Deletes it and its Stages.
    async fn leave(&self, greedy: &Owner, deadline: Instant) -> Result<(), Failure> {
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
    async fn paths(&self, deadline: Instant) -> Result<BTreeMap<String, String>, Failure> {
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

    async fn deafen(&self) -> Result<(), Failure> {
        let mut sql = PgConnection::connect(self.database).await?;
        sqlx::raw_sql("DROP FUNCTION bench_tell_project() CASCADE").execute(&mut sql).await?;
        Ok(())
    }

    /// Lets the releases come, and waits until all Stages of all Projects have theirs. Gives how long each deploy took from its
    /// webhook on, those of the greedy one left out.
    async fn release(
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
struct Wave<'a> {
    owners: Vec<&'a Owner>,
    tag: String,
    /// From one to the next.
    pace: Duration,
    /// Who gets one too, before all others.
    greedy: Option<&'a Owner>,
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
async fn until<K>(
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
async fn rest(place: &Place, deadline: Instant) -> Result<(), Failure> {
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

fn f64_of(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

/// What is told of it: each figure at each size, and how it grows: the exponent of the power of the number of Stages that fits it
/// best.
pub fn figures(measured: &[Value]) -> Vec<Figure> {
    let mut all = Vec::new();
    for run in measured.iter().filter(|one| one["kind"] == "crowd") {
        let sizes: Vec<&Value> = run["sizes"].as_array().into_iter().flatten().collect();
        let last = sizes.iter().filter_map(|one| one["stages"].as_u64()).max();
        let idle_seconds = run["idleSeconds"].as_f64().unwrap_or(1.0);
        let mut figure = |name: &str, unit, goal, grows: bool, read: &dyn Fn(&Value) -> Option<f64>| {
            let mut curve = Vec::new();
            for size in &sizes {
                let (Some(stages), Some(value)) = (size["stages"].as_u64(), read(size)) else { continue };
                curve.push((stages.to_string().parse().unwrap_or(1.0_f64), value));
                // The goals are those of the largest size.
                let goal = if Some(stages) == last { goal } else { Goal::None };
                all.push(Figure {
                    name: format!("crowd-{name}-{stages}"),
                    unit,
                    values: vec![value],
                    floor: Vec::new(),
                    goal,
                });
            }
            if let Some(exponent) = exponent(&curve).filter(|_| grows) {
                let name = format!("crowd-{name}-exponent");
                all.push(Figure { name, unit: "", values: vec![exponent], floor: Vec::new(), goal: Goal::None });
            }
        };
        let none = Goal::None;
        let resident = |part: &'static str| move |one: &Value| one[part]["memory"]["resident"].as_f64();
        figure("grow", "s", none, true, &|one| one["grow"]["seconds"].as_f64());
        figure("memory", "MiB", Goal::AtMost(250.0), true, &resident("idle"));
        figure("memory-peak", "MiB", none, true, &|one| one["grow"]["memory"]["peak"].as_f64());
        figure("memory-started", "MiB", none, true, &resident("start"));
        figure("idle-cpu", "%", Goal::AtMost(1.0), true, &|one| {
            Some(one["idle"]["cpu"]["each"]["operator"].as_f64()? / idle_seconds * 100.0)
        });
        figure("idle-api-writes", "writes", Goal::AtMost(0.0), false, &|one| {
            one["idle"]["requests"]["writes"].as_f64()
        });
        figure("idle-sql-rows", "rows", Goal::AtMost(0.0), false, &|one| one["idle"]["sql"]["rowsWritten"].as_f64());
        figure("restart-observed", "s", Goal::AtMost(20.0), true, &|one| one["start"]["observedSeconds"].as_f64());
        figure("restart-api-writes", "writes", Goal::AtMost(0.0), false, &|one| {
            one["start"]["requests"]["writes"].as_f64()
        });
        for share in ["p50", "p99"] {
            figure(&format!("webhook-pulling-{share}"), "ms", none, true, &|one| {
                one["rate"]["pullingMillis"][share].as_f64()
            });
        }
        for (state, key) in [("pulling", "pullingMillis"), ("success", "successMillis")] {
            figure(&format!("beside-greedy-{state}"), "x", Goal::AtMost(2.0), false, &|one| {
                Some(one["beside"][key]["p50"].as_f64()? / one["alone"][key]["p50"].as_f64()?)
            });
        }
    }
    all
}

/// The slope of the line through the logarithms that fits them best, in the sense of least squares.
fn exponent(curve: &[(f64, f64)]) -> Option<f64> {
    let points: Vec<(f64, f64)> =
        curve.iter().filter(|(_, value)| *value > 0.0).map(|(size, value)| (size.ln(), value.ln())).collect();
    if points.len() < 2 {
        return None;
    }
    let count = f64_of(points.len());
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let along: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let across: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    (across > 0.0).then(|| along / across)
}
