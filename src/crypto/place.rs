//! Where a sealed value belongs.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Length of [`Place::check`].
pub(super) const CHECK: usize = 16;

/// The identity of the row that a value is sealed for. Rebuilt from the row itself on every opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The table.
    pub table: &'static str,
    /// The row's key.
    pub id: Uuid,
    /// The namespace of its project.
    pub namespace: &'a str,
    /// Its project; empty for what belongs to none.
    pub project: &'a str,
    /// Its name among the project's.
    pub name: &'a str,
    /// How many times it was written: an older value of the same row does not open either.
    pub version: i64,
}

impl Place<'_> {
    /// What the ciphertext is bound to: the format's version and every field, each with its length before it, so that no
    /// two places look alike.
    pub(super) fn associated_data(&self, format: u8) -> Vec<u8> {
        let id = self.id.as_bytes();
        let version = self.version.to_be_bytes();
        let fields: [&[u8]; 6] = [
            self.table.as_bytes(),
            id,
            self.namespace.as_bytes(),
            self.project.as_bytes(),
            self.name.as_bytes(),
            &version,
        ];
        let mut all = Vec::with_capacity(1 + fields.iter().map(|field| field.len() + 8).sum::<usize>());
        all.push(format);
        for field in fields {
            all.extend_from_slice(&(field.len() as u64).to_be_bytes());
            all.extend_from_slice(field);
        }
        all
    }

    /// Tells a value that was moved from one that was changed. It is no secret, and nothing depends on it: what is bound
    /// to another place does not open.
    pub(super) fn check(associated_data: &[u8]) -> [u8; CHECK] {
        let digest = Sha256::digest(associated_data);
        std::array::from_fn(|at| digest[at])
    }
}
