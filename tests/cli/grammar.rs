//! What needs neither database nor cluster.

use std::{
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::Deserialize as _;

use crate::binary::{Ended, Folder, on, program, run, stagekeeper};

#[test]
fn alone_it_prints_its_help() {
    let help = run(&mut stagekeeper(&[])).well();
    assert!(help.contains("Usage: stagekeeper [OPTIONS] [COMMAND]"), "{help}");
    assert!(help.contains("Exit codes: 0 it worked"), "{help}");
    assert!(!help.contains('\u{1b}'), "colour without a terminal: {help}");
    assert_eq!(help, run(&mut stagekeeper(&["--help"])).well());
}

#[test]
fn its_version_is_the_packages() {
    let version = run(&mut stagekeeper(&["--version"])).well();
    assert_eq!(version, format!("stagekeeper {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn as_a_plugin_it_shows_itself_under_kubectl() {
    let folder = Folder::new();
    let plugin = folder.path("kubectl-stagekeeper");
    symlink(env!("CARGO_BIN_EXE_stagekeeper"), &plugin).unwrap();
    for (arguments, usage) in [
        (vec!["--help"], "Usage: kubectl stagekeeper [OPTIONS] [COMMAND]"),
        (vec!["history", "--help"], "Usage: kubectl stagekeeper history [OPTIONS]"),
    ] {
        let help = run(&mut program(&plugin, &arguments)).well();
        assert!(help.contains(usage), "{help}");
    }
}

#[test]
fn wrong_command_lines_end_with_2() {
    for arguments in [
        &["bogus"][..],
        &["history", "--limit", "0"],
        &["history", "--state", "done"],
        &["history", "a/b/c"],
        &["history", "-o", "xml"],
        &["get", "deploy"],
        &["logs"],
        &["migrate", "sideways"],
        &["completions", "cobol"],
    ] {
        let ended = run(&mut stagekeeper(arguments));
        assert_eq!(ended.code, 2, "{arguments:?}: {ended:?}");
        assert!(ended.err.starts_with("error: "), "{arguments:?}: {ended:?}");
    }
}

#[test]
fn a_time_that_is_none_is_a_wrong_command_line() {
    let said = on("postgres://127.0.0.1:1/x", &["history", "--since", "yesterday"]).badly(2);
    assert!(said.contains("--since: `yesterday` is no time"), "{said}");
}

#[test]
fn everything_that_is_missing_is_said_at_once_and_no_secret_with_it() {
    let mut command = stagekeeper(&["controller", "--scan-concurrency", "many"]);
    let said = run(command
        .env("DATABASE_URL", "mysql://me:hunter2@db/history")
        .env("STAGEKEEPER_PORT", "0")
        .env("STAGEKEEPER_NAMESPACES", "shop,Shop"))
    .badly(2);
    for expected in [
        "DATABASE_URL (--database-url) is not usable (its value is not shown)",
        "STAGEKEEPER_PORT (--port) is `0`: expected a whole number from 1 to 65535",
        "STAGEKEEPER_NAMESPACES (--namespaces) is `shop,Shop`, `Shop` is not one",
        "STAGEKEEPER_SCAN_CONCURRENCY (--scan-concurrency) is `many`",
    ] {
        assert!(said.contains(expected), "{expected} is missing: {said}");
    }
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn a_missing_url_is_a_matter_of_configuration() {
    for arguments in [&["registry", "list"][..], &["migrate", "status"], &["audit", "verify"]] {
        let said = run(&mut stagekeeper(arguments)).badly(2);
        assert!(said.contains("DATABASE_URL (--database-url) is missing"), "{said}");
    }
}

#[test]
fn a_database_that_is_away_ends_with_3_and_names_no_password() {
    let said = on("postgres://me:hunter2@127.0.0.1:1/history", &["history"]).badly(3);
    assert!(said.contains("failed to connect to database after 3 attempts"), "{said}");
    assert!(said.contains("127.0.0.1:1/history"), "{said}");
    assert!(!said.contains("hunter2"), "{said}");
}

#[test]
fn crds_are_those_of_the_types() {
    let text = run(&mut stagekeeper(&["crds"])).well();
    let printed: Vec<CustomResourceDefinition> = serde_yaml::Deserializer::from_str(&text)
        .map(|document| CustomResourceDefinition::deserialize(document).expect("a definition"))
        .collect();
    assert_eq!(printed, stagekeeper::api::crds());
}

#[test]
fn every_shell_asks_the_program_for_what_could_come_next() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = run(&mut stagekeeper(&["completions", shell])).well();
        assert!(script.contains("STAGEKEEPER_COMPLETE"), "{shell}: {script}");
    }
    let mut asks = stagekeeper(&["--", "stagekeeper", ""]);
    let offered = run(asks.env("STAGEKEEPER_COMPLETE", "bash").env("_CLAP_COMPLETE_INDEX", "1")).well();
    for command in ["controller", "doctor", "history", "why", "promote"] {
        assert!(offered.contains(command), "{command}: {offered}");
    }
}

#[test]
fn a_reader_who_has_read_enough_is_no_error() {
    let mut child = stagekeeper(&["crds"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The definitions do not fit into a pipe: the process is still writing, or has not begun, when it closes.
    drop(child.stdout.take());
    let ended: Ended = child.wait_with_output().unwrap().into();
    assert_eq!((ended.code, ended.err.as_str()), (0, ""));
}

/// The shell's own word for whether a script is one.
#[test]
fn the_bash_completion_is_valid_bash() {
    let script = run(&mut stagekeeper(&["completions", "bash"])).well();
    let folder = Folder::new();
    let path = folder.path("completions.bash");
    std::fs::write(&path, script).unwrap();
    let checked = Command::new("bash").arg("-n").arg(Path::new(&path)).output();
    let checked: Ended = checked.expect("bash runs").into();
    assert_eq!((checked.code, checked.err.as_str()), (0, ""));
}
