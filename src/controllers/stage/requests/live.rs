//! The life of an environment: waking it, putting it to sleep, moving its end.

use super::{Outcome, Scene, by_us};
use crate::{
    controllers::error::Error,
    domain::request::Action,
    store::{LifeChange, Settlement, StoredRequest},
};

impl Scene<'_> {
    pub(super) async fn live(&self, request: &StoredRequest) -> Result<Outcome, Error> {
        let Some(life) = self.life else {
            let word = request.action.word();
            return Ok(Outcome::Refused(format!("{word} is for environments: {} is a stage", self.target.key.name)));
        };
        let now = self.ctx.clock.now();
        let (change, message) = match &request.action {
            Action::Wake => (LifeChange { wake_asked: Some(now), ..LifeChange::default() }, "awake".to_owned()),
            Action::Sleep => (
                LifeChange { sleep_asked: Some(now), ..LifeChange::default() },
                "sleeps until somebody uses it".to_owned(),
            ),
            Action::Extend { until } if *until <= now => {
                return Ok(Outcome::Refused("`until` has passed already".into()));
            }
            Action::Extend { until } => {
                (LifeChange { extended: Some(*until), ..LifeChange::default() }, format!("does not end before {until}"))
            }
            Action::Pin => {
                (LifeChange { pinned: Some(true), ..LifeChange::default() }, "does not end by itself".to_owned())
            }
            Action::Unpin => (LifeChange { pinned: Some(false), ..LifeChange::default() }, "ends by itself".to_owned()),
            _ => (LifeChange { ending: Some(now), ..LifeChange::default() }, "ends".to_owned()),
        };
        let settlement = Settlement { request: request.id, message };
        by_us(self.ctx.store.request_life(&settlement, change, now).await?, request)?;
        // What the statement did is read again rather than guessed.
        life.changed();
        Ok(Outcome::Settled)
    }
}
