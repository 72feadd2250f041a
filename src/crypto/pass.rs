//! Short texts that others carry for us, such as cookies: whoever carries one can neither read nor change it, nor show it in
//! another place than the one that it is for.
//!
//! ```text
//! root        = SHA-256("stagekeeper pass root 1" ‖ each part with its length)
//! key ‖ nonce = HKDF-Expand-SHA-256(root, "stagekeeper pass 1" ‖ salt, 44)
//! pass        = base64url(version ‖ salt ‖ AES-256-GCM(key, nonce, text, associated data: purpose ‖ 0 ‖ place))
//! ```
//!
//! The salt is 32 random bytes, so no key ever seals two texts, and the nonce cannot repeat under one.

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{Aead as _, Payload},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::{derive::expand, random::random};

const VERSION: u8 = 1;
const SALT: usize = 32;
const NONCE: usize = 12;

/// Makes passes, and reads them again.
pub struct Passes {
    root: Zeroizing<[u8; 32]>,
}

impl std::fmt::Debug for Passes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Passes").finish_non_exhaustive()
    }
}

impl Passes {
    /// From a secret and whatever else passes depend on: with another part, those before open no more. The secret has to be
    /// one that nobody guesses.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut digest = Sha256::new().chain_update(b"stagekeeper pass root 1");
        for part in parts {
            digest = digest.chain_update((part.len() as u64).to_be_bytes()).chain_update(part);
        }
        Self { root: Zeroizing::new(digest.finalize().into()) }
    }

    /// Seals a text for a purpose and a place.
    ///
    /// # Errors
    /// The machine gives no random numbers, or the text is longer than anybody's.
    pub fn seal(&self, purpose: &str, place: &str, text: &[u8]) -> Result<String, String> {
        let salt = random::<SALT>()?;
        let (key, nonce) = self.key(&*salt);
        let aad = aad(purpose, place);
        let sealed = Aes256Gcm::new((&*key).into()).encrypt((&nonce).into(), Payload { msg: text, aad: &aad });
        let sealed = sealed.map_err(|_| "the text cannot be sealed".to_owned())?;
        Ok(URL_SAFE_NO_PAD.encode([&[VERSION], &salt[..], &sealed].concat()))
    }

    /// The text of a pass for this purpose and place; nothing if it is not one of ours.
    pub fn open(&self, purpose: &str, place: &str, pass: &str) -> Option<Zeroizing<Vec<u8>>> {
        let bytes = URL_SAFE_NO_PAD.decode(pass).ok()?;
        let (version, rest) = bytes.split_first()?;
        let (salt, sealed) = rest.split_at_checked(SALT)?;
        if *version != VERSION {
            return None;
        }
        let (key, nonce) = self.key(salt);
        let aad = aad(purpose, place);
        let opened = Aes256Gcm::new((&*key).into()).decrypt((&nonce).into(), Payload { msg: sealed, aad: &aad });
        opened.ok().map(Zeroizing::new)
    }

    fn key(&self, salt: &[u8]) -> (Zeroizing<[u8; 32]>, [u8; NONCE]) {
        let mut derived = Zeroizing::new([0; 32 + NONCE]);
        expand(&self.root, &[b"stagekeeper pass 1", salt].concat(), &mut *derived);
        let (mut key, mut nonce) = (Zeroizing::new([0; 32]), [0; NONCE]);
        key.copy_from_slice(&derived[..32]);
        nonce.copy_from_slice(&derived[32..]);
        (key, nonce)
    }
}

fn aad(purpose: &str, place: &str) -> Vec<u8> {
    [purpose.as_bytes(), &[0], place.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn passes() -> Passes {
        Passes::of(&[b"a secret that nobody guesses", b"issuer"])
    }

    #[test]
    fn a_pass_opens_where_it_is_for_and_nowhere_else() {
        let pass = passes().seal("session", "a.test", b"jane").unwrap();
        let opened = |passes: &Passes, purpose: &str, place: &str| passes.open(purpose, place, &pass);
        assert_eq!(opened(&passes(), "session", "a.test").unwrap().as_slice(), b"jane");
        assert_eq!(opened(&passes(), "session", "b.test"), None);
        assert_eq!(opened(&passes(), "ticket", "a.test"), None);
        assert_eq!(opened(&Passes::of(&[b"a secret that nobody guesses", b"other"]), "session", "a.test"), None);
        // What is a part of its own is not the end of the one before.
        assert_eq!(opened(&Passes::of(&[b"a secret that nobody guessesissuer"]), "session", "a.test"), None);
    }

    #[test]
    fn two_passes_of_one_text_have_nothing_in_common() {
        let passes = passes();
        let all: std::collections::BTreeSet<String> =
            (0..100).map(|_| passes.seal("session", "a.test", b"jane").unwrap()).collect();
        assert_eq!(all.len(), 100);
        assert!(all.iter().all(|pass| !pass.contains("jane") && !pass.contains("amFuZQ")));
    }

    proptest! {
        #[test]
        fn what_was_changed_opens_nowhere(text in proptest::collection::vec(any::<u8>(), 0..60), at: prop::sample::Index, bit in 0..8_u8) {
            let pass = passes().seal("session", "a.test", &text).unwrap();
            let mut bytes = URL_SAFE_NO_PAD.decode(&pass).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(passes().open("session", "a.test", &URL_SAFE_NO_PAD.encode(&bytes)), None);
            bytes[at] ^= 1 << bit;
            bytes.truncate(at);
            prop_assert_eq!(passes().open("session", "a.test", &URL_SAFE_NO_PAD.encode(&bytes)), None);
        }

        #[test]
        fn nothing_odd_opens(pass in "\\PC{0,80}") {
            prop_assert_eq!(passes().open("session", "a.test", &pass), None);
        }
    }
}
