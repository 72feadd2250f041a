//! What the store tests begin with: a project, stages, deploys.

use std::ops::Deref;

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgPool};
use stagekeeper::{
    domain::{
        actor::Actor,
        deploy::{State, Transition},
        release::{Release, ReleaseImage},
    },
    store::{
        Adopted, Advance, Creation, InstanceChange, InstanceStatus, NewDeploy, NewStage, NewVeto, Provenance, Store,
        StoreError,
    },
};
use uuid::Uuid;

use crate::postgres::TestDatabase;

pub(crate) const EPOCH: i64 = 7;

/// The way from pending to success, with the word for each step.
pub(crate) const WAY: [(State, &str); 5] = [
    (State::Pulling, "Started"),
    (State::Starting, "ImagesPulled"),
    (State::ConfiguringProxy, "InstanceReady"),
    (State::HealthChecking, "RouteReady"),
    (State::Success, "TrafficSwitched"),
];

/// A database with the project `shop` and a pool for statements that the store has no function for.
pub(crate) struct Shop {
    pub(crate) database: TestDatabase,
    pub(crate) sql: PgPool,
    pub(crate) project: Uuid,
}

impl Deref for Shop {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.database.store
    }
}

/// An identity that sorts by number.
pub(crate) fn id(number: u32) -> Uuid {
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + u128::from(number))
}

/// Seconds after a fixed beginning.
pub(crate) fn at(second: i64) -> Timestamp {
    let start: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
    start + SignedDuration::from_secs(second)
}

pub(crate) fn release(version: &str) -> Release {
    let image = ReleaseImage {
        repository: "registry.test/acme/shop".into(),
        tag: Some(version.into()),
        digest: format!("sha256:{version}"),
    };
    Release([("web".to_owned(), image)].into_iter().collect())
}

impl Shop {
    pub(crate) async fn new() -> Self {
        let database = TestDatabase::new().await;
        let sql = PgPool::connect(&database.url).await.unwrap();
        let project = database.store.project_upsert(id(1), "acme", "shop").await;
        Self { project: project.unwrap().id, database, sql }
    }

    pub(crate) async fn stage(&self, number: u32, name: &str) -> Uuid {
        let stage = NewStage {
            id: id(number),
            project_id: self.project,
            namespace: "acme".into(),
            name: name.into(),
            uid: format!("uid-{number}"),
        };
        self.stage_upsert(&stage).await.unwrap()
    }

    /// A deploy that exists and waits.
    pub(crate) async fn pending(&self, new: &NewDeploy) -> Uuid {
        assert_eq!(self.deploy_create(new).await, Ok(Creation::Created));
        new.id
    }

    /// Takes a waiting deploy through `steps`, each with a write of its own, and returns its version.
    pub(crate) async fn walk(&self, deploy: Uuid, steps: &[(State, &'static str)]) -> i64 {
        let mut from = State::Pending;
        let mut version = 1;
        for (second, (to, reason)) in (1..).zip(steps) {
            let advance = Advance { at: at(second), ..step(deploy, version, from, *to, reason) };
            version = self.deploy_advance(&advance).await.unwrap();
            from = *to;
        }
        version
    }

    /// A deploy that succeeded.
    pub(crate) async fn success(&self, new: &NewDeploy) -> Uuid {
        let deploy = self.pending(new).await;
        self.walk(deploy, &WAY).await;
        deploy
    }

    /// Runs a statement that the store has no function for.
    pub(crate) async fn run(&self, sql: &str) -> Result<u64, StoreError> {
        let done = sqlx::query(AssertSqlSafe(sql.to_owned()));
        Ok(done.execute(&self.sql).await?.rows_affected())
    }

    /// All rows of these tables, as text.
    pub(crate) async fn rows(&self, tables: impl IntoIterator<Item = impl AsRef<str>>) -> Vec<String> {
        let mut all = Vec::new();
        for table in tables {
            let table = table.as_ref();
            let sql = format!("SELECT row_to_json(t)::text FROM {table} AS t ORDER BY 1");
            let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&self.sql).await.unwrap();
            all.extend(rows.into_iter().map(|row| format!("{table} {row}")));
        }
        all
    }

    /// A number that the store has no function for.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_one(&self.sql).await.unwrap()
    }
}

/// Deploy `number` of a release of the same number of `target`.
pub(crate) fn new_deploy(target: Uuid, sequence: i64, number: u32) -> NewDeploy {
    let release = release(&format!("1.{number}.0"));
    NewDeploy {
        id: id(number),
        target,
        sequence,
        snapshot_hash: format!("snapshot-{number}"),
        snapshot: json!({"release": release.id(), "env": {"NUMBER": number}}),
        release,
        instance: format!("shop-{number}"),
        actor: Actor::Policy,
        cause: format!("web 1.{number}.0 is newer"),
        request: None,
        provenance: Provenance::default(),
        settles: None,
        hold: None,
        lifts: None,
        veto: None,
        updates: Vec::new(),
        now: at(0),
        epoch: EPOCH,
    }
}

/// The same deploy, found to serve and its row lost.
pub(crate) fn found(target: Uuid, sequence: i64, number: u32) -> Adopted {
    let new = new_deploy(target, sequence, number);
    Adopted {
        id: new.id,
        target,
        sequence,
        release: new.release,
        snapshot_hash: new.snapshot_hash,
        snapshot: new.snapshot,
        instance: new.instance,
        hooks: vec!["backup".into()],
        cause: "adopted".into(),
        now: at(9),
        epoch: EPOCH,
    }
}

pub(crate) fn transition(from: State, to: State, reason: &'static str) -> Transition {
    Transition { from, to, reason, message: format!("{from} to {to}") }
}

/// One step.
pub(crate) fn step(deploy: Uuid, version: i64, from: State, to: State, reason: &'static str) -> Advance {
    Advance {
        id: deploy,
        version,
        epoch: EPOCH,
        steps: vec![transition(from, to, reason)],
        at: at(1),
        actor: Actor::Controller,
        close: None,
        evidence: false,
        instances: Vec::new(),
        veto: None,
        superseded_by: None,
        settles: None,
    }
}

pub(crate) fn change(name: &str, status: InstanceStatus, deploy: Option<Uuid>) -> InstanceChange {
    InstanceChange { name: name.into(), status, deploy }
}

pub(crate) fn veto(number: u32) -> NewVeto {
    NewVeto { id: id(number), reason: "its health check failed".into() }
}
