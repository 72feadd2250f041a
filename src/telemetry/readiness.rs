//! Whether the process can do its work, and if not, what is missing.

use std::sync::atomic::{AtomicU8, Ordering};

/// One thing that must work before the process is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    /// Postgres answers, and takes writes.
    Store = 1,
    /// Its schema is at the version of this binary.
    Schema = 2,
    /// The watches of all kinds have delivered their first list.
    Watches = 4,
}

impl Part {
    /// Every part, in the order in which a start reaches them.
    pub const ALL: [Self; 3] = [Self::Store, Self::Schema, Self::Watches];

    /// The word in `/readyz`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Schema => "schema",
            Self::Watches => "watches",
        }
    }

    /// What it means that this part is missing, and what to do.
    pub const fn missing(self) -> &'static str {
        match self {
            Self::Store => {
                "Postgres does not answer, or takes no writes: deploys pause where they are, running applications are untouched; check DATABASE_URL and the server"
            }
            Self::Schema => "the database schema is not at this binary's version: run `stagekeeper migrate up`",
            Self::Watches => {
                "the watches have not delivered yet: check the CRDs and the RBAC rules with `stagekeeper doctor`"
            }
        }
    }
}

/// Set by whoever knows, read by `/readyz`. Everything is missing until it is reported present.
#[derive(Debug, Default)]
pub struct Readiness(AtomicU8);

impl Readiness {
    /// Reports whether a part works.
    pub fn set(&self, part: Part, works: bool) {
        if works {
            self.0.fetch_or(part as u8, Ordering::Release);
        } else {
            self.0.fetch_and(!(part as u8), Ordering::Release);
        }
    }

    /// The parts that do not work; empty when ready.
    pub fn missing(&self) -> Vec<Part> {
        let present = self.0.load(Ordering::Acquire);
        Part::ALL.into_iter().filter(|part| present & (*part as u8) == 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_counts_by_itself() {
        let readiness = Readiness::default();
        assert_eq!(readiness.missing(), Part::ALL);
        for part in Part::ALL {
            readiness.set(part, true);
        }
        assert_eq!(readiness.missing(), []);
        for part in Part::ALL {
            readiness.set(part, false);
            assert_eq!(readiness.missing(), [part]);
            readiness.set(part, true);
        }
    }
}
