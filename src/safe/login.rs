//! What the value of a registry credential looks like: logins by registry host.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

use crate::crypto::Plaintext;

/// The name under which Docker Hub is known in its own configuration files.
const DOCKER_HUB: [&str; 3] = ["index.docker.io", "registry-1.docker.io", "docker.io"];

/// A user, or a robot account, of one registry.
pub struct Login {
    /// The registry, as `HOST[:PORT]`; it is used for exactly this one.
    pub host: String,
    /// Name of the user.
    pub user: String,
    /// Password or token.
    pub secret: Zeroizing<String>,
}

/// Why a text holds no logins. Says nothing of what is in it but hosts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// It is no configuration of docker.
    #[error("it is not a docker configuration: expected {{\"auths\": {{HOST: {{\"username\": …, \"password\": …}}}}}}")]
    Form,
    /// There is no login in it.
    #[error("there is no login in it")]
    Empty,
    /// A login is not usable.
    #[error("its login for {0} has neither a user with a password nor a readable `auth`")]
    Login(String),
    /// What stands for a host is none.
    #[error("`{0}` is not a registry: expected HOST[:PORT]")]
    Host(String),
    /// A registry whose tokens belong to users.
    #[error("a token of {0} belongs to a user")]
    NoTokenUser(String),
    /// A user with a colon: no registry could tell where the name ends.
    #[error("the user for {0} has a colon in it")]
    User(String),
}

#[derive(Deserialize)]
struct Config {
    auths: BTreeMap<String, Auth>,
}

#[derive(Deserialize)]
struct Auth {
    username: Option<String>,
    password: Option<Zeroizing<String>>,
    #[serde(rename = "auth")]
    encoded: Option<Zeroizing<String>>,
}

#[derive(Serialize)]
struct Stored<'a> {
    auths: BTreeMap<&'a str, StoredAuth<'a>>,
}

#[derive(Serialize)]
struct StoredAuth<'a> {
    username: &'a str,
    password: &'a str,
}

/// A registry as [`Login::host`] has it, from what people and configuration files write: `https://ghcr.io/v2/` is
/// `ghcr.io`, and Docker Hub has one name.
///
/// # Errors
/// It is none.
pub fn host(text: &str) -> Result<String, LoginError> {
    let bare = text.trim().trim_start_matches("https://").trim_start_matches("http://");
    let bare = bare.split('/').next().unwrap_or_default().to_ascii_lowercase();
    let (name, port) = bare.split_once(':').unwrap_or((&bare, "1"));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    let named = name.bytes().all(plain) && name.bytes().any(|byte| byte.is_ascii_alphanumeric());
    if !named || port.parse::<u16>().is_err() {
        return Err(LoginError::Host(text.chars().take(100).collect()));
    }
    Ok(if DOCKER_HUB.contains(&&*bare) { "docker.io".into() } else { bare })
}

/// The user that a registry expects beside a token that has none of its own. Most take any.
///
/// # Errors
/// Its tokens belong to users.
pub fn token_user(host: &str) -> Result<&'static str, LoginError> {
    let within = |domain: &str| host.strip_suffix(domain).is_some_and(|front| front.ends_with('.'));
    match host {
        "docker.io" => Err(LoginError::NoTokenUser("Docker Hub".into())),
        "quay.io" => Ok("$oauthtoken"),
        "gcr.io" => Ok("oauth2accesstoken"),
        _ if within("gcr.io") || within("pkg.dev") => Ok("oauth2accesstoken"),
        _ if within("azurecr.io") => Ok("00000000-0000-0000-0000-000000000000"),
        _ => Ok("token"),
    }
}

/// Reads what `docker login` writes, and what a Secret of type `kubernetes.io/dockerconfigjson` holds.
///
/// # Errors
/// The first thing that is wrong with it.
pub fn from_docker_config(value: &Plaintext) -> Result<Vec<Login>, LoginError> {
    let config: Config = serde_json::from_slice(value.expose()).map_err(|_| LoginError::Form)?;
    if config.auths.is_empty() {
        return Err(LoginError::Empty);
    }
    config.auths.into_iter().map(|(name, auth)| login(&name, auth)).collect()
}

fn login(name: &str, auth: Auth) -> Result<Login, LoginError> {
    let host = host(name)?;
    let unusable = || LoginError::Login(host.clone());
    let (user, secret) = match auth {
        Auth { username: Some(user), password: Some(secret), encoded: _ } => (user, secret),
        Auth { encoded: Some(text), .. } => {
            let pair = STANDARD.decode(text.trim()).map(Zeroizing::new).map_err(|_| unusable())?;
            let pair = std::str::from_utf8(&pair).map_err(|_| unusable())?;
            let (user, secret) = pair.split_once(':').ok_or_else(unusable)?;
            (user.to_owned(), Zeroizing::new(secret.to_owned()))
        }
        _ => return Err(unusable()),
    };
    if user.contains(':') {
        return Err(LoginError::User(host));
    }
    if user.is_empty() || secret.is_empty() { Err(unusable()) } else { Ok(Login { host, user, secret }) }
}

/// The logins as they are sealed: in the form that nodes read too.
pub fn to_value(logins: &[Login]) -> Plaintext {
    let auths =
        logins.iter().map(|login| (login.host.as_str(), StoredAuth { username: &login.user, password: &login.secret }));
    // Texts and nothing else: this cannot fail.
    Plaintext::from(serde_json::to_vec(&Stored { auths: auths.collect() }).unwrap_or_default())
}

/// The login of a credential for exactly this registry.
///
/// # Errors
/// The value is not what [`to_value`] made.
pub fn for_host(value: &Plaintext, host: &str) -> Result<Option<Login>, LoginError> {
    Ok(from_docker_config(value)?.into_iter().find(|login| login.host == host))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever somebody gives as a docker configuration is read or refused, and what was read is read again.
        #[test]
        fn any_text_is_read_or_refused(
            any in prop::collection::vec(any::<u8>(), 0..200),
            host in "(https?://)?[a-zA-Z0-9.:@/ -]{0,20}",
            user in "[a-z:\u{e9} ]{0,6}",
            secret in ".{0,10}",
            encoded: bool,
        ) {
            let _read = from_docker_config(&Plaintext::from(any)).is_ok();
            let auth = if encoded {
                serde_json::json!({"auth": STANDARD.encode(format!("{user}:{secret}"))})
            } else {
                serde_json::json!({"username": user, "password": secret})
            };
            let text = serde_json::json!({"auths": {host: auth}}).to_string();
            if let Ok(logins) = from_docker_config(&Plaintext::from(text)) {
                let again = from_docker_config(&to_value(&logins)).unwrap();
                prop_assert_eq!(again.len(), 1);
                prop_assert_eq!((&again[0].host, &again[0].user), (&logins[0].host, &logins[0].user));
                prop_assert_eq!(&*again[0].secret, &*logins[0].secret);
            }
        }
    }

    fn logins(text: &str) -> Result<Vec<(String, String, String)>, LoginError> {
        let all = from_docker_config(&Plaintext::from(text.to_owned()))?;
        Ok(all.into_iter().map(|login| (login.host, login.user, login.secret.to_string())).collect())
    }

    #[test]
    fn every_form_that_docker_writes_is_read() {
        let bob = |host: &str| Ok(vec![(host.to_owned(), "bob".to_owned(), "p:w".to_owned())]);
        let cases = [
            ("plain", r#"{"auths":{"ghcr.io":{"username":"bob","password":"p:w"}}}"#, bob("ghcr.io")),
            ("encoded", r#"{"auths":{"ghcr.io":{"auth":"Ym9iOnA6dw=="}},"credsStore":"x"}"#, bob("ghcr.io")),
            ("both", r#"{"auths":{"ghcr.io":{"username":"bob","password":"p:w","auth":"bm8="}}}"#, bob("ghcr.io")),
            ("Docker Hub", r#"{"auths":{"https://index.docker.io/v1/":{"auth":"Ym9iOnA6dw=="}}}"#, bob("docker.io")),
            ("port", r#"{"auths":{"http://Registry.Local:5000":{"auth":"Ym9iOnA6dw=="}}}"#, bob("registry.local:5000")),
            ("not JSON", "ghcr.io bob p:w", Err(LoginError::Form)),
            ("another form", r#"{"ghcr.io":{"auth":"Ym9iOnA6dw=="}}"#, Err(LoginError::Form)),
            ("nothing", r#"{"auths":{}}"#, Err(LoginError::Empty)),
            ("no login", r#"{"auths":{"ghcr.io":{}}}"#, Err(LoginError::Login("ghcr.io".into()))),
            ("not base64", r#"{"auths":{"ghcr.io":{"auth":"%%"}}}"#, Err(LoginError::Login("ghcr.io".into()))),
            ("no colon", r#"{"auths":{"ghcr.io":{"auth":"Ym9i"}}}"#, Err(LoginError::Login("ghcr.io".into()))),
            (
                "no password",
                r#"{"auths":{"ghcr.io":{"username":"bob","password":""}}}"#,
                Err(LoginError::Login("ghcr.io".into())),
            ),
            (
                "a user with a colon",
                r#"{"auths":{"ghcr.io":{"username":"b:b","password":"p"}}}"#,
                Err(LoginError::User("ghcr.io".into())),
            ),
        ];
        for (name, text, expected) in cases {
            assert_eq!(logins(text), expected, "{name}");
        }
    }

    #[test]
    fn tokens_go_with_the_user_that_the_registry_expects() {
        let nobody = "00000000-0000-0000-0000-000000000000";
        let cases = [
            ("ghcr.io", Ok("token")),
            ("registry.example.com:5000", Ok("token")),
            ("quay.io", Ok("$oauthtoken")),
            ("gcr.io", Ok("oauth2accesstoken")),
            ("eu.gcr.io", Ok("oauth2accesstoken")),
            ("europe-docker.pkg.dev", Ok("oauth2accesstoken")),
            ("shop.azurecr.io", Ok(nobody)),
            ("evilgcr.io", Ok("token")),
            ("gcr.io.example.com", Ok("token")),
            ("azurecr.io", Ok("token")),
            ("docker.io", Err(LoginError::NoTokenUser("Docker Hub".into()))),
        ];
        for (host, expected) in cases {
            assert_eq!(token_user(host), expected, "{host}");
        }
        // Docker Hub under another of its names.
        assert!(host("https://index.docker.io/v1/").and_then(|host| token_user(&host)).is_err());
    }

    #[test]
    fn a_host_is_exactly_one() {
        let value = to_value(&[
            Login { host: "ghcr.io".into(), user: "bob".into(), secret: Zeroizing::new("one".into()) },
            Login { host: "quay.io:443".into(), user: "eve".into(), secret: Zeroizing::new("\"two\"\n".into()) },
        ]);
        let secret = |host: &str| for_host(&value, host).unwrap().map(|login| login.secret.to_string());
        assert_eq!(secret("ghcr.io").as_deref(), Some("one"));
        assert_eq!(secret("quay.io:443").as_deref(), Some("\"two\"\n"));
        for other in ["ghcr.io.evil.example", "evil.ghcr.io", "ghcr.io:443", "quay.io", "GHCR.IO", ""] {
            assert_eq!(secret(other), None, "{other}");
        }
        for wrong in ["", "https://", "a b", "ghcr.io:", "ghcr.io:99999", "bob@ghcr.io", "..", "[::1]"] {
            assert!(host(wrong).is_err(), "{wrong:?}");
        }
    }
}
