//! What a Kubernetes Secret means as a credential or as the value of a secret. Pure.

use zeroize::Zeroizing;

use crate::{
    api::{CredentialDeclaration, CredentialType, SecretDeclaration, SecretRef},
    cluster::originals::{Content, Version},
    safe::{
        Plaintext,
        login::{self, Login},
    },
};

/// Type of a Secret that holds logins of nodes.
const DOCKER_CONFIG: &str = "kubernetes.io/dockerconfigjson";
/// Its one key.
const DOCKER_CONFIG_KEY: &str = ".dockerconfigjson";
/// Type of a Secret that holds a user and a password.
const BASIC: &str = "kubernetes.io/basic-auth";

/// A value with the registries that it is for.
pub struct Read {
    /// What is put into the safe.
    pub value: Plaintext,
    /// The registries; none unless it is for registries.
    pub hosts: Vec<String>,
}

/// Where a value came from, as it is recorded: another version of the Secret, or another key, is another origin.
pub fn origin(of: &SecretRef, version: &Version) -> String {
    format!("secret/{of} uid/{} version/{}", version.uid, version.resource_version)
}

/// Whether a value came from this Secret, in whatever version.
pub fn is_from(origin: &str, of: &SecretRef) -> bool {
    origin.strip_prefix("secret/").and_then(|rest| rest.split_once(' ')).is_some_and(|(name, _)| name == of.to_string())
}

/// The value of a credential.
///
/// # Errors
/// What is wrong with the Secret, without anything of what is in it.
pub fn credential(declared: &CredentialDeclaration, content: &Content) -> Result<Read, String> {
    if declared.type_ != CredentialType::Registry {
        let value = of_key(content, declared.secret_ref.key.as_deref())?;
        return Ok(Read { value: Plaintext::from(value.to_vec()), hosts: Vec::new() });
    }
    let logins = logins(declared, content)?;
    let hosts = logins.iter().map(|login| login.host.clone()).collect();
    Ok(Read { value: login::to_value(&logins), hosts })
}

/// The value of a secret.
///
/// # Errors
/// The Secret has no such key.
pub fn secret(declared: &SecretDeclaration, of: &SecretRef, content: &Content) -> Result<Plaintext, String> {
    let value = of_key(content, Some(of.key.as_deref().unwrap_or(&declared.name)))?;
    Ok(Plaintext::from(value.to_vec()))
}

fn logins(declared: &CredentialDeclaration, content: &Content) -> Result<Vec<Login>, String> {
    let key = declared.secret_ref.key.as_deref();
    let config_key = key.or((content.type_ == DOCKER_CONFIG).then_some(DOCKER_CONFIG_KEY));
    if let Some(key) = config_key.filter(|_| declared.hosts.is_empty()) {
        let config = Plaintext::from(of_key(content, Some(key))?.to_vec());
        return login::from_docker_config(&config).map_err(|error| format!("key {key}: {error}"));
    }
    if declared.hosts.is_empty() {
        return Err("the Secret does not say which registry it is for: name it in `hosts`".into());
    }
    let (user, password) = match (content.type_ == BASIC, key) {
        (true, None) => (Some(text(of_key(content, Some("username"))?)?), text(of_key(content, Some("password"))?)?),
        (_, key) => (None, text(of_key(content, key)?)?),
    };
    let one = |host: &String| {
        let host = login::host(host).map_err(|error| error.to_string())?;
        let user = match (&declared.user, &user) {
            (Some(user), _) => user.clone(),
            (None, Some(user)) => user.to_string(),
            (None, None) => login::token_user(&host).map_err(|error| error.to_string())?.to_owned(),
        };
        Ok(Login { host, user, secret: password.clone() })
    };
    declared.hosts.iter().map(one).collect()
}

/// The value of this key, or of the only one.
fn of_key<'a>(content: &'a Content, key: Option<&str>) -> Result<&'a Zeroizing<Vec<u8>>, String> {
    let keys = || content.data.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    match key {
        Some(key) => content.data.get(key).ok_or_else(|| format!("it has no key `{key}`; it has {}", keys())),
        None => match content.data.values().collect::<Vec<_>>()[..] {
            [one] => Ok(one),
            [] => Err("it is empty".into()),
            _ => Err(format!("it has several keys ({}): name one in `secretRef.key`", keys())),
        },
    }
}

/// A user or password as text, without the line's end that many files have.
fn text(bytes: &Zeroizing<Vec<u8>>) -> Result<Zeroizing<String>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "its login is not text".to_owned())?;
    Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn content(type_: &str, data: &[(&str, &str)]) -> Content {
        Content {
            version: Version { uid: "u".into(), resource_version: "7".into() },
            type_: type_.into(),
            data: data
                .iter()
                .map(|(key, value)| ((*key).to_owned(), Zeroizing::new(value.as_bytes().to_vec())))
                .collect(),
        }
    }

    fn read(declared: &str, content: &Content) -> Result<BTreeMap<String, (String, String)>, String> {
        let declared: CredentialDeclaration = serde_yaml::from_str(declared).expect("a declaration");
        let read = credential(&declared, content)?;
        let logins = login::from_docker_config(&read.value).expect("logins");
        let hosts: Vec<String> = logins.iter().map(|login| login.host.clone()).collect();
        assert_eq!(hosts, read.hosts);
        Ok(logins.into_iter().map(|login| (login.host, (login.user, login.secret.to_string()))).collect())
    }

    fn bob(host: &str) -> BTreeMap<String, (String, String)> {
        BTreeMap::from([(host.to_owned(), ("bob".to_owned(), "pw".to_owned()))])
    }

    #[test]
    fn logins_are_read_from_every_kind_of_secret_that_people_have() {
        let config = r#"{"auths":{"ghcr.io":{"username":"bob","password":"pw"}}}"#;
        let plain = "{name: a, type: registry, secretRef: {name: s}}";
        let hosts = "{name: a, type: registry, hosts: [ghcr.io], secretRef: {name: s}}";
        let keyed = "{name: a, type: registry, hosts: [ghcr.io], user: bob, secretRef: {name: s, key: token}}";
        let docker = content(DOCKER_CONFIG, &[(DOCKER_CONFIG_KEY, config)]);
        assert_eq!(read(plain, &docker), Ok(bob("ghcr.io")));
        assert_eq!(
            read("{name: a, type: registry, secretRef: {name: s, key: cfg}}", &content("Opaque", &[("cfg", config)])),
            Ok(bob("ghcr.io"))
        );
        let basic = content(BASIC, &[("username", "bob"), ("password", "pw\n")]);
        assert_eq!(read(hosts, &basic), Ok(bob("ghcr.io")));
        assert_eq!(read(keyed, &content("Opaque", &[("token", "pw"), ("other", "x")])), Ok(bob("ghcr.io")));
        let several = "{name: a, type: registry, hosts: [ghcr.io, quay.io], user: bob, secretRef: {name: s}}";
        let both = read(several, &content("Opaque", &[("x", "pw")])).expect("two logins");
        assert_eq!(both.keys().map(String::as_str).collect::<Vec<_>>(), ["ghcr.io", "quay.io"]);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_value() {
        let plain = "{name: a, type: registry, secretRef: {name: s}}";
        let cases = [
            (plain, content(BASIC, &[("username", "bob"), ("password", "canary")]), "which registry it is for"),
            (plain, content(DOCKER_CONFIG, &[(DOCKER_CONFIG_KEY, "canary")]), "not a docker configuration"),
            (
                "{name: a, type: git, secretRef: {name: s, key: k}}",
                content("Opaque", &[("x", "canary")]),
                "no key `k`; it has x",
            ),
            (
                "{name: a, type: git, secretRef: {name: s}}",
                content("Opaque", &[("x", "canary"), ("y", "canary")]),
                "several keys (x, y)",
            ),
            ("{name: a, type: git, secretRef: {name: s}}", content("Opaque", &[]), "it is empty"),
        ];
        for (declared, content, want) in cases {
            let said = read(declared, &content).expect_err(want);
            assert!(said.contains(want) && !said.contains("canary"), "{said}");
        }
    }

    #[test]
    fn another_version_or_key_is_another_origin() {
        let of = SecretRef { name: "s".into(), key: Some("k".into()) };
        let version = |number: &str| Version { uid: "u".into(), resource_version: number.into() };
        assert_ne!(origin(&of, &version("1")), origin(&of, &version("2")));
        assert!(is_from(&origin(&of, &version("1")), &of));
        assert!(!is_from(&origin(&of, &version("1")), &SecretRef { name: "s".into(), key: None }));
        assert!(!is_from("command line", &of));
    }
}
