//! What a stage's status tells, and when it is written.

use super::*;
use crate::{
    api::conditions::Outcome,
    controllers::fixture::{SHOP, at, entry, snapshot},
};

fn told(ledger: &Ledger) -> StageStatus {
    let outcome = Outcome::ready("Serving", "it serves");
    let facts = Facts {
        ledger,
        generation: 1,
        outcome: &outcome,
        waiting: None,
        instances: &[],
        url: None,
        handled_retry: None,
        held: None,
        gates: &[],
        request: None,
    };
    status(&StageStatus::default(), &facts, at(100))
}

#[test]
fn the_images_are_those_that_have_the_traffic() {
    let mut ledger = Ledger { open: vec![entry(snapshot(SHOP, 1), 1, State::Starting)], ..Ledger::default() };
    assert_eq!(told(&ledger).images, None, "nothing has the traffic yet");
    ledger.good = Some(entry(snapshot(SHOP, 0), 1, State::Success));
    let told = told(&ledger);
    assert_eq!(told.images.as_deref(), Some("db:1.0.0, web:1.0.0"));
    assert_eq!(told.release, ledger.good.map(|good| good.deploy.release.to_string()));
}

#[test]
fn passing_states_of_a_running_deploy_share_a_write_and_ends_are_told_at_once() {
    let status = |state| {
        let deploy = entry(snapshot(SHOP, 1), 1, state);
        let ledger = Ledger { open: vec![deploy], ..Ledger::default() };
        told(&ledger)
    };
    let (starting, probing) = (status(State::Starting), status(State::HealthChecking));
    assert_eq!(due(&starting, &starting, at(0), 0, false), None);
    assert_eq!(due(&starting, &probing, at(0), 0, true), Some(at(1)));
    assert_eq!(due(&starting, &probing, at(0), 1000, true), Some(at(21)), "many at once tell less");
    assert_eq!(due(&probing, &status(State::Failed), at(0), 1000, false), Some(at(0)), "an end is told at once");
    let nothing = StageStatus::default();
    assert_eq!(due(&nothing, &starting, at(0), 1000, false), Some(at(21)));
    assert_eq!(due(&nothing, &starting, at(0), 1000, true), Some(at(0)), "who asked hears of the deploy at once");
}
