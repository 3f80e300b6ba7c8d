//! Ids of events: UUIDv8 (RFC 9562), derived from the place of their cause in the log.
//!
//! | bits | hold |
//! |---|---|
//! | 48 (`custom_a`) | Raft index of the entry that caused the event |
//! | 4 | version 8 |
//! | 12 (`custom_b`) | upper bits of the event's ordinal within that entry |
//! | 2 | variant |
//! | 8 | lower bits of the ordinal |
//! | 54 | of `SHA-256(clusterId ‖ 0 ‖ generation ‖ index ‖ ordinal)`, numbers big-endian in 8, 8 and 4 bytes |
//!
//! So any replica derives the same id, ids ascend with their causes, and an id says where a feed is to be resumed.

use cdr_core::Uuid;
use cdr_core::hash::sha256_concat;
use std::fmt;

/// First Raft index that an id can't hold.
pub const MAX_INDEX: u64 = 1 << 48;
/// First ordinal that an id can't hold.
pub const MAX_ORDINAL: u32 = 1 << 20;

/// Id of an event. Its order is that of the causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(Uuid);

/// Derives the ids of one cluster's generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventIds {
    /// `clusterId ‖ 0 ‖ generation`.
    name: Vec<u8>,
}

impl EventIds {
    /// The ids of a cluster in one generation; every restore begins another.
    pub fn new(cluster_id: &str, generation: u64) -> Self {
        Self { name: [cluster_id.as_bytes(), &[0], &generation.to_be_bytes()].concat() }
    }

    /// Id of the event number `ordinal` (from 0) of the log entry `index`; `None` from [`MAX_INDEX`] or
    /// [`MAX_ORDINAL`] on.
    pub fn id(&self, index: u64, ordinal: u32) -> Option<EventId> {
        if index >= MAX_INDEX || ordinal >= MAX_ORDINAL {
            return None;
        }
        let digest = sha256_concat(&[&self.name, &index.to_be_bytes(), &ordinal.to_be_bytes()]);
        let low = (ordinal & 0xff) as u8;
        let mut bits = [0; 16];
        bits[..6].copy_from_slice(&index.to_be_bytes()[2..]);
        bits[6] = 0x80 | (ordinal >> 16) as u8;
        bits[7] = (ordinal >> 8 & 0xff) as u8;
        bits[8] = 0x80 | low >> 2;
        bits[9] = low << 6 | digest[0] & 0x3f;
        bits[10..].copy_from_slice(&digest[1..7]);
        Some(EventId(Uuid(bits)))
    }

    /// True if `id` was derived for this cluster and generation.
    pub fn owns(&self, id: EventId) -> bool {
        let (index, ordinal) = id.place();
        self.id(index, ordinal) == Some(id)
    }
}

impl EventId {
    /// Raft index of the entry that caused the event, and the event's ordinal within it.
    pub fn place(self) -> (u64, u32) {
        let bits = &self.0.0;
        let index = bits[..6].iter().fold(0, |index, &byte| index << 8 | u64::from(byte));
        let high = u32::from(bits[6] & 0x0f) << 16 | u32::from(bits[7]) << 8;
        let low = u32::from(bits[8] & 0x3f) << 2 | u32::from(bits[9] >> 6);
        (index, high | low)
    }

    /// Parses the text of an id; `None` for anything that is not a UUIDv8.
    pub fn parse(text: &str) -> Option<Self> {
        let uuid = Uuid::parse_any_case(text)?;
        (uuid.0[6] >> 4 == 8 && uuid.0[8] >> 6 == 2).then_some(Self(uuid))
    }

    /// The UUID.
    pub fn uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn golden_ids() {
        for (cluster, generation, index, ordinal, text) in [
            ("dev", 1, 0, 0, "00000000-0000-8000-8012-0899d0d8bec6"),
            ("dev", 1, 1, 0, "00000000-0001-8000-803d-e38fe81b2f6d"),
            ("dev", 2, 1, 0, "00000000-0001-8000-8034-5e92ad069f5a"),
            ("afg-prod", 1, 0x1234_5678_9abc, 0xf_edcb, "12345678-9abc-8fed-b2dc-8537ab557a93"),
            ("dev", 1, MAX_INDEX - 1, MAX_ORDINAL - 1, "ffffffff-ffff-8fff-bfef-e06a414341dc"),
        ] {
            let id = EventIds::new(cluster, generation).id(index, ordinal).unwrap();
            assert_eq!(id.to_string(), text);
            assert_eq!(EventId::parse(text), Some(id));
        }
    }

    #[test]
    fn what_does_not_fit_has_no_id() {
        let ids = EventIds::new("dev", 1);
        assert_eq!(ids.id(MAX_INDEX, 0), None);
        assert_eq!(ids.id(0, MAX_ORDINAL), None);
        assert_eq!(EventId::parse("00000000-0001-7000-8000-000000000000"), None, "version 7");
        assert_eq!(EventId::parse("00000000-0001-8000-c000-000000000000"), None, "another variant");
        assert_eq!(EventId::parse("last"), None);
    }

    proptest! {
        #[test]
        fn an_id_gives_its_place_and_the_order_of_places(
            a in (0..MAX_INDEX, 0..MAX_ORDINAL),
            b in (0..MAX_INDEX, 0..MAX_ORDINAL),
        ) {
            let ids = EventIds::new("dev", 7);
            let (first, second) = (ids.id(a.0, a.1).unwrap(), ids.id(b.0, b.1).unwrap());
            prop_assert_eq!(first.place(), a);
            prop_assert_eq!(first.cmp(&second), a.cmp(&b));
            prop_assert_eq!(first.to_string().cmp(&second.to_string()), a.cmp(&b));
            prop_assert!(ids.owns(first));
            prop_assert!(!EventIds::new("dev", 8).owns(first));
            prop_assert!(!EventIds::new("de", 7).owns(first));
        }
    }
}
