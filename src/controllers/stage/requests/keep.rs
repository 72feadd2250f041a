//! Keeping things away from a stage: holds and vetoes.

use jiff::Timestamp;

use super::{Outcome, Scene, because, by_us};
use crate::{
    controllers::{
        deploy::{
            ledger::{Entry, Ledger, Veto},
            record::{self, Moved, held},
        },
        error::Error,
        stage::hold,
    },
    domain::{
        actor::Actor,
        deploy::{State, stopped},
        release::ReleaseId,
    },
    store::{Hold, NewHold, Settlement, StoredRequest},
};

impl Scene<'_> {
    pub(super) async fn hold(
        &self,
        ledger: &mut Ledger,
        request: &StoredRequest,
        owner: Option<&str>,
        until: Option<Timestamp>,
    ) -> Result<Outcome, Error> {
        let now = self.ctx.clock.now();
        if until.is_some_and(|until| until <= now) {
            return Ok(Outcome::Refused("`until` has passed already".into()));
        }
        let name = owner.map_or_else(|| request.actor.to_string(), Into::into);
        let holds: Vec<&Hold> = hold::active(&ledger.holds, now).collect();
        let hold = NewHold {
            id: self.ctx.ids.next(),
            owner: hold::owner(&holds, name, false),
            actor: request.actor.clone(),
            reason: request.reason.clone(),
            expires_at: until,
            from: None,
            settled_on: None,
            declared: None,
        };
        let message = format!("held by {}", hold.owner);
        let settlement = Settlement { request: request.id, message };
        by_us(self.ctx.store.request_hold(&settlement, &hold, now).await?, request)?;
        ledger.holds.retain(|other| other.owner != hold.owner);
        ledger.holds.push(held(hold, self.target.id, now));
        Ok(Outcome::Settled)
    }

    pub(super) async fn resume(
        &self,
        ledger: &mut Ledger,
        request: &StoredRequest,
        owner: Option<&str>,
    ) -> Result<Outcome, Error> {
        let now = self.ctx.clock.now();
        let ends = |hold: &&Hold| owner.is_none_or(|owner| hold.owner == owner);
        let owners: Vec<&str> = hold::active(&ledger.holds, now).filter(ends).map(|hold| hold.owner.as_str()).collect();
        if owners.is_empty() {
            let whose = owner.map_or_else(String::new, |owner| format!(" by {owner}"));
            return Ok(Outcome::Refused(format!("nothing is held here{whose}")));
        }
        let message = format!("no longer held by {}", owners.join(", "));
        let settlement = Settlement { request: request.id, message };
        by_us(self.ctx.store.request_resume(&settlement, owner, now).await?, request)?;
        ledger.holds.retain(|hold| owner.is_some_and(|owner| hold.owner != owner));
        Ok(Outcome::Settled)
    }

    pub(super) async fn veto(
        &self,
        ledger: &mut Ledger,
        request: &StoredRequest,
        release: Option<&str>,
    ) -> Result<Outcome, Error> {
        let release = match release {
            Some(prefix) => match self.release(prefix).await? {
                Ok(release) => release,
                Err(why) => return Ok(Outcome::Refused(why)),
            },
            None => match ledger.open.iter().rfind(|entry| entry.deploy.state == State::Pending) {
                Some(entry) => entry.deploy.release.clone(),
                None => return Ok(Outcome::Refused("nothing waits here: name the release".into())),
            },
        };
        if ledger.good.as_ref().is_some_and(|good| good.deploy.release == release) {
            return Ok(Outcome::Refused(format!("release {} serves: go back first", release.short())));
        }
        let now = self.ctx.clock.now();
        let message = format!("release {} does not come by itself", release.short());
        let settlement = Settlement { request: request.id, message };
        by_us(self.ctx.store.request_veto(&settlement, self.ctx.ids.next(), &release, now).await?, request)?;
        let reason = because(&format!("{} forbade it", request.actor), &request.reason);
        ledger.vetoed.entry(release.clone()).or_insert(Veto { deploy: None, reason: reason.clone() });
        self.ctx.lanes.tell(&self.target.key);
        self.stop_waiting(ledger, &release, &request.actor, &reason).await?;
        Ok(Outcome::Settled)
    }

    /// What nobody asked for and waits is stopped when its release is forbidden.
    async fn stop_waiting(
        &self,
        ledger: &mut Ledger,
        release: &ReleaseId,
        actor: &Actor,
        reason: &str,
    ) -> Result<(), Error> {
        let waits = |entry: &Entry| {
            entry.deploy.state == State::Pending && entry.deploy.release == *release && entry.request.is_none()
        };
        while let Some(position) = ledger.open.iter().position(waits) {
            let step = stopped(&ledger.open[position].deploy, reason.to_owned());
            let moved = Moved { actor: Some(actor.clone()), ..Moved::default() };
            let now = self.ctx.clock.now();
            record::advance(self.ctx, self.target, ledger, position, &[step], None, &moved, now).await?;
        }
        Ok(())
    }

    pub(super) async fn unveto(
        &self,
        ledger: &mut Ledger,
        request: &StoredRequest,
        prefix: &str,
    ) -> Result<Outcome, Error> {
        let mut found = ledger.vetoed.keys().filter(|release| release.0.starts_with(prefix));
        let (Some(release), None) = (found.next().cloned(), found.next()) else {
            return Ok(Outcome::Refused(format!(
                "no release, or more than one, that begins with {prefix} is vetoed here"
            )));
        };
        let message = format!("release {} may come again", release.short());
        let settlement = Settlement { request: request.id, message };
        by_us(self.ctx.store.request_unveto(&settlement, &release, self.ctx.clock.now()).await?, request)?;
        ledger.vetoed.remove(&release);
        self.ctx.lanes.tell(&self.target.key);
        Ok(Outcome::Settled)
    }
}
