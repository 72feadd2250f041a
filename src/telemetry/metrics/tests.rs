//! The names and labels as Prometheus sees them.

use super::*;

/// Every rendered sample after each kind of report was made once.
fn samples() -> Vec<String> {
    let metrics = Metrics::default();
    let stage = metrics.controller("stage");
    stage.max_concurrent(16);
    let worker = stage.started();
    stage.finished(ReconcileResult::Success, Duration::from_millis(20));
    stage.finished(ReconcileResult::RequeueAfter, Duration::from_millis(20));
    stage.finished(ReconcileResult::Error, Duration::from_millis(20));
    stage.finished(ReconcileResult::TerminalError, Duration::from_millis(20));
    stage.panicked();
    stage.queued(false);
    stage.queued(true);
    stage.waited(Duration::from_millis(1));
    stage.depth(3);
    metrics.rest_answered("apply", 409);
    metrics.rest_answered("list", 200);
    metrics.rest_answered("get", 200);
    metrics.rest_answered("delete", 0);
    metrics.leads(0, true);
    metrics.deploy_closed("success", Duration::from_secs(7));
    metrics.deploy_left("pulling", Duration::from_secs(3));
    metrics.deploys_open("pending", 2);
    metrics.scanned("unchanged");
    metrics.api_answered("/namespaces/{namespace}/stages", "GET", 200);
    metrics.webhook_received("diun", "accepted");
    metrics.webhook_read("diun", "processed");
    metrics.store_up(true);
    let expiry = |name: &str, seconds| ("acme".to_owned(), "shop".to_owned(), name.to_owned(), seconds);
    metrics.set_credential_expiries(vec![expiry("old", 1), expiry("ghcr", 2)]);
    metrics.set_credential_expiries(vec![expiry("ghcr", 1_800_000_000)]);
    metrics.set_credentials_by_key(vec![("2025".to_owned(), 3), ("2024".to_owned(), 1)]);
    metrics.set_credentials_by_key(vec![("2026".to_owned(), 7)]);
    let text = metrics.render().expect("all labels can be written");
    drop(worker);
    assert!(text.ends_with("# EOF\n"), "{text}");
    text.lines().filter(|line| !line.starts_with('#') && !line.contains("_bucket{")).map(str::to_owned).collect()
}

#[test]
fn names_and_labels_are_those_of_the_dashboards() {
    let mut expected = vec![
        r#"controller_runtime_active_workers{controller="stage"} 1"#,
        r#"controller_runtime_max_concurrent_reconciles{controller="stage"} 16"#,
        r#"controller_runtime_reconcile_errors_total{controller="stage"} 2"#,
        r#"controller_runtime_reconcile_panics_total{controller="stage"} 1"#,
        r#"controller_runtime_reconcile_time_seconds_count{controller="stage"} 4"#,
        r#"controller_runtime_reconcile_time_seconds_sum{controller="stage"} 0.08"#,
        r#"controller_runtime_reconcile_total{controller="stage",result="error"} 2"#,
        r#"controller_runtime_reconcile_total{controller="stage",result="requeue_after"} 1"#,
        r#"controller_runtime_reconcile_total{controller="stage",result="success"} 1"#,
        r#"controller_runtime_terminal_reconcile_errors_total{controller="stage"} 1"#,
        r#"leader_election_master_status{name="stagekeeper"} 1"#,
        r#"rest_client_requests_total{code="0",method="DELETE"} 1"#,
        r#"rest_client_requests_total{code="200",method="GET"} 2"#,
        r#"rest_client_requests_total{code="409",method="PATCH"} 1"#,
        r#"stagekeeper_api_requests_total{route="/namespaces/{namespace}/stages",method="GET",status="200"} 1"#,
        r#"stagekeeper_credential_expiry_timestamp_seconds{namespace="acme",project="shop",credential="ghcr"} 1800000000"#,
        r#"stagekeeper_credentials_by_key{key_id="2026"} 7"#,
        r#"stagekeeper_deploy_duration_seconds_count{outcome="success"} 1"#,
        r#"stagekeeper_deploy_duration_seconds_sum{outcome="success"} 7.0"#,
        r#"stagekeeper_deploy_state_duration_seconds_count{state="pulling"} 1"#,
        r#"stagekeeper_deploy_state_duration_seconds_sum{state="pulling"} 3.0"#,
        r#"stagekeeper_deploy_total{outcome="success"} 1"#,
        r#"stagekeeper_deploys_open{state="pending"} 2"#,
        "stagekeeper_edge_connections 0",
        "stagekeeper_edge_host_conflicts 0",
        "stagekeeper_edge_hosts 0",
        "stagekeeper_edge_waiting_requests 0",
        "stagekeeper_environment_orphans 0",
        "stagekeeper_images_frozen 0",
        "stagekeeper_preview_orphans 0",
        r#"stagekeeper_scan_total{result="unchanged"} 1"#,
        "stagekeeper_store_up 1",
        r#"stagekeeper_webhook_deliveries_total{source="diun",outcome="accepted"} 1"#,
        r#"stagekeeper_webhook_read_total{source="diun",result="processed"} 1"#,
        r#"workqueue_adds_total{name="stage",controller="stage"} 2"#,
        r#"workqueue_depth{name="stage",controller="stage"} 3"#,
        r#"workqueue_queue_duration_seconds_count{name="stage",controller="stage"} 1"#,
        r#"workqueue_queue_duration_seconds_sum{name="stage",controller="stage"} 0.001"#,
        r#"workqueue_retries_total{name="stage",controller="stage"} 1"#,
        r#"workqueue_work_duration_seconds_count{name="stage",controller="stage"} 4"#,
        r#"workqueue_work_duration_seconds_sum{name="stage",controller="stage"} 0.08"#,
    ]
    .into_iter()
    .map(str::to_owned)
    .collect::<Vec<_>>();
    expected.push(format!("stagekeeper_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION")));
    expected.sort();
    let mut found = samples();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn a_worker_counts_only_while_it_lives() {
    let metrics = Metrics::default();
    let stage = metrics.controller("stage");
    drop(stage.started());
    let reconcile = std::thread::spawn(move || {
        let _worker = stage.started();
        panic!("a reconcile went wrong");
    });
    assert!(reconcile.join().is_err());
    let text = metrics.render().expect("all labels can be written");
    let idle = r#"controller_runtime_active_workers{controller="stage"} 0"#;
    assert!(text.contains(idle), "{text}");
}

#[test]
fn a_controller_starts_its_counters_at_zero() {
    let metrics = Metrics::default();
    drop(metrics.controller("project"));
    let text = metrics.render().expect("all labels can be written");
    for line in [
        r#"controller_runtime_reconcile_total{controller="project",result="error"} 0"#,
        r#"controller_runtime_reconcile_panics_total{controller="project"} 0"#,
    ] {
        assert!(text.contains(line), "{line} is missing:\n{text}");
    }
}
