//! An `OpenID` Connect provider that signs: it knows one client, gives each code once, and takes it with its verifier only.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use hyper::{
    Method, Request, Response,
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use stagekeeper::{
    domain::clock::{Ids as _, SystemIds},
    edge::Reply,
};
use tokio::net::TcpListener;

/// What the one client is called, and its secret: one that has to be coded where it is sent.
pub const CLIENT: &str = "edge";
pub const SECRET: &str = "s3cret: 100%";

/// A key pair of a provider.
pub struct Pair {
    id: String,
    key: EncodingKey,
    jwk: Value,
}

impl Pair {
    pub fn new(id: &str) -> Self {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref()).unwrap();
        let point = key.public_key().as_ref();
        let part = |range: std::ops::Range<usize>| URL_SAFE_NO_PAD.encode(&point[range]);
        let (x, y) = (part(1..33), part(33..65));
        let jwk = json!({"kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": id, "x": x, "y": y});
        Self { id: id.into(), key: EncodingKey::from_ec_der(document.as_ref()), jwk }
    }

    pub fn sign(&self, claims: &Value) -> String {
        encode(&Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::ES256) }, claims, &self.key).unwrap()
    }

    /// The public key as the secret of a symmetric algorithm.
    pub fn confuse(&self, claims: &Value) -> String {
        let key = EncodingKey::from_secret(self.jwk.to_string().as_bytes());
        encode(&Header { kid: Some(self.id.clone()), ..Header::new(Algorithm::HS256) }, claims, &key).unwrap()
    }
}

/// Makes a token of claims; tests make other ones than they should be.
pub type Sign = Box<dyn Fn(&Pair, Value) -> String + Send>;

struct Granted {
    challenge: String,
    nonce: String,
    redirect_uri: String,
}

/// What a provider knows, and what it was asked.
pub struct Book {
    pub pair: Pair,
    /// Seconds since 1970.
    pub now: i64,
    /// Claims besides those of the flow.
    pub person: Value,
    /// It signs nobody in.
    pub denies: bool,
    pub sign: Sign,
    /// Codes that were shown to it.
    pub redeemed: usize,
    granted: HashMap<String, Granted>,
}

pub struct Provider {
    pub issuer: String,
    pub book: Arc<Mutex<Book>>,
}

impl Provider {
    pub async fn new(now: i64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}", listener.local_addr().unwrap());
        let book = Arc::new(Mutex::new(Book {
            pair: Pair::new("one"),
            now,
            person: json!({"sub": "jane", "email": "jane@acme.test", "email_verified": true, "groups": ["dev"]}),
            denies: false,
            sign: Box::new(|pair, claims| pair.sign(&claims)),
            redeemed: 0,
            granted: HashMap::new(),
        }));
        let (name, known) = (issuer.clone(), book.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (name, known) = (name.clone(), known.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(request, name.clone(), known.clone()));
                    _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { issuer, book }
    }

    pub fn change(&self, change: impl FnOnce(&mut Book)) {
        change(&mut self.book.lock().unwrap());
    }
}

async fn read(mut body: Incoming) -> Vec<u8> {
    let mut all = Vec::new();
    while let Some(Ok(frame)) = std::future::poll_fn(|context| std::pin::Pin::new(&mut body).poll_frame(context)).await
    {
        all.extend_from_slice(frame.data_ref().unwrap());
    }
    all
}

fn form(bytes: &[u8]) -> HashMap<String, String> {
    form_urlencoded::parse(bytes).into_owned().collect()
}

async fn answer(
    request: Request<Incoming>,
    issuer: String,
    book: Arc<Mutex<Book>>,
) -> Result<Response<Reply>, Infallible> {
    let (parts, body) = request.into_parts();
    let body = read(body).await;
    let json = |code: u16, value: Value| {
        let answer = Response::builder().status(code).header("content-type", "application/json");
        answer.body(Reply::whole(value.to_string())).unwrap()
    };
    let mut book = book.lock().unwrap();
    Ok(match (&parts.method, parts.uri.path()) {
        (&Method::GET, "/.well-known/openid-configuration") => json(
            200,
            json!({
                "issuer": issuer, "jwks_uri": format!("{issuer}/keys"), "token_endpoint": format!("{issuer}/token"),
                "authorization_endpoint": format!("{issuer}/authorize?tenant=acme"),
            }),
        ),
        (&Method::GET, "/keys") => json(200, json!({"keys": [book.pair.jwk]})),
        (&Method::GET, "/authorize") => {
            let to = book.authorize(&issuer, &form(parts.uri.query().unwrap().as_bytes()));
            Response::builder().status(302).header("location", to).body(Reply::whole("")).unwrap()
        }
        (&Method::POST, "/token") => {
            book.redeemed += 1;
            let coded: String = form_urlencoded::byte_serialize(SECRET.as_bytes()).collect();
            let known = format!("Basic {}", STANDARD.encode(format!("{CLIENT}:{coded}")));
            if parts.headers.get("authorization").is_none_or(|given| *given != known) {
                return Ok(json(401, json!({"error": "invalid_client"})));
            }
            match book.token(&issuer, &form(&body)) {
                Some(token) => json(200, json!({"access_token": "none", "token_type": "Bearer", "id_token": token})),
                None => json(400, json!({"error": "invalid_grant"})),
            }
        }
        _ => json(404, json!({})),
    })
}

impl Book {
    fn authorize(&mut self, issuer: &str, asked: &HashMap<String, String>) -> String {
        assert_eq!((asked["client_id"].as_str(), asked["response_type"].as_str()), (CLIENT, "code"));
        assert_eq!((asked["code_challenge_method"].as_str(), asked["tenant"].as_str()), ("S256", "acme"));
        assert!(asked["scope"].split(' ').any(|scope| scope == "openid"));
        let mut back = form_urlencoded::Serializer::new(String::new());
        back.append_pair("state", &asked["state"]).append_pair("iss", issuer);
        if self.denies {
            back.append_pair("error", "access_denied").append_pair("error_description", "<b>secret words</b>");
        } else {
            let code = SystemIds.next().simple().to_string();
            back.append_pair("code", &code);
            let get = |name: &str| asked[name].clone();
            let granted =
                Granted { challenge: get("code_challenge"), nonce: get("nonce"), redirect_uri: get("redirect_uri") };
            self.granted.insert(code, granted);
        }
        format!("{}?{}", asked["redirect_uri"], back.finish())
    }

    fn token(&mut self, issuer: &str, asked: &HashMap<String, String>) -> Option<String> {
        let granted = self.granted.remove(asked.get("code")?)?;
        let verified = URL_SAFE_NO_PAD.encode(Sha256::digest(asked.get("code_verifier")?)) == granted.challenge;
        let known =
            asked.get("grant_type")? == "authorization_code" && *asked.get("redirect_uri")? == granted.redirect_uri;
        if !verified || !known {
            return None;
        }
        let mut claims = json!({
            "iss": issuer, "aud": CLIENT, "exp": self.now + 60, "iat": self.now, "nonce": granted.nonce,
        });
        for (name, value) in self.person.as_object().unwrap() {
            claims[name] = value.clone();
        }
        Some((self.sign)(&self.pair, claims))
    }
}
