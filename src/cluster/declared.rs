//! What people have declared, one object at a time, for whoever has no watch at hand.

use futures::future::{BoxFuture, FutureExt as _};
use kube::{Api, Client, Resource, api::ListParams, core::NamespaceResourceScope};
use serde::de::DeserializeOwned;

use super::{access::Unanswered, error::chain};
use crate::api::{Project, Stage};

/// Somebody who knows the declarations: the API server, or whoever stands for it in a test.
pub trait Declared: Send + Sync {
    /// A Stage, if it is there.
    fn stage<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<Option<Stage>, Unanswered>>;

    /// A Project, if it is there.
    fn project<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<Option<Project>, Unanswered>>;
}

/// The API server's objects.
#[derive(Clone)]
pub struct ClusterDeclared(Client);

impl std::fmt::Debug for ClusterDeclared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterDeclared").finish_non_exhaustive()
    }
}

impl ClusterDeclared {
    /// Asks with `client`.
    pub fn new(client: Client) -> Self {
        Self(client)
    }

    /// One object, by a list of one: the right to list is the one that the operator has.
    async fn one<K>(&self, namespace: &str, name: &str) -> Result<Option<K>, Unanswered>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + std::fmt::Debug + DeserializeOwned,
    {
        let only = ListParams::default().fields(&format!("metadata.name={name}"));
        let listed = Api::<K>::namespaced(self.0.clone(), namespace).list(&only).await;
        let listed =
            listed.map_err(|error| Unanswered(format!("{} cannot be read: {}", K::plural(&()), chain(&error))))?;
        Ok(listed.items.into_iter().next())
    }
}

impl Declared for ClusterDeclared {
    fn stage<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<Option<Stage>, Unanswered>> {
        self.one(namespace, name).boxed()
    }

    fn project<'a>(&'a self, namespace: &'a str, name: &'a str) -> BoxFuture<'a, Result<Option<Project>, Unanswered>> {
        self.one(namespace, name).boxed()
    }
}
