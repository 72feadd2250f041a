//! The reply to a write is lost: the write has happened, and the controller cannot know.

use std::{collections::BTreeMap, fmt::Debug};

use tokio::{select, sync::oneshot};

use crate::{
    crashes::moves_deploys,
    story::{Scene, THOROUGH, calm},
    trap::{Trap, When},
};

#[tokio::test(flavor = "multi_thread")]
async fn lost_replies_of_the_database_make_nothing_happen_twice() {
    let scene = Scene::begin("lost-sql", THOROUGH).await;
    let trap = scene.seat.sql.trap(When::Answered, moves_deploys);
    let lost = play_losing(&scene, trap, |statement| statement.text.clone()).await;
    assert!(lost > 10, "{lost} replies were lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_replies_of_the_api_server_make_nothing_happen_twice() {
    let scene = Scene::begin("lost-api", THOROUGH).await;
    let trap = scene.seat.api.trap(When::Answered, |call| call.is_write());
    let lost =
        play_losing(&scene, trap, |call| (call.method.to_string(), call.resource.clone(), call.name.clone())).await;
    assert!(lost > 10, "{lost} replies were lost");
}

/// Plays the story while every other reply to writes of one sort is lost: the second try gets its answer. Says how many
/// were.
async fn play_losing<T: Debug, K: Ord>(scene: &Scene, mut trap: Trap<T>, sort: impl Fn(&T) -> K) -> usize {
    let operator = scene.operator().await;
    let (stop, mut stopped) = oneshot::channel();
    let story = async {
        let status = scene.play().await;
        let _ = stop.send(());
        status
    };
    let losing = async {
        let mut times: BTreeMap<K, usize> = BTreeMap::new();
        let mut lost = 0;
        loop {
            select! {
                held = trap.sprung("a write") => {
                    let times = times.entry(sort(&held.what)).or_default();
                    *times += 1;
                    if *times % 2 == 1 {
                        lost += 1;
                        held.lose();
                    } else {
                        held.release();
                    }
                }
                _ = &mut stopped => return lost,
            }
        }
    };
    let (status, lost) = tokio::join!(story, losing);
    drop(trap);
    operator.stop().await;
    let (outcome, calm) = (scene.outcome(&status).await, calm().await);
    assert_eq!(outcome.deploys, calm.deploys);
    assert_eq!(outcome.lives, calm.lives);
    assert_eq!(outcome.status, calm.status);
    lost
}
