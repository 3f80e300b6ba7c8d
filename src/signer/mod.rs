//! Who signs seals and the files of exports: one trait, with an HSM behind it, or a key file for development.
//!
//! | | |
//! |---|---|
//! | [`Pkcs11Signer`] | keys in an HSM, reached over PKCS#11 |
//! | [`DevKey`] | a key in a file |
//! | [`Signing`] | what workers use: waits out a device that is away, and counts |
//! | [`Voucher`] | the root key's record of the key that signs |
//!
//! A device with another protocol, such as KMIP, is one more implementation of [`Signer`].

mod dev_key;
mod pkcs11;
mod signing;
mod voucher;

pub use dev_key::{DevKey, DevRoot};
pub use pkcs11::{PIN_VARIABLE, PinSource, Pkcs11Settings, Pkcs11Signer};
pub use signing::Signing;
pub use voucher::{Voucher, VoucherError};

use cdr_core::key::PublicKey;

/// Signs in the name of several keys: the one that is to sign from now on, and those that it replaced, which may still
/// have seals to sign that name them. Implementations may block.
pub trait Signer: Send + Sync + 'static {
    /// Name of the key that is configured to sign. Which key does sign is for the ledger to say: a new one does from the
    /// hour on that its record names.
    fn active_key_id(&self) -> &str;

    /// The public half of a key.
    ///
    /// # Errors
    /// [`SignError`].
    fn public_key(&self, key_id: &str) -> Result<PublicKey, SignError>;

    /// Signature over `message` by the key of this name, as [`PublicKey::verify`] accepts it.
    ///
    /// # Errors
    /// [`SignError`]; the caller retries later where [`SignError::is_temporary`] returns true.
    fn sign(&self, key_id: &str, message: &[u8]) -> Result<[u8; 64], SignError>;
}

/// A key could not be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// A key file can't be read or written.
    #[error("key file {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A key file does not hold a key.
    #[error(
        "key file {path} does not hold 64 hexadecimal digits of an Ed25519 seed: restore it, or remove it to make a new key"
    )]
    NotAKey {
        /// The file.
        path: String,
    },
    /// The record of a key could not be written.
    #[error("key record: {0}")]
    Record(String),
    /// No randomness.
    #[error("no random bytes from the operating system: {0}")]
    Random(String),
    /// The device or its token is unavailable; it may come back.
    #[error("{what} can't be reached: {why}")]
    Unavailable {
        /// The device.
        what: String,
        /// Why.
        why: String,
    },
    /// The device answered, and will answer the same until a person changes something.
    #[error("{what} refuses: {why}")]
    Refused {
        /// The device.
        what: String,
        /// Why, and what to do.
        why: String,
    },
    /// The key is not there, or can't be used.
    #[error("key {key_id}: {why}")]
    Key {
        /// Name of the key.
        key_id: String,
        /// Why, and what to do.
        why: String,
    },
}

impl SignError {
    /// True if the same may succeed later without any change.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}
