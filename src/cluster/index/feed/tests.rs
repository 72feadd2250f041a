//! Lists and watches on a paused clock, against an API server that follows a script.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use futures::future::BoxFuture;
use futures::stream;
use http::{Request as HttpRequest, Response};
use kube::client::Body;
use reqwest::Body as Stuff;
use serde_json::{Value, json};
use tokio_util::task::AbortOnDropHandle;

use super::*;
use crate::cluster::client::call::NoAnswer;
use crate::cluster::index::{SILENCE_LIMIT, Scope, StageKey};

/// What the server does with one request for services.
enum Answer {
    /// A list at a version, of services of this name and version.
    List(u64, Vec<(&'static str, u64)>),
    /// Watch events, then the end of the watch.
    Events(Vec<Value>),
    /// Watch events, then silence on an open connection.
    EventsThenSilence(Vec<Value>),
    /// A refusal.
    Refusal(u16, &'static str),
    /// No answer: the client's deadline ends it.
    Hang,
}

/// An API server with services; of all other kinds it has none, and watches of them stay quiet.
#[derive(Clone, Default)]
struct Server {
    script: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(script: impl IntoIterator<Item = Answer>) -> Self {
        Self { script: Arc::new(Mutex::new(script.into_iter().collect())), ..Self::default() }
    }

    fn client(&self) -> Client {
        let server = self.clone();
        Client::new(tower::service_fn(move |request: HttpRequest<Body>| server.answer(&request)), "default")
    }

    fn answer(&self, request: &HttpRequest<Body>) -> BoxFuture<'static, Result<Response<Stuff>, tower::BoxError>> {
        let uri = request.uri().to_string();
        let watching = uri.contains("watch=true");
        let next = if uri.starts_with("/api/v1/services") {
            self.asked.lock().unwrap().push(uri.clone());
            // When the script is over, the server stays quiet.
            self.script.lock().unwrap().pop_front().unwrap_or(Answer::EventsThenSilence(Vec::new()))
        } else if watching {
            Answer::EventsThenSilence(Vec::new())
        } else {
            Answer::List(1, Vec::new())
        };
        assert!(!uri.contains("resourceVersion=0&"), "never a list that may be older than what was seen");
        Box::pin(respond(next))
    }

    /// What was asked about services: `list`, or `watch VERSION`.
    fn asked(&self) -> Vec<String> {
        let short = |uri: &String| {
            let query = uri.split(['?', '&']).find_map(|pair| pair.strip_prefix("resourceVersion="));
            query.map_or("list".to_owned(), |version| format!("watch {version}"))
        };
        self.asked.lock().unwrap().iter().map(short).collect()
    }
}

async fn respond(answer: Answer) -> Result<Response<Stuff>, tower::BoxError> {
    let lines =
        |events: Vec<Value>| events.iter().flat_map(|event| [event.to_string(), "\n".to_owned()]).collect::<String>();
    let (code, body) = match answer {
        Answer::List(version, items) => {
            let items: Vec<Value> = items.into_iter().map(|(name, version)| object(name, version)).collect();
            let list = json!({"kind": "List", "apiVersion": "v1",
                "metadata": {"resourceVersion": version.to_string()}, "items": items});
            (200, Stuff::from(list.to_string()))
        }
        Answer::Events(events) => (200, Stuff::from(lines(events))),
        Answer::EventsThenSilence(events) => {
            let text = Ok::<_, tower::BoxError>(lines(events));
            (200, Stuff::wrap_stream(stream::iter([text]).chain(stream::pending())))
        }
        Answer::Refusal(code, message) => {
            let status = json!({"kind": "Status", "status": "Failure", "code": code, "reason": "", "message": message});
            (code, Stuff::from(status.to_string()))
        }
        Answer::Hang => {
            let after = Duration::from_secs(10);
            sleep(after).await;
            return Err(NoAnswer { after }.into());
        }
    };
    Ok(Response::builder().status(code).body(body)?)
}

fn object(name: &str, version: u64) -> Value {
    json!({"kind": "Service", "apiVersion": "v1", "metadata": {"name": name, "namespace": "shop",
        "uid": format!("uid-{name}"), "resourceVersion": version.to_string(), "labels": {labels::STAGE: "dev"}}})
}

fn event(kind: &str, name: &str, version: u64) -> Value {
    json!({"type": kind, "object": object(name, version)})
}

fn bookmark(version: u64) -> Value {
    json!({"type": "BOOKMARK", "object": {"kind": "Service", "apiVersion": "v1",
        "metadata": {"resourceVersion": version.to_string()}}})
}

fn error_event(code: u16) -> Value {
    json!({"type": "ERROR", "object": {"kind": "Status", "status": "Failure", "code": code, "reason": "Expired",
        "message": "too old resource version"}})
}

struct World {
    server: Server,
    index: Index,
    _watching: AbortOnDropHandle<()>,
}

fn watch(script: impl IntoIterator<Item = Answer>) -> World {
    let server = Server::new(script);
    let index = Index::new(&Scope::Cluster);
    let (watched, client) = (index.clone(), server.client());
    let watching = AbortOnDropHandle::new(tokio::spawn(async move { watched.run(client).await }));
    World { server, index, _watching: watching }
}

impl World {
    fn names(&self) -> Vec<String> {
        let children = self.index.stage(&StageKey::new("shop", "dev"));
        children.services().map(|view| view.meta.name.to_string()).collect()
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let waited = timeout(Duration::from_mins(10), async {
            while !holds(self) {
                sleep(Duration::from_millis(10)).await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("{what}: {:?}, {:?}", self.names(), self.server.asked()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_goes_on_where_the_last_one_ended() {
    let world = watch([
        Answer::List(10, vec![("a", 5)]),
        Answer::Events(vec![event("ADDED", "b", 11), event("DELETED", "a", 12)]),
        Answer::Events(vec![bookmark(20)]),
    ]);
    world.until("quiet", |w| w.server.asked().len() >= 4).await;
    assert_eq!(world.names(), ["b"]);
    assert_eq!(world.server.asked(), ["list", "watch 10", "watch 12", "watch 20"], "one list is enough");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_too_old_means_a_new_list() {
    // Told as an event, and as the answer to the watch.
    for gone in [Answer::Events(vec![error_event(410)]), Answer::Refusal(410, "too old resource version")] {
        let world = watch([
            Answer::List(10, vec![("kept", 4), ("deleted", 5)]),
            gone,
            Answer::List(30, vec![("kept", 4), ("new", 28)]),
        ]);
        world.until("listed anew", |w| w.names() == ["kept", "new"]).await;
        assert_eq!(world.server.asked()[..3], ["list", "watch 10", "list"]);
    }
}

#[tokio::test(start_paused = true)]
async fn during_a_new_list_what_is_known_stays_visible() {
    let world = watch([
        Answer::List(10, vec![("a", 5)]),
        Answer::Events(vec![error_event(410)]),
        Answer::Hang,
        Answer::Hang,
        Answer::List(30, vec![("a", 5)]),
    ]);
    world.until("synced", |w| w.index.is_synced()).await;
    while world.server.asked().iter().filter(|asked| *asked == "list").count() < 4 {
        assert_eq!(world.names(), ["a"]);
        sleep(Duration::from_millis(100)).await;
    }
    assert!(world.index.is_synced(), "what was known once is not forgotten");
}

#[tokio::test(start_paused = true)]
async fn trouble_other_than_a_busy_server_means_a_new_list() {
    let world = watch([
        Answer::List(10, vec![("a", 5)]),
        Answer::Refusal(429, "later"),
        Answer::Refusal(500, "too large resource version"),
        Answer::List(8, vec![("b", 7)]),
    ]);
    world.until("listed anew", |w| w.names() == ["b"]).await;
    assert_eq!(world.server.asked()[..4], ["list", "watch 10", "watch 10", "list"], "a busy server is asked the same");
}

#[tokio::test(start_paused = true)]
async fn nothing_is_synced_before_the_first_list() {
    let world = watch([Answer::Hang, Answer::Refusal(500, "broken"), Answer::List(10, Vec::new())]);
    sleep(Duration::from_secs(9)).await;
    assert!(!world.index.is_synced());
    timeout(Duration::from_mins(1), world.index.synced()).await.expect("in the end");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_fell_silent_is_given_up_and_reported_if_no_other_opens() {
    let mut script = vec![Answer::List(10, vec![("a", 5)]), Answer::EventsThenSilence(Vec::new())];
    script.extend((0..20).map(|_| Answer::Hang));
    let world = watch(script);
    world.until("synced", |w| w.index.is_synced()).await;
    let began = Instant::now();
    world.until("reported", |w| !w.index.is_healthy()).await;
    assert!(began.elapsed() <= SILENCE_LIMIT + Duration::from_secs(1), "{:?}", began.elapsed());
    let services = |w: &World| w.index.troubles().into_iter().find(|trouble| trouble.kind == Kind::Service);
    world.until("with its reason", |w| services(w).is_some_and(|t| t.error.is_some())).await;
    let said = services(&world).unwrap().to_string();
    assert!(said.contains("nothing heard of services") && said.contains("did not answer within 10s"), "{said}");
    assert_eq!(world.names(), ["a"], "what was known stays known");
    world.until("and is well again", |w| services(w).is_none()).await;
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_is_a_healthy_one() {
    // The server ends each watch when its time is up, and has nothing to say.
    let script = std::iter::once(Answer::List(10, Vec::new())).chain((0..10_000).map(|_| Answer::Events(Vec::new())));
    let world = watch(script);
    world.until("synced", |w| w.index.is_synced()).await;
    let services_are_quiet = |w: &World| w.index.troubles().iter().all(|trouble| trouble.kind != Kind::Service);
    for _ in 0..100 {
        sleep(Duration::from_secs(1)).await;
        assert!(services_are_quiet(&world));
    }
    let asked = world.server.asked().len();
    assert!(asked <= 110, "a watch that ends at once is not reopened in a hot loop: {asked} calls in 100 s");
}

#[tokio::test(start_paused = true)]
async fn pages_are_put_together() {
    let page = |version: &str, token: &str, name: &str| {
        json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version, "continue": token},
            "items": [object(name, 5)]})
    };
    let (first, second) = (page("10", "more", "a"), page("10", "", "b"));
    let client = Client::new(
        tower::service_fn(move |request: HttpRequest<Body>| {
            let uri = request.uri().to_string();
            let reply = match (uri.contains("watch=true"), uri.contains("/services"), uri.contains("continue=more")) {
                (true, ..) => None,
                (_, false, _) => Some(json!({"kind": "List", "metadata": {"resourceVersion": "1"}, "items": []})),
                (.., false) => Some(first.clone()),
                (.., true) => Some(second.clone()),
            };
            async move {
                match reply {
                    Some(reply) => Ok::<_, tower::BoxError>(Response::new(Stuff::from(reply.to_string()))),
                    None => std::future::pending().await,
                }
            }
        }),
        "default",
    );
    let index = Index::new(&Scope::Cluster);
    let watched = index.clone();
    let _watching = AbortOnDropHandle::new(tokio::spawn(async move { watched.run(client).await }));
    timeout(Duration::from_mins(1), index.synced()).await.expect("synced");
    assert_eq!(index.stage(&StageKey::new("shop", "dev")).len(Kind::Service), 2);
}

#[tokio::test(start_paused = true)]
async fn secrets_are_asked_for_without_their_content_and_may_be_out_of_bounds() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let forms = asked.clone();
    let client = Client::new(
        tower::service_fn(move |request: HttpRequest<Body>| {
            let form = request.headers().get(ACCEPT).map(|form| form.to_str().unwrap().to_owned());
            let (secrets, watching) =
                (request.uri().path().ends_with("/secrets"), request.uri().to_string().contains("watch=true"));
            if secrets {
                forms.lock().unwrap().push(form);
            }
            let (code, reply) = match (secrets, watching) {
                (_, true) => (0, Value::Null),
                (false, _) => (200, json!({"kind": "List", "metadata": {"resourceVersion": "1"}, "items": []})),
                (true, _) => (
                    403,
                    json!({"kind": "Status", "status": "Failure", "code": 403, "reason": "Forbidden",
                    "message": "secrets is forbidden: User \"us\" cannot list resource \"secrets\""}),
                ),
            };
            async move {
                match code {
                    0 => std::future::pending().await,
                    code => {
                        Ok::<_, tower::BoxError>(Response::builder().status(code).body(Stuff::from(reply.to_string()))?)
                    }
                }
            }
        }),
        "default",
    );
    let index = Index::new(&Scope::Cluster);
    let watched = index.clone();
    let _watching = AbortOnDropHandle::new(tokio::spawn(async move { watched.run(client).await }));
    timeout(Duration::from_mins(1), index.synced()).await.expect("synced without the right to read Secrets");
    assert!(index.troubles().iter().all(|trouble| trouble.kind != Kind::Secret));
    let asked = asked.lock().unwrap().clone();
    let wanted = METADATA_LIST.to_str().unwrap().to_owned();
    assert_eq!(asked, [Some(wanted)]);
}

#[test]
fn pauses_grow_to_ten_seconds_and_differ_between_feeds() {
    let pauses = |path| {
        let mut backoff = Backoff::new(path);
        (0..20).map(|_| backoff.next()).collect::<Vec<_>>()
    };
    let (pods, jobs) = (pauses("/api/v1/pods"), pauses("/apis/batch/v1/jobs"));
    assert!(pods[0] < Duration::from_millis(700), "{:?}", pods[0]);
    assert!(pods.iter().all(|p| *p < Duration::from_millis(12_500)), "{pods:?}");
    assert!(pods[10..].iter().all(|p| *p >= Duration::from_millis(7_500)), "{pods:?}");
    assert_ne!(pods, jobs);
}
