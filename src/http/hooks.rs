//! Where webhooks are received: `/hooks/TOKEN`, by POST, or by GET with a body as Diun does it.
//!
//! Nothing of a delivery is read before it is known who sent it, and nothing is answered before it is stored: what was
//! accepted is worked on, whatever happens to this process. Any replica receives.

mod answer;
mod flood;
mod secrets;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, header::CONTENT_LENGTH},
    response::{IntoResponse as _, Response},
    routing::get,
};
use futures::StreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use self::{answer::Answer, flood::Floods, secrets::Secrets};
use crate::{
    domain::clock::{Clock, Ids},
    safe::Safe,
    store::{Class, DeliveryKey, NewDelivery, Received, Receiver, Store, StoreError},
    telemetry::Telemetry,
    webhook::{self, Event, Headers, MAX_BODY, Malformed, Source},
};

/// What begins the path of every receiver.
const PATH: &str = "/hooks/";

/// Bodies that are in memory at once, a megabyte each at the most.
const BODIES: usize = 32;

/// After so many stored deliveries of a receiver, old ones are tidied away.
const TIDY: u32 = 100;

/// How deliveries are read: [`webhook::parse`].
pub type Parse = fn(Source, &Headers, &[u8], Option<&str>) -> Result<Event, Malformed>;

/// The receivers of webhooks. Closed until the database is known.
#[derive(Clone)]
pub struct Hooks(Arc<Inner>);

struct Inner {
    ground: OnceLock<Ground>,
    telemetry: Telemetry,
    floods: Floods,
    secrets: Secrets,
    bodies: Semaphore,
    /// From the end of the headers to the end of the body.
    patience: Duration,
    parse: Parse,
}

/// What receiving stands on.
struct Ground {
    store: Store,
    safe: Option<Safe>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

impl Hooks {
    /// Receivers that answer that they are closed. A body may take as long as `patience`.
    pub fn new(telemetry: Telemetry, patience: Duration) -> Self {
        Self::reading_with(webhook::parse, telemetry, patience)
    }

    /// The same with another way to read deliveries.
    pub fn reading_with(parse: Parse, telemetry: Telemetry, patience: Duration) -> Self {
        Self(Arc::new(Inner {
            ground: OnceLock::new(),
            telemetry,
            floods: Floods::default(),
            secrets: Secrets::default(),
            bodies: Semaphore::new(BODIES),
            patience,
            parse,
        }))
    }

    /// Opens them. Later calls change nothing.
    pub fn open(&self, store: Store, safe: Option<Safe>, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) {
        _ = self.0.ground.set(Ground { store, safe, clock, ids });
    }

    /// The routes.
    pub(super) fn router(self) -> Router {
        Router::new().route("/hooks/{token}", get(receive).post(receive)).with_state(self)
    }
}

/// Receives one delivery.
async fn receive(State(Hooks(hooks)): State<Hooks>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let token = parts.uri.path().strip_prefix(PATH).unwrap_or_default();
    let mut receiver = None;
    let answer = hooks.take(token, &parts.headers, body, &mut receiver).await;
    let source = receiver.as_ref().and_then(source_of).map_or("unknown", Source::word);
    hooks.telemetry.metrics.webhook_received(source, answer.outcome());
    tell(receiver.as_ref(), &answer);
    answer.into_response()
}

fn source_of(receiver: &Receiver) -> Option<Source> {
    receiver.declared.source.parse().ok()
}

/// Names of the receiver and a word for the outcome, and of what was sent a few words at the most.
fn tell(receiver: Option<&Receiver>, answer: &Answer) {
    let outcome = answer.outcome();
    let Some(Receiver { project, declared, .. }) = receiver else {
        tracing::debug!(outcome, "a webhook was sent to a path that is none");
        return;
    };
    let (namespace, project, webhook) = (&project.namespace, &project.name, &declared.name);
    match answer {
        Answer::Accepted(id) | Answer::Repeated(id) => {
            tracing::debug!(namespace, project, webhook, outcome, delivery = %id, "a webhook was received");
        }
        Answer::Ignored => tracing::debug!(namespace, project, webhook, outcome, "a webhook was received"),
        Answer::Unavailable(why) | Answer::Failed(why) => {
            tracing::warn!(namespace, project, webhook, outcome, why, "a webhook could not be received");
        }
        Answer::Malformed(why) => {
            tracing::info!(namespace, project, webhook, outcome, %why, "a webhook was refused");
        }
        _ => tracing::info!(namespace, project, webhook, outcome, "a webhook was refused"),
    }
}

impl From<StoreError> for Answer {
    fn from(error: StoreError) -> Self {
        match error.class() {
            Class::Unavailable => Self::Unavailable(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl Inner {
    /// The order matters: what is cheap to refuse is refused first, and nobody learns anything from the order.
    async fn take(&self, token: &str, headers: &HeaderMap, body: Body, found: &mut Option<Receiver>) -> Answer {
        let taken = async {
            let Some(ground) = self.ground.get() else {
                return Err(Answer::Unavailable("the operator has only just started".into()));
            };
            let receiver = found.insert(self.receiver(ground, token).await?);
            self.floods.admit(receiver.id).map_err(Answer::Flooded)?;
            let source = source_of(receiver).ok_or_else(|| {
                Answer::Failed("a newer version has made it, for a source that this one does not know".into())
            })?;
            let permit = tokio::time::timeout(self.patience, self.bodies.acquire());
            let _permit = permit.await.map_err(|_| Answer::Busy)?;
            let body = self.whole(headers, body).await?;
            let headers = readable(headers);
            self.check(ground, receiver, source, &headers, &body).await?;
            let registry = receiver.declared.registry.as_deref();
            let event = catch_unwind(AssertUnwindSafe(|| (self.parse)(source, &headers, &body, registry)))
                .map_err(|_| Answer::Failed("a mistake in the reader of this source".into()))?
                .map_err(Answer::Malformed)?;
            self.store(ground, receiver, source, &headers, body, event).await
        };
        taken.await.unwrap_or_else(|refused| refused)
    }

    /// The receiver with this path. Paths that nobody has are looked up only so often.
    async fn receiver(&self, ground: &Ground, token: &str) -> Result<Receiver, Answer> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if !(32..=64).contains(&token.len()) || !token.bytes().all(plain) {
            return Err(Answer::UnknownPath);
        }
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        self.floods.look_up(&hash).map_err(Answer::Flooded)?;
        let found = ground.store.receiver_find(&hash, ground.clock.now()).await?;
        let receiver = found.ok_or(Answer::UnknownPath)?;
        self.floods.known(hash);
        Ok(receiver)
    }

    /// The body, if it is short enough and comes in time.
    async fn whole(&self, headers: &HeaderMap, body: Body) -> Result<Vec<u8>, Answer> {
        let length = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if length.is_some_and(|length| length > MAX_BODY) {
            return Err(Answer::TooLarge);
        }
        let read = async {
            let mut parts = body.into_data_stream();
            let mut whole = Vec::with_capacity(length.unwrap_or_default());
            while let Some(part) = parts.next().await {
                let part: Bytes = part.map_err(|_| Answer::Broken)?;
                if whole.len() + part.len() > MAX_BODY {
                    return Err(Answer::TooLarge);
                }
                whole.extend_from_slice(&part);
            }
            Ok(whole)
        };
        tokio::time::timeout(self.patience, read).await.map_err(|_| Answer::Slow)?
    }

    /// Whether the sender has a secret of the receiver. A receiver that has some declared takes nothing without.
    async fn check(
        &self,
        ground: &Ground,
        receiver: &Receiver,
        source: Source,
        headers: &Headers,
        body: &[u8],
    ) -> Result<(), Answer> {
        let now = ground.clock.now();
        if receiver.declared.credentials.is_empty() {
            return webhook::verify(source, headers, body, &[], now).map_err(|_| Answer::Unsigned);
        }
        if receiver.secrets.is_empty() {
            return Err(Answer::Unsigned);
        }
        let Some(safe) = &ground.safe else {
            return Err(Answer::Unavailable(
                "this operator has no encryption keys to open its credentials with".into(),
            ));
        };
        let secrets = self.secrets.of(safe, receiver, source).await.map_err(Answer::Unavailable)?;
        let secrets: Vec<&[u8]> = secrets.iter().map(|secret| secret.expose()).collect();
        if secrets.is_empty() {
            return Err(Answer::Unsigned);
        }
        webhook::verify(source, headers, body, &secrets, now).map_err(|_| Answer::Unsigned)
    }

    async fn store(
        &self,
        ground: &Ground,
        receiver: &Receiver,
        source: Source,
        headers: &Headers,
        body: Vec<u8>,
        event: Event,
    ) -> Result<Answer, Answer> {
        let key = match webhook::delivery_id(source, headers, &body) {
            Some(id) => DeliveryKey::Id(id),
            None => DeliveryKey::Body(hex::encode(Sha256::digest(&body))),
        };
        let ignored = match event {
            Event::Images(_) | Event::PullRequest(_) => None,
            Event::Ignored { what } => Some(what),
        };
        let is_ignored = ignored.is_some();
        let headers = headers.kept().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        let new = NewDelivery { id: ground.ids.next(), receiver: receiver.id, key, headers, body, ignored };
        let received = ground.store.inbox_put(&new, ground.clock.now()).await?;
        if matches!(received, Received::New(_)) && self.floods.stored(receiver.id).is_multiple_of(TIDY) {
            // Not worth refusing a delivery that is stored.
            if let Err(error) = ground.store.inbox_trim(receiver.id).await {
                tracing::warn!(%error, "old deliveries of a webhook could not be tidied away");
            }
        }
        Ok(match received {
            Received::Full => Answer::Full,
            _ if is_ignored => Answer::Ignored,
            Received::New(id) => Answer::Accepted(id),
            Received::Known(id) => Answer::Repeated(id),
        })
    }
}

/// Headers that are text. Others prove nothing and say nothing.
fn readable(headers: &HeaderMap) -> Headers {
    headers.iter().filter_map(|(name, value)| Some((name.as_str(), value.to_str().ok()?))).collect()
}
