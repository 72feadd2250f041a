//! What `stagekeeper edge` is told.

mod oidc;

use std::{
    num::{NonZeroU16, NonZeroU32, NonZeroUsize},
    path::PathBuf,
    str::FromStr as _,
    time::Duration,
};

use clap::Args;

pub use self::oidc::{
    Allow, EDGE_OIDC_ALLOW, EDGE_OIDC_CLIENT_ID, EDGE_OIDC_HOST, EDGE_OIDC_ISSUER, EDGE_OIDC_KEY_FILE,
    EDGE_OIDC_SCOPES, EDGE_OIDC_SECRET_FILE, EDGE_OIDC_SESSION, EdgeOidc, EdgeOidcArgs, Rules,
};

use super::{
    ClusterAccess, ConfigErrors, DatabaseUrl, Log, Namespaces, parse,
    problem::{Problems, Reported},
    settings::{
        DATABASE_URL, DatabaseArgs, LOG, LOG_FORMAT, NAMESPACES, PORT, Setting, Values, WORKER_THREADS, setting,
    },
};

/// The port for requests over plain HTTP.
pub const EDGE_PORT: Setting =
    setting("STAGEKEEPER_EDGE_PORT", "edge-port", "a whole number from 1 to 65535 (default 8000)");
/// The port for requests over TLS.
pub const EDGE_TLS_PORT: Setting = setting(
    "STAGEKEEPER_EDGE_TLS_PORT",
    "edge-tls-port",
    "a whole number from 1 to 65535 (default 8443); listened on when there is a certificate",
);
/// The certificate.
pub const EDGE_TLS_CERT: Setting = setting(
    "STAGEKEEPER_EDGE_TLS_CERT",
    "edge-tls-cert",
    "a file with a certificate and its chain in PEM, such as tls.crt of a mounted Secret, together with the key",
);
/// Its key.
pub const EDGE_TLS_KEY: Setting = setting(
    "STAGEKEEPER_EDGE_TLS_KEY",
    "edge-tls-key",
    "a file with the certificate's private key in PEM, such as tls.key of a mounted Secret, together with the certificate",
);
/// Whether plain HTTP is sent to https.
pub const EDGE_REDIRECT: Setting = setting(
    "STAGEKEEPER_EDGE_REDIRECT",
    "edge-redirect",
    "true or false (default false): whether requests over plain HTTP are sent to https; only with a certificate",
);
/// The password in front of environments.
pub const EDGE_PASSWORD_FILE: Setting = setting(
    "STAGEKEEPER_EDGE_PASSWORD_FILE",
    "edge-password-file",
    "a readable file, such as one of a mounted Secret, whose first line is the password in front of environments",
);
/// How long a request waits for an environment to wake.
pub const EDGE_WAKE_LIMIT: Setting =
    setting("STAGEKEEPER_EDGE_WAKE_LIMIT", "edge-wake-limit", "a whole number of seconds from 0 to 600 (default 30)");
/// Requests a second for each environment.
pub const EDGE_RATE: Setting = setting(
    "STAGEKEEPER_EDGE_RATE",
    "edge-rate",
    "a whole number from 0 to 100000 of requests a second for each environment (default 0: any number)",
);
/// Whether requests are logged.
pub const EDGE_ACCESS_LOG: Setting =
    setting("STAGEKEEPER_EDGE_ACCESS_LOG", "edge-access-log", "true or false (default false)");
/// Whether pages tell why a deploy failed.
pub const EDGE_DETAILS: Setting = setting(
    "STAGEKEEPER_EDGE_DETAILS",
    "edge-details",
    "true or false (default false): whether everybody with the URL reads why a deploy failed; who gave the password does",
);

/// Every setting of the edge, in the order of the documentation.
pub const EDGE_DOCUMENTED: [Setting; 24] = [
    DATABASE_URL,
    NAMESPACES,
    PORT,
    LOG,
    LOG_FORMAT,
    WORKER_THREADS,
    EDGE_PORT,
    EDGE_TLS_PORT,
    EDGE_TLS_CERT,
    EDGE_TLS_KEY,
    EDGE_REDIRECT,
    EDGE_PASSWORD_FILE,
    EDGE_OIDC_ISSUER,
    EDGE_OIDC_CLIENT_ID,
    EDGE_OIDC_SECRET_FILE,
    EDGE_OIDC_KEY_FILE,
    EDGE_OIDC_HOST,
    EDGE_OIDC_ALLOW,
    EDGE_OIDC_SCOPES,
    EDGE_OIDC_SESSION,
    EDGE_WAKE_LIMIT,
    EDGE_RATE,
    EDGE_ACCESS_LOG,
    EDGE_DETAILS,
];

/// Everything that `stagekeeper edge` takes.
#[derive(Args, Clone, Default)]
pub struct EdgeArgs {
    /// Where the database is.
    #[command(flatten)]
    pub database: DatabaseArgs,
    /// Namespaces to serve, separated by commas [default: all].
    #[arg(long, env = NAMESPACES.name, value_name = "NAMES")]
    pub namespaces: Option<String>,
    /// Port for health, readiness and metrics, 1 to 65535 [default: 8080].
    #[arg(long, env = PORT.name, value_name = "PORT")]
    pub port: Option<String>,
    /// Log levels: info, or by target info,stagekeeper=debug [default: info].
    #[arg(long, env = LOG.name, value_name = "LEVELS")]
    pub log: Option<String>,
    /// Log format, json or pretty [default: json].
    #[arg(long, env = LOG_FORMAT.name, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Threads that run tasks, 1 to 64 [default: 1].
    #[arg(long, env = WORKER_THREADS.name, value_name = "NUMBER")]
    pub worker_threads: Option<String>,
    /// Port for requests over plain HTTP, 1 to 65535 [default: 8000].
    #[arg(long, env = EDGE_PORT.name, value_name = "PORT")]
    pub edge_port: Option<String>,
    /// Port for requests over TLS, 1 to 65535 [default: 8443].
    #[arg(long, env = EDGE_TLS_PORT.name, value_name = "PORT")]
    pub edge_tls_port: Option<String>,
    /// File with the certificate and its chain [default: none, no TLS].
    #[arg(long, env = EDGE_TLS_CERT.name, value_name = "FILE")]
    pub edge_tls_cert: Option<String>,
    /// File with the certificate's key.
    #[arg(long, env = EDGE_TLS_KEY.name, value_name = "FILE")]
    pub edge_tls_key: Option<String>,
    /// Whether plain HTTP is sent to https, true or false [default: false].
    #[arg(long, env = EDGE_REDIRECT.name, value_name = "WHETHER")]
    pub edge_redirect: Option<String>,
    /// File with the password in front of environments [default: none].
    #[arg(long, env = EDGE_PASSWORD_FILE.name, value_name = "FILE")]
    pub edge_password_file: Option<String>,
    /// How people sign in for environments.
    #[command(flatten)]
    pub oidc: EdgeOidcArgs,
    /// Seconds that a request waits for an environment to wake, 0 to 600 [default: 30].
    #[arg(long, env = EDGE_WAKE_LIMIT.name, value_name = "SECONDS")]
    pub edge_wake_limit: Option<String>,
    /// Requests a second for each environment, 0 for any number [default: 0].
    #[arg(long, env = EDGE_RATE.name, value_name = "NUMBER")]
    pub edge_rate: Option<String>,
    /// Whether requests are logged, true or false [default: false].
    #[arg(long, env = EDGE_ACCESS_LOG.name, value_name = "WHETHER")]
    pub edge_access_log: Option<String>,
    /// Whether everybody reads why a deploy failed, true or false [default: false].
    #[arg(long, env = EDGE_DETAILS.name, value_name = "WHETHER")]
    pub edge_details: Option<String>,
}

impl EdgeArgs {
    /// As values to parse.
    pub fn values(&self) -> Values {
        let values = self
            .database
            .values()
            .with(&NAMESPACES, self.namespaces.clone())
            .with(&PORT, self.port.clone())
            .with(&LOG, self.log.clone())
            .with(&LOG_FORMAT, self.log_format.clone())
            .with(&WORKER_THREADS, self.worker_threads.clone())
            .with(&EDGE_PORT, self.edge_port.clone())
            .with(&EDGE_TLS_PORT, self.edge_tls_port.clone())
            .with(&EDGE_TLS_CERT, self.edge_tls_cert.clone())
            .with(&EDGE_TLS_KEY, self.edge_tls_key.clone())
            .with(&EDGE_REDIRECT, self.edge_redirect.clone())
            .with(&EDGE_PASSWORD_FILE, self.edge_password_file.clone())
            .with(&EDGE_WAKE_LIMIT, self.edge_wake_limit.clone())
            .with(&EDGE_RATE, self.edge_rate.clone())
            .with(&EDGE_ACCESS_LOG, self.edge_access_log.clone())
            .with(&EDGE_DETAILS, self.edge_details.clone());
        self.oidc.onto(values)
    }
}

/// What `stagekeeper edge` runs with.
#[derive(Debug, Clone)]
pub struct EdgeConfig {
    /// Where wakes and visits are written, and which hosts are gone is read.
    pub database: DatabaseUrl,
    /// Which namespaces are served.
    pub namespaces: Namespaces,
    /// The port for health, readiness and metrics.
    pub port: NonZeroU16,
    /// What is logged, and how.
    pub log: Log,
    /// Threads that run tasks.
    pub worker_threads: NonZeroUsize,
    /// The port for requests over plain HTTP.
    pub edge_port: NonZeroU16,
    /// TLS, if there is a certificate.
    pub tls: Option<EdgeTls>,
    /// Whether requests over plain HTTP are sent to https.
    pub redirect: bool,
    /// The file with the password in front of environments, if there is one.
    pub password_file: Option<PathBuf>,
    /// How people sign in for environments, if they do.
    pub oidc: Option<EdgeOidc>,
    /// How long a request waits for an environment to wake.
    pub wake_limit: Duration,
    /// Requests a second for each environment, if that is limited.
    pub rate: Option<NonZeroU32>,
    /// Whether requests are logged.
    pub access_log: bool,
    /// Whether everybody with the URL reads why a deploy failed.
    pub details: bool,
    /// How to reach the cluster.
    pub cluster: ClusterAccess,
}

/// Where the edge's certificate is, and its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EdgeTls {
    /// The port.
    pub port: NonZeroU16,
    /// The certificate and its chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl EdgeConfig {
    /// Reads the whole configuration.
    ///
    /// # Errors
    /// Every missing or invalid value at once, by name, with what is expected; secret values are never in the text.
    pub fn parse(values: &Values, cluster: ClusterAccess) -> Result<Self, ConfigErrors> {
        let mut problems = Problems::new(values);
        let database = problems.required(&[&DATABASE_URL], DatabaseUrl::from_str);
        let namespaces = problems.optional(&[&NAMESPACES], parse::namespaces);
        let port = problems.or_default(&PORT, "8080", parse::port);
        let log = Log::read(&mut problems);
        let worker_threads = problems.or_default(&WORKER_THREADS, "1", parse::up_to::<64>);
        let edge_port = problems.or_default(&EDGE_PORT, "8000", parse::port);
        let oidc = EdgeOidc::read(&mut problems);
        // Cookies of sessions are for TLS only.
        let certain = matches!(oidc, Ok(Some(_)));
        let tls = EdgeTls::read(&mut problems, certain);
        let redirect = problems.or_default(&EDGE_REDIRECT, "false", parse::switch);
        let password_file = problems.optional(&[&EDGE_PASSWORD_FILE], parse::readable);
        let wake_limit = problems.or_default(&EDGE_WAKE_LIMIT, "30", parse::number_up_to::<600>);
        let rate = problems.or_default(&EDGE_RATE, "0", parse::number_up_to::<100_000>);
        let access_log = problems.or_default(&EDGE_ACCESS_LOG, "false", parse::switch);
        let details = problems.or_default(&EDGE_DETAILS, "false", parse::switch);
        let read = || -> Result<Self, Reported> {
            Ok(Self {
                database: database?,
                namespaces: namespaces?.map_or(Namespaces::All, Namespaces::Only),
                port: port?,
                log: log?,
                worker_threads: worker_threads?,
                edge_port: edge_port?,
                tls: tls?,
                redirect: redirect?,
                password_file: password_file?,
                oidc: oidc?,
                wake_limit: Duration::from_secs(wake_limit?.into()),
                rate: NonZeroU32::new(rate?),
                access_log: access_log?,
                details: details?,
                cluster,
            })
        };
        read().map_err(|Reported| problems.into_errors())
    }
}

impl EdgeTls {
    /// Both files or none: with one of them alone, the other is missing; and with none, if there has to be `certain`ly one.
    fn read(problems: &mut Problems<'_>, certain: bool) -> Result<Option<Self>, Reported> {
        let port = problems.or_default(&EDGE_TLS_PORT, "8443", parse::port);
        let certificate = problems.optional(&[&EDGE_TLS_CERT], parse::readable)?;
        let key = problems.optional(&[&EDGE_TLS_KEY], parse::readable)?;
        let (certificate, key) = match (certificate, key) {
            (None, None) if !certain => return port.map(|_| None),
            (None, None) => {
                let certificate = problems.required(&[&EDGE_TLS_CERT], parse::readable)?;
                (certificate, problems.required(&[&EDGE_TLS_KEY], parse::readable)?)
            }
            (Some(certificate), Some(key)) => (certificate, key),
            (Some(certificate), None) => (certificate, problems.required(&[&EDGE_TLS_KEY], parse::readable)?),
            (None, Some(key)) => (problems.required(&[&EDGE_TLS_CERT], parse::readable)?, key),
        };
        Ok(Some(Self { port: port?, certificate, key }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimal() -> Values {
        Values::default().with(&DATABASE_URL, Some("postgres://keeper:hunter2@db:5432/history".into()))
    }

    fn parse(values: &Values) -> Result<EdgeConfig, ConfigErrors> {
        EdgeConfig::parse(values, ClusterAccess::default())
    }

    #[test]
    fn defaults_are_as_documented() {
        let config = parse(&minimal()).expect("the minimal configuration");
        assert_eq!((config.port.get(), config.edge_port.get()), (8080, 8000));
        assert_eq!((config.tls, config.password_file, config.rate), (None, None, None));
        assert_eq!(config.wake_limit, Duration::from_secs(30));
        assert_eq!((config.redirect, config.access_log, config.details), (false, false, false));
        assert_eq!(config.worker_threads.get(), 1);
        assert_eq!(config.namespaces, Namespaces::All);
    }

    #[test]
    fn all_problems_are_told_at_once_with_their_names() {
        let here = file!();
        let cases: &[(&str, &[(&Setting, &str)], &[&str])] = &[
            ("a certificate alone", &[(&EDGE_TLS_CERT, here)], &["STAGEKEEPER_EDGE_TLS_KEY"]),
            ("a key alone", &[(&EDGE_TLS_KEY, here)], &["STAGEKEEPER_EDGE_TLS_CERT"]),
            (
                "files that are not there",
                &[(&EDGE_TLS_CERT, "/nowhere/a"), (&EDGE_PASSWORD_FILE, "/nowhere/b")],
                &["STAGEKEEPER_EDGE_TLS_CERT", "STAGEKEEPER_EDGE_PASSWORD_FILE"],
            ),
            (
                "signing in, and nothing besides",
                &[(&EDGE_OIDC_ISSUER, "https://issuer.test")],
                &[
                    "STAGEKEEPER_EDGE_OIDC_CLIENT_ID",
                    "STAGEKEEPER_EDGE_OIDC_KEY_FILE",
                    "STAGEKEEPER_EDGE_OIDC_HOST",
                    "STAGEKEEPER_EDGE_OIDC_ALLOW",
                ],
            ),
            (
                "signing in without a certificate, for anybody who may come",
                &[
                    (&EDGE_OIDC_ISSUER, "https://issuer.test"),
                    (&EDGE_OIDC_CLIENT_ID, "edge"),
                    (&EDGE_OIDC_KEY_FILE, here),
                    (&EDGE_OIDC_HOST, "auth.preview.test"),
                    (&EDGE_OIDC_ALLOW, "dev"),
                ],
                &["STAGEKEEPER_EDGE_OIDC_ALLOW"],
            ),
            (
                "signing in without a certificate",
                &[
                    (&EDGE_OIDC_ISSUER, "https://issuer.test"),
                    (&EDGE_OIDC_CLIENT_ID, "edge"),
                    (&EDGE_OIDC_KEY_FILE, here),
                    (&EDGE_OIDC_HOST, "auth.preview.test"),
                    (&EDGE_OIDC_ALLOW, "group:dev"),
                ],
                &["STAGEKEEPER_EDGE_TLS_CERT"],
            ),
            ("an issuer without TLS", &[(&EDGE_OIDC_ISSUER, "http://issuer.test")], &["STAGEKEEPER_EDGE_OIDC_ISSUER"]),
            (
                "numbers and switches",
                &[(&EDGE_WAKE_LIMIT, "601"), (&EDGE_RATE, "-1"), (&EDGE_DETAILS, "yes"), (&EDGE_PORT, "0")],
                &[
                    "STAGEKEEPER_EDGE_PORT",
                    "STAGEKEEPER_EDGE_WAKE_LIMIT",
                    "STAGEKEEPER_EDGE_RATE",
                    "STAGEKEEPER_EDGE_DETAILS",
                ],
            ),
        ];
        for (name, given, wrong) in cases {
            let values = given.iter().fold(minimal(), |all, (setting, value)| all.with(setting, Some((*value).into())));
            let ConfigErrors(problems) = parse(&values).expect_err(name);
            let found: Vec<&str> = problems.iter().map(|problem| problem.setting.name).collect();
            assert_eq!(found, *wrong, "{name}");
        }
    }

    #[test]
    fn no_database_no_edge() {
        let ConfigErrors(problems) = parse(&Values::default()).expect_err("nothing is set");
        assert_eq!(problems[0].setting, DATABASE_URL);
    }
}
