//! Objects that are really stored: how they are born, what survives of them, how they are shown.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use stagekeeper::api::conditions::{Outcome, conditions};
use stagekeeper::api::kstatus::{self, Progress};
use stagekeeper::api::{
    Cost, DeployStatus, Environment, EnvironmentStatus, GateStatus, HistoryEntry, HoldStatus, HostStatus,
    InstanceStatus, Project, ProjectStatus, RequestStatus, ServiceStatus, Stage, StageStatus, Veto, WebhookStatus,
};

use super::server;

/// What a minimal Project and Stage become: every default is in the stored object, for everyone to see.
pub async fn are_born_with_defaults_and_unobserved(client: &Client, namespace: &str) {
    let project = json!({"services": [{
        "name": "web",
        "image": {"repository": "shop", "policy": {"semver": "*"}},
        "ports": [{"name": "http", "port": 80}],
        "health": {"http": {}},
        "volumes": [{"name": "data", "mountPath": "/data", "sharedClaim": {"size": "1Gi"}}],
    }]});
    let wanted = json!({
        "suspend": false,
        "services": [{
            "name": "web",
            "replicas": 1,
            "image": {"repository": "shop", "policy": {"semver": "*"}, "interval": "5m", "maxTagLoss": 50, "insecure": false},
            "ports": [{"name": "http", "port": 80}],
            "health": {
                "http": {"path": "/", "expect": "200-399"},
                "interval": "2s", "timeout": "1s", "successThreshold": 2, "failureThreshold": 5,
            },
            "volumes": [{
                "name": "data", "mountPath": "/data", "readOnly": false,
                "sharedClaim": {"size": "1Gi", "accessModes": ["ReadWriteOnce"]},
            }],
        }],
    });
    let unobserved = json!({"observedGeneration": -1});
    born(client, namespace, "Project", project, &wanted, &unobserved).await;

    let stage = json!({"project": "shop", "timeouts": {"pull": "9m"}, "promotion": {
        "from": ["staging"],
        "approvals": {"required": 2},
        "windows": [{"action": "deny", "schedule": "0 9 * * *", "duration": "1h"}],
    }});
    let wanted = json!({
        "project": "shop",
        "promotion": {
            "from": ["staging"], "require": "all", "auto": false, "soak": "0s",
            "approvals": {"required": 2, "expires": "72h", "allowRequester": false},
            "windows": [{"action": "deny", "schedule": "0 9 * * *", "duration": "1h", "timeZone": "UTC"}],
        },
        "queue": "latest",
        "strategy": {"type": "BlueGreen"},
        "maxInstances": 1,
        "timeouts": {"pull": "9m", "start": "5m", "proxy": "1m", "health": "2m"},
        "rollback": {"onFailure": true, "keepPrevious": "10m", "watch": "5m"},
        "suspend": false,
    });
    born(client, namespace, "Stage", stage, &wanted, &unobserved).await;

    let environment =
        json!({"project": "shop", "idleAfter": "1h", "sleep": [{"schedule": "0 20 * * *", "duration": "10h"}]});
    let wanted = json!({
        "project": "shop",
        "strategy": {"type": "Rolling"},
        "ttl": "72h",
        "idleAfter": "1h",
        "sleep": [{"schedule": "0 20 * * *", "duration": "10h", "timeZone": "UTC"}],
        "isolation": "Automatic",
        "pinned": false,
        "secrets": "Project",
        "suspend": false,
    });
    let asleep = json!({"observedGeneration": -1, "awake": false});
    born(client, namespace, "Environment", environment, &wanted, &asleep).await;
}

async fn born(client: &Client, namespace: &str, kind: &str, spec: Value, wanted: &Value, status: &Value) {
    let api = server::untyped(client, namespace, kind);
    let object = api.create(&PostParams::default(), &server::object(kind, "born", &spec)).await.expect(kind);
    assert_eq!(&object.data["spec"], wanted, "{kind}: defaults");
    assert_eq!(&object.data["status"], status, "{kind}: status at birth");
    let object = serde_json::to_value(&object).unwrap();
    assert_eq!(kstatus::compute(&object), Progress::InProgress, "{kind}: no tool takes it for done");
}

/// The Rust types and the schema agree: what they write is stored whole and read back as it was.
pub async fn keep_every_field_of_their_status(client: &Client, namespace: &str) {
    let at = || Time("2026-01-02T03:04:05Z".parse().unwrap());
    let outcome = Outcome::reconciling("HealthChecking", "probes web");
    let list = conditions(&[], &outcome, 1, at().0);
    let text = |text: &str| Some(text.to_owned());

    let status = ProjectStatus {
        observed_generation: 1,
        conditions: list.clone(),
        services: vec![ServiceStatus {
            name: "web".into(),
            image: "docker.io/library/shop".into(),
            latest_tag: text("1.4.2"),
            digest: text("sha256:abc"),
            scanned_at: Some(at()),
        }],
        webhooks: vec![WebhookStatus {
            name: "github".into(),
            source: "github".into(),
            path: "/hooks/token".into(),
            url: text("https://stagekeeper.example.com/hooks/token"),
            old_path_until: Some(at()),
        }],
    };
    let projects: Api<Project> = Api::namespaced(client.clone(), namespace);
    let patch = Patch::Merge(json!({"status": status}));
    projects.patch_status("born", &PatchParams::default(), &patch).await.expect("status of the project");
    assert_eq!(projects.get("born").await.expect("the project").status, Some(status));

    let status = StageStatus {
        observed_generation: 1,
        conditions: list,
        release: text("r1"),
        images: text("web:1.4.2, db:16"),
        url: text("https://shop.example.com"),
        active: text("a1"),
        deploy: Some(DeployStatus {
            id: "d2".into(),
            state: "HealthChecking".into(),
            since: Some(at()),
            release: text("r2"),
            waiting_reason: text("EarlierDeploy"),
            blocker: text("d1"),
            actor: text("policy"),
            message: text("probes web"),
        }),
        instances: vec![InstanceStatus {
            name: "a1".into(),
            status: "running".into(),
            release: text("r1"),
            deploy: text("d1"),
            url: text("http://a1"),
            active: true,
        }],
        history: vec![HistoryEntry {
            id: "d1".into(),
            state: "Success".into(),
            release: text("r1"),
            images: text("web=1.4.1"),
            finished_at: Some(at()),
            actor: text("user:ada"),
            reason: text("switched"),
        }],
        vetoed: vec![Veto { release: "r0".into(), deploy: text("d0"), reason: text("web answers 500") }],
        last_request: Some(RequestStatus { nonce: "7".into(), state: "Done".into(), message: text("done") }),
        gates: vec![GateStatus {
            name: "soak".into(),
            verdict: "Wait".into(),
            until: Some(at()),
            message: text("20m of 30m"),
            opens: text("time"),
        }],
        hold: Some(HoldStatus {
            owner: "user:ada".into(),
            actor: text("user:ada"),
            reason: text("rollback to web 1.2.0"),
            since: None,
            until: None,
        }),
        last_handled_retry: text("2026-01-02"),
    };
    let stages: Api<Stage> = Api::namespaced(client.clone(), namespace);
    let patch = Patch::Merge(json!({"status": status}));
    stages.patch_status("born", &PatchParams::default(), &patch).await.expect("status of the stage");
    assert_eq!(stages.get("born").await.expect("the stage").status, Some(status.clone()));

    let status = EnvironmentStatus {
        stage: status,
        phase: text("Ready"),
        subdomain: text("pr-42-a8f9d2k1p4m7"),
        namespace: text("shop-pr-42-a8f9d2k1p4m7"),
        hosts: vec![HostStatus { service: "web".into(), host: "pr-42-a8f9d2k1p4m7.preview.example.com".into() }],
        awake: true,
        expires_at: Some(at()),
        expires_because: text("its time to live is over"),
        last_activity: Some(at()),
        queue_position: Some(3),
        cost: Some(Cost { per_hour: "0.0300".into(), currency: "EUR".into() }),
    };
    let environments: Api<Environment> = Api::namespaced(client.clone(), namespace);
    let patch = Patch::Merge(json!({"status": status}));
    environments.patch_status("born", &PatchParams::default(), &patch).await.expect("status of the environment");
    assert_eq!(environments.get("born").await.expect("the environment").status, Some(status));
}

/// A status with words of another version is stored, so that two versions can follow each other.
pub async fn take_the_status_of_another_version(client: &Client, namespace: &str) {
    let stages: Api<Stage> = Api::namespaced(client.clone(), namespace);
    let patch = Patch::Merge(json!({"status": {
        "deploy": {"state": "Baking", "id": null},
        "instances": [{"name": "a1", "status": "asleep"}],
    }}));
    let stage = stages.patch_status("born", &PatchParams::default(), &patch).await.expect("stored");
    let status = stage.status.expect("a status");
    assert_eq!(status.deploy.expect("a deploy").state, "Baking");
    assert_eq!(status.instances[0].status, "asleep");
}

/// The project of a stage stays; everything else may change.
pub async fn hold_a_stage_to_its_project(client: &Client, namespace: &str) {
    let stages: Api<Stage> = Api::namespaced(client.clone(), namespace);
    let change = async |spec: Value| {
        let patch = Patch::Merge(json!({"spec": spec}));
        stages.patch("born", &PatchParams::default(), &patch).await
    };
    let refused = change(json!({"project": "other"})).await.expect_err("refused");
    assert_eq!(
        server::causes(&refused),
        [
            "spec.project: Invalid value: \"other\": project cannot be changed: create another Stage for the other project"
        ]
    );
    let before = stages.get("born").await.expect("the stage").metadata.generation;
    let after = change(json!({"project": "shop", "pin": {"web": "1"}})).await.expect("accepted").metadata.generation;
    assert_eq!(after, before.map(|generation| generation + 1));
}

/// What `kubectl get stages` shows, and that stages can be asked for by project.
pub async fn are_shown_in_columns(client: &Client, namespace: &str) {
    let stages: Api<Stage> = Api::namespaced(client.clone(), namespace);
    let request = http::Request::get(format!("{}/born", stages.resource_url()))
        .header("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
        .body(Vec::new())
        .unwrap();
    let table: Value = client.request(request).await.expect("a table");
    let names = table["columnDefinitions"].as_array().unwrap().iter().map(|column| column["name"].as_str().unwrap());
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    let cells = cells.iter().map(|cell| cell.as_str().unwrap());
    let shown: Vec<_> = names.zip(cells).filter(|(name, _)| *name != "Age").collect();
    let wanted = [
        ("Name", "born"),
        ("Project", "shop"),
        ("Ready", "Unknown"),
        ("Images", "web:1.4.2, db:16"),
        ("Deploy", "HealthChecking"),
        ("Waiting", "EarlierDeploy"),
        ("URL", "https://shop.example.com"),
        ("Release", "r1"),
        ("Active", "a1"),
        ("Message", "probes web"),
    ];
    assert_eq!(shown, wanted);

    let of = async |project: &str| {
        let params = ListParams::default().fields(&format!("spec.project={project}"));
        stages.list(&params).await.expect("a list").iter().map(ResourceExt::name_any).collect::<Vec<_>>()
    };
    assert_eq!(of("shop").await, ["born"]);
    assert!(of("other").await.is_empty());
}
