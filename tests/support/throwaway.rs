//! A cluster, or a Postgres, of one test's own, to be broken. Removed with this value, whichever way the test ends.

use std::{collections::BTreeMap, path::Path, process::Output};

/// A cluster of `hack/cluster`.
pub struct Throwaway {
    name: String,
    variables: BTreeMap<String, String>,
}

impl Throwaway {
    /// Starts one whose name begins with `word`; what an interrupted run has left of it is used. The profiles are those
    /// of `hack/cluster`.
    pub async fn up(word: &str, profile: &str) -> Self {
        Self::up_with(word, profile, &[]).await
    }

    /// The same with more flags of `hack/cluster up`.
    pub async fn up_with(word: &str, profile: &str, more: &[&str]) -> Self {
        // Two checkouts can be tested at the same time.
        let checkout = env!("CARGO_MANIFEST_DIR")
            .bytes()
            .fold(7_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
        let mut cluster = Self { name: format!("{word}-{checkout:08x}"), variables: BTreeMap::new() };
        cluster.told("up", &[&["--profile", profile], more].concat()).await;
        for line in cluster.told("env", &[]).await.lines() {
            let (name, value) = line.trim_start_matches("export ").split_once('=').expect("NAME=VALUE");
            cluster.variables.insert(name.to_owned(), value.to_owned());
        }
        cluster
    }

    /// Its kubeconfig file.
    pub fn kubeconfig(&self) -> &str {
        &self.variables["STAGEKEEPER_TEST_KUBECONFIG"]
    }

    /// The URL of its Postgres.
    pub fn postgres(&self) -> &str {
        &self.variables["STAGEKEEPER_TEST_POSTGRES"]
    }

    /// Does something to one of its parts: `kill`, `start`, `stop`, `cont`.
    pub async fn part(&self, verb: &str, part: &str) {
        self.told(verb, &[part]).await;
    }

    /// Runs `hack/cluster VERB NAME ARGUMENTS…` and gives what it prints.
    async fn told(&self, verb: &str, arguments: &[&str]) -> String {
        let mut command = tokio::process::Command::from(command(verb, &self.name));
        said(command.args(arguments).output().await.expect("hack/cluster starts"))
    }
}

impl Drop for Throwaway {
    fn drop(&mut self) {
        let removed = command("down", &self.name).output().expect("hack/cluster starts");
        if !std::thread::panicking() {
            said(removed);
        }
    }
}

fn command(verb: &str, name: &str) -> std::process::Command {
    let mut command = std::process::Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/cluster"));
    command.args([verb, name]).stdin(std::process::Stdio::null());
    command
}

fn said(output: Output) -> String {
    assert!(output.status.success(), "hack/cluster: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
