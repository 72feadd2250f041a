//! What people asked of a stage: each request is acted on once, and settled together with its effect.

mod back;
mod keep;
mod live;
pub mod pick;
mod promote;

pub use back::mend;

use std::sync::Arc;

use kube::ResourceExt as _;

use super::{annotated, decide::Refusal};
use crate::{
    api::{Environment, Project, RequestStatus, Stage, bounded},
    cluster::index::StageKey,
    controllers::{
        context::Context,
        deploy::{Target, ledger::Ledger},
        environment::known::Known,
        error::{Class, Error},
    },
    domain::{
        actor::Actor,
        annotation::Of,
        group::{Phase, phase, told},
        plan::Wanted,
        promotion::Rules,
        release::{Release, ReleaseId},
        request::{Action, Origin, RequestState, Via},
    },
    store::{self, Asked, NewRequest, Settlement, StoreError, StoredRequest},
};

/// States of a request in the status.
const PENDING: &str = "Pending";
const DONE: &str = "Done";
const REFUSED: &str = "Refused";

/// What became of a request.
enum Outcome {
    /// It was settled with its effect.
    Settled,
    /// It cannot be done.
    Refused(String),
}

/// A stage as requests find it.
pub struct Scene<'a> {
    /// What every pass shares.
    pub ctx: &'a Context,
    /// The object.
    pub stage: &'a Stage,
    /// Its project, if there is one.
    pub project: Option<&'a Project>,
    /// The stage as its deploys know it.
    pub target: &'a Target<'a>,
    /// What is asked of releases that come from other stages, or what is wrong with that.
    pub rules: &'a Result<Option<Arc<Rules>>, Refusal>,
    /// Its life, if it is an environment.
    pub life: Option<&'a Known>,
}

/// Acts on everything that was asked of the stage, in the order in which it was asked.
///
/// # Errors
/// Those of the store: what is settled is not known any more then, and is read again.
pub async fn act(scene: &Scene<'_>, ledger: &mut Ledger, annotation: &mut Option<RequestStatus>) -> Result<(), Error> {
    let Scene { ctx, target, .. } = scene;
    take_up(scene, annotation).await?;
    for request in ctx.asked.of(&target.key) {
        let outcome = scene.one(ledger, &request).await;
        let outcome = match outcome {
            Ok(outcome) => outcome,
            // Trying again would end the same, and nothing else of the stage would have its turn.
            Err(error) if is_hopeless(&error) => Outcome::Refused(error.to_string()),
            Err(error) => {
                ctx.asked.forget(&target.key);
                return Err(error);
            }
        };
        let action = request.action.word();
        note(annotation, &request, &outcome);
        match outcome {
            Outcome::Settled => {
                tracing::info!(stage = %target.key, request = %request.id, action, actor = %request.actor, "request done");
            }
            Outcome::Refused(why) => {
                tracing::info!(stage = %target.key, request = %request.id, action, actor = %request.actor, why, "request refused");
                let settlement = Settlement { request: request.id, message: why };
                let refused = ctx.store.request_refuse(&settlement, ctx.clock.now()).await;
                if let Err(error) = refused.map_err(Error::from).and_then(|refused| by_us(refused, &request)) {
                    ctx.asked.forget(&target.key);
                    return Err(error);
                }
                if let Some(group) = request.group {
                    ctx.groups.changed(group, &target.key);
                }
            }
        }
        ctx.asked.settled(&target.key, request.id);
    }
    Ok(())
}

/// Writes down what an annotation asks for, once for each nonce.
async fn take_up(scene: &Scene<'_>, known: &mut Option<RequestStatus>) -> Result<(), Error> {
    let Scene { ctx, stage, target, .. } = scene;
    let of = if scene.life.is_some() { Of::Environment } else { Of::Stage };
    let (Some(written), Some(nonce)) = (annotated::annotated(stage, of), annotated::nonce(stage)) else {
        return Ok(());
    };
    let told = stage.status.as_ref().and_then(|status| status.last_request.as_ref());
    let is_settled = |told: &&RequestStatus| told.nonce == nonce && told.state != PENDING;
    if known.as_ref().is_some_and(|known| known.nonce == nonce) || told.as_ref().is_some_and(is_settled) {
        return Ok(());
    }
    let status = |state: &str, message| Some(RequestStatus { nonce: nonce.into(), state: state.into(), message });
    let written = match written {
        Ok(written) => written,
        Err(why) => {
            *known = status(REFUSED, Some(bounded(why)));
            return Ok(());
        }
    };
    let verified = written.user.is_some() && is_guarded(scene).await;
    let by_tool = || written.manager.clone().unwrap_or_else(|| "unknown".into());
    let request = NewRequest {
        id: ctx.ids.next(),
        namespace: target.key.namespace.to_string(),
        stage: target.key.name.to_string(),
        action: written.action,
        actor: Actor::User(written.user.clone().unwrap_or_else(by_tool)),
        groups: written.groups,
        reason: written.reason,
        origin: Origin {
            via: Via::Annotation,
            verified,
            source: written.user.is_none().then(|| "the name is that of the field manager".into()),
            request_id: Some(nonce.into()),
        },
        idempotency_key: Some(format!("annotation {} {nonce}", stage.uid().unwrap_or_default())),
        group: None,
        at: ctx.clock.now(),
    };
    *known = match ctx.store.request_create(&request).await? {
        Asked::Made(_) => status(PENDING, None),
        Asked::Repeated(before) => match before.state {
            RequestState::Pending => status(PENDING, None),
            // As it is told where it is settled: a new leader says the same.
            RequestState::Done => status(DONE, None),
            RequestState::Refused => status(REFUSED, before.message),
        },
        Asked::Reused => status(REFUSED, Some("this nonce was used before, for something else".into())),
    };
    Ok(())
}

/// Whether the name that an annotation gives can be believed. What cannot be found out is not.
async fn is_guarded(scene: &Scene<'_>) -> bool {
    let (writer, StageKey { namespace, name }) = (&scene.ctx.writer, &scene.target.key);
    let guarded = match scene.life {
        Some(_) => writer.requests_are_guarded::<Environment>(namespace, name).await,
        None => writer.requests_are_guarded::<Stage>(namespace, name).await,
    };
    guarded.unwrap_or(false)
}

/// What became of the request of an annotation, for the status.
fn note(known: &mut Option<RequestStatus>, request: &StoredRequest, outcome: &Outcome) {
    let nonce = request.origin.request_id.as_deref().filter(|_| request.origin.via == Via::Annotation);
    if let Some(known) = known.as_mut().filter(|known| Some(known.nonce.as_str()) == nonce) {
        (known.state, known.message) = match outcome {
            Outcome::Settled => (DONE.into(), None),
            Outcome::Refused(why) => (REFUSED.into(), Some(bounded(why.clone()))),
        };
    }
}

impl Scene<'_> {
    async fn one(&self, ledger: &mut Ledger, request: &StoredRequest) -> Result<Outcome, Error> {
        if request.action.needs_reason() && request.reason.trim().is_empty() {
            return Ok(Outcome::Refused(format!("{} needs a reason: others will read it", request.action.word())));
        }
        if let Some(why) = self.broken(request).await? {
            return Ok(Outcome::Refused(why));
        }
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
            Action::Wake | Action::Sleep | Action::Extend { .. } | Action::Pin | Action::Unpin | Action::Delete => {
                self.live(request).await
            }
        }
    }

    /// Why nothing comes of a request whose group cannot begin any more.
    async fn broken(&self, request: &StoredRequest) -> Result<Option<String>, Error> {
        let Some(group) = request.group else {
            return Ok(None);
        };
        let Some(stored) = self.ctx.store.group_get(group).await? else {
            return Ok(None);
        };
        Ok(match phase(&stored.members, stored.started_at.is_some()) {
            Phase::Broken(why) => Some(told(&why)),
            _ => None,
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

/// Whether the same request would end the same however often it is tried.
fn is_hopeless(error: &Error) -> bool {
    match error {
        Error::Store(error) => !matches!(error.class(), store::Class::Unavailable | store::Class::Conflict),
        error => error.class() == Class::Stalled,
    }
}

/// Only the leader settles requests: whoever finds one settled by another leads no more, and remembers what is out of date.
fn by_us(settled: bool, request: &StoredRequest) -> Result<(), Error> {
    if settled {
        return Ok(());
    }
    Err(StoreError::Conflict(format!("request {} was settled by another", request.id)).into())
}

/// What a request wants to run.
fn asked(release: &Release, snapshot: String, request: &StoredRequest) -> Wanted {
    Wanted { release: release.id(), snapshot, request: Some(format!("request:{}", request.id)) }
}

/// What was done, and why, in one sentence.
fn because(what: &str, reason: &str) -> String {
    if reason.is_empty() { what.to_owned() } else { format!("{what}: {reason}") }
}
