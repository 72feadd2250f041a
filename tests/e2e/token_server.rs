//! A token service and, on the same port, the registry that it belongs to: where a registry speaks plain HTTP, its
//! credentials go to no other port.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    body::Body,
    extract::{RawQuery, Request, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rustls::{
    SignatureScheme,
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::SigningKey,
};
use serde_json::json;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::private_registry::{PASSWORD, USER};

/// How long a token holds, in seconds: longer than a test takes.
const LIFETIME: u64 = 600;

/// Files with what tokens are signed with.
pub struct Signing {
    /// The certificate, which a registry believes.
    pub certificate: PathBuf,
    key: PathBuf,
}

/// A key, and the certificate of its own for it.
pub fn certificate(folder: &Path) -> Signing {
    let signing = Signing { certificate: folder.join("tokens.pem"), key: folder.join("tokens.key") };
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=tokens", "-keyout"]);
    command.arg(&signing.key).arg("-out").arg(&signing.certificate);
    let made = command.output().expect("openssl starts");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    signing
}

/// Ended with this value.
pub struct TokenServer {
    /// Where it is.
    pub host: String,
    desk: Arc<Desk>,
    serving: JoinHandle<()>,
}

/// What tokens are given with.
struct Desk {
    key: Arc<dyn SigningKey>,
    /// The certificate as `x5c` has it: this is how the registry finds the key.
    certificate: String,
    http: reqwest::Client,
    /// The registry.
    registry: String,
    given: Mutex<BTreeMap<String, u32>>,
    given_to_nodes: Mutex<u32>,
    refused: Mutex<u32>,
}

impl TokenServer {
    /// Starts one before a registry. It is a task of this runtime: a test that waits for other processes needs one with
    /// several threads.
    pub async fn start(http: reqwest::Client, ip: IpAddr, registry: String, signing: &Signing) -> Self {
        let certificate = CertificateDer::from_pem_slice(&fs::read(&signing.certificate).unwrap()).unwrap();
        let key = PrivateKeyDer::from_pem_slice(&fs::read(&signing.key).unwrap()).unwrap();
        let desk = Arc::new(Desk {
            key: any_supported_type(&key).unwrap(),
            certificate: STANDARD.encode(&certificate),
            http,
            registry,
            given: Mutex::default(),
            given_to_nodes: Mutex::default(),
            refused: Mutex::default(),
        });
        let listener = TcpListener::bind((ip, 0)).await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let router = Router::new().route("/token", get(token)).fallback(passed_on).with_state(desk.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { host, desk, serving }
    }

    /// How many tokens were given to Stagekeeper, by scope.
    pub fn given(&self) -> BTreeMap<String, u32> {
        self.desk.given.lock().unwrap().clone()
    }

    /// How many tokens were given to nodes.
    pub fn given_to_nodes(&self) -> u32 {
        *self.desk.given_to_nodes.lock().unwrap()
    }

    /// How many logins were not accepted.
    pub fn refused(&self) -> u32 {
        *self.desk.refused.lock().unwrap()
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn token(State(desk): State<Arc<Desk>>, RawQuery(query): RawQuery, headers: HeaderMap) -> Response {
    let login = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    if headers.get(header::AUTHORIZATION).and_then(|sent| sent.to_str().ok()) != Some(&login) {
        *desk.refused.lock().unwrap() += 1;
        return (StatusCode::UNAUTHORIZED, "nobody that is known here").into_response();
    }
    let url = reqwest::Url::parse(&format!("http://tokens/?{}", query.unwrap_or_default())).unwrap();
    let asked = |name: &str| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
    let scope = asked("scope").unwrap_or_default();
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    if agent.starts_with("stagekeeper/") {
        *desk.given.lock().unwrap().entry(scope.clone()).or_default() += 1;
    } else {
        *desk.given_to_nodes.lock().unwrap() += 1;
    }
    let token = desk.token(&asked("service").unwrap_or_default(), &scope);
    json!({"token": token, "expires_in": LIFETIME}).to_string().into_response()
}

impl Desk {
    /// A token for `repository:NAME:pull` and nothing else.
    fn token(&self, service: &str, scope: &str) -> String {
        let name = scope.strip_prefix("repository:").and_then(|scope| scope.strip_suffix(":pull"));
        let access: Vec<_> =
            name.map(|name| json!({"type": "repository", "name": name, "actions": ["pull"]})).into_iter().collect();
        #[expect(clippy::disallowed_methods, reason = "the registry reads the machine's clock too")]
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let head = json!({"typ": "JWT", "alg": "RS256", "x5c": [self.certificate]});
        let claims = json!({
            "iss": "tokens", "sub": USER, "aud": service, "iat": now, "nbf": now, "exp": now + LIFETIME,
            "jti": "1", "access": access,
        });
        let signed = format!("{}.{}", encoded(&head), encoded(&claims));
        let signer = self.key.choose_scheme(&[SignatureScheme::RSA_PKCS1_SHA256]).expect("a key of RSA");
        let signature = signer.sign(signed.as_bytes()).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn encoded(json: &serde_json::Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

/// Whatever is not about tokens is the registry's.
async fn passed_on(State(desk): State<Arc<Desk>>, request: Request) -> Response {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let mut asked = desk.http.request(request.method().clone(), format!("http://{}{path}", desk.registry));
    for name in [header::ACCEPT, header::AUTHORIZATION, header::RANGE] {
        for value in request.headers().get_all(&name) {
            asked = asked.header(&name, value);
        }
    }
    let Ok(answer) = asked.send().await else { return StatusCode::BAD_GATEWAY.into_response() };
    let mut response = Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        if ![header::TRANSFER_ENCODING, header::CONNECTION].contains(name) {
            response = response.header(name, value);
        }
    }
    response.body(Body::from_stream(answer.bytes_stream())).unwrap()
}
