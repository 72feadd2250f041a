//! Environments that an Ingress leads to: the built-in proxy answers only while they sleep.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use k8s_openapi::api::{
    core::v1::{Pod, Service},
    networking::v1::{Ingress, NetworkPolicy},
};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::json;
use sqlx::{Connection as _, PgConnection};
use tokio::sync::Mutex;

use crate::{
    cluster::DEADLINE,
    proxy::Edge,
    stand::{SHOP, Stand},
};

/// How much later than it is written a router follows an Ingress: what it knows may be that old.
const LAG: Duration = Duration::from_secs(1);

/// What an Ingress controller does with requests: it knows where the Ingress led a moment ago, and goes there.
struct Router<'a> {
    ingresses: Api<Ingress>,
    services: Api<Service>,
    pods: Api<Pod>,
    edge: &'a Edge,
    http: reqwest::Client,
    known: Mutex<Option<(Instant, Service)>>,
}

impl<'a> Router<'a> {
    fn new(stand: &Stand, place: &str, edge: &'a Edge) -> Self {
        let client = &stand.env.client;
        Self {
            ingresses: Api::namespaced(client.clone(), place),
            services: Api::namespaced(client.clone(), place),
            pods: Api::namespaced(client.clone(), place),
            edge,
            http: reqwest::Client::builder().no_proxy().build().expect("a client"),
            known: Mutex::default(),
        }
    }

    /// The Service that the environment's Ingress leads to.
    async fn backend(&self) -> Service {
        let ingress = self.ingresses.get("demo-route").await.expect("its Ingress").spec.expect("a spec");
        let rule = ingress.rules.expect("a rule").remove(0);
        let backend = rule.http.expect("paths").paths.remove(0).backend.service.expect("a Service");
        self.services.get(&backend.name).await.expect("the Service that the Ingress names")
    }

    /// What it takes for that.
    async fn known(&self) -> Service {
        let mut known = self.known.lock().await;
        if known.as_ref().is_none_or(|(at, _)| at.elapsed() > LAG) {
            *known = Some((Instant::now(), self.backend().await));
        }
        known.as_ref().map(|(_, backend)| backend.clone()).expect("it was looked up")
    }

    /// Whether it leads to the proxy.
    async fn leads_away(&self) -> bool {
        let spec = self.backend().await.spec.expect("a spec");
        if spec.type_.as_deref() == Some("ExternalName") {
            assert_eq!(spec.external_name.as_deref(), Some("stagekeeper-edge.stagekeeper.svc.cluster.local"));
            return true;
        }
        false
    }

    /// What a visitor gets.
    async fn get(&self, host: &str) -> Result<(u16, String), String> {
        let spec = self.known().await.spec.expect("a spec");
        if spec.type_.as_deref() == Some("ExternalName") {
            return self.edge.get(host).await;
        }
        let selector = spec.selector.expect("a selector");
        let selector: Vec<String> = selector.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let pods = self.pods.list(&ListParams::default().labels(&selector.join(","))).await.expect("pods").items;
        let ready = |pod: &Pod| {
            let conditions = pod.status.as_ref()?.conditions.as_ref()?;
            let ready = conditions.iter().any(|one| one.type_ == "Ready" && one.status == "True");
            pod.status.as_ref()?.pod_ip.clone().filter(|_| ready && pod.metadata.deletion_timestamp.is_none())
        };
        let address = pods.iter().find_map(ready).ok_or("no pod is ready")?;
        let asked = self.http.get(format!("http://{address}:8080/")).header("host", host).send();
        let answer = asked.await.map_err(|error| error.to_string())?;
        let code = answer.status().as_u16();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        Ok((code, text.lines().next().unwrap_or_default().to_owned()))
    }
}

/// Whether somebody asked that the one environment wakes.
async fn woken(url: &str) -> bool {
    let mut connection = PgConnection::connect(url).await.expect("the database");
    let asked = "SELECT count(*) FROM environments WHERE wake_asked_at IS NOT NULL";
    let asked: i64 = sqlx::query_scalar(asked).fetch_one(&mut connection).await.expect("an answer");
    asked == 1
}

/// Gives every Ingress an address, as a controller does that serves its class.
async fn accept(api: Api<Ingress>) {
    let address = Patch::Merge(json!({"status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}}));
    let ingresses = watcher(api.clone(), watcher::Config::default()).default_backoff().applied_objects();
    ingresses
        .for_each(|ingress| async {
            let Ok(ingress) = ingress else { return };
            let unserved = ingress.status.and_then(|status| status.load_balancer?.ingress).is_none();
            let (Some(name), Some(namespace)) = (ingress.metadata.name, ingress.metadata.namespace) else { return };
            if unserved {
                let api: Api<Ingress> = Api::namespaced(api.clone().into_client(), &namespace);
                // It may be gone already.
                let _ = api.patch_status(&name, &PatchParams::default(), &address).await;
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_answers_behind_an_ingress_only_while_it_sleeps() {
    let known = [("STAGEKEEPER_EDGE_SERVICE", "stagekeeper/stagekeeper-edge:80")];
    let stand = Stand::with("routed", &known).await;
    let env = &stand.env;
    let acceptor = tokio::spawn(accept(Api::all(env.client.clone())));
    env.apply(SHOP).await;
    let edge = Edge::start(env).await;
    env.push("web", "pr-1", &[("APP_VERSION", "one")]).await;
    stand
        .environment("demo", "services: {web: {tag: pr-1}}, route: {type: Ingress, className: tests, from: [routers]}")
        .await;
    let ready = stand.until_phase("demo", "Ready").await;
    let (host, place) = (ready.hosts[0].host.clone(), ready.namespace.clone().expect("a place"));
    let router = Router::new(&stand, &place, &edge);
    env.wait("requests go straight to its pods", DEADLINE, async || (!router.leads_away().await).then_some(())).await;
    assert_eq!(router.get(&host).await.map(|(code, _)| code), Ok(200));
    let policies: Api<NetworkPolicy> = Api::namespaced(env.client.clone(), &place);
    let ingress = policies.get("environment").await.expect("who may talk to whom").spec.expect("a spec").ingress;
    let lets_in = serde_json::to_string(&ingress).expect("JSON");
    assert!(lets_in.contains(r#""kubernetes.io/metadata.name":"routers""#), "{lets_in}");

    // Visitors come all the time: none of them sees that it fell asleep, but that one answer took longer.
    let mut wrong = Vec::new();
    let mut answers = BTreeMap::<u16, u32>::new();
    let nap = async {
        stand.cli(&["sleep", "demo"]).await;
        env.wait("a visitor wakes it", DEADLINE, async || woken(&env.database.url).await.then_some(())).await;
        stand.until_phase("demo", "Ready").await;
        env.wait("requests go straight to its pods again", DEADLINE, async || {
            (!router.leads_away().await).then_some(())
        })
        .await;
    };
    let visits = async {
        loop {
            match router.get(&host).await {
                Ok((200, _)) => *answers.entry(200).or_default() += 1,
                other => wrong.push(format!("{other:?}")),
            }
        }
    };
    tokio::select! {
        () = nap => {}
        () = visits => {}
    }
    assert_eq!(wrong, [""; 0], "{answers:?}");

    // Without visitors it stays asleep, and the route leads to the proxy.
    stand.cli(&["sleep", "demo"]).await;
    stand.until_phase("demo", "Asleep").await;
    env.wait("no pod is left", DEADLINE, async || (stand.all_pods(&place).await == 0).then_some(())).await;
    assert!(router.leads_away().await);
    assert_eq!(router.get(&host).await.map(|(code, _)| code), Ok(200), "a request wakes it");

    // Another way of being reached takes the Ingress away, and what it led to.
    stand.environment("demo", "services: {web: {tag: pr-1}}").await;
    env.wait("nothing is left of the Ingress", DEADLINE, async || {
        let ingresses = router.ingresses.list(&ListParams::default()).await.ok()?.items;
        let services = router.services.list(&ListParams::default()).await.ok()?.items;
        let away = services.iter().any(|one| one.spec.as_ref().is_some_and(|spec| spec.external_name.is_some()));
        (ingresses.is_empty() && !away).then_some(())
    })
    .await;
    assert_eq!(edge.get(&host).await.map(|(code, _)| code), Ok(200));
    acceptor.abort();
}
