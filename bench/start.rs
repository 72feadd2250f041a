//! Starts the operator and times how long it takes to have seen every stage.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};

use crate::{Failure, Place};

#[derive(Args)]
pub struct Start {
    #[command(flatten)]
    place: Place,
    #[arg(long)]
    stages: usize,
    #[arg(long, default_value_t = 0)]
    round: u32,
    /// Port of its health and metrics endpoints.
    #[arg(long)]
    port: u16,
    /// File for what it says.
    #[arg(long)]
    log: PathBuf,
    /// The program with its arguments. It stays when this one ends.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl Start {
    pub async fn run(&self) -> Result<Value, Failure> {
        let (mark, sql) = (self.place.mark()?, self.place.settled_sql().await?);
        let launch = Launch { command: &self.command, log: &self.log, port: self.port };
        let Launched { child, ready, observed } = launch.run(&[("stage", self.stages)]).await?;
        // What a start triggers, it triggers soon.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let requests = mark.since()?;
        let memory = crate::process::memory(child.id())?;
        let after = self.place.settled_sql().await?;
        Ok(json!({
            "kind": "start",
            "stages": self.stages,
            "round": self.round,
            "pid": child.id(),
            "readySeconds": ready.as_secs_f64(),
            "observedSeconds": observed.as_secs_f64(),
            "requests": requests,
            "memory": memory,
            "sql": sql.zip(after).map(|(before, after)| before.until(after)),
        }))
    }
}

/// A program to start.
pub struct Launch<'a> {
    /// It and its arguments.
    pub command: &'a [String],
    /// File for what it says.
    pub log: &'a Path,
    /// Port of its health and metrics endpoints.
    pub port: u16,
}

/// The program, which goes on running.
pub struct Launched {
    /// Its process.
    pub child: Child,
    /// From its start until it said that it is ready.
    pub ready: Duration,
    /// From its start until it had reconciled everything.
    pub observed: Duration,
}

impl Launch<'_> {
    /// Starts it and waits until it is ready and has reconciled as many objects as there are, by name of the controller.
    pub async fn run(&self, objects: &[(&str, usize)]) -> Result<Launched, Failure> {
        let (program, arguments) = self.command.split_first().ok_or("no command")?;
        let log = File::options().append(true).create(true).open(self.log)?;
        let started = Instant::now();
        let mut child =
            Command::new(program).args(arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;
        match self.watch(&mut child, started, objects).await {
            Ok((ready, observed)) => Ok(Launched { child, ready, observed }),
            Err(err) => {
                // Nobody learns its process id any more.
                child.kill()?;
                Err(err)
            }
        }
    }

    async fn watch(
        &self,
        child: &mut Child,
        started: Instant,
        objects: &[(&str, usize)],
    ) -> Result<(Duration, Duration), Failure> {
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(2)).build()?;
        let address = format!("http://127.0.0.1:{}", self.port);
        let (mut ready, mut observed) = (None, None);
        loop {
            if let Some(status) = child.try_wait()? {
                return Err(format!("the program ended while starting ({status})").into());
            }
            if started.elapsed() > Duration::from_mins(3) {
                return Err(format!("ready: {ready:?}, all observed: {observed:?}").into());
            }
            if ready.is_none() && get(&http, &format!("{address}/readyz")).await.is_some() {
                ready = Some(started.elapsed());
            }
            if observed.is_none()
                && let Some(metrics) = get(&http, &format!("{address}/metrics")).await
                && objects.iter().all(|(controller, count)| reconciles(&metrics, controller) >= *count)
            {
                observed = Some(started.elapsed());
            }
            if let (Some(ready), Some(observed)) = (ready, observed) {
                return Ok((ready, observed));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A program that is ended with this value.
pub struct Running(pub Child);

impl Running {
    /// Its process.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Ends it as a node does, and waits for it.
    pub fn stop(mut self) -> Result<(), Failure> {
        let asked = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status()?;
        if !asked.success() {
            return Err("the operator cannot be told to stop".into());
        }
        // It answers nobody meanwhile that this program waits for.
        tokio::task::block_in_place(|| self.0.wait())?;
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Nobody else knows of it when a step has failed.
        if matches!(self.0.try_wait(), Ok(None)) {
            let _gone = self.0.kill();
        }
    }
}

/// The body of a successful answer.
async fn get(http: &reqwest::Client, url: &str) -> Option<String> {
    let answer = http.get(url).send().await.ok()?;
    answer.error_for_status().ok()?.text().await.ok()
}

/// Reconciles of a controller that have ended, whatever their result.
fn reconciles(metrics: &str, controller: &str) -> usize {
    let label = format!("controller=\"{controller}\"");
    let lines = metrics.lines();
    lines
        .filter(|line| line.starts_with("controller_runtime_reconcile_total{") && line.contains(&label))
        .filter_map(|line| line.rsplit_once(' ')?.1.parse::<usize>().ok())
        .sum()
}
