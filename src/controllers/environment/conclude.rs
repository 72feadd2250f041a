//! The end of a pass: the status is written if it is due.

use kube::runtime::controller::Action;

use super::{
    Ground, RESYNC,
    known::Lived,
    show::{self, Surroundings},
};
use crate::{
    api::{Environment, EnvironmentStatus, StageStatus, conditions},
    cluster::index::StageKey,
    controllers::{
        context::Context,
        deploy::{Driven, ledger::Ledger},
        error::Error,
        stage::{
            decide::Decided,
            memory::Memory,
            outcome::{self, Situation},
            status, until,
        },
    },
    domain::environment::Seat,
};

/// Writes the status if it is due, and says when to look again.
pub(super) async fn conclude(
    ground: &Ground<'_>,
    lived: &mut Lived,
    memory: &mut Memory,
    ledger: &Ledger,
    decided: &Decided,
    mut driven: Driven,
    around: &Surroundings<'_>,
) -> Result<Action, Error> {
    let Ground { environment, key, ctx, composed, .. } = ground;
    let now = ctx.clock.now();
    let situation = Situation {
        stage: &composed.stage,
        ledger,
        decided,
        waiting: driven.waiting.as_ref(),
        gates: &driven.gates,
        request: memory.request.as_ref(),
        unready: memory.unready_since.is_some(),
        asleep: (!around.awake).then(|| asleep(around)),
        edge: None,
    };
    lived.shown(environment.status.as_ref());
    let before = lived.written.as_deref().or(environment.status.as_ref()).cloned().unwrap_or_default();
    let children = ctx.index.stage(&StageKey::new(around.life.place.as_str(), &*key.name));
    // The address is laid over what the stage says, so it has to be taken off to compare.
    let bare = StageStatus { url: None, ..before.stage.clone() };
    let after = outcome::status(&bare, &situation, &children, now);
    let shown = show::show(after, around);
    let since = *memory.unwritten_since.get_or_insert(now);
    let others = ctx.memories.unwritten();
    let due = if shown == before {
        None
    } else {
        status::due(&before.stage, &shown.stage, since, others, false).or(Some(since))
    };
    match due {
        None => memory.unwritten_since = None,
        Some(at) if at <= now => {
            write(ctx, environment, lived, shown).await?;
            memory.unwritten_since = None;
        }
        Some(at) => driven.wake_at(at),
    }
    ctx.backoff.reset(&key.to_string());
    Ok(driven.wake.map_or_else(|| Action::requeue(RESYNC), |at| Action::requeue(until(at, now).min(RESYNC))))
}

fn asleep(around: &Surroundings<'_>) -> String {
    match around.seat {
        Seat::Waits(place) => format!("it wants to wake and waits for room, at place {place}"),
        Seat::Yields => "it made room for another".into(),
        Seat::Taken => around.span.why().into(),
    }
}

async fn write(
    ctx: &Context,
    environment: &Environment,
    lived: &mut Lived,
    status: EnvironmentStatus,
) -> Result<(), Error> {
    ctx.writer.apply_status(environment, &status).await?;
    lived.written = Some(Box::new(status));
    Ok(())
}

/// Tells an outcome in the conditions, once, and leaves the rest of the status as it is.
pub(super) async fn tell(
    ctx: &Context,
    environment: &Environment,
    lived: Option<&mut Lived>,
    outcome: &conditions::Outcome,
) -> Result<(), Error> {
    let written = lived.as_ref().and_then(|lived| lived.written.as_deref());
    let before = written.or(environment.status.as_ref()).cloned().unwrap_or_default();
    let generation = environment.metadata.generation.unwrap_or_default();
    let mut after = before.clone();
    after.stage.observed_generation = generation;
    after.stage.conditions = conditions::conditions(&before.stage.conditions, outcome, generation, ctx.clock.now());
    // What comes by itself, such as the database, changes nothing of where it is in its life.
    let phase = match outcome {
        _ if environment.metadata.deletion_timestamp.is_some() => Some("Ending"),
        conditions::Outcome::Stalled { .. } => Some("Failed"),
        _ => None,
    };
    after.phase = phase.map(str::to_owned).or(after.phase).or_else(|| Some("Pending".to_owned()));
    if after != before {
        ctx.writer.apply_status(environment, &after).await?;
        if let Some(lived) = lived {
            lived.written = Some(Box::new(after));
        }
    }
    Ok(())
}
