//! The values of a deploy, opened: what its Secrets hold, and what everything that is told about it is searched for.
//!
//! They are opened when the deploy first needs them, which is recorded, held while it is under way, and wiped with it.
//! What cannot be searched because they do not open is withheld.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use zeroize::Zeroize as _;

use super::{Target, ledger::Entry, plan::Planned};
use crate::{
    cluster::error::ApiError,
    controllers::{
        context::Context,
        error::{Class, Error},
    },
    domain::{
        actor::Actor,
        deploy::Problem,
        mask::Masker,
        secret::{self, SecretId},
    },
    render::{self, SecretContent, SecretManifest},
    safe::{
        Owner, Plaintext, Safe, SafeError,
        login::{self, Login},
    },
    telemetry::redact::{self, Held},
};

/// What nodes call Docker Hub in their configuration.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// What a deploy needs of the safe.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs {
    secrets: BTreeSet<(SecretId, i64)>,
    /// Registry credentials, with their versions.
    credentials: BTreeMap<String, i64>,
}

impl Needs {
    /// What these Secrets are made of. `versions` are those of the project's credentials.
    pub fn of<'a>(manifests: impl IntoIterator<Item = &'a SecretManifest>, versions: &BTreeMap<String, i64>) -> Self {
        let mut needs = Self::default();
        for manifest in manifests {
            match &manifest.content {
                SecretContent::Values(values) => needs.secrets.extend(values.values().cloned()),
                SecretContent::Logins(logins) => {
                    let known = logins.values().filter_map(|name| Some((name.clone(), *versions.get(name)?)));
                    needs.credentials.extend(known);
                }
            }
        }
        needs
    }

    fn is_empty(&self) -> bool {
        self.secrets.is_empty() && self.credentials.is_empty()
    }
}

/// Opened values. No `Debug`, and wiped when dropped.
pub struct Values {
    of: Needs,
    secrets: BTreeMap<(SecretId, i64), Plaintext>,
    logins: BTreeMap<String, Vec<Login>>,
    masker: Arc<Masker>,
    /// While this lives, no line of the log has them.
    _held: Held,
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Values").field("of", &self.of).finish_non_exhaustive()
    }
}

/// What everything that is told about a deploy passes through.
#[derive(Debug, Clone, Default)]
pub enum Screen {
    /// It has no values.
    #[default]
    Clear,
    /// Its values are masked.
    Masked(Arc<Values>),
    /// Its values cannot be opened, so nothing that may have them is told.
    Shut(Problem),
}

impl Screen {
    /// A text without the values.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match self {
            Self::Clear => text.into(),
            Self::Masked(values) => values.masker.mask(text),
            Self::Shut(problem) => format!("withheld, because secrets cannot be masked: {}", problem.message).into(),
        }
    }

    /// The same, in place.
    pub fn pass(&self, text: &mut String) {
        if let Cow::Owned(masked) = self.text(text) {
            *text = masked;
        }
    }
}

/// The values of a deploy's instance; those that it has already, if they are still the same.
///
/// # Errors
/// When the database is away, or something does not open.
pub async fn open(ctx: &Context, target: &Target<'_>, entry: &Entry, planned: &Planned) -> Result<Screen, Error> {
    let needs = Needs::of(planned.manifests.secrets(), &target.logins);
    match &entry.screen {
        _ if needs.is_empty() => return Ok(Screen::Clear),
        Screen::Masked(values) if values.of == needs => return Ok(entry.screen.clone()),
        _ => {}
    }
    let safe = ctx.safe.as_ref().ok_or_else(no_keys)?;
    let identity = &entry.snapshot.identity;
    let owner = Owner { project: target.project, namespace: identity.home(), name: &identity.project };
    let purpose = format!("run deploy {} on stage {}", entry.deploy.id, identity.stage);
    Ok(Screen::Masked(Arc::new(opened(safe, &owner, needs, &purpose).await?)))
}

async fn opened(safe: &Safe, owner: &Owner<'_>, of: Needs, purpose: &str) -> Result<Values, Error> {
    let wanted: Vec<(SecretId, i64)> = of.secrets.iter().cloned().collect();
    let found = safe.secrets_take(owner, &wanted, &Actor::Controller, purpose).await.map_err(unopened)?;
    let mut secrets = BTreeMap::new();
    for (which, value) in wanted.into_iter().zip(found) {
        let value = value.ok_or_else(|| gone(owner, &which))?;
        secrets.insert(which, value);
    }
    let names: Vec<&str> = of.credentials.keys().map(String::as_str).collect();
    let found = safe.take_many(owner, &names, &Actor::Controller, purpose).await.map_err(unopened)?;
    let mut logins = BTreeMap::new();
    for (name, taken) in names.into_iter().zip(found) {
        if let Some((_, value)) = taken {
            let read = login::from_docker_config(&value).map_err(|error| unusable(name, &error.to_string()))?;
            logins.insert(name.to_owned(), read);
        }
    }
    let passwords = logins.values().flatten().map(|login: &Login| login.secret.as_bytes());
    let masker = Arc::new(Masker::new(secrets.values().map(Plaintext::expose).chain(passwords)));
    Ok(Values { _held: redact::hold(masker.clone()), of, secrets, logins, masker })
}

/// Wipes what a Secret was filled with.
pub fn wipe(secret: &mut Secret) {
    for value in secret.data.iter_mut().flat_map(BTreeMap::values_mut) {
        value.0.zeroize();
    }
}

impl Screen {
    /// What the API server said of a Secret, without anything of what is in it.
    pub fn error(&self, error: ApiError) -> Error {
        let reason = error.reason();
        match Error::from(error) {
            error if error.class() == Class::Stalled => {
                Error::Sealed { reason, message: self.text(&error.to_string()).into_owned() }
            }
            passing => passing,
        }
    }

    /// The Secret with its values.
    ///
    /// # Errors
    /// A credential has no login for a registry that it is named for.
    pub fn fill(&self, manifest: &SecretManifest) -> Result<Secret, Error> {
        match (self, &manifest.content) {
            (Self::Masked(values), SecretContent::Values(wanted)) => {
                let bytes = |which| values.secrets.get(which).map(|value| ByteString(value.expose().to_vec()));
                let filled = wanted.iter().filter_map(|(key, which)| Some((key.clone(), bytes(which)?))).collect();
                Ok(manifest.with_values(filled))
            }
            (Self::Masked(values), SecretContent::Logins(wanted)) => {
                let config = values.docker_config(wanted)?;
                Ok(manifest.with_docker_config(ByteString(config.expose().to_vec())))
            }
            (Self::Clear, _) => Ok(manifest.with_docker_config(ByteString(login::to_value(&[]).expose().to_vec()))),
            (Self::Shut(problem), _) => {
                Err(Error::Sealed { reason: "CredentialUnusable", message: problem.message.clone() })
            }
        }
    }
}

impl Values {
    fn docker_config(&self, wanted: &BTreeMap<String, String>) -> Result<Plaintext, Error> {
        let mut chosen = Vec::new();
        for (place, name) in wanted {
            let host = render::registry_of(place);
            let Some(logins) = self.logins.get(name) else { continue };
            let login = logins.iter().find(|login| login.host == host).ok_or_else(|| another_host(name, host))?;
            let host = if place == "docker.io" { DOCKER_HUB.to_owned() } else { place.clone() };
            chosen.push(Login { host, user: login.user.clone(), secret: login.secret.clone() });
        }
        Ok(login::to_value(&chosen))
    }
}

fn no_keys() -> Error {
    Error::Sealed {
        reason: "NoEncryptionKeys",
        message: "secrets and credentials cannot be opened: this operator has no encryption keys; set \
                  STAGEKEEPER_ENCRYPTION_KEYS_FILE"
            .into(),
    }
}

/// A credential that nodes are to pull with is not stored.
pub fn missing(project: &str, name: &str) -> Error {
    let message = format!(
        "credential {name} of project {project} is not stored, and nodes have to pull with it: store it with `stagekeeper \
         credential set {project} {name}`"
    );
    Error::Sealed { reason: "CredentialMissing", message }
}

fn gone(owner: &Owner<'_>, (id, stamp): &(SecretId, i64)) -> Error {
    let version = secret::number(*stamp);
    let message = format!(
        "version {version} of secret {id} is not stored any more, so this release cannot be started as it was: store a value \
         with `stagekeeper secret set {} {}`, and the next deploy has it",
        owner.name, id.name
    );
    Error::Sealed { reason: "SecretGone", message }
}

fn another_host(name: &str, host: &str) -> Error {
    let message = format!(
        "credential {name} has no login for {host}: it goes to the registries that it is for, and to no other; store it for this \
         one too"
    );
    Error::Sealed { reason: "CredentialForAnotherHost", message }
}

fn unusable(name: &str, why: &str) -> Error {
    Error::Sealed { reason: "CredentialUnusable", message: format!("credential {name}: {why}") }
}

fn unopened(error: SafeError) -> Error {
    match error {
        SafeError::Store(error) => error.into(),
        other => Error::Sealed { reason: "CredentialUnusable", message: other.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::{
        controllers::fixture::{Cluster, entry, private_shop, snapshot_with},
        domain::{deploy::State, secret::SecretVersions},
    };

    fn login(host: &str, secret: &str) -> Login {
        Login { host: host.into(), user: "bob".into(), secret: Zeroizing::new(secret.into()) }
    }

    fn values(logins: Vec<Login>) -> Values {
        let masker = Arc::new(Masker::new([b"canary-value".as_slice()]));
        let logins = BTreeMap::from([("one".to_owned(), logins)]);
        Values { of: Needs::default(), secrets: BTreeMap::new(), logins, _held: redact::hold(masker.clone()), masker }
    }

    fn config(wanted: &[(&str, &str)], logins: Vec<Login>) -> Result<serde_json::Value, String> {
        let wanted = wanted.iter().map(|(place, name)| ((*place).to_owned(), (*name).to_owned())).collect();
        let config = values(logins).docker_config(&wanted).map_err(|error| error.to_string())?;
        Ok(serde_json::from_slice(config.expose()).expect("JSON"))
    }

    #[test]
    fn nodes_get_the_logins_of_their_images_registries_and_no_other() {
        let all = || vec![login("ghcr.io", "a"), login("docker.io", "b"), login("quay.io", "c")];
        let of =
            |place: &str, secret: &str| serde_json::json!({"auths": {place: {"username": "bob", "password": secret}}});
        assert_eq!(config(&[("ghcr.io", "one")], all()), Ok(of("ghcr.io", "a")));
        assert_eq!(config(&[("docker.io", "one")], all()), Ok(of("https://index.docker.io/v1/", "b")));
        assert_eq!(config(&[("ghcr.io/acme/shop", "one")], all()), Ok(of("ghcr.io/acme/shop", "a")));
        assert_eq!(config(&[("ghcr.io", "nobody's")], all()), Ok(serde_json::json!({"auths": {}})));
        for host in ["ghcr.io.evil.example", "ghcr.io:443"] {
            let said = config(&[(host, "one")], all()).expect_err("no login for it");
            assert!(said.contains(&format!("credential one has no login for {host}")), "{said}");
        }
    }

    #[test]
    fn what_cannot_be_searched_is_withheld() {
        let text = "the key is canary-value";
        assert_eq!(Screen::Clear.text(text), text);
        let masked = Screen::Masked(Arc::new(values(Vec::new())));
        assert_eq!(masked.text(text), "the key is ***");
        assert!(!format!("{masked:?}").contains("canary"));
        let problem = Problem { reason: "NoEncryptionKeys".into(), message: "no keys".into(), fatal: false };
        let shut = Screen::Shut(problem).text(text).into_owned();
        assert!(shut.contains("no keys") && !shut.contains("canary"), "{shut}");
    }

    #[test]
    fn a_deploy_needs_what_its_secrets_are_made_of_at_todays_version() {
        let versions = SecretVersions::from([
            (SecretId::for_all("KEY"), 5),
            (SecretId::for_service("KEY", "web"), 2),
            (SecretId::for_service("tls", "web"), 1),
        ]);
        let one = entry(snapshot_with(&private_shop(), 0, &versions), 1, State::Pulling);
        let planned = Cluster::default().planned(&one);
        let needs =
            Needs::of(planned.manifests.secrets(), &BTreeMap::from([("ghcr".to_owned(), 9), ("other".to_owned(), 1)]));
        assert_eq!(needs.secrets, versions.into_iter().collect(), "the web's own, and the one for all for the rest");
        // The fixture renders without any credential known: nothing is taken for it.
        assert_eq!(needs.credentials, BTreeMap::new());
    }
}
