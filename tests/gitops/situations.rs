//! Situations that every tool has to read alike, with the very conditions that the operator writes.

use serde_json::{Value, json};
use stagekeeper::api::{
    conditions::{self, Outcome},
    kstatus::Progress::{self, Current, Failed, InProgress, Terminating},
};

/// One of them.
pub struct Situation {
    pub name: &'static str,
    pub object: Value,
    /// What kstatus makes of it.
    pub progress: Progress,
    /// What Argo CD makes of it.
    pub argo: &'static str,
}

/// An object of a kind, as yet without a word of the operator.
fn object(kind: &str, name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "stagekeeper.dev/v1alpha1",
        "kind": kind,
        "metadata": {"name": name.replace(' ', "-"), "namespace": "shop", "generation": 2},
        "spec": spec,
        "status": {"observedGeneration": -1},
    })
}

/// What the operator says of it.
fn said(mut object: Value, outcome: &Outcome, rest: Value) -> Value {
    let now = "2026-03-01T12:00:00Z".parse().expect("an instant");
    let list = conditions::conditions(&[], outcome, 2, now);
    object["status"] = rest;
    object["status"]["observedGeneration"] = json!(2);
    object["status"]["conditions"] = serde_json::to_value(list).expect("conditions");
    object
}

/// A stage that serves, with this spec.
pub fn stage(name: &str, spec: &str) -> Value {
    let spec: Value = serde_yaml::from_str(spec).expect("a spec");
    let outcome = Outcome::ready("Serving", "web:1.1.0 serves");
    said(object("Stage", name, &spec), &outcome, serving("Success"))
}

/// An environment that is ready.
pub fn environment(name: &str) -> Value {
    let outcome = Outcome::ready("Serving", "web:pr-42 serves");
    let mut status = serving("Success");
    (status["awake"], status["phase"]) = (json!(true), json!("Ready"));
    said(object("Environment", name, &json!({"project": "shop"})), &outcome, status)
}

fn serving(state: &str) -> Value {
    json!({
        "release": "5f0c1a2b",
        "images": "web:1.1.0",
        "deploy": {"id": "0199c3f2-0000-7000-8000-000000000001", "state": state, "release": "5f0c1a2b"},
    })
}

/// A status whose deploy waits for something.
fn waiting(reason: &str) -> Value {
    let mut status = serving("Pending");
    status["deploy"]["waitingReason"] = json!(reason);
    status
}

pub fn situations() -> Vec<Situation> {
    let plain = json!({"project": "shop"});
    let promoted = json!({"project": "shop", "promotion": {"from": ["staging"]}});
    let one = |name: &'static str, spec: &Value, outcome: Outcome, rest: Value, progress, argo| {
        let kind = match name.split(' ').next() {
            Some("project") => "Project",
            Some("stage") => "Stage",
            _ => "Environment",
        };
        Situation { name, object: said(object(kind, name, spec), &outcome, rest), progress, argo }
    };
    let pending = |message: &str| Outcome::reconciling("DeployPending", format!("web:1.2.0: pending: {message}"));
    let mut held = serving("Success");
    held["hold"] = json!({"owner": "user:jane", "reason": "sale"});
    let mut deleted = stage("stage goes", "{project: shop}");
    deleted["metadata"]["deletionTimestamp"] = json!("2026-03-01T12:00:05Z");
    let mut older = stage("stage changed", "{project: shop}");
    older["metadata"]["generation"] = json!(3);
    let failed = "web:1.2.0 failed: 500 from /healthz; web:1.1.0 serves";
    let rolled_back = Outcome::stalled("RolledBack", format!("{failed}; push a newer image"));
    let suspended = json!({"project": "shop", "suspend": true});
    let serves = || Outcome::ready("Serving", "web:1.1.0 serves");
    let mut asleep = serving("Success");
    (asleep["awake"], asleep["phase"]) = (json!(false), json!("Asleep"));
    let sleeps = Outcome::ready("Asleep", "web:pr-42 sleeps: nobody looks at it; a request wakes it");
    let services = json!({"services": [{"name": "web", "image": {"repository": "ghcr.io/acme/web"}}]});
    let refused = Outcome::stalled("InvalidSpec", "spec.services: two are called web; rename one");
    vec![
        Situation {
            name: "stage just made",
            object: object("Stage", "stage just made", &plain),
            progress: InProgress,
            argo: "Progressing",
        },
        one("stage serves", &plain, serves(), serving("Success"), Current, "Healthy"),
        one(
            "stage deploys",
            &plain,
            Outcome::reconciling("Deploying", "web:1.2.0: starting: pods get ready"),
            serving("Starting"),
            InProgress,
            "Progressing",
        ),
        one(
            "stage waits for approval",
            &promoted,
            pending("1 of 2 approvals"),
            waiting("ApprovalNeeded"),
            InProgress,
            "Suspended",
        ),
        one(
            "stage waits for a window",
            &promoted,
            pending("opens on Monday"),
            waiting("WindowClosed"),
            InProgress,
            "Suspended",
        ),
        one(
            "stage waits for its turn",
            &plain,
            pending("another deploy is under way"),
            waiting("EarlierDeploy"),
            InProgress,
            "Progressing",
        ),
        one(
            "stage suspended while a deploy waits",
            &suspended,
            pending("stage is suspended"),
            waiting("Suspended"),
            InProgress,
            "Suspended",
        ),
        one("stage suspended", &suspended, serves(), serving("Success"), Current, "Suspended"),
        one(
            "stage held",
            &plain,
            Outcome::ready("Held", "web:1.1.0 serves; held by user:jane: sale"),
            held,
            Current,
            "Healthy",
        ),
        one("stage rolled back", &plain, rolled_back, serving("RolledBack"), Failed, "Degraded"),
        one(
            "stage without its project",
            &plain,
            Outcome::stalled("ProjectNotFound", "there is no Project `shop` in namespace shop: create it there"),
            json!({}),
            Failed,
            "Degraded",
        ),
        one(
            "stage while the database is away",
            &plain,
            Outcome::reconciling("StoreUnavailable", "the database does not answer; what runs keeps running"),
            serving("Success"),
            InProgress,
            "Progressing",
        ),
        Situation { name: "stage changed", object: older, progress: InProgress, argo: "Progressing" },
        Situation { name: "stage goes", object: deleted, progress: Terminating, argo: "Progressing" },
        one("project accepted", &services, Outcome::ready("Accepted", "1 service"), json!({}), Current, "Healthy"),
        one("project refused", &services, refused, json!({}), Failed, "Degraded"),
        Situation {
            name: "environment ready",
            object: environment("environment ready"),
            progress: Current,
            argo: "Healthy",
        },
        one("environment asleep", &plain, sleeps, asleep, Current, "Healthy"),
        one(
            "environment waits for its image",
            &plain,
            Outcome::reconciling("NotPushedYet", "image ghcr.io/acme/web:pr-42 not pushed yet"),
            json!({"phase": "Pending", "awake": false}),
            InProgress,
            "Progressing",
        ),
    ]
}
