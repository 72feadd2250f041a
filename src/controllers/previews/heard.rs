//! What webhooks tell of pull requests becomes what is known of them.

use uuid::Uuid;

use super::wanted;
use crate::{
    api::Previews,
    domain::{
        clock::{Clock, Ids},
        pull_request::{Known, Word},
    },
    store::{Store, StoreError},
    webhook::PullNews,
};

/// How often a row is read again that somebody else wrote at the same moment.
const TRIES: usize = 5;

/// What became of a word about a pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// It changes something.
    Changed,
    /// It is known already, or is older than what is known.
    Known,
    /// It is about something that the project does not ask for.
    Elsewhere,
}

/// Takes in what a webhook of a project told. Whoever calls has verified who sent it.
///
/// # Errors
/// The database is away.
pub async fn hear(
    (store, clock, ids): (&Store, &dyn Clock, &dyn Ids),
    project: Uuid,
    previews: Option<&Previews>,
    news: &PullNews,
) -> Result<Heard, StoreError> {
    let PullNews { provider, repository, pull_request, labelled_by_another } = news;
    let asked = |previews: &Previews| {
        wanted::provider(previews) == *provider && previews.repository.eq_ignore_ascii_case(repository)
    };
    if !previews.is_some_and(asked) {
        return Ok(Heard::Elsewhere);
    }
    let word = if *labelled_by_another { Word::Labelled } else { Word::Told };
    let fresh = Known::new(*provider, repository, pull_request.clone());
    for _ in 0..TRIES {
        let number = [pull_request.number];
        let stored = store.pull_requests_get(project, provider.word(), &fresh.repository, &number).await?.pop();
        let put = match stored {
            None => store.pull_request_put(ids.next(), project, &fresh, None, clock.now()).await?,
            Some(mut stored) => {
                if !stored.known.hear(pull_request, word) {
                    return Ok(Heard::Known);
                }
                store.pull_request_put(stored.id, project, &stored.known, Some(stored.version), clock.now()).await?
            }
        };
        if put {
            return Ok(Heard::Changed);
        }
    }
    Err(StoreError::Conflict(format!("pull request {} was written by somebody else meanwhile", pull_request.number)))
}
