//! Which instances are needed, and which may go.

use super::*;
use crate::{
    cluster::index::Kind,
    controllers::{
        deploy::ledger::Entry,
        fixture::{Cluster, SHOP, at, entry, snapshot, target},
    },
    domain::release::ReleaseId,
};

/// A cluster in which both instances run and the stage's traffic goes to `serving`.
fn cluster(entries: [&Entry; 2], serving: &Entry) -> Cluster {
    let mut cluster = Cluster::default();
    for entry in entries {
        cluster.settle(entry);
    }
    let at = serving.context(&target(), &cluster.children());
    for service in crate::render::stage_services(&serving.snapshot, Some(&serving.deploy.instance), &at) {
        cluster.apply(&service);
    }
    cluster
}

fn row(entry: &Entry) -> (String, Instance) {
    let deploy = &entry.deploy;
    let row = Instance {
        deploy: deploy.id,
        release: ReleaseId("r".into()),
        failed: false,
        storage: false,
        made: deploy.created_at,
    };
    (deploy.instance.clone(), row)
}

fn role(kept: &[Kept], entry: &Entry) -> Role {
    kept.iter().find(|kept| kept.name == entry.deploy.instance).expect("it exists").role
}

#[test]
fn what_has_the_traffic_and_what_nobody_recorded_stays() {
    let old = entry(snapshot(SHOP, 0), 1, State::Success);
    let new = entry(snapshot(SHOP, 1), 2, State::Success);
    struct Case {
        name: &'static str,
        good: Option<u8>,
        recorded: &'static [u8],
        serving: u8,
        want: (Role, Role),
    }
    let gone = Role::Previous { since: at(2), made: at(1) };
    let cases = [
        Case { name: "all is recorded", good: Some(2), recorded: &[1, 2], serving: 2, want: (gone, Role::Needed) },
        Case {
            name: "the traffic has not moved yet",
            good: Some(2),
            recorded: &[1, 2],
            serving: 1,
            want: (Role::Needed, Role::Needed),
        },
        Case {
            name: "the rows of what serves are lost",
            good: Some(1),
            recorded: &[1],
            serving: 2,
            want: (Role::Needed, Role::Needed),
        },
        Case {
            name: "the rows of something that never served are lost, with nothing known to serve",
            good: None,
            recorded: &[],
            serving: 2,
            want: (Role::Unknown, Role::Needed),
        },
        Case {
            name: "what was left behind goes after what is known to serve",
            good: Some(2),
            recorded: &[2],
            serving: 2,
            want: (Role::Previous { since: at(2), made: Timestamp::MIN }, Role::Needed),
        },
    ];
    for case in cases {
        let pick = |number: u8| if number == 1 { &old } else { &new };
        let cluster = cluster([&old, &new], pick(case.serving));
        let ledger = Ledger {
            good: case.good.map(|number| pick(number).clone()),
            instances: case.recorded.iter().map(|number| row(pick(*number))).collect(),
            ..Ledger::default()
        };
        let kept = kept(&ledger, &cluster.children());
        assert_eq!((role(&kept, &old), role(&kept, &new)), case.want, "{}", case.name);
    }
}

#[test]
fn a_stable_service_that_leads_nowhere_serves_nobody() {
    let first = entry(snapshot(SHOP, 0), 1, State::Starting);
    let mut cluster = Cluster::default();
    let at = first.context(&target(), &cluster.children());
    for service in crate::render::stage_services(&first.snapshot, None, &at) {
        cluster.apply(&service);
    }
    let children = cluster.children();
    assert_eq!(children.len(Kind::Service), 1);
    assert_eq!(serving(&children).count(), 0);
}
