//! The gates of one deploy that waits.

use std::{collections::BTreeMap, fmt::Write as _};

use jiff::Timestamp;

use super::{
    APPROVALS, Approval, Approvals, Facts, GROUP, Gate, HOLD, Hold, Kind, Mark, Opening, QUEUE, Rules, SOAK, SUSPENDED,
    UPSTREAM, VETO, Verdict, WINDOW, opening,
    upstream::{self, Word, proven_at},
};
use crate::domain::{actor::Actor, deploy::Queue};

/// Every gate, always in this order: suspended, hold, veto, upstream, soak, approvals, window, group, queue.
pub fn gates(facts: &Facts, rules: &Rules, now: Timestamp) -> Vec<Gate> {
    vec![
        suspended(facts),
        hold(facts, rules, now),
        veto(facts),
        upstream(facts, rules),
        soak(facts, rules, now),
        approvals(facts, rules, now),
        window(facts, rules, now),
        group(facts),
        queue(facts),
    ]
}

fn suspended(facts: &Facts) -> Gate {
    let Some(what) = &facts.suspended else {
        return Gate::pass(SUSPENDED, "neither the stage nor its project is suspended");
    };
    let gate =
        Gate::closed(SUSPENDED, Verdict::Needs, format!("{what} is suspended"), "set spec.suspend to false to go on");
    Gate { blocker: Some(what.clone()), ..gate }
}

fn hold(facts: &Facts, rules: &Rules, now: Timestamp) -> Gate {
    let holds: Vec<&Hold> = facts.holds.iter().filter(|hold| hold.is_active(now)).collect();
    if holds.is_empty() {
        return Gate::pass(HOLD, "nobody holds the stage");
    }
    let told = |holds: &[&Hold]| holds.iter().map(|hold| hold.to_string()).collect::<Vec<_>>().join(", ");
    match facts.kind {
        Kind::Promotion if !facts.explicit => {}
        Kind::Promotion => return Gate::pass(HOLD, format!("{}; this deploy was asked for by name", told(&holds))),
        kind => return Gate::pass(HOLD, format!("{}; it does not stop {}", told(&holds), named(kind))),
    }
    let proven = proven_at(rules, &facts.upstreams);
    let newer = |from: &Mark| from.release != facts.release && proven.is_some_and(|proven| proven > from.at);
    let left: Vec<&Hold> = holds.iter().copied().filter(|hold| !hold.from.as_ref().is_some_and(newer)).collect();
    if left.is_empty() {
        return Gate::pass(HOLD, format!("{}; this release is newer than what was left, and ends it", told(&holds)));
    }
    let mut ends = Vec::new();
    ends.extend(
        left.iter().filter_map(|hold| Some(format!("with a release newer than {}", hold.from.as_ref()?.summary))),
    );
    ends.extend(left.iter().filter_map(|hold| Some(format!("at {}", hold.until?))));
    ends.push(format!("with: stagekeeper resume {}", facts.stage));
    ends.dedup();
    let until = left.iter().map(|hold| hold.until).reduce(|one, two| Some(one?.max(two?))).flatten();
    let verdict = until.map_or(Verdict::Needs, Verdict::WaitUntil);
    let gate = Gate::closed(HOLD, verdict, told(&left), format!("it ends {}", ends.join(", or ")));
    Gate { blocker: left.first().map(|hold| hold.owner.clone()), ..gate }
}

fn veto(facts: &Facts) -> Gate {
    let Some(reason) = &facts.veto else {
        return Gate::pass(VETO, "the release is not vetoed here");
    };
    let vetoed = format!("the release is vetoed here: {reason}");
    match facts.kind {
        Kind::Pin | Kind::Rollback => Gate::pass(VETO, format!("{vetoed}; it does not stop {}", named(facts.kind))),
        _ if facts.explicit => Gate::pass(VETO, format!("{vetoed}; this deploy was asked for by name")),
        _ => {
            let opens = format!(
                "it opens with: stagekeeper unveto {} --release {}; another release comes by itself",
                facts.stage,
                facts.release.short()
            );
            Gate::closed(VETO, Verdict::Refuse, vetoed, opens)
        }
    }
}

fn upstream(facts: &Facts, rules: &Rules) -> Gate {
    if let Some(gate) = free(UPSTREAM, facts) {
        return gate;
    }
    if rules.from.is_empty() {
        return Gate::pass(UPSTREAM, "releases come from the project's policies, not from other stages");
    }
    said(UPSTREAM, upstream::proof(rules, &facts.upstreams, facts.explicit))
}

fn soak(facts: &Facts, rules: &Rules, now: Timestamp) -> Gate {
    if let Some(gate) = free(SOAK, facts) {
        return gate;
    }
    if rules.from.is_empty() || rules.soak.is_zero() {
        return Gate::pass(SOAK, "no soak is asked for");
    }
    let gate = said(SOAK, upstream::soak(rules, &facts.upstreams, facts.explicit, now));
    passed_over(gate, facts)
}

fn approvals(facts: &Facts, rules: &Rules, now: Timestamp) -> Gate {
    if let Some(gate) = free(APPROVALS, facts) {
        return gate;
    }
    match &rules.approvals {
        Some(wanted) if wanted.required > 0 => passed_over(agreed(facts, wanted, now), facts),
        _ => Gate::pass(APPROVALS, "no approval is asked for"),
    }
}

/// Whether enough people agreed to this release, and still do.
fn agreed(facts: &Facts, wanted: &Approvals, now: Timestamp) -> Gate {
    let may = |approval: &&Approval| {
        matches!(approval.actor, Actor::User(_))
            && (wanted.groups.is_empty() || approval.groups.iter().any(|group| wanted.groups.contains(group)))
            && (wanted.allow_requester || approval.actor != facts.requester)
    };
    let ends = |approval: &Approval| {
        let by_rule = approval.at.saturating_add(wanted.expires).unwrap_or(Timestamp::MAX);
        approval.expires.map_or(by_rule, |expires| expires.min(by_rule))
    };
    let mut given: BTreeMap<String, &Approval> = BTreeMap::new();
    let (mut requesters, mut expired, mut unverified) = (false, 0_usize, 0_usize);
    for approval in facts.approvals.iter().filter(|approval| approval.release == facts.release) {
        if !approval.verified {
            unverified += 1;
        } else if approval.actor == facts.requester && !wanted.allow_requester {
            requesters = true;
        } else if may(&approval) && now < ends(approval) {
            given.insert(approval.actor.to_string(), approval);
        } else if may(&approval) {
            expired += 1;
        }
    }
    let names = given.keys().cloned().collect::<Vec<_>>().join(", ");
    let by = if names.is_empty() { "by nobody".to_owned() } else { format!("by {names}") };
    if given.len() >= wanted.required {
        return Gate::pass(APPROVALS, format!("approved {by}"));
    }
    let mut message = format!("approved {by}: {} of {}", given.len(), wanted.required);
    if expired > 0 {
        let _ = write!(message, ", {expired} expired");
    }
    if unverified > 0 {
        let _ = write!(message, ", {unverified} of which it is not certain who gave it");
    }
    if requesters {
        let _ = write!(message, ", and the approval of {}, who asked for it, does not count", facts.requester);
    }
    let missing = wanted.required - given.len();
    let who = match wanted.groups.as_slice() {
        [] => "whoever may approve".to_owned(),
        groups => format!("members of {}", groups.join(" or ")),
    };
    let who = match (&facts.requester, wanted.allow_requester) {
        (Actor::User(_), false) => format!("{who} other than {}", facts.requester),
        _ => who,
    };
    let opens =
        format!("{missing} more of {who}: stagekeeper approve {} --release {}", facts.stage, facts.release.short());
    Gate::closed(APPROVALS, Verdict::Needs, message, opens)
}

fn window(facts: &Facts, rules: &Rules, now: Timestamp) -> Gate {
    if facts.kind == Kind::Rollback {
        return Gate::pass(WINDOW, "a rollback does not wait for a window");
    }
    if rules.windows.is_empty() {
        return Gate::pass(WINDOW, "no windows are declared");
    }
    let gate = match opening(&rules.windows, now) {
        Opening::Open { by, until } => {
            let mut message = match by {
                Some(window) => format!("{window} is open"),
                None => "no deny window is open".to_owned(),
            };
            if let Some(until) = until {
                let _ = write!(message, " until {until}");
            }
            return Gate::pass(WINDOW, message);
        }
        Opening::Closed { by, opens } => {
            let message = match by {
                Some(window) => format!("{window} is open"),
                None => "no allow window is open".to_owned(),
            };
            let said = format!("deploys may begin at {opens}");
            let gate = Gate::closed(WINDOW, Verdict::WaitUntil(opens), message, said);
            Gate { blocker: by.map(|window| window.label().to_owned()), ..gate }
        }
        Opening::Never { searched } => Gate::closed(
            WINDOW,
            Verdict::Needs,
            format!("no instant until {searched} is within an allow window and outside of every deny window"),
            "correct spec.promotion.windows, or pass over them: stagekeeper promote --emergency",
        ),
    };
    passed_over(gate, facts)
}

fn group(facts: &Facts) -> Gate {
    match &facts.group {
        None => Gate::pass(GROUP, "it is not part of a group"),
        Some(group) if group.waits_for.is_empty() => {
            Gate::pass(GROUP, format!("every member of group {} is ready", group.id))
        }
        Some(group) => {
            let message = format!("group {} begins together, and waits for {}", group.id, group.waits_for.join("; "));
            let gate = Gate::closed(GROUP, Verdict::Needs, message, "it opens when all of them are ready");
            Gate { blocker: Some(group.id.to_string()), ..gate }
        }
    }
}

fn queue(facts: &Facts) -> Gate {
    match &facts.queue {
        Queue::Clear => Gate::pass(QUEUE, "no other deploy of the stage is before it"),
        Queue::Wait(waiting) => {
            let verdict = waiting.until.map_or(Verdict::Needs, Verdict::WaitUntil);
            let gate = Gate::closed(QUEUE, verdict, &waiting.message, "it opens by itself when that one ends");
            Gate { reason: waiting.reason.clone(), blocker: waiting.blocker.clone(), ..gate }
        }
        Queue::SupersededBy(newer) => {
            let message = format!("deploy {newer} is newer and takes its place");
            let gate = Gate::closed(QUEUE, Verdict::Refuse, message, "with spec.queue fifo both would begin");
            Gate { reason: "Superseded".into(), blocker: Some(newer.to_string()), ..gate }
        }
    }
}

/// The answer where nothing is asked of other stages and people.
fn free(name: &'static str, facts: &Facts) -> Option<Gate> {
    (facts.kind != Kind::Promotion).then(|| Gate::pass(name, format!("not asked of {}", named(facts.kind))))
}

fn named(kind: Kind) -> &'static str {
    match kind {
        Kind::Promotion => "a promotion",
        Kind::Pin => "what is pinned",
        Kind::Configuration => "a changed configuration of what serves",
        Kind::Rollback => "a rollback",
    }
}

fn said(name: &'static str, word: Word) -> Gate {
    match word.verdict {
        Verdict::Pass => Gate::pass(name, word.message),
        verdict => Gate::closed(name, verdict, word.message, word.opens),
    }
}

/// A closed gate is open in an emergency, and says who passed over it and why.
fn passed_over(gate: Gate, facts: &Facts) -> Gate {
    match &facts.emergency {
        Some(emergency) if !gate.is_open() => {
            let message = format!("passed over by {}: {} ({})", emergency.actor, emergency.reason, gate.message);
            Gate::pass(gate.name, message)
        }
        _ => gate,
    }
}

#[cfg(test)]
mod tests;
