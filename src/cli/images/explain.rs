//! Why a service has the image that it has: the same decision as the operator's, with its reasons.

use jiff::Timestamp;
use serde::Serialize;

use super::seen::Seen;
use crate::{
    cli::{
        history::ago,
        output::{Columns, fields},
    },
    controllers::{
        images::{About, Answer, Dates, Listing},
        stage::{
            sources::{NamedPolicy, Source, Which},
            wanted::{self, Missing, Resolution, SHRANK},
        },
    },
    domain::release::{Release, ReleaseImage},
};

/// Tags that are shown without `--all`.
const SHOWN: usize = 20;

/// Everything about one service.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The service.
    pub service: String,
    /// Its repository.
    pub repository: String,
    /// The platform that its image must have.
    pub platform: Option<String>,
    /// What decides, in words.
    pub policy: String,
    /// What runs or is on its way.
    pub runs: Option<Image>,
    /// What should run.
    pub chosen: Option<Image>,
    /// Why that, in a sentence.
    pub why: String,
    /// Nothing is chosen, and why.
    pub frozen: Option<String>,
    /// What went wrong.
    pub trouble: Vec<String>,
    /// How many tags there are.
    pub tags: Option<usize>,
    /// When the registry was asked last, or up to an hour before that.
    pub scanned_at: Option<Timestamp>,
    /// The tags, those that count first and newest first.
    pub candidates: Vec<Candidate>,
    /// How many more there are that are not shown.
    pub more: usize,
    /// What to do next.
    pub next: Vec<String>,
}

/// An image.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Image {
    /// Its tag.
    pub tag: Option<String>,
    /// Its digest.
    pub digest: String,
}

/// One tag, and what becomes of it.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// The tag.
    pub tag: String,
    /// When its image was built, where that counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// What becomes of it, and why.
    pub verdict: String,
}

impl From<&ReleaseImage> for Image {
    fn from(image: &ReleaseImage) -> Self {
        Self { tag: image.tag.clone(), digest: image.digest.clone() }
    }
}

impl std::fmt::Display for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.tag {
            Some(tag) => write!(f, "{tag} ({})", self.digest),
            None => f.write_str(&self.digest),
        }
    }
}

/// Explains the image of one service of the stage `place`.
pub fn explain(source: &Source, seen: &Seen, place: &str, all: bool) -> Explanation {
    let held = seen.current.as_ref().and_then(|release| release.0.get(&source.service));
    let held = held.filter(|image| image.repository == source.repository.to_string());
    let current = held.map(|held| Release([(source.service.clone(), held.clone())].into_iter().collect()));
    let resolution = wanted::resolve(std::slice::from_ref(source), current.as_ref(), |question| seen.known(question));
    let question = source.question(About::Tags);
    let found = resolution.release.0.get(&source.service);
    let (policy, why) = words(source, found, held);
    let troubles = || resolution.missing.iter().chain(&resolution.stale);
    let frozen = troubles().find(|one| matches!(one.reason, SHRANK | "ReadingTags" | "RunningImageUnknown"));
    let mut explanation = Explanation {
        service: source.service.clone(),
        repository: source.repository.to_string(),
        platform: source.platform.as_ref().map(ToString::to_string),
        policy,
        runs: held.map(Image::from),
        chosen: found.map(Image::from),
        why,
        frozen: frozen.map(|one| one.message.clone()),
        trouble: troubles().filter(|one| Some(one) != frozen.as_ref()).map(|one| one.message.clone()).collect(),
        tags: None,
        scanned_at: resolution.questions.keys().filter_map(|question| seen.scanned_at(question)).max(),
        candidates: Vec::new(),
        more: 0,
        next: Vec::new(),
    };
    if let (Which::Policy(policy, _), Some(Answer::Tags(listing))) = (&source.which, seen.known(&question).answer) {
        let dates = match seen.known(&source.question(About::Dates(source.platform.clone()))).answer {
            Some(Answer::Dates(dates)) => Some(dates),
            _ => None,
        };
        explanation.scanned_at = seen.scanned_at(&question);
        explanation.tags = Some(listing.tags().len());
        explanation.candidates = candidates(policy, &listing, dates.as_deref(), &resolution, found, held);
        explanation.why = reason(&resolution, policy, &listing, found, held);
        if !all {
            explanation.more = explanation.candidates.len().saturating_sub(SHOWN);
            explanation.candidates.truncate(SHOWN);
        }
    }
    explanation.next = next(&explanation, source, &resolution, frozen, place);
    explanation
}

/// What decides, and why, where no listing does.
fn words(source: &Source, found: Option<&ReleaseImage>, held: Option<&ReleaseImage>) -> (String, String) {
    let fixed = if source.pinned { "fixed on this stage" } else { "fixed in the Project" };
    let (policy, why) = match &source.which {
        Which::Policy(policy, _) => (policy.policy.to_string(), String::new()),
        Which::Follow(tag, _) => (format!("digest of `{tag}`"), format!("whatever `{tag}` points to")),
        Which::Tag(tag) => (format!("tag `{tag}`"), format!("`{tag}` is {fixed}")),
        Which::Digest(digest) => (format!("digest {digest}"), format!("it is {fixed}")),
    };
    match (found, held) {
        (None, _) => (policy, "nothing is chosen".into()),
        (Some(found), Some(held)) if found.digest == held.digest && why.is_empty() => (policy, "it stays".into()),
        _ => (policy, why),
    }
}

/// The sentence of the policy itself, as long as it is what decided.
fn reason(
    resolution: &Resolution,
    policy: &NamedPolicy,
    listing: &Listing,
    found: Option<&ReleaseImage>,
    held: Option<&ReleaseImage>,
) -> String {
    if let Some(verdict) = &resolution.verdict {
        return verdict.reason().to_owned();
    }
    let loss = listing.loss();
    if found.is_some() && held.is_some() {
        format!("what runs stays: nothing is chosen by {}", policy.policy)
    } else {
        format!("nothing is chosen by {} ({} of {} tags are gone)", policy.policy, loss.gone, loss.of)
    }
}

fn candidates(
    policy: &NamedPolicy,
    listing: &Listing,
    dates: Option<&Dates>,
    resolution: &Resolution,
    found: Option<&ReleaseImage>,
    held: Option<&ReleaseImage>,
) -> Vec<Candidate> {
    let tags: Vec<&str> = listing.tags().iter().collect();
    let dated = policy.policy.dated(&tags).map(|needed| dates.unwrap_or(&Dates::default()).dated(needed.into_iter()));
    let mut ranked = match &dated {
        None => policy.policy.candidates(&tags),
        Some(dated) => policy.policy.candidates_dated(dated),
    };
    if let Some(dated) = &dated {
        let known: std::collections::HashSet<&str> = dated.iter().map(|one| one.tag.as_str()).collect();
        let rest: Vec<&&str> = tags.iter().filter(|tag| !known.contains(**tag)).collect();
        ranked
            .extend(policy.policy.candidates(&tags).into_iter().filter(|one| rest.iter().any(|tag| **tag == one.tag)));
    }
    let is = |image: Option<&ReleaseImage>, tag: &str| image.is_some_and(|image| image.tag.as_deref() == Some(tag));
    let winner = found.and_then(|found| found.tag.as_deref()).unwrap_or("what runs");
    let cannot_run = |tag: &str| resolution.passed_over.iter().find(|(passed, _)| passed == tag);
    let verdict = |tag: &str, rejection: Option<String>| {
        if let Some((_, missing)) = cannot_run(tag) {
            return format!("passed over: {}", missing.message);
        }
        let unfit = dates.and_then(|dates| dates.get(tag)).and_then(|seen| seen.unfit.clone());
        match (is(held, tag), is(found, tag), unfit.or(rejection)) {
            (true, true, _) => "runs, and is chosen".into(),
            (false, true, _) => "chosen".into(),
            (true, false, None) => "runs".into(),
            (true, false, Some(why)) => format!("runs; {why}"),
            (false, false, Some(why)) => why,
            (false, false, None) if resolution.verdict.is_none() => "counts, and nothing is chosen now".into(),
            (false, false, None) => format!("not newer than `{winner}`"),
        }
    };
    let all = ranked.into_iter().map(|one| Candidate {
        created: dates.and_then(|dates| dates.get(one.tag)).and_then(|seen| seen.created),
        verdict: verdict(one.tag, one.rejection.map(|rejection| rejection.to_string())),
        tag: one.tag.to_owned(),
    });
    all.collect()
}

fn next(
    explanation: &Explanation,
    source: &Source,
    resolution: &Resolution,
    frozen: Option<&Missing>,
    place: &str,
) -> Vec<String> {
    let mut next = Vec::new();
    let service = &source.service;
    if resolution.asking {
        next.push(
            "the operator has not asked yet, or not stored what it heard: look again in a few seconds, and see \
             `stagekeeper doctor`"
                .into(),
        );
    }
    match frozen.map(|one| one.reason) {
        Some(SHRANK) => {
            next.push(
                "look at the registry: are the tags meant to be gone? It goes on by itself when they are back".into(),
            );
            next.push(format!("if they are, `stagekeeper images accept {place} {service}`"));
        }
        Some("ReadingTags") => {
            next.push("wait: up to 100 requests are made every ten seconds, at the registry's pace".into());
        }
        Some(_) => next.push(format!("pin a tag: spec.pin.{service} of the Stage")),
        None => {}
    }
    if explanation.chosen.is_none() && frozen.is_none() && !resolution.asking && explanation.trouble.is_empty() {
        next.push("push a tag that counts, or change the policy".into());
    }
    if explanation.chosen != explanation.runs && explanation.chosen.is_some() {
        next.push(format!(
            "`stagekeeper why {}` tells what a deploy of it waits for",
            place.rsplit('/').next().unwrap_or(place)
        ));
    }
    next
}

impl Explanation {
    /// As people read it.
    pub fn describe(&self, now: Timestamp) -> String {
        let image = |image: &Option<Image>| image.as_ref().map_or_else(|| "nothing".into(), ToString::to_string);
        let mut lines: Vec<(&str, String)> = vec![
            ("Service", self.service.clone()),
            ("Repository", self.repository.clone()),
            ("Policy", self.policy.clone()),
        ];
        lines.extend(self.platform.clone().map(|platform| ("Platform", platform)));
        lines.push(("Runs", image(&self.runs)));
        lines.push(("Chosen", image(&self.chosen)));
        lines.push(("Why", self.why.clone()));
        lines.extend(self.frozen.clone().map(|why| ("Frozen", why)));
        lines.extend(self.trouble.iter().map(|why| ("Trouble", why.clone())));
        let scanned = self.scanned_at.map_or_else(|| "never".into(), |at| format!("{} ago", ago(at, now)));
        let tags = self.tags.map(|tags| format!(", {tags} tags")).unwrap_or_default();
        lines.push(("Scanned", format!("{scanned}{tags}")));
        lines.extend(self.next.iter().map(|next| ("Next", next.clone())));
        let mut text = fields(&lines);
        if !self.candidates.is_empty() {
            let dated = self.candidates.iter().any(|one| one.created.is_some());
            let mut columns = Columns::new(if dated { &["TAG", "BUILT", "VERDICT"] } else { &["TAG", "VERDICT"] });
            for Candidate { tag, created, verdict } in &self.candidates {
                let built = created.map(|at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()).unwrap_or_default();
                let cells = [Some(tag.clone()), dated.then_some(built), Some(verdict.clone())];
                columns.row(cells.into_iter().flatten());
            }
            text.push('\n');
            text.push_str(&columns.render());
            if self.more > 0 {
                let more = self.more.to_string();
                text.extend(["and ", &more, " more (--all shows them)\n"]);
            }
        }
        text
    }
}
