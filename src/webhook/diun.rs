//! Diun: one image and tag in each delivery.

use serde::Deserialize;

use super::{
    Event, Malformed,
    text::{Text, reference},
};
use crate::domain::hint::Hint;

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    hostname: Text,
    #[serde(default)]
    status: Text,
    #[serde(default)]
    provider: Text,
    #[serde(default)]
    image: Text,
    #[serde(default)]
    hub_link: Text,
    #[serde(default)]
    digest: Text,
    #[serde(default)]
    created: Text,
    #[serde(default)]
    platform: Text,
}

pub(super) fn parse(body: &[u8]) -> Result<Event, Malformed> {
    let body: Body = serde_json::from_slice(body)?;
    if let Some(status) = body.status.get().filter(|status| !matches!(*status, "new" | "update")) {
        return Ok(Event::ignored(status));
    }
    let image = reference(body.image.required("image")?).map_err(|why| Malformed::field("image", why))?;
    Ok(Event::Images(vec![Hint {
        repository: image.repository().clone(),
        tag: image.tag().map(str::to_owned),
        digest: body.digest.digest().or(image.digest().copied()),
        platform: body.platform.get().and_then(|text| text.parse().ok()),
        host: body.hostname.word(),
        created: body.created.instant(),
        provider: body.provider.word(),
        link: body.hub_link.link(),
    }]))
}
