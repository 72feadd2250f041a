//! What pull requests are told of their environments: put into the outbox here, when it is another text than before, and sent
//! from there. That a provider is away holds up nothing.

use std::{sync::Arc, time::Duration};

use futures::StreamExt as _;
use jiff::SignedDuration;
use kube::ResourceExt as _;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Previews, wanted};
use crate::{
    api::{self, Environment, conditions},
    controllers::{backoff, project::verdict::Trouble, vault::ProjectName},
    domain::feedback::{CommitState, CommitStatus, Phase, Preview, mark},
    store::{Message, MessageKind, NewMessage, Project as Row, StoreError, StoredPull},
};

/// How long news wait for more of them.
const TOGETHER: SignedDuration = SignedDuration::from_secs(2);

/// Messages that are read at once, and that are under way at once.
const BATCH: i64 = 64;
const AT_ONCE: usize = 8;

/// First and longest pause after a message did not arrive.
const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_mins(10);

/// How often a message is tried that was refused.
const REFUSALS: i32 = 24;

/// Longest pause before trying again with a database that was lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// Something is to be told to whom that has gone.
const NOBODY: &str = "the project does not ask for it any more";

impl Previews {
    /// Has a pull request told how its environment stands, if that is another text than before.
    ///
    /// # Errors
    /// The database is away.
    pub(super) async fn inform(
        &self,
        row: &Row,
        previews: &api::Previews,
        pull: &StoredPull,
        environment: Option<&Environment>,
    ) -> Result<(), StoreError> {
        let Some(made) = pull.known.made.as_ref().filter(|_| previews.credential.is_some()) else { return Ok(()) };
        let current =
            environment.and_then(|environment| environment.status.as_ref().map(|status| (environment, status)));
        // A status of the commit before says nothing of this one.
        let current = current
            .filter(|(environment, status)| Some(status.stage.observed_generation) == environment.metadata.generation);
        let ready = current.and_then(|(_, status)| conditions::get(&status.stage.conditions, conditions::READY));
        let phase = match (environment, current) {
            (None, _) if made.uid.is_some() => Phase::Ended,
            (Some(environment), _) if environment.metadata.deletion_timestamp.is_some() => Phase::Ended,
            (_, Some((_, status))) => Phase::of(status.phase.as_deref()),
            _ => Phase::Preparing,
        };
        let preview = Preview {
            environment: &made.name,
            commit: &pull.known.facts.head,
            phase,
            url: environment.and_then(|one| one.status.as_ref()).and_then(|status| status.stage.url.as_deref()),
            reason: ready.map(|ready| ready.message.as_str()),
        };
        self.post(row, previews, pull, &preview).await
    }

    /// Has a pull request told that its environment has ended.
    ///
    /// # Errors
    /// The database is away.
    pub(super) async fn farewell(
        &self,
        row: &Row,
        previews: &api::Previews,
        pull: &StoredPull,
    ) -> Result<(), StoreError> {
        let Some(made) = pull.known.made.as_ref().filter(|_| previews.credential.is_some()) else { return Ok(()) };
        let preview = Preview {
            environment: &made.name,
            commit: &pull.known.facts.head,
            phase: Phase::Ended,
            url: None,
            reason: None,
        };
        self.post(row, previews, pull, &preview).await
    }

    async fn post(
        &self,
        row: &Row,
        previews: &api::Previews,
        pull: &StoredPull,
        preview: &Preview<'_>,
    ) -> Result<(), StoreError> {
        let known = &pull.known;
        let about = |mut payload: Value| {
            payload["repository"] = json!(known.repository);
            payload["number"] = json!(known.facts.number);
            payload
        };
        let mut news = Vec::new();
        if previews.feedback.comment {
            let text = preview.comment(&mark(pull.id));
            news.push((MessageKind::Comment, pull.id.to_string(), about(json!({"text": text}))));
        }
        if previews.feedback.status
            && let Some(status) = preview.status(&format!("stagekeeper/{}", row.name))
        {
            let CommitStatus { state, context, description, url } = status;
            let payload = json!({
                "commit": known.facts.head, "state": state.word(), "context": context, "description": description, "url": url,
            });
            news.push((MessageKind::Status, format!("{}/{}", pull.id, known.facts.head), about(payload)));
        }
        for (kind, key, payload) in news {
            let mark = (kind.word(), key.clone());
            if self.posted.lock().await.get(&mark) == Some(&payload) {
                continue;
            }
            let new = NewMessage { id: self.ids.next(), project: row.id, kind, key, payload: payload.clone() };
            if self.store.outbox_put(&new, TOGETHER, self.clock.now()).await? {
                self.outbox.notify_one();
            }
            self.posted.lock().await.insert(mark, payload);
        }
        Ok(())
    }

    /// Nothing more is told of a pull request.
    pub(super) async fn hush(&self, pull: &StoredPull) {
        let key = pull.id.to_string();
        self.posted.lock().await.retain(|(_, about), _| !about.starts_with(&key));
    }

    /// Sends what is due, and then what becomes so, until `stop`.
    pub async fn send(self: Arc<Self>, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => return,
            // A message whose project does not exist is for nobody.
            () = self.listed() => {}
        }
        let mut failures = 0;
        loop {
            let sent = tokio::select! {
                () = stop.cancelled() => return,
                sent = self.batch() => sent,
            };
            let pause = match sent {
                Ok(pause) => {
                    failures = 0;
                    pause
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!(%error, "what pull requests are to be told cannot be sent; trying again");
                    Some(backoff::delay("outbox", failures).min(PATIENCE))
                }
            };
            let rest = async {
                match pause {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.outbox.notified() => {}
                () = rest => {}
            }
        }
    }

    /// Sends what is due; says when the next is.
    async fn batch(&self) -> Result<Option<Duration>, StoreError> {
        let due = self.store.outbox_due(&self.share, self.clock.now(), BATCH).await?;
        let deliveries: Vec<_> = due.iter().map(|message| self.deliver(message)).collect();
        let mut all = futures::stream::iter(deliveries).buffer_unordered(AT_ONCE);
        while let Some(done) = all.next().await {
            done?;
        }
        let next = self.store.outbox_next(&self.share).await?;
        Ok(next.map(|at| Duration::try_from(at.duration_since(self.clock.now())).unwrap_or_default()))
    }

    /// Sends one message, and says what became of it.
    async fn deliver(&self, message: &Message) -> Result<(), StoreError> {
        let name: ProjectName = (message.project.namespace.clone(), message.project.name.clone());
        let (store, now) = (&self.store, self.clock.now());
        let failed = match self.attempt(&name, message).await? {
            Ok(()) => {
                if self.refusals.lock().await.remove(&name).is_some() {
                    self.bell.ring(name);
                }
                return store.outbox_sent(message.id, message.version, now).await;
            }
            Err(failed) => failed,
        };
        let Failed { trouble, rest } = failed;
        let Some(trouble) = trouble else {
            return store.outbox_failed(message.id, message.version, NOBODY, None).await;
        };
        let doubled = FIRST.saturating_mul(1 << message.attempts.clamp(0, 10)).min(LONGEST);
        let pause =
            SignedDuration::try_from(rest.unwrap_or(doubled).max(FIRST)).unwrap_or(SignedDuration::from_mins(10));
        let next = now.saturating_add(pause).ok().filter(|_| message.attempts < REFUSALS);
        tracing::info!(namespace = name.0, project = name.1, why = trouble.message, "a pull request could not be told");
        store.outbox_failed(message.id, message.version, &trouble.message, next).await?;
        let before = self.refusals.lock().await.insert(name.clone(), trouble.clone());
        if before.as_ref() != Some(&trouble) {
            self.bell.ring(name);
        }
        Ok(())
    }

    /// Sends one message.
    async fn attempt(&self, name: &ProjectName, message: &Message) -> Result<Result<(), Failed>, StoreError> {
        let project = self.project(name);
        let previews = project.as_ref().and_then(|project| project.spec.previews.as_ref());
        let text = |field: &str| message.payload[field].as_str().unwrap_or_default();
        let is_asked = |previews: &&api::Previews| {
            let asked = match message.kind {
                MessageKind::Comment => previews.feedback.comment,
                MessageKind::Status => previews.feedback.status,
            };
            asked && previews.credential.is_some() && previews.repository.eq_ignore_ascii_case(text("repository"))
        };
        let Some(previews) = previews.filter(is_asked) else { return Ok(Err(Failed { trouble: None, rest: None })) };
        let desk = match self.desk(name, &message.project, previews).await {
            Ok(desk) => desk,
            Err(trouble) => return Ok(Err(Failed { trouble: Some(trouble), rest: None })),
        };
        let failed = |error: crate::forge::ForgeError| Failed {
            rest: error.retry_after(),
            trouble: Some(Trouble { reason: error.reason(), message: error.to_string() }),
        };
        let number = message.payload["number"].as_i64().unwrap_or_default();
        if message.kind == MessageKind::Status {
            let url = message.payload["url"].as_str().map(str::to_owned);
            let state = CommitState::of(text("state")).unwrap_or(CommitState::Pending);
            let (context, description) = (text("context").to_owned(), text("description").to_owned());
            let status = CommitStatus { state, context, description, url };
            return Ok(self.forge.status(&desk.place, &desk.token, text("commit"), &status).await.map_err(failed));
        }
        let (provider, repository) = (wanted::provider(previews).word(), previews.repository.to_ascii_lowercase());
        let pulls = self.store.pull_requests_get(message.project.id, provider, &repository, &[number]).await?;
        let Some(pull) = pulls.into_iter().next() else { return Ok(Err(Failed { trouble: None, rest: None })) };
        let mark = mark(pull.id);
        let known = pull.comment.as_deref();
        match self.forge.comment(&desk.place, &desk.token, number, known, (&mark, text("text"))).await {
            Ok(comment) => {
                if known != Some(comment.as_str()) {
                    self.store.pull_request_commented(pull.id, Some(&comment)).await?;
                }
                Ok(Ok(()))
            }
            Err(error) => Ok(Err(failed(error))),
        }
    }
}

/// Why a message did not arrive: none if nobody wants it any more.
struct Failed {
    trouble: Option<Trouble>,
    /// How long the provider wants to be left alone.
    rest: Option<Duration>,
}

/// The environment of this name.
pub(super) fn named<'a>(environments: &'a [Arc<Environment>], name: &str) -> Option<&'a Environment> {
    environments.iter().map(Arc::as_ref).find(|one| one.name_any() == name)
}
