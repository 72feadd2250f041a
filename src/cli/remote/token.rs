//! The token that is shown to the API, and where it comes from. Only tokens that are made for the API are: one of the
//! kubeconfig that is for the API server stays here, and is used to ask the API server for one that is not.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderValue, Request, Response, header::AUTHORIZATION};
use jiff::Timestamp;
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
};
use kube::{
    Api, Config,
    api::PostParams,
    client::{Body, ConfigExt as _},
};
use serde::Deserialize;
use tower::{BoxError, Layer as _, ServiceExt as _, service_fn};
use zeroize::Zeroizing;

use super::ServerArgs;
use crate::{
    cli::{Context, failure::Failure},
    cluster::error::{ApiError, Class, Target},
};

/// The variable that may hold a token. There is no flag for it: every process of the machine can read those.
pub const VARIABLE: &str = "STAGEKEEPER_TOKEN";

/// How long a token that is asked for is good, in seconds: the shortest that there is.
const LASTS: i64 = 600;

/// Longest token that the API looks at, in bytes.
const LONGEST: usize = 16 << 10;

/// A bearer token. Neither `Debug` nor `Display`: it is shown to nobody but the API.
pub struct Token {
    text: Zeroizing<String>,
    /// Where it comes from: `the token of the file x`.
    source: String,
}

/// What a token says of itself, if it is one that says anything. Nobody has checked it.
#[derive(Debug, Default, Deserialize)]
struct Claims {
    #[serde(default)]
    sub: String,
    #[serde(default)]
    aud: Audiences,
    exp: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Several(Vec<String>),
}

impl Default for Audiences {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl Audiences {
    fn words(&self) -> &[String] {
        match self {
            Self::One(word) => std::slice::from_ref(word),
            Self::Several(words) => words,
        }
    }
}

/// A service account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    namespace: String,
    name: String,
}

impl Account {
    /// `NAMESPACE/NAME`, or a name in the namespace that is meant.
    fn parse(text: &str, namespace: &str) -> Option<Self> {
        let (namespace, name) = text.split_once('/').unwrap_or((namespace, text));
        let is_name = |part: &str| !part.is_empty() && !part.contains('/');
        (is_name(namespace) && is_name(name)).then(|| Self { namespace: namespace.into(), name: name.into() })
    }

    /// The one that a user name of Kubernetes stands for.
    fn of_user(user: &str) -> Option<Self> {
        let (namespace, name) = user.strip_prefix("system:serviceaccount:")?.split_once(':')?;
        Some(Self { namespace: namespace.into(), name: name.into() })
    }
}

impl std::fmt::Display for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Token {
    /// The token for the API: what is given, or what the kubeconfig leads to.
    ///
    /// # Errors
    /// There is none, and what to do about it.
    pub async fn find(context: &Context, arguments: &ServerArgs) -> Result<Self, Failure> {
        if let Some(path) = &arguments.token_file {
            return Self::of_file(path);
        }
        if let Some(text) = std::env::var_os(VARIABLE).filter(|text| !text.is_empty()) {
            let text = Zeroizing::new(text.into_string().unwrap_or_default());
            return Self::new(text, format!("the token of {VARIABLE}"));
        }
        let audience = arguments.audience();
        let config = context.cluster_config().await?;
        if let Some(text) = &arguments.as_service_account {
            let namespace = context.namespace().await?;
            let account = Account::parse(text, &namespace).ok_or_else(|| {
                Failure::usage(
                    "--as-service-account: expected NAMESPACE/NAME or NAME",
                    "kubectl get serviceaccounts -A",
                )
            })?;
            return Self::ask(config, &account, audience).await;
        }
        let held = of_kubeconfig(&config).await?;
        let claims = held.as_ref().map(|text| claims(text)).unwrap_or_default();
        if let Some(text) = held.filter(|_| claims.aud.words().iter().any(|word| word == audience)) {
            return Self::new(text, "the token of the kubeconfig".into());
        }
        match Account::of_user(&claims.sub) {
            Some(account) => Self::ask(config, &account, audience).await,
            None => Err(none(audience)),
        }
    }

    fn new(text: Zeroizing<String>, source: String) -> Result<Self, Failure> {
        let trimmed = text.trim();
        if trimmed.is_empty() || trimmed.len() > LONGEST || !trimmed.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failure::usage(
                format!("{source} is no bearer token"),
                "expected one word, as `kubectl create token NAME --audience stagekeeper` prints it",
            ));
        }
        Ok(Self { text: Zeroizing::new(trimmed.to_owned()), source })
    }

    fn of_file(path: &Path) -> Result<Self, Failure> {
        let read = std::fs::read_to_string(path).map(Zeroizing::new);
        let text = read.map_err(|error| {
            Failure::usage(format!("--token-file: {} cannot be read: {error}", path.display()), "check path and rights")
        })?;
        Self::new(text, format!("the token of the file {}", path.display()))
    }

    /// Asks the API server for a token of a service account that only this API takes.
    async fn ask(config: Config, account: &Account, audience: &str) -> Result<Self, Failure> {
        let client = Context::client(config)?;
        let request = TokenRequest {
            spec: TokenRequestSpec {
                audiences: vec![audience.to_owned()],
                expiration_seconds: Some(LASTS),
                bound_object_ref: None,
            },
            ..TokenRequest::default()
        };
        let accounts: Api<ServiceAccount> = Api::namespaced(client, &account.namespace);
        let made = accounts.create_token_request(&account.name, &PostParams::default(), &request).await;
        let made = made.map_err(|error| not_given(account, &error))?;
        let text = Zeroizing::new(made.status.map(|status| status.token).unwrap_or_default());
        Self::new(text, format!("the token that the cluster gave for service account {account}"))
    }

    /// The header that carries it.
    pub fn header(&self) -> HeaderValue {
        let text = Zeroizing::new(format!("Bearer {}", *self.text));
        // It has graphic letters only: this cannot fail.
        let mut header = HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static("Bearer"));
        header.set_sensitive(true);
        header
    }

    /// Why the API may have refused it, as far as it can be seen from here, and what to do.
    pub fn refused(&self, audience: &str, now: Timestamp) -> Failure {
        let Claims { aud, exp, .. } = claims(&self.text);
        let words = aud.words();
        let ended = exp.and_then(|second| Timestamp::from_second(second).ok()).filter(|end| *end <= now);
        let why = match ended {
            Some(end) => format!(": it ended at {end}"),
            None if !words.is_empty() && words.iter().all(|word| word != audience) => {
                format!(": it is for {}, not for {audience}", words.join(" and "))
            }
            None => String::new(),
        };
        Failure::failed(
            format!("the API does not take {}{why}", self.source),
            format!(
                "give it one that is for it and has not ended: `kubectl create token NAME --audience {audience}`, with \
                 --token-file FILE or {VARIABLE}"
            ),
        )
    }
}

/// What a token says of itself.
fn claims(token: &str) -> Claims {
    let part = token.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    part.and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
}

/// The token that a kubeconfig has or a plugin that it names gives: `None` where it is a certificate, a password or nothing.
async fn of_kubeconfig(config: &Config) -> Result<Option<Zeroizing<String>>, Failure> {
    let failed = |error: &dyn std::error::Error| {
        let mut why = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            why = inner.to_string();
            cause = inner.source();
        }
        Failure::failed(
            format!("the credentials of the kubeconfig cannot be had: {why}"),
            "`kubectl get namespaces` shows whether kubectl can use them",
        )
    };
    let Some(layer) = config.auth_layer().map_err(|error| failed(&error))? else { return Ok(None) };
    // The header that the client would have sent is all that is wanted of it.
    let shown = service_fn(async |request: Request<Body>| {
        Ok::<_, BoxError>(Response::new(request.headers().get(AUTHORIZATION).cloned()))
    });
    let shown = layer.layer(shown).oneshot(Request::new(Body::empty())).await;
    let shown = shown.map_err(|error| failed(error.as_ref()))?.into_body();
    let text = shown.as_ref().and_then(|header| header.to_str().ok()).and_then(|text| text.strip_prefix("Bearer "));
    Ok(text.map(|text| Zeroizing::new(text.to_owned())))
}

fn not_given(account: &Account, error: &kube::Error) -> Failure {
    let target = Target {
        verbs: "create",
        group: String::new(),
        resource: "serviceaccounts/token".into(),
        namespace: Some(account.namespace.as_str().into()),
        name: account.name.as_str().into(),
    };
    let refused = ApiError::new(&target, error);
    match (refused.class(), error) {
        (Class::Forbidden, _) => Failure::failed(
            format!("the cluster gives you no token for service account {account}"),
            format!(
                "ask for a Role in namespace {} that allows create on serviceaccounts/token of {}, or for a token: --token-file",
                account.namespace, account.name
            ),
        ),
        (_, kube::Error::Api(status)) if status.code == 404 => Failure::failed(
            format!("there is no service account {account}"),
            format!("`kubectl get serviceaccounts -n {}` lists those that there are", account.namespace),
        ),
        (Class::Transient, _) => {
            Failure::unavailable(refused.to_string(), "check the kubeconfig and the network between")
        }
        _ => Failure::failed(refused.to_string(), ""),
    }
}

fn none(audience: &str) -> Failure {
    Failure::failed(
        "the kubeconfig has no token for the API of Stagekeeper: a certificate, or a token for the API server, is not sent to it",
        format!(
            "use a service account that you may ask tokens for: --as-service-account NAMESPACE/NAME; or give a token: \
             `kubectl create token NAME --audience {audience}` makes one, --token-file FILE or {VARIABLE} takes it; or, where \
             the ID tokens of your kubeconfig are for it, name their audience: --audience NAME"
        ),
    )
}

#[cfg(test)]
mod tests {
    use kube::config::AuthInfo;
    use serde_json::{Value, json};

    use super::*;

    fn jwt(claims: &Value) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    #[test]
    fn what_a_token_says_of_itself_is_read_and_nothing_is_told_of_it() {
        let one = claims(&jwt(&json!({"sub": "system:serviceaccount:ci:deployer", "aud": "stagekeeper", "exp": 10})));
        assert_eq!((one.aud.words(), one.exp), (&["stagekeeper".to_owned()][..], Some(10)));
        let account = Account::of_user(&one.sub).expect("an account");
        assert_eq!(account.to_string(), "ci/deployer");
        assert_eq!(claims(&jwt(&json!({"aud": ["a", "b"]}))).aud.words().len(), 2);
        for none in ["", "opaque", "a.b.c", "a.e30", "ya29.A0ARrda"] {
            assert!(claims(none).aud.words().is_empty(), "{none}");
        }
        let now = Timestamp::from_second(20).unwrap();
        let hunter = |claims: Value| Token::new(Zeroizing::new(jwt(&claims)), "the token of the file x".into());
        for (claims, why) in [
            (json!({"aud": "stagekeeper", "exp": 10}), "the token of the file x: it ended at 1970-01-01T00:00:10Z"),
            (json!({"aud": ["https://kubernetes"]}), "x: it is for https://kubernetes, not for stagekeeper"),
            (json!({"aud": "stagekeeper", "exp": 30}), "does not take the token of the file x\n"),
        ] {
            let token = hunter(claims.clone()).unwrap_or_else(|failure| panic!("{failure}"));
            let said = token.refused("stagekeeper", now).to_string();
            assert!(said.contains(why), "{claims}: {said}");
            assert!(!said.contains("e30"), "{said}");
            assert!(token.header().is_sensitive());
        }
    }

    #[test]
    fn accounts_are_named_with_or_without_their_namespace() {
        let named = |text: &str| Account::parse(text, "shop").map(|account| account.to_string());
        assert_eq!(named("deployer").as_deref(), Some("shop/deployer"));
        assert_eq!(named("ci/deployer").as_deref(), Some("ci/deployer"));
        for wrong in ["", "/", "ci/", "/x", "a/b/c"] {
            assert_eq!(named(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_no_token_is_not_quoted() {
        for text in ["", " \n", "two words", "hunter2\u{e9}"] {
            let Err(failure) = Token::new(Zeroizing::new(text.into()), "the token of X".into()) else {
                panic!("{text:?} is no token")
            };
            assert!(!failure.to_string().contains("hunter2"), "{failure}");
        }
    }

    #[tokio::test]
    async fn the_token_of_a_kubeconfig_is_that_of_its_user_its_file_or_its_plugin() {
        let held = async |info: AuthInfo| {
            let mut config = Config::new("https://127.0.0.1:1".parse().expect("a URL"));
            config.auth_info = info;
            of_kubeconfig(&config).await.map(|text| text.map(|text| text.to_string()))
        };
        let info = |value: Value| serde_json::from_value::<AuthInfo>(value).expect("a user");
        assert_eq!(held(info(json!({"token": "abc"}))).await, Ok(Some("abc".into())));
        assert_eq!(held(info(json!({}))).await, Ok(None));
        assert_eq!(held(info(json!({"username": "jane", "password": "hunter2"}))).await, Ok(None));
        let answer = json!({"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
                            "status": {"token": "from-plugin"}});
        let plugin = |command: &str, args: Value| {
            info(json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": command, "args": args,
                                 "interactiveMode": "Never"}}))
        };
        let echo = plugin("sh", json!(["-c", format!("echo '{answer}'")]));
        assert_eq!(held(echo).await, Ok(Some("from-plugin".into())));
        let said =
            held(plugin("sh", json!(["-c", "echo broken >&2; exit 3"]))).await.expect_err("a failure").to_string();
        assert!(said.contains("the credentials of the kubeconfig cannot be had"), "{said}");
    }
}
