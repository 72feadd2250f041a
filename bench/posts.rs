//! From the POST that asks for a promotion until the database has told of the deploy's first transition, one after the other,
//! beside a bare insert that tells of itself. The same ears for both.

use std::time::{Duration, Instant};

use clap::Args;
use kube::Client;
use serde_json::{Value, json};
use sqlx::postgres::PgListener;
use sqlx::{Connection as _, PgConnection};

use crate::callers::Callers;
use crate::statuses::Statuses;
use crate::{Failure, Place};

/// Where the database tells of it.
const CHANNEL: &str = "bench";
/// What a deploy has left behind is being removed for so long after its success.
const REST: Duration = Duration::from_millis(250);
/// One that has not come so far by now never will.
const PATIENCE: Duration = Duration::from_mins(2);

/// Tells of each transition, and of each row of a table that has nothing to do with anything.
const EARS: &str = "
    CREATE OR REPLACE FUNCTION bench_tell() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_TABLE_NAME = 'bench_bare' THEN
            PERFORM pg_notify('bench', 'bare');
        ELSE
            PERFORM pg_notify('bench', coalesce(NEW.from_state, 'nothing') || ' ' || NEW.to_state);
        END IF;
        RETURN NULL;
    END
    $$;
    CREATE TABLE IF NOT EXISTS bench_bare (id bigserial PRIMARY KEY, word text NOT NULL);
    CREATE OR REPLACE TRIGGER bench_tell AFTER INSERT ON bench_bare FOR EACH ROW EXECUTE FUNCTION bench_tell();
    CREATE OR REPLACE TRIGGER bench_tell AFTER INSERT ON deploy_transitions FOR EACH ROW EXECUTE FUNCTION bench_tell();";

#[derive(Args)]
pub struct Posts {
    #[arg(long)]
    namespace: String,
    /// Digest of the release that is promoted.
    #[arg(long)]
    digest: String,
    /// Port of the operator.
    #[arg(long)]
    port: u16,
    /// How many are asked for; there are at least so many stages.
    #[arg(long = "posts")]
    number: usize,
    /// Seconds until the stage before them has the release.
    #[arg(long, default_value_t = 120)]
    deadline: u64,
    #[command(flatten)]
    place: Place,
}

/// Milliseconds of each.
#[derive(Default)]
struct Times {
    answered: Vec<f64>,
    made: Vec<f64>,
    began: Vec<f64>,
    bare: Vec<f64>,
}

impl Posts {
    pub async fn run(&self, client: &Client) -> Result<Value, Failure> {
        let database = self.place.database.as_deref().ok_or("no database is given")?;
        let mut statuses = Statuses::open(client, &self.namespace).await?;
        statuses.lead(&self.digest, Instant::now() + Duration::from_secs(self.deadline)).await?;
        let stages = statuses.stages();
        if stages.len() < self.number {
            return Err(format!("{} stages are too few for {} requests", stages.len(), self.number).into());
        }
        let callers = Callers::make(client, &self.namespace, 1, self.port).await?;
        let mut sql = PgConnection::connect(database).await?;
        sqlx::raw_sql(EARS).execute(&mut sql).await?;
        let mut ears = PgListener::connect(database).await?;
        ears.listen(CHANNEL).await?;
        let mut times = Times::default();
        for stage in stages.iter().take(self.number) {
            one(&callers, stage, &mut ears, &mut times).await.map_err(|error| format!("{stage}: {error}"))?;
            tokio::time::sleep(REST).await;
            let begun = Instant::now();
            sqlx::query("INSERT INTO bench_bare (word) VALUES ($1)").bind(stage).execute(&mut sql).await?;
            hear(&mut ears, "bare").await?;
            times.bare.push(millis(begun));
        }
        let Times { answered, made, began, bare } = times;
        Ok(json!({
            "kind": "posts",
            "posts": self.number,
            "answeredMillis": spread(answered),
            "madeMillis": spread(made),
            "beganMillis": spread(began),
            "bareMillis": spread(bare),
        }))
    }
}

/// Asks for one promotion and listens until the deploy has succeeded.
async fn one(callers: &Callers, stage: &str, ears: &mut PgListener, times: &mut Times) -> Result<(), Failure> {
    let begun = Instant::now();
    let listening = async {
        hear(ears, "nothing pending").await?;
        let made = millis(begun);
        hear(ears, "pending pulling").await?;
        Ok::<_, Failure>((made, millis(begun)))
    };
    let (answered, (made, began)) = tokio::try_join!(callers.promote(0, stage), listening)?;
    times.answered.push(answered.as_secs_f64() * 1000.0);
    times.made.push(made);
    times.began.push(began);
    loop {
        let told = tokio::time::timeout(PATIENCE, ears.recv()).await.map_err(|_| "the deploy does not end")??;
        match told.payload().rsplit_once(' ') {
            Some((_, "success")) => return Ok(()),
            Some((_, state @ ("failed" | "aborted" | "superseded"))) => {
                return Err(format!("the deploy is {state}").into());
            }
            _ => {}
        }
    }
}

/// Waits until it is told.
async fn hear(ears: &mut PgListener, what: &str) -> Result<(), Failure> {
    let heard = async {
        while ears.recv().await?.payload() != what {}
        Ok::<_, Failure>(())
    };
    tokio::time::timeout(PATIENCE, heard).await.map_err(|_| format!("nothing is told of `{what}`"))?
}

fn millis(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1000.0
}

/// The middle one, the one that 99 of 100 do not exceed, and the worst.
fn spread(mut times: Vec<f64>) -> Value {
    times.sort_by(f64::total_cmp);
    let at = |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1))).copied();
    json!({"p50": at(50), "p99": at(99), "worst": times.last(), "count": times.len()})
}
