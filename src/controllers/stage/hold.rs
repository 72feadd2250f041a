//! What holds make of what is wanted. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{
    sources::{Source, Which},
    wanted::Resolution,
};
use crate::{domain::release::Release, store::Hold};

/// What becomes of the images that were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// Nothing is held.
    Free,
    /// A hold that a rollback made is over: somebody asks for something else, or there is something newer than what was left.
    Over {
        /// Why, in one sentence.
        why: String,
        /// The images that are wanted now.
        release: Release,
    },
    /// What policies found does not come.
    Stays {
        /// The images that are wanted instead.
        release: Release,
        /// Nothing is deployed while the declarations make this of them; none is whatever they make.
        settled: Settled,
        /// What is declared and does not run, with both digests.
        drift: Option<String>,
    },
}

/// For which snapshots nothing is deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// For none: a changed configuration is deployed.
    Never,
    /// For the one with this hash: nothing but the rollback has changed.
    On(String),
    /// For any: what the declarations made when the hold began is not known.
    Always,
}

impl Settled {
    /// Whether this snapshot is not deployed.
    pub fn covers(&self, hash: &str) -> bool {
        match self {
            Self::Never => false,
            Self::On(settled) => settled == hash,
            Self::Always => true,
        }
    }
}

/// The holds that count at `now`, oldest first.
pub fn active(holds: &[Hold], now: Timestamp) -> impl Iterator<Item = &Hold> {
    holds.iter().filter(move |hold| hold.expires_at.is_none_or(|end| end > now))
}

/// The tags and digests that are declared, by service: what a person asks for by writing it down.
pub fn declared(sources: &[Source]) -> BTreeMap<String, String> {
    let fixed = |source: &Source| match &source.which {
        Which::Tag(tag) => Some((source.service.clone(), tag.clone())),
        Which::Digest(digest) => Some((source.service.clone(), digest.to_string())),
        Which::Policy(..) | Which::Follow(..) => None,
    };
    sources.iter().filter_map(fixed).collect()
}

/// What the holds make of `found`. `beyond` is what would be found if what was left still ran: something else in it is
/// newer than that. `runs` is what serves or is on its way. `insisted`: somebody asked to try again.
pub fn keep(
    holds: &[&Hold],
    sources: &[Source],
    found: &Resolution,
    beyond: Option<&Resolution>,
    runs: Option<&Release>,
    insisted: bool,
) -> Kept {
    let Some(runs) = runs.filter(|_| !holds.is_empty()) else {
        return Kept::Free;
    };
    let by_hand = holds.iter().any(|hold| !hold.is_of_rollback());
    let of_rollback: Vec<&&Hold> = holds.iter().filter(|hold| hold.is_of_rollback()).collect();
    let wish = declared(sources);
    let changed = of_rollback.iter().any(|hold| hold.declared.as_ref().is_some_and(|before| *before != wish));
    if !of_rollback.is_empty() && (changed || insisted) {
        let why = if changed { "another image is declared" } else { "somebody asked to try again" };
        let release = if by_hand { without_followed(sources, &found.release, runs) } else { found.release.clone() };
        return Kept::Over { why: why.into(), release };
    }
    if of_rollback.is_empty() {
        let release = without_followed(sources, &found.release, runs);
        return Kept::Stays { release, settled: Settled::Never, drift: None };
    }
    if let (false, Some(beyond), Some(left)) = (by_hand, beyond, of_rollback.iter().find_map(|hold| hold.from.as_ref()))
        && let Some(newer) = newer(sources, beyond, left)
    {
        return Kept::Over { why: newer, release: beyond.release.clone() };
    }
    let settled = match of_rollback.iter().find_map(|hold| hold.settled_on.clone()) {
        Some(hash) => Settled::On(hash),
        None => Settled::Always,
    };
    Kept::Stays { release: runs.clone(), settled, drift: drift(sources, &found.release, runs) }
}

/// What something has to be newer than to end the hold of a rollback: what an earlier rollback left; else what was tried
/// last and did not succeed, which would come again otherwise; else what runs.
pub fn left(holds: &[&Hold], tried: Option<&Release>, runs: Option<&Release>) -> Option<Release> {
    let before = holds.iter().filter(|hold| hold.is_of_rollback()).find_map(|hold| hold.from.as_ref());
    before.or(tried).or(runs).cloned()
}

/// Whose a new hold is, which takes the place of one of the same owner: that of a rollback and one that somebody asked for
/// stay beside each other.
pub fn owner(holds: &[&Hold], name: String, of_rollback: bool) -> String {
    let is_taken = holds.iter().any(|hold| hold.owner == name && hold.is_of_rollback() != of_rollback);
    match (is_taken, of_rollback) {
        (false, _) => name,
        (true, true) => format!("{name} (rollback)"),
        (true, false) => format!("{name} (by hand)"),
    }
}

/// What is found, but for what policies follow: that stays as it runs.
fn without_followed(sources: &[Source], found: &Release, runs: &Release) -> Release {
    let mut release = found.clone();
    for source in sources.iter().filter(|source| source.is_followed()) {
        if let Some(image) = runs.0.get(&source.service) {
            release.0.insert(source.service.clone(), image.clone());
        }
    }
    release
}

fn newer(sources: &[Source], beyond: &Resolution, left: &Release) -> Option<String> {
    if beyond.asking || !beyond.missing.is_empty() {
        return None;
    }
    let differs =
        |source: &&Source| source.is_followed() && beyond.release.0.get(&source.service) != left.0.get(&source.service);
    sources.iter().find(differs)?;
    Some(format!("{} is newer than {}, which was left", beyond.release.summary(), left.summary()))
}

/// What is declared and is not what runs: a rollback has gone over it.
fn drift(sources: &[Source], found: &Release, runs: &Release) -> Option<String> {
    let of = |source: &Source| {
        let (asked, runs) = (found.0.get(&source.service)?, runs.0.get(&source.service)?);
        if source.is_followed() || asked.digest == runs.digest {
            return None;
        }
        let tag = |image: &crate::domain::release::ReleaseImage| {
            image.tag.as_ref().map_or_else(String::new, |tag| format!("{tag} "))
        };
        Some(format!(
            "service {}: {}({}) is declared, {}({}) runs",
            source.service,
            tag(asked),
            asked.digest,
            tag(runs),
            runs.digest
        ))
    };
    let all: Vec<String> = sources.iter().filter_map(of).collect();
    (!all.is_empty()).then(|| all.join("; "))
}

#[cfg(test)]
mod laws;
#[cfg(test)]
mod tests;
