//! What `meta` keeps of the indexes: the head, and one record a run. Integers are little-endian.
//!
//! Head: version `u8` = 1, block bits `u8`, fan bits `u8`, merge levels `u8`, first and next ordinal `u64`,
//! check of the hash key `u64`. Run: version `u8` = 1, then the fields of [`Summary`] in order.

use super::geometry::{Geometry, partition_bits};
use super::keys::{TABLES, Table};
use super::{RowKeys, damaged};
use crate::error::StoreError;
use cdr_core::Hour;

/// On-disk format of every value of the indexes' `meta` keys.
const VERSION: u8 = 1;

/// Which ordinals the runs cover, and how they are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Sizes of blocks and runs.
    pub geometry: Geometry,
    /// First ordinal that is covered.
    pub first: u64,
    /// First ordinal after all blocks.
    pub next: u64,
    /// [`super::fingerprint::Fingerprints::key_check`].
    pub key_check: u64,
}

/// Smallest and largest value of something; `min > max` if there was none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// Smallest.
    pub min: i64,
    /// Largest.
    pub max: i64,
}

impl Span {
    /// Of nothing.
    pub const EMPTY: Self = Self { min: i64::MAX, max: i64::MIN };

    /// Adds a value.
    pub fn add(&mut self, value: i64) {
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Takes another span's values in.
    pub fn join(&mut self, other: Self) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// True if `value` may be one of those added.
    pub fn holds(self, value: i64) -> bool {
        self.min <= value && value <= self.max
    }

    /// True if all values of `other` may be among those added.
    pub fn covers(self, other: Self) -> bool {
        other == Self::EMPTY || self.min <= other.min && other.max <= self.max
    }

    /// True if a value of `from..to` may be among those added.
    pub fn meets(self, from: i64, to: i64) -> bool {
        self.min < to && self.max >= from
    }
}

/// What is known of all rows of a block or run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    /// Entries in each hash index.
    pub counts: [u64; TABLES],
    /// Bucket hours.
    pub hours: Span,
    /// Times in record ids, milliseconds.
    pub id_times: Span,
    /// Event times, milliseconds.
    pub events: Span,
}

/// A run of sorted entries, one per hash index, over consecutive rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// How many times it was merged.
    pub level: u8,
    /// First ordinal.
    pub first: u64,
    /// What is known of its rows.
    pub summary: Summary,
}

impl Run {
    /// Bits of the fingerprint that choose a chunk, or none if the index has no entry here.
    pub fn partition_bits(&self, table: Table) -> Option<u32> {
        let count = self.summary.counts[table as usize];
        (count > 0).then(|| partition_bits(count))
    }

    /// Newest bucket hour of its rows.
    pub fn newest_hour(&self) -> Hour {
        Hour(self.summary.hours.max as u32)
    }
}

impl Summary {
    /// Of no rows.
    pub const EMPTY: Self =
        Self { counts: [0; TABLES], hours: Span::EMPTY, id_times: Span::EMPTY, events: Span::EMPTY };

    /// Applies a row.
    pub fn add(&mut self, row: &RowKeys) {
        let present = [true, row.message_id.is_some(), row.msisdn_to.is_some(), row.adjustment_of.is_some()];
        for (count, present) in self.counts.iter_mut().zip(present) {
            *count += u64::from(present);
        }
        self.hours.add(i64::from(row.bucket_hour.0));
        self.id_times.add(row.cdr_id.time_ms());
        if let Some(at) = row.event_at {
            self.events.add(at.0);
        }
    }

    /// Takes the rows of another run in.
    pub fn join(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.hours.join(other.hours);
        self.id_times.join(other.id_times);
        self.events.join(other.events);
    }

    /// The value of a run record.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        for count in self.counts {
            out.extend_from_slice(&count.to_le_bytes());
        }
        for span in [self.hours, self.id_times, self.events] {
            out.extend_from_slice(&span.min.to_le_bytes());
            out.extend_from_slice(&span.max.to_le_bytes());
        }
        out
    }

    /// The summary in a run record with `rows` rows.
    pub fn decode(value: &[u8], key: &[u8], rows: u64) -> Result<Self, StoreError> {
        let fields = fields::<{ TABLES + 6 }>(value, key)?;
        let span = |at: usize| Span { min: fields[at] as i64, max: fields[at + 1] as i64 };
        let summary = Self {
            counts: std::array::from_fn(|i| fields[i]),
            hours: span(TABLES),
            id_times: span(TABLES + 2),
            events: span(TABLES + 4),
        };
        if summary.counts[Table::CdrId as usize] != rows || summary.counts.iter().any(|&c| c > rows) {
            return Err(damaged(key, "its counts do not fit its size"));
        }
        if summary.hours.min > summary.hours.max || u32::try_from(summary.hours.max).is_err() {
            return Err(damaged(key, "its hours are impossible"));
        }
        Ok(summary)
    }
}

impl Head {
    /// The stored value.
    pub fn encode(&self) -> Vec<u8> {
        let Geometry { block_bits, fan_bits, max_level } = self.geometry;
        let mut out = vec![VERSION, block_bits as u8, fan_bits as u8, max_level];
        for field in [self.first, self.next, self.key_check] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out
    }

    /// The head in a stored value.
    pub fn decode(value: &[u8], key: &[u8]) -> Result<Self, StoreError> {
        let [version, block_bits, fan_bits, max_level, rest @ ..] = value else {
            return Err(damaged(key, "it is too short"));
        };
        check_version(*version)?;
        let [first, next, key_check] = integers::<3>(rest, key)?;
        let geometry = Geometry {
            block_bits: u32::from(*block_bits),
            fan_bits: u32::from(*fan_bits),
            max_level: *max_level,
        };
        Ok(Self { geometry, first, next, key_check })
    }
}

fn check_version(found: u8) -> Result<(), StoreError> {
    if found == VERSION {
        return Ok(());
    }
    Err(StoreError::FormatVersion {
        what: "the index".to_owned(),
        found: found.to_string(),
        supported: u32::from(VERSION),
    })
}

fn fields<const N: usize>(value: &[u8], key: &[u8]) -> Result<[u64; N], StoreError> {
    let (version, rest) = value.split_first().ok_or_else(|| damaged(key, "it is empty"))?;
    check_version(*version)?;
    integers(rest, key)
}

fn integers<const N: usize>(bytes: &[u8], key: &[u8]) -> Result<[u64; N], StoreError> {
    let (integers, rest) = bytes.as_chunks::<8>();
    if integers.len() != N || !rest.is_empty() {
        return Err(damaged(key, "its length is wrong"));
    }
    Ok(std::array::from_fn(|i| u64::from_le_bytes(integers[i])))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        let span = |min, max| Span { min, max };
        Summary { counts: [64, 60, 50, 3], hours: span(5, 6), id_times: span(-1, 8), events: Span::EMPTY }
    }

    #[test]
    fn records_round_trip() {
        assert_eq!(Summary::decode(&summary().encode(), b"k", 64).unwrap(), summary());
        let geometry = Geometry { block_bits: 16, fan_bits: 4, max_level: 2 };
        let head = Head { geometry, first: 1, next: 2, key_check: 3 };
        assert_eq!(Head::decode(&head.encode(), b"k").unwrap(), head);
        assert_eq!(
            head.encode(),
            [&[1, 16, 4, 2][..], &1u64.to_le_bytes(), &2u64.to_le_bytes(), &3u64.to_le_bytes()].concat()
        );
    }

    #[test]
    fn bad_records_are_refused() {
        let good = summary().encode();
        assert!(Summary::decode(&good, b"k", 63).is_err());
        assert!(Summary::decode(&good[..good.len() - 1], b"k", 64).is_err());
        assert!(Summary::decode(&[], b"k", 64).is_err());
        let mut foreign = good.clone();
        foreign[0] = 9;
        assert!(matches!(Summary::decode(&foreign, b"k", 64), Err(StoreError::FormatVersion { .. })));
        assert!(Head::decode(&[1, 2], b"k").is_err());
    }
}
