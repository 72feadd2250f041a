//! The previous release, upgraded to this one and rolled back with a deploy under way: `docs/upgrades.md` has what is promised. The
//! previous release is built from its commit (`hack/previous`). Counted as skipped where that is not in the checkout, so this
//! program reports by itself what the others leave to the test runner.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at what it did not expect")]

#[path = "upgrades/definitions.rs"]
mod definitions;
#[path = "chart/ground.rs"]
#[expect(dead_code, reason = "shared with tests/install.rs, which needs more of it")]
mod ground;
#[path = "upgrades/helm.rs"]
mod helm;
#[path = "upgrades/migrations.rs"]
mod migrations;
#[path = "upgrades/plain.rs"]
mod plain;
#[path = "upgrades/previous.rs"]
mod previous;
#[path = "support/process.rs"]
mod process;
#[path = "upgrades/story.rs"]
mod story;
#[path = "support/throwaway.rs"]
#[expect(dead_code, reason = "shared with tests/faults.rs, which needs more of it")]
mod throwaway;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

use ground::Ground;
use previous::{Found, Previous};
use tokio::runtime::Runtime;

/// Each is a test of its own; those that need a cluster share one.
const CASES: [&str; 5] = [
    "migrations_expand",
    "definitions_take_what_they_took",
    "by_helm_with_definitions",
    "by_helm_without_definitions",
    "by_plain_manifests",
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // A runner that only wants names has none of these.
    if arguments.iter().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let is_wanted = |case: &str| wanted.is_empty() || wanted.iter().any(|word| case.contains(word.as_str()));
    let cases: Vec<&str> = CASES.into_iter().filter(|case| is_wanted(case)).collect();
    println!("\nrunning {} tests", cases.len());
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    let previous = if cases.is_empty() { Found::Absent(String::new()) } else { Previous::find() };
    let mut stand = Stand { runtime: Runtime::new().unwrap(), ground: None };
    for case in cases {
        let previous = match &previous {
            Found::There(previous) => previous,
            Found::Absent(why) => {
                println!("test upgrades {case} ... ignored, {why}");
                ignored += 1;
                continue;
            }
        };
        if catch_unwind(AssertUnwindSafe(|| stand.run(case, previous))).is_ok() {
            println!("test upgrades {case} ... ok");
            passed += 1;
        } else {
            println!("test upgrades {case} ... FAILED");
            failed += 1;
        }
    }
    drop(stand);
    let result = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {result}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; {} filtered out\n",
        CASES.len() - passed - failed - ignored
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What the cases run on.
struct Stand {
    runtime: Runtime,
    ground: Option<Ground>,
}

impl Stand {
    fn run(&mut self, case: &str, previous: &Previous) {
        match case {
            "migrations_expand" => return migrations::expand(previous),
            "definitions_take_what_they_took" => return definitions::take_what_they_took(previous),
            _ => {}
        }
        let ground = &mut self.ground;
        self.runtime.block_on(async {
            if ground.is_none() {
                *ground = Some(helm::ground(previous).await);
            }
            let ground = ground.as_mut().unwrap();
            match case {
                "by_helm_with_definitions" => helm::upgraded_and_rolled_back(ground, previous, true).await,
                "by_helm_without_definitions" => helm::upgraded_and_rolled_back(ground, previous, false).await,
                "by_plain_manifests" => plain::upgraded_and_rolled_back(ground, previous).await,
                other => panic!("there is no test {other}"),
            }
        });
    }
}
