//! Elections on a real Lease.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use stagekeeper::cluster::lease::{Candidate, LeaseConfig, LeaseHandle, Timing};
use stagekeeper::domain::clock::{Clock, SystemClock};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::line::Line;
use super::server::{clients, config, make_namespace, within};

/// Short enough for a test, long enough for a machine that is busy with others.
const TIMING: Timing = Timing {
    duration: Duration::from_secs(6),
    renew_deadline: Duration::from_secs(4),
    retry_period: Duration::from_millis(500),
};

struct Process {
    handle: LeaseHandle,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

fn start(client: kube::Client, namespace: &str, identity: &str) -> Process {
    let config = LeaseConfig {
        namespace: namespace.into(),
        name: "stagekeeper".into(),
        identity: identity.into(),
        timing: TIMING,
    };
    let (candidate, handle) = Candidate::new(client, config, Arc::new(|| SystemClock.now()));
    let stop = CancellationToken::new();
    let task = tokio::spawn(candidate.run(stop.clone()));
    Process { handle, stop, task }
}

#[tokio::test]
async fn one_leads_and_hands_over() {
    let (clients, _) = clients(config().await);
    let namespace = make_namespace(&clients.general, "handover").await;
    let (a, b) = (start(clients.lease.clone(), &namespace, "a"), start(clients.lease.clone(), &namespace, "b"));
    let first = within("a leader", async {
        tokio::select! { epoch = a.handle.elected() => epoch, epoch = b.handle.elected() => epoch }
    })
    .await;
    assert_eq!(first, 1);
    let (leader, follower) = if a.handle.is_leader() { (a, b) } else { (b, a) };
    tokio::time::sleep(TIMING.retry_period * 3).await;
    assert!(leader.handle.is_leader() && !follower.handle.is_leader());

    leader.stop.cancel();
    leader.task.await.unwrap();
    assert!(!leader.handle.is_leader());
    assert_eq!(within("a successor", follower.handle.elected()).await, 2);
    let leases: Api<Lease> = Api::namespaced(clients.lease, &namespace);
    let spec = leases.get("stagekeeper").await.unwrap().spec.unwrap();
    assert_eq!(spec.lease_transitions, Some(2));
    follower.stop.cancel();
    follower.task.await.unwrap();
    end(clients.general, &namespace).await;
}

#[tokio::test]
async fn a_leader_behind_a_frozen_line_is_none_before_another_is() {
    let (direct, _) = clients(config().await);
    let namespace = make_namespace(&direct.general, "frozen").await;
    let (line, through) = Line::to(config().await).await;
    let (detour, _) = clients(through);
    let a = start(detour.lease, &namespace, "a");
    assert_eq!(within("a leads", a.handle.elected()).await, 1);
    let b = start(direct.lease, &namespace, "b");
    tokio::time::sleep(TIMING.retry_period * 2).await;

    line.freeze();
    within("a's term ends", a.handle.ended(1)).await;
    assert!(!b.handle.is_leader(), "there is a gap");
    assert_eq!(within("b leads", b.handle.elected()).await, 2);
    // What a sent and could not deliver arrives now, and must not count.
    line.restore();
    tokio::time::sleep(TIMING.retry_period * 6).await;
    assert!(b.handle.is_leader() && !a.handle.is_leader());
    assert_eq!(b.handle.epoch(), Some(2));
    a.task.abort();
    b.task.abort();
    end(direct.general, &namespace).await;
}

async fn end(client: kube::Client, namespace: &str) {
    let api: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client);
    api.delete(namespace, &kube::api::DeleteParams::default()).await.unwrap();
}
