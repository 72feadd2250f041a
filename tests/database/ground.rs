//! A stage that serves, an operator, and a database of the test's own: what every fault is put into.

use std::{
    io::{Write as _, stderr},
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use stagekeeper::domain::deploy::State;

use crate::{
    cluster::{DEADLINE, Env, kubeconfig},
    operator::Operator,
    story::{PLAIN, PROJECT, STAGE, Scene},
    visitors::{Connections, Visitors},
};

/// How long until what was held up goes on. What is promised is ten seconds, and what is measured is printed; this is for
/// machines that do other things meanwhile.
const RECOVERY: Duration = Duration::from_secs(30);

/// How long until readiness says that the database is away.
pub const NOTICED: Duration = Duration::from_secs(30);

/// Release 1.0.0 serves.
pub struct Ground {
    /// The stage and its proxies.
    pub scene: Scene,
    /// The operator.
    pub operator: Operator,
    /// Identities and restarts of what ran before the fault.
    running: Vec<(String, i32)>,
    visitors: Option<Visitors>,
}

impl Ground {
    /// Deploys the first release on a server.
    pub async fn begin(name: &str, server: &str) -> Self {
        let scene = Self::bare(name, server).await;
        Self::over(scene).await
    }

    /// A release, and nobody who wants it yet.
    pub async fn bare(name: &str, server: &str) -> Scene {
        let scene = Scene::over(Env::on(name, &kubeconfig(), server).await).await;
        scene.env.push("web", "1.0.0", &[]).await;
        scene
    }

    /// Declares the stage, and waits until it serves.
    pub async fn over(scene: Scene) -> Self {
        scene.env.apply(PROJECT).await;
        scene.env.apply(PLAIN).await;
        let operator = scene.operator().await;
        scene.settled(1, State::Success).await;
        let mut ground = Self { scene, operator, running: Vec::new(), visitors: None };
        ground.watch().await;
        ground
    }

    /// What runs now is what has to stay, and somebody visits it all the time.
    pub async fn watch(&mut self) {
        self.running = running(&self.scene.env).await;
        assert!(!self.running.is_empty());
        let visitors = Visitors::start(&self.scene.env, "production-web", Connections::Fresh).await;
        self.visitors = Some(visitors);
    }

    /// What ran when it was looked at last still does, and has answered everybody as `version`.
    pub async fn untouched(&mut self, version: &str) {
        let now = running(&self.scene.env).await;
        assert!(
            self.running.iter().all(|pod| now.contains(pod)),
            "what runs is left alone: {:?}, {now:?}",
            self.running
        );
        if let Some(mut visitors) = self.visitors.take() {
            visitors.more(5).await;
            visitors.stop().await.assert_answered_by(&[&format!("shop {version}")]);
        }
    }

    /// Waits until `/readyz` answers with this code, and gives how long that took.
    pub async fn answers(&self, code: u16, deadline: Duration) -> Duration {
        let begun = Instant::now();
        let what = format!("/readyz answers {code}");
        self.scene.env.wait(&what, deadline, async || (self.readiness().await == code).then_some(())).await;
        begun.elapsed()
    }

    /// What `/readyz` answers.
    pub async fn readiness(&self) -> u16 {
        reqwest::get(format!("{}/readyz", self.operator.address)).await.expect("it answers").status().as_u16()
    }

    /// Waits until the stage says this reason.
    pub async fn says(&self, reason: &str) {
        let what = format!("it says {reason}");
        let said = self.scene.env.until(STAGE, &what, |status| status.conditions.iter().any(|it| it.reason == reason));
        said.await;
    }

    /// Waits until a deploy is moved and the operator is ready, and tells how long after `back` that was.
    pub async fn goes_on(&self, fault: &str, back: Instant, steps: i64) {
        let next = async {
            self.scene
                .env
                .wait("a deploy is moved", DEADLINE, async || {
                    (self.steps().await.is_some_and(|now| now > steps)).then_some(())
                })
                .await;
            back.elapsed()
        };
        let ready = async {
            self.answers(200, DEADLINE).await;
            back.elapsed()
        };
        let (next, ready) = tokio::join!(next, ready);
        // Shown also when the test passes.
        let _ = writeln!(
            stderr(),
            "database: {fault} → next write {:.1} s, ready {:.1} s",
            next.as_secs_f32(),
            ready.as_secs_f32()
        );
        assert!(next < RECOVERY && ready < RECOVERY, "{fault}: it took too long");
    }

    /// How many steps of deploys are written down, if that can be read.
    pub async fn steps(&self) -> Option<i64> {
        number(&self.scene.env.database.url, "SELECT count(*) FROM deploy_transitions").await
    }

    /// Whatever was made was made once.
    pub fn undivided(&self) {
        let lives = self.scene.witness.lives();
        assert!(lives.values().all(|one| one.made == 1), "{lives:?}");
    }
}

/// A number that a database tells, if it does.
pub async fn number(url: &str, sql: &'static str) -> Option<i64> {
    let asked = async {
        let mut connection = PgConnection::connect(url).await.ok()?;
        sqlx::query_scalar(sql).fetch_one(&mut connection).await.ok()
    };
    tokio::time::timeout(Duration::from_secs(2), asked).await.ok()?
}

/// Runs statements one by one, each by itself.
pub async fn run(url: &str, statements: &[&str]) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    for sql in statements {
        let done = sqlx::raw_sql(AssertSqlSafe((*sql).to_owned())).execute(&mut connection).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

/// Identities and restarts of pods.
async fn running(env: &Env) -> Vec<(String, i32)> {
    let restarts = |pod: &Pod| {
        let status = pod.status.clone().unwrap_or_default();
        status.container_statuses.unwrap_or_default().iter().map(|container| container.restart_count).sum()
    };
    let pods = env.list::<Pod>().await.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    pods.map(|pod| (pod.uid().unwrap_or_default(), restarts(&pod))).collect()
}
