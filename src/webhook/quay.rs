//! Quay: every tag that a push has moved.

use serde::Deserialize;

use super::{
    Event, Malformed,
    text::{Few, Text, named},
};
use crate::domain::{hint::Hint, image::Repository};

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    docker_url: Text,
    #[serde(default)]
    homepage: Text,
    // Missing in the notifications of builds and scans; null and empty in no push that was seen, and no reason to refuse one.
    #[serde(default, deserialize_with = "present")]
    updated_tags: Option<Few<Text>>,
}

fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Few<Text>>, D::Error> {
    Few::deserialize(deserializer).map(Some)
}

pub(super) fn parse(body: &[u8], registry: Option<&str>) -> Result<Event, Malformed> {
    let body: Body = serde_json::from_slice(body)?;
    let Some(tags) = body.updated_tags else { return Ok(Event::ignored("without updated_tags")) };
    let url = body.docker_url.required("docker_url")?;
    let repository: Repository = url.parse().map_err(|why| Malformed::field("docker_url", why))?;
    let hint = Hint { link: body.homepage.link(), ..Hint::of(named(registry, &repository, "docker_url")?) };
    let mut images: Vec<Hint> = tags.0.iter().map(|tag| Hint { tag: tag.tag(), ..hint.clone() }).collect();
    if images.is_empty() {
        images.push(hint);
    }
    Ok(Event::Images(images))
}
