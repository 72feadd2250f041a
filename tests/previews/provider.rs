//! A git provider that says what it is told to: the part of GitHub's API that is used.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Arc, Mutex, MutexGuard},
};

use serde_json::{Value, json};
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate, matchers::any};

#[derive(Default)]
pub(crate) struct State {
    /// Pull requests by number.
    pub(crate) pulls: BTreeMap<i64, Value>,
    /// Comments by id.
    pub(crate) comments: BTreeMap<u64, String>,
    /// Statuses of commits, in order.
    pub(crate) statuses: Vec<Value>,
    /// Answers everything with this.
    pub(crate) broken: Option<u16>,
    /// Lists nothing, whatever there is.
    pub(crate) forgetful: bool,
    /// How often it listed.
    pub(crate) listed: u64,
    /// Everything that it was sent, headers too.
    pub(crate) heard: String,
}

/// The provider.
pub(crate) struct Provider {
    server: MockServer,
    state: Arc<Mutex<State>>,
}

struct Speaks(Arc<Mutex<State>>);

impl Respond for Speaks {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        let mut state = self.0.lock().unwrap();
        _ = writeln!(state.heard, "{request:?}");
        if let Some(status) = state.broken {
            return ResponseTemplate::new(status).set_body_string("gossip");
        }
        let path = request.url.path().to_owned();
        let parts: Vec<&str> = path.split('/').skip(4).collect();
        let body = || -> Value { serde_json::from_slice(&request.body).unwrap_or_default() };
        let ok = |value: Value| ResponseTemplate::new(200).set_body_json(value);
        match (request.method.as_str(), parts.as_slice()) {
            ("GET", ["pulls"]) => {
                state.listed += 1;
                let open = |pull: &&Value| pull["state"] == "open";
                let all: Vec<&Value> = state.pulls.values().filter(open).collect();
                ok(if state.forgetful { json!([]) } else { json!(all) })
            }
            ("GET", ["pulls", number]) => match state.pulls.get(&number.parse().unwrap()) {
                Some(pull) => ok(pull.clone()),
                None => ResponseTemplate::new(404),
            },
            ("GET", ["issues", _, "comments"]) => {
                let all = state.comments.iter().map(|(id, body)| json!({"id": id, "body": body}));
                ok(json!(all.collect::<Vec<_>>()))
            }
            ("POST", ["issues", _, "comments"]) => {
                let id = 100 + state.comments.len() as u64;
                state.comments.insert(id, body()["body"].as_str().unwrap().to_owned());
                ResponseTemplate::new(201).set_body_json(json!({"id": id}))
            }
            ("PATCH", ["issues", "comments", id]) => {
                let id: u64 = id.parse().unwrap();
                state.comments.insert(id, body()["body"].as_str().unwrap().to_owned());
                ok(json!({"id": id}))
            }
            ("POST", ["statuses", commit]) => {
                let mut status = body();
                status["commit"] = json!(commit);
                state.statuses.push(status);
                ResponseTemplate::new(201).set_body_json(json!({}))
            }
            other => panic!("nobody asks that: {other:?}"),
        }
    }
}

impl Provider {
    pub(crate) async fn new() -> Self {
        let (server, state) = (MockServer::start().await, Arc::<Mutex<State>>::default());
        Mock::given(any()).respond_with(Speaks(state.clone())).mount(&server).await;
        Self { server, state }
    }

    pub(crate) fn api(&self) -> String {
        self.server.uri()
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn put(&self, pull: Value) {
        self.state().pulls.insert(pull["number"].as_i64().unwrap(), pull);
    }
}

/// A pull request of `acme/shop` as GitHub has it: the minute at which it last changed, and a digit that its commit consists
/// of.
pub(crate) fn pull(number: i64, minute: u8, commit: char) -> Value {
    json!({
        "number": number, "title": "Add a cart", "state": "open",
        "updated_at": format!("2026-03-01T12:{minute:02}:00Z"), "closed_at": null, "merged_at": null,
        "user": {"login": "jane"}, "labels": [{"name": "preview"}],
        "head": {"ref": "feat/cart", "sha": commit.to_string().repeat(40), "repo": {"full_name": "Acme/Shop"}},
        "base": {"ref": "main", "sha": "f".repeat(40), "repo": {"full_name": "Acme/Shop"}},
    })
}

/// The same, closed.
pub(crate) fn closed(mut pull: Value, minute: u8) -> Value {
    pull["state"] = json!("closed");
    pull["updated_at"] = json!(format!("2026-03-01T12:{minute:02}:00Z"));
    pull["closed_at"] = pull["updated_at"].clone();
    pull
}
