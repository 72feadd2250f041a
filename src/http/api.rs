//! The HTTP API, `/api/v1`: one table of endpoints, one way through which every request goes.
//!
//! Any replica serves it. Whoever leads acts on what is asked: a request is a row, and this room writes no deploy, no veto and
//! no hold. Rights belong to the command, never to the route: a handler takes an [`Authorized`](guard::Authorized) one, and
//! only the guard makes those, by asking the API server about the caller. Nothing is done with the operator's rights on behalf
//! of anybody.

pub mod audit;
mod cache;
pub mod credentials;
pub mod cursor;
pub mod deploys;
mod diff;
pub mod environments;
pub mod groups;
pub mod guard;
mod holds;
pub mod input;
pub mod logs;
pub mod openapi;
pub mod operation;
pub mod problem;
mod projects;
pub mod rehearsal;
mod releases;
pub mod requests;
pub mod secrets;
mod serve;
pub mod served;
pub mod stages;
pub mod stats;
pub mod table;
pub mod tags;
pub mod updates;
pub mod users;
mod value;
mod verbs;
pub mod views;
pub mod why;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse as _,
    routing::{any, get},
};

use tokio::sync::Semaphore;

use self::{guard::Guard, problem::Problem, rehearsal::Rehearse, table::TABLE};
use crate::{
    cluster::{access::Reviews, declared::Declared},
    domain::clock::{Clock, Ids},
    safe::Safe,
    store::Store,
    telemetry::Telemetry,
};

/// What every path begins with.
pub const BASE: &str = "/api/v1";

/// Longest body, in bytes.
pub const MAX_BODY: usize = 64 << 10;

/// The HTTP API. Closed until the database is known.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    ground: OnceLock<Arc<Ground>>,
    /// From the end of the headers to the end of the body.
    patience: Duration,
    /// Where requests are counted.
    telemetry: Telemetry,
}

/// What an [`Api`] is opened with.
pub struct Opening {
    /// The database.
    pub store: Store,
    /// The safe, if there are keys to it.
    pub safe: Option<Safe>,
    /// Who knows callers and their rights.
    pub reviews: Arc<dyn Reviews>,
    /// Who knows what is declared.
    pub declared: Arc<dyn Declared>,
    /// Who can ask the gates.
    pub gates: Arc<dyn Rehearse>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// New identities.
    pub ids: Arc<dyn Ids>,
}

/// What the API stands on.
pub struct Ground {
    /// The database. Who leads does not matter here: requests are rows.
    pub store: Store,
    /// The safe, if there are keys to it.
    pub safe: Option<Safe>,
    /// Who calls, and what they may do.
    pub guard: Guard,
    /// What is declared.
    pub declared: Arc<dyn Declared>,
    /// What the gates would say.
    pub gates: Arc<dyn Rehearse>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// New identities.
    pub ids: Arc<dyn Ids>,
    /// Those who wait for requests to be settled: each has a connection to the database.
    waiters: Semaphore,
}

/// Waiters at once; others are answered without waiting.
const WAITERS: usize = 16;

impl Api {
    /// An API that answers that it is not there yet. A body may take as long as `patience`.
    pub fn new(telemetry: Telemetry, patience: Duration) -> Self {
        Self(Arc::new(Inner { ground: OnceLock::new(), patience, telemetry }))
    }

    /// Opens it. Later calls change nothing.
    pub fn open(&self, opening: Opening) {
        let Opening { store, safe, reviews, declared, gates, clock, ids } = opening;
        let (guard, waiters) = (Guard::new(reviews), Semaphore::new(WAITERS));
        _ = self.0.ground.set(Arc::new(Ground { store, safe, guard, declared, gates, clock, ids, waiters }));
    }

    fn ground(&self) -> Result<Arc<Ground>, Problem> {
        self.0.ground.get().cloned().ok_or_else(|| Problem::unavailable("the operator has only just started"))
    }

    /// The routes: those of the table, and the document about them.
    pub(super) fn router(self) -> Router {
        let mut router = Router::new();
        for endpoint in TABLE {
            router = router.route(&format!("{BASE}{}", endpoint.spec.path), endpoint.route());
        }
        let document = openapi::text();
        let document = async move || ([(CONTENT_TYPE, "application/json")], document).into_response();
        let nothing = || any(async || Problem::no_route(StatusCode::NOT_FOUND));
        router
            .route(&format!("{BASE}/openapi.json"), get(document))
            .route(BASE, nothing())
            .route(&format!("{BASE}/"), nothing())
            .route(&format!("{BASE}/{{*rest}}"), nothing())
            .method_not_allowed_fallback(async || Problem::no_route(StatusCode::METHOD_NOT_ALLOWED))
            .with_state(self)
    }
}
