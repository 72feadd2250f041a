//! Two API servers on one etcd, one of them behind: what etcd answers it is held back, so that it shows the past, and does not tell
//! what became of writes. The operator is led from one to the other.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use k8s_openapi::api::apps::v1::Deployment;
use serde_json::json;
use stagekeeper::{
    api::{Stage, StageStatus},
    domain::deploy::State,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use crate::{
    cluster::DEADLINE,
    ground::{answers, made_once, operator, own, ready, unprobed},
    story::{PLAIN, STAGE, Scene},
    throwaway::Throwaway,
    trap::When,
};

/// A proxy in front of etcd that can hold its answers back. Ends with this value.
struct Link {
    port: u16,
    frozen: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Link {
    async fn to(etcd: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let frozen = watch::Sender::new(false);
        let told = frozen.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(("127.0.0.1", etcd)).await else { continue };
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
                let mut frozen = told.subscribe();
                tokio::spawn(async move {
                    let mut buffer = vec![0; 64 * 1024];
                    while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
                        // The sender goes with the link.
                        let thawed = frozen.wait_for(|frozen| !frozen).await.is_ok();
                        if !thawed || to_client.write_all(&buffer[..read]).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { port, frozen, accepting }
    }

    fn freeze(&self, whether: bool) {
        self.frozen.send_replace(whether);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The folder of a cluster, and a setting of it.
fn place(own: &Throwaway) -> PathBuf {
    Path::new(own.kubeconfig()).parent().unwrap().to_owned()
}

fn port_of(own: &Throwaway, part: &str) -> u16 {
    let settings = std::fs::read_to_string(place(own).join("settings")).unwrap();
    let port = settings.lines().find_map(|line| line.strip_prefix(&format!("{part}_port=")));
    port.expect("the port is on record").parse().unwrap()
}

/// Starts a second API server, with the flags of the first one but for its own port and its way to etcd. Gives its address.
async fn second(own: &Throwaway, scene: &Scene, link: &Link) -> String {
    let command = std::fs::read(place(own).join("run/apiserver.command")).unwrap();
    let command = String::from_utf8(command).unwrap();
    // The first word says where it runs.
    let mut arguments: Vec<String> = command.split_terminator('\0').skip(1).map(str::to_owned).collect();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let mut set = |flag: &str, value: String| {
        let at = arguments.iter().position(|one| one == flag).unwrap_or_else(|| panic!("no {flag}"));
        arguments[at + 1] = value;
    };
    set("--secure-port", port.to_string());
    set("--etcd-servers", format!("http://127.0.0.1:{}", link.port));
    let name = place(own).file_name().unwrap().to_owned();
    let started = tokio::task::spawn_blocking(move || {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/cluster"));
        command.arg("run").arg(name).arg("apiserver-b").args(arguments).status().unwrap()
    });
    assert!(started.await.unwrap().success());
    let address = format!("https://127.0.0.1:{port}");
    let http = reqwest::Client::builder().tls_danger_accept_invalid_certs(true).no_proxy().build().unwrap();
    let url = format!("{address}/readyz");
    scene
        .env
        .wait("the second API server is ready", DEADLINE, async || {
            // Without a token it answers 401 or 200, once it is there; anonymous readiness is allowed.
            let answer = http.get(&url).send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_shows_the_past_undoes_nothing() {
    let (own, scene) = own("vwtwo").await;
    let link = Link::to(port_of(&own, "etcd")).await;
    let (a, b) = (format!("https://127.0.0.1:{}", port_of(&own, "api")), second(&own, &scene, &link).await);
    scene.env.push("web", "1.0.0", &[]).await;
    scene.env.apply(&unprobed()).await;
    scene.env.apply(PLAIN).await;
    let operator = operator(&scene.env, &scene.seat, "operator", &[]).await;
    scene.settled(1, State::Success).await;

    // Each time the operator is led to the server that is behind in the middle of a deploy, and back when it has noticed.
    let mut noticed = Vec::new();
    let mut back = Vec::new();
    for number in 1..=3 {
        let mut trap = scene.seat.sql.trap(When::Answered, |statement| statement.is_transition());
        scene.env.push("web", &format!("1.{number}.0"), &[]).await;
        for step in 1..number {
            trap.sprung(&format!("step {step}")).await.release();
        }
        let held = trap.sprung("a transition").await;
        drop(trap);
        link.freeze(true);
        scene.seat.api.lead_to(&b);
        held.release();
        // Something newer that the one behind does not know.
        let colour = json!({"spec": {"services": {"web": {"env": [{"name": "ROUND", "value": number.to_string()}]}}}});
        scene.env.patch::<Stage>(STAGE, colour).await;
        noticed.push(answers(&scene.env, &operator, 503).await.as_secs_f64());
        scene.seat.api.lead_to(&a);
        let since = Instant::now();
        answers(&scene.env, &operator, 200).await;
        caught_up(&scene, &number.to_string()).await;
        back.push(since.elapsed().as_secs_f64());
        // What was held back arrives now.
        link.freeze(false);
        scene.env.until(STAGE, "it is ready", ready).await;
    }

    // And for good to the other one, which has caught up.
    scene.seat.api.lead_to(&b);
    let colour = json!({"spec": {"services": {"web": {"env": [{"name": "ROUND", "value": "last"}]}}}});
    scene.env.patch::<Stage>(STAGE, colour).await;
    caught_up(&scene, "last").await;
    let deploys = scene.env.deploys(STAGE).await;
    // A change that comes before an image is deployed may take its place.
    assert!((5..=8).contains(&deploys.len()), "one for each image and each change: {deploys:?}");
    made_once(&scene);
    println!(
        "an API server that is behind: noticed after {noticed:.1?} s, all newer state reached {back:.1?} s after the operator was led back, \
         nothing made twice in {} deploys",
        deploys.len()
    );
    operator.stop().await;
}

/// Waits until the one workload is that of this round, and the stage says so.
async fn caught_up(scene: &Scene, round: &str) {
    let what = format!("round {round} runs, and nothing else");
    let runs = scene.env.wait(&what, DEADLINE, async || {
        let all = scene.env.list::<Deployment>().await;
        let [only] = &all[..] else { return None };
        let containers = &only.spec.as_ref()?.template.spec.as_ref()?.containers;
        let variables = containers.first()?.env.as_ref()?;
        variables.iter().any(|one| one.name == "ROUND" && one.value.as_deref() == Some(round)).then_some(())
    });
    runs.await;
    let done = |status: &StageStatus| {
        let succeeded = status.deploy.as_ref().is_some_and(|deploy| deploy.state == State::Success.camel());
        ready(status) && succeeded && status.instances.len() == 1
    };
    scene.env.until(STAGE, &what, done).await;
}
