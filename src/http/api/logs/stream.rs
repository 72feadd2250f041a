//! A log as events, as long as its deploy goes on and its listener may listen.

use std::{sync::Arc, time::Duration};

use axum::body::{Body, Bytes};
use futures::stream;
use tokio::time::Instant;

use super::{Line, Read};
use crate::{
    domain::deploy::State,
    http::api::{Ground, guard::Authorized},
    store::{LogFilter, StoreError},
};

/// Lines that are read at once.
pub(super) const BATCH: i64 = 200;

/// The listener is asked for again after so long. Answers are kept for ten seconds at the most.
const RENEWAL: Duration = Duration::from_secs(50);

/// A stream ends after so long, before its connection does.
const LIFETIME: Duration = Duration::from_mins(4);

/// Pauses between looks at a log that does not grow: from the first, doubled up to the last.
const PAUSES: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(4)];

/// Something is sent at least so often, so that nobody takes the connection for dead.
const SILENCE: Duration = Duration::from_secs(15);

struct Listener {
    ground: Arc<Ground>,
    authorized: Authorized<Read>,
    filter: LogFilter,
    began: Instant,
    renewed: Instant,
    spoke: Instant,
    pause: Duration,
    is_over: bool,
}

/// The events.
pub(super) fn events(ground: Arc<Ground>, authorized: Authorized<Read>, filter: LogFilter) -> Body {
    let now = Instant::now();
    let listener =
        Listener { ground, authorized, filter, began: now, renewed: now, spoke: now, pause: PAUSES[0], is_over: false };
    Body::from_stream(stream::unfold(listener, |mut listener| async move {
        let said = listener.next().await?;
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(said)), listener))
    }))
}

impl Listener {
    /// What is said next; `None` when nothing more is.
    async fn next(&mut self) -> Option<String> {
        loop {
            let now = Instant::now();
            if self.is_over || now.duration_since(self.began) >= LIFETIME {
                return None;
            }
            if now.duration_since(self.renewed) >= RENEWAL {
                // Whoever cannot be asked for hears no more either.
                self.ground.guard.renew(&self.authorized).await.ok()?;
                self.renewed = now;
            }
            match self.look().await {
                Ok(said) if !said.is_empty() => {
                    self.spoke = Instant::now();
                    self.pause = PAUSES[0];
                    return Some(said);
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(%error, "a log that somebody listens to cannot be read");
                    return None;
                }
            }
            if self.spoke.elapsed() >= SILENCE {
                self.spoke = Instant::now();
                return Some(": nothing new\n\n".into());
            }
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(PAUSES[1]);
        }
    }

    /// One look. Whether the deploy has ended is read before the lines: what it wrote last is among them.
    async fn look(&mut self) -> Result<String, StoreError> {
        let store = &self.ground.store;
        let ended = store.deploy_ended(self.filter.deploy).await?;
        let lines = store.logs_list(&self.filter).await?;
        let is_last = i64::try_from(lines.len()).unwrap_or(i64::MAX) < self.filter.limit;
        let mut said = String::new();
        for line in lines {
            self.filter.after = line.position;
            event(&mut said, Some(line.position), "line", &serde_json::to_value(Line::from(line)).unwrap_or_default());
        }
        if is_last && let Some(state) = ended {
            event(&mut said, None, "end", &serde_json::json!({"state": state.map(State::word)}));
            self.is_over = true;
        }
        Ok(said)
    }
}

/// One event. JSON has no line breaks of its own.
fn event(said: &mut String, id: Option<i64>, name: &str, data: &serde_json::Value) {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    said.extend([id, format!("event: {name}\ndata: {data}\n\n")]);
}
