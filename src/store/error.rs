//! What can go wrong with the store, and what the caller does about it.

use uuid::Uuid;

/// Why a store function did not do what it was asked. The texts hold no credentials and no row contents.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached.
    #[error("{0}")]
    Unavailable(String),
    /// The database answers, and takes no writes now.
    #[error("{0}")]
    Unwritable(String),
    /// Somebody else was faster.
    #[error("{0}")]
    Conflict(String),
    /// There is a newer leader: it has claimed the lease, or has written the row.
    #[error("{0}")]
    Fenced(String),
    /// There is no such row.
    #[error("{what} {id} does not exist")]
    NotFound {
        /// The kind of thing.
        what: &'static str,
        /// How it was asked for.
        id: String,
    },
    /// The name belongs to something of another kind.
    #[error("{0}")]
    Taken(String),
    /// A row holds something that this program cannot read.
    #[error("{what} {id} cannot be read: {why}")]
    Corrupt {
        /// The kind of thing.
        what: &'static str,
        /// Which one.
        id: String,
        /// What is wrong with it.
        why: String,
    },
    /// The schema could not be brought to where it should be.
    #[error(transparent)]
    Migration(#[from] MigrationError),
    /// Anything else: a mistake in the program or the schema.
    #[error("{0}")]
    Other(String),
}

/// Why the schema was left as it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MigrationError {
    /// A statement failed.
    #[error("{file}, line {line}: {message}; the schema is as it was")]
    Failed {
        /// The file below the project's root.
        file: String,
        /// The line, from 1.
        line: usize,
        /// What Postgres says.
        message: String,
    },
    /// A file has changed after it was run.
    #[error(
        "{file} has changed after it was run on this database; restore the file and put the change into a new migration"
    )]
    Modified {
        /// The file.
        file: String,
    },
    /// Only a newer program can undo it.
    #[error(
        "migration {version} was run by a newer version of stagekeeper; run `migrate down` with that version first"
    )]
    Newer {
        /// Its number.
        version: i64,
    },
    /// The number is not one of ours.
    #[error("there is no migration {version}; `stagekeeper migrate status` lists them, 0 stands for an empty schema")]
    Unknown {
        /// The number.
        version: i64,
    },
}

/// What the caller does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Wait and try again; nothing is known about what was asked, so read first.
    Unavailable,
    /// Observe again and decide anew.
    Conflict,
    /// What was asked for is not there.
    NotFound,
    /// Somebody has to choose another name.
    Taken,
    /// Leave it alone and tell somebody.
    Corrupt,
    /// Tell somebody.
    Other,
}

impl StoreError {
    /// What the caller does about it.
    pub const fn class(&self) -> Class {
        match self {
            Self::Unavailable(_) | Self::Unwritable(_) => Class::Unavailable,
            Self::Conflict(_) | Self::Fenced(_) => Class::Conflict,
            Self::NotFound { .. } => Class::NotFound,
            Self::Taken(_) => Class::Taken,
            Self::Corrupt { .. } => Class::Corrupt,
            Self::Migration(_) | Self::Other(_) => Class::Other,
        }
    }

    /// The word for conditions and metric labels.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "StoreUnavailable",
            Self::Unwritable(_) => "StoreUnwritable",
            Self::Conflict(_) => "StoreConflict",
            Self::Fenced(_) => "StoreFenced",
            Self::NotFound { .. } => "StoreNotFound",
            Self::Taken(_) => "NameTaken",
            Self::Corrupt { .. } => "StoreCorrupt",
            Self::Migration(_) => "StoreMigrationFailed",
            Self::Other(_) => "StoreFailed",
        }
    }

    pub(super) fn not_found(what: &'static str, id: &(impl ToString + ?Sized)) -> Self {
        Self::NotFound { what, id: id.to_string() }
    }

    pub(super) fn fenced(deploy: Uuid, mine: i64, theirs: i64) -> Self {
        Self::Fenced(format!(
            "deploy {deploy} was written by a leader of epoch {theirs}, this process holds epoch {mine}: it leads no more"
        ))
    }

    pub(super) fn corrupt(what: &'static str, id: &(impl ToString + ?Sized), why: &(impl ToString + ?Sized)) -> Self {
        Self::Corrupt { what, id: id.to_string(), why: why.to_string() }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(database) => {
                let code = database.code().unwrap_or_default();
                let text = format!("{} (SQLSTATE {code})", database.message());
                of_sqlstate(&code, text)
            }
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => {
                Self::Unavailable(format!("the database is not available: {}", cause(&error)))
            }
            sqlx::Error::ColumnDecode { index, source } => Self::corrupt("column", index, source),
            _ => Self::Other(error.to_string()),
        }
    }
}

/// The classes of <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn of_sqlstate(code: &str, text: String) -> StoreError {
    match code {
        // Read-only, after a demotion or because somebody wants it so; the disk is full.
        "25006" | "53100" => StoreError::Unwritable(format!("the database takes no writes: {text}")),
        // Connection lost, shutting down or starting, out of resources, out of time.
        "57014" | "57P01" | "57P02" | "57P03" | "57P05" | "55P03" => {
            StoreError::Unavailable(format!("the database is not available: {text}"))
        }
        _ if code.starts_with("08") || code.starts_with("53") || code.starts_with("58") => {
            StoreError::Unavailable(format!("the database is not available: {text}"))
        }
        // Two writers, or a row that went away meanwhile.
        "23503" | "23505" | "40001" | "40P01" => StoreError::Conflict(text),
        // Raised by `leads` of the migrations.
        "SK001" => StoreError::Fenced(text),
        "42P01" | "42703" | "42883" => {
            StoreError::Other(format!("{text}: the schema does not fit this version; run `stagekeeper migrate up`"))
        }
        _ => StoreError::Other(text),
    }
}

/// What went wrong underneath, without the words around it.
pub(super) fn cause(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Io(io) => io.to_string(),
        sqlx::Error::Database(database) => database.message().to_owned(),
        sqlx::Error::Configuration(why) => why.to_string(),
        sqlx::Error::PoolTimedOut => "no usable connection in time".into(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sqlstates_have_classes() {
        let cases = [
            ("08006", Class::Unavailable),
            ("25006", Class::Unavailable),
            ("53100", Class::Unavailable),
            ("53300", Class::Unavailable),
            ("57014", Class::Unavailable),
            ("57P01", Class::Unavailable),
            ("57P03", Class::Unavailable),
            ("23505", Class::Conflict),
            ("40001", Class::Conflict),
            ("40P01", Class::Conflict),
            ("23514", Class::Other),
            ("42P01", Class::Other),
        ];
        for (code, class) in cases {
            assert_eq!(of_sqlstate(code, String::new()).class(), class, "{code}");
        }
    }

    #[test]
    fn a_missing_table_names_the_way_out() {
        let error = of_sqlstate("42P01", "relation \"deploys\" does not exist".into());
        assert!(error.to_string().contains("stagekeeper migrate up"));
    }
}
