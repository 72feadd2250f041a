//! What is sent, and what is made of each reply, against an API server that follows a script.

use std::collections::BTreeMap;

use http::{Request as HttpRequest, Response};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::client::Body;
use serde_json::Value;
use tower_test::mock::{self, Handle};

use super::*;
use crate::cluster::index::{Scope, StageKey};

type Server = Handle<HttpRequest<Body>, Response<Body>>;

fn writer() -> (Writer, Index, Server) {
    let (service, server) = mock::pair::<HttpRequest<Body>, Response<Body>>();
    let index = Index::new(&Scope::Cluster);
    (Writer::new(Client::new(service, "default"), index.clone()), index, server)
}

struct Asked {
    line: String,
    content_type: String,
    accept: String,
    body: Value,
}

/// Answers the next call and tells what it was.
async fn answer(server: &mut Server, code: u16, reply: Value) -> Asked {
    let (request, send) = server.next_request().await.expect("a call");
    let (parts, body) = request.into_parts();
    let header = |name| parts.headers.get(name).map_or(String::new(), |v: &HeaderValue| v.to_str().unwrap().to_owned());
    let asked = Asked {
        line: format!("{} {}", parts.method, parts.uri),
        content_type: header("content-type"),
        accept: header("accept"),
        body: serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap_or_default(),
    };
    let reply = Response::builder().status(code).body(Body::from(serde_json::to_vec(&reply).unwrap())).unwrap();
    send.send_response(reply);
    asked
}

fn metadata() -> ObjectMeta {
    ObjectMeta {
        name: Some("web".into()),
        namespace: Some("shop".into()),
        uid: Some("u1".into()),
        resource_version: Some("7".into()),
        labels: Some(marks(Some("blue"))),
        ..ObjectMeta::default()
    }
}

/// Our labels, on an object of an instance or of the stage.
fn marks(instance: Option<&str>) -> BTreeMap<String, String> {
    let always = [(labels::STAGE, "dev"), (labels::MANAGED_BY, labels::FIELD_MANAGER)];
    let instance = instance.map(|name| (labels::INSTANCE, name));
    always.into_iter().chain(instance).map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn new_metadata() -> ObjectMeta {
    ObjectMeta { uid: None, resource_version: None, ..metadata() }
}

fn stored(version: &str, replicas: u32) -> Value {
    let mut metadata = serde_json::to_value(metadata()).unwrap();
    metadata["resourceVersion"] = version.into();
    metadata["generation"] = 2.into();
    json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": metadata, "spec": {"replicas": replicas}})
}

fn status(code: u16, reason: &str, message: &str, details: Value) -> Value {
    json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message,
        "details": details})
}

fn key() -> StageKey {
    StageKey::new("shop", "dev")
}

const DOOMED: Doomed<'_> = Doomed { namespace: "shop", name: "web", uid: Some("u1") };

#[tokio::test]
async fn an_apply_names_its_manager_and_its_reply_is_what_is_read_next() {
    let (writer, index, mut server) = writer();
    let object = Deployment { metadata: new_metadata(), ..Deployment::default() };
    let (applied, asked) = tokio::join!(writer.apply(&object), answer(&mut server, 200, stored("8", 3)));
    assert_eq!(applied.unwrap(), Applied { uid: "u1".into(), resource_version: "8".into(), generation: 2 });
    assert_eq!(
        asked.line,
        "PATCH /apis/apps/v1/namespaces/shop/deployments/web?&fieldManager=stagekeeper&fieldValidation=Strict"
    );
    assert_eq!(asked.content_type, "application/apply-patch+yaml");
    assert_eq!(asked.body["kind"], "Deployment");
    assert_eq!(asked.body["apiVersion"], "apps/v1");
    let children = index.stage(&key());
    assert_eq!(children.workload("web").map(|w| w.desired), Some(3));
}

#[tokio::test]
async fn what_is_ours_is_written_with_force_and_without_a_look() {
    let (writer, index, mut server) = writer();
    index.wrote(Kind::Service, &stored("8", 1).to_string()).unwrap();
    let stable = ObjectMeta { labels: Some(marks(None)), ..new_metadata() };
    let object = Service { metadata: stable, ..Service::default() };
    let (applied, asked) = tokio::join!(writer.apply(&object), answer(&mut server, 200, stored("9", 1)));
    applied.unwrap();
    assert!(asked.line.starts_with("PATCH ") && asked.line.contains("force=true"), "{}", asked.line);
}

#[tokio::test]
async fn a_stable_name_is_looked_at_before_it_is_written_first() {
    let (writer, _, mut server) = writer();
    let stable = ObjectMeta { labels: Some(marks(None)), ..new_metadata() };
    let object = Service { metadata: stable, ..Service::default() };
    let free = status(404, "NotFound", "services \"web\" not found", json!({"name": "web", "kind": "services"}));
    let answers = async {
        let look = answer(&mut server, 404, free).await;
        (look, answer(&mut server, 201, stored("8", 1)).await)
    };
    let (applied, (look, write)) = tokio::join!(writer.apply(&object), answers);
    applied.unwrap();
    assert!(look.line.starts_with("GET ") && look.accept.contains("PartialObjectMetadata"), "{}", look.line);
    assert!(write.line.starts_with("PATCH ") && !write.line.contains("force"), "{}", write.line);

    for labels in [json!({}), json!({labels::STAGE: "dev"}), json!({labels::MANAGED_BY: labels::FIELD_MANAGER})] {
        let (writer, _, mut server) = self::writer();
        let theirs = json!({"kind": "PartialObjectMetadata", "metadata": {"name": "web", "labels": labels}});
        let (applied, look) = tokio::join!(writer.apply(&object), answer(&mut server, 200, theirs));
        let err = applied.unwrap_err();
        assert_eq!((err.class(), err.reason()), (Class::Taken, "NameTaken"));
        assert!(look.line.starts_with("GET "), "{}", look.line);
        for part in ["services web in namespace shop", "is not ours", "Delete or rename it"] {
            assert!(err.to_string().contains(part), "{err}");
        }
    }
}

#[tokio::test]
async fn a_conflict_over_an_unknown_object_is_forced_only_if_it_is_ours() {
    for (instance, ours) in [(Some("blue"), true), (None, false)] {
        let (writer, _, mut server) = writer();
        let object = Deployment { metadata: new_metadata(), ..Deployment::default() };
        let found = if ours { marks(instance) } else { BTreeMap::new() };
        let answers = async {
            let conflict = status(409, "Conflict", "conflict with \"kubectl\": .spec.replicas", json!({"name": "web"}));
            answer(&mut server, 409, conflict).await;
            let found = json!({"kind": "PartialObjectMetadata", "metadata": {"name": "web", "labels": found}});
            answer(&mut server, 200, found).await;
            if ours { Some(answer(&mut server, 200, stored("9", 3)).await) } else { None }
        };
        let (applied, forced) = tokio::join!(writer.apply(&object), answers);
        assert_eq!(applied.map_err(|err| err.class()).err(), (!ours).then_some(Class::Taken));
        assert!(forced.is_none_or(|forced| forced.line.contains("force=true")));
    }
}

#[tokio::test]
async fn what_is_deleted_by_labels_is_ours_and_not_excepted() {
    let (writer, _, mut server) = writer();
    let demands = ["stagekeeper.dev/stage=dev".to_owned(), "!stagekeeper.dev/instance".to_owned()];
    let reply = json!({"kind": "Status", "status": "Success"});
    let deleted = writer.delete_labelled::<Service>("shop", &demands, &["a", "b"]);
    let (deleted, asked) = tokio::join!(deleted, answer(&mut server, 200, reply));
    deleted.unwrap();
    let line = asked.line.replace("%3D", "=").replace("%2C", ",").replace("%21", "!").replace("%2F", "/");
    for part in [
        "DELETE /api/v1/namespaces/shop/services?",
        "labelSelector=app.kubernetes.io/managed-by=stagekeeper,stagekeeper.dev/stage=dev,!stagekeeper.dev/instance",
        "fieldSelector=metadata.name!=a,metadata.name!=b",
    ] {
        assert!(line.contains(part), "{line}");
    }
}

#[tokio::test]
async fn of_a_secret_only_metadata_comes_back() {
    let (writer, index, mut server) = writer();
    let object = Secret { metadata: new_metadata(), ..Secret::default() };
    let reply = json!({"kind": "PartialObjectMetadata", "metadata": metadata()});
    let (applied, asked) = tokio::join!(writer.apply(&object), answer(&mut server, 201, reply));
    let applied = applied.unwrap();
    assert_eq!(applied.resource_version, "7");
    assert!(asked.accept.contains("PartialObjectMetadata"), "{}", asked.accept);
    let seen = index.stage(&key()).secret("web").map(|view| view.meta.uid.to_string());
    assert_eq!(seen, Some(applied.uid), "and is known at once");
}

#[tokio::test]
async fn a_deletion_names_the_object_that_is_meant_and_is_seen_at_once() {
    let (writer, index, mut server) = writer();
    index.wrote(Kind::Deployment, &stored("8", 1).to_string()).unwrap();
    let reply = json!({"kind": "Status", "status": "Success", "details": {"name": "web", "uid": "u1"}});
    let (deleted, asked) = tokio::join!(writer.delete::<Deployment>(DOOMED), answer(&mut server, 200, reply));
    deleted.unwrap();
    assert!(asked.line.starts_with("DELETE /apis/apps/v1/namespaces/shop/deployments/web"), "{}", asked.line);
    assert_eq!(asked.body, json!({"propagationPolicy": "Background", "preconditions": {"uid": "u1"}}));
    assert!(index.stage(&key()).is_empty());
}

#[tokio::test]
async fn what_a_finalizer_holds_is_still_there_and_ending() {
    let (writer, index, mut server) = writer();
    index.wrote(Kind::Deployment, &stored("8", 1).to_string()).unwrap();
    let mut reply = stored("9", 1);
    reply["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    let (deleted, _) = tokio::join!(writer.delete::<Deployment>(DOOMED), answer(&mut server, 200, reply));
    deleted.unwrap();
    assert!(index.stage(&key()).workload("web").unwrap().meta.deleting);
}

#[tokio::test]
async fn gone_already_is_success() {
    let cases = [
        ("gone", status(404, "NotFound", "x", json!({"kind": "deployments", "name": "web"}))),
        (
            "replaced",
            status(
                409,
                "Conflict",
                "Precondition failed: UID in precondition: u1, UID in object meta: u2",
                json!({"kind": "deployments", "name": "web"}),
            ),
        ),
    ];
    for (name, reply) in cases {
        let (writer, _, mut server) = writer();
        let code = u16::try_from(reply["code"].as_u64().unwrap()).unwrap();
        let (deleted, _) = tokio::join!(writer.delete::<Deployment>(DOOMED), answer(&mut server, code, reply));
        assert_eq!(deleted, Ok(()), "{name}");
    }
}

#[tokio::test]
async fn a_deletion_that_is_refused_is_an_error() {
    let (writer, index, mut server) = writer();
    index.wrote(Kind::Deployment, &stored("8", 1).to_string()).unwrap();
    let reply = status(403, "Forbidden", "User \"sk\" cannot delete resource \"deployments\"", json!({}));
    let (deleted, _) = tokio::join!(writer.delete::<Deployment>(DOOMED), answer(&mut server, 403, reply));
    let err = deleted.unwrap_err();
    assert_eq!(err.class(), Class::Forbidden);
    assert!(err.to_string().contains("must allow the verbs delete on deployments"), "{err}");
    assert!(!index.stage(&key()).is_empty());
}

#[tokio::test]
async fn a_status_is_written_as_a_whole_to_the_very_object() {
    let (writer, _, mut server) = writer();
    let object = Service { metadata: metadata(), ..Service::default() };
    let reply = json!({"kind": "PartialObjectMetadata", "metadata": metadata()});
    let new = json!({"state": "Success"});
    let (applied, asked) = tokio::join!(writer.apply_status(&object, &new), answer(&mut server, 200, reply));
    applied.unwrap();
    assert_eq!(asked.line, "PATCH /api/v1/namespaces/shop/services/web/status?&force=true&fieldManager=stagekeeper");
    assert_eq!(
        asked.body,
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "uid": "u1"},
            "status": {"state": "Success"}})
    );
}

#[tokio::test]
async fn finalizers_are_set_only_on_the_version_that_was_read() {
    let (writer, _, mut server) = writer();
    let object = Service { metadata: metadata(), ..Service::default() };
    let reply = status(409, "Conflict", "the object has been modified", json!({"name": "web"}));
    let (applied, asked) =
        tokio::join!(writer.set_finalizers(&object, &[labels::FINALIZER]), answer(&mut server, 409, reply));
    assert_eq!(applied.unwrap_err().class(), Class::Conflict);
    assert_eq!(asked.content_type, "application/merge-patch+json");
    assert_eq!(
        asked.body,
        json!({"metadata": {"uid": "u1", "resourceVersion": "7", "finalizers": ["stagekeeper.dev/cleanup"]}})
    );
}

#[tokio::test]
async fn an_object_without_name_or_namespace_is_not_sent() {
    let (writer, _, _server) = writer();
    for metadata in [ObjectMeta::default(), ObjectMeta { namespace: None, ..metadata() }] {
        let err = writer.apply(&Service { metadata, ..Service::default() }).await.unwrap_err();
        assert_eq!(err.class(), Class::Invalid);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_ends_as_transient() {
    let (writer, _, mut server) = writer();
    server.allow(1);
    let object = Service { metadata: new_metadata(), ..Service::default() };
    let err = writer.apply(&object).await.unwrap_err();
    assert_eq!(err.class(), Class::Transient);
    assert!(err.to_string().contains("within 15s"), "{err}");
}
