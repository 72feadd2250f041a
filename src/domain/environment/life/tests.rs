//! When environments sleep, wake and end.

use proptest::prelude::*;

use super::*;
use crate::domain::promotion::{Action, WindowSpec};

const HOUR: Duration = Duration::from_hours(1);

fn at(hours: i64) -> Timestamp {
    // A Sunday, midnight in UTC.
    let start: Timestamp = "2026-11-22T00:00:00Z".parse().expect("an instant");
    start + jiff::SignedDuration::from_hours(hours)
}

fn newborn() -> Life<'static> {
    Life {
        born: at(0),
        ttl: 72 * HOUR,
        extended: None,
        pinned: false,
        used: at(0),
        wake_asked: None,
        sleep_asked: None,
        idle_after: Some(HOUR),
        delete_after_idle: None,
        sleep: &[],
    }
}

fn night() -> Window {
    Window::parse(&WindowSpec {
        name: None,
        action: Action::Deny,
        schedule: Some("0 20 * * *".into()),
        recurrence: None,
        time_zone: "UTC".into(),
        duration: 10 * HOUR,
    })
    .expect("a window")
}

fn lives(life: &Life<'_>, now: Timestamp) -> (Span, Option<Timestamp>) {
    match standing(life, now) {
        Standing::Lives { span, wake, .. } => (span, wake),
        over @ Standing::Over(_) => panic!("{over:?}"),
    }
}

#[test]
fn it_sleeps_when_nobody_looks_and_wakes_when_somebody_does() {
    let mut life = newborn();
    assert_eq!(lives(&life, at(0)), (Span::Awake, Some(at(1))));
    assert_eq!(lives(&life, at(1)), (Span::Idle, Some(at(72))));
    life.wake_asked = Some(at(5));
    assert_eq!(lives(&life, at(5)), (Span::Awake, Some(at(6))));
    life.used = at(6);
    assert_eq!(lives(&life, at(6)).0, Span::Awake);
    assert_eq!(lives(&life, at(7)).0, Span::Idle);
}

#[test]
fn what_somebody_put_to_sleep_wakes_when_it_is_used_after_that() {
    let mut life = Life { sleep_asked: Some(at(0)), ..newborn() };
    assert_eq!(lives(&life, at(0)).0, Span::Asked);
    life.used = at(2);
    assert_eq!(lives(&life, at(2)).0, Span::Awake);
}

#[test]
fn at_night_it_sleeps_until_morning_unless_somebody_works_late() {
    let nights = [night()];
    let mut life = Life { sleep: &nights, idle_after: None, used: at(19), ..newborn() };
    assert_eq!(lives(&life, at(19)), (Span::Awake, Some(at(20))));
    assert_eq!(lives(&life, at(20)), (Span::Scheduled, Some(at(30))));
    life.wake_asked = Some(at(23));
    assert_eq!(lives(&life, at(23)).0, Span::Awake);
    assert_eq!(lives(&life, at(24)), (Span::Scheduled, Some(at(30))));
    assert_eq!(lives(&life, at(30)).0, Span::Awake, "a morning needs no visitor");
}

#[test]
fn it_ends_at_the_first_of_its_ends() {
    struct Case {
        name: &'static str,
        life: Life<'static>,
        ends: Option<(i64, Ending)>,
    }
    let cases = [
        Case { name: "ttl", life: newborn(), ends: Some((72, Ending::Ttl)) },
        Case { name: "extended", life: Life { extended: Some(at(100)), ..newborn() }, ends: Some((100, Ending::Ttl)) },
        Case {
            name: "an extension does not shorten",
            life: Life { extended: Some(at(10)), ..newborn() },
            ends: Some((72, Ending::Ttl)),
        },
        Case { name: "pinned", life: Life { pinned: true, delete_after_idle: Some(HOUR), ..newborn() }, ends: None },
        Case {
            name: "idle",
            life: Life { delete_after_idle: Some(24 * HOUR), used: at(3), ..newborn() },
            ends: Some((27, Ending::Idle)),
        },
        Case {
            name: "an extension is for both",
            life: Life { delete_after_idle: Some(24 * HOUR), extended: Some(at(80)), ..newborn() },
            ends: Some((80, Ending::Ttl)),
        },
    ];
    for Case { name, life, ends } in cases {
        let Standing::Lives { ends: told, .. } = standing(&life, at(0)) else {
            panic!("{name}: it has just been born");
        };
        assert_eq!(told, ends.map(|(hours, why)| (at(hours), why)), "{name}");
        if let Some((hours, why)) = ends {
            assert_eq!(standing(&life, at(hours)), Standing::Over(why), "{name}");
            let before = at(hours) - jiff::SignedDuration::from_secs(1);
            assert!(matches!(standing(&life, before), Standing::Lives { .. }), "{name}");
        }
    }
}

fn some_life(nights: &[Window]) -> impl Strategy<Value = Life<'_>> {
    let hours = || proptest::option::of(0_i64..200);
    let spans = || proptest::option::of(1_u32..50);
    (1_u32..200, hours(), any::<bool>(), 0_i64..200, hours(), hours(), spans(), spans(), any::<bool>()).prop_map(
        move |(ttl, extended, pinned, used, wake, sleep, idle, gone, scheduled)| Life {
            ttl: ttl * HOUR,
            extended: extended.map(at),
            pinned,
            used: at(used),
            wake_asked: wake.map(at),
            sleep_asked: sleep.map(at),
            idle_after: idle.map(|hours| hours * HOUR),
            delete_after_idle: gone.map(|hours| hours * HOUR),
            sleep: if scheduled { nights } else { &[] },
            ..newborn()
        },
    )
}

proptest! {
    #[test]
    fn nothing_changes_before_it_is_said_to(minutes in 0_i64..20_000, within in 0_i64..1000, life in some_life(Box::leak(Box::new([night()])))) {
        let now = at(0) + jiff::SignedDuration::from_mins(minutes);
        if let Standing::Lives { span, ends, wake } = standing(&life, now) {
            let wake = wake.unwrap_or(now + jiff::SignedDuration::from_hours(1000));
            prop_assert!(wake > now, "a wake-up that has passed would spin");
            let seconds = (wake.as_second() - now.as_second()) * within / 1000;
            let meanwhile = now + jiff::SignedDuration::from_secs(seconds.max(0));
            if meanwhile < wake {
                match standing(&life, meanwhile) {
                    Standing::Lives { span: then, ends: later, .. } => {
                        prop_assert_eq!(span, then);
                        prop_assert_eq!(ends, later);
                    }
                    over @ Standing::Over(_) => prop_assert!(false, "{:?} at {}", over, meanwhile),
                }
            }
        }
    }

    #[test]
    fn who_is_pinned_does_not_end(minutes in 0_i64..1_000_000, life in some_life(Box::leak(Box::new([night()])))) {
        let life = Life { pinned: true, ..life };
        let lives = matches!(standing(&life, at(0) + jiff::SignedDuration::from_mins(minutes)), Standing::Lives { ends: None, .. });
        prop_assert!(lives);
    }

    #[test]
    fn use_never_brings_the_end_nearer(hours in 0_i64..300, life in some_life(Box::leak(Box::new([night()])))) {
        let more = Life { used: life.used + jiff::SignedDuration::from_hours(hours), ..life.clone() };
        let end = |life: &Life<'_>| match standing(life, at(0)) {
            Standing::Lives { ends, .. } => ends.map(|(at, _)| at),
            Standing::Over(_) => None,
        };
        prop_assert!(end(&more) >= end(&life));
    }
}
