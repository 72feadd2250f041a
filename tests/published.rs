//! Payloads as their senders publish them, where they lie beside the project: they are not part of it. Counted as skipped
//! where they are not, so this program reports by itself what the others leave to the test runner.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use stagekeeper::webhook::{Event, Headers, Source, parse};

/// A file below `../shared/fixtures/webhooks`, the event that its sender names, and the image that it is about: as
/// repository, tag and digest.
type Case = (&'static str, &'static str, Option<(&'static str, Option<&'static str>, Option<&'static str>)>);

/// The published examples of packages have an empty tag, and as digests of tag and manifest some that are none: what counts
/// is the version.
const CASES: [Case; 6] = [
    (
        "github/package-published.docker.json",
        "package",
        Some((
            "ghcr.io/codertocat/hello-world",
            None,
            Some("sha256:3da1996a8115d7616457760d9920b815241d0a03b34cf5f04e9a0e9d8de37498"),
        )),
    ),
    (
        "github/registry_package-published.docker.json",
        "registry_package",
        Some((
            "ghcr.io/codertocat/hello-world",
            None,
            Some("sha256:3da1996a8115d7616457760d9920b815241d0a03b34cf5f04e9a0e9d8de37498"),
        )),
    ),
    ("github/ping-payload.json", "ping", None),
    ("github/pull_request-opened.json", "pull_request", None),
    ("github/pull_request-closed.json", "pull_request", None),
    ("github/pull_request-labeled.json", "pull_request", None),
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
        Event::Images(images) => match images.as_slice() {
            [one] => Some((one.repository.to_string(), one.tag.clone(), one.digest.map(|digest| digest.to_string()))),
            several => return Err(format!("{} images", several.len())),
        },
        Event::Ignored { .. } => None,
    };
    let want = want
        .map(|(repository, tag, digest)| (repository.to_owned(), tag.map(str::to_owned), digest.map(str::to_owned)));
    if shown == want { Ok(()) } else { Err(format!("{shown:?}, and not {want:?}")) }
}
