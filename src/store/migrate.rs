//! Migrations: embedded, reversible, run under an advisory lock, all or nothing.
//!
//! All pending migrations run in one transaction: when one fails, the schema is as it was before, and the error names
//! the file and the line. Migrations of a newer version of the program are left alone, so that an older replica can
//! start beside it: changes are expand first, contract later.

mod statements;

use std::{collections::BTreeMap, fmt};

use futures::StreamExt as _;
use jiff::Timestamp;
use sqlx::{
    Connection as _, Executor as _, PgConnection, SqlStr,
    migrate::{AppliedMigration, Migrate as _, MigrateError, Migration, Migrator},
    postgres::{PgDatabaseError, PgErrorPosition},
};

use super::{MigrationError, Store, StoreError, error::cause};

/// The migrations of this version of the program.
pub static MIGRATIONS: Migrations = Migrations { source: sqlx::migrate!() };

const TABLE: &str = "_sqlx_migrations";

/// A set of migrations.
#[derive(Debug)]
pub struct Migrations {
    source: Migrator,
}

/// Where one migration stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationStatus {
    /// Its number.
    pub version: i64,
    /// The file it comes from; only the number when this program does not have it.
    pub file: String,
    /// Where it stands.
    pub state: MigrationState,
    /// When it was run.
    pub applied_at: Option<Timestamp>,
}

/// Where a migration stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrationState {
    /// It has been run.
    Applied,
    /// It has not been run.
    Pending,
    /// It has been run, and its file has changed since.
    Modified,
    /// A newer version of the program has run it.
    Newer,
}

impl fmt::Display for MigrationState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Applied => "applied",
            Self::Pending => "pending",
            Self::Modified => "modified",
            Self::Newer => "newer",
        })
    }
}

impl Migrations {
    /// Reads a set from a folder: for tests that bring their own.
    pub async fn from_folder(folder: &std::path::Path) -> Result<Self, StoreError> {
        let source =
            Migrator::new(folder).await.map_err(|error| StoreError::Other(format!("{}: {error}", folder.display())))?;
        Ok(Self { source })
    }

    fn ups(&self) -> impl DoubleEndedIterator<Item = &Migration> {
        self.source.iter().filter(|migration| migration.migration_type.is_up_migration())
    }

    fn downs(&self) -> impl DoubleEndedIterator<Item = &Migration> {
        self.source.iter().filter(|migration| migration.migration_type.is_down_migration())
    }

    fn up(&self, version: i64) -> Option<&Migration> {
        self.ups().find(|migration| migration.version == version)
    }
}

impl Store {
    /// Runs what is pending and says which files those were. Waits while another process does the same.
    pub async fn migrate_up(&self) -> Result<Vec<String>, StoreError> {
        self.migrate_up_with(&MIGRATIONS).await
    }

    /// [`Store::migrate_up`] with another set.
    pub async fn migrate_up_with(&self, set: &Migrations) -> Result<Vec<String>, StoreError> {
        let (mut connection, applied) = self.locked().await?;
        let outcome = async {
            refuse_modified(set, &applied)?;
            let pending: Vec<&Migration> =
                set.ups().filter(|migration| !applied.contains_key(&migration.version)).collect();
            self.run(&mut connection, &pending, true).await
        }
        .await;
        self.unlock(connection).await;
        outcome
    }

    /// Takes back every migration after `target` (0: all) and says which files that were.
    pub async fn migrate_down(&self, target: i64) -> Result<Vec<String>, StoreError> {
        self.migrate_down_with(&MIGRATIONS, target).await
    }

    /// [`Store::migrate_down`] with another set.
    pub async fn migrate_down_with(&self, set: &Migrations, target: i64) -> Result<Vec<String>, StoreError> {
        if target != 0 && set.up(target).is_none() {
            return Err(MigrationError::Unknown { version: target }.into());
        }
        let (mut connection, applied) = self.locked().await?;
        let outcome = async {
            refuse_modified(set, &applied)?;
            if let Some(version) = applied.keys().find(|version| set.up(**version).is_none()) {
                return Err(MigrationError::Newer { version: *version }.into());
            }
            let undone: Vec<&Migration> = set
                .downs()
                .rev()
                .filter(|migration| migration.version > target && applied.contains_key(&migration.version))
                .collect();
            self.run(&mut connection, &undone, false).await
        }
        .await;
        self.unlock(connection).await;
        outcome
    }

    /// Every migration, of this program and of the database, in order.
    pub async fn migrate_status(&self) -> Result<Vec<MigrationStatus>, StoreError> {
        self.migrate_status_with(&MIGRATIONS).await
    }

    /// [`Store::migrate_status`] with another set.
    pub async fn migrate_status_with(&self, set: &Migrations) -> Result<Vec<MigrationStatus>, StoreError> {
        let exists: Option<String> = sqlx::query_scalar("SELECT to_regclass($1)::text")
            .bind(TABLE)
            .fetch_one(&self.pool)
            .await
            .map_err(|error| self.fault(error))?;
        let mut applied: BTreeMap<i64, (Vec<u8>, jiff_sqlx::Timestamp)> = BTreeMap::new();
        if exists.is_some() {
            let rows: Vec<(i64, Vec<u8>, jiff_sqlx::Timestamp)> =
                sqlx::query_as("SELECT version, checksum, installed_on FROM _sqlx_migrations")
                    .fetch_all(&self.pool)
                    .await
                    .map_err(|error| self.fault(error))?;
            applied.extend(rows.into_iter().map(|(version, sum, at)| (version, (sum, at))));
        }
        let mut all: BTreeMap<i64, MigrationStatus> = applied
            .iter()
            .map(|(version, (_, at))| {
                let status = MigrationStatus {
                    version: *version,
                    file: format!("migration {version}"),
                    state: MigrationState::Newer,
                    applied_at: Some(at.to_jiff()),
                };
                (*version, status)
            })
            .collect();
        for migration in set.ups() {
            let known = applied.get(&migration.version);
            let state = match known {
                None => MigrationState::Pending,
                Some((sum, _)) if sum[..] == *migration.checksum => MigrationState::Applied,
                Some(_) => MigrationState::Modified,
            };
            let status = MigrationStatus {
                version: migration.version,
                file: file(migration),
                state,
                applied_at: known.map(|(_, at)| at.to_jiff()),
            };
            all.insert(migration.version, status);
        }
        Ok(all.into_values().collect())
    }

    /// Whether every migration of this program has been run; newer ones do no harm.
    pub async fn schema_is_current(&self) -> Result<bool, StoreError> {
        let status = self.migrate_status().await?;
        Ok(status.iter().all(|migration| matches!(migration.state, MigrationState::Applied | MigrationState::Newer)))
    }

    /// A connection that holds the migration lock, and what has been run.
    async fn locked(&self) -> Result<(PgConnection, BTreeMap<i64, AppliedMigration>), StoreError> {
        let mut connection = self.dedicated().await?;
        let applied = async {
            // `CREATE TABLE IF NOT EXISTS` tells at each start that there is nothing to do.
            connection.execute("SET client_min_messages = warning").await?;
            connection.lock().await?;
            connection.ensure_migrations_table(TABLE).await?;
            connection.list_applied_migrations(TABLE).await
        }
        .await
        .map_err(|error| self.migrate_fault(error))?;
        let applied = applied.into_iter().map(|migration| (migration.version, migration));
        Ok((connection, applied.collect()))
    }

    /// Closing the connection frees the lock, whatever happened before.
    async fn unlock(&self, connection: PgConnection) {
        if let Err(error) = connection.close().await {
            self.fault(error);
        }
    }

    async fn run(
        &self,
        connection: &mut PgConnection,
        migrations: &[&Migration],
        up: bool,
    ) -> Result<Vec<String>, StoreError> {
        let mut all = connection.begin().await.map_err(|error| self.fault(error))?;
        for migration in migrations {
            if let Err((error, finished)) = execute(&mut all, &migration.sql).await {
                return Err(self.migration_fault(migration, error, finished));
            }
            let noted = if up {
                all.skip(TABLE, migration).await
            } else {
                sqlx::query("DELETE FROM _sqlx_migrations WHERE version = $1")
                    .bind(migration.version)
                    .execute(&mut *all)
                    .await
                    .map(|_| ())
                    .map_err(MigrateError::Execute)
            };
            noted.map_err(|error| self.migrate_fault(error))?;
        }
        all.commit().await.map_err(|error| self.fault(error))?;
        Ok(migrations.iter().map(|migration| file(migration)).collect())
    }

    fn migrate_fault(&self, error: MigrateError) -> StoreError {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => self.fault(error),
            other => StoreError::Other(other.to_string()),
        }
    }

    /// Names file and line of a statement that Postgres refused; a lost connection stays what it is.
    fn migration_fault(&self, migration: &Migration, error: sqlx::Error, finished: usize) -> StoreError {
        let sqlx::Error::Database(database) = &error else {
            return self.fault(error);
        };
        let database = database.downcast_ref::<PgDatabaseError>();
        let message = cause(&error);
        let sql = migration.sql.as_str();
        let line = match database.position() {
            Some(PgErrorPosition::Original(position)) => statements::line_at(sql, position),
            _ => statements::line_of(sql, finished),
        };
        let typed = self.fault(error);
        if matches!(typed, StoreError::Unavailable(_)) {
            return typed;
        }
        MigrationError::Failed { file: file(migration), line, message }.into()
    }
}

fn refuse_modified(set: &Migrations, applied: &BTreeMap<i64, AppliedMigration>) -> Result<(), MigrationError> {
    for migration in set.ups() {
        if let Some(known) = applied.get(&migration.version)
            && known.checksum != migration.checksum
        {
            return Err(MigrationError::Modified { file: file(migration) });
        }
    }
    Ok(())
}

/// Runs a script; on failure says how many of its statements had ended.
async fn execute(connection: &mut PgConnection, sql: &SqlStr) -> Result<(), (sqlx::Error, usize)> {
    let mut results = connection.execute_many(sql.clone());
    let mut finished = 0;
    while let Some(result) = results.next().await {
        match result {
            Ok(_) => finished += 1,
            Err(error) => return Err((error, finished)),
        }
    }
    Ok(())
}

/// The path of a migration below the project's root.
fn file(migration: &Migration) -> String {
    format!(
        "migrations/{:04}_{}{}",
        migration.version,
        migration.description.replace(' ', "_"),
        migration.migration_type.suffix()
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn every_migration_has_both_ways_and_a_file_of_the_name_we_print() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let ups: Vec<i64> = MIGRATIONS.ups().map(|migration| migration.version).collect();
        let downs: Vec<i64> = MIGRATIONS.downs().map(|migration| migration.version).collect();
        assert!(!ups.is_empty());
        assert_eq!(ups, downs);
        for migration in MIGRATIONS.source.iter() {
            assert!(root.join(file(migration)).is_file(), "{} is not a file", file(migration));
            assert!(!migration.no_tx, "{} opts out of the transaction that all migrations share", file(migration));
        }
    }
}
