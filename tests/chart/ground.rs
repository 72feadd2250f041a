//! A cluster with images for the chart, and the commands of `docs/install.md` on it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use kube::{
    Api, Client, Config,
    api::ListParams,
    config::{KubeConfigOptions, Kubeconfig},
    core::NamespaceResourceScope,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::process::Command;

use crate::throwaway::Throwaway;

/// How long anything may take. Generous: the machine may be small and busy.
pub const DEADLINE: Duration = Duration::from_mins(4);

/// The chart as the documentation names it.
const PUBLISHED: &str = "oci://ghcr.io/stagekeeper/charts/stagekeeper";

/// A cluster, a registry that its pods reach, and a folder for files.
pub struct Ground {
    pub cluster: Throwaway,
    pub client: Client,
    /// The registry as this machine names it.
    pub registry: String,
    /// The same as pods and nodes do.
    pub inside: String,
    /// The chart that lines of the documentation are run with.
    pub chart: PathBuf,
    pub folder: PathBuf,
    tools: String,
    state: PathBuf,
    /// What the API server was asked by the release's accounts.
    pub audit: PathBuf,
}

impl Ground {
    /// Starts it, with a volume for the database. More flags are those of `hack/cluster up`.
    pub async fn new(word: &str, more: &[&str]) -> Self {
        let cluster = Throwaway::up_with(word, "node", more).await;
        let kubeconfig = PathBuf::from(cluster.kubeconfig());
        let state = kubeconfig.parent().unwrap().to_owned();
        let read = Kubeconfig::read_from(&kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap();
        let settings = fs::read_to_string(state.join("settings")).unwrap();
        let setting = |name: &str| {
            let found = settings.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
            found.unwrap_or_else(|| panic!("the cluster has no {name}")).to_owned()
        };
        let (port, subnet) = (setting("registry_port"), setting("subnet"));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(word);
        fs::create_dir_all(&folder).unwrap();
        let ground = Self {
            client: Client::try_from(config).unwrap(),
            registry: format!("127.0.0.1:{port}"),
            inside: format!("10.{subnet}.0.2:{port}"),
            tools: setting("tools"),
            audit: state.join("log/audit.log"),
            chart: Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/stagekeeper"),
            folder,
            state,
            cluster,
        };
        ground.make_volume().await;
        ground.write_values(subnet.parse().unwrap());
        ground
    }

    /// An empty volume for the database, in place of one that was used.
    pub async fn make_volume(&self) {
        // Folders of the cluster's own provisioner belong to root. This one is the database's, as a real one's would be.
        let volume = self.state.join("node/tmp/database");
        self.shell("kubectl delete persistentvolume stagekeeper-database --ignore-not-found").await;
        self.shell(&format!("rm -rf '{0}' && mkdir -p '{0}' && chown 999:999 '{0}'", volume.display())).await;
        self.apply(include_str!("volume.yaml")).await;
    }

    /// What a cluster with names and public images would not need.
    fn write_values(&self, subnet: u8) {
        let values = include_str!("values.yaml")
            .replace("REGISTRY", &self.inside)
            .replace("SERVICES", &format!("10.{subnet}.128"));
        fs::write(self.folder.join("values.yaml"), values).unwrap();
    }

    /// Pushes an image of the operator's binary, stripped, as it is released.
    pub async fn push_operator(&self, tag: &str, binary: &str) {
        let stripped = self.folder.join(format!("stagekeeper-{tag}"));
        self.shell(&format!("test -e '{0}' -a '{0}' -nt '{binary}' || strip -o '{0}' '{binary}'", stripped.display()))
            .await;
        let reference = format!("{}/stagekeeper/stagekeeper:{tag}", self.registry);
        self.shell(&format!("hack/release-image push '{}' {reference}", stripped.display())).await;
    }

    /// Pushes the example application.
    pub async fn push_shop(&self, tag: &str, switches: &str) {
        self.shell(&format!("hack/image push {}/shop/web:{tag} {switches}", self.registry)).await;
    }

    /// Runs the commands of the block of shell below a heading of `docs/install.md`, one after the other.
    pub async fn follow(&self, heading: &str, more: &str) -> String {
        let mut said = String::new();
        for line in block(heading, "sh").lines() {
            said.push_str(&self.shell(&self.local(line, more)).await);
        }
        said
    }

    /// Runs a line of the documentation.
    pub async fn run(&self, line: &str, more: &str) -> String {
        self.shell(&self.local(line, more)).await
    }

    /// A line of the documentation for this chart and this cluster.
    fn local(&self, line: &str, more: &str) -> String {
        let values = self.folder.join("values.yaml");
        let given =
            if line.contains(" install ") { format!(" --values '{}'", values.display()) } else { String::new() };
        let line = line.replace(PUBLISHED, &format!("'{}'", self.chart.display()));
        if line.starts_with("helm install") || line.starts_with("helm upgrade") {
            return format!("{line}{given} --timeout 4m {more}");
        }
        line
    }

    /// Runs a line of shell in the folder of files, with kubectl and helm. Gives what it printed.
    pub async fn shell(&self, line: &str) -> String {
        let output = self.command(line).output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            panic!("{line}\n{said}{why}\n{}", self.look().await);
        }
        said
    }

    /// A line of shell.
    pub fn command(&self, line: &str) -> Command {
        let path = std::env::var("PATH").unwrap();
        let in_checkout = line.starts_with("hack/");
        let mut command = Command::new("bash");
        command
            .args(["-euo", "pipefail", "-c", line])
            .current_dir(if in_checkout { Path::new(env!("CARGO_MANIFEST_DIR")) } else { &self.folder })
            .env("PATH", format!("{}:{path}", self.tools))
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Writes a file for commands to come.
    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.join(name), text).unwrap();
    }

    /// Applies manifests.
    pub async fn apply(&self, text: &str) {
        self.write("applied.yaml", text);
        self.shell("kubectl apply --server-side -f applied.yaml").await;
    }

    /// What the embedded database answers.
    pub async fn query(&self, statement: &str) -> String {
        let psql = "psql --host=/var/run/postgresql --username=postgres --no-align --tuples-only stagekeeper";
        let line = format!(
            "kubectl exec --namespace stagekeeper stagekeeper-postgres-0 --container postgres -- {psql} --command=\"{statement}\""
        );
        self.shell(&line).await.trim().to_owned()
    }

    /// Objects of a namespace.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Objects of a namespace with these labels.
    pub async fn list<K>(&self, namespace: &str, labels: &str) -> Vec<K>
    where
        K: kube::Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        self.api::<K>(namespace).list(&ListParams::default().labels(labels)).await.unwrap().items
    }

    /// Waits until there is something.
    pub async fn wait<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let started = Instant::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(started.elapsed() < DEADLINE, "waited in vain: {what}\n{}", self.look().await);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// What a failed test shows.
    async fn look(&self) -> String {
        let mut said = String::new();
        for line in [
            "kubectl get pods,jobs,pvc --all-namespaces",
            "kubectl get stages --all-namespaces --output=wide",
            "kubectl get events --namespace stagekeeper | tail -n 20",
            "kubectl logs --namespace stagekeeper --selector=app.kubernetes.io/part-of=stagekeeper --all-containers --tail=15 | cut -c1-400",
        ] {
            let output = self.command(line).output().await.unwrap();
            said.extend(["$ ", line, "\n", &String::from_utf8_lossy(&output.stdout)]);
        }
        said
    }
}

/// The block of a language below a heading of `docs/install.md`.
pub fn block(heading: &str, language: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/install.md");
    let page = fs::read_to_string(path).unwrap();
    let (_, section) = page.split_once(&format!("# {heading}\n")).unwrap_or_else(|| panic!("there is no `{heading}`"));
    let section = section.split("\n#").next().unwrap();
    let (_, rest) =
        section.split_once(&format!("```{language}\n")).unwrap_or_else(|| panic!("{heading}: no {language}"));
    rest.split_once("\n```").unwrap().0.to_owned()
}

/// A field of an object, by a JSON pointer.
pub fn field<K: serde::Serialize>(object: &K, pointer: &str) -> Value {
    serde_json::to_value(object).unwrap().pointer(pointer).cloned().unwrap_or(Value::Null)
}
