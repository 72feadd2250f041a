//! ID tokens of an `OpenID` Connect issuer, for people who have no token of Kubernetes.
//!
//! Which tokens count is in [`crate::identity`]. Who one names is a user of Kubernetes like any other, under a prefix; what they
//! may do, the cluster says.

use std::sync::Arc;

use futures::future::{BoxFuture, FutureExt as _};
use serde_json::{Map, Value};

use crate::{
    cluster::access::{Attributes, Person, Reviews, Unanswered},
    config::OidcConfig,
    domain::clock::Clock,
    identity::Issuer,
};

/// What every authenticated user is in, as Kubernetes has it.
const AUTHENTICATED: &str = "system:authenticated";

/// Knows the tokens of one issuer, and leaves all others, and all questions of rights, to the cluster.
pub struct Oidc {
    config: OidcConfig,
    issuer: Issuer,
    cluster: Arc<dyn Reviews>,
}

impl Oidc {
    /// Takes tokens of the issuer beside those of `cluster`.
    ///
    /// # Errors
    /// This process cannot make HTTP requests.
    pub fn new(config: OidcConfig, cluster: Arc<dyn Reviews>, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let issuer = Issuer::new(&config.issuer, clock)?;
        Ok(Self { config, issuer, cluster })
    }

    async fn reviewed(&self, token: &str) -> Result<Option<Person>, Unanswered> {
        let claims = self.issuer.claims(token, &self.config.client_id).await;
        let claims = claims.map_err(|away| Unanswered(away.to_string()))?;
        Ok(claims.and_then(|claims| self.named(&claims)))
    }

    /// Whom the claims name. Whoever has no name or no groups is nobody; names that belong to Kubernetes are nobody's to give.
    fn named(&self, claims: &Map<String, Value>) -> Option<Person> {
        let OidcConfig { user_claim, user_prefix, groups_claim, groups_prefix, .. } = &self.config;
        if user_claim == "email" && claims.get("email_verified").is_some_and(|verified| verified != &Value::Bool(true))
        {
            return None;
        }
        let name = claims.get(user_claim)?.as_str().filter(|name| !name.is_empty())?;
        let groups: Vec<&str> = match claims.get(groups_claim)? {
            Value::String(group) => vec![group],
            Value::Array(groups) => groups.iter().map(Value::as_str).collect::<Option<_>>()?,
            _ => return None,
        };
        if groups.is_empty() || groups.iter().any(|group| group.is_empty()) {
            return None;
        }
        let user = format!("{user_prefix}{name}");
        let groups: Vec<String> = groups.into_iter().map(|group| format!("{groups_prefix}{group}")).collect();
        if user.starts_with("system:") || groups.iter().any(|group| group.starts_with("system:")) {
            return None;
        }
        let groups = groups.into_iter().chain([AUTHENTICATED.to_owned()]).collect();
        Some(Person { user, groups, uid: None, extra: std::collections::BTreeMap::new() })
    }
}

impl Reviews for Oidc {
    fn person<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Person>, Unanswered>> {
        if self.issuer.is_named_by(token) { self.reviewed(token).boxed() } else { self.cluster.person(token) }
    }

    fn allows<'a>(&'a self, person: &'a Person, what: &'a Attributes) -> BoxFuture<'a, Result<bool, Unanswered>> {
        self.cluster.allows(person, what)
    }
}

#[cfg(test)]
mod tests;
