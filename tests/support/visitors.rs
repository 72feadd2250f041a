//! Visitors: a client that asks a stage all the time while something happens to it, and remembers every answer.
//!
//! ```text
//! let visitors = Visitors::start(&env, "production-web", Connections::Fresh).await;
//! …
//! let visits = visitors.stop().await;
//! visits.assert_answered_by(&["shop 1.0.0", "shop 1.1.0"]);
//! ```

use std::{collections::BTreeMap, time::Duration};

use tokio::{
    sync::{oneshot, watch},
    task::JoinHandle,
};

use super::cluster::Env;

/// Time between two requests: a trickle, as tests may send to pods.
const PACE: Duration = Duration::from_millis(40);

/// What becomes of a connection after an answer.
#[derive(Clone, Copy)]
pub enum Connections {
    /// Each request has a new one.
    Fresh,
    /// All requests share one, as long as the server keeps it open.
    Kept,
}

/// A client that keeps asking.
pub struct Visitors {
    task: JoinHandle<Visits>,
    end: oneshot::Sender<()>,
    count: watch::Receiver<u32>,
}

/// What the client was told.
#[derive(Default, Debug)]
pub struct Visits {
    /// How often each answer came, such as `shop 1.0.0`.
    pub answers: BTreeMap<String, u32>,
    /// Requests that were not answered with success.
    pub failed: Vec<String>,
}

impl Visitors {
    /// Begins to ask `/` of a Service that exists, from its own address.
    pub async fn start(env: &Env, service: &str, connections: Connections) -> Self {
        let address = env.address(service).await.expect("the Service has an address");
        let idle = match connections {
            Connections::Fresh => 0,
            Connections::Kept => 1,
        };
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .pool_max_idle_per_host(idle)
            .no_proxy()
            .build()
            .expect("an HTTP client");
        let (end, mut ended) = oneshot::channel();
        let (tell, count) = watch::channel(0);
        let url = format!("http://{address}/");
        let task = tokio::spawn(async move {
            let mut visits = Visits::default();
            while ended.try_recv().is_err() {
                visits.visit(&client, &url).await;
                tell.send_modify(|count| *count += 1);
                tokio::time::sleep(PACE).await;
            }
            visits
        });
        Self { task, end, count }
    }

    /// Waits until so many more requests were answered, or failed.
    pub async fn more(&mut self, requests: u32) {
        let wanted = *self.count.borrow() + requests;
        self.count.wait_for(|count| *count >= wanted).await.expect("the client did not panic");
    }

    /// Asks no more, and gives what was answered.
    pub async fn stop(self) -> Visits {
        self.end.send(()).expect("the client still asks");
        self.task.await.expect("the client did not panic")
    }
}

impl Visits {
    async fn visit(&mut self, client: &reqwest::Client, url: &str) {
        let answer = async { client.get(url).send().await?.error_for_status()?.text().await };
        match answer.await {
            // `shop VERSION on HOST`
            Ok(body) => {
                let version = body.split(" on ").next().unwrap_or_default().to_owned();
                *self.answers.entry(version).or_default() += 1;
            }
            Err(error) => self.failed.push(format!("after {:?}: {error:?}", self.answers)),
        }
    }

    /// Fails unless every request was answered with success, by each of `versions` and by nobody else.
    pub fn assert_answered_by(&self, versions: &[&str]) {
        assert!(self.failed.is_empty(), "requests failed: {self:#?}");
        let seen: Vec<&str> = self.answers.keys().map(String::as_str).collect();
        assert_eq!(seen, versions, "{self:?}");
    }
}
