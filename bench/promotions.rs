//! Very many promotions at once: what they take until every stage's status says that its gates have let it begin, and what
//! the API server pays for it.

use std::time::{Duration, Instant};

use clap::Args;
use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use stagekeeper::api::Stage;
use stagekeeper::domain::clock::{Clock as _, SystemClock};

use crate::callers::Callers;
use crate::process::{self, Sql};
use crate::statuses::Statuses;
use crate::{AT_ONCE, Failure, Place};

#[derive(Args)]
pub struct Promotions {
    #[arg(long)]
    namespace: String,
    /// A namespace with as many stages that nobody acts on.
    #[arg(long)]
    floor_namespace: String,
    /// Digest of the release that is promoted.
    #[arg(long)]
    digest: String,
    /// Port of the operator.
    #[arg(long)]
    port: u16,
    /// People who ask; each may do so only so often.
    #[arg(long, default_value_t = 8)]
    callers: usize,
    /// Number of the round, for the record.
    #[arg(long, default_value_t = 0)]
    round: u32,
    /// Seconds until it is given up.
    #[arg(long, default_value_t = 900)]
    deadline: u64,
    #[command(flatten)]
    place: Place,
}

impl Promotions {
    pub async fn run(&self, client: &Client) -> Result<Value, Failure> {
        let place = &self.place;
        let deadline = Instant::now() + Duration::from_secs(self.deadline);
        let mut statuses = Statuses::open(client, &self.namespace).await?;
        let release = statuses.lead(&self.digest, deadline).await?;
        let stages = statuses.stages();
        let floor = self.floor(client).await?;
        let callers = Callers::make(client, &self.namespace, self.callers, self.port).await?;
        statuses.rest().await?;

        let processes = place.processes()?;
        let (mark, sql, used) = (place.mark()?, place.settled_sql().await?, processes.usage()?);
        let (started, at) = (Instant::now(), SystemClock.now());
        let asking = async {
            let all = futures::stream::iter(stages.iter().enumerate());
            let asked = all.map(|(turn, stage)| callers.promote(turn, stage)).buffer_unordered(AT_ONCE);
            let answers: Vec<Duration> = asked.try_collect().await?;
            Ok::<_, Failure>((answers, started.elapsed()))
        };
        let watching = async {
            statuses.until(deadline, |all| Ok(all.accepted(&release)? == stages.len())).await?;
            Ok::<_, Failure>(started.elapsed())
        };
        let ((answers, asked), accepted) = tokio::try_join!(asking, watching)?;
        let (requests, cpu) = (mark.since()?, used.until(&processes.usage()?));
        let left = self.left_pending(at)?;
        statuses.until(deadline, |all| Ok(all.serving(&release) == stages.len())).await?;
        let served = started.elapsed();
        statuses.rest().await?;
        let (requests_after, cpu_after) = (mark.since()?, used.until(&processes.usage()?));
        let sql_after = place.settled_sql().await?;
        let middle = |mut times: Vec<Duration>| {
            times.sort();
            times.get(times.len() / 2).map(Duration::as_secs_f64)
        };
        Ok(json!({
            "kind": "promotions",
            "promotions": stages.len(),
            "round": self.round,
            "askedSeconds": asked.as_secs_f64(),
            "answerSeconds": middle(answers),
            "leftPendingSeconds": left,
            "acceptedSeconds": accepted.as_secs_f64(),
            "servedSeconds": served.as_secs_f64(),
            "untilAccepted": {"requests": requests, "cpu": cpu},
            "untilServed": {"requests": requests_after, "cpu": cpu_after},
            "sql": sql.zip(sql_after).map(|(before, after): (Sql, Sql)| before.until(after)),
            "memory": place.memory()?,
            "floorSeconds": floor.as_secs_f64(),
        }))
    }

    /// One write of a status for each stage, and nothing else: how fast the API server takes what has to be said.
    async fn floor(&self, client: &Client) -> Result<Duration, Failure> {
        let api: Api<Stage> = Api::namespaced(client.clone(), &self.floor_namespace);
        let stages = api.list(&ListParams::default()).await?.items;
        let (api, round) = (&api, self.round);
        let begun = Instant::now();
        futures::stream::iter(stages)
            .map(|stage| async move {
                let patch = Patch::Merge(json!({"status": {"deploy": {
                    "id": stage.uid().unwrap_or_default(),
                    "state": "Pulling",
                    "since": SystemClock.now().to_string(),
                    "actor": "user:bench",
                    "message": format!("promotion of web {round} from up: bench"),
                }}}));
                api.patch_status(&stage.name_any(), &PatchParams::default(), &patch).await
            })
            .buffer_unordered(AT_ONCE)
            .try_for_each(|_| std::future::ready(Ok(())))
            .await?;
        Ok(begun.elapsed())
    }

    /// Seconds from `at` until the last deploy had left pending, by the database.
    fn left_pending(&self, at: jiff::Timestamp) -> Result<Option<f64>, Failure> {
        let Some(database) = &self.place.database else { return Ok(None) };
        let last = process::number(
            database,
            "select (extract(epoch from max(at)) * 1000000)::bigint from deploy_transitions where from_state = 'pending'",
        )?;
        let last = jiff::Timestamp::from_microsecond(last)?;
        Ok(Some(last.duration_since(at).as_secs_f64()))
    }
}
