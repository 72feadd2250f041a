//! `stagekeeper secret`, the way a person uses it.

use std::{fs, path::PathBuf, process::Command};

use crate::{
    binary::{Ended, Folder, run, stagekeeper},
    credentials::{PASSWORD, Place, cells},
};

const DECLARE: &str = "\nServices get what the Project names. This command does not look into the cluster: unless it stands \
                       there already,\nadd to spec.secrets of Project acme/shop:\n\n";

#[tokio::test]
async fn a_secret_is_stored_listed_and_deleted_and_never_shown() {
    let place = Place::new().await;
    let said = place.given(&format!("{PASSWORD}\n"), &["secret", "set", "shop", "STRIPE_KEY"]).well();
    let stored = "secret STRIPE_KEY of shop is stored as version 1, sealed with 2025\n";
    assert_eq!(said, format!("{stored}{DECLARE}- name: STRIPE_KEY\n  as: env\n"));
    let said = place.given(PASSWORD, &["secret", "set", "shop", "STRIPE_KEY"]).well();
    assert_eq!(said, "secret STRIPE_KEY of shop is what it was: nothing was written\n", "but for its line break");
    let said = place.given("another", &["secret", "set", "shop", "STRIPE_KEY"]).well();
    assert_eq!(said, "secret STRIPE_KEY of shop is stored as version 2, sealed with 2025\n");
    let own = ["secret", "set", "shop", "tls.key", "--service", "web"];
    let said = place.given("-----BEGIN\nkey\n\n", &own).well();
    let stored = "secret tls.key of service web of shop is stored as version 1, sealed with 2025\n";
    let declaration = "- name: tls.key\n  service: web\n  as: file\n  path: /run/secrets/tls.key\n";
    assert_eq!(said, format!("{stored}{DECLARE}{declaration}"));

    let list = place.run(&["secret", "list", "shop"]).well();
    let rows: Vec<Vec<&str>> = list.lines().map(cells).collect();
    assert_eq!(rows[0], ["NAME", "SERVICE", "VERSION", "WRITTEN", "BY", "FROM", "LAST USED"]);
    assert_eq!((rows[1][0], rows[1][1], rows[1][2], rows[1][4]), ("STRIPE_KEY", "(all)", "2", "user:jane"));
    assert!(rows[1][6].ends_with(" ago"), "it was compared: {list}");
    assert_eq!((rows[2][0], rows[2][1], rows[2][5], rows[2][6]), ("tls.key", "web", "command line", "never"));
    let json = place.run(&["secret", "list", "shop", "-o", "json"]).json();
    assert_eq!((&json[0]["service"], &json[0]["version"]), (&serde_json::Value::Null, &2.into()));
    assert_eq!((&json[1]["service"], &json[1]["createdBy"]), (&"web".into(), &"user:jane".into()));
    let names = place.run(&["secret", "list", "shop", "-o", "name"]).well();
    assert_eq!(names, "secret/STRIPE_KEY\nsecret/web/tls.key\n");

    let said = place.run(&["secret", "unset", "shop", "tls.key"]).badly(1);
    assert!(said.contains("project shop has no secret tls.key") && said.contains("secret list shop"), "{said}");
    let unset = ["secret", "unset", "shop", "tls.key", "--service", "web"];
    assert_eq!(place.run(&unset).well(), "secret tls.key of service web of shop is deleted\n");
    assert!(place.run(&unset).badly(1).contains("has no secret tls.key of service web"));
    let said = place.given("again", &own).well();
    assert!(said.starts_with("secret tls.key of service web of shop is stored as version 2"), "{said}");
    assert!(said.contains(DECLARE), "it is new to the project: {said}");
}

#[tokio::test]
async fn a_file_is_imported_as_a_whole_and_only_what_changed_is_written() {
    let place = Place::new().await;
    let folder = Folder::new();
    let path = folder.path(".env");
    fs::write(&path, format!("\u{feff}# ours\r\nexport KEY={PASSWORD}\r\nEMPTY=\r\nCOST='$5'\r\n")).unwrap();
    let file = path.to_str().unwrap();
    let would = place.run(&["secret", "import", "shop", file, "--dry-run"]).well();
    let lines = "  KEY: new\n  EMPTY: new\n  COST: new\n";
    let declaration = "- name: KEY\n  as: env\n- name: EMPTY\n  as: env\n- name: COST\n  as: env\n";
    let told = "of 3 secrets 3 new, 0 changed, 0 unchanged\n";
    assert_eq!(would, format!("nothing is stored (--dry-run): {told}{lines}{DECLARE}{declaration}"));
    assert_eq!(place.run(&["secret", "list", "shop", "-o", "name"]).well(), "");
    let said = place.run(&["secret", "import", "shop", file]).well();
    assert_eq!(said, format!("3 secrets of shop: 3 new, 0 changed, 0 unchanged\n{lines}{DECLARE}{declaration}"));
    let said = place.run(&["secret", "import", "shop", file]).well();
    let lines = "  KEY: unchanged\n  EMPTY: unchanged\n  COST: unchanged\n";
    assert_eq!(said, format!("3 secrets of shop: 0 new, 0 changed, 3 unchanged\n{lines}"));

    let more = format!("COST=\"$6\"\nKEY=\"{PASSWORD}\"\nNEW='a\nb'\n");
    let dry = place.given(&more, &["secret", "import", "shop", "-", "--dry-run"]).well();
    assert!(dry.starts_with("nothing is stored (--dry-run): of 3 secrets 1 new, 1 changed, 1 unchanged\n"), "{dry}");
    let said = place.given(&more, &["secret", "import", "shop", "-"]).well();
    let lines = "  COST: changed\n  KEY: unchanged\n  NEW: new\n";
    let told = format!("3 secrets of shop: 1 new, 1 changed, 1 unchanged\n{lines}");
    assert_eq!(said, format!("{told}{DECLARE}- name: NEW\n  as: env\n"));
    let own = place.given("KEY=own\n", &["secret", "import", "shop", "-", "--service", "web"]).well();
    assert!(own.contains("  KEY of service web: new\n") && own.contains("- name: KEY\n  service: web\n"), "{own}");
    let json = place.run(&["secret", "list", "shop", "-o", "json"]).json();
    let versions: Vec<(&str, i64)> = json
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["name"].as_str().unwrap(), one["version"].as_i64().unwrap()))
        .collect();
    assert_eq!(versions, [("COST", 2), ("EMPTY", 1), ("KEY", 1), ("NEW", 1), ("KEY", 1)]);
}

#[tokio::test]
async fn what_cannot_be_a_secret_is_refused_with_what_to_do() {
    let place = Place::new().await;
    let folder = Folder::new();
    let file = |name: &str, text: &str| {
        let path = folder.path(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let twice = file("twice", &format!("A={PASSWORD}\n\nA={PASSWORD}\n"));
    let open = file("open", &format!("GOOD=1\nA=\"{PASSWORD}\n"));
    let long = file("long", &format!("GOOD=1\n\nA={}\n", "x".repeat((1 << 20) + 1)));
    let nothing = file("nothing", "# nothing\n");
    let import = |file: &str| vec!["secret".to_owned(), "import".into(), "shop".into(), file.to_owned()];
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let cases = [
        ("nothing", "", words("secret set shop KEY"), 2, "there is no value"),
        ("no name", PASSWORD, words("secret set shop 1KEY"), 2, "a secret's name has"),
        ("no service", PASSWORD, words("secret set shop KEY --service Web"), 2, "a service's name has"),
        (
            "no project",
            PASSWORD,
            words("secret set blog KEY"),
            1,
            "apply the Project first: the operator records it then",
        ),
        ("no project to list", "", words("secret list blog"), 1, "there is no project blog in namespace acme"),
        ("no file", "", import("/nonexistent/.env"), 1, "/nonexistent/.env cannot be read"),
        ("twice", "", import(&twice), 2, "line 3: the name stands in line 1 already"),
        ("open quotes", "", import(&open), 2, "line 2: a `\"` opens here"),
        ("too long", "", import(&long), 2, "line 3: a value of 1048577 bytes is too long"),
        ("nothing in it", "", import(&nothing), 2, "there are no values in"),
        ("nothing in standard input", "", import("-"), 2, "there are no values in standard input"),
    ];
    for (name, input, arguments, code, expected) in cases {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let said = place.given(input, &arguments).badly(code);
        assert!(said.contains(expected), "{name}: {said}");
    }
    assert_eq!(place.run(&["secret", "list", "shop", "-o", "name"]).well(), "", "not even the good ones");
    // A wrong key writes nothing, and a dry run says so too.
    place.given("GOOD=1", &["secret", "import", "shop", "-"]).well();
    let wrong = format!("2025:{}", "ab".repeat(32));
    for more in [&["--dry-run"][..], &[]] {
        let arguments = [&["--namespace", "acme", "secret", "import", "shop", "/dev/stdin"], more].concat();
        let mut command = stagekeeper(&arguments);
        command.env("DATABASE_URL", &place.database.url).env("STAGEKEEPER_ENCRYPTION_KEYS", &wrong);
        command.stdin(fs::File::open(file("good", "GOOD=2\n")).unwrap());
        let said = run(&mut command).badly(1);
        assert!(said.contains("the key 2025 is not the one"), "{said}");
    }
}

/// A canary that goes through every command is in no output (which [`Place::given`] looks at), no table and no dump.
#[tokio::test]
async fn no_value_is_in_the_database_nor_in_what_is_dumped() {
    let place = Place::new().await;
    let import = format!("A={PASSWORD}\nB=\"{PASSWORD}\\n\"\nC='{PASSWORD}'\n");
    place.given(PASSWORD, &["secret", "set", "shop", "KEY", "--service", "web"]).well();
    place.given(&import, &["secret", "import", "shop", "-"]).well();
    place.given(&import.replace("A=", "A=x"), &["secret", "import", "shop", "-"]).well();
    place.given(&format!("A={PASSWORD}\nA={PASSWORD}"), &["secret", "import", "shop", "-"]).badly(2);
    place.given(&format!("{PASSWORD}\n"), &["secret", "import", "shop", "-"]).badly(2);
    place.given(PASSWORD, &["credential", "set", "shop", "ghcr", "--host", "ghcr.io", "--token"]).well();
    place.run(&["secret", "unset", "shop", "C"]).well();

    let audited = stagekeeper_audit(&place).await;
    assert!(audited.iter().any(|row| row.contains("secret.put")), "{audited:?}");
    let dump = dumped(&place);
    assert!(dump.contains("COPY public.secret_versions") && dump.contains("secret.delete"), "not the whole database");
    for form in [PASSWORD.to_owned(), hex::encode(PASSWORD)] {
        assert!(!dump.contains(&form), "a value is in the dump");
        assert!(audited.iter().all(|row| !row.contains(&form)), "{audited:?}");
    }
}

/// There is no argument that a value could go into: whoever tries is refused, and nothing is stored.
#[tokio::test]
async fn a_value_is_never_an_argument() {
    let place = Place::new().await;
    for arguments in [
        &["secret", "set", "shop", "KEY", "some-value"][..],
        &["secret", "set", "shop", "KEY", "--value", "some-value"],
        &["secret", "set", "shop", "KEY=some-value"],
        &["secret", "import", "shop", "-", "KEY=some-value"],
        &["credential", "set", "shop", "ghcr", "--host", "ghcr.io", "--token", "some-value"],
    ] {
        place.given("other", arguments).badly(2);
    }
    assert_eq!(place.run(&["secret", "list", "shop", "-o", "name"]).well(), "");
    assert_eq!(place.run(&["credential", "list", "shop", "-o", "name"]).well(), "");
}

async fn stagekeeper_audit(place: &Place) -> Vec<String> {
    let sql = sqlx::PgPool::connect(&place.database.url).await.unwrap();
    let rows = "SELECT row_to_json(entry)::text FROM audit_log AS entry";
    sqlx::query_scalar(rows).fetch_all(&sql).await.unwrap()
}

fn dumped(place: &Place) -> String {
    let dumped: Ended = Command::new(pg_dump()).arg(&place.database.url).output().unwrap().into();
    assert_eq!(dumped.code, 0, "{}", dumped.err);
    dumped.out
}

/// Where Debian puts it.
fn pg_dump() -> PathBuf {
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .expect("Postgres is not installed: hack/deps installs it")
        .map(|entry| entry.unwrap().path().join("bin/pg_dump"))
        .filter(|program| program.is_file())
        .collect();
    found.sort();
    found.pop().expect("pg_dump is not installed: hack/deps installs Postgres")
}
