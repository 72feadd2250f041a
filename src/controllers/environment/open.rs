//! The life of an environment, begun if need be, or read again.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt as _;

use super::{known::Lived, namespace};
use crate::{
    api::{Environment, Project, conditions::Outcome},
    cluster::index::StageKey,
    controllers::{
        context::Context,
        error::{Error, STALLED_REST},
    },
    domain::environment::{prefix, subdomain},
    safe,
    store::{Environment as Life, NewEnvironment, NewStage, Recorded, StoreError},
};

/// How long an environment may be older than its project before the name counts as wrong: both may be applied together.
const PROJECT_GRACE: Duration = Duration::from_secs(10);

/// Two environments that draw the same twelve characters are no accident, but one may try again.
const DRAWS: usize = 3;

/// What there is of an environment.
pub enum Opened {
    /// It lives.
    Lives(Box<Lived>),
    /// It cannot, and how long that rests.
    Refused(Outcome, Duration),
    /// It never could, and its time is over.
    Over,
}

/// The life of an environment. Without its project none begins.
pub async fn open(
    ctx: &Context,
    environment: &Environment,
    project: Option<&Project>,
    key: &StageKey,
) -> Result<Opened, Error> {
    let uid = environment.uid().unwrap_or_default();
    if let Some((mut lived, stale)) = ctx.lives.get(key).filter(|(lived, _)| lived.life.uid == uid) {
        if stale {
            again(ctx, &mut lived).await?;
        }
        return Ok(Opened::Lives(Box::new(lived)));
    }
    if let Some(life) = ctx.store.environment_find(&key.namespace, &key.name).await?
        && life.uid == uid
    {
        return Ok(met(ctx, key, life, environment));
    }
    let Some(project) = project else {
        return Ok(without_project(ctx, environment, key));
    };
    begin(ctx, environment, project, key, &uid).await
}

async fn begin(
    ctx: &Context,
    environment: &Environment,
    project: &Project,
    key: &StageKey,
    uid: &str,
) -> Result<Opened, Error> {
    let row = ctx.store.project_upsert(ctx.ids.next(), &key.namespace, &project.name_any()).await?;
    let number = environment.spec.source.as_ref().and_then(|source| source.pull_request);
    for _ in 0..DRAWS {
        let random =
            safe::random().map_err(|error| Error::Sealed { reason: "NoRandomBytes", message: error.to_string() })?;
        let Some(subdomain) = subdomain(&prefix(number, &key.name), &random) else {
            continue;
        };
        let new = NewEnvironment {
            stage: NewStage {
                id: ctx.ids.next(),
                project_id: row.id,
                namespace: key.namespace.to_string(),
                name: key.name.to_string(),
                uid: uid.to_owned(),
            },
            place: namespace::choose(ctx, environment, key, &subdomain),
            subdomain,
            born: ctx.clock.now(),
        };
        match ctx.store.environment_open(&new).await? {
            Recorded::Known(life) => {
                ctx.memories.forget(key);
                return Ok(met(ctx, key, *life, environment));
            }
            Recorded::SubdomainTaken => {}
        }
    }
    Err(StoreError::Conflict("no subdomain was free".into()).into())
}

/// One that this process has not seen before. It is known at once: whoever has news of it while the first pass goes on finds it
/// by that.
fn met(ctx: &Context, key: &StageKey, life: Life, environment: &Environment) -> Opened {
    let lived = Lived::new(life, environment.spec.project.clone(), environment.spec.template.base.clone());
    ctx.lives.put(key, lived.clone());
    Opened::Lives(Box::new(lived))
}

/// What the database says of it now. Should it not answer, the next pass asks again: a wake that was told is told once.
pub async fn again(ctx: &Context, lived: &mut Lived) -> Result<(), Error> {
    let found = ctx.store.environment_get(lived.life.id).await;
    match found.inspect_err(|_| _ = ctx.lives.changed(lived.life.id))? {
        Some(life) => {
            lived.life = life;
            Ok(())
        }
        None => Err(StoreError::Conflict(format!("environment {} was deleted meanwhile", lived.life.id)).into()),
    }
}

fn without_project(ctx: &Context, environment: &Environment, key: &StageKey) -> Opened {
    let (created, now) =
        (environment.creation_timestamp().map_or(Timestamp::UNIX_EPOCH, |time| time.0), ctx.clock.now());
    let ends = created.saturating_add(environment.spec.template.ttl.as_std()).unwrap_or(Timestamp::MAX);
    if ends <= now && !environment.spec.pinned {
        return Opened::Over;
    }
    let passing = now < created.saturating_add(PROJECT_GRACE).unwrap_or(created);
    let message = format!(
        "there is no Project `{}` in namespace {}: create it there, or delete this Environment and make one whose spec.project \
         names an existing Project",
        environment.spec.project, key.namespace
    );
    if passing {
        Opened::Refused(Outcome::reconciling("ProjectNotFound", message), PROJECT_GRACE)
    } else {
        Opened::Refused(Outcome::stalled("ProjectNotFound", message), STALLED_REST)
    }
}
