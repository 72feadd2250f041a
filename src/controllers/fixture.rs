//! What the controllers' tests begin with: a shop, its deploys, and a cluster that is nothing but what it shows.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::OwnerReference};
use kube::{Resource, ResourceExt as _};
use serde::{Deserialize as _, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::deploy::{Target, ledger::Entry, observe, plan::Planned, values::Screen};
use crate::{
    api::{Project, Stage},
    cluster::index::{Kind, StageChildren, StageKey},
    domain::{
        actor::Actor,
        deploy::{Deploy, QueuePolicy, State},
        release::{Release, ReleaseImage},
        secret::SecretVersions,
    },
    render::{Identity, Snapshot},
};

/// A shop that asks its database, with a migration before each start.
pub const SHOP: &str = "
apiVersion: stagekeeper.dev/v1alpha1
kind: Project
metadata: {name: shop, namespace: acme}
spec:
  services:
  - name: web
    image: {repository: ghcr.io/acme/shop, policy: {semver: '>=1.0'}}
    ports: [{name: http, port: 8080}]
    volumes: [{name: conf, mountPath: /etc/shop, files: {shop.conf: 'a = 1'}}]
    replicas: 2
    health: {http: {}}
    dependsOn: [db]
  - name: db
    image: {repository: postgres, digest: 'sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd'}
    ports: [{name: sql, port: 5432}]
---
apiVersion: stagekeeper.dev/v1alpha1
kind: Stage
metadata: {name: dev, namespace: acme, generation: 1, creationTimestamp: '2026-03-01T11:00:00Z'}
spec:
  project: shop
  hooks:
    beforeStart: [{name: migrate, command: [/shop, migrate]}]
";

/// The shop with a secret for all services and one for the web alone, and an image that needs a login.
pub fn private_shop() -> String {
    SHOP.replace("policy: {semver: '>=1.0'}", "credential: ghcr, policy: {semver: '>=1.0'}").replace(
        "spec:\n  services:",
        "spec:\n  secrets: [{name: KEY}, {name: tls, service: web, as: file, path: /etc/tls}]\n  services:",
    )
}

/// Seconds after a fixed beginning.
pub fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).expect("an instant")
}

/// A project and its stage from YAML.
pub fn read(text: &str) -> (Project, Stage) {
    let mut documents = serde_yaml::Deserializer::from_str(text);
    let project = Project::deserialize(documents.next().expect("a project")).expect("a valid project");
    let stage = Stage::deserialize(documents.next().expect("a stage")).expect("a valid stage");
    (project, stage)
}

/// Version `1.MINOR.0` of every service.
pub fn release(project: &Project, minor: u8) -> Release {
    let image = |repository: &str| ReleaseImage {
        repository: repository.to_owned(),
        tag: Some(format!("1.{minor}.0")),
        digest: format!("sha256:{}", format!("{minor:02x}").repeat(32)),
    };
    let services = project.spec.services.iter();
    Release(services.map(|service| (service.name.clone(), image(&service.image.repository))).collect())
}

/// What version `1.MINOR.0` is rendered from.
pub fn snapshot(text: &str, minor: u8) -> Snapshot {
    snapshot_with(text, minor, &SecretVersions::new())
}

/// The same, with secrets at these versions.
pub fn snapshot_with(text: &str, minor: u8, secrets: &SecretVersions) -> Snapshot {
    let (project, stage) = read(text);
    let identity =
        Identity { namespace: "acme".into(), home: None, project: project.name_any(), stage: stage.name_any() };
    Snapshot::build(identity, &project.spec, &stage.spec, release(&project, minor), secrets).expect("a snapshot")
}

/// Deploy `sequence` of a snapshot, in a state.
pub fn entry(snapshot: Snapshot, sequence: u8, state: State) -> Entry {
    let began = at(i64::from(sequence));
    let deploy = Deploy {
        id: Uuid::from_u128(u128::from(sequence)),
        target: Uuid::from_u128(0xff),
        sequence: sequence.into(),
        release: snapshot.release.id(),
        snapshot: snapshot.hash(),
        instance: snapshot.instance(),
        state,
        since: began,
        version: 1,
        actor: Actor::Policy,
        cause: "a newer image".into(),
        reason: None,
        message: None,
        rollback_of: None,
        evidence_at: None,
        created_at: began,
        finished_at: state.is_terminal().then_some(began),
    };
    Entry {
        deploy,
        snapshot: Arc::new(snapshot),
        request: None,
        provenance: crate::store::Provenance::default(),
        hooks: BTreeMap::new(),
        refused: None,
        planned: None,
        screen: Screen::Clear,
    }
}

/// The stage as owner.
pub fn owner() -> OwnerReference {
    OwnerReference {
        api_version: "stagekeeper.dev/v1alpha1".into(),
        kind: "Stage".into(),
        name: "dev".into(),
        uid: "11111111-2222-3333-4444-555555555555".into(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The stage as whose deploys these are.
pub fn target() -> Target<'static> {
    Target {
        id: Uuid::from_u128(0xff),
        project: Uuid::from_u128(0xfe),
        key: StageKey::new("acme", "dev"),
        place: StageKey::new("acme", "dev"),
        owner: owner(),
        object: ObjectReference::default(),
        route: None,
        hosts: &[],
        queue: QueuePolicy::Latest,
        suspended: None,
        rules: None,
        unreadable: None,
        logins: Arc::default(),
        fallback: None,
        dozes: false,
        promotes: true,
    }
}

/// Objects of one stage, as a watch shows them.
#[derive(Default)]
pub struct Cluster {
    objects: BTreeMap<(Kind, String), Value>,
    version: u64,
}

impl Cluster {
    /// Stores an object as the API server does: with identity, version, generation and, for a Service, an address.
    pub fn apply<K>(&mut self, object: &K)
    where
        K: Resource<DynamicType = ()> + Serialize,
    {
        let kind = Kind::find(&K::group(&()), &K::kind(&())).expect("a watched kind");
        let mut stored = serde_json::to_value(object).expect("JSON");
        let name = stored["metadata"]["name"].as_str().expect("a name").to_owned();
        if kind == Kind::Service {
            stored["spec"]["clusterIP"] = json!(format!("10.96.0.{}", self.objects.len() + 1));
        }
        let generation = match self.objects.get(&(kind, name)) {
            Some(before) => {
                stored["status"] = before["status"].clone();
                let known = before["metadata"]["generation"].as_i64().unwrap_or_default();
                known + i64::from(before["spec"] != stored["spec"])
            }
            None => 1,
        };
        stored["metadata"]["generation"] = json!(generation);
        self.put(kind, stored);
    }

    /// Stores an object as it is, in a new version.
    pub fn put(&mut self, kind: Kind, mut object: Value) {
        self.version += 1;
        let name = object["metadata"]["name"].as_str().expect("a name").to_owned();
        object["metadata"]["uid"] = json!(format!("uid-{name}"));
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert((kind, name), object);
    }

    /// Sets the status of an object.
    pub fn report(&mut self, kind: Kind, name: &str, status: Value) {
        let mut object = self.objects[&(kind, name.to_owned())].clone();
        object["status"] = status;
        self.put(kind, object);
    }

    /// Brings the pods of a workload to its current revision, one for each status, and its numbers along.
    pub fn run(&mut self, workload: &str, pods: &[Value]) {
        let object = self.objects[&(Kind::Deployment, workload.to_owned())].clone();
        let is_ready = |status: &&Value| status["conditions"][0] == json!({"type": "Ready", "status": "True"});
        let ready = pods.iter().filter(is_ready).count();
        self.report(
            Kind::Deployment,
            workload,
            json!({
                "observedGeneration": object["metadata"]["generation"],
                "replicas": pods.len(), "updatedReplicas": pods.len(),
                "readyReplicas": ready, "availableReplicas": ready,
            }),
        );
        let labels = &object["spec"]["template"]["metadata"]["labels"];
        for (number, status) in pods.iter().enumerate() {
            let name = format!("{workload}-{number}");
            let meta = json!({"name": name, "namespace": "acme", "labels": labels});
            let spec = json!({"nodeName": "n1", "containers": [{"name": "app"}]});
            self.put(Kind::Pod, json!({"metadata": meta, "spec": spec, "status": status}));
        }
    }

    /// Applies everything of an instance, with all pods ready.
    pub fn settle(&mut self, entry: &Entry) {
        for service in self.planned(entry).manifests.services().filter_map(|service| service.service.as_ref()) {
            self.apply(service);
        }
        for service in self.planned(entry).manifests.services() {
            self.apply(&service.workload);
            let replicas = service.workload.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default();
            let name = service.workload.name_any();
            self.run(&name, &vec![running(); usize::try_from(replicas).unwrap_or_default()]);
        }
    }

    /// What a reader of the index gets.
    pub fn children(&self) -> StageChildren {
        let mut children = StageChildren::default();
        for ((kind, _), object) in &self.objects {
            children.see(*kind, object);
        }
        children
    }

    /// Renders the instance of `entry` with the addresses that are known here.
    pub fn planned(&self, entry: &Entry) -> Planned {
        Arc::unwrap_or_clone(observe::planned(&mut entry.clone(), &target(), &self.children()).expect("rendered"))
    }
}

/// The status of a pod that is well.
pub fn running() -> Value {
    pod("True", json!({"state": {"running": {}}, "ready": true, "imageID": "sha256:ab", "restartCount": 0}))
}

/// The status of a pod with one container.
pub fn pod(ready: &str, mut container: Value) -> Value {
    container["name"] = json!("app");
    json!({
        "phase": "Running", "podIP": "10.0.0.1",
        "conditions": [{"type": "Ready", "status": ready}],
        "containerStatuses": [container],
    })
}
