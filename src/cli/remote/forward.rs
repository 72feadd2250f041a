//! A port-forward to a pod of the operator, as `kubectl port-forward` makes one, for as long as a command runs.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config, ResourceExt as _,
    api::{ListParams, Portforwarder},
};
use tokio::{
    io::{DuplexStream, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::{
    cli::failure::Failure,
    cluster::{
        client::install_tls,
        error::{ApiError, Class, Target, chain},
    },
};

/// Where the operator runs if nobody says otherwise. Not every namespace is looked at: whoever may make a pod anywhere could
/// label it like ours, and would be shown tokens.
pub const NAMESPACE: &str = "stagekeeper";

/// Its pods.
pub const SELECTOR: &str = "app.kubernetes.io/name=stagekeeper";

/// Its port, where the pod does not name one `http`.
const PORT: u16 = 8080;

/// A port of this machine that leads to the operator. It is closed with this value.
pub struct Forward {
    address: SocketAddr,
    /// Why the last connection did not come about.
    trouble: Arc<Mutex<Option<String>>>,
    accepting: JoinHandle<()>,
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Forward {
    /// Looks for a pod of the operator in `namespace` and opens a port that leads to it. A pod that goes away is replaced by
    /// another one with the next connection.
    ///
    /// # Errors
    /// There is none, or it may not be looked for.
    pub async fn open(mut config: Config, namespace: &str) -> Result<Self, Failure> {
        install_tls();
        // A forward is silent while nobody asks anything.
        (config.read_timeout, config.write_timeout, config.default_retry) = (None, None, false);
        let client = Client::try_from(config).map_err(|error| Failure::unavailable(chain(&error), ""))?;
        let pods: Api<Pod> = Api::namespaced(client, namespace);
        let first = choose(&pods, namespace).await?;
        let here = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let bound = here.and_then(|here| Ok((here.local_addr()?, here)));
        let (address, here) =
            bound.map_err(|error| Failure::failed(format!("no port of this machine can be opened: {error}"), ""))?;
        let trouble = Arc::new(Mutex::new(None));
        let accepting = tokio::spawn(accept(here, pods, namespace.to_owned(), first, trouble.clone()));
        Ok(Self { address, trouble, accepting })
    }

    /// The URL of the port.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Why the last connection did not come about, if it did not.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A pod and its port.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    pod: String,
    port: u16,
}

async fn accept(
    here: TcpListener,
    pods: Api<Pod>,
    namespace: String,
    mut place: Place,
    trouble: Arc<Mutex<Option<String>>>,
) {
    while let Ok((stream, _)) = here.accept().await {
        let led = lead(&pods, &place).await;
        let set = |told: Option<String>| *trouble.lock().unwrap_or_else(PoisonError::into_inner) = told;
        match led {
            Ok(upstream) => {
                set(None);
                tokio::spawn(upstream.carry(stream));
            }
            Err(why) => {
                // Before the connection is closed: whoever finds it closed asks for the reason, and tries again with another pod.
                set(Some(why));
                if let Ok(other) = choose(&pods, &namespace).await {
                    place = other;
                }
            }
        }
    }
}

/// The other end of a connection.
struct Upstream {
    forwarder: Portforwarder,
    stream: DuplexStream,
}

impl Upstream {
    /// Carries what is said, until one of the two is done.
    async fn carry(self, mut stream: TcpStream) {
        let Self { forwarder, stream: mut upstream } = self;
        // How a connection ends is told by what was said over it.
        let _ended = copy_bidirectional(&mut stream, &mut upstream).await;
        drop(upstream);
        let _ended = forwarder.join().await;
    }
}

/// Opens a way to a pod.
async fn lead(pods: &Api<Pod>, place: &Place) -> Result<Upstream, String> {
    let Place { pod, port } = place;
    let mut forwarder = pods.portforward(pod, &[*port]).await.map_err(|error| {
        let target = Target {
            verbs: "create",
            group: String::new(),
            resource: "pods/portforward".into(),
            namespace: pods.namespace().map(str::to_owned),
            name: pod.as_str().into(),
        };
        let refused = ApiError::new(&target, &error);
        match refused.class() {
            Class::Forbidden => {
                format!("you may not forward ports of pod {pod}: it takes get and create on pods/portforward")
            }
            _ => format!("the port of pod {pod} cannot be forwarded: {}", chain(&error)),
        }
    })?;
    match forwarder.take_stream(*port) {
        Some(stream) => Ok(Upstream { forwarder, stream }),
        None => Err(format!("port {port} of pod {pod} cannot be forwarded")),
    }
}

async fn choose(pods: &Api<Pod>, namespace: &str) -> Result<Place, Failure> {
    let listed = pods.list(&ListParams::default().labels(SELECTOR)).await;
    let found = listed.map_err(|error| unlisted(namespace, &error))?.items;
    let other_ways = "say where the operator runs with --operator-namespace, or name the address of its API with --server; \
                      operators go straight to the database with --database-url";
    if found.is_empty() {
        return Err(Failure::failed(
            format!("no pod of the operator was found: none in namespace {namespace} has the label {SELECTOR}"),
            other_ways,
        ));
    }
    let ready = found.iter().find(|pod| is_ready(pod));
    let ready = ready.ok_or_else(|| {
        let names: Vec<String> = found.iter().map(kube::ResourceExt::name_any).collect();
        Failure::unavailable(
            format!("no pod of the operator is ready in namespace {namespace}: {}", names.join(", ")),
            format!("`kubectl get pods -n {namespace} -l {SELECTOR}` shows why; or {other_ways}"),
        )
    })?;
    Ok(Place { pod: ready.name_any(), port: port(ready) })
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    pod.metadata.deletion_timestamp.is_none()
        && conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn port(pod: &Pod) -> u16 {
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    let mut ports = containers.iter().flat_map(|container| container.ports.iter().flatten());
    let named = ports.find(|port| port.name.as_deref() == Some("http"));
    named.and_then(|port| u16::try_from(port.container_port).ok()).unwrap_or(PORT)
}

fn unlisted(namespace: &str, error: &kube::Error) -> Failure {
    let target = Target {
        verbs: "list",
        group: String::new(),
        resource: "pods".into(),
        namespace: Some(namespace.to_owned()),
        name: String::new(),
    };
    let refused = ApiError::new(&target, error);
    match refused.class() {
        Class::Forbidden => Failure::failed(
            format!("you may not list pods in namespace {namespace}, so the operator is not found"),
            "ask for a Role there that allows list on pods, and get and create on pods/portforward; or name the address of \
             its API with --server",
        ),
        Class::Transient => Failure::unavailable(refused.to_string(), "check the kubeconfig and the network between"),
        _ => Failure::failed(refused.to_string(), ""),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_port_is_the_one_that_is_named_http() {
        let pod = |ports: serde_json::Value| -> Pod {
            let spec = json!({"containers": [{"name": "a"}, {"name": "operator", "ports": ports}]});
            serde_json::from_value(json!({"metadata": {"name": "x"}, "spec": spec})).expect("a pod")
        };
        assert_eq!(port(&pod(json!([]))), 8080);
        assert_eq!(
            port(&pod(json!([{"name": "dns", "containerPort": 53}, {"name": "http", "containerPort": 9000}]))),
            9000
        );
    }

    #[test]
    fn only_pods_that_are_ready_and_stay_are_chosen() {
        let pod = |ready: &str, gone: Option<&str>| -> Pod {
            let status = json!({"conditions": [{"type": "Ready", "status": ready}]});
            serde_json::from_value(json!({"metadata": {"name": "x", "deletionTimestamp": gone}, "status": status}))
                .expect("a pod")
        };
        assert!(is_ready(&pod("True", None)));
        assert!(!is_ready(&pod("False", None)));
        assert!(!is_ready(&pod("True", Some("2026-11-22T00:00:00Z"))));
    }
}
