//! The transition table: every edge of the machine with its reason. [`super::next`] can take no other,
//! and the table in the documentation is written from it.

use super::State;

/// One edge of the machine.
#[derive(Debug, PartialEq, Eq)]
pub struct Edge {
    /// The state it leaves.
    pub from: &'static [State],
    /// The state it leads to.
    pub to: State,
    /// The `CamelCase` word stored with the transition.
    pub reason: &'static str,
    /// When it is taken, in one sentence.
    pub when: &'static str,
}

const ACTIVE: &[State] = &[State::Pulling, State::Starting, State::ConfiguringProxy, State::HealthChecking];

/// The reason of a deploy that ended before its gates opened: it was never tried.
pub const NEVER_BEGAN: &str = "PendingDeadlineExceeded";

macro_rules! edges {
    ($($name:ident: $from:expr => $to:ident, $reason:literal, $when:literal;)*) => {
        $(pub(super) const $name: Edge = Edge { from: $from, to: State::$to, reason: $reason, when: $when };)*
        /// Every edge, in the order of the documentation.
        pub const EDGES: &[&Edge] = &[$(&$name),*];
    };
}

edges! {
    STARTED: &[State::Pending] => Pulling, "Started", "every gate is open and no other deploy of the target is past pending";
    SUPERSEDED: &[State::Pending] => Superseded, "SupersededByNewer", "a newer deploy is pending and the queue policy is `latest`";
    PENDING_TOO_LONG: &[State::Pending] => Aborted, "PendingDeadlineExceeded", "the way did not open within 7 days";
    PULLED: &[State::Pulling] => Starting, "ImagesPulled", "`beforeStart` hooks succeeded and every applied pod has its images";
    PULL_TOO_LONG: &[State::Pulling] => Failed, "PullDeadlineExceeded", "`timeouts.pull` passed; the message names the pod or registry answer";
    READY: &[State::Starting] => ConfiguringProxy, "InstanceReady", "all replicas are ready and `beforeTraffic` hooks succeeded";
    START_TOO_LONG: &[State::Pulling, State::Starting] => Failed, "StartDeadlineExceeded", "`timeouts.start` passed for every wave of dependencies, or of the shared services that `beforeStart` hooks need";
    ROUTED: &[State::ConfiguringProxy] => HealthChecking, "RouteReady", "services and route are accepted by whatever serves them";
    PROXY_TOO_LONG: &[State::ConfiguringProxy] => Failed, "ProxyDeadlineExceeded", "`timeouts.proxy` passed";
    HEALTHY: &[State::HealthChecking] => Success, "TrafficSwitched", "enough good probes, `verify` hooks succeeded, and traffic was seen at the instance";
    UNHEALTHY: &[State::HealthChecking] => Failed, "HealthCheckFailed", "`failureThreshold` bad probes in a row; the message holds the last answer";
    HEALTH_TOO_LONG: &[State::HealthChecking] => Failed, "HealthDeadlineExceeded", "`timeouts.health` passed";
    HOOK_FAILED: &[State::Pulling, State::Starting, State::HealthChecking] => Failed, "HookFailed", "a hook of the state's phase failed or ran out of time";
    WORKLOAD_FAILED: ACTIVE => Failed, "WorkloadFailed", "a pod is in a state that waiting cannot mend, such as a crash loop";
    ABORTED: &[State::Pending, State::Pulling, State::Starting, State::ConfiguringProxy, State::HealthChecking] => Aborted, "Aborted", "somebody asked to stop it";
    OVERTAKEN: &[State::Pending, State::Pulling, State::Starting, State::ConfiguringProxy, State::HealthChecking] => Aborted, "Overtaken", "the cluster was found to serve a later deploy, whose row the database had lost";
    ROLLED_BACK: &[State::Failed] => RolledBack, "LastGoodServing", "the evidence is stored and the last good release serves again";
}

/// The table as Markdown, for `docs/deploy-states.md`.
pub fn markdown() -> String {
    let mut text = String::from("| from | to | reason | when |\n|---|---|---|---|\n");
    for edge in EDGES {
        let from: Vec<&str> = edge.from.iter().map(|state| state.word()).collect();
        let cells = [from.join(", "), edge.to.to_string(), format!("`{}`", edge.reason), edge.when.into()];
        text.push_str("| ");
        text.push_str(&cells.join(" | "));
        text.push_str(" |\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_and_successors_are_the_same_relation() {
        for from in State::ALL {
            for to in State::ALL {
                let in_table = EDGES.iter().any(|edge| edge.from.contains(&from) && edge.to == to);
                assert_eq!(in_table, from.may_become(to), "{from} → {to}");
            }
        }
    }

    #[test]
    fn what_never_began_has_its_reason_in_the_table() {
        assert_eq!(PENDING_TOO_LONG.reason, NEVER_BEGAN);
    }

    #[test]
    fn terminal_states_have_no_edge() {
        for edge in EDGES {
            assert!(edge.from.iter().all(|state| !state.is_terminal()), "{}", edge.reason);
        }
    }
}
