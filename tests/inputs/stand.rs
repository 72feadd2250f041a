//! The cluster, the operator, and what becomes of the objects.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::{Duration, Instant},
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

use crate::{
    chance::Chance,
    generator::{Generator, PROJECTS, SERVICES},
    process::Process,
    registry::Registry,
    throwaway::Throwaway,
};

pub const NAMESPACE: &str = "inputs";
const GROUP: &str = "/apis/stagekeeper.dev/v1alpha1";
/// How long all of them may take to come to rest. Generous: the machine may be small and busy.
const DEADLINE: Duration = Duration::from_mins(4);

/// The kinds, and how many of a hundred objects are of each.
pub const KINDS: [(&str, &str, usize); 3] =
    [("Project", "projects", 40), ("Stage", "stages", 40), ("Environment", "environments", 20)];

/// What something may wait for without an end: somebody else, or time. Whatever else is under way has to end.
pub const WAITS: [&str; 14] = [
    "CredentialMissing",
    "DeployPending",
    "Ending",
    "EnvironmentPending",
    "ImagesUnknown",
    "NoMatchingTag",
    "NothingPromoted",
    "Queued",
    "RegistryAnswerMalformed",
    "RegistryUnavailable",
    "RegistryUnreachable",
    "SecretMissing",
    "Suspended",
    "TagNotFound",
];

/// An answer of the API server: its code, and the object or what is wrong.
type Answer = (u16, Value);

pub struct Stand {
    pub client: Client,
    cluster: Throwaway,
    /// Names the log of the operator.
    word: &'static str,
    schemas: BTreeMap<&'static str, Value>,
    pub registry: Registry,
    pub chance: Chance,
    accepted: BTreeSet<(&'static str, String)>,
    refused: usize,
}

/// A number in the environment.
pub fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().expect("a number"))
}

/// Where objects of a kind are.
pub fn path(namespace: &str, plural: &str) -> String {
    format!("{GROUP}/namespaces/{namespace}/{plural}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_taken_comes_to_rest_with_a_reason() {
    let (count, seed) = (setting("STAGEKEEPER_TEST_INPUTS", 150), setting("STAGEKEEPER_TEST_SEED", 20_261_122));
    println!("STAGEKEEPER_TEST_INPUTS={count} STAGEKEEPER_TEST_SEED={seed}");
    let mut stand = Stand::new("inputs", seed).await;
    for name in PROJECTS.iter().take(PROJECTS.len() - 1) {
        stand.declare(NAMESPACE, name, &SERVICES, "1.0.0").await;
    }
    // Half of them are there before the operator is, with whatever stands in their status.
    stand.make_many(0..count / 2).await;
    let mut operator = stand.operator().await;
    stand.make_many(count / 2..count).await;
    println!("{} were taken, {} were not", stand.accepted.len(), stand.refused);
    assert!(stand.accepted.len() * 2 > usize::try_from(count).unwrap(), "too few were taken for this to say anything");

    let reasons = stand.at_rest(&mut operator).await;
    println!("{reasons:?}");
    let documented = documentation();
    let unsaid: Vec<&String> = reasons.keys().filter(|reason| !documented.contains(reason.as_str())).collect();
    assert!(unsaid.is_empty(), "the documentation does not say what these mean: {unsaid:?}");
    stand.remove(&mut operator).await;
    operator.stop().await;
}

impl Stand {
    /// A cluster whose name begins with `word`, with the namespace [`NAMESPACE`].
    pub async fn new(word: &'static str, seed: u64) -> Self {
        let cluster = Throwaway::up(word, "kwok").await;
        let read = Kubeconfig::read_from(cluster.kubeconfig()).unwrap();
        let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap();
        let client = Client::try_from(config).unwrap();
        let mut schemas = BTreeMap::new();
        for definition in stagekeeper::api::crds() {
            let definition = serde_json::to_value(definition).unwrap();
            let (kind, ..) = KINDS.into_iter().find(|(kind, ..)| definition["spec"]["names"]["kind"] == *kind).unwrap();
            schemas.insert(kind, definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone());
            let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
            let (code, said) = ask(&client, "POST", path, &definition).await;
            assert_eq!(code, 201, "{said}");
        }
        let registry = Registry::start().await;
        let chance = Chance::new(seed);
        let stand = Self { client, cluster, word, schemas, registry, chance, accepted: BTreeSet::new(), refused: 0 };
        for (_, plural, _) in KINDS {
            stand
                .wait("the kinds are served", async || {
                    let (code, _) = ask(&stand.client, "GET", &format!("{GROUP}/{plural}"), &Value::Null).await;
                    (code == 200).then_some(())
                })
                .await;
        }
        stand.namespace(NAMESPACE).await;
        stand
    }

    pub async fn namespace(&self, name: &str) {
        let namespace = json!({"metadata": {"name": name}});
        let (code, said) = ask(&self.client, "POST", "/api/v1/namespaces", &namespace).await;
        assert_eq!(code, 201, "{said}");
    }

    pub async fn operator(&self) -> Process {
        let server = self.cluster.postgres();
        let mut connection = PgConnection::connect(server).await.unwrap();
        sqlx::query("CREATE DATABASE inputs").execute(&mut connection).await.unwrap();
        let database = format!("{}/inputs", server.rsplit_once('/').unwrap().0);
        let key = format!("2026:{}", "5a".repeat(32));
        let settings = [
            ("DATABASE_URL", &*database),
            ("KUBECONFIG", self.cluster.kubeconfig()),
            ("STAGEKEEPER_LEASE_NAMESPACE", "default"),
            ("STAGEKEEPER_PREVIEW_URL", "http://preview.test:8088"),
            ("STAGEKEEPER_ENCRYPTION_KEYS", &key),
        ];
        let log = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.log", self.word));
        Process::start(env!("CARGO_BIN_EXE_stagekeeper"), &log, &settings).await
    }

    async fn make_many(&mut self, numbers: std::ops::Range<u64>) {
        for number in numbers {
            let mut chosen = self.chance.below(100);
            for (kind, plural, share) in KINDS {
                if chosen < share {
                    let letter = kind[..1].to_lowercase();
                    self.make(kind, plural, &format!("{letter}{number}")).await;
                    break;
                }
                chosen -= share;
            }
        }
    }

    /// A project that can be deployed, for stages and environments to run.
    pub async fn declare(&mut self, namespace: &str, name: &str, services: &[&str], tag: &str) {
        let object = json!({
            "apiVersion": "stagekeeper.dev/v1alpha1",
            "kind": "Project",
            "metadata": {"name": name},
            "spec": self.services(services, tag),
        });
        let (code, said) = ask(&self.client, "POST", &path(namespace, "projects"), &object).await;
        assert_eq!(code, 201, "{said}");
        self.accepted.insert(("projects", name.to_owned()));
    }

    /// What a project declares.
    pub fn services(&self, services: &[&str], tag: &str) -> Value {
        let service = |name: &&str| {
            json!({
                "name": name,
                "image": {"repository": format!("{}/shop/{name}", self.registry.host), "tag": tag, "insecure": true},
                "ports": [{"name": "http", "port": 8080}],
            })
        };
        json!({"services": services.iter().map(service).collect::<Vec<_>>()})
    }

    /// One object. What the API server says against it is taken out, a few times: so most of them get in with what it has nothing
    /// against.
    async fn make(&mut self, kind: &'static str, plural: &'static str, name: &str) {
        let mut object = self.object(kind, name);
        let schema = &self.schemas[kind]["properties"]["status"];
        let mut generator = Generator { chance: &mut self.chance, host: &self.registry.host };
        if generator.chance.percent(30) {
            object["metadata"]["annotations"] = generator.annotations().into();
        }
        let status = generator.value("status", schema, 0);
        let (code, made) = self.persist("POST", &path(NAMESPACE, plural), object).await;
        if code != 201 {
            self.refused += 1;
            return;
        }
        self.accepted.insert((plural, name.to_owned()));
        if self.chance.percent(30) {
            let patch = json!({"status": status, "metadata": {"uid": made["metadata"]["uid"]}});
            self.persist("PATCH", &format!("{}/{name}/status", path(NAMESPACE, plural)), patch).await;
        }
    }

    /// An object with anything in it that the schema has a word for.
    pub fn object(&mut self, kind: &str, name: &str) -> Value {
        let mut generator = Generator { chance: &mut self.chance, host: &self.registry.host };
        json!({
            "apiVersion": "stagekeeper.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": name},
            "spec": generator.value("spec", &self.schemas[kind]["properties"]["spec"], 0),
        })
    }

    pub async fn persist(&self, verb: &str, path: &str, mut object: Value) -> Answer {
        for _ in 0..12 {
            let (code, said) = ask(&self.client, verb, path, &object).await;
            let causes = said["details"]["causes"].as_array().cloned().unwrap_or_default();
            let before = object.clone();
            for cause in &causes {
                let field = cause["field"].as_str().unwrap_or_default();
                take_out(&mut object, field, cause["reason"] == "FieldValueRequired");
            }
            if code != 422 || object == before {
                return (code, said);
            }
        }
        (422, Value::Null)
    }

    /// Waits until each says where it stands, and gives the reasons with how many there are.
    pub async fn at_rest(&self, operator: &mut Process) -> BTreeMap<String, usize> {
        let since = Instant::now();
        loop {
            assert!(operator.runs(), "the operator has ended:\n{}", operator.tail());
            let (mut moving, mut reasons) = (Vec::new(), BTreeMap::new());
            for (kind, plural, _) in KINDS {
                let (_, listed) = ask(&self.client, "GET", &format!("{GROUP}/{plural}"), &Value::Null).await;
                for object in listed["items"].as_array().unwrap() {
                    match rest(object) {
                        Ok(reason) => *reasons.entry(reason).or_insert(0) += 1,
                        Err(why) => moving.push(format!("{kind} {}: {why}", object["metadata"]["name"])),
                    }
                }
            }
            if moving.is_empty() {
                return reasons;
            }
            let all = moving.len();
            moving.truncate(20);
            assert!(since.elapsed() < DEADLINE, "{all} do not come to rest:\n{}", moving.join("\n"));
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Whatever they hold, they can be deleted.
    pub async fn remove(&self, operator: &mut Process) {
        for (_, plural, _) in KINDS.into_iter().rev() {
            let (code, said) = ask(&self.client, "DELETE", &path(NAMESPACE, plural), &Value::Null).await;
            assert_eq!(code, 200, "{said}");
            self.wait(&format!("{plural} are gone"), async || {
                let (_, listed) = ask(&self.client, "GET", &path(NAMESPACE, plural), &Value::Null).await;
                listed["items"].as_array().unwrap().is_empty().then_some(())
            })
            .await;
            assert!(operator.runs(), "the operator has ended:\n{}", operator.tail());
        }
    }

    async fn wait<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let since = Instant::now();
        loop {
            if let Some(found) = look().await {
                return found;
            }
            assert!(since.elapsed() < DEADLINE, "waited in vain: {what}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// Why an object is at rest, or what it still lacks.
fn rest(object: &Value) -> Result<String, String> {
    let generation = &object["metadata"]["generation"];
    let status = &object["status"];
    if status["observedGeneration"] != *generation {
        return Err(format!("{} of {generation} is observed", status["observedGeneration"]));
    }
    let condition = |type_: &str| -> Option<&Value> {
        status["conditions"].as_array().into_iter().flatten().find(|condition| condition["type"] == type_)
    };
    let ready = condition("Ready").ok_or("it does not say whether it is ready")?;
    for found in [Some(ready), condition("Stalled"), condition("Reconciling")].into_iter().flatten() {
        if found["observedGeneration"] != *generation || found["reason"] == "" {
            return Err(format!("{found} is not of generation {generation}, or has no reason"));
        }
    }
    let is_true = |type_: &str| condition(type_).filter(|found| found["status"] == "True");
    let told = |found: &Value| found["reason"].as_str().unwrap_or_default().to_owned();
    if let Some(found) = is_true("Ready").or_else(|| is_true("Stalled")) {
        return Ok(told(found));
    }
    match is_true("Reconciling") {
        Some(found) if WAITS.contains(&told(found).as_str()) => Ok(told(found)),
        // For somebody to change the quota, until its time is over.
        Some(found) if found["message"].as_str().is_some_and(|text| text.contains("exceeded quota")) => Ok(told(found)),
        Some(found) => Err(format!("{}: {}", told(found), found["message"])),
        None => Err(format!("not ready, and nothing is done about it: {ready}")),
    }
}

/// Takes a field out of an object; what has it, if it may not be missing.
fn take_out(object: &mut Value, field: &str, with_its_owner: bool) {
    let mut steps: Vec<&str> = field.split(['.', '[', ']']).filter(|step| !step.is_empty()).collect();
    if with_its_owner {
        steps.pop();
    }
    // A rule of the whole says nothing about a field.
    let Some((last, path)) = steps.split_last().filter(|(_, path)| !path.is_empty()) else { return };
    let mut at = object;
    for step in path {
        let next = match at {
            Value::Array(items) => step.parse::<usize>().ok().and_then(|number| items.get_mut(number)),
            Value::Object(fields) => fields.get_mut(*step),
            _ => None,
        };
        let Some(next) = next else { return };
        at = next;
    }
    match at {
        Value::Array(items) => {
            if let Some(number) = last.parse::<usize>().ok().filter(|number| *number < items.len()) {
                items.remove(number);
            }
        }
        Value::Object(fields) => drop(fields.remove(*last)),
        _ => {}
    }
}

/// Asks the API server, and takes whatever it answers.
pub async fn ask(client: &Client, verb: &str, path: &str, body: &Value) -> Answer {
    let kind = if verb == "PATCH" { "application/merge-patch+json" } else { "application/json" };
    let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body).unwrap() };
    let request = http::Request::builder().method(verb).uri(path).header("content-type", kind).body(body).unwrap();
    match client.request::<Value>(request).await {
        Ok(object) if verb == "POST" => (201, object),
        Ok(object) => (200, object),
        Err(kube::Error::Api(status)) => (status.code, serde_json::to_value(status).unwrap()),
        Err(error) => panic!("{verb} {path}: {error}"),
    }
}

/// All pages.
fn documentation() -> String {
    fn read(folder: &Path) -> String {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let pages =
            entries.map(|path| if path.is_dir() { read(&path) } else { fs::read_to_string(path).unwrap_or_default() });
        pages.collect::<Vec<_>>().join("\n")
    }
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs"))
}
