//! Whether a target needs a new deploy: what is wanted against what ran and what was tried.

use std::collections::BTreeSet;

use super::{
    deploy::{Deploy, State, table::NEVER_BEGAN},
    release::ReleaseId,
};

/// What a target should run, resolved to digests and rendered to a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The images.
    pub release: ReleaseId,
    /// Content hash of images and configuration together.
    pub snapshot: String,
    /// The explicit request behind it, as a token that is honoured once: a pin at a generation, a retry annotation.
    pub request: Option<String>,
}

/// What is known about a target's deploys.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The deploy with the highest sequence.
    pub latest: Option<&'a Deploy>,
    /// The explicit request behind the latest deploy.
    pub latest_request: Option<&'a str>,
    /// The last deploy that succeeded.
    pub good: Option<&'a Deploy>,
    /// Releases that failed here and are not tried again by themselves.
    pub vetoed: &'a BTreeSet<ReleaseId>,
}

/// Whether the images of `wanted` may run here without anybody asking for them: a vetoed release is held back as long as
/// there is a good one to keep. An explicit request overrides the veto.
pub fn is_held_back(release: &ReleaseId, requested: bool, known: Known<'_>) -> bool {
    !requested && known.vetoed.contains(release) && known.good.is_some_and(|good| good.release != *release)
}

/// Whether a new deploy is needed.
///
/// * An explicit request is honoured once, whatever happened before.
/// * While a deploy is open, another is made only for something else than it.
/// * What was tried and did not succeed is not tried again by itself; what never began was not tried.
/// * What serves already is not deployed again.
pub fn needs_deploy(wanted: &Wanted, known: Known<'_>) -> bool {
    let Some(latest) = known.latest else {
        return true;
    };
    let same_request = wanted.request.is_none() || known.latest_request == wanted.request.as_deref();
    if !latest.is_closed() && latest.state != State::Failed {
        return latest.snapshot != wanted.snapshot;
    }
    let serves = known.good.is_some_and(|good| good.snapshot == wanted.snapshot);
    let never_began = latest.reason.as_deref() == Some(NEVER_BEGAN);
    let tried = latest.snapshot == wanted.snapshot && latest.state != State::Success && !never_began;
    match (serves, tried) {
        (true, _) => false,
        (false, true) => !same_request,
        (false, false) => true,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::domain::actor::Actor;

    fn deploy(state: State, snapshot: &str, closed: bool) -> Deploy {
        let at = Timestamp::UNIX_EPOCH;
        Deploy {
            id: Uuid::nil(),
            target: Uuid::nil(),
            sequence: 1,
            release: ReleaseId(snapshot.split('/').next().unwrap().into()),
            snapshot: snapshot.into(),
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
            finished_at: closed.then_some(at),
        }
    }

    struct Case {
        name: &'static str,
        latest: Option<Deploy>,
        latest_request: Option<&'static str>,
        good: Option<Deploy>,
        wanted: &'static str,
        request: Option<&'static str>,
        want: bool,
    }

    #[test]
    fn a_deploy_is_made_exactly_when_something_else_is_wanted() {
        let good = || Some(deploy(State::Success, "r1/c1", true));
        let base = || Case {
            name: "",
            latest: good(),
            latest_request: None,
            good: good(),
            wanted: "r1/c1",
            request: None,
            want: false,
        };
        let failed = || Some(deploy(State::RolledBack, "r2/c1", true));
        let cases = [
            Case { name: "the first one", latest: None, good: None, want: true, ..base() },
            Case { name: "what serves", ..base() },
            Case { name: "a newer release", wanted: "r2/c1", want: true, ..base() },
            Case { name: "other configuration", wanted: "r1/c2", want: true, ..base() },
            Case { name: "what was rolled back", latest: failed(), wanted: "r2/c1", ..base() },
            Case { name: "what serves, after a rollback", latest: failed(), ..base() },
            Case {
                name: "what was rolled back, on request",
                latest: failed(),
                wanted: "r2/c1",
                request: Some("retry:a"),
                want: true,
                ..base()
            },
            Case {
                name: "the same request again",
                latest: failed(),
                latest_request: Some("retry:a"),
                wanted: "r2/c1",
                request: Some("retry:a"),
                ..base()
            },
            Case { name: "another release after a rollback", latest: failed(), wanted: "r3/c1", want: true, ..base() },
            Case {
                name: "the same while it is being deployed",
                latest: Some(deploy(State::Pulling, "r2/c1", false)),
                wanted: "r2/c1",
                ..base()
            },
            Case {
                name: "back to what serves, while another is being deployed",
                latest: Some(deploy(State::Pulling, "r2/c1", false)),
                want: true,
                ..base()
            },
            Case {
                name: "what just failed, while it is rolled back",
                latest: Some(deploy(State::Failed, "r2/c1", false)),
                wanted: "r2/c1",
                ..base()
            },
            Case {
                name: "what was aborted",
                latest: Some(deploy(State::Aborted, "r2/c1", true)),
                wanted: "r2/c1",
                ..base()
            },
            Case {
                name: "what was suspended for so long that it ended before it began",
                latest: Some(Deploy {
                    reason: Some("PendingDeadlineExceeded".into()),
                    ..deploy(State::Aborted, "r2/c1", true)
                }),
                wanted: "r2/c1",
                want: true,
                ..base()
            },
            Case {
                name: "a first deploy that failed, mended",
                latest: Some(deploy(State::Failed, "r1/c1", true)),
                good: None,
                wanted: "r1/c2",
                want: true,
                ..base()
            },
        ];
        let vetoed = BTreeSet::new();
        for case in cases {
            let known = Known {
                latest: case.latest.as_ref(),
                latest_request: case.latest_request,
                good: case.good.as_ref(),
                vetoed: &vetoed,
            };
            let wanted = Wanted {
                release: ReleaseId(case.wanted.split('/').next().unwrap().into()),
                snapshot: case.wanted.into(),
                request: case.request.map(Into::into),
            };
            assert_eq!(needs_deploy(&wanted, known), case.want, "{}", case.name);
        }
    }

    #[test]
    fn a_vetoed_release_is_held_back_only_while_there_is_a_good_one_and_nobody_asks() {
        let good = deploy(State::Success, "r1/c1", true);
        let bad = ReleaseId("r2".into());
        let vetoed = BTreeSet::from([bad.clone()]);
        let known = Known { latest: None, latest_request: None, good: Some(&good), vetoed: &vetoed };
        assert!(is_held_back(&bad, false, known));
        assert!(!is_held_back(&bad, true, known));
        assert!(!is_held_back(&bad, false, Known { good: None, ..known }));
        assert!(!is_held_back(&ReleaseId("r3".into()), false, known));
    }
}
