//! Requests by annotation: who may make one, under which name, and that everything else needs nothing more.

use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use stagekeeper::{
    api::{Environment, Stage},
    cluster::apply::Writer,
    controllers::stage::annotated::annotated,
    domain::{annotation::Of, request::Action},
};

use super::{
    policies,
    server::{World, within},
};

struct Place {
    world: World,
}

impl Place {
    async fn new(name: &str, files: &[&str]) -> Self {
        let world = World::new(name).await;
        policies::install(&world.client).await;
        for file in files {
            policies::guard(&world.client, &world.namespace, file).await;
        }
        let stage = json!({
            "apiVersion": "stagekeeper.dev/v1alpha1", "kind": "Stage", "metadata": {"name": "prod"}, "spec": {"project": "shop"},
        });
        let params = PatchParams::apply("stagekeeper-tests").force();
        world.api::<Stage>().patch("prod", &params, &Patch::Apply(&stage)).await.unwrap();
        let verbs: [(&str, &[&str]); 4] = [
            ("eve", &["get", "patch"]),
            ("rita", &["get", "patch", "rollback"]),
            ("holger", &["get", "patch", "hold", "retry"]),
            ("operator", &["get", "patch"]),
        ];
        for (user, verbs) in verbs {
            policies::allow(&world.client, &world.namespace, user, &[("stages", verbs)]).await;
            within(user, async {
                while !policies::may(&world.client, (user, &[]), "patch", "stages", &world.namespace).await {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                }
            })
            .await;
        }
        Self { world }
    }

    /// What a user's annotations come to, without storing them or for good.
    async fn annotate(&self, user: &str, annotations: Value, dry_run: bool) -> kube::Result<Stage> {
        let client: Client = policies::client_of(user, &["dev", "release managers"]).await;
        let api: Api<Stage> = Api::namespaced(client, &self.world.namespace);
        let patch = json!({"metadata": {"annotations": annotations}});
        api.patch("prod", &PatchParams { dry_run, ..PatchParams::default() }, &Patch::Merge(patch)).await
    }

    /// The API server takes a moment to follow a policy.
    async fn refused(&self, user: &str, annotations: Value) -> String {
        within(&format!("{user} is refused {annotations}"), async {
            loop {
                match self.annotate(user, annotations.clone(), true).await {
                    Err(error) => return error.to_string(),
                    Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
                }
            }
        })
        .await
    }
}

fn request(word: &str) -> Value {
    json!({"stagekeeper.dev/request": word, "stagekeeper.dev/request-nonce": "1"})
}

#[tokio::test]
async fn a_request_needs_the_verb_and_nothing_else_does() {
    let place = Place::new("asking", &["policies.yaml"]).await;
    let said = place.refused("eve", request("rollback")).await;
    assert!(said.contains("needs the verb rollback on stages.stagekeeper.dev prod in namespace"), "{said}");
    let words = ["promote", "rollback", "approve", "abort", "retry", "hold", "resume", "veto", "unveto"];
    for word in words {
        let may = |verbs: &[&str]| verbs.contains(&word);
        for (user, want) in [
            ("eve", false),
            ("rita", may(&["rollback"])),
            ("holger", may(&["hold", "resume", "veto", "unveto", "retry"])),
        ] {
            let answer = place.annotate(user, request(word), true).await;
            assert_eq!(answer.is_ok(), want, "{user} asks for {word}: {answer:?}");
        }
    }
    for word in ["Rollback", "rollback ", "explode", r#"{"action":"rollback"}"#] {
        let said = place.refused("rita", request(word)).await;
        assert!(said.contains("stagekeeper.dev/request must be promote"), "{word}: {said}");
    }
    let retry = json!({"stagekeeper.dev/retry": "1"});
    assert!(place.refused("eve", retry.clone()).await.contains("needs the verb retry"));
    place.annotate("holger", retry, true).await.expect("the older form, with the verb");

    // What asks for nothing needs nothing.
    place.annotate("eve", json!({"team": "shop"}), true).await.expect("another annotation");
    place.annotate("rita", request("rollback"), false).await.expect("a request that stays");
    place.annotate("eve", json!({"team": "shop"}), true).await.expect("another annotation beside a request");
    let asked = json!({"stagekeeper.dev/request-nonce": "2"});
    place.annotate("eve", asked, true).await.expect_err("the same once more is a request too");
    let other =
        json!({"stagekeeper.dev/request-arguments": "{\"to\": {\"lastGoodBefore\": \"1970-01-01T00:00:00Z\"}}"});
    place.annotate("eve", other, true).await.expect_err("and so is another destination");
    let gone = json!({"stagekeeper.dev/request": null, "stagekeeper.dev/request-nonce": null});
    place.annotate("eve", gone, true).await.expect("removing it asks for nothing");
    place.world.end().await;
}

#[tokio::test]
async fn who_may_update_an_environment_may_ask_something_of_it_and_who_may_delete_it_its_end() {
    let place = Place::new("asking-env", &["policies.yaml"]).await;
    let (client, namespace) = (&place.world.client, &place.world.namespace);
    let environment = json!({
        "apiVersion": "stagekeeper.dev/v1alpha1", "kind": "Environment", "metadata": {"name": "pr-42"}, "spec": {"project": "shop"},
    });
    let params = PatchParams::apply("stagekeeper-tests").force();
    place.world.api::<Environment>().patch("pr-42", &params, &Patch::Apply(&environment)).await.unwrap();
    let verbs: [(&str, &[&str]); 3] =
        [("wendy", &["get", "patch"]), ("uma", &["get", "patch", "update"]), ("dora", &["get", "patch", "delete"])];
    for (user, verbs) in verbs {
        policies::allow(client, namespace, user, &[("environments", verbs)]).await;
        within(user, async {
            while !policies::may(client, (user, &[]), "patch", "environments", namespace).await {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        })
        .await;
    }
    let ask = async |user: &str, annotations: Value| {
        let api: Api<Environment> = Api::namespaced(policies::client_of(user, &[]).await, namespace);
        let params = PatchParams { dry_run: true, ..PatchParams::default() };
        api.patch("pr-42", &params, &Patch::Merge(json!({"metadata": {"annotations": annotations}}))).await
    };
    let said = within("the policy is in force", async {
        loop {
            match ask("wendy", request("wake")).await {
                Err(error) => return error.to_string(),
                Ok(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
            }
        }
    })
    .await;
    assert!(said.contains("needs the verb update on environments.stagekeeper.dev pr-42 in namespace"), "{said}");
    for word in ["wake", "sleep", "extend", "pin", "unpin", "rollback", "abort", "retry", "delete"] {
        for (user, want) in [("wendy", false), ("uma", word != "delete"), ("dora", word == "delete")] {
            let answer = ask(user, request(word)).await;
            assert_eq!(answer.is_ok(), want, "{user} asks for {word}: {answer:?}");
        }
    }
    for word in ["promote", "approve", "hold", "Wake", "explode"] {
        let said = ask("uma", request(word)).await.expect_err("no such word").to_string();
        assert!(said.contains("stagekeeper.dev/request must be wake, sleep, extend"), "{word}: {said}");
    }
    let mut forged = request("wake");
    forged["stagekeeper.dev/request-user"] = json!("dora");
    let said = ask("uma", forged).await.expect_err("another name").to_string();
    assert!(said.contains("stagekeeper.dev/request-user must be your own name"), "{said}");
    ask("wendy", json!({"stagekeeper.dev/retry": "1"})).await.expect_err("the older form needs the verb too");
    ask("wendy", json!({"team": "shop"})).await.expect("what asks for nothing needs nothing");
    assert_eq!(place.world.writer.requests_are_guarded::<Environment>(namespace, "pr-42").await, Ok(true));
    place.world.end().await;
}

#[tokio::test]
async fn nobody_can_give_another_name_than_their_own() {
    let place = Place::new("naming", &["policies.yaml"]).await;
    let named = |user: &str, groups: &str| {
        let mut asked = request("rollback");
        asked["stagekeeper.dev/request-user"] = json!(user);
        asked["stagekeeper.dev/request-groups"] = json!(groups);
        asked
    };
    // Impersonation adds the group of everybody who logs in.
    let groups = "dev\nrelease managers\nsystem:authenticated";
    let said = place.refused("rita", named("holger", groups)).await;
    assert!(said.contains("stagekeeper.dev/request-user must be your own name"), "{said}");
    let said = place.refused("rita", named("rita", "admins")).await;
    assert!(said.contains("stagekeeper.dev/request-groups must be your own groups"), "{said}");
    place.annotate("rita", named("rita", groups), true).await.expect("her own name");
    place.world.end().await;
}

#[tokio::test]
async fn admission_writes_down_who_asks() {
    let place = Place::new("stamping", &["policies.yaml", "request-user.yaml"]).await;
    let stage = within("a stamp", async {
        loop {
            let stage = place.annotate("rita", request("rollback"), true).await.expect("rita may");
            if stage.metadata.annotations.as_ref().unwrap().contains_key("stagekeeper.dev/request-user") {
                return stage;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    })
    .await;
    let read = annotated(&stage, Of::Stage).unwrap().unwrap();
    assert!(matches!(read.action, Action::Rollback { .. }));
    assert_eq!(read.user.as_deref(), Some("rita"));
    assert_eq!(read.groups, ["dev", "release managers", "system:authenticated"]);

    // A false name is put right, also when it stands there from somebody else's request.
    let mut forged = request("hold");
    forged["stagekeeper.dev/request-user"] = json!("rita");
    let stage = place.annotate("holger", forged, false).await.expect("holger may hold");
    assert_eq!(stage.metadata.annotations.unwrap()["stagekeeper.dev/request-user"], "holger");
    let stage = place.annotate("rita", request("rollback"), true).await.expect("rita may");
    assert_eq!(stage.metadata.annotations.unwrap()["stagekeeper.dev/request-user"], "rita");
    let untouched = place.annotate("eve", json!({"team": "shop"}), true).await.expect("not a request");
    assert_eq!(untouched.metadata.annotations.unwrap()["stagekeeper.dev/request-user"], "holger");
    place.world.end().await;
}

#[tokio::test]
async fn the_operator_finds_out_whether_names_are_guarded() {
    let open = Place::new("open", &[]).await;
    let writer = &open.world.writer;
    assert_eq!(writer.requests_are_guarded::<Stage>(&open.world.namespace, "prod").await, Ok(false));
    policies::guard(&open.world.client, &open.world.namespace, "policies.yaml").await;
    within("the policy is found", async {
        while writer.requests_are_guarded::<Stage>(&open.world.namespace, "prod").await != Ok(true) {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    })
    .await;
    // With the stamp a false name is put right instead of refused, beside a request that stands.
    policies::guard(&open.world.client, &open.world.namespace, "request-user.yaml").await;
    assert_eq!(writer.requests_are_guarded::<Stage>(&open.world.namespace, "prod").await, Ok(true));
    let stored = open.world.api::<Stage>().get("prod").await.unwrap();
    assert!(stored.metadata.annotations.unwrap_or_default().is_empty(), "nothing was stored");
    within("a stamped request", async {
        loop {
            let stage = open.annotate("rita", request("rollback"), false).await.expect("rita may");
            if stage.metadata.annotations.unwrap().contains_key("stagekeeper.dev/request-user") {
                return;
            }
            open.annotate("rita", json!({"stagekeeper.dev/request": null}), false).await.expect("taken back");
        }
    })
    .await;
    assert_eq!(
        writer.requests_are_guarded::<Stage>(&open.world.namespace, "prod").await,
        Ok(true),
        "as the administrator"
    );
    let operator = Writer::new(policies::client_of("operator", &[]).await, open.world.index.clone());
    assert_eq!(
        operator.requests_are_guarded::<Stage>(&open.world.namespace, "prod").await,
        Ok(true),
        "as the operator"
    );
    open.world.end().await;
}
