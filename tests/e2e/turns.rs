//! Projects that begin very many deploys at once, beside each other.

use std::{collections::BTreeSet, fmt::Write as _};

use jiff::Timestamp;
use kube::ResourceExt as _;
use stagekeeper::{
    api::Stage,
    controllers::beginnings::{AT_ONCE, TOGETHER, YOUTH},
    domain::deploy::State,
};

use crate::{
    cluster::{DEADLINE, Env},
    lab::{self, project, stage},
    operator::Operator,
};

/// Two projects of these have more than all projects together are to have young deploys.
const STAGES: usize = 2 * AT_ONCE;

/// Two do not begin all of theirs at once, each stage that lets others begin first says so, and in the end all have begun. No
/// deploy ends meanwhile: no node has so many processors.
#[tokio::test]
async fn projects_with_very_many_deploys_begin_them_by_turns() {
    let env = Env::new("turns").await;
    env.push("web", "1.0.0", &[]).await;
    let mut all = (project("a", "web") + &project("b", "web")).replace("cpu: 5m", "cpu: 1k");
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
                waited.insert(stage.name_any());
            }
            begun += usize::from(deploy.state == State::Pulling.camel());
        }
        (begun == 2 * STAGES).then_some(())
    })
    .await;

    let mut begun: Vec<Timestamp> = Vec::new();
    for stage in env.list::<Stage>().await {
        let deploys = env.deploys(&stage.name_any()).await;
        let steps = env.transitions(deploys[0].stored.deploy.id).await;
        begun.extend(steps.iter().filter(|step| step.to == State::Pulling).map(|step| step.at));
    }
    begun.sort();
    assert_eq!(begun.len(), 2 * STAGES, "each once");
    // The instants are those at which the passes began, a moment earlier.
    let soon = begun[0] + YOUTH.mul_f64(0.8);
    let first = begun.iter().filter(|at| **at < soon).count();
    assert!(first < 2 * STAGES, "all began at once: {begun:?}");
    // On a machine where they begin more slowly than they may, nobody has to wait.
    assert!(!waited.is_empty() || first < TOGETHER, "nobody has said that others come first: {begun:?}");
    operator.stop().await;
}
