//! Kubernetes Events: what happened, where `kubectl describe` shows it.
//!
//! Published on edges only, when something has changed; the caller sees to that. An event that cannot be published is
//! logged and forgotten: history lives in Postgres, and no deploy may fail for want of a notice.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::time::timeout;

use super::cut;
use crate::api::labels::FIELD_MANAGER;

/// The API server's limit on reason and action, in characters.
const WORD_CHARS: usize = 128;
/// The API server's limit on the note, in bytes.
const NOTE_BYTES: usize = 1024;
/// After so many events a publisher forgets those before: whoever deploys ten thousand stages in six minutes would
/// otherwise keep as many events of more than a kilobyte each, and the room for them for ever.
const REMEMBERED: u32 = 256;
/// How long publishing may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// How serious an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// All is well.
    Normal,
    /// Somebody may want to look.
    Warning,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice<'a> {
    /// How serious it is.
    pub severity: Severity,
    /// Why, in one `CamelCase` word.
    pub reason: &'a str,
    /// What was done. Within six minutes, and unless hundreds of others came meanwhile, events of one object with the same
    /// reason and action count as one, which keeps the note of the first: so this should name the deploy.
    pub action: &'a str,
    /// What happened, in a sentence.
    pub note: &'a str,
}

/// Publishes events. Cheap to clone; all clones share what they know of recent events.
#[derive(Clone)]
pub struct Events(Arc<Mutex<Recent>>);

/// What remembers recent events, and how many it may.
struct Recent {
    client: Client,
    reporter: Reporter,
    recorder: Recorder,
    published: u32,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    /// A publisher. `instance` tells replicas apart: the pod's name.
    pub fn new(client: Client, instance: &str) -> Self {
        let instance = Some(cut(instance, WORD_CHARS)).filter(|name| !name.is_empty());
        let reporter = Reporter { controller: FIELD_MANAGER.into(), instance };
        let recorder = Recorder::new(client.clone(), reporter.clone());
        Self(Arc::new(Mutex::new(Recent { client, reporter, recorder, published: 0 })))
    }

    /// Publishes an event about an object. Never fails; a failure is logged.
    pub async fn publish(&self, about: &ObjectReference, notice: &Notice<'_>) {
        let event = event(notice);
        let error = match timeout(DEADLINE, self.recorder().publish(&event, about)).await {
            Ok(Ok(())) => return,
            Ok(Err(kube::Error::Api(status))) => status.message,
            Ok(Err(err)) => err.to_string(),
            Err(_) => format!("no answer within {DEADLINE:?}"),
        };
        tracing::warn!(
            reason = notice.reason,
            namespace = about.namespace.as_deref().unwrap_or_default(),
            name = about.name.as_deref().unwrap_or_default(),
            error,
            "an event could not be published"
        );
    }

    fn recorder(&self) -> Recorder {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.published == REMEMBERED {
            recent.recorder = Recorder::new(recent.client.clone(), recent.reporter.clone());
            recent.published = 0;
        }
        recent.published += 1;
        recent.recorder.clone()
    }
}

fn event(notice: &Notice<'_>) -> Event {
    let mut note = notice.note.to_owned();
    if note.len() > NOTE_BYTES {
        note.truncate(note.floor_char_boundary(NOTE_BYTES - '…'.len_utf8()));
        note.push('…');
    }
    Event {
        type_: match notice.severity {
            Severity::Normal => EventType::Normal,
            Severity::Warning => EventType::Warning,
        },
        reason: cut(notice.reason, WORD_CHARS),
        action: cut(notice.action, WORD_CHARS),
        note: Some(note),
        secondary: None,
    }
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::{Value, json};
    use tower_test::mock::{self, Handle};

    use super::*;

    type Server = Handle<Request<Body>, Response<Body>>;

    fn events() -> (Events, Server) {
        let (service, server) = mock::pair();
        (Events::new(Client::new(service, "default"), "stagekeeper-0"), server)
    }

    fn stage() -> ObjectReference {
        ObjectReference {
            kind: Some("Stage".into()),
            namespace: Some("shop".into()),
            name: Some("dev".into()),
            ..ObjectReference::default()
        }
    }

    const NOTICE: Notice<'_> =
        Notice { severity: Severity::Warning, reason: "DeployFailed", action: "Deploy d1", note: "web answered 500" };

    async fn answer(server: &mut Server, code: u16) -> (String, Value) {
        let (request, send) = server.next_request().await.expect("a call");
        let (parts, body) = request.into_parts();
        let sent: Value = serde_json::from_slice(&body.collect_bytes().await.unwrap()).unwrap();
        let reply = if code == 201 {
            sent.clone()
        } else {
            json!({"kind": "Status", "status": "Failure", "code": code, "reason": "Forbidden", "message": "no"})
        };
        let reply = Body::from(serde_json::to_vec(&reply).unwrap());
        send.send_response(Response::builder().status(code).body(reply).unwrap());
        (format!("{} {}", parts.method, parts.uri.path()), sent)
    }

    #[tokio::test]
    async fn an_event_is_one_write() {
        let (events, mut server) = events();
        let about = stage();
        let ((), (line, sent)) = tokio::join!(events.publish(&about, &NOTICE), answer(&mut server, 201));
        assert_eq!(line, "POST /apis/events.k8s.io/v1/namespaces/shop/events");
        assert_eq!(sent["type"], "Warning");
        assert_eq!(sent["reason"], "DeployFailed");
        assert_eq!(sent["note"], "web answered 500");
        assert_eq!(sent["regarding"]["name"], "dev");
        assert_eq!(sent["reportingController"], "stagekeeper");
        assert_eq!(sent["reportingInstance"], "stagekeeper-0");
    }

    #[tokio::test]
    async fn the_same_again_is_counted_until_hundreds_of_others_came() {
        let (events, mut server) = events();
        let about = stage();
        let mut lines = Vec::new();
        let others = (0..REMEMBERED).map(|number| format!("Deploy {number}"));
        let actions = ["Deploy d1".to_owned(), "Deploy d1".to_owned()].into_iter().chain(others);
        for action in actions.chain(["Deploy d1".to_owned()]) {
            let notice = Notice { action: &action, ..NOTICE };
            let ((), (line, _)) = tokio::join!(events.publish(&about, &notice), answer(&mut server, 201));
            lines.push(line.split(' ').next().unwrap_or_default().to_owned());
        }
        assert_eq!(lines[..3], ["POST", "PATCH", "POST"]);
        assert_eq!(lines.last().unwrap(), "POST", "the first was forgotten");
    }

    #[tokio::test]
    async fn a_refusal_is_not_the_callers_problem() {
        let (events, mut server) = events();
        let about = stage();
        let ((), (line, _)) = tokio::join!(events.publish(&about, &NOTICE), answer(&mut server, 403));
        assert!(line.starts_with("POST"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hanging_server_is_not_either() {
        let (events, mut server) = events();
        server.allow(1);
        events.publish(&stage(), &NOTICE).await;
    }

    #[test]
    fn what_is_too_long_is_cut_to_the_api_servers_limits() {
        let long = "ü".repeat(2_000);
        let event = event(&Notice { reason: &long, action: &long, note: &long, ..NOTICE });
        assert_eq!(event.reason.chars().count(), 128);
        assert_eq!(event.action.chars().count(), 128);
        let note = event.note.unwrap();
        assert!(note.len() <= 1024 && note.len() > 1000 && note.ends_with('…'), "{}", note.len());
    }
}
