//! `stagekeeper keys generate|list|verify|rotate|retire`: the keys that credentials are sealed with.

use std::{
    io::{IsTerminal as _, Write},
    sync::Arc,
};

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::{
    database,
    failure::{Code, Failure},
    output::Columns,
};
use crate::{
    config::{
        self,
        settings::{DatabaseArgs, KeyArgs},
    },
    crypto::{KeyId, Keyring},
    domain::clock::{SystemClock, SystemIds},
    safe::{Rotated, Safe, SafeError},
    store::{Retirement, Store},
};

/// What `keys` takes.
#[derive(Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Print a new key as an entry of the keyring: keep a copy of it elsewhere than the database's backups.
    Generate {
        /// Its id: lower-case letters, digits, `.`, `-` and `_` [default: today's date].
        #[arg(value_name = "ID")]
        id: Option<KeyId>,
    },
    /// List the keys that are at hand or were ever used, with how many values each is needed for.
    List(Opened),
    /// Open what every key sealed; exit code 1 when anything does not open.
    Verify(Opened),
    /// Bring every value under the first key, while everything runs. Can be interrupted and begun again.
    Rotate(Opened),
    /// Take a key out of use that no value needs any more: it can then be removed from the keyring.
    Retire {
        /// Its id.
        #[arg(value_name = "ID")]
        id: KeyId,
        #[command(flatten)]
        opened: Opened,
    },
}

/// The database and the keys to it.
#[derive(Args, Clone, Default)]
pub struct Opened {
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    keys: KeyArgs,
}

impl Opened {
    /// Where the database is.
    pub fn database(&self) -> &DatabaseArgs {
        &self.database
    }

    /// Reads the keys, then connects: a wrong keyring is told without a database.
    ///
    /// # Errors
    /// A setting is missing or not usable, or the database is away.
    pub async fn open(&self) -> Result<(Store, Safe), Failure> {
        let keyring = config::keyring(&self.keys.values())?;
        let store = database::connect(&self.database).await?;
        let safe = Safe::new(store.clone(), Arc::new(keyring), Arc::new(SystemClock), Arc::new(SystemIds));
        Ok((store, safe))
    }
}

/// Runs a `keys` command.
///
/// # Errors
/// A setting is not usable, the database is away, or a key is not what it should be.
pub async fn keys(arguments: &KeysArgs, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    match &arguments.command {
        KeysCommand::Generate { id } => generate(id.as_ref(), now, out),
        KeysCommand::List(opened) => {
            let (store, safe) = opened.open().await?;
            list(&store, &safe, out).await
        }
        KeysCommand::Verify(opened) => {
            let (_, safe) = opened.open().await?;
            verify(&safe, out).await
        }
        KeysCommand::Rotate(opened) => {
            let (_, safe) = opened.open().await?;
            rotate(&safe, out).await
        }
        KeysCommand::Retire { id, opened } => {
            let (_, safe) = opened.open().await?;
            retire(&safe, id, out).await
        }
    }
}

fn generate(id: Option<&KeyId>, now: Timestamp, out: &mut dyn Write) -> Result<(), Failure> {
    let entry = Keyring::generate_entry(id.map_or_else(|| now.strftime("%Y-%m-%d").to_string(), KeyId::to_string))
        .map_err(|error| Failure::failed(format!("the machine gives no random numbers: {error}"), ""))?;
    Ok(writeln!(out, "{}", entry.expose_text().unwrap_or_default())?)
}

async fn list(store: &Store, safe: &Safe, out: &mut dyn Write) -> Result<(), Failure> {
    let known = store.encryption_keys_list().await?;
    let mut columns = Columns::new(&["ID", "USE", "AT HAND", "VALUES", "SINCE"]);
    let at_hand = safe.key_ids();
    for key in &known {
        let usage = match key.retired_at {
            Some(_) => "retired",
            None if key.id == safe.primary() => "seals",
            None => "opens",
        };
        let here = if at_hand.contains(&key.id) { "yes" } else { "no" };
        let since = key.created_at.strftime("%Y-%m-%d").to_string();
        columns.row([key.id.to_string(), usage.into(), here.into(), key.rows.to_string(), since]);
    }
    for id in at_hand.into_iter().filter(|id| known.iter().all(|key| key.id != *id)) {
        columns.row([id.to_string(), "new".into(), "yes".into(), "0".into(), String::new()]);
    }
    Ok(write!(out, "{}", columns.render())?)
}

async fn verify(safe: &Safe, out: &mut dyn Write) -> Result<(), Failure> {
    let checked = safe.check().await?;
    for id in &checked.opened {
        writeln!(out, "key {id} is the right one")?;
    }
    for id in &checked.new {
        writeln!(out, "key {id} has not been used yet")?;
    }
    let verified = safe.verify().await?;
    for (called, error) in &verified.broken {
        writeln!(out, "{called}: {error}")?;
    }
    writeln!(out, "{} of {} values open", verified.of - verified.broken.len() as u64, verified.of)?;
    if verified.broken.is_empty() { Ok(()) } else { Err(Failure::Told(Code::Failed)) }
}

async fn rotate(safe: &Safe, out: &mut dyn Write) -> Result<(), Failure> {
    // Each batch is told: on a terminal in place of the one before, elsewhere line by line.
    let terminal = std::io::stderr().is_terminal();
    let told = |rotated: Rotated| {
        let Rotated { done, of } = rotated;
        if terminal {
            eprint!("\r{done} of {of} values");
        } else if of > 0 {
            eprintln!("{done} of {of} values");
        }
    };
    let rotated = safe.rotate(told).await;
    if terminal {
        eprintln!();
    }
    let Rotated { done, of: _ } = rotated?;
    let primary = safe.primary();
    match done {
        0 => writeln!(out, "nothing to do: every value is sealed with {primary}")?,
        _ => writeln!(out, "{done} values are sealed with {primary} now")?,
    }
    Ok(())
}

async fn retire(safe: &Safe, id: &KeyId, out: &mut dyn Write) -> Result<(), Failure> {
    if *id == safe.primary() {
        return Err(Failure::failed(
            format!("{id} is the key that everything is sealed with"),
            "put another one before it in STAGEKEEPER_ENCRYPTION_KEYS, then `stagekeeper keys rotate`",
        ));
    }
    match safe.retire(id).await? {
        Retirement::Done => {
            Ok(writeln!(out, "key {id} is retired: it can be removed from STAGEKEEPER_ENCRYPTION_KEYS")?)
        }
        Retirement::InUse(rows) => {
            Err(Failure::failed(format!("{rows} values are sealed with {id}"), "run `stagekeeper keys rotate` first"))
        }
    }
}

impl From<SafeError> for Failure {
    fn from(error: SafeError) -> Self {
        match error {
            SafeError::Store(error) => error.into(),
            other => Self::failed(other.to_string(), ""),
        }
    }
}
