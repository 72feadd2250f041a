//! What is reached by changes is what is reached directly: the same objects in two namespaces, in one of them as they are, in the
//! other after having been something else; some are changed while they are still busy with what they were first.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{
    generator::{PROJECTS, SERVICES},
    stand::{KINDS, NAMESPACE, Stand, WAITS, ask, path, setting},
};

/// Where objects have had another life.
const CHANGED: &str = "changed";

/// Kinds of what a stage runs as, and where they are listed.
const CHILDREN: [(&str, &str); 3] =
    [("apps/v1", "deployments"), ("v1", "services"), ("networking.k8s.io/v1", "ingresses")];

/// What is settled once and for all: kind, fields.
const FIXED: [(&str, &[&str]); 2] = [("Stage", &["project"]), ("Environment", &["project", "base", "isolation"])];

/// What depends on more than the objects: time that ran out, and what served before.
const FAILED: [&str; 2] = ["DeployFailed", "RolledBack"];

/// An object, and what it was first where it has had another life.
struct Pair {
    kind: &'static str,
    plural: &'static str,
    name: String,
    last: Value,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_reached_by_changes_is_what_is_reached_directly() {
    let (count, seed) = (setting("STAGEKEEPER_TEST_CHANGES", 40), setting("STAGEKEEPER_TEST_SEED", 20_261_122));
    println!("STAGEKEEPER_TEST_CHANGES={count} STAGEKEEPER_TEST_SEED={seed}");
    let mut stand = Stand::new("changes", seed).await;
    stand.namespace(CHANGED).await;
    let projects = &PROJECTS[..PROJECTS.len() - 1];
    for name in projects {
        stand.declare(NAMESPACE, name, &SERVICES, "1.0.0").await;
        stand.declare(CHANGED, name, &SERVICES[..2], "1.1.0").await;
    }
    let mut operator = stand.operator().await;
    let mut pairs = Vec::new();
    for number in 0..count {
        pairs.extend(stand.pair(number).await);
    }
    assert!(pairs.len() * 2 > usize::try_from(count).unwrap(), "too few were taken for this to say anything");
    // Every other one at once, and the rest when they have become what they were first.
    let (hurried, patient): (Vec<_>, Vec<_>) = pairs.iter().enumerate().partition(|(number, _)| number % 2 == 0);
    for (_, pair) in hurried {
        stand.change(pair).await;
    }
    stand.at_rest(&mut operator).await;
    for name in projects {
        let spec = stand.services(&SERVICES, "1.0.0");
        stand.replace("projects", name, &spec).await;
    }
    for (_, pair) in patient {
        stand.change(pair).await;
    }
    stand.at_rest(&mut operator).await;

    let mut differ = Vec::new();
    let mut outcomes = BTreeMap::new();
    for pair in &pairs {
        let outcome = stand.compare(pair).await;
        if let Err(difference) = &outcome {
            differ.push(format!("{} {}: {difference}\n{}", pair.kind, pair.name, pair.last));
        }
        *outcomes.entry(outcome.unwrap_or("differs")).or_insert(0) += 1;
    }
    println!("{outcomes:?}");
    assert!(differ.is_empty(), "{}", differ.join("\n\n"));
    assert!(outcomes.get("Ready").is_some_and(|ready| *ready > 0), "none is Ready, so nothing was compared");
    operator.stop().await;
}

impl Stand {
    /// Makes an object in both namespaces, in one of them as something else first, if the API server takes both.
    async fn pair(&mut self, number: u64) -> Option<Pair> {
        let (kind, plural, _) = KINDS[self.chance.below(KINDS.len())];
        let name = format!("{}{number}", kind[..1].to_lowercase());
        let last = self.object(kind, &name);
        let (code, made) = self.persist("POST", &path(NAMESPACE, plural), last).await;
        if code != 201 {
            return None;
        }
        let last = made["spec"].clone();
        let mut first = self.object(kind, &name);
        let is_object = first["spec"].is_object();
        for (_, fields) in FIXED.iter().filter(|(of, _)| *of == kind && is_object) {
            for field in *fields {
                first["spec"][*field] = last[*field].clone();
            }
        }
        let (code, _) = self.persist("POST", &path(CHANGED, plural), first).await;
        if code != 201 {
            let (code, said) =
                ask(&self.client, "DELETE", &format!("{}/{name}", path(NAMESPACE, plural)), &Value::Null).await;
            assert_eq!(code, 200, "{said}");
            return None;
        }
        Some(Pair { kind, plural, name, last })
    }

    /// Makes it what the other one was from the first.
    async fn change(&self, pair: &Pair) {
        self.replace(pair.plural, &pair.name, &pair.last).await;
    }

    async fn replace(&self, plural: &str, name: &str, spec: &Value) {
        let path = format!("{}/{name}", path(CHANGED, plural));
        loop {
            let (_, mut object) = ask(&self.client, "GET", &path, &Value::Null).await;
            object["spec"] = spec.clone();
            match ask(&self.client, "PUT", &path, &object).await {
                (200, _) => return,
                // Somebody wrote meanwhile.
                (409, _) => {}
                (_, said) => panic!("{plural} {name}: {said}"),
            }
        }
    }

    /// Whether both are the same now; what they are.
    async fn compare(&self, pair: &Pair) -> Result<&'static str, String> {
        let mut both = Vec::new();
        for namespace in [NAMESPACE, CHANGED] {
            let path = format!("{}/{}", path(namespace, pair.plural), pair.name);
            let (code, object) = ask(&self.client, "GET", &path, &Value::Null).await;
            if code == 404 || object["metadata"]["deletionTimestamp"].is_string() {
                // An environment whose time was over.
                return Ok("gone");
            }
            both.push(object["status"].clone());
        }
        let [direct, changed] = &both[..] else { unreachable!() };
        let (said, says) = (conditions(direct), conditions(changed));
        if has(&said, &FAILED) || has(&says, &FAILED) {
            return Ok("failed");
        }
        if said != says {
            // What waits for something goes on with what it has, and may have had it before.
            return if has(&said, &WAITS) || has(&says, &WAITS) {
                Ok("waits")
            } else {
                Err(format!("{said:?}\nafter a change {says:?}"))
            };
        }
        if said.get("Ready").is_none_or(|(status, _)| status != "True") {
            return Ok("not ready");
        }
        if pair.kind == "Stage" {
            let of = |status: &Value| status["active"].as_str().unwrap_or_default().to_owned();
            let here = self.children(NAMESPACE, &pair.name, &of(direct)).await;
            let there = self.children(CHANGED, &pair.name, &of(changed)).await;
            if here != there {
                let only: Vec<&String> = here.symmetric_difference(&there).collect();
                return Err(format!("only in one of them: {only:#?}"));
            }
        }
        Ok("Ready")
    }

    /// What runs of a stage: its instance with the traffic, and what all instances share.
    async fn children(&self, namespace: &str, stage: &str, active: &str) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for (version, plural) in CHILDREN {
            let api = if version == "v1" { "/api/v1".to_owned() } else { format!("/apis/{version}") };
            let query = format!("labelSelector=stagekeeper.dev/stage%3D{stage}");
            let path = format!("{api}/namespaces/{namespace}/{plural}?{query}");
            let (_, listed) = ask(&self.client, "GET", &path, &Value::Null).await;
            for object in listed["items"].as_array().unwrap() {
                let instance = object["metadata"]["labels"]["stagekeeper.dev/instance"].as_str();
                if instance.is_none_or(|instance| instance == active) {
                    all.insert(plain(object, namespace, active));
                }
            }
        }
        all
    }
}

/// The conditions with their reasons. What sleeps, serves whoever comes.
fn conditions(status: &Value) -> BTreeMap<String, (String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().replace("Asleep", "Serving");
    let all = status["conditions"].as_array().into_iter().flatten();
    all.map(|one| (text(&one["type"]), (text(&one["status"]), text(&one["reason"])))).collect()
}

/// Whether a condition has one of these reasons.
fn has(conditions: &BTreeMap<String, (String, String)>, reasons: &[&str]) -> bool {
    conditions.values().any(|(_, reason)| reasons.contains(&reason.as_str()))
}

/// An object without what the cluster chose, and without the names of its namespace, its instance and its deploy.
fn plain(object: &Value, namespace: &str, active: &str) -> String {
    let metadata = &object["metadata"];
    let mut spec = object["spec"].clone();
    if let Some(fields) = spec.as_object_mut() {
        for chosen in ["clusterIP", "clusterIPs"] {
            fields.remove(chosen);
        }
    }
    let mut rest = json!({"name": metadata["name"], "labels": metadata["labels"], "spec": spec});
    strip(&mut rest);
    let text = rest.to_string();
    let text = if active.is_empty() { text } else { text.replace(active, "INSTANCE") };
    text.replace(namespace, "NAMESPACE")
}

/// Takes out what differs between any two deploys: which they are, and addresses.
fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| {
                !matches!(name.as_str(), "stagekeeper.dev/deploy" | "stagekeeper.dev/snapshot" | "ip")
            });
            fields.values_mut().for_each(strip);
        }
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}
