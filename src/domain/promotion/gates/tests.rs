//! What the gates say, case by case.

use std::time::Duration;

use jiff::SignedDuration;
use uuid::Uuid;

use super::*;
use crate::domain::{
    promotion::{Action, Emergency, Group, Require, Upstream, Window, WindowSpec, verdict},
    release::ReleaseId,
};

fn at(minutes: i64) -> Timestamp {
    "2026-01-05T12:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minutes)
}

fn user(name: &str) -> Actor {
    Actor::User(name.into())
}

fn release(digits: &str) -> ReleaseId {
    ReleaseId(digits.repeat(32))
}

/// A release that came to staging an hour ago and serves there.
fn staging() -> Upstream {
    Upstream { first: Some(at(-60)), serving_since: Some(at(-60)), ..Upstream::never("staging") }
}

/// Nothing is in the way of it.
fn facts() -> Facts {
    Facts {
        stage: "production".into(),
        release: release("ab"),
        kind: Kind::Promotion,
        explicit: false,
        suspended: None,
        holds: Vec::new(),
        veto: None,
        upstreams: vec![staging()],
        approvals: Vec::new(),
        requester: Actor::Policy,
        emergency: None,
        group: None,
        queue: Queue::Clear,
    }
}

fn rules() -> Rules {
    Rules { from: vec!["staging".into()], soak: Duration::from_mins(30), ..Rules::default() }
}

fn hold() -> Hold {
    Hold {
        owner: "jane".into(),
        actor: user("jane"),
        reason: "orders are lost".into(),
        since: at(-10),
        until: None,
        from: None,
    }
}

fn left(at: Timestamp) -> Mark {
    Mark { release: release("cd"), summary: "web 1.4.0".into(), at }
}

fn approval(name: &str) -> Approval {
    Approval {
        release: release("ab"),
        actor: user(name),
        verified: true,
        groups: vec!["release".into()],
        at: at(-5),
        expires: None,
    }
}

fn two_of_release() -> Rules {
    let approvals = Approvals {
        required: 2,
        groups: vec!["release".into()],
        expires: Duration::from_hours(72),
        allow_requester: false,
    };
    Rules { approvals: Some(approvals), ..rules() }
}

fn window(action: Action, schedule: &str) -> Rules {
    let spec = WindowSpec {
        name: Some("office".into()),
        action,
        schedule: Some(schedule.into()),
        recurrence: None,
        time_zone: "UTC".into(),
        duration: Duration::from_hours(8),
    };
    Rules { windows: vec![Window::parse(&spec).unwrap()], ..rules() }
}

#[test]
fn each_gate_says_what_is_in_the_way_and_what_opens_it() {
    use Verdict::{Needs, Pass, Refuse, WaitUntil};
    let base = facts;
    let upstream = |upstream: Upstream| Facts { upstreams: vec![upstream], ..base() };
    let approved = |names: &[&str]| Facts { approvals: names.iter().map(|name| approval(name)).collect(), ..base() };
    let two = |require| Rules { from: vec!["staging".into(), "qa".into()], require, ..rules() };
    let emergency =
        || Facts { emergency: Some(Emergency { actor: user("jane"), reason: "orders are lost".into() }), ..base() };
    let held = |hold: Hold| Facts { holds: vec![hold], ..base() };
    let vetoed = || Facts { veto: Some("web answers 500".into()), ..base() };
    let waits = |waits_for: &[&str]| {
        let waits_for = waits_for.iter().map(ToString::to_string).collect();
        Facts { group: Some(Group { id: Uuid::nil(), waits_for }), ..base() }
    };
    #[rustfmt::skip]
    let cases: Vec<(&str, &str, Facts, Rules, Verdict, &str, &str)> = vec![
        ("nothing is suspended", SUSPENDED, base(), rules(), Pass, "neither the stage nor its project", ""),
        ("suspended", SUSPENDED, Facts { suspended: Some("project shop".into()), ..base() }, rules(), Needs, "project shop is suspended", "set spec.suspend to false"),
        ("held", HOLD, held(hold()), rules(), Needs, "held by jane since 2026-01-05T11:50:00Z: orders are lost", "it ends with: stagekeeper resume production"),
        ("held by somebody's tool", HOLD, held(Hold { owner: "ci".into(), ..hold() }), rules(), Needs, "held by ci since 2026-01-05T11:50:00Z (user:jane asked): orders", "resume"),
        ("held until", HOLD, held(Hold { until: Some(at(60)), ..hold() }), rules(), WaitUntil(at(60)), "held by jane", "it ends at 2026-01-05T13:00:00Z, or with: stagekeeper resume"),
        ("held too long ago", HOLD, held(Hold { until: Some(at(0)), ..hold() }), rules(), Pass, "nobody holds", ""),
        ("held after a newer one", HOLD, held(Hold { from: Some(left(at(-60))), ..hold() }), rules(), Needs, "held by jane", "with a release newer than web 1.4.0, or with:"),
        ("newer than what was left", HOLD, held(Hold { from: Some(left(at(-61))), ..hold() }), rules(), Pass, "this release is newer than what was left", ""),
        ("newer, and held by another", HOLD, Facts { holds: vec![Hold { from: Some(left(at(-61))), ..hold() }, hold()], ..base() }, rules(), Needs, "held by jane", "it ends with: stagekeeper resume"),
        ("held, and asked for", HOLD, Facts { explicit: true, ..held(hold()) }, rules(), Pass, "this deploy was asked for by name", ""),
        ("held, and pinned", HOLD, Facts { kind: Kind::Pin, ..held(hold()) }, rules(), Pass, "does not stop what is pinned", ""),
        ("vetoed", VETO, vetoed(), rules(), Refuse, "vetoed here: web answers 500", "stagekeeper unveto production --release abababababab"),
        ("vetoed, and asked for", VETO, Facts { explicit: true, ..vetoed() }, rules(), Pass, "asked for by name", ""),
        ("vetoed, and configured", VETO, Facts { kind: Kind::Configuration, ..vetoed() }, rules(), Refuse, "vetoed here", "unveto"),
        ("from policies", UPSTREAM, base(), Rules::default(), Pass, "from the project's policies", ""),
        ("proven", UPSTREAM, base(), rules(), Pass, "it succeeded on staging", ""),
        ("never there", UPSTREAM, upstream(Upstream::never("staging")), rules(), Needs, "it has not succeeded on staging", "when a deploy of it succeeds on staging"),
        ("no such stage", UPSTREAM, Facts { upstreams: vec![], ..base() }, rules(), Refuse, "there is no stage staging", "correct spec.promotion.from"),
        ("vetoed there", UPSTREAM, upstream(Upstream { veto: Some("it leaks".into()), ..staging() }), rules(), Refuse, "vetoed on staging: it leaks", "lift the veto on staging"),
        ("gone back from", UPSTREAM, upstream(Upstream { went_back_to: Some("web 1.3.0".into()), ..staging() }), rules(), Needs, "staging went back from it to web 1.3.0", "promote it by name"),
        ("gone back from, and asked for", UPSTREAM, Facts { explicit: true, ..upstream(Upstream { went_back_to: Some("web 1.3.0".into()), ..staging() }) }, rules(), Pass, "it succeeded on staging", ""),
        ("one of all", UPSTREAM, Facts { upstreams: vec![staging(), Upstream::never("qa")], ..base() }, two(Require::All), Needs, "it has not succeeded on qa", "qa"),
        ("one of any", UPSTREAM, Facts { upstreams: vec![staging(), Upstream::missing("qa")], ..base() }, two(Require::Any), Pass, "it succeeded on staging", ""),
        ("none of any", UPSTREAM, Facts { upstreams: vec![Upstream::never("staging"), Upstream::never("qa")], ..base() }, two(Require::Any), Needs, "not succeeded on staging, it has not succeeded on qa", "on staging; it opens"),
        ("soaked", SOAK, base(), rules(), Pass, "it served 1h on staging", ""),
        ("soaks", SOAK, upstream(Upstream { serving_since: Some(at(-12)), ..staging() }), rules(), WaitUntil(at(18)), "it served 12m of 30m on staging", "at 2026-01-05T12:18:00Z if it goes on"),
        ("soaks for the second time", SOAK, upstream(Upstream { served: Duration::from_mins(10), serving_since: Some(at(-12)), ..staging() }), rules(), WaitUntil(at(8)), "it served 22m of 30m", ""),
        ("replaced before", SOAK, upstream(Upstream { served: Duration::from_mins(10), serving_since: None, ..staging() }), rules(), Needs, "it served 10m of 30m on staging until it was replaced there", "deploy it on staging again"),
        ("not healthy there", SOAK, upstream(Upstream { unready: Some("web 0/2 ready".into()), ..staging() }), rules(), Needs, "it is not healthy on staging: web 0/2 ready", "healthy on staging again"),
        ("healthy there again", SOAK, upstream(Upstream { served: Duration::ZERO, serving_since: Some(at(-4)), recovered: Some(at(-4)), ..staging() }), rules(), WaitUntil(at(26)), "it served 4m of 30m on staging since 2026-01-05T11:56:00Z, when it was healthy there again", "at 2026-01-05T12:26:00Z if it goes on"),
        ("not soaked in an emergency", SOAK, Facts { upstreams: vec![Upstream { serving_since: Some(at(-12)), ..staging() }], ..emergency() }, rules(), Pass, "passed over by user:jane: orders are lost (it served 12m of 30m on staging)", ""),
        ("nobody agreed", APPROVALS, base(), two_of_release(), Needs, "approved by nobody: 0 of 2", "2 more of members of release: stagekeeper approve production --release abababababab"),
        ("one agreed", APPROVALS, approved(&["jane"]), two_of_release(), Needs, "approved by user:jane: 1 of 2", "1 more of"),
        ("one agreed twice", APPROVALS, approved(&["jane", "jane"]), two_of_release(), Needs, "approved by user:jane: 1 of 2", "1 more of"),
        ("two agreed", APPROVALS, approved(&["jane", "joe"]), two_of_release(), Pass, "approved by user:jane, user:joe", ""),
        ("who asked agreed", APPROVALS, Facts { requester: user("joe"), ..approved(&["jane", "joe"]) }, two_of_release(), Needs, "1 of 2, and the approval of user:joe, who asked for it, does not count", "other than user:joe"),
        ("one agreed long ago", APPROVALS, Facts { approvals: vec![approval("jane"), Approval { expires: Some(at(-1)), ..approval("joe") }], ..base() }, two_of_release(), Needs, "1 of 2, 1 expired", "1 more"),
        ("outside of the office", WINDOW, base(), window(Action::Allow, "0 13 * * *"), WaitUntil(at(60)), "no allow window is open", "deploys may begin at 2026-01-05T13:00:00Z"),
        ("in a freeze", WINDOW, base(), window(Action::Deny, "0 9 * * *"), WaitUntil(at(300)), "deny window office is open", "at 2026-01-05T17:00:00Z"),
        ("a freeze and a rollback", WINDOW, Facts { kind: Kind::Rollback, ..base() }, window(Action::Deny, "0 9 * * *"), Pass, "does not wait for a window", ""),
        ("its group waits", GROUP, waits(&["prod-us: 1 of 2 approvals"]), rules(), Needs, "waits for prod-us: 1 of 2 approvals", "when all of them are ready"),
        ("its group is ready", GROUP, waits(&[]), rules(), Pass, "every member of group", ""),
    ];
    for (name, gate, facts, rules, want, says, opens) in cases {
        let all = gates(&facts, &rules, at(0));
        let found = all.iter().find(|found| found.name == gate).unwrap();
        assert_eq!(found.verdict, want, "{name}: {found:?}");
        assert!(found.message.contains(says), "{name}: {}", found.message);
        assert!(found.opens.contains(opens), "{name}: {}", found.opens);
        let others = all.iter().filter(|other| other.name != gate).find(|other| !other.is_open());
        assert!(others.is_none_or(|_| [UPSTREAM, SOAK].contains(&gate)), "{name}: {others:?} is closed too");
    }
}

/// What somebody must do goes before what time brings, and of times the last one counts.
#[test]
fn what_is_farthest_from_open_is_what_a_deploy_waits_for() {
    let soaking = Upstream { serving_since: Some(at(-12)), ..staging() };
    let both = Facts { upstreams: vec![soaking], ..facts() };
    let later = verdict(&gates(&both, &window(Action::Allow, "0 13 * * *"), at(0)));
    let waiting = later.waiting.unwrap();
    assert_eq!((waiting.reason.as_str(), waiting.until, later.wake), ("WindowClosed", Some(at(60)), Some(at(18))));

    let asked = verdict(&gates(&both, &two_of_release(), at(0)));
    let waiting = asked.waiting.unwrap();
    assert_eq!((waiting.reason.as_str(), waiting.until, asked.wake), ("ApprovalNeeded", None, Some(at(18))));
    assert!(waiting.message.starts_with("approved by nobody: 0 of 2; 2 more of"), "{}", waiting.message);

    let open = verdict(&gates(&facts(), &rules(), at(0)));
    assert_eq!((open.verdict, open.waiting, open.wake), (Verdict::Pass, None, None));
}

#[test]
fn the_list_is_one_shape_in_json() {
    let closed = Facts { suspended: Some("stage production".into()), ..facts() };
    let text = serde_json::to_value(gates(&closed, &window(Action::Deny, "0 9 * * *"), at(0))).unwrap();
    let suspended = serde_json::json!({
        "name": "suspended", "verdict": "needs", "reason": "Suspended", "message": "stage production is suspended",
        "opens": "set spec.suspend to false to go on", "blocker": "stage production",
    });
    assert_eq!(text[0], suspended);
    assert_eq!((&text[6]["verdict"], &text[6]["until"]), (&"waitUntil".into(), &"2026-01-05T17:00:00Z".into()));
    assert_eq!((&text[1]["verdict"], text[1].get("until")), (&"pass".into(), None));
}
