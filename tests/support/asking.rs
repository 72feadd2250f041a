//! Asking something of a stage, as the API would write it down.
//!
//! ```text
//! let request = asking::make(&env, "jane", &[], "production", Action::Abort { deploy: None }).await;
//! ```

use stagekeeper::{
    domain::{
        actor::Actor,
        clock::{Clock as _, Ids as _, SystemClock, SystemIds},
        request::{Action, Origin, Via},
    },
    store::{Asked, NewRequest, StoredRequest},
};

use super::cluster::Env;

/// Why everything is asked here.
pub const REASON: &str = "the test asks";

/// Writes down that `user:NAME`, a member of these groups, asks something. Whoever leads hears of it.
pub async fn make(env: &Env, name: &str, groups: &[&str], stage: &str, action: Action) -> StoredRequest {
    let new = NewRequest {
        id: SystemIds.next(),
        namespace: env.namespace.clone(),
        stage: stage.into(),
        action,
        actor: Actor::User(name.into()),
        groups: groups.iter().map(|group| (*group).into()).collect(),
        reason: REASON.into(),
        origin: Origin { via: Via::Api, verified: true, source: None, request_id: None },
        idempotency_key: None,
        group: None,
        at: SystemClock.now(),
    };
    let asked = env.database.store.request_create(&new).await.expect("the database answers");
    let Asked::Made(made) = asked else { panic!("{new:?} was asked before") };
    made
}
