//! The committed definitions are what the types say. `UPDATE=1 cargo test --test crds` rewrites them.

use std::path::Path;
use std::{env, fs};

/// Compares a generated file with the committed one, or rewrites it when asked to.
fn assert_generated(path: &str, wanted: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, wanted).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == wanted,
        "{} is not what the types say: run `UPDATE=1 cargo test --test crds` and commit the result",
        path.display()
    );
}

#[test]
fn definitions_are_generated() {
    for crd in stagekeeper::api::crds() {
        let yaml = stagekeeper::api::to_yaml(&crd).unwrap();
        assert_generated(
            &format!("crds/{}.yaml", crd.spec.names.singular.clone().unwrap()),
            &yaml,
        );
    }
}
