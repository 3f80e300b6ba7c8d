//! Who signs seals: one trait, with a key file for development behind it.

mod dev_key;
mod voucher;

pub use dev_key::{DevKey, DevRoot};
pub use voucher::{Voucher, VoucherError};

/// Signs in the name of one key. Implementations may block.
pub trait Signer: Send + Sync + 'static {
    /// Name of the key, as it stands in seals.
    fn key_id(&self) -> &str;

    /// The Ed25519 public key.
    fn public_key(&self) -> [u8; 32];

    /// Ed25519 signature over `message`.
    ///
    /// # Errors
    /// [`SignError`]; the caller tries again later.
    fn sign(&self, message: &[u8]) -> Result<[u8; 64], SignError>;
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
}
