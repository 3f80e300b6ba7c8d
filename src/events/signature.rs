//! Signatures of events: one RS256 JWS per published batch, over the Merkle root of its payloads' hashes.
//!
//! One RSA signature per event would cap the relay at a few thousand events a second. So a batch is signed once, and
//! each event carries in its headers the signature and the path from its own payload to the signed root:
//!
//! | header | holds |
//! |---|---|
//! | `Cdr-Batch-Signature` | the compact JWS: header `{alg: RS256, kid, typ: cdr-event-batch+jws}`, claims `{count, root, iss, iat}`; `root` in hexadecimal, `iss` the cluster |
//! | `Cdr-Batch-Index` | the event's position in the batch, from 0 |
//! | `Cdr-Batch-Proof` | the siblings from the leaf upwards, base64url without padding, joined by commas; absent in a batch of one |
//!
//! The tree is the ledger's ([`cdr_core::merkle`]): leaves are the SHA-256 of the payloads, padded to a power of two
//! with 32 zero bytes each. A proof must have exactly as many siblings as the signed count requires.

use super::signing_key::SigningKey;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cdr_core::hash::{from_hex, sha256, to_hex};
use cdr_core::merkle::{HexHash, InclusionProof, ZERO_LEAF, node};
use cdr_core::{Hash, Millis};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// Header with the batch's JWS.
pub const SIGNATURE_HEADER: &str = "Cdr-Batch-Signature";
/// Header with the event's position in the batch.
pub const INDEX_HEADER: &str = "Cdr-Batch-Index";
/// Header with the event's proof.
pub const PROOF_HEADER: &str = "Cdr-Batch-Proof";
/// `typ` of the JWS.
pub const JWS_TYPE: &str = "cdr-event-batch+jws";

/// What is signed of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchClaims {
    /// Events in the batch.
    pub count: u64,
    /// Root of the tree over the payloads' hashes, hexadecimal.
    pub root: String,
    /// Cluster that published it.
    pub iss: String,
    /// When it was signed, seconds since the Unix epoch.
    pub iat: i64,
}

/// A batch can't be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// There is nothing to sign.
    #[error("an empty batch can't be signed")]
    Empty,
    /// The key does not sign.
    #[error("a batch of {count} events can't be signed with key {kid}: {why}")]
    Key {
        /// Events in the batch.
        count: usize,
        /// The key.
        kid: String,
        /// Why.
        why: String,
    },
}

/// A signed batch: what each of its events says in its headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedBatch {
    jws: String,
    /// The tree by levels, leaves first; padding beyond the last event is left out.
    levels: Vec<Vec<Hash>>,
}

impl SignedBatch {
    /// Signs a batch in the name of `cluster_id` at `at`.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn sign<P: AsRef<[u8]>>(
        payloads: &[P],
        key: &SigningKey,
        cluster_id: &str,
        at: Millis,
    ) -> Result<Self, SignError> {
        let levels = levels(payloads.iter().map(|payload| sha256(payload.as_ref())).collect());
        let root = levels.last().and_then(|top| top.first()).ok_or(SignError::Empty)?;
        let header = Header {
            typ: Some(JWS_TYPE.to_owned()),
            kid: Some(key.kid.clone()),
            ..Header::new(Algorithm::RS256)
        };
        let claims = BatchClaims {
            count: payloads.len() as u64,
            root: to_hex(root),
            iss: cluster_id.to_owned(),
            iat: at.0.div_euclid(1000),
        };
        let jws = encode(&header, &claims, &key.key).map_err(|e| SignError::Key {
            count: payloads.len(),
            kid: key.kid.clone(),
            why: e.to_string(),
        })?;
        Ok(Self { jws, levels })
    }

    /// Headers of the event at `index`; none beyond the batch.
    pub fn headers(&self, index: usize) -> Vec<(String, String)> {
        let count = self.levels.first().map_or(0, Vec::len);
        if index >= count {
            return Vec::new();
        }
        let subtree = |level: u32, i: u64| {
            self.levels.get(level as usize).and_then(|l| l.get(i as usize)).copied().ok_or(())
        };
        let Ok(proof) = InclusionProof::build(index as u64, count as u64, subtree) else {
            return Vec::new();
        };
        let mut headers = vec![
            (SIGNATURE_HEADER.to_owned(), self.jws.clone()),
            (INDEX_HEADER.to_owned(), index.to_string()),
        ];
        if !proof.siblings.is_empty() {
            headers.push((PROOF_HEADER.to_owned(), proof_text(&proof)));
        }
        headers
    }
}

/// Every level of the padded tree up to its root.
fn levels(leaves: Vec<Hash>) -> Vec<Vec<Hash>> {
    let (mut levels, mut zero) = (vec![leaves], ZERO_LEAF);
    while let Some(below) = levels.last().filter(|level| level.len() > 1) {
        let above = below.chunks(2).map(|pair| node(&pair[0], pair.get(1).unwrap_or(&zero))).collect();
        zero = node(&zero, &zero);
        levels.push(above);
    }
    levels
}

fn proof_text(proof: &InclusionProof) -> String {
    let mut text = String::with_capacity(proof.siblings.len() * 44);
    for (i, HexHash(sibling)) in proof.siblings.iter().enumerate() {
        if i > 0 {
            text.push(',');
        }
        URL_SAFE_NO_PAD.encode_string(sibling, &mut text);
    }
    text
}

/// Whose batches are trusted: a cluster and its public key.
#[derive(Clone, Debug)]
pub struct TrustedKey {
    cluster_id: String,
    key: DecodingKey,
}

impl TrustedKey {
    /// The RSA public key `pem` of the cluster `cluster_id`; `None` if it is not one.
    pub fn from_pem(cluster_id: &str, pem: &str) -> Option<Self> {
        let key = DecodingKey::from_rsa_pem(pem.as_bytes()).ok()?;
        Some(Self { cluster_id: cluster_id.to_owned(), key })
    }
}

/// Why an event is not trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A header is absent, there twice, or not what it should be.
    #[error("header {name} is missing, repeated or malformed: the event is not signed as this cluster signs")]
    Header {
        /// The header.
        name: &'static str,
    },
    /// The signature is not by the trusted key, or not of a batch of events.
    #[error("the batch's signature is not valid: {why}")]
    Signature {
        /// Why.
        why: String,
    },
    /// The batch is of another cluster.
    #[error("the batch was not published by cluster {cluster_id}")]
    Foreign {
        /// Cluster that was expected.
        cluster_id: String,
    },
    /// The payload is not in the signed batch at that place.
    #[error("the payload is not event {index} of the signed batch of {count}: it or its proof was changed")]
    NotInBatch {
        /// Place that the headers name.
        index: u64,
        /// Events in the signed batch.
        count: u64,
    },
}

/// Checks that `payload` with `headers` was published by the holder of `key`; returns what was signed of its batch.
///
/// # Errors
/// The first [`VerifyError`].
pub fn verify_event(
    payload: &[u8],
    headers: &[(String, String)],
    key: &TrustedKey,
) -> Result<BatchClaims, VerifyError> {
    let missing = |name| VerifyError::Header { name };
    let jws = only(headers, SIGNATURE_HEADER)?.ok_or(missing(SIGNATURE_HEADER))?;
    let index =
        only(headers, INDEX_HEADER)?.and_then(|text| text.parse().ok()).ok_or(missing(INDEX_HEADER))?;
    let siblings =
        only(headers, PROOF_HEADER)?.map_or(Some(Vec::new()), siblings).ok_or(missing(PROOF_HEADER))?;
    let claims = signed_claims(jws, key)?;
    let root: Hash = from_hex(&claims.root)
        .ok_or_else(|| VerifyError::Signature { why: "its root is not a SHA-256".to_owned() })?;
    let proof = InclusionProof { leaf_index: index, siblings };
    if proof.verify(&sha256(payload), claims.count, &root) {
        Ok(claims)
    } else {
        Err(VerifyError::NotInBatch { index, count: claims.count })
    }
}

fn signed_claims(jws: &str, key: &TrustedKey) -> Result<BatchClaims, VerifyError> {
    let mut validation = Validation::new(Algorithm::RS256);
    // A signature does not expire: events are read for as long as they are kept.
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims = HashSet::from(["iss".to_owned()]);
    validation.set_issuer(&[&key.cluster_id]);
    let decoded = decode::<BatchClaims>(jws, &key.key, &validation).map_err(|e| match e.kind() {
        ErrorKind::InvalidIssuer => VerifyError::Foreign { cluster_id: key.cluster_id.clone() },
        _ => VerifyError::Signature { why: e.to_string() },
    })?;
    // An extension that is critical and not understood forbids to accept the signature (RFC 7515, 4.1.11).
    if decoded.header.typ.as_deref() != Some(JWS_TYPE) || decoded.header.crit.is_some() {
        return Err(VerifyError::Signature { why: format!("its type is not {JWS_TYPE}") });
    }
    Ok(decoded.claims)
}

/// The value of the header `name`, if it occurs once.
fn only<'h>(headers: &'h [(String, String)], name: &'static str) -> Result<Option<&'h str>, VerifyError> {
    let mut values = headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str());
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err(VerifyError::Header { name }),
    }
}

fn siblings(text: &str) -> Option<Vec<HexHash>> {
    text.split(',').map(|part| URL_SAFE_NO_PAD.decode(part).ok()?.try_into().ok().map(HexHash)).collect()
}

#[cfg(test)]
mod tests;
