//! Bearer tokens as an identity provider issues them, made with nothing of the service's own code.

use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_RSA_SHA256};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Everything that a caller may be allowed.
const SCOPES: &str = "cdr:read cdr:verify cdr:pii cdr:write cdr:admin regulator-auditor cdr:regulator-ack";

/// An issuer of tokens, whose key set is a file.
pub struct TokenIssuer {
    key: EncodingKey,
    dir: PathBuf,
}

impl TokenIssuer {
    /// Makes a key, and writes `jwks.json`, `dev-token` and `approver-token` (two people with every scope) into `dir`.
    pub fn create(dir: &Path) -> Self {
        let key = EncodingKey::from_rsa_pem(rsa_key().as_bytes()).unwrap();
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::RS256).unwrap();
        jwk.common.key_id = Some(KEY_ID.to_owned());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        let issuer = Self { key, dir: dir.to_owned() };
        std::fs::write(issuer.jwks_file(), serde_json::to_string(&JwkSet { keys: vec![jwk] }).unwrap())
            .unwrap();
        for (file, subject) in [("dev-token", "dev-operator"), ("approver-token", "dev-approver")] {
            std::fs::write(dir.join(file), issuer.token(subject)).unwrap();
        }
        issuer
    }

    /// File with the keys that the tokens can be checked with.
    pub fn jwks_file(&self) -> PathBuf {
        self.dir.join("jwks.json")
    }

    /// A token with every scope, valid for ten years: clocks of replicas are moved.
    pub fn token(&self, subject: &str) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({
            "iss": "testkit", "aud": "cdr-mediation", "sub": subject, "scope": SCOPES,
            "iat": now, "exp": now + 3_650 * 86_400,
        });
        let header = Header { kid: Some(KEY_ID.to_owned()), ..Header::new(Algorithm::RS256) };
        encode(&header, &claims, &self.key).unwrap()
    }
}

const KEY_ID: &str = "testkit-1";

/// An RSA private key of 2,048 bits as PEM (PKCS#8).
pub fn rsa_key() -> String {
    KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap().serialize_pem()
}
