//! Whose turn it is among a target's open deploys.

use super::{Deploy, Queue, QueuePolicy, State, Waiting};
use crate::domain::actor::Actor;

/// Whether `deploy`, which is pending, may begin beside the target's other `open` deploys (any order, itself included).
/// `suspended` names what is suspended, if anything is.
/// `held` is what a deploy waits for that no person asked for. A rollback goes before whatever waits, also in a `fifo` queue.
pub fn queue(
    deploy: &Deploy,
    open: &[Deploy],
    policy: QueuePolicy,
    suspended: Option<&str>,
    held: Option<&Waiting>,
) -> Queue {
    let pending = || open.iter().filter(|other| other.state == State::Pending);
    let takes_its_place = |other: &&Deploy| policy == QueuePolicy::Latest || other.rollback_of.is_some();
    if let Some(newest) = pending().filter(takes_its_place).max_by_key(|other| other.sequence)
        && newest.sequence > deploy.sequence
    {
        return Queue::SupersededBy(newest.id);
    }
    if let Some(what) = suspended {
        return wait("Suspended", format!("{what} is suspended; set spec.suspend to false to go on"), what.to_owned());
    }
    if let Some(held) = held.filter(|_| deploy.actor == Actor::Policy && deploy.rollback_of.is_none()) {
        return Queue::Wait(held.clone());
    }
    let running =
        open.iter().find(|other| other.id != deploy.id && other.state != State::Pending && !other.is_closed());
    if let Some(other) = running {
        let (reason, what) = match other.state {
            State::Failed => ("RollingBack", "is being rolled back"),
            _ => ("EarlierDeploy", "is running"),
        };
        let message = format!("deploy {} {what} ({})", other.id, other.state);
        return wait(reason, message, other.id.to_string());
    }
    match pending().filter(|other| other.sequence < deploy.sequence).min_by_key(|other| other.sequence) {
        Some(first) => wait("Queued", format!("deploy {} is before it", first.id), first.id.to_string()),
        None => Queue::Clear,
    }
}

fn wait(reason: &str, message: String, blocker: String) -> Queue {
    Queue::Wait(Waiting { reason: reason.into(), message, blocker: Some(blocker), until: None })
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::domain::release::ReleaseId;

    fn deploy(sequence: i64, state: State) -> Deploy {
        let at = Timestamp::UNIX_EPOCH;
        Deploy {
            id: Uuid::from_u128(sequence.unsigned_abs().into()),
            target: Uuid::nil(),
            sequence,
            release: ReleaseId("r".into()),
            snapshot: "s".into(),
            instance: "i".into(),
            state,
            since: at,
            version: 1,
            actor: Actor::Policy,
            cause: String::new(),
            reason: None,
            message: None,
            rollback_of: None,
            evidence_at: None,
            created_at: at,
            finished_at: None,
        }
    }

    fn reason(queue: &Queue) -> &str {
        match queue {
            Queue::Clear => "clear",
            Queue::SupersededBy(_) => "superseded",
            Queue::Wait(waiting) => &waiting.reason,
        }
    }

    #[test]
    fn a_hold_keeps_policies_away_and_nobody_else() {
        let held = Waiting { reason: "Held".into(), message: "held".into(), blocker: None, until: None };
        let by = |actor: Actor, rollback_of: Option<Uuid>| Deploy { actor, rollback_of, ..deploy(1, State::Pending) };
        let cases = [
            (by(Actor::Policy, None), "Held"),
            (by(Actor::Policy, Some(Uuid::nil())), "clear"),
            (by(Actor::User("jane".into()), None), "clear"),
        ];
        for (deploy, want) in cases {
            let open = [deploy.clone()];
            assert_eq!(
                reason(&queue(&deploy, &open, QueuePolicy::Fifo, None, Some(&held))),
                want,
                "{:?}",
                deploy.actor
            );
        }
    }

    #[test]
    fn a_rollback_waits_behind_nobody_who_waits() {
        let first = deploy(1, State::Pending);
        let back = Deploy { rollback_of: Some(Uuid::nil()), ..deploy(2, State::Pending) };
        let open = [first.clone(), back.clone()];
        assert_eq!(queue(&first, &open, QueuePolicy::Fifo, None, None), Queue::SupersededBy(back.id));
    }

    #[test]
    fn turns_are_given_one_at_a_time() {
        use QueuePolicy::{Fifo, Latest};
        use State::{Failed, Pending, Pulling};
        let cases: [(&str, &[(i64, State)], i64, QueuePolicy, Option<&str>, &str); 9] = [
            ("alone", &[(1, Pending)], 1, Latest, None, "clear"),
            ("suspended", &[(1, Pending)], 1, Latest, Some("stage dev"), "Suspended"),
            ("a newer one waits", &[(1, Pending), (2, Pending)], 1, Latest, None, "superseded"),
            (
                "a newer one waits, even suspended",
                &[(1, Pending), (2, Pending)],
                1,
                Latest,
                Some("stage dev"),
                "superseded",
            ),
            ("the newest", &[(1, Pending), (2, Pending)], 2, Fifo, None, "Queued"),
            ("the oldest in turn", &[(1, Pending), (2, Pending)], 1, Fifo, None, "clear"),
            ("one runs", &[(1, Pulling), (2, Pending)], 2, Latest, None, "EarlierDeploy"),
            ("one is rolled back", &[(1, Failed), (2, Pending)], 2, Latest, None, "RollingBack"),
            ("one runs, fifo", &[(1, Pulling), (2, Pending), (3, Pending)], 3, Fifo, None, "EarlierDeploy"),
        ];
        for (name, open, which, policy, suspended, want) in cases {
            let open: Vec<Deploy> = open.iter().map(|(sequence, state)| deploy(*sequence, *state)).collect();
            let this = open.iter().find(|deploy| deploy.sequence == which).unwrap();
            assert_eq!(reason(&queue(this, &open, policy, suspended, None)), want, "{name}");
        }
    }
}
