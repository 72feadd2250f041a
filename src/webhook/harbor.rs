//! Harbor, in its own format and as `CloudEvents`.

use serde::Deserialize;

use super::{
    Event, Malformed,
    text::{self, Few, Text, named, or_default},
};
use crate::domain::{hint::Hint, image};

#[derive(Deserialize)]
struct Body {
    #[serde(default, rename = "type")]
    kind: Text,
    event_data: Option<Data>,
    data: Option<Data>,
}

/// What was pushed: the same in both formats.
#[derive(Deserialize)]
pub(super) struct Data {
    #[serde(default)]
    resources: Few<Resource>,
    #[serde(default, deserialize_with = "or_default")]
    repository: Repository,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(default)]
    digest: Text,
    #[serde(default)]
    tag: Text,
    #[serde(default, rename = "resource_url")]
    address: Text,
}

#[derive(Deserialize, Default)]
struct Repository {
    #[serde(default)]
    repo_full_name: Text,
}

pub(super) fn parse(body: &[u8], registry: Option<&str>) -> Result<Event, Malformed> {
    let body: Body = serde_json::from_slice(body)?;
    match (body.kind.get(), body.event_data, body.data) {
        (Some("PUSH_ARTIFACT" | "pushImage"), Some(data), _) => pushed(&data, registry),
        (Some("harbor.artifact.pushed"), _, Some(data)) => pushed(&data, registry),
        (Some("PUSH_ARTIFACT" | "pushImage"), None, _) => Err(Malformed::missing("event_data")),
        (Some("harbor.artifact.pushed"), _, None) => Err(Malformed::missing("data")),
        (kind, ..) => Ok(Event::ignored(kind.unwrap_or("without a type"))),
    }
}

/// Every resource counts. One without an address is where the repository is, on the registry of the others.
pub(super) fn pushed(data: &Data, registry: Option<&str>) -> Result<Event, Malformed> {
    let mut addresses = Vec::new();
    for resource in &data.resources.0 {
        let address = resource.address.get().map(text::reference).transpose();
        addresses.push(address.map_err(|why| Malformed::field("resources[].resource_url", why))?);
    }
    let host = addresses.iter().flatten().map(|address| address.repository().registry()).next();
    let elsewhere = || -> Result<image::Repository, Malformed> {
        let path = data.repository.repo_full_name.required("repository.repo_full_name")?;
        let Some(host) = registry.or(host) else {
            return Err(Malformed::new(
                "resources[].resource_url is missing, and nothing else names the registry: say it in spec.webhooks[].registry",
            ));
        };
        text::repository(None, Some(host), path, "repository.repo_full_name")
    };
    let mut images = Vec::new();
    for (resource, address) in data.resources.0.iter().zip(&addresses) {
        let repository = match address {
            Some(address) => named(registry, address.repository(), "resources[].resource_url")?,
            None => elsewhere()?,
        };
        // What was pushed without a tag has its digest in the place of one.
        let digest = resource.digest.digest().or_else(|| resource.tag.digest());
        let digest = digest.or_else(|| address.as_ref().and_then(|address| address.digest().copied()));
        let tag = match resource.tag.get() {
            Some(_) => resource.tag.tag(),
            None => address.as_ref().and_then(|address| address.tag().map(str::to_owned)),
        };
        images.push(Hint { tag, digest, ..Hint::of(repository) });
    }
    if images.is_empty() {
        images.push(Hint::of(elsewhere()?));
    }
    Ok(Event::Images(images))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_may_stand_for_the_tag_of_an_address() {
        let digest = image::Digest::of(b"");
        let found = text::reference(&format!("harbor.example.com/acme/shop:{digest}")).expect("a reference");
        assert_eq!((found.tag(), found.digest()), (None, Some(&digest)));
    }
}
