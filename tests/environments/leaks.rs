//! Very many environments are made, changed, put to sleep, woken and ended while everything around them fails: nothing is left.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{ConfigMap, Namespace, Service},
};
use kube::{
    Api, ResourceExt as _,
    api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use stagekeeper::{
    api::{Environment, Project, labels},
    domain::clock::{Ids as _, SystemIds},
};

use crate::{cluster::Env, operator::Operator, stand::Stand, throwaway::Throwaway};

/// How many environments there are, unless `STAGEKEEPER_TEST_ENVIRONMENTS` says.
const COUNT: usize = 30;
/// How many are acted on between two faults.
const BATCH: usize = 10;
/// So long everything may take to settle after the last fault.
const SETTLED: Duration = Duration::from_mins(10);

/// Two releases of a service of which no registry is asked, as nothing runs it.
const RELEASES: [&str; 2] = [
    "sha256:1111111111111111111111111111111111111111111111111111111111111111",
    "sha256:2222222222222222222222222222222222222222222222222222222222222222",
];

/// Chance, the same again for the same seed.
struct Chance(u64);

impl Chance {
    fn of(&mut self, many: u64) -> u64 {
        // Constants of Knuth's MMIX generator; its low bits are poor.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % many
    }
}

/// A cluster to break, and the operator on it.
struct Storm {
    // In the order in which they have to go.
    operator: Option<Operator>,
    env: Env,
    own: Throwaway,
    chance: Chance,
    suffered: BTreeMap<&'static str, u32>,
}

impl Storm {
    /// Lets a while pass, so that what breaks is somewhere in the middle, and breaks it.
    async fn strike(&mut self) {
        // A moment of chance is the fault itself: nothing is waited for here.
        tokio::time::sleep(Duration::from_millis(self.chance.of(1500))).await;
        let fault = match self.chance.of(4) {
            0 => {
                self.own.part("kill", "postgres").await;
                tokio::time::sleep(Duration::from_millis(self.chance.of(3000))).await;
                self.own.part("start", "postgres").await;
                "the database killed"
            }
            1 => {
                self.own.part("kill", "apiserver").await;
                tokio::time::sleep(Duration::from_millis(self.chance.of(1000))).await;
                self.own.part("start", "apiserver").await;
                "the API server killed"
            }
            _ => {
                self.operator.take().expect("it runs").kill9();
                self.operator = Some(Stand::operator(&self.env).await);
                "the operator killed"
            }
        };
        *self.suffered.entry(fault).or_default() += 1;
    }

    /// Asks until it is taken: what breaks here is not what asks.
    async fn insist<T>(&self, what: &str, ask: impl AsyncFn() -> kube::Result<T>) -> T {
        let taken = async || match ask().await {
            Ok(taken) => Some(taken),
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => panic!("{what}: {status}"),
            Err(_) => None,
        };
        self.env.wait(what, SETTLED, taken).await
    }

    async fn annotate(&self, name: &str, word: &str) {
        let nonce = format!("{word} {name}");
        let patch = json!({"metadata": {"annotations": {(labels::REQUEST): word, (labels::REQUEST_NONCE): nonce}}});
        self.merge(name, patch).await;
    }

    async fn merge(&self, name: &str, patch: Value) {
        let api = self.env.api::<Environment>();
        let patch = Patch::Merge(patch);
        self.insist(name, async || api.patch(name, &PatchParams::default(), &patch).await).await;
    }

    async fn delete(&self, name: &str) {
        let api = self.env.api::<Environment>();
        let delete = async || match api.delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            deleted => deleted.map(drop),
        };
        self.insist(name, delete).await;
    }

    /// What is left of one kind that the operator made: in this cluster, for environments.
    async fn left<K>(&self) -> Option<Vec<String>>
    where
        K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        let ours = ListParams::default().labels(&format!("{}={}", labels::MANAGED_BY, labels::FIELD_MANAGER));
        let all = Api::<K>::all(self.env.client.clone()).list_metadata(&ours).await.ok()?;
        Some(all.iter().map(|one| one.name_any()).collect())
    }

    /// A number that a query gives, once the database answers.
    async fn number(&self, query: &'static str) -> i64 {
        let ask = async || {
            let mut connection = PgConnection::connect(&self.env.database.url).await.ok()?;
            sqlx::query_scalar::<_, i64>(query).fetch_one(&mut connection).await.ok()
        };
        self.env.wait(query, SETTLED, ask).await
    }
}

fn environment(env: &Env, number: usize) -> Environment {
    // Some end by themselves.
    let ttl = if number.is_multiple_of(7) { "1m" } else { "24h" };
    let spec = json!({"project": "shop", "ttl": ttl, "services": {"web": {"digest": RELEASES[0]}}});
    let metadata = ObjectMeta { namespace: Some(env.namespace.clone()), ..ObjectMeta::default() };
    let mut made = Environment::new(&name(number), serde_json::from_value(spec).expect("a spec"));
    made.metadata = ObjectMeta { name: Some(name(number)), ..metadata };
    made
}

fn name(number: usize) -> String {
    format!("pr-{number}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_fails_meanwhile_nothing_is_left_of_very_many_environments() {
    let count =
        std::env::var("STAGEKEEPER_TEST_ENVIRONMENTS").ok().map_or(COUNT, |count| count.parse().expect("a number"));
    let seed = std::env::var("STAGEKEEPER_TEST_SEED").ok().map_or_else(
        || u64::from_be_bytes(*SystemIds.next().as_bytes().last_chunk().expect("sixteen bytes")),
        |seed| seed.parse().expect("a number"),
    );
    println!("STAGEKEEPER_TEST_ENVIRONMENTS={count} STAGEKEEPER_TEST_SEED={seed}");
    // Another operator that sees everything may run meanwhile: it sees another cluster.
    let own = Throwaway::up("leaks", "kwok").await;
    let env = Env::on("leaks", own.kubeconfig(), own.postgres()).await;
    // What is committed is on the disk: this is about a server that is killed, not about one that forgets.
    let mut connection = PgConnection::connect(&env.database.url).await.expect("the database");
    let lasting =
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = on', current_database()); END $$";
    sqlx::query(lasting).execute(&mut connection).await.expect("commits last");
    env.apply(&format!(
        "{{apiVersion: stagekeeper.dev/v1alpha1, kind: Project, metadata: {{name: shop}}, spec: {{services: [{{name: web, \
         image: {{repository: '127.0.0.1:1/shop/web', digest: '{}', insecure: true}}, ports: [{{name: http, port: 8080}}]}}]}}}}",
        RELEASES[0]
    ))
    .await;
    let operator = Stand::operator(&env).await;
    operator.ready().await;
    let mut storm = Storm { operator: Some(operator), env, own, chance: Chance(seed), suffered: BTreeMap::new() };

    let numbers: Vec<usize> = (0..count).collect();
    for batch in numbers.chunks(BATCH) {
        for number in batch {
            let (api, made) = (storm.env.api::<Environment>(), environment(&storm.env, *number));
            let make = async || match api.create(&PostParams::default(), &made).await {
                Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
                made => made.map(drop),
            };
            storm.insist("it is made", make).await;
        }
        storm.strike().await;
    }
    for batch in numbers.chunks(BATCH) {
        for number in batch.iter().filter(|number| !number.is_multiple_of(7)) {
            match storm.chance.of(3) {
                0 => storm.annotate(&name(*number), "sleep").await,
                1 => storm.merge(&name(*number), json!({"spec": {"services": {"web": {"digest": RELEASES[1]}}}})).await,
                _ => storm.annotate(&name(*number), "pin").await,
            }
        }
        storm.strike().await;
    }
    // One third is deleted, one third is asked to end, and what remains loses its project.
    for batch in numbers.chunks(BATCH) {
        for number in batch {
            match number % 3 {
                0 => storm.delete(&name(*number)).await,
                1 if !number.is_multiple_of(7) => storm.annotate(&name(*number), "delete").await,
                _ => {}
            }
        }
        storm.strike().await;
    }
    // Without a project an environment begins no life: each has begun one before it goes.
    let begun = async || {
        let all = storm.env.api::<Environment>().list(&ListParams::default()).await.ok()?;
        let lives = |one: &Environment| one.status.as_ref().is_some_and(|status| status.subdomain.is_some());
        all.iter().all(lives).then_some(())
    };
    storm.env.wait("each lives", SETTLED, begun).await;
    let projects = storm.env.api::<Project>();
    storm
        .insist("the project is deleted", async || projects.delete("shop", &DeleteParams::default()).await.map(drop))
        .await;
    for _ in 0..3 {
        storm.strike().await;
    }

    println!("{:?}", storm.suffered);
    let nothing = async || {
        let environments = storm.env.api::<Environment>().list_metadata(&ListParams::default()).await.ok()?.items.len();
        let namespaces = storm.left::<Namespace>().await?.len();
        (environments == 0 && namespaces == 0).then_some(())
    };
    storm.env.wait("nothing is left", SETTLED, nothing).await;
    assert_eq!(storm.left::<Deployment>().await, Some(Vec::new()));
    assert_eq!(storm.left::<Service>().await, Some(Vec::new()));
    assert_eq!(storm.left::<ConfigMap>().await, Some(Vec::new()));
    let living = "select count(*) from stages join environments using (id) where stages.deleted_at is null";
    let closed = async || (storm.number(living).await == 0).then_some(());
    storm.env.wait("no row is left open", SETTLED, closed).await;

    // What is kept is their history, and nothing in it was done twice.
    // One that was deleted before anybody saw it never lived.
    let lived = storm.number("select count(*) from environments").await;
    assert!(lived * 2 > i64::try_from(count).expect("few"), "only {lived} of {count} lived");
    let anew = "select count(*) from (select name from stages join environments using (id) group by 1 having count(*) > 1) as anew";
    assert_eq!(storm.number(anew).await, 0, "each lived once");
    assert_eq!(storm.number("select count(*) from subdomains where ended_at is null").await, 0);
    let twice =
        "select count(*) from (select target_id, release_id from deploys group by 1, 2 having count(*) > 1) as twice";
    assert_eq!(storm.number(twice).await, 0, "one release, one deploy");
    let open =
        "select count(*) from deploys where state not in ('success', 'failed', 'rolled_back', 'superseded', 'aborted')";
    assert_eq!(storm.number(open).await, 0, "no deploy is left under way");
    storm.operator.take().expect("it runs").stop().await;
}
