//! What people asked of a stage: each request is acted on once, and settled together with its effect.

use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

use super::{decide::Refusal, hold, promoted};
use crate::{
    api::{Project, Stage},
    controllers::{
        context::Context,
        deploy::{
            Target,
            ledger::{Ledger, Undone, Veto},
            record::{self, Moved, Order, held},
        },
        error::Error,
        stage::decide,
    },
    domain::{
        actor::Actor,
        deploy::{State, stopped},
        plan::Wanted,
        promotion::{Rules, newest},
        release::{Release, ReleaseId},
        request::{Action, Destination},
    },
    render::Snapshot,
    store::{GoodDeploy, NewHold, Provenance, Settlement, StoredRequest},
};

/// What became of a request.
enum Outcome {
    /// It was settled with its effect.
    Settled,
    /// It cannot be done.
    Refused(String),
}

/// A stage as requests find it.
pub(super) struct Scene<'a> {
    pub(super) ctx: &'a Context,
    pub(super) stage: &'a Stage,
    pub(super) project: Option<&'a Project>,
    pub(super) target: &'a Target<'a>,
    pub(super) rules: &'a Result<Option<Arc<Rules>>, Refusal>,
}

/// Acts on everything that was asked of the stage, in the order in which it was asked.
///
/// # Errors
/// Those of the store: what is settled is not known any more then, and is read again.
pub(super) async fn act(scene: &Scene<'_>, ledger: &mut Ledger) -> Result<(), Error> {
    let Scene { ctx, target, .. } = scene;
    for request in ctx.asked.of(&target.key) {
        let outcome = scene.one(ledger, &request).await;
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                ctx.asked.forget(&target.key);
                return Err(error);
            }
        };
        let action = request.action.word();
        match outcome {
            Outcome::Settled => {
                tracing::info!(stage = %target.key, request = %request.id, action, actor = %request.actor, "request done");
            }
            Outcome::Refused(why) => {
                tracing::info!(stage = %target.key, request = %request.id, action, actor = %request.actor, why, "request refused");
                let settlement = Settlement { request: request.id, message: why };
                if let Err(error) = ctx.store.request_refuse(&settlement, ctx.clock.now()).await {
                    ctx.asked.forget(&target.key);
                    return Err(error.into());
                }
            }
        }
        ctx.asked.settled(&target.key, request.id);
    }
    Ok(())
}

impl Scene<'_> {
    async fn one(&self, ledger: &mut Ledger, request: &StoredRequest) -> Result<Outcome, Error> {
        match &request.action {
            Action::Rollback { to } => self.roll_back(ledger, request, to).await,
            Action::Retry { deploy } => self.retry(ledger, request, *deploy).await,
            Action::Abort { deploy } => self.abort(ledger, request, *deploy).await,
            Action::Hold { owner, until } => self.hold(ledger, request, owner.as_deref(), *until).await,
            Action::Resume { owner } => self.resume(ledger, request, owner.as_deref()).await,
            Action::Veto { release } => self.veto(ledger, request, release.as_deref()).await,
            Action::Unveto { release } => self.unveto(ledger, request, release).await,
            Action::Promote { release, from, emergency } => {
                self.promote(ledger, request, release.as_deref(), from.as_deref(), *emergency).await
            }
            Action::Approve { release } => self.approve(ledger, request, release.as_deref()).await,
        }
    }

    /// Starts a stored snapshot again, and keeps policies away from it.
    async fn roll_back(
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
        let from = left.map(|entry| entry.release().clone()).filter(|from| *from != snapshot.release);
        let rollback_of = left.map(|entry| entry.deploy.id);
        let summary = snapshot.release.summary();
        let declared = self.project.map(|project| decide::declared(self.stage, project, &self.target.key));
        let hold = NewHold {
            id: self.ctx.ids.next(),
            owner: request.actor.to_string(),
            actor: request.actor.clone(),
            reason: because(&format!("rollback to {summary}"), &request.reason),
            expires_at: None,
            from,
            settled_on: self.settled_on(&snapshot.release),
            declared: declared.flatten(),
        };
        let cause = because(&format!("rollback to {summary} of deploy {}", stored.deploy.id), &request.reason);
        let message = format!("{summary} of deploy {} is started again", stored.deploy.id);
        let order = Order {
            provenance: Provenance { rollback_of, group: request.group, ..Provenance::default() },
            settles: Some(Settlement { request: request.id, message }),
            hold: Some(hold),
            ..Order::new(snapshot, self.asked(&stored.release, hash, request), request.actor.clone(), cause)
        };
        record::create(self.ctx, self.target, ledger, order).await?;
        Ok(Outcome::Settled)
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
        decide::hash_with(self.ctx, self.stage, project, &self.target.key, release)
    }

    fn asked(&self, release: &Release, snapshot: String, request: &StoredRequest) -> Wanted {
        Wanted { release: release.id(), snapshot, request: Some(format!("request:{}", request.id)) }
    }

    async fn retry(
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
        let provenance = Provenance {
            retry_of: Some(id),
            promoted_from: stored.promoted_from,
            group: request.group,
            ..Provenance::default()
        };
        let order = Order {
            provenance,
            settles: Some(Settlement { request: request.id, message: format!("{summary} is tried again") }),
            ..Order::new(
                snapshot,
                self.asked(&stored.release, hash, request),
                request.actor.clone(),
                because(&format!("retry of {summary} in deploy {id}"), &request.reason),
            )
        };
        record::create(self.ctx, self.target, ledger, order).await?;
        Ok(Outcome::Settled)
    }

    async fn abort(
        &self,
        ledger: &mut Ledger,
        request: &StoredRequest,
        deploy: Option<Uuid>,
    ) -> Result<Outcome, Error> {
        let position = match deploy {
            Some(id) => ledger.open.iter().position(|entry| entry.deploy.id == id),
            None => {
                let active = ledger.open.iter().position(|entry| entry.deploy.state.is_active());
                active.or_else(|| ledger.open.iter().rposition(|entry| entry.deploy.state == State::Pending))
            }
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

    async fn hold(
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
        let hold = NewHold {
            id: self.ctx.ids.next(),
            owner: owner.map_or_else(|| request.actor.to_string(), Into::into),
            actor: request.actor.clone(),
            reason: request.reason.clone(),
            expires_at: until,
            from: None,
            settled_on: None,
            declared: None,
        };
        let message = format!("held by {}", hold.owner);
        let settlement = Settlement { request: request.id, message };
        if self.ctx.store.request_hold(&settlement, &hold, now).await? {
            ledger.holds.retain(|other| other.owner != hold.owner);
            ledger.holds.push(held(hold, self.target.id, now));
        }
        Ok(Outcome::Settled)
    }

    async fn resume(
        &self,
        ledger: &mut Ledger,
        request: &StoredRequest,
        owner: Option<&str>,
    ) -> Result<Outcome, Error> {
        let now = self.ctx.clock.now();
        let ends = |hold: &&crate::store::Hold| owner.is_none_or(|owner| hold.owner == owner);
        let owners: Vec<&str> = hold::active(&ledger.holds, now).filter(ends).map(|hold| hold.owner.as_str()).collect();
        if owners.is_empty() {
            let whose = owner.map_or_else(String::new, |owner| format!(" by {owner}"));
            return Ok(Outcome::Refused(format!("nothing is held here{whose}")));
        }
        let message = format!("no longer held by {}", owners.join(", "));
        let settlement = Settlement { request: request.id, message };
        if self.ctx.store.request_resume(&settlement, owner, now).await? {
            ledger.holds.retain(|hold| owner.is_some_and(|owner| hold.owner != owner));
        }
        Ok(Outcome::Settled)
    }

    async fn veto(
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
        if self.ctx.store.request_veto(&settlement, self.ctx.ids.next(), &release, now).await? {
            let reason = because(&format!("{} forbade it", request.actor), &request.reason);
            ledger.vetoed.entry(release.clone()).or_insert(Veto { deploy: None, reason: reason.clone() });
            self.ctx.lanes.tell(&self.target.key);
            self.stop_waiting(ledger, &release, &request.actor, &reason).await?;
        }
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
        let waits = |entry: &crate::controllers::deploy::ledger::Entry| {
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

    async fn unveto(&self, ledger: &mut Ledger, request: &StoredRequest, prefix: &str) -> Result<Outcome, Error> {
        let mut found = ledger.vetoed.keys().filter(|release| release.0.starts_with(prefix));
        let (Some(release), None) = (found.next().cloned(), found.next()) else {
            return Ok(Outcome::Refused(format!(
                "no release, or more than one, that begins with {prefix} is vetoed here"
            )));
        };
        let message = format!("release {} may come again", release.short());
        let settlement = Settlement { request: request.id, message };
        if self.ctx.store.request_unveto(&settlement, &release, self.ctx.clock.now()).await? {
            ledger.vetoed.remove(&release);
            self.ctx.lanes.tell(&self.target.key);
        }
        Ok(Outcome::Settled)
    }

    /// Brings a release here that stages before this one have proven, or will.
    async fn promote(
        &self,
        ledger: &mut Ledger,
        request: &StoredRequest,
        release: Option<&str>,
        from: Option<&str>,
        emergency: bool,
    ) -> Result<Outcome, Error> {
        let (ctx, target, now) = (self.ctx, self.target, self.ctx.clock.now());
        let (rules, project) = match (&self.rules, self.project) {
            (Ok(Some(rules)), Some(project)) => (rules, project),
            (Ok(None), _) => {
                return Ok(Outcome::Refused("spec.promotion is not set: nothing is promoted to this stage".into()));
            }
            (Err(refusal), _) => return Ok(Outcome::Refused(refusal.message.clone())),
            (_, None) => return Ok(Outcome::Refused("its Project does not exist".into())),
        };
        if emergency && request.reason.trim().is_empty() {
            return Ok(Outcome::Refused("an emergency needs a reason".into()));
        }
        if let Some(from) = from.filter(|from| !rules.from.iter().any(|name| name == from)) {
            let names = rules.from.join(", ");
            return Ok(Outcome::Refused(format!("releases come here from {names}, not from {from}")));
        }
        let proven = promoted::read(ctx, target, rules, ledger).await?;
        let all = promoted::here(&proven, ledger);
        let at_once = Rules { soak: std::time::Duration::ZERO, ..(**rules).clone() };
        let at_once = match from {
            Some(from) => Rules { from: vec![from.to_owned()], ..at_once },
            None => at_once,
        };
        let (release, promoted_from) = match release {
            Some(prefix) => match self.whole_release(prefix).await? {
                Ok(found) => {
                    let deploy = proven.iter().find(|one| one.release == found).map(|one| one.deploy);
                    (found, deploy)
                }
                Err(why) => return Ok(Outcome::Refused(why)),
            },
            None => {
                let choice = newest(&all, &at_once, promoted::current(ledger).as_ref(), &[], now);
                let taken =
                    choice.take.and_then(|take| proven.iter().find(|one| one.candidate.release == take.release));
                match taken {
                    Some(taken) => (taken.release.clone(), Some(taken.deploy)),
                    None => return Ok(Outcome::Refused(choice.reason)),
                }
            }
        };
        let summary = release.summary();
        let pinned: Vec<&str> = self.stage.spec.pin.keys().map(String::as_str).collect();
        if !pinned.is_empty() {
            let names = pinned.join(", ");
            return Ok(Outcome::Refused(format!("spec.pin fixes {names} here: take the pin out to promote a release")));
        }
        let (snapshot, hash) = match decide::with(ctx, self.stage, project, &target.key, &release) {
            Ok(built) => built,
            Err(error) => return Ok(Outcome::Refused(format!("{summary}: {error}"))),
        };
        if ledger.open.is_empty() && ledger.good.as_ref().is_some_and(|good| good.deploy.snapshot == hash) {
            return Ok(Outcome::Refused(format!("{summary} serves already")));
        }
        // Somebody who asks for what is not the newest wants it to stay.
        let next = newest(&all, rules, None, &[], now).take.filter(|_| rules.auto);
        let left = next.filter(|next| next.release != release.id());
        let left = left.and_then(|next| proven.iter().find(|one| one.candidate.release == next.release));
        let hold = left.map(|left| NewHold {
            id: ctx.ids.next(),
            owner: request.actor.to_string(),
            actor: request.actor.clone(),
            reason: because(&format!("promotion of {summary}, which is not the newest"), &request.reason),
            expires_at: None,
            from: Some(left.release.clone()),
            settled_on: Some(hash.clone()),
            declared: decide::declared(self.stage, project, &target.key),
        });
        let by_hand = hold::active(&ledger.holds, now).any(|hold| hold.from.is_none() && hold.settled_on.is_none());
        let lifts = (hold.is_none() && !by_hand && !ledger.holds.is_empty()).then(|| format!("{summary} was promoted"));
        let provenance = Provenance { promoted_from, emergency, group: request.group, ..Provenance::default() };
        let word = if emergency { "emergency promotion" } else { "promotion" };
        let cause = because(
            &format!("{word} of {summary} from {}", from.map_or_else(|| rules.from.join(", "), Into::into)),
            &request.reason,
        );
        let order = Order {
            provenance,
            settles: Some(Settlement { request: request.id, message: format!("{summary} is asked for") }),
            hold,
            lifts,
            ..Order::new(snapshot, self.asked(&release, hash, request), request.actor.clone(), cause)
        };
        record::create(ctx, target, ledger, order).await?;
        Ok(Outcome::Settled)
    }

    /// Somebody agrees to a release.
    async fn approve(&self, ledger: &Ledger, request: &StoredRequest, release: Option<&str>) -> Result<Outcome, Error> {
        let wanted = match &self.rules {
            Ok(rules) => rules.as_ref().and_then(|rules| rules.approvals.as_ref()),
            Err(refusal) => return Ok(Outcome::Refused(refusal.message.clone())),
        };
        let Some(wanted) = wanted else {
            return Ok(Outcome::Refused("spec.promotion.approvals is not set: no approval is asked for here".into()));
        };
        if !request.origin.verified {
            let why = "an approval counts only if it is certain who gave it: give it over the API, as yourself";
            return Ok(Outcome::Refused(why.into()));
        }
        if !wanted.groups.is_empty() && !request.groups.iter().any(|group| wanted.groups.contains(group)) {
            let names = wanted.groups.join(", ");
            return Ok(Outcome::Refused(format!(
                "{} is in none of the groups that may approve: {names}",
                request.actor
            )));
        }
        let waits = || ledger.open.iter().rfind(|entry| entry.deploy.state == State::Pending);
        let release = match release {
            Some(prefix) => match self.release(prefix).await? {
                Ok(release) => release,
                Err(why) => return Ok(Outcome::Refused(why)),
            },
            None => match waits() {
                Some(entry) => entry.deploy.release.clone(),
                None => return Ok(Outcome::Refused("nothing waits here: name the release".into())),
            },
        };
        let own = waits().is_some_and(|entry| entry.deploy.release == release && entry.deploy.actor == request.actor);
        if own && !wanted.allow_requester {
            let why =
                "whoever asked for a deploy cannot approve it; spec.promotion.approvals.allowRequester would let them";
            return Ok(Outcome::Refused(why.into()));
        }
        let now = self.ctx.clock.now();
        let expires = now.saturating_add(wanted.expires).ok();
        let message = format!("{} agrees to release {}", request.actor, release.short());
        let settlement = Settlement { request: request.id, message };
        self.ctx.store.request_approve(&settlement, self.ctx.ids.next(), &release, expires, now).await?;
        Ok(Outcome::Settled)
    }

    /// The images of the release that this is the hash of, or the beginning of it.
    async fn whole_release(&self, prefix: &str) -> Result<Result<Release, String>, Error> {
        let mut found = self.ctx.store.releases_find(self.target.project, prefix).await?;
        Ok(match found.len() {
            0 => Err(format!("no release of this project begins with {prefix}")),
            1 => Ok(found.remove(0).1),
            several => Err(format!("{several} releases begin with {prefix}: give more of it")),
        })
    }

    /// The release of the project that this is the hash of, or the beginning of it.
    async fn release(&self, prefix: &str) -> Result<Result<ReleaseId, String>, Error> {
        let found = self.ctx.store.releases_find(self.target.project, prefix).await?;
        Ok(match &found[..] {
            [] => Err(format!("no release of this project begins with {prefix}")),
            [(release, _)] => Ok(release.clone()),
            several => Err(format!("{} releases begin with {prefix}: give more of it", several.len())),
        })
    }
}

/// Whether trying again makes sense.
const fn ended_badly(state: State) -> bool {
    matches!(state, State::Failed | State::RolledBack | State::Aborted)
}

/// What was done, and why, in one sentence.
fn because(what: &str, reason: &str) -> String {
    if reason.is_empty() { what.to_owned() } else { format!("{what}: {reason}") }
}

/// Brings the good release back where a deploy was stopped halfway that changed its instance in place.
pub(super) async fn mend(scene: &Scene<'_>, ledger: &mut Ledger) -> Result<(), Error> {
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
