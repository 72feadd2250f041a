//! Against an API server that has traces, and against ones that do not help.

use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::cluster::index::{ContainerView, Exit, Meta};

/// An API server that answers each path as told.
fn client(answer: impl Fn(&str) -> (u16, String) + Clone + Send + 'static) -> Client {
    let service = tower::service_fn(move |request: Request<Body>| {
        let (code, text) = answer(&request.uri().to_string());
        async move {
            let body = Body::from(text.into_bytes());
            Ok::<_, tower::BoxError>(Response::builder().status(code).body(body).unwrap())
        }
    });
    Client::new(service, "default")
}

fn refusal(code: u16, message: &str) -> (u16, String) {
    let reason = if code == 403 { "Forbidden" } else { "BadRequest" };
    let status = json!({"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message});
    (code, status.to_string())
}

fn run(container: &str, previous: bool) -> Run {
    Run { container: container.into(), previous }
}

fn pod(runs: Vec<Run>) -> Subject {
    Subject { kind: "Pod".into(), namespace: "shop".into(), name: "web-1".into(), uid: "u1".into(), runs }
}

fn events(items: &[Value]) -> (u16, String) {
    (200, json!({"kind": "EventList", "apiVersion": "v1", "metadata": {}, "items": items}).to_string())
}

fn told(lines: &[Line]) -> Vec<String> {
    lines.iter().map(|line| format!("{}: {}", line.source, line.text)).collect()
}

#[tokio::test]
async fn events_and_logs_become_lines() {
    let event = |reason: &str, message: &str, at: &str, count: i32| {
        json!({"metadata": {"name": reason, "namespace": "shop"}, "involvedObject": {}, "reason": reason,
            "message": message, "lastTimestamp": at, "count": count})
    };
    let client = client(move |uri| {
        if uri.contains("/events") {
            assert!(uri.contains("fieldSelector=involvedObject.uid%3Du1"), "{uri}");
            events(&[
                event("BackOff", "restarting failed container", "2026-01-01T00:00:09Z", 4),
                event("Pulled", "image is there", "2026-01-01T00:00:01Z", 1),
            ])
        } else {
            assert!(uri.contains("/pods/web-1/log?"), "{uri}");
            assert!(uri.contains("tailLines=200") && uri.contains("timestamps=true"), "{uri}");
            let text = if uri.contains("previous=true") { "boom" } else { "starting" };
            (200, format!("2026-01-01T00:00:05Z {text}\n"))
        }
    });
    let lines = collect(&client, &[pod(vec![run("web", true), run("web", false)])], &Limits::default()).await;
    assert_eq!(
        told(&lines),
        [
            "event Pod/web-1: Pulled: image is there",
            "event Pod/web-1: BackOff (4 times): restarting failed container",
            "log web-1/web (previous run): boom",
            "log web-1/web: starting",
        ]
    );
    assert_eq!(lines[2].at, Some("2026-01-01T00:00:05Z".parse().unwrap()));
}

#[tokio::test]
async fn what_cannot_be_had_is_said() {
    let client = client(|uri| {
        if uri.contains("/events") {
            refusal(403, "User \"sk\" cannot list resource \"events\"")
        } else if uri.contains("container=late") {
            refusal(400, "container \"late\" in pod \"web-1\" is waiting to start: ErrImagePull")
        } else {
            (200, String::new())
        }
    });
    let lines = collect(&client, &[pod(vec![run("late", false), run("quiet", false)])], &Limits::default()).await;
    let said = told(&lines);
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said[0].contains("must allow the verbs list on events"), "{}", said[0]);
    assert!(said[1].ends_with("is waiting to start: ErrImagePull"), "{}", said[1]);
    assert_eq!(said[2], "evidence: log web-1/quiet: the container wrote nothing");
}

#[tokio::test(start_paused = true)]
async fn a_cluster_that_hangs_costs_bounded_time() {
    let service =
        tower::service_fn(|_: Request<Body>| std::future::pending::<Result<Response<Body>, tower::BoxError>>());
    let client = Client::new(service, "default");
    let limits = Limits::default();
    let subjects = vec![pod(vec![run("web", false), run("web", true), run("x", false), run("y", false)]); 12];
    let began = Instant::now();
    let lines = collect(&client, &subjects, &limits).await;
    assert!(began.elapsed() <= limits.total + Duration::from_secs(1), "{:?}", began.elapsed());
    let said = told(&lines);
    assert!(said[0].contains("events of Pod/web-1: the API server did not answer in time"), "{said:?}");
    assert!(said.iter().any(|s| s.contains("would have taken too long")), "{said:?}");
    assert!(said.iter().any(|s| s.contains("2 more objects were not looked at")), "{said:?}");
}

#[tokio::test]
async fn endless_logs_are_cut_to_their_end() {
    let client = client(|uri| {
        if uri.contains("/events") {
            return events(&[]);
        }
        let lines: String =
            (0..100_000).flat_map(|n| [format!("2026-01-01T00:00:05Z line {n}"), "\n".to_owned()]).collect();
        (200, lines)
    });
    let limits = Limits { log_lines: 3, ..Limits::default() };
    let lines = collect(&client, &[pod(vec![run("web", false)])], &limits).await;
    assert_eq!(lines.len(), 3);
}

#[test]
fn the_runs_that_failed_are_asked_for() {
    let container = |name: &str| ContainerView { name: name.into(), ..ContainerView::default() };
    let exit = |code| Some(Exit { code, reason: "x".into() });
    let view = PodView {
        meta: Meta { name: "web-1".into(), uid: "u1".into(), ..Meta::default() },
        containers: [
            ContainerView { init: true, exit: exit(0), ..container("setup") },
            ContainerView { exit: exit(1), ..container("died") },
            ContainerView { last_exit: exit(2), restarts: 1, ..container("crashing") },
            ContainerView { running: true, last_exit: exit(2), ..container("again") },
            ContainerView { running: true, ready: true, ..container("fine") },
            container("never-started"),
        ]
        .into(),
        ..PodView::default()
    };
    let want = vec![run("died", false), run("crashing", true), run("again", true), run("again", false)];
    assert_eq!(Subject::failing_pod("shop", &view), pod(want));
}
