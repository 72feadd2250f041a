//! What these tests share: operators that compare what they know every ten seconds, and words for waiting.

use std::time::{Duration, Instant};

use stagekeeper::api::StageStatus;

use crate::{
    cluster::{DEADLINE, Env},
    operator::Operator,
    story::{PROJECT, Scene, Seat},
    throwaway::Throwaway,
};

/// How long many deploys may take beside other tests.
pub const PATIENCE: Duration = Duration::from_mins(10);

/// The same project where nothing answers in pods.
pub fn unprobed() -> String {
    PROJECT.replace("    health:", "    # health:")
}

/// A scene on a cluster of its own, with pods that are ready at once.
pub async fn own(word: &'static str) -> (Throwaway, Scene) {
    let own = Throwaway::up(word, "kwok").await;
    let scene = Scene::over(Env::on(word, own.kubeconfig(), own.postgres()).await).await;
    (own, scene)
}

/// An operator behind the proxies of a seat, that compares what it knows with the cluster every ten seconds, with further
/// environment variables.
pub async fn operator(env: &Env, seat: &Seat, identity: &str, more: &[(&str, &str)]) -> Operator {
    let variables = [
        ("KUBECONFIG", seat.api.kubeconfig.as_str()),
        ("DATABASE_URL", &seat.sql.url),
        ("STAGEKEEPER_LEASE_IDENTITY", identity),
        ("STAGEKEEPER_RELIST", "10"),
    ];
    Operator::start_with(env, &[&variables, more].concat()).await
}

/// Whether a stage says that it is ready.
pub fn ready(status: &StageStatus) -> bool {
    status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// How `/readyz` answers.
pub async fn readiness(operator: &Operator) -> u16 {
    reqwest::get(format!("{}/readyz", operator.address)).await.expect("it answers").status().as_u16()
}

/// Waits until `/readyz` answers with this code. Gives how long it took.
pub async fn answers(env: &Env, operator: &Operator, code: u16) -> Duration {
    let since = Instant::now();
    let what = format!("/readyz answers {code}");
    env.wait(&what, DEADLINE, async || (readiness(operator).await == code).then_some(())).await;
    since.elapsed()
}

/// Everything that was ever made was made once.
pub fn made_once(scene: &Scene) {
    let lives = scene.witness.lives();
    assert!(!lives.is_empty() && lives.values().all(|one| one.made == 1), "{lives:?}");
}
