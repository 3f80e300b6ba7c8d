//! Signing keys: their algorithms, their public halves, and the records by which the offline root key vouches for them
//! (ledger format 2, "Trust").
//!
//! | algorithm | public key | signature, 64 bytes |
//! |---|---|---|
//! | `Ed25519` | 32 bytes (RFC 8032) | RFC 8032 over the message; verified strictly |
//! | `ecdsa-p256` | 65 bytes: `04`, X, Y (SEC 1, uncompressed) | `r`, `s`, 32 bytes each, big-endian, over the message's SHA-256; `s` is the lower of the two that hold |
//!
//! Where a signature covers a digest, the digest's 32 bytes are the message, for both algorithms: `ecdsa-p256` hashes
//! them once more. Neither algorithm leaves room for a second valid signature to be made from a first.

use crate::canonical::to_jcs;
use crate::hash::{from_hex, to_hex};
use crate::time::Hour;
use bincode::{Decode, Encode};
use ed25519_dalek::{Signature as Ed25519Signature, VerifyingKey as Ed25519Key};
use p256::ecdsa::signature::Verifier;
use p256::ecdsa::{Signature as P256Signature, VerifyingKey as P256Key};
use serde::{Deserialize, Serialize};

/// For how long after its replacement the signatures of a key are accepted under files of exports, in hours: 30 days
/// (US-CDR-012).
pub const EXPORT_OVERLAP_HOURS: u32 = 30 * 24;

/// How a key signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Algorithm {
    /// `Ed25519`.
    Ed25519,
    /// `ecdsa-p256`, for HSMs that know no Ed25519 in their FIPS mode.
    #[serde(rename = "ecdsa-p256")]
    EcdsaP256,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 2] = [Self::Ed25519, Self::EcdsaP256];

    /// Its name in key records and sidecars.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "Ed25519",
            Self::EcdsaP256 => "ecdsa-p256",
        }
    }

    /// The algorithm of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    /// Size of a public key in bytes.
    pub const fn public_key_bytes(self) -> usize {
        match self {
            Self::Ed25519 => 32,
            Self::EcdsaP256 => 65,
        }
    }
}

impl std::fmt::Display for Algorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The public half of a signing key: a point of its curve, which was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey(Key);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Key {
    Ed25519(Ed25519Key),
    EcdsaP256(P256Key),
}

impl PublicKey {
    /// The key in `bytes`; none if they are not a point of the algorithm's curve in its one encoding.
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Option<Self> {
        if bytes.len() != algorithm.public_key_bytes() {
            return None;
        }
        let key = match algorithm {
            Algorithm::Ed25519 => Key::Ed25519(Ed25519Key::from_bytes(bytes.try_into().ok()?).ok()?),
            // By its size the encoding can only be the uncompressed one.
            Algorithm::EcdsaP256 => Key::EcdsaP256(P256Key::from_sec1_bytes(bytes).ok()?),
        };
        let key = Self(key);
        (key.to_bytes() == bytes).then_some(key)
    }

    /// How the key signs.
    pub fn algorithm(&self) -> Algorithm {
        match self.0 {
            Key::Ed25519(_) => Algorithm::Ed25519,
            Key::EcdsaP256(_) => Algorithm::EcdsaP256,
        }
    }

    /// The encoding that [`PublicKey::new`] reads.
    pub fn to_bytes(&self) -> Vec<u8> {
        match &self.0 {
            Key::Ed25519(key) => key.as_bytes().to_vec(),
            Key::EcdsaP256(key) => key.to_sec1_point(false).as_bytes().to_vec(),
        }
    }

    /// The encoding in lower-case hexadecimal digits.
    pub fn to_hex(&self) -> String {
        to_hex(&self.to_bytes())
    }

    /// True if `signature` over `message` is by this key.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        match &self.0 {
            Key::Ed25519(key) => key.verify_strict(message, &Ed25519Signature::from_bytes(signature)).is_ok(),
            Key::EcdsaP256(key) => P256Signature::from_slice(signature).is_ok_and(|signature| {
                signature.normalize_s() == signature && key.verify(message, &signature).is_ok()
            }),
        }
    }
}

/// The one form of an `ecdsa-p256` signature that [`PublicKey::verify`] accepts: devices give either `s`. None if the
/// bytes are not a signature.
pub fn normalized_p256(signature: &[u8]) -> Option<[u8; 64]> {
    let signature = P256Signature::from_slice(signature).ok()?.normalize_s();
    signature.to_bytes().as_slice().try_into().ok()
}

/// The body of a `key` row: a signing key, vouched for by the offline root key.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeyRecord {
    /// `Ed25519` or `ecdsa-p256`.
    pub algorithm: String,
    /// Cluster that may use it.
    pub cluster_id: String,
    /// First hour that it may seal.
    pub from_hour: Hour,
    /// Name of the key.
    pub key_id: String,
    /// Public key, hexadecimal (see [`PublicKey::to_bytes`]).
    pub public_key: String,
    /// The root key's Ed25519 signature over the other fields, hexadecimal (see [`KeyRecord::signed_message`]).
    pub root_signature: String,
    /// First hour that it may no longer seal; open if absent.
    pub to_hour: Option<Hour>,
}

impl KeyRecord {
    /// The bytes that the root key signs: `cdr-key-v1`, a zero byte, JCS of the record without `rootSignature`.
    ///
    /// # Errors
    /// What could not be written.
    pub fn signed_message(&self) -> Result<Vec<u8>, String> {
        let body = to_jcs(&serde_json::json!({
            "algorithm": self.algorithm, "clusterId": self.cluster_id, "fromHour": self.from_hour,
            "keyId": self.key_id, "publicKey": self.public_key, "toHour": self.to_hour,
        }))?;
        Ok([b"cdr-key-v1\0".as_slice(), &body].concat())
    }

    /// The public key, if the record holds one of a known algorithm.
    pub fn public_key(&self) -> Option<PublicKey> {
        let algorithm = Algorithm::parse(&self.algorithm)?;
        let bytes = match algorithm {
            Algorithm::Ed25519 => from_hex::<32>(&self.public_key)?.to_vec(),
            Algorithm::EcdsaP256 => from_hex::<65>(&self.public_key)?.to_vec(),
        };
        PublicKey::new(algorithm, &bytes)
    }

    /// True if the key may seal `hour`.
    pub fn covers(&self, hour: Hour) -> bool {
        self.from_hour <= hour && self.to_hour.is_none_or(|to| hour < to)
    }

    /// True if the root key vouches for this record in `cluster_id`. The root key is an Ed25519 key.
    pub fn is_trusted(&self, cluster_id: &str, root_public_key: &[u8; 32]) -> bool {
        let (Ok(message), Some(signature)) = (self.signed_message(), from_hex::<64>(&self.root_signature))
        else {
            return false;
        };
        Algorithm::parse(&self.algorithm).is_some()
            && self.cluster_id == cluster_id
            && PublicKey::new(Algorithm::Ed25519, root_public_key)
                .is_some_and(|root| root.verify(&message, &signature))
    }
}

/// The status of a registered key in an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStatus {
    /// Its first hour has not begun.
    Pending,
    /// It signs.
    Active,
    /// Another key signs; this one's signatures under exports are still accepted.
    Overlap,
    /// Only what it signed in its time holds.
    Retired,
}

impl KeyStatus {
    /// Its name in the list of keys.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Active => "ACTIVE",
            Self::Overlap => "OVERLAP",
            Self::Retired => "RETIRED",
        }
    }
}

/// The time of a registered key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTime {
    /// Its status.
    pub status: KeyStatus,
    /// First hour in which it no longer signs; none while that is not known.
    pub signs_before: Option<Hour>,
    /// First hour in which its signatures under files of exports are no longer accepted: [`EXPORT_OVERLAP_HOURS`] after
    /// `signs_before`.
    pub exports_before: Option<Hour>,
}

/// The key that signs in `hour`: of those that cover it, the one that began last; of two that began at once, the one
/// that was registered last.
pub fn signing_key(keys: &[KeyRecord], hour: Hour) -> Option<&KeyRecord> {
    keys.iter().filter(|key| key.covers(hour)).max_by_key(|key| key.from_hour)
}

/// The time of the key of this name among `keys`, which are in order of registration, as seen in hour `at`; none if
/// there is no such key.
pub fn key_time(keys: &[KeyRecord], key_id: &str, at: Hour) -> Option<KeyTime> {
    let index = keys.iter().position(|key| key.key_id == key_id)?;
    let key = &keys[index];
    if signing_key(keys, at).is_some_and(|signs| signs.key_id == key_id) {
        // What comes next may be known already: a record that begins later, or the end of this one.
        let signs_before = end_of(keys, index, at);
        return Some(KeyTime::new(KeyStatus::Active, signs_before));
    }
    let signs_before = end_of(keys, index, key.from_hour);
    let status = match signs_before.map(exports_end) {
        _ if at < key.from_hour => KeyStatus::Pending,
        Some(end) if at >= end => KeyStatus::Retired,
        _ => KeyStatus::Overlap,
    };
    Some(KeyTime::new(status, signs_before))
}

/// The key of this name, if the file of an export may be signed by it in hour `signed_at`: it signs then, or was replaced
/// less than [`EXPORT_OVERLAP_HOURS`] before. What it signed in that time holds for good.
pub fn export_key<'k>(keys: &'k [KeyRecord], key_id: &str, signed_at: Hour) -> Option<&'k KeyRecord> {
    let key = keys.iter().find(|key| key.key_id == key_id)?;
    let then = key_time(keys, key_id, signed_at)?;
    matches!(then.status, KeyStatus::Active | KeyStatus::Overlap).then_some(key)
}

/// First hour from `from` on in which the key at `index` does not sign; none if that is not known.
fn end_of(keys: &[KeyRecord], index: usize, from: Hour) -> Option<Hour> {
    let key = &keys[index];
    let later = keys.iter().enumerate().filter(|(i, other)| (other.from_hour, *i) > (key.from_hour, index));
    let replaced = later
        .filter(|(_, other)| other.to_hour.is_none_or(|to| to > from && to > other.from_hour))
        .map(|(_, other)| other.from_hour.max(from))
        .min();
    [replaced, key.to_hour].into_iter().flatten().min()
}

fn exports_end(signs_before: Hour) -> Hour {
    Hour(signs_before.0.saturating_add(EXPORT_OVERLAP_HOURS))
}

impl KeyTime {
    fn new(status: KeyStatus, signs_before: Option<Hour>) -> Self {
        Self { status, signs_before, exports_before: signs_before.map(exports_end) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
