//! The operator as a process: started, stopped, killed, and its log judged at the end.
//!
//! ```text
//! let operator = Operator::start(&env).await;
//! operator.ready().await;
//! …
//! operator.stop().await;
//! ```
//! Whichever way a test ends, the process is killed. An `ERROR` line in the log fails the test;
//! when the test fails for another reason, the log's tail is shown.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use tokio::net::TcpListener;

use super::cluster::Env;

/// How long the operator may take to get ready, or to stop.
const PATIENCE: Duration = Duration::from_mins(1);

/// How many lines of its log a failed test shows.
const TAIL: usize = 60;

/// A running operator.
pub struct Operator {
    child: Child,
    /// Where its log is.
    pub log: PathBuf,
    /// Where its HTTP port is, such as `http://127.0.0.1:8080`.
    pub address: String,
    http: reqwest::Client,
    judged: bool,
}

impl Operator {
    /// Starts one for the namespace and database of `env`.
    pub async fn start(env: &Env) -> Self {
        Self::start_with(env, &[]).await
    }

    /// Starts one with further or other environment variables.
    pub async fn start_with(env: &Env, variables: &[(&str, &str)]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("operators");
        fs::create_dir_all(&folder).expect("a folder for logs");
        let log = folder.join(format!("{}-{number}.log", env.namespace));
        let file = File::create(&log).expect("a log");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        drop(listener);
        let mut command = Command::new(env!("CARGO_BIN_EXE_stagekeeper"));
        command
            .arg("controller")
            .env("DATABASE_URL", &env.database.url)
            .env("KUBECONFIG", &env.kubeconfig)
            .env("STAGEKEEPER_NAMESPACES", &env.namespace)
            .env("STAGEKEEPER_LEASE_NAMESPACE", &env.namespace)
            .env("STAGEKEEPER_LEASE_IDENTITY", format!("operator-{number}"))
            .env("STAGEKEEPER_PORT", port.to_string())
            .env("STAGEKEEPER_LOG", "info,stagekeeper=debug")
            .env("STAGEKEEPER_LOG_FORMAT", "json")
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("the log again"))
            .stderr(file);
        for (name, value) in variables {
            command.env(name, value);
        }
        Self {
            child: command.spawn().expect("the operator starts"),
            log,
            address: format!("http://127.0.0.1:{port}"),
            http: env.http.clone(),
            judged: false,
        }
    }

    /// Waits until it says that it is ready.
    pub async fn ready(&self) {
        let url = format!("{}/readyz", self.address);
        let started = Instant::now();
        loop {
            match self.http.get(&url).send().await {
                Ok(answer) if answer.status().is_success() => return,
                outcome => assert!(started.elapsed() < PATIENCE, "the operator did not get ready: {outcome:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, such as `STOP`.
    pub fn signal(&self, name: &str) {
        let sent =
            Command::new("sh").args(["-c", &format!("kill -s {name} {}", self.pid())]).status().expect("sh starts");
        assert!(sent.success(), "signal {name} was not sent");
    }

    /// Kills it at once, as a crash would. Its log is judged.
    pub fn kill9(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("ended");
        self.judge();
    }

    /// Asks it to end, waits until it has, and judges its log.
    pub async fn stop(mut self) {
        self.signal("TERM");
        let started = Instant::now();
        let ended: ExitStatus = loop {
            if let Some(ended) = self.child.try_wait().expect("its status") {
                break ended;
            }
            assert!(started.elapsed() < PATIENCE, "SIGTERM did not end it");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert!(ended.success(), "it ended with {ended}");
        self.judge();
    }

    /// Its metrics, as text.
    pub async fn metrics(&self) -> String {
        let url = format!("{}/metrics", self.address);
        let answer = self.http.get(url).send().await.expect("metrics");
        answer.text().await.expect("text")
    }

    /// How often it has written to the API server, not counting renewals of its Lease (the only `PUT`).
    pub async fn api_writes(&self) -> u64 {
        let text = self.metrics().await;
        let writes = text.lines().filter(|line| {
            line.starts_with("rest_client_requests_total")
                && ["PATCH", "POST", "DELETE"].iter().any(|method| line.contains(&format!("method=\"{method}\"")))
        });
        writes.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }

    /// What it has written to the API server, one line each, as its log tells: verb, path and answer.
    pub fn told_writes(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.log).expect("the log");
        let lines = text.lines().filter(|line| line.contains("wrote to the API server"));
        lines.map(str::to_owned).collect()
    }

    fn judge(&mut self) {
        self.judged = true;
        let text = fs::read_to_string(&self.log).expect("the log");
        let bad: Vec<&str> =
            text.lines().filter(|line| line.contains("\"level\":\"ERROR\"") || line.contains("panicked at")).collect();
        assert!(bad.is_empty(), "the operator's log {} holds errors:\n{}", self.log.display(), bad.join("\n"));
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let text = fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let tail = &lines[lines.len().saturating_sub(TAIL)..];
            eprintln!("the end of {}:\n{}", self.log.display(), tail.join("\n"));
        } else if !self.judged {
            self.judge();
        }
    }
}
