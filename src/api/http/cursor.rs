//! Opaque cursors: the place behind which the next page begins (API contract, section 5).
//!
//! A cursor is the base64url text (no padding) of: version 2, list, hour `u32`, number `u64` (both big-endian), and the
//! first 16 bytes of an HMAC-SHA-256 over all that. Lists of things with an id of their own have its 16 bytes in place
//! of hour and number. The key follows from the secret that was drawn when the ledger began and that every replica has,
//! in no row: so a cursor is valid on any replica and after restarts, and can't be forged. A ledger that was
//! restored from its archive has a new secret: lists start over there.

use super::error::ApiError;
use super::input::Input;
use aws_lc_rs::{constant_time, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cdr_core::{CdrId, Hour, LedgerState};
use cdr_storage::Store;

const VERSION: u8 = 2;
/// What the key is for: the same secret keys the hashes of indexes.
const PURPOSE: &[u8] = b"cdr-mediation list cursor";
/// Bytes of the authentication code.
const TAG_BYTES: usize = 16;

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

/// The place behind which the caller wants the list to go on.
///
/// # Errors
/// 400 naming `cursor` for anything that [`next`] did not write for this list.
pub fn after(store: &Store, list: List, input: &Input) -> Result<Option<(Hour, u64)>, ApiError> {
    input.text("cursor").map(|text| Cursors::of(&store.state())?.decode(list, text)).transpose()
}

/// The thing behind which the caller wants the list to go on.
///
/// # Errors
/// 400 naming `cursor` for anything that [`next_id`] did not write for this list.
pub fn after_id(store: &Store, list: List, input: &Input) -> Result<Option<CdrId>, ApiError> {
    input.text("cursor").map(|text| Cursors::of(&store.state())?.decode_id(list, text)).transpose()
}

/// The cursor of the place behind which a list goes on, if it does.
///
/// # Errors
/// 503 if this replica has no ledger yet.
pub fn next(store: &Store, list: List, place: Option<(Hour, u64)>) -> Result<Option<String>, ApiError> {
    place.map(|place| Ok(Cursors::of(&store.state())?.encode(list, place))).transpose()
}

/// The cursor of the thing behind which a list goes on, if it does.
///
/// # Errors
/// 503 if this replica has no ledger yet.
pub fn next_id(store: &Store, list: List, id: Option<CdrId>) -> Result<Option<String>, ApiError> {
    id.map(|id| Ok(Cursors::of(&store.state())?.encode_id(list, id))).transpose()
}

/// Makes and checks the cursors of one ledger.
struct Cursors(hmac::Key);

impl Cursors {
    fn of(state: &LedgerState) -> Result<Self, ApiError> {
        let secret = state.cluster.as_ref().map(|cluster| cluster.hash_key);
        let secret = secret.ok_or_else(|| ApiError::Unavailable {
            dependency: "ledger",
            reason: "it has not begun on this replica".to_owned(),
        })?;
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), PURPOSE);
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())))
    }

    fn encode(&self, list: List, (hour, number): (Hour, u64)) -> String {
        self.write(list, &[&hour.0.to_be_bytes()[..], &number.to_be_bytes()].concat())
    }

    fn encode_id(&self, list: List, id: CdrId) -> String {
        self.write(list, &id.0)
    }

    fn decode(&self, list: List, cursor: &str) -> Result<(Hour, u64), ApiError> {
        let place: [u8; 12] = self.read(list, cursor).ok_or_else(foreign)?;
        let (hour, number) = place.split_at(4);
        let hour = hour.try_into().map(u32::from_be_bytes).map_err(ApiError::internal)?;
        let number = number.try_into().map(u64::from_be_bytes).map_err(ApiError::internal)?;
        Ok((Hour(hour), number))
    }

    fn decode_id(&self, list: List, cursor: &str) -> Result<CdrId, ApiError> {
        self.read(list, cursor).map(CdrId).ok_or_else(foreign)
    }

    fn write(&self, list: List, place: &[u8]) -> String {
        let mut bytes = vec![VERSION, list as u8];
        bytes.extend_from_slice(place);
        let tag = self.tag(&bytes);
        bytes.extend_from_slice(&tag);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn read<const N: usize>(&self, list: List, cursor: &str) -> Option<[u8; N]> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (content, tag) = bytes.split_last_chunk::<TAG_BYTES>()?;
        let place = content.strip_prefix(&[VERSION, list as u8])?;
        let is_ours = constant_time::verify_slices_are_equal(&self.tag(content), tag).is_ok();
        is_ours.then(|| place.try_into().ok())?
    }

    fn tag(&self, content: &[u8]) -> [u8; TAG_BYTES] {
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&hmac::sign(&self.0, content).as_ref()[..TAG_BYTES]);
        tag
    }
}

fn foreign() -> ApiError {
    ApiError::invalid(
        "cursor",
        "it is not a cursor of this list: pass nextCursor of the page before, unchanged",
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use cdr_core::command::ClockKind;
    use cdr_core::state::Cluster;

    fn cursors(secret: u8) -> Cursors {
        let cluster = Cluster {
            cluster_id: "c".to_owned(),
            generation: 1,
            zone: "UTC".to_owned(),
            clock: ClockKind::System,
            dedup_horizon_hours: 1,
            hash_key: [secret; 16],
        };
        Cursors::of(&LedgerState { cluster: Some(cluster), ..LedgerState::default() }).unwrap()
    }

    #[test]
    fn there_and_back_at_every_replica() {
        for place in [(Hour(0), 0), (Hour(u32::MAX), u64::MAX), (Hour(493_525), 8_421)] {
            let cursor = cursors(7).encode(List::Records, place);
            assert_eq!(cursors(7).decode(List::Records, &cursor), Ok(place));
        }
        assert!(matches!(Cursors::of(&LedgerState::default()), Err(ApiError::Unavailable { .. })));
    }

    #[test]
    fn what_is_no_cursor_of_the_list_is_refused() {
        let ours = cursors(7);
        let good = ours.encode(List::Records, (Hour(7), 9));
        let bytes = URL_SAFE_NO_PAD.decode(&good).unwrap();
        for at in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[at / 8] ^= 1 << (at % 8);
            let changed = URL_SAFE_NO_PAD.encode(changed);
            assert!(ours.decode(List::Records, &changed).is_err(), "bit {at}");
        }
        let checksum_alone = "AQH_____AAAAAAAAAAAVCHik";
        let elsewhere = cursors(8).encode(List::Records, (Hour(7), 9));
        for bad in ["", "x", "e30", &good[1..], &format!("{good}=="), checksum_alone, &elsewhere] {
            let error = ours.decode(List::Records, bad).unwrap_err();
            assert!(matches!(error, ApiError::Validation { field, .. } if field == "cursor"), "{bad}");
        }
        assert!(ours.decode(List::Rollups, &good).is_err());
        assert!(ours.decode_id(List::Records, &good).is_err());
    }

    #[test]
    fn ids_there_and_back() {
        let ours = cursors(7);
        for id in [CdrId([0; 16]), CdrId([0xff; 16]), CdrId::from_parts(1_776_690_000_123, [7; 10])] {
            let cursor = ours.encode_id(List::Exports, id);
            assert_eq!(ours.decode_id(List::Exports, &cursor), Ok(id));
            assert!(
                ours.decode_id(List::Quarantine, &cursor).is_err()
                    && ours.decode(List::Exports, &cursor).is_err()
            );
        }
    }
}
