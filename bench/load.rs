//! Submits work to the floor program or the operator, watches from outside until it is done, and writes down what it
//! cost. One line of JSON per measurement; `bench/run` says in which order.

mod audit;
mod callers;
mod choose;
mod crowd;
mod environments;
mod history;
mod logs;
mod lookups;
mod node;
mod observe;
mod posts;
mod process;
mod promotions;
mod registry;
mod replicas;
mod report;
mod scan;
mod seal;
mod start;
mod statuses;

use std::error::Error;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand, ValueEnum};
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Config};
use serde_json::{Value, json};
use stagekeeper::api::{Project, Stage};

use observe::Observer;
use process::{Processes, Sql};

type Failure = Box<dyn Error + Send + Sync>;

/// Name of the project in each namespace, and of its one service.
const PROJECT: &str = "bench";
const SERVICE: &str = "web";
/// Name of the stage that the others take their releases from, where they do.
const UPSTREAM: &str = "up";
/// Requests at once when many objects are made or changed.
const AT_ONCE: usize = 32;
/// Nothing has moved for this long: what was asked for is done, and so is everything that follows from it.
const QUIET: Duration = Duration::from_secs(2);
/// Postgres' counters are up to date after this long, even of connections that fell idle.
const SQL_LAG: Duration = Duration::from_secs(11);

/// Submits, watches and counts.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make the Project and its Stages.
    Seed {
        #[arg(long)]
        namespace: String,
        #[arg(long)]
        stages: usize,
        #[arg(long)]
        digest: String,
        /// The Stages take what one more Stage has proven, when somebody asks for it.
        #[arg(long)]
        promoted: bool,
    },
    /// Move all stages to another release and wait until everything is done.
    Move(Move),
    /// Start a program and wait until it has seen every stage.
    Start(start::Start),
    /// Count what happens while nothing happens.
    Idle(Idle),
    /// Deploy to a real node again and again.
    Node(node::Node),
    /// Scan many repositories of a registry of its own.
    Scan(scan::Scan),
    /// Get the lists of a registry once: what scanning is compared with.
    ScanFloor(scan::ScanFloor),
    /// Seal, open and rotate.
    Seal(seal::Seal),
    /// Let each policy choose among many tags.
    Choose(choose::Choose),
    /// Ask for a promotion of every stage at once.
    Promotions(promotions::Promotions),
    /// Ask for promotions one after the other.
    Posts(posts::Posts),
    /// Make very many environments, let them sleep and wake, and delete them.
    Environments(environments::Environments),
    /// Very many Projects, Stages and Environments, from size to size.
    Crowd(crowd::Crowd),
    /// The same releases for one replica and for two.
    Replicas(replicas::Replicas),
    /// Read pages of a long history.
    History(history::History),
    /// Search, read and drop very many lines of output.
    Logs(logs::Logs),
    /// Sum up the measurements in a directory.
    Report(report::Report),
}

#[derive(Args)]
struct Move {
    #[arg(long)]
    namespace: String,
    /// Digest of the release that shall run.
    #[arg(long)]
    digest: String,
    /// How the wish is submitted.
    #[arg(long, value_enum, default_value_t = Variant::Project)]
    variant: Variant,
    /// Number of the round, for the record.
    #[arg(long, default_value_t = 0)]
    round: u32,
    /// Seconds until it is given up.
    #[arg(long, default_value_t = 900)]
    deadline: u64,
    #[command(flatten)]
    place: Place,
    /// The floor program with its arguments; without it, the operator has to move the stages.
    #[arg(last = true)]
    floor: Vec<String>,
}

/// Where to read what it costs.
#[derive(Args, Clone)]
struct Place {
    /// State directory of the cluster.
    #[arg(long)]
    cluster: PathBuf,
    /// User whose API requests are counted.
    #[arg(long)]
    user: String,
    /// Process id of the operator.
    #[arg(long)]
    operator: Option<u32>,
    /// Database of the operator.
    #[arg(long)]
    database: Option<String>,
}

#[derive(Args)]
struct Idle {
    #[command(flatten)]
    place: Place,
    #[arg(long)]
    stages: usize,
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// How the wish for another release is submitted.
#[derive(ValueEnum, Clone, Copy, PartialEq, Debug)]
enum Variant {
    /// One patch: the project's digest.
    Project,
    /// A pin in every stage.
    Pin,
    /// Not at all: wait for what was submitted before.
    None,
}

impl Place {
    fn processes(&self) -> Result<Processes, Failure> {
        let mut all = Processes::of_cluster(&self.cluster)?;
        if let Some(pid) = self.operator {
            all.insert("operator", pid);
        }
        Ok(all)
    }

    fn mark(&self) -> Result<audit::Mark, Failure> {
        audit::Mark::end(&self.cluster.join("log/audit.log"), &self.user)
    }

    fn sql(&self) -> Result<Option<Sql>, Failure> {
        self.database.as_deref().map(Sql::read).transpose()
    }

    /// As [`Place::sql`], once the counters hold everything that happened so far.
    async fn settled_sql(&self) -> Result<Option<Sql>, Failure> {
        if self.database.is_some() {
            tokio::time::sleep(SQL_LAG).await;
        }
        self.sql()
    }

    fn memory(&self) -> Result<Option<process::Memory>, Failure> {
        self.operator.map(process::memory).transpose()
    }
}

/// The floor program, started and waiting for its starting shot.
struct Floor {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Floor {
    fn start(command: &[String]) -> Result<Option<Self>, Failure> {
        let Some((program, arguments)) = command.split_first() else {
            return Ok(None);
        };
        let mut child =
            std::process::Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the floor program has no pipes".into());
        };
        let mut floor = Self { child, input, output: BufReader::new(output) };
        if floor.line()? != "ready" {
            return Err("the floor program did not get ready".into());
        }
        Ok(Some(floor))
    }

    fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    fn shoot(&mut self) -> Result<(), Failure> {
        self.input.write_all(b"go\n")?;
        Ok(self.input.flush()?)
    }

    fn finish(mut self) -> Result<Value, Failure> {
        let said = self.line()?;
        let status = self.child.wait()?;
        if !status.success() {
            return Err(format!("the floor program failed: {status}").into());
        }
        Ok(serde_json::from_str(&said)?)
    }
}

/// What a stage asks of releases that come from the stage before: every kind of gate that needs no person.
fn promotion() -> Value {
    json!({
        "from": [UPSTREAM],
        "soak": "1s",
        "windows": [{"action": "allow", "schedule": "0 0 * * *", "duration": "24h"}],
    })
}

async fn seed(client: &Client, namespace: &str, stages: usize, digest: &str, promoted: bool) -> Result<(), Failure> {
    let project = serde_json::from_value::<Project>(json!({
        "apiVersion": "stagekeeper.dev/v1alpha1",
        "kind": "Project",
        "metadata": {"name": PROJECT},
        "spec": {"services": [{
            "name": SERVICE,
            "image": {"repository": "127.0.0.1:1/bench/web", "digest": digest, "insecure": true},
            "scope": "Instance",
            "replicas": 1,
            "ports": [{"name": "http", "port": 8080}],
        }]},
    }))?;
    let projects: Api<Project> = Api::namespaced(client.clone(), namespace);
    projects.create(&PostParams::default(), &project).await?;
    let api: Api<Stage> = Api::namespaced(client.clone(), namespace);
    let first = promoted.then(|| UPSTREAM.to_owned());
    futures::stream::iter(first.into_iter().chain((0..stages).map(|number| format!("s{number:04}"))))
        .map(|name| {
            let api = &api;
            async move {
                let mut spec = json!({"project": PROJECT, "rollback": {"keepPrevious": "0s", "watch": "0s"}});
                if promoted && name != UPSTREAM {
                    spec["promotion"] = promotion();
                }
                let stage = serde_json::from_value::<Stage>(json!({
                    "apiVersion": "stagekeeper.dev/v1alpha1",
                    "kind": "Stage",
                    "metadata": {"name": name},
                    "spec": spec,
                }))?;
                api.create(&PostParams::default(), &stage).await?;
                Ok::<_, Failure>(())
            }
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn submit(client: &Client, asked: &Move, stages: &[String]) -> Result<(), Failure> {
    match asked.variant {
        Variant::None => {}
        Variant::Project => {
            let api: Api<Project> = Api::namespaced(client.clone(), &asked.namespace);
            let patch = serde_json::from_value(json!([{
                "op": "replace",
                "path": "/spec/services/0/image/digest",
                "value": asked.digest,
            }]))?;
            let patch = Patch::<()>::Json(patch);
            api.patch(PROJECT, &PatchParams::default(), &patch).await?;
        }
        Variant::Pin => {
            let api: Api<Stage> = Api::namespaced(client.clone(), &asked.namespace);
            let patch = Patch::Merge(json!({"spec": {"pin": {SERVICE: asked.digest}}}));
            futures::stream::iter(stages)
                .map(|stage| {
                    let (api, patch) = (&api, &patch);
                    async move { api.patch(stage, &PatchParams::default(), patch).await }
                })
                .buffer_unordered(AT_ONCE)
                .try_for_each(|_| std::future::ready(Ok(())))
                .await?;
        }
    }
    Ok(())
}

async fn shift(client: &Client, asked: &Move) -> Result<Value, Failure> {
    let mut observer = Observer::open(client, &asked.namespace, &asked.digest).await?;
    let stages = observer.stages();
    if stages.is_empty() {
        return Err(format!("namespace `{}` has no Stage", asked.namespace).into());
    }
    if asked.variant != Variant::None {
        observer.leave_current();
    }
    let mut floor = Floor::start(&asked.floor)?;
    let mut processes = asked.place.processes()?;
    if let Some(floor) = &floor {
        processes.insert("floor", floor.child.id());
    }
    let (mark, sql, used) = (asked.place.mark()?, asked.place.sql()?, processes.usage()?);

    let started = Instant::now();
    let deadline = started + Duration::from_secs(asked.deadline);
    if let Some(floor) = &mut floor {
        floor.shoot()?;
    }
    let (moved, gone) = {
        let submitted = submit(client, asked, &stages);
        let watched = watch_move(&mut observer, stages.len(), started, deadline);
        let ((), times) = tokio::try_join!(submitted, watched)?;
        times
    };
    let used_moved = processes.usage()?;
    observe::pods_gone(client, &asked.namespace, stages.len(), deadline).await?;
    let pods_gone = started.elapsed();
    while observer.advance(Instant::now() + QUIET).await? {}
    // The floor program has ended by now but is not waited for yet: the kernel still tells what it has used.
    let used_settled = processes.usage()?;
    let floor = floor.map(Floor::finish).transpose()?;
    let memory = asked.place.memory()?;
    let sql_after = asked.place.settled_sql().await?;
    let side = if floor.is_some() { "floor" } else { "operator" };
    Ok(json!({
        "kind": "move",
        "side": side,
        "variant": format!("{:?}", asked.variant).to_lowercase(),
        "stages": stages.len(),
        "round": asked.round,
        "movedSeconds": moved.as_secs_f64(),
        "goneSeconds": gone.as_secs_f64(),
        "podsGoneSeconds": pods_gone.as_secs_f64(),
        "cpuUntilGone": used.until(&used_moved),
        "cpuUntilSettled": used.until(&used_settled),
        "requests": mark.since()?,
        "memory": memory,
        "sql": sql.zip(sql_after).map(|(before, after)| before.until(after)),
        "floor": floor,
    }))
}

/// Waits until every stage has moved, and then until what it left is gone; returns both times.
async fn watch_move(
    observer: &mut Observer,
    stages: usize,
    started: Instant,
    deadline: Instant,
) -> Result<(Duration, Duration), Failure> {
    let mut moved = None;
    let mut spoke = started;
    loop {
        if moved.is_none() && observer.moved() == stages {
            moved = Some(started.elapsed());
        }
        if let Some(moved) = moved
            && observer.leftovers() == 0
        {
            return Ok((moved, started.elapsed()));
        }
        if spoke.elapsed() > Duration::from_secs(10) {
            spoke = Instant::now();
            eprintln!("  …     {} of {stages} moved", observer.moved());
        }
        if !observer.advance(deadline).await? {
            return Err(format!(
                "{} of {stages} stages moved, {} leftovers; for example {}",
                observer.moved(),
                observer.leftovers(),
                observer.laggards()
            )
            .into());
        }
    }
}

/// What happens in so many seconds in which nobody does anything.
async fn watch_idle(place: &Place, stages: usize, seconds: u64) -> Result<Value, Failure> {
    let processes = place.processes()?;
    let sql = place.settled_sql().await?;
    let (mark, used) = (place.mark()?, processes.usage()?);
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let spent = used.until(&processes.usage()?);
    let requests = mark.since()?;
    let after = place.settled_sql().await?;
    Ok(json!({
        "kind": "idle",
        "stages": stages,
        "seconds": seconds,
        "requests": requests,
        "sql": sql.zip(after).map(|(before, after)| before.until(after)),
        "cpu": spent,
        "memory": place.memory()?,
    }))
}

/// Writes a measurement that needs no cluster.
fn say(measured: &Value) -> Result<(), Failure> {
    Ok(writeln!(std::io::stdout(), "{measured}")?)
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let cli = Cli::parse();
    // It fails only when a TLS implementation was chosen already.
    let _already = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if let Command::Report(report) = &cli.command {
        return report.print();
    }
    // No cluster is needed for these.
    match &cli.command {
        Command::Seal(seal) => return say(&seal.run().await?),
        Command::ScanFloor(floor) => return say(&floor.run().await?),
        Command::Choose(choose) => return say(&choose.run()?),
        Command::History(history) => return say(&history.run().await?),
        Command::Logs(logs) => return say(&logs.run().await?),
        _ => {}
    }
    let mut config = Config::infer().await?;
    config.default_retry = false;
    let client = Client::try_from(config)?;
    let measured = match &cli.command {
        Command::Seed { namespace, stages, digest, promoted } => {
            return seed(&client, namespace, *stages, digest, *promoted).await;
        }
        Command::Move(asked) => shift(&client, asked).await?,
        Command::Start(start) => start.run().await?,
        Command::Idle(Idle { place, stages, seconds }) => watch_idle(place, *stages, *seconds).await?,
        Command::Crowd(crowd) => crowd.run(&client).await?,
        Command::Replicas(replicas) => replicas.run(&client).await?,
        Command::Node(asked) => asked.run(&client).await?,
        Command::Scan(scan) => scan.run(&client).await?,
        Command::Promotions(promotions) => promotions.run(&client).await?,
        Command::Posts(posts) => posts.run(&client).await?,
        Command::Environments(environments) => environments.run(&client).await?,
        Command::Report(_)
        | Command::Seal(_)
        | Command::ScanFloor(_)
        | Command::Choose(_)
        | Command::History(_)
        | Command::Logs(_) => {
            return Ok(());
        }
    };
    println!("{measured}");
    Ok(())
}
