//! Payloads as their senders publish them, where they lie beside the project: they are not part of it. Counted as skipped
//! where they are not, so this program reports by itself what the others leave to the test runner.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use stagekeeper::{
    domain::hint::Hint,
    webhook::{Event, Headers, Source, parse},
};

/// A file below `../shared/fixtures/webhooks`, the event that its sender names, and what is read of it.
type Case = (&'static str, &'static str, &'static str);

/// The published examples of packages have an empty tag, and as digests of tag and manifest some that are none: what counts
/// is the version.
const CASES: [Case; 9] = [
    (
        "github/package-published.docker.json",
        "package",
        "ghcr.io/codertocat/hello-world@sha256:3da1996a8115d7616457760d9920b815241d0a03b34cf5f04e9a0e9d8de37498",
    ),
    (
        "github/registry_package-published.docker.json",
        "registry_package",
        "ghcr.io/codertocat/hello-world@sha256:3da1996a8115d7616457760d9920b815241d0a03b34cf5f04e9a0e9d8de37498",
    ),
    ("github/ping-payload.json", "ping", "ignored: ping"),
    (
        "github/pull_request-opened.json",
        "pull_request",
        "Codertocat/Hello-World#2 open: changes at ec26c3e into master, by Codertocat, [bug], 2019-05-15T15:20:33Z",
    ),
    (
        "github/pull_request-opened.with-organization.json",
        "pull_request",
        "Codertocat/Hello-World#2 open: changes at ec26c3e into master, by Codertocat, [bug], 2019-05-15T15:20:33Z",
    ),
    (
        "github/pull_request-closed.json",
        "pull_request",
        "Codertocat/Hello-World#2 closed: changes at ec26c3e into master, by Codertocat, [bug], 2019-05-15T15:21:18Z",
    ),
    (
        "github/pull_request-reopened.json",
        "pull_request",
        "Codertocat/Hello-World#2 open: changes at ec26c3e into master, by Codertocat, [bug], 2019-05-15T15:20:33Z",
    ),
    (
        "github/pull_request-labeled.json",
        "pull_request",
        "Codertocat/Hello-World#2 open: changes at ec26c3e into master, by Codertocat, [bug], 2019-05-15T15:20:35Z",
    ),
    (
        "github/pull_request-synchronize.json",
        "pull_request",
        "Codertocat/Hello-World#2 open: changes at ec26c3e into master, by Codertocat, [bug], 2019-05-15T15:20:33Z",
    ),
];

fn main() -> ExitCode {
    // A runner that only wants names has none of these.
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures/webhooks");
    let (mut passed, mut failed, mut ignored) = (0, 0, 0);
    println!("\nrunning {} tests", CASES.len());
    for case in CASES {
        let path = folder.join(case.0);
        if !path.is_file() {
            println!("test published {} ... ignored, it is not there", case.0);
            ignored += 1;
            continue;
        }
        match hold(&path, &case) {
            Ok(()) => {
                println!("test published {} ... ok", case.0);
                passed += 1;
            }
            Err(why) => {
                println!("test published {} ... FAILED\n{why}", case.0);
                failed += 1;
            }
        }
    }
    let result = if failed == 0 { "ok" } else { "FAILED" };
    println!(
        "\ntest result: {result}. {passed} passed; {failed} failed; {ignored} ignored; 0 measured; 0 filtered out\n"
    );
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What is wrong with what is read, if anything is.
fn hold(path: &PathBuf, (_, event, want): &Case) -> Result<(), String> {
    let body = fs::read(path).map_err(|error| error.to_string())?;
    let headers: Headers = [("X-GitHub-Event", *event)].into_iter().collect();
    let found = parse(Source::GitHub, &headers, &body, None).map_err(|malformed| malformed.to_string())?;
    let shown = match &found {
        Event::Images(images) => {
            let one = |hint: &Hint| {
                let tag = hint.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
                let digest = hint.digest.map(|digest| format!("@{digest}")).unwrap_or_default();
                format!("{}{tag}{digest}", hint.repository)
            };
            images.iter().map(one).collect::<Vec<_>>().join(" ")
        }
        Event::PullRequest(news) => {
            let one = &news.pull_request;
            let labels: Vec<&str> = one.labels.iter().map(String::as_str).collect();
            format!(
                "{}#{} {}: {}{} at {} into {}, by {}, [{}], {}",
                news.repository,
                one.number,
                one.state.word(),
                one.branch,
                if one.fork { " of a fork" } else { "" },
                &one.head[..7],
                one.target,
                one.author,
                labels.join(" "),
                one.updated_at
            )
        }
        Event::Ignored { what } => format!("ignored: {what}"),
    };
    if shown == *want { Ok(()) } else { Err(format!("{shown:?}, and not {want:?}")) }
}
