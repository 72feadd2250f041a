//! How a project's previews stand, in the words of the condition `PreviewsReady`.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt::Write as _,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::{
    api::conditions,
    controllers::{project::verdict::Trouble, vault::ProjectName},
};

/// Type of the condition.
pub const PREVIEWS_READY: &str = "PreviewsReady";

/// Troubles that the condition tells of.
const TOLD: usize = 3;

/// How a project's previews stand.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Pull requests that are open.
    pub open: usize,
    /// Among them, those that have an environment.
    pub made: usize,
    /// Environments with our marks of which nobody knows the pull request.
    pub orphans: usize,
    /// What a person has to mend, or wait for.
    pub troubles: Vec<Trouble>,
}

impl Standing {
    /// The condition.
    fn condition(&self, generation: i64, now: Timestamp) -> Condition {
        let (status, reason, message) = if let Some(first) = self.troubles.first() {
            ("False", first.reason, self.said())
        } else {
            let Self { open, made, .. } = self;
            ("True", "Watching", format!("{made} of {open} open pull requests have an environment"))
        };
        Condition {
            type_: PREVIEWS_READY.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: Some(generation),
            last_transition_time: Time(now),
        }
    }

    fn said(&self) -> String {
        let mut said: Vec<&str> = Vec::new();
        for trouble in &self.troubles {
            if !said.contains(&trouble.message.as_str()) {
                said.push(&trouble.message);
            }
        }
        let more = said.len().saturating_sub(TOLD);
        said.truncate(TOLD);
        let mut text = said.join("; ");
        if more > 0 {
            _ = write!(text, "; and {more} more");
        }
        text
    }
}

/// How the previews of every project stand. Filled by the passes over pull requests, told by those over projects.
#[derive(Default)]
pub struct PreviewBook(Mutex<HashMap<ProjectName, Option<Standing>>>);

impl PreviewBook {
    /// Takes in how a project's previews stand; none if it has none. Says whether that is news.
    pub fn learn(&self, project: &ProjectName, standing: Option<Standing>) -> bool {
        match self.lock().entry(project.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(standing);
                true
            }
            Entry::Occupied(mut entry) => entry.insert(standing.clone()) != standing,
        }
    }

    /// A project is gone.
    pub fn forget(&self, project: &ProjectName) {
        self.lock().remove(project);
    }

    /// Environments of which nobody knows the pull request.
    pub fn orphans(&self) -> usize {
        self.lock().values().flatten().map(|standing| standing.orphans).sum()
    }

    /// A project's conditions with this one among them, if it has previews. As long as nothing is known, what was told
    /// before stays.
    pub fn among(
        &self,
        project: &ProjectName,
        mut conditions: Vec<Condition>,
        generation: i64,
        now: Timestamp,
    ) -> Vec<Condition> {
        match self.lock().get(project) {
            None => {}
            Some(None) => conditions.retain(|one| one.type_ != PREVIEWS_READY),
            Some(Some(standing)) => conditions::set(&mut conditions, standing.condition(generation, now)),
        }
        conditions
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ProjectName, Option<Standing>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shop() -> ProjectName {
        ("acme".into(), "shop".into())
    }

    fn told(book: &PreviewBook) -> Option<(String, String, String)> {
        let conditions = book.among(&shop(), Vec::new(), 3, Timestamp::UNIX_EPOCH);
        let found = conditions::get(&conditions, PREVIEWS_READY)?;
        Some((found.status.clone(), found.reason.clone(), found.message.clone()))
    }

    #[test]
    fn troubles_are_told_once_each_and_not_all_of_them() {
        let book = PreviewBook::default();
        assert_eq!(told(&book), None);
        let trouble = |number: usize| Trouble { reason: "NameTaken", message: format!("trouble {}", number / 2) };
        let standing = Standing { troubles: (0..10).map(trouble).collect(), orphans: 2, ..Standing::default() };
        assert!(book.learn(&shop(), Some(standing.clone())));
        assert!(!book.learn(&shop(), Some(standing)));
        let want = "trouble 0; trouble 1; trouble 2; and 2 more";
        assert_eq!(told(&book), Some(("False".into(), "NameTaken".into(), want.into())));
        assert_eq!(book.orphans(), 2);
        assert!(book.learn(&shop(), Some(Standing { open: 3, made: 2, ..Standing::default() })));
        let want = "2 of 3 open pull requests have an environment";
        assert_eq!(told(&book), Some(("True".into(), "Watching".into(), want.into())));
    }

    #[test]
    fn what_was_told_stays_until_something_is_known() {
        let book = PreviewBook::default();
        let before = vec![Standing::default().condition(1, Timestamp::UNIX_EPOCH)];
        assert_eq!(book.among(&shop(), before.clone(), 1, Timestamp::UNIX_EPOCH), before);
        book.learn(&shop(), None);
        assert!(book.among(&shop(), before.clone(), 1, Timestamp::UNIX_EPOCH).is_empty());
        book.forget(&shop());
        assert_eq!(book.among(&shop(), before.clone(), 1, Timestamp::UNIX_EPOCH), before);
    }
}
