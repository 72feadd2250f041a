//! The distribution registry's notifications, which GitLab's registry and others send as well: several events in each.

use serde::Deserialize;

use super::{
    Event, Malformed,
    text::{Few, Text, bare_host, or_default, repository},
};
use crate::domain::hint::Hint;

#[derive(Deserialize)]
struct Body {
    events: Option<Few<Push>>,
}

/// One event. Azure sends one by itself.
#[derive(Deserialize)]
pub(super) struct Push {
    #[serde(default)]
    pub(super) action: Text,
    #[serde(default, deserialize_with = "or_default")]
    pub(super) target: Target,
    #[serde(default, deserialize_with = "or_default")]
    request: Request,
}

#[derive(Deserialize, Default)]
pub(super) struct Target {
    #[serde(default)]
    repository: Text,
    #[serde(default)]
    pub(super) tag: Text,
    #[serde(default)]
    digest: Text,
    #[serde(default)]
    url: Text,
}

#[derive(Deserialize, Default)]
struct Request {
    #[serde(default)]
    host: Text,
}

impl Push {
    /// The image that was pushed. The registry is the one that the client asked for.
    pub(super) fn hint(&self, registry: Option<&str>) -> Result<Hint, Malformed> {
        let Target { repository: path, tag, digest, url } = &self.target;
        let path = path.required("target.repository")?;
        let host = self.request.host.get().or_else(|| url.get().map(bare_host));
        if registry.or(host).is_none() {
            return Err(Malformed::new(
                "request.host is missing: say in spec.webhooks[].registry what images call the registry",
            ));
        }
        let repository = repository(registry, host, path, "request.host and target.repository")?;
        Ok(Hint { tag: tag.tag(), digest: digest.digest(), ..Hint::of(repository) })
    }
}

pub(super) fn parse(body: &[u8], registry: Option<&str>) -> Result<Event, Malformed> {
    let body: Body = serde_json::from_slice(body)?;
    let Some(events) = body.events else { return Ok(Event::ignored("without events")) };
    // Layers, and what was pushed by digest alone, have no tag: nothing follows them.
    let pushes = events.0.iter().filter(|event| event.action.get() == Some("push") && event.target.tag.get().is_some());
    let (mut images, mut wrong) = (Vec::new(), None);
    for push in pushes {
        match push.hint(registry) {
            Ok(hint) => images.push(hint),
            // This sender repeats what is refused until it is not: one event must not keep the others back.
            Err(why) => wrong = Some(why),
        }
    }
    match wrong {
        Some(why) if images.is_empty() => Err(why),
        _ if images.is_empty() => {
            let first = events.0.first().and_then(|event| event.action.get()).unwrap_or("nothing");
            Ok(Event::ignored(&format!("{first} without a tag")))
        }
        _ => Ok(Event::Images(images)),
    }
}
