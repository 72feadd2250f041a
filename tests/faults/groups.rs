//! The controller is killed after each write while several stages go as one: they leave pending at one instant all the
//! same, and go back together when one of them is not accepted.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use jiff::Timestamp;
use stagekeeper::{
    api::StageStatus,
    domain::{
        actor::Actor,
        clock::{Clock as _, Ids as _, SystemClock, SystemIds},
        deploy::State,
        group::OnFailure,
        request::{Action, Origin, Via},
    },
    store::NewGroup,
};
use uuid::Uuid;

use crate::{
    asking,
    cluster::Env,
    crashes::killing,
    postgres_proxy::Statement,
    requests::{come_to, number},
    story::{PATIENCE, Scene},
    trap::When,
};

/// dev, and two behind it, of which one accepts only versions that begin with 1.
const STAGES: &str = "
apiVersion: stagekeeper.dev/v1alpha1
kind: Stage
metadata: {name: dev}
spec: {project: shop, rollback: {keepPrevious: 0s, watch: 0s}}
---
apiVersion: stagekeeper.dev/v1alpha1
kind: Stage
metadata: {name: eu}
spec: {project: shop, rollback: {keepPrevious: 0s, watch: 0s}, promotion: {from: [dev]}}
---
apiVersion: stagekeeper.dev/v1alpha1
kind: Stage
metadata: {name: us}
spec:
  project: shop
  rollback: {keepPrevious: 0s, watch: 0s}
  promotion: {from: [dev], approvals: {required: 1}}
  hooks:
    verify:
    - name: accept
      args: ['-get', 'http://$(STAGEKEEPER_SERVICE_WEB_HOST):$(STAGEKEEPER_SERVICE_WEB_PORT)/', '-contains', 'shop 1.']
";

/// Whether the stages are about to begin: then each transition counts.
type Beginning = Arc<AtomicBool>;

/// A write to what groups are made of, which changed something.
fn moves_groups(statement: &Statement) -> bool {
    let of_groups = ["deploy_groups", "requests", "holds", "vetoes", "approvals"];
    of_groups.iter().any(|table| statement.writes_to(table)) && statement.rows != Some(0)
}

/// Has a release promoted to both, as one.
async fn promote(env: &Env, beginning: &Beginning) -> Uuid {
    let new = NewGroup {
        id: SystemIds.next(),
        namespace: env.namespace.clone(),
        action: Action::Promote { release: None, from: None, emergency: false },
        on_failure: OnFailure::Rollback,
        actor: Actor::User("jane".into()),
        groups: Vec::new(),
        reason: "the test asks".into(),
        origin: Origin { via: Via::Api, verified: true, source: None, request_id: None },
        stages: ["eu", "us"].map(|stage| (stage.to_owned(), SystemIds.next())).to_vec(),
        at: SystemClock.now(),
    };
    env.database.store.group_create(&new).await.unwrap();
    let waits = |status: &StageStatus| status.gates.iter().any(|gate| gate.name == "group" && gate.verdict != "Pass");
    env.until("eu", "it waits for us", waits).await;
    beginning.store(true, Ordering::SeqCst);
    asking::make(env, "ada", &[], "us", Action::Approve { release: None }).await;
    let begun = async || env.database.store.group_get(new.id).await.unwrap()?.started_at;
    env.wait("both have begun", PATIENCE, begun).await;
    beginning.store(false, Ordering::SeqCst);
    new.id
}

/// When a deploy of a stage left pending.
async fn began(env: &Env, stage: &str, deploy: usize) -> Timestamp {
    let deploys = env.deploys(stage).await;
    let steps = &deploys[deploy].transitions;
    let left: Vec<Timestamp> = steps.iter().filter(|step| step.to == State::Pulling).map(|step| step.at).collect();
    let [left] = left[..] else { panic!("{stage} left pending {} times: {steps:?}", left.len()) };
    left
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_that_go_as_one_begin_at_one_instant_and_go_back_however_often_the_controller_is_killed() {
    let scene = Scene::begin("as-one", STAGES).await;
    let env = &scene.env;
    let beginning = Beginning::default();
    let counts = beginning.clone();
    let wanted = move |one: &Statement| moves_groups(one) || one.is_transition() && counts.load(Ordering::SeqCst);
    let trap = scene.seat.sql.trap(When::Answered, wanted);
    let story = async {
        come_to(env, "dev", &["web 1.0.0 success"]).await;
        let first = promote(env, &beginning).await;
        come_to(env, "eu", &["web 1.0.0 success"]).await;
        come_to(env, "us", &["web 1.0.0 success"]).await;
        env.push("web", "2.0.0", &[]).await;
        come_to(env, "dev", &["web 1.0.0 success", "web 2.0.0 success"]).await;
        let second = promote(env, &beginning).await;
        come_to(env, "us", &["web 1.0.0 success", "web 2.0.0 rolled_back"]).await;
        come_to(env, "eu", &["web 1.0.0 success", "web 2.0.0 success", "web 1.0.0 success"]).await;
        env.wait("nothing is left over", PATIENCE, async || {
            let mut left = 0;
            for stage in ["dev", "eu", "us"] {
                left += env.stage(stage).await.status?.instances.len();
            }
            (left == 3).then_some(())
        })
        .await;
        [first, second]
    };
    // What is killed inside a transaction comes again: the first time here, the third time behind it, and then it is spared.
    let (groups, killed) = killing(&scene, trap, |number| number == 1 || number == 3, story).await;
    let times = |word: &str| killed.iter().filter(|(what, _)| what.contains(word)).count();
    assert!(times("UPDATE requests") > 0 && times("UPDATE deploy_groups") > 0, "{killed:?}");
    for (turn, group) in groups.into_iter().enumerate() {
        let stored = env.database.store.group_get(group).await.unwrap().unwrap();
        let both = [began(env, "eu", turn).await, began(env, "us", turn).await];
        assert_eq!(both.map(Some), [stored.started_at; 2], "they left pending at one instant");
        for member in stored.members {
            assert!(member.deploy.is_some_and(|deploy| deploy.finished), "{}", member.stage);
        }
    }
    // What is asked of a group is recorded once for each member, and so is what comes of it.
    for (action, many) in [("deploy.create", 7), ("stage.approve", 2)] {
        let told = format!("SELECT count(*) FROM audit_log WHERE action = '{action}'");
        assert_eq!(number(env, told).await, many, "{action}");
    }
    let lives = scene.witness.lives();
    let twice: Vec<_> = lives.iter().filter(|(_, lives)| lives.made > 1).collect();
    // What goes back gets the objects of the instance again that was removed.
    assert!(twice.iter().all(|((_, name), lives)| name.starts_with("eu-") && lives.made == 2), "{twice:?}");
}
