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
        source::Source,
    },
    domain::{
        clock::{Clock as _, SystemClock},
        deploy::State,
    },
};

/// Pause between looks.
const PAUSE: Duration = Duration::from_millis(300);
const PAUSE_OF_API: Duration = Duration::from_secs(1);

/// Waits until the deploy has ended and tells each of its steps.
///
/// # Errors
/// It did not end well, or not in time; the exit code tells which.
pub(super) async fn until_ended(
    source: &Source,
    deploy: Uuid,
    limit: Duration,
    format: Format,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let deadline = Instant::now() + limit;
    let people = matches!(format, Format::Table | Format::Wide);
    let pause = match source {
        Source::Database(_) => PAUSE,
        Source::Api(_) => PAUSE_OF_API,
    };
    let (mut told, mut away) = (0, false);
    loop {
        let found = match source.deploy(deploy, SystemClock.now()).await {
            Ok(found) => found,
            // It goes on without anybody looking: another replica, or the same one, answers in a moment.
            Err(Failure::Said { code: Code::Unavailable, what, .. }) if Instant::now() < deadline => {
                if !away {
                    writeln!(io::stderr(), "{what}; waiting for it")?;
                }
                away = true;
                tokio::time::sleep(PAUSE_OF_API).await;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        away = false;
        let steps = &found.transitions;
        for step in steps.iter().skip(told).filter(|_| people) {
            writeln!(out, "  {} {}: {}", step.at.strftime("%H:%M:%S"), step.to, one_line(&step.message))?;
            if io::stdout().is_terminal() {
                out.flush()?;
            }
        }
        told = steps.len();
        if found.finished_at.is_some() {
            return ended(found.state, found.why());
        }
        if Instant::now() >= deadline {
            return Err(Failure::Said {
                code: Code::TimedOut,
                what: format!("deploy {deploy} is {} still", found.state),
                next: Some("it goes on; `stagekeeper why STAGE` says what it waits for".into()),
            });
        }
        tokio::time::sleep(pause).await;
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
