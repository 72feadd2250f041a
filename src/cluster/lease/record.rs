//! What a Lease says, and how old it is as seen from here.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use tokio::time::Instant;

/// The record in a Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// Who leads; empty if nobody does.
    pub(super) holder: String,
    /// How often leadership has changed.
    pub(super) epoch: u64,
    /// How long it counts after a change.
    pub(super) duration: Duration,
    /// The writer's wall clock. Compared for equality only: it tells one renewal from the next.
    pub(super) at: Timestamp,
}

impl Record {
    /// Reads a Lease, leniently: others may have written it.
    pub(super) fn of(lease: &Lease) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        let seconds = spec.lease_duration_seconds.and_then(|s| u64::try_from(s).ok());
        Self {
            holder: spec.holder_identity.unwrap_or_default(),
            epoch: spec.lease_transitions.and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
            duration: Duration::from_secs(seconds.unwrap_or(0)),
            at: spec.renew_time.map_or(Timestamp::UNIX_EPOCH, |at| at.0),
        }
    }

    fn spec(&self) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.holder.clone()),
            lease_duration_seconds: Some(i32::try_from(self.duration.as_secs().max(1)).unwrap_or(i32::MAX)),
            lease_transitions: Some(i32::try_from(self.epoch).unwrap_or(i32::MAX)),
            acquire_time: Some(MicroTime(self.at)),
            renew_time: Some(MicroTime(self.at)),
            ..LeaseSpec::default()
        }
    }

    /// A Lease that does not exist yet.
    pub(super) fn create(&self, namespace: &str, name: &str) -> Lease {
        let metadata =
            ObjectMeta { namespace: Some(namespace.into()), name: Some(name.into()), ..ObjectMeta::default() };
        Lease { metadata, spec: Some(self.spec()) }
    }

    /// The Lease in our hands. Carries the version that the decision was based on.
    pub(super) fn take_over(&self, lease: &Lease) -> Lease {
        Lease { metadata: lease.metadata.clone(), spec: Some(self.spec()) }
    }

    /// The Lease in our hands for some more time.
    pub(super) fn renew(&self, lease: &Lease) -> Lease {
        let acquired = lease.spec.as_ref().and_then(|spec| spec.acquire_time.clone());
        Lease { metadata: lease.metadata.clone(), spec: Some(LeaseSpec { acquire_time: acquired, ..self.spec() }) }
    }

    /// The Lease in nobody's hands.
    pub(super) fn release(&self, lease: &Lease) -> Lease {
        let free = Self { holder: String::new(), duration: Duration::ZERO, ..self.clone() };
        Lease { metadata: lease.metadata.clone(), spec: Some(free.spec()) }
    }
}

/// How many shards the installation has: on the Lease of the first.
const SHARDS: &str = "stagekeeper.dev/shards";
/// How many it had before, as long as others may act by that.
const BEFORE: &str = "stagekeeper.dev/shards-before";
/// Who asks for this Lease.
const WANTED_BY: &str = "stagekeeper.dev/wanted-by";

/// What else is written on a Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Note {
    /// How many shards there are; one if nothing is said.
    pub(super) shards: u16,
    /// How many there were, as long as somebody may act by that.
    pub(super) before: Option<u16>,
    /// Who asks for the Lease.
    pub(super) wanted_by: Option<String>,
}

impl Note {
    /// Reads what is written on a Lease, leniently.
    pub(super) fn of(lease: &Lease) -> Self {
        let read = |key: &str| lease.metadata.annotations.as_ref().and_then(|all| all.get(key)).cloned();
        Self {
            shards: read(SHARDS).and_then(|count| count.parse().ok()).unwrap_or(1),
            before: read(BEFORE).and_then(|count| count.parse().ok()),
            wanted_by: read(WANTED_BY).filter(|by| !by.is_empty()),
        }
    }

    /// Writes it on a Lease. What goes without saying is not said.
    pub(super) fn on(&self, mut lease: Lease) -> Lease {
        let annotations = lease.metadata.annotations.get_or_insert_default();
        let mut write = |key: &str, value: Option<String>| match value {
            Some(value) => _ = annotations.insert(key.to_owned(), value),
            None => _ = annotations.remove(key),
        };
        write(SHARDS, (self.shards != 1).then(|| self.shards.to_string()));
        write(BEFORE, self.before.map(|count| count.to_string()));
        write(WANTED_BY, self.wanted_by.clone());
        if annotations.is_empty() {
            lease.metadata.annotations = None;
        }
        lease
    }
}

/// A record and since when it has been seen unchanged from here.
#[derive(Debug, Clone)]
pub(super) struct Observed {
    pub(super) record: Record,
    since: Instant,
}

impl Observed {
    pub(super) fn update(before: Option<Self>, record: Record, now: Instant) -> Self {
        before.filter(|before| before.record == record).unwrap_or(Self { record, since: now })
    }

    /// When it is free, unless it is renewed before.
    pub(super) fn expires(&self, duration: Duration) -> Instant {
        self.since + duration.max(self.record.duration)
    }

    /// Nobody holds it, or we did in an earlier life, or its holder has not renewed it for as long as it asked for.
    pub(super) fn is_free_for(&self, identity: &str, duration: Duration, now: Instant) -> bool {
        let holder = &self.record.holder;
        holder.is_empty() || holder == identity || now >= self.expires(duration)
    }
}

/// Three quarters to all of a period.
pub(super) fn spread(period: Duration, identity: &str, round: u64) -> Duration {
    let mut hasher = DefaultHasher::new();
    (identity, round).hash(&mut hasher);
    let percent = u32::try_from(hasher.finish() % 26).unwrap_or(0);
    period * (75 + percent) / 100
}
