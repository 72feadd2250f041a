//! Bringing a release from other stages, and agreeing to it.

use super::{
    Outcome, Scene, asked, because, by_us,
    pick::{Picked, Shelf},
};
use crate::{
    controllers::{
        deploy::{
            ledger::Ledger,
            record::{self, Order},
        },
        error::Error,
        stage::{decide, hold, promoted},
    },
    domain::{deploy::State, promotion::newest},
    store::{Hold, NewHold, Provenance, Settlement, StoredRequest},
};

impl Scene<'_> {
    /// Brings a release here that stages before this one have proven, or will.
    pub(super) async fn promote(
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
        let shelf = Shelf { store: &ctx.store, target: target.id, project: target.project };
        let picked = match shelf.pick(rules, ledger, release, from, now).await? {
            Ok(picked) => picked,
            Err(why) => return Ok(Outcome::Refused(why)),
        };
        let Picked { release, deploy: promoted_from, proven } = picked;
        let all = promoted::here(&proven, ledger);
        let summary = release.summary();
        let pinned: Vec<&str> = self.stage.spec.pin.keys().map(String::as_str).collect();
        if !pinned.is_empty() {
            let names = pinned.join(", ");
            return Ok(Outcome::Refused(format!("spec.pin fixes {names} here: take the pin out to promote a release")));
        }
        let (snapshot, hash) = match decide::with(ctx, self.stage, project, &target.place, &release) {
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
        let held: Vec<&Hold> = hold::active(&ledger.holds, now).collect();
        let hold = left.map(|left| NewHold {
            id: ctx.ids.next(),
            owner: hold::owner(&held, request.actor.to_string(), true),
            actor: request.actor.clone(),
            reason: because(&format!("promotion of {summary}, which is not the newest"), &request.reason),
            expires_at: None,
            from: Some(left.release.clone()),
            settled_on: Some(hash.clone()),
            declared: decide::declared(self.stage, project, &target.place),
        });
        let back = ledger.holds.iter().any(Hold::is_of_rollback);
        let lifts = (hold.is_none() && back).then(|| format!("{summary} was promoted"));
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
            ..Order::new(snapshot, asked(&release, hash, request), request.actor.clone(), cause)
        };
        record::create(ctx, target, ledger, order).await?;
        Ok(Outcome::Settled)
    }

    /// Somebody agrees to a release.
    pub(super) async fn approve(
        &self,
        ledger: &Ledger,
        request: &StoredRequest,
        release: Option<&str>,
    ) -> Result<Outcome, Error> {
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
        let (store, id) = (&self.ctx.store, self.ctx.ids.next());
        by_us(store.request_approve(&settlement, id, &release, expires, now).await?, request)?;
        Ok(Outcome::Settled)
    }
}
