//! Opaque cursors: the place behind which the next page begins (API contract, section 5).
//!
//! A cursor is the base64url text (no padding) of: version 1, list, hour `u32`, number `u64` (both big-endian), and
//! the CRC-32 of all that. Lists of things with an id of their own have its 16 bytes in place of hour and number.
//! Callers must not look inside; the checksum tells slips from cursors.

use super::error::ApiError;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cdr_core::{CdrId, Hour};

const VERSION: u8 = 1;

/// Which list a cursor belongs to; the number is never used again for another list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// Records: number is `cdrSequence`.
    Records = 1,
    /// Rollups: number is the position among the hour's operators, from 1.
    Rollups = 2,
    /// Adjustments: number is `cdrSequence`.
    Adjustments = 3,
    /// Audit rows: number is `cdrSequence`.
    Audit = 4,
    /// Reconciliation: number is the operator's in the registry.
    Reconciliation = 9,
    /// Settlement files, by id.
    Exports = 5,
    /// Settlement files of a recording entity, by id.
    ExportsOfEntity = 6,
    /// Quarantine entries, by id.
    Quarantine = 7,
    /// `delivery` rows of a file: number is `cdrSequence`.
    Deliveries = 8,
}

/// The cursor of a place.
pub fn encode(list: List, (hour, number): (Hour, u64)) -> String {
    write(list, &[&hour.0.to_be_bytes()[..], &number.to_be_bytes()].concat())
}

/// The cursor of a thing.
pub fn encode_id(list: List, id: CdrId) -> String {
    write(list, &id.0)
}

/// The place of a cursor.
///
/// # Errors
/// 400 naming `cursor` for anything that [`encode`] did not write for this list.
pub fn decode(list: List, cursor: &str) -> Result<(Hour, u64), ApiError> {
    let place: [u8; 12] = read(list, cursor).ok_or_else(foreign)?;
    let (hour, number) = place.split_at(4);
    let hour = hour.try_into().map(u32::from_be_bytes).map_err(ApiError::internal)?;
    let number = number.try_into().map(u64::from_be_bytes).map_err(ApiError::internal)?;
    Ok((Hour(hour), number))
}

/// The id of a cursor.
///
/// # Errors
/// 400 naming `cursor` for anything that [`encode_id`] did not write for this list.
pub fn decode_id(list: List, cursor: &str) -> Result<CdrId, ApiError> {
    read(list, cursor).map(CdrId).ok_or_else(foreign)
}

fn foreign() -> ApiError {
    ApiError::invalid(
        "cursor",
        "it is not a cursor of this list: pass nextCursor of the page before, unchanged",
    )
}

fn write(list: List, place: &[u8]) -> String {
    let mut bytes = vec![VERSION, list as u8];
    bytes.extend_from_slice(place);
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

fn read<const N: usize>(list: List, cursor: &str) -> Option<[u8; N]> {
    let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let (content, crc) = bytes.split_last_chunk::<4>()?;
    let place = content.strip_prefix(&[VERSION, list as u8])?;
    (crc32fast::hash(content).to_be_bytes() == *crc).then(|| place.try_into().ok())?
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for place in [(Hour(0), 0), (Hour(u32::MAX), u64::MAX), (Hour(493_525), 8_421)] {
            assert_eq!(decode(List::Records, &encode(List::Records, place)), Ok(place));
        }
    }

    #[test]
    fn what_is_no_cursor_of_the_list_is_refused() {
        let good = encode(List::Records, (Hour(7), 9));
        let mut changed = good.clone().into_bytes();
        changed[6] = if changed[6] == b'A' { b'B' } else { b'A' };
        for bad in ["", "x", "e30", &good[1..], &String::from_utf8(changed).unwrap(), &format!("{good}==")] {
            let error = decode(List::Records, bad).unwrap_err();
            assert!(matches!(error, ApiError::Validation { field, .. } if field == "cursor"), "{bad}");
        }
        assert!(decode(List::Rollups, &good).is_err());
        assert!(decode_id(List::Records, &good).is_err());
    }

    #[test]
    fn ids_there_and_back() {
        for id in [CdrId([0; 16]), CdrId([0xff; 16]), CdrId::from_parts(1_776_690_000_123, [7; 10])] {
            let cursor = encode_id(List::Exports, id);
            assert_eq!(decode_id(List::Exports, &cursor), Ok(id));
            assert!(decode_id(List::Quarantine, &cursor).is_err() && decode(List::Exports, &cursor).is_err());
        }
    }
}
