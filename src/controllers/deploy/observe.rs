//! Observation: the ledger and the cluster's children become what the machine decides from. Reads memory only.

use std::sync::Arc;

use super::{
    Target,
    ledger::{Entry, HookRun, Ledger},
    plan::{Planned, plan},
    routes,
    workloads::{self, Expected, Standing},
};
use crate::{
    cluster::index::StageChildren,
    controllers::error::Error,
    domain::deploy::{Deploy, Health, Hooks, LastGood, Observation, Phase, Queue, Route, Shared, State},
    render::{self, Scope, Snapshot, names},
};

/// The instance of `entry`, rendered with the addresses that are known. While nothing about it changes it is not rendered
/// again, until [`Ledger::rest`].
pub fn planned(entry: &mut Entry, target: &Target<'_>, children: &StageChildren) -> Result<Arc<Planned>, Error> {
    let ctx = entry.context(target, children);
    if let Some((known, planned)) = entry.planned.as_deref()
        && planned.same_with(&ctx, known)
    {
        return Ok(planned.clone());
    }
    let planned = plan(&entry.snapshot, &entry.deploy.snapshot, &entry.deploy.instance, &ctx).map_err(|problems| {
        Error::Snapshot { snapshot: entry.deploy.snapshot.clone(), message: problems.to_string() }
    })?;
    let planned = Arc::new(planned);
    entry.planned = Some(Box::new((ctx, planned.clone())));
    Ok(planned)
}

/// What surrounds one observed deploy.
pub struct Scene<'a> {
    /// The deploy.
    pub entry: &'a Entry,
    /// Its instance as it should be.
    pub planned: &'a Planned,
    /// The last good deploy's instance as it should be; only looked at when something failed.
    pub good: Option<&'a Planned>,
    /// All deploys of the target.
    pub ledger: &'a Ledger,
    /// What exists in the cluster.
    pub children: &'a StageChildren,
    /// Whose turn it is.
    pub queue: Queue,
    /// Whose deploy it is.
    pub target: &'a Target<'a>,
    /// What the probes said.
    pub health: Health,
}

/// Gathers the observation.
pub fn observe(scene: &Scene<'_>) -> Observation {
    let Scene { entry, children, .. } = scene;
    let deploy = &entry.deploy;
    let hooks = |phase| hooks(entry, phase);
    Observation {
        queue: scene.queue.clone(),
        before_start: hooks(Phase::BeforeStart),
        before_traffic: hooks(Phase::BeforeTraffic),
        verify: hooks(Phase::Verify),
        shared: shared(scene),
        workloads: workloads::workloads(&deploy.snapshot, &scene.planned.expected, children),
        refused: entry.refused.clone(),
        route: route(scene),
        health: scene.health.clone(),
        traffic_here: traffic_points_at(&entry.snapshot, &deploy.instance, children),
        evidence_collected: deploy.evidence_at.is_some(),
        last_good: last_good(scene, deploy),
    }
}

fn last_good(scene: &Scene<'_>, deploy: &Deploy) -> Option<LastGood> {
    let good = scene.ledger.good.as_ref()?;
    let serving = deploy.state == State::Failed
        && scene.good.is_some_and(|planned| {
            planned.expected.iter().all(|one| workloads::standing(one, scene.children) == Standing::Ready)
        })
        && traffic_points_at(&good.snapshot, &good.deploy.instance, scene.children);
    Some(LastGood { deploy: good.deploy.id, summary: good.release().summary(), serving })
}

/// What the first hooks wait for. What has begun goes on whatever becomes of the services.
fn shared(scene: &Scene<'_>) -> Shared {
    let begun = scene.entry.hooks.keys().any(|(phase, _)| *phase == Phase::BeforeStart);
    if begun || scene.entry.deploy.state != State::Pulling {
        return Shared::Ready;
    }
    let expected: Vec<Expected> = scene.planned.expected.iter().filter(|one| one.shared).cloned().collect();
    let seen = workloads::workloads(&scene.entry.deploy.snapshot, &expected, scene.children);
    match seen.ready {
        true => Shared::Ready,
        false if seen.progress.is_empty() => {
            Shared::Starting { progress: "being applied".into(), problem: seen.problem }
        }
        false => Shared::Starting { progress: seen.progress, problem: seen.problem },
    }
}

/// How far the hooks of a phase are, by what is stored about them.
pub fn hooks(entry: &Entry, phase: Phase) -> Hooks {
    for hook in entry.snapshot.hooks.of(phase) {
        match entry.hooks.get(&(phase, hook.name.clone())) {
            Some(HookRun::Succeeded) => {}
            Some(HookRun::Failed(message)) => {
                return Hooks::Failed(format!("hook {}: {message}", hook.name));
            }
            Some(HookRun::Running) => return Hooks::Outstanding(format!("{} runs", hook.name)),
            None => return Hooks::Outstanding(format!("{} is to run", hook.name)),
        }
    }
    Hooks::Done
}

/// Services of an instance that the target's stable Services lead to.
pub fn routed(snapshot: &Snapshot) -> impl Iterator<Item = &render::ServiceSpec> {
    snapshot.services.iter().filter(|service| service.scope == Scope::Instance && !service.ports.is_empty())
}

/// Whether every stable Service was seen to select the instance. True when there is nothing to route.
pub fn traffic_points_at(snapshot: &Snapshot, instance: &str, children: &StageChildren) -> bool {
    routed(snapshot).all(|service| {
        let name = names::stage_service(&snapshot.identity.stage, &service.name);
        children.service(&name).is_some_and(|view| view.selects.as_deref() == Some(instance))
    })
}

/// Whether the objects of the route exist and are accepted.
fn route(scene: &Scene<'_>) -> Route {
    let at = scene.entry.context(scene.target, scene.children);
    for one in routes::wanted(scene.target, &scene.entry.snapshot, &[&scene.entry.deploy.instance], &at) {
        match one.view(scene.children) {
            None => return Route::Waiting(format!("{one} is being made")),
            Some(_) if !one.holds(scene.children) => {
                return Route::Waiting(format!("{one} is being changed"));
            }
            Some(view) if view.accepted => {}
            Some(view) => {
                let why = view.problem.as_ref().map(|because| format!(": {}", because.message)).unwrap_or_default();
                return Route::Waiting(format!("{one} is not accepted yet{why}; does a controller serve its class?"));
            }
        }
    }
    Route::Ready
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controllers::fixture::{Cluster, SHOP, entry, snapshot, target};

    #[test]
    fn it_is_rendered_again_when_an_address_becomes_known_and_forgotten_at_rest() {
        let mut cluster = Cluster::default();
        let mut one = entry(snapshot(SHOP, 0), 1, State::Starting);
        let mut planned = |cluster: &Cluster| planned(&mut one, &target(), &cluster.children()).expect("rendered");
        let first = planned(&cluster);
        assert!(!first.missing.is_empty(), "no Service is there yet");
        assert!(Arc::ptr_eq(&first, &planned(&cluster)), "nothing has changed");
        for service in first.manifests.services().filter_map(|service| service.service.as_ref()) {
            cluster.apply(service);
        }
        let second = planned(&cluster);
        assert!(second.missing.is_empty(), "{:?}", second.missing);
        assert!(Arc::ptr_eq(&second, &planned(&cluster)));

        let good = entry(snapshot(SHOP, 0), 1, State::Success);
        let mut ledger = Ledger { good: Some(good), open: vec![one], ..Ledger::default() };
        let good = ledger.good.as_mut().expect("there is one");
        super::planned(good, &target(), &cluster.children()).expect("rendered");
        ledger.rest();
        assert!(ledger.good.as_ref().is_some_and(|good| good.planned.is_some()), "a deploy is under way");
        ledger.open.clear();
        ledger.rest();
        assert!(ledger.good.is_some_and(|good| good.planned.is_none()));
    }
}
