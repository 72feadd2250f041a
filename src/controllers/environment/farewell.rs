//! Jobs before the end of an environment: giving back what was taken elsewhere. Whatever becomes of them, it ends.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt as _;

use crate::{
    api::{Environment, Hook, labels},
    cluster::{error::Class as ApiClass, index::StageChildren},
    controllers::{
        context::Context,
        deploy::{
            Target, apply, hooks,
            ledger::{Entry, HookRun, Ledger},
            observe,
        },
        error::Error,
    },
    domain::deploy::Phase,
    render::{self, HookManifests, names},
};

/// What a Job has beyond its own timeout: a node takes it, pulls its image, and says how it ended.
const MARGIN: Duration = Duration::from_mins(1);

/// The value of the label that names the moment.
const MOMENT: &str = "before-delete";

/// Where the output of the Jobs is kept: the deploy that served has succeeded long since.
const KEPT_AS: Phase = Phase::AfterSuccess;

/// How far the Jobs are.
#[derive(Debug, PartialEq, Eq)]
pub enum Said {
    /// The end may come: they have ended, or their time is over.
    All,
    /// One is not over, and which.
    Waits(String),
}

/// Moves the Jobs on, one after the other.
pub async fn said(
    ctx: &Context,
    environment: &Environment,
    target: &Target<'_>,
    ledger: &mut Ledger,
) -> Result<Said, Error> {
    let hooks = environment.spec.template.hooks.as_ref().map(|hooks| &hooks.before_delete[..]).unwrap_or_default();
    let Some(good) = ledger.good.as_mut().filter(|_| !hooks.is_empty()) else {
        return Ok(Said::All);
    };
    let latest = deadline(environment, hooks);
    if latest <= ctx.clock.now() {
        tracing::warn!(environment = %target.key, "the time of the hooks before its end is over; it ends without them");
        return Ok(Said::All);
    }
    let children = ctx.index.stage(&target.place);
    for (number, hook) in hooks.iter().enumerate() {
        if !ended(ctx, target, good, hook, &children).await? {
            let (name, number, all) = (&hook.name, number + 1, hooks.len());
            let message = format!(
                "before its end the Job of hook {name} runs ({number} of {all}); it ends at {latest} at the latest"
            );
            return Ok(Said::Waits(message));
        }
    }
    Ok(Said::All)
}

fn deadline(environment: &Environment, hooks: &[Hook]) -> Timestamp {
    let begun = environment.metadata.deletion_timestamp.as_ref().map_or(Timestamp::MIN, |time| time.0);
    let all: Duration = hooks.iter().map(|hook| hook.timeout.as_std() + MARGIN).sum();
    begun.saturating_add(all).unwrap_or(Timestamp::MAX)
}

fn named(hook: &Hook) -> String {
    format!("{MOMENT}-{}", hook.name)
}

fn job(good: &Entry, hook: &Hook) -> String {
    names::job(&good.snapshot.identity.stage, &named(hook), KEPT_AS.word(), &good.deploy.id.to_string())
}

/// Whether a Job has ended, however; it is begun if need be. Both are stored: once what it needs is being removed, it is not
/// made again, whoever leads by then.
async fn ended(
    ctx: &Context,
    target: &Target<'_>,
    good: &mut Entry,
    hook: &Hook,
    children: &StageChildren,
) -> Result<bool, Error> {
    let key = (KEPT_AS, named(hook));
    match good.hooks.get(&key) {
        Some(HookRun::Succeeded | HookRun::Failed(_)) => return Ok(true),
        Some(HookRun::Running) => {}
        None => hooks::begin(ctx, good, key.clone()).await?,
    }
    let name = job(good, hook);
    if let Some(job) = children.job(&name) {
        let Some(ended) = hooks::ended(job, children) else {
            return Ok(false);
        };
        hooks::finish(ctx, good, key, ended, &name, children).await?;
        return Ok(true);
    }
    if good.snapshot.services.is_empty() {
        return Ok(true);
    }
    match make(ctx, target, good, hook, children).await {
        Ok(()) => Ok(false),
        Err(error) if is_refusal(&error) => {
            let at = &target.key;
            tracing::warn!(environment = %at, hook = hook.name, %error, "a hook before its end cannot be run; it ends without");
            let why = HookRun::Failed(format!("it cannot be run: {error}"));
            hooks::finish(ctx, good, key, why, &name, children).await?;
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

/// Whether the Job itself is not acceptable, now or later: not that there is no room, or no right to it.
fn is_refusal(error: &Error) -> bool {
    match error {
        Error::Snapshot { .. } => true,
        Error::Cluster(error) => matches!(error.class(), ApiClass::Invalid | ApiClass::Denied),
        _ => false,
    }
}

/// Makes the Job and what it needs, as far as the addresses are known that it has to know.
async fn make(
    ctx: &Context,
    target: &Target<'_>,
    good: &mut Entry,
    hook: &Hook,
    children: &StageChildren,
) -> Result<(), Error> {
    let snapshot = good.snapshot.clone();
    let Some(first) = snapshot.services.first() else {
        return Ok(());
    };
    let mut resolved = render::resolved_hook(hook, &first.name);
    resolved.name = named(hook);
    let at = good.context(target, children);
    let HookManifests { claims, config, secret, pull, mut job, addresses } =
        render::hook(&snapshot, &good.deploy.instance, &resolved, KEPT_AS, &at).map_err(|problems| {
            Error::Snapshot { snapshot: good.deploy.snapshot.clone(), message: problems.to_string() }
        })?;
    if addresses.iter().any(|name| !at.service_ips.contains_key(name)) {
        return Ok(());
    }
    job.labels_mut().insert(labels::HOOK.to_owned(), MOMENT.to_owned());
    let planned = observe::planned(good, target, children)?;
    let secrets = secret.iter().chain(pull.iter().map(|pull| &pull.manifest));
    apply::secrets(ctx, target, good, &planned, secrets, children).await?;
    for claim in &claims {
        ctx.writer.apply(claim).await?;
    }
    if let Some(config) = &config {
        ctx.writer.apply(config).await?;
    }
    ctx.writer.apply(&job).await?;
    Ok(())
}
