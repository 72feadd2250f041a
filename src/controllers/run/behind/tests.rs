//! A memory that has missed something is found out, on a paused clock, against an API server that loses events.

use std::sync::Mutex;

use futures::{FutureExt as _, StreamExt as _, stream};
use http::{Request, Response, header::ACCEPT};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::timeout};

use super::*;
use crate::controllers::run::watched::watched;

const EVERY: Duration = Duration::from_mins(5);

/// An API server that has objects by name and version, and whose watches say nothing.
#[derive(Clone, Default)]
struct Server {
    objects: Arc<Mutex<Vec<(&'static str, u64)>>>,
    /// Lists of whole objects, and of metadata.
    asked: Arc<Mutex<(usize, usize)>>,
}

impl Server {
    fn has(&self, objects: &[(&'static str, u64)]) {
        *self.objects.lock().unwrap() = objects.to_vec();
    }

    fn asked(&self) -> (usize, usize) {
        *self.asked.lock().unwrap()
    }

    fn client(&self) -> Client {
        let server = self.clone();
        let answer =
            move |request: Request<Body>| std::future::ready(Ok::<_, tower::BoxError>(server.answer(&request)));
        Client::new(tower::service_fn(answer), "default")
    }

    fn answer(&self, request: &Request<Body>) -> Response<reqwest::Body> {
        if request.uri().to_string().contains("watch=true") {
            return Response::new(reqwest::Body::wrap_stream(stream::pending::<Result<String, tower::BoxError>>()));
        }
        let metadata = request.headers().get(ACCEPT).is_some_and(|form| form.to_str().unwrap().contains("Partial"));
        let mut asked = self.asked.lock().unwrap();
        if metadata {
            asked.1 += 1;
        } else {
            asked.0 += 1;
        }
        let object = |(name, version): &(&str, u64)| -> Value {
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop",
                "uid": format!("uid-{name}"), "resourceVersion": version.to_string(), "generation": version}})
        };
        let items: Vec<Value> = self.objects.lock().unwrap().iter().map(object).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": "100"}, "items": items});
        Response::new(list.to_string().into())
    }
}

/// What a watch of the server has in its memory, and what it tells.
struct World {
    server: Server,
    reader: Reflected<ConfigMap>,
    gone: mpsc::UnboundedReceiver<ObjectRef<ConfigMap>>,
    /// Names and versions of what was passed on.
    told: mpsc::UnboundedReceiver<(String, u64)>,
    _watching: tokio_util::task::AbortOnDropHandle<()>,
}

impl World {
    async fn begin(objects: &[(&'static str, u64)]) -> Self {
        let server = Server::default();
        server.has(objects);
        let watched = watched::<ConfigMap>(&server.client(), (None, &Arc::new(Share::all())), EVERY, |_| {});
        let (tell, told) = mpsc::unbounded_channel();
        let following = watched.events.for_each(move |event| {
            let object = event.unwrap();
            tell.send((object.name_any(), version_of(object.resource_version().as_ref()))).unwrap();
            std::future::ready(())
        });
        let watching = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(following));
        let mut ready = watched.ready;
        ready.wait_for(|ready| *ready).await.unwrap();
        Self { server, reader: watched.reader, gone: watched.gone, told, _watching: watching }
    }

    async fn hears(&mut self) -> (String, u64) {
        timeout(EVERY * 2, self.told.recv()).await.expect("something is told in time").unwrap()
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_watch_has_dropped_is_found_out() {
    let mut world = World::begin(&[("a", 5), ("b", 6)]).await;
    assert_eq!([world.hears().await, world.hears().await].map(|told| told.1).iter().sum::<u64>(), 11);
    // Changed and made, without an event.
    world.server.has(&[("a", 7), ("b", 6), ("c", 8)]);
    let mut told = [world.hears().await, world.hears().await];
    told.sort();
    assert_eq!(told, [("a".into(), 7), ("c".into(), 8)], "what is as before is not told again");
    // Deleted, without one.
    world.server.has(&[("a", 7), ("c", 8)]);
    let gone = timeout(EVERY * 2, world.gone.recv()).await.expect("in time").unwrap();
    assert_eq!(gone, reference(Some("shop".into()), "b"));
    assert!(world.reader.get(&gone).is_none());
    assert!(world.told.recv().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_memory_that_is_right_costs_metadata_only() {
    let world = World::begin(&[("a", 5)]).await;
    tokio::time::sleep(EVERY * 10 + EVERY / 2).await;
    assert_eq!(world.server.asked(), (1, 10));
}
