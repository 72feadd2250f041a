//! The namespace that an environment has to itself: made before anything in it, deleted with everything in it.

use k8s_openapi::{api::core::v1::Namespace, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{Resource as _, ResourceExt as _, core::PartialObjectMeta, runtime::reflector::ObjectRef};

use super::known::Lived;
use crate::{
    api::{Environment, Isolation, labels},
    cluster::index::StageKey,
    controllers::{context::Context, error::Error},
    render::isolation::{self, Occupant},
};

/// What the namespace is checked to be marked with before it is touched.
const MARKS: [&str; 3] = [labels::MANAGED_BY, labels::HOME, labels::ENVIRONMENT];

/// How far the place is where an environment's objects go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// It is there; with the UID of the namespace, if that is the environment's own.
    Ready(Option<String>),
    /// It is being made, or what had the name is ending.
    Waits(String),
}

/// The namespace that a new environment's objects go to.
pub fn choose(ctx: &Context, environment: &Environment, key: &StageKey, subdomain: &str) -> String {
    let own = match environment.spec.template.isolation {
        Isolation::Project => false,
        Isolation::Namespace => true,
        Isolation::Automatic => ctx.namespaces.is_some(),
    };
    if own { isolation::place(&environment.spec.project, subdomain) } else { key.namespace.to_string() }
}

/// Whether an environment has a namespace to itself.
pub fn is_own(lived: &Lived, key: &StageKey) -> bool {
    lived.life.place != *key.namespace
}

/// What is seen of a namespace that is ours.
pub fn seen(ctx: &Context, name: &str) -> Option<std::sync::Arc<PartialObjectMeta<Namespace>>> {
    ctx.namespaces.as_ref()?.get(&ObjectRef::new(name))
}

/// Makes the place if it is not there as it should be. Writes nothing where it is.
pub async fn prepare(
    ctx: &Context,
    environment: &Environment,
    key: &StageKey,
    lived: &mut Lived,
) -> Result<Place, Error> {
    if !is_own(lived, key) {
        return Ok(Place::Ready(None));
    }
    let place = lived.life.place.clone();
    let routers = environment.spec.template.route.as_ref().map_or(&[][..], |route| &route.from);
    let occupant = Occupant {
        home: &key.namespace,
        name: &key.name,
        uid: &lived.life.uid,
        project: &environment.spec.project,
        operator: &ctx.namespace,
        routers,
    };
    let wanted = isolation::isolation(&place, &occupant, &environment.spec.template.quota);
    let found = seen(ctx, &place);
    if let Some(found) = &found {
        if found.metadata.deletion_timestamp.is_some() {
            return Ok(Place::Waits(format!("namespace {place} is being deleted")));
        }
        if found.annotations().get(labels::RENDERED).map(String::as_str) == wanted.mark() {
            return Ok(Place::Ready(found.uid()));
        }
    }
    // The namespace without its mark, what is in it, and then the mark: it says that all of this is there.
    if found.is_none() {
        let mut bare = wanted.namespace.clone();
        bare.annotations_mut().remove(labels::RENDERED);
        ctx.writer.apply_namespace(&bare, &MARKS).await?;
    }
    if let Some(quota) = &wanted.quota {
        ctx.writer.apply(quota).await?;
    }
    ctx.writer.apply(&wanted.limits).await?;
    ctx.writer.apply(&wanted.network).await?;
    let uid = ctx.writer.apply_namespace(&wanted.namespace, &MARKS).await?;
    Ok(Place::Ready(Some(uid)))
}

/// Who owns its objects: an object of another namespace cannot, but the namespace itself can.
pub fn owner(environment: &Environment, place: Option<&str>, namespace: Option<String>) -> OwnerReference {
    match namespace {
        None => environment.controller_owner_ref(&()).unwrap_or_default(),
        Some(uid) => OwnerReference {
            api_version: "v1".into(),
            kind: "Namespace".into(),
            name: place.unwrap_or_default().to_owned(),
            uid,
            ..OwnerReference::default()
        },
    }
}

/// Deletes every namespace that was made for an environment of this name. Says whether none is left.
pub async fn remove_all(ctx: &Context, key: &StageKey) -> Result<bool, Error> {
    let theirs = |found: &PartialObjectMeta<Namespace>| {
        let label = |name: &str| found.labels().get(name).map(String::as_str);
        label(labels::MANAGED_BY) == Some(labels::FIELD_MANAGER)
            && label(labels::HOME) == Some(&*key.namespace)
            && label(labels::ENVIRONMENT) == Some(&*key.name)
    };
    let all = ctx.namespaces.iter().flat_map(|all| all.state()).filter(|found| theirs(found));
    let mut gone = true;
    for found in all {
        gone = false;
        if found.metadata.deletion_timestamp.is_none() {
            ctx.writer.delete_namespace(&found.name_any(), &found.uid().unwrap_or_default()).await?;
        }
    }
    Ok(gone)
}
