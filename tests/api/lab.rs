//! A namespace with a shop and people of several rights, and the API over it.

use std::{
    collections::BTreeMap,
    env, fs,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU32, atomic::Ordering},
    time::Duration,
};

use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
    rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding},
};
use kube::{Api as KubeApi, Client, api::PostParams};
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use stagekeeper::{
    cli::Gates,
    cluster::{
        access::{AUDIENCE, ClusterReviews},
        declared::ClusterDeclared,
    },
    crypto::Keyring,
    domain::{
        actor::Actor,
        clock::{Clock as _, SystemClock, SystemIds},
        image::Digest,
        update::SeenUpdate,
    },
    http::{
        self, Limits,
        api::{Api, Opening},
        hooks::Hooks,
    },
    safe::Safe,
    store::{NewEnvironment, NewStage, Recorded},
    telemetry::Telemetry,
};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{server, shop::Shop};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Verbs of our own, and those of reading and changing.
const STAGE_VERBS: [&str; 9] = ["get", "list", "update", "promote", "rollback", "approve", "abort", "retry", "hold"];
const PROJECT_VERBS: [&str; 4] = ["get", "list", "readlogs", "rotate"];

/// The API, and who may do what in it.
pub(crate) struct Lab {
    pub(crate) shop: Shop,
    pub(crate) namespace: String,
    pub(crate) client: Client,
    address: SocketAddr,
    shutdown: CancellationToken,
    /// May do everything in the namespace.
    pub(crate) owner: String,
    /// May see everything in it.
    pub(crate) viewer: String,
    /// May do nothing.
    pub(crate) nobody: String,
    /// May do everything in all namespaces.
    pub(crate) admin: String,
}

/// What was answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A problem without what belongs to this one request.
    pub(crate) fn problem(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:?}");
        let mut problem = self.json();
        problem.as_object_mut().unwrap().remove("requestId");
        problem
    }

    /// The fields that a problem names.
    pub(crate) fn fields(&self) -> Vec<String> {
        let problem = self.problem();
        let errors = problem["errors"].as_array().cloned().unwrap_or_default();
        errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Lab {
    pub(crate) async fn new() -> Self {
        let client = server::client().await;
        server::install(&client).await;
        let namespace = server::namespace(&client, &format!("api-{}", NUMBER.fetch_add(1, Ordering::Relaxed))).await;
        for name in ["owner", "viewer", "nobody", "admin"] {
            account(&client, &namespace, name).await;
        }
        role(&client, &namespace, "owner", &PROJECT_VERBS, &STAGE_VERBS).await;
        role(&client, &namespace, "viewer", &["get", "list"], &["get", "list"]).await;
        everywhere(&client, &namespace).await;

        let shop = Shop::new(&namespace).await;
        let update = SeenUpdate {
            image: "ghcr.io/acme/shop".into(),
            host: format!("{namespace}/dev"),
            platform: "linux/amd64".into(),
            tag: Some("3.0.0".into()),
            old_digest: None,
            new_digest: Digest::of(b"3.0.0"),
            created: None,
            provider: String::new(),
            link: None,
            seen_by: Actor::Policy,
            at: shop.at(200),
        };
        let elsewhere = SeenUpdate { host: "elsewhere/dev".into(), ..update.clone() };
        shop.store().updates_see(&[update, elsewhere]).await.unwrap();

        let (clock, ids) = (Arc::new(SystemClock), Arc::new(SystemIds));
        let keyring =
            Arc::new(Keyring::parse(&format!("2026:{}", "1c".repeat(32))).unwrap_or_else(|why| panic!("{why}")));
        let safe = Safe::new(shop.store().clone(), keyring, clock.clone(), ids.clone());
        safe.ready().await.unwrap();
        let telemetry = Telemetry::default();
        let api = Api::new(telemetry.clone(), Duration::from_secs(5));
        let reviews = Arc::new(ClusterReviews::new(client.clone(), AUDIENCE));
        api.open(Opening {
            store: shop.store().clone(),
            safe: Some(safe),
            reviews,
            declared: Arc::new(ClusterDeclared::new(client.clone())),
            gates: Arc::new(Gates),
            clock,
            ids,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, shutdown) = (listener.local_addr().unwrap(), CancellationToken::new());
        let hooks = Hooks::new(telemetry.clone(), Duration::from_secs(5));
        let router = http::router(telemetry, hooks, api);
        tokio::spawn(http::serve(listener, router, Limits::default(), shutdown.clone()));

        let token = async |name: &str| token(&client, &namespace, name, AUDIENCE).await;
        let (owner, viewer) = (token("owner").await, token("viewer").await);
        let (nobody, admin) = (token("nobody").await, token("admin").await);
        let lab = Self { shop, namespace, client: client.clone(), address, shutdown, owner, viewer, nobody, admin };
        lab.settled().await;
        lab
    }

    /// The API server follows roles a moment after they were made.
    async fn settled(&self) {
        let inside = format!("/namespaces/{}/stages", self.namespace);
        for (token, path) in
            [(&self.owner, inside.as_str()), (&self.viewer, inside.as_str()), (&self.admin, "/updates")]
        {
            let known = async {
                while self.get(token, path).await.status != StatusCode::OK {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            };
            tokio::time::timeout(Duration::from_mins(1), known).await.expect("roles that are followed");
        }
    }

    /// An environment of the shop.
    pub(crate) async fn environment(&self, name: &str) {
        let (id, project_id) = (Uuid::from_u128(9), Uuid::from_u128(1));
        let (namespace, name) = (self.namespace.clone(), name.to_owned());
        let subdomain = format!("{name}-a8f9d2k1p4m7");
        let new = NewEnvironment {
            place: format!("shop-{subdomain}"),
            subdomain,
            born: self.shop.at(300),
            stage: NewStage { id, project_id, namespace, name, uid: "uid-9".into() },
        };
        let recorded = self.shop.store().environment_open(&new).await.unwrap();
        assert!(matches!(recorded, Recorded::Known(_)), "{recorded:?}");
    }

    /// A path below the namespace.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/namespaces/{}{rest}", self.namespace)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}/api/v1{path}", self.address)
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        token: Option<&str>,
        path: &str,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut request = client.request(method, self.url(path));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        let (status, headers) = (answer.status(), answer.headers().clone());
        Answer { status, headers, text: answer.text().await.unwrap() }
    }

    pub(crate) async fn get(&self, token: &str, path: &str) -> Answer {
        self.send(Method::GET, Some(token), path, None, &[]).await
    }

    pub(crate) async fn post(&self, token: &str, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, Some(token), path, Some(body), &[]).await
    }

    /// A token of somebody in the namespace for another audience.
    pub(crate) async fn token_for(&self, name: &str, audience: &str) -> String {
        token(&self.client, &self.namespace, name, audience).await
    }

    /// A token as the API server would have made it, but one that has ended.
    pub(crate) async fn ended(&self, name: &str) -> String {
        let accounts: KubeApi<ServiceAccount> = KubeApi::namespaced(self.client.clone(), &self.namespace);
        let uid = accounts.get(name).await.unwrap().metadata.uid.unwrap();
        let good: Value = claims(&self.owner);
        let now = SystemClock.now().as_second();
        let mut claims = good.clone();
        claims["sub"] = format!("system:serviceaccount:{}:{name}", self.namespace).into();
        claims["kubernetes.io"]["serviceaccount"] = json!({"name": name, "uid": uid});
        for (claim, second) in [("exp", now - 60), ("iat", now - 3600), ("nbf", now - 3600)] {
            claims[claim] = second.into();
        }
        let folder =
            env::var("STAGEKEEPER_TEST_CLUSTER_DIR").expect("STAGEKEEPER_TEST_CLUSTER_DIR: `make test` sets it");
        let key = fs::read(format!("{folder}/pki/service-account.key")).unwrap();
        let kid = jsonwebtoken::decode_header(&self.owner).unwrap().kid;
        let header = Header { kid, ..Header::new(Algorithm::RS256) };
        encode(&header, &claims, &EncodingKey::from_rsa_pem(&key).unwrap()).unwrap()
    }

    pub(crate) fn now() -> Timestamp {
        SystemClock.now()
    }
}

fn claims(token: &str) -> Value {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let part = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
}

async fn account(client: &Client, namespace: &str, name: &str) {
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    KubeApi::namespaced(client.clone(), namespace).create(&PostParams::default(), &account).await.unwrap();
}

fn rules(projects: &[&str], stages: &[&str]) -> Value {
    let environments: &[&str] =
        if stages.contains(&"update") { &["get", "list", "update", "delete"] } else { &["get", "list"] };
    json!([
        {"apiGroups": ["stagekeeper.dev"], "resources": ["projects"], "verbs": projects},
        {"apiGroups": ["stagekeeper.dev"], "resources": ["stages"], "verbs": stages},
        {"apiGroups": ["stagekeeper.dev"], "resources": ["environments"], "verbs": environments},
    ])
}

async fn role(client: &Client, namespace: &str, name: &str, projects: &[&str], stages: &[&str]) {
    let role: Role =
        serde_json::from_value(json!({"metadata": {"name": name}, "rules": rules(projects, stages)})).unwrap();
    KubeApi::namespaced(client.clone(), namespace).create(&PostParams::default(), &role).await.unwrap();
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
    }))
    .unwrap();
    KubeApi::namespaced(client.clone(), namespace).create(&PostParams::default(), &binding).await.unwrap();
}

/// Everything everywhere for the account `admin`.
async fn everywhere(client: &Client, namespace: &str) {
    let name = format!("admin-{namespace}");
    let role: ClusterRole =
        serde_json::from_value(json!({"metadata": {"name": name}, "rules": rules(&PROJECT_VERBS, &STAGE_VERBS)}))
            .unwrap();
    KubeApi::all(client.clone()).create(&PostParams::default(), &role).await.unwrap();
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "admin", "namespace": namespace}],
    }))
    .unwrap();
    KubeApi::all(client.clone()).create(&PostParams::default(), &binding).await.unwrap();
}

async fn token(client: &Client, namespace: &str, name: &str, audience: &str) -> String {
    let accounts: KubeApi<ServiceAccount> = KubeApi::namespaced(client.clone(), namespace);
    let asked = TokenRequest {
        spec: TokenRequestSpec { audiences: vec![audience.to_owned()], ..TokenRequestSpec::default() },
        ..TokenRequest::default()
    };
    let made = accounts.create_token_request(name, &PostParams::default(), &asked).await.unwrap();
    made.status.unwrap().token
}

/// Values for the parts of paths.
pub(crate) fn parts(lab: &Lab, namespace: &str, request: &str, release: &str) -> BTreeMap<&'static str, String> {
    let deploy = crate::shop::id(2).to_string();
    _ = lab;
    BTreeMap::from([
        ("namespace", namespace.to_owned()),
        ("project", "shop".to_owned()),
        ("stage", "dev".to_owned()),
        ("deploy", deploy),
        ("request", request.to_owned()),
        ("release", release.to_owned()),
        ("credential", "ghcr".to_owned()),
        ("secret", "API_KEY".to_owned()),
        ("tag", "later".to_owned()),
        ("digest", Digest::of(b"3.0.0").to_string()),
    ])
}
