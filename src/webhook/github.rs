//! GitHub: its container registry, `package` of repositories and organisations and `registry_package` of apps; and
//! `pull_request`.

use serde::Deserialize;

use super::{
    Event, Headers, Malformed, pull_request,
    text::{Text, bare_host, or_default, reference},
};
use crate::domain::{hint::Hint, image, pull_request::Provider};

#[derive(Deserialize)]
struct Body {
    #[serde(default)]
    action: Text,
    package: Option<Package>,
    registry_package: Option<Package>,
}

#[derive(Deserialize)]
struct Package {
    #[serde(default)]
    name: Text,
    #[serde(default)]
    ecosystem: Text,
    #[serde(default, rename = "package_type")]
    kind: Text,
    #[serde(default)]
    html_url: Text,
    #[serde(default, deserialize_with = "or_default")]
    owner: Owner,
    #[serde(default, rename = "package_version", deserialize_with = "or_default")]
    latest: Version,
}

#[derive(Deserialize, Default)]
struct Owner {
    #[serde(default)]
    login: Text,
}

#[derive(Deserialize, Default)]
struct Version {
    #[serde(default, rename = "version")]
    name: Text,
    #[serde(default)]
    package_url: Text,
    #[serde(default, deserialize_with = "or_default")]
    container_metadata: Container,
}

#[derive(Deserialize, Default)]
struct Container {
    #[serde(default, deserialize_with = "or_default")]
    tag: Tag,
    #[serde(default, deserialize_with = "or_default")]
    manifest: Manifest,
}

#[derive(Deserialize, Default)]
struct Tag {
    #[serde(default)]
    name: Text,
    #[serde(default)]
    digest: Text,
}

#[derive(Deserialize, Default)]
struct Manifest {
    #[serde(default)]
    digest: Text,
}

pub(super) fn parse(headers: &Headers, body: &[u8]) -> Result<Event, Malformed> {
    let name = headers.get("x-github-event").ok_or_else(|| Malformed::missing("the header X-GitHub-Event"))?;
    if name == "pull_request" {
        return pull_request::parse(Provider::GitHub, body);
    }
    if !matches!(name, "package" | "registry_package") {
        return Ok(Event::ignored(name));
    }
    let body: Body = serde_json::from_slice(body)?;
    let action = body.action.get().unwrap_or_default();
    if !matches!(action, "published" | "updated") {
        return Ok(Event::ignored(&format!("{name} {action}")));
    }
    let package = body.package.or(body.registry_package).ok_or_else(|| Malformed::missing(name))?;
    // Old examples of theirs call it docker.
    let is_container = |kind: &Text| {
        kind.get().is_some_and(|kind| ["container", "docker"].iter().any(|word| kind.eq_ignore_ascii_case(word)))
    };
    if !is_container(&package.ecosystem) && !is_container(&package.kind) {
        let kind = package.kind.get().or(package.ecosystem.get()).unwrap_or_default();
        return Ok(Event::ignored(&format!("{name} of type {kind}")));
    }
    let Version { name, container_metadata: container, .. } = &package.latest;
    // A manifest below an index, and an attestation, have no tag. The version is a digest, and never one.
    let digests = [&container.tag.digest, &container.manifest.digest, name];
    Ok(Event::Images(vec![Hint {
        tag: container.tag.name.tag(),
        digest: digests.into_iter().find_map(Text::digest),
        link: package.html_url.link(),
        ..Hint::of(repository(&package)?)
    }]))
}

/// The address to pull from says it best. It ends with a colon where there is no tag, and keeps the upper case of names.
fn repository(package: &Package) -> Result<image::Repository, Malformed> {
    let address = package.latest.package_url.get().map(|url| url.trim_end_matches(':').to_ascii_lowercase());
    let address = address.filter(|url| bare_host(url).contains('.'));
    if let Some(found) = address.and_then(|url| reference(&url).ok()) {
        return Ok(found.repository().clone());
    }
    let owner = package.owner.login.required("package.owner.login")?;
    let name = package.name.required("package.name")?;
    let name = format!("ghcr.io/{owner}/{name}").to_ascii_lowercase();
    name.parse().map_err(|why| Malformed::field("package", why))
}
