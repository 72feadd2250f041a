//! Keys from keys.

use hkdf::Hkdf;
use sha2::Sha256;

/// HKDF-Expand (RFC 5869, section 2.3) with SHA-256. Extraction is left out, as section 3.3 allows: these keys are random
/// already.
#[expect(clippy::expect_used, reason = "it fails for a key under 32 bytes or an output over 8160 only")]
pub(super) fn expand(key: &[u8; 32], info: &[u8], into: &mut [u8]) {
    let derived = Hkdf::<Sha256>::from_prk(key).expect("32 bytes").expand(info, into);
    derived.expect("a short output");
}
