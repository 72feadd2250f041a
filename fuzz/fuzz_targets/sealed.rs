//! Sealed values from bytes that nobody sealed: nothing opens but what was sealed for its place, byte for byte.
//!
//! The first byte says which of the vectors' places is looked at, and whether the right wrapped data key is put in, so
//! that what is behind it is reached too. The second one says how long the wrapped data key is.
#![no_main]

use std::sync::LazyLock;

use futures::executor::block_on;
use libfuzzer_sys::{Corpus, fuzz_target};
use serde::Deserialize;
use stagekeeper_fuzz::crypto::{KeyId, Keyring, Place, Sealed, Wrapped, open};
use uuid::Uuid;

const KEYS: &str = "2026-11:f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff000102030405060708090a0b0c0d0e0f \
                    2025-01:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

#[derive(Deserialize)]
struct Vector {
    key: KeyId,
    id: Uuid,
    namespace: String,
    project: String,
    credential: String,
    version: i64,
    plaintext: String,
    wrapped: String,
    body: String,
}

static RING: LazyLock<Keyring> = LazyLock::new(|| Keyring::parse(KEYS).expect("a keyring"));
static VECTORS: LazyLock<Vec<Vector>> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../src/crypto/vectors.json")).expect("the vectors"));

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((&[which, length], rest)) = data.split_first_chunk() else { return Corpus::Reject };
    let vector = &VECTORS[usize::from(which & 0x3f) % VECTORS.len()];
    let (wrapped, body) = rest.split_at(usize::from(length).min(rest.len()));
    let right = hex::decode(&vector.wrapped).expect("hexadecimal");
    let key = if which & 0x40 == 0 { vector.key.clone() } else { "2025-01".parse().expect("an id") };
    let bytes = if which & 0x80 == 0 { wrapped.to_vec() } else { right.clone() };
    let sealed = Sealed { wrapped: Wrapped { key, bytes }, body: body.to_vec() };
    let place = Place {
        table: "credentials",
        id: vector.id,
        namespace: &vector.namespace,
        project: &vector.project,
        name: &vector.credential,
        version: vector.version,
    };
    if let Ok(opened) = block_on(open(&*RING, &place, &sealed)) {
        assert_eq!(sealed.wrapped.bytes, right);
        assert_eq!(sealed.wrapped.key, vector.key);
        assert_eq!(hex::encode(&sealed.body), vector.body);
        assert_eq!(hex::encode(opened.expose()), vector.plaintext);
    }
    Corpus::Keep
});
