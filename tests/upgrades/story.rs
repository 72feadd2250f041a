//! What every way has in common: a deploy waits for its pods while the operator is exchanged beneath it, there and back.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Instant,
};

use k8s_openapi::api::{
    apps::v1::Deployment,
    coordination::v1::Lease,
    core::v1::{Pod, Service},
};
use kube::ResourceExt as _;
use serde_json::Value;
use stagekeeper::{
    api::{Stage, conditions},
    store::{Migrations, Store},
};

use crate::{
    ground::{Ground, field},
    previous::here,
};

/// Where the workloads are.
const SHOP: &str = "shop";

/// Which of the two leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Previous,
    This,
    /// Whoever led last is gone.
    None,
}

/// A way to install, to upgrade and to roll back.
pub trait Way {
    /// The folder of its images in the registry: each way begins with a first version.
    fn folder(&self) -> &'static str;
    /// The previous release begins.
    async fn install(&mut self, ground: &mut Ground);
    /// This version takes its place.
    async fn upgrade(&mut self, ground: &mut Ground);
    /// The previous release is back.
    async fn roll_back(&mut self, ground: &mut Ground);
    /// The URL of the database, from this machine.
    async fn database(&self, ground: &Ground) -> String;
    /// Which version a holder of the Lease is.
    async fn version(&self, ground: &Ground, holder: &str) -> Version;
}

/// What must not change beneath a deploy that waits, nor beneath a stage that nobody touches.
#[derive(Debug, PartialEq, Eq)]
pub struct Untouched {
    /// Pods by UID, with how often their containers began again.
    pods: BTreeMap<String, i64>,
    /// Deployments by UID, with the generation of their spec.
    deployments: BTreeMap<String, i64>,
}

/// The whole story.
pub async fn tell(ground: &mut Ground, way: &mut impl Way) {
    let mut clock = Clock(Instant::now());
    way.install(ground).await;
    clock.say("installed");
    push(ground, way, "1.0.0", "").await;
    ground.shell(&format!("kubectl create namespace {SHOP}")).await;
    ground.apply(&shop(ground, way)).await;
    until_runs(ground, "quiet", "web:1.0.0").await;
    until_runs(ground, "production", "web:1.0.0").await;
    assert_eq!(leading(ground, way).await, Version::Previous);
    let quiet = untouched(ground, "quiet").await;
    clock.say("the previous release has deployed");

    let deploy = begun(ground, way, "1.1.0").await;
    let (before, kept) = (untouched(ground, "production").await, told(ground, way).await);
    assert!(before.pods.len() == 4 && before.deployments.len() == 2, "old and new side by side: {before:?}");
    way.upgrade(ground).await;
    clock.say("upgraded");
    ended_well(ground, way, "1.1.0", &deploy, &before, &kept, Version::This).await;

    // What the next version would bring, too: nothing of this one or of the one before may mind it.
    expand(&way.database(ground).await).await;
    let deploy = begun(ground, way, "1.2.0").await;
    let (before, kept) = (untouched(ground, "production").await, told(ground, way).await);
    way.roll_back(ground).await;
    clock.say("rolled back");
    ended_well(ground, way, "1.2.0", &deploy, &before, &kept, Version::Previous).await;

    assert_eq!(untouched(ground, "quiet").await, quiet, "what nobody touched");
    let states = "SELECT string_agg(s.name || ' ' || d.state, ', ' ORDER BY s.name, d.sequence) \
                  FROM deploys d JOIN stages s ON s.id = d.target_id WHERE s.namespace = 'shop'";
    let want = "production success, production success, production success, quiet success";
    assert_eq!(query(&way.database(ground).await, states).await, want);
    clock.say("all is well");
}

/// Pushes an image of the shop.
async fn push(ground: &Ground, way: &impl Way, tag: &str, switches: &str) {
    ground.shell(&format!("hack/image push {}/{}/web:{tag} {switches}", ground.registry, way.folder())).await;
}

/// A project that follows its image, and one that does not, with a stage each.
fn shop(ground: &Ground, way: &impl Way) -> String {
    include_str!("shop.yaml").replace("REGISTRY", &format!("{}/{}", ground.inside, way.folder()))
}

/// Waits until a stage runs an image and is well.
async fn until_runs(ground: &Ground, stage: &str, image: &str) {
    let stages = ground.api::<Stage>(SHOP);
    ground
        .wait(&format!("{stage} runs {image}"), async || {
            let status = stages.get(stage).await.unwrap().status?;
            let is_ready = conditions::get(&status.conditions, "Ready")?.status == "True";
            (is_ready && status.images.as_deref() == Some(image)).then_some(())
        })
        .await;
}

/// A deploy of an image whose pods say that they are not well, until they are told otherwise.
async fn begun(ground: &Ground, way: &impl Way, tag: &str) -> String {
    push(ground, way, tag, "--env APP_HEALTH=held").await;
    let database = way.database(ground).await;
    let open = "SELECT d.id::text FROM deploys d JOIN stages s ON s.id = d.target_id \
                WHERE s.namespace = 'shop' AND s.name = 'production' AND d.state = 'starting'";
    let deploy = ground
        .wait(&format!("the deploy of {tag} has started"), async || {
            Some(query(&database, open).await).filter(|id| !id.is_empty())
        })
        .await;
    ground
        .wait("its pods run", async || {
            let pods = held_pods(ground).await;
            (pods.len() == 2 && pods.iter().all(|pod| field(pod, "/status/phase") == "Running")).then_some(())
        })
        .await;
    deploy
}

/// Pods of production that are not ready.
async fn held_pods(ground: &Ground) -> Vec<Pod> {
    let pods = ground.list::<Pod>(SHOP, "stagekeeper.dev/stage=production").await;
    let is_held = |pod: &Pod| field(pod, "/status/containerStatuses/0/ready") == false;
    pods.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none() && is_held(pod)).collect()
}

/// The other version leads; nothing has happened to the deploy and to what it waits for. Then it goes on and ends, once.
async fn ended_well(
    ground: &Ground,
    way: &impl Way,
    tag: &str,
    deploy: &str,
    before: &Untouched,
    kept: &BTreeSet<String>,
    version: Version,
) {
    ground.wait(&format!("{version:?} leads"), async || (leading(ground, way).await == version).then_some(())).await;
    let database = way.database(ground).await;
    let state = format!("SELECT state FROM deploys WHERE id = '{deploy}'");
    assert_eq!(query(&database, &state).await, "starting", "it waits for its pods");
    assert_eq!(untouched(ground, "production").await, *before, "nothing has been started again");
    assert!(!shop_answers(ground).await.contains(tag), "what is not well has no traffic");

    let held = held_pods(ground).await;
    let new: BTreeSet<String> = held.iter().filter_map(|pod| pod.uid()).collect();
    assert_eq!(new.len(), 2);
    for pod in &held {
        let address = field(pod, "/status/podIP").as_str().unwrap().to_owned();
        let put = "curl --silent --fail --max-time 10 --request PUT --data now";
        ground.shell(&format!("{put} http://{address}:8080/data/well")).await;
    }
    until_runs(ground, "production", &format!("web:{tag}")).await;
    ground
        .wait("the new pods have the traffic", async || {
            shop_answers(ground).await.starts_with(&format!("shop {tag} ")).then_some(())
        })
        .await;

    let after = untouched(ground, "production").await;
    for uid in &new {
        assert_eq!(after.pods.get(uid), Some(&0), "the pods that it began with are those that it ended with");
    }
    let steps = format!(
        "SELECT string_agg(to_state, ' ' ORDER BY version, step) FROM deploy_transitions WHERE deploy_id = '{deploy}'"
    );
    let want = "pending pulling starting configuring_proxy health_checking success";
    assert_eq!(query(&database, &steps).await, want, "each step once");
    let now = told(ground, way).await;
    let lost: Vec<&String> = kept.difference(&now).collect();
    assert!(lost.is_empty(), "history has changed: {lost:#?}");
}

/// What the stage's Service answers.
async fn shop_answers(ground: &Ground) -> String {
    let service = ground.api::<Service>(SHOP).get("production-web").await.unwrap();
    let address = service.spec.unwrap().cluster_ip.unwrap();
    ground.shell(&format!("curl --silent --fail --max-time 10 http://{address}:8080/")).await
}

/// What runs of a stage.
async fn untouched(ground: &Ground, stage: &str) -> Untouched {
    let label = format!("stagekeeper.dev/stage={stage}");
    let number = |value: Value| value.as_i64().unwrap_or(0);
    let pods = ground.list::<Pod>(SHOP, &label).await;
    let deployments = ground.list::<Deployment>(SHOP, &label).await;
    Untouched {
        pods: pods
            .iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .map(|pod| (pod.uid().unwrap(), number(field(pod, "/status/containerStatuses/0/restartCount"))))
            .collect(),
        deployments: deployments
            .iter()
            .map(|deployment| (deployment.uid().unwrap(), number(field(deployment, "/metadata/generation"))))
            .collect(),
    }
}

/// Which version leads, as the Lease says.
pub async fn leading(ground: &Ground, way: &impl Way) -> Version {
    way.version(ground, &holder(ground).await).await
}

/// Who has the Lease.
pub async fn holder(ground: &Ground) -> String {
    let leases = ground.api::<Lease>("stagekeeper");
    ground
        .wait("somebody has the Lease", async || {
            let holder = leases.get_opt("stagekeeper").await.unwrap()?.spec?.holder_identity?;
            Some(holder).filter(|holder| !holder.is_empty())
        })
        .await
}

/// What is written down for good, a line each: deploys that ended, every step, audit.
async fn told(ground: &Ground, way: &impl Way) -> BTreeSet<String> {
    let all = "SELECT string_agg(line, chr(10)) FROM (
        SELECT concat_ws(' ', 'deploy', id, sequence, state, release_id, snapshot_hash, actor, cause, created_at, finished_at)
            FROM deploys WHERE finished_at IS NOT NULL
        UNION ALL SELECT concat_ws(' ', 'step', deploy_id, version, step, from_state, to_state, at) FROM deploy_transitions
        UNION ALL SELECT concat_ws(' ', 'snapshot', hash, md5(content::text)) FROM snapshots
        UNION ALL SELECT concat_ws(' ', 'audit', to_jsonb(a)) FROM audit_log a) AS told (line)";
    let said = query(&way.database(ground).await, all).await;
    said.lines().map(str::to_owned).collect()
}

/// What a database answers: one text.
pub async fn query(database: &str, statement: &str) -> String {
    use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
    let mut connection = PgConnection::connect(database).await.unwrap();
    let answer = sqlx::query_scalar(AssertSqlSafe(statement.to_owned())).fetch_optional(&mut connection).await;
    let answer: Option<Option<String>> = answer.unwrap_or_else(|error| panic!("{statement}: {error}"));
    connection.close().await.unwrap();
    answer.flatten().unwrap_or_default()
}

/// Runs a migration that no version has, as the next one would: it only adds. Does nothing when it has run.
pub async fn expand(database: &str) {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("migrations-of-the-next-version");
    _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    for file in std::fs::read_dir(here().join("migrations")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.join(file.file_name())).unwrap();
    }
    std::fs::write(folder.join("9000_next.up.sql"), include_str!("next.up.sql")).unwrap();
    std::fs::write(folder.join("9000_next.down.sql"), include_str!("next.down.sql")).unwrap();
    let next = Migrations::from_folder(&folder).await.unwrap();
    let store = Store::connect(database).await.unwrap();
    store.migrate_up_with(&next).await.unwrap();
    store.close().await;
}

/// How long each part took.
struct Clock(Instant);

impl Clock {
    fn say(&mut self, what: &str) {
        println!("  {what}: {:.1} s", self.0.elapsed().as_secs_f32());
        self.0 = Instant::now();
    }
}
