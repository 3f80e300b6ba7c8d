//! The bytes of a record.
//!
//! | bytes | |
//! |---|---|
//! | 0..4 | CRC-32 (IEEE) over segment number, offset, bytes 4..9 and the payload; little endian |
//! | 4..8 | length of the payload; little endian |
//! | 8 | kind |
//! | 9.. | payload ([`codec`]) |
//!
//! The checksum covers where the record is, so that a record which ended up elsewhere is not valid.
//! Kinds are never reused.

use crate::codec::{self, CodecError, MAX_ENCODED_BYTES};
use crate::types::{Entry, LogId, Vote};
use serde::{Deserialize, Serialize};

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 9;

/// A place in the log: a segment's number and an offset in its file. Grows with every record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Position {
    pub segment: u64,
    pub offset: u64,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "segment {} byte {}", self.segment, self.offset)
    }
}

/// What everything before a segment amounts to; every segment's first record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub vote: Option<Vote>,
    pub committed: Option<LogId>,
    pub purged: Option<LogId>,
}

/// A record.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Record {
    /// State at the start of a segment.
    State(State),
    /// An entry.
    Entry(Entry),
    /// The vote.
    Vote(Vote),
    /// The last log id known to be committed; a hint that is not synced by itself.
    Committed(Option<LogId>),
    /// Entries from this index on are gone.
    TruncateFrom(u64),
    /// Entries up to this one are gone.
    PurgeUpto(LogId),
    /// The segment is complete; the log goes on in the next.
    Roll,
}

impl Record {
    fn kind(&self) -> u8 {
        match self {
            Self::State(_) => 1,
            Self::Entry(_) => 2,
            Self::Vote(_) => 3,
            Self::Committed(_) => 4,
            Self::TruncateFrom(_) => 5,
            Self::PurgeUpto(_) => 6,
            Self::Roll => 7,
        }
    }

    fn decode(kind: u8, payload: &[u8]) -> Result<Self, CodecError> {
        Ok(match kind {
            1 => Self::State(codec::decode(payload)?),
            2 => Self::Entry(codec::decode(payload)?),
            3 => Self::Vote(codec::decode(payload)?),
            4 => Self::Committed(codec::decode(payload)?),
            5 => Self::TruncateFrom(codec::decode(payload)?),
            6 => Self::PurgeUpto(codec::decode(payload)?),
            7 => Self::Roll,
            kind => return Err(CodecError::Kind(kind)),
        })
    }

    fn encode_payload(&self, out: &mut Vec<u8>) -> Result<(), CodecError> {
        match self {
            Self::State(state) => codec::encode_into(state, out),
            Self::Entry(entry) => codec::encode_into(entry, out),
            Self::Vote(vote) => codec::encode_into(vote, out),
            Self::Committed(log_id) => codec::encode_into(log_id, out),
            Self::TruncateFrom(index) => codec::encode_into(index, out),
            Self::PurgeUpto(log_id) => codec::encode_into(log_id, out),
            Self::Roll => Ok(()),
        }
    }

    /// Appends the record, whose first byte will be at `at`. On failure `out` is as before.
    pub(super) fn push(&self, at: Position, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_BYTES]);
        let payload = start + HEADER_BYTES;
        if let Err(error) = self.encode_payload(out) {
            out.truncate(start);
            return Err(error);
        }
        let len = (out.len() - payload) as u32;
        out[start + 4..start + 8].copy_from_slice(&len.to_le_bytes());
        out[start + 8] = self.kind();
        let crc = checksum(at, &out[start + 4..]);
        out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
        Ok(())
    }

    /// Reads the record at the start of `bytes`, which are those at `at`, and its length. `None` if
    /// there is no valid record.
    ///
    /// # Errors
    /// What was written whole and can't be decoded: another build wrote it.
    pub(super) fn read(at: Position, bytes: &[u8]) -> Result<Option<(Self, usize)>, CodecError> {
        let Some((kind, payload)) = Self::checked(at, bytes) else { return Ok(None) };
        Ok(Some((Self::decode(kind, payload)?, HEADER_BYTES + payload.len())))
    }

    /// Kind and payload of the record at the start of `bytes`.
    fn checked(at: Position, bytes: &[u8]) -> Option<(u8, &[u8])> {
        let header = bytes.get(..HEADER_BYTES)?;
        let crc = u32::from_le_bytes(header[..4].try_into().ok()?);
        let len = u32::from_le_bytes(header[4..8].try_into().ok()?) as usize;
        if len > MAX_ENCODED_BYTES {
            return None;
        }
        let end = HEADER_BYTES + len;
        let checked = bytes.get(4..end)?;
        if checksum(at, checked) != crc {
            return None;
        }
        Some((header[8], &bytes[HEADER_BYTES..end]))
    }
}

fn checksum(at: Position, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&at.segment.to_le_bytes());
    hasher.update(&at.offset.to_le_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::types::CommandBytes;
    use openraft::EntryPayload;

    const AT: Position = Position { segment: 2, offset: 16 };

    fn entry() -> Record {
        let command = CommandBytes(bytes::Bytes::from_static(b"abc"));
        Record::Entry(Entry { log_id: LogId::new_term_index(3, 7), payload: EntryPayload::Normal(command) })
    }

    fn bytes_of(record: &Record) -> Vec<u8> {
        let mut out = Vec::new();
        record.push(AT, &mut out).unwrap();
        out
    }

    #[test]
    fn golden_bytes() {
        let bytes = bytes_of(&entry());
        assert_eq!(&bytes[4..], [8, 0, 0, 0, 2, 1, 3, 7, 1, 3, b'a', b'b', b'c']);
        assert_eq!(bytes[..4], 0xf7bd_aa5c_u32.to_le_bytes());
    }

    #[test]
    fn every_kind_round_trips() {
        let log_id = LogId::new_term_index(5, 9);
        let vote = Vote { leader_id: leader(5, 2), committed: true };
        let state = State { vote: Some(vote), committed: Some(log_id), purged: None };
        for record in [
            Record::State(state),
            entry(),
            Record::Vote(vote),
            Record::Committed(None),
            Record::TruncateFrom(4),
            Record::PurgeUpto(log_id),
            Record::Roll,
        ] {
            let bytes = bytes_of(&record);
            assert_eq!(Record::read(AT, &bytes).unwrap(), Some((record, bytes.len())));
        }
    }

    fn leader(term: u64, node: u64) -> openraft::impls::leader_id_std::LeaderId<u64, u64> {
        openraft::vote::RaftLeaderId::new(term, node)
    }

    #[test]
    fn a_changed_bit_a_cut_or_another_place_is_not_a_record() {
        let bytes = bytes_of(&entry());
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Record::read(AT, &changed).unwrap(), None, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(Record::read(AT, &bytes[..len]).unwrap(), None, "cut at {len}");
        }
        assert_eq!(Record::read(Position { segment: 3, ..AT }, &bytes).unwrap(), None);
        assert_eq!(Record::read(AT, &[0; 64]).unwrap(), None);
    }

    #[test]
    fn what_another_build_wrote_whole_is_no_torn_record() {
        let whole = |kind: u8, version: u8| {
            let mut bytes = bytes_of(&entry());
            bytes[8] = kind;
            bytes[HEADER_BYTES] = version;
            let crc = checksum(AT, &bytes[4..]);
            bytes[..4].copy_from_slice(&crc.to_le_bytes());
            Record::read(AT, &bytes)
        };
        assert!(whole(2, 1).unwrap().is_some());
        assert!(matches!(whole(2, 9), Err(CodecError::Version(9))));
        assert!(matches!(whole(200, 1), Err(CodecError::Kind(200))));
    }
}
