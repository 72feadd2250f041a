//! Configuration from flags and environment, validated as a whole.
//!
//! Reading (flags, environment, host name) happens in [`settings`]; [`Config::parse`] is pure: a map of
//! values in, a configuration or every problem at once out.

pub mod database_url;
pub mod edge;
pub mod key_file;
mod parse;
pub mod problem;
pub mod settings;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    num::{NonZeroU16, NonZeroUsize},
    path::PathBuf,
    str::FromStr as _,
    sync::Arc,
    time::Duration,
};

use reqwest::Url;
use tracing_subscriber::filter::Targets;

use crate::crypto::Keyring;

pub use self::{
    database_url::DatabaseUrl,
    edge::{Allow, EdgeConfig, EdgeOidc, EdgeTls, Rules},
    problem::{ConfigErrors, Problem},
    settings::{Setting, Values},
};
use self::{
    problem::{Problems, Reported},
    settings::{
        API_AUDIENCE, CONCURRENCY, DATABASE_URL, EDGE_SERVICE, ENCRYPTION_KEYS, ENCRYPTION_KEYS_FILE, LEASE_IDENTITY,
        LEASE_NAME, LEASE_NAMESPACE, LOG, LOG_FORMAT, NAMESPACES, OIDC_CLIENT_ID, OIDC_GROUPS_CLAIM,
        OIDC_GROUPS_PREFIX, OIDC_ISSUER, OIDC_USER_CLAIM, OIDC_USER_PREFIX, POD_NAME, POD_NAMESPACE, PORT, PREVIEW_URL,
        PROCESS, PUBLIC_URL, RELIST, SCAN_CONCURRENCY, SERVE_API, SHARDS, WORKER_THREADS,
    },
};

/// A Service that plain HTTP is spoken with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeService {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The number of its port.
    pub port: u16,
}

/// What `stagekeeper controller` runs with.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where history lives.
    pub database: DatabaseUrl,
    /// The keys that credentials are sealed with, if there are any.
    pub keys: Option<Arc<Keyring>>,
    /// The file that they were read from, if it was one: it is read again when it changes.
    pub keys_file: Option<PathBuf>,
    /// The one port for health, readiness and metrics.
    pub port: NonZeroU16,
    /// What is logged, and how.
    pub log: Log,
    /// The address people reach this installation at, for links; without a slash at the end.
    pub public_url: Option<Url>,
    /// Where environments are reached: each has a name of its own under the host of this address.
    pub preview_url: Option<Url>,
    /// The Service of the built-in proxy, which routes of environments lead to while they sleep.
    pub edge_service: Option<EdgeService>,
    /// Which tokens the API takes: those for this audience.
    pub api_audience: String,
    /// The issuer of ID tokens that the API takes besides, if there is one.
    pub oidc: Option<OidcConfig>,
    /// Whether the controller's process serves the API and webhooks.
    pub serve_api: bool,
    /// Which namespaces are watched.
    pub namespaces: Namespaces,
    /// Reconciles that may run at once, for each controller.
    pub concurrency: NonZeroUsize,
    /// Registry scans that may run at once.
    pub scan_concurrency: NonZeroUsize,
    /// After how long what is known of the cluster is compared with it.
    pub relist: Duration,
    /// Parts that the namespaces are divided into, each with a Lease of its own.
    pub shards: NonZeroU16,
    /// Threads that run tasks.
    pub worker_threads: NonZeroUsize,
    /// The leadership Lease.
    pub lease: Lease,
    /// How to reach the cluster.
    pub cluster: ClusterAccess,
}

/// An issuer of ID tokens that the API takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcConfig {
    /// The issuer, exactly as its tokens name it.
    pub issuer: String,
    /// The audience of its tokens that are for us.
    pub client_id: String,
    /// The claim that has the user's name.
    pub user_claim: String,
    /// What stands before it.
    pub user_prefix: String,
    /// The claim that has the user's groups.
    pub groups_claim: String,
    /// What stands before each.
    pub groups_prefix: String,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// Levels by target: `info`, or `info,stagekeeper=debug`.
    pub filter: Targets,
    /// One JSON object per line, or text for people.
    pub format: LogFormat,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// Text for people.
    Pretty,
}

/// Which namespaces are watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Namespaces {
    /// Every one; needs cluster-wide rights.
    All,
    /// Only these; namespaced rights are enough.
    Only(BTreeSet<String>),
}

impl Namespaces {
    /// Their names; `None` means every one.
    pub fn names(&self) -> Option<Vec<String>> {
        match self {
            Self::All => None,
            Self::Only(names) => Some(names.iter().cloned().collect()),
        }
    }
}

/// Identity of the leadership Lease and of this process in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Name of the Lease object.
    pub name: String,
    /// Its namespace; `None` means the client's own: the pod's, or the kubeconfig context's.
    pub namespace: Option<String>,
    /// This process; unique among all that may compete.
    pub identity: String,
}

/// How to reach the cluster. Both empty: in a pod its service account, elsewhere `KUBECONFIG`, then `~/.kube/config`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusterAccess {
    /// A kubeconfig file.
    pub kubeconfig: Option<PathBuf>,
    /// A context in it.
    pub context: Option<String>,
}

impl Config {
    /// Reads the whole configuration.
    ///
    /// # Errors
    /// Every missing or invalid value at once, by name, with what is expected; secret values are never in the text.
    pub fn parse(values: &Values, cluster: ClusterAccess) -> Result<Self, ConfigErrors> {
        let mut problems = Problems::new(values);
        let database = problems.required(&[&DATABASE_URL], DatabaseUrl::from_str);
        let keys = keys(&mut problems);
        let log = Log::read(&mut problems);
        let port = problems.or_default(&PORT, "8080", parse::port);
        let public_url = problems.optional(&[&PUBLIC_URL], parse::public_url);
        let preview_url = problems.optional(&[&PREVIEW_URL], parse::preview_url);
        let edge_service = problems.optional(&[&EDGE_SERVICE], parse::edge_service);
        let api_audience = problems.or_default(&API_AUDIENCE, "stagekeeper", parse::word);
        let oidc = OidcConfig::read(&mut problems);
        let serve_api = problems.or_default(&SERVE_API, "true", parse::switch);
        let namespaces = problems.optional(&[&NAMESPACES], parse::namespaces);
        let concurrency = problems.or_default(&CONCURRENCY, "32", parse::up_to::<256>);
        let scan_concurrency = problems.or_default(&SCAN_CONCURRENCY, "8", parse::up_to::<64>);
        let relist = problems.or_default(&RELIST, "300", parse::seconds::<10, 86_400>);
        let shards = problems.or_default(&SHARDS, "1", parse::shards);
        let worker_threads = problems.or_default(&WORKER_THREADS, "1", parse::up_to::<64>);
        let lease = Lease::read(&mut problems);
        let read = || -> Result<Self, Reported> {
            Ok(Self {
                database: database?,
                keys: keys?.map(Arc::new),
                keys_file: values.get(&ENCRYPTION_KEYS_FILE).map(PathBuf::from),
                port: port?,
                log: log?,
                public_url: public_url?,
                preview_url: preview_url?,
                edge_service: edge_service?,
                api_audience: api_audience?,
                oidc: oidc?,
                serve_api: serve_api?,
                namespaces: namespaces?.map_or(Namespaces::All, Namespaces::Only),
                concurrency: concurrency?,
                scan_concurrency: scan_concurrency?,
                relist: relist?,
                shards: shards?,
                worker_threads: worker_threads?,
                lease: lease?,
                cluster,
            })
        };
        read().map_err(|Reported| problems.into_errors())
    }
}

impl DatabaseUrl {
    /// Reads only the database's address: what `migrate`, `history` and `logs` need.
    ///
    /// # Errors
    /// `DATABASE_URL` is missing or no Postgres URL.
    pub fn parse(values: &Values) -> Result<Self, ConfigErrors> {
        let mut problems = Problems::new(values);
        problems.required(&[&DATABASE_URL], Self::from_str).map_err(|Reported| problems.into_errors())
    }
}

/// Reads only the keys: what `keys` and `credential set` need besides the database.
///
/// # Errors
/// There are none, or they are not usable; no part of a key is in the text.
pub fn keyring(values: &Values) -> Result<Keyring, ConfigErrors> {
    let mut problems = Problems::new(values);
    let read = match keys(&mut problems) {
        Ok(Some(keyring)) => Ok(keyring),
        Ok(None) => problems.required(&[&ENCRYPTION_KEYS], parse::keyring),
        Err(reported) => Err(reported),
    };
    read.map_err(|Reported| problems.into_errors())
}

/// The file wins: whoever names one means it, and a variable may be left from before.
fn keys(problems: &mut Problems<'_>) -> Result<Option<Keyring>, Reported> {
    match problems.optional(&[&ENCRYPTION_KEYS_FILE], parse::keyring_file)? {
        Some(keyring) => Ok(Some(keyring)),
        None => problems.optional(&[&ENCRYPTION_KEYS], parse::keyring),
    }
}

impl Log {
    fn read(problems: &mut Problems<'_>) -> Result<Self, Reported> {
        let filter = problems.or_default(&LOG, "info", parse::filter);
        let format = problems.or_default(&LOG_FORMAT, "json", parse::log_format);
        Ok(Self { filter: filter?, format: format? })
    }
}

impl OidcConfig {
    fn read(problems: &mut Problems<'_>) -> Result<Option<Self>, Reported> {
        let issuer = problems.optional(&[&OIDC_ISSUER], parse::issuer);
        let user_claim = problems.or_default(&OIDC_USER_CLAIM, "sub", parse::word);
        let user_prefix = problems.or_default(&OIDC_USER_PREFIX, "oidc:", parse::word);
        let groups_claim = problems.or_default(&OIDC_GROUPS_CLAIM, "groups", parse::word);
        let groups_prefix = problems.or_default(&OIDC_GROUPS_PREFIX, "oidc:", parse::word);
        let Some(issuer) = issuer? else { return Ok(None) };
        let client_id = problems.required(&[&OIDC_CLIENT_ID], parse::word);
        Ok(Some(Self {
            issuer,
            client_id: client_id?,
            user_claim: user_claim?,
            user_prefix: user_prefix?,
            groups_claim: groups_claim?,
            groups_prefix: groups_prefix?,
        }))
    }
}

impl Lease {
    fn read(problems: &mut Problems<'_>) -> Result<Self, Reported> {
        let name = problems.or_default(&LEASE_NAME, "stagekeeper", parse::object_name);
        let namespace = problems.optional(&[&LEASE_NAMESPACE, &POD_NAMESPACE], parse::namespace_name);
        let identity = problems.required(&[&LEASE_IDENTITY, &POD_NAME, &PROCESS], parse::word);
        Ok(Self { name: name?, namespace: namespace?, identity: identity? })
    }
}
