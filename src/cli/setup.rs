//! `stagekeeper setup`: the Secrets that an installation needs before anything can start, made once.
//!
//! What is there is left as it is, so it may run any number of times. A key is never made where a database holds what another
//! one sealed: that one has to come back.

use std::{collections::BTreeMap, io::Write};

use clap::Args;
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};
use zeroize::Zeroizing;

use super::{Context, cluster::unread, database, failure::Failure};
use crate::{
    cluster::{client::install_tls, error::chain},
    config::{DatabaseUrl, settings::DatabaseArgs},
    crypto::{Keyring, random},
    store::MigrationState,
};

/// Who owns the database and what it is called, where we make the password.
const DATABASE: &str = "stagekeeper";

/// The key of the Secret with the keyring.
const KEYS: &str = "keys";

/// What `setup` takes.
#[derive(Args)]
pub struct SetupArgs {
    /// Secret to make with an encryption key, under `keys`.
    #[arg(long, value_name = "NAME")]
    keys_secret: Option<String>,
    /// Secret to make with a password and the URL of a database that it is to have, under `password` and `url`.
    #[arg(long, value_name = "NAME", requires = "database_host")]
    database_secret: Option<String>,
    /// Where that database will be, as HOST or HOST:PORT.
    #[arg(long, value_name = "HOST")]
    database_host: Option<String>,
    /// The database that there is already, if there is one: it is asked which keys it knows.
    #[command(flatten)]
    database: DatabaseArgs,
}

/// Makes what is missing.
///
/// # Errors
/// The cluster refuses, or there is a database that needs a key which is not here.
pub async fn setup(
    context: &Context,
    arguments: &SetupArgs,
    now: Timestamp,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    install_tls();
    let namespace = context.namespace().await?;
    let client = Context::client(context.cluster_config().await?)?;
    let secrets: Api<Secret> = Api::namespaced(client, &namespace);
    // The keys come first: once there is a Secret for the database, there may be a database.
    if let Some(name) = &arguments.keys_secret {
        let known = is_there(&secrets, &namespace, name).await?;
        if !known {
            refuse_another(&arguments.database, name).await?;
        }
        let values = || {
            let entry = Keyring::generate_entry(now.strftime("%Y-%m-%d")).map_err(no_random)?;
            Ok(BTreeMap::from([(KEYS, Zeroizing::new(format!("{}\n", entry.expose_text().unwrap_or_default())))]))
        };
        keep_or_make(&secrets, name, known, values, out).await?;
    }
    if let (Some(name), Some(host)) = (&arguments.database_secret, &arguments.database_host) {
        let known = is_there(&secrets, &namespace, name).await?;
        keep_or_make(&secrets, name, known, || login(host), out).await?;
    }
    Ok(())
}

/// A user, a password, and the URL with both.
fn login(host: &str) -> Result<BTreeMap<&'static str, Zeroizing<String>>, Failure> {
    let password = Zeroizing::new(hex::encode(*random::<24>().map_err(no_random)?));
    let url = Zeroizing::new(format!("postgres://{DATABASE}:{}@{host}/{DATABASE}", *password));
    Ok(BTreeMap::from([("password", password), ("url", url)]))
}

fn no_random(error: String) -> Failure {
    Failure::failed(format!("the machine gives no random numbers: {error}"), "")
}

async fn is_there(secrets: &Api<Secret>, namespace: &str, name: &str) -> Result<bool, Failure> {
    let found = secrets.get_metadata_opt(name).await;
    found.map(|found| found.is_some()).map_err(|error| unread::<Secret>("get", Some(namespace), name, &error))
}

/// A database that has sealed values needs the key that it sealed them with, and no other.
async fn refuse_another(arguments: &DatabaseArgs, name: &str) -> Result<(), Failure> {
    if arguments.database_url.as_deref().unwrap_or_default().is_empty() {
        return Ok(());
    }
    let url = DatabaseUrl::parse(&arguments.values())?;
    let store = database::open(&url).await?;
    let migrated = store.migrate_status().await?;
    if migrated.iter().any(|migration| migration.state == MigrationState::Pending) {
        return Ok(());
    }
    let known = store.encryption_keys_list().await?;
    let open: Vec<String> = known.iter().filter(|key| key.retired_at.is_none()).map(|key| key.id.to_string()).collect();
    if open.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(
        format!("there is no Secret {name}, but {url} has values that are sealed with {}", open.join(", ")),
        format!("restore the Secret {name} from where you keep a copy of it: another key opens nothing"),
    ))
}

async fn keep_or_make(
    secrets: &Api<Secret>,
    name: &str,
    known: bool,
    values: impl FnOnce() -> Result<BTreeMap<&'static str, Zeroizing<String>>, Failure>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    if known {
        return Ok(writeln!(out, "secret/{name} is there and is left as it is")?);
    }
    let data = values()?.into_iter().map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec())));
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([("app.kubernetes.io/part-of".to_owned(), "stagekeeper".to_owned())])),
            ..ObjectMeta::default()
        },
        data: Some(data.collect()),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    };
    match secrets.create(&PostParams::default(), &secret).await {
        Ok(_) => Ok(writeln!(out, "secret/{name} is made: keep a copy of it elsewhere than the database's backups")?),
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            Ok(writeln!(out, "secret/{name} is there and is left as it is")?)
        }
        Err(error) => Err(Failure::failed(
            format!("secret/{name} cannot be made: {}", chain(&error)),
            "the right to create Secrets in this namespace is needed",
        )),
    }
}
