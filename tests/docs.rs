//! Holds the documentation to what the program is: its examples are accepted, its commands parse, its links lead
//! somewhere, and its tables are written from the code. `UPDATE=1 cargo test --test docs` rewrites those.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on says where")]

mod docs {
    pub mod commands;
    pub mod examples;
    pub mod generated;
    pub mod markdown;
    pub mod permissions;
    pub mod reference;
    #[path = "../crds/server.rs"]
    #[expect(dead_code, reason = "shared with tests/crds.rs, which needs more of it")]
    pub mod server;
    pub mod speed;
}

use std::{collections::BTreeSet, fs};

use docs::{
    commands, examples, generated,
    markdown::{self, Page},
    permissions, reference, server, speed,
};
use regex::Regex;

#[test]
fn tables_are_written_from_the_code() {
    let blocks = [
        ("README.md", "speed", speed::table()),
        ("README.md", "asked", speed::asked()),
        ("README.md", "crowd", speed::crowd()),
        ("docs/edge.md", "edge-speed", speed::edge()),
        ("docs/environment.md", "environment-cost", speed::environments()),
        ("ARCHITECTURE.md", "rooms", reference::rooms()),
        ("docs/cli.md", "commands", reference::commands()),
        ("docs/configuration.md", "settings", reference::settings()),
        ("docs/deploy-states.md", "diagram", reference::diagram()),
        ("docs/deploy-states.md", "transitions", stagekeeper::domain::deploy::table::markdown()),
        ("docs/deploy-states.md", "waits", stagekeeper::domain::promotion::waits()),
        ("docs/edge.md", "edge-settings", reference::edge_settings()),
        ("docs/metrics.md", "metrics", reference::metrics()),
        ("docs/security.md", "permissions", permissions::table()),
    ];
    generated::hold(&blocks);
}

#[test]
fn what_the_controller_takes_is_what_is_documented() {
    let documented: BTreeSet<&str> =
        stagekeeper::config::settings::DOCUMENTED.iter().map(|setting| setting.name).collect();
    let taken = reference::environment_of("controller");
    let missing: Vec<_> = taken.iter().filter(|name| !documented.contains(name.as_str())).collect();
    assert!(missing.is_empty(), "not in config::settings::DOCUMENTED: {missing:?}");
    assert!(taken.len() > 10, "{taken:?}");
}

#[test]
fn what_the_edge_takes_is_what_is_documented() {
    let documented: BTreeSet<String> =
        stagekeeper::config::edge::EDGE_DOCUMENTED.iter().map(|setting| setting.name.to_owned()).collect();
    let taken: BTreeSet<String> = reference::environment_of("edge").into_iter().collect();
    assert_eq!(taken, documented);
}

/// Relative links lead to files, and what follows `#` to one of their headings.
#[test]
fn links_lead_somewhere() {
    let pages = markdown::pages();
    let mut checked = 0;
    let mut broken = Vec::new();
    for page in &pages {
        for (line, target) in page.links() {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            checked += 1;
            let (path, anchor) = target.split_once('#').map_or((target.as_str(), None), |(p, a)| (p, Some(a)));
            let path = if path.is_empty() { page.path.clone() } else { page.beside(path) };
            let place = format!("{}:{line}: {target}", page.name);
            if !path.exists() {
                broken.push(format!("{place}: there is no such file"));
            } else if let Some(anchor) = anchor
                && !Page::read(&path).anchors().contains(anchor)
            {
                broken.push(format!("{place}: there is no such heading"));
            }
        }
    }
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
    assert!(checked > 20, "only {checked} links were found");
}

/// Paths of this repository, make targets and variables that are named in the text exist.
#[test]
fn what_is_named_exists() {
    let path = Regex::new(r"^\.?(src|tests|hack|docs|crds|migrations|examples|bench|ci)/[\w./-]*$").unwrap();
    let variable = Regex::new(r"\bSTAGEKEEPER_[A-Z0-9_]*[A-Z0-9]\b").unwrap();
    let target = Regex::new(r"^(?:[A-Z_]+=\S+ )*make ([a-z][a-z-]*)").unwrap();
    let makefile = fs::read_to_string(markdown::root().join("Makefile")).unwrap();
    let targets: BTreeSet<&str> = makefile.lines().filter_map(|line| line.split_once(": ##")).map(|it| it.0).collect();
    let sources = markdown::sources();
    let read: BTreeSet<&str> = variable.find_iter(&sources).map(|found| found.as_str()).collect();
    let mut wrong = Vec::new();
    let (mut paths, mut variables, mut made) = (0, 0, 0);
    for page in markdown::pages().iter().filter(|page| page.name != "CHANGELOG.md") {
        let mut say = |line: usize, what: String| wrong.push(format!("{}:{line}: {what}", page.name));
        for (line, code) in page.codes() {
            if path.is_match(&code) {
                paths += 1;
                if !markdown::root().join(&code).exists() {
                    say(line, format!("there is no {code}"));
                }
            }
            for name in target.captures_iter(&code).map(|found| found.get(1).unwrap().as_str().to_owned()) {
                made += 1;
                if !targets.contains(name.as_str()) {
                    say(line, format!("the Makefile has no target {name}"));
                }
            }
        }
        for (line, text) in page.lines() {
            for name in variable.find_iter(text).map(|found| found.as_str()) {
                variables += 1;
                // What pods are told is put together from the prefix and a word.
                let word = name.trim_start_matches("STAGEKEEPER_");
                let is_told = word.starts_with("SERVICE_") || sources.contains(&format!("variable(\"{word}\""));
                if !is_told && !read.contains(name) {
                    say(line, format!("nothing reads {name}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    assert!(paths > 20 && variables > 10 && made > 5, "{paths} paths, {variables} variables, {made} targets");
}

/// The text belongs to everybody's machine.
#[test]
fn no_machine_is_named() {
    let named = Regex::new(r"/work/|/root/|/home/[a-z]|/tmp/[a-z]|localhost:[0-9]{5}").unwrap();
    for page in markdown::pages() {
        for (line, text) in page.lines() {
            assert!(!named.is_match(text), "{}:{line}: {text}", page.name);
        }
    }
}

#[test]
fn commands_are_in_the_grammar() {
    let mut wrong = Vec::new();
    let mut checked = 0;
    for page in markdown::pages() {
        for (line, words, whole) in commands::of(&page) {
            checked += 1;
            if let Err(error) = commands::parse(&words, whole) {
                wrong.push(format!("{}:{line}: {}: {error}", page.name, words.join(" ")));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    assert!(checked > 30, "only {checked} commands were found");
}

#[test]
fn examples_are_objects_of_our_kinds() {
    let examples = examples::all();
    for example in &examples {
        example.parse();
    }
    assert!(examples.len() > 10, "only {} examples were found", examples.len());
}

#[tokio::test]
async fn the_api_server_accepts_the_examples() {
    let client = server::client().await;
    server::install(&client).await;
    server::eventually(async || {
        let mut wrong = Vec::new();
        for example in examples::all() {
            wrong.extend(example.refused(&client).await);
        }
        wrong
    })
    .await;
}

#[test]
fn the_rules_to_install_are_those_that_the_program_needs() {
    permissions::rules_are_grants();
}

/// `examples/operator/rbac.yaml`, applied: `doctor` finds nothing missing as that service account.
#[tokio::test]
async fn the_rules_to_install_are_enough_for_doctor() {
    let client = server::client().await;
    server::install(&client).await;
    permissions::suffice(&client).await;
}
