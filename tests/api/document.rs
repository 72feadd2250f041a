//! The `OpenAPI` document: committed, served, and whole.

use std::{collections::BTreeSet, env, fs, path::Path};

use reqwest::{Method, StatusCode};
use serde_json::Value;
use stagekeeper::http::api::openapi;

use crate::lab::Lab;

const FILE: &str = "docs/openapi.json";

#[test]
fn the_document_is_written_from_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    let wanted = openapi::text();
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, &wanted).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(found == wanted, "{FILE} is not what the code says: run `UPDATE=1 cargo test --test api` and commit it");
}

/// Every `$ref` leads to a schema, and every schema is one that something leads to.
#[test]
fn references_lead_somewhere() {
    let document = openapi::document();
    let mut found = BTreeSet::new();
    collect(&document, &mut found);
    let schemas: BTreeSet<String> = document["components"]["schemas"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(found, schemas);
    assert!(schemas.len() > 20, "{schemas:?}");
}

fn collect(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(to)) = fields.get("$ref") {
                match to.strip_prefix("#/components/schemas/") {
                    Some(name) => _ = found.insert(name.to_owned()),
                    None => assert!(to.starts_with("#/components/responses/"), "{to}"),
                }
            }
            fields.values().for_each(|value| collect(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_document_is_served_to_everybody_and_other_paths_to_nobody() {
    let lab = Lab::new().await;
    let answer = lab.send(Method::GET, None, "/openapi.json", None, &[]).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json(), openapi::document());
    for (method, path, status) in [
        (Method::GET, "/", StatusCode::NOT_FOUND),
        (Method::GET, "/nothing", StatusCode::NOT_FOUND),
        (Method::PATCH, "/tags/x", StatusCode::METHOD_NOT_ALLOWED),
        (Method::DELETE, "/namespaces/x/projects", StatusCode::METHOD_NOT_ALLOWED),
    ] {
        let answer = lab.send(method.clone(), Some(&lab.owner), path, None, &[]).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.problem()["type"], "urn:stagekeeper:problem:no-route");
    }
}
