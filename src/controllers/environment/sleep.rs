//! Sleep: the workloads stay, with no pod. Their mark says so, and so whoever brings the instance up again sees that they are
//! not as they should be.

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

use crate::{
    api::labels,
    cluster::index::StageChildren,
    controllers::{
        context::Context,
        deploy::{Target, apply, ledger::Ledger, observe},
        error::Error,
    },
};

/// What the mark of a workload without pods is.
pub const ASLEEP: &str = "asleep";

/// How long pods go on serving after their route has been led away from them.
const LED_AWAY: SignedDuration = SignedDuration::from_secs(3);

/// Whether a workload is without pods because its environment sleeps.
pub fn any(children: &StageChildren) -> bool {
    children.workloads().any(|view| view.meta.rendered.as_deref() == Some(ASLEEP))
}

/// Has its routes lead to the built-in proxy. Writes nothing where they do.
pub async fn lead_away(ctx: &Context, target: &Target<'_>, ledger: &Ledger) -> Result<(), Error> {
    let Some(good) = &ledger.good else {
        return Ok(());
    };
    let children = ctx.index.stage(&target.place);
    apply::routes(ctx, target, good, Some(&good.deploy.instance), &children).await?;
    apply::prune_routes(ctx, target, good, &children).await
}

/// Takes the pods away of what has slept since then. Writes once for each workload, and nothing where that is done. Gives
/// when to come back where its pods stay a little: proxies hear of a route some time after it is written.
pub async fn lay(
    ctx: &Context,
    target: &Target<'_>,
    ledger: &mut Ledger,
    since: Timestamp,
) -> Result<Option<Timestamp>, Error> {
    let children = ctx.index.stage(&target.place);
    let awake = |name: &str| {
        children.workload(name).is_some_and(|view| view.meta.rendered.as_deref() != Some(ASLEEP) && !view.meta.deleting)
    };
    let Some(good) = &mut ledger.good else {
        return Ok(None);
    };
    if !children.workloads().any(|view| awake(&view.meta.name)) {
        return Ok(None);
    }
    let due = since.saturating_add(LED_AWAY).unwrap_or(Timestamp::MAX);
    if target.fallback.is_some() && ctx.clock.now() < due {
        return Ok(Some(due));
    }
    let planned = observe::planned(good, target, &children)?;
    for service in planned.manifests.services() {
        if !awake(&service.workload.name_any()) {
            continue;
        }
        let mut workload = service.workload.clone();
        workload.annotations_mut().insert(labels::RENDERED.to_owned(), ASLEEP.to_owned());
        if let Some(spec) = &mut workload.spec {
            spec.replicas = Some(0);
        }
        ctx.writer.apply(&workload).await?;
    }
    Ok(None)
}
