//! Two replicas beside one: a release for every Project at once, led by one process, and then by two that share the namespaces.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, Client};
use serde_json::{Value, json};

use crate::crowd::ground::{Ground, Owner, STAGES, SeenStage, Wave, rest, until};
use crate::registry::{self, Registry};
use crate::report::{Figure, Goal};
use crate::start::{Launch, Running};
use crate::{Failure, Place};

/// Parts of the namespaces.
const SHARDS: &str = "2";

#[derive(Args)]
pub struct Replicas {
    /// How many Stages there are, each Project of them in a namespace of its own.
    #[arg(long, default_value_t = 400)]
    stages: usize,
    /// How often it is one, and then two.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Port of the first replica.
    #[arg(long)]
    port: u16,
    /// Namespace of their Leases.
    #[arg(long)]
    leases: String,
    /// File for what they say.
    #[arg(long)]
    log: PathBuf,
    /// The operator's binary, which is told how fast the registry may be asked.
    #[arg(long)]
    program: PathBuf,
    /// Seconds until a step is given up.
    #[arg(long, default_value_t = 1800)]
    deadline: u64,
    #[command(flatten)]
    place: Place,
    /// The operator with its arguments, but for port, identity and shards.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl Replicas {
    pub async fn run(&self, client: &Client) -> Result<Value, Failure> {
        let deadline = Instant::now() + Duration::from_secs(self.deadline);
        let registry = Arc::new(Registry::default());
        let address = registry.serve().await?;
        let database = self.place.database.as_deref().ok_or("no database of the operator")?;
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_mins(1)).build()?;
        let ground = Ground { client, registry, address, database, port: self.port, http };
        let first = self.start(self.port, "one").await?;
        registry::allow(&self.program, database, address)?;
        let place = Place { operator: Some(first.id()), ..self.place.clone() };
        let owners: Vec<Owner> = (0..self.stages / STAGES)
            .map(|number| Owner { namespace: format!("replicas-{number:02}"), ..Owner::numbered(number) })
            .collect();
        ground.grow(&owners, 0, 0..0).await?;
        until(client, "Stages deployed", owners.len() * STAGES, deadline, SeenStage::is_deployed).await?;
        let paths = ground.paths(deadline).await?;
        let (mut alone, mut together) = (Vec::new(), Vec::new());
        for round in 0..self.rounds {
            let wave = |step: usize| Wave {
                owners: owners.iter().collect(),
                tag: format!("2.{round}.{step}"),
                pace: Duration::from_millis(1),
                greedy: None,
            };
            self.holders(client, 1, deadline).await?;
            rest(&place, deadline).await?;
            alone.push(ground.release(&wave(0), &paths, deadline).await?);
            // Nobody takes a port that was given out a moment ago.
            let other = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            let second = self.start(other, "two").await?;
            self.holders(client, 2, deadline).await?;
            rest(&place, deadline).await?;
            together.push(ground.release(&wave(1), &paths, deadline).await?);
            second.stop()?;
            eprintln!(
                "  ok    {} deploys at once, by one and by two: round {} of {}",
                self.stages,
                round + 1,
                self.rounds
            );
        }
        ground.deafen().await?;
        first.stop()?;
        Ok(json!({"kind": "replicas", "stages": self.stages, "alone": alone, "together": together}))
    }

    /// Starts a replica, and waits until it is ready.
    async fn start(&self, port: u16, identity: &str) -> Result<Running, Failure> {
        let more = ["--port", &port.to_string(), "--lease-identity", identity, "--shards", SHARDS].map(str::to_owned);
        let command: Vec<String> = self.command.iter().cloned().chain(more).collect();
        let launch = Launch { command: &command, log: &self.log, port };
        Ok(Running(launch.run(&[]).await?.child))
    }

    /// Waits until the Leases of all shards are held, by so many.
    async fn holders(&self, client: &Client, count: usize, deadline: Instant) -> Result<(), Failure> {
        let leases: Api<Lease> = Api::namespaced(client.clone(), &self.leases);
        loop {
            let all = leases.list(&kube::api::ListParams::default()).await?.items;
            let holder = |lease: &Lease| lease.spec.as_ref()?.holder_identity.clone().filter(|name| !name.is_empty());
            let mut holders: Vec<String> = all.iter().filter_map(holder).collect();
            let held = holders.len().to_string() == SHARDS;
            holders.sort();
            holders.dedup();
            if held && holders.len() == count {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("the Leases are held by {holders:?}").into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// How much more two do than one.
pub fn figures(measured: &[Value]) -> Vec<Figure> {
    let mut all = Vec::new();
    for run in measured.iter().filter(|one| one["kind"] == "replicas") {
        let rates = |part: &str| -> Vec<f64> {
            let stages = run["stages"].as_f64().unwrap_or(0.0);
            let seconds = run[part].as_array().into_iter().flatten().filter_map(|one| one["seconds"].as_f64());
            seconds.map(|seconds| stages / seconds).collect()
        };
        all.push(Figure {
            name: "replicas-two".into(),
            unit: "deploys/s",
            values: rates("together"),
            floor: rates("alone"),
            goal: Goal::None,
        });
    }
    all
}
