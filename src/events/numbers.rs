//! The hash by which events name a subscriber's number.
//!
//! A plain hash of a number can be reversed by trying all numbers; a keyed one only with the key. All replicas
//! need the same key: an event is derived again by the next leader, and must be the same.

use crate::key_files::{KeyFileError, read_secret};
use aws_lc_rs::hmac;
use cdr_core::Hash;
use cdr_core::hash::{from_hex, sha256};
use std::path::Path;
use std::sync::Arc;

/// How numbers are hashed.
#[derive(Clone, Debug, Default)]
pub enum NumberHash {
    /// SHA-256 of the number.
    #[default]
    Plain,
    /// HMAC-SHA-256 of the number.
    Keyed(Arc<hmac::Key>),
}

/// [`NumberHash::Plain`].
pub static PLAIN: NumberHash = NumberHash::Plain;

impl NumberHash {
    /// With the key in a file: 64 hexadecimal digits, white space around them ignored.
    ///
    /// # Errors
    /// If the file can't be used.
    pub fn keyed(path: &Path) -> Result<Self, KeyFileError> {
        let text = read_secret(path)?;
        let key: [u8; 32] = from_hex(text.trim()).ok_or_else(|| {
            KeyFileError::new(path, "64 lower-case hexadecimal digits are expected (openssl rand -hex 32)")
        })?;
        Ok(Self::Keyed(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &key))))
    }

    /// What a hash begins with, behind an open quote, where its kind is not fixed by the field.
    pub(super) fn prefix(&self) -> &'static [u8] {
        match self {
            Self::Plain => b"\"sha256:",
            Self::Keyed(_) => b"\"hmac-sha256:",
        }
    }

    /// True for a text that begins as the hash of a number does where its kind is not fixed by the field.
    pub fn is_named(text: &str) -> bool {
        ["sha256:", "hmac-sha256:"].iter().any(|prefix| text.starts_with(prefix))
    }

    /// The hash of a number or an identity.
    pub fn of(&self, number: &str) -> Hash {
        match self {
            Self::Plain => sha256(number.as_bytes()),
            Self::Keyed(key) => {
                let mut hash = Hash::default();
                hash.copy_from_slice(hmac::sign(key, number.as_bytes()).as_ref());
                hash
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use cdr_core::hash::to_hex;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_keyed_hash_is_that_of_rfc_2104() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, format!("{}\n", "0b".repeat(32))).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let keyed = NumberHash::keyed(&path).unwrap();
        // printf '+93700000001' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0b0b…
        let expected = "3f485860e3a8c3df8406333d70d4463d37cb599f3e3d2a2dbf80cff937d9152c";
        assert_eq!(to_hex(&keyed.of("+93700000001")), expected);
        assert_ne!(keyed.of("+93700000001"), NumberHash::Plain.of("+93700000001"));
        std::fs::write(&path, "short").unwrap();
        assert!(NumberHash::keyed(&path).unwrap_err().to_string().contains("64 lower-case"));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(NumberHash::keyed(&path).unwrap_err().to_string().contains("mode"));
    }
}
