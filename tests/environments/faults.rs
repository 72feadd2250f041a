//! The operator is killed at each step of an environment's life: it ends as if nothing had been.

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::json;
use stagekeeper::{
    api::{Environment, labels},
    domain::clock::{Clock as _, SystemClock},
};

use crate::{
    cluster::Env,
    stand::{SHOP, Stand},
};

impl Stand {
    /// The operator is killed, and another one started.
    async fn crash(self) -> Self {
        self.away(async |_| ()).await
    }

    /// The operator is killed, and another one started after something has happened.
    async fn away(self, meanwhile: impl AsyncFnOnce(&Env)) -> Self {
        let Self { env, operator, _one: one } = self;
        operator.kill9();
        meanwhile(&env).await;
        let operator = Self::operator(&env).await;
        Self::of(env, operator, one)
    }

    /// Names of the namespaces that were made for environments of this test.
    async fn places(&self) -> Vec<String> {
        let all: Api<Namespace> = Api::all(self.env.client.clone());
        let theirs = ListParams::default().labels(&format!("{}={}", labels::HOME, self.env.namespace));
        all.list(&theirs).await.expect("namespaces").iter().map(ResourceExt::name_any).collect()
    }
}

/// Asks that it ends, with nobody there to hear it: the first pass of the next operator has to see to that.
async fn delete(env: &Env) {
    let asked = json!({"metadata": {"annotations": {
        "stagekeeper.dev/request": "delete",
        "stagekeeper.dev/request-nonce": "1",
        "stagekeeper.dev/request-reason": "done",
    }}});
    let all = env.api::<Environment>();
    all.patch("demo", &PatchParams::default(), &Patch::Merge(asked)).await.expect("it is annotated");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_each_step_nothing_is_done_twice_and_nothing_is_left() {
    let mut stand = Stand::new("killed").await;
    stand.env.apply(SHOP).await;
    stand.environment("demo", "services: {web: {tag: one}}").await;
    let first = stand.until("demo", "it has a subdomain", |status| status.stage.observed_generation > 0).await;
    assert_eq!(first.phase.as_deref(), Some("Pending"));
    stand = stand.crash().await;
    stand.env.push("web", "one", &[]).await;
    let under_way = stand.until("demo", "a deploy is under way", |status| status.stage.deploy.is_some()).await;
    stand = stand.crash().await;
    let ready = stand.until_phase("demo", "Ready").await;
    stand = stand.crash().await;

    stand.asked(&["sleep", "demo"]).await;
    stand = stand.crash().await;
    stand.until_phase("demo", "Asleep").await;
    stand = stand.crash().await;
    let subdomain = ready.subdomain.clone().unwrap();
    stand.env.database.store.environment_wake(&subdomain, SystemClock.now()).await.expect("it is asked");
    stand = stand.crash().await;
    let awake = stand.until_phase("demo", "Ready").await;
    assert_eq!(awake.subdomain, ready.subdomain);
    assert_eq!(stand.pods(&awake.namespace.clone().unwrap()).await.len(), 1);
    assert_eq!(stand.places().await, [awake.namespace.unwrap()]);
    let deploys = stand.env.deploys("demo").await;
    assert_eq!(deploys.len(), 1, "one image, one deploy: {deploys:?}");
    assert_eq!(Some(deploys[0].stored.deploy.id.to_string()), under_way.stage.deploy.map(|deploy| deploy.id));

    stand = stand.away(delete).await;
    stand
        .env
        .wait("its end has begun", crate::cluster::DEADLINE, async || {
            let found = stand.get("demo").await;
            found.is_none_or(|found| found.metadata.deletion_timestamp.is_some()).then_some(())
        })
        .await;
    stand = stand.crash().await;
    stand.until_gone("demo").await;
    stand
        .env
        .wait("nothing is left", std::time::Duration::from_mins(3), async || {
            stand.places().await.is_empty().then_some(())
        })
        .await;
}
