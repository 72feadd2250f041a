//! `spec.access` as the running operator acts on it: refused, given, taken away.

use std::time::Duration;

use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use stagekeeper::api::Project;
use tokio::time::timeout;

use crate::{
    binary::{Folder, PATIENCE, Running, stagekeeper},
    cluster::Ground,
    controller::free_port,
    postgres::TestDatabase,
};

/// Lets the operator's service account do more.
async fn allow(ground: &Ground, name: &str, rules: Value) {
    let role: Role = serde_json::from_value(json!({"metadata": {"name": name}, "rules": rules})).unwrap();
    let binding: RoleBinding = serde_json::from_value(json!({"metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "nobody", "namespace": ground.namespace}]}))
    .unwrap();
    let params = PostParams::default();
    Api::namespaced(ground.client.clone(), &ground.namespace).create(&params, &role).await.unwrap();
    Api::namespaced(ground.client.clone(), &ground.namespace).create(&params, &binding).await.unwrap();
}

/// Everything but giving roles.
fn at_work() -> Value {
    json!([
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["get", "create", "update"]},
        {"apiGroups": ["stagekeeper.dev"], "resources": ["projects", "stages"], "verbs": ["list", "watch"]},
        {"apiGroups": ["stagekeeper.dev"], "resources": ["projects/status"], "verbs": ["patch"]},
        {"apiGroups": ["", "apps", "batch", "networking.k8s.io", "gateway.networking.k8s.io"], "verbs": ["list", "watch"],
         "resources": ["deployments", "services", "pods", "jobs", "ingresses", "httproutes", "secrets"]},
    ])
}

fn condition<'a>(status: &'a Value, type_: &str) -> Option<&'a Value> {
    status["conditions"].as_array()?.iter().find(|condition| condition["type"] == type_)
}

/// Waits for a status; a pass is asked for now and then, because RBAC takes a moment to follow.
async fn status(projects: &Api<Project>, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let mut asked = 0;
    let waited = async {
        loop {
            let project = projects.get("shop").await.unwrap();
            let status = serde_json::to_value(&project.status).unwrap();
            if wanted(&status) {
                return status;
            }
            asked += 1;
            let nudge = Patch::Merge(json!({"metadata": {"annotations": {"asked": asked.to_string()}}}));
            projects.patch("shop", &PatchParams::default(), &nudge).await.unwrap();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    timeout(PATIENCE, waited).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

#[tokio::test]
async fn roles_are_refused_given_and_taken_away() {
    let ground = Ground::new("access").await;
    let database = TestDatabase::new().await;
    let folder = Folder::new();
    let kubeconfig = ground.kubeconfig_of_nobody(&folder).await;
    allow(&ground, "at-work", at_work()).await;
    let process = Running::start(
        stagekeeper(&["controller", "--port", &free_port().to_string()])
            .env("KUBECONFIG", kubeconfig)
            .env("DATABASE_URL", &database.url)
            .env("STAGEKEEPER_NAMESPACES", &ground.namespace)
            .env("STAGEKEEPER_LEASE_NAMESPACE", &ground.namespace)
            .env("STAGEKEEPER_LOG", "off"),
    );
    let image = json!({"repository": "r.test/shop", "digest": format!("sha256:{}", "a".repeat(64))});
    let access = json!([{"role": "viewer", "user": "joe"}, {"role": "member", "group": "devs"}]);
    ground.make::<Project>("shop", json!({"services": [{"name": "web", "image": image}], "access": access})).await;
    let projects: Api<Project> = Api::namespaced(ground.client.clone(), &ground.namespace);

    let refused = status(&projects, "a refusal", |status| {
        condition(status, "AccessReady").is_some_and(|condition| condition["status"] == "False")
    })
    .await;
    let told = condition(&refused, "AccessReady").unwrap();
    assert_eq!(told["reason"], "Forbidden", "{told}");
    let message = told["message"].as_str().unwrap();
    assert!(message.contains("list") && message.contains("rolebindings"), "{message}");
    assert!(message.contains("examples/operator/rbac.yaml"), "{message}");
    assert_eq!(condition(&refused, "Ready").unwrap()["reason"], "Forbidden", "{refused}");

    let roles = ["stagekeeper-owner", "stagekeeper-admin", "stagekeeper-member", "stagekeeper-viewer"];
    let rules = json!([
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["rolebindings"],
         "verbs": ["get", "list", "create", "patch", "delete"]},
        {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": roles, "verbs": ["bind"]},
    ]);
    allow(&ground, "binds", rules).await;
    let bound = status(&projects, "roles", |status| {
        condition(status, "AccessReady").is_some_and(|condition| condition["status"] == "True")
    })
    .await;
    assert_eq!(condition(&bound, "AccessReady").unwrap()["reason"], "Bound");
    assert_eq!(condition(&bound, "Ready").unwrap()["status"], "True", "{bound}");
    let bindings: Api<RoleBinding> = Api::namespaced(ground.client.clone(), &ground.namespace);
    let ours = ListParams::default().labels("stagekeeper.dev/access");
    let listed = bindings.list(&ours).await.unwrap().items;
    let mut given: Vec<(String, String)> = listed
        .iter()
        .map(|binding| (binding.role_ref.name.clone(), binding.subjects.as_ref().unwrap()[0].name.clone()))
        .collect();
    given.sort_unstable();
    let want = [("stagekeeper-member", "devs"), ("stagekeeper-viewer", "joe")];
    assert_eq!(given, want.map(|(role, who)| (role.to_owned(), who.to_owned())));
    assert!(listed.iter().all(|binding| binding.metadata.owner_references.as_ref().unwrap()[0].name == "shop"));

    let none = Patch::Merge(json!({"spec": {"access": null}}));
    projects.patch("shop", &PatchParams::default(), &none).await.unwrap();
    status(&projects, "nobody's roles", |status| condition(status, "AccessReady").is_none()).await;
    assert!(bindings.list(&ours).await.unwrap().items.is_empty());
    process.signal("TERM");
    assert_eq!(process.end().code, 0);
    ground.clear().await;
}
