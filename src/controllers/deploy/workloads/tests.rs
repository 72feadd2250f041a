//! From objects as the API server shows them to what the machine is told.

use serde_json::{Value, json};

use super::*;
use crate::{
    cluster::index::Kind,
    controllers::{
        deploy::{ledger::Entry, plan::Planned},
        fixture::{Cluster, SHOP, entry, pod, running, snapshot},
    },
    domain::deploy::State,
    render::RENDERED,
};

const DB: &str = "dev-db";

fn starting() -> Value {
    pod("False", json!({"state": {"running": {}}, "imageID": "sha256:ab"}))
}

fn pulling() -> Value {
    pod("False", json!({"state": {"waiting": {"reason": "ContainerCreating"}}}))
}

/// A cluster in which the services' addresses and the database are there, and the name of web's workload.
fn with_database(deploy: &Entry) -> (Cluster, Planned, String) {
    let mut cluster = Cluster::default();
    for service in cluster.planned(deploy).manifests.services().filter_map(|service| service.service.as_ref()) {
        cluster.apply(service);
    }
    let planned = cluster.planned(deploy);
    cluster.apply(&planned.manifests.service("db").expect("db").workload);
    let web = planned.expected.iter().find(|one| one.service == "web").expect("web").workload.clone();
    (cluster, planned, web)
}

/// A cluster in which web's pods have these states.
fn with_web(pods: &[Value]) -> (Cluster, Planned, String) {
    let deploy = entry(snapshot(SHOP, 0), 1, State::Starting);
    let (mut cluster, planned, web) = with_database(&deploy);
    cluster.run(DB, &[running()]);
    cluster.apply(&planned.manifests.service("web").expect("web").workload);
    cluster.run(&web, pods);
    (cluster, planned, web)
}

fn seen(cluster: &Cluster, planned: &Planned) -> Workloads {
    workloads("this", &planned.expected, &cluster.children())
}

#[test]
fn an_instance_is_applied_pulled_and_ready_in_the_order_of_its_dependencies() {
    struct Case {
        name: &'static str,
        db: Option<Value>,
        web: Option<[Value; 2]>,
        want: (bool, bool, bool, &'static str),
    }
    let cases = [
        Case {
            name: "db is applied and has no pod yet",
            db: None,
            web: None,
            want: (true, false, false, "db 0/1 ready"),
        },
        Case { name: "db is pulled", db: Some(pulling()), web: None, want: (true, false, false, "db 0/1 ready") },
        Case { name: "db starts", db: Some(starting()), web: None, want: (true, true, false, "db 0/1 ready") },
        Case { name: "db is ready, so web is due", db: Some(running()), web: None, want: (false, false, false, "") },
        Case {
            name: "one pod of web is pulled",
            db: Some(running()),
            web: Some([starting(), pulling()]),
            want: (true, false, false, "web 0/2 ready"),
        },
        Case {
            name: "one pod of web is ready",
            db: Some(running()),
            web: Some([running(), starting()]),
            want: (true, true, false, "web 1/2 ready"),
        },
        Case { name: "all are", db: Some(running()), web: Some([running(), running()]), want: (true, true, true, "") },
    ];
    let deploy = entry(snapshot(SHOP, 0), 1, State::Starting);
    for case in cases {
        let (mut cluster, planned, web) = with_database(&deploy);
        if let Some(pod) = case.db {
            cluster.run(DB, &[pod]);
        }
        if let Some(pods) = case.web {
            cluster.apply(&planned.manifests.service("web").expect("web").workload);
            cluster.run(&web, &pods);
        }
        let seen = seen(&cluster, &planned);
        let (applied, pulled, ready, progress) = case.want;
        assert_eq!(seen.snapshot.as_deref(), applied.then_some("this"), "{}", case.name);
        assert_eq!((seen.pulled, seen.ready, &*seen.progress), (pulled, ready, progress), "{}", case.name);
        assert_eq!(seen.problem, None, "{}", case.name);
    }
    let nothing = workloads("this", &Cluster::default().planned(&deploy).expected, &StageChildren::default());
    assert_eq!(nothing, Workloads::default());
}

#[test]
fn what_an_earlier_version_of_this_program_rendered_serves_on() {
    let (deploy, other) = (entry(snapshot(SHOP, 0), 1, State::Success), entry(snapshot(SHOP, 1), 2, State::Success));
    let mut cluster = Cluster::default();
    cluster.settle(&deploy);
    let planned = cluster.planned(&deploy);
    let web = planned.expected.iter().find(|one| one.service == "web").expect("web");
    let mut earlier = planned.manifests.service("web").expect("web").workload.clone();
    earlier.metadata.annotations.get_or_insert_default().insert(RENDERED.into(), "earlier".into());
    cluster.apply(&earlier);
    assert_eq!(standing(web, &cluster.children()), Standing::Absent, "it would be applied again");
    assert!(serves(web, &cluster.children()));
    let another = cluster.planned(&other);
    let another = Expected { workload: web.workload.clone(), ..another.expected[web.wave].clone() };
    assert_eq!(another.service, "web");
    assert!(!serves(&another, &cluster.children()), "another snapshot does not");
    cluster.run(&web.workload, &[running(), starting()]);
    assert!(!serves(web, &cluster.children()), "one pod of two is not ready");
}

#[test]
fn the_pods_of_another_revision_say_nothing() {
    let rolling = SHOP.replace("project: shop\n", "project: shop\n  strategy: {type: Rolling}\n");
    let (old, new) =
        (entry(snapshot(&rolling, 0), 1, State::Success), entry(snapshot(&rolling, 1), 2, State::Starting));
    let mut cluster = Cluster::default();
    cluster.settle(&old);
    let planned = cluster.planned(&new);
    let web = planned.expected.iter().find(|one| one.service == "web").expect("web");
    assert_eq!(standing(web, &cluster.children()), Standing::Absent, "the workload is that of the old release");
    for service in planned.manifests.services() {
        cluster.apply(&service.workload);
    }
    // The controller has not looked yet: every number and every pod is about the release before.
    let children = cluster.children();
    assert_eq!(standing(web, &children), Standing::Starting);
    assert_eq!(unready(&planned.expected, "web", &children).count(), 0, "the old pods are not the new release's");
    let seen = seen(&cluster, &planned);
    assert!(!seen.ready && !seen.pulled, "{seen:?}");
}

#[test]
fn what_is_wrong_with_a_pod_is_told_and_whether_waiting_can_help() {
    let waiting = |reason: &str, rest: Value| {
        let mut container = rest;
        container["state"] = json!({"waiting": {"reason": reason, "message": "says the node"}});
        pod("False", container)
    };
    let ended = |code: i32, restarts: u32| {
        let terminated = json!({"terminated": {"exitCode": code, "reason": "Error"}});
        json!({"lastState": terminated, "restartCount": restarts})
    };
    let exited = |code: i32, restarts: u32| {
        let container = ended(code, restarts);
        pod("False", json!({"state": container["lastState"], "restartCount": restarts}))
    };
    let again = |ready: &str| {
        let mut container = ended(3, 5);
        container["state"] = json!({"running": {}});
        container["ready"] = json!(ready == "True");
        pod(ready, container)
    };
    let unschedulable = json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes: Insufficient cpu"},
    ]});
    let evicted = json!({"phase": "Failed", "reason": "Evicted", "message": "low on memory"});
    let mut setup = waiting("PodInitializing", json!({}));
    setup["initContainerStatuses"] =
        json!([{"name": "setup", "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]);
    let crash = "exited with code 3 (Error)";
    let cases: [(&str, Value, Option<(&str, &str, bool)>); 14] = [
        ("it is well", running(), None),
        ("it is being made", pulling(), None),
        ("its setup is done", setup, None),
        ("it runs again after a crash", again("False"), Some(("ContainerExited", crash, false))),
        ("it runs again, and well", again("True"), None),
        ("no image", waiting("ImagePullBackOff", json!({})), Some(("ImagePullBackOff", "says the node", false))),
        (
            "an impossible image",
            waiting("InvalidImageName", json!({})),
            Some(("InvalidImageName", "says the node", true)),
        ),
        (
            "no Secret",
            waiting("CreateContainerConfigError", json!({})),
            Some(("CreateContainerConfigError", "says", false)),
        ),
        ("its first crash", exited(3, 0), Some(("ContainerExited", crash, false))),
        ("its second crash", waiting("CrashLoopBackOff", ended(3, 1)), Some(("CrashLoopBackOff", crash, false))),
        ("its fourth crash", waiting("CrashLoopBackOff", ended(3, 3)), Some(("CrashLoopBackOff", "3 restarts", true))),
        ("its fourth crash, just now", exited(3, 3), Some(("CrashLoopBackOff", "3 restarts", true))),
        ("no room", unschedulable, Some(("Unschedulable", "Insufficient cpu", false))),
        ("it was evicted", evicted, Some(("Evicted", "low on memory", false))),
    ];
    for (name, status, want) in cases {
        let (cluster, planned, web) = with_web(&[starting(), status]);
        let seen = seen(&cluster, &planned);
        let found = seen.problem.as_ref().map(|problem| (problem.reason.as_str(), problem.fatal));
        assert_eq!(found, want.map(|(reason, _, fatal)| (reason, fatal)), "{name}");
        if let (Some(problem), Some((reason, message, _))) = (seen.problem, want) {
            assert!(problem.message.contains(message), "{name}: {}", problem.message);
            assert!(problem.message.contains(&format!("pod {web}-1")), "{name}: {}", problem.message);
            let evidence: Vec<String> = problems(&planned.expected, &cluster.children()).collect();
            assert_eq!(evidence, [format!("{reason}: {}", problem.message)], "{name}");
        }
    }
}

#[test]
fn what_cannot_mend_itself_decides_over_what_can() {
    let soft = pod("False", json!({"state": {"waiting": {"reason": "ImagePullBackOff"}}}));
    let fatal = pod("False", json!({"state": {"waiting": {"reason": "InvalidImageName"}}}));
    for pods in [[soft.clone(), fatal.clone()], [fatal, soft]] {
        let (cluster, planned, _) = with_web(&pods);
        let problem = seen(&cluster, &planned).problem.expect("a problem");
        assert_eq!((problem.reason.as_str(), problem.fatal), ("InvalidImageName", true));
        assert_eq!(problems(&planned.expected, &cluster.children()).count(), 2, "the evidence holds both");
    }
}

#[test]
fn pods_that_cannot_even_be_made_are_told() {
    let (mut cluster, planned, web) = with_web(&[]);
    let message = "pods \"dev-web\" is forbidden: exceeded quota";
    let condition = json!({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": message});
    cluster.report(Kind::Deployment, &web, json!({"observedGeneration": 1, "conditions": [condition]}));
    let seen = seen(&cluster, &planned);
    let problem = seen.problem.expect("a problem");
    assert_eq!((problem.reason.as_str(), problem.fatal), ("FailedCreate", false));
    assert!(problem.message.contains("exceeded quota") && problem.message.contains(&web), "{}", problem.message);
    assert!(!seen.pulled && !seen.ready);
}

#[test]
fn a_database_that_does_not_get_ready_is_told_and_web_is_not_started() {
    let deploy = entry(snapshot(SHOP, 0), 1, State::Pulling);
    let (mut cluster, planned, _) = with_database(&deploy);
    cluster
        .run(DB, &[pod("False", json!({"state": {"waiting": {"reason": "ErrImagePull", "message": "no such tag"}}}))]);
    let seen = seen(&cluster, &planned);
    assert_eq!(seen.progress, "db 0/1 ready");
    assert!(seen.problem.is_some_and(|problem| problem.message.contains("no such tag")));
    assert_eq!(frontier(&planned.expected, &cluster.children()), 0);
}
