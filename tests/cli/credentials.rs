//! `stagekeeper keys` and `stagekeeper credential`, the way a person uses them.

use std::{io::Write as _, process::Stdio};

use uuid::Uuid;

use crate::{
    binary::{Ended, PATIENCE, Running, run, stagekeeper},
    postgres::TestDatabase,
};

pub(crate) const PASSWORD: &str = "hunter2-canary";

pub(crate) struct Place {
    pub(crate) database: TestDatabase,
    pub(crate) keys: String,
}

impl Place {
    pub(crate) async fn new() -> Self {
        let database = TestDatabase::new().await;
        database.store.project_upsert(Uuid::from_u128(1), "acme", "shop").await.unwrap();
        Self { database, keys: generated("2025") }
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.given("", arguments)
    }

    /// With something on standard input.
    pub(crate) fn given(&self, input: &str, arguments: &[&str]) -> Ended {
        let all: Vec<&str> = ["--namespace", "acme"].iter().chain(arguments).copied().collect();
        let mut command = stagekeeper(&all);
        command.env("DATABASE_URL", &self.database.url).env("STAGEKEEPER_ENCRYPTION_KEYS", &self.keys);
        command.env("USER", "jane").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let written = child.stdin.take().unwrap().write_all(input.as_bytes());
        let ended = Ended::from(child.wait_with_output().unwrap());
        // Whoever refuses the arguments does not read.
        assert!(written.is_ok() || ended.code != 0, "{written:?}");
        for said in [&ended.out, &ended.err] {
            assert!(!said.contains(PASSWORD), "{said}");
            for key in self.keys.split(',') {
                assert!(!said.contains(key.split_once(':').unwrap().1), "{said}");
            }
        }
        ended
    }
}

/// A new key's entry.
pub(crate) fn generated(id: &str) -> String {
    let entry = run(&mut stagekeeper(&["keys", "generate", id])).well();
    let digits = entry.trim_end().strip_prefix(&format!("{id}:")).unwrap_or_else(|| panic!("{entry}"));
    assert!(digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()), "{entry}");
    entry.trim_end().to_owned()
}

pub(crate) fn cells(line: &str) -> Vec<&str> {
    line.split("   ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
}

#[tokio::test]
async fn a_credential_is_stored_listed_and_deleted_and_never_shown() {
    let place = Place::new().await;
    let set = ["credential", "set", "shop", "ghcr", "--host", "https://GHCR.io/", "--user", "bob"];
    let said = place.given(&format!("{PASSWORD}\n"), &set).well();
    assert_eq!(said, "credential ghcr of shop is stored, sealed with 2025\n");
    let said = place.given(&format!("{PASSWORD}\n"), &set).well();
    assert_eq!(said, "credential ghcr of shop is what it was: nothing was written\n");
    let docker = format!(
        r#"{{"auths":{{"quay.io":{{"username":"eve","password":"{PASSWORD}"}},"ghcr.io:443":{{"auth":"Ym9iOng="}}}}}}"#
    );
    place.given(&docker, &["credential", "set", "shop", "several", "--expires", "90d"]).well();
    place.given("-----BEGIN\nkey\n", &["credential", "set", "shop", "deploy-key", "--kind", "git"]).well();

    let list = place.run(&["credential", "list", "shop"]).well();
    let rows: Vec<Vec<&str>> = list.lines().map(cells).collect();
    assert_eq!(rows[0], ["NAME", "KIND", "FOR", "WRITTEN", "BY", "LAST USED", "EXPIRES"]);
    assert_eq!(rows[1][..2], ["deploy-key", "git"]);
    assert_eq!((rows[2][0], rows[2][2], rows[2][4]), ("ghcr", "ghcr.io", "user:jane"));
    assert!(rows[2][5].ends_with(" ago"), "it was compared: {list}");
    assert_eq!(rows[3][5], "never");
    assert_eq!((rows[3][0], rows[3][2]), ("several", "ghcr.io:443,quay.io"));
    assert!(rows[3][6].starts_with("in 89d") || rows[3][6].starts_with("in 90d"), "{list}");
    let json = place.run(&["credential", "list", "shop", "-o", "json"]).json();
    assert_eq!(
        (&json[1]["name"], &json[1]["version"], &json[1]["origin"]),
        (&"ghcr".into(), &1.into(), &"command line".into())
    );
    let shown = place.run(&["credential", "show", "shop", "ghcr"]).well();
    assert!(shown.contains("createdBy: user:jane") && shown.contains("- ghcr.io"), "{shown}");

    let said = place.run(&["credential", "test", "shop", "deploy-key"]).badly(1);
    assert!(said.contains("deploy-key is not for registries"), "{said}");
    let used = place.run(&["credential", "list", "shop"]).well();
    assert_eq!(cells(used.lines().nth(1).unwrap())[4].split(' ').next_back(), Some("ago"), "it was opened: {used}");

    assert_eq!(place.run(&["credential", "delete", "shop", "ghcr"]).well(), "credential ghcr of shop is deleted\n");
    for arguments in [["credential", "delete", "shop", "ghcr"], ["credential", "show", "shop", "ghcr"]] {
        let said = place.run(&arguments).badly(1);
        assert!(said.contains("has no credential ghcr") && said.contains("credential list shop"), "{said}");
    }
}

#[tokio::test]
async fn a_token_goes_with_the_user_that_its_registry_expects() {
    let place = Place::new().await;
    let set = |name: &'static str, host: &'static str| ["credential", "set", "shop", name, "--host", host, "--token"];
    for (name, host, user) in [
        ("ghcr", "ghcr.io", "token"),
        ("quay", "quay.io", "$oauthtoken"),
        ("google", "europe-docker.pkg.dev", "oauth2accesstoken"),
        ("azure", "shop.azurecr.io", "00000000-0000-0000-0000-000000000000"),
    ] {
        let said = place.given(PASSWORD, &set(name, host)).well();
        assert!(said.contains(&format!("its user is `{user}`")), "{said}");
        // The same login with the user named: nothing else was stored.
        let named = ["credential", "set", "shop", name, "--host", host, "--user", user];
        let said = place.given(PASSWORD, &named).well();
        assert_eq!(said, format!("credential {name} of shop is what it was: nothing was written\n"));
    }
    let said = place.given(PASSWORD, &set("hub", "index.docker.io")).badly(2);
    assert!(said.contains("a token of Docker Hub belongs to a user") && said.contains("give --user NAME"), "{said}");
    let both = ["credential", "set", "shop", "x", "--host", "ghcr.io", "--token", "--user", "bob"];
    assert!(place.given(PASSWORD, &both).badly(2).contains("--token"), "one of both");
    let alone = ["credential", "set", "shop", "x", "--token"];
    assert!(place.given(PASSWORD, &alone).badly(2).contains("--host"), "of which registry");
}

#[tokio::test]
async fn what_cannot_be_a_credential_is_refused_with_what_to_do() {
    let place = Place::new().await;
    let long = "x".repeat((1 << 20) + 1);
    let set = |more: &[&'static str]| [&["credential", "set", "shop", "ghcr"], more].concat();
    let registry = ["--host", "ghcr.io", "--user", "bob"];
    let cases = [
        ("nothing", "", set(&registry), 2, "there is no value"),
        ("a user without a host", PASSWORD, set(&["--user", "bob"]), 2, "--host"),
        ("no host", PASSWORD, set(&["--host", "a b", "--user", "bob"]), 2, "`a b` is not a registry"),
        ("no docker configuration", PASSWORD, set(&[]), 2, "give --host and --user"),
        ("an unknown kind", PASSWORD, set(&["--kind", "key"]), 2, "registry, webhook, git, cluster or generic"),
        (
            "a user of nothing",
            PASSWORD,
            set(&["--kind", "git", "--host", "ghcr.io", "--user", "b"]),
            2,
            "for registries",
        ),
        ("no time", PASSWORD, set(&["--kind", "git", "--expires", "soon"]), 2, "`soon` is no time"),
        ("too long", &long, set(&["--kind", "generic"]), 1, "1048577 bytes are too many"),
        ("no project", PASSWORD, vec!["credential", "set", "blog", "ghcr", "--kind", "git"], 1, "no project blog"),
        ("no name", PASSWORD, vec!["credential", "set", "shop", "GHCR", "--kind", "git"], 2, "lower-case"),
    ];
    for (name, input, arguments, code, expected) in cases {
        let ended = place.given(input, &arguments);
        assert_eq!(ended.code, code, "{name}: {ended:?}");
        assert!(ended.err.contains(expected), "{name}: {ended:?}");
    }
    assert_eq!(place.run(&["credential", "list", "shop", "-o", "name"]).well(), "");
}

#[tokio::test]
async fn keys_are_changed_without_a_value_being_lost() {
    let mut place = Place::new().await;
    for name in ["one", "two", "three"] {
        place.given(PASSWORD, &["credential", "set", "shop", name, "--kind", "generic"]).well();
    }
    place.keys = format!("{},{}", generated("2026"), place.keys);
    let row = |list: &str, id: &str| -> Vec<String> {
        let line = list.lines().find(|line| line.starts_with(id)).unwrap_or_else(|| panic!("{list}"));
        cells(line).into_iter().map(str::to_owned).collect()
    };
    let list = place.run(&["keys", "list"]).well();
    assert_eq!(row(&list, "2025")[..4], ["2025", "opens", "yes", "3"]);
    assert_eq!(row(&list, "2026")[..4], ["2026", "new", "yes", "0"]);
    let refused = place.run(&["keys", "retire", "2025"]).badly(1);
    assert!(refused.contains("3 values are sealed with 2025") && refused.contains("keys rotate"), "{refused}");

    let rotated = place.run(&["keys", "rotate"]);
    assert_eq!((rotated.code, rotated.out.as_str()), (0, "3 values are sealed with 2026 now\n"));
    assert_eq!(rotated.err, "0 of 3 values\n3 of 3 values\n");
    assert_eq!(place.run(&["keys", "rotate"]).well(), "nothing to do: every value is sealed with 2026\n");
    let verified = place.run(&["keys", "verify"]).well();
    assert!(verified.ends_with("3 of 3 values open\n"), "{verified}");
    let refused = place.run(&["keys", "retire", "2026"]).badly(1);
    assert!(refused.contains("2026 is the key that everything is sealed with"), "{refused}");
    place.run(&["keys", "retire", "2025"]).well();
    assert_eq!(row(&place.run(&["keys", "list"]).well(), "2025")[..4], ["2025", "retired", "yes", "0"]);

    let first = place.keys.split(',').next().unwrap().to_owned();
    let second = std::mem::replace(&mut place.keys, first);
    assert!(place.run(&["keys", "verify"]).well().ends_with("3 of 3 values open\n"));
    // The wrong key under a known id.
    place.keys = format!("2026:{}", "ab".repeat(32));
    let wrong = place.run(&["keys", "verify"]).badly(1);
    assert!(wrong.contains("the key 2026 is not the one that this database was sealed with"), "{wrong}");
    let wrong = place.given(PASSWORD, &["credential", "set", "shop", "four", "--kind", "generic"]).badly(1);
    assert!(wrong.contains("the key 2026 is not the one"), "{wrong}");
    place.keys = second;
    place.keys = place.keys.split(',').next_back().unwrap().to_owned();
    let retired = place.run(&["keys", "verify"]).badly(1);
    assert!(retired.contains("2025 was retired") || retired.contains("sealed with the key 2026"), "{retired}");
}

#[tokio::test]
async fn a_rotation_that_is_killed_goes_on_where_it_was() {
    let mut place = Place::new().await;
    place.given(PASSWORD, &["credential", "set", "shop", "one", "--kind", "generic"]).well();
    place.given(PASSWORD, &["secret", "set", "shop", "ONE"]).well();
    // Many rows quickly: rotation looks at what wraps a value, not at the value.
    let copies = [
        "INSERT INTO credentials (id, project_id, name, kind, version, key_id, wrapped_key, body, origin,
                                  created_by, updated_by)
         SELECT gen_random_uuid(), project_id, 'copy-' || number, kind, version, key_id, wrapped_key, body, origin,
                created_by, updated_by
         FROM credentials, generate_series(1, 1000) AS number",
        "INSERT INTO secret_versions (id, secret_id, version, key_id, wrapped_key, body, created_by)
         SELECT gen_random_uuid(), secret_id, 1 + number, key_id, wrapped_key, body, created_by
         FROM secret_versions, generate_series(1, 19000) AS number",
    ];
    let sql = sqlx::PgPool::connect(&place.database.url).await.unwrap();
    for copies in copies {
        sqlx::query(copies).execute(&sql).await.unwrap();
    }
    place.keys = format!("{},{}", generated("2026"), place.keys);
    let left = async || -> i64 {
        let count = "SELECT (SELECT count(*) FROM credentials WHERE key_id = '2025')
                         + (SELECT count(*) FROM secret_versions WHERE key_id = '2025')";
        sqlx::query_scalar(count).fetch_one(&sql).await.unwrap()
    };

    let mut command = stagekeeper(&["keys", "rotate"]);
    command.env("DATABASE_URL", &place.database.url).env("STAGEKEEPER_ENCRYPTION_KEYS", &place.keys);
    let running = Running::start(&mut command);
    assert_eq!(running.err(), "0 of 20002 values");
    // All credentials, and the first secrets.
    for done in ["500", "1000", "1001", "1501"] {
        assert_eq!(running.err(), format!("{done} of 20002 values"));
    }
    running.signal("KILL");
    drop(running);
    // The server may still be at what the process asked for last.
    let others = "SELECT count(*) FROM pg_stat_activity
                  WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active'";
    let started = std::time::Instant::now();
    while sqlx::query_scalar::<_, i64>(others).fetch_one(&sql).await.unwrap() > 0 {
        assert!(started.elapsed() < PATIENCE, "a statement of a killed process does not end");
    }
    let rest = left().await;
    assert!(0 < rest && rest <= 18_501, "{rest} rows are left of 20002");

    let rotated = place.run(&["keys", "rotate"]);
    assert_eq!((rotated.code, rotated.out), (0, format!("{rest} values are sealed with 2026 now\n")));
    assert_eq!(left().await, 0);
    place.run(&["keys", "retire", "2025"]).well();
}

#[tokio::test]
async fn keys_that_are_not_usable_are_told_without_being_shown() {
    let place = Place::new().await;
    let list = |key: &str, value: &str| {
        run(stagekeeper(&["keys", "list"]).env("DATABASE_URL", &place.database.url).env(key, value)).badly(2)
    };
    let said = run(stagekeeper(&["keys", "list"]).env("DATABASE_URL", &place.database.url)).badly(2);
    assert!(said.contains("STAGEKEEPER_ENCRYPTION_KEYS is missing: expected ID:KEY"), "{said}");
    let said = list("STAGEKEEPER_ENCRYPTION_KEYS", "a:c0ffee");
    assert!(said.contains("its value is not shown") && said.contains("the key a is not 64"), "{said}");
    assert!(!said.contains("c0ffee"), "{said}");
    let said = list("STAGEKEEPER_ENCRYPTION_KEYS_FILE", "/nonexistent/keys");
    assert!(said.contains("/nonexistent/keys") && said.contains("cannot be read"), "{said}");
}
