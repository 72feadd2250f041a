//! The Project controller: whether its declarations can be used and its images are known, and what its stages are told.

mod access;
mod credentials;
mod original;
pub mod verdict;
pub mod webhooks;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    ResourceExt as _,
    runtime::{controller::Action, reflector::ObjectRef},
};

use super::{
    context::Context,
    error::{Class, Error, STALLED_REST},
    images::{PROJECT, Subscriber},
    stage::{sources, wanted},
};
use crate::{
    api::{
        Project, ProjectStatus, ServiceStatus, StageSpec,
        conditions::{self, Outcome},
    },
    cluster::index::StageKey,
    render::{Identity, Snapshot},
};

/// A project is looked at this often even if nothing is seen to change.
const RESYNC: Duration = Duration::from_hours(6);

/// The name under which a project asks registries. No stage has a slash in its name.
pub fn subscriber(project: &Project) -> Subscriber {
    (project.namespace().unwrap_or_default(), format!("{PROJECT}{}", project.name_any()))
}

/// One pass over a project.
pub async fn reconcile(project: Arc<Project>, ctx: Arc<Context>) -> Result<Action, Error> {
    if !ctx.term.leader.is_leader() {
        return Err(Error::Deposed);
    }
    let namespace = project.namespace().unwrap_or_default();
    let name = project.name_any();
    // Whatever changed may matter to each of its stages.
    tell_stages(&ctx, &namespace, &name);
    let verdict = credentials::keep(&ctx, &project).await?;
    let webhooks = webhooks::keep(&ctx, &project).await?;
    let access = access::keep(&ctx, &project).await?;
    let Judgement { outcome, services, asking } = judge(&project, &ctx);
    let outcome = access.over(verdict.over(outcome));
    let now = ctx.clock.now();
    let before = project.status.clone().unwrap_or_default();
    let generation = project.metadata.generation.unwrap_or_default();
    let said = conditions::conditions(&before.conditions, &outcome, generation, now);
    let said = access.among(verdict.among(said, generation, now), generation, now);
    let after = ProjectStatus {
        observed_generation: generation,
        conditions: ctx.previews.among(&(namespace, name), said, generation, now),
        services: services.into_iter().map(|service| keep_time(service, &before, now)).collect(),
        webhooks: webhooks.status,
    };
    // A new leader has nothing to say before it has heard what its predecessor had heard.
    let told = conditions::get(&before.conditions, conditions::READY).is_some();
    let unheard = told && asking && before.observed_generation == generation;
    let after = if unheard { ProjectStatus { webhooks: after.webhooks, ..before.clone() } } else { after };
    if after != before {
        ctx.writer.apply_status(&*project, &after).await?;
    }
    ctx.backoff.reset(&key(&project));
    let wake = [verdict.wake, webhooks.wake, access.wake].into_iter().flatten().min();
    let wake = wake.and_then(|at| Duration::try_from(at.duration_since(now)).ok());
    Ok(Action::requeue(wake.map_or(RESYNC, |wake| wake.clamp(Duration::from_secs(1), RESYNC))))
}

/// A project was deleted: its stages have to say so, and nobody asks registries for it any more.
pub fn gone(ctx: &Context, project: &ObjectRef<Project>) {
    let namespace = project.namespace.as_deref().unwrap_or_default();
    ctx.images.subscribe(&(namespace.to_owned(), format!("{PROJECT}{}", project.name)), &BTreeMap::new());
    ctx.originals.want(namespace, &project.name, &BTreeSet::new());
    tell_stages(ctx, namespace, &project.name);
}

fn tell_stages(ctx: &Context, namespace: &str, project: &str) {
    for stage in ctx.stages.state() {
        if stage.spec.project == project && stage.namespace().as_deref() == Some(namespace) {
            ctx.trigger.stage(&StageKey::new(namespace, stage.name_any()));
        }
    }
    for environment in ctx.lives.of(namespace, project) {
        ctx.trigger.stage(&environment);
    }
}

/// What is to be said about a project.
struct Judgement {
    outcome: Outcome,
    services: Vec<ServiceStatus>,
    /// Registries were asked for the first time and have not answered yet.
    asking: bool,
}

/// Checks the declarations without any stage, and reads what registries say about the images.
fn judge(project: &Project, ctx: &Context) -> Judgement {
    let nowhere = StageSpec::unchanged(&project.name_any());
    let identity = Identity {
        namespace: project.namespace().unwrap_or_default(),
        home: None,
        project: project.name_any(),
        stage: "stage".to_owned(),
    };
    let found = sources::sources(&identity, &project.spec, &nowhere);
    let problems = Snapshot::problems(identity, &project.spec, &nowhere);
    let mut said: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let sources = match found {
        Ok(sources) => sources,
        Err(refused) => {
            said.extend(refused.iter().map(|one| format!("{}: {}", one.field, one.message)));
            Vec::new()
        }
    };
    if !said.is_empty() {
        ctx.images.subscribe(&subscriber(project), &BTreeMap::new());
        let outcome = Outcome::stalled("InvalidSpec", said.join("; "));
        return Judgement { outcome, services: Vec::new(), asking: false };
    }
    let resolution = wanted::resolve(&sources, None, |question| ctx.images.known(question));
    ctx.images.subscribe(&subscriber(project), &resolution.questions);
    let services = sources.iter().map(|source| {
        let image = resolution.release.0.get(&source.service);
        ServiceStatus {
            name: source.service.clone(),
            image: source.repository.to_string(),
            latest_tag: image.and_then(|image| image.tag.clone()),
            digest: image.map(|image| image.digest.clone()),
            scanned_at: None,
        }
    });
    let services = services.collect();
    let message = || resolution.missing.iter().map(|one| one.message.as_str()).collect::<Vec<_>>().join("; ");
    let outcome = match resolution.missing.first() {
        None => Outcome::ready("ImagesKnown", "the images of every service are known"),
        Some(one) if one.transient => Outcome::reconciling(one.reason, message()),
        Some(one) => Outcome::stalled(one.reason, message()),
    };
    Judgement { outcome, services, asking: resolution.asking }
}

/// A result that did not change keeps the time at which it was first seen.
fn keep_time(mut service: ServiceStatus, before: &ProjectStatus, now: jiff::Timestamp) -> ServiceStatus {
    let old = before.services.iter().find(|old| old.name == service.name);
    let same = old.filter(|old| {
        old.digest == service.digest && old.latest_tag == service.latest_tag && old.image == service.image
    });
    service.scanned_at = match same {
        Some(old) => old.scanned_at.clone(),
        None => service.digest.as_ref().map(|_| Time(jiff::Timestamp::from_second(now.as_second()).unwrap_or(now))),
    };
    service
}

/// What happens after a failed pass.
pub fn error_policy(project: &Project, error: &Error, ctx: &Context) -> Action {
    let key = key(project);
    tracing::warn!(project = key, %error, "pass failed");
    match error.class() {
        Class::Stalled => Action::requeue(STALLED_REST),
        Class::Conflict => Action::requeue(Duration::from_millis(100)),
        Class::StoreAway | Class::Transient => Action::requeue(ctx.backoff.next(&key)),
    }
}

fn key(project: &Project) -> String {
    format!("project {}/{}", project.namespace().unwrap_or_default(), project.name_any())
}
