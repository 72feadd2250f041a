//! What is written when, on a cluster that does what it is told.

use super::*;
use crate::{
    controllers::fixture::{Cluster, SHOP, entry, running, snapshot},
    domain::deploy::State,
};

const DB: &str = "dev-db";

/// The names of what is due: addresses in brackets.
fn told(due: &Due<'_>) -> Vec<String> {
    match due {
        Due::Addresses(services) => {
            services.iter().map(|service| format!("[{}]", service.metadata.name.as_deref().unwrap_or("?"))).collect()
        }
        Due::Pods(services) => services.iter().map(|service| service.name.clone()).collect(),
    }
}

fn all(_: &ServiceManifests) -> bool {
    true
}

fn is_shared(service: &ServiceManifests) -> bool {
    service.scope == Scope::Stage
}

#[test]
fn shared_services_come_up_alone_before_the_first_hook() {
    let first = entry(snapshot(SHOP, 0), 1, State::Pulling);
    let mut cluster = Cluster::default();
    assert_eq!(told(&due(&cluster.planned(&first), &cluster.children(), is_shared)), ["[dev-db]"]);
    let planned = cluster.planned(&first);
    cluster.apply(planned.manifests.service("db").and_then(|db| db.service.as_ref()).expect("an address"));
    let planned = cluster.planned(&first);
    assert_eq!(told(&due(&planned, &cluster.children(), is_shared)), ["db"]);
    cluster.apply(&planned.manifests.service("db").expect("a service").workload);
    cluster.run(DB, &[running()]);
    let planned = cluster.planned(&first);
    assert_eq!(due(&planned, &cluster.children(), is_shared), Due::Pods(vec![]));
}

#[test]
fn an_instance_comes_up_address_by_address_and_wave_by_wave() {
    let first = entry(snapshot(SHOP, 0), 1, State::Pulling);
    let mut cluster = Cluster::default();
    let planned = cluster.planned(&first);
    let Due::Addresses(addresses) = due(&planned, &cluster.children(), all) else { panic!("pods without addresses") };
    assert_eq!(addresses.len(), 2);
    // Half of them are there: a pod that is told the rest later would start anew.
    cluster.apply(addresses[0]);
    assert!(matches!(due(&cluster.planned(&first), &cluster.children(), all), Due::Addresses(rest) if rest.len() == 1));
    cluster.apply(addresses[1]);
    let planned = cluster.planned(&first);
    assert_eq!(told(&due(&planned, &cluster.children(), all)), ["db"]);
    cluster.apply(&planned.manifests.service("db").expect("a service").workload);
    assert_eq!(told(&due(&planned, &cluster.children(), all)), [""; 0], "web waits for db");
    cluster.run(DB, &[running()]);
    assert_eq!(told(&due(&planned, &cluster.children(), all)), ["web"]);
    cluster.settle(&first);
    assert_eq!(due(&cluster.planned(&first), &cluster.children(), all), Due::Pods(vec![]), "nothing is written twice");
}

#[test]
fn the_next_instance_leaves_what_is_shared_alone() {
    let (first, second) = (snapshot(SHOP, 0), snapshot(SHOP, 0));
    let first = entry(first, 1, State::Success);
    let mut second = second;
    second.release.0.get_mut("web").expect("an image").digest = format!("sha256:{}", "ee".repeat(32));
    let second = entry(second, 2, State::Pulling);
    let mut cluster = Cluster::default();
    cluster.settle(&first);
    let planned = cluster.planned(&second);
    assert!(
        matches!(due(&planned, &cluster.children(), all), Due::Addresses(services) if services.len() == 1),
        "only web's own address is new"
    );
    assert_eq!(due(&planned, &cluster.children(), is_shared), Due::Pods(vec![]));
}
