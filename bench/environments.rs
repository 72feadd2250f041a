//! Very many environments: what their whole lives cost the API server. All are made at once, put to sleep, left alone, woken
//! and deleted; after each step everything is waited for that follows from it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use stagekeeper::api::{Environment, labels};

use crate::callers::Callers;
use crate::process::Sql;
use crate::{AT_ONCE, Failure, PROJECT, Place, QUIET};

#[derive(Args)]
pub struct Environments {
    #[arg(long)]
    namespace: String,
    /// How many there are.
    #[arg(long = "environments")]
    count: usize,
    /// Seconds that they are left alone while asleep.
    #[arg(long, default_value_t = 60)]
    idle: u64,
    /// Port of the operator.
    #[arg(long)]
    port: u16,
    /// People who ask; each may do so only so often.
    #[arg(long, default_value_t = 8)]
    callers: usize,
    /// Seconds until a step is given up.
    #[arg(long, default_value_t = 900)]
    deadline: u64,
    #[command(flatten)]
    place: Place,
}

/// The phases that a watch tells.
struct Phases {
    events: BoxStream<'static, watcher::Result<watcher::Event<Environment>>>,
    by_name: BTreeMap<String, String>,
}

impl Phases {
    fn open(client: &Client, namespace: &str) -> Self {
        let api: Api<Environment> = Api::namespaced(client.clone(), namespace);
        let events = watcher(api, watcher::Config::default()).default_backoff().boxed();
        Self { events, by_name: BTreeMap::new() }
    }

    /// Waits until as many say that they are in a phase.
    async fn until(&mut self, phase: &str, count: usize, deadline: Instant) -> Result<(), Failure> {
        let mut spoke = Instant::now();
        loop {
            let there = self.by_name.values().filter(|told| *told == phase).count();
            if there == count {
                return Ok(());
            }
            if spoke.elapsed() > Duration::from_secs(10) {
                spoke = Instant::now();
                eprintln!("  …     {there} of {count} {phase}");
            }
            if !self.advance(deadline).await? {
                return Err(format!("{there} of {count} {phase}").into());
            }
        }
    }

    /// Waits until nothing was told for a while.
    async fn rest(&mut self) -> Result<(), Failure> {
        while self.advance(Instant::now() + QUIET).await? {}
        Ok(())
    }

    async fn advance(&mut self, deadline: Instant) -> Result<bool, Failure> {
        let Ok(event) = tokio::time::timeout_at(deadline.into(), self.events.next()).await else {
            return Ok(false);
        };
        match event.ok_or("the watch has ended")?? {
            watcher::Event::Apply(one) | watcher::Event::InitApply(one) => {
                let phase = one.status.as_ref().and_then(|status| status.phase.clone());
                self.by_name.insert(one.name_any(), phase.unwrap_or_default());
            }
            watcher::Event::Delete(one) => {
                self.by_name.remove(&one.name_any());
            }
            watcher::Event::Init | watcher::Event::InitDone => {}
        }
        Ok(true)
    }
}

impl Environments {
    pub async fn run(&self, client: &Client) -> Result<Value, Failure> {
        let api: Api<Environment> = Api::namespaced(client.clone(), &self.namespace);
        let callers = Callers::make(client, &self.namespace, self.callers, self.port).await?;
        let mut phases = Phases::open(client, &self.namespace);
        let count = self.count;

        let create = async {
            let all = (0..count).map(|number| self.environment(number));
            futures::stream::iter(all)
                .map(async |one| api.create(&PostParams::default(), &one?).await.map_err(Failure::from))
                .buffer_unordered(AT_ONCE)
                .try_for_each(|_| std::future::ready(Ok(())))
                .await
        };
        let created = self.step(&mut phases, "Ready", count, create).await?;
        let slept = self.step(&mut phases, "Asleep", count, self.ask(&callers, "sleep")).await?;
        let idle = self.step(&mut phases, "Asleep", count, self.rest()).await?;
        let woken = self.step(&mut phases, "Ready", count, self.ask(&callers, "wake")).await?;
        let delete = async {
            api.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
            self.namespaces_gone(client).await
        };
        let deleted = self.step(&mut phases, "Ready", 0, delete).await?;
        if !phases.by_name.is_empty() {
            return Err(format!("{} environments are left", phases.by_name.len()).into());
        }
        Ok(json!({
            "kind": "environments",
            "environments": count,
            "idleSeconds": self.idle,
            "create": created,
            "sleep": slept,
            "idle": idle,
            "wake": woken,
            "delete": deleted,
            "memory": self.place.memory()?,
        }))
    }

    fn environment(&self, number: usize) -> Result<Environment, Failure> {
        Ok(serde_json::from_value(json!({
            "apiVersion": "stagekeeper.dev/v1alpha1",
            "kind": "Environment",
            "metadata": {"name": format!("pr-{number}"), "namespace": self.namespace},
            "spec": {"project": PROJECT, "ttl": "24h"},
        }))?)
    }

    /// Does something, waits until as many environments are in the phase and nothing changes any more; and what all that cost.
    async fn step(
        &self,
        phases: &mut Phases,
        phase: &str,
        count: usize,
        act: impl Future<Output = Result<(), Failure>>,
    ) -> Result<Value, Failure> {
        let place = &self.place;
        let sql = place.settled_sql().await?;
        let processes = place.processes()?;
        let (mark, used, begun) = (place.mark()?, processes.usage()?, Instant::now());
        let deadline = begun + Duration::from_secs(self.deadline);
        let ((), ()) = tokio::try_join!(act, phases.until(phase, count, deadline))?;
        let seconds = begun.elapsed().as_secs_f64();
        phases.rest().await?;
        let (requests, cpu) = (mark.since()?, used.until(&processes.usage()?));
        let after = place.settled_sql().await?;
        eprintln!("  ok    {count} {phase}: {seconds:.1} s, {} writes", requests.writes);
        Ok(json!({
            "seconds": seconds,
            "requests": requests,
            "cpu": cpu,
            "sql": sql.zip(after).map(|(before, after): (Sql, Sql)| before.until(after)),
        }))
    }

    async fn ask(&self, callers: &Callers, word: &str) -> Result<(), Failure> {
        futures::stream::iter(0..self.count)
            .map(|turn| callers.live(turn, format!("pr-{turn}"), word))
            .buffer_unordered(AT_ONCE)
            .try_for_each(|()| std::future::ready(Ok(())))
            .await
    }

    async fn rest(&self) -> Result<(), Failure> {
        tokio::time::sleep(Duration::from_secs(self.idle)).await;
        Ok(())
    }

    /// Waits until no namespace of an environment is left.
    async fn namespaces_gone(&self, client: &Client) -> Result<(), Failure> {
        let api: Api<Namespace> = Api::all(client.clone());
        let ours = ListParams::default().labels(&format!("{}={}", labels::HOME, self.namespace));
        let deadline = Instant::now() + Duration::from_secs(self.deadline);
        loop {
            let left = api.list_metadata(&ours).await?.items.len();
            if left == 0 {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!("{left} namespaces are left").into());
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
}
