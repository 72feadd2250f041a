//! `stagekeeper selftest`: an installation is tried out as people use it: a Project and a Stage, deployed and removed.

use std::{io::Write, time::Duration};

use clap::{Args, Subcommand};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Context,
    controller::{Signals, listen, stop_on_signal},
    failure::Failure,
};
use crate::{
    api::{Project, Stage, conditions},
    cluster::{client::install_tls, error::chain},
    domain::{
        clock::{Ids as _, SystemIds},
        image::Reference,
    },
    http,
    telemetry::Telemetry,
};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// Longest time of one question.
const QUESTION: Duration = Duration::from_secs(5);

/// The port of what is deployed.
const PORT: u16 = 8080;

/// What `selftest` takes.
#[derive(Args)]
pub struct SelftestArgs {
    #[command(subcommand)]
    command: SelftestCommand,
}

#[derive(Subcommand)]
enum SelftestCommand {
    /// Wait until the operator is ready, deploy a Stage, wait until it serves, and remove it.
    Run(RunArgs),
    /// What is deployed: answers /healthz until it is told to stop.
    Serve,
}

#[derive(Args)]
struct RunArgs {
    /// Where the operator's port is, such as `http://stagekeeper:8080`.
    #[arg(long, value_name = "URL")]
    url: String,
    /// Image of this program that the Stage is to run; without one, nothing is deployed.
    #[arg(long, value_name = "IMAGE")]
    image: Option<Reference>,
    /// Whether its registry is spoken to over plain HTTP.
    #[arg(long)]
    insecure: bool,
    /// Name of a pull secret of the namespace that nodes need for the image.
    #[arg(long, value_name = "NAME")]
    pull_secret: Option<String>,
    /// Seconds that each step may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 180)]
    timeout: u64,
}

/// Runs a `selftest` command.
///
/// # Errors
/// A step failed or took too long; what was made is removed all the same.
pub async fn selftest(context: &Context, arguments: &SelftestArgs, out: &mut dyn Write) -> Result<(), Failure> {
    install_tls();
    match &arguments.command {
        SelftestCommand::Serve => serve().await,
        SelftestCommand::Run(arguments) => run(context, arguments, out).await,
    }
}

async fn serve() -> Result<(), Failure> {
    let shutdown = CancellationToken::new();
    tokio::spawn(stop_on_signal(Signals::listen()?, shutdown.clone()));
    let router = http::edge_router(Telemetry::default());
    http::serve(listen(PORT).await?, router, http::Limits::default(), shutdown)
        .await
        .map_err(|error| Failure::failed(format!("the port failed: {error}"), ""))
}

async fn run(context: &Context, arguments: &RunArgs, out: &mut dyn Write) -> Result<(), Failure> {
    let patience = Duration::from_secs(arguments.timeout);
    ready(&arguments.url, patience).await?;
    writeln!(out, "{} is ready", arguments.url)?;
    let Some(image) = &arguments.image else { return Ok(()) };
    let namespace = context.namespace().await?;
    let client = Context::client(context.cluster_config().await?)?;
    let place = Place::new(&client, &namespace, patience);
    let deployed = place.deploy(image, arguments).await;
    match &deployed {
        Ok(()) => writeln!(out, "stage/{} serves {image}", place.name)?,
        Err(_) => writeln!(out, "stage/{} is removed after it failed", place.name)?,
    }
    let removed = place.remove().await;
    deployed.and(removed)?;
    Ok(writeln!(out, "stage/{} is removed", place.name)?)
}

/// Waits until the operator says that it is ready.
async fn ready(url: &str, patience: Duration) -> Result<(), Failure> {
    let http = reqwest::Client::builder().timeout(QUESTION).no_proxy().build();
    let http = http.map_err(|error| Failure::failed(format!("no HTTP client can be made: {error}"), ""))?;
    let started = Instant::now();
    loop {
        let said = match http.get(format!("{}/readyz", url.trim_end_matches('/'))).send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => answer.text().await.unwrap_or_default(),
            Err(error) => chain(&error),
        };
        if started.elapsed() > patience {
            return Err(Failure::unavailable(format!("{url} is not ready: {said}"), "look at the log of its pods"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Where a Stage is tried out, under a name of its own.
struct Place {
    name: String,
    projects: Api<Project>,
    stages: Api<Stage>,
    patience: Duration,
}

impl Place {
    fn new(client: &Client, namespace: &str, patience: Duration) -> Self {
        let id = SystemIds.next().simple().to_string();
        Self {
            name: format!("selftest-{}", &id[id.len() - 8..]),
            projects: Api::namespaced(client.clone(), namespace),
            stages: Api::namespaced(client.clone(), namespace),
            patience,
        }
    }

    /// Makes a Project and a Stage, and waits until the Stage is ready.
    async fn deploy(&self, image: &Reference, arguments: &RunArgs) -> Result<(), Failure> {
        let project: Project = typed(project(&self.name, image, arguments))?;
        let stage: Stage = typed(json!({
            "apiVersion": "stagekeeper.dev/v1alpha1", "kind": "Stage", "metadata": {"name": self.name},
            "spec": {"project": self.name, "strategy": {"type": "Recreate"}},
        }))?;
        let made = self.projects.create(&PostParams::default(), &project).await;
        made.map_err(|error| refused("a Project cannot be made", &error))?;
        let made = self.stages.create(&PostParams::default(), &stage).await;
        made.map_err(|error| refused("a Stage cannot be made", &error))?;
        let mut said = String::from("nothing yet");
        self.until(async || {
            let stage =
                self.stages.get(&self.name).await.map_err(|error| refused("the Stage cannot be read", &error))?;
            let status = stage.status.unwrap_or_default();
            let of = |name| conditions::get(&status.conditions, name).filter(|condition| condition.status == "True");
            if let Some(stalled) = of("Stalled") {
                let what = format!("the Stage does not deploy: {}: {}", stalled.reason, stalled.message);
                return Err(Failure::failed(what, "look at the log of the operator's pods"));
            }
            if let Some(ready) = conditions::get(&status.conditions, "Ready") {
                said = format!("{}: {}", ready.reason, ready.message);
            }
            Ok(of("Ready").map(|_| ()))
        })
        .await?
        .ok_or_else(|| Failure::failed(format!("the Stage is not ready in time; it says: {said}"), ""))
    }

    /// Deletes both, and waits until they are gone.
    async fn remove(&self) -> Result<(), Failure> {
        delete(&self.stages, &self.name).await?;
        let gone = self.until(async || {
            let stage = self.stages.get_opt(&self.name).await;
            let stage = stage.map_err(|error| refused("the Stage cannot be read", &error))?;
            Ok(stage.is_none().then_some(()))
        });
        gone.await?.ok_or_else(|| Failure::failed("the deleted Stage is still there", ""))?;
        delete(&self.projects, &self.name).await
    }

    /// Looks until there is something, or for as long as a step may take.
    async fn until<T>(&self, mut look: impl AsyncFnMut() -> Result<Option<T>, Failure>) -> Result<Option<T>, Failure> {
        let started = Instant::now();
        loop {
            let found = look().await?;
            if found.is_some() || started.elapsed() > self.patience {
                return Ok(found);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn project(name: &str, image: &Reference, arguments: &RunArgs) -> Value {
    let mut from = json!({"repository": image.repository().to_string()});
    match image.digest() {
        Some(digest) => from["digest"] = json!(digest.to_string()),
        None => from["tag"] = json!(image.tag().unwrap_or("latest")),
    }
    if arguments.insecure {
        from["insecure"] = json!(true);
    }
    let mut service = json!({
        "name": "web", "image": from, "args": ["selftest", "serve"], "ports": [{"name": "http", "port": PORT}],
        "health": {"http": {"path": "/healthz"}, "interval": "1s"},
        "resources": {"requests": {"cpu": "5m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
    });
    if let Some(secret) = &arguments.pull_secret {
        service["podTemplate"] = json!({"spec": {"imagePullSecrets": [{"name": secret}]}});
    }
    json!({
        "apiVersion": "stagekeeper.dev/v1alpha1", "kind": "Project", "metadata": {"name": name},
        "spec": {"services": [service]},
    })
}

fn typed<K: serde::de::DeserializeOwned>(object: Value) -> Result<K, Failure> {
    serde_json::from_value(object).map_err(|error| Failure::failed(format!("the test is not valid: {error}"), ""))
}

async fn delete<K>(api: &Api<K>, name: &str) -> Result<(), Failure>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(refused("what was made cannot be deleted", &error)),
    }
}

fn refused(what: &str, error: &kube::Error) -> Failure {
    Failure::failed(format!("{what}: {}", chain(error)), "check the CRDs, and the rights of who runs this")
}
