//! The leader reads what webhooks said: it asks registries about the images, and puts those on the update list that nobody
//! here follows. What it has done is marked afterwards, so that a crash repeats it, which does no harm.

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use kube::runtime::reflector::Store as Reflected;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::stop::until_stopped;
use crate::{
    api::Project,
    controllers::{backoff, images::ImageBook},
    domain::{actor::Actor, clock::Clock, hint::Hint, image::Repository, update::SeenUpdate},
    store::{DeliveryState, PendingDelivery, Settled, Store, StoreError},
    telemetry::Telemetry,
    webhook::{self, Event, Headers, Source},
};

/// Deliveries that are read at once: each may have a megabyte.
const BATCH: i64 = 16;

/// For so long after the beginning of a term, not everybody has said yet which repositories matter to them.
const BEGINNING: Duration = Duration::from_secs(30);

/// Longest pause before trying again with a database that was lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// Repositories that one delivery's result names.
const NAMED: usize = 3;

/// What it takes to work on deliveries.
pub(super) struct Reader {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) telemetry: Telemetry,
    pub(super) images: Arc<ImageBook>,
    pub(super) projects: Vec<(Reflected<Project>, watch::Receiver<bool>)>,
    pub(super) namespaces: Option<Vec<String>>,
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
        loop {
            let at_the_beginning = begun.elapsed() < BEGINNING;
            if !at_the_beginning {
                // Who came to know a repository only after the hint had not heard it.
                for repository in early.drain() {
                    self.images.hint(&repository);
                }
            }
            let remembered = at_the_beginning.then_some(&mut early);
            match until_stopped(&stop, self.batch(remembered)).await {
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

    /// Works on the oldest deliveries; says how many there were.
    async fn batch(&self, mut early: Option<&mut HashSet<Repository>>) -> Result<usize, StoreError> {
        let pending = self.store.inbox_pending(self.namespaces.as_deref(), BATCH).await?;
        let (mut settled, mut seen) = (Vec::with_capacity(pending.len()), Vec::new());
        for delivery in &pending {
            let ask = |repository: &Repository| {
                if let Some(early) = &mut early {
                    early.insert(repository.clone());
                }
                self.images.hint(repository)
            };
            let outcome = outcome(delivery, ask, |repository| self.is_declared(repository));
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
        if !seen.is_empty() {
            self.store.updates_see(&seen).await?;
        }
        if !settled.is_empty() {
            self.store.inbox_settle(&settled, self.clock.now()).await?;
        }
        Ok(pending.len())
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

/// Reads a delivery and asks about each image that it names.
fn outcome(
    delivery: &PendingDelivery,
    mut ask: impl FnMut(&Repository) -> usize,
    is_declared: impl Fn(&Repository) -> bool,
) -> Outcome {
    let failed = |result: String| Outcome { state: DeliveryState::Failed, result, seen: Vec::new() };
    let Ok(source) = delivery.source.parse::<Source>() else {
        return failed("it comes from a source that this version does not know".into());
    };
    let headers: Headers = delivery.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let read = || webhook::parse(source, &headers, &delivery.body, delivery.registry.as_deref());
    let images = match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(Event::Images(images))) => images,
        Ok(Ok(Event::Ignored { what })) => {
            return Outcome { state: DeliveryState::Ignored, result: what, seen: Vec::new() };
        }
        Ok(Err(malformed)) => return failed(malformed.to_string()),
        Err(_) => return failed("reading it failed: a mistake in this program, which its log tells more of".into()),
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
