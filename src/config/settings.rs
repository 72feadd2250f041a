//! The settings as people give them: flags first, then environment variables.

use std::{collections::BTreeMap, path::PathBuf};

use clap::Args;

use super::ClusterAccess;

/// One setting: how it is called and what it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// The environment variable.
    pub name: &'static str,
    /// The flag, if it has one.
    pub flag: Option<&'static str>,
    /// What a valid value looks like; completes the sentence "expected …".
    pub expected: &'static str,
    /// Whether its value may never be shown.
    pub secret: bool,
}

pub(super) const fn setting(name: &'static str, flag: &'static str, expected: &'static str) -> Setting {
    Setting { name, flag: Some(flag), expected, secret: false }
}

const fn from_environment(name: &'static str, expected: &'static str) -> Setting {
    Setting { name, flag: None, expected, secret: false }
}

/// Where history lives.
pub const DATABASE_URL: Setting = Setting {
    secret: true,
    ..setting("DATABASE_URL", "database-url", "a Postgres URL such as postgres://USER:PASSWORD@HOST:5432/DATABASE")
};
/// The keys that credentials are sealed with.
pub const ENCRYPTION_KEYS: Setting = Setting {
    secret: true,
    ..from_environment(
        "STAGEKEEPER_ENCRYPTION_KEYS",
        "ID:KEY entries separated by commas, each key 64 hexadecimal digits, the first one for what is sealed from now on",
    )
};
/// A file with them.
pub const ENCRYPTION_KEYS_FILE: Setting = setting(
    "STAGEKEEPER_ENCRYPTION_KEYS_FILE",
    "encryption-keys-file",
    "a readable file, such as a mounted Secret, with one ID:KEY entry in each line, each key 64 hexadecimal digits",
);
/// The port for health, readiness and metrics.
pub const PORT: Setting = setting("STAGEKEEPER_PORT", "port", "a whole number from 1 to 65535 (default 8080)");
/// Log levels.
pub const LOG: Setting = setting(
    "STAGEKEEPER_LOG",
    "log",
    "off, error, warn, info (default), debug or trace, also by target: info,stagekeeper=debug",
);
/// Log format.
pub const LOG_FORMAT: Setting = setting("STAGEKEEPER_LOG_FORMAT", "log-format", "json (default) or pretty");
/// The address people reach this installation at.
pub const PUBLIC_URL: Setting =
    setting("STAGEKEEPER_PUBLIC_URL", "public-url", "an http or https URL without credentials, query and fragment");
/// Where previews are reached.
pub const PREVIEW_URL: Setting = setting(
    "STAGEKEEPER_PREVIEW_URL",
    "preview-url",
    "an http or https URL whose host is the domain that environments get names under, such as https://preview.example.com",
);
/// The Service of the built-in proxy.
pub const EDGE_SERVICE: Setting = setting(
    "STAGEKEEPER_EDGE_SERVICE",
    "edge-service",
    "the Service of the built-in proxy as NAMESPACE/NAME:PORT, with its port for plain HTTP, such as stagekeeper/stagekeeper-edge:80",
);
/// Audience of the API's tokens.
pub const API_AUDIENCE: Setting = setting(
    "STAGEKEEPER_API_AUDIENCE",
    "api-audience",
    "the audience of the tokens that the API takes (default stagekeeper)",
);
/// An issuer of ID tokens.
pub const OIDC_ISSUER: Setting = setting(
    "STAGEKEEPER_OIDC_ISSUER",
    "oidc-issuer",
    "the https URL of an OpenID Connect issuer, exactly as its tokens name it, without credentials, query and fragment",
);
/// Our name at the issuer.
pub const OIDC_CLIENT_ID: Setting =
    setting("STAGEKEEPER_OIDC_CLIENT_ID", "oidc-client-id", "the audience of the issuer's tokens for Stagekeeper");
/// The claim with the user's name.
pub const OIDC_USER_CLAIM: Setting =
    setting("STAGEKEEPER_OIDC_USER_CLAIM", "oidc-user-claim", "the claim with the user's name (default sub)");
/// What stands before the user's name.
pub const OIDC_USER_PREFIX: Setting =
    setting("STAGEKEEPER_OIDC_USER_PREFIX", "oidc-user-prefix", "what stands before a user's name (default oidc:)");
/// The claim with the user's groups.
pub const OIDC_GROUPS_CLAIM: Setting =
    setting("STAGEKEEPER_OIDC_GROUPS_CLAIM", "oidc-groups-claim", "the claim with the user's groups (default groups)");
/// What stands before a group.
pub const OIDC_GROUPS_PREFIX: Setting =
    setting("STAGEKEEPER_OIDC_GROUPS_PREFIX", "oidc-groups-prefix", "what stands before a group (default oidc:)");
/// Namespaces to watch.
pub const NAMESPACES: Setting =
    setting("STAGEKEEPER_NAMESPACES", "namespaces", "names of namespaces separated by commas, or nothing for all");
/// Whether the controller's process serves the API and webhooks too.
pub const SERVE_API: Setting = setting(
    "STAGEKEEPER_SERVE_API",
    "serve-api",
    "true or false (default true): whether the controller serves the API and webhooks; false where `stagekeeper api` does",
);
/// Reconciles at once.
pub const CONCURRENCY: Setting =
    setting("STAGEKEEPER_CONCURRENCY", "concurrency", "a whole number from 1 to 256 (default 32)");
/// Registry scans at once.
pub const SCAN_CONCURRENCY: Setting =
    setting("STAGEKEEPER_SCAN_CONCURRENCY", "scan-concurrency", "a whole number from 1 to 64 (default 8)");
/// Seconds until what is watched is compared with the cluster.
pub const RELIST: Setting = setting(
    "STAGEKEEPER_RELIST",
    "relist",
    "a whole number of seconds from 10 to 86400 (default 300), after which what is known of the cluster is compared with it",
);
/// Parts that the namespaces are divided into.
pub const SHARDS: Setting = setting(
    "STAGEKEEPER_SHARDS",
    "shards",
    "a whole number from 1 to 16 (default 1), the same for all replicas: parts of the namespaces that replicas lead separately",
);
/// Threads that run tasks.
pub const WORKER_THREADS: Setting =
    setting("STAGEKEEPER_WORKER_THREADS", "worker-threads", "a whole number from 1 to 64 (default 1)");
/// Name of the leadership Lease.
pub const LEASE_NAME: Setting =
    setting("STAGEKEEPER_LEASE_NAME", "lease-name", "a lower-case DNS name (default stagekeeper)");
/// Namespace of the leadership Lease.
pub const LEASE_NAMESPACE: Setting = setting(
    "STAGEKEEPER_LEASE_NAMESPACE",
    "lease-namespace",
    "the name of a namespace (default POD_NAMESPACE, then the client's own)",
);
/// This process in the Lease.
pub const LEASE_IDENTITY: Setting = setting(
    "STAGEKEEPER_LEASE_IDENTITY",
    "lease-identity",
    "a word of printable ASCII that no other replica uses (default POD_NAME, then host name and process id)",
);
/// The pod's name, set by the chart through the downward API.
pub const POD_NAME: Setting = from_environment("POD_NAME", "the pod's name");
/// The pod's namespace, set by the chart through the downward API.
pub const POD_NAMESPACE: Setting = from_environment("POD_NAMESPACE", "the name of the pod's namespace");
/// Host name and process id: read from the machine, unique among processes that may compete.
pub const PROCESS: Setting = from_environment("host name", "a word of printable ASCII");

/// Every setting that people give, in the order of the documentation.
pub const DOCUMENTED: [Setting; 28] = [
    DATABASE_URL,
    ENCRYPTION_KEYS,
    ENCRYPTION_KEYS_FILE,
    NAMESPACES,
    PORT,
    LOG,
    LOG_FORMAT,
    PUBLIC_URL,
    PREVIEW_URL,
    EDGE_SERVICE,
    API_AUDIENCE,
    OIDC_ISSUER,
    OIDC_CLIENT_ID,
    OIDC_USER_CLAIM,
    OIDC_USER_PREFIX,
    OIDC_GROUPS_CLAIM,
    OIDC_GROUPS_PREFIX,
    SERVE_API,
    CONCURRENCY,
    SCAN_CONCURRENCY,
    RELIST,
    SHARDS,
    WORKER_THREADS,
    LEASE_NAME,
    LEASE_NAMESPACE,
    LEASE_IDENTITY,
    POD_NAME,
    POD_NAMESPACE,
];

/// Values by the name of their setting. An empty value counts as none.
#[derive(Clone, Default)]
pub struct Values(BTreeMap<&'static str, String>);

impl Values {
    /// Adds a value; `None` and the empty text add nothing.
    #[must_use]
    pub fn with(mut self, setting: &Setting, value: Option<String>) -> Self {
        if let Some(value) = value.filter(|text| !text.trim().is_empty()) {
            self.0.insert(setting.name, value.trim().to_owned());
        }
        self
    }

    /// The value of a setting.
    pub fn get(&self, setting: &Setting) -> Option<&str> {
        self.0.get(setting.name).map(String::as_str)
    }
}

/// Where the database is.
#[derive(Args, Clone, Default)]
pub struct DatabaseArgs {
    /// Postgres URL: `postgres://USER:PASSWORD@HOST:5432/DATABASE`.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true, value_name = "URL")]
    pub database_url: Option<String>,
}

impl DatabaseArgs {
    /// As values to parse.
    pub fn values(&self) -> Values {
        Values::default().with(&DATABASE_URL, self.database_url.clone())
    }
}

/// The keys that credentials are sealed with. Not as a flag: every process of the machine can read those.
#[derive(Args, Clone, Default)]
pub struct KeyArgs {
    /// File with the encryption keys, one ID:KEY in each line [default: the variable without _FILE].
    #[arg(long, env = ENCRYPTION_KEYS_FILE.name, value_name = "FILE")]
    pub encryption_keys_file: Option<String>,
}

impl KeyArgs {
    /// As values to parse.
    pub fn values(&self) -> Values {
        Values::default()
            .with(&ENCRYPTION_KEYS_FILE, self.encryption_keys_file.clone())
            .with(&ENCRYPTION_KEYS, std::env::var(ENCRYPTION_KEYS.name).ok())
    }
}

/// How to reach the cluster.
#[derive(Args, Clone, Default)]
pub struct ClusterArgs {
    /// Kubeconfig file [default: in a pod its service account, elsewhere $KUBECONFIG, then ~/.kube/config].
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig [default: its current one].
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
}

impl ClusterArgs {
    /// As part of the configuration.
    pub fn access(&self) -> ClusterAccess {
        ClusterAccess { kubeconfig: self.kubeconfig.clone(), context: self.context.clone() }
    }
}

/// Everything that `stagekeeper controller` takes.
#[derive(Args, Clone, Default)]
pub struct ControllerArgs {
    /// Where the database is.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// The keys that credentials are sealed with.
    #[command(flatten)]
    pub keys: KeyArgs,
    /// Port for health, readiness and metrics, 1 to 65535 [default: 8080].
    #[arg(long, env = PORT.name, value_name = "PORT")]
    pub port: Option<String>,
    /// Log levels: info, or by target info,stagekeeper=debug [default: info].
    #[arg(long, env = LOG.name, value_name = "LEVELS")]
    pub log: Option<String>,
    /// Log format, json or pretty [default: json].
    #[arg(long, env = LOG_FORMAT.name, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// The address people reach this installation at.
    #[arg(long, env = PUBLIC_URL.name, value_name = "URL")]
    pub public_url: Option<String>,
    /// Where environments are reached: the host is the domain that they get names under.
    #[arg(long, env = PREVIEW_URL.name, value_name = "URL")]
    pub preview_url: Option<String>,
    /// Service of `stagekeeper edge`, for environments with an Ingress or an `HTTPRoute`: NAMESPACE/NAME:PORT.
    #[arg(long, env = EDGE_SERVICE.name, value_name = "SERVICE")]
    pub edge_service: Option<String>,
    /// Audience of the tokens that the API takes [default: stagekeeper].
    #[arg(long, env = API_AUDIENCE.name, value_name = "NAME")]
    pub api_audience: Option<String>,
    /// Issuer of ID tokens that the API takes besides [default: none].
    #[arg(long, env = OIDC_ISSUER.name, value_name = "URL")]
    pub oidc_issuer: Option<String>,
    /// Audience of the issuer's tokens for Stagekeeper.
    #[arg(long, env = OIDC_CLIENT_ID.name, value_name = "NAME")]
    pub oidc_client_id: Option<String>,
    /// Claim with the user's name [default: sub].
    #[arg(long, env = OIDC_USER_CLAIM.name, value_name = "NAME")]
    pub oidc_user_claim: Option<String>,
    /// What stands before a user's name [default: oidc:].
    #[arg(long, env = OIDC_USER_PREFIX.name, value_name = "TEXT")]
    pub oidc_user_prefix: Option<String>,
    /// Claim with the user's groups [default: groups].
    #[arg(long, env = OIDC_GROUPS_CLAIM.name, value_name = "NAME")]
    pub oidc_groups_claim: Option<String>,
    /// What stands before a group [default: oidc:].
    #[arg(long, env = OIDC_GROUPS_PREFIX.name, value_name = "TEXT")]
    pub oidc_groups_prefix: Option<String>,
    /// Whether the controller serves the API and webhooks, true or false [default: true].
    #[arg(long, env = SERVE_API.name, value_name = "WHETHER")]
    pub serve_api: Option<String>,
    /// Namespaces to watch, separated by commas [default: all].
    #[arg(long, env = NAMESPACES.name, value_name = "NAMES")]
    pub namespaces: Option<String>,
    /// Reconciles at once, for each controller, 1 to 256 [default: 32].
    #[arg(long, env = CONCURRENCY.name, value_name = "NUMBER")]
    pub concurrency: Option<String>,
    /// Registry scans at once, 1 to 64 [default: 8].
    #[arg(long, env = SCAN_CONCURRENCY.name, value_name = "NUMBER")]
    pub scan_concurrency: Option<String>,
    /// Seconds until what is known of the cluster is compared with it, 10 to 86400 [default: 300].
    #[arg(long, env = RELIST.name, value_name = "SECONDS")]
    pub relist: Option<String>,
    /// Parts of the namespaces that replicas lead separately, 1 to 16; the same for all of them [default: 1].
    #[arg(long, env = SHARDS.name, value_name = "NUMBER")]
    pub shards: Option<String>,
    /// Threads that run tasks, 1 to 64 [default: 1].
    #[arg(long, env = WORKER_THREADS.name, value_name = "NUMBER")]
    pub worker_threads: Option<String>,
    /// Name of the leadership Lease [default: stagekeeper].
    #[arg(long, env = LEASE_NAME.name, value_name = "NAME")]
    pub lease_name: Option<String>,
    /// Namespace of the Lease [default: the pod's, then the client's own].
    #[arg(long, env = LEASE_NAMESPACE.name, value_name = "NAME")]
    pub lease_namespace: Option<String>,
    /// This replica in the Lease [default: the pod's name, then host name and process id].
    #[arg(long, env = LEASE_IDENTITY.name, value_name = "NAME")]
    pub lease_identity: Option<String>,
}

impl ControllerArgs {
    /// As values to parse, with what only the machine knows added.
    pub fn values(&self) -> Values {
        self.database
            .values()
            .with(&ENCRYPTION_KEYS_FILE, self.keys.encryption_keys_file.clone())
            .with(&ENCRYPTION_KEYS, std::env::var(ENCRYPTION_KEYS.name).ok())
            .with(&PORT, self.port.clone())
            .with(&LOG, self.log.clone())
            .with(&LOG_FORMAT, self.log_format.clone())
            .with(&PUBLIC_URL, self.public_url.clone())
            .with(&PREVIEW_URL, self.preview_url.clone())
            .with(&EDGE_SERVICE, self.edge_service.clone())
            .with(&API_AUDIENCE, self.api_audience.clone())
            .with(&OIDC_ISSUER, self.oidc_issuer.clone())
            .with(&OIDC_CLIENT_ID, self.oidc_client_id.clone())
            .with(&OIDC_USER_CLAIM, self.oidc_user_claim.clone())
            .with(&OIDC_USER_PREFIX, self.oidc_user_prefix.clone())
            .with(&OIDC_GROUPS_CLAIM, self.oidc_groups_claim.clone())
            .with(&OIDC_GROUPS_PREFIX, self.oidc_groups_prefix.clone())
            .with(&SERVE_API, self.serve_api.clone())
            .with(&NAMESPACES, self.namespaces.clone())
            .with(&CONCURRENCY, self.concurrency.clone())
            .with(&SCAN_CONCURRENCY, self.scan_concurrency.clone())
            .with(&RELIST, self.relist.clone())
            .with(&SHARDS, self.shards.clone())
            .with(&WORKER_THREADS, self.worker_threads.clone())
            .with(&LEASE_NAME, self.lease_name.clone())
            .with(&LEASE_NAMESPACE, self.lease_namespace.clone())
            .with(&LEASE_IDENTITY, self.lease_identity.clone())
            .with(&POD_NAME, std::env::var(POD_NAME.name).ok())
            .with(&POD_NAMESPACE, std::env::var(POD_NAMESPACE.name).ok())
            .with(&PROCESS, process())
    }
}

/// Two processes of one host must not share an identity: both would hold the Lease.
fn process() -> Option<String> {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(format!("{}_{}", host.trim(), std::process::id()))
}
