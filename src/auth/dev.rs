//! The development issuer: an RSA key of its own, its key set, and two people's tokens. Not for production.

use super::ALL_SCOPES;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;
use serde_json::{Value, json};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// `iss` of its tokens.
pub const ISSUER: &str = "cdr-mediation-dev";
/// `aud` of its tokens.
pub const AUDIENCE: &str = "cdr-mediation";
/// Subject of `dev-token`.
pub const OPERATOR: &str = "dev-operator";
/// Subject of `approver-token`, the second pair of eyes.
pub const APPROVER: &str = "dev-approver";

/// How long the tokens in the files are valid: ten years.
const TOKEN_SECONDS: i64 = 10 * 365 * 86_400;

/// Issues tokens for development and tests.
pub struct DevIssuer {
    key: EncodingKey,
    kid: String,
    jwks_path: PathBuf,
}

/// The issuer can't be set up or used.
#[derive(Debug, thiserror::Error)]
pub enum DevIssuerError {
    /// A file can't be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The key file holds no key.
    #[error("{path} does not hold an RSA key (PKCS#8): remove it to make a new one")]
    NotAKey {
        /// The file.
        path: String,
    },
    /// A key can't be made.
    #[error("an RSA key can't be made")]
    Generate,
    /// A token can't be signed.
    #[error("a token can't be signed: {0}")]
    Sign(String),
}

impl DevIssuer {
    /// The issuer of `dir`. On first use it makes a key there (`dev-issuer.pk8`, mode 0600); always it writes
    /// `jwks.json` and the [tokens](Self::write_tokens).
    ///
    /// # Errors
    /// [`DevIssuerError`].
    pub fn load_or_create(dir: &Path) -> Result<Self, DevIssuerError> {
        std::fs::create_dir_all(dir).map_err(|source| file_error(dir, source))?;
        let pair = load_or_create_key(&dir.join("dev-issuer.pk8"))?;
        let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| DevIssuerError::Generate)?;
        let public = pair.public_key();
        let digest = cdr_core::hash::sha256(public.as_ref());
        let kid = format!("dev-{}", cdr_core::hash::to_hex(&digest[..8]));
        let jwks = jwks(
            &kid,
            public.modulus().big_endian_without_leading_zero(),
            public.exponent().big_endian_without_leading_zero(),
        );
        let jwks_path = dir.join("jwks.json");
        write_whole(&jwks_path, jwks.to_string().as_bytes(), 0o644)?;
        let key =
            EncodingKey::from_rsa_pem(pem(der.as_ref()).as_bytes()).map_err(|_| DevIssuerError::Generate)?;
        let issuer = Self { key, kid, jwks_path };
        issuer.write_tokens(dir)?;
        Ok(issuer)
    }

    /// Writes `dev-token` (every scope) and `approver-token` (every scope, another person) into `dir`, mode 0600,
    /// valid for ten years.
    ///
    /// # Errors
    /// [`DevIssuerError`].
    pub fn write_tokens(&self, dir: &Path) -> Result<(), DevIssuerError> {
        for (file, subject) in [("dev-token", OPERATOR), ("approver-token", APPROVER)] {
            let token = self.token(subject, ALL_SCOPES, TOKEN_SECONDS)?;
            write_whole(&dir.join(file), token.as_bytes(), 0o600)?;
        }
        Ok(())
    }

    /// The key set file, for `auth.jwks_file`.
    pub fn jwks_path(&self) -> &Path {
        &self.jwks_path
    }

    /// A token for `subject` with `scopes` that expires in `valid_seconds` (in the past if negative).
    ///
    /// # Errors
    /// [`DevIssuerError::Sign`].
    pub fn token(
        &self,
        subject: &str,
        scopes: &[&str],
        valid_seconds: i64,
    ) -> Result<String, DevIssuerError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs() as i64;
        self.sign(&json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "scope": scopes.join(" "),
            "iat": now, "exp": now + valid_seconds,
        }))
    }

    /// A token with exactly these claims.
    ///
    /// # Errors
    /// [`DevIssuerError::Sign`].
    pub fn sign(&self, claims: &impl Serialize) -> Result<String, DevIssuerError> {
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::RS256) };
        encode(&header, claims, &self.key).map_err(|e| DevIssuerError::Sign(e.to_string()))
    }
}

/// PEM of a PKCS#8 key (RFC 7468), the form that the token library reads PKCS#8 in.
fn pem(der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let lines: Vec<&str> =
        base64.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
}

fn jwks(kid: &str, modulus: &[u8], exponent: &[u8]) -> Value {
    json!({ "keys": [{
        "kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid,
        "n": URL_SAFE_NO_PAD.encode(modulus), "e": URL_SAFE_NO_PAD.encode(exponent),
    }] })
}

fn load_or_create_key(path: &Path) -> Result<KeyPair, DevIssuerError> {
    match std::fs::read(path) {
        Ok(der) => KeyPair::from_pkcs8(&der)
            .map_err(|_| DevIssuerError::NotAKey { path: path.display().to_string() }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let pair = KeyPair::generate(KeySize::Rsa2048).map_err(|_| DevIssuerError::Generate)?;
            let der: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| DevIssuerError::Generate)?;
            write_whole(path, der.as_ref(), 0o600)?;
            Ok(pair)
        }
        Err(source) => Err(file_error(path, source)),
    }
}

/// Writes a file so that a reader sees it whole or not at all.
fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DevIssuerError> {
    let beside = path.with_extension("tmp");
    let write = || {
        let _ = std::fs::remove_file(&beside);
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    };
    write().map_err(|source| file_error(path, source))
}

fn file_error(path: &Path, source: std::io::Error) -> DevIssuerError {
    DevIssuerError::File { path: path.display().to_string(), source }
}
