//! What scripts and pipelines send: `image` as one text, or `host`, `name`, `tag` and `digest`; or several in `images`.

use serde::Deserialize;

use super::{
    Event, Malformed,
    text::{Few, Text, reference, repository},
};
use crate::domain::hint::Hint;

#[derive(Deserialize)]
struct Several {
    #[serde(default)]
    images: Few<One>,
}

#[derive(Deserialize)]
struct One {
    #[serde(default)]
    image: Text,
    #[serde(default)]
    host: Text,
    #[serde(default)]
    name: Text,
    #[serde(default)]
    tag: Text,
    #[serde(default)]
    digest: Text,
}

pub(super) fn parse(body: &[u8]) -> Result<Event, Malformed> {
    // Read twice: flattened, everything else that is in it would be kept in memory.
    let several: Several = serde_json::from_slice(body)?;
    let one: One = serde_json::from_slice(body)?;
    let mut images = Vec::new();
    for one in several.images.0.iter().chain([&one]) {
        images.extend(hint(one)?);
    }
    if images.is_empty() { Ok(Event::ignored("without image and name")) } else { Ok(Event::Images(images)) }
}

/// Nothing where no image is named.
fn hint(one: &One) -> Result<Option<Hint>, Malformed> {
    let (mut tag, mut digest) = (one.tag.tag(), one.digest.digest().or_else(|| one.tag.digest()));
    let repository = match (one.image.get(), one.name.get()) {
        (Some(image), _) => {
            let image = reference(image).map_err(|why| Malformed::field("image", why))?;
            tag = image.tag().map(str::to_owned).or(tag);
            digest = image.digest().copied().or(digest);
            image.repository().clone()
        }
        (None, Some(name)) => repository(None, one.host.get(), name, "host and name")?,
        (None, None) => return Ok(None),
    };
    Ok(Some(Hint { tag, digest, ..Hint::of(repository) }))
}
