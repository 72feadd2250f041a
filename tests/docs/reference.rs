//! The tables that are written from the code.

use std::{fmt::Write as _, time::Duration};

use clap::{Arg, ArgAction, Command};
use stagekeeper::{
    cli,
    config::{edge::EDGE_DOCUMENTED, settings::DOCUMENTED, settings::Setting},
    domain::deploy::State,
    telemetry::{
        Metrics,
        metrics::{ReconcileResult, StageDora},
    },
};

use super::markdown::{root, sources_without};

fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

fn code(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("`{}`", cell(text)) }
}

/// Who may import whom, as `tests/house.rs` has it.
pub fn rooms() -> String {
    let house = std::fs::read_to_string(root().join("tests/house.rs")).expect("tests/house.rs");
    let (_, rest) = house.split_once("const ROOMS: &[Room] = &[").expect("a table of rooms");
    let (table, _) = rest.split_once("\n];").expect("its end");
    let mut text = String::from("| room | may import |\n|---|---|\n");
    let mut number = 0;
    // However the table is broken into lines.
    for room in table.split("Room(").skip(1) {
        let mut words = room.split('"').skip(1).step_by(2);
        let name = words.next().unwrap_or_else(|| panic!("{room}"));
        let others: Vec<String> = words.map(|other| format!("`{other}`")).collect();
        let others = match (room.contains("EVERY_ROOM"), others.is_empty()) {
            (true, _) => "every room".to_owned(),
            (false, true) => "nothing of ours".to_owned(),
            (false, false) => others.join(", "),
        };
        writeln!(text, "| `{name}` | {others} |").unwrap();
        number += 1;
    }
    assert!(number > 10, "tests/house.rs lists its rooms in another way: {text}");
    text
}

/// The states and their successors.
pub fn diagram() -> String {
    let mut text = String::from("```mermaid\nstateDiagram-v2\n    [*] --> pending\n");
    for from in State::ALL {
        for to in from.successors() {
            writeln!(text, "    {from} --> {to}").unwrap();
        }
        if from.successors().is_empty() {
            writeln!(text, "    {from} --> [*]").unwrap();
        }
    }
    text.push_str("```\n");
    text
}

/// Every setting of the operator.
pub fn settings() -> String {
    table_of(&DOCUMENTED)
}

/// Every setting of the edge.
pub fn edge_settings() -> String {
    table_of(&EDGE_DOCUMENTED)
}

fn table_of(settings: &[Setting]) -> String {
    let mut text = String::from("| variable | flag | value |\n|---|---|---|\n");
    for setting in settings {
        let flag = setting.flag.map(|flag| format!("--{flag}")).unwrap_or_default();
        let secret = if setting.secret { "; never shown in logs or errors" } else { "" };
        writeln!(text, "| `{}` | {} | {}{secret} |", setting.name, code(&flag), cell(setting.expected)).unwrap();
    }
    text
}

/// Variables that a command reads by its grammar.
pub fn environment_of(command: &str) -> Vec<String> {
    let grammar = cli::grammar();
    let found = grammar.find_subcommand(command).expect("the command");
    found.get_arguments().filter_map(|argument| Some(argument.get_env()?.to_str()?.to_owned())).collect()
}

/// Every command with its arguments.
pub fn commands() -> String {
    let mut grammar = cli::grammar();
    grammar.build();
    let mut text = String::from("### Every command\n\n");
    let global: Vec<&Arg> = grammar.get_arguments().filter(|argument| argument.is_global_set()).collect();
    arguments(&mut text, &global);
    for command in grammar.get_subcommands() {
        section(&mut text, command, "stagekeeper");
    }
    text
}

fn section(text: &mut String, command: &Command, before: &str) {
    let name = command.get_name();
    if name == "help" {
        return;
    }
    let path = format!("{before} {name}");
    if command.has_subcommands() {
        for inner in command.get_subcommands() {
            section(text, inner, &path);
        }
        return;
    }
    let about = command.get_about().map(ToString::to_string).unwrap_or_default();
    write!(text, "\n### {path}\n\n{}.\n\n", about.trim_end_matches('.')).unwrap();
    let own = |argument: &&Arg| !argument.is_global_set() && !["help", "version"].contains(&argument.get_id().as_str());
    let all: Vec<&Arg> = command.get_arguments().filter(own).collect();
    let of_operator = environment_of("controller");
    // A command that takes everything that the operator does need not repeat it.
    let is_of_operator = |argument: &&Arg| {
        of_operator.iter().any(|variable| argument.get_env().is_some_and(|name| name == variable.as_str()))
    };
    let (repeated, own): (Vec<&Arg>, Vec<&Arg>) = all.iter().partition(|argument| is_of_operator(argument));
    if name != "controller" && repeated.len() == of_operator.len() {
        text.push_str("Takes every option of [`stagekeeper controller`](#stagekeeper-controller), and:\n\n");
        arguments(text, &own);
    } else if !all.is_empty() {
        arguments(text, &all);
    }
}

fn arguments(text: &mut String, listed: &[&Arg]) {
    text.push_str("| argument | variable | default | meaning |\n|---|---|---|---|\n");
    for argument in listed {
        let variable = argument.get_env().and_then(|name| name.to_str()).unwrap_or_default();
        let default: Vec<&str> = argument.get_default_values().iter().filter_map(|value| value.to_str()).collect();
        let default = if argument.get_action().takes_values() { default.join(" ") } else { String::new() };
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        // Where the grammar cannot know a default, the help tells it.
        let (mut meaning, told) = match help.strip_suffix(']').and_then(|text| text.split_once(" [default: ")) {
            Some((meaning, told)) => (meaning.to_owned(), told.to_owned()),
            None => (help, code(&default)),
        };
        let words: Vec<String> =
            argument.get_possible_values().iter().map(|word| format!("`{}`", word.get_name())).collect();
        if !words.is_empty() && argument.get_action().takes_values() {
            write!(meaning, ": {}", words.join(", ")).unwrap();
        }
        let (name, variable) = (code(&written(argument)), code(variable));
        writeln!(text, "| {name} | {variable} | {} | {} |", cell(&told), cell(&meaning)).unwrap();
    }
}

/// As on the command line: `-o, --output FORM`, `[DEPLOY]`.
fn written(argument: &Arg) -> String {
    let values: Vec<&str> = argument.get_value_names().unwrap_or_default().iter().map(|name| name.as_str()).collect();
    let value = values.join(" ");
    if argument.is_positional() {
        return if argument.is_required_set() { value } else { format!("[{value}]") };
    }
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let names = short.into_iter().chain(long).collect::<Vec<_>>().join(", ");
    match argument.get_action() {
        ArgAction::Set | ArgAction::Append => format!("{names} {value}"),
        _ => names,
    }
}

/// Reports that no part of the program makes yet: their metrics are not documented.
const NOT_MADE: [&str; 4] = [".queued(", ".waited(", ".depth(", ".deploys_open("];

/// Every metric, from what the port prints once each report was made that the program makes.
pub fn metrics() -> String {
    let program = sources_without("src/telemetry");
    for report in NOT_MADE {
        assert!(!program.contains(report), "the program makes the report {report}…): make it here, and document it");
    }
    let metrics = Metrics::default();
    let controller = metrics.controller("stage");
    controller.max_concurrent(1);
    drop(controller.started());
    controller.finished(ReconcileResult::Success, Duration::ZERO);
    metrics.rest_answered("get", 200);
    metrics.leads(0, true);
    metrics.deploy_closed("success", Duration::ZERO);
    metrics.deploy_left("pulling", Duration::ZERO);
    metrics.scanned("success");
    metrics.store_up(true);
    let edge = metrics.edge();
    edge.upstream_failed("connect");
    edge.woke("asked");
    metrics.set_credential_expiries(vec![("acme".into(), "shop".into(), "ghcr".into(), 0)]);
    metrics.set_credentials_by_key(vec![("2026".into(), 0)]);
    let (namespace, project, stage) = ("acme".into(), "shop".into(), "prod".into());
    let (changes, succeeded, failed, lead_seconds, restore_seconds) = (2, 1, 1, Some(60.0), Some(60.0));
    metrics.set_dora(&[StageDora {
        namespace,
        project,
        stage,
        changes,
        succeeded,
        failed,
        lead_seconds,
        restore_seconds,
    }]);
    let printed = metrics.render().expect("metrics");

    let mut text = String::from("| metric | type | labels | meaning |\n|---|---|---|---|\n");
    let mut families = 0;
    for line in printed.lines() {
        let Some((family, help)) = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' ')) else {
            continue;
        };
        let told = |prefix: &str| printed.lines().find_map(|line| line.strip_prefix(&format!("{prefix}{family} ")));
        let kind = told("# TYPE ").unwrap_or_default();
        let suffix = match kind {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let sample = printed.lines().find(|line| {
            let rest = line.strip_prefix(family).unwrap_or_default();
            rest.starts_with(['{', ' ']) || ["_total", "_count", "_info"].iter().any(|it| rest.starts_with(it))
        });
        let labels = sample.unwrap_or_else(|| panic!("{family} has no sample")).split_once('{');
        let labels = labels.map_or("", |(_, rest)| rest.split_once('}').expect("labels").0);
        let names: Vec<String> = labels
            .split("\",")
            .filter_map(|label| label.split_once('='))
            .map(|(name, _)| name.to_owned())
            .filter(|name| name != "le")
            .map(|name| format!("`{name}`"))
            .collect();
        let help = help.trim_end_matches('.');
        writeln!(text, "| `{family}{suffix}` | {kind} | {} | {} |", names.join(", "), cell(help)).unwrap();
        families += 1;
    }
    assert!(families > 10, "{printed}");
    text
}
