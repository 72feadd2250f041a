//! The built-in proxy: requests for the hosts of environments and stages go to their pods.
//!
//! The routing, the waking and the pages are ours; HTTP itself is hyper's. The table of hosts is made from what the API server
//! says ([`watch`], [`table`]) and swapped as a whole, so that a request looks up one host in memory and asks nobody. Neither the API
//! server nor Postgres has to be there for requests to be served.

mod answer;
mod body;
mod cookies;
mod forward;
pub mod headers;
pub mod host;
mod limits;
pub mod page;
mod password;
mod pool;
pub mod rate;
mod run;
mod serve;
mod sign_in;
pub mod table;
mod tls;
mod tunnel;
pub mod wake;
mod watch;

use std::{
    collections::HashSet,
    num::NonZeroU32,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch as channel},
    time::Instant,
};
use tokio_util::task::TaskTracker;

pub use self::{
    body::Reply,
    limits::Limits,
    password::Lock,
    run::{RunError, run},
    serve::{Door, serve},
    sign_in::SignIn,
    tls::Certificates,
    watch::follow,
};
use self::{
    pool::Pool,
    table::Table,
    wake::{Records, Waker},
};
use crate::{domain::clock::Clock, telemetry::Telemetry, telemetry::metrics::EdgeMetrics};

/// How many subdomains are remembered that are gone.
pub const ENDED: usize = 20_000;

/// What an edge is made of.
pub struct Setup {
    /// How much, and how long.
    pub limits: Limits,
    /// How long a request waits for an environment to wake.
    pub wake_limit: Duration,
    /// Requests a second for each environment, if that is limited.
    pub rate: Option<NonZeroU32>,
    /// Whether requests are logged.
    pub access_log: bool,
    /// Whether everybody with the URL reads why a deploy failed.
    pub details: bool,
    /// Whether requests over plain HTTP are sent to https.
    pub redirect: bool,
    /// The password in front of environments, if there is one.
    pub lock: Option<Arc<Lock>>,
    /// How people sign in for environments, if they do.
    pub sign_in: Option<Arc<SignIn>>,
    /// Where visits and wakes are written down.
    pub records: Arc<dyn Records>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Logs, metrics and readiness.
    pub telemetry: Telemetry,
}

/// The proxy. One for all its connections.
pub struct Edge {
    limits: Limits,
    wake_limit: Duration,
    rate: Option<NonZeroU32>,
    access_log: bool,
    details: bool,
    redirect: bool,
    lock: Option<Arc<Lock>>,
    sign_in: Option<Arc<SignIn>>,
    clock: Arc<dyn Clock>,
    began: Instant,
    metrics: EdgeMetrics,
    table: channel::Sender<Arc<Table>>,
    ended: RwLock<HashSet<String>>,
    pool: Pool,
    waker: Waker,
    waiting: Semaphore,
    /// What goes on after its request was answered: tunnels.
    tunnels: TaskTracker,
}

impl Edge {
    /// With an empty table: it answers that it is starting.
    pub fn new(setup: Setup) -> Arc<Self> {
        let Setup { limits, wake_limit, rate, access_log, details, redirect, lock, sign_in, records, clock, telemetry } =
            setup;
        let metrics = telemetry.metrics.edge();
        Arc::new(Self {
            limits,
            wake_limit,
            rate,
            access_log,
            details,
            redirect,
            lock,
            sign_in,
            waker: Waker::new(records, clock.clone(), metrics.clone()),
            clock,
            began: Instant::now(),
            metrics,
            table: channel::Sender::new(Arc::default()),
            ended: RwLock::default(),
            pool: Pool::new(limits),
            waiting: Semaphore::new(limits.waiting),
            tunnels: TaskTracker::new(),
        })
    }

    /// The table of now.
    pub fn table(&self) -> Arc<Table> {
        self.table.borrow().clone()
    }

    /// Puts another table in place of the one before. Environments that it has no more are gone.
    pub fn replace(&self, table: Table) {
        let before = self.table();
        let gone: Vec<String> = table.gone(&before).map(ToOwned::to_owned).collect();
        for conflict in table.conflicts.difference(&before.conflicts) {
            tracing::warn!(
                host = conflict.host,
                has = conflict.has,
                lost = conflict.lost,
                "two objects claim one host"
            );
        }
        self.metrics.table(table.len(), table.conflicts.len());
        self.end(gone);
        self.table.send_replace(Arc::new(table));
    }

    /// These subdomains are gone, until there is a host of that name again.
    pub fn end(&self, subdomains: impl IntoIterator<Item = String>) {
        let mut ended = self.ended.write().unwrap_or_else(PoisonError::into_inner);
        for subdomain in subdomains {
            if ended.len() < ENDED {
                ended.insert(subdomain);
            }
        }
    }

    /// Whether a host was that of an environment: its first part is a subdomain, or a service's name and a subdomain.
    fn has_ended(&self, host: &str) -> bool {
        let ended = self.ended.read().unwrap_or_else(PoisonError::into_inner);
        let mut labels = host.split('.');
        let first = labels.next().unwrap_or_default();
        let tails = first.match_indices('-').map(|(at, _)| &first[at + 1..]);
        std::iter::once(first).chain(labels.next()).chain(tails).any(|one| ended.contains(one))
    }

    /// Looks after what rests, for ever: closes connections that nobody uses, writes down who was here.
    pub async fn look_after(&self) {
        let mut ticks = tokio::time::interval(wake::PULSE);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.pool.sweep();
            self.write_visits().await;
        }
    }

    /// Writes down who was here since.
    pub async fn write_visits(&self) {
        self.waker.write_visits(&self.table()).await;
    }
}
