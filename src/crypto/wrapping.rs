//! Who wraps data keys.

use std::future::Future;

use zeroize::Zeroizing;

use super::key::KeyId;

/// The key of one sealed value.
pub struct DataKey(Zeroizing<[u8; 32]>);

impl DataKey {
    /// A data key from its bytes.
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// Its bytes, for whoever wraps it.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A data key that only its wrapping key opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrapped {
    /// The wrapping key.
    pub key: KeyId,
    /// What the provider made of the data key: its own business, and of its own length.
    pub bytes: Vec<u8>,
}

/// Why a data key was not wrapped or unwrapped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WrapError {
    /// There is no wrapping key with this id.
    #[error("there is no key {0} in the keyring: add it to STAGEKEEPER_ENCRYPTION_KEYS again, behind the first one")]
    UnknownKey(KeyId),
    /// There is one, but it is another key than the one that wrapped.
    #[error("the key {0} of the keyring is not the one that was used under this id: restore the right one")]
    WrongKey(KeyId),
    /// It is the right key, and what it wrapped was changed since.
    #[error("a data key that was wrapped by {0} has been changed since")]
    Tampered(KeyId),
    /// Who wraps cannot be asked now.
    #[error("the keys cannot be reached: {0}")]
    Unavailable(String),
}

/// Wraps data keys with a key that is kept elsewhere than what they seal: [`super::Keyring`] in this process's memory,
/// or a service such as Vault's transit engine, whose keys never leave it. Such a service answers with an opaque text
/// that carries its own key version (`vault:v3:…`), so the id here is the name by which a whole key is rotated and
/// retired, and [`Wrapped::bytes`] is that text.
pub trait Wrapping: Send + Sync {
    /// The key that wraps from now on.
    fn primary(&self) -> &KeyId;

    /// Wraps a data key with the primary key.
    ///
    /// # Errors
    /// When the keys cannot be reached.
    fn wrap(&self, key: &DataKey) -> impl Future<Output = Result<Wrapped, WrapError>> + Send;

    /// Opens what [`Self::wrap`] made, with whichever key made it.
    ///
    /// # Errors
    /// See [`WrapError`].
    fn unwrap(&self, wrapped: &Wrapped) -> impl Future<Output = Result<DataKey, WrapError>> + Send;

    /// The same data key under the primary key. A service that can do so without showing it overrides this.
    ///
    /// # Errors
    /// See [`WrapError`].
    fn rewrap(&self, wrapped: &Wrapped) -> impl Future<Output = Result<Wrapped, WrapError>> + Send {
        async { self.wrap(&self.unwrap(wrapped).await?).await }
    }
}
