//! Every key in the store. Integers in keys are big-endian, so that byte order is numeric order.
//!
//! A key begins with its table's tag. Tags are never reused: a table that goes away leaves its tag behind.
//!
//! | column family | tag | rest of the key | value |
//! |---|---|---|---|
//! | `rows` | `0x01` | bucket hour `u32`, first `cdrSequence` `u64` | page of consecutive rows of one hour ([`crate::page`]) |
//! | `leaves` | `0x02` | bucket hour `u32`, operator `u16`, first leaf `u64` | row hashes of consecutive leaves, 32 bytes each |
//! | `leaves` | `0x03` | bucket hour `u32`, operator `u16`, level `u8`, index `u64` | root of that complete subtree, 32 bytes |
//! | `seals` | `0x04` | bucket hour `u32` | seal ([`crate::seals`]) |
//! | `seals` | `0x05` | bucket hour `u32` | signature over the seal's hash, 64 bytes |
//! | `meta` | `0x10` | | on-disk format version, `u32` |
//! | `meta` | `0x11` | | metadata of the Raft layer, opaque |
//! | `meta` | `0x12` | | head of the ledger state |
//! | `meta` | `0x13` | | settings of the cluster |
//! | `meta` | `0x14` | | operator registry |
//! | `meta` | `0x15` | | signing keys |
//! | `meta` | `0x16` | operator `u16` | open partition of that operator |
//! | `meta` | `0x17` | name of the stream epoch | position and counters of that stream |
//! | `meta` | `0x18` | bucket hour `u32`, `cdrSequence` `u64` of its first row | job |
//! | `meta` | `0x19` | | settings |
//! | `meta` | `0x1a` | | how far settlement files are |
//! | `work` | `0x30` | index in the Raft log `u64` | what that entry made happen ([`crate::outbox`]) |
//! | `work` | `0x31` | ordinal `u64` of a row that waits for a price | `recordedAt`, milliseconds `i64` |
//! | `work` | `0x32` | hash of the caller and the key that they chose, 32 bytes | request and what answers it |
//! | `work` | `0x33` | page `u64` of 256 rows by ordinal | how billing charged each, two bits ([`crate::reconcile`]) |
//! | `work` | `0x34` | ordinal `u64` of a row | charge that billing named, where it is kept |
//! | `work` | `0x35` | message, 16 bytes | billing's event of a message without a CDR |
//! | `work` | `0x36` | hour of such an event `u32`, message, 16 bytes | |
//! | `work` | `0x37` | bucket hour `u32`, operator `u16` | counts of CDRs and billing's events |
//! | `work` | `0x38` | id, 16 bytes | settlement file |
//! | `work` | `0x39` | series ([`series`]), number of its first row `u64` | how far a file reaches, and its id |
//! | `work` | `0x3a` | id, 16 bytes | record that was put into quarantine |
//! | `work` | `0x3b` | name of the series with its length before it, id of the record, id of the entry | nothing |
//! | `work` | `0x3c` | series and operator, each with its length before it, id of the record, id of the entry | when it was in quarantine ([`crate::quarantine`]) |
//! | `work` | `0x3d` | series and operator likewise, number `u64` of the row that resubmitted a record | the record, and when it had come there |
//! | `work` | `0x3e` | id of an entry, 16 bytes, while the record waits there | nothing |
//!
//! Operators are registry indexes. The keys of column family `index` are documented in [`crate::index`]; its
//! tags are `0x20` and above. State values in `meta` use the encoding of [`cdr_core::codec`].

use cdr_core::export::SeriesKey;
use cdr_core::{CdrId, Hash, Hour, Uuid};

/// Rows, in pages.
pub const CF_ROWS: &str = "rows";
/// Row hashes and cached subtree roots.
pub const CF_LEAVES: &str = "leaves";
/// Secondary indexes.
pub const CF_INDEX: &str = "index";
/// Seals and their signatures.
pub const CF_SEALS: &str = "seals";
/// Small values that change with every write.
pub const CF_META: &str = "meta";
/// What is still to be done, and what requests were answered.
pub const CF_WORK: &str = "work";
/// Every column family; `default` is RocksDB's own and stays empty.
pub const COLUMN_FAMILIES: [&str; 7] = ["default", CF_ROWS, CF_LEAVES, CF_INDEX, CF_SEALS, CF_META, CF_WORK];

/// Tag of row pages.
pub const TAG_PAGE: u8 = 0x01;
/// Tag of row hashes.
pub const TAG_LEAVES: u8 = 0x02;
/// Tag of cached subtree roots.
pub const TAG_SUBTREE: u8 = 0x03;
/// Tag of seals.
pub const TAG_SEAL: u8 = 0x04;
/// Tag of seals' signatures.
pub const TAG_SIGNATURE: u8 = 0x05;

/// Key of the format version.
pub const META_FORMAT: &[u8] = &[0x10];
/// Key of the Raft layer's metadata.
pub const META_RAFT: &[u8] = &[0x11];
/// Key of the state's head.
pub const META_HEAD: &[u8] = &[0x12];
/// Key of the cluster's settings.
pub const META_CLUSTER: &[u8] = &[0x13];
/// Key of the operator registry.
pub const META_REGISTRY: &[u8] = &[0x14];
/// Key of the signing keys.
pub const META_KEYS: &[u8] = &[0x15];
/// Tag of open partitions.
pub const TAG_PARTITION: u8 = 0x16;
/// Tag of streams.
pub const TAG_STREAM: u8 = 0x17;

/// Tag of jobs.
pub const TAG_JOB: u8 = 0x18;

/// Key of the settings.
pub const META_SETTINGS: &[u8] = &[0x19];

/// Key of how far settlement files are.
pub const META_EXPORTS: &[u8] = &[0x1a];
/// Where leaders began.
pub const META_FENCES: &[u8] = &[0x1b];
/// How far a migration is: the first hour whose seal is not written again; nothing if none is under way.
pub const META_MIGRATION: &[u8] = &[0x1c];

/// Tag of outbox entries.
pub const TAG_OUTBOX: u8 = 0x30;
/// Tag of rows without a price.
pub const TAG_UNPRICED: u8 = 0x31;
/// Tag of requests.
pub const TAG_REQUEST: u8 = 0x32;
/// Tag of pages of billing's charges.
pub const TAG_BILLED: u8 = 0x33;
/// Tag of charges that billing named.
pub const TAG_BILLED_AMOUNT: u8 = 0x34;
/// Tag of billing's events without a CDR.
pub const TAG_UNMATCHED: u8 = 0x35;
/// Tag of the same by their hour.
pub const TAG_UNMATCHED_AT: u8 = 0x36;
/// Tag of counts of CDRs and billing's events.
pub const TAG_RECONCILED: u8 = 0x37;

/// Tag of settlement files.
pub const TAG_EXPORT: u8 = 0x38;
/// Tag of the files of a series.
pub const TAG_SERIES: u8 = 0x39;
/// Tag of quarantine entries.
pub const TAG_QUARANTINE: u8 = 0x3a;
/// Tag of the quarantine entries of a record.
pub const TAG_QUARANTINED_RECORD: u8 = 0x3b;
/// Tag of the times in quarantine of an operator's records.
pub const TAG_EPISODE: u8 = 0x3c;
/// Tag of what was resubmitted of an operator's records.
pub const TAG_RESUBMITTED: u8 = 0x3d;
/// Tag of quarantine entries that are not resolved.
pub const TAG_UNRESOLVED: u8 = 0x3e;

/// Key of a settlement file.
pub fn export(id: CdrId) -> [u8; 17] {
    with_id(TAG_EXPORT, id)
}

/// Key of a quarantine entry.
pub fn quarantine(id: CdrId) -> [u8; 17] {
    with_id(TAG_QUARANTINE, id)
}

/// Key of a quarantine entry that is not resolved.
pub fn unresolved(id: CdrId) -> [u8; 17] {
    with_id(TAG_UNRESOLVED, id)
}

/// What the keys of a series' files begin with: kind, then name and operator, each with its length before it.
pub fn series(key: &SeriesKey) -> Vec<u8> {
    let mut out = vec![TAG_SERIES, key.export_type as u8];
    push_named(&mut out, &key.series);
    push_named(&mut out, &key.operator_id);
    out
}

/// Key of a file in its series.
pub fn in_series(key: &SeriesKey, ordinal: u64) -> Vec<u8> {
    let mut out = series(key);
    out.extend_from_slice(&ordinal.to_be_bytes());
    out
}

/// What the keys of a record's quarantine entries in a series begin with.
pub fn quarantined_record(series: &str, record: CdrId) -> Vec<u8> {
    let mut out = vec![TAG_QUARANTINED_RECORD];
    push_named(&mut out, series);
    out.extend_from_slice(&record.0);
    out
}

/// What the keys of an operator's quarantine in a series begin with, under [`TAG_EPISODE`] or [`TAG_RESUBMITTED`].
pub fn of_operator(tag: u8, series: &str, operator_id: &str) -> Vec<u8> {
    let mut out = vec![tag];
    push_named(&mut out, series);
    push_named(&mut out, operator_id);
    out
}

fn push_named(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(&(name.len() as u16).to_be_bytes());
    out.extend_from_slice(name.as_bytes());
}

fn with_id(tag: u8, id: CdrId) -> [u8; 17] {
    let mut key = [tag; 17];
    key[1..].copy_from_slice(&id.0);
    key
}

/// Key of a job.
pub fn job(hour: Hour, sequence: u64) -> [u8; 13] {
    let mut key = page(hour, sequence);
    key[0] = TAG_JOB;
    key
}

/// Key of what the log entry `index` made happen.
pub fn outbox(index: u64) -> [u8; 9] {
    numbered(TAG_OUTBOX, index)
}

/// Key of a row that waits for a price.
pub fn unpriced(ordinal: u64) -> [u8; 9] {
    numbered(TAG_UNPRICED, ordinal)
}

/// Key of a page of billing's charges.
pub fn billed_page(page: u64) -> [u8; 9] {
    numbered(TAG_BILLED, page)
}

/// Key of the charge that billing named for a row.
pub fn billed_amount(ordinal: u64) -> [u8; 9] {
    numbered(TAG_BILLED_AMOUNT, ordinal)
}

/// Key of billing's event of a message without a CDR.
pub fn unmatched(message: Uuid) -> [u8; 17] {
    let mut key = [TAG_UNMATCHED; 17];
    key[1..].copy_from_slice(&message.0);
    key
}

/// Key of the same by its hour.
pub fn unmatched_at(hour: Hour, message: Uuid) -> [u8; 21] {
    let mut key = [TAG_UNMATCHED_AT; 21];
    key[1..5].copy_from_slice(&hour.0.to_be_bytes());
    key[5..].copy_from_slice(&message.0);
    key
}

/// Hour and message of such a key.
pub fn parse_unmatched_at(key: &[u8]) -> Option<(Hour, Uuid)> {
    let (hour, message) = key.strip_prefix(&[TAG_UNMATCHED_AT])?.split_first_chunk::<4>()?;
    Some((Hour(u32::from_be_bytes(*hour)), Uuid(message.try_into().ok()?)))
}

/// Key of the counts of an operator's hour.
pub fn reconciled(hour: Hour, operator: u16) -> [u8; 7] {
    let mut key = [TAG_RECONCILED; 7];
    key[1..5].copy_from_slice(&hour.0.to_be_bytes());
    key[5..].copy_from_slice(&operator.to_be_bytes());
    key
}

/// Hour and operator of such a key.
pub fn parse_reconciled(key: &[u8]) -> Option<(Hour, u16)> {
    let (hour, operator) = key.strip_prefix(&[TAG_RECONCILED])?.split_first_chunk::<4>()?;
    Some((Hour(u32::from_be_bytes(*hour)), u16::from_be_bytes(operator.try_into().ok()?)))
}

/// The number of an outbox or unpriced key.
pub fn parse_numbered(tag: u8, key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.strip_prefix(&[tag])?.try_into().ok()?))
}

/// Key of a request.
pub fn request(key: &Hash) -> [u8; 33] {
    let mut out = [TAG_REQUEST; 33];
    out[1..].copy_from_slice(key);
    out
}

fn numbered(tag: u8, number: u64) -> [u8; 9] {
    let mut key = [tag; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

/// Key of the page whose first row has this place.
pub fn page(hour: Hour, first_sequence: u64) -> [u8; 13] {
    let mut key = [TAG_PAGE; 13];
    key[1..5].copy_from_slice(&hour.0.to_be_bytes());
    key[5..].copy_from_slice(&first_sequence.to_be_bytes());
    key
}

/// The place of a page's first row, from its key.
pub fn parse_page(key: &[u8]) -> Option<(Hour, u64)> {
    let (hour, sequence) = key.strip_prefix(&[TAG_PAGE])?.split_first_chunk::<4>()?;
    Some((Hour(u32::from_be_bytes(*hour)), u64::from_be_bytes(sequence.try_into().ok()?)))
}

/// Key of the chunk of row hashes that begins at leaf `first`.
pub fn leaves(hour: Hour, operator: u16, first: u64) -> [u8; 15] {
    let mut key = [TAG_LEAVES; 15];
    key[1..5].copy_from_slice(&hour.0.to_be_bytes());
    key[5..7].copy_from_slice(&operator.to_be_bytes());
    key[7..].copy_from_slice(&first.to_be_bytes());
    key
}

/// Hour, operator and first leaf, from a chunk's key.
pub fn parse_leaves(key: &[u8]) -> Option<(Hour, u16, u64)> {
    let (hour, rest) = key.strip_prefix(&[TAG_LEAVES])?.split_first_chunk::<4>()?;
    let (operator, first) = rest.split_first_chunk::<2>()?;
    let first = u64::from_be_bytes(first.try_into().ok()?);
    Some((Hour(u32::from_be_bytes(*hour)), u16::from_be_bytes(*operator), first))
}

/// Key of a cached subtree root.
pub fn subtree(hour: Hour, operator: u16, level: u32, index: u64) -> [u8; 16] {
    let mut key = [TAG_SUBTREE; 16];
    key[1..5].copy_from_slice(&hour.0.to_be_bytes());
    key[5..7].copy_from_slice(&operator.to_be_bytes());
    key[7] = level as u8;
    key[8..].copy_from_slice(&index.to_be_bytes());
    key
}

/// Key of an hour's seal.
pub fn seal(hour: Hour) -> [u8; 5] {
    hour_key(TAG_SEAL, hour)
}

/// Key of an hour's signature.
pub fn signature(hour: Hour) -> [u8; 5] {
    hour_key(TAG_SIGNATURE, hour)
}

/// The hour of a seal's or signature's key.
pub fn parse_hour(tag: u8, key: &[u8]) -> Option<Hour> {
    let hour = key.strip_prefix(&[tag])?;
    Some(Hour(u32::from_be_bytes(hour.try_into().ok()?)))
}

/// Key of an operator's open partition.
pub fn partition(operator: u16) -> [u8; 3] {
    let [high, low] = operator.to_be_bytes();
    [TAG_PARTITION, high, low]
}

/// Key of a stream epoch.
pub fn stream(name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(name.len() + 1);
    key.push(TAG_STREAM);
    key.extend_from_slice(name.as_bytes());
    key
}

fn hour_key(tag: u8, hour: Hour) -> [u8; 5] {
    let mut key = [tag; 5];
    key[1..].copy_from_slice(&hour.0.to_be_bytes());
    key
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn golden_keys() {
        assert_eq!(page(Hour(0x0102_0304), 5), [1, 1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 5]);
        assert_eq!(leaves(Hour(1), 2, 3), [2, 0, 0, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!(subtree(Hour(1), 2, 8, 4), [3, 0, 0, 0, 1, 0, 2, 8, 0, 0, 0, 0, 0, 0, 0, 4]);
        assert_eq!(seal(Hour(7)), [4, 0, 0, 0, 7]);
        assert_eq!(signature(Hour(7)), [5, 0, 0, 0, 7]);
        assert_eq!(partition(0x0102), [0x16, 1, 2]);
        assert_eq!(stream("A#2"), b"\x17A#2");
        assert_eq!(job(Hour(1), 2), [0x18, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2]);
        assert_eq!(outbox(3), [0x30, 0, 0, 0, 0, 0, 0, 0, 3]);
        assert_eq!(unpriced(4), [0x31, 0, 0, 0, 0, 0, 0, 0, 4]);
        assert_eq!(request(&[7; 32])[..2], [0x32, 7]);
        assert_eq!(billed_page(5), [0x33, 0, 0, 0, 0, 0, 0, 0, 5]);
        assert_eq!(billed_amount(6), [0x34, 0, 0, 0, 0, 0, 0, 0, 6]);
        assert_eq!(unmatched(Uuid([9; 16])), [&[0x35][..], &[9; 16]].concat()[..]);
        assert_eq!(unmatched_at(Hour(1), Uuid([9; 16])), [&[0x36, 0, 0, 0, 1][..], &[9; 16]].concat()[..]);
        assert_eq!(reconciled(Hour(1), 2), [0x37, 0, 0, 0, 1, 0, 2]);
        assert_eq!(of_operator(TAG_EPISODE, "r", "MTN"), b"\x3c\0\x01r\0\x03MTN");
    }

    #[test]
    fn keys_round_trip_and_foreign_keys_are_refused() {
        assert_eq!(parse_page(&page(Hour(9), 70)), Some((Hour(9), 70)));
        assert_eq!(parse_leaves(&leaves(Hour(9), 3, 70)), Some((Hour(9), 3, 70)));
        assert_eq!(parse_hour(TAG_SEAL, &seal(Hour(9))), Some(Hour(9)));
        assert_eq!(parse_numbered(TAG_OUTBOX, &outbox(9)), Some(9));
        assert_eq!(parse_numbered(TAG_OUTBOX, &unpriced(9)), None);
        let place = (Hour(9), Uuid([3; 16]));
        assert_eq!(parse_unmatched_at(&unmatched_at(place.0, place.1)), Some(place));
        assert_eq!(parse_unmatched_at(&unmatched(place.1)), None);
        assert_eq!(parse_reconciled(&reconciled(Hour(9), 7)), Some((Hour(9), 7)));
        assert_eq!(parse_reconciled(&unmatched(place.1)), None);
        assert_eq!(parse_page(&leaves(Hour(9), 3, 70)), None);
        assert_eq!(parse_page(&[TAG_PAGE, 0]), None);
        assert_eq!(parse_leaves(&subtree(Hour(9), 3, 8, 70)), None);
        assert_eq!(parse_hour(TAG_SEAL, &signature(Hour(9))), None);
    }
}
