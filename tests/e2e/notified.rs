//! A registry that tells of each push itself: push, webhook, scan, deploy.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use futures::future::join_all;
use reqwest::{StatusCode, header};
use serde_json::json;
use stagekeeper::api::Project;

use crate::{
    cluster::{DEADLINE, Env},
    lab::{ends, project, stage},
    operator::Operator,
    private::stagekeeper,
    private_registry::{cluster, free_port, near_the_node, tell_the_node},
};

/// What the registry sends along so that it is believed.
const SECRET: &str = "hunter2-notified";

/// `docker-registry` over the images of the cluster's own one, ended with this value.
struct NotifyingRegistry {
    child: Child,
    told: PathBuf,
    log: PathBuf,
    host: String,
}

impl NotifyingRegistry {
    /// Starts one that tells `url` of each push.
    async fn start(env: &Env, ip: IpAddr, port: u16, url: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("registry-{}", env.namespace));
        fs::create_dir_all(&folder).unwrap();
        let host = format!("{ip}:{port}");
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"{host}\", secret: {port}, relativeurls: true}}\n\
             notifications:\n  endpoints:\n  - name: stagekeeper\n    url: {url}\n    timeout: 5s\n    threshold: 3\n    \
             backoff: 1s\n    headers: {{Authorization: [\"Bearer {SECRET}\"]}}\n",
            cluster().join("registry").display(),
        );
        let file = folder.join("config.yml");
        fs::write(&file, config).unwrap();
        let log = folder.join("log");
        let out = fs::File::create(&log).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(file).stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out);
        let child = command.spawn().expect("docker-registry starts");
        let registry = Self { child, told: tell_the_node(&host), log, host };
        env.wait("the registry answers", DEADLINE, async || {
            let answer = env.http.get(format!("http://{}/v2/", registry.host)).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        registry
    }

    /// Gives an image that it has another tag, as a push does.
    async fn push(&self, env: &Env, from: &str, tag: &str) {
        let manifests = format!("http://{}/v2/{}/web/manifests", self.host, env.namespace);
        let accept = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";
        let found = env.http.get(format!("{manifests}/{from}")).header(header::ACCEPT, accept).send().await.unwrap();
        let kind = found.headers()[header::CONTENT_TYPE].clone();
        let manifest = found.bytes().await.unwrap();
        let put = env.http.put(format!("{manifests}/{tag}")).header(header::CONTENT_TYPE, kind).body(manifest);
        assert_eq!(put.send().await.unwrap().status(), StatusCode::CREATED);
    }

    /// How often the operator has listed tags here.
    fn listings(&self) -> usize {
        let log = fs::read_to_string(&self.log).unwrap();
        log.lines().filter(|line| line.contains("/tags/list") && line.contains("\"stagekeeper/")).count()
    }
}

impl Drop for NotifyingRegistry {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.told);
    }
}

/// Where the Project's only webhook listens.
async fn path(env: &Env) -> String {
    env.wait("the Project shows the path of its webhook", DEADLINE, async || {
        let status = env.api::<Project>().get("shop").await.ok()?.status?;
        status.webhooks.first().map(|webhook| webhook.path.clone())
    })
    .await
}

#[tokio::test]
async fn a_push_that_the_registry_tells_of_is_deployed_long_before_the_next_look() {
    let env = Env::new("notified").await;
    env.push("web", "1.0.0", &[]).await;
    let ip = near_the_node(&env).await;
    let port = free_port(ip).await;
    let key = format!("2026:{}", "5a".repeat(32));
    let operator = Operator::start_with(&env, &[("STAGEKEEPER_ENCRYPTION_KEYS", &key)]).await;
    let shop = project("shop", "web").replace("REGISTRY", &format!("{ip}:{port}/{}", env.namespace));
    let webhooks = "  webhooks: [{name: pushes, source: distribution, credentials: [pushes]}]\n";
    env.apply(&(shop.replace("interval: 1s", "interval: 24h") + webhooks + &stage("live", "shop", ""))).await;
    let path = path(&env).await;
    let secret = ["credential", "set", "shop", "pushes", "--kind", "webhook"];
    stagekeeper(&env, &key, &secret, SECRET);
    let url = format!("{}{path}", operator.address);
    let registry = NotifyingRegistry::start(&env, ip, port, &url).await;
    env.until_serving("live", "web 1.0.0").await;

    env.push("web", "second", &[("APP_VERSION", "second")]).await;
    registry.push(&env, "second", "1.1.0").await;
    env.until_serving("live", "web 1.1.0").await;
    let told = stagekeeper(&env, &key, &["webhook", "list", "shop"], "");
    assert!(told.contains("distribution") && !told.contains(SECRET), "{told}");

    // The same forged word a hundred times, at once: one look, and nothing moves.
    let event = json!({"events": [{
        "id": "forged", "action": "push",
        "target": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "repository": format!("{}/web", env.namespace),
            "tag": "9.9.9", "digest": format!("sha256:{}", "9".repeat(64)),
        },
        "request": {"host": registry.host},
    }]});
    let listings = registry.listings();
    let forged = (0..100).map(|_| {
        let request = env.http.post(&url).header(header::AUTHORIZATION, format!("Bearer {SECRET}"));
        async { request.json(&event).send().await.unwrap().status() }
    });
    let codes = join_all(forged).await;
    assert!(codes.iter().all(|code| *code == StatusCode::ACCEPTED), "{codes:?}");
    env.wait("it was looked at", DEADLINE, async || (registry.listings() > listings).then_some(())).await;
    let unsigned = env.http.post(&url).json(&event).send().await.unwrap();
    assert_eq!(unsigned.status(), StatusCode::UNAUTHORIZED);
    // Whatever comes of the hundred has come when the next push has.
    env.push("web", "third", &[("APP_VERSION", "third")]).await;
    let looked = registry.listings();
    registry.push(&env, "third", "1.2.0").await;
    env.until_serving("live", "web 1.2.0").await;
    assert_eq!(looked, listings + 1, "a hundred deliveries of the same cost one look");
    assert_eq!(ends(&env.deploys("live").await), ["web 1.0.0 success", "web 1.1.0 success", "web 1.2.0 success"]);
    operator.stop().await;
}
