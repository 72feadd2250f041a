//! The update list beside a stage's life: what is found, what is deployed, what is held back, what lies beneath a pin.

use kube::api::DeleteParams;
use stagekeeper::{
    api::Stage,
    domain::actor::Actor,
    store::{Update, UpdateChoice, UpdateFilter},
};

use crate::{
    cluster::{DEADLINE, Env},
    lab::{IMPATIENT, project, stage},
    operator::Operator,
    quiet,
};

impl Env {
    async fn updates(&self) -> Vec<Update> {
        self.database.store.updates_list(&UpdateFilter::default()).await.unwrap().updates
    }

    /// Waits until the list has one update, of this tag, pending or not.
    async fn until_update(&self, tag: &str, pending: bool) -> Update {
        self.wait(&format!("{tag} on the list, pending: {pending}"), DEADLINE, async || {
            let mut all = self.updates().await;
            assert!(all.len() <= 1, "{all:?}");
            all.pop().filter(|update| update.tag.as_deref() == Some(tag) && update.is_pending() == pending)
        })
        .await
    }
}

#[tokio::test]
async fn what_is_newer_is_on_the_list_until_it_serves_or_somebody_knows() {
    let env = Env::new("newer").await;
    let operator = Operator::start(&env).await;
    let first = env.push("web", "1.0.0", &[]).await;
    env.apply(&(project("shop", "web") + &stage("live", "shop", IMPATIENT))).await;
    env.until_serving("live", "web 1.0.0").await;
    assert_eq!(env.updates().await, [], "the first deploy is newer than nothing");

    let second = env.push("web", "1.1.0", &[]).await;
    env.until_serving("live", "web 1.1.0").await;
    let deployed = env.until_update("1.1.0", false).await;
    assert_eq!((deployed.image.as_str(), deployed.platform.as_str()), (&*env.repository("web"), ""));
    assert_eq!(deployed.host, format!("{}/live", env.namespace));
    assert_eq!(deployed.old_digest.unwrap().to_string(), first);
    assert_eq!((deployed.new_digest.to_string(), deployed.seen_by), (second, Actor::Policy));
    assert_eq!(deployed.acknowledged.unwrap().by, Actor::Controller);

    // Held back, it is newer than what serves, and stays so until somebody knows.
    env.push("web", "1.2.0", &[("APP_HEALTH", "fail")]).await;
    env.until_stalled("live", "RolledBack").await;
    let bad = env.until_update("1.2.0", true).await;
    assert_eq!(bad.id, deployed.id);
    let jane = Actor::User("jane".into());
    let acknowledged =
        env.database.store.updates_acknowledge(&UpdateChoice::These(vec![bad.id]), &jane, bad.first_seen_at).await;
    assert_eq!(acknowledged, Ok(1));
    let known = env.updates().await;
    quiet::through_scans(&operator, 3).await;
    operator.stop().await;
    // The next leader finds it again, and has nothing to add.
    let operator = Operator::start(&env).await;
    operator.ready().await;
    quiet::through_scans(&operator, 3).await;
    assert_eq!(env.updates().await, known);

    // Beneath a pin the policy goes on looking, and nothing moves.
    env.apply(&stage("live", "shop", &format!("{IMPATIENT}\n  pin: {{web: 1.0.0}}"))).await;
    env.until_serving("live", "web 1.0.0").await;
    env.push("web", "1.3.0", &[]).await;
    let beneath = env.until_update("1.3.0", true).await;
    assert_eq!(beneath.old_digest.unwrap().to_string(), first);
    env.until_serving("live", "web 1.0.0").await;
    assert_eq!(env.deploys("live").await.len(), 4, "1.0.0, 1.1.0, 1.2.0, and back to 1.0.0");

    // The stage takes along what was pending for it.
    env.api::<Stage>().delete("live", &DeleteParams::default()).await.unwrap();
    env.wait("the list is empty", DEADLINE, async || env.updates().await.is_empty().then_some(())).await;
    operator.stop().await;
}
