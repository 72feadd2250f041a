//! The image book's questions, put to real registries.

use std::sync::Arc;

use futures::{FutureExt as _, future::BoxFuture};

use super::images::{About, Answer, Asker, Question, Refusal};
use crate::{
    domain::clock::Clock,
    registry::{Access, Credential, Registry, RegistryError, RegistryOptions, Selector},
};

/// Every registry, over one client.
pub struct Registries(Arc<Registry>);

impl Registries {
    /// With the default deadlines and limits.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(clock: Arc<dyn Clock>) -> Result<Self, RegistryError> {
        Ok(Self(Arc::new(Registry::new(RegistryOptions::default(), clock)?)))
    }
}

impl Asker for Registries {
    fn ask(&self, question: Question) -> BoxFuture<'static, Result<Answer, Refusal>> {
        let registry = self.0.clone();
        async move {
            let access = Access { credential: Credential::Anonymous, insecure: question.insecure };
            let repository = &question.repository;
            let answer = match &question.about {
                About::Tags => {
                    registry.list_tags(repository, &access).await.map(|tags| Answer::Tags(tags.names.into()))
                }
                About::Tag(tag, platform) => registry
                    .resolve(repository, Selector::Tag(tag), platform.as_ref(), &access)
                    .await
                    .map(|resolved| Answer::Digest(resolved.digest)),
            };
            answer.map_err(|error| Refusal {
                reason: error.reason(),
                message: error.to_string(),
                transient: error.is_transient(),
                retry_after: error.retry_after(),
            })
        }
        .boxed()
    }
}
