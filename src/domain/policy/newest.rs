//! The rule of dates: of the tags that match, the one whose image was created last.

use std::cmp::Ordering;
use std::collections::HashSet;

use jiff::Timestamp;

use super::natural::Natural;
use super::verdict::Tally;
use super::{Candidate, Rejection, Rule, TagPolicy, Verdict};
use crate::domain::image::Digest;

/// How many of the tags are sorted: of a repository with more, nobody reads all dates.
const SORTED: usize = 1000;

/// A tag with what is known of its image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dated {
    /// The tag.
    pub tag: String,
    /// What it points to.
    pub digest: Digest,
    /// When the image was created, as its configuration says. None: it does not say.
    pub created: Option<Timestamp>,
}

/// What decides, and then what only makes the order total: images of one moment are in the order of their tags.
type Key<'a> = (Timestamp, Natural<'a>, &'a str);

impl TagPolicy {
    /// The tags whose images' dates are needed, each once, the likeliest to be new first: the last thousand in natural
    /// order, from the end, and then the others. None when names alone decide.
    pub fn dated<'t, T: AsRef<str>>(&self, tags: &'t [T]) -> Option<Vec<&'t str>> {
        if !matches!(self.rule, Rule::Newest { .. }) {
            return None;
        }
        let mut needed: Vec<(Natural<'t>, &'t str)> = tags
            .iter()
            .map(AsRef::as_ref)
            .filter(|tag| self.rank(tag) == Err(Rejection::NotDated))
            .map(|tag| (Natural::of(tag), tag))
            .collect();
        if needed.len() > SORTED {
            needed.select_nth_unstable_by(SORTED, |a, b| b.cmp(a));
        }
        let likely = needed.len().min(SORTED);
        needed[..likely].sort_unstable_by(|a, b| b.cmp(a));
        let mut known = HashSet::with_capacity(needed.len());
        Some(needed.into_iter().map(|(_, tag)| tag).filter(|tag| known.insert(*tag)).collect())
    }

    /// The tag that should run, where dates decide. `current` is what runs; it is never left for an image that is older
    /// than it, and not for one of the same moment. Where names decide, this is [`TagPolicy::choose`].
    pub fn choose_dated(&self, dated: &[Dated], current: Option<&Dated>) -> Verdict {
        if !matches!(self.rule, Rule::Newest { .. }) {
            let tags: Vec<&str> = dated.iter().map(|it| it.tag.as_str()).collect();
            return self.choose(&tags, current.map(|it| it.tag.as_str()));
        }
        let mut tally = Tally::default();
        let mut newest: Option<(Key<'_>, &Dated)> = None;
        for candidate in dated {
            match self.key(candidate) {
                Err(rejection) => tally.reject(&rejection),
                Ok(key) => {
                    tally.accept();
                    if newest.as_ref().is_none_or(|(best, _)| *best < key) {
                        newest = Some((key, candidate));
                    }
                }
            }
        }
        let Some((_, winner)) = newest else {
            let reason = format!("{} ({self})", tally.nothing());
            return match current {
                Some(running) => Verdict::Current { tag: running.tag.clone(), reason },
                None => Verdict::Nothing { reason },
            };
        };
        let tag = &winner.tag;
        let moves = |reason| Verdict::Newer { tag: tag.clone(), reason };
        let Some(running) = current else {
            return moves(format!("`{tag}` was created last of {tally} ({self})"));
        };
        let stays = |reason| Verdict::Current { tag: running.tag.clone(), reason };
        let name = &running.tag;
        if running.digest == winner.digest {
            return stays(format!("`{name}` runs and was created last of {tally} ({self})"));
        }
        match running.created.map(|created| winner.created.cmp(&Some(created))) {
            Some(Ordering::Greater) => {
                moves(format!("`{tag}` was created after `{name}`, which runs, and last of {tally} ({self})"))
            }
            Some(Ordering::Equal) => {
                stays(format!("`{name}` runs and was created at the moment of `{tag}`, the last of {tally} ({self})"))
            }
            Some(Ordering::Less) => stays(format!(
                "`{name}` runs and was created after `{tag}`, the last of {tally} ({self}); to go back, pin `{tag}`"
            )),
            None => moves(format!("`{tag}` was created last of {tally} ({self}), and `{name}` has no known date")),
        }
    }

    /// As [`TagPolicy::candidates`], where dates decide.
    pub fn candidates_dated<'a>(&'a self, dated: &'a [Dated]) -> Vec<Candidate<'a>> {
        if !matches!(self.rule, Rule::Newest { .. }) {
            return self.ranked(dated.iter().map(|it| it.tag.as_str()));
        }
        let (mut accepted, mut rejected) = (Vec::new(), Vec::new());
        for it in dated {
            match self.key(it) {
                Ok(key) => accepted.push(key),
                Err(rejection) => rejected.push(Candidate { tag: &it.tag, rejection: Some(rejection) }),
            }
        }
        accepted.sort_unstable_by(|a, b| b.cmp(a));
        rejected.sort_unstable_by_key(|candidate| candidate.tag);
        accepted.into_iter().map(|(_, _, tag)| Candidate { tag, rejection: None }).chain(rejected).collect()
    }

    fn key<'a>(&self, dated: &'a Dated) -> Result<Key<'a>, Rejection<'_>> {
        match (self.rank(&dated.tag), dated.created) {
            (Err(Rejection::NotDated), Some(created)) => Ok((created, Natural::of(&dated.tag), &dated.tag)),
            (Err(rejection), _) => Err(rejection),
            (Ok(_), _) => Err(Rejection::NotDated),
        }
    }
}

#[cfg(test)]
mod tests;
