//! The operator's image: what the script assembles is what the Dockerfile says, twice the same, small, and for a user without rights.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use super::helm::{documents, root, tool};

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

/// What a program prints; it has to end well.
fn printed(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("it starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Labels of the Dockerfile by name.
fn labels(dockerfile: &str) -> BTreeMap<String, String> {
    let words = dockerfile.lines().map(|line| line.trim().trim_start_matches("LABEL ").trim_end_matches(" \\"));
    words
        .filter(|line| line.starts_with("org.opencontainers.image."))
        .map(|line| {
            let (name, value) = line.split_once('=').unwrap();
            (name.to_owned(), value.trim_matches('"').to_owned())
        })
        .collect()
}

#[test]
fn it_is_what_the_dockerfile_says() {
    let registry = env::var("STAGEKEEPER_TEST_REGISTRY")
        .expect("STAGEKEEPER_TEST_REGISTRY is not set: `make test` starts a registry and sets it");
    let binary = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("stagekeeper-{}", std::process::id()));
    printed(Command::new("strip").arg("-o").arg(&binary).arg(env!("CARGO_BIN_EXE_stagekeeper")));
    let reference = format!("{registry}/image-{}/stagekeeper:1.2.3", std::process::id());
    let push = || {
        printed(
            Command::new(root().join("hack/release-image"))
                .arg("push")
                .arg(&binary)
                .arg(&reference)
                .env("REVISION", "0123abc"),
        )
    };
    let pushed = push();
    assert_eq!(push(), pushed, "the same binary makes the same digest");

    let dockerfile = read("Dockerfile");
    let config: Value = serde_json::from_str(&printed(Command::new(tool("crane")).args(["config", &pushed]))).unwrap();
    let config = &config["config"];
    let says = |line: String| assert!(dockerfile.lines().any(|found| found == line), "the Dockerfile has no `{line}`");
    says(format!("USER {}", config["User"].as_str().unwrap()));
    says(format!("ENTRYPOINT [{}]", config["Entrypoint"][0]));
    assert_eq!(config["User"], "65532:65532");
    for port in config["ExposedPorts"].as_object().unwrap().keys() {
        says(format!("EXPOSE {}", port.trim_end_matches("/tcp")));
    }
    let given = BTreeMap::from([("$VERSION", "1.2.3"), ("$REVISION", "0123abc")]);
    for (name, value) in labels(&dockerfile) {
        let wanted = given.get(value.as_str()).copied().unwrap_or(&value);
        assert_eq!(config["Labels"][&name], wanted, "{name}");
    }
    assert_eq!(labels(&dockerfile).len(), config["Labels"].as_object().unwrap().len());

    // Nobody can become anybody else with it, and there is no shell.
    let files = printed(Command::new("bash").args([
        "-c",
        &format!("set -o pipefail; '{}' export '{pushed}' - | tar --list --verbose", tool("crane").display()),
    ]));
    let names: BTreeSet<&str> = files.lines().filter_map(|line| line.split_whitespace().nth(5)).collect();
    assert!(names.iter().any(|name| name.ends_with("usr/bin/stagekeeper")), "{files}");
    assert!(names.iter().any(|name| name.ends_with("etc/ssl/certs/ca-certificates.crt")), "{files}");
    assert!(!names.iter().any(|name| name.ends_with("/sh") || name.ends_with("/bash")), "{files}");
    assert!(!files.lines().any(|line| line.get(..10).is_some_and(|mode| mode.contains(['s', 'S']))), "{files}");
    fs::remove_file(&binary).unwrap();
}

/// The toolchain of the Dockerfile is new enough, and it takes its files from the script.
#[test]
fn the_dockerfile_follows_the_project() {
    let dockerfile = read("Dockerfile");
    let number = |text: &str| -> Vec<u32> { text.split('.').map(|part| part.parse().unwrap()).collect() };
    let (_, rest) = dockerfile.split_once("docker.io/library/rust:").unwrap();
    let has = number(rest.split('-').next().unwrap());
    let manifest = read("Cargo.toml");
    let (_, rest) = manifest.split_once("rust-version = \"").unwrap();
    let needs = number(rest.split('"').next().unwrap());
    assert!(has >= needs, "{has:?} {needs:?}");
    assert!(dockerfile.contains("hack/release-image rootfs target/release/stagekeeper /rootfs"));
}

/// Workflows of the forge call targets that there are, on everybody's machine the same.
#[test]
fn workflows_call_the_same_targets() {
    let makefile = read("Makefile");
    let targets: BTreeSet<&str> = makefile.lines().filter_map(|line| line.split_once(": ##")).map(|it| it.0).collect();
    let mut called = BTreeSet::new();
    for file in ["ci", "release"] {
        let workflow = &documents(&read(&format!(".github/workflows/{file}.yaml")))[0];
        for (_, job) in workflow["jobs"].as_object().unwrap() {
            for step in job["steps"].as_array().unwrap() {
                let run = step["run"].as_str().unwrap_or_default();
                called.extend(
                    run.lines().filter_map(|line| line.strip_prefix("make ")?.split(' ').next()).map(str::to_owned),
                );
            }
        }
    }
    assert_eq!(called, ["lint", "release", "test"].map(str::to_owned).into());
    assert!(called.iter().all(|target| targets.contains(target.as_str())), "{called:?} {targets:?}");
}
