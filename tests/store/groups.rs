//! Group actions: asked of all or of none, begun for all or for none.

use futures::future::join_all;
use stagekeeper::{
    domain::{
        actor::Actor,
        deploy::State,
        group::{OnFailure, Phase, phase},
        request::{Action, Origin, RequestState, Via},
        share::Share,
    },
    store::{Beginning, BegunTogether, Class, NewDeploy, NewGroup, Provenance, Settlement, StoredGroup},
};
use uuid::Uuid;

use crate::fixture::{Shop, WAY, at, id, new_deploy, release, step};

/// What was asked of `eu` and `us`; with further stages behind them.
pub(crate) fn group(number: u32, stages: &[&str]) -> NewGroup {
    let stages = (1..).zip(stages).map(|(place, stage)| ((*stage).to_owned(), id(number + place))).collect();
    NewGroup {
        id: id(number),
        namespace: "acme".into(),
        action: Action::Promote { release: None, from: None, emergency: false },
        on_failure: OnFailure::Rollback,
        actor: Actor::User("jane".into()),
        groups: vec!["release".into()],
        reason: "both regions".into(),
        origin: Origin { via: Via::Api, verified: true, source: None, request_id: Some("r-1".into()) },
        stages,
        at: at(1),
    }
}

/// The deploy that answers a request of a group.
pub(crate) async fn answer(shop: &Shop, group: Uuid, request: Uuid, new: NewDeploy) -> Uuid {
    let provenance = Provenance { group: Some(group), ..Provenance::default() };
    let settles = Some(Settlement { request, message: "asked for".into() });
    shop.pending(&NewDeploy { provenance, settles, ..new }).await
}

/// How a pending deploy begins.
pub(crate) fn beginning(target: Uuid, deploy: Uuid, number: u32) -> Beginning<'static> {
    let advance = step(deploy, 1, State::Pending, State::Pulling, "Started");
    Beginning { advance, target, from: &[], release: release(&format!("1.{number}.0")).id() }
}

/// A group whose members all wait: `eu` with deploy 11, `us` with deploy 12.
async fn waiting() -> (Shop, Uuid, Uuid) {
    let shop = Shop::new().await;
    let (eu, us) = (shop.stage(2, "eu").await, shop.stage(3, "us").await);
    shop.group_create(&group(50, &["eu", "us"])).await.unwrap();
    answer(&shop, id(50), id(51), new_deploy(eu, 1, 11)).await;
    answer(&shop, id(50), id(52), new_deploy(us, 1, 12)).await;
    (shop, eu, us)
}

async fn states(shop: &Shop) -> (StoredGroup, Vec<State>) {
    let stored = shop.group_get(id(50)).await.unwrap().unwrap();
    let states = stored.members.iter().filter_map(|member| Some(member.deploy.as_ref()?.state)).collect();
    (stored, states)
}

#[tokio::test]
async fn a_group_is_asked_of_all_its_stages_or_of_none() {
    let shop = Shop::new().await;
    shop.stage(2, "eu").await;
    let error = shop.group_create(&group(50, &["eu", "nowhere"])).await.unwrap_err();
    assert_eq!(error.to_string(), "stage acme/nowhere does not exist");
    for table in ["requests", "deploy_groups", "audit_log WHERE action LIKE 'stage.%'"] {
        assert_eq!(shop.number(&format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
    shop.stage(3, "us").await;
    shop.group_create(&group(50, &["us", "eu"])).await.unwrap();
    let stored = shop.group_get(id(50)).await.unwrap().unwrap();
    let names: Vec<&str> = stored.members.iter().map(|member| member.stage.as_str()).collect();
    assert_eq!((names, stored.on_failure, stored.started_at), (vec!["eu", "us"], OnFailure::Rollback, None));
    assert_eq!(stored.reason, "both regions");
    let told = format!("SELECT count(*) FROM audit_log WHERE details ->> 'group' = '{}'", id(50));
    assert_eq!(shop.number(&told).await, 2, "an entry for each stage");
    assert_eq!(shop.requests_pending(&Share::all(), &[], 10).await.unwrap().len(), 2);
    let again = shop.group_create(&group(50, &["us", "eu"])).await.unwrap_err();
    assert_eq!(again.class(), Class::Conflict);
    assert_eq!(shop.groups_list("acme", None, 10).await, Ok(vec![stored]));
    let later = NewGroup { at: at(5), ..group(60, &["eu", "us"]) };
    shop.group_create(&later).await.unwrap();
    let ids = |found: Vec<StoredGroup>| found.iter().map(|group| (group.id, group.members.len())).collect::<Vec<_>>();
    assert_eq!(ids(shop.groups_list("acme", None, 10).await.unwrap()), [(id(60), 2), (id(50), 2)]);
    assert_eq!(ids(shop.groups_list("acme", None, 1).await.unwrap()), [(id(60), 2)], "groups, not members");
    assert_eq!(ids(shop.groups_list("acme", Some((at(5), id(60))), 10).await.unwrap()), [(id(50), 2)]);
    assert_eq!(shop.groups_list("other", None, 10).await, Ok(Vec::new()));
}

#[tokio::test]
async fn all_leave_pending_or_none() {
    let (shop, eu, us) = waiting().await;
    let all = [beginning(eu, id(11), 11), beginning(us, id(12), 12)];
    let mut asked = Vec::new();
    let shut = shop.group_begin(id(50), &all, at(2), |place, _| {
        asked.push(place);
        place == 0
    });
    assert_eq!(shut.await, Ok(BegunTogether::Waits));
    assert_eq!(asked, [0, 1], "each gate was asked");
    let one = shop.group_begin(id(50), &all[..1], at(2), |_, _| true).await.unwrap_err();
    assert_eq!(one.class(), Class::Conflict, "not without the other");
    // Somebody else was faster with the second: the first stays where it is too.
    let mut late = [beginning(eu, id(11), 11), beginning(us, id(12), 12)];
    late[1].advance.version = 7;
    assert_eq!(shop.group_begin(id(50), &late, at(2), |_, _| true).await.unwrap_err().class(), Class::Conflict);
    let (stored, before) = states(&shop).await;
    assert_eq!((stored.started_at, before), (None, vec![State::Pending, State::Pending]));

    assert_eq!(shop.group_begin(id(50), &all, at(2), |_, _| true).await, Ok(BegunTogether::Moved(vec![2, 2])));
    let (stored, after) = states(&shop).await;
    assert_eq!((stored.started_at, after), (Some(at(2)), vec![State::Pulling, State::Pulling]));
    assert_eq!(phase(&stored.members, true), Phase::Begun);
    let again = shop.group_begin(id(50), &all, at(3), |_, _| true).await.unwrap_err();
    assert_eq!(again.class(), Class::Conflict, "once");
}

/// Twenty at once, as leaders that were replaced might: they begin once.
#[tokio::test]
async fn a_group_begins_once_however_many_begin_it() {
    let (shop, eu, us) = waiting().await;
    let begin = async || {
        let all = [beginning(eu, id(11), 11), beginning(us, id(12), 12)];
        shop.group_begin(id(50), &all, at(2), |_, _| true).await
    };
    let begun = join_all((0..20).map(|_| begin())).await;
    assert_eq!(begun.iter().filter(|one| one.is_ok()).count(), 1, "{begun:?}");
    assert!(
        begun.iter().filter_map(|one| one.as_ref().err()).all(|error| error.class() == Class::Conflict),
        "{begun:?}"
    );
    let moves = "SELECT count(*) FROM deploy_transitions WHERE to_state = 'pulling'";
    assert_eq!(shop.number(moves).await, 2);
}

#[tokio::test]
async fn how_far_the_members_are_is_told() {
    let (shop, eu, us) = waiting().await;
    let all = [beginning(eu, id(11), 11), beginning(us, id(12), 12)];
    shop.group_begin(id(50), &all, at(2), |_, _| true).await.unwrap();
    for (place, (to, reason)) in (2..).zip(&WAY[1..]) {
        let from = WAY[usize::try_from(place).unwrap() - 2].0;
        shop.deploy_advance(&step(id(11), place, from, *to, reason)).await.unwrap();
    }
    shop.deploy_advance(&step(id(12), 2, State::Pulling, State::Failed, "PullTimedOut")).await.unwrap();
    let (stored, after) = states(&shop).await;
    assert_eq!(after, [State::Success, State::Failed]);
    assert_eq!(phase(&stored.members, true), Phase::Failed("us is failed: pulling to failed".into()));
    assert!(stored.members.iter().all(|member| member.deploy.as_ref().is_some_and(|deploy| !deploy.undone)));
    let back = Provenance { rollback_of: Some(id(11)), ..Provenance::default() };
    shop.pending(&NewDeploy { provenance: back, ..new_deploy(eu, 2, 13) }).await;
    let (stored, _) = states(&shop).await;
    assert!(stored.members[0].deploy.as_ref().unwrap().undone);

    // A stage that is deleted takes part no more.
    shop.group_create(&group(60, &["eu", "us"])).await.unwrap();
    shop.stage_soft_delete("acme", "us").await.unwrap();
    let stored = shop.group_get(id(60)).await.unwrap().unwrap();
    assert_eq!(phase(&stored.members, false), Phase::Broken("stage us was deleted".into()));
    assert_eq!(stored.members[0].request, RequestState::Pending);
}
