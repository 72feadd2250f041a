//! Following a deploy to its end.

use std::{
    io::{self, IsTerminal as _, Write},
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    cli::{
        failure::{Code, Failure},
        output::{Format, one_line},
    },
    domain::deploy::State,
    store::{Store, StoreError},
};

/// Pause between looks.
const PAUSE: Duration = Duration::from_millis(300);

/// Waits until the deploy has ended and tells each of its steps.
///
/// # Errors
/// It did not end well, or not in time; the exit code tells which.
pub(super) async fn until_ended(
    store: &Store,
    deploy: Uuid,
    limit: Duration,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let deadline = Instant::now() + limit;
    let people = matches!(format, Format::Table | Format::Wide);
    let mut told = 0;
    loop {
        let found = store.deploy_get(deploy).await?;
        let found = found.ok_or_else(|| StoreError::NotFound { what: "deploy", id: deploy.to_string() })?;
        let steps = &found.entry.transitions;
        for step in steps.iter().skip(told).filter(|_| people) {
            writeln!(out, "  {} {}: {}", step.at.strftime("%H:%M:%S"), step.to, one_line(&step.message))?;
            if io::stdout().is_terminal() {
                out.flush()?;
            }
        }
        told = steps.len();
        let now = &found.entry.stored.deploy;
        if now.is_closed() {
            return ended(now.state, now.message.as_deref().unwrap_or(&now.cause));
        }
        if Instant::now() >= deadline {
            return Err(Failure::Said {
                code: Code::TimedOut,
                what: format!("deploy {deploy} is {} still", now.state),
                next: Some("it goes on; `stagekeeper why STAGE` says what it waits for".into()),
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn ended(state: State, why: &str) -> Result<(), Failure> {
    let code = match state {
        State::Success => return Ok(()),
        State::Superseded | State::Aborted => Code::Stopped,
        _ => Code::DeployFailed,
    };
    Err(Failure::Said { code, what: format!("it ended {state}: {}", one_line(why)), next: None })
}
