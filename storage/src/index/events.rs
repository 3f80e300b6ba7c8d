//! Where rows of a span of event time may be.

use super::geometry::Geometry;
use super::keys;
use super::record::Span;
use super::{Index, column, damaged, zone};
use crate::error::{StoreError, database};
use crate::keys::CF_INDEX;
use cdr_core::Millis;
use rocksdb::DBRawIterator;
use std::collections::VecDeque;
use std::ops::Range;

/// Ranges of ordinals that may hold events of a time span, ascending; ends after the first error.
pub struct EventRanges<'a> {
    geometry: Geometry,
    span: (i64, i64),
    ordinals: Range<u64>,
    stored: Option<DBRawIterator<'a>>,
    /// Rows of the runs that may hold such events.
    runs: VecDeque<Range<u64>>,
    ready: VecDeque<Range<u64>>,
    /// Ranges in memory, which come after those of all runs.
    tail: VecDeque<Range<u64>>,
}

impl Index {
    /// Parts of `ordinals` that may hold rows with an event at `from` or later and before `to`.
    ///
    /// # Errors
    /// If the column family is missing; the iterator yields what fails later.
    pub fn event_blocks(
        &self,
        from: Millis,
        to: Millis,
        ordinals: Range<u64>,
    ) -> Result<EventRanges<'_>, StoreError> {
        let span = (from.0, to.0);
        let column = column(&self.db, CF_INDEX)?;
        let shared = self.shared();
        let list = &shared.list;
        let runs: VecDeque<Range<u64>> = list
            .meeting(&ordinals)
            .iter()
            .filter(|run| run.summary.events.meets(span.0, span.1))
            .map(|run| clip(&list.rows(run), &ordinals))
            .collect();
        let stored = (!runs.is_empty()).then(|| self.db.raw_iterator_cf(column));
        let mut tail = VecDeque::new();
        let full = shared.full.iter().map(AsRef::as_ref);
        for block in full.chain([&shared.open]) {
            push_ranges(self.geometry, block.first, &block.zones, span, &ordinals, &mut tail);
        }
        drop(shared);
        Ok(EventRanges {
            geometry: self.geometry,
            span,
            ordinals,
            stored,
            runs,
            ready: VecDeque::new(),
            tail,
        })
    }
}

impl EventRanges<'_> {
    /// Reads the next block of the first run; false if no run is left.
    fn read_block(&mut self) -> Result<bool, StoreError> {
        let Some(stored) = &mut self.stored else { return Ok(false) };
        let Some(rows) = self.runs.front_mut() else { return Ok(false) };
        let block = self.geometry.block_of(rows.start);
        let key = keys::zones(block);
        if stored.key() != Some(&key) {
            stored.seek(key);
        }
        let value = match stored.item() {
            Some((found, value)) if found == key => value,
            _ => {
                stored.status().map_err(database("reading event times"))?;
                return Err(damaged(&key, "it is missing"));
            }
        };
        let zones = zone::decode(value, &key, self.geometry)?;
        push_ranges(self.geometry, block, &zones, self.span, &self.ordinals, &mut self.ready);
        stored.next();
        rows.start = block + self.geometry.block_rows();
        if rows.is_empty() {
            self.runs.pop_front();
        }
        Ok(true)
    }
}

impl Iterator for EventRanges<'_> {
    type Item = Result<Range<u64>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.ready.is_empty() {
            match self.read_block() {
                Ok(true) => {}
                Ok(false) => return self.tail.pop_front().map(Ok),
                Err(error) => {
                    (self.stored, self.tail) = (None, VecDeque::new());
                    return Some(Err(error));
                }
            }
        }
        self.ready.pop_front().map(Ok)
    }
}

/// Appends the zones of a block that may hold events of `span`, neighbours joined.
fn push_ranges(
    geometry: Geometry,
    block: u64,
    zones: &[Span],
    span: (i64, i64),
    ordinals: &Range<u64>,
    out: &mut VecDeque<Range<u64>>,
) {
    let rows = geometry.zone_rows();
    for (zone, _) in (0u64..).zip(zones).filter(|(_, zone)| zone.meets(span.0, span.1)) {
        let first = block + zone * rows;
        let range = clip(&(first..first + rows), ordinals);
        match out.back_mut() {
            _ if range.is_empty() => {}
            Some(last) if last.end == range.start => last.end = range.end,
            _ => out.push_back(range),
        }
    }
}

/// The common part of two ranges.
pub(super) fn clip(range: &Range<u64>, to: &Range<u64>) -> Range<u64> {
    range.start.max(to.start)..range.end.min(to.end)
}
