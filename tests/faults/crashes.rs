//! The controller is killed with `kill -9` after each write: to the database, which covers each transition, and to the
//! cluster. What comes out is what comes out undisturbed.

use std::collections::BTreeMap;

use stagekeeper::domain::deploy::State;
use tokio::{select, sync::oneshot};

use crate::{
    operator::Operator,
    story::{Outcome, PROJECT, STAGE, Scene, THOROUGH, entered},
    trap::{Trap, When},
};

/// After which writes the controller is killed.
#[derive(Debug, Clone, Copy)]
enum Kill {
    Never,
    AfterSql,
    AfterApi,
}

/// What came of a story.
struct Told {
    outcome: Outcome,
    /// Writes to the API server by method and kind, with whatever was repeated.
    writes: BTreeMap<(String, String), usize>,
    /// The state of the newest deploy at each kill.
    kills: Vec<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_killed_after_any_write_leaves_what_an_undisturbed_one_leaves() {
    let (calm, sql, api) = tokio::join!(tell(Kill::Never), tell(Kill::AfterSql), tell(Kill::AfterApi));

    let all: Vec<State> = vec![
        State::Pending,
        State::Pulling,
        State::Starting,
        State::ConfiguringProxy,
        State::HealthChecking,
        State::Success,
        State::Failed,
        State::RolledBack,
    ];
    let words: std::collections::BTreeSet<String> = all.iter().map(ToString::to_string).collect();
    assert_eq!(entered(&calm.outcome), words, "the story goes through every state");
    for deploy in &calm.outcome.deploys {
        assert!(deploy.hooks.iter().all(|(.., ok)| ok.is_some()), "{:?}", deploy.hooks);
    }
    let twice: Vec<_> = calm.outcome.lives.iter().filter(|(_, lives)| lives.iter().any(|one| one.made != 1)).collect();
    assert!(twice.is_empty(), "made more than once: {twice:?}");

    let killed: std::collections::BTreeSet<String> = sql.kills.iter().cloned().collect();
    assert_eq!(killed, words, "it was killed in every state");
    for (name, told) in [("database", &sql), ("API server", &api)] {
        assert_eq!(told.outcome, calm.outcome, "killed after each write to the {name}");
        println!(
            "killed {} times after writes to the {name}: {:?}; calm: {:?}",
            told.kills.len(),
            told.writes,
            calm.writes
        );
    }
}

/// Tells the story, with a new controller after each kill.
async fn tell(kill: Kill) -> Told {
    let scene = Scene::new("crash").await;
    scene.env.push("web", "1.0.0", &[]).await;
    scene.env.apply(PROJECT).await;
    scene.env.apply(THOROUGH).await;
    let (stop, stopped) = oneshot::channel();
    let story = async {
        scene.settled(1, State::Success).await;
        scene.env.push("web", "2.0.0", &[]).await;
        let status = scene.settled(2, State::RolledBack).await;
        let _ = stop.send(());
        status
    };
    let (status, kills) = tokio::join!(story, keep_killing(&scene, kill, stopped));
    let mut writes = BTreeMap::new();
    for call in scene.api.writes() {
        *writes.entry((call.method.to_string(), call.resource)).or_default() += 1;
    }
    Told { outcome: scene.outcome(&status).await, writes, kills }
}

/// Runs controllers until the story is over; the last one is stopped in order.
async fn keep_killing(scene: &Scene, kill: Kill, mut stopped: oneshot::Receiver<()>) -> Vec<String> {
    let mut kills = Vec::new();
    match kill {
        Kill::Never => {
            let operator = scene.operator().await;
            stopped.await.unwrap();
            operator.stop().await;
        }
        Kill::AfterSql => {
            // Log lines are sent again after a crash, and are not stored again.
            let trap = scene.sql.trap(When::Answered, |statement| {
                ["deploys", "hook_runs", "instances", "deploy_logs"].iter().any(|table| statement.writes_to(table))
                    && statement.rows != Some(0)
            });
            until_told(scene, trap, &mut kills, &mut stopped).await;
        }
        Kill::AfterApi => {
            let trap = scene.api.trap(When::Answered, |call| call.is_write());
            until_told(scene, trap, &mut kills, &mut stopped).await;
        }
    }
    kills
}

async fn until_told<T: std::fmt::Debug>(
    scene: &Scene,
    mut trap: Trap<T>,
    kills: &mut Vec<String>,
    stopped: &mut oneshot::Receiver<()>,
) {
    let mut operator: Operator = scene.operator().await;
    loop {
        select! {
            held = trap.sprung("a write") => {
                operator.kill9();
                eprintln!("{} {:?}", scene.env.namespace, held.what);
                held.lose();
                let newest = scene.env.deploys(STAGE).await.pop();
                kills.extend(newest.map(|deploy| deploy.stored.deploy.state.to_string()));
                operator = scene.operator().await;
            }
            _ = &mut *stopped => break,
        }
    }
    drop(trap);
    operator.stop().await;
}
