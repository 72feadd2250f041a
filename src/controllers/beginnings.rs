//! Who may begin a deploy while other projects do: one with a thousand to begin leaves room for them.
//!
//! A deploy that has begun keeps the API server and the cluster's own controllers busy, and those serve whoever came first. So
//! what would come before others has to wait here.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::vault::ProjectName;
use crate::{cluster::index::StageKey, domain::deploy::Waiting};

/// So long a deploy counts as young, if it has not ended earlier. What takes longer waits for nodes, not for what all projects
/// share.
pub const YOUTH: Duration = Duration::from_secs(10);

/// So many young deploys any project may have at once.
pub const AT_ONCE: usize = 20;

/// So many young deploys there are to be together while projects with more to begin wait. These share what the others leave, ...
pub const TOGETHER: usize = 60;

/// ... and each of them has so many at least.
pub const BESIDE: usize = 10;

/// Young deploys, and the stages that wait to begin one.
#[derive(Debug, Default)]
pub struct Beginnings {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    young: HashMap<StageKey, (ProjectName, Instant)>,
    /// The same in the order in which they began, beside some that have ended meanwhile.
    order: VecDeque<(StageKey, Instant)>,
    projects: HashMap<ProjectName, Standing>,
    /// How many wait in all projects.
    waiting: usize,
}

/// How a project stands: it has a young deploy, or somebody waits.
#[derive(Debug, Default)]
struct Standing {
    young: usize,
    line: VecDeque<StageKey>,
    waits: HashSet<StageKey>,
}

impl Beginnings {
    /// Whether a stage of a project may begin a deploy now: always while no other project has young ones or waits, else if its
    /// project has fewer than [`AT_ONCE`] and nobody of it waits. Those that wait begin when there is room for them beside the
    /// others. It asks again after that time at the latest.
    pub fn ask(&self, key: &StageKey, project: &ProjectName, now: Instant) -> Option<Duration> {
        let mut inner = self.lock();
        inner.age(now);
        if inner.young.contains_key(key) {
            return None;
        }
        if inner.has_room(project) && inner.is_first(key, project) {
            inner.begin(key, project, now);
            return None;
        }
        Some(inner.wait(key, project))
    }

    /// A stage has no deploy under way, and none that could begin.
    pub fn ended(&self, key: &StageKey) {
        self.lock().end(key, None);
    }

    /// Whose turn it is. Until they have asked, they count as if they had begun.
    pub fn turns(&self, now: Instant) -> Vec<StageKey> {
        let mut inner = self.lock();
        if inner.waiting == 0 {
            return Vec::new();
        }
        inner.age(now);
        let mut due = Vec::new();
        while let Some((key, project)) = inner.next() {
            inner.begin(&key, &project, now);
            due.push(key);
        }
        due
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn has_room(&self, project: &ProjectName) -> bool {
        let (mine, waits) = self.projects.get(project).map_or((0, 0), |of| (of.young, of.waits.len()));
        let alone = self.projects.keys().all(|one| one == project);
        alone || mine < if waits == 0 { AT_ONCE } else { self.part() }
    }

    /// How many each project may have in which somebody waits.
    fn part(&self) -> usize {
        let (many, few): (Vec<_>, Vec<_>) = self.projects.values().partition(|of| !of.line.is_empty());
        let taken: usize = few.iter().map(|of| of.young).sum();
        (TOGETHER.saturating_sub(taken) / many.len().max(1)).max(BESIDE)
    }

    fn is_first(&self, key: &StageKey, project: &ProjectName) -> bool {
        let first = self.projects.get(project).and_then(|of| of.line.front());
        first.is_none_or(|first| first == key)
    }

    /// Who waits first in the project with the fewest young ones, of those that have room.
    fn next(&self) -> Option<(StageKey, ProjectName)> {
        let waiting = self.projects.iter().filter(|(project, of)| !of.line.is_empty() && self.has_room(project));
        let (project, of) = waiting.min_by(|(a, x), (b, y)| (x.young, a).cmp(&(y.young, b)))?;
        Some((of.line.front()?.clone(), project.clone()))
    }

    fn begin(&mut self, key: &StageKey, project: &ProjectName, now: Instant) {
        let of = self.projects.entry(project.clone()).or_default();
        of.young += 1;
        if of.waits.remove(key) {
            of.line.retain(|one| one != key);
            self.waiting -= 1;
        }
        self.young.insert(key.clone(), (project.clone(), now));
        self.order.push_back((key.clone(), now));
    }

    /// Waits in its project's line. Says after how long its turn has come, if [`BESIDE`] begin in each [`YOUTH`].
    fn wait(&mut self, key: &StageKey, project: &ProjectName) -> Duration {
        let of = self.projects.entry(project.clone()).or_default();
        if of.waits.insert(key.clone()) {
            of.line.push_back(key.clone());
            self.waiting += 1;
        }
        let before = of.line.iter().take_while(|one| *one != key).count() / BESIDE;
        YOUTH.saturating_mul(u32::try_from(before).unwrap_or(u32::MAX).saturating_add(1))
    }

    /// Forgets a young one; with `begun`, only one that began then.
    fn end(&mut self, key: &StageKey, begun: Option<Instant>) {
        let is_it = |(_, at): &(ProjectName, Instant)| begun.is_none_or(|begun| begun == *at);
        if let Some((project, _)) = self.young.get(key).filter(|one| is_it(one)).cloned() {
            self.young.remove(key);
            if let Some(of) = self.projects.get_mut(&project) {
                of.young = of.young.saturating_sub(1);
                if of.young == 0 && of.line.is_empty() {
                    self.projects.remove(&project);
                }
            }
        }
    }

    fn age(&mut self, now: Instant) {
        while let Some((key, begun)) = self.order.front().cloned()
            && begun + YOUTH <= now
        {
            self.order.pop_front();
            self.end(&key, Some(begun));
        }
    }
}

/// What a deploy waits for that lets others begin first.
pub fn waits(project: &str) -> Waiting {
    let message = format!(
        "project {project} began {AT_ONCE} deploys or more at once; other projects begin theirs meanwhile, and {BESIDE} of its \
         begin in {} seconds at least",
        YOUTH.as_secs()
    );
    Waiting { reason: "OthersFirst".into(), message, blocker: None, until: None }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn project(name: &str) -> ProjectName {
        ("acme".into(), name.into())
    }

    fn key(project: &str, number: usize) -> StageKey {
        StageKey::new("acme", format!("{project}-{number}"))
    }

    /// How many of the first `count` stages of a project may begin.
    fn begun(all: &Beginnings, name: &str, count: usize, now: Instant) -> usize {
        (0..count).filter(|number| all.ask(&key(name, *number), &project(name), now).is_none()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_alone_begins_all_at_once() {
        assert_eq!(begun(&Beginnings::default(), "big", 1000, Instant::now()), 1000);
    }

    #[tokio::test(start_paused = true)]
    async fn beside_others_a_project_has_twenty_at_once_and_then_what_they_leave() {
        let (all, now) = (Beginnings::default(), Instant::now());
        assert_eq!((begun(&all, "small", 1, now), begun(&all, "big", 1000, now)), (1, AT_ONCE));
        let next = all.turns(now);
        assert_eq!(next.len(), TOGETHER - 1 - AT_ONCE, "one is not many");
        assert_eq!(next[0], key("big", AT_ONCE), "who waited first comes first");
        assert_eq!(all.ask(&next[0], &project("big"), now), None);
        for number in 0..10 {
            assert_eq!(begun(&all, &format!("other-{number}"), 10, now), 10);
        }
        let end = |number| all.ended(&key("big", number));
        (0..TOGETHER - 1 - BESIDE).for_each(end);
        assert_eq!(all.turns(now), [], "it has its ten, and the others take more than all the rest");
        end(TOGETHER - 1 - BESIDE);
        assert_eq!(all.turns(now).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_overtakes_those_of_the_own_project() {
        let (all, now) = (Beginnings::default(), Instant::now());
        assert_eq!((begun(&all, "small", 1, now), begun(&all, "big", AT_ONCE + 1, now)), (1, AT_ONCE));
        assert!(all.ask(&key("big", 500), &project("big"), now).is_some(), "there is room, but not for this one");
        assert_eq!(all.turns(now), [key("big", AT_ONCE), key("big", 500)]);
    }

    #[tokio::test(start_paused = true)]
    async fn when_the_others_are_done_all_that_wait_begin() {
        let (all, now) = (Beginnings::default(), Instant::now());
        assert_eq!((begun(&all, "small", 1, now), begun(&all, "big", 100, now)), (1, AT_ONCE));
        assert_eq!(all.turns(now).len(), TOGETHER - 1 - AT_ONCE);
        all.ended(&key("small", 0));
        assert_eq!(all.turns(now).len(), 100 - (TOGETHER - 1));
        assert!(!all.lock().projects.contains_key(&project("small")), "what is done is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn what_takes_long_holds_up_nobody_and_each_asks_again_in_time() {
        let (all, now) = (Beginnings::default(), Instant::now());
        assert_eq!((begun(&all, "small", 1, now), begun(&all, "big", AT_ONCE, now)), (1, AT_ONCE));
        let wait = |number| all.ask(&key("big", number), &project("big"), now);
        assert_eq!(wait(100), Some(YOUTH));
        let last = (101..141).filter_map(wait).last();
        assert_eq!(last, Some(YOUTH * 5), "as many begin in each");
        tokio::time::advance(YOUTH).await;
        // Nothing was heard of any that began.
        assert_eq!(all.ask(&key("big", 100), &project("big"), Instant::now()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn two_that_want_much_begin_alike() {
        let (all, now) = (Beginnings::default(), Instant::now());
        assert_eq!(begun(&all, "a", 100, now), 100, "alone until then");
        assert_eq!((begun(&all, "b", 100, now), begun(&all, "c", 50, now)), (AT_ONCE, AT_ONCE));
        assert_eq!(all.turns(now), [], "a has more than all of it");
        (0..100).for_each(|number| all.ended(&key("a", number)));
        let due = all.turns(now);
        let of = |name: char| due.iter().filter(|key| key.name.starts_with(name)).count();
        assert_eq!((of('b'), of('c')), (TOGETHER / 2 - AT_ONCE, TOGETHER / 2 - AT_ONCE));
    }

    proptest! {
        /// Whatever is asked and ends in whatever order: counts are those of what is there, and at the end everybody has begun.
        #[test]
        fn everybody_begins_and_nothing_is_left_behind(steps in vec((0_usize..4, 0_usize..60, 0_u64..4), 1..400)) {
            let (all, start) = (Beginnings::default(), Instant::now());
            let (mut now, mut waiting) = (start, HashSet::new());
            for (whose, number, seconds) in steps {
                let name = ["a", "b", "c", "d"][whose];
                let one = key(name, number);
                now += Duration::from_secs(seconds);
                if number % 3 == 0 {
                    all.ended(&one);
                } else if all.ask(&one, &project(name), now).is_some() {
                    waiting.insert(one);
                } else {
                    waiting.remove(&one);
                }
                for due in all.turns(now) {
                    waiting.remove(&due);
                }
                let inner = all.lock();
                prop_assert_eq!(inner.young.len(), inner.projects.values().map(|of| of.young).sum::<usize>());
                prop_assert_eq!(inner.waiting, waiting.len());
                prop_assert_eq!(inner.waiting, inner.projects.values().map(|of| of.line.len()).sum::<usize>());
            }
            // As many seconds as the last of them was told at the most.
            for _ in 0..40 {
                now += YOUTH;
                for due in all.turns(now) {
                    waiting.remove(&due);
                }
            }
            prop_assert!(waiting.is_empty(), "{waiting:?}");
            now += YOUTH;
            all.lock().age(now);
            prop_assert!(all.lock().projects.is_empty() && all.lock().order.is_empty());
        }
    }
}
