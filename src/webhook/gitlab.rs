//! GitLab: the notifications of its own registry, and the hooks of projects: merge requests, and pipelines, whose end is the
//! closest to a pushed image.

use serde::Deserialize;

use super::{
    Event, Headers, Malformed, distribution, merge_request,
    text::{Text, bare_host, or_default, repository},
};
use crate::domain::hint::Hint;

/// Where projects of GitLab's own service have their images.
const REGISTRY: &str = "registry.gitlab.com";

#[derive(Deserialize)]
struct Body {
    #[serde(default, deserialize_with = "or_default")]
    object_attributes: Attributes,
    #[serde(default, deserialize_with = "or_default")]
    project: Project,
}

#[derive(Deserialize, Default)]
struct Attributes {
    #[serde(default)]
    status: Text,
}

#[derive(Deserialize, Default)]
struct Project {
    #[serde(default)]
    path_with_namespace: Text,
    #[serde(default)]
    web_url: Text,
}

pub(super) fn parse(headers: &Headers, body: &[u8], registry: Option<&str>) -> Result<Event, Malformed> {
    let Some(name) = headers.get("x-gitlab-event") else { return distribution::parse(body, registry) };
    if name == "Merge Request Hook" {
        return merge_request::parse(body);
    }
    if name != "Pipeline Hook" {
        return Ok(Event::ignored(name));
    }
    let body: Body = serde_json::from_slice(body)?;
    let status = body.object_attributes.status.get().unwrap_or_default();
    if status != "success" {
        return Ok(Event::ignored(&format!("{name} {status}")));
    }
    let path = body.project.path_with_namespace.required("project.path_with_namespace")?.to_ascii_lowercase();
    let is_theirs = body.project.web_url.get().map(bare_host) == Some("gitlab.com");
    let Some(host) = registry.or(is_theirs.then_some(REGISTRY)) else {
        return Ok(Event::ignored("Pipeline Hook: spec.webhooks[].registry does not say where its images are"));
    };
    let repository = repository(None, Some(host), &path, "project.path_with_namespace")?;
    Ok(Event::Images(vec![Hint::of(repository)]))
}
