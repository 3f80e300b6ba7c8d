//! Sealed hours: the seal's canonical bytes, its hash, its signature, and where its rows begin.
//!
//! A seal's value is: version byte, first ordinal `u64`, record count `u64`, length of the tallies `u32`
//! (little-endian), seal hash, tallies, canonical bytes, and a CRC-32 of the key and all of that.

use crate::error::{StoreError, database};
use crate::keys::{self, CF_SEALS};
use crate::schema::{Db, column};
use cdr_core::codec;
use cdr_core::rules::Rules;
use cdr_core::state::{ClosedHour, Tally};
use cdr_core::{Hash, Hour, Seal};

/// Version of the values that are written under a disk format.
const fn version_under(disk_format: u32) -> u8 {
    if disk_format >= Rules::TEST_ONLY.formats().disk { 3 } else { 2 }
}

/// Bytes before the tallies.
const HEADER_BYTES: usize = 1 + 8 + 8 + 4 + 32;

/// A sealed hour as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSeal {
    /// The seal.
    pub seal: Seal,
    /// Its canonical bytes.
    pub canonical: Vec<u8>,
    /// Its hash.
    pub seal_hash: Hash,
    /// Ordinal of the hour's first row, counted over all hours.
    pub first_ordinal: u64,
    /// Counts and sums of each operator, in the seal's order; no part of the seal.
    pub tallies: Vec<Tally>,
    /// Ed25519 signature over the seal, once there is one.
    pub signature: Option<[u8; 64]>,
}

/// A seal's value, read as far as its bytes allow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SealValue<'a> {
    pub first_ordinal: u64,
    pub record_count: u64,
    pub seal_hash: Hash,
    pub tallies: &'a [u8],
    pub canonical: &'a [u8],
}

/// The value of a seal under a disk format.
pub(crate) fn encode(closed: &ClosedHour, disk_format: u32) -> Result<Vec<u8>, StoreError> {
    let tallies = codec::encode("tallies", &closed.tallies)?;
    let mut value = Vec::with_capacity(HEADER_BYTES + tallies.len() + closed.canonical.len() + 4);
    value.push(version_under(disk_format));
    value.extend_from_slice(&closed.first_ordinal.to_le_bytes());
    value.extend_from_slice(&closed.seal.record_count.to_le_bytes());
    value.extend_from_slice(&(tallies.len() as u32).to_le_bytes());
    value.extend_from_slice(&closed.seal_hash);
    value.extend_from_slice(&tallies);
    value.extend_from_slice(&closed.canonical);
    let crc = checksum(closed.seal.bucket_hour, &value);
    value.extend_from_slice(&crc.to_le_bytes());
    Ok(value)
}

/// The same value under another disk format.
pub(crate) fn rewritten(hour: Hour, value: &[u8], disk_format: u32) -> Result<Vec<u8>, StoreError> {
    SealValue::parse(hour, value)?;
    let mut content = value[..value.len() - 4].to_vec();
    content[0] = version_under(disk_format);
    let crc = checksum(hour, &content);
    content.extend_from_slice(&crc.to_le_bytes());
    Ok(content)
}

fn checksum(hour: Hour, content: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&keys::seal(hour));
    hasher.update(content);
    hasher.finalize()
}

impl<'a> SealValue<'a> {
    /// Reads a value and compares it with its checksum.
    pub fn parse(hour: Hour, value: &'a [u8]) -> Result<Self, StoreError> {
        let damaged =
            |why: &str| StoreError::Damaged { what: format!("seal of hour {hour}"), why: why.to_owned() };
        let (content, crc) = value.split_last_chunk::<4>().ok_or_else(|| damaged("it is cut"))?;
        if content.len() < HEADER_BYTES {
            return Err(damaged("it is cut"));
        }
        if checksum(hour, content) != u32::from_le_bytes(*crc) {
            return Err(damaged("its checksum is wrong"));
        }
        if !(2..=3).contains(&content[0]) {
            return Err(damaged(&format!("version {} is unknown", content[0])));
        }
        let number =
            |at: usize| content[at..].first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let length = content[17..].first_chunk::<4>().map_or(0, |bytes| u32::from_le_bytes(*bytes)) as usize;
        let seal_hash = content[21..].first_chunk::<32>().copied().unwrap_or_default();
        let (tallies, canonical) =
            content[HEADER_BYTES..].split_at_checked(length).ok_or_else(|| damaged("its tallies are cut"))?;
        Ok(Self { first_ordinal: number(1), record_count: number(9), seal_hash, tallies, canonical })
    }
}

/// The seal of `hour`.
pub(crate) fn read(db: &Db, hour: Hour) -> Result<Option<StoredSeal>, StoreError> {
    let seals = column(db, CF_SEALS)?;
    let Some(value) = db.get_pinned_cf(seals, keys::seal(hour)).map_err(database("reading a seal"))? else {
        return Ok(None);
    };
    let value = SealValue::parse(hour, &value)?;
    let damaged = |why: String| StoreError::Damaged { what: format!("seal of hour {hour}"), why };
    let seal: Seal = serde_json::from_slice(value.canonical).map_err(|e| damaged(e.to_string()))?;
    if seal.record_count != value.record_count {
        return Err(damaged(format!(
            "it counts {} rows, the count beside it is {}",
            seal.record_count, value.record_count
        )));
    }
    let tallies: Vec<Tally> = codec::decode("tallies", value.tallies).map_err(|e| damaged(e.to_string()))?;
    if tallies.len() != seal.operators.len() {
        return Err(damaged("its tallies are not those of its operators".to_owned()));
    }
    Ok(Some(StoredSeal {
        seal,
        tallies,
        canonical: value.canonical.to_vec(),
        seal_hash: value.seal_hash,
        first_ordinal: value.first_ordinal,
        signature: read_signature(db, hour)?,
    }))
}

/// The seal of `hour`, which the state counts as sealed.
pub(crate) fn read_sealed(db: &Db, hour: Hour) -> Result<StoredSeal, StoreError> {
    read(db, hour)?.ok_or_else(|| StoreError::Damaged {
        what: format!("seal of hour {hour}"),
        why: "it is missing".to_owned(),
    })
}

/// The hash of the seal of `hour`, without reading the seal itself.
pub(crate) fn read_hash(db: &Db, hour: Hour) -> Result<Option<Hash>, StoreError> {
    let seals = column(db, CF_SEALS)?;
    let value = db.get_pinned_cf(seals, keys::seal(hour)).map_err(database("reading a seal"))?;
    value.map(|value| SealValue::parse(hour, &value).map(|v| v.seal_hash)).transpose()
}

fn read_signature(db: &Db, hour: Hour) -> Result<Option<[u8; 64]>, StoreError> {
    let seals = column(db, CF_SEALS)?;
    let value = db.get_pinned_cf(seals, keys::signature(hour)).map_err(database("reading a signature"))?;
    let damaged = || StoreError::Damaged {
        what: format!("signature of hour {hour}"),
        why: "it is not 64 bytes long".to_owned(),
    };
    value.map(|value| <[u8; 64]>::try_from(&value[..]).map_err(|_| damaged())).transpose()
}
