//! `stagekeeper why`.

use serde_json::json;
use stagekeeper::api::{Project, Stage};

use crate::{
    binary::{Ended, Folder, run, stagekeeper},
    cluster::{Ground, kubeconfig, kubeconfig_to_nowhere},
    shop::{Shop, id},
};

fn why(stage: &str, ground: &Ground, database: Option<&str>, more: &[&str]) -> Ended {
    let arguments = [&["why", stage, "-n", &ground.namespace], more].concat();
    let mut command = stagekeeper(&arguments);
    command.env("KUBECONFIG", kubeconfig());
    if let Some(url) = database {
        command.env("DATABASE_URL", url);
    }
    run(&mut command)
}

async fn shop(ground: &Ground) -> Shop {
    let image = json!({"repository": "registry.test/acme/shop", "policy": {"semver": "*"}});
    let services = json!([{"name": "web", "image": image}]);
    ground.make::<Project>("shop", json!({"services": services})).await;
    let spec = json!({"project": "shop", "suspend": true, "pin": {"web": "1.0.0"}});
    ground.make::<Stage>("dev", spec).await;
    Shop::new(&ground.namespace).await
}

#[tokio::test]
async fn everything_that_stands_in_the_way_is_named_with_the_way_out() {
    let ground = Ground::new("why").await;
    let shop = shop(&ground).await;
    let waits = json!({
        "observedGeneration": 1,
        "conditions": [{
            "type": "Reconciling",
            "status": "True",
            "reason": "DeployPending",
            "message": "web 2.1.0: pending: stage dev is suspended",
            "lastTransitionTime": "2026-11-21T12:00:00Z",
        }],
        "deploy": {
            "id": id(3).to_string(),
            "state": "Pending",
            "waitingReason": "Suspended",
            "message": "stage dev is suspended; set spec.suspend to false to go on",
            "blocker": "stage dev",
        },
    });
    ground.report::<Stage>("dev", waits).await;

    let text = why("dev", &ground, Some(shop.url()), &[]).well();
    let namespace = &ground.namespace;
    for expected in [
        format!("Stage:          shop/dev in namespace {namespace}\n"),
        "Now:            Reconciling (DeployPending): web 2.1.0: pending: stage dev is suspended\n".into(),
        format!("Serves:         web 1.0.0 since 9d23h ago, deploy {}\n", id(1)),
        format!("Under way:      web 2.1.0: pending for 9d23h, deploy {}\n", id(3)),
        "Waits for:      Suspended: stage dev is suspended; set spec.suspend to false to go on\n".into(),
        format!("Last failure:   web 2.0.0 9d23h ago (rolled_back), deploy {}: GET /healthz answered 500", id(2)),
        format!(
            "Held back:      web 2.0.0 since 9d23h ago, it failed here in deploy {}: GET /healthz answered 500\n",
            id(2)
        ),
        "Pinned:         web to 1.0.0\n".into(),
        format!(
            "What helps:     kubectl patch stage dev -n {namespace} --type merge -p '{{\"spec\":{{\"suspend\":false}}}}'\n"
        ),
    ] {
        assert!(text.contains(&expected), "{expected:?} is missing:\n{text}");
    }
    assert!(!text.contains("Not known"), "{text}");

    let json = why("dev", &ground, Some(shop.url()), &["-o", "json"]).json();
    assert_eq!(json["suspended"], json!(["stage"]));
    assert_eq!(json["waiting"]["blocker"], "stage dev");
    assert_eq!(json["vetoed"][0]["deploy"], id(2).to_string());
    assert_eq!(json["unknown"], json!([]));
    ground.clear().await;
}

#[tokio::test]
async fn one_of_cluster_and_database_is_enough() {
    let ground = Ground::new("why-half").await;
    let shop = shop(&ground).await;

    let without_database = why("dev", &ground, None, &[]).well();
    assert!(without_database.contains("\"suspend\":false"), "{without_database}");
    assert!(without_database.contains("no pod of the operator was found"), "{without_database}");
    assert!(without_database.contains("has not seen the latest spec"), "{without_database}");

    let folder = Folder::new();
    let nowhere = kubeconfig_to_nowhere(&folder);
    let nowhere = nowhere.to_str().unwrap();
    let arguments = ["why", "dev", "-n", &ground.namespace, "--kubeconfig", nowhere];
    let without_cluster = run(stagekeeper(&arguments).env("DATABASE_URL", shop.url())).well();
    assert!(without_cluster.contains("Serves:"), "{without_cluster}");
    assert!(without_cluster.contains("Not known:"), "{without_cluster}");

    let neither = run(&mut stagekeeper(&arguments)).badly(3);
    assert!(neither.contains("cannot reach the API server"), "{neither}");
    ground.clear().await;
}

#[tokio::test]
async fn a_stage_that_is_not_there_is_an_error() {
    let ground = Ground::new("why-none").await;
    let shop = shop(&ground).await;
    let said = why("qa", &ground, Some(shop.url()), &[]).badly(1);
    let expected = format!("there is no Stage qa in namespace {}", ground.namespace);
    assert!(said.contains(&expected), "{said}");
    ground.clear().await;
}
