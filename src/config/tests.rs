//! Tables of values, good and bad.

use super::*;

const URL: &str = "postgres://keeper:hunter2@db:5432/history";

fn minimal() -> Values {
    Values::default().with(&DATABASE_URL, Some(URL.into())).with(&PROCESS, Some("host_7".into()))
}

fn parse(values: &Values) -> Result<Config, ConfigErrors> {
    Config::parse(values, ClusterAccess::default())
}

#[test]
fn defaults_are_as_documented() {
    let config = parse(&minimal()).expect("the minimal configuration");
    assert_eq!(config.port.get(), 8080);
    assert_eq!(config.log.filter, "info".parse().expect("a filter"));
    assert_eq!(config.log.format, LogFormat::Json);
    assert_eq!(config.public_url, None);
    assert_eq!(config.namespaces, Namespaces::All);
    assert_eq!(config.concurrency.get(), 32);
    assert_eq!(config.scan_concurrency.get(), 8);
    assert_eq!(config.relist.as_secs(), 300);
    assert_eq!(config.shards.get(), 1);
    assert_eq!(config.worker_threads.get(), 1);
    let lease = Lease { name: "stagekeeper".into(), namespace: None, identity: "host_7".into() };
    assert_eq!(config.lease, lease);
}

#[test]
fn pod_name_and_namespace_come_before_the_host_and_flags_before_both() {
    let pod = minimal().with(&POD_NAME, Some("keeper-0".into())).with(&POD_NAMESPACE, Some("ops".into()));
    let lease = parse(&pod).expect("valid").lease;
    assert_eq!(lease.identity, "keeper-0");
    assert_eq!(lease.namespace.as_deref(), Some("ops"));

    let given = pod.with(&LEASE_IDENTITY, Some("me".into())).with(&LEASE_NAMESPACE, Some("here".into()));
    let lease = parse(&given).expect("valid").lease;
    assert_eq!(lease.identity, "me");
    assert_eq!(lease.namespace.as_deref(), Some("here"));
}

#[test]
fn good_values_are_taken() {
    type Holds = fn(&Config) -> bool;
    let cases: &[(&str, &Setting, &str, Holds)] = &[
        ("lowest port", &PORT, "1", |c| c.port.get() == 1),
        ("highest port", &PORT, "65535", |c| c.port.get() == 65535),
        ("blanks around", &PORT, " 81 ", |c| c.port.get() == 81),
        ("empty is unset", &PORT, "", |c| c.port.get() == 8080),
        ("level", &LOG, "debug", |c| c.log.filter.would_enable("any", &tracing::Level::DEBUG)),
        ("level by target", &LOG, "warn,stagekeeper=trace", |c| {
            c.log.filter.would_enable("stagekeeper::x", &tracing::Level::TRACE)
                && !c.log.filter.would_enable("kube", &tracing::Level::INFO)
        }),
        ("pretty", &LOG_FORMAT, "pretty", |c| c.log.format == LogFormat::Pretty),
        ("public URL loses its last slash", &PUBLIC_URL, "https://keeper.acme.test/ui/", |c| {
            c.public_url.as_ref().is_some_and(|url| url.as_str() == "https://keeper.acme.test/ui")
        }),
        ("namespaces", &NAMESPACES, "b, a,b", |c| {
            c.namespaces == Namespaces::Only(["a".to_owned(), "b".to_owned()].into())
        }),
        ("concurrency", &CONCURRENCY, "256", |c| c.concurrency.get() == 256),
        ("scans", &SCAN_CONCURRENCY, "64", |c| c.scan_concurrency.get() == 64),
        ("lease name with dots", &LEASE_NAME, "keeper.acme", |c| c.lease.name == "keeper.acme"),
    ];
    for (name, setting, value, holds) in cases {
        let config =
            parse(&minimal().with(setting, Some((*value).into()))).unwrap_or_else(|errors| panic!("{name}: {errors}"));
        assert!(holds(&config), "{name}: {config:?}");
    }
}

#[test]
fn bad_values_are_refused_by_name() {
    let long = "a".repeat(64);
    let cases: &[(&Setting, &str)] = &[
        (&DATABASE_URL, "mysql://db/history"),
        (&DATABASE_URL, "postgres:db"),
        (&DATABASE_URL, "db:5432"),
        (&DATABASE_URL, "postgres://db:99999/history"),
        (&PORT, "0"),
        (&PORT, "65536"),
        (&PORT, "-1"),
        (&PORT, "80.5"),
        (&PORT, "http"),
        (&LOG, "loud"),
        (&LOG, "stagekeeper=loud"),
        (&LOG, "info,,debug"),
        (&LOG_FORMAT, "xml"),
        (&LOG_FORMAT, "JSON"),
        (&PUBLIC_URL, "keeper.acme.test"),
        (&PUBLIC_URL, "ftp://keeper.acme.test"),
        (&PUBLIC_URL, "https://me:hunter2@keeper.acme.test"),
        (&PUBLIC_URL, "https://keeper.acme.test/?a=b"),
        (&NAMESPACES, "a,,b"),
        (&NAMESPACES, "Shop"),
        (&NAMESPACES, "-shop"),
        (&NAMESPACES, &long),
        (&CONCURRENCY, "0"),
        (&CONCURRENCY, "257"),
        (&SCAN_CONCURRENCY, "65"),
        (&RELIST, "9"),
        (&RELIST, "86401"),
        (&RELIST, "5m"),
        (&SHARDS, "0"),
        (&SHARDS, "17"),
        (&WORKER_THREADS, "0"),
        (&WORKER_THREADS, "65"),
        (&LEASE_NAME, "a..b"),
        (&LEASE_NAMESPACE, "a.b"),
        (&LEASE_IDENTITY, "two words"),
    ];
    for (setting, value) in cases {
        let errors = parse(&minimal().with(setting, Some((*value).into())))
            .expect_err(&format!("{} accepted {value:?}", setting.name));
        let [problem] = errors.0.as_slice() else {
            panic!("{}: one problem expected, got {errors}", setting.name);
        };
        assert_eq!(problem.setting, **setting, "{value:?}");
        let text = problem.to_string();
        assert!(text.starts_with(setting.name), "{text}");
        assert!(text.contains(setting.expected), "{text}");
    }
}

#[test]
fn everything_wrong_is_said_at_once() {
    let values = Values::default()
        .with(&PORT, Some("0".into()))
        .with(&LOG, Some("loud".into()))
        .with(&LOG_FORMAT, Some("xml".into()))
        .with(&NAMESPACES, Some("shop,Shop".into()))
        .with(&LEASE_NAME, Some("A".into()));
    let text = parse(&values).expect_err("six problems").to_string();
    let expected = "\
the configuration is not usable:
  DATABASE_URL (--database-url) is missing: expected a Postgres URL such as postgres://USER:PASSWORD@HOST:5432/DATABASE
  STAGEKEEPER_LOG (--log) is `loud`, `loud` is not a level: expected off, error, warn, info (default), debug or trace, also by target: info,stagekeeper=debug
  STAGEKEEPER_LOG_FORMAT (--log-format) is `xml`: expected json (default) or pretty
  STAGEKEEPER_PORT (--port) is `0`: expected a whole number from 1 to 65535 (default 8080)
  STAGEKEEPER_NAMESPACES (--namespaces) is `shop,Shop`, `Shop` is not one: expected names of namespaces separated by commas, or nothing for all
  STAGEKEEPER_LEASE_NAME (--lease-name) is `A`: expected a lower-case DNS name (default stagekeeper)
  STAGEKEEPER_LEASE_IDENTITY (--lease-identity) is missing: expected a word of printable ASCII that no other replica uses (default POD_NAME, then host name and process id)";
    assert_eq!(text, expected);
}

#[test]
fn no_password_is_ever_printed() {
    for url in [
        "postgres://keeper:hunter2@db:99999/history",
        "mysql://keeper:hunter2@db/history",
        "hunter2",
        "postgres:hunter2",
        "postgres://keeper:hunter2@[::g]/history",
    ] {
        let errors = parse(&minimal().with(&DATABASE_URL, Some(url.into()))).expect_err(&format!("{url} was accepted"));
        let said = format!("{errors} {errors:?}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    let config = parse(&minimal()).expect("valid");
    assert!(!format!("{config:?}").contains("hunter2"));
    let public = minimal().with(&PUBLIC_URL, Some("https://me:hunter2@keeper.acme.test".into()));
    let errors = parse(&public).expect_err("credentials in a public URL");
    assert!(!errors.to_string().contains("hunter2"), "{errors}");
}
