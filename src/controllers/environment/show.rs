//! An environment's status: that of the stage that it runs as, and where it is in its life. Pure.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::{
    api::{Cost, EnvironmentStatus, HostStatus, Prices, StageStatus, conditions},
    domain::{
        deploy::State,
        environment::{
            Ending, Seat, Span,
            cost::{self, Asked},
        },
    },
    render::Snapshot,
    store::Environment as Life,
};

/// What surrounds the status of the stage that it runs as.
#[derive(Debug, Clone)]
pub struct Surroundings<'a> {
    /// Its life.
    pub life: &'a Life,
    /// Services and their hosts, the plain one first.
    pub hosts: &'a [(String, String)],
    /// Where it is reached, if it has a host.
    pub url: Option<String>,
    /// Awake, or why not.
    pub span: Span,
    /// Its pods run, or are to.
    pub awake: bool,
    /// Its place among those that want to run.
    pub seat: Seat,
    /// When it ends by itself, and why.
    pub ends: Option<(Timestamp, Ending)>,
    /// What resources cost.
    pub prices: Option<&'a Prices>,
    /// What it runs.
    pub runs: Option<&'a Snapshot>,
}

/// The whole status.
pub fn show(stage: StageStatus, around: &Surroundings<'_>) -> EnvironmentStatus {
    let Surroundings { life, hosts, .. } = around;
    let phase = phase(&stage, around);
    let url = around.url.clone().filter(|_| !hosts.is_empty()).or(stage.url.clone());
    EnvironmentStatus {
        phase: Some(phase.to_owned()),
        subdomain: Some(life.subdomain.clone()),
        namespace: Some(life.place.clone()),
        hosts: hosts
            .iter()
            .map(|(service, host)| HostStatus { service: service.clone(), host: host.clone() })
            .collect(),
        awake: around.awake,
        expires_at: around.ends.map(|(at, _)| time(at)),
        expires_because: around.ends.map(|(_, why)| why.why().to_owned()),
        last_activity: Some(time(life.active)),
        queue_position: match around.seat {
            Seat::Waits(place) => i64::try_from(place).ok(),
            _ => None,
        },
        cost: around.prices.zip(around.runs).and_then(|(prices, runs)| reckoned(prices, runs)),
        stage: StageStatus { url, ..stage },
    }
}

/// Where it is in its life, in one word.
fn phase(stage: &StageStatus, around: &Surroundings<'_>) -> &'static str {
    if around.life.ending.is_some() {
        return "Ending";
    }
    let deploy = stage.deploy.as_ref().map(|deploy| deploy.state.as_str());
    let under_way = State::ALL.iter().any(|state| state.is_active() && deploy == Some(state.camel()));
    let is = |kind: &str| conditions::get(&stage.conditions, kind).is_some_and(|one| one.status == "True");
    match around.seat {
        Seat::Waits(_) => "Queued",
        _ if under_way => "Deploying",
        _ if !around.awake => "Asleep",
        _ if is(conditions::STALLED) => "Failed",
        _ if is(conditions::READY) => "Ready",
        // It has run before, and its pods are on their way.
        _ if stage.active.is_some() => "Deploying",
        _ => "Pending",
    }
}

/// What its pods ask for, times what that costs.
fn reckoned(prices: &Prices, runs: &Snapshot) -> Option<Cost> {
    let asked = runs.services.iter().map(|service| {
        let requests = service.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        let of = |name: &str| {
            requests.and_then(|all| all.get(name)).and_then(|amount| cost::quantity(&amount.0)).unwrap_or(0.0)
        };
        let pods = f64::from(service.replicas.max(0));
        Asked { cores: of("cpu") * pods, gib: of("memory") * pods / f64::from(1 << 30) }
    });
    let all = asked.fold(Asked::default(), |sum, one| Asked { cores: sum.cores + one.cores, gib: sum.gib + one.gib });
    let (core, gib) = (prices.cpu.parse().ok()?, prices.memory.parse().ok()?);
    Some(Cost { per_hour: cost::per_hour(all, core, gib), currency: prices.currency.clone() })
}

/// The API carries whole seconds, and what is read back has to equal what was written.
fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}
