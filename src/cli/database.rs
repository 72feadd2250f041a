//! The database as the command line meets it.

use std::time::Duration;

use uuid::Uuid;

use super::failure::Failure;
use crate::{
    config::{DatabaseUrl, settings::DatabaseArgs},
    store::{Class, ConnectOptions, Store, StoreError},
};

/// Connects for a command that ends soon: few connections, and a person who waits for the answer.
///
/// # Errors
/// There is no usable URL, or no database behind it.
pub async fn connect(arguments: &DatabaseArgs) -> Result<Store, Failure> {
    let url = DatabaseUrl::parse(&arguments.values()).map_err(|errors| {
        Failure::usage(
            errors.to_string(),
            "this goes straight to the database: what goes through the API needs no URL, and `stagekeeper --help` tells of both",
        )
    })?;
    Ok(open(&url).await?)
}

/// Connects to a URL that was read already.
///
/// # Errors
/// There is no database behind it.
pub async fn open(url: &DatabaseUrl) -> Result<Store, StoreError> {
    let options = ConnectOptions {
        pauses: [Duration::from_millis(200), Duration::from_millis(500)],
        min_idle: 0,
        max: 2,
        ..ConnectOptions::default()
    };
    Store::connect_with(url.expose(), &options).await
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let what = error.to_string();
        match error.class() {
            Class::Unavailable => Self::unavailable(
                what,
                "check that the server runs and that DATABASE_URL (--database-url) points at it",
            ),
            Class::NotFound => Self::failed(what, "see `stagekeeper history -A` for what there is"),
            Class::Conflict | Class::Taken | Class::Corrupt | Class::Other => Self::failed(what, ""),
        }
    }
}

/// The one deploy that an id or the beginning of one names, also as `deploy/ID`.
///
/// # Errors
/// No deploy or several begin with it.
pub async fn deploy_named(store: &Store, name: &str) -> Result<Uuid, Failure> {
    let prefix = name.strip_prefix("deploy/").unwrap_or(name);
    only_one(&store.deploy_find(prefix).await?, prefix)
}

/// The one among ids that begin with `prefix`.
///
/// # Errors
/// There is none, or there are several.
pub fn only_one(found: &[Uuid], prefix: &str) -> Result<Uuid, Failure> {
    match found {
        [id] => Ok(*id),
        [] => Err(Failure::failed(
            format!("there is no deploy whose id begins with `{prefix}`"),
            "see `stagekeeper history -A` for the ids",
        )),
        several => Err(Failure::failed(
            format!("several deploys begin with `{prefix}`"),
            format!("type more of one of {}", several.iter().map(Uuid::to_string).collect::<Vec<_>>().join(", ")),
        )),
    }
}
