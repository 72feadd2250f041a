//! Namespaces that are shared among three replicas: each is led by one, also while one of them dies and comes back.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};
use serde_json::json;
use stagekeeper::{
    api::{Project, Stage},
    domain::{deploy::State, share::Share},
};

use crate::{
    cluster::{DEADLINE, Env},
    ground::{PATIENCE, own, unprobed},
    operator::Operator,
    story::{Scene, Seat},
    trap::When,
};

const SHARDS: u16 = 3;

/// Namespaces of each shard.
const EACH: usize = 3;

/// What is promised when a replica dies.
const FORCED: Duration = Duration::from_secs(15);

/// One operator and its proxies.
struct Replica {
    name: String,
    seat: Seat,
    operator: Operator,
}

impl Replica {
    async fn start(scene: &Scene, name: &str) -> Self {
        let seat = Seat::new(&scene.env).await;
        let variables = [
            ("KUBECONFIG", seat.api.kubeconfig.as_str()),
            ("DATABASE_URL", &seat.sql.url),
            ("STAGEKEEPER_LEASE_IDENTITY", name),
            ("STAGEKEEPER_NAMESPACES", ""),
            ("STAGEKEEPER_SHARDS", "3"),
        ];
        let operator = Operator::start_with(&scene.env, &variables).await;
        operator.ready().await;
        Self { name: name.to_owned(), seat, operator }
    }

    /// The shards that it says it leads.
    async fn leads(&self) -> BTreeSet<u16> {
        let metrics = self.operator.metrics().await;
        let named = |shard: u16| match shard {
            0 => "stagekeeper".to_owned(),
            _ => format!("stagekeeper-{shard}"),
        };
        let line = |shard| format!("leader_election_master_status{{name=\"{}\"}} 1", named(shard));
        (0..SHARDS).filter(|shard| metrics.lines().any(|said| said == line(*shard))).collect()
    }

    /// The namespaces of ours that it has written to since so many writes.
    fn wrote_to(&self, namespaces: &[String], since: usize) -> BTreeSet<String> {
        let writes = self.seat.api.writes().split_off(since);
        writes.into_iter().map(|call| call.namespace).filter(|name| namespaces.contains(name)).collect()
    }
}

/// Waits until each replica leads as many shards as the others, one here, and all are led.
async fn shared(env: &Env, replicas: &[Replica]) -> BTreeMap<String, u16> {
    env.wait("each replica leads one shard", DEADLINE, async || {
        let mut all = BTreeMap::new();
        for replica in replicas {
            let led = replica.leads().await;
            if let (Some(shard), 1) = (led.first(), led.len()) {
                all.insert(replica.name.clone(), *shard);
            }
        }
        let distinct: BTreeSet<&u16> = all.values().collect();
        (all.len() == replicas.len() && distinct.len() == all.len()).then_some(all)
    })
    .await
}

/// Namespaces of every shard, with a Project and a Stage each.
async fn furnish(scene: &Scene) -> Vec<String> {
    let part = |shard| Share::all().sharded(&BTreeSet::from([shard]), SHARDS);
    let mut names = Vec::new();
    for shard in 0..SHARDS {
        let tail = scene.env.namespace.rsplit('-').next().unwrap().to_owned();
        let candidates = (0..).map(|number| format!("team-{number}-{tail}"));
        names.extend(candidates.filter(|name| part(shard).covers(name)).take(EACH));
    }
    let project = unprobed().replace("REGISTRY/", &scene.env.repository(""));
    let project = project.replace("interval: 1s", "interval: 24h");
    for name in &names {
        let namespace = Namespace {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        Api::all(scene.env.client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        let mut object: Project = serde_yaml::from_str(&project).unwrap();
        object.spec.webhooks = serde_json::from_value(json!([{"name": "push", "source": "generic"}])).unwrap();
        let projects: Api<Project> = Api::namespaced(scene.env.client.clone(), name);
        projects.create(&PostParams::default(), &object).await.unwrap();
        let stage: Stage = serde_json::from_value(json!({
            "apiVersion": "stagekeeper.dev/v1alpha1",
            "kind": "Stage",
            "metadata": {"name": "production"},
            "spec": {"project": "shop", "rollback": {"keepPrevious": "0s", "watch": "0s"}},
        }))
        .unwrap();
        Api::namespaced(scene.env.client.clone(), name).create(&PostParams::default(), &stage).await.unwrap();
    }
    names
}

/// Pushes a tag and tells one Project's webhook of it, which is all that anybody hears: registries are asked once a day.
async fn release(scene: &Scene, namespace: &str, tag: &str, through: &Replica) {
    scene.env.push("web", tag, &[]).await;
    let projects: Api<Project> = Api::namespaced(scene.env.client.clone(), namespace);
    let path = scene
        .env
        .wait("the webhook has a path", DEADLINE, async || {
            let status = projects.get("shop").await.unwrap().status?;
            Some(status.webhooks.first()?.path.clone())
        })
        .await;
    let url = format!("{}{path}", through.operator.address);
    let image = format!("{}:{tag}", scene.env.repository("web"));
    let answer = scene.env.http.post(url).json(&json!({"image": image})).send().await.unwrap();
    assert!(answer.status().is_success(), "{}", answer.status());
}

/// Waits until every Stage has so many deploys, and the last one has succeeded.
async fn all_serve(scene: &Scene, namespaces: &[String], deploys: usize) {
    let what = format!("{deploys} deploys of each stage have succeeded");
    let stages: Api<Stage> = Api::all(scene.env.client.clone());
    scene
        .env
        .wait(&what, PATIENCE, async || {
            let all = stages.list(&kube::api::ListParams::default()).await.unwrap().items;
            let done = all.iter().filter_map(|stage| stage.status.as_ref()).filter(|status| {
                status.deploy.as_ref().is_some_and(|deploy| deploy.state == State::Success.camel())
                    && status.history.len() == deploys
                    && status.instances.len() == 1
            });
            (done.count() == namespaces.len()).then_some(())
        })
        .await;
}

/// No namespace has had two writers.
fn undivided(replicas: &[Replica], namespaces: &[String], since: &[usize]) {
    let mut writers = BTreeMap::new();
    for (replica, since) in replicas.iter().zip(since) {
        for namespace in replica.wrote_to(namespaces, *since) {
            let before = writers.insert(namespace.clone(), &replica.name);
            assert_eq!(before, None, "{namespace} is written to by {} too", replica.name);
        }
    }
    assert_eq!(writers.len(), namespaces.len(), "{writers:?}");
}

fn marks(replicas: &[Replica]) -> Vec<usize> {
    replicas.iter().map(|replica| replica.seat.api.writes().len()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_share_the_namespaces_and_one_that_dies_is_replaced() {
    let (_own, scene) = own("vwshards").await;
    scene.env.push("web", "1.0.0", &[]).await;
    let mut replicas = Vec::new();
    for name in ["first", "second", "third"] {
        replicas.push(Replica::start(&scene, name).await);
    }
    shared(&scene.env, &replicas).await;
    let since = marks(&replicas);
    let namespaces = furnish(&scene).await;
    all_serve(&scene, &namespaces, 1).await;
    undivided(&replicas, &namespaces, &since);

    // One webhook, of a Project of the first shard, is news for the Stages of all of them.
    release(&scene, &namespaces[0], "1.1.0", &replicas[2]).await;
    all_serve(&scene, &namespaces, 2).await;
    undivided(&replicas, &namespaces, &since);

    // One dies in the middle of a deploy of its own.
    let dies = replicas.remove(1);
    let mut trap = dies.seat.sql.trap(When::Answered, |statement| statement.is_transition());
    release(&scene, &namespaces[0], "1.2.0", &replicas[0]).await;
    let held = trap.sprung("a deploy of the one that dies").await;
    dies.operator.kill9();
    held.lose();
    drop(trap);
    let since = Instant::now();
    let taken = scene.env.wait("two replicas lead all shards", DEADLINE, async || {
        let (one, other) = (replicas[0].leads().await, replicas[1].leads().await);
        (one.len() + other.len() == usize::from(SHARDS) && one.is_disjoint(&other)).then_some(())
    });
    taken.await;
    let forced = since.elapsed();
    all_serve(&scene, &namespaces, 3).await;

    // Another one comes and gets its share, and nobody loses anything by that.
    let since = Instant::now();
    replicas.push(Replica::start(&scene, "fourth").await);
    shared(&scene.env, &replicas).await;
    let balanced = since.elapsed();
    let since = marks(&replicas);
    release(&scene, &namespaces[EACH], "1.3.0", &replicas[2]).await;
    all_serve(&scene, &namespaces, 4).await;
    undivided(&replicas, &namespaces, &since);

    println!(
        "three replicas, three shards, {} namespaces: all led again {:.1} s after a kill (promised: {} s), one each {:.1} s after \
         the start of another",
        namespaces.len(),
        forced.as_secs_f64(),
        FORCED.as_secs(),
        balanced.as_secs_f64(),
    );
    for namespace in &namespaces {
        let steps = steps(&scene.env, namespace).await;
        assert_eq!(steps.len(), 4, "{namespace}: {steps:?}");
        let whole = ["pending", "pulling", "starting", "configuring_proxy", "health_checking", "success"];
        assert!(steps.iter().all(|states| *states == whole), "{namespace}: {steps:?}");
    }
    for replica in replicas {
        replica.operator.stop().await;
    }
}

/// The states that each deploy of a namespace went through.
async fn steps(env: &Env, namespace: &str) -> Vec<Vec<String>> {
    use sqlx::Connection as _;
    let mut sql = sqlx::PgConnection::connect(&env.database.url).await.unwrap();
    sqlx::query_scalar(
        "SELECT array_agg(step.to_state ORDER BY step.version, step.step) FROM deploys AS d
         JOIN stages AS s ON s.id = d.target_id JOIN deploy_transitions AS step ON step.deploy_id = d.id
         WHERE s.namespace = $1 GROUP BY d.id ORDER BY d.sequence",
    )
    .bind(namespace)
    .fetch_all(&mut sql)
    .await
    .unwrap()
}
