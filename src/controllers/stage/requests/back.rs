//! Going back, trying again, stopping.

use uuid::Uuid;

use super::{Outcome, Scene, asked, because};
use crate::{
    controllers::{
        deploy::{
            ledger::{Entry, Ledger, Undone},
            record::{self, Moved, Order},
        },
        error::Error,
        stage::{decide, hold},
    },
    domain::{
        actor::Actor,
        deploy::{Deploy, State, stopped},
        plan::Wanted,
        release::Release,
        request::Destination,
    },
    render::Snapshot,
    store::{GoodDeploy, Hold, NewHold, Provenance, Settlement, StoredRequest},
};

impl Scene<'_> {
    /// Starts a stored snapshot again, and keeps policies away from it.
    pub(super) async fn roll_back(
        &self,
        ledger: &mut Ledger,
        request: &StoredRequest,
        to: &Destination,
    ) -> Result<Outcome, Error> {
        let found = match self.destination(ledger, to).await? {
            Ok(found) => found,
            Err(why) => return Ok(Outcome::Refused(why)),
        };
        let GoodDeploy { stored, snapshot } = found;
        let hash = stored.deploy.snapshot.clone();
        let serves = ledger.good.as_ref();
        if ledger.open.is_empty() && serves.is_some_and(|good| good.deploy.snapshot == hash) {
            let summary = stored.release.summary();
            return Ok(Outcome::Refused(format!(
                "{summary} serves already, exactly as it did in deploy {}; `stagekeeper hold` keeps it",
                stored.deploy.id
            )));
        }
        let snapshot = record::read_snapshot(&hash, &snapshot)?;
        let left = ledger.open.last().or(serves);
        let rollback_of = left.map(|entry| entry.deploy.id);
        let summary = snapshot.release.summary();
        let declared = self.project.map(|project| decide::declared(self.stage, project, &self.target.place));
        let (holds, now) = (ledger.holds.clone(), self.ctx.clock.now());
        let holds: Vec<&Hold> = hold::active(&holds, now).collect();
        let tried = self.tried(ledger).await?;
        let hold = NewHold {
            id: self.ctx.ids.next(),
            owner: hold::owner(&holds, request.actor.to_string(), true),
            actor: request.actor.clone(),
            reason: because(&format!("rollback to {summary}"), &request.reason),
            expires_at: None,
            // Also where only the configuration goes back: something newer ends the hold all the same.
            from: hold::left(&holds, tried.as_ref(), left.map(Entry::release)),
            settled_on: self.settled_on(&snapshot.release),
            declared: declared.flatten(),
        };
        let cause = because(&format!("rollback to {summary} of deploy {}", stored.deploy.id), &request.reason);
        let message = format!("{summary} of deploy {} is started again", stored.deploy.id);
        let order = Order {
            provenance: Provenance { rollback_of, group: request.group, ..Provenance::default() },
            settles: Some(Settlement { request: request.id, message }),
            hold: Some(hold),
            ..Order::new(snapshot, asked(&stored.release, hash, request), request.actor.clone(), cause)
        };
        record::create(self.ctx, self.target, ledger, order).await?;
        Ok(Outcome::Settled)
    }

    /// The images of the last deploy after the good one that was not a rollback and is over.
    async fn tried(&self, ledger: &Ledger) -> Result<Option<Release>, Error> {
        let after = |deploy: &Deploy| ledger.good.as_ref().is_none_or(|good| deploy.sequence > good.deploy.sequence);
        let mut history = ledger.history.iter().map(|finished| &finished.deploy).take_while(|deploy| after(deploy));
        let tried = history.find(|deploy| deploy.rollback_of.is_none()).filter(|_| ledger.open.is_empty());
        let Some(tried) = tried else { return Ok(None) };
        Ok(self.ctx.store.deploy_whole(tried.id).await?.map(|found| found.stored.release))
    }

    async fn destination(&self, ledger: &Ledger, to: &Destination) -> Result<Result<GoodDeploy, String>, Error> {
        let store = &self.ctx.store;
        Ok(match to {
            Destination::Previous => {
                let Some(good) = &ledger.good else {
                    return Ok(Err("nothing serves yet, so nothing was before it".into()));
                };
                let found = store.deploy_previous(self.target.id, good.deploy.sequence, &good.deploy.snapshot).await?;
                found.ok_or_else(|| format!("nothing but {} ever succeeded here", good.release().summary()))
            }
            Destination::Deploy(id) => match store.deploy_whole(*id).await? {
                Some(found) if found.stored.deploy.target != self.target.id => {
                    Err(format!("deploy {id} is not one of this stage"))
                }
                Some(found) if found.stored.deploy.state != State::Success => Err(format!(
                    "deploy {id} is {}: only what succeeded here can be gone back to",
                    found.stored.deploy.state
                )),
                Some(found) => Ok(found),
                None => Err(format!("there is no deploy {id}")),
            },
            Destination::LastGoodBefore(at) => {
                let found = store.deploy_good_at(self.target.id, *at).await?;
                found.ok_or_else(|| format!("nothing had succeeded here before {at}"))
            }
        })
    }

    /// What today's declarations make of a release, as long as it can be told.
    fn settled_on(&self, release: &Release) -> Option<String> {
        let project = self.project?;
        decide::hash_with(self.ctx, self.stage, project, &self.target.place, release)
    }

    pub(super) async fn retry(
        &self,
        ledger: &mut Ledger,
        request: &StoredRequest,
        deploy: Option<Uuid>,
    ) -> Result<Outcome, Error> {
        let id = deploy.or_else(|| {
            ledger.history.iter().map(|one| &one.deploy).find(|one| ended_badly(one.state)).map(|one| one.id)
        });
        let Some(id) = id else {
            return Ok(Outcome::Refused("none of the last deploys has failed".into()));
        };
        let Some(GoodDeploy { stored, snapshot }) = self.ctx.store.deploy_whole(id).await? else {
            return Ok(Outcome::Refused(format!("there is no deploy {id}")));
        };
        let before = &stored.deploy;
        if before.target != self.target.id {
            return Ok(Outcome::Refused(format!("deploy {id} is not one of this stage")));
        }
        if !before.is_closed() || !ended_badly(before.state) {
            return Ok(Outcome::Refused(format!(
                "deploy {id} is {}: only what failed can be tried again",
                before.state
            )));
        }
        let hash = before.snapshot.clone();
        let snapshot = record::read_snapshot(&hash, &snapshot)?;
        let summary = snapshot.release.summary();
        let provenance =
            Provenance { retry_of: Some(id), promoted_from: stored.promoted_from, ..Provenance::default() };
        let order = Order {
            provenance,
            settles: Some(Settlement { request: request.id, message: format!("{summary} is tried again") }),
            ..Order::new(
                snapshot,
                asked(&stored.release, hash, request),
                request.actor.clone(),
                because(&format!("retry of {summary} in deploy {id}"), &request.reason),
            )
        };
        record::create(self.ctx, self.target, ledger, order).await?;
        Ok(Outcome::Settled)
    }

    pub(super) async fn abort(
        &self,
        ledger: &mut Ledger,
        request: &StoredRequest,
        deploy: Option<Uuid>,
    ) -> Result<Outcome, Error> {
        let position = if let Some(id) = deploy {
            ledger.open.iter().position(|entry| entry.deploy.id == id)
        } else {
            let active = ledger.open.iter().position(|entry| entry.deploy.state.is_active());
            active.or_else(|| ledger.open.iter().rposition(|entry| entry.deploy.state == State::Pending))
        };
        let Some(entry) = position.and_then(|position| ledger.open.get(position)) else {
            let which = deploy.map_or_else(|| "no deploy is".into(), |id| format!("deploy {id} is not"));
            return Ok(Outcome::Refused(format!("{which} under way here")));
        };
        let (id, from) = (entry.deploy.id, entry.deploy.state);
        if from == State::Failed {
            return Ok(Outcome::Refused(format!("deploy {id} has failed and is being rolled back already")));
        }
        let message = because(&format!("{} stopped it in {from}", request.actor), &request.reason);
        let step = stopped(&entry.deploy, message);
        let summary = entry.release().summary();
        let moved = Moved {
            actor: Some(request.actor.clone()),
            settles: Some(Settlement { request: request.id, message: format!("{summary} was stopped in {from}") }),
            ..Moved::default()
        };
        let position = position.unwrap_or_default();
        record::advance(self.ctx, self.target, ledger, position, &[step], None, &moved, self.ctx.clock.now()).await?;
        Ok(Outcome::Settled)
    }
}

/// Whether trying again makes sense.
const fn ended_badly(state: State) -> bool {
    matches!(state, State::Failed | State::RolledBack | State::Aborted)
}

/// Brings the good release back where a deploy was stopped halfway that changed its instance in place.
pub async fn mend(scene: &Scene<'_>, ledger: &mut Ledger) -> Result<(), Error> {
    let (Some(good), Some(last), true) = (&ledger.good, ledger.history.front(), ledger.open.is_empty()) else {
        return Ok(());
    };
    let stopped = last.deploy.state == State::Aborted && last.deploy.sequence > good.deploy.sequence;
    if !stopped || last.deploy.instance != good.deploy.instance || last.deploy.snapshot == good.deploy.snapshot {
        return Ok(());
    }
    let Some(row) = ledger.instances.get(&good.deploy.instance).filter(|row| row.deploy == last.deploy.id) else {
        return Ok(());
    };
    let (stopped, why) = (row.deploy, last.deploy.message.clone());
    let snapshot: Snapshot = (*good.snapshot).clone();
    let wanted = Wanted { release: good.deploy.release.clone(), snapshot: good.deploy.snapshot.clone(), request: None };
    let cause = format!("back to {}: deploy {stopped} was stopped halfway", good.release().summary());
    let undone = Undone { snapshot: last.deploy.snapshot.clone(), request: None, why };
    let provenance = Provenance { rollback_of: Some(stopped), ..Provenance::default() };
    let order = Order { provenance, undone: Some(undone), ..Order::new(snapshot, wanted, Actor::Controller, cause) };
    record::create(scene.ctx, scene.target, ledger, order).await?;
    Ok(())
}
