//! A controller that has begun ends in order, one that has not ends at once.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::{
    Controller,
    controller::Action,
    reflector::{self, store::Writer},
    watcher,
};
use tokio::time::timeout;

use super::*;

/// A controller over a watch that has shown nothing and never ends, and the writing end of its memory.
fn controller(
    stop: &CancellationToken,
    passed: Arc<AtomicBool>,
) -> (impl Future<Output = ()> + use<>, Writer<ConfigMap>, tokio::sync::mpsc::UnboundedSender<ConfigMap>) {
    let (reader, writer) = reflector::store();
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let events = stream::poll_fn(move |cx| receiver.poll_recv(cx)).map(Ok::<ConfigMap, watcher::Error>);
    let pass = move |_: Arc<ConfigMap>, passed: Arc<AtomicBool>| async move {
        tokio::time::sleep(Duration::from_secs(5)).await;
        passed.store(true, Ordering::SeqCst);
        Ok::<_, Infallible>(Action::await_change())
    };
    let run = Controller::for_stream(events, reader)
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(pass, |_, _, _| Action::await_change(), passed)
        .for_each(|_| async {});
    (run, writer, sender)
}

#[tokio::test(start_paused = true)]
async fn what_was_never_listed_ends_at_once() {
    let stop = CancellationToken::new();
    let (run, _writer, _sender) = controller(&stop, Arc::default());
    let (_listed, seen) = watch::channel(false);
    stop.cancel();
    timeout(Duration::from_secs(1), ended_in_order(&stop, seen, run)).await.expect("it ends");
}

#[tokio::test(start_paused = true)]
async fn what_has_begun_ends_its_pass() {
    let stop = CancellationToken::new();
    let passed = Arc::new(AtomicBool::new(false));
    let (run, mut writer, sender) = controller(&stop, passed.clone());
    let mut object = ConfigMap::default();
    object.metadata.name = Some("settings".into());
    object.metadata.namespace = Some("acme".into());
    for event in [watcher::Event::Init, watcher::Event::InitApply(object.clone()), watcher::Event::InitDone] {
        writer.apply_watcher_event(&event);
    }
    sender.send(object).expect("heard");
    let (_listed, seen) = watch::channel(true);
    let halt = stop.clone();
    let ended = tokio::spawn(async move { ended_in_order(&stop, seen, run).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    halt.cancel();
    timeout(Duration::from_mins(1), ended).await.expect("in time").expect("in order");
    assert!(passed.load(Ordering::SeqCst), "the pass was not cut off");
}
