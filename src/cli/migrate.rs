//! `stagekeeper migrate up|down|status`: the database's schema.

use std::{io::Write, time::Duration};

use clap::{Args, Subcommand};
use tokio::time::Instant;

use super::{
    controller::Signals,
    database,
    failure::{Code, Failure},
    output::Columns,
};
use crate::{
    config::settings::DatabaseArgs,
    store::{MigrationState, MigrationStatus, Store},
};

/// Between two looks at a database that does not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// What `migrate` takes.
#[derive(Args)]
pub struct MigrateArgs {
    #[command(subcommand)]
    direction: Direction,
}

#[derive(Subcommand)]
enum Direction {
    /// Run every migration that is pending; does nothing when none is.
    Up {
        #[command(flatten)]
        database: DatabaseArgs,
        /// Seconds to wait for a database that does not answer yet.
        #[arg(long, value_name = "SECONDS", default_value_t = 0)]
        wait: u64,
    },
    /// Take back the last migration, or all after a number. What they stored is lost.
    Down {
        #[command(flatten)]
        database: DatabaseArgs,
        /// Take back every migration after this one; 0 takes back all.
        #[arg(long, value_name = "NUMBER")]
        to: Option<i64>,
    },
    /// List the migrations; exit code 1 when one is pending or was changed after it ran.
    Status {
        #[command(flatten)]
        database: DatabaseArgs,
    },
}

/// Runs a migration command.
///
/// # Errors
/// The database is away, or a migration fails: the schema is then as it was.
pub async fn migrate(arguments: &MigrateArgs, out: &mut dyn Write) -> Result<(), Failure> {
    match &arguments.direction {
        Direction::Up { database, wait } => {
            let store = connected(database, Duration::from_secs(*wait)).await?;
            told(&store.migrate_up().await?, "applied", out)
        }
        Direction::Down { database, to } => {
            let store = database::connect(database).await?;
            let target = match to {
                Some(target) => *target,
                None => before_last(&store.migrate_status().await?),
            };
            told(&store.migrate_down(target).await?, "taken back", out)
        }
        Direction::Status { database } => status(&database::connect(database).await?, out).await,
    }
}

/// Connects, and tries again for as long as is asked for. Each try that fails is told.
async fn connected(database: &DatabaseArgs, patience: Duration) -> Result<Store, Failure> {
    let started = Instant::now();
    // Nothing else ends the first process of a container.
    let mut signals = Signals::listen()?;
    loop {
        match database::connect(database).await {
            Err(failure @ Failure::Said { code: Code::Unavailable, .. }) if started.elapsed() < patience => {
                eprintln!("waiting: {}", failure.summary());
                tokio::select! {
                    () = tokio::time::sleep(PAUSE) => {}
                    _ = signals.next() => return Err(failure),
                }
            }
            connected => return connected,
        }
    }
}

fn told(files: &[String], what: &str, out: &mut dyn Write) -> Result<(), Failure> {
    if files.is_empty() {
        writeln!(out, "nothing to do")?;
    }
    for file in files {
        writeln!(out, "{what} {file}")?;
    }
    Ok(())
}

/// The number to go back to so that only the last migration that was run is taken back.
fn before_last(migrations: &[MigrationStatus]) -> i64 {
    let applied = migrations.iter().filter(|migration| migration.state != MigrationState::Pending);
    applied.rev().nth(1).map_or(0, |migration| migration.version)
}

async fn status(store: &Store, out: &mut dyn Write) -> Result<(), Failure> {
    let migrations = store.migrate_status().await?;
    let mut columns = Columns::new(&["NUMBER", "STATE", "APPLIED", "FILE"]);
    for migration in &migrations {
        let applied = migration.applied_at.map_or_else(String::new, |at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        columns.row([migration.version.to_string(), migration.state.to_string(), applied, migration.file.clone()]);
    }
    write!(out, "{}", columns.render())?;
    let is_open =
        |migration: &MigrationStatus| matches!(migration.state, MigrationState::Pending | MigrationState::Modified);
    if migrations.iter().any(is_open) {
        return Err(Failure::Told(Code::Failed));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_step_back_is_the_last_that_was_run() {
        let migrations = |applied: usize| -> Vec<MigrationStatus> {
            (1..=3_i64)
                .zip(1..)
                .map(|(version, place)| MigrationStatus {
                    version,
                    file: String::new(),
                    state: if place <= applied { MigrationState::Applied } else { MigrationState::Pending },
                    applied_at: None,
                })
                .collect()
        };
        for (applied, expected) in [(0, 0), (1, 0), (2, 1), (3, 2)] {
            assert_eq!(before_last(&migrations(applied)), expected, "{applied} applied");
        }
    }
}
