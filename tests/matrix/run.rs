//! One run of a workload: undisturbed, to learn what it writes and amounts to; or with one crash.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use serde_json::{Value, json};
use stagekeeper::api::{Environment, Project, Stage};
use tokio::{select, sync::oneshot};

use crate::{
    compare::differences,
    ground::Ground,
    layers::{Layer, Passes, word},
    outcome::{LOOK, covers_every_table, outcome},
    scene::{DEADLINE, PAUSE, Scene},
    trap::{Traffic, Trap, When},
    workloads::Workload,
};

/// Answers of registries are gathered for a second before they are stored, more than anything else.
const GATHERED: Duration = Duration::from_secs(4);

/// A workload, and where its operator is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// What is done.
    pub workload: Workload,
    /// Where the write passes.
    pub layer: Layer,
    /// Which write of the run, from 1.
    pub number: usize,
    /// Before the server hears of it, or when it has answered.
    pub when: When,
}

impl Plan {
    /// Its name: `WORKLOAD/LAYER/NUMBER/before|after`.
    pub fn name(&self) -> String {
        format!("{}/{}/{}/{}", self.workload.word(), self.layer, self.number, word(self.when))
    }
}

/// What an undisturbed run is.
pub struct Reference {
    /// What it amounts to.
    pub outcome: Value,
    /// What it wrote, by layer and in order: kinds of writes.
    pub writes: BTreeMap<Layer, Vec<String>>,
}

/// Runs a workload undisturbed.
pub async fn undisturbed(ground: Arc<Ground>, workload: Workload) -> Reference {
    let scene = Scene::new(ground, workload.word(), workload.is_whole()).await;
    covers_every_table(&scene).await;
    workload.prepare(&scene).boxed_local().await;
    let before = Layer::ALL.map(|layer| scene.written(layer).len());
    if !scene.runs().await {
        scene.start().await;
    }
    workload.run(&scene).boxed_local().await;
    let writes =
        Layer::ALL.into_iter().zip(before).map(|(layer, before)| (layer, scene.written(layer).split_off(before)));
    let writes = writes.collect();
    again(&scene).await;
    rest(&scene).await;
    let outcome = outcome(&scene).await;
    scene.stop().await;
    Reference { outcome, writes }
}

/// Runs a plan, which has to amount to what the reference does. Says what the operator was killed over; nothing if the write
/// never came.
pub async fn disturbed(ground: Arc<Ground>, plan: Plan, reference: Arc<Reference>) -> Option<String> {
    let scene = Scene::new(ground, plan.workload.word(), plan.workload.is_whole()).await;
    plan.workload.prepare(&scene).boxed_local().await;
    let killed = match plan.layer {
        Layer::Cluster => crash(&scene, plan, scene.api.traffic()).await,
        Layer::Database => crash(&scene, plan, scene.sql.traffic()).await,
        Layer::Outside => crash(&scene, plan, &scene.outside).await,
    };
    alike(&scene, &reference.outcome).await;
    again(&scene).await;
    let left = differences(&reference.outcome, &outcome(&scene).await);
    assert!(left.is_empty(), "one more look changed something:\n{}", left.join("\n"));
    scene.stop().await;
    killed
}

/// Runs the plan's workload with a new operator after the plan's write.
async fn crash<T: Passes>(scene: &Scene, plan: Plan, traffic: &Traffic<T>) -> Option<String> {
    let trap = traffic.trap(plan.when, Passes::counts);
    if !scene.runs().await {
        scene.start().await;
    }
    let (end, ended) = oneshot::channel();
    let run = async {
        plan.workload.run(scene).boxed_local().await;
        let _ = end.send(());
    };
    let ((), killed) = tokio::join!(run, kill(scene, trap, plan.number, ended));
    killed
}

async fn kill<T: Passes>(
    scene: &Scene,
    mut trap: Trap<T>,
    number: usize,
    mut ended: oneshot::Receiver<()>,
) -> Option<String> {
    for passed in 1.. {
        let held = select! {
            biased;
            held = trap.sprung("a write") => held,
            _ = &mut ended => return None,
        };
        if passed < number {
            held.release();
            continue;
        }
        scene.kill().await;
        let what = held.what.kind();
        held.lose();
        drop(trap);
        scene.start().await;
        return Some(what);
    }
    None
}

/// Waits until the outcome is the expected one.
async fn alike(scene: &Scene, expected: &Value) {
    let started = Instant::now();
    loop {
        let left = differences(expected, &outcome(scene).await);
        if left.is_empty() {
            return;
        }
        assert!(started.elapsed() < DEADLINE, "it did not converge:\n{}", left.join("\n"));
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until nothing has been written for longer than anything is gathered before it is: what others have to amount to
/// must be complete.
async fn rest(scene: &Scene) {
    let count = || Layer::ALL.map(|layer| scene.written(layer).len());
    let mut written = count();
    loop {
        tokio::time::sleep(GATHERED).await;
        let now = count();
        if now == written {
            return;
        }
        written = now;
    }
}

/// Has everything looked at once more: what was about to be done twice is done by then.
async fn again(scene: &Scene) {
    let env = &scene.env;
    let before = scene.passes().await;
    let touch = json!({"metadata": {"annotations": {(LOOK): "again"}}});
    let mut touched = 0;
    for stage in env.list::<Stage>().await {
        env.patch::<Stage>(&stage.metadata.name.unwrap_or_default(), touch.clone()).await;
        touched += 1;
    }
    for environment in env.list::<Environment>().await {
        env.patch::<Environment>(&environment.metadata.name.unwrap_or_default(), touch.clone()).await;
        touched += 1;
    }
    for project in env.list::<Project>().await {
        env.patch::<Project>(&project.metadata.name.unwrap_or_default(), touch.clone()).await;
    }
    let looked = async || (scene.passes().await >= before + touched).then_some(());
    scene.wait("everything is looked at again", looked).await;
}
