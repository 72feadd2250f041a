//! The definitions of our kinds: the committed files are what the types say, and a real API server enforces them.
//! `UPDATE=1 cargo test --test crds` rewrites the files.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says where")]

mod crds {
    pub mod cases;
    pub mod environment;
    pub mod objects;
    pub mod project;
    pub mod reference;
    pub mod server;
    pub mod stage;
}

use std::path::Path;
use std::{env, fs};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

/// Compares a generated file with the committed one, or rewrites it when asked to.
fn assert_generated(path: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, wanted).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "{} is not what the types say: run `UPDATE=1 cargo test --test crds` and commit the result",
        path.display()
    );
}

#[test]
fn definitions_are_generated() {
    for crd in stagekeeper::api::crds() {
        let yaml = stagekeeper::api::to_yaml(&crd).unwrap();
        assert_generated(&format!("crds/{}.yaml", singular(&crd)), &yaml);
    }
}

#[test]
fn the_field_reference_is_generated() {
    for crd in stagekeeper::api::crds() {
        assert_generated(&format!("docs/api/{}.md", singular(&crd)), &crds::reference::page(&crd));
    }
}

fn singular(crd: &CustomResourceDefinition) -> &str {
    crd.spec.names.singular.as_deref().unwrap()
}

#[tokio::test]
async fn the_api_server_enforces_the_rules_of_project() {
    let client = crds::server::client().await;
    crds::server::install(&client).await;
    crds::cases::hold(&client, "Project", &crds::project::cases()).await;
}

#[tokio::test]
async fn the_api_server_enforces_the_rules_of_stage() {
    let client = crds::server::client().await;
    crds::server::install(&client).await;
    crds::cases::hold(&client, "Stage", &crds::stage::cases()).await;
}

#[tokio::test]
async fn the_api_server_enforces_the_rules_of_environment() {
    let client = crds::server::client().await;
    crds::server::install(&client).await;
    crds::cases::hold(&client, "Environment", &crds::environment::cases()).await;
}

#[tokio::test]
async fn stored_objects() {
    let client = crds::server::client().await;
    crds::server::install(&client).await;
    // From here on the API server is known to follow the definitions of this build.
    crds::cases::hold(&client, "Project", &crds::project::cases()).await;
    crds::cases::hold(&client, "Stage", &crds::stage::cases()).await;
    crds::cases::hold(&client, "Environment", &crds::environment::cases()).await;
    let namespace = crds::server::namespace(&client, "objects").await;
    crds::objects::are_born_with_defaults_and_unobserved(&client, &namespace).await;
    crds::objects::keep_every_field_of_their_status(&client, &namespace).await;
    crds::objects::are_shown_in_columns(&client, &namespace).await;
    crds::objects::hold_a_stage_to_its_project(&client, &namespace).await;
    crds::objects::take_the_status_of_another_version(&client, &namespace).await;
    crds::server::remove(&client, &namespace).await;
}

#[tokio::test]
async fn the_examples_are_accepted_as_they_are() {
    let client = crds::server::client().await;
    crds::server::install(&client).await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/shop");
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let manifests: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|extension| extension == "yaml")).collect();
    assert!(manifests.len() >= 2, "a Project and a Stage: {manifests:?}");
    for path in manifests {
        let object = serde_yaml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        crds::server::eventually(async || {
            let answer = crds::server::dry_run(&client, "default", &object).await;
            let found = answer.err().map(|error| (&path, crds::server::causes(&error)));
            found.into_iter().collect()
        })
        .await;
    }
}
