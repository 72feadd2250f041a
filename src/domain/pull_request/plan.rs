//! Which environments are to be made, kept and ended.

use std::collections::{BTreeMap, BTreeSet};

use super::{Known, Made};

/// An Environment object of a project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its name.
    pub name: String,
    /// Its identity.
    pub uid: String,
    /// The pull request that its marks say it was made for; none if it has not all of our marks.
    pub number: Option<i64>,
    /// It is being deleted.
    pub ending: bool,
}

/// An environment that is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Which of the known pull requests it is recorded with.
    pub known: usize,
    /// Name of its object.
    pub name: String,
    /// Identity of its object.
    pub uid: String,
}

/// What is to be done. Numbers are places in the list of what is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// These get an environment of this name.
    pub make: Vec<(usize, String)>,
    /// These have one, which is brought up to date; this is what is to be recorded of it.
    pub keep: Vec<(usize, Made)>,
    /// These objects are of pull requests that are to have none, and nobody recorded them: that comes first.
    pub adopt: Vec<(usize, Made)>,
    /// These are deleted.
    pub end: Vec<Ending>,
    /// So many more are to be deleted, but not in one pass.
    pub held_back: usize,
    /// These had one that is gone, as it should be.
    pub forget: Vec<usize>,
    /// Objects that somebody else made under a name that a pull request needs.
    pub taken: Vec<String>,
    /// Objects with our marks of which no pull request is known: name and number.
    pub orphans: Vec<(String, i64)>,
}

/// What is to be done so that each pull request that is `wanted` has an environment and no other has. At most `cap` are ended.
///
/// Only objects with all of our marks are ended, and only those that are recorded with the pull request. One that has ended
/// before its pull request, because its time had come or somebody deleted it, comes back with the next commit.
pub fn plan(
    known: &[Known],
    objects: &[Object],
    wanted: impl Fn(&Known) -> bool,
    name: impl Fn(i64) -> String,
    cap: usize,
) -> Plan {
    let by_name: BTreeMap<&str, &Object> = objects.iter().map(|object| (object.name.as_str(), object)).collect();
    let mut plan = Plan::default();
    let mut claimed = BTreeSet::new();
    for (at, one) in known.iter().enumerate() {
        let called = one.made.as_ref().map_or_else(|| name(one.facts.number), |made| made.name.clone());
        // Another pull request of that number, of the repository that was named before, has to go first.
        let elsewhere =
            one.made.is_none() && known.iter().any(|other| other.made.as_ref().is_some_and(|made| made.name == called));
        let object = by_name.get(called.as_str()).copied();
        if !elsewhere {
            claimed.insert(called.clone());
        }
        let ours = object.filter(|object| object.number == Some(one.facts.number));
        let recorded = |object: &Object, commit: &str| Made {
            name: called.clone(),
            uid: Some(object.uid.clone()),
            commit: commit.to_owned(),
        };
        match (wanted(one), object, ours, &one.made) {
            _ if elsewhere => {}
            (true, Some(_), None, _) => plan.taken.push(called),
            (_, Some(object), ..) if object.ending => {}
            (true, Some(_), Some(object), _) => plan.keep.push((at, recorded(object, &one.facts.head))),
            (true, None, _, Some(made)) if made.uid.is_some() && made.commit == one.facts.head => {}
            (true, None, ..) => plan.make.push((at, called)),
            (false, Some(_), Some(object), Some(_)) => {
                plan.end.push(Ending { known: at, name: called, uid: object.uid.clone() });
            }
            (false, Some(_), Some(object), None) => plan.adopt.push((at, recorded(object, &one.facts.head))),
            (false, Some(_), None, Some(_)) | (false, None, _, Some(_)) => plan.forget.push(at),
            (false, _, _, None) => {}
        }
    }
    let orphans = objects.iter().filter(|object| !object.ending && !claimed.contains(&object.name));
    plan.orphans = orphans.filter_map(|object| Some((object.name.clone(), object.number?))).collect();
    plan.held_back = plan.end.len().saturating_sub(cap);
    plan.end.truncate(cap);
    plan
}
