//! What a user asked of the API server, counted from its audit log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Failure;

const WRITES: [&str; 5] = ["create", "update", "patch", "delete", "deletecollection"];

/// A place in the log from which requests are counted, and whose.
pub struct Mark {
    path: PathBuf,
    user: String,
    offset: u64,
}

/// Requests of one user in a stretch of the log.
#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Requests {
    /// All writes but those to the Lease.
    pub writes: u64,
    /// Single reads.
    pub gets: u64,
    /// Lists, and among them not those of `absent`.
    pub lists: u64,
    /// Looks for a kind that the cluster does not have, once a minute: Gateway API is optional.
    pub absent: u64,
    /// Watches that were opened or ended.
    pub watches: u64,
    /// Writes to the Lease: they tell the time, not what was deployed.
    pub lease_writes: u64,
    /// Answers of 400 and above.
    pub refused: u64,
    /// By verb, kind and subresource.
    pub by_kind: BTreeMap<String, Kind>,
}

/// Requests of one verb to one kind.
#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Kind {
    /// How many.
    pub count: u64,
    /// Answers of 400 and above among them.
    pub refused: u64,
    /// Mean time in the API server.
    pub mean_millis: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    verb: String,
    user: User,
    #[serde(default)]
    object_ref: ObjectRef,
    #[serde(default)]
    response_status: Status,
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize, Default)]
struct ObjectRef {
    #[serde(default)]
    resource: String,
    #[serde(default)]
    subresource: String,
}

#[derive(Deserialize, Default)]
struct Status {
    #[serde(default)]
    code: u16,
}

impl Mark {
    /// The log's end, now.
    pub fn end(path: &Path, user: &str) -> Result<Self, Failure> {
        let offset = std::fs::metadata(path).map_err(|err| format!("no audit log at {}: {err}", path.display()))?.len();
        Ok(Self { path: path.to_owned(), user: user.to_owned(), offset })
    }

    /// What the user asked from the mark until now.
    pub fn since(&self) -> Result<Requests, Failure> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        let mut requests = Requests::default();
        for line in BufReader::new(file).lines() {
            let line = line?;
            // The last line may be half written.
            let Ok(entry) = serde_json::from_str::<Entry>(&line) else {
                continue;
            };
            if entry.user.username == self.user {
                requests.add(&entry);
            }
        }
        for kind in requests.by_kind.values_mut() {
            kind.mean_millis /= f64::from(u32::try_from(kind.count).unwrap_or(u32::MAX));
        }
        Ok(requests)
    }
}

impl Requests {
    fn add(&mut self, entry: &Entry) {
        let refused = u64::from(entry.response_status.code >= 400);
        match entry.verb.as_str() {
            verb if WRITES.contains(&verb) => {
                if entry.object_ref.resource == "leases" {
                    self.lease_writes += 1;
                } else {
                    self.writes += 1;
                }
            }
            "get" => self.gets += 1,
            "list" if entry.response_status.code == 404 => self.absent += 1,
            "list" => self.lists += 1,
            "watch" => self.watches += 1,
            _ => {}
        }
        self.refused += refused;
        let mut key = format!("{} {}", entry.verb, entry.object_ref.resource);
        if !entry.object_ref.subresource.is_empty() {
            key = format!("{key}/{}", entry.object_ref.subresource);
        }
        let kind = self.by_kind.entry(key).or_default();
        kind.count += 1;
        kind.refused += refused;
        let took = entry.stage_timestamp.duration_since(entry.request_received_timestamp);
        kind.mean_millis += took.as_secs_f64() * 1_000.0;
    }
}
