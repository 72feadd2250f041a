//! Every route of the document against everybody who may not use it, and those who may.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use stagekeeper::http::api::openapi;

use crate::lab::{Answer, Lab, parts};

/// An operation of the document, filled in.
struct Route {
    id: String,
    method: Method,
    path: String,
    body: Option<Value>,
    verbs: Vec<String>,
    /// Whether it is about one namespace.
    inside: bool,
}

fn routes(fill: impl Fn(&str) -> String) -> Vec<Route> {
    let document = openapi::document();
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let body = &operation["requestBody"]["content"]["application/json"];
            let body = (!body.is_null()).then(|| body["example"].clone());
            assert!(body.as_ref().is_none_or(|body| !body.is_null()), "{path}: a body without an example");
            let access = operation["x-access"].as_array().unwrap();
            let parameters = operation["parameters"].as_array().unwrap().iter();
            let query = parameters.filter(|one| one["in"] == "query" && one["required"] == true);
            let query: Vec<_> = query.map(|one| format!("{}=x", one["name"].as_str().unwrap())).collect();
            let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
            all.push(Route {
                id: operation["operationId"].as_str().unwrap().to_owned(),
                method: method.to_uppercase().parse().unwrap(),
                path: fill(path.strip_prefix("/api/v1").unwrap()) + &query,
                body,
                verbs: access.iter().map(|one| one["verb"].as_str().unwrap().to_owned()).collect(),
                inside: path.contains("{namespace}"),
            });
        }
    }
    assert!(all.len() > 35, "{}", all.len());
    all
}

fn filled(path: &str, parts: &std::collections::BTreeMap<&'static str, String>) -> String {
    let path = parts.iter().fold(path.to_owned(), |path, (name, value)| path.replace(&format!("{{{name}}}"), value));
    assert!(!path.contains('{'), "{path}");
    path
}

impl Route {
    async fn ask(&self, lab: &Lab, token: Option<&str>) -> Answer {
        // Requests of one caller have a rate: whoever is told to wait, waits.
        loop {
            let answer = lab.send(self.method.clone(), token, &self.path, self.body.as_ref(), &[]).await;
            if answer.status != StatusCode::TOO_MANY_REQUESTS {
                return answer;
            }
            tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        }
    }
}

async fn lab_with_everything() -> (Lab, std::collections::BTreeMap<&'static str, String>) {
    let lab = Lab::new().await;
    let asked = lab.post(&lab.owner, &lab.path("/stages/dev/requests"), &json!({"action": "promote"})).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{asked:?}");
    let request = asked.json()["id"].as_str().unwrap().to_owned();
    let deploy = lab.get(&lab.owner, &lab.path(&format!("/deploys/{}", crate::shop::id(2)))).await.json();
    let release = deploy["release"].as_str().unwrap().to_owned();
    for (path, body) in [
        ("/projects/shop/credentials/ghcr", json!({"host": "ghcr.io", "user": "robot", "value": "hunter1"})),
        ("/projects/shop/secrets/API_KEY", json!({"value": "hunter2"})),
    ] {
        let put = lab.send(Method::PUT, Some(&lab.owner), &lab.path(path), Some(&body), &[]).await;
        assert_eq!(put.status, StatusCode::OK, "{put:?}");
    }
    let tag = lab.send(Method::PUT, Some(&lab.admin), "/tags/later", None, &[]).await;
    assert_eq!(tag.status, StatusCode::OK, "{tag:?}");
    let both = json!({"action": "promote", "stages": ["dev", "prod"], "onFailure": "rollback"});
    let group = lab.post(&lab.owner, &lab.path("/groups"), &both).await;
    assert_eq!(group.status, StatusCode::ACCEPTED, "{group:?}");
    let group = group.json()["id"].as_str().unwrap().to_owned();
    lab.environment("pr-1").await;
    let mut parts = parts(&lab, &lab.namespace, &request, &release);
    parts.insert("environment", "pr-1".into());
    parts.insert("group", group);
    (lab, parts)
}

#[tokio::test]
async fn no_route_lets_anybody_in_who_should_be_out() {
    let (lab, parts) = lab_with_everything().await;
    let ended = lab.ended("owner").await;
    let elsewhere = lab.token_for("owner", "https://kubernetes.default.svc").await;
    let garbage = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0.";
    let audit = lab.get(&lab.owner, &lab.path("/audit")).await.json();
    for route in routes(|path| filled(path, &parts)) {
        let id = &route.id;
        for (name, token) in
            [("no token", None), ("garbage", Some(garbage)), ("ended", Some(&*ended)), ("audience", Some(&*elsewhere))]
        {
            let answer = route.ask(&lab, token).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{id}, {name}: {answer:?}");
            assert_eq!(answer.problem()["type"], "urn:stagekeeper:problem:unauthenticated");
            assert!(answer.headers.contains_key("www-authenticate"), "{id}");
        }
        let answer = route.ask(&lab, Some(&lab.nobody)).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{id}: {answer:?}");

        let reads = route.verbs.iter().all(|verb| matches!(verb.as_str(), "get" | "list"));
        let answer = route.ask(&lab, Some(&lab.viewer)).await;
        match (reads, route.inside) {
            (true, true) => assert_eq!(answer.status, StatusCode::OK, "{id}: {answer:?}"),
            (false, true) => {
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{id}: {answer:?}");
                assert_eq!(answer.problem()["type"], "urn:stagekeeper:problem:forbidden");
            }
            (_, false) => assert_eq!(answer.status, StatusCode::NOT_FOUND, "{id}: {answer:?}"),
        }
    }
    let after = lab.get(&lab.owner, &lab.path("/audit")).await.json();
    assert_eq!(audit, after, "nothing was done");
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_theirs_are_one() {
    let (lab, parts) = lab_with_everything().await;
    let other = Lab::new().await;
    let mut foreign = parts.clone();
    foreign.insert("namespace", other.namespace.clone());
    let mut nowhere = foreign.clone();
    for (name, value) in [("namespace", "nowhere"), ("stage", "none"), ("project", "none"), ("environment", "none")] {
        nowhere.insert(name, value.into());
    }
    let both = routes(|path| filled(path, &foreign)).into_iter().zip(routes(|path| filled(path, &nowhere)));
    for (foreign, nowhere) in both.filter(|(route, _)| route.inside) {
        let answers = [foreign.ask(&lab, Some(&lab.owner)).await, nowhere.ask(&lab, Some(&lab.owner)).await];
        for answer in &answers {
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{}: {answer:?}", foreign.id);
        }
        assert_eq!(answers[0].problem(), answers[1].problem(), "{}", foreign.id);
    }
    // In one's own namespace too, for whoever may see one stage only: a deploy of another one, and one that is not there.
    let ids = [crate::shop::id(4).to_string(), "0193522a-0000-7000-8000-000000000000".to_owned()];
    let [one, none] = ids.map(|id| lab.path(&format!("/deploys/{id}")));
    let (one, none) = (lab.get(&lab.nobody, &one).await, lab.get(&lab.nobody, &none).await);
    assert_eq!((one.status, one.problem()), (none.status, none.problem()));
}

#[tokio::test]
async fn whoever_may_is_let_in() {
    let (lab, parts) = lab_with_everything().await;
    let mut routes = routes(|path| filled(path, &parts));
    // What takes things away comes last.
    routes.sort_by_key(|route| (route.method == Method::DELETE, route.id == "renameTag"));
    for route in routes {
        let token = if route.inside { &lab.owner } else { &lab.admin };
        let answer = route.ask(&lab, Some(token)).await;
        let gone = route.id == "deleteTag";
        if gone {
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "it was renamed before: {answer:?}");
        } else if route.id == "assignTagToAny" || route.id == "unassignTagFromAny" || route.id.ends_with("signTag") {
            // Nobody knows the number 17.
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{}: {answer:?}", route.id);
        } else {
            assert!(answer.status.is_success(), "{}: {answer:?}", route.id);
        }
        assert_eq!(answer.headers["cache-control"], "no-store");
    }
}
