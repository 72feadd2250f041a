//! Asking providers which pull requests are open. What they answer becomes rows; what does not answer changes nothing.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{Previews, wanted};
use crate::{
    api,
    controllers::{error::Error, project::verdict::Trouble, vault::ProjectName},
    domain::{
        actor::Actor,
        credential::CredentialKind,
        pull_request::{Forks, Gate, Known, Look, PullRequest, Word, sweep},
    },
    forge::{ForgeError, Listed, Listing, Place, Token},
    safe::Owner,
    store::{Project as Row, StoredPull},
};

/// How soon a provider is asked again that did not answer, at the latest.
const RETRY: Duration = Duration::from_mins(1);

/// How long an opened token is used. Each opening is recorded.
const KEPT: Duration = Duration::from_hours(1);

/// Orphans that are asked about in one pass.
const ORPHANS: usize = 20;

/// What is remembered of asking for one project's pull requests.
#[derive(Default)]
pub(super) struct Inquiry {
    /// When to ask again.
    due: Option<Instant>,
    /// What was asked, and with what.
    of: Option<(Place, String)>,
    before: Option<Listing>,
    /// Why there was no answer.
    trouble: Option<Trouble>,
    token: Option<Opened>,
}

/// A token, and which version of which credential it was.
struct Opened {
    credential: String,
    stamp: i64,
    token: Token,
    until: Instant,
}

/// Something that a person has to mend, or wait for; and how long the provider wants to be left alone.
struct Unanswered {
    trouble: Trouble,
    rest: Option<Duration>,
}

impl From<ForgeError> for Unanswered {
    fn from(error: ForgeError) -> Self {
        Self { rest: error.retry_after(), trouble: Trouble { reason: error.reason(), message: error.to_string() } }
    }
}

/// What a project's provider is asked with.
pub(super) struct Desk {
    pub(super) place: Place,
    pub(super) token: Token,
}

/// What came of asking.
pub(super) struct Outcome {
    /// When to ask again; none if nobody is asked.
    pub(super) next: Option<Duration>,
    /// Why there was no answer.
    pub(super) trouble: Option<Trouble>,
    /// Whether somebody was asked just now, so that rows may have changed.
    pub(super) answered: bool,
}

impl Previews {
    /// Asks a project's provider, if it is time and a credential is named. `strays` are numbers that objects name and that no
    /// row knows of.
    ///
    /// # Errors
    /// The database is away.
    pub(super) async fn ask(
        &self,
        name: &ProjectName,
        row: &Row,
        previews: &api::Previews,
        strays: &[i64],
    ) -> Result<Outcome, Error> {
        let Some(credential) = &previews.credential else {
            self.inquiries.lock().await.remove(name);
            return Ok(Outcome { next: None, trouble: None, answered: false });
        };
        let inquiry = self.inquiries.lock().await.entry(name.clone()).or_default().clone();
        let mut inquiry = inquiry.lock().await;
        let place = Place::new(wanted::provider(previews), previews.api.as_deref(), &previews.repository);
        let of = place.ok().map(|place| (place, credential.clone()));
        if inquiry.of != of {
            *inquiry = Inquiry { of, ..Inquiry::default() };
        }
        let now = Instant::now();
        let answered = inquiry.due.is_none_or(|due| due <= now);
        if answered {
            let interval = previews.interval.as_std();
            let rest = match self.answer(name, row, previews, strays, &mut inquiry).await? {
                Ok(()) => {
                    inquiry.trouble = None;
                    interval
                }
                Err(Unanswered { trouble, rest }) => {
                    tracing::info!(
                        namespace = name.0,
                        project = name.1,
                        why = trouble.message,
                        "no answer about pull requests"
                    );
                    inquiry.trouble = Some(trouble);
                    rest.unwrap_or(interval.min(RETRY)).max(Duration::from_secs(1))
                }
            };
            inquiry.due = Some(Instant::now() + rest);
        }
        let next = inquiry.due.map(|due| due.saturating_duration_since(Instant::now()));
        Ok(Outcome { next, trouble: inquiry.trouble.clone(), answered })
    }

    /// What a project's provider is asked with, for whoever has something to tell it.
    ///
    /// # Errors
    /// What a person has to mend.
    pub(super) async fn desk(&self, name: &ProjectName, row: &Row, previews: &api::Previews) -> Result<Desk, Trouble> {
        let inquiry = self.inquiries.lock().await.entry(name.clone()).or_default().clone();
        let mut inquiry = inquiry.lock().await;
        self.open(name, row, previews, &mut inquiry).await
    }

    async fn open(
        &self,
        name: &ProjectName,
        row: &Row,
        previews: &api::Previews,
        inquiry: &mut Inquiry,
    ) -> Result<Desk, Trouble> {
        let place = Place::new(wanted::provider(previews), previews.api.as_deref(), &previews.repository)
            .map_err(|error| Trouble { reason: error.reason(), message: error.to_string() })?;
        let credential = previews.credential.as_deref().unwrap_or_default();
        let held = self.vault.of(&name.0, &name.1);
        let stored = held.as_ref().and_then(|held| held.credentials.get(credential));
        let Some(stored) = stored else {
            let message = format!(
                "credential {credential}, with which the git provider is asked, is not stored: store it with `stagekeeper \
                 credential set {} {credential} --kind git`, or copy it from a Secret with `spec.credentials`",
                name.1
            );
            return Err(Trouble { reason: "CredentialMissing", message });
        };
        if stored.kind != CredentialKind::Git {
            let message = format!(
                "credential {credential}, with which the git provider is asked, is of kind {}, which is for something else: \
                 store one of kind git, and name that",
                stored.kind
            );
            return Err(Trouble { reason: "CredentialUnusable", message });
        }
        let is_good = |opened: &Opened| {
            opened.credential == credential && opened.stamp == stored.stamp && opened.until > Instant::now()
        };
        if let Some(opened) = inquiry.token.as_ref().filter(|opened| is_good(opened)) {
            return Ok(Desk { place, token: opened.token.clone() });
        }
        inquiry.token = None;
        let safe = self.safe.as_ref().ok_or_else(Trouble::no_keys)?;
        let owner = Owner { project: row.id, namespace: &row.namespace, name: &row.name };
        let purpose = format!("pull requests of {}", previews.repository);
        let taken = safe.take_many(&owner, &[credential], &Actor::Controller, &purpose).await;
        let unusable = |why: &str| Trouble {
            reason: "CredentialUnusable",
            message: format!("credential {credential} cannot be used for the git provider: {why}"),
        };
        let value = taken.map_err(|error| unusable(&error.to_string()))?.into_iter().next().flatten();
        let (_, value) = value.ok_or_else(|| unusable("it is not stored any more"))?;
        let token =
            Token::new(value.expose()).ok_or_else(|| unusable("it is no token: store it again, without spaces"))?;
        let (credential, stamp, until) = (credential.to_owned(), stored.stamp, Instant::now() + KEPT);
        inquiry.token = Some(Opened { credential, stamp, token: token.clone(), until });
        Ok(Desk { place, token })
    }

    /// Asks, and takes in what is answered.
    async fn answer(
        &self,
        name: &ProjectName,
        row: &Row,
        previews: &api::Previews,
        strays: &[i64],
        inquiry: &mut Inquiry,
    ) -> Result<Result<(), Unanswered>, Error> {
        let desk = match self.open(name, row, previews, inquiry).await {
            Ok(desk) => desk,
            Err(trouble) => return Ok(Err(Unanswered { trouble, rest: None })),
        };
        let listing = match self.forge.open(&desk.place, &desk.token, inquiry.before.as_ref()).await {
            Ok(Listed::New(listing)) => listing,
            Ok(Listed::Same) => match inquiry.before.clone() {
                Some(before) => before,
                None => return Ok(Ok(())),
            },
            Err(error) => return Ok(Err(error.into())),
        };
        inquiry.before = Some(listing.clone());
        let mut table = Table { all: self, row, gate: wanted::gate(previews), desk: &desk, pulls: Vec::new() };
        let repository = desk.place.repository().to_ascii_lowercase();
        let numbers: Vec<i64> = listing.open.iter().map(|one| one.number).chain(strays.iter().copied()).collect();
        let of_project =
            |pull: &StoredPull| pull.known.provider == table.gate.provider && pull.known.repository == repository;
        let mut pulls = self.store.pull_requests_live(row.id).await?;
        pulls.retain(of_project);
        let provider = table.gate.provider.word();
        for pull in self.store.pull_requests_get(row.id, provider, &repository, &numbers).await? {
            if !pulls.iter().any(|known| known.id == pull.id) {
                pulls.push(pull);
            }
        }
        table.pulls = pulls;
        table.take_in(&repository, listing, strays).await
    }
}

/// What is known of a repository's pull requests while an answer is taken in.
struct Table<'a> {
    all: &'a Previews,
    row: &'a Row,
    gate: Gate,
    desk: &'a Desk,
    pulls: Vec<StoredPull>,
}

impl Table<'_> {
    async fn take_in(
        &mut self,
        repository: &str,
        listing: Listing,
        strays: &[i64],
    ) -> Result<Result<(), Unanswered>, Error> {
        let known: Vec<Known> = self.pulls.iter().map(|pull| pull.known.clone()).collect();
        let found = sweep(&known, &listing.into());
        for news in &found.news {
            self.hear(repository, news, Word::Told).await?;
        }
        if let Err(error) = self.vouch().await? {
            return Ok(Err(error.into()));
        }
        let unknown = strays.iter().filter(|number| !known.iter().any(|one| one.facts.number == **number));
        for number in found.look.iter().chain(unknown.take(ORPHANS)) {
            let Desk { place, token } = self.desk;
            let look = match self.all.forge.look(place, token, *number).await {
                Ok(look) => look,
                Err(error) => return Ok(Err(error.into())),
            };
            match (self.pulls.iter().position(|pull| pull.known.facts.number == *number), &look) {
                (Some(at), _) => {
                    if self.pulls[at].known.looked(&look) {
                        self.put(at).await?;
                    }
                }
                (None, Look::Found(news)) => self.hear(repository, news, Word::Asked).await?,
                (None, Look::Absent) => {}
            }
        }
        Ok(Ok(()))
    }

    /// Takes in what was told of one pull request.
    async fn hear(&mut self, repository: &str, news: &PullRequest, word: Word) -> Result<(), Error> {
        if let Some(at) = self.pulls.iter().position(|pull| pull.known.facts.number == news.number) {
            if self.pulls[at].known.hear(news, word) {
                self.put(at).await?;
            }
            return Ok(());
        }
        let known = Known::new(self.gate.provider, repository, news.clone());
        let (id, now) = (self.all.ids.next(), self.all.clock.now());
        // That somebody else was faster shows with the next pass.
        if self.all.store.pull_request_put(id, self.row.id, &known, None, now).await? {
            self.pulls.push(StoredPull { id, version: 1, comment: None, known });
        }
        Ok(())
    }

    /// Asks who set the label that lets the code of a fork run, where the label alone does not prove it.
    async fn vouch(&mut self) -> Result<Result<(), ForgeError>, Error> {
        let Forks::Label(label) = self.gate.forks.clone() else { return Ok(Ok(())) };
        if self.gate.provider.labels_are_for_maintainers() {
            return Ok(Ok(()));
        }
        for at in 0..self.pulls.len() {
            let facts = &self.pulls[at].known.facts;
            let doubtful = facts.labels.contains(&label) && !facts.vouched.contains(&label);
            if !facts.fork || !facts.state.is_open() || !doubtful {
                continue;
            }
            match self.all.forge.vouched(&self.desk.place, &self.desk.token, facts).await {
                Ok(vouched) if vouched.contains(&label) => {
                    self.pulls[at].known.facts.vouched.insert(label.clone());
                    self.put(at).await?;
                }
                Ok(_) => {}
                Err(error) => return Ok(Err(error)),
            }
        }
        Ok(Ok(()))
    }

    async fn put(&mut self, at: usize) -> Result<(), Error> {
        let now: Timestamp = self.all.clock.now();
        let pull = &mut self.pulls[at];
        // That somebody else was faster shows with the next pass.
        if self.all.store.pull_request_put(pull.id, self.row.id, &pull.known, Some(pull.version), now).await? {
            pull.version += 1;
        }
        Ok(())
    }
}

/// What is remembered of one project, for one at a time.
pub(super) type Shared = Arc<tokio::sync::Mutex<Inquiry>>;
