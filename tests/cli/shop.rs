//! A shop's history: one release that serves, one that failed, one that waits.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use stagekeeper::{
    domain::{
        actor::Actor,
        clock::{Clock as _, SystemClock},
        deploy::{Phase, State, Transition},
        release::{Release, ReleaseImage},
    },
    store::{Advance, Creation, LogLevel, LogLine, NewDeploy, NewStage, NewVeto, Provenance, Store},
};
use uuid::Uuid;

use crate::postgres::TestDatabase;

const EPOCH: i64 = 1;

/// A database with the project `shop` and its stages `dev` and `prod` in one namespace.
pub(crate) struct Shop {
    pub(crate) database: TestDatabase,
    /// When the first deploy was asked for: ten days ago, so that ages do not change while a test runs.
    start: Timestamp,
}

/// Deploy `number`: the ids of all deploys begin alike, up to their thirteenth letter.
pub(crate) fn id(number: u8) -> Uuid {
    let text = format!("0193522a-8c1{number}-7000-8000-000000000000");
    Uuid::try_parse(&text).unwrap()
}

fn release(version: &str) -> Release {
    let image = ReleaseImage {
        repository: "registry.test/acme/shop".into(),
        tag: Some(version.into()),
        digest: format!("sha256:{}", version.replace('.', "").repeat(16)),
    };
    Release([("web".to_owned(), image)].into_iter().collect())
}

const TO_HEALTH_CHECKS: [(State, &str); 4] = [
    (State::Pulling, "Started"),
    (State::Starting, "ImagesPulled"),
    (State::ConfiguringProxy, "InstanceReady"),
    (State::HealthChecking, "RouteReady"),
];

impl Shop {
    /// `dev`: 1.0.0 succeeded, 2.0.0 was rolled back and is held back, 2.1.0 waits. `prod`: 1.0.0 succeeded.
    pub(crate) async fn new(namespace: &str) -> Self {
        let shop =
            Self { database: TestDatabase::new().await, start: SystemClock.now() - SignedDuration::from_hours(240) };
        let store = shop.store();
        let project = store.project_upsert(Uuid::from_u128(1), namespace, "shop").await;
        let project = project.unwrap().id;
        for (number, name) in [(2, "dev"), (3, "prod")] {
            let stage = NewStage {
                id: Uuid::from_u128(number),
                project_id: project,
                namespace: namespace.into(),
                name: name.into(),
                uid: format!("uid-{number}"),
            };
            store.stage_upsert(&stage).await.unwrap();
        }
        let (dev, prod) = (Uuid::from_u128(2), Uuid::from_u128(3));
        shop.deploy(1, dev, 1, "1.0.0", 0).await;
        let version = shop.walk(1, 1, &TO_HEALTH_CHECKS, 3).await;
        shop.step(1, version, (State::HealthChecking, State::Success), "TrafficSwitched", 7).await;

        shop.deploy(2, dev, 2, "2.0.0", 60).await;
        let version = shop.walk(2, 1, &TO_HEALTH_CHECKS, 63).await;
        shop.logs(2).await;
        let failing = (State::HealthChecking, State::Failed);
        let version = shop.step(2, version, failing, "ProbeFailed", 75).await;
        let rollback = Advance {
            veto: Some(NewVeto { id: Uuid::from_u128(9), reason: "GET /healthz answered 500".into() }),
            ..shop.advance(2, version, (State::Failed, State::RolledBack), "RolledBack", 77)
        };
        store.deploy_advance(&rollback).await.unwrap();

        shop.deploy(3, dev, 3, "2.1.0", 120).await;

        shop.deploy(4, prod, 1, "1.0.0", 180).await;
        let version = shop.walk(4, 1, &TO_HEALTH_CHECKS, 183).await;
        shop.step(4, version, (State::HealthChecking, State::Success), "TrafficSwitched", 190).await;
        shop
    }

    pub(crate) fn store(&self) -> &Store {
        &self.database.store
    }

    pub(crate) fn url(&self) -> &str {
        &self.database.url
    }

    pub(crate) fn at(&self, second: i64) -> Timestamp {
        self.start + SignedDuration::from_secs(second)
    }

    async fn deploy(&self, number: u8, target: Uuid, sequence: i64, version: &str, second: i64) {
        let release = release(version);
        let new = NewDeploy {
            id: id(number),
            target,
            sequence,
            snapshot_hash: format!("snapshot-{version}"),
            snapshot: json!({"release": release.id()}),
            release,
            instance: format!("shop-{number}"),
            actor: Actor::Policy,
            cause: format!("web {version} is newer"),
            request: None,
            provenance: Provenance::default(),
            settles: None,
            hold: None,
            lifts: None,
            veto: None,
            updates: Vec::new(),
            now: self.at(second),
            epoch: EPOCH,
        };
        assert_eq!(self.store().deploy_create(&new).await, Ok(Creation::Created));
    }

    fn advance(
        &self,
        number: u8,
        version: i64,
        (from, to): (State, State),
        reason: &'static str,
        second: i64,
    ) -> Advance {
        let message = match to {
            State::Failed => "GET /healthz answered 500, 5 times in a row",
            _ => "on its way",
        };
        Advance {
            id: id(number),
            version,
            epoch: EPOCH,
            steps: vec![Transition { from, to, reason, message: message.into() }],
            at: self.at(second),
            actor: Actor::Controller,
            close: None,
            evidence: false,
            instances: Vec::new(),
            veto: None,
            superseded_by: None,
            settles: None,
        }
    }

    pub(crate) async fn step(
        &self,
        number: u8,
        version: i64,
        way: (State, State),
        reason: &'static str,
        second: i64,
    ) -> i64 {
        let advance = self.advance(number, version, way, reason, second);
        self.store().deploy_advance(&advance).await.unwrap()
    }

    /// Takes a pending deploy through `steps`, one each second.
    pub(crate) async fn walk(&self, number: u8, mut version: i64, steps: &[(State, &'static str)], second: i64) -> i64 {
        let mut from = State::Pending;
        for (later, (to, reason)) in (0..).zip(steps) {
            version = self.step(number, version, (from, *to), reason, second + later).await;
            from = *to;
        }
        version
    }

    /// Brings the deploy that waits to its end.
    pub(crate) async fn finish(&self, number: u8) {
        let version = self.walk(number, 1, &TO_HEALTH_CHECKS, 130).await;
        let last = (State::HealthChecking, State::Success);
        self.step(number, version, last, "TrafficSwitched", 140).await;
    }

    /// A failing start: a hook, and lines from three sources.
    async fn logs(&self, number: u8) {
        let (store, deploy) = (self.store(), id(number));
        let (begun, ended) = (self.at(64), self.at(65));
        let begun = store.hook_begin(deploy, Phase::BeforeStart, "migrate", begun).await;
        begun.unwrap();
        let finished = store.hook_finish(deploy, Phase::BeforeStart, "migrate", true, "exit code 0", ended).await;
        assert_eq!(finished, Ok(true));
        self.line(number, 1, "hook/migrate", LogLevel::Info, "2 tables made").await;
        self.line(number, 2, "pod/web-0/web", LogLevel::Info, "listening\u{1b}[31m on 8080").await;
        self.line(number, 3, "probe", LogLevel::Error, "GET /healthz answered 500").await;
    }

    pub(crate) async fn line(&self, number: u8, seq: i64, source: &str, level: LogLevel, text: &str) {
        let line = LogLine { at: self.at(70 + seq), source: source.into(), seq, level, text: text.into() };
        let stored = self.store().logs_append(id(number), &[line]).await;
        assert_eq!(stored, Ok(1));
    }
}
