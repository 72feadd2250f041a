//! When the images of tags were built: looked up a few at a time, remembered by digest.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::domain::{image::Digest, policy::Dated};

/// What was seen of some tags, and of digests that run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Dates(BTreeMap<String, Sighting>);

/// What was seen of one tag.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sighting {
    /// What it points to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// When that was built, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// Why it can be no candidate, if it cannot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unfit: Option<String>,
    /// When it was looked at last.
    pub looked_at: Timestamp,
}

impl Dates {
    /// What was seen of a tag.
    pub fn get(&self, tag: &str) -> Option<&Sighting> {
        self.0.get(tag)
    }

    /// Remembers what was seen of a tag.
    pub fn saw(&mut self, tag: &str, sighting: Sighting) {
        self.0.insert(tag.to_owned(), sighting);
    }

    /// The tags that can be chosen, as a policy takes them.
    pub fn dated<'w>(&self, wanted: impl Iterator<Item = &'w str>) -> Vec<Dated> {
        let one = |tag: &str| {
            let seen = self.0.get(tag).filter(|seen| seen.unfit.is_none())?;
            Some(Dated { tag: tag.to_owned(), digest: seen.digest?, created: seen.created })
        };
        wanted.filter_map(one).collect()
    }

    /// Forgets every tag that nobody asks for.
    pub fn keep(&mut self, wanted: &[String]) {
        let wanted: std::collections::HashSet<&String> = wanted.iter().collect();
        self.0.retain(|tag, _| wanted.contains(tag));
    }

    /// How many of these tags were looked at.
    pub fn read(&self, wanted: &[String]) -> usize {
        wanted.iter().filter(|tag| self.0.contains_key(*tag)).count()
    }

    /// The tags in the order in which to look at them: those that were never looked at, as they are given, then those for
    /// which it is longest ago.
    pub fn order<'w>(&self, wanted: &'w [String]) -> Vec<&'w str> {
        let mut all: Vec<&str> = wanted.iter().map(String::as_str).collect();
        all.sort_by_key(|tag| self.0.get(*tag).map(|seen| seen.looked_at));
        all
    }

    /// What is known by digest: when it was built, or why it is unfit.
    pub fn by_digest(&self) -> HashMap<Digest, &Sighting> {
        self.0.values().filter_map(|seen| Some((seen.digest?, seen))).collect()
    }

    /// Whether the tags point to the same images, whenever they were looked at.
    pub fn says_the_same_as(&self, other: &Self) -> bool {
        let same = |(mine, theirs): ((&String, &Sighting), (&String, &Sighting))| {
            mine.0 == theirs.0
                && (mine.1.digest, mine.1.created, &mine.1.unfit)
                    == (theirs.1.digest, theirs.1.created, &theirs.1.unfit)
        };
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(same)
    }
}
