//! Headers of a delivery, as far as they are text.

use std::{collections::BTreeMap, fmt};

/// What it takes to read a delivery again. None of these is a secret.
const KEPT: [&str; 6] = ["x-github-event", "x-gitlab-event", "x-gitea-event", "ce-specversion", "ce-type", "ce-id"];

/// Longest value that is kept, in bytes.
const MAX_KEPT: usize = 200;

/// Headers by name, in lower case. One that comes twice counts as none: nobody can say which is meant.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Headers(BTreeMap<String, Option<String>>);

impl Headers {
    /// The value of a header; `name` in lower case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_deref()
    }

    /// Those that are needed to read the delivery again.
    pub fn kept(&self) -> impl Iterator<Item = (&'static str, &str)> {
        KEPT.into_iter().filter_map(|name| Some((name, self.get(name)?))).filter(|(_, value)| value.len() <= MAX_KEPT)
    }
}

impl<N: AsRef<str>, V: Into<String>> FromIterator<(N, V)> for Headers {
    fn from_iter<T: IntoIterator<Item = (N, V)>>(headers: T) -> Self {
        let mut all = BTreeMap::new();
        for (name, value) in headers {
            let value = Some(value.into());
            all.entry(name.as_ref().to_ascii_lowercase()).and_modify(|twice| *twice = None).or_insert(value);
        }
        Self(all)
    }
}

/// Names alone: values may be secrets.
impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}
