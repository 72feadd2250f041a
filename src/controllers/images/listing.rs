//! The tags of a repository: what it lists now, and what it listed when it was last believed.

use std::sync::{Arc, Mutex, PoisonError};

use super::dates::Dates;
use crate::domain::policy::{Dated, TagPolicy, Verdict};

/// Choices of one listing that are remembered; more are forgotten together.
const REMEMBERED: usize = 64;

/// Tags in the order in which they were given. One text, so that a repository with 10,000 tags is one piece of memory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TagList {
    /// The tags, one a line.
    text: Box<str>,
    count: usize,
}

impl TagList {
    /// From a text with one tag a line, as it is stored.
    pub fn from_lines(text: &str) -> Self {
        text.lines().collect()
    }

    /// One tag a line.
    pub fn lines(&self) -> &str {
        &self.text
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The tags.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.text.lines()
    }

    /// How many of these tags `later` does not have.
    fn lost_in(&self, later: &Self) -> usize {
        if self == later {
            return 0;
        }
        let has: std::collections::HashSet<&str> = later.iter().collect();
        self.iter().filter(|tag| !has.contains(tag)).count()
    }
}

impl<S: AsRef<str>> FromIterator<S> for TagList {
    fn from_iter<I: IntoIterator<Item = S>>(tags: I) -> Self {
        let mut text = String::new();
        let mut count = 0;
        for tag in tags {
            let tag = tag.as_ref();
            // No tag is empty or has a line break; whatever else claims to be one is none.
            if tag.is_empty() || tag.contains(['\n', '\r']) {
                continue;
            }
            if count > 0 {
                text.push('\n');
            }
            text.push_str(tag);
            count += 1;
        }
        Self { text: text.into(), count }
    }
}

/// What a repository lists, measured against what it listed when it was last believed.
#[derive(Debug)]
pub struct Listing {
    tags: Arc<TagList>,
    accepted: Arc<TagList>,
    lost: usize,
    chosen: Mutex<Vec<Choice>>,
    needed: Mutex<Vec<(Arc<str>, Option<String>, Arc<[String]>)>>,
}

/// A verdict, and what it was given.
#[derive(Debug)]
struct Choice {
    policy: Arc<str>,
    current: Option<String>,
    without: Vec<String>,
    dates: Option<Arc<Dates>>,
    verdict: Arc<Verdict>,
}

/// How much of a listing is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss {
    /// Tags that were there and are not any more.
    pub gone: usize,
    /// How many there were.
    pub of: usize,
}

impl Loss {
    /// In percent, rounded down.
    pub fn percent(self) -> usize {
        self.gone.saturating_mul(100).checked_div(self.of).unwrap_or_default()
    }

    /// Whether it is more than `share` percent.
    pub fn exceeds(self, share: u8) -> bool {
        self.gone.saturating_mul(100) > self.of.saturating_mul(share.into())
    }
}

impl PartialEq for Listing {
    fn eq(&self, other: &Self) -> bool {
        self.tags == other.tags && self.accepted == other.accepted
    }
}

impl Eq for Listing {}

impl Listing {
    /// The first listing of a repository: there is nothing to measure it against.
    pub fn new(tags: TagList) -> Self {
        let tags = Arc::new(tags);
        Self::of(tags.clone(), tags)
    }

    /// What is listed now, and what was listed when it was last believed.
    pub fn of(tags: Arc<TagList>, accepted: Arc<TagList>) -> Self {
        let lost = if Arc::ptr_eq(&tags, &accepted) { 0 } else { accepted.lost_in(&tags) };
        Self { tags, accepted, lost, chosen: Mutex::default(), needed: Mutex::default() }
    }

    /// The listing that follows this one. It is believed unless more than `share` percent of the believed tags are gone.
    #[must_use]
    pub fn followed_by(&self, tags: TagList, share: u8) -> Self {
        let tags = if tags == *self.tags { self.tags.clone() } else { Arc::new(tags) };
        let next = Self::of(tags, self.accepted.clone());
        if next.loss().exceeds(share) { next } else { next.believed() }
    }

    /// The same listing, believed whatever is gone from it.
    #[must_use]
    pub fn believed(&self) -> Self {
        Self::of(self.tags.clone(), self.tags.clone())
    }

    /// Whether this is what it was last believed to have.
    pub fn is_believed(&self) -> bool {
        Arc::ptr_eq(&self.tags, &self.accepted)
    }

    /// What is listed now.
    pub fn tags(&self) -> &Arc<TagList> {
        &self.tags
    }

    /// What was listed when it was last believed.
    pub fn accepted(&self) -> &Arc<TagList> {
        &self.accepted
    }

    /// What is gone since it was last believed.
    pub fn loss(&self) -> Loss {
        Loss { gone: self.lost, of: self.accepted.len() }
    }

    /// What `policy` chooses of it, without the tags that cannot run. `name` tells policies apart: the choice is
    /// remembered, because passes ask for the same one again and again.
    pub fn choose(
        &self,
        name: &Arc<str>,
        policy: &TagPolicy,
        current: Option<&str>,
        without: &[String],
    ) -> Arc<Verdict> {
        self.chosen(name, current, without, None, || {
            let tags: Vec<&str> = self.tags.iter().filter(|tag| !without.iter().any(|bad| bad == tag)).collect();
            policy.choose(&tags, current)
        })
    }

    /// As [`Self::choose`], where dates decide: those of `needed`.
    pub fn choose_dated(
        &self,
        name: &Arc<str>,
        policy: &TagPolicy,
        (dates, needed): (&Arc<Dates>, &[String]),
        current: Option<&Dated>,
        without: &[String],
    ) -> Arc<Verdict> {
        // A tag that moves runs under the same name: its digest tells.
        let runs = current.map(|current| current.digest.to_string());
        self.chosen(name, runs.as_deref(), without, Some(dates), || {
            let needed = needed.iter().map(String::as_str).filter(|tag| !without.iter().any(|bad| bad == tag));
            policy.choose_dated(&dates.dated(needed), current)
        })
    }

    /// The tags whose dates `policy` needs, and the digest that runs; None when names alone decide.
    pub fn needed(&self, name: &Arc<str>, policy: &TagPolicy, runs: Option<&str>) -> Option<Arc<[String]>> {
        policy.dated::<&str>(&[])?;
        let mut needed = self.needed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((.., tags)) = needed.iter().find(|(of, current, _)| of == name && current.as_deref() == runs) {
            return Some(tags.clone());
        }
        let tags: Vec<&str> = self.tags.iter().collect();
        let dated = policy.dated(&tags)?;
        let all: Arc<[String]> = runs.into_iter().chain(dated).map(str::to_owned).collect();
        if needed.len() >= REMEMBERED {
            needed.clear();
        }
        needed.push((name.clone(), runs.map(Into::into), all.clone()));
        Some(all)
    }

    fn chosen(
        &self,
        name: &Arc<str>,
        current: Option<&str>,
        without: &[String],
        dates: Option<&Arc<Dates>>,
        choose: impl FnOnce() -> Verdict,
    ) -> Arc<Verdict> {
        let asked = |choice: &&Choice| {
            choice.policy == *name
                && choice.current.as_deref() == current
                && choice.without == without
                && choice.dates.as_ref().map(Arc::as_ptr) == dates.map(Arc::as_ptr)
        };
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(choice) = chosen.iter().find(asked) {
            return choice.verdict.clone();
        }
        let verdict = Arc::new(choose());
        if chosen.len() >= REMEMBERED {
            chosen.clear();
        }
        let (current, without) = (current.map(Into::into), without.to_vec());
        let dates = dates.cloned();
        chosen.push(Choice { policy: name.clone(), current, without, dates, verdict: verdict.clone() });
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::policy::PolicySpec;

    fn tags(list: &[&str]) -> TagList {
        list.iter().collect()
    }

    #[test]
    fn a_list_is_what_was_put_into_it() {
        let list = tags(&["1.0.0", "", "a\nb", "latest"]);
        assert_eq!((list.len(), list.iter().collect::<Vec<_>>()), (2, vec!["1.0.0", "latest"]));
        assert_eq!(TagList::from_lines(list.lines()), list);
        assert!(tags(&[]).is_empty() && TagList::from_lines("") == tags(&[]));
    }

    #[test]
    fn a_listing_is_believed_until_more_is_gone_than_may_be() {
        let first = Listing::new(tags(&["1", "2", "3", "4"]));
        let half = first.followed_by(tags(&["1", "2", "5"]), 50);
        assert!(half.is_believed(), "half of it is not more than half");
        let less = first.followed_by(tags(&["1"]), 50);
        assert!(!less.is_believed());
        assert_eq!((less.loss(), less.loss().percent()), (Loss { gone: 3, of: 4 }, 75));
        let none = less.followed_by(tags(&[]), 50);
        assert_eq!(none.loss().percent(), 100, "what was believed stays the measure");
        let other = first.followed_by(tags(&["6", "7", "8", "9"]), 50);
        assert!(!other.is_believed(), "as many tags, and none of them known");
        let whole = none.followed_by(tags(&["2", "3", "4", "5"]), 50);
        assert!(whole.is_believed(), "it is whole again");
        assert!(none.believed().is_believed());
        assert!(first.followed_by(tags(&[]), 100).is_believed(), "who allows all to go is not asked");
        assert!(Listing::new(tags(&[])).followed_by(tags(&["1"]), 1).is_believed());
        assert_eq!(Loss { gone: 0, of: 0 }.percent(), 0);
    }

    #[test]
    fn a_choice_is_made_once_and_for_each_policy_and_current_tag() {
        let spec = |range: &str| PolicySpec { semver: Some(range.into()), ..PolicySpec::default() };
        let (one, two) = (spec(">=1"), spec("<2"));
        let (one, two) = (TagPolicy::parse(&one).unwrap(), TagPolicy::parse(&two).unwrap());
        let listing = Listing::new(tags(&["1.0.0", "1.1.0", "2.0.0"]));
        let chosen = |name: &str, policy: &TagPolicy, current: Option<&str>, without: &[&str]| {
            let without: Vec<String> = without.iter().map(|tag| (*tag).to_owned()).collect();
            listing.choose(&name.into(), policy, current, &without)
        };
        let first = chosen("one", &one, None, &[]);
        assert_eq!(first.newer(), Some("2.0.0"));
        assert!(Arc::ptr_eq(&first, &chosen("one", &one, None, &[])));
        assert_eq!(chosen("two", &two, None, &[]).newer(), Some("1.1.0"));
        assert_eq!(chosen("one", &one, None, &["2.0.0"]).newer(), Some("1.1.0"));
        assert_eq!(chosen("one", &one, Some("2.0.0"), &[]).newer(), None);
        for number in 0..200 {
            chosen("one", &one, Some(&format!("1.0.{number}")), &[]);
        }
        assert!(listing.chosen.lock().unwrap().len() <= REMEMBERED);
    }
}
