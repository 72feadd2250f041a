//! The end of an environment: what it made goes, its history stays. Needs only its identity; "already gone" is done.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use kube::{Resource as _, ResourceExt as _, runtime::controller::Action};

use super::{
    conclude::tell,
    farewell::{self, Said},
    known::Lived,
    namespace,
};
use crate::{
    api::{Environment, conditions::Outcome, labels::FINALIZER},
    cluster::{apply::Doomed, index::StageKey},
    controllers::{
        context::{Context, Taken},
        deploy::{Target, record},
        error::Error,
        stage::{delete, memory::Memory, outcome, recall},
    },
    domain::deploy::{QueuePolicy, State, stopped},
};

/// How long a namespace may take to go before it is looked at again; what goes in it triggers a pass anyway.
const RECHECK: Duration = Duration::from_secs(5);

/// A namespace that takes longer to go is told of.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a project may be out of sight before its environments end: it may be applied anew.
const ORPHANED: Duration = Duration::from_mins(1);

/// Asks for its deletion, which does the rest.
pub async fn begin(ctx: &Context, environment: &Environment) -> Result<(), Error> {
    let (namespace, name) = (environment.namespace().unwrap_or_default(), environment.name_any());
    let doomed = Doomed { namespace: &namespace, name: &name, uid: environment.metadata.uid.as_deref() };
    Ok(ctx.writer.delete::<Environment>(doomed).await?)
}

/// Its project is not there: after a while it ends.
pub async fn orphaned(
    ctx: &Context,
    environment: &Environment,
    key: &StageKey,
    lived: &mut Lived,
) -> Result<Action, Error> {
    let now = ctx.clock.now();
    let since = *lived.orphaned.get_or_insert(now);
    let ends = since.saturating_add(ORPHANED).unwrap_or(now);
    if now < ends {
        return Ok(Action::requeue(Duration::try_from(ends.duration_since(now)).unwrap_or_default()));
    }
    ctx.store.environment_ends(lived.life.id, now, "its project was deleted").await?;
    tracing::info!(environment = %key, "an environment ends: its project was deleted");
    begin(ctx, environment).await?;
    Ok(Action::await_change())
}

/// Closes what is open, removes what it made, marks the rows, and lets the object go.
pub async fn cleanup(environment: &Environment, key: &StageKey, ctx: &Context) -> Result<Action, Error> {
    if !environment.finalizers().iter().any(|finalizer| finalizer == FINALIZER) {
        ctx.lives.forget(key);
        return Ok(Action::await_change());
    }
    if let Some(since) = leaves(ctx, key) {
        if since.saturating_add(PATIENCE).is_ok_and(|late| late <= ctx.clock.now()) {
            let place = place(ctx, key).await?.unwrap_or_default();
            let message = format!(
                "its namespace {place} is not gone since {since}; `kubectl describe namespace {place}` says what is left in it"
            );
            told(ctx, environment, key, &Outcome::reconciling("NamespaceEnding", message)).await?;
        }
        return Ok(Action::requeue(RECHECK));
    }
    ctx.images.subscribe(&(key.namespace.to_string(), key.name.to_string()), &BTreeMap::new());
    match ctx.memories.take(key) {
        Taken::Lent => return Ok(Action::await_change()),
        Taken::Nothing => {}
        Taken::Memory(mut memory) => {
            let stopped = stop(ctx, environment, key, &mut memory).await;
            let outcome = match &stopped {
                Ok(Said::All) => None,
                Ok(Said::Waits(message)) => Some(Outcome::reconciling("RunningHooks", message.as_str())),
                Err(error) => outcome::of_error(error),
            };
            if !matches!(stopped, Ok(Said::All)) {
                ctx.memories.put(key.clone(), memory);
                if let Some(outcome) = outcome {
                    told(ctx, environment, key, &outcome).await?;
                }
                return stopped.map(|_| Action::requeue(RECHECK));
            }
        }
    }
    // What has a namespace to itself has nothing here.
    let here = place(ctx, key).await?.is_none_or(|place| place == *key.namespace);
    let gone = namespace::remove_all(ctx, key).await? & (!here || delete::children(ctx, key).await?);
    ctx.store.environment_ended(&key.namespace, &key.name, ctx.clock.now()).await?;
    ctx.store.stage_soft_delete(&key.namespace, &key.name).await?;
    if !gone {
        if let Some((mut lived, _)) = ctx.lives.get(key) {
            lived.leaves = !here;
            ctx.lives.put(key, lived);
        }
        return Ok(Action::requeue(RECHECK));
    }
    let project = ctx.lives.get(key).map(|(lived, _)| lived.project);
    ctx.lives.forget(key);
    if let Some(project) = project {
        super::tell_others(ctx, key, &project);
    }
    let others: Vec<&str> =
        environment.finalizers().iter().map(String::as_str).filter(|one| *one != FINALIZER).collect();
    ctx.writer.set_finalizers(environment, &others).await?;
    Ok(Action::await_change())
}

/// Since when all that is left is to wait for its own namespace. Each object in there that goes triggers a pass, which is to cost
/// nothing.
fn leaves(ctx: &Context, key: &StageKey) -> Option<Timestamp> {
    let (lived, _) = ctx.lives.get(key).filter(|(lived, _)| lived.leaves)?;
    let found = namespace::seen(ctx, &lived.life.place)?;
    found.metadata.deletion_timestamp.as_ref().map(|time| time.0)
}

/// Tells what its end waits for.
async fn told(ctx: &Context, environment: &Environment, key: &StageKey, outcome: &Outcome) -> Result<(), Error> {
    let Some((mut lived, _)) = ctx.lives.get(key) else {
        return tell(ctx, environment, None, outcome).await;
    };
    let told = tell(ctx, environment, Some(&mut lived), outcome).await;
    ctx.lives.put(key, lived);
    told
}

/// Where its objects are, as far as anybody knows.
async fn place(ctx: &Context, key: &StageKey) -> Result<Option<String>, Error> {
    Ok(match ctx.lives.get(key) {
        Some((lived, _)) => Some(lived.life.place),
        None => ctx.store.environment_find(&key.namespace, &key.name).await?.map(|life| life.place),
    })
}

/// Ends what is under way, so that an environment of the same name begins with nothing open, and lets its last Jobs run.
async fn stop(ctx: &Context, environment: &Environment, key: &StageKey, memory: &mut Memory) -> Result<Said, Error> {
    let own = place(ctx, key).await?.filter(|place| *place != *key.namespace);
    let namespace = own.as_ref().and_then(|own| namespace::seen(ctx, own));
    let mut ledger = recall::ledger(ctx, memory).await?;
    let vault = ctx.vault.of(&key.namespace, &environment.spec.project);
    let target = Target {
        id: memory.target,
        project: memory.project,
        key: key.clone(),
        place: own.as_ref().map_or_else(|| key.clone(), |own| StageKey::new(own.as_str(), &*key.name)),
        owner: super::namespace::owner(environment, own.as_deref(), namespace.as_ref().and_then(|found| found.uid())),
        object: environment.object_ref(&()),
        route: None,
        hosts: &[],
        queue: QueuePolicy::Latest,
        suspended: None,
        rules: None,
        unreadable: None,
        logins: vault.map(|held| held.logins.clone()).unwrap_or_default(),
        fallback: None,
        dozes: false,
        promotes: false,
    };
    while let Some(entry) = ledger.open.first() {
        let why = || "the environment was deleted".to_owned();
        let (steps, close) = match entry.deploy.state {
            State::Failed => (Vec::new(), Some(why())),
            _ => (vec![stopped(&entry.deploy, why())], None),
        };
        record::advance(ctx, &target, &mut ledger, 0, &steps, close, &record::Moved::default(), ctx.clock.now())
            .await?;
    }
    let is_there = own.is_none() || namespace.is_some_and(|found| found.metadata.deletion_timestamp.is_none());
    let said = if is_there { farewell::said(ctx, environment, &target, &mut ledger).await? } else { Said::All };
    memory.ledger = Some(ledger);
    Ok(said)
}
