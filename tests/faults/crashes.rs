//! The controller is killed with `kill -9` after each write: to the database, which covers each transition, and to the
//! cluster. What comes out is what comes out undisturbed.

use std::{collections::BTreeSet, fmt::Debug};

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
    let (status, killed) = play_killing(&scene, trap).await;
    let states: BTreeSet<String> = killed.iter().map(|(_, state)| state.clone()).collect();
    assert_eq!(states, every_state(), "it was killed in every state");
    compare(&scene, &status, killed.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_killed_after_each_write_to_the_cluster_leaves_what_an_undisturbed_one_leaves() {
    let scene = Scene::begin("crash-api", THOROUGH).await;
    // What deletes a collection says nothing about it, and asks again after a crash.
    let trap = scene.seat.api.trap(When::Answered, |call| call.is_write() && !call.name.is_empty());
    let (status, killed) = play_killing(&scene, trap).await;
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

/// Plays the story with a new controller after each kill; says what it was killed after, and in which state.
async fn play_killing<T: Debug>(scene: &Scene, trap: Trap<T>) -> (StageStatus, Vec<(String, String)>) {
    let (stop, stopped) = oneshot::channel();
    let story = async {
        let status = scene.play().await;
        let _ = stop.send(());
        status
    };
    tokio::join!(story, keep_killing(scene, trap, stopped))
}

async fn keep_killing<T: Debug>(
    scene: &Scene,
    mut trap: Trap<T>,
    mut stopped: oneshot::Receiver<()>,
) -> Vec<(String, String)> {
    let mut killed = Vec::new();
    let mut operator = scene.operator().await;
    loop {
        select! {
            held = trap.sprung("a write") => {
                operator.kill9();
                let what = format!("{:?}", held.what);
                held.lose();
                if let Some(newest) = scene.env.deploys(STAGE).await.pop() {
                    killed.push((what, newest.stored.deploy.state.to_string()));
                }
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
