//! The gates for the API, which asks them and knows nothing of controllers.

use futures::future::{BoxFuture, FutureExt as _};
use jiff::Timestamp;

use crate::{
    api::Stage,
    controllers::stage::rehearse::{Rehearsal, Wish, rehearse},
    http::api::rehearsal::{Rehearse, Supposed, Told},
    store::{Store, TargetState},
};

/// The gates as the controllers ask them.
#[derive(Debug, Clone, Copy)]
pub struct Gates;

impl Rehearse for Gates {
    fn rehearse<'a>(
        &'a self,
        store: &'a Store,
        stage: &'a Stage,
        suspended: Option<String>,
        state: TargetState,
        supposed: Supposed,
        now: Timestamp,
    ) -> BoxFuture<'a, Result<Told, String>> {
        async move {
            let Supposed { release, from, emergency, actor } = &supposed;
            let wish = Wish {
                release: release.as_deref(),
                from: from.as_deref(),
                emergency: *emergency,
                actor,
                reason: "a rehearsal",
            };
            let told = rehearse(store, stage, suspended.as_deref(), state, wish, now).await;
            let told = told.map_err(|error| error.to_string())?;
            Ok(told.map(|Rehearsal { release, gates }| (release, gates)))
        }
        .boxed()
    }
}
