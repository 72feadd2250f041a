//! What the stages that a release comes from say about it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::{Require, Rules, Upstream, gate::Verdict};

/// What one stage, or all of them together, say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub verdict: Verdict,
    pub message: String,
    pub opens: String,
}

impl Word {
    fn new(verdict: Verdict, message: impl Into<String>, opens: impl Into<String>) -> Self {
        Self { verdict, message: message.into(), opens: opens.into() }
    }

    pub(super) fn is_open(&self) -> bool {
        self.verdict == Verdict::Pass
    }
}

/// When the required stages had first proven a release: the last of them with `all`, the first with `any`. None while one
/// is missing, and where nothing is required. Later is newer.
pub(super) fn proven_at(rules: &Rules, upstreams: &[Upstream]) -> Option<Timestamp> {
    let firsts: Vec<Option<Timestamp>> =
        rules.from.iter().map(|name| upstreams.iter().find(|it| it.name == *name)?.first).collect();
    match rules.require {
        Require::All if firsts.iter().all(Option::is_some) => firsts.into_iter().flatten().max(),
        Require::All => None,
        Require::Any => firsts.into_iter().flatten().min(),
    }
}

/// Whether the release has succeeded where it must have.
pub(super) fn proof(rules: &Rules, upstreams: &[Upstream], explicit: bool) -> Word {
    let words: Vec<Word> = named(rules, upstreams).iter().map(|upstream| proof_of(upstream, explicit)).collect();
    together(rules.require, words)
}

/// Whether it has served there for long enough. With `any`, only the stages that have proven it count, if there are any.
pub(super) fn soak(rules: &Rules, upstreams: &[Upstream], explicit: bool, now: Timestamp) -> Word {
    let mut asked = named(rules, upstreams);
    if rules.require == Require::Any && asked.iter().any(|upstream| proof_of(upstream, explicit).is_open()) {
        asked.retain(|upstream| proof_of(upstream, explicit).is_open());
    }
    together(rules.require, asked.iter().map(|upstream| soak_of(upstream, rules.soak, now)).collect())
}

/// The stages of the rules in their order; one that is not known does not exist.
fn named(rules: &Rules, upstreams: &[Upstream]) -> Vec<Upstream> {
    let found = |name: &String| upstreams.iter().find(|upstream| upstream.name == *name).cloned();
    rules.from.iter().map(|name| found(name).unwrap_or_else(|| Upstream::missing(name))).collect()
}

fn proof_of(upstream: &Upstream, explicit: bool) -> Word {
    let name = &upstream.name;
    if !upstream.exists {
        return Word::new(
            Verdict::Refuse,
            format!("there is no stage {name} in the project"),
            format!("make stage {name}, or correct spec.promotion.from"),
        );
    }
    if let Some(reason) = &upstream.veto {
        return Word::new(
            Verdict::Refuse,
            format!("vetoed on {name}: {reason}"),
            format!("promote another release, or lift the veto on {name}: stagekeeper unveto"),
        );
    }
    if upstream.first.is_none() {
        return Word::new(
            Verdict::Needs,
            format!("it has not succeeded on {name}"),
            format!("it opens when a deploy of it succeeds on {name}"),
        );
    }
    match &upstream.went_back_to {
        Some(older) if !explicit => Word::new(
            Verdict::Needs,
            format!("{name} went back from it to {older}"),
            format!("promote it by name, or deploy it on {name} again"),
        ),
        _ => Word::new(Verdict::Pass, format!("it succeeded on {name}"), ""),
    }
}

fn soak_of(upstream: &Upstream, soak: Duration, now: Timestamp) -> Word {
    let name = &upstream.name;
    let whole = span(soak);
    if upstream.first.is_none() {
        let opens = format!("it opens when it has served {whole} on {name}");
        return Word::new(Verdict::Needs, format!("it has not served on {name}"), opens);
    }
    let serving = upstream.serving_since;
    let served = upstream.served.saturating_add(
        serving.map_or(Duration::ZERO, |since| now.duration_since(since).max(SignedDuration::ZERO).unsigned_abs()),
    );
    if let (Some(_), Some(why)) = (serving, &upstream.unready) {
        let opens = format!("it opens when it is healthy on {name} again");
        return Word::new(Verdict::Needs, format!("it is not healthy on {name}: {why}"), opens);
    }
    let anew =
        upstream.recovered.map_or_else(String::new, |at| format!(" since {at}, when it was healthy there again"));
    if served >= soak {
        return Word::new(Verdict::Pass, format!("it served {} on {name}{anew}", span(served)), "");
    }
    let message = format!("it served {} of {whole} on {name}{anew}", span(served));
    match serving {
        Some(since) => {
            let until = since.saturating_add(soak.saturating_sub(upstream.served)).unwrap_or(Timestamp::MAX);
            Word::new(Verdict::WaitUntil(until), message, format!("it opens at {until} if it goes on serving there"))
        }
        None => Word::new(
            Verdict::Needs,
            format!("{message} until it was replaced there"),
            format!("deploy it on {name} again, or promote what serves there"),
        ),
    }
}

/// What several stages say together: the worst with `all`, the best with `any`.
fn together(require: Require, words: Vec<Word>) -> Word {
    let verdicts = words.iter().map(|word| word.verdict);
    let verdict = match require {
        Require::All => verdicts.reduce(Verdict::worse),
        Require::Any => verdicts.reduce(Verdict::better),
    };
    let verdict = verdict.unwrap_or(Verdict::Pass);
    let speak: Vec<&Word> = words.iter().filter(|word| word.is_open() == (verdict == Verdict::Pass)).collect();
    let joined = |text: fn(&Word) -> &str, with: &str| {
        let mut texts: Vec<&str> = speak.iter().map(|word| text(word)).filter(|text| !text.is_empty()).collect();
        texts.dedup();
        texts.join(with)
    };
    Word { verdict, message: joined(|word| &word.message, ", "), opens: joined(|word| &word.opens, "; ") }
}

/// A span of time as people write it, to the second: `1h30m`.
pub(super) fn span(time: Duration) -> String {
    let mut rest = time.as_secs();
    if rest == 0 {
        return "0s".into();
    }
    let mut text = String::new();
    for (unit, seconds) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
        if rest >= seconds {
            text += &(rest / seconds).to_string();
            text += unit;
            rest %= seconds;
        }
    }
    text
}
