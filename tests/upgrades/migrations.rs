//! The database's schema: what a release has run never changes, and what is new since then only adds. What nothing uses any more
//! is taken away by a migration that says since which release that is so, and that release has to be out.

use std::{collections::BTreeMap, fs, path::Path};

use regex::Regex;

use crate::previous::{Previous, here};

/// What the version before may still use, or could not satisfy. The first group is the table, where one is named.
const NARROWS: [&str; 8] = [
    r"(?i)\bDROP\s+(?:TABLE|VIEW|FUNCTION|TYPE|SCHEMA)\s+(?:IF\s+EXISTS\s+)?(\w+)",
    r"(?i)\bALTER\s+TABLE\s+(\w+)[^;]*?\bDROP\s+COLUMN\b",
    r"(?i)\bALTER\s+TABLE\s+(\w+)[^;]*?\bRENAME\b",
    r"(?i)\bALTER\s+TABLE\s+(\w+)[^;]*?\bALTER\s+(?:COLUMN\s+)?\w+\s+(?:TYPE|SET\s+DATA|SET\s+NOT\s+NULL|DROP\s+DEFAULT)\b",
    r"(?i)\bTRUNCATE\s+(?:TABLE\s+)?(\w+)",
    r"(?i)\bCREATE\s+UNIQUE\s+INDEX\s+\w+\s+ON\s+(\w+)",
    r"(?i)\bALTER\s+TABLE\s+(\w+)[^;]*?\bADD\s+(?:CONSTRAINT\s+\w+\s+)?(?:UNIQUE|PRIMARY|FOREIGN|EXCLUDE)\b",
    r"(?i)\bDELETE\s+FROM\s+(\w+)",
];

/// What a migration that takes something away begins with: since which release nothing uses it.
const CONTRACTS: &str = r"(?m)^-- contracts: unused since (\d+\.\d+\.\d+)$";

/// The test.
pub fn expand(previous: &Previous) {
    the_rules_find_what_they_are_for();
    let (before, now) = (read(&previous.source), read(here()));
    assert!(before.len() > 30, "{}", before.len());
    for (file, text) in &before {
        assert_eq!(now.get(file), Some(text), "{file} has been released: it never changes, and never goes");
    }
    let last = before.keys().filter_map(|file| number(file)).max().unwrap();
    let released = version(&previous.source);
    for (file, text) in now.iter().filter(|(file, _)| !before.contains_key(*file)) {
        assert!(number(file).is_some_and(|number| number > last), "{file}: its number is above {last}");
        let Some(stem) = file.strip_suffix(".up.sql") else { continue };
        assert!(now.contains_key(&format!("{stem}.down.sql")), "{file} has no way back");
        let found = narrowings(text);
        assert!(found.is_empty() || may_contract(text, &released), "{file} takes away what {released} uses: {found:?}");
    }
    println!(
        "  {} migrations are new since {released}",
        now.keys().filter(|file| !before.contains_key(*file)).count() / 2
    );
}

/// Files of a tree's migrations, with their text.
fn read(tree: &Path) -> BTreeMap<String, String> {
    let files = fs::read_dir(tree.join("migrations")).unwrap().map(Result::unwrap);
    files.map(|file| (file.file_name().into_string().unwrap(), fs::read_to_string(file.path()).unwrap())).collect()
}

fn number(file: &str) -> Option<u32> {
    file.split_once('_')?.0.parse().ok()
}

/// The version of a tree's program.
fn version(tree: &Path) -> semver::Version {
    let manifest = fs::read_to_string(tree.join("Cargo.toml")).unwrap();
    let found = Regex::new(r#"(?m)^version = "(.+)"$"#).unwrap().captures(&manifest).unwrap()[1].parse();
    found.unwrap()
}

/// What a migration does that the version before it would notice. Tables that it makes itself are its own.
fn narrowings(text: &str) -> Vec<String> {
    let text: String =
        text.lines().map(|line| line.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let made = Regex::new(r"(?i)\bCREATE\s+TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?(\w+)").unwrap();
    let made: Vec<String> = made.captures_iter(&text).map(|found| found[1].to_lowercase()).collect();
    let mut found = Vec::new();
    for rule in NARROWS {
        for statement in Regex::new(rule).unwrap().captures_iter(&text) {
            if !made.contains(&statement[1].to_lowercase()) {
                found.push(statement[0].split_whitespace().collect::<Vec<_>>().join(" "));
            }
        }
    }
    // A column that old writers leave out.
    let column = Regex::new(r"(?i)\bADD\s+COLUMN\s+(?:IF\s+NOT\s+EXISTS\s+)?(\w+)\s+([^,;]*)").unwrap();
    for added in column.captures_iter(&text) {
        let kind = added[2].to_lowercase();
        if kind.contains("not null") && !kind.contains("default") && !kind.contains("generated") {
            found.push(added[0].split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
    found
}

/// Whether a migration says since when nothing uses what it takes away, and that release is out.
fn may_contract(text: &str, released: &semver::Version) -> bool {
    let since = Regex::new(CONTRACTS).unwrap();
    since.captures(text).is_some_and(|found| found[1].parse::<semver::Version>().unwrap() <= *released)
}

fn the_rules_find_what_they_are_for() {
    assert_eq!(narrowings(include_str!("next.up.sql")), Vec::<String>::new());
    for narrow in [
        "DROP TABLE vetoes;",
        "ALTER TABLE deploys DROP COLUMN cause;",
        "ALTER TABLE deploys ADD COLUMN a text, DROP COLUMN cause;",
        "ALTER TABLE deploys RENAME COLUMN cause TO why;",
        "ALTER TABLE deploys RENAME TO attempts;",
        "ALTER TABLE deploys ALTER COLUMN message SET NOT NULL;",
        "ALTER TABLE deploys ALTER message TYPE varchar(10);",
        "ALTER TABLE deploys ADD COLUMN a text NOT NULL;",
        "CREATE UNIQUE INDEX one ON deploys (cause);",
        "ALTER TABLE deploys ADD CONSTRAINT one UNIQUE (cause);",
        "DELETE FROM vetoes;",
        "TRUNCATE vetoes;",
    ] {
        assert_eq!(narrowings(narrow).len(), 1, "{narrow}");
    }
    for wide in [
        "-- DROP TABLE vetoes;\nCREATE TABLE a (b int NOT NULL);\nCREATE UNIQUE INDEX c ON a (b);",
        "ALTER TABLE deploys ADD COLUMN a text NOT NULL DEFAULT '', ADD COLUMN b int;",
    ] {
        assert_eq!(narrowings(wide), Vec::<String>::new(), "{wide}");
    }
    let drop = "-- contracts: unused since 0.2.0\nALTER TABLE deploys DROP COLUMN cause;";
    assert!(!may_contract(drop, &semver::Version::new(0, 1, 0)), "0.1.0 may still use it");
    assert!(
        may_contract(drop, &semver::Version::new(0, 2, 0))
            && !may_contract("DROP TABLE a;", &semver::Version::new(9, 0, 0))
    );
}
