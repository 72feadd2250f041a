//! The one write path: every object that Stagekeeper makes, changes or deletes goes through here.
//!
//! Writes are server-side applies with one field manager, so repeating one is harmless and fields that others own
//! stay theirs. An object that somebody else made under a name of ours is never touched. What the API server replies goes straight into the [`Index`], so that the next reconcile sees it.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use http::HeaderValue;
use http::header::ACCEPT;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, GetParams, ListParams, Patch, PatchParams, Preconditions, ValidationDirective};
use kube::core::Request;
use kube::{Client, Resource};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::timeout;

use super::error::{ApiError, Class, Target};
use super::index::{Index, Kind};
use super::lease::Mandate;
use crate::api::labels::{self, FIELD_MANAGER};

/// How long a write may take as a whole.
const DEADLINE: Duration = Duration::from_secs(15);

/// Asks for the metadata of the written object only. Of Secrets, nothing else is ever in our memory.
const METADATA_ONLY: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");

/// Writes objects and keeps the index abreast of it. Cheap to clone.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    index: Index,
    leader: Option<Mandate>,
}

impl Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").finish_non_exhaustive()
    }
}

/// What the API server made of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The object's identity.
    pub uid: String,
    /// Its version after the write.
    pub resource_version: String,
    /// Counts changes of its spec.
    pub generation: i64,
}

/// An object to be deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doomed<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its identity. Another object of that name is left alone. None: whoever has the name.
    pub uid: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(default)]
struct Reply {
    kind: Box<str>,
    metadata: ReplyMeta,
    details: ReplyMeta,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ReplyMeta {
    uid: String,
    resource_version: String,
    generation: i64,
    deletion_timestamp: Option<Box<str>>,
    labels: BTreeMap<String, String>,
}

impl Default for Reply {
    fn default() -> Self {
        Self { kind: "".into(), metadata: ReplyMeta::default(), details: ReplyMeta::default() }
    }
}

impl Writer {
    /// A writer whose replies go into this index.
    pub fn new(client: Client, index: Index) -> Self {
        Self { client, index, leader: None }
    }

    /// The same, but it writes nothing once leadership is lost: a process that was stopped for a while goes on in the
    /// middle of what it was doing, and another has gone on from there long since.
    #[must_use]
    pub fn while_leading(self, leader: Mandate) -> Self {
        Self { leader: Some(leader), ..self }
    }

    /// Makes the object what it should be: creates it, or changes the fields that are given and takes back those
    /// that we gave before and do not give now.
    ///
    /// What is not known to be ours is written without force. Names that people may choose too, because they hold no hash,
    /// are looked at before that: two owners of different fields would not even conflict.
    ///
    /// # Errors
    /// When the API server refuses or cannot be reached; class [`Class::Taken`] when somebody else has the name.
    pub async fn apply<K>(&self, object: &K) -> Result<Applied, ApiError>
    where
        K: Resource<DynamicType = ()> + Serialize + Debug,
    {
        let target = target::<K>("create and patch", "", object)?;
        let kind = Kind::find(&K::group(&()), &K::kind(&()));
        let namespace = target.namespace.as_deref().unwrap_or_default();
        let known = kind.is_some_and(|kind| self.index.knows(kind, namespace, &target.name));
        let ours = object.meta().labels.as_ref();
        let plain = ours.is_some_and(|ours| ours.contains_key(labels::STAGE) && !ours.contains_key(labels::INSTANCE));
        if kind.is_some() && !known && plain {
            self.refuse_taken(&target, object).await?;
        }
        let text = match self.patch(&target, object, kind, known).await {
            Err(conflict) if !known && conflict.class() == Class::Conflict => {
                self.refuse_taken(&target, object).await?;
                self.patch(&target, object, kind, true).await?
            }
            text => text?,
        };
        if let Some(kind) = kind {
            self.index.wrote(kind, &text).map_err(|err| unreadable(&target, err))?;
        }
        read(&target, &text)
    }

    pub(super) const fn client(&self) -> &Client {
        &self.client
    }

    async fn patch<K>(&self, target: &Target, object: &K, kind: Option<Kind>, force: bool) -> Result<String, ApiError>
    where
        K: Resource<DynamicType = ()> + Serialize + Debug,
    {
        let params = PatchParams {
            force,
            // A misspelt field is an error with its path in it, not a field that silently does nothing.
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::apply(FIELD_MANAGER)
        };
        let request = path::<K>(target).patch(&target.name, &params, &Patch::Apply(object));
        self.send(target, request, kind.is_none_or(Kind::is_private)).await
    }

    /// Looks whether somebody else has the object's name. That nobody has it is fine.
    async fn refuse_taken<K>(&self, target: &Target, object: &K) -> Result<(), ApiError>
    where
        K: Resource<DynamicType = ()>,
    {
        let look = Target { verbs: "get", ..target.clone() };
        let request = path::<K>(&look).get(&look.name, &GetParams::default());
        let found = match self.send(&look, request, true).await {
            Ok(text) => serde_json::from_str::<Reply>(&text).map_err(|err| unreadable(&look, err))?.metadata.labels,
            Err(err) if matches!(err.class(), Class::NotFound | Class::NotServed) => return Ok(()),
            Err(err) => return Err(err),
        };
        let ours = object.meta().labels.clone().unwrap_or_default();
        let whose = if ours.contains_key(labels::STAGE) { labels::STAGE } else { labels::PROJECT };
        let marks = [labels::MANAGED_BY, whose];
        let same = marks.iter().all(|mark| found.contains_key(*mark) && found.get(*mark) == ours.get(*mark));
        if same { Ok(()) } else { Err(ApiError::taken(target)) }
    }

    /// Deletes an object; what it owns is deleted in the background. That it is already gone, or replaced by another
    /// of its name, is success.
    ///
    /// # Errors
    /// When the API server refuses or cannot be reached.
    pub async fn delete<K>(&self, doomed: Doomed<'_>) -> Result<(), ApiError>
    where
        K: Resource<DynamicType = ()>,
    {
        let Doomed { namespace, name, uid } = doomed;
        let target = Target {
            verbs: "delete",
            group: K::group(&()).into(),
            resource: K::plural(&()).into(),
            namespace: Some(namespace.into()),
            name: name.into(),
        };
        let kind = Kind::find(&K::group(&()), &K::kind(&()));
        let mut params = DeleteParams::background();
        params.preconditions = uid.map(|uid| Preconditions { uid: Some(uid.into()), resource_version: None });
        let request = path::<K>(&target).delete(name, &params);
        match self.send(&target, request, kind.is_none_or(Kind::is_private)).await {
            Ok(text) => {
                let reply: Reply = serde_json::from_str(&text).map_err(|err| unreadable(&target, err))?;
                let Some(kind) = kind else { return Ok(()) };
                if reply.metadata.deletion_timestamp.is_some() {
                    // Something holds it: it ends later, and the watch will say so.
                    return self.index.wrote(kind, &text).map_err(|err| unreadable(&target, err));
                }
                let told = if &*reply.kind == "Status" { &reply.details.uid } else { &reply.metadata.uid };
                self.index.deleted(kind, namespace, name, uid.unwrap_or(told));
                Ok(())
            }
            Err(err) if err.class() == Class::NotFound => {
                if let (Some(kind), Some(uid)) = (kind, uid) {
                    self.index.deleted(kind, namespace, name, uid);
                }
                Ok(())
            }
            // The name belongs to another object now, so the one that was meant is gone. The watch knows.
            Err(err) if err.class() == Class::Conflict && uid.is_some() && is_about_the_uid(&err) => Ok(()),
            Err(err) => Err(err),
        }
    }

    /// Writes the status of a custom resource as a whole. The caller has checked that it differs from what is there.
    ///
    /// Carries the object's UID, so the status of a deleted object never ends up on its namesake. Leaves the
    /// version out: only we write the status, and somebody's change to the spec is no reason to do it again.
    ///
    /// # Errors
    /// When the API server refuses or cannot be reached.
    pub async fn apply_status<K, S>(&self, object: &K, status: &S) -> Result<Applied, ApiError>
    where
        K: Resource<DynamicType = ()>,
        S: Serialize + Debug,
    {
        let target = target::<K>("patch", "/status", object)?;
        let patch = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {"name": target.name, "uid": object.meta().uid},
            "status": status,
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let request = path::<K>(&target).patch_subresource("status", &target.name, &params, &Patch::Apply(&patch));
        let text = self.send(&target, request, true).await?;
        read(&target, &text)
    }

    /// Sets the finalizers of an object, provided that it is still the version that was read.
    ///
    /// # Errors
    /// When the API server refuses or cannot be reached; class [`Class::Conflict`] when the object has changed.
    pub async fn set_finalizers<K>(&self, object: &K, finalizers: &[&str]) -> Result<Applied, ApiError>
    where
        K: Resource<DynamicType = ()>,
    {
        let target = target::<K>("patch", "", object)?;
        let meta = object.meta();
        let patch = json!({"metadata": {
            "uid": meta.uid,
            "resourceVersion": meta.resource_version,
            "finalizers": finalizers,
        }});
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let request = path::<K>(&target).patch(&target.name, &params, &Patch::Merge(&patch));
        let text = self.send(&target, request, true).await?;
        read(&target, &text)
    }

    /// Deletes every object of a kind that we made and whose labels meet all of these demands (`key=value`, `!key`),
    /// except those with one of these names. For kinds that are not watched: what is watched is deleted by name and
    /// identity.
    ///
    /// # Errors
    /// When the API server refuses or cannot be reached.
    pub async fn delete_labelled<K>(&self, namespace: &str, demands: &[String], except: &[&str]) -> Result<(), ApiError>
    where
        K: Resource<DynamicType = ()>,
    {
        let target = Target {
            verbs: "deletecollection",
            group: K::group(&()).into(),
            resource: K::plural(&()).into(),
            namespace: Some(namespace.into()),
            name: String::new(),
        };
        let selector = format!("{}={FIELD_MANAGER},{}", labels::MANAGED_BY, demands.join(","));
        let names: Vec<String> = except.iter().map(|name| format!("metadata.name!={name}")).collect();
        let mut list = ListParams::default().labels(&selector);
        if !names.is_empty() {
            list = list.fields(&names.join(","));
        }
        let request = path::<K>(&target).delete_collection(&DeleteParams::background(), &list);
        self.send(&target, request, false).await.map(drop)
    }

    /// Makes or changes a namespace that is ours. Returns its UID.
    ///
    /// # Errors
    /// When the API server refuses or cannot be reached; class [`Class::Taken`] when somebody else made one of that name, or
    /// it was made for another object.
    pub async fn apply_namespace(&self, namespace: &Namespace, marks: &[&str]) -> Result<String, ApiError> {
        let name = namespace.metadata.name.clone().unwrap_or_default();
        let target = of_namespace("create and patch", &name);
        let look = Target { verbs: "get", ..target.clone() };
        let found = Request::new(Namespace::url_path(&(), None)).get(&name, &GetParams::default());
        match self.send(&look, found, true).await {
            Ok(text) => {
                let found = serde_json::from_str::<Reply>(&text).map_err(|err| unreadable(&look, err))?.metadata;
                let ours = namespace.metadata.labels.clone().unwrap_or_default();
                if marks.iter().any(|mark| found.labels.get(*mark) != ours.get(*mark)) {
                    return Err(ApiError::taken(&target));
                }
            }
            Err(err) if matches!(err.class(), Class::NotFound | Class::NamespaceMissing) => {}
            Err(err) => return Err(err),
        }
        let params = PatchParams {
            field_validation: Some(ValidationDirective::Strict),
            ..PatchParams::apply(FIELD_MANAGER).force()
        };
        let request = Request::new(Namespace::url_path(&(), None)).patch(&name, &params, &Patch::Apply(namespace));
        let text = self.send(&target, request, true).await?;
        read(&target, &text).map(|applied| applied.uid)
    }

    /// Deletes a namespace with everything in it, provided that it is still this one. That it is gone is success.
    ///
    /// # Errors
    /// When the API server refuses or cannot be reached.
    pub async fn delete_namespace(&self, name: &str, uid: &str) -> Result<(), ApiError> {
        let target = of_namespace("delete", name);
        let params = DeleteParams {
            preconditions: Some(Preconditions { uid: Some(uid.into()), resource_version: None }),
            ..DeleteParams::background()
        };
        match self.send(&target, Request::new(Namespace::url_path(&(), None)).delete(name, &params), true).await {
            Ok(_) => Ok(()),
            Err(err) if matches!(err.class(), Class::NotFound | Class::NamespaceMissing) => Ok(()),
            Err(err) if err.class() == Class::Conflict && is_about_the_uid(&err) => Ok(()),
            Err(err) => Err(err),
        }
    }

    async fn send(
        &self,
        target: &Target,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
        metadata_only: bool,
    ) -> Result<String, ApiError> {
        if self.leader.as_ref().is_some_and(|leader| !leader.is_leader()) {
            return Err(ApiError::deposed(target));
        }
        let mut request = request.map_err(|err| ApiError::unbuildable(target, &err))?;
        if metadata_only {
            request.headers_mut().insert(ACCEPT, METADATA_ONLY);
        }
        match timeout(DEADLINE, self.client.request_text(request)).await {
            Ok(reply) => reply.map_err(|err| ApiError::new(target, &err)),
            Err(_) => Err(ApiError::timed_out(target, DEADLINE)),
        }
    }
}

fn target<K: Resource<DynamicType = ()>>(
    verbs: &'static str,
    subresource: &str,
    object: &K,
) -> Result<Target, ApiError> {
    let meta = object.meta();
    let target = Target {
        verbs,
        group: K::group(&()).into(),
        resource: format!("{}{subresource}", K::plural(&())),
        namespace: meta.namespace.clone(),
        name: meta.name.clone().unwrap_or_default(),
    };
    if target.name.is_empty() || target.namespace.as_ref().is_none_or(String::is_empty) {
        return Err(ApiError::nameless(&target));
    }
    Ok(target)
}

fn of_namespace(verbs: &'static str, name: &str) -> Target {
    Target { verbs, group: String::new(), resource: "namespaces".into(), namespace: None, name: name.into() }
}

fn path<K: Resource<DynamicType = ()>>(target: &Target) -> Request {
    Request::new(K::url_path(&(), target.namespace.as_deref()))
}

fn read(target: &Target, text: &str) -> Result<Applied, ApiError> {
    let Reply { metadata, .. } = serde_json::from_str(text).map_err(|err| unreadable(target, err))?;
    let ReplyMeta { uid, resource_version, generation, .. } = metadata;
    Ok(Applied { uid, resource_version, generation })
}

fn unreadable(target: &Target, err: serde_json::Error) -> ApiError {
    ApiError::new(target, &kube::Error::SerdeError(err))
}

fn is_about_the_uid(err: &ApiError) -> bool {
    // Kinds differ in how they say it.
    let said = err.to_string();
    said.contains("UID in precondition") || said.contains("UID in the precondition")
}

#[cfg(test)]
mod tests;
