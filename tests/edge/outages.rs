//! The API server freezes, is killed, and comes back, while requests come all the time. It is stopped for real, so it is one of
//! this test's own; the edge is a process as it is run.

use std::{
    fs::File,
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::{
    core::v1::{Namespace, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
    runtime::wait::{await_condition, conditions},
};
use serde_json::{Value, json};
use stagekeeper::domain::clock::{Ids as _, SystemIds};
use tokio::{net::TcpListener, task::JoinHandle};

use super::{
    lab::{PATIENCE, in_time},
    postgres::TestDatabase,
    throwaway::Throwaway,
    watching::{client_of, saying},
};

const HOST: &str = "shop.test";
const NAMESPACE: &str = "shop";

/// An edge as a process.
pub struct Process {
    pub child: Child,
    port: u16,
    pub tls: u16,
    admin: u16,
    log: PathBuf,
}

impl Process {
    async fn start(kubeconfig: &str, database: &str) -> Self {
        Self::with(&[("KUBECONFIG", kubeconfig), ("DATABASE_URL", database)]).await
    }

    /// With these variables.
    pub async fn with(variables: &[(&str, &str)]) -> Self {
        // Held until all are chosen, so that no two are the same.
        let free = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let held = [free().await, free().await, free().await];
        let [port, admin, tls] = held.map(|listener| listener.local_addr().unwrap().port());
        let log = std::env::temp_dir().join(format!("stagekeeper-edge-{}.log", SystemIds.next().simple()));
        let file = File::create(&log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_stagekeeper"))
            .arg("edge")
            .envs(variables.iter().copied())
            .env("STAGEKEEPER_PORT", admin.to_string())
            .env("STAGEKEEPER_EDGE_PORT", port.to_string())
            .env("STAGEKEEPER_EDGE_TLS_PORT", tls.to_string())
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .expect("the edge starts");
        Self { child, port, tls, admin, log }
    }

    /// What `/readyz` says: the code, and the parts that are missing.
    async fn ready(&self) -> Option<(u16, Vec<String>)> {
        let answer = reqwest::get(format!("http://127.0.0.1:{}/readyz", self.admin)).await.ok()?;
        let code = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        let parts = body["missing"].as_array().unwrap().iter();
        Some((code, parts.map(|part| part["part"].as_str().unwrap().to_owned()).collect()))
    }

    async fn until_ready(&self) {
        in_time("the edge is ready", async {
            while self.ready().await != Some((200, Vec::new())) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }

    /// What it has logged so far.
    pub fn logged(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub async fn until_logged(&self, words: &str) {
        in_time(words, async {
            while !self.logged().contains(words) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }

    async fn ask(&self) -> reqwest::Result<reqwest::Response> {
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build()?;
        client.get(format!("http://127.0.0.1:{}/", self.port)).header("host", HOST).send().await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the log of the edge is kept: {}", self.log.display());
        } else {
            _ = std::fs::remove_file(&self.log);
        }
    }
}

/// Asks all the time, each time over a new connection or the one before, and keeps every answer.
struct Visitors {
    stop: Arc<AtomicBool>,
    answers: Arc<Mutex<Vec<Result<String, String>>>>,
    asking: JoinHandle<()>,
}

impl Visitors {
    fn start(port: u16) -> Self {
        let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (ended, kept) = (stop.clone(), answers.clone());
        let asking = tokio::spawn(async move {
            let clients = [0, 1].map(|idle| {
                let builder = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20));
                builder.pool_max_idle_per_host(idle).build().unwrap()
            });
            for client in clients.iter().cycle() {
                if ended.load(Ordering::SeqCst) {
                    break;
                }
                let url = format!("http://127.0.0.1:{port}/");
                let asked =
                    async { client.get(url).header("host", HOST).send().await?.error_for_status()?.text().await };
                let answer = asked.await.map_err(|error| format!("{error:?}"));
                kept.lock().unwrap().push(answer);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
        Self { stop, answers, asking }
    }

    /// Waits until so many more have been answered; the last answer.
    async fn more(&self, count: usize) -> String {
        let asked = || self.answers.lock().unwrap().len();
        let wanted = asked() + count;
        in_time("more answers", async {
            while asked() < wanted {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        self.answers.lock().unwrap().last().cloned().unwrap().expect("no request fails")
    }

    /// Waits until this is the answer.
    async fn until(&self, name: &str) {
        in_time(name, async { while self.more(1).await != name {} }).await;
    }

    /// Asks no more; no request may have failed.
    async fn stop(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        self.asking.await.unwrap();
        let answers = self.answers.lock().unwrap();
        let failed: Vec<&String> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
        assert!(failed.is_empty(), "{failed:?}");
        answers.len()
    }
}

/// A Service that asks for the edge, and its slice: nobody else makes one, because it has no selector.
async fn publish(client: &Client) {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = serde_json::from_value(json!({"metadata": {"name": NAMESPACE}})).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.expect("the namespace is made");
    let definitions = Api::all(client.clone());
    for definition in stagekeeper::api::crds() {
        let name = definition.name_any();
        definitions.create(&PostParams::default(), &definition).await.expect("the definition is made");
        in_time("served", await_condition(definitions.clone(), &name, conditions::is_crd_established())).await.unwrap();
    }
    let service = json!({
        "metadata": {
            "name": "web", "labels": {"stagekeeper.dev/edge": "true", "app.kubernetes.io/managed-by": "stagekeeper"},
            "annotations": {"stagekeeper.dev/edge-hosts": HOST, "stagekeeper.dev/edge-port": "http"},
        },
        "spec": {"ports": [{"name": "http", "port": 80}]},
    });
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    let service = serde_json::from_value(service).unwrap();
    services.create(&PostParams::default(), &service).await.expect("the Service is made");
}

/// Traffic goes there from now on.
async fn lead(client: &Client, address: SocketAddr) {
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": "web-1",
            "labels": {
                "kubernetes.io/service-name": "web", "stagekeeper.dev/edge": "true",
                "app.kubernetes.io/managed-by": "stagekeeper",
            },
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address.ip()], "conditions": {"ready": true}}],
        "ports": [{"name": "http", "port": address.port()}],
    });
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), NAMESPACE);
    let params = PatchParams::apply("test").force();
    // An API server that has just come back takes a moment.
    in_time("the slice is applied", async {
        while slices.patch("web-1", &params, &Patch::Apply(&slice)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_served_while_the_api_server_is_away() {
    let own = Throwaway::up("edge", "api").await;
    let database = TestDatabase::on(own.postgres()).await;
    let client = client_of(own.kubeconfig()).await;
    publish(&client).await;
    let (blue, green) = (saying("blue").await, saying("green").await);
    lead(&client, blue).await;
    let edge = Process::start(own.kubeconfig(), &database.url).await;
    edge.until_ready().await;
    let visitors = Visitors::start(edge.port);
    visitors.until("blue").await;

    // Frozen: connections stand, and nothing comes.
    own.part("stop", "apiserver").await;
    assert_eq!(visitors.more(300).await, "blue");
    assert_eq!(edge.ready().await, Some((200, Vec::new())), "it has a table");
    own.part("cont", "apiserver").await;
    lead(&client, green).await;
    visitors.until("green").await;

    // Killed: connections break, and no new one is made.
    own.part("kill", "apiserver").await;
    edge.until_logged("cannot be watched").await;
    assert_eq!(visitors.more(300).await, "green");
    assert_eq!(edge.ready().await, Some((200, Vec::new())), "it has a table");

    // An edge that starts now knows no host, and says that it does not know rather than that there is none.
    let other = Process::start(own.kubeconfig(), &database.url).await;
    other.until_logged("no host is known if it was never listed").await;
    in_time("all but the watches is there", async {
        while other.ready().await != Some((503, vec!["watches".to_owned()])) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let answer = other.ask().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (503, "2"));
    let said: Value = answer.json().await.unwrap();
    assert!(said["detail"].as_str().unwrap().contains("does not know yet"), "{said}");

    own.part("start", "apiserver").await;
    lead(&client, blue).await;
    visitors.until("blue").await;
    other.until_ready().await;
    assert_eq!(other.ask().await.unwrap().text().await.unwrap(), "blue");
    assert!(visitors.stop().await > 600);
}
