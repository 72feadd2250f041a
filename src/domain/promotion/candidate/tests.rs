//! What is chosen and what is said of it, case by case.

use std::time::Duration;

use jiff::SignedDuration;

use super::*;
use crate::domain::actor::Actor;

fn at(minutes: i64) -> Timestamp {
    "2026-01-05T12:00:00Z".parse::<Timestamp>().unwrap() + SignedDuration::from_mins(minutes)
}

fn release(number: u8) -> ReleaseId {
    ReleaseId(format!("{number:02x}").repeat(32))
}

fn mark(number: u8, first: i64) -> Mark {
    Mark { release: release(number), summary: format!("web 1.{number}.0"), at: at(first) }
}

/// Release 1.`number`.0, which came to staging at `first` and serves there until `ended`, if it does not still.
fn on_staging(number: u8, first: i64, ended: Option<i64>) -> Candidate {
    let served = ended.map_or(Duration::ZERO, |ended| Duration::from_mins((ended - first).unsigned_abs()));
    let serving_since = ended.is_none().then(|| at(first));
    let upstream = Upstream { first: Some(at(first)), served, serving_since, ..Upstream::never("staging") };
    Candidate { release: release(number), summary: format!("web 1.{number}.0"), upstreams: vec![upstream], veto: None }
}

fn vetoed(candidate: Candidate) -> Candidate {
    Candidate { veto: Some("web answers 500".into()), ..candidate }
}

fn hold(from: Option<Mark>) -> Hold {
    Hold {
        owner: "jane".into(),
        actor: Actor::User("jane".into()),
        reason: "orders are lost".into(),
        since: at(-5),
        until: None,
        from,
    }
}

#[test]
fn the_newest_that_is_ready_comes() {
    struct Case {
        name: &'static str,
        candidates: Vec<Candidate>,
        current: Option<Mark>,
        holds: Vec<Hold>,
        /// The release that is taken, the one that comes, and in how many minutes.
        want: (Option<u8>, Option<(u8, i64)>),
        says: &'static str,
    }
    let old = || on_staging(1, -300, Some(-100));
    let soaking = || on_staging(2, -10, None);
    #[rustfmt::skip]
    let cases = [
        Case { name: "nothing was ever there", candidates: vec![], current: None, holds: vec![], want: (None, None), says: "no release has succeeded on staging" },
        Case { name: "the first", candidates: vec![old()], current: None, holds: vec![], want: (Some(1), None), says: "web 1.1.0 is the newest that staging let through" },
        Case { name: "the first soaks", candidates: vec![soaking()], current: None, holds: vec![], want: (None, Some((2, 20))), says: "nothing runs; web 1.2.0 is ready at 2026-01-05T12:20:00Z" },
        Case { name: "it runs", candidates: vec![old()], current: Some(mark(1, -90)), holds: vec![], want: (None, None), says: "web 1.1.0 runs, and nothing newer has succeeded on staging" },
        Case { name: "it runs, another soaks", candidates: vec![old(), soaking()], current: Some(mark(1, -90)), holds: vec![], want: (None, Some((2, 20))), says: "web 1.1.0 runs; web 1.2.0 is ready at" },
        Case { name: "one is ready, another soaks", candidates: vec![soaking(), old()], current: None, holds: vec![], want: (Some(1), Some((2, 20))), says: "let through; web 1.2.0 is ready at" },
        Case { name: "the newer of two", candidates: vec![old(), on_staging(3, -100, Some(-10)), soaking()], current: None, holds: vec![], want: (Some(3), Some((2, 20))), says: "web 1.3.0 is the newest" },
        Case { name: "never below what runs", candidates: vec![old()], current: Some(mark(9, -50)), holds: vec![], want: (None, None), says: "web 1.9.0 runs, and nothing newer" },
        Case { name: "replaced too early", candidates: vec![on_staging(3, -100, Some(-90))], current: Some(mark(1, -300)), holds: vec![], want: (None, None), says: "web 1.3.0 does not come: it served 10m of 30m on staging until it was replaced there" },
        Case { name: "vetoed here", candidates: vec![old(), vetoed(on_staging(3, -100, None))], current: None, holds: vec![], want: (Some(1), None), says: "web 1.3.0 does not come: vetoed here: web answers 500" },
        Case { name: "held", candidates: vec![old()], current: None, holds: vec![hold(None)], want: (None, None), says: "held by jane since 2026-01-05T11:55:00Z: orders are lost" },
        Case { name: "held after what is there", candidates: vec![old()], current: None, holds: vec![hold(Some(mark(1, -300)))], want: (None, None), says: "only a release newer than web 1.1.0 ends it" },
        Case { name: "newer than what was left", candidates: vec![old(), on_staging(3, -100, None)], current: Some(mark(0, -900)), holds: vec![hold(Some(mark(1, -300)))], want: (Some(3), None), says: "it ends the hold of jane" },
    ];
    let rules = Rules { from: vec!["staging".into()], soak: Duration::from_mins(30), ..Rules::default() };
    for Case { name, candidates, current, holds, want: (take, coming), says } in cases {
        let choice = newest(&candidates, &rules, current.as_ref(), &holds, at(0));
        assert_eq!(choice.take.as_ref().map(|take| &take.release), take.map(release).as_ref(), "{name}: {choice:?}");
        let comes = choice.coming.as_ref().map(|coming| (coming.release.clone(), coming.ready_at));
        assert_eq!(comes, coming.map(|(number, minutes)| (release(number), at(minutes))), "{name}: {choice:?}");
        assert_eq!(choice.wake, coming.map(|(_, minutes)| at(minutes)), "{name}");
        assert!(choice.reason.contains(says), "{name}: {}", choice.reason);
    }
}

#[test]
fn what_failed_here_is_told_as_long_as_nothing_else_comes() {
    let rules = Rules { from: vec!["staging".into()], soak: Duration::from_mins(30), ..Rules::default() };
    let kept_away = |candidates: &[Candidate], current: &Mark, hold: &[Hold]| {
        newest(candidates, &rules, Some(current), hold, at(0)).vetoed.map(|vetoed| (vetoed.summary, vetoed.why))
    };
    let failed = vetoed(on_staging(3, -100, None));
    let told = Some(("web 1.3.0".to_owned(), "web answers 500".to_owned()));
    assert_eq!(kept_away(std::slice::from_ref(&failed), &mark(1, -300), &[]), told);
    assert_eq!(kept_away(&[failed.clone(), on_staging(4, -90, None)], &mark(1, -300), &[]), None, "a newer one comes");
    assert_eq!(kept_away(&[failed.clone(), on_staging(4, -10, None)], &mark(1, -300), &[]), None, "or soaks");
    assert_eq!(kept_away(std::slice::from_ref(&failed), &mark(4, -50), &[]), None, "what runs is newer");
    assert_eq!(kept_away(&[failed], &mark(1, -300), &[hold(None)]), None, "a hold says it all");
    let replaced = vetoed(on_staging(3, -20, Some(-10)));
    assert_eq!(kept_away(&[replaced], &mark(1, -300), &[]), None, "it would not come anyway");
}

#[test]
fn a_release_needs_all_or_any_of_the_stages() {
    let mut half = on_staging(1, -300, None);
    half.upstreams.push(Upstream::never("qa"));
    let rules = |require| Rules { from: vec!["staging".into(), "qa".into()], require, ..Rules::default() };
    let choose = |require| newest(std::slice::from_ref(&half), &rules(require), None, &[], at(0));
    assert_eq!(choose(Require::Any).take.unwrap().summary, "web 1.1.0");
    let all = choose(Require::All);
    assert_eq!((all.take, all.reason.as_str()), (None, "no release has succeeded on staging and qa"));
}
