//! Which tag of a repository should run: pure rules that explain themselves.
//!
//! A [`TagPolicy`] rejects tags or gives each a rank; the highest rank wins. Three laws hold, whatever the policy:
//! the order is total, a lower tag never changes the winner, and the choice never moves below what runs, so a listing
//! that lost tags cannot downgrade anything. The names of tags decide, but for one rule: with `newest` the dates of the
//! images do ([`Dated`]).

mod extract;
mod ignore;
mod natural;
mod newest;
mod range;
mod spec;
mod verdict;
mod version;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use globset::GlobMatcher;
use regex::Regex;
use semver::Version;

use self::extract::Template;
use self::ignore::Ignore;
use self::natural::{Digits, Natural};
use self::range::{Fit, Range};
use self::verdict::Tally;
use self::version::version;
use super::image::is_tag;

pub use self::newest::Dated;
pub use self::spec::{Order, PolicyError, PolicySpec};
pub use self::verdict::{Candidate, Rejection, Verdict};
pub use self::version::NotAVersion;

/// A checked policy: a rule that ranks tags, and patterns of tags that never count.
#[derive(Debug, Clone)]
pub struct TagPolicy {
    rule: Rule,
    ignore: Ignore,
}

/// How tags are accepted and ordered.
#[derive(Debug, Clone)]
enum Rule {
    /// Versions within a range, by precedence.
    Semver { range: Range },
    /// Tags that match a pattern, in natural order unless another is given.
    Glob { pattern: GlobMatcher, order: Option<Order> },
    /// Tags that match a pattern, ordered by what is taken out of them.
    Regex { pattern: Regex, extract: Option<Template>, order: Order },
    /// Tags that are whole numbers.
    Numeric,
    /// Tags that match a pattern, by the date of creation of their images.
    Newest { pattern: GlobMatcher },
    /// One tag, followed as it moves from digest to digest.
    Digest { tag: String },
}

/// The place of a tag in its policy's order. Ranks of different rules never meet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Rank<'t> {
    Version(Version),
    Number(Digits<'t>),
    Natural(Natural<'t>),
    Text(Cow<'t, str>),
    Followed,
}

impl<'t> Rank<'t> {
    fn by<'p>(order: Order, key: Cow<'t, str>) -> Result<Self, Rejection<'p>> {
        match order {
            Order::Semver => match version(&key) {
                Ok(version) => Ok(Self::Version(version)),
                Err(why) => Err(Rejection::NotAVersion { why }),
            },
            Order::Numeric => Digits::parse(key).map(Self::Number).ok_or(Rejection::NotANumber),
            Order::Alphabetical => Ok(Self::Text(key)),
        }
    }
}

impl TagPolicy {
    /// Checks a policy as somebody wrote it.
    ///
    /// # Errors
    /// Names the field and what is wrong with it, also when no rule or several are given.
    pub fn parse(spec: &PolicySpec) -> Result<Self, PolicyError> {
        let ignore = Ignore::parse(&spec.ignore_tags)?;
        if spec.extract.is_some() && spec.regex.is_none() {
            return Err(PolicyError::new(
                "extract",
                "it takes a part of what regex matched: add regex, or remove extract",
            ));
        }
        if spec.order.is_some() && spec.regex.is_none() && spec.glob.is_none() {
            return Err(PolicyError::new(
                "order",
                "it sorts what glob or regex matched: add one of them, or remove order",
            ));
        }
        let mut rules = Vec::new();
        if let Some(range) = &spec.semver {
            let range = Range::parse(range).map_err(|why| PolicyError::new("semver", why))?;
            rules.push(("semver", Rule::Semver { range }));
        }
        if let Some(pattern) = &spec.glob {
            let pattern = ignore::glob("glob", pattern)?.compile_matcher();
            rules.push(("glob", Rule::Glob { pattern, order: spec.order }));
        }
        if let Some(pattern) = &spec.regex {
            let pattern = spec::regex(pattern)?;
            let extract = spec.extract.as_deref().map(|text| Template::parse(text, &pattern)).transpose();
            let extract = extract.map_err(|why| PolicyError::new("extract", why))?;
            rules.push(("regex", Rule::Regex { pattern, extract, order: spec.order.unwrap_or(Order::Semver) }));
        }
        if spec.numeric {
            rules.push(("numeric", Rule::Numeric));
        }
        if let Some(pattern) = &spec.newest {
            let pattern = ignore::glob("newest", pattern)?.compile_matcher();
            rules.push(("newest", Rule::Newest { pattern }));
        }
        if let Some(tag) = &spec.digest {
            if !is_tag(tag) {
                return Err(PolicyError::new("digest", "name one tag to follow, for example `latest`"));
            }
            rules.push(("digest", Rule::Digest { tag: tag.clone() }));
        }
        let named: Vec<&str> = rules.iter().map(|(name, _)| *name).collect();
        match (rules.pop(), named.as_slice()) {
            (Some((_, rule)), [_]) => Ok(Self { rule, ignore }),
            (None, _) => Err(PolicyError::new("policy", "name one of semver, glob, regex, numeric, newest and digest")),
            (Some(_), many) => {
                Err(PolicyError::new("policy", format!("{} are given: keep one of them", many.join(" and "))))
            }
        }
    }

    /// The tag that is followed by digest. With such a policy no listing is needed: resolve this tag.
    pub fn followed_tag(&self) -> Option<&str> {
        match &self.rule {
            Rule::Digest { tag } => Some(tag),
            _ => None,
        }
    }

    /// The tag that should run, given what the registry lists and what runs now.
    ///
    /// `current` is the tag of what runs. It is never left for an older one, listed or not, within the range or not:
    /// going back is an explicit request, not a policy. Where dates decide, [`TagPolicy::choose_dated`] does this; here no
    /// tag counts then.
    pub fn choose<T: AsRef<str>>(&self, tags: &[T], current: Option<&str>) -> Verdict {
        let mut tally = Tally::default();
        let mut newest: Option<(Rank<'_>, &str)> = None;
        for tag in tags.iter().map(AsRef::as_ref) {
            match self.rank(tag) {
                Err(rejection) => tally.reject(&rejection),
                Ok(rank) => {
                    tally.accept();
                    let candidate = (rank, tag);
                    if newest.as_ref().is_none_or(|best| *best < candidate) {
                        newest = Some(candidate);
                    }
                }
            }
        }
        let Some((rank, tag)) = newest else {
            let reason = format!("{} ({self})", tally.nothing());
            return match current {
                Some(running) => Verdict::Current { tag: running.to_owned(), reason },
                None => Verdict::Nothing { reason },
            };
        };
        let moves = |reason| Verdict::Newer { tag: tag.to_owned(), reason };
        let Some(running) = current else {
            return moves(format!("`{tag}` is the newest of {tally} ({self})"));
        };
        let stays = |reason| Verdict::Current { tag: running.to_owned(), reason };
        if running == tag {
            return stays(format!("`{tag}` runs and is the newest of {tally} ({self})"));
        }
        match self.against(&rank, tag, running) {
            Some(Ordering::Greater) => moves(format!("`{tag}` is newer than `{running}`, newest of {tally} ({self})")),
            Some(Ordering::Equal) => {
                stays(format!("`{running}` runs and is the same version as `{tag}`, newest of {tally} ({self})"))
            }
            Some(Ordering::Less) => stays(format!(
                "`{running}` runs and is newer than `{tag}`, the newest of {tally} ({self}); to go back, pin `{tag}`"
            )),
            None => {
                moves(format!("`{tag}` is the newest of {tally} ({self}), and `{running}` has no place in that order"))
            }
        }
    }

    /// Every tag with the reason it does not count, if there is one: accepted tags first, newest first, then the
    /// rejected in the order of their names.
    pub fn candidates<'a, T: AsRef<str>>(&'a self, tags: &'a [T]) -> Vec<Candidate<'a>> {
        self.ranked(tags.iter().map(AsRef::as_ref))
    }

    fn ranked<'a>(&'a self, tags: impl Iterator<Item = &'a str>) -> Vec<Candidate<'a>> {
        let (mut accepted, mut rejected) = (Vec::new(), Vec::new());
        for tag in tags {
            match self.rank(tag) {
                Ok(rank) => accepted.push((rank, tag)),
                Err(rejection) => rejected.push(Candidate { tag, rejection: Some(rejection) }),
            }
        }
        accepted.sort_unstable_by(|a, b| b.cmp(a));
        rejected.sort_unstable_by_key(|candidate| candidate.tag);
        accepted.into_iter().map(|(_, tag)| Candidate { tag, rejection: None }).chain(rejected).collect()
    }

    /// How two tags compare under this policy, whether or not it would accept them. None when one of them has no
    /// place in its order. Different tags of the same rank (`1.2.0`, `v1.2.0`) are equal.
    pub fn compare(&self, left: &str, right: &str) -> Option<Ordering> {
        Some(self.order(left).ok()?.cmp(&self.order(right).ok()?))
    }

    /// The rank of an acceptable tag.
    fn rank<'t>(&self, tag: &'t str) -> Result<Rank<'t>, Rejection<'_>> {
        if !is_tag(tag) {
            return Err(Rejection::NotATag);
        }
        // A followed tag is named outright, which is more explicit than any pattern.
        if self.followed_tag().is_none() {
            self.ignore.check(tag)?;
        }
        let rank = self.order(tag)?;
        if let (Rule::Semver { range }, Rank::Version(version)) = (&self.rule, &rank) {
            match range.fit(version) {
                Fit::Within => {}
                Fit::PreRelease => {
                    return Err(Rejection::PreRelease { range: range.text() });
                }
                Fit::Outside => {
                    return Err(Rejection::OutsideRange { range: range.text() });
                }
            }
        }
        Ok(rank)
    }

    /// The place of a tag in the order alone, without asking whether it is ignored or within the range.
    fn order<'t>(&self, tag: &'t str) -> Result<Rank<'t>, Rejection<'_>> {
        match &self.rule {
            Rule::Semver { .. } => version(tag).map(Rank::Version).map_err(|why| Rejection::NotAVersion { why }),
            Rule::Glob { pattern, order } if pattern.is_match(tag) => match order {
                None => Ok(Rank::Natural(Natural::of(tag))),
                Some(order) => Rank::by(*order, tag.into()),
            },
            Rule::Glob { pattern, .. } => Err(Rejection::NoMatch { pattern: pattern.glob().glob() }),
            Rule::Regex { pattern, extract, order } => {
                let no_match = || Rejection::NoMatch { pattern: pattern.as_str() };
                let key: Cow<'t, str> = match extract {
                    None if pattern.is_match(tag) => tag.into(),
                    None => return Err(no_match()),
                    Some(template) => template.expand(&pattern.captures(tag).ok_or_else(no_match)?).into(),
                };
                Rank::by(*order, key)
            }
            Rule::Numeric => Rank::by(Order::Numeric, tag.into()),
            Rule::Newest { pattern } if pattern.is_match(tag) => Err(Rejection::NotDated),
            Rule::Newest { pattern } => Err(Rejection::NoMatch { pattern: pattern.glob().glob() }),
            Rule::Digest { tag: followed } if tag == followed => Ok(Rank::Followed),
            Rule::Digest { tag: followed } => Err(Rejection::NotFollowed { tag: followed }),
        }
    }

    /// How the winner compares with what runs. When what runs comes from another policy and has no place in this
    /// one's order, versions are still compared as versions.
    fn against(&self, rank: &Rank<'_>, tag: &str, running: &str) -> Option<Ordering> {
        if let Ok(current) = self.order(running) {
            return Some(rank.cmp(&current));
        }
        if self.followed_tag().is_some() {
            return None;
        }
        Some(version(tag).ok()?.cmp(&version(running).ok()?)).filter(|order| order.is_lt())
    }
}

impl fmt::Display for TagPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Rule::Semver { range } => write!(f, "semver `{}`", range.text()),
            Rule::Glob { pattern, order: None } => write!(f, "glob `{}`", pattern.glob().glob()),
            Rule::Glob { pattern, order: Some(order) } => {
                write!(f, "glob `{}`, {order} order", pattern.glob().glob())
            }
            Rule::Regex { pattern, order, .. } => {
                write!(f, "regex `{}`, {order} order", pattern.as_str())
            }
            Rule::Numeric => f.write_str("numeric"),
            Rule::Newest { pattern } => write!(f, "newest of `{}`", pattern.glob().glob()),
            Rule::Digest { tag } => write!(f, "digest of `{tag}`"),
        }
    }
}

#[cfg(test)]
mod tests;
