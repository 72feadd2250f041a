//! `spec.access`: who can and who cannot, that it can be taken away, and that the operator can give no other roles.

use k8s_openapi::api::rbac::v1::{RoleBinding, Subject};
use kube::{
    Api, Client, ResourceExt as _,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use stagekeeper::{
    api::{Project, Role},
    cluster::{apply::Writer, error::Class},
    render,
};

use super::{
    policies::{self, may},
    server::{World, within},
};

fn declared(access: &Value) -> Project {
    let services = json!([{"name": "web", "image": {"repository": "r.test/shop", "tag": "1"}}]);
    serde_json::from_value(json!({
        "apiVersion": "stagekeeper.dev/v1alpha1",
        "kind": "Project",
        "metadata": {"name": "shop"},
        "spec": {"services": services, "access": access},
    }))
    .unwrap()
}

/// The project as it is stored, with this access.
async fn project(world: &World, access: Value) -> Project {
    let params = PatchParams::apply("stagekeeper-tests").force();
    world.api::<Project>().patch("shop", &params, &Patch::Apply(&declared(&access))).await.unwrap()
}

async fn settle(world: &World, project: &Project) -> usize {
    world.writer.settle_bindings(&world.namespace, "shop", &render::bindings(project)).await.unwrap()
}

async fn bound(world: &World) -> Vec<RoleBinding> {
    world.api::<RoleBinding>().list(&Default::default()).await.unwrap().items
}

/// Asks until the authorizer, which follows its watch, says so.
async fn comes_to_be(client: &Client, user: (&str, &[&str]), verb: &str, resource: &str, namespace: &str, want: bool) {
    within(&format!("{user:?} may {verb} {resource}: {want}"), async {
        while may(client, user, verb, resource, namespace).await != want {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
}

/// Verbs on stages and projects, and the first role in the order of power that has each.
const LADDER: [(&str, &str, Role); 17] = [
    ("get", "stages", Role::Viewer),
    ("list", "stages", Role::Viewer),
    ("watch", "projects", Role::Viewer),
    ("promote", "stages", Role::Member),
    ("abort", "stages", Role::Member),
    ("readlogs", "projects", Role::Member),
    ("rollback", "stages", Role::Admin),
    ("approve", "stages", Role::Admin),
    ("retry", "stages", Role::Admin),
    ("hold", "stages", Role::Admin),
    ("rotate", "projects", Role::Admin),
    ("create", "stages", Role::Owner),
    ("patch", "stages", Role::Owner),
    ("delete", "stages", Role::Owner),
    ("patch", "projects", Role::Owner),
    ("delete", "projects", Role::Owner),
    ("grant", "projects", Role::Owner),
];

#[tokio::test]
async fn each_role_may_what_it_says_and_nothing_more() {
    let world = World::new("roles").await;
    policies::install(&world.client).await;
    let access = json!([
        {"role": "owner", "user": "olga"},
        {"role": "admin", "group": "shop-admins"},
        {"role": "member", "serviceAccount": {"name": "ci"}},
        {"role": "viewer", "user": "vera"},
    ]);
    let stored = project(&world, access).await;
    assert_eq!(settle(&world, &stored).await, 4);
    let account = format!("system:serviceaccount:{}:ci", world.namespace);
    let people: [(Role, (&str, &[&str])); 4] = [
        (Role::Owner, ("olga", &[])),
        (Role::Admin, ("adam", &["shop-admins"])),
        (Role::Member, (&account, &[])),
        (Role::Viewer, ("vera", &[])),
    ];
    for (role, who) in people {
        comes_to_be(&world.client, who, "get", "stages", &world.namespace, true).await;
        for (verb, resource, least) in LADDER {
            // Roles are in the order of power.
            let want = role <= least;
            let found = may(&world.client, who, verb, resource, &world.namespace).await;
            assert_eq!(found, want, "{role:?} may {verb} {resource}");
        }
        assert!(!may(&world.client, who, "get", "stages", "default").await, "{role:?} in another namespace");
    }
    assert!(!may(&world.client, ("adam", &[]), "get", "stages", &world.namespace).await, "without the group");
    world.end().await;
}

#[tokio::test]
async fn what_is_removed_is_taken_away_and_drift_is_mended() {
    let world = World::new("drift").await;
    policies::install(&world.client).await;
    let stored = project(&world, json!([{"role": "admin", "user": "jane"}, {"role": "viewer", "user": "joe"}])).await;
    assert_eq!(settle(&world, &stored).await, 2);
    assert_eq!(settle(&world, &stored).await, 0, "a second time there is nothing to do");
    let (jane, joe) = (("jane", &[][..]), ("joe", &[][..]));
    comes_to_be(&world.client, jane, "rollback", "stages", &world.namespace, true).await;

    // Somebody lets themselves in, and somebody else is thrown out.
    let mut binding = bound(&world).await.into_iter().find(|one| one.role_ref.name == "stagekeeper-admin").unwrap();
    let mallory = Subject { kind: "User".into(), name: "mallory".into(), ..Subject::default() };
    binding.subjects = Some(vec![mallory]);
    binding.metadata.managed_fields = None;
    world.api::<RoleBinding>().replace(&binding.name_any(), &PostParams::default(), &binding).await.unwrap();
    assert_eq!(settle(&world, &stored).await, 1);
    comes_to_be(&world.client, ("mallory", &[]), "rollback", "stages", &world.namespace, false).await;
    comes_to_be(&world.client, jane, "rollback", "stages", &world.namespace, true).await;

    // A binding of somebody else's is not ours to judge.
    let foreign = json!({
        "metadata": {"name": "by-hand", "namespace": world.namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "stagekeeper-viewer"},
        "subjects": [{"kind": "User", "name": "hand", "apiGroup": "rbac.authorization.k8s.io"}],
    });
    let foreign: RoleBinding = serde_json::from_value(foreign).unwrap();
    world.api().create(&PostParams::default(), &foreign).await.unwrap();

    let less = project(&world, json!([{"role": "viewer", "user": "joe"}])).await;
    assert_eq!(settle(&world, &less).await, 1);
    comes_to_be(&world.client, jane, "rollback", "stages", &world.namespace, false).await;
    comes_to_be(&world.client, jane, "get", "stages", &world.namespace, false).await;
    assert!(may(&world.client, joe, "get", "stages", &world.namespace).await);
    let none = project(&world, json!([])).await;
    assert_eq!(settle(&world, &none).await, 1);
    let left: Vec<String> = bound(&world).await.iter().map(|one| one.name_any()).collect();
    assert_eq!(left, ["by-hand"]);
    world.end().await;
}

#[tokio::test]
async fn a_name_that_somebody_else_has_is_left_alone() {
    let world = World::new("foreign").await;
    policies::install(&world.client).await;
    let stored = project(&world, json!([{"role": "viewer", "user": "joe"}])).await;
    let wanted = render::bindings(&stored);
    let mut theirs = wanted[0].clone();
    theirs.metadata.labels = None;
    theirs.subjects = Some(vec![Subject { kind: "User".into(), name: "them".into(), ..Subject::default() }]);
    world.api().create(&PostParams::default(), &theirs).await.unwrap();
    let error = world.writer.settle_bindings(&world.namespace, "shop", &wanted).await.unwrap_err();
    assert_eq!(error.class(), Class::Taken, "{error}");
    let found = bound(&world).await;
    assert_eq!(found[0].subjects.as_ref().unwrap()[0].name, "them");
    world.end().await;
}

/// The rules of `examples/operator/rbac.yaml` are enough for the four roles, and for no others.
#[tokio::test]
async fn the_operator_can_give_these_roles_and_no_others() {
    let world = World::new("bind").await;
    policies::install(&world.client).await;
    let operator = format!("operator-{}", world.namespace);
    for mut document in policies::documents("rbac.yaml") {
        if document["kind"] == "ClusterRole" && document["metadata"]["name"] == "stagekeeper" {
            document["metadata"]["name"] = json!(operator);
            policies::apply(&world.client, &document).await;
        }
    }
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": {"name": operator, "namespace": world.namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": operator},
        "subjects": [{"kind": "User", "name": operator, "apiGroup": "rbac.authorization.k8s.io"}],
    }))
    .unwrap();
    world.api().create(&PostParams::default(), &binding).await.unwrap();
    comes_to_be(&world.client, (&operator, &[]), "patch", "stages", &world.namespace, true).await;
    let client = policies::client_of(&operator, &[]).await;
    let writer = Writer::new(client.clone(), world.index.clone());
    let access = json!([
        {"role": "owner", "user": "a"}, {"role": "admin", "user": "a"}, {"role": "member", "user": "a"},
        {"role": "viewer", "user": "a"},
    ]);
    let wanted = render::bindings(&project(&world, access).await);
    assert_eq!(writer.settle_bindings(&world.namespace, "shop", &wanted).await, Ok(4));

    let mut greedy = wanted[0].clone();
    greedy.metadata.name = Some("greedy".into());
    // What it may do itself, Kubernetes lets everybody give away.
    for role in ["cluster-admin", "admin", "view"] {
        greedy.role_ref.name = role.into();
        let error = Api::<RoleBinding>::namespaced(client.clone(), &world.namespace)
            .create(&PostParams::default(), &greedy)
            .await
            .expect_err(role);
        let kube::Error::Api(status) = &error else { panic!("{role}: {error}") };
        assert_eq!(status.code, 403, "{role}: {error}");
    }
    world.end().await;
}

/// Whoever may change a Project cannot give themselves a role by it.
#[tokio::test]
async fn access_is_changed_only_by_who_may_grant() {
    let world = World::new("grant").await;
    policies::install(&world.client).await;
    policies::guard(&world.client, &world.namespace, "policies.yaml").await;
    project(&world, json!([{"role": "viewer", "user": "joe"}])).await;
    let edit: &[&str] = &["get", "patch", "update", "create"];
    policies::allow(&world.client, &world.namespace, "eve", &[("projects", edit)]).await;
    policies::allow(&world.client, &world.namespace, "olga", &[("projects", &["get", "patch", "grant"])]).await;
    for user in ["eve", "olga"] {
        comes_to_be(&world.client, (user, &[]), "patch", "projects", &world.namespace, true).await;
    }
    let as_user = async |user: &str, patch: Value| {
        let client = policies::client_of(user, &[]).await;
        let api: Api<Project> = Api::namespaced(client, &world.namespace);
        api.patch("shop", &PatchParams { dry_run: true, ..PatchParams::default() }, &Patch::Merge(patch)).await
    };
    let gift = json!({"spec": {"access": [{"role": "owner", "user": "eve"}]}});
    // The API server takes a moment to follow a policy.
    within("eve is refused", async {
        while as_user("eve", gift.clone()).await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    })
    .await;
    let said = as_user("eve", gift.clone()).await.unwrap_err().to_string();
    assert!(said.contains("needs the verb grant on projects.stagekeeper.dev shop"), "{said}");
    let removal = as_user("eve", json!({"spec": {"access": null}})).await;
    assert!(removal.is_err(), "taking away is changing too");
    as_user("eve", json!({"spec": {"suspend": true}})).await.expect("anything else of the Project needs nothing more");
    as_user("olga", gift).await.expect("olga may grant");
    // Making a Project with roles in it is giving them.
    let client = policies::client_of("eve", &[]).await;
    let mut made = declared(&json!([{"role": "owner", "user": "eve"}]));
    made.metadata.name = Some("mine".into());
    let api: Api<Project> = Api::namespaced(client, &world.namespace);
    api.create(&PostParams { dry_run: true, ..PostParams::default() }, &made).await.expect_err("made with roles");
    made.spec.access.clear();
    api.create(&PostParams { dry_run: true, ..PostParams::default() }, &made).await.expect("made without");
    world.end().await;
}
