//! Where the operator can be cut off from what it does: three layers, two moments, and how their exchanges are told apart.

use std::fmt;

use regex::Regex;

use crate::{api_proxy::Call, http_proxy::Exchange, postgres_proxy::Statement, trap::When};

/// Where a write passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layer {
    /// Writes to the API server. The Lease and Events are left out: nobody waits for them.
    Cluster,
    /// Statements that make or change rows, and commits of transactions that did. What only deletes is left out: it is
    /// housekeeping, of what is too old.
    Database,
    /// Calls of registries and git providers, reading ones too.
    Outside,
}

impl Layer {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Cluster, Self::Database, Self::Outside];

    /// Its word in names of plans.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Database => "database",
            Self::Outside => "outside",
        }
    }
}

/// The moment's word in names of plans.
pub const fn word(when: When) -> &'static str {
    match when {
        When::Asked => "before",
        When::Answered => "after",
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, to: &mut fmt::Formatter) -> fmt::Result {
        to.write_str(self.word())
    }
}

/// Something that passes one of the layers.
pub trait Passes: Clone + Send + 'static {
    /// Whether it is one of those that plans are made of.
    fn counts(&self) -> bool;
    /// What kind of thing it is, the same in every run.
    fn kind(&self) -> String;
}

impl Passes for Call {
    fn counts(&self) -> bool {
        self.is_write()
    }

    fn kind(&self) -> String {
        let collection = if self.name.is_empty() && self.method == http::Method::DELETE { " (all)" } else { "" };
        format!("{} {}{collection}", self.method, self.resource)
    }
}

impl Passes for Statement {
    fn counts(&self) -> bool {
        self.changes_rows()
    }

    fn kind(&self) -> String {
        if self.commits {
            return "COMMIT".into();
        }
        let writes = Regex::new(r"(INSERT INTO|UPDATE|DELETE FROM) ([a-z_]+)").expect("an expression");
        let found = writes.captures_iter(&self.text).filter(|found| &found[2] != "SET" && &found[2] != "of");
        let mut all: Vec<String> = found.map(|found| format!("{} {}", &found[1], &found[2])).collect();
        all.dedup();
        all.join(", ")
    }
}

impl Passes for Exchange {
    fn counts(&self) -> bool {
        true
    }

    fn kind(&self) -> String {
        let what = ["/tags/", "/manifests/", "/blobs/", "/pulls", "/comments", "/statuses/"];
        let what = what.iter().find(|what| self.path.contains(**what)).copied().unwrap_or("/");
        format!("{} {} {}", self.method, self.server, what.trim_matches('/'))
    }
}
