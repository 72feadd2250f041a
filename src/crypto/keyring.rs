//! Wrapping keys in memory, from configuration.

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{Aead as _, Payload},
};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{
    derive::expand,
    key::{KeyId, KeyIdError},
    plaintext::Plaintext,
    random::random,
    wrapping::{DataKey, WrapError, Wrapped, Wrapping},
};

/// What [`Key::check`] is derived for.
const CHECK_INFO: &[u8] = b"stagekeeper wrapping key check 1";
/// What wrapped data keys are bound to, besides the key's id.
const WRAP_INFO: &[u8] = b"stagekeeper wrapped data key 1";
const CHECK: usize = 8;
const NONCE: usize = 12;
/// A wrapped data key: the check of the key that wrapped it, the nonce, the data key and its tag.
const WRAPPED: usize = CHECK + NONCE + 32 + 16;

/// Several wrapping keys by id; the first is the primary. Everything that any of them wrapped can be opened, and only the
/// primary wraps.
pub struct Keyring {
    keys: Vec<Key>,
}

struct Key {
    id: KeyId,
    cipher: Aes256Gcm,
    /// What it binds wrapped data keys to.
    bound: Vec<u8>,
    /// Tells this key from another one of the same id, and nothing else about it.
    check: [u8; CHECK],
}

/// Why a text is no keyring. Never says anything of what stands in it besides ids and positions.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    /// There is no key at all.
    #[error("there is no key in it; `stagekeeper keys generate` makes one")]
    Empty,
    /// An entry is not `ID:KEY`.
    #[error("entry {0} is not of the form ID:KEY")]
    NoPair(usize),
    /// An id is none.
    #[error("the id of entry {0} is not one: {1}")]
    Id(usize, #[source] KeyIdError),
    /// A key is not 32 bytes in hexadecimal.
    #[error("the key {0} is not 64 hexadecimal digits")]
    Hex(KeyId),
    /// The same id twice.
    #[error("the id {0} is there twice")]
    Twice(KeyId),
    /// Two ids for one key: retiring one of them would change nothing.
    #[error("{0} and {1} are the same key")]
    Same(KeyId, KeyId),
}

impl Keyring {
    /// Reads `ID:KEY` entries, separated by commas or white space; each key is 32 bytes as 64 hexadecimal digits. What
    /// follows a `#` in a line is a remark.
    ///
    /// # Errors
    /// The first thing that is wrong, without any part of a key.
    pub fn parse(text: &str) -> Result<Self, KeyringError> {
        let lines = text.lines().map(|line| line.split_once('#').map_or(line, |(before, _)| before));
        let entries = lines.flat_map(|line| line.split([',', ' ', '\t', '\r'])).filter(|entry| !entry.is_empty());
        let mut keys: Vec<Key> = Vec::new();
        for (at, entry) in entries.enumerate() {
            let (id, digits) = entry.split_once(':').ok_or(KeyringError::NoPair(at + 1))?;
            let id: KeyId = id.parse().map_err(|error| KeyringError::Id(at + 1, error))?;
            let mut bytes = Zeroizing::new([0; 32]);
            hex::decode_to_slice(digits, &mut *bytes).map_err(|_| KeyringError::Hex(id.clone()))?;
            let key = Key::new(id, &bytes);
            if let Some(other) = keys.iter().find(|other| other.id == key.id) {
                return Err(KeyringError::Twice(other.id.clone()));
            }
            if let Some(other) = keys.iter().find(|other| other.check == key.check) {
                return Err(KeyringError::Same(other.id.clone(), key.id));
            }
            keys.push(key);
        }
        if keys.is_empty() { Err(KeyringError::Empty) } else { Ok(Self { keys }) }
    }

    /// A new key as an entry that [`Keyring::parse`] reads.
    ///
    /// # Errors
    /// When the machine gives no random numbers, in its words.
    pub fn generate_entry(id: impl std::fmt::Display) -> Result<Plaintext, String> {
        let bytes = random::<32>()?;
        let digits = Zeroizing::new(hex::encode(*bytes));
        Ok(Plaintext::from(format!("{id}:{}", *digits)))
    }

    /// The ids, the primary first.
    pub fn ids(&self) -> impl Iterator<Item = &KeyId> {
        self.keys.iter().map(|key| &key.id)
    }

    /// Wraps with the primary key and this nonce, which must be used once.
    pub(super) fn wrap_with(&self, data_key: &DataKey, nonce: [u8; NONCE]) -> Wrapped {
        let key = &self.keys[0];
        let payload = Payload { msg: data_key.expose(), aad: &key.bound };
        let mut bytes = Vec::with_capacity(WRAPPED);
        bytes.extend_from_slice(&key.check);
        bytes.extend_from_slice(&nonce);
        #[expect(clippy::expect_used, reason = "it fails for more than 64 GiB only, and these are 32 bytes")]
        bytes.extend_from_slice(&key.cipher.encrypt(&nonce.into(), payload).expect("32 bytes are not too many"));
        Wrapped { key: key.id.clone(), bytes }
    }

    /// Opens a wrapped data key at once: nothing is waited for.
    pub(super) fn unwrap_now(&self, wrapped: &Wrapped) -> Result<DataKey, WrapError> {
        let Some(key) = self.keys.iter().find(|key| key.id == wrapped.key) else {
            return Err(WrapError::UnknownKey(wrapped.key.clone()));
        };
        let tampered = || WrapError::Tampered(wrapped.key.clone());
        let Ok(bytes) = <&[u8; WRAPPED]>::try_from(&*wrapped.bytes) else {
            return Err(tampered());
        };
        let (check, rest) = bytes.split_at(CHECK);
        if !bool::from(check.ct_eq(&key.check)) {
            return Err(WrapError::WrongKey(wrapped.key.clone()));
        }
        let (nonce, sealed) = rest.split_at(NONCE);
        let nonce: [u8; NONCE] = nonce.try_into().map_err(|_| tampered())?;
        let payload = Payload { msg: sealed, aad: &key.bound };
        let opened = Zeroizing::new(key.cipher.decrypt(&nonce.into(), payload).map_err(|_| tampered())?);
        let mut data_key = Zeroizing::new([0; 32]);
        data_key.copy_from_slice(&opened);
        Ok(DataKey::new(data_key))
    }
}

impl Wrapping for Keyring {
    fn primary(&self) -> &KeyId {
        &self.keys[0].id
    }

    async fn wrap(&self, key: &DataKey) -> Result<Wrapped, WrapError> {
        let nonce = random::<NONCE>().map_err(WrapError::Unavailable)?;
        Ok(self.wrap_with(key, *nonce))
    }

    async fn unwrap(&self, wrapped: &Wrapped) -> Result<DataKey, WrapError> {
        self.unwrap_now(wrapped)
    }
}

impl std::fmt::Debug for Keyring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

impl Key {
    fn new(id: KeyId, bytes: &[u8; 32]) -> Self {
        let mut check = [0; CHECK];
        expand(bytes, CHECK_INFO, &mut check);
        let bound = [WRAP_INFO, id.as_str().as_bytes()].concat();
        Self { id, cipher: Aes256Gcm::new(bytes.into()), bound, check }
    }
}
