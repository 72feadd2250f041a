//! The laws of gates and choices, each as a property over random facts, rules and instants.
//!
//! This file is longer than 500 lines because the laws share the generators of facts, rules and candidates.

use std::{collections::BTreeSet, time::Duration};

use jiff::{SignedDuration, Timestamp};
use proptest::{collection::vec, option, prelude::*};
use uuid::Uuid;

use super::*;
use crate::domain::{
    actor::Actor,
    deploy::{Queue, Waiting},
    release::ReleaseId,
};

const NAMES: [&str; 3] = ["dev", "qa", "staging"];

pub(super) fn at(minutes: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap() + SignedDuration::from_mins(minutes)
}

pub(super) fn release(number: u8) -> ReleaseId {
    ReleaseId(format!("{number:02x}").repeat(32))
}

fn user(number: u8) -> Actor {
    Actor::User(format!("user-{number}"))
}

prop_compose! {
    fn upstream(name: &'static str)(
        exists in prop::bool::weighted(0.9),
        first in option::weighted(0.8, -500i64..0),
        served in 0u64..90,
        serving in option::weighted(0.7, -90i64..1),
        unready in option::weighted(0.1, Just("web 0/1 ready".to_owned())),
        recovered in option::weighted(0.2, -90i64..1),
        veto in option::weighted(0.1, Just("web answers 500".to_owned())),
        went_back in option::weighted(0.1, Just("web 1.0.0".to_owned())),
    ) -> Upstream {
        let seen = first.is_some();
        Upstream {
            name: name.into(),
            exists,
            first: first.map(at),
            served: if seen { Duration::from_mins(served) } else { Duration::ZERO },
            serving_since: serving.filter(|_| seen).map(at),
            unready: unready.filter(|_| seen),
            recovered: recovered.filter(|_| seen).map(at),
            veto,
            went_back_to: went_back.filter(|_| seen && serving.is_none()),
        }
    }
}

fn upstreams() -> impl Strategy<Value = Vec<Upstream>> {
    (upstream(NAMES[0]), upstream(NAMES[1]), upstream(NAMES[2])).prop_map(|(a, b, c)| vec![a, b, c])
}

fn marks() -> impl Strategy<Value = Mark> {
    (0u8..8, -500i64..0).prop_map(|(number, minutes)| Mark {
        release: release(number),
        summary: format!("web 1.{number}.0"),
        at: at(minutes),
    })
}

fn holds() -> impl Strategy<Value = Vec<Hold>> {
    let hold = (0u8..3, option::of(-60i64..120), option::of(marks())).prop_map(|(number, until, from)| Hold {
        owner: format!("user-{number}"),
        actor: user(number),
        reason: "web 1.3.0 loses orders".into(),
        since: at(-30),
        until: until.map(at),
        from,
    });
    prop_oneof![2 => Just(Vec::new()), 1 => vec(hold, 1..3)]
}

fn approvals() -> impl Strategy<Value = Vec<Approval>> {
    let one = (0u8..3, 0u8..5, vec(0u8..3, 0..2), -90i64..0, option::of(-30i64..60), prop::bool::weighted(0.9))
        .prop_map(|(number, who, groups, given, expires, verified)| Approval {
            release: release(number),
            actor: user(who),
            verified,
            groups: groups.iter().map(|group| format!("group-{group}")).collect(),
            at: at(given),
            expires: expires.map(at),
        });
    vec(one, 0..6)
}

fn windows() -> impl Strategy<Value = Vec<Window>> {
    let one = (any::<bool>(), 0u8..24, 1u64..20).prop_map(|(deny, hour, hours)| {
        let spec = WindowSpec {
            name: None,
            action: if deny { Action::Deny } else { Action::Allow },
            schedule: Some(format!("0 {hour} * * *")),
            recurrence: None,
            time_zone: "Europe/Berlin".into(),
            duration: Duration::from_hours(hours),
        };
        Window::parse(&spec).unwrap()
    });
    vec(one, 0..3)
}

prop_compose! {
    pub(super) fn rules()(
        from in prop::sample::subsequence(NAMES.to_vec(), 0..=3),
        any: bool,
        auto: bool,
        soak in prop_oneof![Just(0u64), 1u64..120],
        approvals in option::of((0usize..4, vec(0u8..3, 0..3), 1u64..120, any::<bool>())),
        windows in windows(),
    ) -> Rules {
        Rules {
            from: from.into_iter().map(ToOwned::to_owned).collect(),
            require: if any { Require::Any } else { Require::All },
            auto,
            soak: Duration::from_mins(soak),
            approvals: approvals.map(|(required, groups, expires, allow_requester)| Approvals {
                required,
                groups: groups.iter().map(|group| format!("group-{group}")).collect(),
                expires: Duration::from_mins(expires),
                allow_requester,
            }),
            windows,
        }
    }
}

fn queues() -> impl Strategy<Value = Queue> {
    prop_oneof![
        3 => Just(Queue::Clear),
        1 => Just(Queue::Wait(Waiting {
            reason: "EarlierDeploy".into(),
            message: "deploy d1 is running (pulling)".into(),
            blocker: Some("d1".into()),
            until: None,
        })),
        1 => Just(Queue::SupersededBy(Uuid::from_u128(9))),
    ]
}

prop_compose! {
    pub(super) fn facts()(
        kind in prop_oneof![
            4 => Just(Kind::Promotion), 1 => Just(Kind::Pin), 1 => Just(Kind::Configuration), 1 => Just(Kind::Rollback),
        ],
        explicit: bool,
        suspended in option::weighted(0.2, Just("stage production".to_owned())),
        holds in holds(),
        veto in option::weighted(0.2, Just("web answers 500".to_owned())),
        upstreams in upstreams(),
        approvals in approvals(),
        requester in 0u8..5,
        emergency in option::weighted(0.2, Just(Emergency { actor: user(4), reason: "orders are lost".into() })),
        group in option::weighted(0.2, vec(Just("prod-us: 1 of 2 approvals".to_owned()), 0..2)),
        queue in queues(),
    ) -> Facts {
        Facts {
            stage: "production".into(),
            release: release(1),
            kind,
            explicit,
            suspended,
            holds,
            veto,
            upstreams,
            approvals,
            requester: user(requester),
            emergency,
            group: group.map(|waits_for| Group { id: Uuid::from_u128(7), waits_for }),
            queue,
        }
    }
}

/// How far a verdict is from open.
fn distance(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Pass => 0,
        Verdict::WaitUntil(_) => 1,
        Verdict::Needs => 2,
        Verdict::Refuse => 3,
    }
}

fn by_name<'g>(gates: &'g [Gate], name: &str) -> &'g Gate {
    gates.iter().find(|gate| gate.name == name).unwrap()
}

/// Makes one gate's facts and rules such that it is open.
fn open(name: &str, facts: &mut Facts, rules: &mut Rules, now: Timestamp) {
    match name {
        SUSPENDED => facts.suspended = None,
        HOLD => facts.holds.clear(),
        VETO => facts.veto = None,
        UPSTREAM => {
            for upstream in &mut facts.upstreams {
                upstream.exists = true;
                upstream.first.get_or_insert(now);
                upstream.veto = None;
                upstream.went_back_to = None;
            }
        }
        SOAK => {
            for upstream in &mut facts.upstreams {
                upstream.first.get_or_insert(now);
                upstream.served = rules.soak;
                upstream.unready = None;
            }
        }
        APPROVALS => rules.approvals = None,
        WINDOW => rules.windows.clear(),
        GROUP => facts.group = None,
        _ => facts.queue = Queue::Clear,
    }
}

proptest! {
    #[test]
    fn every_gate_answers_in_its_place_and_says_why(facts in facts(), rules in rules(), now in -60i64..200) {
        let gates = gates(&facts, &rules, at(now));
        let names: Vec<&str> = gates.iter().map(|gate| gate.name).collect();
        prop_assert_eq!(names, [SUSPENDED, HOLD, VETO, UPSTREAM, SOAK, APPROVALS, WINDOW, GROUP, QUEUE]);
        for gate in gates.iter().filter(|gate| !gate.is_open() && gate.reason != "Superseded") {
            let told = |wait: &&Wait| wait.gate == gate.name && wait.reason == gate.reason;
            prop_assert!(WAITS.iter().any(|wait| told(&wait)), "{} is not in WAITS", gate.reason);
        }
        for gate in &gates {
            prop_assert!(!gate.message.is_empty(), "{gate:?}");
            prop_assert_eq!(gate.is_open(), gate.opens.is_empty(), "{:?}", gate);
            if let Verdict::WaitUntil(until) = gate.verdict {
                prop_assert!(until > at(now), "{gate:?} waits for the past");
            }
        }
    }

    #[test]
    fn nothing_passes_a_closed_gate(facts in facts(), rules in rules(), now in -60i64..200) {
        let gates = gates(&facts, &rules, at(now));
        let all = verdict(&gates);
        prop_assert_eq!(all.verdict == Verdict::Pass, gates.iter().all(Gate::is_open));
        prop_assert_eq!(all.waiting.is_none(), all.verdict == Verdict::Pass);
        let worst = gates.iter().map(|gate| distance(gate.verdict)).max().unwrap();
        prop_assert_eq!(distance(all.verdict), worst);
        if let Some(waiting) = &all.waiting {
            prop_assert!(!waiting.reason.is_empty() && !waiting.message.is_empty());
            let speaks = gates.iter().any(|gate| gate.reason == waiting.reason && gate.verdict == all.verdict);
            prop_assert!(speaks, "{waiting:?}");
            prop_assert_eq!(waiting.until.is_some(), matches!(all.verdict, Verdict::WaitUntil(_)));
        }
        prop_assert_eq!(all.wake.is_some(), gates.iter().any(|gate| matches!(gate.verdict, Verdict::WaitUntil(_))));
        prop_assert!(all.wake.is_none_or(|wake| wake > at(now)));
    }

    #[test]
    fn opening_one_gate_closes_no_other(facts in facts(), rules in rules(), which in 0usize..9, now in -60i64..200) {
        let now = at(now);
        let before = gates(&facts, &rules, now);
        let (mut facts, mut rules) = (facts, rules);
        let name = before[which].name;
        open(name, &mut facts, &mut rules, now);
        let after = gates(&facts, &rules, now);
        prop_assert!(by_name(&after, name).is_open(), "{:?}", by_name(&after, name));
        for (before, after) in before.iter().zip(&after) {
            prop_assert!(distance(after.verdict) <= distance(before.verdict), "{name}: {before:?} became {after:?}");
        }
    }

    #[test]
    fn an_approval_makes_nothing_worse(facts in facts(), rules in rules(), more in approvals(), now in -60i64..200) {
        let before = gates(&facts, &rules, at(now));
        let mut facts = facts;
        facts.approvals.extend(more);
        let after = gates(&facts, &rules, at(now));
        for (before, after) in before.iter().zip(&after) {
            prop_assert!(distance(after.verdict) <= distance(before.verdict), "{before:?} became {after:?}");
        }
    }

    #[test]
    fn approvals_of_another_release_never_count(facts in facts(), rules in rules(), more in approvals(), now in -60i64..200) {
        let before = gates(&facts, &rules, at(now));
        let mut facts = facts;
        let others = more.into_iter().map(|approval| Approval { release: release(9), ..approval });
        facts.approvals.extend(others);
        prop_assert_eq!(before, gates(&facts, &rules, at(now)));
    }

    /// Counted once more, in the plainest way.
    #[test]
    fn as_many_different_people_as_are_asked_for(facts in facts(), rules in rules(), now in -60i64..200) {
        let facts = Facts { kind: Kind::Promotion, emergency: None, ..facts };
        let Some(wanted) = &rules.approvals else { return Ok(()) };
        let now = at(now);
        let mut people = BTreeSet::new();
        for approval in &facts.approvals {
            let in_time = now.duration_since(approval.at) < SignedDuration::try_from(wanted.expires).unwrap()
                && approval.expires.is_none_or(|expires| now < expires);
            let in_group = wanted.groups.is_empty() || wanted.groups.iter().any(|group| approval.groups.contains(group));
            let other = wanted.allow_requester || approval.actor != facts.requester;
            if approval.release == facts.release && approval.verified && in_time && in_group && other {
                people.insert(approval.actor.to_string());
            }
        }
        let gates = gates(&facts, &rules, now);
        prop_assert_eq!(by_name(&gates, APPROVALS).is_open(), people.len() >= wanted.required);
    }

    #[test]
    fn what_has_soaked_stays_so_while_it_serves(facts in facts(), rules in rules(), now in -60i64..200, later in 0i64..500) {
        let answer = |now: i64| by_name(&gates(&facts, &rules, at(now)), SOAK).verdict;
        let (first, second) = (answer(now), answer(now + later));
        prop_assert!(distance(second) <= distance(first), "{first:?} became {second:?}");
        if let Verdict::WaitUntil(until) = first {
            let minutes = until.duration_since(at(0)).as_mins();
            prop_assert_eq!(answer(minutes), Verdict::Pass, "it is over when it says");
            if later > 0 && at(now + later) < until {
                prop_assert_eq!(second, first, "and until then it says the same");
            }
        }
    }

    #[test]
    fn a_wait_for_a_window_ends_when_it_says(rules in rules(), facts in facts(), now in -1_500i64..1_500) {
        let facts = Facts { emergency: None, ..facts };
        if let Verdict::WaitUntil(until) = by_name(&gates(&facts, &rules, at(now)), WINDOW).verdict {
            let minutes = until.duration_since(at(0)).as_mins();
            prop_assert!(by_name(&gates(&facts, &rules, at(minutes)), WINDOW).is_open());
            // A window may open only months later, when a clock is changed: then the first days, and the last minutes.
            for minute in (now..minutes.min(now + 1_000)).chain(minutes.max(now + 60) - 60..minutes) {
                prop_assert!(!by_name(&gates(&facts, &rules, at(minute)), WINDOW).is_open(), "open at minute {minute}");
            }
        }
    }

    #[test]
    fn an_emergency_opens_soak_approvals_and_windows_alone(facts in facts(), rules in rules(), now in -60i64..200) {
        let calm = Facts { emergency: None, kind: Kind::Promotion, ..facts };
        let emergency = Emergency { actor: user(4), reason: "orders are lost".into() };
        let urgent = Facts { emergency: Some(emergency), ..calm.clone() };
        for (calm, urgent) in gates(&calm, &rules, at(now)).iter().zip(&gates(&urgent, &rules, at(now))) {
            if [SOAK, APPROVALS, WINDOW].contains(&calm.name) && !calm.is_open() {
                prop_assert!(urgent.is_open());
                prop_assert!(urgent.message.starts_with("passed over by user:user-4: orders are lost"), "{urgent:?}");
            } else {
                prop_assert_eq!(calm, urgent);
            }
        }
    }

    /// What other stages and people say does not stop the way back.
    #[test]
    fn a_rollback_waits_for_its_turn_alone(facts in facts(), rules in rules(), now in -60i64..200) {
        let facts = Facts { kind: Kind::Rollback, ..facts };
        for gate in gates(&facts, &rules, at(now)) {
            prop_assert!(gate.is_open() || [SUSPENDED, GROUP, QUEUE].contains(&gate.name), "{gate:?}");
        }
    }
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (upstreams(), option::weighted(0.1, Just("web answers 500".to_owned())));
    vec(one, 0..8).prop_map(|all| {
        let numbered = (0u8..).zip(all);
        let made = numbered.map(|(number, (upstreams, veto))| Candidate {
            release: release(number),
            summary: format!("web 1.{number}.0"),
            upstreams,
            veto,
        });
        made.collect()
    })
}

/// When a candidate was first proven, told from the rules alone.
fn proven(rules: &Rules, candidate: &Candidate) -> Option<Timestamp> {
    let firsts = candidate.upstreams.iter().filter(|upstream| rules.from.contains(&upstream.name)).map(|it| it.first);
    let known: Vec<Timestamp> = firsts.clone().flatten().collect();
    match rules.require {
        Require::All if firsts.clone().any(|first| first.is_none()) => None,
        Require::All => known.into_iter().max(),
        Require::Any => known.into_iter().min(),
    }
}

/// The facts of a deploy by policy of a candidate, on a stage where nothing else is in the way.
fn alone(candidate: &Candidate) -> Facts {
    Facts {
        stage: "production".into(),
        release: candidate.release.clone(),
        kind: Kind::Promotion,
        explicit: false,
        suspended: None,
        holds: Vec::new(),
        veto: candidate.veto.clone(),
        upstreams: candidate.upstreams.clone(),
        approvals: Vec::new(),
        requester: Actor::Policy,
        emergency: None,
        group: None,
        queue: Queue::Clear,
    }
}

proptest! {
    #[test]
    fn the_choice_is_the_newest_that_its_own_gates_let_through(
        all in candidates(), rules in rules(), current in option::of(marks()), holds in holds(), now in -60i64..200,
    ) {
        let now = at(now);
        let rules = Rules { approvals: None, windows: Vec::new(), ..rules };
        let choice = newest(&all, &rules, current.as_ref(), &holds, now);
        prop_assert!(!choice.reason.is_empty());
        let holds: Vec<&Hold> = holds.iter().filter(|hold| hold.is_active(now)).collect();
        let place = |mark: &Mark| {
            all.iter().find(|it| it.release == mark.release).and_then(|it| proven(&rules, it)).unwrap_or(mark.at)
        };
        let marks: Vec<&Mark> = current.iter().chain(holds.iter().filter_map(|hold| hold.from.as_ref())).collect();
        let above = |candidate: &Candidate| proven(&rules, candidate).is_some_and(|proven| {
            marks.iter().all(|mark| proven > place(mark) && mark.release != candidate.release)
        });
        let ready = |candidate: &Candidate| {
            let gates = gates(&alone(candidate), &rules, now);
            [VETO, UPSTREAM, SOAK].iter().all(|name| by_name(&gates, name).is_open())
        };
        let free = holds.iter().all(|hold| hold.from.is_some());
        let best = all.iter().filter(|it| free && above(it) && ready(it)).map(|it| proven(&rules, it)).max();
        match &choice.take {
            None => prop_assert_eq!(best, None, "{}", choice.reason),
            Some(take) => {
                let taken = all.iter().find(|it| it.release == take.release).unwrap();
                prop_assert!(free && above(taken) && ready(taken), "{}", choice.reason);
                prop_assert_eq!(Some(proven(&rules, taken)), best, "{}", choice.reason);
                prop_assert_eq!(take.ends_hold, !holds.is_empty());
            }
        }
        if let Some(coming) = &choice.coming {
            let it = all.iter().find(|it| it.release == coming.release).unwrap();
            prop_assert!(coming.ready_at > now && above(it) && !ready(it));
            prop_assert!(choice.wake.is_some_and(|wake| wake <= coming.ready_at));
            let then = gates(&alone(it), &rules, coming.ready_at);
            prop_assert!([VETO, UPSTREAM, SOAK].iter().all(|name| by_name(&then, name).is_open()));
        }
        prop_assert!(choice.wake.is_none_or(|wake| wake > now));
    }

    /// A hold's gate and the choice agree on what ends the hold.
    #[test]
    fn what_ends_a_hold_passes_its_gate(
        all in candidates(), rules in rules(), holds in holds(), current in option::of(marks()), now in -60i64..200,
    ) {
        let choice = newest(&all, &rules, current.as_ref(), &holds, at(now));
        if let Some(take) = choice.take {
            let candidate = all.iter().find(|it| it.release == take.release).unwrap();
            // What was left has the place that the choice gave it.
            let holds = holds.into_iter().map(|hold| {
                let from = hold.from.map(|from| {
                    let known = all.iter().find(|it| it.release == from.release);
                    let at = known.and_then(|it| proven(&rules, it)).unwrap_or(from.at);
                    Mark { at, ..from }
                });
                Hold { from, ..hold }
            });
            let facts = Facts { holds: holds.collect(), ..alone(candidate) };
            prop_assert!(by_name(&gates(&facts, &rules, at(now)), HOLD).is_open());
        }
    }

    #[test]
    fn circles_and_holes_are_found_as_by_trying_every_way(
        edges in prop::collection::btree_map(0u8..6, vec(0u8..7, 0..3), 1..6),
    ) {
        let name = |number: u8| format!("s{number}");
        let edges: Edges = edges
            .into_iter()
            .map(|(stage, from)| (name(stage), from.into_iter().map(name).collect()))
            .collect();
        for stage in edges.keys() {
            // Every way of so many steps that begins at the stage: in a graph of six names a longer one runs in circles.
            let mut reached: BTreeSet<String> = BTreeSet::new();
            let mut ways: Vec<Vec<String>> = vec![vec![stage.clone()]];
            let mut circles = BTreeSet::new();
            for _ in 0..8 {
                let mut longer = Vec::new();
                for way in &ways {
                    for source in edges.get(way.last().unwrap()).into_iter().flatten() {
                        reached.insert(source.clone());
                        if let Some(place) = way.iter().position(|seen| seen == source) {
                            circles.extend(way[place..].iter().cloned());
                        } else {
                            longer.push(way.iter().cloned().chain([source.clone()]).collect());
                        }
                    }
                }
                ways = longer;
            }
            let found = cycle(stage, &edges);
            prop_assert_eq!(found.is_some(), !circles.is_empty(), "{}: {:?}", stage, edges);
            if let Some(way) = found {
                prop_assert!(way.len() > 1 && way.first() == way.last());
                for step in way.windows(2) {
                    prop_assert!(edges[&step[1]].contains(&step[0]), "{way:?} follows no edge");
                }
                prop_assert_eq!(way[0] == *stage, circles.contains(stage), "its own circle comes first: {:?}", way);
            }
            let holes: BTreeSet<&String> = reached.iter().filter(|name| !edges.contains_key(*name)).collect();
            match unknown(stage, &edges) {
                None => prop_assert!(holes.is_empty()),
                Some(way) => {
                    prop_assert!(holes.contains(&way[0]) && way.last() == Some(stage));
                    for step in way.windows(2) {
                        prop_assert!(edges[&step[1]].contains(&step[0]));
                    }
                }
            }
        }
    }
}
