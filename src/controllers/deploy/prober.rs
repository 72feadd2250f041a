//! Probing an instance in the background while its deploy is in health checking.
//!
//! Counts are per service and start anew with the process: a restart repeats probes, it never skips them.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::{ledger::Entry, plan::Planned, workloads};
use crate::{
    cluster::index::{StageChildren, StageKey},
    controllers::trigger::Triggers,
    domain::deploy::{Health, State},
    probe::{self, Expect, Verdict},
    render::snapshot::Probe as Asked,
};

/// One service to probe.
#[derive(Debug, Clone, PartialEq)]
struct Aim {
    service: String,
    asked: Ask,
    address: SocketAddr,
    interval: Duration,
    timeout: Duration,
    success_threshold: u32,
    failure_threshold: u32,
}

#[derive(Debug, Clone, PartialEq)]
enum Ask {
    Http { path: String, expect: Expect },
    Tcp,
}

/// Results of one service so far.
#[derive(Debug, Clone, Default)]
struct Tally {
    successes: u32,
    failures: u32,
    last_failure: Option<String>,
    /// Its address has taken a connection before. Nodes learn of a Service's new pods a moment after the pods are ready;
    /// until then, a refusal is not the instance's.
    reached: bool,
}

/// Probes of one deploy; dropping it ends them.
#[derive(Debug)]
pub struct Prober {
    deploy: Uuid,
    /// Its results decide; else they only explain.
    decides: bool,
    /// Services that declare health. As long as one has no address, nobody is healthy.
    services: usize,
    aims: Vec<Aim>,
    tallies: Arc<Mutex<Vec<Tally>>>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl Prober {
    /// Probes every service of the deploy that declares health: while it starts, a pod that is not ready, to learn why;
    /// then the instance's own Service. Goes on with `before` if that probes the same addresses already.
    pub fn aim(
        before: Option<Self>,
        entry: &Entry,
        planned: &Planned,
        children: &StageChildren,
        key: &StageKey,
        trigger: &Triggers,
    ) -> Self {
        let aims = aims(entry, planned, children);
        let decides = entry.deploy.state != State::Starting;
        match before {
            Some(same) if same.is_for(entry.deploy.id) && same.decides == decides && same.aims == aims => {
                return same;
            }
            _ => {}
        }
        let tallies = Arc::new(Mutex::new(vec![Tally::default(); aims.len()]));
        let tasks = aims.iter().cloned().enumerate().map(|(position, aim)| {
            let (tallies, trigger, key) = (tallies.clone(), trigger.clone(), key.clone());
            AbortOnDropHandle::new(tokio::spawn(async move {
                let mut ticks = tokio::time::interval(aim.interval);
                ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    let verdict = ask(&aim).await;
                    let worth_telling = {
                        let mut all = tallies.lock().unwrap_or_else(PoisonError::into_inner);
                        all.get_mut(position).is_some_and(|tally| count(tally, &aim, verdict))
                    };
                    if worth_telling {
                        trigger.stage(&key);
                    }
                }
            }))
        });
        Self {
            deploy: entry.deploy.id,
            decides,
            services: entry.snapshot.services.iter().filter(|service| service.health.is_some()).count(),
            _tasks: tasks.collect(),
            aims,
            tallies,
        }
    }

    /// Whether it probes this deploy.
    pub fn is_for(&self, deploy: Uuid) -> bool {
        self.deploy == deploy
    }

    /// The results, as one number each for all services: good once every service has reached its own threshold
    /// (`success` stands for that), bad once any has (`failure` stands for that).
    pub fn health(&self, success: u32, failure: u32) -> Health {
        let tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let health = summary(&self.aims, &tallies, success, failure);
        if self.decides && self.aims.len() == self.services {
            return health;
        }
        Health { successes: 0, failures: 0, ..health }
    }
}

fn summary(aims: &[Aim], tallies: &[Tally], success: u32, failure: u32) -> Health {
    let mut health = Health { successes: success, failures: 0, last_failure: None };
    for (aim, tally) in aims.iter().zip(tallies) {
        if tally.successes < aim.success_threshold {
            health.successes = health.successes.min(tally.successes).min(success.saturating_sub(1));
        }
        let failures = if tally.failures >= aim.failure_threshold {
            failure.max(tally.failures)
        } else {
            tally.failures.min(failure.saturating_sub(1))
        };
        if failures > health.failures || health.last_failure.is_none() {
            health.failures = health.failures.max(failures);
            if let Some(last) = &tally.last_failure {
                health.last_failure = Some(format!("service {}: {last}", aim.service));
            }
        }
    }
    health
}

/// Counts one answer. Returns whether the deploy may move because of it.
fn count(tally: &mut Tally, aim: &Aim, verdict: Verdict) -> bool {
    match verdict {
        Verdict::Good => {
            tally.reached = true;
            tally.failures = 0;
            tally.successes = tally.successes.saturating_add(1);
            tally.successes == aim.success_threshold
        }
        Verdict::Unreached { reason } if !tally.reached => {
            tally.last_failure = Some(reason);
            false
        }
        Verdict::Bad { reason } | Verdict::Unreached { reason } => {
            tally.reached = true;
            tally.successes = 0;
            tally.failures = tally.failures.saturating_add(1);
            tally.last_failure = Some(reason);
            tally.failures == 1 || tally.failures == aim.failure_threshold
        }
    }
}

async fn ask(aim: &Aim) -> Verdict {
    match &aim.asked {
        Ask::Http { path, expect } => probe::http(aim.address, path, expect, aim.timeout).await,
        Ask::Tcp => probe::tcp(aim.address, aim.timeout).await,
    }
}

fn aims(entry: &Entry, planned: &Planned, children: &StageChildren) -> Vec<Aim> {
    let threshold = |value: i32| u32::try_from(value).unwrap_or_default().max(1);
    let aim = |service: &crate::render::ServiceSpec| {
        let health = service.health.as_ref()?;
        let ip = if entry.deploy.state == State::Starting {
            workloads::unready(&planned.expected, &service.name, children).find_map(|pod| pod.ip)?
        } else {
            let object = planned.manifests.service(&service.name)?.service.as_ref()?;
            children.service(object.metadata.name.as_deref()?)?.cluster_ip?
        };
        let port = service.ports.iter().find(|port| port.name == health.port)?.port;
        let asked = match &health.probe {
            Asked::Http { path, expect } => Ask::Http { path: path.clone(), expect: expect.parse().ok()? },
            Asked::Tcp {} => Ask::Tcp,
        };
        Some(Aim {
            service: service.name.clone(),
            asked,
            address: SocketAddr::new(ip, u16::try_from(port).ok()?),
            interval: health.interval.as_std(),
            timeout: health.timeout.as_std(),
            success_threshold: threshold(health.success_threshold),
            failure_threshold: threshold(health.failure_threshold),
        })
    };
    entry.snapshot.services.iter().filter_map(aim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aim(service: &str, success: u32, failure: u32) -> Aim {
        Aim {
            service: service.into(),
            asked: Ask::Tcp,
            address: ([127, 0, 0, 1], 1).into(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            success_threshold: success,
            failure_threshold: failure,
        }
    }

    fn bad(reason: &str) -> Verdict {
        Verdict::Bad { reason: reason.into() }
    }

    #[test]
    fn an_instance_is_healthy_when_every_service_is_and_unhealthy_when_any_is() {
        let aims = [aim("web", 2, 3), aim("api", 1, 5)];
        let mut tallies = [Tally::default(), Tally::default()];
        let look = |tallies: &[Tally]| summary(&aims, tallies, 2, 5);
        count(&mut tallies[0], &aims[0], Verdict::Good);
        count(&mut tallies[0], &aims[0], Verdict::Good);
        assert!(look(&tallies).successes < 2, "api has not answered yet");
        count(&mut tallies[1], &aims[1], Verdict::Good);
        assert_eq!(look(&tallies).successes, 2);
        for _ in 0..3 {
            count(&mut tallies[0], &aims[0], bad("503"));
        }
        let health = look(&tallies);
        assert!(health.failures >= 5, "web's own threshold is reached");
        assert_eq!(health.last_failure.as_deref(), Some("service web: 503"));
        assert!(health.successes < 2);
    }

    #[test]
    fn refusals_count_only_after_somebody_was_reached() {
        let refused = || Verdict::Unreached { reason: "refused".into() };
        let aim = aim("web", 1, 2);
        let mut tally = Tally::default();
        for _ in 0..9 {
            assert!(!count(&mut tally, &aim, refused()));
        }
        assert_eq!((tally.failures, tally.last_failure.as_deref()), (0, Some("refused")));
        count(&mut tally, &aim, Verdict::Good);
        count(&mut tally, &aim, refused());
        count(&mut tally, &aim, refused());
        assert_eq!((tally.successes, tally.failures), (0, 2));
    }

    #[test]
    fn a_pass_is_asked_for_only_when_something_may_move() {
        let aim = aim("web", 2, 3);
        let mut tally = Tally::default();
        let told: Vec<bool> = [bad("a"), bad("a"), bad("a"), Verdict::Good, Verdict::Good, Verdict::Good]
            .into_iter()
            .map(|verdict| count(&mut tally, &aim, verdict))
            .collect();
        assert_eq!(told, [true, false, true, false, true, false]);
    }
}
