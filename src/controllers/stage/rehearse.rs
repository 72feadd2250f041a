//! What would become of a promotion, without asking for it.

use jiff::Timestamp;
use uuid::Uuid;

use super::{
    policy, promotion, recall,
    requests::pick::{Picked, Shelf},
};
use crate::{
    api::Stage,
    controllers::{deploy::gate::Asked, error::Error},
    domain::{
        actor::Actor,
        deploy::{self, Deploy, State},
        promotion::{Gate, gates},
        release::Release,
    },
    store::{Proof, Store, TargetState},
};

/// A promotion as it would be asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wish<'a> {
    /// The release: its hash, or the beginning of it; none is the newest that has been proven.
    pub release: Option<&'a str>,
    /// The stage that it comes from, where there are several.
    pub from: Option<&'a str>,
    /// Pass over soak, approvals and windows.
    pub emergency: bool,
    /// Who asks.
    pub actor: &'a Actor,
    /// Why.
    pub reason: &'a str,
}

/// What would become of it.
#[derive(Debug)]
pub struct Rehearsal {
    /// The release that would come.
    pub release: Release,
    /// What each gate says of it now.
    pub gates: Vec<Gate>,
}

/// Asks the gates of `stage` about a promotion that nobody has asked for. `suspended` names what is suspended, if anything
/// is. Changes nothing.
///
/// # Errors
/// Those of the store; why there is nothing to promote, as the inner result.
pub async fn rehearse(
    store: &Store,
    stage: &Stage,
    suspended: Option<&str>,
    state: TargetState,
    wish: Wish<'_>,
    now: Timestamp,
) -> Result<Result<Rehearsal, String>, Error> {
    let name = state.target.name.clone();
    let memory = recall::remember(state)?;
    let ledger = memory.ledger.unwrap_or_default();
    let Some(declared) = &stage.spec.promotion else {
        return Ok(Err("spec.promotion is not set: nothing is promoted to this stage".into()));
    };
    let rules = match promotion::rules(Some(declared)) {
        Ok(rules) => rules,
        Err(wrong) => return Ok(Err(wrong.join("; "))),
    };
    let shelf = Shelf { store, target: memory.target, project: memory.project };
    let Picked { release, .. } = match shelf.pick(&rules, &ledger, wish.release, wish.from, now).await? {
        Ok(picked) => picked,
        Err(why) => return Ok(Err(why)),
    };
    let id = release.id();
    let wanted = Deploy {
        id: Uuid::nil(),
        target: memory.target,
        sequence: ledger.next_sequence(),
        release: id.clone(),
        snapshot: String::new(),
        instance: String::new(),
        state: State::Pending,
        since: now,
        version: 1,
        actor: wish.actor.clone(),
        cause: wish.reason.to_owned(),
        reason: None,
        message: None,
        rollback_of: None,
        evidence_at: None,
        created_at: now,
        finished_at: None,
    };
    let mut found = store.proofs_list(memory.target, &rules.from, std::slice::from_ref(&id)).await?;
    let proof = found.pop().unwrap_or_else(|| Proof::none(id));
    let open: Vec<Deploy> = ledger.open.iter().map(|entry| entry.deploy.clone()).chain([wanted.clone()]).collect();
    let asked = Asked {
        stage: &name,
        suspended,
        ledger: &ledger,
        deploy: &wanted,
        request: Some("request"),
        emergency: wish.emergency,
        queue: deploy::queue(&wanted, &open, policy::queue(&stage.spec), None, None),
    };
    let gates = gates(&asked.facts(&proof, now), &rules, now);
    Ok(Ok(Rehearsal { release, gates }))
}
