//! Images of the example application, pushed to the registry that `STAGEKEEPER_TEST_REGISTRY` names.

use std::{env, path::Path, process::Stdio};

use tokio::process::Command;

/// `host:port` of the registry.
pub fn registry() -> String {
    env::var("STAGEKEEPER_TEST_REGISTRY")
        .expect("STAGEKEEPER_TEST_REGISTRY is not set: `make test` starts a registry and sets it")
}

/// Pushes the application as `repository:tag` with switches in its environment, such as `("APP_HEALTH", "fail")`; the top
/// of `examples/shop/app/main.go` lists them. Gives the digest.
pub async fn push(repository: &str, tag: &str, switches: &[(&str, &str)]) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(root.join("hack/image"));
    command.arg("push").arg(format!("{repository}:{tag}")).stdin(Stdio::null());
    for (name, value) in switches {
        command.arg("--env").arg(format!("{name}={value}"));
    }
    let output = command.output().await.expect("hack/image starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "hack/image push {repository}:{tag}: {}", String::from_utf8_lossy(&output.stderr));
    let (_, digest) = said.trim().rsplit_once('@').expect("hack/image prints a digest");
    digest.to_owned()
}
