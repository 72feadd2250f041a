//! What a stage's conditions say of how things stand.

use jiff::Timestamp;

use super::*;
use crate::controllers::{
    deploy::ledger::{Entry, Finished},
    fixture::{SHOP, entry, read, snapshot},
    stage::decide::Held,
};

fn failed(state: State, message: &str) -> Entry {
    let mut failed = entry(snapshot(SHOP, 1), 2, state);
    failed.deploy.message = Some(message.into());
    failed.deploy.finished_at = Some(Timestamp::UNIX_EPOCH);
    failed
}

/// Ready, reconciling or stalled, and the reason.
fn told(ledger: &Ledger, decided: &Decided, unready: bool) -> (&'static str, String, String) {
    let (_, stage) = read(SHOP);
    match outcome(&Situation {
        stage: &stage,
        ledger,
        decided,
        waiting: None,
        gates: &[],
        request: None,
        unready,
        asleep: None,
        edge: None,
    }) {
        Outcome::Ready { reason, message } => ("ready", reason.to_owned(), message),
        Outcome::Reconciling { reason, message } => ("reconciling", reason.to_owned(), message),
        Outcome::Stalled { reason, message } => ("stalled", reason.to_owned(), message),
    }
}

#[test]
fn a_stage_is_ready_only_when_what_is_wanted_is_what_serves() {
    let good = || Some(entry(snapshot(SHOP, 0), 1, State::Success));
    let closed = |entry: Entry| {
        let mut ledger = Ledger { open: vec![entry], ..Ledger::default() };
        ledger.closed(0);
        ledger.history
    };
    let before = || Finished { deploy: good().expect("one").deploy, images: String::new() };
    let with = |entry: Entry, good: Option<Entry>| {
        let mut history = closed(entry);
        history.extend(good.is_some().then(before));
        Ledger { history, good, ..Ledger::default() }
    };
    let held =
        Decided { held_back: Some(Held { images: "web 1.1.0".into(), why: "503".into() }), ..Decided::default() };
    let nothing = Decided::default();
    let serves = Ledger { good: good(), history: [before()].into(), ..Ledger::default() };
    let aborted = with(failed(State::Aborted, "it could not begin"), good());
    let rolled_back = with(failed(State::RolledBack, "service web: 503"), good());
    let never = with(failed(State::Failed, "no such image"), None);
    let cases: [(&str, &Ledger, &Decided, bool, (&str, &str), &str); 7] = [
        ("it serves", &serves, &nothing, false, ("ready", "Serving"), "web 1.0.0"),
        ("it is unready", &serves, &nothing, true, ("reconciling", "Unready"), "not all pods"),
        ("a bad release is held back", &serves, &held, false, ("stalled", "RolledBack"), "web 1.1.0"),
        ("it was rolled back", &rolled_back, &nothing, false, ("stalled", "RolledBack"), "service web: 503"),
        ("it was stopped", &aborted, &nothing, false, ("stalled", "Aborted"), "it could not begin"),
        ("the first failed", &never, &nothing, false, ("stalled", "DeployFailed"), "no such image"),
        ("nothing was deployed", &Ledger::default(), &nothing, false, ("reconciling", "Starting"), "no deploy"),
    ];
    for (name, ledger, decided, unready, want, says) in cases {
        let (kind, reason, message) = told(ledger, decided, unready);
        assert_eq!((kind, reason.as_str()), want, "{name}");
        assert!(message.contains(says), "{name}: {message}");
        if kind == "stalled" {
            assert!(message.contains("stagekeeper.dev/retry"), "{name} has a way out: {message}");
        }
    }
}

#[test]
fn a_listing_that_shrank_is_a_condition_and_is_told_once() {
    let (_, stage) = read(SHOP);
    let missing = |reason: &'static str| crate::controllers::stage::wanted::Missing {
        service: "web".into(),
        reason,
        message: format!("service web: {reason}"),
        transient: true,
    };
    let ledger = Ledger { good: Some(entry(snapshot(SHOP, 0), 1, State::Success)), ..Ledger::default() };
    let status_of = |before: &StageStatus, decided: &Decided, ledger: &Ledger| {
        let situation = Situation {
            stage: &stage,
            ledger,
            decided,
            waiting: None,
            gates: &[],
            request: None,
            unready: false,
            asleep: None,
            edge: None,
        };
        status(before, &situation, &StageChildren::default(), Timestamp::UNIX_EPOCH)
    };
    let told = |status: &StageStatus| {
        let found = conditions::get(&status.conditions, IMAGES_CURRENT).expect("the condition");
        (found.status.clone(), found.reason.clone())
    };
    let shrank = Decided { stale: vec![missing("RegistryUnreachable"), missing(SHRANK)], ..Decided::default() };
    let calm = StageStatus::default();
    let first = status_of(&calm, &shrank, &ledger);
    assert_eq!(told(&first), ("False".to_owned(), SHRANK.to_owned()));
    assert!(newly_shrank(&calm, &first).is_some_and(|note| note.contains("RegistryUnreachable")));
    let second = status_of(&first, &shrank, &ledger);
    assert_eq!(newly_shrank(&first, &second), None, "told once");
    let whole = status_of(&second, &Decided::default(), &ledger);
    assert_eq!((told(&whole), newly_shrank(&second, &whole)), (("True".to_owned(), "Answered".to_owned()), None));
    // A stage that runs nothing yet.
    let nothing = Decided { missing: vec![missing(SHRANK)], ..Decided::default() };
    let bare = status_of(&calm, &nothing, &Ledger::default());
    assert_eq!(told(&bare), ("False".to_owned(), SHRANK.to_owned()));
    assert!(newly_shrank(&calm, &bare).is_some());
}

/// The operator is told one address of the proxy: that for previews.
#[test]
fn a_stage_behind_the_proxy_is_reached_as_previews_are() {
    let edge: Url = "https://preview.test:8443".parse().expect("a URL");
    let route = |type_, host: Option<&str>| Route { type_, host: host.map(Into::into), ..Route::default() };
    let shop = route(RouteType::Edge, Some("shop.test"));
    assert_eq!(at_edge(&edge, Some(&shop)).as_deref(), Some("https://shop.test:8443"));
    assert_eq!(at_edge(&edge, Some(&route(RouteType::Ingress, Some("shop.test")))), None);
    assert_eq!(at_edge(&edge, None), None);
    let plain: Url = "http://preview.test".parse().expect("a URL");
    assert_eq!(at_edge(&plain, Some(&shop)).as_deref(), Some("http://shop.test"));

    let (_, mut stage) = read(SHOP);
    stage.spec.route = Some(shop);
    let ledger = Ledger { good: Some(entry(snapshot(SHOP, 0), 1, State::Success)), ..Ledger::default() };
    let url = |edge: Option<&Url>| {
        let decided = Decided::default();
        let situation = Situation {
            stage: &stage,
            ledger: &ledger,
            decided: &decided,
            waiting: None,
            gates: &[],
            request: None,
            unready: false,
            asleep: None,
            edge,
        };
        status(&StageStatus::default(), &situation, &StageChildren::default(), Timestamp::UNIX_EPOCH).url
    };
    assert_eq!(url(Some(&edge)).as_deref(), Some("https://shop.test:8443"));
    assert_eq!(url(None).as_deref(), Some("http://shop.test"), "nobody has said");
}
