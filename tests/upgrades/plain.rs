//! By plain manifests, as the README says: definitions and rights are applied, and replicas of the program run beside the cluster.
//! Which of them leads is for the test to choose, so old and new lead in turn.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    ground::Ground,
    previous::{Previous, here},
    process::Process,
    story::{self, Version, Way},
};

/// The test.
pub async fn upgraded_and_rolled_back(ground: &mut Ground, previous: &Previous) {
    let server = ground.cluster.postgres().to_owned();
    story::query(&server, "DROP DATABASE IF EXISTS upgrades WITH (FORCE)").await;
    story::query(&server, "CREATE DATABASE upgrades").await;
    let database = format!("{}/upgrades", server.rsplit_once('/').unwrap().0);
    let mut way = Plain { previous, database, replicas: Vec::new(), started: 0 };
    story::tell(ground, &mut way).await;
    let said = way.program(Version::Previous, ground, &["migrate", "status"]);
    assert!(said.contains("newer"), "the previous release knows what it does not know: {said}");
    for replica in way.replicas.drain(..) {
        replica.process.stop().await;
    }
}

struct Plain<'a> {
    previous: &'a Previous,
    database: String,
    replicas: Vec<Replica>,
    started: usize,
}

impl Plain<'_> {
    /// The definitions and rights of a version, and a kubeconfig of the account that they are for.
    async fn apply(&self, ground: &Ground, source: &Path) {
        ground.shell(&format!("kubectl apply --server-side -f '{}'", source.join("crds").display())).await;
        for file in ["rbac.yaml", "roles.yaml", "policies.yaml"] {
            let path = source.join("examples/operator").join(file);
            ground.shell(&format!("kubectl apply --server-side -f '{}'", path.display())).await;
        }
        let token = ground.shell("kubectl create token stagekeeper --namespace stagekeeper --duration 2h").await;
        let mut config: serde_json::Value =
            serde_json::from_str(&ground.shell("kubectl config view --raw --minify --output json").await).unwrap();
        config["users"][0]["user"] = serde_json::json!({"token": token.trim()});
        ground.write("account.json", &config.to_string());
    }

    fn binary(&self, version: Version) -> &str {
        if version == Version::This { env!("CARGO_BIN_EXE_stagekeeper") } else { &self.previous.binary }
    }

    /// Runs a command of the program.
    fn program(&self, version: Version, ground: &Ground, arguments: &[&str]) -> String {
        let mut command = Command::new(self.binary(version));
        command.args(arguments).env("DATABASE_URL", &self.database).current_dir(&ground.folder).stdin(Stdio::null());
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
        said
    }

    async fn start(&mut self, version: Version, ground: &Ground) {
        self.started += 1;
        let word = if version == Version::This { "this" } else { "previous" };
        let name = format!("{word}-{}", self.started);
        let account = ground.folder.join("account.json");
        let settings = [
            ("DATABASE_URL", &*self.database),
            ("KUBECONFIG", &account.to_string_lossy()),
            ("STAGEKEEPER_LEASE_NAMESPACE", "stagekeeper"),
            ("STAGEKEEPER_LEASE_IDENTITY", &name),
        ];
        let log = ground.folder.join(format!("{name}.log"));
        let process = Process::start(self.binary(version), &log, &settings).await;
        self.replicas.push(Replica { process, name, version });
    }

    /// All of a version end, one after the other, as if they had been told to; the other one leads.
    async fn stop(&mut self, version: Version, ground: &Ground) {
        while let Some(at) = self.replicas.iter().position(|replica| replica.version == version) {
            self.replicas.remove(at).process.stop().await;
        }
        ground
            .wait("the other version leads", async || {
                let leading = story::leading(ground, self).await;
                (leading != version && leading != Version::None).then_some(())
            })
            .await;
    }
}

impl Way for Plain<'_> {
    fn folder(&self) -> &'static str {
        "plain"
    }

    async fn install(&mut self, ground: &mut Ground) {
        self.apply(ground, &self.previous.source).await;
        self.program(Version::Previous, ground, &["migrate", "up"]);
        self.start(Version::Previous, ground).await;
        self.start(Version::Previous, ground).await;
    }

    async fn upgrade(&mut self, ground: &mut Ground) {
        self.apply(ground, here()).await;
        self.program(Version::This, ground, &["migrate", "up"]);
        story::expand(&self.database).await;
        self.start(Version::This, ground).await;
        self.stop(Version::Previous, ground).await;
        // A rolling upgrade that stands still half way: an old one is started again, and leads what the new one led.
        self.start(Version::Previous, ground).await;
        self.stop(Version::This, ground).await;
        self.start(Version::This, ground).await;
        self.stop(Version::Previous, ground).await;
        self.start(Version::This, ground).await;
    }

    async fn roll_back(&mut self, ground: &mut Ground) {
        // Definitions and schema stay as they are.
        assert_eq!(self.program(Version::Previous, ground, &["migrate", "up"]), "nothing to do\n");
        self.start(Version::Previous, ground).await;
        self.start(Version::Previous, ground).await;
        self.stop(Version::This, ground).await;
    }

    async fn database(&self, _: &Ground) -> String {
        self.database.clone()
    }

    async fn version(&self, _: &Ground, holder: &str) -> Version {
        let known = self.replicas.iter().find(|replica| replica.name == holder);
        known.map_or(Version::None, |replica| replica.version)
    }
}

/// A process, under the name that it has in the Lease.
struct Replica {
    process: Process,
    name: String,
    version: Version,
}
