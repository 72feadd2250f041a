//! Where the previous release is.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What `hack/previous` ends with where its commit is not in the checkout.
const NOT_HERE: i32 = 3;

/// The previous release.
pub struct Previous {
    /// Its tree: charts, definitions, examples, migrations.
    pub source: PathBuf,
    /// Its program.
    pub binary: String,
}

/// Whether there is one.
pub enum Found {
    There(Previous),
    /// Why not.
    Absent(String),
}

impl Previous {
    /// Builds it if it is not there.
    pub fn find() -> Found {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/previous");
        let output = Command::new(script).stdin(Stdio::null()).output().expect("hack/previous starts");
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.code() == Some(NOT_HERE) {
            return Found::Absent(said);
        }
        assert!(output.status.success(), "hack/previous: {said}");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        Found::There(Self { source: lines["source"].into(), binary: lines["binary"].to_owned() })
    }
}

/// The tree of this checkout.
pub fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
