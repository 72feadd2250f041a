//! Where an answer comes from: the HTTP API, which knows who asks, or straight from the database, for operators.

use clap::{ArgMatches, parser::ValueSource};
use jiff::Timestamp;
use uuid::Uuid;

use super::{
    Context, database,
    deploys::DeployView,
    failure::Failure,
    remote::{Call, Remote},
};
use crate::{
    config::settings::DatabaseArgs,
    http::api::{cursor::Page, views::Deploy},
    store::{Store, StoreError},
};

/// One of the two. What is printed does not tell them apart.
pub enum Source {
    /// The database itself.
    Database(Store),
    /// The HTTP API.
    Api(Box<Remote>),
}

/// What the command line itself says of the way, not the environment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// It has a flag of the API.
    pub api: bool,
    /// It has `--database-url`.
    pub database: bool,
}

impl Flags {
    /// Reads them where the command ends that was given.
    pub fn of(matches: &ArgMatches) -> Self {
        let mut leaf = matches;
        while let Some((_, inner)) = leaf.subcommand() {
            leaf = inner;
        }
        let given = |id: &str| {
            leaf.try_contains_id(id).unwrap_or_default() && leaf.value_source(id) == Some(ValueSource::CommandLine)
        };
        let api = ["server", "server_ca", "operator_namespace", "token_file", "as_service_account", "audience"];
        Self { api: api.into_iter().any(given), database: given("database_url") }
    }
}

/// Which of the two is meant: a flag goes before the environment, and without either it is the API.
fn is_database(flags: Flags, server: bool, database: bool) -> Result<bool, Failure> {
    match (flags.api, flags.database) {
        (true, true) => Err(Failure::usage(
            "--database-url goes straight to the database, and the other flags through the API",
            "give those of one way only",
        )),
        (true, false) => Ok(false),
        (false, true) => Ok(true),
        (false, false) if server && database => Err(Failure::usage(
            "both STAGEKEEPER_SERVER and DATABASE_URL are set",
            "say which is meant: give --server or --database-url, or unset one of them",
        )),
        (false, false) => Ok(database),
    }
}

impl Context {
    /// The way that is meant, opened.
    ///
    /// # Errors
    /// It is not clear which, or what is at its end cannot be reached.
    pub async fn source(&self, database: &DatabaseArgs) -> Result<Source, Failure> {
        Ok(match self.remote(database).await? {
            Some(remote) => Source::Api(Box::new(remote)),
            None => Source::Database(database::connect(database).await?),
        })
    }

    /// The API, where that is the way that is meant.
    ///
    /// # Errors
    /// It is not clear which is, or the API cannot be reached.
    pub async fn remote(&self, database: &DatabaseArgs) -> Result<Option<Remote>, Failure> {
        let is_set = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.trim().is_empty());
        if is_database(self.flags, is_set(&self.server.server), is_set(&database.database_url))? {
            return Ok(None);
        }
        Remote::open(self).await.map(Some)
    }
}

/// A path in a namespace, or one that is about all of them.
pub fn scoped<'a>(namespace: Option<&'a str>, rest: &[&'a str]) -> Vec<&'a str> {
    let inside = namespace.map(|namespace| ["namespaces", namespace]);
    inside.into_iter().flatten().chain(rest.iter().copied()).collect()
}

/// Where a list is of: for whoever may not see it.
pub fn place(namespace: Option<&str>) -> String {
    namespace.map_or_else(|| "all namespaces".to_owned(), |namespace| format!("namespace {namespace}"))
}

impl Source {
    /// The one deploy that an id or the beginning of one names, also as `deploy/ID`.
    ///
    /// # Errors
    /// No deploy or several begin with it.
    pub async fn deploy_named(&self, name: &str) -> Result<Uuid, Failure> {
        let remote = match self {
            Self::Database(store) => return database::deploy_named(store, name).await,
            Self::Api(remote) => remote,
        };
        let prefix = name.strip_prefix("deploy/").unwrap_or(name);
        if let Ok(id) = prefix.parse() {
            return Ok(id);
        }
        let namespace = remote.namespace.as_str();
        let path = ["namespaces", namespace, "deploys"];
        let call = Call::new(&path, format!("namespace {namespace}")).with("id", prefix);
        let found: Page<Deploy> = remote.get(call).await?;
        let ids: Vec<Uuid> = found.items.iter().map(|deploy| deploy.brief.id).collect();
        database::only_one(&ids, prefix)
    }

    /// A deploy with its steps.
    ///
    /// # Errors
    /// There is none.
    pub async fn deploy(&self, id: Uuid, now: Timestamp) -> Result<DeployView, Failure> {
        match self {
            Self::Database(store) => {
                let found = store.deploy_get(id).await?;
                let found = found.ok_or_else(|| StoreError::NotFound { what: "deploy", id: id.to_string() })?;
                Ok(DeployView::new(&found.entry, now))
            }
            Self::Api(remote) => {
                let (namespace, name) = (remote.namespace.as_str(), id.to_string());
                let path = ["namespaces", namespace, "deploys", &name];
                let call = Call::new(&path, format!("deploy {id} in namespace {namespace}")).with("transitions", true);
                remote.get::<Deploy>(call).await.map(DeployView::from)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::grammar;

    #[test]
    fn a_flag_goes_before_the_environment_and_two_ways_are_none() {
        let flags = |api, database| Flags { api, database };
        for (flags, server, database, wanted) in [
            (flags(false, false), false, false, Some(false)),
            (flags(false, false), true, false, Some(false)),
            (flags(false, false), false, true, Some(true)),
            (flags(false, false), true, true, None),
            (flags(true, false), true, true, Some(false)),
            (flags(true, false), false, true, Some(false)),
            (flags(false, true), true, true, Some(true)),
            (flags(true, true), true, true, None),
        ] {
            assert_eq!(is_database(flags, server, database).ok(), wanted, "{flags:?} {server} {database}");
        }
    }

    #[test]
    fn flags_are_found_wherever_they_stand() {
        let read = |line: &str| Flags::of(&grammar().try_get_matches_from(line.split(' ')).expect("a command"));
        let api = Flags { api: true, database: false };
        assert_eq!(read("stagekeeper --server https://x promote dev"), api);
        assert_eq!(read("stagekeeper promote dev --server https://x"), api);
        assert_eq!(read("stagekeeper updates list --as-service-account x"), api);
        assert_eq!(read("stagekeeper audit list --database-url x"), Flags { api: false, database: true });
        assert_eq!(read("stagekeeper crds"), Flags::default());
    }
}
