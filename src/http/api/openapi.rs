//! The `OpenAPI` document, written from the table.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::{
    BASE, MAX_BODY,
    problem::Problem,
    table::{Endpoint, TABLE},
};

/// What every answer may be instead of a good one.
const REFUSALS: [(StatusCode, &str); 8] = [
    (StatusCode::BAD_REQUEST, "A parameter or a field is not as it should be; `errors` names each."),
    (StatusCode::UNAUTHORIZED, "No token, or one that is nobody's, has expired, or is for another audience."),
    (StatusCode::FORBIDDEN, "The caller may see it, but not do this with it."),
    (StatusCode::NOT_FOUND, "Not there, or not for the caller: which of the two is not said."),
    (
        StatusCode::CONFLICT,
        "Something else has happened meanwhile, or an Idempotency-Key was used for another request.",
    ),
    (StatusCode::TOO_MANY_REQUESTS, "Too many requests; `Retry-After` says when the next one may come."),
    (StatusCode::INTERNAL_SERVER_ERROR, "A mistake of the server."),
    (StatusCode::SERVICE_UNAVAILABLE, "The database or the API server does not answer."),
];

const ABOUT: &str = "The HTTP API of Stagekeeper. Every request carries a bearer token: one of Kubernetes for the audience \
    `stagekeeper` (`kubectl create token NAME --audience stagekeeper`), or an ID token of the configured OpenID Connect issuer. \
    What a caller may do is what RBAC of the cluster says; `x-access` names the rights that each operation takes. Values of \
    credentials and secrets are never in an answer.";

/// The document.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<Problem>();
    let answers: Map<String, Value> = REFUSALS
        .iter()
        .map(|(status, about)| {
            let content = json!({"application/problem+json": {"schema": problem}});
            (status.as_str().to_owned(), json!({"description": about, "content": content}))
        })
        .collect();
    let refusals: Map<String, Value> = answers
        .keys()
        .map(|status| (status.clone(), json!({"$ref": format!("#/components/responses/{status}")})))
        .collect();
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    for endpoint in TABLE {
        let path = format!("{BASE}{}", endpoint.spec.path);
        let method = endpoint.spec.method.word().to_owned();
        paths.entry(path).or_default().insert(method, operation(endpoint, &mut generator, &refusals));
    }
    json!({
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Stagekeeper",
            "version": "v1",
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
            "responses": answers,
            "schemas": generator.take_definitions(true),
        },
    })
}

/// The document as it is committed and served.
pub fn text() -> String {
    // A value of our own making: this cannot fail.
    let mut text = serde_json::to_string_pretty(&document()).unwrap_or_default();
    text.push('\n');
    text
}

fn operation(endpoint: &Endpoint, generator: &mut SchemaGenerator, refusals: &Map<String, Value>) -> Value {
    let spec = &endpoint.spec;
    let schemas = (endpoint.schemas)(generator);
    let parameters: Vec<Value> = spec
        .parameters
        .iter()
        .map(|one| {
            json!({
                "name": one.name,
                "in": one.place.word(),
                "required": one.is_required,
                "description": one.about,
                "schema": one.kind.schema(),
            })
        })
        .collect();
    let access: Vec<Value> =
        spec.access.iter().map(|(resource, verb)| json!({"resource": resource, "verb": verb})).collect();
    let mut good = json!({"description": spec.summary});
    if spec.status != StatusCode::NO_CONTENT {
        good["content"] = json!({"application/json": {"schema": schemas.answer}});
        if spec.streams {
            good["content"]["text/event-stream"] = json!({"schema": {"type": "string"}});
        }
    }
    let mut responses = refusals.clone();
    responses.insert(spec.status.as_str().to_owned(), good);
    let mut said = json!({
        "operationId": spec.id,
        "summary": spec.summary,
        "parameters": parameters,
        "responses": responses,
        "x-access": access,
    });
    if !spec.about.is_empty() {
        said["description"] = spec.about.into();
    }
    if let Some(content) = schemas.content {
        let mut media = json!({"schema": content});
        if let Some(example) = spec.example {
            media["example"] = example();
        }
        let about = format!("At most {MAX_BODY} bytes.");
        said["requestBody"] = json!({"required": true, "description": about, "content": {"application/json": media}});
    }
    said
}
