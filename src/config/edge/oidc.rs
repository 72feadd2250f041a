//! What the edge is told of signing in.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use crate::config::{
    parse,
    problem::{Problems, Reported},
    settings::{Setting, Values, setting},
};

/// The issuer.
pub const EDGE_OIDC_ISSUER: Setting = setting(
    "STAGEKEEPER_EDGE_OIDC_ISSUER",
    "edge-oidc-issuer",
    "the https URL of an OpenID Connect issuer at which people sign in for environments, exactly as its tokens name it; only with a \
     certificate",
);
/// Our name at the issuer.
pub const EDGE_OIDC_CLIENT_ID: Setting =
    setting("STAGEKEEPER_EDGE_OIDC_CLIENT_ID", "edge-oidc-client-id", "the edge's client ID at the issuer");
/// Our secret at the issuer.
pub const EDGE_OIDC_SECRET_FILE: Setting = setting(
    "STAGEKEEPER_EDGE_OIDC_SECRET_FILE",
    "edge-oidc-secret-file",
    "a readable file whose first line is the client's secret (default none: a public client)",
);
/// What sessions are sealed with.
pub const EDGE_OIDC_KEY_FILE: Setting = setting(
    "STAGEKEEPER_EDGE_OIDC_KEY_FILE",
    "edge-oidc-key-file",
    "a readable file whose first line has at least 32 random characters, the same for all replicas; another key ends every session",
);
/// Where the issuer comes back to.
pub const EDGE_OIDC_HOST: Setting = setting(
    "STAGEKEEPER_EDGE_OIDC_HOST",
    "edge-oidc-host",
    "the host that the issuer comes back to, one under the domain of the certificate that no environment has, such as \
     auth.preview.example.com; with a port if that is not 443",
);
/// What the issuer is asked to tell.
pub const EDGE_OIDC_SCOPES: Setting = setting(
    "STAGEKEEPER_EDGE_OIDC_SCOPES",
    "edge-oidc-scopes",
    "words separated by spaces, openid among them (default openid email)",
);
/// Who is let in.
pub const EDGE_OIDC_ALLOW: Setting = setting(
    "STAGEKEEPER_EDGE_OIDC_ALLOW",
    "edge-oidc-allow",
    "who is let in, separated by commas: group:NAME, email:ADDRESS, domain:NAME of addresses, claim:NAME=VALUE, or anyone whom the \
     issuer knows",
);
/// How long a session lasts.
pub const EDGE_OIDC_SESSION: Setting = setting(
    "STAGEKEEPER_EDGE_OIDC_SESSION",
    "edge-oidc-session",
    "a whole number of minutes from 1 to 1440 that a session lasts (default 60)",
);

/// What the edge takes of it.
#[derive(Args, Clone, Default)]
pub struct EdgeOidcArgs {
    /// Issuer at which people sign in for environments [default: none].
    #[arg(long, env = EDGE_OIDC_ISSUER.name, value_name = "URL")]
    pub edge_oidc_issuer: Option<String>,
    /// Client ID at that issuer.
    #[arg(long, env = EDGE_OIDC_CLIENT_ID.name, value_name = "NAME")]
    pub edge_oidc_client_id: Option<String>,
    /// File with the client's secret [default: none, a public client].
    #[arg(long, env = EDGE_OIDC_SECRET_FILE.name, value_name = "FILE")]
    pub edge_oidc_secret_file: Option<String>,
    /// File with the key of sessions.
    #[arg(long, env = EDGE_OIDC_KEY_FILE.name, value_name = "FILE")]
    pub edge_oidc_key_file: Option<String>,
    /// Host that the issuer comes back to.
    #[arg(long, env = EDGE_OIDC_HOST.name, value_name = "HOST")]
    pub edge_oidc_host: Option<String>,
    /// What the issuer is asked to tell [default: openid email].
    #[arg(long, env = EDGE_OIDC_SCOPES.name, value_name = "WORDS")]
    pub edge_oidc_scopes: Option<String>,
    /// Who is let in: group:NAME, email:ADDRESS, domain:NAME, claim:NAME=VALUE or anyone, separated by commas.
    #[arg(long, env = EDGE_OIDC_ALLOW.name, value_name = "RULES")]
    pub edge_oidc_allow: Option<String>,
    /// Minutes that a session lasts, 1 to 1440 [default: 60].
    #[arg(long, env = EDGE_OIDC_SESSION.name, value_name = "MINUTES")]
    pub edge_oidc_session: Option<String>,
}

impl EdgeOidcArgs {
    /// Adds them as values to parse.
    pub fn onto(&self, values: Values) -> Values {
        values
            .with(&EDGE_OIDC_ISSUER, self.edge_oidc_issuer.clone())
            .with(&EDGE_OIDC_CLIENT_ID, self.edge_oidc_client_id.clone())
            .with(&EDGE_OIDC_SECRET_FILE, self.edge_oidc_secret_file.clone())
            .with(&EDGE_OIDC_KEY_FILE, self.edge_oidc_key_file.clone())
            .with(&EDGE_OIDC_HOST, self.edge_oidc_host.clone())
            .with(&EDGE_OIDC_SCOPES, self.edge_oidc_scopes.clone())
            .with(&EDGE_OIDC_ALLOW, self.edge_oidc_allow.clone())
            .with(&EDGE_OIDC_SESSION, self.edge_oidc_session.clone())
    }
}

/// How people sign in for environments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeOidc {
    /// The issuer, exactly as its tokens name it.
    pub issuer: String,
    /// The client that asks it.
    pub client_id: String,
    /// The file with the client's secret, if it has one.
    pub secret_file: Option<PathBuf>,
    /// The file with the key of sessions.
    pub key_file: PathBuf,
    /// The host that the issuer comes back to.
    pub host: String,
    /// Its port, if it is another than 443.
    pub port: Option<u16>,
    /// What the issuer is asked to tell.
    pub scopes: String,
    /// Who is let in.
    pub rules: Rules,
    /// How long a session lasts.
    pub session: Duration,
}

/// Who is let in: whom one of these is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// As it was written.
    pub text: String,
    /// As it was read; never empty.
    pub all: Vec<Allow>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Allow {
    /// Everybody whom the issuer knows.
    Anyone,
    /// Who has this address, verified.
    Email(String),
    /// Who has a verified address of this domain.
    Domain(String),
    /// Who has this value in that claim.
    Claim {
        /// The claim.
        name: String,
        /// Its value, or one of its values.
        value: String,
    },
}

impl EdgeOidc {
    /// All of it, if there is an issuer.
    pub(super) fn read(problems: &mut Problems<'_>) -> Result<Option<Self>, Reported> {
        let issuer = problems.optional(&[&EDGE_OIDC_ISSUER], parse::issuer);
        let secret_file = problems.optional(&[&EDGE_OIDC_SECRET_FILE], parse::readable);
        let scopes = problems.or_default(&EDGE_OIDC_SCOPES, "openid email", scopes);
        let session = problems.or_default(&EDGE_OIDC_SESSION, "60", parse::up_to::<1440>);
        let Some(issuer) = issuer? else { return Ok(None) };
        let client_id = problems.required(&[&EDGE_OIDC_CLIENT_ID], parse::word);
        let key_file = problems.required(&[&EDGE_OIDC_KEY_FILE], parse::readable);
        let home = problems.required(&[&EDGE_OIDC_HOST], home);
        let rules = problems.required(&[&EDGE_OIDC_ALLOW], rules);
        let (host, port) = home?;
        Ok(Some(Self {
            issuer,
            client_id: client_id?,
            secret_file: secret_file?,
            key_file: key_file?,
            host,
            port,
            scopes: scopes?,
            rules: rules?,
            session: Duration::from_secs(60 * session?.get() as u64),
        }))
    }
}

fn scopes(text: &str) -> Result<String, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    if words.contains(&"openid") { Ok(words.join(" ")) } else { Err("openid is not among them".into()) }
}

/// A host, with a port or without.
fn home(text: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = match text.split_once(':') {
        None => (text, None),
        Some((host, port)) => (host, Some(port.parse().map_err(|_| "its port is no number".to_owned())?)),
    };
    if !host.contains('.') {
        return Err("it has no domain".into());
    }
    parse::object_name(host).map(|host| (host, port)).map_err(|_| "it is not a host in lower case".into())
}

fn rules(text: &str) -> Result<Rules, String> {
    let all: Vec<Allow> = text.split(',').map(str::trim).map(rule).collect::<Result<_, _>>()?;
    Ok(Rules { text: text.to_owned(), all })
}

fn rule(text: &str) -> Result<Allow, String> {
    if text == "anyone" {
        return Ok(Allow::Anyone);
    }
    let claim = |name: &str, value: &str| Allow::Claim { name: name.to_owned(), value: value.to_owned() };
    let read = match text.split_once(':') {
        Some((_, "")) => None,
        Some(("group", name)) => Some(claim("groups", name)),
        Some(("email", address)) if address.contains('@') => Some(Allow::Email(address.to_owned())),
        Some(("domain", domain)) if !domain.contains('@') => Some(Allow::Domain(domain.to_owned())),
        Some(("claim", pair)) => match pair.split_once('=') {
            Some((name, value)) if !name.is_empty() && !value.is_empty() => Some(claim(name, value)),
            _ => None,
        },
        _ => None,
    };
    read.ok_or_else(|| format!("`{text}` is no rule"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_as_they_are_documented() {
        let read = rules("group:dev, email:jane@acme.test,domain:acme.test,claim:team=shop=1,anyone").expect("rules");
        let claim = |name: &str, value: &str| Allow::Claim { name: name.into(), value: value.into() };
        let expected = [
            claim("groups", "dev"),
            Allow::Email("jane@acme.test".into()),
            Allow::Domain("acme.test".into()),
            claim("team", "shop=1"),
            Allow::Anyone,
        ];
        assert_eq!(read.all, expected);
        for wrong in
            ["", "anyone,", "dev", "group:", "domain:@acme.test", "email:jane", "claim:team", "claim:=x", "role:x"]
        {
            assert!(rules(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_host_is_one_with_a_domain() {
        assert_eq!(home("auth.preview.test"), Ok(("auth.preview.test".into(), None)));
        assert_eq!(home("auth.preview.test:8443"), Ok(("auth.preview.test".into(), Some(8443))));
        for wrong in ["auth", "Auth.test", "https://auth.test", "auth.test/", "auth.test:x", "auth.test:", "*.test"] {
            assert!(home(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn scopes_are_those_of_an_id_token() {
        assert_eq!(scopes(" openid  groups"), Ok("openid groups".into()));
        assert!(scopes("email").is_err());
    }
}
