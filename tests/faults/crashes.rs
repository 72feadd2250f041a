//! The controller is killed with `kill -9` after each write: to the database, which covers each transition, and to the
//! cluster. What comes out is what comes out undisturbed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use stagekeeper::api::StageStatus;
use tokio::{select, sync::oneshot};

use crate::{
    postgres_proxy::Statement,
    story::{STAGE, Scene, THOROUGH, calm, every_state},
    trap::{Trap, When},
};

/// A write to a table of what deploys are made of, which changed something: after a crash, log lines are sent again and
/// are not stored again.
pub fn moves_deploys(statement: &Statement) -> bool {
    ["deploys", "hook_runs", "instances", "deploy_logs"].iter().any(|table| statement.writes_to(table))
        && statement.rows != Some(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_killed_after_each_write_to_the_database_leaves_what_an_undisturbed_one_leaves() {
    let scene = Scene::begin("crash-sql", THOROUGH).await;
    let trap = scene.seat.sql.trap(When::Answered, moves_deploys);
    let (status, killed) = killing(&scene, trap, |_| true, scene.play()).await;
    let states: BTreeSet<String> =
        killed.iter().map(|(_, state)| state.clone()).filter(|state| !state.is_empty()).collect();
    assert_eq!(states, every_state(), "it was killed in every state");
    compare(&scene, &status, killed.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_killed_after_each_write_to_the_cluster_leaves_what_an_undisturbed_one_leaves() {
    let scene = Scene::begin("crash-api", THOROUGH).await;
    // What deletes a collection says nothing about it, and asks again after a crash.
    let trap = scene.seat.api.trap(When::Answered, |call| call.is_write() && !call.name.is_empty());
    let (status, killed) = killing(&scene, trap, |_| true, scene.play()).await;
    compare(&scene, &status, killed.len()).await;
}

/// The same came of it, and each kill cost few writes: the one that was not heard of, and what is told anew.
async fn compare(scene: &Scene, status: &StageStatus, kills: usize) {
    let outcome = scene.outcome(status).await;
    let calm = calm().await;
    assert_eq!(outcome.deploys, calm.deploys);
    assert_eq!(outcome.lives, calm.lives);
    assert_eq!(outcome.status, calm.status);
    let writes = outcome.writes.values().sum::<usize>();
    let limit = calm.writes.values().sum::<usize>() + 2 * kills;
    assert!(writes <= limit, "{writes} writes: {:?}; undisturbed {:?}", outcome.writes, calm.writes);
}

/// Tells a story with a new controller after each kill; says what it was killed after, and in which state the stage was.
/// `chosen` says by its number, from 1, which of those that read the same are killed after.
pub async fn killing<T: Debug, S>(
    scene: &Scene,
    trap: Trap<T>,
    chosen: impl Fn(usize) -> bool,
    story: impl Future<Output = S>,
) -> (S, Vec<(String, String)>) {
    let (stop, stopped) = oneshot::channel();
    let story = async {
        let end = story.await;
        let _ = stop.send(());
        end
    };
    tokio::join!(story, keep_killing(scene, trap, chosen, stopped))
}

async fn keep_killing<T: Debug>(
    scene: &Scene,
    mut trap: Trap<T>,
    chosen: impl Fn(usize) -> bool,
    mut stopped: oneshot::Receiver<()>,
) -> Vec<(String, String)> {
    let mut killed = Vec::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut operator = scene.operator().await;
    loop {
        select! {
            held = trap.sprung("a write") => {
                let what = format!("{:?}", held.what);
                let number = seen.entry(what.clone()).or_default();
                *number += 1;
                if !chosen(*number) {
                    held.release();
                    continue;
                }
                operator.kill9();
                held.lose();
                let newest = scene.env.deploys(STAGE).await.pop();
                killed.push((what, newest.map(|newest| newest.stored.deploy.state.to_string()).unwrap_or_default()));
                operator = scene.operator().await;
            }
            _ = &mut stopped => break,
        }
    }
    drop(trap);
    operator.ready().await;
    operator.stop().await;
    killed
}
