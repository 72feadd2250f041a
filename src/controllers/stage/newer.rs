//! Newer images than what a stage runs, for the update list: what its policies found, whether or not a deploy follows.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    sources::{self, Source, Which},
    wanted::{self, Resolution},
};
use crate::{
    api::{ProjectSpec, StageSpec},
    controllers::{
        context::Context,
        images::{Known, Question},
    },
    domain::{
        actor::Actor,
        image::Digest,
        release::Release,
        update::{SeenUpdate, followed},
    },
    render::Identity,
};

/// A newer image of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newer {
    /// The service.
    pub service: String,
    /// As it goes on the list.
    pub update: SeenUpdate,
}

/// What the list was told in this term, by service: nothing is told twice, so that a settled stage asks nothing of the
/// database.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Told(BTreeMap<String, Digest>);

impl Told {
    /// These are on the list.
    pub fn add(&mut self, newer: Vec<Newer>) {
        self.0.extend(newer.into_iter().map(|one| (one.service, one.update.new_digest)));
    }
}

/// The stage as it is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Its names.
    pub identity: &'a Identity,
    /// The project's declarations.
    pub project: &'a ProjectSpec,
    /// The stage's.
    pub stage: &'a StageSpec,
    /// What serves: what there may be something newer than.
    pub serves: Option<&'a Release>,
    /// The time.
    pub now: Timestamp,
}

impl Place<'_> {
    /// What is newer than what serves and was not told yet: of the images in `resolution` that are followed, and of what
    /// policies beneath pins would choose. For those the registries are asked as often as without the pin, which is added
    /// to the resolution's questions; nothing else of it changes.
    pub fn newer(
        &self,
        sources: &[Source],
        resolution: &mut Resolution,
        told: &Told,
        known: impl Fn(&Question) -> Known,
    ) -> Vec<Newer> {
        let mut newer = self.among(sources, &resolution.release, told);
        let beneath = self.beneath(sources);
        if !beneath.is_empty() {
            let unpinned = wanted::resolve(&beneath, self.serves, known);
            newer.extend(self.among(&beneath, &unpinned.release, told));
            for (question, wish) in unpinned.questions {
                resolution.ask(question, wish);
            }
        }
        newer
    }

    fn among(&self, sources: &[Source], found: &Release, told: &Told) -> Vec<Newer> {
        let one = |source: &Source| {
            let tag = match &source.which {
                Which::Follow(tag, _) => Some(tag.as_str()),
                _ if source.is_followed() => None,
                _ => return None,
            };
            let old = self.serves?.0.get(&source.service)?;
            let new = found.0.get(&source.service)?;
            let new_digest: Digest = new.digest.parse().ok()?;
            let is_news = old.repository == new.repository
                && old.digest != new.digest
                && told.0.get(&source.service) != Some(&new_digest);
            is_news.then(|| Newer {
                service: source.service.clone(),
                update: SeenUpdate {
                    image: followed(&source.repository, tag),
                    host: format!("{}/{}", self.identity.home(), self.identity.stage),
                    platform: source.platform.as_ref().map(ToString::to_string).unwrap_or_default(),
                    tag: new.tag.clone(),
                    old_digest: old.digest.parse().ok(),
                    new_digest,
                    created: None,
                    provider: String::new(),
                    link: None,
                    seen_by: Actor::Policy,
                    at: self.now,
                },
            })
        };
        sources.iter().filter_map(one).collect()
    }

    /// Where the images of pinned services would come from without the pin, as far as they would be followed.
    fn beneath(&self, sources: &[Source]) -> Vec<Source> {
        let pinned = |service: &str| sources.iter().any(|source| source.pinned && source.service == service);
        if !sources.iter().any(|source| source.pinned) {
            return Vec::new();
        }
        let mut stage = self.stage.clone();
        stage.pin.clear();
        for over in stage.services.values_mut() {
            (over.tag, over.digest) = (None, None);
        }
        // What is wrong beneath a pin does no harm while the pin is there.
        let unpinned = sources::sources(self.identity, self.project, &stage).unwrap_or_default();
        unpinned.into_iter().filter(|source| source.is_followed() && pinned(&source.service)).collect()
    }
}

/// Puts what no deploy was made for on the list. The list never holds a stage up: what could not be told is told with the
/// next pass.
pub async fn tell(ctx: &Context, told: &mut Told, newer: Vec<Newer>) {
    if newer.is_empty() {
        return;
    }
    let seen: Vec<SeenUpdate> = newer.iter().map(|one| one.update.clone()).collect();
    match ctx.store.updates_see(&seen).await {
        Ok(_) => told.add(newer),
        Err(error) => tracing::warn!(%error, "newer images are not on the update list yet"),
    }
}

#[cfg(test)]
mod tests;
