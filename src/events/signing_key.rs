//! The relay's RSA key: from a PEM file, or made on first use for development.
//!
//! The one module of events that touches files: it is read once, at start.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cdr_core::hash::{sha256, to_hex};
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{Algorithm, EncodingKey};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// An RSA key that signs batches of events.
pub struct SigningKey {
    pub(super) key: EncodingKey,
    pub(super) kid: String,
    public_pem: String,
}

/// A key can't be read, made or used.
#[derive(Debug, thiserror::Error)]
pub enum SigningKeyError {
    /// The file can't be read or written.
    #[error("event signing key {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds no key that can sign.
    #[error(
        "event signing key {path} is not an RSA private key of 2048 to 8192 bits in PEM (PKCS#8 or PKCS#1): restore it, or remove it to make a new one for development"
    )]
    NotAKey {
        /// The file.
        path: String,
    },
    /// No key can be made.
    #[error("an RSA key can't be made or used: the system's cryptography failed")]
    Generate,
}

impl SigningKey {
    /// The key in the PEM file `path`, named `relay-` and digits of its public key's SHA-256.
    ///
    /// # Errors
    /// [`SigningKeyError`].
    pub fn load(path: &Path) -> Result<Self, SigningKeyError> {
        let pem = std::fs::read(path).map_err(|source| file_error(path, source))?;
        Self::from_pem(&pem, "relay-")
            .ok_or_else(|| SigningKeyError::NotAKey { path: path.display().to_string() })
    }

    /// The key in `path`, named `dev-` and digits; made there on first use, with mode 0600. For development.
    ///
    /// # Errors
    /// [`SigningKeyError`].
    pub fn load_or_create(path: &Path) -> Result<Self, SigningKeyError> {
        if !path.exists() {
            let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| SigningKeyError::Generate)?;
            let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| SigningKeyError::Generate)?;
            write_whole(path, pem("PRIVATE KEY", der.as_ref()).as_bytes())?;
        }
        let pem = std::fs::read(path).map_err(|source| file_error(path, source))?;
        Self::from_pem(&pem, "dev-")
            .ok_or_else(|| SigningKeyError::NotAKey { path: path.display().to_string() })
    }

    fn from_pem(text: &[u8], prefix: &str) -> Option<Self> {
        let key = EncodingKey::from_rsa_pem(text).ok()?;
        let pair = KeyPair::from_der(key.as_bytes()).ok()?;
        let public: PublicKeyX509Der<'_> = pair.public_key().as_der().ok()?;
        let kid = format!("{prefix}{}", to_hex(&sha256(public.as_ref())[..8]));
        Some(Self { key, kid, public_pem: pem("PUBLIC KEY", public.as_ref()) })
    }

    /// Name of the key, as it is written in signatures.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public key as a JSON Web Key (RFC 7517).
    ///
    /// # Errors
    /// [`SigningKeyError::Generate`] if the system's cryptography does not give it.
    pub fn public_jwk(&self) -> Result<serde_json::Value, SigningKeyError> {
        let jwk =
            Jwk::from_encoding_key(&self.key, Algorithm::RS256).map_err(|_| SigningKeyError::Generate)?;
        let AlgorithmParameters::RSA(rsa) = jwk.algorithm else { return Err(SigningKeyError::Generate) };
        Ok(serde_json::json!({
            "alg": "RS256", "e": rsa.e, "kid": self.kid, "kty": "RSA", "n": rsa.n, "use": "sig",
        }))
    }

    /// The public key in PEM (SPKI), for readers who verify events.
    pub fn public_pem(&self) -> &str {
        &self.public_pem
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

/// PEM (RFC 7468).
fn pem(label: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let lines: Vec<&str> =
        base64.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// Writes a file atomically, readable by its owner only.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), SigningKeyError> {
    let beside = path.with_extension("tmp");
    let write = || {
        let _ = std::fs::remove_file(&beside);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|source| file_error(path, source))
}

fn file_error(path: &Path, source: std::io::Error) -> SigningKeyError {
    SigningKeyError::File { path: path.display().to_string(), source }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_development_key_is_made_once_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("event-signing.pem");
        let made = SigningKey::load_or_create(&path).unwrap();
        assert!(made.kid().starts_with("dev-") && made.kid().len() == 20, "{}", made.kid());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = SigningKey::load_or_create(&path).unwrap();
        assert_eq!((again.kid(), again.public_pem()), (made.kid(), made.public_pem()));
        let loaded = SigningKey::load(&path).unwrap();
        assert_eq!(loaded.kid().trim_start_matches("relay-"), made.kid().trim_start_matches("dev-"));
    }

    #[test]
    fn a_key_is_the_same_in_either_form() {
        let folder = tempfile::tempdir().unwrap();
        let pkcs8 = SigningKey::load_or_create(&folder.path().join("pkcs8.pem")).unwrap();
        let path = folder.path().join("pkcs1.pem");
        std::fs::write(&path, pem("RSA PRIVATE KEY", pkcs8.key.as_bytes())).unwrap();
        let pkcs1 = SigningKey::load(&path).unwrap();
        assert_eq!(pkcs1.public_pem(), pkcs8.public_pem());
    }

    #[test]
    fn a_missing_or_broken_key_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("event-signing.pem");
        assert!(matches!(SigningKey::load(&path), Err(SigningKeyError::File { .. })));
        std::fs::write(&path, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n").unwrap();
        assert!(matches!(SigningKey::load(&path), Err(SigningKeyError::NotAKey { .. })));
        let error = SigningKey::load_or_create(&path).unwrap_err();
        assert!(error.to_string().contains("event-signing.pem"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().nth(1), Some("AAAA"));
    }
}
