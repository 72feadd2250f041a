//! What differs between what serves and what is wanted, and who is behind it. Pure.

use std::collections::BTreeMap;

use super::{sources::Source, wanted};
use crate::{
    controllers::vault::Holdings,
    domain::{actor::Actor, secret::SecretId},
    render::Snapshot,
};

/// Why a new deploy is made, in one sentence: images first, then secrets, never a value.
pub fn cause(before: Option<&Snapshot>, after: &Snapshot, sources: &[Source]) -> String {
    let images = wanted::cause(before.map(|before| &before.release), &after.release, sources);
    let Some(before) = before else { return images };
    let mut said = Vec::new();
    if before.release != after.release && images != wanted::CONFIGURATION {
        said.push(images);
    }
    let secrets = changes(before, after);
    for how in [Change::Changed, Change::Added, Change::Removed] {
        let ids: Vec<String> =
            secrets.iter().filter(|(_, change)| *change == how).map(|(id, _)| id.to_string()).collect();
        match &ids[..] {
            [] => {}
            [one] => said.push(format!("secret {one} {}", how.word())),
            several => said.push(format!("secrets {} {}", several.join(", "), how.word())),
        }
    }
    if said.is_empty() { wanted::CONFIGURATION.into() } else { said.join(", ") }
}

/// Who stored the value because of which there is a new deploy; none where more than values has changed.
pub fn keeper(before: Option<&Snapshot>, after: &Snapshot, held: &Holdings) -> Option<Actor> {
    let before = before?;
    if before.release != after.release {
        return None;
    }
    let mut last = None;
    for (id, change) in changes(before, after) {
        match (change, held.secrets.get(&id)) {
            (Change::Changed, Some(secret)) => last = Some(secret),
            _ => return None,
        }
    }
    last?.updated_by.parse().ok()
}

/// What became of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Changed,
    Added,
    Removed,
}

impl Change {
    const fn word(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Added => "added",
            Self::Removed => "removed",
        }
    }
}

/// The secrets of which another value is got now, or one for the first time, or none any more.
fn changes(before: &Snapshot, after: &Snapshot) -> Vec<(SecretId, Change)> {
    let of = |snapshot: &Snapshot| -> BTreeMap<SecretId, i64> {
        let all = snapshot.services.iter().flat_map(|service| &service.secrets);
        all.map(|one| (SecretId { name: one.name.clone(), service: one.service.clone() }, one.version)).collect()
    };
    let (before, after) = (of(before), of(after));
    let now = after.iter().filter_map(|(id, version)| match before.get(id) {
        None => Some((id.clone(), Change::Added)),
        Some(old) if old != version => Some((id.clone(), Change::Changed)),
        Some(_) => None,
    });
    let gone = before.keys().filter(|id| !after.contains_key(*id)).map(|id| (id.clone(), Change::Removed));
    now.chain(gone).collect()
}
