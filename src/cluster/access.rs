//! Who somebody is and what they may do, asked of the API server: `TokenReview` and `SubjectAccessReview`.
//!
//! Nothing is ever done with the operator's own rights because somebody asked for it: a question names the person, and an
//! answer that names nobody is a refusal.

use std::collections::{BTreeMap, BTreeSet};

use futures::future::{BoxFuture, FutureExt as _};
use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus, UserInfo},
    authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};

use super::error::chain;
use crate::api::GROUP;

/// The audience that tokens for us are made for, unless another one is configured.
pub const AUDIENCE: &str = "stagekeeper";

/// Somebody whom the cluster knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Person {
    /// Name, never empty: `jane@acme.test`, `system:serviceaccount:shop:deployer`.
    pub user: String,
    /// Groups, never none.
    pub groups: BTreeSet<String>,
    /// What tells two of the same name apart, where the cluster has it.
    pub uid: Option<String>,
    /// What else the authenticator knows, for authorizers.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// Something that somebody wants to do to an object of our kinds.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attributes {
    /// Plural name of the kind: `projects`, `stages`.
    pub resource: &'static str,
    /// The namespace; `None` stands for all of them.
    pub namespace: Option<String>,
    /// The object; `None` stands for all of them.
    pub name: Option<String>,
    /// The verb: `get`, `list`, `update`, or one of our own such as `promote`.
    pub verb: &'static str,
}

/// The question was not answered. Says nothing of what was asked about.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unanswered(pub String);

/// Somebody who knows tokens and rights: the API server, or whoever stands for it in a test.
pub trait Reviews: Send + Sync {
    /// Whose token this is; `None` when it is nobody's, or not one for us.
    fn person<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Person>, Unanswered>>;

    /// Whether a person may do something.
    fn allows<'a>(&'a self, person: &'a Person, what: &'a Attributes) -> BoxFuture<'a, Result<bool, Unanswered>>;
}

/// The API server's reviews.
#[derive(Clone)]
pub struct ClusterReviews {
    client: Client,
    audience: String,
}

impl std::fmt::Debug for ClusterReviews {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClusterReviews").field("audience", &self.audience).finish_non_exhaustive()
    }
}

impl ClusterReviews {
    /// Asks with `client` about tokens for `audience`.
    pub fn new(client: Client, audience: impl Into<String>) -> Self {
        Self { client, audience: audience.into() }
    }

    async fn reviewed(&self, token: &str) -> Result<Option<Person>, Unanswered> {
        let asked = TokenReview {
            spec: TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![self.audience.clone()]) },
            ..TokenReview::default()
        };
        let answer = Api::<TokenReview>::all(self.client.clone()).create(&PostParams::default(), &asked).await;
        // The error's text is the transport's: the token is only in the body that was sent.
        let answer = answer.map_err(|error| unanswered("tokenreviews.authentication.k8s.io", &error))?;
        Ok(answer.status.and_then(|status| person(status, &self.audience)))
    }

    async fn allowed(&self, person: &Person, what: &Attributes) -> Result<bool, Unanswered> {
        let answer = Api::<SubjectAccessReview>::all(self.client.clone())
            .create(&PostParams::default(), &question(person, what))
            .await
            .map_err(|error| unanswered("subjectaccessreviews.authorization.k8s.io", &error))?;
        Ok(answer.status.is_some_and(|status| status.allowed && status.denied != Some(true)))
    }
}

impl Reviews for ClusterReviews {
    fn person<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Person>, Unanswered>> {
        self.reviewed(token).boxed()
    }

    fn allows<'a>(&'a self, person: &'a Person, what: &'a Attributes) -> BoxFuture<'a, Result<bool, Unanswered>> {
        self.allowed(person, what).boxed()
    }
}

fn unanswered(what: &str, error: &kube::Error) -> Unanswered {
    Unanswered(format!("{what} cannot be asked: {}", chain(error)))
}

/// Whom an answer names. An API server that knows nothing of audiences leaves them out: then the token may be one for
/// itself, and is refused.
fn person(status: TokenReviewStatus, audience: &str) -> Option<Person> {
    let TokenReviewStatus { audiences, authenticated, error: _, user } = status;
    if authenticated != Some(true) || !audiences.is_some_and(|all| all.iter().any(|one| one == audience)) {
        return None;
    }
    let UserInfo { extra, groups, uid, username } = user?;
    let person = Person {
        user: username?,
        groups: groups?.into_iter().filter(|group| !group.is_empty()).collect(),
        uid: uid.filter(|uid| !uid.is_empty()),
        extra: extra.unwrap_or_default(),
    };
    (!person.user.is_empty() && !person.groups.is_empty()).then_some(person)
}

fn question(person: &Person, what: &Attributes) -> SubjectAccessReview {
    let Person { user, groups, uid, extra } = person;
    let Attributes { resource, namespace, name, verb } = what;
    SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(user.clone()),
            groups: Some(groups.iter().cloned().collect()),
            uid: uid.clone(),
            extra: Some(extra.clone()).filter(|extra| !extra.is_empty()),
            resource_attributes: Some(ResourceAttributes {
                group: Some(GROUP.into()),
                version: Some("*".into()),
                resource: Some((*resource).into()),
                namespace: namespace.clone(),
                name: name.clone(),
                verb: Some((*verb).into()),
                ..ResourceAttributes::default()
            }),
            non_resource_attributes: None,
        },
        ..SubjectAccessReview::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(
        audiences: Option<&[&str]>,
        authenticated: Option<bool>,
        user: impl Into<Option<UserInfo>>,
    ) -> TokenReviewStatus {
        let audiences = audiences.map(|all| all.iter().map(|one| (*one).to_owned()).collect());
        TokenReviewStatus { audiences, authenticated, error: None, user: user.into() }
    }

    fn user(name: Option<&str>, groups: Option<&[&str]>) -> UserInfo {
        let groups = groups.map(|all| all.iter().map(|one| (*one).to_owned()).collect());
        UserInfo { username: name.map(Into::into), groups, ..UserInfo::default() }
    }

    #[test]
    fn only_somebody_with_a_name_and_groups_and_a_token_for_us_is_a_person() {
        let ours: Option<&[&str]> = Some(&["other", AUDIENCE]);
        let jane = || user(Some("jane"), Some(&["system:authenticated"]));
        let cases = [
            ("jane", status(ours, Some(true), jane()), true),
            ("not authenticated", status(ours, Some(false), jane()), false),
            ("no verdict", status(ours, None, jane()), false),
            ("another audience", status(Some(&["https://kubernetes.default.svc"]), Some(true), jane()), false),
            ("an audience that begins alike", status(Some(&["stagekeeper2"]), Some(true), jane()), false),
            ("no audiences", status(Some(&[]), Some(true), jane()), false),
            ("audiences unknown", status(None, Some(true), jane()), false),
            ("nobody", status(ours, Some(true), None), false),
            ("no name", status(ours, Some(true), user(None, Some(&["g"]))), false),
            ("an empty name", status(ours, Some(true), user(Some(""), Some(&["g"]))), false),
            ("groups unknown", status(ours, Some(true), user(Some("jane"), None)), false),
            ("no groups", status(ours, Some(true), user(Some("jane"), Some(&[]))), false),
            ("an empty group", status(ours, Some(true), user(Some("jane"), Some(&[""]))), false),
        ];
        for (name, status, is_somebody) in cases {
            assert_eq!(person(status, AUDIENCE).is_some(), is_somebody, "{name}");
        }
    }

    #[test]
    fn a_question_names_the_person_and_the_object() {
        let person = Person {
            user: "jane".into(),
            groups: ["b".to_owned(), "a".to_owned()].into(),
            uid: Some("7".into()),
            extra: BTreeMap::from([("scopes".to_owned(), vec!["x".to_owned()])]),
        };
        let what = Attributes {
            resource: "stages",
            namespace: Some("shop".into()),
            name: Some("prod".into()),
            verb: "promote",
        };
        let asked = serde_json::to_value(question(&person, &what)).unwrap();
        let expected = serde_json::json!({
            "user": "jane", "groups": ["a", "b"], "uid": "7", "extra": {"scopes": ["x"]},
            "resourceAttributes": {
                "group": "stagekeeper.dev", "version": "*", "resource": "stages", "namespace": "shop", "name": "prod",
                "verb": "promote",
            },
        });
        assert_eq!(asked["spec"], expected);
    }
}
