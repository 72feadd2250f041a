//! When which project is looked at again.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::controllers::vault::ProjectName;

/// What is rung for is waited for so long, so that what happens together costs one pass.
const TOGETHER: Duration = Duration::from_millis(300);

#[derive(Debug, Default)]
struct Entry {
    due: Option<Instant>,
    at_work: bool,
}

/// When which project is looked at again. One pass over a project at a time.
#[derive(Debug, Default)]
pub(super) struct Agenda(HashMap<ProjectName, Entry>);

impl Agenda {
    /// Something happened to a project.
    pub(super) fn ring(&mut self, project: ProjectName, now: Instant) {
        self.at(project, now + TOGETHER);
    }

    /// A project is to be looked at then, or earlier if that is known already.
    pub(super) fn at(&mut self, project: ProjectName, due: Instant) {
        let entry = self.0.entry(project).or_default();
        entry.due = Some(entry.due.map_or(due, |known| known.min(due)));
    }

    /// A project that is due and not at work, which it is from now on.
    pub(super) fn take(&mut self, now: Instant) -> Option<ProjectName> {
        let due = |entry: &Entry| entry.due.filter(|due| !entry.at_work && *due <= now);
        let (project, entry) =
            self.0.iter_mut().filter(|(_, entry)| due(entry).is_some()).min_by_key(|(_, e)| e.due)?;
        (entry.due, entry.at_work) = (None, true);
        Some(project.clone())
    }

    /// A pass has ended; the next one is due then, if one is.
    pub(super) fn done(&mut self, project: ProjectName, next: Option<Instant>) {
        if let Some(entry) = self.0.get_mut(&project) {
            entry.at_work = false;
            if let Some(next) = next {
                self.at(project, next);
            } else if entry.due.is_none() {
                self.0.remove(&project);
            }
        }
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().filter(|entry| !entry.at_work).filter_map(|entry| entry.due).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop() -> ProjectName {
        ("acme".into(), "shop".into())
    }

    #[tokio::test]
    async fn one_pass_at_a_time_and_none_is_forgotten() {
        let (mut agenda, now) = (Agenda::default(), Instant::now());
        assert_eq!((agenda.take(now), agenda.next()), (None, None));
        agenda.ring(shop(), now);
        agenda.ring(shop(), now + TOGETHER / 2);
        assert_eq!(agenda.next(), Some(now + TOGETHER), "what comes later does not put it off");
        assert_eq!(agenda.take(now), None);
        assert_eq!(agenda.take(now + TOGETHER), Some(shop()));
        agenda.ring(shop(), now);
        assert_eq!((agenda.take(now + TOGETHER), agenda.next()), (None, None), "it is at work");
        agenda.done(shop(), Some(now + TOGETHER * 9));
        assert_eq!(agenda.next(), Some(now + TOGETHER), "it was rung for meanwhile");
        assert_eq!(agenda.take(now + TOGETHER), Some(shop()));
        agenda.done(shop(), None);
        assert!(agenda.0.is_empty());
    }
}
