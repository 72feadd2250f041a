//! Counting passes.

use std::time::Instant;

use kube::runtime::controller::Action;

use super::error::{Class, Error};
use crate::telemetry::metrics::{ControllerMetrics, ReconcileResult};

/// Runs a pass and counts how it ended and how long it took. A pass that is cancelled is not counted as ended.
pub async fn counted(
    metrics: ControllerMetrics,
    pass: impl Future<Output = Result<Action, Error>>,
) -> Result<Action, Error> {
    let running = metrics.started();
    let started = Instant::now();
    let ended = pass.await;
    metrics.finished(result(&ended), started.elapsed());
    drop(running);
    ended
}

fn result(ended: &Result<Action, Error>) -> ReconcileResult {
    match ended {
        Ok(action) if *action == Action::await_change() => ReconcileResult::Success,
        Ok(_) => ReconcileResult::RequeueAfter,
        Err(error) if error.class() == Class::Stalled => ReconcileResult::TerminalError,
        Err(_) => ReconcileResult::Error,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::Metrics;

    #[tokio::test]
    async fn each_pass_counts_once_by_how_it_ended() {
        let metrics = Metrics::default();
        let stage = metrics.controller("stage");
        let later = async { Ok(Action::requeue(Duration::from_secs(1))) };
        assert!(counted(stage.clone(), later).await.is_ok());
        assert!(counted(stage.clone(), async { Ok(Action::await_change()) }).await.is_ok());
        assert!(counted(stage, async { Err(Error::Deposed) }).await.is_err());
        let text = metrics.render().unwrap();
        for result in ["requeue_after", "success", "error"] {
            let line = format!(r#"controller_runtime_reconcile_total{{controller="stage",result="{result}"}} 1"#);
            assert!(text.contains(&line), "{line} in {text}");
        }
        assert!(text.contains(r#"controller_runtime_active_workers{controller="stage"} 0"#), "{text}");
        assert!(text.contains(r#"controller_runtime_reconcile_time_seconds_count{controller="stage"} 3"#), "{text}");
    }
}
