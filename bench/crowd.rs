//! A whole company in one cluster: very many Stages and Environments in very many Projects, of one operator. It grows from size to
//! size; at each, it is left alone, the operator is started again, releases come at a steady rate, and one Project has more to
//! deploy than all others. A quarter of it has Services.

pub mod ground;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use kube::Client;
use serde_json::{Value, json};

use self::ground::{Ground, Owner, STAGES, SeenEnvironment, SeenStage, Wave, rest, until};
use crate::registry::{self, Registry};
use crate::report::{Figure, Goal};
use crate::start::{Launch, Launched, Running};
use crate::{Failure, Place};

/// One Environment for so many Stages.
const STAGES_OF_AN_ENVIRONMENT: usize = 5;
/// Releases that come at a steady rate, each to one Project: its Stages are deployed to at once.
const RELEASES: usize = 30;
/// Deploys a second that follow from them.
const RATE: usize = 20;
/// Projects that are looked at beside the one that has more to deploy.
const OTHERS: usize = 10;

#[derive(Args)]
pub struct Crowd {
    /// How many Stages there are, from size to size; a fifth as many Environments.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,10000")]
    sizes: Vec<usize>,
    /// Seconds that it is left alone.
    #[arg(long, default_value_t = 300)]
    idle: u64,
    /// Port of the operator.
    #[arg(long)]
    port: u16,
    /// File for what the operator says.
    #[arg(long)]
    log: PathBuf,
    /// The operator's binary, which is told how fast the registry may be asked.
    #[arg(long)]
    program: PathBuf,
    /// Seconds until a step is given up.
    #[arg(long, default_value_t = 7200)]
    deadline: u64,
    #[command(flatten)]
    place: Place,
    /// The operator with its arguments.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

impl Crowd {
    pub async fn run(&self, client: &Client) -> Result<Value, Failure> {
        let registry = Arc::new(Registry::default());
        let address = registry.serve().await?;
        let database = self.place.database.as_deref().ok_or("no database of the operator")?;
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_mins(1)).build()?;
        let ground = Ground { client, registry, address, database, port: self.port, http };
        let Launched { child, .. } = self.launch().run(&[]).await?;
        // It has made the schema.
        registry::allow(&self.program, database, address)?;
        let mut running = Running(child);
        let (mut before, mut sizes) = (0, Vec::new());
        for (round, &size) in self.sizes.iter().enumerate() {
            let (measured, again) = self.size(&ground, running, before, size, round).await?;
            // What was measured is not lost with a run that is ended early.
            eprintln!("  ok    {size} stages: {measured}");
            sizes.push(measured);
            (running, before) = (again, size);
        }
        running.stop()?;
        Ok(json!({"kind": "crowd", "idleSeconds": self.idle, "sizes": sizes}))
    }

    fn launch(&self) -> Launch<'_> {
        Launch { command: &self.command, log: &self.log, port: self.port }
    }

    /// Where its costs are read.
    fn place(&self, running: &Running) -> Place {
        Place { operator: Some(running.id()), ..self.place.clone() }
    }

    async fn size(
        &self,
        ground: &Ground<'_>,
        running: Running,
        before: usize,
        size: usize,
        round: usize,
    ) -> Result<(Value, Running), Failure> {
        let environments = size / STAGES_OF_AN_ENVIRONMENT;
        let owners: Vec<Owner> = (0..size / STAGES).map(Owner::numbered).collect();
        let deadline = Instant::now() + Duration::from_secs(self.deadline);
        let place = self.place(&running);

        let (processes, mark) = (place.processes()?, place.mark()?);
        let (used, begun) = (processes.usage()?, Instant::now());
        ground.grow(&owners, before / STAGES, before / STAGES_OF_AN_ENVIRONMENT..environments).await?;
        until(ground.client, "Stages deployed", size, deadline, SeenStage::is_deployed).await?;
        until(ground.client, "Environments ready", environments, deadline, SeenEnvironment::is_ready).await?;
        let grown = begun.elapsed();
        rest(&place, deadline).await?;
        let grow = json!({
            "seconds": grown.as_secs_f64(),
            "cpu": used.until(&processes.usage()?),
            "requests": mark.since()?,
            "memory": place.memory()?,
        });

        let idle = crate::watch_idle(&place, size, self.idle).await?;
        eprintln!("  ok    {size} stages, {environments} environments: left alone for {} s", self.idle);

        running.stop()?;
        let (mark, sql) = (place.mark()?, place.settled_sql().await?);
        let launched = self.launch().run(&[("stage", size), ("environment", environments)]).await?;
        let running = Running(launched.child);
        let place = self.place(&running);
        rest(&place, deadline).await?;
        let after = place.settled_sql().await?;
        let start = json!({
            "readySeconds": launched.ready.as_secs_f64(),
            "observedSeconds": launched.observed.as_secs_f64(),
            "requests": mark.since()?,
            "sql": sql.zip(after).map(|(before, after)| before.until(after)),
            "memory": place.memory()?,
        });
        eprintln!("  ok    {size} stages: all observed {:.1} s after a start", launched.observed.as_secs_f64());

        let paths = ground.paths(deadline).await?;
        let pace = Duration::from_secs_f64(f64_of(STAGES) / f64_of(RATE));
        let wave = |step: usize, count: usize| Wave {
            owners: owners.iter().take(count).collect(),
            tag: format!("2.{round}.{step}"),
            pace,
            greedy: None,
        };
        let rate = ground.release(&wave(0, RELEASES), &paths, deadline).await?;
        rest(&place, deadline).await?;
        eprintln!("  ok    {size} stages: releases for {RATE} deploys a second");

        // The same Projects, without and with the one that has more to do.
        let greedy = ground.greedy(size / STAGES, deadline).await?;
        let paths = ground.paths(deadline).await?;
        let alone = ground.release(&wave(1, OTHERS), &paths, deadline).await?;
        rest(&place, deadline).await?;
        let crowded = Wave { greedy: Some(&greedy), ..wave(2, OTHERS) };
        let beside = ground.release(&crowded, &paths, deadline).await?;
        rest(&place, deadline).await?;
        ground.leave(&greedy, deadline).await?;
        ground.deafen().await?;
        rest(&place, deadline).await?;
        eprintln!("  ok    {size} stages: {} deploys of one Project beside those of others", greedy.stages);
        let measured = json!({
            "stages": size,
            "environments": environments,
            "projects": owners.len(),
            "grow": grow,
            "idle": idle,
            "start": start,
            "rate": rate,
            "alone": alone,
            "beside": beside,
            "greedy": greedy.stages,
            "memoryAfter": place.memory()?,
        });
        Ok((measured, running))
    }
}

fn f64_of(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

/// What is told of it: each figure at each size, and how it grows: the exponent of the power of the number of Stages that fits it
/// best.
pub fn figures(measured: &[Value]) -> Vec<Figure> {
    let mut all = Vec::new();
    for run in measured.iter().filter(|one| one["kind"] == "crowd") {
        let sizes: Vec<&Value> = run["sizes"].as_array().into_iter().flatten().collect();
        let last = sizes.iter().filter_map(|one| one["stages"].as_u64()).max();
        let idle_seconds = run["idleSeconds"].as_f64().unwrap_or(1.0);
        let mut figure = |name: &str, unit, goal, grows: bool, read: &dyn Fn(&Value) -> Option<f64>| {
            let mut curve = Vec::new();
            for size in &sizes {
                let (Some(stages), Some(value)) = (size["stages"].as_u64(), read(size)) else { continue };
                curve.push((stages.to_string().parse().unwrap_or(1.0_f64), value));
                // The goals are those of the largest size.
                let goal = if Some(stages) == last { goal } else { Goal::None };
                all.push(Figure {
                    name: format!("crowd-{name}-{stages}"),
                    unit,
                    values: vec![value],
                    floor: Vec::new(),
                    goal,
                });
            }
            if let Some(exponent) = exponent(&curve).filter(|_| grows) {
                let name = format!("crowd-{name}-exponent");
                all.push(Figure { name, unit: "", values: vec![exponent], floor: Vec::new(), goal: Goal::None });
            }
        };
        let none = Goal::None;
        let resident = |part: &'static str| move |one: &Value| one[part]["memory"]["resident"].as_f64();
        figure("grow", "s", none, true, &|one| one["grow"]["seconds"].as_f64());
        figure("memory", "MiB", Goal::AtMost(250.0), true, &resident("idle"));
        figure("memory-peak", "MiB", none, true, &|one| one["grow"]["memory"]["peak"].as_f64());
        figure("memory-started", "MiB", none, true, &resident("start"));
        figure("idle-cpu", "%", Goal::AtMost(1.0), true, &|one| {
            Some(one["idle"]["cpu"]["each"]["operator"].as_f64()? / idle_seconds * 100.0)
        });
        figure("idle-api-writes", "writes", Goal::AtMost(0.0), false, &|one| {
            one["idle"]["requests"]["writes"].as_f64()
        });
        figure("idle-sql-rows", "rows", Goal::AtMost(0.0), false, &|one| one["idle"]["sql"]["rowsWritten"].as_f64());
        figure("restart-observed", "s", Goal::AtMost(20.0), true, &|one| one["start"]["observedSeconds"].as_f64());
        figure("restart-api-writes", "writes", Goal::AtMost(0.0), false, &|one| {
            one["start"]["requests"]["writes"].as_f64()
        });
        for share in ["p50", "p99"] {
            figure(&format!("webhook-pulling-{share}"), "ms", none, true, &|one| {
                one["rate"]["pullingMillis"][share].as_f64()
            });
        }
        for (state, key) in [("pulling", "pullingMillis"), ("success", "successMillis")] {
            figure(&format!("beside-greedy-{state}"), "x", Goal::AtMost(2.0), false, &|one| {
                Some(one["beside"][key]["p50"].as_f64()? / one["alone"][key]["p50"].as_f64()?)
            });
        }
    }
    all
}

/// The slope of the line through the logarithms that fits them best, in the sense of least squares.
fn exponent(curve: &[(f64, f64)]) -> Option<f64> {
    let points: Vec<(f64, f64)> =
        curve.iter().filter(|(_, value)| *value > 0.0).map(|(size, value)| (size.ln(), value.ln())).collect();
    if points.len() < 2 {
        return None;
    }
    let count = f64_of(points.len());
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let along: f64 = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum();
    let across: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
    (across > 0.0).then(|| along / across)
}
