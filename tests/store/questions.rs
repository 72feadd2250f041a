//! Questions about history: who ever ran an image, what ran at an instant, and DORA's four numbers, held to a story whose
//! answers are computed by hand.

use stagekeeper::{
    domain::{
        deploy::State,
        image::Digest,
        release::{Release, ReleaseImage},
    },
    store::{
        Advance, Class, DoraFilter, DoraNumbers, DoraStats, HistoryFilter, ImageRun, NewDeploy, Place, Provenance,
        ServedFilter, Spread,
    },
};
use uuid::Uuid;

use crate::fixture::{Shop, at, id, new_deploy, step};

fn digest(version: &str) -> Digest {
    Digest::of(version.as_bytes())
}

fn version(name: &str) -> Release {
    let image =
        ReleaseImage { repository: "r.test/shop".into(), tag: Some(name.into()), digest: digest(name).to_string() };
    Release([("web".to_owned(), image)].into_iter().collect())
}

/// How a deploy goes: its number, its place, its release, when it is asked for, and how and when it ends.
struct Run {
    number: u32,
    sequence: i64,
    version: &'static str,
    asked: i64,
    steps: &'static [(State, i64)],
}

const fn run(number: u32, sequence: i64, version: &'static str, asked: i64, steps: &'static [(State, i64)]) -> Run {
    Run { number, sequence, version, asked, steps }
}

const SUCCESS: State = State::Success;
const FAILED: State = State::Failed;

const DEV: [Run; 7] = [
    run(10, 1, "a", 0, &[(SUCCESS, 60)]),
    run(11, 2, "b", 1_000, &[(FAILED, 1_050), (State::RolledBack, 1_080)]),
    run(12, 3, "c", 2_000, &[(SUCCESS, 2_100)]),
    run(13, 4, "d", 6_000, &[(FAILED, 6_050)]),
    run(14, 5, "e", 7_000, &[(SUCCESS, 7_200)]),
    run(15, 6, "f", 7_300, &[(State::Superseded, 7_400)]),
    run(16, 7, "g", 7_400, &[]),
];

/// 22 undoes 21; 23 is the same release with other settings.
const LIVE: [Run; 5] = [
    run(20, 1, "a", 600, &[(SUCCESS, 660)]),
    run(21, 2, "c", 3_000, &[(SUCCESS, 3_100)]),
    run(22, 3, "a", 3_500, &[(SUCCESS, 3_600)]),
    run(23, 4, "a", 5_000, &[(SUCCESS, 5_100)]),
    run(24, 5, "e", 8_000, &[(FAILED, 8_100)]),
];

async fn story() -> Shop {
    let shop = Shop::new().await;
    let (dev, live) = (shop.stage(2, "dev").await, shop.stage(3, "live").await);
    for (target, runs) in [(dev, &DEV[..]), (live, &LIVE[..])] {
        for run in runs {
            let rollback_of = (run.number == 22).then(|| id(21));
            let new = NewDeploy {
                release: version(run.version),
                provenance: Provenance { rollback_of, ..Provenance::default() },
                now: at(run.asked),
                ..new_deploy(target, run.sequence, run.number)
            };
            shop.pending(&new).await;
            let (mut from, mut seen) = (State::Pending, 1);
            for (to, second) in run.steps {
                let closes = *to == FAILED && run.steps.len() == 1;
                let advance = Advance {
                    at: at(*second),
                    close: closes.then(|| "no earlier release to go back to".into()),
                    ..step(new.id, seen, from, *to, "Told")
                };
                (from, seen) = (*to, shop.deploy_advance(&advance).await.unwrap());
            }
        }
    }
    shop
}

fn served(second: i64) -> ServedFilter {
    ServedFilter { at: at(second), namespace: None, project: None, stage: None, image: None, after: None, limit: 100 }
}

async fn serving(shop: &Shop, filter: &ServedFilter) -> Vec<(String, Uuid)> {
    let page = shop.history_at(filter).await.unwrap();
    page.entries.into_iter().map(|entry| (entry.place.stage, entry.stored.deploy.id)).collect()
}

#[tokio::test]
async fn what_ran_at_an_instant_is_known() {
    let shop = story().await;
    let (dev, live) = (|number| ("dev".to_owned(), id(number)), |number| ("live".to_owned(), id(number)));
    let cases = [
        (59, vec![]),
        (60, vec![dev(10)]),
        (660, vec![dev(10), live(20)]),
        (1_060, vec![dev(10), live(20)]),
        (2_100, vec![dev(12), live(20)]),
        (3_599, vec![dev(12), live(21)]),
        (3_600, vec![dev(12), live(22)]),
        (100_000, vec![dev(14), live(23)]),
    ];
    for (second, want) in cases {
        assert_eq!(serving(&shop, &served(second)).await, want, "at {second}");
    }
    let text = |text: &str| Some(text.to_owned());
    let filters = [
        (ServedFilter { stage: text("live"), ..served(4_000) }, vec![live(22)]),
        (ServedFilter { project: text("shop"), namespace: text("acme"), ..served(60) }, vec![dev(10)]),
        (ServedFilter { namespace: text("other"), ..served(60) }, vec![]),
        (ServedFilter { image: text("SHOP:C"), ..served(3_200) }, vec![dev(12), live(21)]),
        (ServedFilter { image: Some(digest("a").to_string()), ..served(4_000) }, vec![live(22)]),
    ];
    for (filter, want) in filters {
        assert_eq!(serving(&shop, &filter).await, want, "{filter:?}");
    }
    let first = shop.history_at(&ServedFilter { limit: 1, ..served(4_000) }).await.unwrap();
    let next = first.next.expect("a second page");
    assert_eq!(next.stage, "dev");
    let second = ServedFilter { after: Some(next), limit: 1, ..served(4_000) };
    assert_eq!(serving(&shop, &second).await, [live(22)]);
    assert_eq!(shop.history_at(&second).await.unwrap().next, None);
    let error = shop.history_at(&ServedFilter { stage: text("prod"), ..served(0) }).await.unwrap_err();
    assert_eq!(error.class(), Class::NotFound);
}

#[tokio::test]
async fn a_deleted_stage_ran_until_it_was_deleted() {
    let shop = story().await;
    let deleted = format!("UPDATE stages SET deleted_at = '{}' WHERE name = 'live'", at(4_000));
    assert_eq!(shop.run(&deleted).await, Ok(1));
    let stages = |entries: Vec<(String, Uuid)>| entries.into_iter().map(|(stage, _)| stage).collect::<Vec<_>>();
    assert_eq!(stages(serving(&shop, &served(3_999)).await), ["dev", "live"]);
    assert_eq!(stages(serving(&shop, &served(4_000)).await), ["dev"]);
    let runs = shop.image_runs(&digest("a"), &HistoryFilter::default()).await.unwrap();
    assert_eq!(runs[1].until, Some(at(4_000)), "{runs:?}");
}

#[tokio::test]
async fn a_digest_tells_which_stages_ever_ran_it() {
    let shop = story().await;
    let place = |stage: &str| Place { namespace: "acme".into(), project: "shop".into(), stage: stage.into() };
    let all = HistoryFilter::default();
    let a = shop.image_runs(&digest("a"), &all).await.unwrap();
    let (first, last, until) = (Some(at(60)), Some(at(60)), Some(at(2_100)));
    let dev = ImageRun { place: place("dev"), deploys: 1, succeeded: 1, first, last, until };
    let (first, last, until) = (Some(at(660)), Some(at(5_100)), None);
    let live = ImageRun { place: place("live"), deploys: 3, succeeded: 3, first, last, until };
    assert_eq!(a, [dev.clone(), live]);
    assert_eq!(a.iter().map(ImageRun::serves).collect::<Vec<_>>(), [false, true]);
    let (first, last, until) = (None, None, None);
    let never = ImageRun { place: place("dev"), deploys: 1, succeeded: 0, first, last, until };
    assert!(!never.serves());
    assert_eq!(shop.image_runs(&digest("b"), &all).await.unwrap(), [never]);
    assert_eq!(shop.image_runs(&digest("z"), &all).await, Ok(Vec::new()));
    let only = HistoryFilter { stage: Some("dev".into()), ..all.clone() };
    assert_eq!(shop.image_runs(&digest("a"), &only).await.unwrap(), [dev]);
    let wrong = HistoryFilter { project: Some("ship".into()), ..all };
    assert_eq!(shop.image_runs(&digest("a"), &wrong).await.unwrap_err().class(), Class::NotFound);
}

#[tokio::test]
async fn the_history_of_a_digest_is_that_of_its_releases() {
    let shop = story().await;
    let listed = async |image: String, filter: HistoryFilter| -> Vec<Uuid> {
        let filter = HistoryFilter { image: Some(image), limit: 2, ..filter };
        let (mut ids, mut after) = (Vec::new(), None);
        loop {
            let page = shop.history_list(&HistoryFilter { after, ..filter.clone() }).await.unwrap();
            ids.extend(page.entries.iter().map(|entry| entry.stored.deploy.id));
            after = page.next;
            if after.is_none() {
                return ids;
            }
        }
    };
    let (all, a) = (HistoryFilter::default(), digest("a").to_string());
    let newest_first = [id(23), id(22), id(20), id(10)];
    assert_eq!(listed(a.clone(), all.clone()).await, newest_first);
    assert_eq!(listed(format!("r.test/SHOP:a@{}", a.to_uppercase()), all.clone()).await, newest_first);
    assert_eq!(listed(format!("r.test/other@{a}"), all.clone()).await, [] as [Uuid; 0]);
    let dev = HistoryFilter { stage: Some("dev".into()), ..all.clone() };
    assert_eq!(listed(a.clone(), dev).await, [id(10)]);
    let since = HistoryFilter { since: Some(at(3_000)), project: Some("shop".into()), ..all.clone() };
    assert_eq!(listed(a.clone(), since).await, [id(23), id(22)]);
    let elsewhere = HistoryFilter { namespace: Some("other".into()), ..all };
    assert_eq!(listed(a, elsewhere).await, [] as [Uuid; 0]);
}

fn window(since: i64, until: i64) -> DoraFilter {
    DoraFilter { namespace: None, project: None, stage: None, since: at(since), until: at(until) }
}

fn numbers(
    [changes, succeeded, failed, unrestored]: [i64; 4],
    lead: Option<[f64; 2]>,
    restore: Option<[f64; 2]>,
) -> DoraNumbers {
    let spread = |numbers: Option<[f64; 2]>| numbers.map(|[median, p90]| Spread { median, p90 });
    DoraNumbers { changes, succeeded, failed, unrestored, lead: spread(lead), restore: spread(restore) }
}

fn of(stats: &DoraStats) -> Vec<(&str, DoraNumbers)> {
    stats.stages.iter().map(|(place, numbers)| (place.stage.as_str(), *numbers)).collect()
}

/// dev changes with 10 to 14: lead times 60, 100 and 200 s; failures of 30 s (11) and 1,150 s (13, until 14 succeeds).
/// live changes with 20, 21, 23 and 24: lead times 660 and 1,100 s (23 brings no new release); 21 was undone after 400 s
/// and mended 100 s later; nothing has followed 24. 22 is the remedy of 21, 15 and 16 never began.
#[tokio::test]
async fn the_four_numbers_are_those_that_are_computed_by_hand() {
    let shop = story().await;
    let stats = shop.dora_stats(&window(0, 10_000)).await.unwrap();
    let dev = numbers([5, 3, 2, 0], Some([100.0, 180.0]), Some([590.0, 1_038.0]));
    let live = numbers([4, 3, 2, 1], Some([880.0, 1_056.0]), Some([100.0, 100.0]));
    assert_eq!(of(&stats), [("dev", dev), ("live", live)]);
    let total = numbers([9, 6, 4, 1], Some([200.0, 924.0]), Some([100.0, 940.0]));
    assert_eq!(stats.total, total);
    assert_eq!(dev.failure_rate(), Some(0.4));

    let narrow = shop.dora_stats(&window(2_100, 3_100)).await.unwrap();
    assert_eq!(of(&narrow), [("dev", numbers([1, 1, 0, 0], Some([100.0, 100.0]), None))]);
    let one = DoraFilter { stage: Some("live".into()), project: Some("shop".into()), ..window(0, 10_000) };
    assert_eq!(shop.dora_stats(&one).await.unwrap().total, live);

    let nothing = shop.dora_stats(&window(9_000, 10_000)).await.unwrap();
    assert_eq!(nothing, DoraStats { stages: Vec::new(), total: DoraNumbers::default() });
    assert_eq!(nothing.total.failure_rate(), None);
    let wrong = DoraFilter { stage: Some("prod".into()), ..window(0, 1) };
    assert_eq!(shop.dora_stats(&wrong).await.unwrap_err().class(), Class::NotFound);
}

#[tokio::test]
async fn the_daily_view_adds_up_to_the_same() {
    let shop = story().await;
    let sum = |column: &str| format!("SELECT sum({column})::bigint FROM dora_daily WHERE day = '2026-03-01'");
    for (column, want) in [("changes", 9), ("succeeded", 6), ("failed", 4)] {
        assert_eq!(shop.number(&sum(column)).await, want, "{column}");
    }
    let lead = "SELECT lead_seconds::bigint FROM dora_daily WHERE stage = 'dev'";
    assert_eq!(shop.number(lead).await, 100);
}

#[tokio::test]
async fn a_rollback_that_never_happened_undoes_nothing_and_an_adopted_deploy_has_no_lead_time() {
    let shop = story().await;
    shop.run("UPDATE deploys SET state = 'aborted' WHERE sequence = 3 AND rollback_of IS NOT NULL").await.unwrap();
    let live = DoraFilter { stage: Some("live".into()), ..window(0, 10_000) };
    let stats = shop.dora_stats(&live).await.unwrap();
    assert_eq!((stats.total.failed, stats.total.restore), (1, None));
    shop.run("UPDATE deploys SET version = 1 WHERE state = 'success'").await.unwrap();
    let stats = shop.dora_stats(&live).await.unwrap();
    assert_eq!((stats.total.succeeded, stats.total.lead), (3, None));
}
