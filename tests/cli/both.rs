//! The same questions through the HTTP API and straight to the database: the same answers, in every form.

use serde_json::{Value, json};
use stagekeeper::{
    api::{Project, Stage},
    domain::image::Digest,
    store::{LogLevel, NewStage},
};
use uuid::Uuid;

use crate::{
    binary::{Ended, Running, run, stagekeeper},
    cluster::kubeconfig,
    lab::Lab,
    shop::id,
};

/// A command through the API, with a token.
fn through(lab: &Lab, token: &str, arguments: &[&str]) -> std::process::Command {
    let mut command = stagekeeper(arguments);
    command.args(["-n", &lab.namespace, "--server", &lab.url("")]).env("STAGEKEEPER_TOKEN", token);
    command
}

fn straight(lab: &Lab, arguments: &[&str]) -> Ended {
    let mut command = stagekeeper(arguments);
    run(command.args(["-n", &lab.namespace]).env("DATABASE_URL", lab.shop.url()).env("KUBECONFIG", kubeconfig()))
}

/// Without the seconds of what goes on while it is looked at.
fn still(text: &str) -> String {
    match serde_json::from_str::<Value>(text) {
        Ok(mut value) => {
            quiet(&mut value);
            value.to_string()
        }
        Err(_) => text.lines().filter(|line| !line.contains("econds: ")).collect::<Vec<_>>().join("\n"),
    }
}

fn quiet(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !name.ends_with("econds"));
            fields.values_mut().for_each(quiet);
        }
        Value::Array(items) => items.iter_mut().for_each(quiet),
        _ => {}
    }
}

async fn declare(lab: &Lab) {
    let image = json!({"repository": "registry.test/acme/shop", "policy": {"semver": "*"}});
    let project: Project = serde_json::from_value(json!({
        "apiVersion": "stagekeeper.dev/v1alpha1", "kind": "Project", "metadata": {"name": "shop"},
        "spec": {"services": [{"name": "web", "image": image}]}}))
    .unwrap();
    let params = kube::api::PostParams::default();
    kube::Api::namespaced(lab.client.clone(), &lab.namespace).create(&params, &project).await.unwrap();
    let promotion = json!({"from": ["dev"], "approvals": {"required": 2}});
    let specs = [
        ("dev", json!({"project": "shop", "suspend": true})),
        ("qa", json!({"project": "shop", "promotion": promotion})),
    ];
    for (name, spec) in specs {
        let stage: Stage = serde_json::from_value(json!({
            "apiVersion": "stagekeeper.dev/v1alpha1", "kind": "Stage", "metadata": {"name": name}, "spec": spec}))
        .unwrap();
        kube::Api::namespaced(lab.client.clone(), &lab.namespace).create(&params, &stage).await.unwrap();
    }
}

/// A stage that nothing has come to yet.
async fn qa(lab: &Lab) {
    let stage = NewStage {
        id: Uuid::from_u128(5),
        project_id: Uuid::from_u128(1),
        namespace: lab.namespace.clone(),
        name: "qa".into(),
        uid: "uid-5".into(),
    };
    lab.shop.store().stage_upsert(&stage).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn both_ways_say_the_same() {
    let lab = Lab::new().await;
    declare(&lab).await;
    qa(&lab).await;
    let digest = Digest::of(b"nobody has it").to_string();
    let at = lab.shop.at(300).to_string();
    let questions: &[&[&str]] = &[
        &["history"],
        &["history", "-o", "wide"],
        &["history", "-o", "json"],
        &["history", "-o", "yaml"],
        &["history", "-o", "name"],
        &["history", "shop/dev", "--state", "rolled_back"],
        &["history", "--limit", "2"],
        &["history", "--since", "9d"],
        &["history", "-A", "--image", "2.1"],
        &["history", "--at", "1h"],
        &["history", "--at", &at, "-o", "json", "shop/prod"],
        &["history", "--image", &digest, "--stages"],
        &["stats"],
        &["stats", "-A", "--since", "20d", "-o", "wide"],
        &["stats", "--stage", "dev", "-o", "name"],
        &["get", "deploy", "0193522a-8c12"],
        &["get", "deploy", "0193522a-8c12", "-o", "json"],
        &["get", "deploy", "deploy/0193522a-8c13-7000-8000-000000000000", "-o", "name"],
        &["logs", "0193522a-8c12"],
        &["logs", "0193522a-8c12", "-o", "json"],
        &["logs", "0193522a-8c12", "--search", "tables"],
        &["logs", "--project", "shop", "--search", "tables OR answered"],
        &["logs", "--project", "shop", "--search", "tables OR answered", "--limit", "1", "-o", "json"],
        &["logs", "--project", "shop", "--search", "nowhere"],
        &["audit", "list", "--project", "shop"],
        &["audit", "list", "--stage", "dev", "-o", "json"],
        &["audit", "list", "-A", "--action", "deploy.create", "-o", "name"],
        &["updates", "list", "-A"],
        &["updates", "list", "-A", "--pending", "-o", "json"],
        &["updates", "tag", "list"],
        &["updates", "tag", "list", "-o", "json"],
        &["groups"],
        &["groups", "-o", "json"],
        &["why", "dev"],
        &["why", "dev", "-o", "json"],
        &["promote", "qa", "--dry-run"],
        &["promote", "qa", "--dry-run", "-o", "json"],
        &["promote", "qa", "--dry-run", "--release", "0123abcd"],
        &["logs", "0193522a-9999"],
    ];
    // The one difference: who asks.
    let who = format!("user:system:serviceaccount:{}:admin", lab.namespace);
    let said = |ended: &Ended| (ended.code, still(&ended.out.replace(&who, "user:unknown")), ended.err.clone());
    for question in questions {
        let both = || (straight(&lab, question), run(&mut through(&lab, &lab.admin, question)));
        let (mut database, mut api) = both();
        // Ages grow between the two now and then, and not each time.
        if said(&api) != said(&database) {
            (database, api) = both();
        }
        assert_eq!(said(&api), said(&database), "{question:?}");
        assert!(!(api.out.is_empty() && api.err.is_empty()), "{question:?}: nothing was said");
    }
    let seen = run(&mut through(&lab, &lab.admin, &["users", "list", "-o", "name"])).well();
    assert!(seen.contains(&format!("user/system:serviceaccount:{}:admin\n", lab.namespace)), "{seen}");
    assert_eq!(straight(&lab, &["users", "list", "-o", "name"]).well(), seen);
}

#[tokio::test(flavor = "multi_thread")]
async fn updates_are_acknowledged_by_whoever_the_token_is_of() {
    let lab = Lab::new().await;
    let said = run(&mut through(&lab, &lab.owner, &["updates", "ack", "--image", "ghcr.io/*"])).well();
    assert_eq!(said, "acknowledged 1 update\n");
    let list = run(&mut through(&lab, &lab.owner, &["updates", "list", "-o", "json"])).json();
    assert_eq!(list["items"][0]["acknowledged"]["by"], format!("user:system:serviceaccount:{}:owner", lab.namespace));
    let number = list["items"][0]["id"].to_string();
    let said = run(&mut through(&lab, &lab.owner, &["updates", "unack", &number])).well();
    assert_eq!(said, "opened 1 update again\n");
    let said = run(&mut through(&lab, &lab.viewer, &["updates", "ack", "--all"])).badly(4);
    assert!(said.contains("the verb `update`"), "{said}");
    // What is not in the namespace is nobody's business there.
    let said = run(&mut through(&lab, &lab.owner, &["updates", "list", "-A"])).badly(1);
    assert!(said.contains("the updates of all namespaces: there is none, or you may not see it"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_are_kept_through_the_api() {
    let lab = Lab::new().await;
    let admin = |line: &str| run(&mut through(&lab, &lab.admin, &line.split(' ').collect::<Vec<_>>()));
    let owner = |line: &str| run(&mut through(&lab, &lab.owner, &line.split(' ').collect::<Vec<_>>()));
    let begun = straight(&lab, &["updates", "tag", "list", "-o", "name"]).well();
    assert_eq!(admin("updates tag create frontier/one").well(), "tag frontier/one made\n");
    let said = admin("updates tag create Frontier/One").badly(1);
    assert_eq!(said, straight(&lab, &["updates", "tag", "create", "Frontier/One"]).badly(1));
    let number = owner("updates list -o name").well();
    let number = number.trim();
    assert_eq!(
        owner(&format!("updates tag assign frontier/one {number}")).well(),
        "tag frontier/one given to 1 update\n"
    );
    assert_eq!(owner("updates list --tag frontier/one -o name").well().trim(), number);
    assert_eq!(admin("updates tag rename frontier/one brink").well(), "tag frontier/one is called brink now\n");
    assert_eq!(owner(&format!("updates tag unassign brink {number}")).well(), "tag brink taken from 1 update\n");
    assert_eq!(admin(&format!("updates tag assign brink {number} -A")).well(), "tag brink given to 1 update\n");
    let list = admin("updates tag list -o json").json();
    let tag = list["items"].as_array().unwrap().iter().find(|tag| tag["name"] == "brink").unwrap().clone();
    assert_eq!(
        (&tag["updates"], &tag["createdBy"]),
        (&json!(1), &json!(format!("user:system:serviceaccount:{}:admin", lab.namespace)))
    );
    // Tags are those of the whole installation: an owner of one project neither makes nor deletes them.
    for line in ["updates tag create edge", "updates tag delete brink", "updates tag list"] {
        let said = owner(line).badly(1);
        assert!(said.contains("there is none, or you may not see it"), "{line}: {said}");
    }
    assert_eq!(admin("updates tag delete brink").well(), "tag brink deleted; 1 update had it\n");
    let said = admin("updates tag delete brink").badly(1);
    assert!(said.contains("tag brink: there is none, or you may not see it"), "{said}");
    assert_eq!(straight(&lab, &["updates", "tag", "list", "-o", "name"]).well(), begun);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_heard_through_the_api_until_its_deploy_has_ended() {
    let lab = Lab::new().await;
    let deploy = id(3).to_string();
    lab.shop.line(3, 1, "operator", LogLevel::Info, "one").await;
    let follower = Running::start(&mut through(&lab, &lab.owner, &["logs", "-f", &deploy]));
    assert!(follower.out().ends_with("operator one"));
    lab.shop.line(3, 2, "operator", LogLevel::Warn, "two").await;
    assert!(follower.out().ends_with("operator WARN two"));
    lab.shop.line(3, 3, "operator", LogLevel::Info, "three").await;
    lab.shop.finish(3).await;
    let ended = follower.end();
    assert_eq!(ended.code, 0, "{ended:?}");
    assert!(ended.out.ends_with("operator three\n"), "{ended:?}");
    assert_eq!(ended.err, format!("deploy {deploy} ended: success\n"));

    let said = run(&mut through(&lab, &lab.viewer, &["logs", &deploy])).badly(1);
    assert!(said.contains("the verb `readlogs`"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_watched_tells_what_changes() {
    let lab = Lab::new().await;
    let deploy = id(3).to_string();
    let history = Running::start(&mut through(&lab, &lab.viewer, &["history", "shop/dev", "--watch", "-o", "json"]));
    for state in ["pending", "rolled_back", "success"] {
        let line: Value = serde_json::from_str(&history.out()).unwrap();
        assert_eq!(line["state"], state, "{line}");
    }
    let one = Running::start(&mut through(&lab, &lab.viewer, &["get", "deploy", &deploy, "--watch"]));
    while !one.out().contains("pending") {}
    lab.shop.finish(3).await;
    let ended = one.end();
    assert_eq!(ended.code, 0, "{ended:?}");
    for state in ["pulling", "starting", "configuring_proxy", "health_checking", "success"] {
        assert!(ended.out.contains(&format!(" {state}: on its way\n")), "{state}: {ended:?}");
    }
    let line: Value = serde_json::from_str(&history.out()).unwrap();
    assert_eq!((&line["id"], &line["state"]), (&json!(deploy), &json!("success")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_is_offered_the_names_that_are_there() {
    let lab = Lab::new().await;
    declare(&lab).await;
    let complete = |words: &[&str], with: &dyn Fn(&mut std::process::Command)| {
        let line = [&["--", "stagekeeper"], words].concat();
        let mut command = stagekeeper(&line);
        command
            .env("STAGEKEEPER_COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", words.len().to_string())
            .env("_CLAP_IFS", "\n");
        with(&mut command);
        let offered = run(&mut command).well();
        // Flags are offered everywhere.
        let names: Vec<&str> = offered.lines().filter(|name| !name.starts_with('-')).collect();
        names.join("\n")
    };
    let namespace = lab.namespace.as_str();
    let database = |command: &mut std::process::Command| {
        command.env("DATABASE_URL", lab.shop.url());
    };
    assert_eq!(complete(&["promote", "-n", namespace, ""], &database), "dev\nprod");
    assert_eq!(complete(&["promote", "-n", namespace, "p"], &database), "prod");
    let deploys = complete(&["logs", "-n", namespace, "0193522a"], &database);
    assert!(deploys.starts_with(&id(4).to_string()), "{deploys}");
    let url = lab.url("");
    let api = |command: &mut std::process::Command| {
        command.env("STAGEKEEPER_TOKEN", &lab.viewer).env("STAGEKEEPER_SERVER", &url);
    };
    assert_eq!(complete(&["why", "-n", namespace, "d"], &api), "dev");
    assert_eq!(complete(&["retry", "dev", "-n", namespace, "--deploy", "0193522a"], &api).lines().count(), 4);
    let cluster = |command: &mut std::process::Command| {
        command.env("KUBECONFIG", kubeconfig());
    };
    assert_eq!(complete(&["hold", "-n", namespace, ""], &cluster), "dev\nqa");
    // Whoever presses a key wants no explanations.
    let nowhere = |command: &mut std::process::Command| {
        command.env("STAGEKEEPER_TOKEN", &lab.viewer).env("STAGEKEEPER_SERVER", "http://127.0.0.1:1");
    };
    assert_eq!(complete(&["why", "-n", namespace, "d"], &nowhere), "");
    assert!(complete(&["hist"], &nowhere).contains("history"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_has_not_says_so() {
    let lab = Lab::new().await;
    for line in ["keys list", "audit verify", "images list shop", "credential test shop ghcr", "migrate status"] {
        let words: Vec<&str> = line.split(' ').collect();
        let said = run(&mut through(&lab, &lab.admin, &words)).badly(2);
        assert!(said.contains("works on the database itself: the API has nothing like it"), "{line}: {said}");
    }
    let said = run(&mut stagekeeper(&["registry", "list"])).badly(2);
    assert!(said.contains("DATABASE_URL (--database-url) is missing"), "{said}");
    assert!(said.contains("this goes straight to the database"), "{said}");
}

/// Runs a command that reads a value.
fn given(command: &mut std::process::Command, value: &[u8]) -> Ended {
    use std::{io::Write as _, process::Stdio};
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(value).unwrap();
    child.wait_with_output().unwrap().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn values_go_in_through_the_api_and_never_come_out() {
    let lab = Lab::new().await;
    let owner = |line: &str| through(&lab, &lab.owner, &line.split(' ').collect::<Vec<_>>());
    let set = "credential set shop ghcr --host ghcr.io --user robot";
    let said = given(&mut owner(set), b"hunter2\n").well();
    assert_eq!(said, "credential ghcr of shop is stored, sealed by the operator\n");
    let said = given(&mut owner(set), b"hunter2\n").well();
    assert_eq!(said, "credential ghcr of shop is what it was: nothing was written\n");
    let said = given(&mut owner("secret set shop API_KEY --service web"), &[0xff, 0xfe]).well();
    assert!(
        said.starts_with("secret API_KEY of service web of shop is stored as version 1")
            || said.contains("version 1, sealed by the operator"),
        "{said}"
    );
    assert!(said.contains("- name: API_KEY\n  service: web\n  as: env"), "{said}");
    for question in [
        &["credential", "list", "shop", "-o", "name"][..],
        &["credential", "list", "shop", "-o", "json"],
        &["credential", "show", "shop", "ghcr"],
        &["secret", "list", "shop", "-o", "name"],
        &["secret", "list", "shop", "-o", "yaml"],
    ] {
        let (database, api) = (straight(&lab, question), run(&mut through(&lab, &lab.viewer, question)));
        assert_eq!((api.code, &api.out, &api.err), (database.code, &database.out, &database.err), "{question:?}");
        assert!(api.out.contains("ghcr") || api.out.contains("API_KEY"), "{api:?}");
        assert!(!api.out.contains("hunter2"), "{api:?}");
    }
    let mut viewer = through(&lab, &lab.viewer, &set.split(' ').collect::<Vec<_>>());
    let refused = given(&mut viewer, b"hunter3");
    assert!(refused.err.contains("the verb `rotate`") && !refused.err.contains("hunter3"), "{refused:?}");
    assert_eq!(refused.code, 4);
    let said = run(&mut owner("secret unset shop API_KEY --service web")).well();
    assert!(said.ends_with("is deleted\n"), "{said}");
    assert_eq!(run(&mut owner("credential delete shop ghcr")).well(), "credential ghcr of shop is deleted\n");
    let said = run(&mut owner("credential delete shop ghcr")).badly(1);
    assert!(said.contains("credential ghcr of shop: there is none, or you may not see it"), "{said}");
}
