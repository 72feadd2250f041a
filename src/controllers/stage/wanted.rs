//! Which images should run: the sources against what the registries said. Pure.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::sources::{NamedPolicy, Source, Which};
use crate::{
    controllers::images::{About, Answer, Dates, Known, Listing, Loss, Question, Refusal, Sighting, Wish},
    domain::{
        policy::{Dated, Verdict},
        release::{Release, ReleaseImage},
    },
};

/// Reason of what has not been answered yet, since this process began to ask.
const ASKING: &str = "AskingRegistry";

/// Reason of what is not chosen because a repository lost more of its tags than may be gone.
pub const SHRANK: &str = "TagListShrank";

/// Reason of a tag whose image cannot run.
pub const UNSUPPORTED: &str = "ImageUnsupported";

/// How many tags whose images cannot run are passed over for one service.
const PASSED_OVER: usize = 10;

/// Why, where no image differs.
pub const CONFIGURATION: &str = "configuration changed";

/// What follows from the sources.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolution {
    /// Images of the services that are known; complete unless something is `missing`.
    pub release: Release,
    /// What the registries are asked, and how.
    pub questions: BTreeMap<Question, Wish>,
    /// Services without an image, and why.
    pub missing: Vec<Missing>,
    /// Services that keep their image because a registry does not answer.
    pub stale: Vec<Missing>,
    /// Tags that would have been chosen and whose images cannot run.
    pub passed_over: Vec<(String, Missing)>,
    /// What the policy of the last service with one said.
    pub verdict: Option<Arc<Verdict>>,
    /// Something was asked for the first time and is not answered yet: a decision would be premature.
    pub asking: bool,
}

impl Resolution {
    /// One more question, or the same one for somebody else.
    pub fn ask(&mut self, question: Question, wish: Wish) {
        let wish = match self.questions.remove(&question) {
            Some(other) => other.and(&wish),
            None => wish,
        };
        self.questions.insert(question, wish);
    }
}

/// Why a service has no image, or no newer one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The service.
    pub service: String,
    /// One `CamelCase` word.
    pub reason: &'static str,
    /// What, where and what to do next.
    pub message: String,
    /// Whether it may come by itself. What does not needs a person.
    pub transient: bool,
}

/// Resolves. `current` is what serves (or was tried last), so that what is fixed stays fixed while registries are
/// away, and so that no policy moves below it. `known` reads the image book.
pub fn resolve(sources: &[Source], current: Option<&Release>, known: impl Fn(&Question) -> Known) -> Resolution {
    let mut out = Resolution::default();
    for source in sources {
        let held = current
            .and_then(|release| release.0.get(&source.service))
            .filter(|image| image.repository == source.repository.to_string());
        match one(source, held, &known, &mut out) {
            Ok(image) => {
                out.release.0.insert(source.service.clone(), image);
            }
            Err(missing) => {
                let asking = missing.reason == ASKING;
                out.asking |= asking;
                match held.filter(|_| !source.pinned && keeps(&source.which)) {
                    Some(held) => {
                        out.release.0.insert(source.service.clone(), held.clone());
                        out.stale.extend((!asking).then_some(missing));
                    }
                    None => out.missing.push(missing),
                }
            }
        }
    }
    out
}

/// Whether a service that cannot be resolved stays at what it has. A fixed tag that cannot be found is an error to
/// show, not to hide behind what ran before.
fn keeps(which: &Which) -> bool {
    matches!(which, Which::Policy(..) | Which::Follow(..))
}

fn one(
    source: &Source,
    held: Option<&ReleaseImage>,
    known: &impl Fn(&Question) -> Known,
    out: &mut Resolution,
) -> Result<ReleaseImage, Missing> {
    match &source.which {
        Which::Digest(digest) => Ok(image(source, None, digest.to_string())),
        Which::Tag(tag) => match held.filter(|held| held.tag.as_deref() == Some(tag)) {
            Some(held) => Ok(held.clone()),
            None => lookup(source, tag, None, known, out).map(|digest| image(source, Some(tag), digest)),
        },
        Which::Follow(tag, interval) => {
            lookup(source, tag, Some(*interval), known, out).map(|digest| image(source, Some(tag), digest))
        }
        Which::Policy(policy, interval) => newest(source, policy, *interval, held, known, out),
    }
}

/// What a policy chooses; `held` where that is nothing newer.
fn newest(
    source: &Source,
    policy: &NamedPolicy,
    interval: Duration,
    held: Option<&ReleaseImage>,
    known: &impl Fn(&Question) -> Known,
    out: &mut Resolution,
) -> Result<ReleaseImage, Missing> {
    let question = source.question(About::Tags);
    let answer = known(&question);
    out.ask(question, Wish { max_loss: source.max_tag_loss, ..Wish::every(Some(interval)) });
    let Some(Answer::Tags(listing)) = &answer.answer else {
        return Err(unanswered(source, "its tags", answer.refusal.as_ref()));
    };
    if let Some(refusal) = &answer.refusal {
        out.stale.push(refused(source, refusal));
    }
    if listing.loss().exceeds(source.max_tag_loss) {
        return Err(shrank(source, listing.loss()));
    }
    let dates = dates(source, policy, interval, (listing, held), known, out)?;
    let mut without = Vec::new();
    loop {
        let NamedPolicy { name, policy } = policy;
        let current = held.and_then(|held| held.tag.as_deref());
        let verdict = match &dates {
            None => listing.choose(name, policy, current, &without),
            Some(Read { dates, needed, runs }) => {
                listing.choose_dated(name, policy, (dates, needed), runs.as_ref(), &without)
            }
        };
        out.verdict = Some(verdict.clone());
        let Some(tag) = verdict.newer() else {
            return held.cloned().ok_or_else(|| Missing {
                service: source.service.clone(),
                reason: "NoMatchingTag",
                message: format!("service {}: {}", source.service, verdict.reason()),
                transient: true,
            });
        };
        // Looked up again and again until it serves: the tag of an image that failed may get a mended one.
        match lookup(source, tag, Some(interval), known, out) {
            Err(missing) if missing.reason == UNSUPPORTED && without.len() < PASSED_OVER => {
                without.push(tag.to_owned());
                out.passed_over.push((tag.to_owned(), missing));
            }
            found => return found.map(|digest| image(source, Some(tag), digest)),
        }
    }
}

/// What is known where dates decide.
struct Read {
    dates: Arc<Dates>,
    needed: Arc<[String]>,
    runs: Option<Dated>,
}

/// The dates that the policy needs, all of them; None when names alone decide.
fn dates(
    source: &Source,
    policy: &NamedPolicy,
    interval: Duration,
    (listing, held): (&Listing, Option<&ReleaseImage>),
    known: &impl Fn(&Question) -> Known,
    out: &mut Resolution,
) -> Result<Option<Read>, Missing> {
    let runs = held.map(|held| held.digest.as_str());
    let Some(needed) = listing.needed(&policy.name, &policy.policy, runs) else {
        return Ok(None);
    };
    let question = source.question(About::Dates(source.platform.clone()));
    let answer = known(&question);
    out.ask(question, Wish { dated: Some(needed.clone()), ..Wish::every(Some(interval)) });
    let Some(Answer::Dates(dates)) = answer.answer else {
        return if needed.is_empty() {
            Ok(Some(Read { dates: Arc::default(), needed, runs: None }))
        } else {
            Err(unanswered(source, "the dates of its images", answer.refusal.as_ref()))
        };
    };
    if let Some(refusal) = &answer.refusal {
        out.stale.push(refused(source, refusal));
    }
    let Source { service, repository, .. } = source;
    let read = dates.read(&needed);
    if read < needed.len() {
        return Err(Missing {
            service: service.clone(),
            reason: "ReadingTags",
            message: format!(
                "service {service}: {read} of {} tags read of {repository}: nothing is chosen before the dates of all of \
                 them are known",
                needed.len()
            ),
            transient: true,
        });
    }
    let runs = match held.and_then(|held| Some((held, dates.get(&held.digest)?))) {
        None => None,
        Some((held, Sighting { digest: Some(digest), created, unfit: None, .. })) => {
            let tag = held.tag.clone().unwrap_or_else(|| held.digest.clone());
            Some(Dated { tag, digest: *digest, created: *created })
        }
        Some((held, seen)) => {
            return Err(Missing {
                service: service.clone(),
                reason: "RunningImageUnknown",
                message: format!(
                    "service {service}: nothing can be called newer than {}, which runs and is not in {repository} any \
                     more ({}): pin a tag to go on",
                    held.digest,
                    seen.unfit.as_deref().unwrap_or("it has no digest")
                ),
                transient: false,
            });
        }
    };
    Ok(Some(Read { dates, needed, runs }))
}

fn image(source: &Source, tag: Option<&str>, digest: String) -> ReleaseImage {
    ReleaseImage { repository: source.repository.to_string(), tag: tag.map(Into::into), digest }
}

fn shrank(source: &Source, loss: Loss) -> Missing {
    let Source { service, repository, max_tag_loss, .. } = source;
    Missing {
        service: service.clone(),
        reason: SHRANK,
        message: format!(
            "service {service}: {repository} lists {} of its {} tags no more, which is more than the {max_tag_loss} % of \
             maxTagLoss: nothing is chosen until they are back, or until somebody accepts it with `stagekeeper images \
             accept PROJECT/STAGE {service}`",
            loss.gone, loss.of
        ),
        transient: true,
    }
}

fn lookup(
    source: &Source,
    tag: &str,
    interval: Option<Duration>,
    known: &impl Fn(&Question) -> Known,
    out: &mut Resolution,
) -> Result<String, Missing> {
    let question = source.question(About::Tag(tag.to_owned(), source.platform.clone()));
    let answer = known(&question);
    out.ask(question, Wish::every(interval));
    match &answer.answer {
        Some(Answer::Digest(digest)) => Ok(digest.to_string()),
        _ => Err(unanswered(source, tag, answer.refusal.as_ref())),
    }
}

fn unanswered(source: &Source, what: &str, refusal: Option<&Refusal>) -> Missing {
    match refusal {
        Some(refusal) => refused(source, refusal),
        None => Missing {
            service: source.service.clone(),
            reason: ASKING,
            message: format!("service {}: asking {} for {what}", source.service, source.repository),
            transient: true,
        },
    }
}

fn refused(source: &Source, refusal: &Refusal) -> Missing {
    Missing {
        service: source.service.clone(),
        reason: refusal.reason,
        message: format!("service {}: {}", source.service, refusal.message),
        transient: refusal.transient,
    }
}

/// Why a new deploy is made, in one sentence: what differs between the two releases.
pub fn cause(before: Option<&Release>, after: &Release, sources: &[Source]) -> String {
    let Some(before) = before else {
        return format!("first deploy: {}", after.summary());
    };
    let changed: Vec<String> = after
        .0
        .iter()
        .filter_map(|(service, image)| {
            let old = before.0.get(service);
            if old.is_some_and(|old| old.digest == image.digest && old.repository == image.repository) {
                return None;
            }
            let pinned = sources.iter().any(|source| source.service == *service && source.pinned);
            let version =
                |image: &ReleaseImage| image.tag.clone().unwrap_or_else(|| image.digest.chars().take(19).collect());
            let from = old.map_or_else(|| "nothing".to_owned(), version);
            // A tag that moved: only the digest tells the two apart.
            let moved = old.is_some_and(|old| version(old) == version(image));
            let to = if moved { image.digest.chars().take(19).collect() } else { version(image) };
            let how = if pinned { " (pinned)" } else { "" };
            Some(format!("{service} {from} → {to}{how}"))
        })
        .collect();
    if changed.is_empty() { CONFIGURATION.into() } else { changed.join(", ") }
}

#[cfg(test)]
mod tests;
