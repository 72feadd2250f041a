//! The leader reads what webhooks said: it asks registries about the images, puts those on the update list that nobody
//! here follows, and takes in how pull requests stand. What it has done is marked afterwards, so that a crash repeats it, which does no harm.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use kube::runtime::reflector::{ObjectRef, Store as Reflected};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::stop::until_stopped;
use crate::{
    api::Project,
    controllers::{
        backoff,
        images::ImageBook,
        previews::{self, Bell, Heard},
    },
    domain::{
        actor::Actor,
        clock::{Clock, Ids},
        hint::Hint,
        image::Repository,
        share::Share,
        update::SeenUpdate,
    },
    store::{DeliveryState, PendingDelivery, Settled, Store, StoreError},
    telemetry::Telemetry,
    webhook::{self, Event, Headers, PullNews, Source},
};

/// Deliveries that are read at once: each may have a megabyte.
const BATCH: i64 = 16;

/// For so long after the beginning of a term, not everybody has said yet which repositories matter to them.
const BEGINNING: Duration = Duration::from_secs(30);

/// Longest pause before trying again with a database that was lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was worked on so long ago may not have been answered yet when a term begins: the longest interval of a project.
const LATELY: SignedDuration = SignedDuration::from_hours(24);

/// So many of those deliveries are looked at, and none with a body of more bytes.
const AGAIN: (i64, i32) = (256, 64 << 10);

/// Repositories that one delivery's result names.
const NAMED: usize = 3;

/// What it takes to work on deliveries.
pub(super) struct Reader {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<dyn Ids>,
    /// Told when a pull request has changed.
    pub(super) bell: Bell,
    pub(super) telemetry: Telemetry,
    pub(super) images: Arc<ImageBook>,
    pub(super) projects: Vec<(Reflected<Project>, watch::Receiver<bool>)>,
    pub(super) share: Arc<Share>,
    /// Told when there may be something to do.
    pub(super) woken: Arc<Notify>,
}

/// What became of one delivery, and what is to be put on the update list because of it.
#[derive(Debug, PartialEq)]
struct Outcome {
    state: DeliveryState,
    result: String,
    seen: Vec<SeenUpdate>,
}

impl Reader {
    /// Works on what there is, and then on what comes, until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        for (_, listed) in &mut self.projects {
            if until_stopped(&stop, listed.wait_for(|listed| *listed)).await.is_none() {
                return;
            }
        }
        let begun = Instant::now();
        let mut early = HashSet::new();
        let mut failures = 0;
        let mut is_new = true;
        loop {
            let at_the_beginning = begun.elapsed() < BEGINNING;
            if !at_the_beginning {
                // Who came to know a repository only after the hint had not heard it.
                for repository in early.drain() {
                    self.images.hint(&repository);
                }
            }
            let work = async {
                if is_new {
                    early.extend(self.unanswered().await?);
                    is_new = false;
                }
                self.batch(at_the_beginning.then_some(&mut early)).await
            };
            match until_stopped(&stop, work).await {
                None => return,
                Some(Ok(0)) => {
                    failures = 0;
                    let waiting = async {
                        if early.is_empty() {
                            self.woken.notified().await;
                        } else {
                            _ = tokio::time::timeout_at(begun + BEGINNING, self.woken.notified()).await;
                        }
                    };
                    if until_stopped(&stop, waiting).await.is_none() {
                        return;
                    }
                }
                Some(Ok(_)) => failures = 0,
                Some(Err(error)) => {
                    failures += 1;
                    tracing::warn!(%error, "what webhooks said cannot be worked on; trying again");
                    let pause = backoff::delay("webhooks", failures).min(PATIENCE);
                    if until_stopped(&stop, tokio::time::sleep(pause)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// Repositories that were hinted at, in any share, under an earlier leader, of which no answer is stored that is younger
    /// than the hint: it
    /// may have ended with the hint, or with the answer, in its memory. They are hinted at again.
    async fn unanswered(&self) -> Result<Vec<Repository>, StoreError> {
        let since = self.clock.now().saturating_sub(LATELY).unwrap_or(Timestamp::MIN);
        let (limit, size) = AGAIN;
        let mut hinted: HashMap<Repository, Timestamp> = HashMap::new();
        for (delivery, at) in self.store.inbox_processed(&self.share.whole(), since, size, limit).await? {
            let Ok(Event::Images(images)) = read(&delivery) else { continue };
            for image in images {
                // The newest come first.
                hinted.entry(image.repository).or_insert(at);
            }
        }
        if hinted.is_empty() {
            return Ok(Vec::new());
        }
        let names: Vec<String> = hinted.keys().map(ToString::to_string).collect();
        let mut scanned: HashMap<String, Timestamp> = HashMap::new();
        for scan in self.store.image_scans_of(&names).await? {
            let at = scanned.entry(scan.repository).or_insert(scan.scanned_at);
            *at = scan.scanned_at.max(*at);
        }
        let is_open = |(repository, at): &(Repository, Timestamp)| {
            scanned.get(&repository.to_string()).is_none_or(|scanned| scanned < at)
        };
        let open: Vec<Repository> = hinted.into_iter().filter(is_open).map(|(repository, _)| repository).collect();
        for repository in &open {
            self.images.hint(repository);
        }
        Ok(open)
    }

    /// Works on the oldest deliveries; says how many there were.
    async fn batch(&self, mut early: Option<&mut HashSet<Repository>>) -> Result<usize, StoreError> {
        let pending = self.store.inbox_pending(&self.share, BATCH).await?;
        let (mut settled, mut seen) = (Vec::with_capacity(pending.len()), Vec::new());
        let mut named = BTreeSet::new();
        for delivery in &pending {
            let ask = |repository: &Repository| {
                named.insert(repository.to_string());
                if let Some(early) = &mut early {
                    early.insert(repository.clone());
                }
                self.images.hint(repository)
            };
            let outcome = match read(delivery) {
                Ok(Event::PullRequest(news)) => self.hear(delivery, &news).await?,
                read => outcome(delivery, read, ask, |repository| self.is_declared(repository)),
            };
            let source = delivery.source.parse().map_or("unknown", Source::word);
            self.telemetry.metrics.webhook_read(source, outcome.state.word());
            tracing::debug!(
                delivery = %delivery.id,
                namespace = delivery.project.namespace,
                project = delivery.project.name,
                webhook = delivery.receiver,
                "webhook: {}",
                outcome.result
            );
            seen.extend(outcome.seen);
            let (id, opened) = (delivery.id, delivery.opened);
            settled.push(Settled { id, opened, state: outcome.state, result: outcome.result });
        }
        if self.share.count() > 1 && !named.is_empty() {
            // Others may follow the same images.
            self.store.hints_tell(&Vec::from_iter(named)).await?;
        }
        if !seen.is_empty() {
            self.store.updates_see(&seen).await?;
        }
        if !settled.is_empty() {
            self.store.inbox_settle(&settled, self.clock.now()).await?;
        }
        Ok(pending.len())
    }

    /// Takes in how a pull request stands. Whoever sent it was verified when it was received.
    async fn hear(&self, delivery: &PendingDelivery, news: &PullNews) -> Result<Outcome, StoreError> {
        let (namespace, name) = (&delivery.project.namespace, &delivery.project.name);
        let of = ObjectRef::new(name).within(namespace);
        let project = self.projects.iter().find_map(|(projects, _)| projects.get(&of));
        let asked = project.as_ref().and_then(|project| project.spec.previews.as_ref());
        let with = (&self.store, &*self.clock, &*self.ids);
        let heard = previews::hear(with, delivery.project.id, asked, news).await?;
        let PullNews { repository, pull_request, .. } = news;
        let (number, state) = (pull_request.number, pull_request.state.word());
        let (state, result) = match heard {
            Heard::Changed => {
                self.bell.ring((namespace.clone(), name.clone()));
                (DeliveryState::Processed, format!("pull request {number} of {repository} is {state}"))
            }
            Heard::Known => {
                let result = format!("pull request {number} of {repository}: that was known, or something later is");
                (DeliveryState::Processed, result)
            }
            Heard::Elsewhere => {
                let result =
                    format!("pull request {number} of {repository}: spec.previews of the project does not name it");
                (DeliveryState::Ignored, result)
            }
        };
        Ok(Outcome { state, result, seen: Vec::new() })
    }

    /// Whether a project has a service with this repository.
    fn is_declared(&self, repository: &Repository) -> bool {
        self.projects.iter().any(|(projects, _)| {
            projects.state().iter().any(|project| {
                let services = project.spec.services.iter();
                services
                    .filter_map(|service| service.image.repository.parse().ok())
                    .any(|of: Repository| of == *repository)
            })
        })
    }
}

/// Reads a delivery.
///
/// # Errors
/// Why it cannot be read.
fn read(delivery: &PendingDelivery) -> Result<Event, String> {
    let source: Source =
        delivery.source.parse().map_err(|_| "it comes from a source that this version does not know".to_owned())?;
    let headers: Headers = delivery.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let read = || webhook::parse(source, &headers, &delivery.body, delivery.registry.as_deref());
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(event)) => Ok(event),
        Ok(Err(malformed)) => Err(malformed.to_string()),
        Err(_) => Err("reading it failed: a mistake in this program, which its log tells more of".into()),
    }
}

/// Asks about each image that a delivery names.
fn outcome(
    delivery: &PendingDelivery,
    read: Result<Event, String>,
    mut ask: impl FnMut(&Repository) -> usize,
    is_declared: impl Fn(&Repository) -> bool,
) -> Outcome {
    let ended = |state, result| Outcome { state, result, seen: Vec::new() };
    let (source, images) = match (delivery.source.parse(), read) {
        (Ok(source), Ok(Event::Images(images))) => (source, images),
        (_, Ok(Event::Images(_) | Event::PullRequest(_))) => {
            return ended(DeliveryState::Ignored, "it is not about images".into());
        }
        (_, Ok(Event::Ignored { what })) => return ended(DeliveryState::Ignored, what),
        (_, Err(why)) => return ended(DeliveryState::Failed, why),
    };
    let mut repositories: Vec<&Repository> = Vec::new();
    let (mut questions, mut seen) = (0, Vec::new());
    let mut unknown = HashSet::new();
    for hint in &images {
        if !repositories.contains(&&hint.repository) {
            repositories.push(&hint.repository);
            let asked = ask(&hint.repository);
            questions += asked;
            if asked == 0 && !is_declared(&hint.repository) {
                unknown.insert(&hint.repository);
            }
        }
        if source == Source::Diun || unknown.contains(&hint.repository) {
            seen.extend(update(source, hint, delivery.received_at));
        }
    }
    let result = sentence(&repositories, questions, seen.len());
    Outcome { state: DeliveryState::Processed, result, seen }
}

/// What goes on the update list: a tag that points to something else. It was seen when it was said, however late it is
/// read. Without a digest, nobody could say what is new.
fn update(source: Source, hint: &Hint, at: Timestamp) -> Option<SeenUpdate> {
    let (tag, digest) = (hint.tag.as_ref()?, hint.digest?);
    Some(SeenUpdate {
        image: format!("{}:{tag}", hint.repository),
        host: hint.host.clone().unwrap_or_default(),
        platform: hint.platform.as_ref().map(ToString::to_string).unwrap_or_default(),
        tag: Some(tag.clone()),
        old_digest: None,
        new_digest: digest,
        created: hint.created,
        provider: hint.provider.clone().unwrap_or_default(),
        link: hint.link.clone(),
        seen_by: Actor::Webhook(source.word().to_owned()),
        at,
    })
}

fn sentence(repositories: &[&Repository], questions: usize, seen: usize) -> String {
    let mut names: Vec<String> = repositories.iter().take(NAMED).map(ToString::to_string).collect();
    if let Some(more) = repositories.len().checked_sub(NAMED + 1) {
        names.push(format!("{} more", more + 1));
    }
    let names = names.join(", ");
    let asked = match questions {
        0 => format!("nothing here follows {names}"),
        1 => format!("the registry is asked about {names}"),
        _ => format!("the registry is asked {questions} questions about {names}"),
    };
    match seen {
        0 => asked,
        1 => format!("{asked}; put on the update list"),
        _ => format!("{asked}; {seen} put on the update list"),
    }
}

#[cfg(test)]
mod tests;
