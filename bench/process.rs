//! What processes cost, from /proc and from Postgres' counters.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde::Serialize;

use crate::Failure;

/// The kernel counts processor time in hundredths of a second on every architecture it presents to programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// Processes to account for, by the name they get in the results.
#[derive(Default, Clone)]
pub struct Processes(BTreeMap<String, u32>);

/// Processor seconds so far.
#[derive(Clone)]
pub struct Usage {
    each: BTreeMap<String, f64>,
    machine: f64,
}

/// Processor seconds between two moments.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spent {
    /// By process, its children included.
    pub each: BTreeMap<String, f64>,
    /// The whole machine.
    pub machine: f64,
    /// What none of them used: other work on the machine disturbs the measurement.
    pub elsewhere: f64,
}

impl Processes {
    /// The parts of a cluster, from the process ids that it keeps on record; and this process itself.
    pub fn of_cluster(dir: &Path) -> Result<Self, Failure> {
        let mut all = BTreeMap::from([("observer".to_owned(), std::process::id())]);
        for file in std::fs::read_dir(dir.join("run"))? {
            let path = file?.path();
            if path.extension().is_some_and(|extension| extension == "pid") {
                let text = std::fs::read_to_string(&path)?;
                let (Some(name), Some(pid)) = (path.file_stem(), text.split(' ').next()) else {
                    continue;
                };
                all.insert(name.to_string_lossy().into_owned(), pid.trim().parse()?);
            }
        }
        Ok(Self(all))
    }

    /// Adds one.
    pub fn insert(&mut self, name: &str, pid: u32) {
        self.0.insert(name.to_owned(), pid);
    }

    /// What each has used so far. A process that has ended counts as zero.
    pub fn usage(&self) -> Result<Usage, Failure> {
        let mut each: BTreeMap<String, f64> = self.0.keys().map(|name| (name.clone(), 0.0)).collect();
        let parents = Table::read()?;
        for (&pid, (_, ticks)) in &parents.0 {
            if let Some(name) = self.name_of(pid, &parents) {
                *each.entry(name.to_owned()).or_default() += *ticks;
            }
        }
        Ok(Usage { each, machine: machine_seconds()? })
    }

    /// The entry that a process belongs to: its own, or else the one of its parent (Postgres' workers).
    fn name_of(&self, pid: u32, table: &Table) -> Option<&str> {
        let named = |pid: u32| self.0.iter().find(|(_, known)| **known == pid);
        named(pid)
            .or_else(|| {
                let (name, known) = named(table.0.get(&pid)?.0)?;
                // A program that the observer started is accounted for by itself.
                (*known != std::process::id()).then_some((name, known))
            })
            .map(|(name, _)| name.as_str())
    }
}

/// Parent and processor seconds of every process.
struct Table(BTreeMap<u32, (u32, f64)>);

impl Table {
    fn read() -> Result<Self, Failure> {
        let mut all = BTreeMap::new();
        for entry in std::fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Ok(pid) = name.to_string_lossy().parse::<u32>() else {
                continue;
            };
            // It may have ended since.
            let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
                continue;
            };
            if let Some(found) = parent_and_seconds(&stat) {
                all.insert(pid, found);
            }
        }
        Ok(Self(all))
    }
}

/// Fields 4, 14 and 15 of a `stat` line; the name in field 2 may hold anything.
fn parent_and_seconds(stat: &str) -> Option<(u32, f64)> {
    let rest: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks = |field: usize| rest.get(field - 3)?.parse::<f64>().ok();
    Some((rest.get(1)?.parse().ok()?, (ticks(14)? + ticks(15)?) / TICKS_PER_SECOND))
}

/// Processor seconds of this process so far.
pub fn own_seconds() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, seconds) = parent_and_seconds(&stat).ok_or("/proc/self/stat is not as expected")?;
    Ok(seconds)
}

/// Busy seconds of all processors: user, nice, system, irq, softirq.
fn machine_seconds() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().unwrap_or_default();
    let fields: Vec<f64> = line.split_whitespace().skip(1).map_while(|field| field.parse().ok()).collect();
    let busy: f64 = [0, 1, 2, 5, 6].iter().filter_map(|&place: &usize| fields.get(place)).sum();
    Ok(busy / TICKS_PER_SECOND)
}

impl Usage {
    /// What was spent since `self` was taken.
    pub fn until(&self, later: &Self) -> Spent {
        let each: BTreeMap<String, f64> = later
            .each
            .iter()
            .map(|(name, seconds)| {
                let before = self.each.get(name).copied().unwrap_or_default();
                (name.clone(), (seconds - before).max(0.0))
            })
            .collect();
        let machine = later.machine - self.machine;
        Spent { elsewhere: (machine - each.values().sum::<f64>()).max(0.0), machine, each }
    }
}

/// Resident memory in MiB: now, and the most so far.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// Now.
    pub resident: f64,
    /// The most since the process started.
    pub peak: f64,
}

/// Reads the memory of a process.
pub fn memory(pid: u32) -> Result<Memory, Failure> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .map_err(|err| format!("process {pid} has ended: {err}"))?;
    let mebibytes = |key: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(key)?.trim_start().split(' ').next()?.parse().ok())
            .map_or(0.0, |kibibytes: f64| kibibytes / 1024.0)
    };
    Ok(Memory { resident: mebibytes("VmRSS:"), peak: mebibytes("VmHWM:") })
}

/// Counters of one database since its statistics began.
#[derive(Serialize, Clone, Copy)]
#[serde(rename_all = "camelCase")]
pub struct Sql {
    /// Transactions, committed or rolled back, with or without a write.
    pub transactions: i64,
    /// Rows of tables of its own inserted, updated or deleted: what the server notes about them itself is left out.
    pub rows_written: i64,
}

impl Sql {
    /// Reads the counters of the database that `url` names. Busy connections report every second, idle ones after ten.
    /// A read adds a transaction or two of its own to what the next one finds.
    pub fn read(url: &str) -> Result<Self, Failure> {
        let transactions =
            number(url, "select xact_commit + xact_rollback from pg_stat_database where datname = current_database()")?;
        let rows_written =
            number(url, "select coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0)::bigint from pg_stat_user_tables")?;
        Ok(Self { transactions, rows_written })
    }

    /// What was counted since `self` was read.
    pub fn until(self, later: Self) -> Self {
        Self {
            transactions: later.transactions - self.transactions,
            rows_written: later.rows_written - self.rows_written,
        }
    }
}

/// The one number that a query finds.
pub fn number(url: &str, query: &str) -> Result<i64, Failure> {
    let output = Command::new("psql").args([url, "-XAt", "-c", query]).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let why = String::from_utf8_lossy(&output.stderr);
    text.trim().parse().map_err(|_| format!("no statistics of the database: {text}{why}").into())
}
