//! One kind's list and watch.
//!
//! Written out, not taken from the Kubernetes client's `watcher`, for three things that it keeps to itself: the
//! version of the list and the bookmarks, without which a late reply to a write cannot be told from a deletion that
//! followed it; and each sign of life, without which a dead connection looks like a quiet one. It also skips what
//! nobody reads while parsing. The list is always consistent (no `resourceVersion=0`), so time never goes backwards.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::time::Duration;

use futures::{Stream, StreamExt};
use http::HeaderValue;
use http::header::ACCEPT;
use kube::Client;
use kube::api::{ListParams, WatchEvent, WatchParams};
use kube::core::{ObjectList, Request};
use tokio::time::{Instant, sleep, timeout};

use super::Index;
use super::memory::Coverage;
use super::view::Kind;
use super::wire::{Deployment, HttpRoute, Ingress, Job, Pod, Secret, Seen, Service, Wire};
use crate::api::labels;
use crate::cluster::error::{ApiError, Class, Target};

/// How long one watch call lasts. Its end is the sign of life of a quiet watch, so it is shorter than
/// [`super::SILENCE_LIMIT`].
const WATCH: Duration = Duration::from_secs(20);
/// How long one lasts at least.
const SHORTEST: Duration = Duration::from_secs(2);
/// How much later than it should a watch may end before its connection counts as dead.
const WATCH_GRACE: Duration = Duration::from_secs(4);
/// How long one page of a list may take.
const PAGE: Duration = Duration::from_secs(30);
/// Objects per page: bounds what is in memory at once.
const PAGE_SIZE: u32 = 250;
/// Watches that end at once are not reopened more often than this.
const PACE: Duration = Duration::from_secs(1);
/// The form in which private kinds are listed.
const METADATA_LIST: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
/// The form in which they are watched.
const METADATA: HeaderValue = HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");
/// How often a kind that is not served is looked for.
const NOT_SERVED_RECHECK: Duration = Duration::from_mins(1);

/// One kind in one scope.
pub(super) struct Feed {
    index: Index,
    client: Client,
    at: usize,
    kind: Kind,
    request: Request,
    target: Target,
    backoff: Backoff,
}

/// What to do after a watch call.
enum Next {
    /// Watch on from the last version.
    Watch,
    /// The same, after a pause.
    PauseAndWatch,
    /// The version is too old: list anew.
    List,
    /// The same, after a pause.
    PauseAndList,
}

impl Feed {
    pub(super) fn new(index: Index, client: Client, at: usize, coverage: Coverage) -> Self {
        let Coverage { kind, namespace } = coverage;
        let group = if kind.group().is_empty() { "/api".to_owned() } else { format!("/apis/{}", kind.group()) };
        let place = namespace.as_ref().map_or(String::new(), |ns| format!("namespaces/{ns}/"));
        let path = format!("{group}/v1/{place}{}", kind.plural());
        Self {
            index,
            client,
            at,
            kind,
            backoff: Backoff::new(&path),
            request: Request::new(path),
            target: Target {
                verbs: "list and watch",
                group: kind.group().into(),
                resource: kind.plural().into(),
                namespace: namespace.map(Into::into),
                name: String::new(),
            },
        }
    }

    /// Lists and watches for ever.
    pub(super) async fn follow(self) {
        match self.kind {
            Kind::Deployment => self.follow_as::<Deployment>().await,
            Kind::Service => self.follow_as::<Service>().await,
            Kind::Pod => self.follow_as::<Pod>().await,
            Kind::Job => self.follow_as::<Job>().await,
            Kind::Ingress => self.follow_as::<Ingress>().await,
            Kind::HttpRoute => self.follow_as::<HttpRoute>().await,
            Kind::Secret => self.follow_as::<Secret>().await,
        }
    }

    async fn follow_as<W: Wire>(mut self) {
        loop {
            let mut version = match self.list::<W>().await {
                Ok((version, list)) => {
                    self.heard();
                    self.index.listed(self.at, version.parse().unwrap_or(0), list);
                    version
                }
                Err(err) if err.class() == Class::NotServed && self.kind.is_optional() => {
                    self.heard();
                    self.index.not_served(self.at, NOT_SERVED_RECHECK);
                    sleep(NOT_SERVED_RECHECK).await;
                    continue;
                }
                Err(err) if err.class() == Class::Forbidden && self.kind.is_private() => {
                    tracing::debug!(kind = self.kind.name(), error = %err, "not ours to watch: doing without");
                    self.heard();
                    self.index.not_served(self.at, NOT_SERVED_RECHECK);
                    sleep(NOT_SERVED_RECHECK).await;
                    continue;
                }
                Err(err) => {
                    self.troubled(err);
                    self.backoff.pause().await;
                    continue;
                }
            };
            let relist = Instant::now() + self.backoff.spread(self.index.0.relist);
            loop {
                let opened = Instant::now();
                let lasts = WATCH.min(relist.saturating_duration_since(opened)).max(SHORTEST);
                let next = self.watch::<W>(&mut version, lasts).await;
                if matches!(next, Next::Watch) && Instant::now() >= relist {
                    // What a watch has dropped is found in no other way. Between two watches, so that none is cut.
                    break;
                }
                match next {
                    Next::Watch => sleep(PACE.saturating_sub(opened.elapsed())).await,
                    Next::PauseAndWatch => self.backoff.pause().await,
                    Next::List => break,
                    Next::PauseAndList => {
                        self.backoff.pause().await;
                        break;
                    }
                }
            }
        }
    }

    /// The complete list, and the version that it shows.
    async fn list<W: Wire>(&self) -> Result<(String, Vec<Seen>), ApiError> {
        let mut params = ListParams::default().labels(labels::OURS).limit(PAGE_SIZE);
        let mut list = Vec::new();
        loop {
            let page = async {
                let request = self.request.list(&params).map_err(kube::Error::BuildRequest)?;
                let request = self.as_much_as_is_read(request, METADATA_LIST);
                let text = self.client.request_text(request).await?;
                serde_json::from_str::<ObjectList<W>>(&text).map_err(kube::Error::SerdeError)
            };
            let page = timeout(PAGE, page).await.map_err(|_| ApiError::timed_out(&self.target, PAGE))?;
            let page = page.map_err(|err| ApiError::new(&self.target, &err))?;
            list.extend(page.items.into_iter().filter_map(W::reduce));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                // All pages show the version of the first.
                None => return Ok((page.metadata.resource_version.unwrap_or_default(), list)),
                Some(token) => params.continue_token = Some(token),
            }
            self.index.heard(self.at);
        }
    }

    /// Of private kinds only the metadata is asked for, so that nothing else is ever in our memory.
    fn as_much_as_is_read(&self, mut request: http::Request<Vec<u8>>, form: HeaderValue) -> http::Request<Vec<u8>> {
        if self.kind.is_private() {
            request.headers_mut().insert(ACCEPT, form);
        }
        request
    }

    /// One watch call that `lasts` so long, until it ends.
    async fn watch<W: Wire>(&mut self, version: &mut String, lasts: Duration) -> Next {
        let seconds = u32::try_from(lasts.as_secs()).unwrap_or(u32::MAX);
        let params = WatchParams::default().labels(labels::OURS).timeout(seconds);
        let opened = match self.request.watch(&params, version).map_err(kube::Error::BuildRequest) {
            Ok(request) => {
                let request = self.as_much_as_is_read(request, METADATA);
                self.client.request_events::<W>(request).await
            }
            Err(err) => Err(err),
        };
        match opened {
            Ok(events) => {
                self.heard();
                self.deliver(pin!(events), version).await
            }
            Err(err) => self.failed(ApiError::new(&self.target, &err)),
        }
    }

    /// Hands on what a watch brings, until it ends.
    async fn deliver<W: Wire>(
        &mut self,
        mut events: impl Stream<Item = kube::Result<WatchEvent<W>>> + Unpin,
        version: &mut String,
    ) -> Next {
        loop {
            let Ok(event) = timeout(WATCH + WATCH_GRACE, events.next()).await else {
                tracing::warn!(kind = self.kind.name(), "a watch fell silent: opening a new one");
                return Next::Watch;
            };
            match event {
                None => {
                    self.index.heard(self.at);
                    return Next::Watch;
                }
                Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                    object.head().resource_version().clone_into(version);
                    if let Some(seen) = object.reduce() {
                        self.index.saw(self.at, seen);
                    }
                }
                Some(Ok(WatchEvent::Deleted(object))) => {
                    object.head().resource_version().clone_into(version);
                    if let Some(seen) = object.reduce() {
                        self.index.saw_deleted(self.at, &seen);
                    }
                }
                Some(Ok(WatchEvent::Bookmark(bookmark))) => {
                    *version = bookmark.metadata.resource_version;
                    self.index.reached(self.at, version.parse().unwrap_or(0));
                }
                Some(Ok(WatchEvent::Error(status))) => {
                    return self.failed(ApiError::from_status(&self.target, &status));
                }
                Some(Err(err)) => return self.failed(ApiError::new(&self.target, &err)),
            }
            self.index.heard(self.at);
        }
    }

    fn failed(&mut self, err: ApiError) -> Next {
        let next = match err.code() {
            // The version is too old. Normal after a restart of the API server.
            410 => {
                tracing::debug!(kind = self.kind.name(), "the watched version is too old: listing anew");
                return Next::List;
            }
            // No answer, or one that says: later.
            0 | 429 | 503 => Next::PauseAndWatch,
            // Anything else may be about the version, such as one from before a restored backup.
            _ => Next::PauseAndList,
        };
        self.troubled(err);
        next
    }

    fn heard(&mut self) {
        if self.backoff.failures > 0 {
            tracing::info!(kind = self.kind.name(), "watching again");
        }
        self.backoff.failures = 0;
        self.index.heard(self.at);
    }

    fn troubled(&self, err: ApiError) {
        tracing::warn!(kind = self.kind.name(), reason = err.reason(), error = %err, "cannot watch");
        self.index.troubled(self.at, err);
    }
}

/// Growing pauses after failures: from half a second to ten. Spread by a hash, so that the feeds of a process do not
/// all come back at once.
struct Backoff {
    seed: u64,
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(500);
    const LONGEST: Duration = Duration::from_secs(10);

    fn new(path: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        path.hash(&mut hasher);
        Self { seed: hasher.finish(), failures: 0 }
    }

    async fn pause(&mut self) {
        sleep(self.next()).await;
    }

    fn next(&mut self) -> Duration {
        let pause = Self::FIRST.saturating_mul(1 << self.failures.min(10)).min(Self::LONGEST);
        self.failures += 1;
        self.spread(pause)
    }

    /// A quarter more or less.
    fn spread(&self, pause: Duration) -> Duration {
        let mut hasher = DefaultHasher::new();
        (self.seed, self.failures).hash(&mut hasher);
        let percent = u32::try_from(hasher.finish() % 50).unwrap_or(0);
        pause * (75 + percent) / 100
    }
}

#[cfg(test)]
mod tests;
