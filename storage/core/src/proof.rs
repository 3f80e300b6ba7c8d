//! Portable proofs, and the verification of rows and hours that everything shares: API, CLI, restore, tests
//! (ledger format 2, "Proofs").
//!
//! A proof file holds everything from a row to the signed seal of its hour; who checks it needs the root
//! public key and the name of the cluster, nothing else.

use crate::canonical::{MAX_INTEGER, to_jcs};
use crate::chain;
use crate::hash::{Hash, from_hex, hex_string, sha256};
use crate::key::KeyRecord;
use crate::merkle::InclusionProof;
use crate::personal;
use crate::rules::{Build, NeedsBuild};
use crate::schema::{SchemaError, check_hashed};
use crate::seal::{FORMAT_VERSION, Seal, verify_signature};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A proof that one row is sealed, checkable with no server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortableProof {
    /// Ledger format, [`FORMAT_VERSION`].
    pub format_version: u32,
    /// The canonical row, without `rowHash`.
    pub row: Value,
    /// Its personal data with their salt; null for readers who may not see them, and of a row that has none.
    pub personal: Option<Value>,
    /// `sha256(JCS(row))`.
    #[serde(with = "hex_string")]
    pub row_hash: Hash,
    /// From the row to its operator's root.
    pub operator_proof: InclusionProof,
    /// How the operator's root enters its chain.
    pub operator_chain: OperatorChain,
    /// From the operator's chain to the national root.
    pub national_proof: InclusionProof,
    /// The hour's seal.
    pub seal: Seal,
    /// `sha256(JCS(seal))`.
    #[serde(with = "hex_string")]
    pub seal_hash: Hash,
    /// Base64 of the signature over the seal; absent until the seal is signed.
    pub signature: Option<String>,
    /// The key that signed; absent until the seal is signed.
    pub key: Option<KeyRecord>,
    /// Anchor in a transparency log; absent until there is one.
    pub anchor: Option<Value>,
}

/// How an operator's root enters its chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OperatorChain {
    /// Root of the hour.
    #[serde(with = "hex_string")]
    pub bucket_root: Hash,
    /// Chain of the hour before.
    #[serde(with = "hex_string")]
    pub prev_chain_hash: Hash,
    /// Chain of the hour.
    #[serde(with = "hex_string")]
    pub chain_hash: Hash,
}

/// What does not hold; the text names the row, seal or key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A row's bytes do not give its hash.
    #[error("row {cdr_id}: stored hash {stored}, computed {computed}: the row was changed")]
    RowHash {
        /// The row.
        cdr_id: String,
        /// Hash beside the row.
        stored: String,
        /// Hash of its bytes.
        computed: String,
    },
    /// A chain, root, count or index does not fit.
    #[error("hour {hour}, {what}: {why}")]
    Mismatch {
        /// Bucket.
        hour: String,
        /// Operator, stream or row.
        what: String,
        /// What differs.
        why: String,
    },
    /// A later build wrote the row.
    #[error(transparent)]
    NeedsBuild(#[from] NeedsBuild),
    /// A key or signature is not to be trusted.
    #[error("hour {hour}: {why}")]
    Untrusted {
        /// Bucket.
        hour: String,
        /// What is wrong.
        why: String,
    },
}

/// Who may sign: the root public key and the cluster's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// Name of the cluster.
    pub cluster_id: String,
    /// The offline root key.
    pub root_public_key: [u8; 32],
}

impl PortableProof {
    /// Checks everything from the row to the root key.
    ///
    /// # Errors
    /// The first [`Violation`].
    pub fn verify(&self, trust: &Trust) -> Result<(), Violation> {
        self.verify_as(trust, Build::THIS)
    }

    /// As [`PortableProof::verify`], by a build that knows other versions.
    ///
    /// # Errors
    /// The first [`Violation`].
    pub fn verify_as(&self, trust: &Trust, build: Build) -> Result<(), Violation> {
        let hour = self.seal.bucket_hour.to_string();
        let mismatch = |what: &str, why: &str| Violation::Mismatch {
            hour: hour.clone(),
            what: what.to_owned(),
            why: why.to_owned(),
        };
        if self.format_version != FORMAT_VERSION || self.anchor.is_some() {
            return Err(mismatch(
                "proof",
                "its format version is unknown, or it has an anchor that this build can't check",
            ));
        }
        self.verify_row()?;
        let version = check_hashed(&self.row, build).map_err(|error| match error {
            SchemaError::Version(needs) => Violation::NeedsBuild(needs),
            other => mismatch("row", &other.to_string()),
        })?;
        let personal = self.personal.as_ref();
        if let Some(why) = personal.and_then(|data| personal::violation(&self.row, version, data)) {
            return Err(mismatch("personal", why));
        }
        verify_seal(&self.seal, &self.seal_hash)?;
        if self.row.get("bucketHour").and_then(Value::as_str) != Some(hour.as_str()) {
            return Err(mismatch("row", "the row is of another hour than the seal"));
        }
        let operator_id = self.row.get("operatorId").and_then(Value::as_str).unwrap_or_default();
        let operator = self
            .seal
            .operator(operator_id)
            .ok_or_else(|| mismatch(operator_id, "the seal does not name it"))?;
        if !self.operator_proof.verify(&self.row_hash, operator.record_count, &operator.bucket_root) {
            return Err(mismatch(operator_id, "the row is not in the operator's tree at that place"));
        }
        let sealed = OperatorChain {
            bucket_root: operator.bucket_root,
            prev_chain_hash: operator.prev_chain_hash,
            chain_hash: operator.chain_hash,
        };
        if self.operator_chain != sealed {
            return Err(mismatch(operator_id, "the operator's chain differs from the seal's"));
        }
        let leaf = chain::national_leaf(operator_id, &operator.chain_hash);
        let count = self.seal.operators.len() as u64;
        if !self.national_proof.verify(&leaf, count, &self.seal.bucket_root) {
            return Err(mismatch(operator_id, "the operator's chain is not in the national tree"));
        }
        self.verify_signature(trust)
    }

    /// True if the row has personal data and the file does not hold them: then nothing is proved about them.
    pub fn withholds_personal(&self) -> bool {
        self.personal.is_none() && self.row.get("personalHash").is_some_and(|hash| !hash.is_null())
    }

    fn verify_row(&self) -> Result<(), Violation> {
        let cdr_id = self.row.get("cdrId").and_then(Value::as_str).unwrap_or("without cdrId").to_owned();
        let computed = to_jcs(&self.row).map(|bytes| sha256(&bytes)).unwrap_or_default();
        if computed == self.row_hash {
            return Ok(());
        }
        let (stored, computed) = (crate::hash::to_hex(&self.row_hash), crate::hash::to_hex(&computed));
        Err(Violation::RowHash { cdr_id, stored, computed })
    }

    fn verify_signature(&self, trust: &Trust) -> Result<(), Violation> {
        let untrusted =
            |why: &str| Violation::Untrusted { hour: self.seal.bucket_hour.to_string(), why: why.to_owned() };
        if self.seal.cluster_id != trust.cluster_id {
            return Err(untrusted("the seal is of another cluster"));
        }
        let (Some(signature), Some(key)) = (&self.signature, &self.key) else {
            return Err(untrusted("the seal is not signed yet"));
        };
        let signature = decode_base64(signature)
            .and_then(|bytes| <[u8; 64]>::try_from(bytes).ok())
            .ok_or_else(|| untrusted("the signature is not 64 bytes in base64"))?;
        let named = self.seal.signer_key_id.as_deref() == Some(key.key_id.as_str());
        if !named || !key.covers(self.seal.bucket_hour) {
            return Err(untrusted("the key is not the one that the seal names, or does not cover the hour"));
        }
        if !key.is_trusted(&trust.cluster_id, &trust.root_public_key) {
            return Err(untrusted("the root key does not vouch for the signing key"));
        }
        let public_key = key.public_key().ok_or_else(|| untrusted("the key is of no known algorithm"))?;
        if verify_signature(&self.seal_hash, &signature, &public_key) {
            Ok(())
        } else {
            Err(untrusted("the signature is not by the signing key"))
        }
    }
}

/// Checks a seal in itself: its hash, chains, national root, counts and completeness sums.
///
/// # Errors
/// The first [`Violation`].
pub fn verify_seal(seal: &Seal, seal_hash: &Hash) -> Result<(), Violation> {
    let mismatch = |what: &str, why: String| Violation::Mismatch {
        hour: seal.bucket_hour.to_string(),
        what: what.to_owned(),
        why,
    };
    let computed = seal.hash().map_err(|why| mismatch("seal", why))?;
    if computed != *seal_hash {
        return Err(mismatch("seal", "its bytes do not match its hash: the seal was changed".to_owned()));
    }
    if seal.format_version != FORMAT_VERSION || seal.generation > MAX_INTEGER {
        return Err(mismatch("seal", "its format version or generation is unknown".to_owned()));
    }
    if seal.sealed_at < seal.bucket_hour.end() {
        return Err(mismatch("seal", "sealedAt lies before the end of the hour".to_owned()));
    }
    let empty = chain::empty_root(seal.bucket_hour);
    for operator in &seal.operators {
        if operator.chain_hash != chain::next_chain(&operator.prev_chain_hash, &operator.bucket_root) {
            return Err(mismatch(
                &operator.operator_id,
                "chainHash does not follow from prevChainHash".to_owned(),
            ));
        }
        if operator.record_count == 0 && operator.bucket_root != empty {
            return Err(mismatch(&operator.operator_id, "an empty hour without the empty root".to_owned()));
        }
    }
    let leaves: Vec<Hash> =
        seal.operators.iter().map(|o| chain::national_leaf(&o.operator_id, &o.chain_hash)).collect();
    if crate::merkle::root(&leaves) != Some(seal.bucket_root) {
        return Err(mismatch("national", "bucketRoot does not follow from the operators".to_owned()));
    }
    if seal.chain_hash != chain::next_chain(&seal.prev_chain_hash, &seal.bucket_root) {
        return Err(mismatch("national", "chainHash does not follow from prevChainHash".to_owned()));
    }
    let ascending = seal.operators.windows(2).all(|o| o[0].operator_id < o[1].operator_id)
        && seal.completeness.windows(2).all(|s| s[0].stream < s[1].stream);
    let rows = checked_sum(seal.operators.iter().map(|o| o.record_count));
    let appended = checked_sum(seal.completeness.iter().map(|s| s.appended));
    if !ascending || rows != Some(seal.record_count) || appended != rows {
        return Err(mismatch("national", "order or sum of the record counts is wrong".to_owned()));
    }
    match seal.completeness.iter().find(|statement| !statement.adds_up()) {
        Some(statement) => {
            Err(mismatch(&statement.stream, "the completeness statement does not add up".to_owned()))
        }
        None => Ok(()),
    }
}

fn checked_sum(mut counts: impl Iterator<Item = u64>) -> Option<u64> {
    counts.try_fold(0u64, u64::checked_add).filter(|sum| *sum <= MAX_INTEGER)
}

/// Checks that `next` continues `previous`: hour, seal hash, national chain, every operator's chain and root,
/// every stream's positions.
///
/// # Errors
/// The first [`Violation`].
pub fn verify_succession(previous: &Seal, previous_hash: &Hash, next: &Seal) -> Result<(), Violation> {
    let mismatch = |what: &str, why: &str| Violation::Mismatch {
        hour: next.bucket_hour.to_string(),
        what: what.to_owned(),
        why: why.to_owned(),
    };
    if next.bucket_hour != previous.bucket_hour.next() {
        return Err(mismatch("seal", "an hour is missing before it"));
    }
    if next.cluster_id != previous.cluster_id || next.generation < previous.generation {
        return Err(mismatch("seal", "it is of another cluster, or of a generation before (a fork)"));
    }
    if next.prev_seal_hash != *previous_hash || next.prev_chain_hash != previous.chain_hash {
        return Err(mismatch("national", "it does not continue the hour before"));
    }
    for before in &previous.operators {
        let after =
            next.operator(&before.operator_id).ok_or_else(|| mismatch(&before.operator_id, "it left"))?;
        if after.prev_bucket_root != before.bucket_root || after.prev_chain_hash != before.chain_hash {
            return Err(mismatch(&before.operator_id, "it does not continue the hour before"));
        }
    }
    for operator in next.operators.iter().filter(|o| previous.operator(&o.operator_id).is_none()) {
        let genesis = chain::operator_genesis(&next.cluster_id, &operator.operator_id);
        if operator.prev_bucket_root != genesis || operator.prev_chain_hash != genesis {
            return Err(mismatch(&operator.operator_id, "it joins without its genesis"));
        }
    }
    for before in &previous.completeness {
        let after = next.completeness.iter().find(|s| s.stream == before.stream);
        if after.is_none_or(|s| Some(s.first_sequence) != before.last_sequence.checked_add(1)) {
            return Err(mismatch(&before.stream, "the stream's positions have a gap"));
        }
    }
    Ok(())
}

/// Standard base64 with padding (RFC 4648), as signatures are written.
pub fn encode_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The inverse of [`encode_base64`]; `None` for anything else.
pub fn decode_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Reads the raw public key of a root key file: 64 hexadecimal digits, surrounding white space ignored.
pub fn parse_public_key(text: &str) -> Option<[u8; 32]> {
    from_hex(text.trim())
}
