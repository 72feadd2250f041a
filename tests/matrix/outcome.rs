//! What a workload amounts to: what the database, the cluster and the providers hold at its end, in words that are the same in
//! every run.

use std::{collections::BTreeMap, sync::PoisonError};

use kube::{
    Api, ResourceExt as _,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams},
};
use regex::Regex;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use stagekeeper::{
    domain::deploy::{State, table::EDGES},
    render::names,
};

use crate::scene::Scene;

/// The rows of each table, as text. What is not in it is different from run to run: times, identities, and counters of tries.
const ROWS: [(&str, &str); 27] = [
    ("projects", "SELECT name || ' ' || (deleted_at IS NULL) FROM projects"),
    ("targets", "SELECT kind FROM targets"),
    ("stages", "SELECT name || ' ' || (deleted_at IS NULL) FROM stages"),
    ("audit_log", "SELECT concat_ws(' ', actor, action, subject) FROM audit_log"),
    ("releases", "SELECT images::text FROM releases"),
    ("snapshots", "SELECT 'one' FROM snapshots"),
    (
        "deploys",
        "SELECT concat_ws(' ', stages.name, sequence, images, instance, state, actor, cause, reason, \
         rollback_of IS NOT NULL, evidence_at IS NOT NULL, finished_at IS NOT NULL) \
         FROM deploys JOIN stages ON stages.id = target_id",
    ),
    (
        "deploy_transitions",
        "SELECT concat_ws(' ', stages.name, sequence, row_number() OVER (PARTITION BY deploys.id ORDER BY step.version, step), \
         from_state, to_state, step.actor, step.reason) FROM deploy_transitions AS step \
         JOIN deploys ON deploys.id = deploy_id JOIN stages ON stages.id = target_id",
    ),
    (
        "instances",
        "SELECT concat_ws(' ', stages.name, instances.name, status, instances.deleted_at IS NULL) \
         FROM instances JOIN stages ON stages.id = target_id",
    ),
    ("vetoes", "SELECT concat_ws(' ', reason, actor, lifted_by) FROM vetoes"),
    (
        "hook_runs",
        "SELECT concat_ws(' ', stages.name, sequence, phase, hook_runs.name, ok) FROM hook_runs \
         JOIN deploys ON deploys.id = deploy_id JOIN stages ON stages.id = target_id",
    ),
    ("encryption_keys", "SELECT id FROM encryption_keys"),
    ("credentials", "SELECT concat_ws(' ', name, kind, version, hosts, deleted_at IS NULL) FROM credentials"),
    ("secrets", "SELECT concat_ws(' ', service, name, version, deleted_at IS NULL) FROM secrets"),
    ("secret_versions", "SELECT concat_ws(' ', version, key_id) FROM secret_versions"),
    ("registries", "SELECT host FROM registries"),
    // Nobody asks for the tag of an environment any more once it is resolved: it is stored or not, depending on who is faster.
    (
        "image_scans",
        "SELECT concat_ws(' ', about, tag, tags, digest, reason) FROM image_scans \
         WHERE coalesce(tag, '') NOT IN ('one', 'pr-42')",
    ),
    ("webhook_receivers", "SELECT concat_ws(' ', name, source, deleted_at IS NULL) FROM webhook_receivers"),
    ("webhook_inbox", "SELECT state FROM webhook_inbox"),
    ("image_updates", "SELECT concat_ws(' ', image, host, tag, provider, seen_by, pending) FROM image_updates"),
    (
        "requests",
        "SELECT concat_ws(' ', stages.name, action, actor, requests.reason, via, state, message, deploy_id IS NOT NULL) \
         FROM requests JOIN stages ON stages.id = target_id",
    ),
    ("holds", "SELECT concat_ws(' ', owner, actor, reason, from_images, lifted_by, lifted_because) FROM holds"),
    ("approvals", "SELECT concat_ws(' ', actor, reason, withdrawn_at IS NULL) FROM approvals"),
    (
        "environments",
        "SELECT concat_ws(' ', stages.name, pinned, asleep_since IS NULL, ending_since IS NULL, ending_because) \
         FROM environments JOIN stages USING (id)",
    ),
    ("subdomains", "SELECT (ended_at IS NULL)::text FROM subdomains"),
    (
        "pull_requests",
        "SELECT concat_ws(' ', number, state, environment, environment_uid IS NULL, comment IS NULL) FROM pull_requests",
    ),
    ("outbox", "SELECT concat_ws(' ', kind, payload, error, next_at IS NULL, sent_at IS NULL) FROM outbox"),
];

/// Tables that are not compared, and why not.
const LEFT_OUT: [(&str, &str); 14] = [
    ("_sqlx_migrations", "no workload changes them"),
    ("settings", "no workload changes them"),
    ("audit_head", "the last row of audit_log"),
    ("leader_epochs", "each operator begins a term"),
    ("credential_uses", "whoever starts again opens again, and says so"),
    ("secret_uses", "whoever starts again opens again, and says so"),
    ("deploy_logs", "evidence is what was seen at its time; tests/faults compares what hooks said"),
    ("update_tags", "people make them"),
    ("tag_assignments", "people make them"),
    ("deploy_groups", "no workload asks for one"),
    ("users", "the API fills it"),
    ("api_replies", "the API fills it"),
    ("unready", "times of changes"),
    ("deploy_logs_default", "a part of deploy_logs"),
];

/// The annotation with which a test has something looked at again.
pub const LOOK: &str = "example.test/look";

/// Fields of objects in which there is nothing but times and identities.
const VARY: [&str; 15] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "managedFields",
    "id",
    "since",
    "finishedAt",
    "lastTransitionTime",
    "scannedAt",
    "expiresAt",
    "lastActivity",
    "deletionTimestamp",
    "clusterIP",
    "clusterIPs",
    LOOK,
];

/// Kinds whose objects are compared as they are; of the others, how often each was made and removed.
const KINDS: [(&str, &str, &str); 5] = [
    ("stagekeeper.dev", "v1alpha1", "Project"),
    ("stagekeeper.dev", "v1alpha1", "Stage"),
    ("stagekeeper.dev", "v1alpha1", "Environment"),
    ("apps", "v1", "Deployment"),
    ("", "v1", "Service"),
];

/// What differs from run to run, and what stands for it.
struct Words {
    known: Vec<(String, String)>,
    like: Vec<(Regex, &'static str)>,
}

impl Words {
    async fn of(scene: &Scene, connection: &mut PgConnection) -> Self {
        let mut known: Vec<(String, String)> = vec![(scene.env.namespace.clone(), "HOME".into())];
        let tags = scene.tags.lock().unwrap_or_else(PoisonError::into_inner).clone();
        known.extend(tags.into_iter().map(|(digest, tag)| (digest, format!("<image {tag}>"))));
        // An instance is named after its content; here after the first deploy that made it.
        let instances = "SELECT stages.name, instance, min(sequence) FROM deploys JOIN stages ON stages.id = target_id \
                         WHERE instance <> 'main' GROUP BY instance, stages.name ORDER BY 1, 3";
        let instances: Vec<(String, String, i64)> = sqlx::query_as(instances).fetch_all(connection).await.unwrap();
        for (stage, instance, first) in instances {
            let word = format!("<instance {first} of {stage}>");
            known.push((names::instance_service(&stage, "web", &instance), word.clone()));
            known.push((instance, word));
        }
        let like = [
            (r"127\.0\.0\.1:[0-9]+", "ADDRESS"),
            (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UUID"),
            (r"\b(sha256:)?([0-9a-f]{64}|[0-9a-f]{40})\b", "HASH"),
            (r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z", "TIME"),
            (r"/hooks/[A-Za-z0-9_-]{32,64}", "/hooks/TOKEN"),
            (r"\b(demo|pr-[0-9]+)-[a-z0-9]{12}\b", "$1-SECRET"),
            (r"\bpod (.+?)-[0-9a-z]{6,10}-[0-9a-z]{5}\b", "pod $1-POD"),
            (r"-[0-9][0-9a-z]{7}\b", "-TAG"),
            (r"\b[0-9a-f]{12}\b", "SHORT"),
        ];
        let like = like.map(|(like, word)| (Regex::new(like).expect("an expression"), word)).into_iter().collect();
        Self { known, like }
    }

    fn plain(&self, text: &str) -> String {
        let known = self.known.iter().fold(text.to_owned(), |text, (known, word)| text.replace(known, word));
        self.like.iter().fold(known, |text, (like, word)| like.replace_all(&text, *word).into_owned())
    }

    fn strip(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, value| !VARY.contains(&name.as_str()) || value.is_object());
                let all = std::mem::take(fields);
                *fields = all
                    .into_iter()
                    .filter_map(|(name, mut value)| {
                        self.strip(&mut value);
                        (value != json!({})).then(|| (self.plain(&name), value))
                    })
                    .collect();
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.strip(item)),
            Value::String(text) => *text = self.plain(text),
            _ => {}
        }
    }
}

/// What the workload amounts to by now.
pub async fn outcome(scene: &Scene) -> Value {
    let mut connection = PgConnection::connect(&scene.env.database.url).await.unwrap();
    let words = Words::of(scene, &mut connection).await;
    let mut rows = BTreeMap::new();
    for (table, sql) in ROWS {
        let found: Vec<Option<String>> = sqlx::query_scalar(sql).fetch_all(&mut connection).await.unwrap();
        let mut found: Vec<String> = found.into_iter().flatten().map(|row| words.plain(&row)).collect();
        found.sort();
        rows.insert(table, found);
    }
    lawful(&mut connection).await;
    let _ = connection.close().await;

    let mut objects = BTreeMap::new();
    for (group, version, kind) in KINDS {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
        let api: Api<DynamicObject> = Api::namespaced_with(scene.env.client.clone(), &scene.env.namespace, &resource);
        for object in api.list(&ListParams::default()).await.expect("a list") {
            let mut value = serde_json::to_value(&object).expect("JSON");
            words.strip(&mut value);
            if kind == "Deployment" {
                // What its controller says of it depends on how often it looked.
                value.as_object_mut().expect("an object").remove("status");
                value["metadata"]["annotations"]
                    .as_object_mut()
                    .expect("marks")
                    .remove("deployment.kubernetes.io/revision");
            }
            objects.insert(words.plain(&format!("{kind} {}", object.name_any())), value);
        }
    }
    let mut lives: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for ((kind, name), one) in scene.witness.lives() {
        let told = format!("made {}, removed {}", one.made, one.removed);
        lives.entry(words.plain(&format!("{kind} {name}"))).or_default().push(told);
    }
    for told in lives.values_mut() {
        told.sort();
    }
    json!({"rows": rows, "objects": objects, "lives": lives, "told": scene.told(|text| words.plain(text))})
}

/// Every deploy went by the documented table, from its beginning to the state that it is in.
async fn lawful(connection: &mut PgConnection) {
    let sql = "SELECT deploys.id::text, state, from_state, to_state, step.reason FROM deploy_transitions AS step \
               JOIN deploys ON deploys.id = deploy_id ORDER BY deploys.id, step.version, step";
    let steps: Vec<(String, String, Option<String>, String, String)> =
        sqlx::query_as(sql).fetch_all(connection).await.unwrap();
    for steps in steps.chunk_by(|one, next| one.0 == next.0) {
        let mut at: Option<State> = None;
        for (deploy, _, from, to, reason) in steps {
            let from: Option<State> = from.as_deref().map(|from| from.parse().expect("a state"));
            let to: State = to.parse().expect("a state");
            assert_eq!(from, at, "deploy {deploy}: a step is missing before {to}");
            let by = |from: State| {
                EDGES.iter().any(|edge| edge.from.contains(&from) && edge.to == to && edge.reason == reason)
            };
            assert!(
                from.map_or(to == State::Pending, by),
                "deploy {deploy}: no edge from {from:?} to {to} for {reason}"
            );
            at = Some(to);
        }
        let state: State = steps[0].1.parse().expect("a state");
        assert_eq!(Some(state), at, "deploy {}: its last step leads elsewhere", steps[0].0);
    }
}

/// Every table is compared, or it is said why not.
pub async fn covers_every_table(scene: &Scene) {
    let mut connection = PgConnection::connect(&scene.env.database.url).await.unwrap();
    let sql = "SELECT c.relname::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace \
               WHERE c.relkind IN ('r', 'p') AND n.nspname = 'public' AND c.relname !~ '^deploy_logs_[0-9]+$'";
    let tables: Vec<String> = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&mut connection).await.unwrap();
    let known =
        |table: &String| ROWS.iter().any(|(name, _)| name == table) || LEFT_OUT.iter().any(|(name, _)| name == table);
    let unknown: Vec<&String> = tables.iter().filter(|table| !known(table)).collect();
    assert!(unknown.is_empty(), "add to ROWS, or to LEFT_OUT with the reason: {unknown:?}");
}
