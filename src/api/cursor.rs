//! Opaque cursors: the place behind which the next page begins (API contract, section 5).
//!
//! A cursor is the base64url text (no padding) of: version 1, list, hour `u32`, number `u64` (both big-endian), and
//! the CRC-32 of all that. Callers must not look inside; the checksum tells slips from cursors.

use super::error::ApiError;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cdr_core::Hour;

const VERSION: u8 = 1;
const CONTENT_BYTES: usize = 1 + 1 + 4 + 8;

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
    Reconciliation = 5,
}

/// The cursor of a place.
pub fn encode(list: List, (hour, number): (Hour, u64)) -> String {
    let mut bytes = vec![VERSION, list as u8];
    bytes.extend_from_slice(&hour.0.to_be_bytes());
    bytes.extend_from_slice(&number.to_be_bytes());
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_be_bytes());
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The place of a cursor.
///
/// # Errors
/// 400 naming `cursor` for anything that [`encode`] did not write for this list.
pub fn decode(list: List, cursor: &str) -> Result<(Hour, u64), ApiError> {
    read(list, cursor).ok_or_else(|| {
        ApiError::invalid(
            "cursor",
            "it is not a cursor of this list: pass nextCursor of the page before, unchanged",
        )
    })
}

fn read(list: List, cursor: &str) -> Option<(Hour, u64)> {
    let bytes: [u8; CONTENT_BYTES + 4] = URL_SAFE_NO_PAD.decode(cursor).ok()?.try_into().ok()?;
    let (content, crc) = bytes.split_at(CONTENT_BYTES);
    if crc32fast::hash(content).to_be_bytes() != crc || content[0] != VERSION || content[1] != list as u8 {
        return None;
    }
    let hour = u32::from_be_bytes(content[2..6].try_into().ok()?);
    let number = u64::from_be_bytes(content[6..14].try_into().ok()?);
    Some((Hour(hour), number))
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
    }
}
