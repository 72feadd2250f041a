//! A real API server: Services, the slices that Kubernetes makes for them, and Environments become a table, and requests follow
//! when a Service's selector changes.

use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    sync::Arc,
};

use k8s_openapi::{
    api::core::v1::{Namespace, Node, Pod, Service},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    runtime::wait::{await_condition, conditions},
};
use serde_json::{Value, json};
use stagekeeper::{
    api::Environment,
    domain::clock::{Ids as _, SystemIds},
    edge::{follow, table::Table},
    telemetry::Part,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
};

use super::lab::{Lab, in_time, until};

pub async fn client_of(path: &str) -> Client {
    let kubeconfig = Kubeconfig::read_from(path).expect("a kubeconfig");
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a cluster");
    stagekeeper::cluster::client::install_tls();
    Client::try_from(config).expect("a client")
}

async fn client() -> Client {
    let path = std::env::var("STAGEKEEPER_TEST_KUBECONFIG").expect(
        "STAGEKEEPER_TEST_KUBECONFIG is not set: this test needs a real API server, `make test` starts one and sets it",
    );
    client_of(&path).await
}

/// An address of this machine that is not loopback: Kubernetes takes no other for a pod's.
pub fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Nothing is sent: this only asks for the route.
    socket.connect("192.0.2.1:9").expect("a route");
    socket.local_addr().unwrap().ip()
}

/// A server that says its name, on an address that a pod may have.
pub async fn saying(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((own_address(), 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                    if line == "\r\n" {
                        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len());
                        stream.write_all(answer.as_bytes()).await.unwrap();
                    }
                    line.clear();
                }
            });
        }
    });
    address
}

/// A namespace, removed with everything in it.
struct World {
    client: Client,
    namespace: String,
}

impl World {
    async fn new() -> Self {
        let client = client().await;
        let id = SystemIds.next().simple().to_string();
        let namespace = format!("edge-{}", &id[id.len() - 8..]);
        let object: Namespace = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        Api::all(client.clone()).create(&PostParams::default(), &object).await.expect("the namespace is made");
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        for definition in stagekeeper::api::crds() {
            let name = definition.name_any();
            let params = PatchParams::apply("stagekeeper-tests").force();
            definitions.patch(&name, &params, &Patch::Apply(&definition)).await.expect("the definition is applied");
            in_time("served", await_condition(definitions.clone(), &name, conditions::is_crd_established()))
                .await
                .unwrap();
        }
        // Endpoints are only made of pods on a node that exists; this one has nobody who would run them.
        let node: Node = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        Api::all(client.clone()).create(&PostParams::default(), &node).await.expect("the node is made");
        Self { client, namespace }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// A pod of an instance that nobody runs, and that says that it is ready at this address.
    async fn pod(&self, instance: &str, address: SocketAddr) {
        let object: Pod = serde_json::from_value(json!({
            "metadata": {"name": instance, "labels": {"instance": instance}},
            "spec": {
                "nodeName": self.namespace, "automountServiceAccountToken": false,
                "containers": [{
                    "name": "web", "image": "none", "ports": [{"name": "http", "containerPort": address.port()}],
                }],
            },
        }))
        .unwrap();
        in_time("the pod is made", async {
            // The namespace's service account is made a moment after the namespace.
            while self.api::<Pod>().create(&PostParams::default(), &object).await.is_err() {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        })
        .await;
        let status = json!({"status": {
            "phase": "Running", "podIP": address.ip(), "podIPs": [{"ip": address.ip()}],
            "conditions": [{"type": "Ready", "status": "True"}],
        }});
        self.api::<Pod>()
            .patch_status(instance, &PatchParams::default(), &Patch::Merge(&status))
            .await
            .expect("the pod says that it is ready");
    }

    /// The stable Service, with its traffic at an instance.
    async fn service(&self, host: &str, instance: &str) {
        let object = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {
                "name": "web",
                "labels": {
                    "stagekeeper.dev/edge": "true", "app.kubernetes.io/managed-by": "stagekeeper",
                    "stagekeeper.dev/project": "shop",
                },
                "annotations": {"stagekeeper.dev/edge-hosts": host, "stagekeeper.dev/edge-port": "http"},
            },
            "spec": {"selector": {"instance": instance}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        });
        self.api::<Service>()
            .patch("web", &PatchParams::apply("stagekeeper").force(), &Patch::Apply(&object))
            .await
            .expect("the Service is applied");
    }

    async fn status(&self, status: Value) {
        self.api::<Environment>()
            .patch_status("pr-7", &PatchParams::default(), &Patch::Merge(&json!({"status": status})))
            .await
            .expect("the status is written");
    }
}

#[tokio::test]
async fn the_table_follows_the_cluster() {
    let world = World::new().await;
    let host = format!("{}.preview.test", world.namespace);
    let lab = Lab::with(|setup| setup.wake_limit = std::time::Duration::ZERO).await;
    lab.edge.replace(Table::default());
    let readiness = lab.telemetry.readiness.clone();
    let scope = Some(vec![world.namespace.clone()]);
    let following = tokio::spawn(follow(lab.edge.clone(), world.client.clone(), scope, readiness.clone()));
    until("all was listed", || lab.edge.table().complete).await;
    assert!(!readiness.missing().contains(&Part::Watches));
    assert!(lab.edge.table().is_empty());

    let blue = saying("blue").await;
    world.pod("blue", blue).await;
    world.service(&host, "blue").await;
    let addresses = |table: Arc<Table>| table.route(&host).map(|route| route.endpoints.clone()).unwrap_or_default();
    until("the slice has come", || addresses(lab.edge.table()) == [blue]).await;
    let caller = lab.caller_with(|builder| builder.resolve(&host, lab.address));
    let ask = || async { caller.get(lab.url(&host, "/")).send().await.unwrap() };
    let answer = ask().await;
    assert!(!answer.headers().contains_key("x-robots-tag"), "nobody says that it is a preview");
    assert_eq!(answer.text().await.unwrap(), "blue");

    // An Environment has the host: from now on it is one.
    let object: Environment = serde_json::from_value(json!({
        "apiVersion": "stagekeeper.dev/v1alpha1", "kind": "Environment", "metadata": {"name": "pr-7"},
        "spec": {"project": "shop", "source": {"pullRequest": 7}},
    }))
    .unwrap();
    world.api::<Environment>().create(&PostParams::default(), &object).await.expect("the Environment is made");
    world
        .status(json!({
            "observedGeneration": 1, "phase": "Ready", "awake": true, "subdomain": world.namespace,
            "namespace": world.namespace, "hosts": [{"service": "web", "host": host}],
        }))
        .await;
    until("it is a preview", || lab.edge.table().route(&host).is_some_and(|route| route.preview.is_some())).await;
    assert_eq!(ask().await.headers()["x-robots-tag"], "noindex");

    // Traffic moves while requests come.
    let green = saying("green").await;
    world.pod("green", green).await;
    let moving = async {
        world.service(&host, "green").await;
        until("the slice has moved", || addresses(lab.edge.table()) == [green]).await;
    };
    let mut moving = std::pin::pin!(moving);
    loop {
        tokio::select! {
            () = moving.as_mut() => break,
            answer = ask() => assert_eq!(answer.status(), 200),
        }
    }
    assert_eq!(ask().await.text().await.unwrap(), "green");

    // It sleeps: its pod goes, and a request wakes it.
    world.api::<Pod>().delete("green", &DeleteParams::default().grace_period(0)).await.unwrap();
    world.status(json!({"phase": "Asleep", "awake": false})).await;
    until("it has no address", || addresses(lab.edge.table()).is_empty()).await;
    assert_eq!(ask().await.status(), 503);
    until("it is woken", || *lab.told.wakes.lock().unwrap() == [world.namespace.clone()]).await;

    world.api::<Environment>().delete("pr-7", &DeleteParams::default()).await.unwrap();
    world.api::<Service>().delete("web", &DeleteParams::default()).await.unwrap();
    until("its host is gone", || lab.edge.table().is_empty()).await;
    assert_eq!(ask().await.status(), 410);
    following.abort();
    world.api::<Pod>().delete("blue", &DeleteParams::default().grace_period(0)).await.unwrap();
    let nodes: Api<Node> = Api::all(world.client.clone());
    nodes.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
}
