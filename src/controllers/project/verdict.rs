//! How a project's credentials and secrets stand, in the words of the condition `CredentialsReady`. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt as _;

use super::credentials::Copied;
use crate::{
    api::{
        Project, SecretRef, Webhook,
        conditions::{self, Outcome},
    },
    cluster::error::ApiError,
    controllers::vault::Holdings,
    domain::credential::CredentialKind,
    render,
};

/// Type of the condition.
pub const CREDENTIALS_READY: &str = "CredentialsReady";

/// How long before its end a credential is warned about.
const WARNING: Duration = Duration::from_hours(14 * 24);

/// Something that a person has to mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// One `CamelCase` word.
    pub reason: &'static str,
    /// What, where and what to do next.
    pub message: String,
}

impl Trouble {
    /// The operator cannot open anything.
    pub fn no_keys() -> Self {
        let message = "this operator has no encryption keys, so nothing can be stored or opened: set \
                       STAGEKEEPER_ENCRYPTION_KEYS_FILE; `stagekeeper keys generate` makes one"
            .into();
        Self { reason: "NoEncryptionKeys", message }
    }

    /// There is no such Secret, and nothing was copied from it before.
    pub fn absent(what: &str, of: &SecretRef) -> Self {
        let message = format!("{what}: there is no Secret {} to copy it from: create it in this namespace", of.name);
        Self { reason: "SecretNotFound", message }
    }

    /// It is not what is needed.
    pub fn unusable(what: &str, of: &SecretRef, why: &str) -> Self {
        Self { reason: "SecretUnusable", message: format!("{what}: the Secret {} cannot be used: {why}", of.name) }
    }

    /// It may not be read.
    pub fn unreadable(what: &str, of: &SecretRef, error: &ApiError) -> Self {
        Self { reason: error.reason(), message: format!("{what}: the Secret {} cannot be read: {error}", of.name) }
    }
}

/// How things stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// What has to be mended.
    pub troubles: Vec<Trouble>,
    /// What will have to be, and when.
    pub warnings: Vec<String>,
    /// There is something to say at all.
    pub any: bool,
    /// When this changes by itself.
    pub wake: Option<Timestamp>,
}

impl Verdict {
    /// Takes in what became of one declaration.
    pub fn note(&mut self, copied: Copied) {
        if let Copied::Trouble(trouble) = copied {
            self.troubles.push(trouble);
        }
    }

    /// Looks for what is named and not there, and for what ends or has ended.
    pub fn look_at(&mut self, project: &Project, holdings: &Holdings, now: Timestamp) {
        let name = project.name_any();
        self.any = project.spec.needs_safe() || !holdings.credentials.is_empty();
        self.missing_credentials(project, &name, holdings);
        self.missing_secrets(project, &name, holdings);
        let mut ends: Vec<_> = holdings.expiries().collect();
        ends.sort_by_key(|(name, at)| (*at, (*name).to_owned()));
        for (credential, at) in ends {
            let warned = at.saturating_sub(WARNING).unwrap_or(at);
            let again = format!(
                "store it anew with `stagekeeper credential set {name} {credential}`, or in the Secret that it is copied from"
            );
            if now >= at {
                let message = format!("credential {credential} has expired at {at}: {again}");
                self.troubles.push(Trouble { reason: "CredentialExpired", message });
            } else if now >= warned {
                self.warnings.push(format!("credential {credential} expires at {at}: {again}"));
                self.wake_at(at);
            } else {
                self.wake_at(warned);
            }
        }
    }

    fn missing_credentials(&mut self, project: &Project, name: &str, holdings: &Holdings) {
        let mut named: Vec<(&str, &str)> = Vec::new();
        for service in &project.spec.services {
            if let Some(credential) =
                service.image.credential.as_deref().filter(|it| !named.iter().any(|(known, _)| known == it))
            {
                named.push((credential, &service.image.repository));
            }
        }
        for webhook in &project.spec.webhooks {
            self.missing_webhook_credentials(project, name, webhook, holdings);
        }
        for (credential, repository) in named {
            let declared = project.spec.credentials.iter().any(|one| one.name == credential);
            if !declared && !holdings.credentials.contains_key(credential) {
                let message = format!(
                    "credential {credential}, with which {repository} is asked and pulled, is not stored: store it with \
                     `stagekeeper credential set {name} {credential}`, or copy it from a Secret with `spec.credentials`"
                );
                self.troubles.push(Trouble { reason: "CredentialMissing", message });
            }
        }
    }

    fn missing_webhook_credentials(&mut self, project: &Project, name: &str, webhook: &Webhook, holdings: &Holdings) {
        let declared = |name: &str| project.spec.credentials.iter().any(|one| one.name == name);
        for credential in &webhook.credentials {
            let stored = holdings.credentials.get(credential);
            if stored.is_none() && !declared(credential) {
                let message = format!(
                    "credential {credential}, with which the webhook {} is checked, is not stored: store it with `stagekeeper \
                     credential set {name} {credential} --kind webhook`, or copy it from a Secret with `spec.credentials`",
                    webhook.name
                );
                self.troubles.push(Trouble { reason: "CredentialMissing", message });
            }
            if let Some(other) = stored.filter(|one| one.kind != CredentialKind::Webhook) {
                let message = format!(
                    "credential {credential}, with which the webhook {} is checked, is of kind {}, which is for something else: \
                     store one of kind webhook, and name that",
                    webhook.name, other.kind
                );
                self.troubles.push(Trouble { reason: "CredentialUnusable", message });
            }
        }
    }

    fn missing_secrets(&mut self, project: &Project, name: &str, holdings: &Holdings) {
        let copied =
            |secret: &str| project.spec.secrets.iter().any(|one| one.name == secret && one.secret_ref.is_some());
        let mut said: Vec<String> = Vec::new();
        for (secret, _) in render::missing_secrets(&project.spec, &holdings.versions) {
            if !copied(&secret) && !said.contains(&secret) {
                self.troubles.push(Trouble {
                    reason: "SecretMissing",
                    message: format!(
                        "secret {secret} has no value: store it with `stagekeeper secret set {name} {secret}`"
                    ),
                });
                said.push(secret);
            }
        }
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// What is to be said about the project as a whole, where this is what is to be said about its images.
    pub fn over(&self, images: Outcome) -> Outcome {
        match (self.troubles.first(), &images) {
            (Some(first), Outcome::Ready { .. }) => Outcome::stalled(first.reason, self.said()),
            _ => images,
        }
    }

    /// The project's conditions with this one among them, if it has to do with either.
    pub fn among(&self, mut conditions: Vec<Condition>, generation: i64, now: Timestamp) -> Vec<Condition> {
        match self.condition(generation, now) {
            Some(condition) => conditions::set(&mut conditions, condition),
            None => conditions.retain(|one| one.type_ != CREDENTIALS_READY),
        }
        conditions
    }

    fn said(&self) -> String {
        self.troubles.iter().map(|one| one.message.as_str()).collect::<Vec<_>>().join("; ")
    }

    fn condition(&self, generation: i64, now: Timestamp) -> Option<Condition> {
        if !self.any && self.troubles.is_empty() {
            return None;
        }
        let (status, reason, message) = match (self.troubles.first(), self.warnings.is_empty()) {
            (Some(first), _) => ("False", first.reason, self.said()),
            (None, false) => ("True", "CredentialExpiring", self.warnings.join("; ")),
            (None, true) => {
                ("True", "Stored", "every credential and secret that the project names is stored".to_owned())
            }
        };
        Some(Condition {
            type_: CREDENTIALS_READY.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: Some(generation),
            last_transition_time: Time(now),
        })
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{
        domain::secret::SecretId,
        store::{VaultCredential, VaultProject, VaultSecret},
    };

    const NOW: &str = "2026-03-01T12:00:00Z";

    fn now() -> Timestamp {
        NOW.parse().expect("an instant")
    }

    fn project(more: &str) -> Project {
        let text = format!(
            "{{apiVersion: stagekeeper.dev/v1alpha1, kind: Project, metadata: {{name: shop}}, spec: {{services: [{{name: web, \
             image: {{repository: ghcr.io/acme/shop, tag: '1', credential: ghcr}}}}], {more}}}}}"
        );
        serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    fn holdings(credentials: &[(&str, Option<&str>)], secrets: &[&str]) -> Holdings {
        let credential = |(name, expires): &(&str, Option<&str>)| VaultCredential {
            name: (*name).into(),
            id: Uuid::nil(),
            stamp: 1,
            kind: CredentialKind::Registry,
            hosts: vec!["ghcr.io".into()],
            expires_at: expires.map(|at| at.parse().expect("an instant")),
            origin: "command line".into(),
            updated_by: "user:jane".into(),
        };
        let secret = |name: &&str| VaultSecret {
            secret: SecretId::for_all(*name),
            stamp: 1,
            origin: "command line".into(),
            updated_by: "user:jane".into(),
        };
        Holdings::from(VaultProject {
            id: Uuid::nil(),
            namespace: "acme".into(),
            name: "shop".into(),
            credentials: credentials.iter().map(credential).collect(),
            secrets: secrets.iter().map(secret).collect(),
            receivers: Vec::new(),
        })
    }

    fn told(more: &str, holdings: &Holdings) -> (String, String, String, Option<Timestamp>) {
        let mut verdict = Verdict::default();
        verdict.look_at(&project(more), holdings, now());
        let condition = verdict.condition(1, now()).expect("a condition");
        (condition.status, condition.reason, condition.message, verdict.wake)
    }

    #[test]
    fn what_is_missing_is_named_with_the_command_that_stores_it() {
        let (status, reason, message, _) = told("secrets: [{name: KEY}]", &holdings(&[], &[]));
        assert_eq!((status.as_str(), reason.as_str()), ("False", "CredentialMissing"));
        for part in ["stagekeeper credential set shop ghcr", "stagekeeper secret set shop KEY"] {
            assert!(message.contains(part), "{message}");
        }
        let (status, reason, ..) = told("secrets: [{name: KEY}]", &holdings(&[("ghcr", None)], &["KEY"]));
        assert_eq!((status.as_str(), reason.as_str()), ("True", "Stored"));
    }

    #[test]
    fn an_end_is_warned_about_two_weeks_before_and_then_told() {
        let cases = [
            ("2026-06-01T00:00:00Z", "True", "Stored", Some("2026-05-18T00:00:00Z")),
            ("2026-03-08T00:00:00Z", "True", "CredentialExpiring", Some("2026-03-08T00:00:00Z")),
            (NOW, "False", "CredentialExpired", None),
        ];
        for (at, status, reason, wake) in cases {
            let (found, word, message, next) = told("", &holdings(&[("ghcr", Some(at))], &[]));
            assert_eq!((found.as_str(), word.as_str()), (status, reason), "{message}");
            assert_eq!(next, wake.map(|at| at.parse().expect("an instant")), "{at}");
            assert!(reason == "Stored" || message.contains("stagekeeper credential set shop ghcr"), "{message}");
        }
    }

    #[test]
    fn a_project_without_any_has_no_such_condition() {
        let mut bare = project("");
        bare.spec.services[0].image.credential = None;
        let mut verdict = Verdict::default();
        verdict.look_at(&bare, &holdings(&[], &[]), now());
        assert!(verdict.among(Vec::new(), 1, now()).is_empty());
        let images = Outcome::ready("ImagesKnown", "known");
        assert_eq!(verdict.over(images.clone()), images);
        verdict.troubles.push(Trouble::no_keys());
        assert!(matches!(verdict.over(images), Outcome::Stalled { reason: "NoEncryptionKeys", .. }));
        assert_eq!(verdict.among(Vec::new(), 1, now()).len(), 1);
    }
}
