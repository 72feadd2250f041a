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

/// A log that somebody listens to.
trait Heard: Send {
    /// What is new, and whether nothing more will be; `None` when it cannot be read.
    fn look(&mut self) -> impl Future<Output = Option<(String, bool)>> + Send;

    /// Whether the listener is still somebody, and still may listen.
    fn renew(&self) -> impl Future<Output = bool> + Send;
}

/// The log of a deploy.
struct DeployLog {
    ground: Arc<Ground>,
    authorized: Authorized<Read>,
    filter: LogFilter,
}

struct Listener<L> {
    log: L,
    began: Instant,
    renewed: Instant,
    spoke: Instant,
    pause: Duration,
    is_over: bool,
}

/// The events.
pub(super) fn events(ground: Arc<Ground>, authorized: Authorized<Read>, filter: LogFilter) -> Body {
    let listener = Listener::new(DeployLog { ground, authorized, filter });
    Body::from_stream(stream::unfold(listener, |mut listener| async move {
        let said = listener.next().await?;
        Some((Ok::<_, std::convert::Infallible>(Bytes::from(said)), listener))
    }))
}

impl<L: Heard> Listener<L> {
    fn new(log: L) -> Self {
        let now = Instant::now();
        Self { log, began: now, renewed: now, spoke: now, pause: PAUSES[0], is_over: false }
    }

    /// What is said next; `None` when nothing more is.
    async fn next(&mut self) -> Option<String> {
        loop {
            let now = Instant::now();
            if self.is_over || now.duration_since(self.began) >= LIFETIME {
                return None;
            }
            if now.duration_since(self.renewed) >= RENEWAL {
                // Whoever cannot be asked for hears no more either.
                if !self.log.renew().await {
                    return None;
                }
                self.renewed = now;
            }
            let (said, is_over) = self.log.look().await?;
            self.is_over = is_over;
            if !said.is_empty() {
                self.spoke = Instant::now();
                self.pause = PAUSES[0];
                return Some(said);
            }
            if self.spoke.elapsed() >= SILENCE {
                self.spoke = Instant::now();
                return Some(": nothing new\n\n".into());
            }
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(PAUSES[1]);
        }
    }
}

impl Heard for DeployLog {
    async fn look(&mut self) -> Option<(String, bool)> {
        match self.read().await {
            Ok(read) => Some(read),
            Err(error) => {
                tracing::warn!(%error, "a log that somebody listens to cannot be read");
                None
            }
        }
    }

    async fn renew(&self) -> bool {
        self.ground.guard.renew(&self.authorized).await.is_ok()
    }
}

impl DeployLog {
    /// Whether the deploy has ended is read before the lines: what it wrote last is among them.
    async fn read(&mut self) -> Result<(String, bool), StoreError> {
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
            return Ok((said, true));
        }
        Ok((said, false))
    }
}

/// One event. JSON has no line breaks of its own.
fn event(said: &mut String, id: Option<i64>, name: &str, data: &serde_json::Value) {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    said.extend([id, format!("event: {name}\ndata: {data}\n\n")]);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::*;

    /// A log that says something in its first look and then nothing, for a listener who may listen as long as `may`.
    #[derive(Default)]
    struct Quiet {
        looks: usize,
        ends_at: Option<usize>,
        may: AtomicBool,
        renewals: AtomicUsize,
    }

    impl Heard for Quiet {
        async fn look(&mut self) -> Option<(String, bool)> {
            self.looks += 1;
            let is_over = Some(self.looks) == self.ends_at;
            Some((if self.looks == 1 || is_over { "said".into() } else { String::new() }, is_over))
        }

        async fn renew(&self) -> bool {
            self.renewals.fetch_add(1, Ordering::SeqCst);
            self.may.load(Ordering::SeqCst)
        }
    }

    async fn heard(log: Quiet) -> (Vec<String>, Duration, Listener<Quiet>) {
        let began = Instant::now();
        let mut listener = Listener::new(log);
        let mut heard = Vec::new();
        while let Some(said) = listener.next().await {
            heard.push(said);
        }
        (heard, began.elapsed(), listener)
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_within_a_minute_of_the_right_to_it() {
        let (heard, lasted, listener) = heard(Quiet::default()).await;
        assert_eq!(heard[0], "said");
        assert!(lasted <= Duration::from_mins(1), "{lasted:?}");
        assert_eq!(listener.log.renewals.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_listener_is_asked_for_again_every_minute_and_hears_something_every_few_seconds() {
        let (heard, lasted, listener) = heard(Quiet { may: true.into(), ..Quiet::default() }).await;
        assert!(lasted >= LIFETIME && lasted < LIFETIME + Duration::from_secs(20), "{lasted:?}");
        let renewals = listener.log.renewals.load(Ordering::SeqCst);
        assert!(renewals >= 4, "{renewals} times in {lasted:?}");
        let silent = heard.iter().filter(|said| said.starts_with(": ")).count();
        assert!((10..=20).contains(&silent), "{silent}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_with_its_deploy() {
        let (heard, lasted, _) = heard(Quiet { ends_at: Some(3), may: true.into(), ..Quiet::default() }).await;
        assert_eq!(heard, ["said", "said"]);
        assert!(lasted < Duration::from_secs(10), "{lasted:?}");
    }
}
