//! The laws of the condition list, and that generic tools read each outcome as it is meant.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::kstatus::{self, Progress};
use crate::api::status::MAX_TEXT;

/// A condition that nobody here made, without reason and message.
fn foreign(type_: &str, status: &str, second: i64) -> Condition {
    Condition {
        type_: type_.into(),
        status: status.into(),
        reason: String::new(),
        message: String::new(),
        observed_generation: None,
        last_transition_time: Time(at(second)),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Type, status and second of the last transition.
type Shown<'a> = (&'a str, &'a str, i64);

fn shown(list: &[Condition]) -> Vec<Shown<'_>> {
    list.iter().map(|c| (c.type_.as_str(), c.status.as_str(), c.last_transition_time.0.as_second())).collect()
}

fn progress(list: &[Condition], generation: i64) -> Progress {
    kstatus::compute(&json!({
        "metadata": {"generation": generation},
        "status": {"observedGeneration": generation, "conditions": list},
    }))
}

#[test]
fn a_deploy_that_fails_and_is_mended_moves_the_conditions() {
    let mut list = Vec::new();
    let steps: [(Outcome, &[Shown]); 6] = [
        (Outcome::reconciling("Pulling", "pulls web"), &[("Reconciling", "True", 10), ("Ready", "Unknown", 10)]),
        (Outcome::reconciling("Starting", "starts web"), &[("Reconciling", "True", 10), ("Ready", "Unknown", 10)]),
        (Outcome::stalled("HealthCheckFailed", "web answers 500"), &[("Stalled", "True", 12), ("Ready", "False", 12)]),
        (Outcome::reconciling("Pulling", "pulls web"), &[("Reconciling", "True", 13), ("Ready", "Unknown", 13)]),
        (Outcome::ready("Deployed", "runs 1.4.2"), &[("Ready", "True", 14)]),
        (Outcome::ready("Deployed", "runs 1.4.2"), &[("Ready", "True", 14)]),
    ];
    for (second, (outcome, wanted)) in (10..).zip(&steps) {
        list = conditions(&list, outcome, 1, at(second));
        assert_eq!(shown(&list), *wanted, "at {second}");
        let ready = get(&list, READY).unwrap();
        assert_eq!((ready.reason.as_str(), ready.message.as_str()), (outcome.reason(), outcome.message()));
    }
}

#[test]
fn conditions_of_other_types_stay_where_they_are() {
    let mut list = conditions(&[], &Outcome::ready("Deployed", ""), 1, at(1));
    set(&mut list, foreign("Held", "True", 2));
    set(&mut list, foreign("TagListShrank", "True", 3));
    set(&mut list, foreign("Held", "True", 4));
    set(&mut list, foreign("TagListShrank", "False", 5));
    let list = conditions(&list, &Outcome::stalled("NoSuchProject", ""), 1, at(6));
    assert_eq!(
        shown(&list),
        [("Stalled", "True", 6), ("Ready", "False", 6), ("Held", "True", 2), ("TagListShrank", "False", 5)]
    );
}

#[test]
fn long_messages_are_cut_and_fractions_of_seconds_dropped() {
    let outcome = Outcome::stalled("NoSuchTag", "x".repeat(MAX_TEXT * 2));
    let now = Timestamp::from_millisecond(5_999).unwrap();
    for condition in conditions(&[], &outcome, 3, now) {
        assert!(condition.message.len() <= MAX_TEXT);
        assert_eq!(condition.last_transition_time, Time(at(5)));
        let written = serde_json::to_string(&condition).unwrap();
        assert_eq!(serde_json::from_str::<Condition>(&written).unwrap(), condition, "survives the API server");
    }
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    let reason = prop::sample::select(vec!["Deployed", "Pulling", "Failed"]);
    (0..3, reason, "[a-z]{0,3}").prop_map(|(kind, reason, message)| match kind {
        0 => Outcome::ready(reason, message),
        1 => Outcome::reconciling(reason, message),
        _ => Outcome::stalled(reason, message),
    })
}

/// Any list that an older version or another program may have left, each type at most once.
fn any_list() -> impl Strategy<Value = Vec<Condition>> {
    let status = prop::sample::select(vec!["True", "False", "Unknown", "Maybe"]);
    let types = prop::sample::subsequence(vec!["Held", STALLED, READY, RECONCILING], 0..=4).prop_shuffle();
    (types, prop::collection::vec((status, 0..50_i64), 4)).prop_map(|(types, rest)| {
        types.into_iter().zip(rest).map(|(type_, (status, second))| foreign(type_, status, second)).collect()
    })
}

proptest! {
    #[test]
    fn whatever_was_there_the_outcome_is_read_as_meant(list in any_list(), outcome in any_outcome(), second in 50..99_i64) {
        let new = conditions(&list, &outcome, 7, at(second));
        let wanted = match outcome {
            Outcome::Ready { .. } => Progress::Current,
            Outcome::Reconciling { .. } => Progress::InProgress,
            Outcome::Stalled { .. } => Progress::Failed,
        };
        prop_assert_eq!(progress(&new, 7), wanted);
        prop_assert!(get(&new, RECONCILING).is_none() || get(&new, STALLED).is_none());
        for condition in &new {
            let before = get(&list, &condition.type_);
            let since = match before {
                Some(before) if before.status == condition.status => before.last_transition_time.0,
                _ => at(second),
            };
            prop_assert_eq!(condition.last_transition_time.0, since, "{}", condition.type_);
        }
    }

    #[test]
    fn the_same_outcome_again_changes_nothing(list in any_list(), outcome in any_outcome(), later in 51..99_i64) {
        let once = conditions(&list, &outcome, 7, at(50));
        prop_assert_eq!(conditions(&once, &outcome, 7, at(later)), once);
    }
}
