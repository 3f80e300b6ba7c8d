//! Where hours begin: the translation between a row's ordinal and its place `(bucketHour, cdrSequence)`.

use cdr_core::{Hour, LedgerState};
use std::ops::Range;
use std::sync::Arc;

/// A sealed hour's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HourSpan {
    pub hour: Hour,
    pub first_ordinal: u64,
    pub rows: u64,
}

/// What is committed: the state, and where every sealed hour begins. Cheap to clone; never changes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Committed {
    pub state: Arc<LedgerState>,
    /// Sealed hours, ascending and without gaps.
    pub sealed: Arc<Vec<HourSpan>>,
}

impl Committed {
    /// The sealed or open hour `hour`.
    pub fn span(&self, hour: Hour) -> Option<HourSpan> {
        if self.is_open(hour) {
            return Some(self.open_span());
        }
        self.sealed.binary_search_by_key(&hour, |span| span.hour).ok().map(|at| self.sealed[at])
    }

    /// Ordinals of all rows in hours from `from` to `upto`, both inclusive and optional.
    pub fn ordinals_between(&self, from: Option<Hour>, upto: Option<Hour>) -> Range<u64> {
        let count = self.state.head.row_count;
        let start = from.map_or(0, |hour| self.first_ordinal_at(hour));
        let end = upto.map_or(count, |hour| self.first_ordinal_at(hour.next()));
        start.min(count)..end.min(count)
    }

    /// Ordinal of the first row in `hour` or later.
    fn first_ordinal_at(&self, hour: Hour) -> u64 {
        let at = self.sealed.partition_point(|span| span.hour < hour);
        match self.sealed.get(at) {
            Some(span) => span.first_ordinal,
            None if hour <= self.state.head.open_hour => self.open_span().first_ordinal,
            None => self.state.head.row_count,
        }
    }

    /// Ordinal of the first row behind the place `(hour, sequence)`.
    pub fn ordinal_after(&self, (hour, sequence): (Hour, u64)) -> u64 {
        let first = self.first_ordinal_at(hour);
        first.saturating_add(sequence).min(self.first_ordinal_at(hour.next()).max(first))
    }

    /// The place of a row.
    pub fn place_of(&self, ordinal: u64) -> Option<(Hour, u64)> {
        if ordinal >= self.state.head.row_count {
            return None;
        }
        let open = self.open_span();
        if ordinal >= open.first_ordinal {
            return Some((open.hour, ordinal - open.first_ordinal + 1));
        }
        // Empty hours share their first ordinal with the hour after: the last one that begins there has the row.
        let at = self.sealed.partition_point(|span| span.first_ordinal <= ordinal).checked_sub(1)?;
        let span = self.sealed[at];
        Some((span.hour, ordinal - span.first_ordinal + 1))
    }

    /// True if `hour` is the open one of a ledger that has begun.
    pub fn is_open(&self, hour: Hour) -> bool {
        self.state.cluster.is_some() && hour == self.state.head.open_hour
    }

    fn open_span(&self) -> HourSpan {
        let head = &self.state.head;
        HourSpan {
            hour: head.open_hour,
            first_ordinal: head.row_count - head.open_rows,
            rows: head.open_rows,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use cdr_core::command::ClockKind;
    use cdr_core::state::Cluster;

    /// Hours 10 (3 rows), 11 (none), 12 (2 rows), and 13 open with 4 rows.
    fn committed() -> Committed {
        let mut state = LedgerState {
            cluster: Some(Cluster {
                cluster_id: "c".to_owned(),
                generation: 1,
                zone: "UTC".to_owned(),
                clock: ClockKind::Replay,
                dedup_horizon_hours: 1,
                hash_key: [0; 16],
            }),
            ..LedgerState::default()
        };
        (state.head.open_hour, state.head.open_rows, state.head.row_count) = (Hour(13), 4, 9);
        let span = |hour, first_ordinal, rows| HourSpan { hour: Hour(hour), first_ordinal, rows };
        Committed {
            state: Arc::new(state),
            sealed: Arc::new(vec![span(10, 0, 3), span(11, 3, 0), span(12, 3, 2)]),
        }
    }

    #[test]
    fn every_ordinal_has_its_place_and_back() {
        let committed = committed();
        let places: Vec<(Hour, u64)> = (0..9).map(|ordinal| committed.place_of(ordinal).unwrap()).collect();
        let expected = [(10, 1), (10, 2), (10, 3), (12, 1), (12, 2), (13, 1), (13, 2), (13, 3), (13, 4)];
        assert_eq!(places, expected.map(|(hour, sequence)| (Hour(hour), sequence)));
        assert_eq!(committed.place_of(9), None);
        for (ordinal, place) in places.into_iter().enumerate() {
            assert_eq!(committed.ordinal_after(place), ordinal as u64 + 1);
        }
    }

    #[test]
    fn ranges_of_hours() {
        let committed = committed();
        assert_eq!(committed.span(Hour(12)).map(|span| (span.first_ordinal, span.rows)), Some((3, 2)));
        assert_eq!(committed.span(Hour(13)).map(|span| (span.first_ordinal, span.rows)), Some((5, 4)));
        assert!(committed.span(Hour(9)).is_none() && committed.span(Hour(14)).is_none());
        assert_eq!(committed.ordinals_between(None, None), 0..9);
        assert_eq!(committed.ordinals_between(Some(Hour(11)), Some(Hour(12))), 3..5);
        assert_eq!(committed.ordinals_between(Some(Hour(13)), Some(Hour(99))), 5..9);
        assert_eq!(committed.ordinals_between(Some(Hour(14)), None), 9..9);
        assert_eq!(committed.ordinal_after((Hour(10), 99)), 3);
        assert_eq!(committed.ordinal_after((Hour(9), 99)), 0);
        assert_eq!(committed.ordinal_after((Hour(20), 0)), 9);
    }
}
