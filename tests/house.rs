//! Holds the house rules over `src/`: who may import whom, which third parties live where, how files begin,
//! how long they get and what things are not called.
//!
//! The rules are the tables below; everything else reads Rust well enough to apply them.
#![expect(clippy::expect_used, reason = "a test stops at what it cannot read")]

use std::{
    fs,
    path::{Path, PathBuf},
};

#[path = "house/paths.rs"]
mod paths;

use paths::{Origin, Source};

/// A room, and the rooms that it may import.
struct Room(&'static str, &'static [&'static str]);

/// Who may import whom. A room may always import itself; `lib.rs` only lists the rooms.
const ROOMS: &[Room] = &[
    Room("domain", &[]),
    Room("api", &[]),
    Room("crypto", &[]),
    Room("config", &["crypto"]),
    Room("telemetry", &["domain"]),
    Room("outbound", &["domain"]),
    Room("identity", &["domain"]),
    Room("registry", &["domain", "outbound"]),
    Room("webhook", &["domain"]),
    Room("forge", &["domain", "outbound", "webhook"]),
    Room("probe", &["domain"]),
    Room("store", &["domain", "crypto"]),
    Room("safe", &["domain", "crypto", "store"]),
    Room("render", &["domain", "api"]),
    Room("cluster", &["api"]),
    Room(
        "controllers",
        &[
            "domain",
            "api",
            "registry",
            "webhook",
            "forge",
            "probe",
            "store",
            "safe",
            "render",
            "cluster",
            "telemetry",
            "config",
        ],
    ),
    Room("edge", &["domain", "api", "crypto", "identity", "store", "cluster", "telemetry", "config"]),
    Room("http", &["domain", "api", "identity", "webhook", "store", "safe", "cluster", "telemetry", "config"]),
    Room("cli", EVERY_ROOM),
    Room("main", EVERY_ROOM),
];

const EVERY_ROOM: &[&str] = &[
    "domain",
    "api",
    "crypto",
    "config",
    "telemetry",
    "registry",
    "outbound",
    "webhook",
    "forge",
    "probe",
    "store",
    "safe",
    "render",
    "cluster",
    "controllers",
    "edge",
    "http",
    "identity",
    "cli",
];

/// Where a third party may be used.
enum Foreign {
    Only(&'static [&'static str], &'static [&'static str]),
    Never(&'static [&'static str], &'static [&'static str]),
}

const FOREIGN: &[Foreign] = &[
    Foreign::Only(&["sqlx", "jiff_sqlx"], &["store"]),
    Foreign::Only(&["axum"], &["http", "edge"]),
    Foreign::Only(&["aes_gcm", "hkdf"], &["crypto"]),
    Foreign::Only(&["hmac"], &["webhook", "edge"]),
    Foreign::Never(
        &["kube", "k8s_openapi"],
        &["domain", "crypto", "store", "safe", "identity", "registry", "webhook", "outbound", "forge", "probe"],
    ),
    Foreign::Never(&["tokio"], &["domain", "crypto", "render", "webhook"]),
];

/// Words that say nothing about what a thing is.
const EMPTY_FILE_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc", "manager", "mod"];
const EMPTY_FUNCTION_PREFIXES: &[&str] = &["handle_", "process_", "do_"];

/// A file longer than this says why in its module documentation, in these words.
const LONG: usize = 500;
const REASON: &str = "longer than 500 lines because";

#[test]
fn the_house_is_in_order() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(files.len() > ROOMS.len(), "too few files under {root:?}");
    let broken: Vec<String> = files
        .iter()
        .flat_map(|file| {
            let text = fs::read_to_string(file).expect("a readable source file");
            let name = file.strip_prefix(&root).expect("a file under src");
            violations(&name.to_string_lossy(), &text)
        })
        .collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).expect("a readable folder").map(|entry| entry.expect("a readable entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Everything that is wrong with one file, as `src/FILE:LINE: RULE`.
fn violations(file: &str, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut report = |line: usize, rule: String| found.push(format!("src/{file}:{line}: {rule}"));

    let documentation: String = text
        .lines()
        .take_while(|line| line.starts_with("//!"))
        .flat_map(|line| [line.trim_start_matches("//!"), "\n"])
        .collect();
    if documentation.trim().is_empty() {
        report(1, "every file starts with `//!` and what it is for".into());
    }
    let lines = text.lines().count();
    let flowing = documentation.split_whitespace().collect::<Vec<_>>().join(" ");
    if lines > LONG && !flowing.contains(REASON) {
        let rule = format!("{lines} lines: split it, or document why it is `{REASON} …`");
        report(lines, rule);
    }
    let stem = Path::new(file).file_stem().unwrap_or_default();
    if EMPTY_FILE_NAMES.iter().any(|name| stem == *name) {
        report(1, format!("`{}` names no concept", stem.to_string_lossy()));
    }

    let source = Source::read(text);
    for (line, name) in source.functions() {
        if let Some(prefix) = EMPTY_FUNCTION_PREFIXES.iter().find(|prefix| name.starts_with(**prefix)) {
            report(line, format!("`{name}`: `{prefix}*` says nothing; name what it does"));
        }
    }
    let name = room_of(file);
    if name == "lib" {
        return found;
    }
    let Some(room) = ROOMS.iter().find(|room| room.0 == name) else {
        report(1, format!("room `{name}` is not in the table of tests/house.rs"));
        return found;
    };
    let depth = file.split('/').count();
    for (line, origin) in source.origins(depth) {
        match origin {
            Origin::Room(other) => {
                if other != room.0 && !room.1.contains(&other.as_str()) {
                    report(line, import_rule(room, &other));
                }
            }
            Origin::Crate(krate) => {
                for rule in FOREIGN.iter().filter_map(|rule| broken_by(rule, room.0, &krate)) {
                    report(line, rule);
                }
            }
        }
    }
    found
}

/// `store/deploys.rs` and `store.rs` are both in the room `store`.
fn room_of(file: &str) -> &str {
    let first = file.split('/').next().unwrap_or(file);
    first.strip_suffix(".rs").unwrap_or(first)
}

fn import_rule(room: &Room, other: &str) -> String {
    let mut rule = format!("{} may not import {other}; it may import ", room.0);
    if room.1.is_empty() {
        rule.push_str("nothing of ours");
    } else {
        rule.push_str(&room.1.join(", "));
    }
    rule
}

fn broken_by(rule: &Foreign, room: &str, krate: &str) -> Option<String> {
    match rule {
        Foreign::Only(crates, rooms) => {
            (crates.contains(&krate) && !rooms.contains(&room)).then(|| format!("{krate} only in {}", rooms.join(", ")))
        }
        Foreign::Never(crates, rooms) => {
            (crates.contains(&krate) && rooms.contains(&room)).then(|| format!("{krate} never in {}", rooms.join(", ")))
        }
    }
}

/// What breaks a rule, however it is written: file, text, what must be said.
const BROKEN: &[(&str, &str, &str)] = &[
    ("domain/x.rs", "//! D.\nuse crate::store::Store;", "2: domain may not import store"),
    ("domain.rs", "//! D.\nfn f() { crate::api::name() }", "2: domain may not import api"),
    (
        "render.rs",
        "//! D.\nuse crate::{api::A,\n  domain::{self, B},\n  cluster as c};",
        "4: render may not import cluster",
    ),
    ("domain.rs", "//! D.\nuse super::store;", "2: domain may not import store"),
    ("domain/deploy.rs", "//! D.\nuse super::super::store;", "2: domain may not import store"),
    ("domain.rs", "//! D.\nmod tests {\n  use super::super::store;\n}", "3: domain may not import store"),
    ("domain.rs", "//! D.\nmod tests {\n  use super::*;\n}\nuse super::store;", "5: domain may not import store"),
    ("telemetry/a.rs", "//! D.\nuse crate::config::Log;", "2: telemetry may not import config"),
    ("store/a.rs", "//! D.\nuse crate::telemetry::Metrics;", "2: store may not import telemetry"),
    ("controllers.rs", "//! D.\nuse crate::http::router;", "2: controllers may not import http"),
    ("http/a.rs", "//! D.\nlet n = sqlx::query!(\"a\");", "2: sqlx only in store"),
    ("cli.rs", "//! D.\nuse ::axum::Router;", "2: axum only in http, edge"),
    ("cli.rs", "//! D.\nuse jiff_sqlx as time;", "2: jiff_sqlx only in store"),
    ("store.rs", "//! D.\nuse {std::fmt, kube::Client};", "2: kube never in domain"),
    ("registry.rs", "//! D.\n#[derive(k8s_openapi::Resource)]\nstruct A;", "2: k8s_openapi never in domain"),
    ("render.rs", "//! D.\n#[tokio::test]\nasync fn t() {}", "2: tokio never in domain, crypto, render"),
    ("cellar.rs", "//! D.\n", "1: room `cellar` is not in the table"),
    ("domain.rs", "use std::fmt;", "1: every file starts with `//!`"),
    ("domain.rs", "//!\n", "1: every file starts with `//!`"),
    ("domain/utils.rs", "//! D.", "1: `utils` names no concept"),
    ("domain.rs", "//! D.\nfn handle_it() {}", "2: `handle_it`: `handle_*`"),
];

#[test]
fn every_rule_can_be_broken() {
    let long = format!("//! Doc.\n{}", "\n".repeat(LONG));
    let too_long = ("domain.rs", long.as_str(), "501: 501 lines: split it");
    for (file, text, expected) in BROKEN.iter().chain([&too_long]) {
        let found = violations(file, text);
        let [found] = found.as_slice() else {
            panic!("{file}: {text:?}: one violation expected, got {found:?}");
        };
        let expected = format!("src/{file}:{expected}");
        assert!(found.starts_with(&expected), "{found:?} is not {expected:?}");
    }
}

/// What only looks like a broken rule is left alone.
#[test]
fn good_code_passes() {
    let long = format!("//! D: it is longer than\n//! 500 lines because of a table.\n{}", "\n".repeat(LONG));
    let cases: &[(&str, &str)] = &[
        ("domain.rs", "//! D.\n// use crate::store;\n/* crate::api::x /* nested */ sqlx::y */"),
        ("domain.rs", "//! D.\nconst A: &str = \"use crate::store::x\";\nconst B: &str = r#\"sqlx::\"x\" axum::\"#;"),
        ("domain.rs", "//! D.\nfn f<'a>(c: char) -> &'a str { if c == '\"' { \"crate::api::\" } else { \"\" } }"),
        ("domain/deploy.rs", "//! D.\nuse super::actor::Actor;\npub(crate) struct A;"),
        ("domain/deploy/a.rs", "//! D.\nmod tests { use super::super::super::actor; }"),
        ("store/a.rs", "//! D.\nuse crate::{domain::State, store::Row};\nuse sqlx::query;"),
        ("domain.rs", "//! D.\nuse std::tokio::x; fn f() { a.sqlx(); b::kube::c(); }"),
        ("lib.rs", "//! D.\npub mod cli;"),
        ("main.rs", "//! D.\nuse stagekeeper::cli;"),
        ("domain.rs", &long),
    ];
    for (file, text) in cases {
        assert_eq!(violations(file, text), [""; 0], "{file}: {text:?}");
    }
}
