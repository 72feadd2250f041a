//! `stagekeeper crds`: the custom resource definitions of this version.

use std::io::Write;

use super::failure::Failure;
use crate::api;

/// Prints every definition as one YAML stream, ready for `kubectl apply --server-side -f -`.
pub fn print(out: &mut dyn Write) -> Result<(), Failure> {
    for crd in api::crds() {
        let text =
            api::to_yaml(&crd).map_err(|error| Failure::failed(format!("a CRD cannot be written: {error}"), ""))?;
        writeln!(out, "---\n{}", text.trim_end())?;
    }
    Ok(())
}
