//! Which release a stage should take from the stages before it.

use jiff::Timestamp;

use super::{
    Hold, Mark, Require, Rules, Upstream, Verdict,
    upstream::{proof, proven_at, soak},
};
use crate::domain::release::ReleaseId;

/// A release that ran on one of the stages that another takes its releases from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The release.
    pub release: ReleaseId,
    /// What it is, for people: `web 1.4.2`.
    pub summary: String,
    /// How it fared there.
    pub upstreams: Vec<Upstream>,
    /// Why it is vetoed on the stage that is to take it.
    pub veto: Option<String>,
}

/// What a stage should do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The release to deploy.
    pub take: Option<Taken>,
    /// The newest one above it that becomes ready by itself.
    pub coming: Option<Coming>,
    /// The newest one above it that would come, were it not vetoed on the stage, where nothing else is coming.
    pub vetoed: Option<Vetoed>,
    /// When the choice may change by itself: the first of all that become ready, or the end of a hold.
    pub wake: Option<Timestamp>,
    /// Why, in one sentence.
    pub reason: String,
}

/// The release to deploy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The release.
    pub release: ReleaseId,
    /// What it is, for people.
    pub summary: String,
    /// It is newer than what a hold went back from, and so ends the hold.
    pub ends_hold: bool,
}

/// A release that is kept away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vetoed {
    /// What it is, for people.
    pub summary: String,
    /// Why it is vetoed.
    pub why: String,
}

/// A release on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coming {
    /// The release.
    pub release: ReleaseId,
    /// What it is, for people.
    pub summary: String,
    /// When it will be ready if it goes on serving.
    pub ready_at: Timestamp,
}

/// The newest release above what runs and above what a hold went back from, that is proven, has soaked and is not vetoed.
/// Newer is what was proven later for the first time; what runs is `current`. A hold without a release that the
/// stage went back from lets nothing come. Whether the stage promotes by itself (`rules.auto`) is for the caller to ask.
pub fn newest(
    candidates: &[Candidate],
    rules: &Rules,
    current: Option<&Mark>,
    holds: &[Hold],
    now: Timestamp,
) -> Choice {
    let holds: Vec<&Hold> = holds.iter().filter(|hold| hold.is_active(now)).collect();
    let mut choice = Choice { take: None, coming: None, vetoed: None, wake: None, reason: String::new() };
    choice.wake = holds.iter().filter_map(|hold| hold.until).min();
    if let Some(hold) = holds.iter().find(|hold| hold.from.is_none()) {
        choice.reason = hold.to_string();
        return choice;
    }
    let left = || holds.iter().filter_map(|hold| hold.from.as_ref()).chain(current);
    let placed = |mark: &Mark| {
        let known = candidates.iter().find(|candidate| candidate.release == mark.release);
        known.and_then(|candidate| proven_at(rules, &candidate.upstreams)).unwrap_or(mark.at)
    };
    let bar = left().map(placed).max();
    let stays = |candidate: &Candidate| left().any(|mark| mark.release == candidate.release);
    let mut newer: Vec<(Timestamp, &Candidate)> = candidates
        .iter()
        .filter(|candidate| !stays(candidate))
        .filter_map(|candidate| Some((proven_at(rules, &candidate.upstreams)?, candidate)))
        .filter(|(proven, _)| bar.is_none_or(|bar| *proven > bar))
        .collect();
    newer.sort_by(|(one, left), (two, right)| (two, &right.release).cmp(&(one, &left.release)));

    let mut why_not: Option<String> = None;
    for (_, candidate) in &newer {
        match state(candidate, rules, now) {
            Ok(None) => {
                let (release, summary) = (candidate.release.clone(), candidate.summary.clone());
                choice.take = Some(Taken { release, summary, ends_hold: !holds.is_empty() });
                break;
            }
            Ok(Some(ready_at)) => {
                choice.wake = Some(choice.wake.map_or(ready_at, |wake| wake.min(ready_at)));
                let (release, summary) = (candidate.release.clone(), candidate.summary.clone());
                choice.coming.get_or_insert(Coming { release, summary, ready_at });
            }
            Err(why) => {
                why_not.get_or_insert(format!("{} does not come: {why}", candidate.summary));
                let allowed = Candidate { veto: None, ..(*candidate).clone() };
                if let (Some(why), Ok(None)) = (&candidate.veto, state(&allowed, rules, now)) {
                    choice.vetoed.get_or_insert(Vetoed { summary: candidate.summary.clone(), why: why.clone() });
                }
            }
        }
    }
    if choice.take.is_some() || choice.coming.is_some() {
        choice.vetoed = None;
    }
    choice.reason = reason(&choice, rules, current, &holds, why_not);
    choice
}

/// Whether a candidate is ready: nothing, when it will be, or why it is not.
fn state(candidate: &Candidate, rules: &Rules, now: Timestamp) -> Result<Option<Timestamp>, String> {
    if let Some(why) = &candidate.veto {
        return Err(format!("vetoed here: {why}"));
    }
    let proven = proof(rules, &candidate.upstreams, false);
    if !proven.is_open() {
        return Err(proven.message);
    }
    if rules.soak.is_zero() {
        return Ok(None);
    }
    let soaked = soak(rules, &candidate.upstreams, false, now);
    match soaked.verdict {
        Verdict::Pass => Ok(None),
        Verdict::WaitUntil(until) => Ok(Some(until)),
        Verdict::Needs | Verdict::Refuse => Err(soaked.message),
    }
}

fn reason(choice: &Choice, rules: &Rules, current: Option<&Mark>, holds: &[&Hold], why_not: Option<String>) -> String {
    let with = if rules.require == Require::Any { " or " } else { " and " };
    let from = rules.from.join(with);
    let mut parts = Vec::new();
    match (&choice.take, current) {
        (Some(take), _) => parts.push(format!("{} is the newest that {from} let through", take.summary)),
        (None, Some(mark)) if choice.coming.is_none() && why_not.is_none() => {
            parts.push(format!("{} runs, and nothing newer has succeeded on {from}", mark.summary));
        }
        (None, Some(mark)) => parts.push(format!("{} runs", mark.summary)),
        (None, None) if choice.coming.is_none() && why_not.is_none() => {
            parts.push(format!("no release has succeeded on {from}"));
        }
        (None, None) => parts.push("nothing runs".to_owned()),
    }
    if let Some(coming) = &choice.coming {
        parts.push(format!("{} is ready at {} if it goes on serving", coming.summary, coming.ready_at));
    }
    parts.extend(why_not);
    for hold in holds {
        let from = hold.from.as_ref().map_or("", |from| &from.summary);
        parts.push(match choice.take {
            Some(_) => format!("it ends the hold of {}", hold.owner),
            None => format!("{hold}; only a release newer than {from} ends it"),
        });
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests;
