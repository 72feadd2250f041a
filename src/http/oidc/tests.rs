//! An issuer of our own, and tokens that are almost right.

use std::sync::Mutex as Locked;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{method, path},
};

use super::*;
use crate::identity::PAUSE;

/// 2026-11-22T00:00:00Z.
const NOW: i64 = 1_795_305_600;

struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }
}

/// A cluster that knows one token, and remembers what it was asked about.
#[derive(Default)]
struct Cluster(Locked<Vec<String>>);

impl Reviews for Cluster {
    fn person<'a>(&'a self, token: &'a str) -> BoxFuture<'a, Result<Option<Person>, Unanswered>> {
        self.0.lock().unwrap().push(token.to_owned());
        async { Ok(None) }.boxed()
    }

    fn allows<'a>(&'a self, _: &'a Person, _: &'a Attributes) -> BoxFuture<'a, Result<bool, Unanswered>> {
        async { Ok(false) }.boxed()
    }
}

/// A key pair of the issuer.
struct Pair {
    id: &'static str,
    key: EncodingKey,
    jwk: Value,
}

fn pair(id: &'static str) -> Pair {
    use aws_lc_rs::{
        rand::SystemRandom,
        signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
    };
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref()).unwrap();
    let point = key.public_key().as_ref();
    let part = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
    let jwk = json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": id, "x": part(1..33), "y": part(33..65)});
    Pair { id, key: EncodingKey::from_ec_der(document.as_ref()), jwk }
}

struct Lab {
    server: MockServer,
    oidc: Oidc,
    cluster: Arc<Cluster>,
}

impl Lab {
    async fn new(config: impl FnOnce(&mut OidcConfig)) -> Self {
        let server = MockServer::start().await;
        let mut settings = OidcConfig {
            issuer: server.uri(),
            client_id: "stagekeeper".into(),
            user_claim: "sub".into(),
            user_prefix: "oidc:".into(),
            groups_claim: "groups".into(),
            groups_prefix: "oidc:".into(),
        };
        config(&mut settings);
        let cluster = Arc::new(Cluster::default());
        let oidc = Oidc::new(settings, cluster.clone(), Arc::new(Still)).unwrap();
        Self { server, oidc, cluster }
    }

    /// From now on the issuer has these keys.
    async fn publish(&self, keys: &[&Pair]) {
        self.server.reset().await;
        let found = json!({"issuer": self.server.uri(), "jwks_uri": format!("{}/keys", self.server.uri())});
        let keys: Vec<&Value> = keys.iter().map(|pair| &pair.jwk).collect();
        for (place, answer) in [("/.well-known/openid-configuration", found), ("/keys", json!({"keys": keys}))] {
            let mock = Mock::given(method("GET")).and(path(place));
            mock.respond_with(ResponseTemplate::new(200).set_body_json(answer)).mount(&self.server).await;
        }
    }

    fn claims(&self) -> Value {
        json!({"iss": self.server.uri(), "aud": "stagekeeper", "sub": "jane", "groups": ["dev"], "exp": NOW + 60, "iat": NOW})
    }

    async fn person(&self, token: &str) -> Option<Person> {
        self.oidc.person(token).await.unwrap()
    }
}

fn signed(pair: &Pair, claims: &Value) -> String {
    let header = Header { kid: Some(pair.id.into()), ..Header::new(Algorithm::ES256) };
    encode(&header, claims, &pair.key).unwrap()
}

#[tokio::test]
async fn a_token_of_the_issuer_names_a_user_under_a_prefix() {
    let (lab, one) = (Lab::new(|_| {}).await, pair("one"));
    lab.publish(&[&one]).await;
    let person = lab.person(&signed(&one, &lab.claims())).await.unwrap();
    assert_eq!(person.user, "oidc:jane");
    assert_eq!(person.groups, ["oidc:dev".to_owned(), AUTHENTICATED.to_owned()].into());
    assert!(lab.cluster.0.lock().unwrap().is_empty(), "the cluster is not shown a token that is not its own");
}

#[tokio::test]
async fn what_is_almost_a_token_is_refused() {
    let (lab, one, other) = (Lab::new(|_| {}).await, pair("one"), pair("one"));
    lab.publish(&[&one]).await;
    let with = |name: &str, value: Value| {
        let mut claims = lab.claims();
        claims[name] = value;
        signed(&one, &claims)
    };
    let without = |name: &str| {
        let mut claims = lab.claims();
        claims.as_object_mut().unwrap().remove(name);
        signed(&one, &claims)
    };
    let unsigned = {
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = part(json!({"alg": "none", "typ": "JWT"}));
        format!("{head}.{}.", part(lab.claims()))
    };
    // The public key as the secret of a symmetric algorithm.
    let confused = {
        let header = Header { kid: Some("one".into()), ..Header::new(Algorithm::HS256) };
        let public = one.jwk.to_string();
        encode(&header, &lab.claims(), &EncodingKey::from_secret(public.as_bytes())).unwrap()
    };
    let good = with("sub", json!("jane"));
    let tampered = {
        let mut parts: Vec<String> = good.split('.').map(Into::into).collect();
        let mut claims = lab.claims();
        claims["sub"] = json!("root");
        parts[1] = URL_SAFE_NO_PAD.encode(claims.to_string());
        parts.join(".")
    };
    let cases = [
        ("ended", with("exp", json!(NOW))),
        ("no end", without("exp")),
        ("an end that is no number", with("exp", json!("later"))),
        ("not begun", with("nbf", json!(NOW + 3600))),
        ("another audience", with("aud", json!("other"))),
        ("no audience", without("aud")),
        ("several others", with("aud", json!(["a", "b"]))),
        ("no name", without("sub")),
        ("an empty name", with("sub", json!(""))),
        ("no groups", without("groups")),
        ("empty groups", with("groups", json!([]))),
        ("a group without a name", with("groups", json!(["dev", ""]))),
        ("groups that are none", with("groups", json!({"a": 1}))),
        ("unsigned", unsigned),
        ("signed with the public key", confused),
        ("signed by another key of the same name", signed(&other, &lab.claims())),
        ("tampered with", tampered),
        ("without a signature", good.rsplit_once('.').unwrap().0.to_owned() + "."),
    ];
    assert!(lab.person(&good).await.is_some());
    for (name, token) in cases {
        assert_eq!(lab.person(&token).await, None, "{name}");
    }
    assert!(lab.cluster.0.lock().unwrap().is_empty());
    // Other issuers are the cluster's to know.
    assert_eq!(lab.person(&with("iss", json!("https://elsewhere.test"))).await, None);
    assert_eq!(lab.person("opaque").await, None);
    assert_eq!(lab.cluster.0.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn names_of_the_cluster_are_nobodys_to_give() {
    let one = pair("one");
    let lab = Lab::new(|config| {
        config.user_prefix = String::new();
        config.groups_prefix = String::new();
    })
    .await;
    lab.publish(&[&one]).await;
    let mut claims = lab.claims();
    assert_eq!(lab.person(&signed(&one, &claims)).await.unwrap().user, "jane");
    claims["groups"] = json!(["system:masters"]);
    assert_eq!(lab.person(&signed(&one, &claims)).await, None);
    claims["groups"] = json!(["dev"]);
    claims["sub"] = json!("system:admin");
    assert_eq!(lab.person(&signed(&one, &claims)).await, None);
}

#[tokio::test]
async fn an_address_that_nobody_verified_is_no_name() {
    let one = pair("one");
    let lab = Lab::new(|config| config.user_claim = "email".into()).await;
    lab.publish(&[&one]).await;
    let mut claims = lab.claims();
    claims["email"] = json!("jane@acme.test");
    for (verified, expected) in [(json!(true), true), (json!(false), false), (json!("true"), false)] {
        claims["email_verified"] = verified.clone();
        assert_eq!(lab.person(&signed(&one, &claims)).await.is_some(), expected, "{verified}");
    }
}

#[tokio::test]
async fn keys_are_read_again_when_one_is_new() {
    let (lab, one, two) = (Lab::new(|_| {}).await, pair("one"), pair("two"));
    lab.publish(&[&one]).await;
    assert!(lab.person(&signed(&one, &lab.claims())).await.is_some());
    lab.publish(&[&two]).await;
    assert_eq!(lab.person(&signed(&two, &lab.claims())).await, None, "not more often than every few seconds");
    tokio::time::pause();
    tokio::time::advance(PAUSE).await;
    tokio::time::resume();
    assert!(lab.person(&signed(&two, &lab.claims())).await.is_some());
    assert_eq!(lab.person(&signed(&one, &lab.claims())).await, None, "what was taken away is believed no more");
}

#[tokio::test]
async fn an_issuer_that_is_away_is_not_a_refusal() {
    let (lab, one) = (Lab::new(|_| {}).await, pair("one"));
    let token = signed(&one, &lab.claims());
    assert!(lab.oidc.person(&token).await.is_err());
    lab.publish(&[&one]).await;
    tokio::time::pause();
    tokio::time::advance(PAUSE).await;
    tokio::time::resume();
    assert!(lab.person(&token).await.is_some());
}

#[tokio::test]
async fn what_is_discovered_is_the_issuer_that_was_configured() {
    let (lab, one) = (Lab::new(|_| {}).await, pair("one"));
    lab.publish(&[&one]).await;
    let token = signed(&one, &lab.claims());
    let answer = json!({"issuer": "https://elsewhere.test", "jwks_uri": format!("{}/keys", lab.server.uri())});
    lab.server.reset().await;
    let mock = Mock::given(method("GET")).and(path("/.well-known/openid-configuration"));
    mock.respond_with(ResponseTemplate::new(200).set_body_json(answer)).mount(&lab.server).await;
    assert!(lab.oidc.person(&token).await.is_err());
}
