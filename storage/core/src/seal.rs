//! What closes an hour: the seal, its completeness statement and its signature
//! (ledger format 2, "The seal and the archive").

use crate::canonical::{MAX_INTEGER, to_jcs};
use crate::command::ClockKind;
use crate::hash::{Hash, hex_string, sha256};
use crate::id::CdrId;
use crate::key::PublicKey;
use crate::time::{Hour, Millis};
use serde::{Deserialize, Serialize};

pub use crate::key::KeyRecord;

/// Ledger format of the seals that this crate writes, their `formatVersion`.
pub const FORMAT_VERSION: u32 = 2;

/// The hashed part of an hour's manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Seal {
    /// Ledger format, [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Cluster that sealed.
    pub cluster_id: String,
    /// Raised by every restore.
    pub generation: u64,
    /// What drives time.
    pub clock: ClockKind,
    /// Hour that is sealed.
    pub bucket_hour: Hour,
    /// Rows of all partitions.
    pub record_count: u64,
    /// National root.
    #[serde(with = "hex_string")]
    pub bucket_root: Hash,
    /// National chain.
    #[serde(with = "hex_string")]
    pub chain_hash: Hash,
    /// National chain of the hour before.
    #[serde(with = "hex_string")]
    pub prev_chain_hash: Hash,
    /// Hash of the seal before.
    #[serde(with = "hex_string")]
    pub prev_seal_hash: Hash,
    /// Time of the sealing proposal.
    pub sealed_at: Millis,
    /// Key that signs this seal; none while no key is registered.
    pub signer_key_id: Option<String>,
    /// One entry per operator in force, ascending.
    pub operators: Vec<OperatorSeal>,
    /// One entry per stream epoch ever known, ascending.
    pub completeness: Vec<StreamStatement>,
}

/// One operator's hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OperatorSeal {
    /// The operator, or `_system`.
    pub operator_id: String,
    /// Rows of this hour.
    pub record_count: u64,
    /// Root over the rows' hashes.
    #[serde(with = "hex_string")]
    pub bucket_root: Hash,
    /// The operator's chain.
    #[serde(with = "hex_string")]
    pub chain_hash: Hash,
    /// Root of the hour before.
    #[serde(with = "hex_string")]
    pub prev_bucket_root: Hash,
    /// Chain of the hour before.
    #[serde(with = "hex_string")]
    pub prev_chain_hash: Hash,
}

/// What became of every sequence of a stream epoch in this hour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamStatement {
    /// Rows with this stream as their source.
    pub appended: u64,
    /// Messages that were dead-lettered.
    pub dead_lettered: u64,
    /// Messages whose `messageId` was known.
    pub duplicate: u64,
    /// First sequence: the hour before's last + 1.
    pub first_sequence: u64,
    /// Messages of states that are not final.
    pub ignored: u64,
    /// Last sequence; `firstSequence - 1` without messages.
    pub last_sequence: u64,
    /// Sequences that the stream says are deleted.
    pub missing: u64,
    /// Messages read.
    pub received: u64,
    /// Stream epoch, `api` or `internal`.
    pub stream: String,
}

impl StreamStatement {
    /// True if the two sums of the format hold, without a number that JSON could not write exactly.
    pub fn adds_up(&self) -> bool {
        let span = self.last_sequence.checked_add(1).and_then(|end| end.checked_sub(self.first_sequence));
        let fates = [self.appended, self.duplicate, self.ignored, self.dead_lettered];
        let received = fates.into_iter().try_fold(0u64, u64::checked_add);
        self.last_sequence <= MAX_INTEGER
            && span.is_some()
            && span == self.received.checked_add(self.missing)
            && received == Some(self.received)
    }
}

impl Seal {
    /// The canonical bytes of the seal.
    ///
    /// # Errors
    /// What could not be written.
    pub fn canonical(&self) -> Result<Vec<u8>, String> {
        to_jcs(self)
    }

    /// `sha256(JCS(seal))`.
    ///
    /// # Errors
    /// What could not be written.
    pub fn hash(&self) -> Result<Hash, String> {
        Ok(sha256(&self.canonical()?))
    }

    /// The entry of an operator.
    pub fn operator(&self, operator_id: &str) -> Option<&OperatorSeal> {
        self.operators.iter().find(|entry| entry.operator_id == operator_id)
    }

    /// Id of an operator's sealed hour (`roll_` as its prefix), which every replica derives alike: a UUIDv7 of
    /// the hour's time and a hash over cluster, hour and operator.
    pub fn rollup_id(&self, operator_id: &str) -> CdrId {
        let named = format!("ROLLUP:{}:{}:{operator_id}", self.cluster_id, self.bucket_hour);
        let digest = sha256(named.as_bytes());
        let mut random = [0u8; 10];
        random.copy_from_slice(&digest[..10]);
        CdrId::from_parts(self.bucket_hour.start().0, random)
    }
}

/// The bytes that a seal's signature covers: `cdr-seal-v1`, a zero byte, the seal's hash.
pub fn signed_message(seal_hash: &Hash) -> Vec<u8> {
    [b"cdr-seal-v1\0".as_slice(), seal_hash].concat()
}

/// True if `signature` over the seal is by `public_key`.
pub fn verify_signature(seal_hash: &Hash, signature: &[u8; 64], public_key: &PublicKey) -> bool {
    public_key.verify(&signed_message(seal_hash), signature)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal(cluster_id: &str, hour: u32) -> Seal {
        Seal {
            format_version: FORMAT_VERSION,
            cluster_id: cluster_id.to_owned(),
            generation: 1,
            clock: ClockKind::System,
            bucket_hour: Hour(hour),
            record_count: 0,
            bucket_root: [0; 32],
            chain_hash: [0; 32],
            prev_chain_hash: [0; 32],
            prev_seal_hash: [0; 32],
            sealed_at: Hour(hour).end(),
            signer_key_id: None,
            operators: Vec::new(),
            completeness: Vec::new(),
        }
    }

    #[test]
    fn rollup_ids_carry_their_hour_and_differ() {
        let id = seal("dev", 493_525).rollup_id("AWCC");
        assert_eq!(id.time_ms(), Hour(493_525).start().0);
        assert_eq!(id, seal("dev", 493_525).rollup_id("AWCC"));
        assert_ne!(id, seal("dev", 493_525).rollup_id("ETS"));
        assert_ne!(id, seal("dev", 493_526).rollup_id("AWCC"));
        assert_ne!(id, seal("other", 493_525).rollup_id("AWCC"));
    }
}
