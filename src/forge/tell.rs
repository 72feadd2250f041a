//! What providers are told: one comment in a pull request, which is edited, and the status of a commit.

use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Forge, ForgeError, Place, Token, call::Call};
use crate::{
    domain::{
        excerpt::excerpt,
        feedback::{CommitState, CommitStatus},
        pull_request::Provider,
    },
    outbound::bounded,
};

/// Pages of comments that are looked through for ours.
const MAX_PAGES: usize = 10;

/// Comments of a page.
const PAGE: usize = 50;

/// Longest description of a status, in characters: that of GitHub.
const MAX_DESCRIPTION: usize = 139;

/// Bytes of a refusal that are read to see what it means.
const MAX_REFUSAL: usize = 4 << 10;

const COMMENT: &str = "comment on its pull requests";
const STATUS: &str = "set the status of its commits";

#[derive(Deserialize)]
struct Comment {
    id: u64,
    #[serde(default)]
    body: Option<String>,
}

impl Forge {
    /// Writes the comment in a pull request: changes the one that is `known`, or else the first one that holds `marker`, or
    /// else makes one. Says what the provider calls it.
    ///
    /// # Errors
    /// Why it was not written.
    pub async fn comment(
        &self,
        place: &Place,
        token: &Token,
        number: i64,
        known: Option<&str>,
        (marker, text): (&str, &str),
    ) -> Result<String, ForgeError> {
        if let Some(known) = known
            && self.edit(place, token, number, known, text).await?
        {
            return Ok(known.to_owned());
        }
        if let Some(found) = self.find(place, token, number, marker).await?
            && Some(found.as_str()) != known
            && self.edit(place, token, number, &found, text).await?
        {
            return Ok(found);
        }
        let number = number.to_string();
        let (kind, notes) = kinds(place.provider());
        let parts = [kind, number.as_str(), notes];
        let call = Call::send(Method::POST, &parts, json!({"body": text}), COMMENT);
        let made: Comment = self.read(place, self.call(place, token, &call, |_| false).await?).await?;
        Ok(made.id.to_string())
    }

    /// Changes a comment; false if there is none of this name any more.
    async fn edit(&self, place: &Place, token: &Token, number: i64, id: &str, text: &str) -> Result<bool, ForgeError> {
        let number = number.to_string();
        let (parts, method) = match place.provider() {
            Provider::GitLab => (vec!["merge_requests", number.as_str(), "notes", id], Method::PUT),
            Provider::GitHub | Provider::Gitea => (vec!["issues", "comments", id], Method::PATCH),
        };
        let gone = |status| matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE);
        let call = Call::send(method, &parts, json!({"body": text}), COMMENT);
        let response = self.call(place, token, &call, gone).await?;
        Ok(!gone(response.status()))
    }

    /// The first comment that holds the marker. Whoever writes one later, with our marker in it, is not taken for us.
    async fn find(
        &self,
        place: &Place,
        token: &Token,
        number: i64,
        marker: &str,
    ) -> Result<Option<String>, ForgeError> {
        let number = number.to_string();
        let (kind, notes) = kinds(place.provider());
        let parts = [kind, number.as_str(), notes];
        let size = PAGE.to_string();
        // Gitea gives all comments at once.
        let pages = if place.provider() == Provider::Gitea { 1 } else { MAX_PAGES };
        for page in 1..=pages {
            let page = page.to_string();
            let query: &[(&str, &str)] = match place.provider() {
                Provider::GitHub => &[("per_page", &size), ("page", &page)],
                Provider::GitLab => {
                    &[("order_by", "created_at"), ("sort", "asc"), ("per_page", &size), ("page", &page)]
                }
                Provider::Gitea => &[],
            };
            let response = self.call(place, token, &Call::get(&parts, query, COMMENT), |_| false).await?;
            let comments: Vec<Comment> = self.read(place, response).await?;
            let ours = |comment: &&Comment| comment.body.as_deref().is_some_and(|body| body.contains(marker));
            if let Some(found) = comments.iter().find(ours) {
                return Ok(Some(found.id.to_string()));
            }
            if comments.len() < PAGE {
                break;
            }
        }
        Ok(None)
    }

    /// Sets the status of a commit. The same again is fine.
    ///
    /// # Errors
    /// Why it was not set.
    pub async fn status(
        &self,
        place: &Place,
        token: &Token,
        commit: &str,
        status: &CommitStatus,
    ) -> Result<(), ForgeError> {
        let parts = ["statuses", commit];
        let call = Call::send(Method::POST, &parts, body(place.provider(), status), STATUS);
        let refused = |status: StatusCode| place.provider() == Provider::GitLab && status == StatusCode::BAD_REQUEST;
        let response = self.call(place, token, &call, refused).await?;
        if !refused(response.status()) {
            return Ok(());
        }
        // GitLab refuses to set what is set already.
        let said = bounded(response, MAX_REFUSAL).await.unwrap_or_default();
        if String::from_utf8_lossy(&said).contains("Cannot transition status") {
            return Ok(());
        }
        let (provider, repository) = (place.provider(), place.repository().to_owned());
        Err(ForgeError::Unexpected { provider, repository, status: StatusCode::BAD_REQUEST.as_u16() })
    }
}

/// Where the comments of a pull request are.
fn kinds(provider: Provider) -> (&'static str, &'static str) {
    match provider {
        Provider::GitLab => ("merge_requests", "notes"),
        Provider::GitHub | Provider::Gitea => ("issues", "comments"),
    }
}

fn body(provider: Provider, status: &CommitStatus) -> Value {
    let state = match (status.state, provider) {
        (CommitState::Pending, _) => "pending",
        (CommitState::Success, _) => "success",
        (CommitState::Failure, Provider::GitLab) => "failed",
        (CommitState::Failure, _) => "failure",
    };
    let mut body = json!({
        "state": state,
        "context": status.context,
        "description": excerpt(&status.description, MAX_DESCRIPTION),
    });
    if let Some(url) = &status.url {
        body["target_url"] = json!(url);
    }
    body
}
