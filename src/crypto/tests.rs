//! Sealing against published vectors, against vectors of our own that later versions have to open, and against everything
//! that may have become of a row.

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{Aead as _, Payload},
};
use futures::executor::block_on;
use proptest::prelude::*;
use serde::Deserialize;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{sealed::body, *};

const OLD: &str = "2025-01:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const NEW: &str = "2026-11:f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff000102030405060708090a0b0c0d0e0f";

fn keyring(text: &str) -> Keyring {
    Keyring::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn place() -> Place<'static> {
    Place {
        table: "credentials",
        id: Uuid::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001),
        namespace: "shop",
        project: "shop",
        name: "ghcr",
        version: 3,
    }
}

fn opened(keys: &Keyring, place: &Place<'_>, sealed: &Sealed) -> Result<Vec<u8>, OpenError> {
    block_on(open(keys, place, sealed)).map(|plaintext| plaintext.expose().to_vec())
}

/// The AES-256 cases of the GCM submission to NIST (2005, appendix B): key, nonce, associated data,
/// plaintext, ciphertext, tag.
#[test]
fn the_primitive_is_aes_256_gcm() {
    let key = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
    let nonce = "cafebabefacedbaddecaf888";
    let plain = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
                 1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255";
    let cipher = "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa\
                  8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad";
    let zero = "00".repeat(32);
    let cases = [
        ("case 13", &*zero, "000000000000000000000000", "", "", "", "530f8afbc74536b9a963b4f1c4cb738b"),
        (
            "case 14",
            &*zero,
            "000000000000000000000000",
            "",
            "00000000000000000000000000000000",
            "cea7403d4d606b6e074ec5d3baf39d18",
            "d0d1c8a799996bf0265b98b5d48ab919",
        ),
        ("case 15", key, nonce, "", plain, cipher, "b094dac5d93471bdec1a502270e3cc6c"),
        (
            "case 16",
            key,
            nonce,
            "feedfacedeadbeeffeedfacedeadbeefabaddad2",
            &plain[..120],
            &cipher[..120],
            "76fc6ece0f4e1768cddf8853bb2d551b",
        ),
    ];
    let bytes = |text: &str| hex::decode(text).unwrap();
    for (name, key, nonce, aad, plain, cipher, tag) in cases {
        let key: [u8; 32] = bytes(key).try_into().unwrap();
        let nonce: [u8; 12] = bytes(nonce).try_into().unwrap();
        let (aad, plain, whole) = (bytes(aad), bytes(plain), bytes(&format!("{cipher}{tag}")));
        let aes = Aes256Gcm::new(&key.into());
        assert_eq!(aes.encrypt(&nonce.into(), Payload { msg: &plain, aad: &aad }).unwrap(), whole, "{name}");
        assert_eq!(aes.decrypt(&nonce.into(), Payload { msg: &whole, aad: &aad }).unwrap(), plain, "{name}");
    }
}

/// A sealed value from an earlier version of this program, made by an implementation in another language.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    name: String,
    key: KeyId,
    id: Uuid,
    namespace: String,
    project: String,
    credential: String,
    version: i64,
    data_key: String,
    nonce: String,
    wrapping_nonce: String,
    plaintext: String,
    wrapped: String,
    body: String,
}

/// `vectors.json` is never written anew: each of its rows stands for rows in databases.
#[test]
fn what_was_sealed_before_opens() {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("vectors.json")).unwrap();
    assert!(vectors.len() >= 3);
    for vector in vectors {
        let place = Place {
            table: "credentials",
            id: vector.id,
            namespace: &vector.namespace,
            project: &vector.project,
            name: &vector.credential,
            version: vector.version,
        };
        let bytes = |text: &str| hex::decode(text).unwrap();
        let sealed = Sealed {
            wrapped: Wrapped { key: vector.key.clone(), bytes: bytes(&vector.wrapped) },
            body: bytes(&vector.body),
        };
        let keys = keyring(&format!("{NEW},{OLD}"));
        let plaintext = bytes(&vector.plaintext);
        assert_eq!(opened(&keys, &place, &sealed).as_ref(), Ok(&plaintext), "{}", vector.name);

        let fixed = |text: &str| <[u8; 12]>::try_from(bytes(text)).unwrap();
        let data_key = DataKey::new(Zeroizing::new(bytes(&vector.data_key).try_into().unwrap()));
        assert_eq!(body(&data_key, fixed(&vector.nonce), &place, &plaintext), sealed.body, "{}", vector.name);
        let alone = keyring(if vector.key.as_str() == "2025-01" { OLD } else { NEW });
        assert_eq!(alone.wrap_with(&data_key, fixed(&vector.wrapping_nonce)), sealed.wrapped, "{}", vector.name);
    }
}

#[test]
fn whatever_goes_in_comes_out_and_one_byte_more_is_refused() {
    let keys = keyring(NEW);
    let largest = vec![0xa5; MAX_PLAINTEXT];
    let cases: [(&str, &[u8]); 6] = [
        ("nothing", b""),
        ("one byte", b"x"),
        ("UTF-8", "pässwört ✓".as_bytes()),
        ("lines", b"-----BEGIN\r\nline\n\n-----END\n"),
        ("NULs", b"\0a\0\0"),
        ("1 MiB", &largest),
    ];
    for (name, plaintext) in cases {
        let sealed = block_on(seal(&keys, &place(), plaintext)).unwrap();
        assert_eq!(opened(&keys, &place(), &sealed).as_deref(), Ok(plaintext), "{name}");
    }
    let more = vec![0; MAX_PLAINTEXT + 1];
    assert_eq!(block_on(seal(&keys, &place(), &more)).unwrap_err(), SealError::TooLarge(MAX_PLAINTEXT + 1));
}

#[test]
fn the_same_value_is_never_sealed_the_same_way_twice() {
    let keys = keyring(NEW);
    let [one, other] = [(); 2].map(|()| block_on(seal(&keys, &place(), b"hunter2")).unwrap());
    assert_ne!(one.wrapped, other.wrapped);
    assert_ne!(one.body[17..], other.body[17..], "commitment, nonce and ciphertext");
    assert_eq!(one.body[..17], other.body[..17], "format and place");
}

/// Every field of the place counts, and so does where one ends and the next begins.
#[test]
fn what_was_moved_does_not_open() {
    let keys = keyring(NEW);
    let here = place();
    let sealed = block_on(seal(&keys, &here, b"hunter2")).unwrap();
    let elsewhere = [
        ("another table", Place { table: "secrets", ..here }),
        ("another row", Place { id: Uuid::nil(), ..here }),
        ("another namespace", Place { namespace: "shop2", ..here }),
        ("another project", Place { project: "blog", ..here }),
        ("another name", Place { name: "quay", ..here }),
        ("an older version", Place { version: 2, ..here }),
        ("another cut between the same letters", Place { namespace: "shops", project: "hop", ..here }),
    ];
    for (name, there) in elsewhere {
        assert_eq!(opened(&keys, &there, &sealed), Err(OpenError::Misplaced), "{name}");
        // Nor with what says where it belongs made to fit: that is told in no other way than any change.
        let mut forged = sealed.clone();
        let fitting = block_on(seal(&keys, &there, b"x")).unwrap();
        forged.body[1..17].copy_from_slice(&fitting.body[1..17]);
        assert_eq!(opened(&keys, &there, &forged), Err(OpenError::Tampered(Part::Content)), "{name}");
    }
}

#[test]
fn every_change_is_told_for_what_it_is() {
    let keys = keyring(NEW);
    let sealed = block_on(seal(&keys, &place(), b"hunter2")).unwrap();
    let id = sealed.key().clone();
    let body = |at: usize| {
        let mut changed = sealed.clone();
        changed.body[at] ^= 1;
        changed
    };
    let wrapped = |at: usize| {
        let mut changed = sealed.clone();
        changed.wrapped.bytes[at] ^= 1;
        changed
    };
    let wrap = OpenError::Wrap;
    let named = |key: &str| Sealed {
        wrapped: Wrapped { key: key.parse().unwrap(), ..sealed.wrapped.clone() },
        ..sealed.clone()
    };
    let other = block_on(seal(&keys, &place(), b"correct horse")).unwrap();
    let cases = [
        ("format", body(0), OpenError::UnknownFormat(0)),
        ("place", body(1), OpenError::Misplaced),
        ("commitment", body(17), OpenError::Tampered(Part::Commitment)),
        ("last byte of the commitment", body(48), OpenError::Tampered(Part::Commitment)),
        ("nonce", body(49), OpenError::Tampered(Part::Content)),
        ("ciphertext", body(61), OpenError::Tampered(Part::Content)),
        ("tag", body(sealed.body.len() - 1), OpenError::Tampered(Part::Content)),
        ("check of the wrapping key", wrapped(0), wrap(WrapError::WrongKey(id.clone()))),
        ("wrapping nonce", wrapped(8), wrap(WrapError::Tampered(id.clone()))),
        ("wrapped data key", wrapped(20), wrap(WrapError::Tampered(id.clone()))),
        ("its tag", wrapped(67), wrap(WrapError::Tampered(id.clone()))),
        ("id of the key", named("2024"), wrap(WrapError::UnknownKey("2024".parse().unwrap()))),
        (
            "data key of another write",
            Sealed { wrapped: other.wrapped.clone(), ..sealed.clone() },
            OpenError::Tampered(Part::Commitment),
        ),
    ];
    for (name, changed, expected) in cases {
        assert_eq!(opened(&keys, &place(), &changed), Err(expected), "{name}");
    }
    // Another key under the same id; and the id of another key of the ring.
    let stranger = keyring(&NEW.replace("f0f1", "0000"));
    assert_eq!(opened(&stranger, &place(), &sealed), Err(wrap(WrapError::WrongKey(id.clone()))));
    let both = keyring(&format!("{NEW},{OLD}"));
    let expected = Err(wrap(WrapError::WrongKey("2025-01".parse().unwrap())));
    assert_eq!(opened(&both, &place(), &named("2025-01")), expected);
}

#[test]
fn rotation_changes_the_wrapping_and_nothing_else() {
    let sealed = block_on(seal(&keyring(OLD), &place(), b"hunter2")).unwrap();
    let both = keyring(&format!("{NEW}\n{OLD}  # until all is wrapped anew"));
    assert_eq!(both.ids().map(KeyId::as_str).collect::<Vec<_>>(), ["2026-11", "2025-01"]);
    let wrapped = block_on(both.rewrap(&sealed.wrapped)).unwrap();
    assert_eq!(wrapped.key.as_str(), "2026-11");
    let rotated = Sealed { wrapped, body: sealed.body.clone() };
    assert_eq!(opened(&keyring(NEW), &place(), &rotated).unwrap(), b"hunter2");
    assert_eq!(opened(&keyring(OLD), &place(), &sealed).unwrap(), b"hunter2", "the old row, until it is written");
    let unknown = OpenError::Wrap(WrapError::UnknownKey("2026-11".parse().unwrap()));
    assert_eq!(opened(&keyring(OLD), &place(), &rotated), Err(unknown));
}

#[test]
fn a_wrong_keyring_says_where_and_never_what() {
    let digits = "f0".repeat(32);
    let id = |text: &str| text.parse::<KeyId>().unwrap();
    let cases = [
        ("nothing", String::new(), KeyringError::Empty),
        ("remarks only", "# later\n \n,".into(), KeyringError::Empty),
        ("no id", digits.clone(), KeyringError::NoPair(1)),
        ("key before id", format!("{digits}:a"), KeyringError::Id(1, KeyIdError)),
        ("empty id", format!("a:{digits},:{digits}"), KeyringError::Id(2, KeyIdError)),
        ("upper case", format!("A:{digits}"), KeyringError::Id(1, KeyIdError)),
        ("short", format!("a:{}", &digits[2..]), KeyringError::Hex(id("a"))),
        ("long", format!("a:{digits}f0"), KeyringError::Hex(id("a"))),
        ("no digits", format!("a:{}", "xy".repeat(32)), KeyringError::Hex(id("a"))),
        ("one id twice", format!("{NEW},{}", OLD.replace("2025-01", "2026-11")), KeyringError::Twice(id("2026-11"))),
        ("one key twice", format!("a:{digits} b:{digits}"), KeyringError::Same(id("a"), id("b"))),
    ];
    for (name, text, expected) in cases {
        let error = Keyring::parse(&text).err();
        assert_eq!(error.as_ref(), Some(&expected), "{name}");
        let said = format!("{expected} {expected:?}");
        assert!(!said.contains("f0f0") && !said.contains("xyxy") && !said.contains("0001"), "{name}: {said}");
    }
}

proptest! {
    /// Neither a panic nor a plaintext comes of bytes that nobody sealed.
    #[test]
    fn arbitrary_bytes_do_not_open(
        body in prop::collection::vec(any::<u8>(), 0..200),
        wrapped in prop::collection::vec(any::<u8>(), 0..100),
        right_format: bool,
    ) {
        let mut body = body;
        if let (true, Some(first)) = (right_format, body.first_mut()) {
            *first = 1;
        }
        let sealed = Sealed { wrapped: Wrapped { key: "2026-11".parse().unwrap(), bytes: wrapped }, body };
        prop_assert!(opened(&keyring(NEW), &place(), &sealed).is_err());
    }

    /// Any one bit of a sealed value counts.
    #[test]
    fn any_flipped_bit_is_noticed(at in 0_usize..(61 + 40 + 16 + 68), bit in 0_u8..8) {
        let keys = keyring(NEW);
        let mut sealed = block_on(seal(&keys, &place(), &[7; 40])).unwrap();
        let length = sealed.body.len();
        if at < length {
            sealed.body[at] ^= 1 << bit;
        } else {
            sealed.wrapped.bytes[at - length] ^= 1 << bit;
        }
        prop_assert!(opened(&keys, &place(), &sealed).is_err());
    }

    /// What is cut short or has something behind it does not open.
    #[test]
    fn any_other_length_is_noticed(cut in 0_usize..117, more in prop::collection::vec(any::<u8>(), 1..20)) {
        let keys = keyring(NEW);
        let sealed = block_on(seal(&keys, &place(), &[7; 40])).unwrap();
        let short = Sealed { body: sealed.body[..cut].to_vec(), ..sealed.clone() };
        prop_assert!(opened(&keys, &place(), &short).is_err());
        let long = Sealed { body: [&*sealed.body, &more].concat(), ..sealed };
        prop_assert!(opened(&keys, &place(), &long).is_err());
    }
}
