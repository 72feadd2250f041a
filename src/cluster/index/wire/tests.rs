//! Objects are built from the official types, so that a field that is misspelt here cannot go unnoticed.

use k8s_openapi::api::apps::v1 as apps;
use k8s_openapi::api::batch::v1 as batch;
use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta, Time};
use serde::Serialize;
use serde_json::json;

use super::*;
use crate::api::labels;
use crate::cluster::index::view::{Condition, ContainerView, Exit, PodPhase};

fn metadata() -> ObjectMeta {
    let pairs = [
        (labels::STAGE, "dev"),
        (labels::INSTANCE, "blue"),
        (labels::SERVICE, "web"),
        (labels::SNAPSHOT, "s1"),
        (labels::DEPLOY, "d1"),
        (labels::HOOK, "before-start"),
        (labels::HOOK_NAME, "migrate"),
        ("batch.kubernetes.io/job-name", "migrate-d1"),
        ("app", "unrelated"),
    ];
    ObjectMeta {
        name: Some("web-blue".into()),
        namespace: Some("shop".into()),
        uid: Some("u1".into()),
        resource_version: Some("42".into()),
        generation: Some(3),
        labels: Some(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()),
        annotations: Some([(labels::RENDERED.to_owned(), "r1".to_owned())].into()),
        managed_fields: Some(vec![ManagedFieldsEntry { manager: Some("m".into()), ..Default::default() }]),
        ..ObjectMeta::default()
    }
}

fn seen(kind: Kind, object: &impl Serialize) -> Seen {
    read(kind, &serde_json::to_string(object).unwrap()).unwrap().expect("it belongs to a stage")
}

fn meta() -> Meta {
    Meta {
        name: "web-blue".into(),
        uid: "u1".into(),
        instance: Some("blue".into()),
        service: Some("web".into()),
        snapshot: Some("s1".into()),
        deploy: Some("d1".into()),
        rendered: Some("r1".into()),
        deleting: false,
    }
}

fn why(reason: &str, message: &str) -> Because {
    Because { reason: reason.into(), message: message.into() }
}

#[test]
fn identity_and_marks_are_read_by_the_keys_that_are_written() {
    let seen = seen(Kind::Service, &core::Service { metadata: metadata(), ..Default::default() });
    assert_eq!(seen.stage, StageKey::new("shop", "dev"));
    assert_eq!(seen.version, 42);
    assert_eq!(*seen.view.meta(), meta());
}

#[test]
fn what_belongs_to_no_stage_is_not_remembered() {
    let object = core::Service { metadata: ObjectMeta { labels: None, ..metadata() }, ..Default::default() };
    assert!(read(Kind::Service, &serde_json::to_string(&object).unwrap()).unwrap().is_none());
}

#[test]
fn a_bare_object_of_any_kind_can_be_read() {
    let bare = json!({"metadata": {"name": "x", "namespace": "shop", "labels": {labels::STAGE: "dev"}}}).to_string();
    for kind in Kind::ALL {
        assert!(read(kind, &bare).unwrap().is_some(), "{kind:?}");
        let hollow = json!({"metadata": {"name": "x", "namespace": "shop", "labels": {labels::STAGE: "dev"},
            "annotations": null, "deletionTimestamp": null}, "spec": {}, "status": {"conditions": null}});
        assert!(read(kind, &hollow.to_string()).unwrap().is_some(), "{kind:?}");
    }
}

#[test]
fn deployment() {
    let condition = |name: &str, status: &str, reason: &str| apps::DeploymentCondition {
        type_: name.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(format!("{reason}!")),
        ..Default::default()
    };
    let object = apps::Deployment {
        metadata: ObjectMeta { deletion_timestamp: Some(Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH)), ..metadata() },
        spec: Some(apps::DeploymentSpec { replicas: Some(2), ..Default::default() }),
        status: Some(apps::DeploymentStatus {
            observed_generation: Some(3),
            replicas: Some(3),
            updated_replicas: Some(2),
            ready_replicas: Some(1),
            available_replicas: Some(1),
            conditions: Some(vec![
                condition("Progressing", "False", "ProgressDeadlineExceeded"),
                condition("ReplicaFailure", "True", "FailedCreate"),
            ]),
            ..Default::default()
        }),
    };
    let want = WorkloadView {
        meta: Meta { deleting: true, ..meta() },
        generation: 3,
        observed_generation: 3,
        desired: 2,
        replicas: 3,
        updated: 2,
        ready: 1,
        available: 1,
        progressing: Some(Box::new(Condition {
            holds: false,
            because: why("ProgressDeadlineExceeded", "ProgressDeadlineExceeded!"),
        })),
        replica_failure: Some(Box::new(why("FailedCreate", "FailedCreate!"))),
    };
    assert_eq!(seen(Kind::Deployment, &object).view, AnyView::Workload(want));
}

#[test]
fn a_workload_is_ready_when_the_newest_spec_runs_everywhere_and_nothing_else_does() {
    let ready = WorkloadView {
        generation: 2,
        observed_generation: 2,
        desired: 2,
        replicas: 2,
        updated: 2,
        ready: 2,
        ..WorkloadView::default()
    };
    assert!(ready.is_ready());
    let not = [
        ("the status is about an older spec", WorkloadView { observed_generation: 1, ..ready.clone() }),
        ("a pod of an older revision is left", WorkloadView { replicas: 3, ..ready.clone() }),
        ("a pod is not of the newest revision", WorkloadView { updated: 1, ..ready.clone() }),
        ("a pod is not ready", WorkloadView { ready: 1, ..ready.clone() }),
    ];
    for (name, view) in not {
        assert!(!view.is_ready(), "{name}");
    }
    assert!(WorkloadView::default().is_ready(), "nothing is asked for and nothing runs");
}

#[test]
fn pod() {
    let container = |name: &str| core::Container { name: name.into(), ..Default::default() };
    let status = |name: &str| core::ContainerStatus { name: name.into(), ..Default::default() };
    let object = core::Pod {
        metadata: metadata(),
        spec: Some(core::PodSpec {
            node_name: Some("node-1".into()),
            init_containers: Some(vec![container("setup")]),
            containers: vec![container("web"), container("sidecar"), container("late")],
            ..Default::default()
        }),
        status: Some(core::PodStatus {
            phase: Some("Running".into()),
            pod_ip: Some("10.1.2.3".into()),
            conditions: Some(vec![core::PodCondition {
                type_: "Ready".into(),
                status: "False".into(),
                ..Default::default()
            }]),
            init_container_statuses: Some(vec![core::ContainerStatus {
                state: Some(core::ContainerState {
                    terminated: Some(core::ContainerStateTerminated {
                        exit_code: 0,
                        reason: Some("Completed".into()),
                        ..Default::default()
                    }),
                    ..Default::default()
                }),
                ..status("setup")
            }]),
            container_statuses: Some(vec![
                core::ContainerStatus {
                    state: Some(core::ContainerState {
                        waiting: Some(core::ContainerStateWaiting {
                            reason: Some("ErrImagePull".into()),
                            message: Some("no such tag".into()),
                        }),
                        ..Default::default()
                    }),
                    ..status("late")
                },
                core::ContainerStatus {
                    ready: true,
                    started: Some(true),
                    state: Some(core::ContainerState {
                        running: Some(core::ContainerStateRunning {
                            started_at: Some(Time(k8s_openapi::jiff::Timestamp::UNIX_EPOCH)),
                        }),
                        ..Default::default()
                    }),
                    image_id: "sha256:1".into(),
                    ..status("sidecar")
                },
                core::ContainerStatus {
                    restart_count: 4,
                    state: Some(core::ContainerState {
                        waiting: Some(core::ContainerStateWaiting {
                            reason: Some("CrashLoopBackOff".into()),
                            message: Some("back-off 40s".into()),
                        }),
                        ..Default::default()
                    }),
                    last_state: Some(core::ContainerState {
                        terminated: Some(core::ContainerStateTerminated {
                            exit_code: 137,
                            reason: Some("OOMKilled".into()),
                            ..Default::default()
                        }),
                        ..Default::default()
                    }),
                    ..status("web")
                },
            ]),
            ..Default::default()
        }),
    };
    let exit = |code, reason: &str| Some(Exit { code, reason: reason.into() });
    let want = PodView {
        meta: meta(),
        job: Some("migrate-d1".into()),
        ip: Some([10, 1, 2, 3].into()),
        scheduled: true,
        phase: PodPhase::Running,
        ready: false,
        unschedulable: None,
        failure: None,
        containers: [
            ContainerView {
                name: "setup".into(),
                init: true,
                pulled: true,
                exit: exit(0, "Completed"),
                ..ContainerView::default()
            },
            ContainerView {
                name: "web".into(),
                pulled: true,
                restarts: 4,
                waiting: Some(Box::new(why("CrashLoopBackOff", "back-off 40s"))),
                last_exit: exit(137, "OOMKilled"),
                ..ContainerView::default()
            },
            ContainerView {
                name: "sidecar".into(),
                pulled: true,
                running: true,
                ready: true,
                ..ContainerView::default()
            },
            ContainerView {
                name: "late".into(),
                waiting: Some(Box::new(why("ErrImagePull", "no such tag"))),
                ..ContainerView::default()
            },
        ]
        .into(),
    };
    assert!(!want.is_pulled());
    assert_eq!(seen(Kind::Pod, &object).view, AnyView::Pod(want));
}

#[test]
fn a_pod_that_fits_nowhere_or_was_evicted_says_why() {
    let status = |status| core::Pod { metadata: metadata(), status: Some(status), ..Default::default() };
    let AnyView::Pod(homeless) = seen(
        Kind::Pod,
        &status(core::PodStatus {
            phase: Some("Pending".into()),
            conditions: Some(vec![core::PodCondition {
                type_: "PodScheduled".into(),
                status: "False".into(),
                reason: Some("Unschedulable".into()),
                message: Some("0/1 nodes are available".into()),
                ..Default::default()
            }]),
            ..Default::default()
        }),
    )
    .view
    else {
        panic!("a pod")
    };
    assert_eq!(homeless.unschedulable.as_deref(), Some("0/1 nodes are available"));
    assert!(!homeless.scheduled && !homeless.is_pulled());

    let AnyView::Pod(evicted) = seen(
        Kind::Pod,
        &status(core::PodStatus {
            phase: Some("Failed".into()),
            reason: Some("Evicted".into()),
            message: Some("low on memory".into()),
            ..Default::default()
        }),
    )
    .view
    else {
        panic!("a pod")
    };
    assert_eq!(evicted.failure.as_deref(), Some(&why("Evicted", "low on memory")));
}

#[test]
fn service() {
    let object = |ip: &str| core::Service {
        metadata: metadata(),
        spec: Some(core::ServiceSpec {
            selector: Some([(labels::INSTANCE.to_owned(), "green".to_owned())].into()),
            cluster_ip: Some(ip.into()),
            ports: Some(vec![
                core::ServicePort { name: Some("http".into()), port: 80, ..Default::default() },
                core::ServicePort { port: 9090, ..Default::default() },
            ]),
            ..Default::default()
        }),
        ..Default::default()
    };
    let want = ServiceView {
        meta: meta(),
        selects: Some("green".into()),
        cluster_ip: Some([10, 96, 0, 7].into()),
        ports: [("http".into(), 80), ("".into(), 9090)].into(),
    };
    assert_eq!(seen(Kind::Service, &object("10.96.0.7")).view, AnyView::Service(want.clone()));
    let headless = ServiceView { cluster_ip: None, ..want };
    assert_eq!(seen(Kind::Service, &object("None")).view, AnyView::Service(headless));
}

#[test]
fn job() {
    let object = |conditions| batch::Job {
        metadata: metadata(),
        status: Some(batch::JobStatus {
            active: Some(1),
            succeeded: Some(2),
            failed: Some(3),
            conditions: Some(conditions),
            ..Default::default()
        }),
        ..Default::default()
    };
    let condition = |name: &str, status: &str| batch::JobCondition {
        type_: name.into(),
        status: status.into(),
        reason: Some("BackoffLimitExceeded".into()),
        message: Some("too often".into()),
        ..Default::default()
    };
    let failed = JobView {
        meta: meta(),
        hook: Some("before-start".into()),
        hook_name: Some("migrate".into()),
        active: 1,
        succeeded: 2,
        failed: 3,
        complete: false,
        failure: Some(Box::new(why("BackoffLimitExceeded", "too often"))),
    };
    let conditions = vec![condition("Complete", "False"), condition("Failed", "True")];
    assert_eq!(seen(Kind::Job, &object(conditions)).view, AnyView::Job(failed.clone()));
    let complete = JobView { complete: true, failure: None, ..failed };
    assert_eq!(seen(Kind::Job, &object(vec![condition("Complete", "True")])).view, AnyView::Job(complete));
}

#[test]
fn ingress() {
    let object = |addresses| networking::Ingress {
        metadata: metadata(),
        status: Some(networking::IngressStatus {
            load_balancer: Some(networking::IngressLoadBalancerStatus { ingress: Some(addresses) }),
        }),
        ..Default::default()
    };
    let accepted = |accepted| AnyView::Ingress(RouteView { meta: meta(), accepted, problem: None });
    assert_eq!(seen(Kind::Ingress, &object(vec![])).view, accepted(false));
    let address = networking::IngressLoadBalancerIngress { ip: Some("10.0.0.1".into()), ..Default::default() };
    assert_eq!(seen(Kind::Ingress, &object(vec![address])).view, accepted(true));
}

#[test]
fn http_route() {
    struct Case {
        name: &'static str,
        parents: serde_json::Value,
        accepted: bool,
        problem: Option<&'static str>,
    }
    let condition = |name: &str, status: &str, generation: i64| {
        json!({"type": name, "status": status, "reason": format!("{name}{status}"), "message": "m",
            "observedGeneration": generation, "lastTransitionTime": "2026-01-01T00:00:00Z"})
    };
    let parent = |conditions: &[serde_json::Value]| json!({"parentRef": {"name": "gw"}, "controllerName": "x/y", "conditions": conditions});
    let good = [condition("Accepted", "True", 3), condition("ResolvedRefs", "True", 3)];
    let cases = [
        Case { name: "nobody answered", parents: json!([]), accepted: false, problem: None },
        Case { name: "both agree", parents: json!([parent(&good), parent(&good)]), accepted: true, problem: None },
        Case { name: "one is missing", parents: json!([parent(&good)]), accepted: false, problem: None },
        Case {
            name: "one refuses",
            parents: json!([parent(&good), parent(&[condition("Accepted", "False", 3)])]),
            accepted: false,
            problem: Some("AcceptedFalse"),
        },
        Case {
            name: "a backend is missing",
            parents: json!([parent(&good), parent(&[good[0].clone(), condition("ResolvedRefs", "False", 3)])]),
            accepted: false,
            problem: Some("ResolvedRefsFalse"),
        },
        Case {
            name: "the verdict is about an older spec",
            parents: json!([parent(&good), parent(&[condition("Accepted", "True", 2)])]),
            accepted: false,
            problem: None,
        },
    ];
    for Case { name, parents, accepted, problem } in cases {
        let object = json!({"metadata": metadata(), "spec": {"parentRefs": [{"name": "a"}, {"name": "b"}]},
            "status": {"parents": parents}});
        let AnyView::HttpRoute(view) = seen(Kind::HttpRoute, &object).view else { panic!("{name}: a route") };
        assert_eq!(view.accepted, accepted, "{name}");
        assert_eq!(view.problem.as_deref().map(|p| &*p.reason), problem, "{name}");
    }
}

#[test]
fn long_messages_are_cut() {
    let object = batch::Job {
        metadata: metadata(),
        status: Some(batch::JobStatus {
            conditions: Some(vec![batch::JobCondition {
                type_: "Failed".into(),
                status: "True".into(),
                message: Some("x".repeat(5_000)),
                ..Default::default()
            }]),
            ..Default::default()
        }),
        ..Default::default()
    };
    let AnyView::Job(view) = seen(Kind::Job, &object).view else { panic!("a job") };
    assert_eq!(view.failure.unwrap().message.chars().count(), MESSAGE_CHARS);
}
