//! The program as a process, beside a cluster: started with settings, asked to end, its log judged. For tests without an
//! [`Env`](super::cluster::Env), or with the program of another release.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tokio::net::TcpListener;

/// How long it may take to get ready, or to end.
const PATIENCE: Duration = Duration::from_mins(2);

/// Ended with this value, whichever way the test ends.
pub struct Process {
    child: Child,
    log: PathBuf,
    /// Where its HTTP port is.
    pub address: String,
}

impl Process {
    /// Starts `BINARY controller` with settings, and waits until it says that it is ready.
    pub async fn start(binary: &str, log: &Path, settings: &[(&str, &str)]) -> Self {
        let port =
            TcpListener::bind("127.0.0.1:0").await.expect("a free port").local_addr().expect("its address").port();
        let file = File::create(log).expect("a log");
        let mut command = Command::new(binary);
        command
            .arg("controller")
            .env("STAGEKEEPER_PORT", port.to_string())
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("the log again"))
            .stderr(file);
        let child = command.spawn().expect("it starts");
        let mut started = Self { child, log: log.to_owned(), address: format!("http://127.0.0.1:{port}") };
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().expect("a client");
        let url = format!("{}/readyz", started.address);
        let since = Instant::now();
        while !http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            assert!(started.runs() && since.elapsed() < PATIENCE, "it did not get ready:\n{}", started.tail());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        started
    }

    /// Whether it is still the process that was started.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("its status").is_none()
    }

    /// Asks it to end, waits until it has, and judges what it said.
    pub async fn stop(mut self) {
        let told = Command::new("sh").args(["-c", &format!("kill -s TERM {}", self.child.id())]).status();
        assert!(told.expect("sh starts").success(), "it is not there any more:\n{}", self.tail());
        let since = Instant::now();
        let ended = loop {
            if let Some(ended) = self.child.try_wait().expect("its status") {
                break ended;
            }
            assert!(since.elapsed() < PATIENCE, "SIGTERM did not end it:\n{}", self.tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        assert!(ended.success(), "it ended with {ended}:\n{}", self.tail());
        let said = fs::read_to_string(&self.log).expect("its log");
        let bad: Vec<&str> =
            said.lines().filter(|line| line.contains("\"level\":\"ERROR\"") || line.contains("panicked at")).collect();
        assert!(bad.is_empty(), "{} holds errors:\n{}", self.log.display(), bad.join("\n"));
    }

    /// The end of its log.
    pub fn tail(&self) -> String {
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
