//! The laws of holds, over whatever may happen to a stage: a tool that applies the same manifests again and again, releases
//! that come, fail or are stopped, and people who go back, hold, resume, forbid and pin.

use std::collections::{BTreeMap, BTreeSet};

use proptest::{collection::vec, prelude::*};
use uuid::Uuid;

use super::*;
use crate::{
    api::Project,
    controllers::{
        fixture::{SHOP, at, read, release},
        stage::sources::sources,
    },
    domain::{
        actor::Actor,
        deploy::{Deploy, State},
        plan::{self, Known, Wanted},
        release::ReleaseId,
    },
    render::Identity,
};

/// How a release ends that nobody asks for by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Good,
    Bad,
    Stopped,
}

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// The same manifests are applied again.
    Applied,
    /// There is a newer release.
    Pushed(End),
    /// Time passes.
    Waited(i64),
    /// Back to one of those that succeeded.
    RolledBack {
        to: usize,
        who: u8,
    },
    Held {
        who: u8,
        seconds: Option<i64>,
    },
    Resumed,
    /// One of all releases is forbidden.
    Vetoed(u8),
    Unvetoed,
    /// Another image is declared; none is the policy again.
    Pinned(Option<usize>),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let end = prop_oneof![4 => Just(End::Good), 1 => Just(End::Bad), 1 => Just(End::Stopped)];
    let event = prop_oneof![
        3 => Just(Event::Applied),
        4 => end.prop_map(Event::Pushed),
        1 => (1i64..100).prop_map(Event::Waited),
        4 => (0usize..8, 0u8..2).prop_map(|(to, who)| Event::RolledBack { to, who }),
        2 => (0u8..2, prop::option::of(1i64..100)).prop_map(|(who, seconds)| Event::Held { who, seconds }),
        1 => Just(Event::Resumed),
        1 => (0u8..12).prop_map(Event::Vetoed),
        1 => Just(Event::Unvetoed),
        1 => prop::option::of(0usize..8).prop_map(Event::Pinned),
    ];
    vec(event, 1..40)
}

/// A stage, its registry, and what is remembered of it.
struct World {
    project: Project,
    sources: Vec<Source>,
    second: i64,
    /// The newest version there is.
    newest: u8,
    ends: BTreeMap<u8, End>,
    pinned: Option<u8>,
    generation: u8,
    deploys: Vec<(u8, Deploy, Option<String>)>,
    holds: Vec<Hold>,
    vetoed: BTreeSet<u8>,
}

impl World {
    fn new() -> Self {
        let (project, _) = read(SHOP);
        let mut world = Self {
            project,
            sources: Vec::new(),
            second: 0,
            newest: 1,
            ends: BTreeMap::from([(1, End::Good)]),
            pinned: None,
            generation: 0,
            deploys: Vec::new(),
            holds: Vec::new(),
            vetoed: BTreeSet::new(),
        };
        world.declare(None);
        world
    }

    fn declare(&mut self, pinned: Option<u8>) {
        let pin = pinned.map_or_else(|| "{}".into(), |minor| format!("{{web: 1.{minor}.0}}"));
        let (project, stage) = read(&SHOP.replace("  project: shop\n", &format!("  project: shop\n  pin: {pin}\n")));
        let identity = Identity { namespace: "acme".into(), home: None, project: "shop".into(), stage: "dev".into() };
        self.sources = sources(&identity, &project.spec, &stage.spec).unwrap();
        self.generation += u8::from(self.pinned != pinned);
        self.pinned = pinned;
    }

    fn images(&self, minor: u8) -> Release {
        release(&self.project, minor)
    }

    fn good(&self) -> Option<(u8, &Deploy)> {
        let mut all = self.deploys.iter().rev();
        all.find(|(_, deploy, _)| deploy.state == State::Success).map(|(minor, deploy, _)| (*minor, deploy))
    }

    fn runs(&self) -> Option<u8> {
        self.good().map(|(minor, _)| minor)
    }

    fn active(&self) -> Vec<Hold> {
        active(&self.holds, at(self.second)).cloned().collect()
    }

    fn is_held_by_hand(&self) -> bool {
        self.active().iter().any(|hold| !hold.is_of_rollback())
    }

    fn is_held_by_rollback(&self) -> bool {
        self.active().iter().any(Hold::is_of_rollback)
    }

    fn snapshot(minor: u8) -> String {
        format!("snapshot of 1.{minor}.0")
    }

    fn deploy(&mut self, minor: u8, end: End, request: Option<String>, back: bool) {
        let state = match end {
            End::Good => State::Success,
            End::Bad => State::RolledBack,
            End::Stopped => State::Aborted,
        };
        let now = at(self.second);
        let deploy = Deploy {
            id: Uuid::from_u128(self.deploys.len() as u128),
            target: Uuid::nil(),
            sequence: 1 + i64::try_from(self.deploys.len()).unwrap(),
            release: self.images(minor).id(),
            snapshot: Self::snapshot(minor),
            instance: "i".into(),
            state,
            since: now,
            version: 1,
            actor: Actor::Policy,
            cause: String::new(),
            reason: None,
            message: None,
            rollback_of: back.then_some(Uuid::nil()),
            evidence_at: None,
            created_at: now,
            finished_at: Some(now),
        };
        if request.is_some() {
            self.vetoed.remove(&minor);
        }
        if end == End::Bad {
            self.vetoed.insert(minor);
        }
        self.deploys.push((minor, deploy, request));
    }

    /// A pass, in the words of `decide`. Says which version was deployed, if one was.
    fn pass(&mut self) -> Option<u8> {
        let all = self.active();
        let holds: Vec<&Hold> = all.iter().collect();
        let runs = self.runs();
        let resolved = |minor| Resolution { release: self.images(minor), ..Resolution::default() };
        // No policy moves below what runs.
        let found = resolved(self.pinned.unwrap_or(self.newest.max(runs.unwrap_or(0))));
        let beyond = holds.iter().any(|hold| hold.from.is_some()).then(|| resolved(self.newest));
        let of_runs = runs.map(|minor| self.images(minor));
        let kept = keep(&holds, &self.sources, &found, beyond.as_ref(), of_runs.as_ref(), false);
        let (wanted, lifts, settled) = match kept {
            Kept::Free => (found.release, false, Settled::Never),
            Kept::Over { release, .. } => (release, true, Settled::Never),
            Kept::Stays { release, settled, .. } => (release, false, settled),
        };
        let minor = (0..=self.newest)
            .find(|minor| self.images(*minor).0.get("web").unwrap() == wanted.0.get("web").unwrap())
            .unwrap();
        if settled.covers(&Self::snapshot(minor)) {
            return None;
        }
        let request = self.pinned.map(|_| format!("pin:{}", self.generation));
        let vetoed: BTreeSet<ReleaseId> = self.vetoed.iter().map(|minor| self.images(*minor).id()).collect();
        let latest = self.deploys.last();
        let known = Known {
            latest: latest.map(|(_, deploy, _)| deploy),
            latest_request: latest.and_then(|(.., request)| request.as_deref()),
            good: self.good().map(|(_, deploy)| deploy),
            vetoed: &vetoed,
        };
        let of = self.images(minor).id();
        let held_back = plan::is_held_back(&of, request.is_some(), known);
        let tried = latest.is_some_and(|(_, deploy, _)| deploy.snapshot == Self::snapshot(minor));
        if held_back && tried {
            return None;
        }
        let wanted = Wanted { release: of, snapshot: Self::snapshot(minor), request: request.clone() };
        let needed = !held_back && plan::needs_deploy(&wanted, known);
        if needed {
            self.deploy(minor, self.ends[&minor], request, false);
        }
        if lifts {
            self.holds.retain(|hold| !hold.is_of_rollback());
        }
        needed.then_some(minor)
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Applied => self.declare(self.pinned),
            Event::Pushed(end) => {
                self.newest += 1;
                self.ends.insert(self.newest, end);
            }
            Event::Waited(seconds) => self.second += seconds,
            Event::RolledBack { to, who } => self.roll_back(to, who),
            Event::Held { who, seconds } => {
                let all = self.active();
                let name = Actor::User(who.to_string()).to_string();
                let owner = owner(&all.iter().collect::<Vec<_>>(), name, false);
                self.holds.retain(|hold| hold.owner != owner);
                let until = seconds.map(|seconds| at(self.second + seconds));
                let hold = self.hold(owner, Actor::User(who.to_string()));
                self.holds.push(Hold { expires_at: until, ..hold });
            }
            Event::Resumed => self.holds.clear(),
            Event::Vetoed(minor) => {
                if Some(minor) != self.runs() && minor <= self.newest {
                    self.vetoed.insert(minor);
                }
            }
            Event::Unvetoed => self.vetoed.clear(),
            Event::Pinned(index) => self.declare(index.map(|index| self.succeeded(index))),
        }
    }

    fn hold(&self, owner: String, actor: Actor) -> Hold {
        Hold {
            id: Uuid::nil(),
            target: Uuid::nil(),
            owner,
            actor,
            reason: String::new(),
            at: at(self.second),
            expires_at: None,
            from: None,
            settled_on: None,
            declared: None,
        }
    }

    /// A version that succeeded here.
    fn succeeded(&self, index: usize) -> u8 {
        let all: Vec<u8> = self.deploys.iter().filter(|one| one.1.state == State::Success).map(|one| one.0).collect();
        all[index % all.len()]
    }

    fn roll_back(&mut self, to: usize, who: u8) {
        let minor = self.succeeded(to);
        if Some(minor) == self.runs() {
            return;
        }
        let (all, actor) = (self.active(), Actor::User(who.to_string()));
        let holds: Vec<&Hold> = all.iter().collect();
        let good = self.good().map_or(0, |(_, deploy)| deploy.sequence);
        let mut after = self.deploys.iter().rev().take_while(|(_, deploy, _)| deploy.sequence > good);
        let tried = after.find(|(_, deploy, _)| deploy.rollback_of.is_none()).map(|(minor, ..)| self.images(*minor));
        let runs = self.runs().map(|minor| self.images(minor));
        let hold = Hold {
            from: left(&holds, tried.as_ref(), runs.as_ref()),
            settled_on: Some(Self::snapshot(minor)),
            declared: Some(declared(&self.sources)),
            ..self.hold(owner(&holds, actor.to_string(), true), actor)
        };
        self.holds.retain(|other| !other.is_of_rollback() && other.owner != hold.owner);
        self.holds.push(hold);
        self.deploy(minor, End::Good, Some(format!("request:{}", self.deploys.len())), true);
    }

    /// Passes until nothing is left to do. What was deployed is given.
    fn settle(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        for _ in 0..6 {
            let (before, holds) = (self.deploys.len(), self.holds.len());
            all.extend(self.pass());
            if (self.deploys.len(), self.holds.len()) == (before, holds) {
                return all;
            }
        }
        panic!("it does not come to rest: {all:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_hold_keeps_policies_away_until_it_ends(events in events()) {
        let mut world = World::new();
        world.settle();
        for event in events {
            let (by_hand, by_rollback) = (world.is_held_by_hand(), world.is_held_by_rollback());
            let (before, pinned, vetoed) = (world.runs(), world.pinned, world.vetoed.clone());
            let holds = world.holds.clone();
            world.happens(event);
            let (asked, now) = (world.runs(), world.is_held_by_hand());
            let deployed = world.settle();
            let says = || format!("after {event:?} {deployed:?} from {before:?}, held by {:?}", world.holds);

            // By itself a hold that somebody asked for ends when its time is over, and not otherwise.
            for hold in holds.iter().filter(|hold| !hold.is_of_rollback() && event != Event::Resumed) {
                let replaced = |other: &Hold| other.owner == hold.owner;
                prop_assert!(world.holds.iter().any(replaced), "{hold:?} went: {}", says());
            }
            match event {
                // A tool that applies the same again changes nothing, whatever happened before.
                Event::Applied => prop_assert_eq!(&deployed, &[0; 0], "{}", says()),
                // Going back is going back: nothing that was there comes by itself.
                Event::RolledBack { .. } => {
                    prop_assert_eq!(world.runs(), asked, "{}", says());
                    prop_assert_eq!(&deployed, &[0; 0], "{}", says());
                }
                Event::Held { .. } if world.pinned.is_none() => prop_assert_eq!(&deployed, &[0; 0], "{}", says()),
                Event::Vetoed(_) => prop_assert_eq!(&deployed, &[0; 0], "{}", says()),
                // Something newer ends the hold of a rollback, and no other.
                Event::Pushed(end) if world.pinned.is_none() => {
                    let comes = if now { vec![] } else { vec![world.newest] };
                    prop_assert_eq!(&deployed, &comes, "{}", says());
                    if end == End::Good && !now {
                        prop_assert_eq!(world.runs(), Some(world.newest));
                        prop_assert!(!world.is_held_by_rollback(), "{}", says());
                    }
                }
                _ => {}
            }
            if now && by_hand && world.pinned == pinned && !matches!(event, Event::RolledBack { .. }) {
                prop_assert_eq!(world.runs(), before, "{}", says());
            }
            if by_rollback && matches!(event, Event::Unvetoed | Event::Waited(_)) && world.is_held_by_rollback() {
                prop_assert_eq!(world.runs(), before, "{}", says());
            }
            let forbidden = |minor: &u8| vetoed.contains(minor) && world.pinned.is_none();
            prop_assert!(!deployed.iter().any(|minor| forbidden(minor) && event != Event::Unvetoed), "{}", says());
            if world.active().is_empty() && world.pinned.is_none() && world.ends[&world.newest] == End::Good
                && !world.vetoed.contains(&world.newest)
            {
                prop_assert_eq!(world.runs(), Some(world.newest), "{}", says());
            }
        }
    }
}
