//! When the cluster is ahead, and what can be adopted.

use super::*;
use crate::{
    api::DeployStatus,
    controllers::{
        deploy::ledger::{Entry, Finished},
        fixture::{Cluster, SHOP, entry, read, snapshot, target},
    },
    render,
};

/// What a stage shows that serves `entry`, whose deploy made it.
fn serving(entry: &Entry) -> Cluster {
    let mut cluster = Cluster::default();
    cluster.settle(entry);
    let at = entry.context(&target(), &cluster.children());
    for service in render::stage_services(&entry.snapshot, Some(&entry.deploy.instance), &at) {
        cluster.apply(&service);
    }
    cluster
}

fn told(entry: &Entry, state: State) -> StageStatus {
    let deploy =
        DeployStatus { id: entry.deploy.id.to_string(), state: state.camel().into(), ..DeployStatus::default() };
    StageStatus { deploy: Some(deploy), active: Some(entry.deploy.instance.clone()), ..StageStatus::default() }
}

fn knows(entries: &[&Entry]) -> Ledger {
    let finished = |entry: &&Entry| Finished { deploy: entry.deploy.clone(), images: String::new() };
    Ledger {
        good: entries.last().map(|entry| (*entry).clone()),
        history: entries.iter().rev().map(finished).collect(),
        ..Ledger::default()
    }
}

fn revision(entry: &Entry) -> String {
    names::revision(&entry.deploy.snapshot)
}

#[test]
fn the_cluster_is_ahead_when_it_tells_of_a_later_deploy_than_the_database() {
    let old = entry(snapshot(SHOP, 0), 1, State::Success);
    let new = entry(snapshot(SHOP, 1), 2, State::Success);
    let later = entry(snapshot(SHOP, 0), 3, State::Success);
    struct Case<'a> {
        name: &'static str,
        status: Option<StageStatus>,
        ledger: Ledger,
        serves: Option<&'a Entry>,
        want: Option<(u128, Option<&'a Entry>)>,
    }
    let cases = [
        Case {
            name: "all is known",
            status: Some(told(&new, State::Success)),
            ledger: knows(&[&old, &new]),
            serves: Some(&new),
            want: None,
        },
        Case { name: "nothing was ever told", status: None, ledger: Ledger::default(), serves: None, want: None },
        Case {
            name: "the last rows are lost",
            status: Some(told(&new, State::Success)),
            ledger: knows(&[&old]),
            serves: Some(&new),
            want: Some((2, Some(&new))),
        },
        Case {
            name: "the database is empty",
            status: Some(told(&new, State::Success)),
            ledger: Ledger::default(),
            serves: Some(&new),
            want: Some((2, Some(&new))),
        },
        Case {
            name: "the status is lost too",
            status: None,
            ledger: knows(&[&old]),
            serves: Some(&new),
            want: Some((2, Some(&new))),
        },
        Case {
            name: "the status is late",
            status: Some(told(&old, State::Success)),
            ledger: knows(&[&old]),
            serves: Some(&new),
            want: Some((2, Some(&new))),
        },
        Case {
            name: "what is lost had not come far",
            status: Some(told(&new, State::Pulling)),
            ledger: knows(&[&old]),
            serves: Some(&old),
            want: Some((2, None)),
        },
        Case {
            name: "two are lost, and the later one did not serve",
            status: Some(told(&later, State::Failed)),
            ledger: knows(&[&old]),
            serves: Some(&new),
            want: Some((2, Some(&new))),
        },
        Case {
            name: "an old row was pruned",
            status: Some(told(&new, State::Success)),
            ledger: knows(&[&new]),
            serves: Some(&old),
            want: None,
        },
    ];
    for case in cases {
        let cluster = case.serves.map(serving).unwrap_or_default();
        let found = ahead(case.status.as_ref(), &case.ledger, &cluster.children());
        let want = case.want.map(|(id, serving)| Ahead {
            deploy: Uuid::from_u128(id),
            serving: serving
                .map(|entry| Serving { instance: entry.deploy.instance.clone(), revision: revision(entry) }),
        });
        assert_eq!(found, want, "{}", case.name);
    }
}

#[test]
fn what_serves_is_rendered_again_or_left_alone() {
    let lost = entry(snapshot(SHOP, 1), 2, State::Success);
    let serving = Serving { instance: lost.deploy.instance.clone(), revision: revision(&lost) };
    let (project, mut stage) = read(SHOP);
    let key = StageKey::new("acme", "dev");
    let images: BTreeMap<String, String> =
        lost.release().0.iter().map(|(service, image)| (service.clone(), image.reference())).collect();

    let found = rebuild(&serving, Some(&project), &stage, &key, &images, &SecretVersions::new()).expect("the same");
    assert_eq!(found.hash(), lost.deploy.snapshot);
    assert_eq!(found.release.0.get("web").unwrap().tag, None, "nothing tells its tag");

    let release = lost.release().id().to_string();
    stage.status =
        Some(StageStatus { release: Some(release), images: Some(lost.release().images()), ..StageStatus::default() });
    let found = rebuild(&serving, Some(&project), &stage, &key, &images, &SecretVersions::new()).expect("the same");
    assert_eq!(found.release, *lost.release(), "with the tags that the status tells");
    let adopted = adopted(Uuid::nil(), 4, lost.deploy.id, &found, Timestamp::UNIX_EPOCH, 7).expect("a row");
    assert_eq!((adopted.id, adopted.sequence, adopted.epoch), (lost.deploy.id, 4, 7));
    assert_eq!(adopted.instance, lost.deploy.instance);

    let mut other = images.clone();
    other.insert("web".into(), format!("ghcr.io/acme/shop@sha256:{}", "ee".repeat(32)));
    let mut changed = project.clone();
    changed.spec.services[0].replicas = 7;
    let refused: [(&str, Option<&Project>, &BTreeMap<String, String>, &str); 4] = [
        ("another image", Some(&project), &other, "has changed since"),
        ("another declaration", Some(&changed), &images, "has changed since"),
        ("no image at all", Some(&project), &BTreeMap::new(), "web"),
        ("no project", None, &images, "Project shop does not exist"),
    ];
    for (name, project, images, says) in refused {
        let why = rebuild(&serving, project, &stage, &key, images, &SecretVersions::new()).expect_err(name);
        assert!(why.contains(says), "{name}: {why}");
    }
}
