//! `JFrog` Artifactory.

use serde::Deserialize;

use super::{
    Event, Malformed,
    text::{Few, Text, or_default, repository},
};
use crate::domain::{
    hint::Hint,
    image::{Digest, Platform},
};

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    domain: Text,
    #[serde(default)]
    event_type: Text,
    #[serde(default, deserialize_with = "or_default")]
    data: Data,
    #[serde(default)]
    jpd_origin: Text,
}

#[derive(Deserialize, Default)]
struct Data {
    #[serde(default)]
    repo_key: Text,
    #[serde(default)]
    image_name: Text,
    #[serde(default)]
    tag: Text,
    #[serde(default)]
    sha256: Text,
    #[serde(default)]
    platforms: Few<Offered>,
}

#[derive(Deserialize)]
struct Offered {
    #[serde(default)]
    os: Text,
    #[serde(default)]
    architecture: Text,
}

pub(super) fn parse(body: &[u8], registry: Option<&str>) -> Result<Event, Malformed> {
    let body: Body = serde_json::from_slice(body)?;
    let (domain, kind) = (body.domain.get().unwrap_or_default(), body.event_type.get().unwrap_or_default());
    if (domain, kind) != ("docker", "pushed") {
        return Ok(Event::ignored(&format!("{domain} {kind}")));
    }
    let Data { repo_key, image_name, tag, sha256, platforms } = &body.data;
    let path = format!("{}/{}", repo_key.required("data.repo_key")?, image_name.required("data.image_name")?);
    let host = body.jpd_origin.get();
    if registry.or(host).is_none() {
        return Err(Malformed::new(
            "jpd_origin is missing: say in spec.webhooks[].registry what images call the registry",
        ));
    }
    let repository = repository(registry, host, &path, "data.repo_key and data.image_name")?;
    // Without the algorithm before it, as a file's.
    let plain = || sha256.get().and_then(|digits| format!("sha256:{digits}").parse::<Digest>().ok());
    let platform = match platforms.0.as_slice() {
        [one] => one.os.get().zip(one.architecture.get()).and_then(|(os, on)| Platform::new(os, on, None).ok()),
        _ => None,
    };
    let digest = sha256.digest().or_else(plain);
    Ok(Event::Images(vec![Hint { tag: tag.tag(), digest, platform, ..Hint::of(repository) }]))
}
