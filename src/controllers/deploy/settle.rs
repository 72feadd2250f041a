//! What holds between deploys: traffic at the good instance, nothing missing, old instances gone, no late collapse.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{Secret, Service},
    networking::v1::Ingress,
};

use super::{
    Driven, Target, apply, files, hooks,
    ledger::{HookRun, Instance, Ledger},
    observe, record, values,
    workloads::{self, Standing},
};
use crate::{
    cluster::index::{StageChildren, View as _},
    controllers::{context::Context, environment::sleep, error::Error},
    domain::{
        deploy::{Hooks, Phase, State, watch},
        retire::{Kept, Retirement, Role, retire},
    },
    render::{gateway::HttpRoute, names},
};

/// Numbers that settling works with.
#[derive(Debug, Clone, Copy)]
pub struct Keeping {
    /// How long an instance stays after traffic left it.
    pub keep_previous: Duration,
    /// How many instances may run side by side.
    pub max_instances: usize,
    /// How long after success a collapse still rolls back.
    pub watch: Duration,
}

/// Brings about what holds between deploys. Returns a collapse, if the serving release went bad.
pub async fn settle(
    ctx: &Context,
    target: &Target<'_>,
    ledger: &mut Ledger,
    unready_since: &mut Option<Timestamp>,
    keeping: Keeping,
    driven: &mut Driven,
) -> Result<Option<record::Collapse>, Error> {
    let now = ctx.clock.now();
    let collapse = serve(ctx, target, ledger, unready_since, keeping.watch, driven, now).await?;
    let children = ctx.index.stage(&target.place);
    let retirement = retire(&kept(ledger, &children), keeping.keep_previous, keeping.max_instances, now);
    remove(ctx, target, ledger, &retirement, &children, now).await?;
    remove_jobs(ctx, target, ledger, &children).await?;
    if let Some(wake) = retirement.wake {
        driven.wake_at(wake);
    }
    Ok(collapse)
}

/// Keeps the good instance whole and its traffic where it belongs, and watches it for a while.
async fn serve(
    ctx: &Context,
    target: &Target<'_>,
    ledger: &mut Ledger,
    unready_since: &mut Option<Timestamp>,
    length: Duration,
    driven: &mut Driven,
    now: Timestamp,
) -> Result<Option<record::Collapse>, Error> {
    let children = ctx.index.stage(&target.place);
    // A deploy in health checking moves the traffic as its last act, and one that is being undone gets it back by itself.
    let moving = ledger.open.iter().any(|entry| matches!(entry.deploy.state, State::HealthChecking | State::Failed));
    let quiet = ledger.open.iter().all(|entry| entry.deploy.state == State::Pending);
    let Some(good) = &mut ledger.good else {
        return Ok(None);
    };
    let planned = observe::planned(good, target, &children)?;
    let whole = planned.expected.iter().all(|one| workloads::standing(one, &children) == Standing::Ready);
    let ready = whole || planned.expected.iter().all(|one| workloads::serves(one, &children));
    if !moving {
        // Never away from what serves to what cannot, nor from what somebody else put there.
        let recorded = |name: &str| name == good.deploy.instance || ledger.instances.contains_key(name);
        if ready && serving(&children).all(recorded) {
            apply::traffic(ctx, &planned, &children).await?;
        }
        let instance = good.deploy.instance.clone();
        apply::routes(ctx, target, good, Some(&instance), &children).await?;
        apply::prune_routes(ctx, target, good, &children).await?;
    }
    if !quiet {
        return Ok(None);
    }
    if observe::hooks(good, Phase::AfterSuccess) != Hooks::Done {
        let after = Phase::AfterSuccess;
        while hooks::run(ctx, target, good, &planned, after, &ctx.index.stage(&target.place)).await? {}
    }
    // Only what is gone is made again, and what knows the address of a Service that was: what renders differently since
    // an upgrade of this program is left as it is.
    let mut services = planned.manifests.services().filter_map(|service| service.service.as_ref());
    if services.any(|one| children.service(one.metadata.name.as_deref().unwrap_or_default()).is_none()) {
        ledger.readdressed = true;
    }
    // Credentials change in place: pods that are made later have to be pulled too.
    apply::secrets(ctx, target, good, &planned, planned.manifests.secrets(), &children).await?;
    if ledger.readdressed
        || sleep::any(&children)
        || planned.expected.iter().any(|one| children.workload(&one.workload).is_none())
    {
        apply::instance(ctx, target, good, &planned, &children).await?;
        ledger.readdressed &= !whole;
    }
    if whole && std::mem::take(&mut ledger.stale_files) {
        files::prune(ctx, target, &planned, &good.snapshot, &children).await?;
    }
    let seen = workloads::workloads(&good.deploy.snapshot, &planned.expected, &children);
    *unready_since = if ready { None } else { Some(unready_since.unwrap_or(now)) };
    let deploy = good.deploy.id;
    if target.promotes && ready == (ledger.unready == Some(deploy)) {
        if ready {
            ctx.store.unready_end(deploy, now).await?;
        } else {
            ctx.store.unready_begin(deploy, now).await?;
        }
        ledger.unready = (!ready).then_some(deploy);
        // Stages that take releases from here begin to count anew.
        ctx.lanes.tell(&target.key);
    }
    Ok(match watch::watch(&good.deploy, &seen, *unready_since, length, now) {
        watch::Watch::Over => None,
        watch::Watch::Fine(wake) => {
            driven.wake_at(wake);
            None
        }
        watch::Watch::Rollback(why) => {
            let screen = values::open(ctx, target, good, &planned).await?;
            Some(record::Collapse(screen.text(&why).into_owned()))
        }
    })
}

/// Every instance that exists or is remembered, and why it exists.
fn kept(ledger: &Ledger, children: &StageChildren) -> Vec<Kept> {
    let mut names: Vec<&str> =
        children.instances().into_iter().chain(ledger.instances.keys().map(String::as_str)).collect();
    names.sort_unstable();
    names.dedup();
    let good = ledger.good.as_ref().map(|entry| &entry.deploy);
    let ended = |row: &Instance| {
        let deploy = ledger.history.iter().find(|finished| finished.deploy.id == row.deploy);
        deploy.and_then(|finished| finished.deploy.finished_at).unwrap_or(row.made)
    };
    // Nothing that has traffic is ever removed, whatever is recorded about it.
    let serves = |name: &str| serving(children).any(|serving| serving == name);
    let kept = |name: &str| {
        let open = ledger.open.iter().any(|entry| entry.deploy.instance == name);
        let role = match (ledger.instances.get(name), good) {
            _ if open || good.is_some_and(|good| good.instance == name) || serves(name) => Role::Needed,
            (None, Some(good)) if serves(&good.instance) => {
                let since = good.finished_at.unwrap_or(good.since);
                // The oldest: one whose row is gone and whose pods still end must not take the place of one that is kept.
                Role::Previous { since, made: Timestamp::MIN }
            }
            (None, _) => Role::Unknown,
            (Some(row), good) if row.failed => Role::Failed { since: ended(row), keep: good.is_none() },
            (Some(row), good) => {
                let since = good.and_then(|good| good.finished_at).unwrap_or(row.made);
                Role::Previous { since, made: row.made }
            }
        };
        Kept { name: name.to_owned(), role }
    };
    names.into_iter().map(kept).collect()
}

/// The instances that the target's stable Services lead to.
pub fn serving(children: &StageChildren) -> impl Iterator<Item = &str> {
    let stable = children.services().filter(|view| view.meta.instance.is_none());
    stable.filter_map(|view| view.selects.as_deref()).filter(|name| *name != names::NOWHERE)
}

/// Removes the objects of retired instances; an instance whose objects are gone is forgotten.
async fn remove(
    ctx: &Context,
    target: &Target<'_>,
    ledger: &mut Ledger,
    retirement: &Retirement,
    children: &StageChildren,
    now: Timestamp,
) -> Result<(), Error> {
    for name in &retirement.remove {
        let instance = children.instance(name);
        let row = ledger.instances.get(name);
        // The row goes last. Where there is none, either all is deleted and pods are still ending, or nothing is known.
        let unknown = row.is_none() && {
            let mut metas =
                instance.workloads().map(|view| view.meta()).chain(instance.services().map(|view| view.meta()));
            metas.any(|meta| !meta.deleting)
        };
        if unknown || row.is_some_and(|row| row.storage) {
            apply::delete_storage(ctx, &target.place, Some(name)).await?;
        }
        apply::delete::<HttpRoute>(ctx, &target.place, apply::metas(instance.http_routes())).await?;
        apply::delete::<Ingress>(ctx, &target.place, apply::metas(instance.ingresses())).await?;
        apply::delete::<Deployment>(ctx, &target.place, apply::metas(instance.workloads())).await?;
        apply::delete::<Service>(ctx, &target.place, apply::metas(instance.services())).await?;
        apply::delete::<Secret>(ctx, &target.place, apply::metas(instance.secrets())).await?;
        record::instance_removed(ctx, target, ledger, name, now).await?;
    }
    Ok(())
}

/// Removes the Jobs of hooks that have ended, or whose deploy has: a crash, or a deadline, may have left one behind.
async fn remove_jobs(
    ctx: &Context,
    target: &Target<'_>,
    ledger: &Ledger,
    children: &StageChildren,
) -> Result<(), Error> {
    let running: BTreeSet<String> = ledger
        .open
        .iter()
        .chain(&ledger.good)
        .flat_map(|entry| {
            let deploy = entry.deploy.id.to_string();
            let running = entry.hooks.iter().filter(|(_, run)| **run == HookRun::Running);
            running.map(move |((phase, name), _)| names::job(&target.key.name, name, phase.word(), &deploy))
        })
        .collect();
    let over = children.jobs().filter(|job| !running.contains(&*job.meta.name));
    apply::delete::<Job>(ctx, &target.place, apply::metas(over)).await
}

#[cfg(test)]
mod tests;
