//! Whose turn it is: what is due, by registry host, so that no host takes the turns of another.
//!
//! A host is asked a few things at a time. One that is slow to answer gets fewer, and what it takes long over holds no
//! place that others could use; one that asked to be left alone is passed over until then. Within a host, what has
//! waited longest goes first.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use super::Question;
use crate::domain::image::Repository;

/// A question that takes longer holds no place any more: its host is slow, the others are not.
const SLOW: Duration = Duration::from_secs(5);

/// How many times its number of places may be under way, counting what is slow.
const STRETCH: usize = 4;

/// What is due and what is being asked.
pub(super) struct Schedule {
    places: usize,
    hosts: HashMap<String, Host>,
    running: Vec<(Instant, Arc<Question>)>,
}

#[derive(Default)]
struct Host {
    due: BTreeSet<(Instant, Arc<Question>)>,
    rests_until: Option<Instant>,
}

/// How much of a host is under way.
#[derive(Default, Clone, Copy)]
struct Load {
    running: usize,
    slow: usize,
}

impl Schedule {
    /// With so many places for all hosts together.
    pub(super) fn new(places: usize) -> Self {
        Self { places, hosts: HashMap::new(), running: Vec::new() }
    }

    /// So many places from now on.
    pub(super) fn resize(&mut self, places: usize) {
        self.places = places;
    }

    /// Moves a question from when it was due to when it is due.
    pub(super) fn moves(&mut self, question: &Arc<Question>, from: Option<Instant>, to: Option<Instant>) {
        if from == to {
            return;
        }
        let name = question.repository.registry();
        if let Some(from) = from
            && let Some(host) = self.hosts.get_mut(name)
        {
            host.due.remove(&(from, question.clone()));
            if host.due.is_empty() && to.is_none() {
                self.hosts.remove(name);
            }
        }
        if let Some(to) = to {
            self.hosts.entry(name.to_owned()).or_default().due.insert((to, question.clone()));
        }
    }

    /// The question whose turn it is, if there is one and a place for it. It is under way from now on, until it has
    /// [`Self::ended`]. `ready_at` tells when a host may be asked, if not now.
    pub(super) fn take(
        &mut self,
        now: Instant,
        ready_at: &dyn Fn(&Repository) -> Option<Instant>,
    ) -> Option<(Instant, Arc<Question>)> {
        if self.is_full(now) {
            return None;
        }
        let loads = loads(&self.running, now);
        let places = self.places;
        let load = |name: &str| loads.get(name).copied().unwrap_or_default();
        loop {
            let eligible = self.hosts.iter().filter_map(|(name, host)| {
                let (due, _) = host.due.first()?;
                let load = load(name);
                let waits = *due > now
                    || load.running >= places_of(places, load)
                    || host.rests_until.is_some_and(|until| until > now);
                (!waits).then_some((load.running, *due, name))
            });
            // Whoever has least under way, and then whoever has waited longest.
            let name = eligible.min().map(|(_, _, name)| name.clone())?;
            let host = self.hosts.get_mut(&name)?;
            let (due, question) = host.due.first().cloned()?;
            host.rests_until = ready_at(&question.repository).filter(|at| *at > now);
            if host.rests_until.is_some() {
                continue;
            }
            host.due.pop_first();
            if host.due.is_empty() {
                self.hosts.remove(&name);
            }
            self.running.push((now, question.clone()));
            return Some((due, question));
        }
    }

    /// A question was answered, or refused.
    pub(super) fn ended(&mut self, question: &Arc<Question>) {
        if let Some(at) = self.running.iter().position(|(_, running)| running == question) {
            self.running.swap_remove(at);
        }
    }

    /// When to look again, if nothing ends before.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        if self.is_full(now) {
            // A place becomes free when what holds it becomes slow.
            let fresh = self.running.iter().map(|(since, _)| *since + SLOW).filter(|slow| *slow > now);
            return fresh.min().filter(|_| self.running.len() < self.places * STRETCH);
        }
        let loads = loads(&self.running, now);
        let free = self.hosts.iter().filter(|(name, _)| {
            let load = loads.get(name.as_str()).copied().unwrap_or_default();
            load.running < places_of(self.places, load)
        });
        free.filter_map(|(_, host)| {
            let (due, _) = host.due.first()?;
            Some(host.rests_until.map_or(*due, |until| until.max(*due)))
        })
        .min()
    }

    fn is_full(&self, now: Instant) -> bool {
        let fresh = self.running.iter().filter(|(since, _)| *since + SLOW > now).count();
        fresh >= self.places || self.running.len() >= self.places * STRETCH
    }
}

/// How many questions of a host may be under way, of so many places for all.
fn places_of(places: usize, load: Load) -> usize {
    let share = if load.slow > 0 { places / 4 } else { places * 3 / 4 };
    share.max(1)
}

fn loads(running: &[(Instant, Arc<Question>)], now: Instant) -> HashMap<&str, Load> {
    let mut loads: HashMap<&str, Load> = HashMap::new();
    for (since, question) in running {
        let load = loads.entry(question.repository.registry()).or_default();
        load.running += 1;
        load.slow += usize::from(*since + SLOW <= now);
    }
    loads
}
