//! History: filters, pages, names, durations, looking up by the beginning of an id.

use jiff::SignedDuration;
use stagekeeper::{
    domain::deploy::State,
    store::{Class, HistoryFilter, NewDeploy},
};
use uuid::Uuid;

use crate::fixture::{Shop, WAY, at, id, new_deploy};

fn all() -> HistoryFilter {
    HistoryFilter { limit: 100, ..HistoryFilter::default() }
}

async fn listed(shop: &Shop, filter: &HistoryFilter) -> Vec<Uuid> {
    let page = shop.history_list(filter).await.unwrap();
    let ids = page.entries.iter().map(|entry| entry.stored.deploy.id);
    ids.collect()
}

/// Two stages; deploys 10 to 15 in dev, one a minute, the last failed; deploy 20 in live.
async fn shop_with_history() -> Shop {
    let shop = Shop::new().await;
    let (dev, live) = (shop.stage(2, "dev").await, shop.stage(3, "live").await);
    for (sequence, number) in (1..).zip(10..15) {
        let new = NewDeploy { now: at(60 * sequence), ..new_deploy(dev, sequence, number) };
        shop.success(&new).await;
    }
    let failing = NewDeploy { now: at(360), ..new_deploy(dev, 6, 15) };
    shop.pending(&failing).await;
    shop.walk(failing.id, &[WAY[0], (State::Failed, "HookFailed")]).await;
    shop.success(&new_deploy(live, 1, 20)).await;
    shop
}

#[tokio::test]
async fn filters_select() {
    let shop = shop_with_history().await;
    let text = |text: &str| Some(text.to_owned());
    let dev = HistoryFilter { project: text("shop"), stage: text("dev"), ..all() };
    let ids = |numbers: &[u32]| numbers.iter().copied().map(id).collect::<Vec<_>>();
    let cases: [(&str, HistoryFilter, &[u32]); 10] = [
        ("all", all(), &[15, 14, 13, 12, 11, 10, 20]),
        ("one stage", dev.clone(), &[15, 14, 13, 12, 11, 10]),
        ("one project", HistoryFilter { project: text("shop"), ..all() }, &[15, 14, 13, 12, 11, 10, 20]),
        ("another namespace", HistoryFilter { namespace: text("other"), ..all() }, &[]),
        ("since", HistoryFilter { since: Some(at(300)), ..all() }, &[15, 14]),
        ("state", HistoryFilter { state: Some(State::Failed), ..dev.clone() }, &[15]),
        ("tag", HistoryFilter { image: text("SHOP:1.12."), ..all() }, &[12]),
        ("digest", HistoryFilter { image: text("@sha256:1.13"), ..all() }, &[13]),
        ("not a pattern", HistoryFilter { image: text("1_13"), ..all() }, &[]),
        (
            "everything at once",
            HistoryFilter {
                namespace: text("acme"),
                since: Some(at(60)),
                state: Some(State::Success),
                image: text("registry.test"),
                ..dev
            },
            &[14, 13, 12, 11, 10],
        ),
    ];
    for (name, filter, want) in cases {
        assert_eq!(listed(&shop, &filter).await, ids(want), "{name}");
    }
}

#[tokio::test]
async fn what_does_not_exist_is_named() {
    let shop = Shop::new().await;
    shop.stage(2, "dev").await;
    let project = HistoryFilter { project: Some("ship".into()), ..all() };
    let stage = HistoryFilter { project: Some("shop".into()), stage: Some("prod".into()), ..all() };
    for (filter, want) in [(project, "project ship does not exist"), (stage, "stage shop/prod does not exist")] {
        let error = shop.history_list(&filter).await.unwrap_err();
        assert_eq!(error.class(), Class::NotFound);
        assert_eq!(error.to_string(), want);
    }
}

#[tokio::test]
async fn pages_follow_each_other_without_gap_or_overlap() {
    let shop = shop_with_history().await;
    // Deploys of the same instant are told apart by their ids.
    shop.run("UPDATE deploys SET created_at = '2026-03-01T12:05:00Z'").await.unwrap();
    for filter in [
        all(),
        HistoryFilter { project: Some("shop".into()), ..all() },
        HistoryFilter { stage: Some("dev".into()), ..all() },
    ] {
        let whole = listed(&shop, &filter).await;
        assert!(whole.len() >= 6);
        for limit in [1, 2, 3] {
            let mut filter = HistoryFilter { limit, ..filter.clone() };
            let mut read = Vec::new();
            loop {
                let page = shop.history_list(&filter).await.unwrap();
                read.extend(page.entries.iter().map(|entry| entry.stored.deploy.id));
                filter.after = page.next;
                if page.next.is_none() {
                    break;
                }
            }
            assert_eq!(read, whole, "pages of {limit}");
        }
    }
}

#[tokio::test]
async fn an_entry_says_where_how_long_and_after_what() {
    let shop = shop_with_history().await;
    let detail = shop.deploy_get(id(15)).await.unwrap().unwrap();
    let entry = &detail.entry;
    assert_eq!(entry.place.namespace, "acme");
    assert_eq!(entry.place.project, "shop");
    assert_eq!(entry.place.stage, "dev");
    assert_eq!(detail.predecessor.unwrap().deploy.id, id(14));
    let states: Vec<State> = entry.transitions.iter().map(|step| step.to).collect();
    assert_eq!(states, [State::Pending, State::Pulling, State::Failed]);
    assert_eq!(entry.transitions[2].reason, "HookFailed");
    // It began at second 1, failed at second 2 and is not finished yet.
    assert_eq!(entry.working_time(at(10)), SignedDuration::from_secs(9));
    let first = shop.deploy_get(id(10)).await.unwrap().unwrap();
    assert_eq!(first.predecessor, None);
    // From second 1 to second 5, however late one looks.
    assert_eq!(first.entry.working_time(at(99)), SignedDuration::from_secs(4));
    assert_eq!(shop.deploy_get(id(99)).await, Ok(None));
}

#[tokio::test]
async fn the_beginning_of_an_id_is_enough() {
    let shop = shop_with_history().await;
    let whole = id(12).to_string();
    assert_eq!(shop.deploy_find(&whole).await, Ok(vec![id(12)]));
    assert_eq!(shop.deploy_find(&whole.replace('-', "")).await, Ok(vec![id(12)]));
    assert_eq!(shop.deploy_find("0190").await.unwrap().len(), 7);
    for prefix in ["0191", "", "nonsense"] {
        assert_eq!(shop.deploy_find(prefix).await, Ok(Vec::new()), "{prefix}");
    }
}
