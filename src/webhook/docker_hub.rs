//! Docker Hub. Counts and times come as numbers or texts, as it likes: none of them is read.

use serde::Deserialize;

use super::{
    Event, Malformed,
    text::{Text, repository},
};
use crate::domain::hint::Hint;

#[derive(Deserialize)]
struct Body {
    push_data: Option<Push>,
    repository: Option<Repository>,
}

#[derive(Deserialize)]
struct Push {
    #[serde(default)]
    tag: Text,
}

#[derive(Deserialize)]
struct Repository {
    #[serde(default)]
    repo_name: Text,
    #[serde(default)]
    repo_url: Text,
}

pub(super) fn parse(body: &[u8]) -> Result<Event, Malformed> {
    let Body { push_data: Some(push), repository: Some(of) } = serde_json::from_slice(body)? else {
        return Ok(Event::ignored("without push_data and repository"));
    };
    let name = of.repo_name.required("repository.repo_name")?;
    let repository = repository(None, Some("docker.io"), name, "repository.repo_name")?;
    Ok(Event::Images(vec![Hint { tag: push.tag.tag(), link: of.repo_url.link(), ..Hint::of(repository) }]))
}
