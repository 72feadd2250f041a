//! Projects that begin very many deploys at once, beside each other.

use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::{ResourceExt as _, api::PostParams};
use serde_json::json;
use stagekeeper::{
    api::Stage,
    controllers::beginnings::{ALWAYS, YOUTH},
    domain::deploy::State,
};

use crate::{
    cluster::{DEADLINE, Env},
    lab::{self, project, stage},
    operator::Operator,
};

/// Twice as many as a project may begin beside others.
const STAGES: usize = 2 * ALWAYS;

/// Neither of two begins more than its part, each stage that lets others begin first says so, and in the end all have begun. No
/// deploy ends meanwhile: its pods are not allowed.
#[tokio::test]
async fn projects_with_very_many_deploys_begin_them_by_turns() {
    let env = Env::new("turns").await;
    let quota = json!({"metadata": {"name": "none"}, "spec": {"hard": {"pods": "0"}}});
    let quota: ResourceQuota = serde_json::from_value(quota).unwrap();
    env.api::<ResourceQuota>().create(&PostParams::default(), &quota).await.unwrap();
    env.push("web", "1.0.0", &[]).await;
    let mut all = project("a", "web") + &project("b", "web");
    for number in 0..STAGES {
        // Listed in this order, the two begin at the same time.
        for project in ["a", "b"] {
            let _ = write!(all, "{}", stage(&format!("s{number:02}-{project}"), project, ""));
        }
    }
    env.apply(&all).await;
    let operator = Operator::start(&env).await;

    let mut waited = BTreeSet::new();
    env.wait("all have begun", DEADLINE, async || {
        let stages: Vec<Stage> = env.list().await;
        let mut begun = 0;
        for stage in &stages {
            let Some(status) = &stage.status else { continue };
            let Some(deploy) = &status.deploy else { continue };
            if lab::waiting(status) == "OthersFirst" {
                let message = lab::reconciling(status).map(|(_, message)| message.to_owned()).unwrap_or_default();
                assert!(message.contains("other projects begin theirs meanwhile"), "{message}");
                waited.insert((stage.spec.project.clone(), stage.name_any()));
            }
            begun += usize::from(deploy.state == State::Pulling.camel());
        }
        (begun == 2 * STAGES).then_some(())
    })
    .await;

    for project in ["a", "b"] {
        let mut begun: Vec<Timestamp> = Vec::new();
        for number in 0..STAGES {
            let deploys = env.deploys(&format!("s{number:02}-{project}")).await;
            let steps = env.transitions(deploys[0].stored.deploy.id).await;
            begun.extend(steps.iter().filter(|step| step.to == State::Pulling).map(|step| step.at));
        }
        begun.sort();
        assert_eq!(begun.len(), STAGES, "each once");
        // The instants are those at which the passes began, a moment earlier.
        let soon = begun[0] + (YOUTH - Duration::from_secs(2));
        let first = begun.iter().filter(|at| **at < soon).count();
        assert!(first <= ALWAYS, "{project} began {first} at once: {begun:?}");
        let said = waited.iter().filter(|(whose, _)| whose == project).count();
        assert!(said > 0, "nobody of {project} has said that others come first");
    }
    operator.stop().await;
}
