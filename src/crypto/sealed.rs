//! The format of a sealed value, and the way in and out.

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{Aead as _, AeadInOut as _, Payload, inout::InOutBuf},
};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{
    derive::expand,
    key::KeyId,
    place::{self, Place},
    plaintext::Plaintext,
    random::random,
    wrapping::{DataKey, WrapError, Wrapped, Wrapping},
};

/// The longest value, in bytes.
pub const MAX_PLAINTEXT: usize = 1 << 20;

/// The one format so far. Whoever adds another keeps this one: what was sealed years ago has to open.
const FORMAT: u8 = 1;
const INFO: &[u8] = b"stagekeeper sealed value 1";
const NONCE: usize = 12;
const COMMITMENT: usize = 32;
const TAG: usize = 16;
const HEADER: usize = 1 + place::CHECK + COMMITMENT + NONCE;

/// A sealed value as it is stored. Worth nothing without the key that wrapped its data key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The data key that opens it.
    pub wrapped: Wrapped,
    /// Everything else, one after the other: format (1 byte), place (16), commitment (32), nonce (12), and the
    /// ciphertext with its tag.
    pub body: Vec<u8>,
}

/// Why a value was not sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It is too long.
    #[error("{0} bytes are too many: a value may have {MAX_PLAINTEXT}")]
    TooLarge(usize),
    /// The machine gives no random numbers.
    #[error("the machine gives no random numbers: {0}")]
    NoRandomness(String),
    /// Its data key was not wrapped.
    #[error(transparent)]
    Wrap(#[from] WrapError),
}

/// Why a sealed value was not opened. None of these is worth trying again but [`WrapError::Unavailable`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// It was written by a newer version of this program.
    #[error("it is of format {0}, which this version of stagekeeper does not know: use the one that wrote it")]
    UnknownFormat(u8),
    /// It was sealed for another row, or for this one when it had another value.
    #[error("it was sealed for another place than the one where it is")]
    Misplaced,
    /// It was changed since it was sealed.
    #[error("its {0} has been changed since it was sealed")]
    Tampered(Part),
    /// Its data key was not unwrapped.
    #[error(transparent)]
    Wrap(#[from] WrapError),
}

/// A part of a sealed value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Its length: something is missing or too much.
    Length,
    /// The commitment to its data key.
    Commitment,
    /// Nonce or ciphertext.
    Content,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Length => "length",
            Self::Commitment => "commitment",
            Self::Content => "content",
        })
    }
}

impl Sealed {
    /// The key that wrapped its data key.
    pub fn key(&self) -> &KeyId {
        &self.wrapped.key
    }
}

/// Seals a value for the row at `place`.
///
/// # Errors
/// When it is too long or there is no key for it.
pub async fn seal(keys: &impl Wrapping, place: &Place<'_>, plaintext: &[u8]) -> Result<Sealed, SealError> {
    if plaintext.len() > MAX_PLAINTEXT {
        return Err(SealError::TooLarge(plaintext.len()));
    }
    let random = random::<{ 32 + NONCE }>().map_err(SealError::NoRandomness)?;
    let mut data_key = Zeroizing::new([0; 32]);
    data_key.copy_from_slice(&random[..32]);
    let nonce = std::array::from_fn(|at| random[32 + at]);
    let data_key = DataKey::new(data_key);
    let body = body(&data_key, nonce, place, plaintext);
    Ok(Sealed { wrapped: keys.wrap(&data_key).await?, body })
}

/// Opens what was sealed for the row at `place`.
///
/// # Errors
/// See [`OpenError`]. Nothing of the value is given out unless all of it is right.
pub async fn open(keys: &impl Wrapping, place: &Place<'_>, sealed: &Sealed) -> Result<Plaintext, OpenError> {
    let parts = Parts::of(&sealed.body)?;
    let bound = place.associated_data(FORMAT);
    if *parts.place != Place::check(&bound) {
        return Err(OpenError::Misplaced);
    }
    let derived = derive(&keys.unwrap(&sealed.wrapped).await?);
    if !bool::from(derived.commitment.ct_eq(parts.commitment)) {
        return Err(OpenError::Tampered(Part::Commitment));
    }
    let payload = Payload { msg: parts.ciphertext, aad: &bound };
    let opened = derived.cipher.decrypt(&(*parts.nonce).into(), payload);
    opened.map(Plaintext::from).map_err(|_| OpenError::Tampered(Part::Content))
}

/// Everything but the wrapped data key.
pub(super) fn body(data_key: &DataKey, nonce: [u8; NONCE], place: &Place<'_>, plaintext: &[u8]) -> Vec<u8> {
    let derived = derive(data_key);
    let bound = place.associated_data(FORMAT);
    let mut body = Vec::with_capacity(HEADER + plaintext.len() + TAG);
    body.push(FORMAT);
    body.extend_from_slice(&Place::check(&bound));
    body.extend_from_slice(&derived.commitment);
    body.extend_from_slice(&nonce);
    body.extend_from_slice(plaintext);
    let content = InOutBuf::from(&mut body[HEADER..]);
    #[expect(clippy::expect_used, reason = "it fails for more than 64 GiB only, and the caller allows 1 MiB")]
    let tag = derived.cipher.encrypt_inout_detached(&nonce.into(), &bound, content).expect("not too long");
    body.extend_from_slice(&tag);
    body
}

struct Derived {
    cipher: Aes256Gcm,
    commitment: [u8; COMMITMENT],
}

fn derive(data_key: &DataKey) -> Derived {
    let mut derived = Zeroizing::new([0; 32 + COMMITMENT]);
    expand(data_key.expose(), INFO, &mut *derived);
    let mut key = Zeroizing::new([0; 32]);
    key.copy_from_slice(&derived[..32]);
    Derived { cipher: Aes256Gcm::new((&*key).into()), commitment: std::array::from_fn(|at| derived[32 + at]) }
}

/// A body, taken apart.
struct Parts<'a> {
    place: &'a [u8; place::CHECK],
    commitment: &'a [u8; COMMITMENT],
    nonce: &'a [u8; NONCE],
    ciphertext: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(body: &'a [u8]) -> Result<Self, OpenError> {
        let length = OpenError::Tampered(Part::Length);
        let (&[format], rest) = body.split_first_chunk().ok_or(length.clone())?;
        if format != FORMAT {
            return Err(OpenError::UnknownFormat(format));
        }
        let (place, rest) = rest.split_first_chunk().ok_or(length.clone())?;
        let (commitment, rest) = rest.split_first_chunk().ok_or(length.clone())?;
        let (nonce, ciphertext) = rest.split_first_chunk().ok_or(length.clone())?;
        if !(TAG..=MAX_PLAINTEXT + TAG).contains(&ciphertext.len()) {
            return Err(length);
        }
        Ok(Self { place, commitment, nonce, ciphertext })
    }
}
