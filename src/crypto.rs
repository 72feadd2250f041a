//! Sealing: what Postgres keeps so that nobody can read it who has only the database.
//!
//! Each value is sealed with a data key of its own, made anew on every write, and that data key is wrapped by a key of
//! the [`Keyring`], which is never stored:
//!
//! ```text
//! data key   = 32 random bytes
//! key ‖ commitment = HKDF-Expand-SHA-256(data key, "stagekeeper sealed value 1", 64)
//! place      = SHA-256(identity of the row)[..16]
//! ciphertext = AES-256-GCM(key, random nonce, plaintext, associated data: version ‖ identity of the row)
//! wrapped    = AES-256-GCM(keyring key, random nonce, data key, associated data: id of the keyring key)
//! ```
//!
//! - The **identity of the row** ([`Place`]) is rebuilt from the row on every opening: what was moved to another row does
//!   not open there.
//! - The **commitment** is checked before anything is decrypted. AES-GCM alone is not committing: one ciphertext can be
//!   made to open under two keys.
//! - A **data key per write** means that no key ever seals two values, so random nonces cannot collide; and that rotation
//!   rewrites a few dozen bytes of each row, whatever its size.
//! - A keyring key wraps data keys only, at most 2³² of them (NIST SP 800-38D, section 8.3): more than anybody writes.
//!
//! Nothing here reads a clock, a file or the network; how a key is wrapped is behind [`Wrapping`].

mod derive;
mod key;
mod keyring;
mod pass;
mod place;
mod plaintext;
mod random;
mod sealed;
mod wrapping;

pub use self::{
    key::{KeyId, KeyIdError},
    keyring::{Keyring, KeyringError},
    pass::Passes,
    place::Place,
    plaintext::Plaintext,
    random::random,
    sealed::{MAX_PLAINTEXT, OpenError, Part, SealError, Sealed, open, seal},
    wrapping::{DataKey, WrapError, Wrapped, Wrapping},
};

#[cfg(test)]
mod tests;
