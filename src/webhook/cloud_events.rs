//! `CloudEvents` about images, with everything in the body or with what describes the event in headers.

use serde::Deserialize;

use super::{
    Event, Headers, Malformed, harbor,
    text::{Text, or_default, repository},
};
use crate::domain::hint::Hint;

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    specversion: Text,
    #[serde(default, rename = "type")]
    kind: Text,
}

#[derive(Deserialize)]
struct Structured {
    #[serde(default, deserialize_with = "or_default")]
    data: Data,
}

#[derive(Deserialize, Default)]
struct Data {
    #[serde(default, rename = "repositoryName")]
    repository_name: Text,
    #[serde(default)]
    repository: Text,
    #[serde(default, rename = "registryUrl")]
    registry_url: Text,
    #[serde(default)]
    registry: Text,
    #[serde(default, rename = "imageTag")]
    image_tag: Text,
    #[serde(default)]
    tag: Text,
    #[serde(default, rename = "imageDigest")]
    image_digest: Text,
    #[serde(default)]
    digest: Text,
}

#[derive(Deserialize)]
struct Pushed {
    data: harbor::Data,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    specversion: Text,
    #[serde(default)]
    id: Text,
}

/// The id of an event that has everything in its body.
pub(super) fn id(body: &[u8]) -> Option<String> {
    let named: Named = serde_json::from_slice(body).ok()?;
    named.specversion.get()?;
    named.id.0
}

pub(super) fn parse(headers: &Headers, body: &[u8], registry: Option<&str>) -> Result<Event, Malformed> {
    let (kind, data) = match (headers.get("ce-specversion"), headers.get("ce-type")) {
        (Some(_), Some(kind)) if is_about_images(kind) => (kind.to_owned(), serde_json::from_slice(body)?),
        (Some(_), Some(kind)) => return Ok(Event::ignored(kind)),
        _ => {
            let read: Body = serde_json::from_slice(body)?;
            read.specversion.required("specversion")?;
            let kind = read.kind.required("type")?.to_owned();
            if kind == "harbor.artifact.pushed" {
                return harbor::pushed(&serde_json::from_slice::<Pushed>(body)?.data, registry);
            }
            if !is_about_images(&kind) {
                return Ok(Event::ignored(&kind));
            }
            (kind, serde_json::from_slice::<Structured>(body)?.data)
        }
    };
    hint(&data, registry).map(|hint| Event::Images(vec![hint])).map_err(|why| Malformed::field(&short(&kind), why))
}

fn is_about_images(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    kind.contains("container") || kind.contains("image")
}

fn short(kind: &str) -> String {
    crate::domain::excerpt::excerpt(kind, 80)
}

fn hint(data: &Data, registry: Option<&str>) -> Result<Hint, Malformed> {
    let path = data.repository_name.get().or(data.repository.get());
    let path = path.ok_or_else(|| Malformed::missing("data.repositoryName"))?;
    let host = data.registry_url.get().or(data.registry.get());
    let repository = repository(registry, host, path, "data.repositoryName")?;
    let tag = data.image_tag.tag().or_else(|| data.tag.tag());
    let digest = data.image_digest.digest().or_else(|| data.digest.digest());
    Ok(Hint { tag, digest, ..Hint::of(repository) })
}
