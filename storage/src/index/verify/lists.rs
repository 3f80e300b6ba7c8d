//! Comparison of posting lists and event times, block by block.

use super::super::block::Block;
use super::super::keys::{self, PostingKind};
use super::super::posting::{Offsets, PostingSet};
use super::super::record::Span;
use super::super::zone;
use super::{Comparison, Faults};
use std::collections::BTreeSet;
use std::ops::Range;

/// What the rows of one block must have led to, apart from hash entries.
pub(super) struct BlockLists {
    first: u64,
    /// Rows that are verified.
    ordinals: Range<u64>,
    postings: [PostingSet; 2],
    zones: Vec<Span>,
}

impl BlockLists {
    /// Of the block that the rows `ordinals` made.
    pub fn of(block: Block, ordinals: Range<u64>) -> Self {
        Self { first: block.first, ordinals, postings: block.postings, zones: block.zones }
    }
}

impl Comparison<'_> {
    /// Compares the stored lists of consecutive blocks.
    pub(super) fn check_lists(&self, mut expected: Vec<BlockLists>, faults: &mut Faults) {
        for kind in PostingKind::ALL {
            self.check_stored_postings(kind, &mut expected, faults);
        }
        for block in &expected {
            for kind in PostingKind::ALL {
                for (name, list) in block.postings[kind as usize].iter() {
                    self.check_posting(kind, name, block, Some(list), None, faults);
                }
            }
            self.check_stored_zones(block, faults);
        }
    }

    /// Compares every stored list of the blocks and takes it out of what is expected.
    fn check_stored_postings(&self, kind: PostingKind, expected: &mut [BlockLists], faults: &mut Faults) {
        let (Some(first), Some(last)) = (expected.first(), expected.last()) else { return };
        let (first, last) = (first.first, last.first);
        let mut lists = self.snapshot.raw_iterator_cf(self.column);
        lists.seek([kind.tag()]);
        while let Some((key, value)) = lists.item().filter(|(key, _)| key.first() == Some(&kind.tag())) {
            let Some((name, block)) = keys::parse_posting(kind, key) else {
                faults.push(
                    self.ordinals.clone(),
                    kind.name(),
                    format!("{} is foreign", keys::describe(key)),
                );
                lists.next();
                continue;
            };
            if block < first {
                lists.seek(keys::posting(kind, name, first));
                continue;
            }
            if block > last {
                let Some(next) = name.checked_add(1) else { break };
                lists.seek(keys::posting(kind, next, 0));
                continue;
            }
            let at = ((block - first) / self.index.geometry.block_rows()) as usize;
            if let Some(lists) = expected.get_mut(at).filter(|lists| lists.first == block) {
                let list = lists.postings[kind as usize].remove(name);
                self.check_posting(kind, name, lists, list.as_deref(), Some(value), faults);
            } else {
                let why = format!("{} is of no block", keys::describe(key));
                faults.push(self.ordinals.clone(), kind.name(), why);
            }
            lists.next();
        }
        if let Err(error) = lists.status() {
            faults.push(self.ordinals.clone(), kind.name(), format!("the lists can't be read: {error}"));
        }
    }

    /// Compares one list of one block.
    fn check_posting(
        &self,
        kind: PostingKind,
        name: u64,
        block: &BlockLists,
        expected: Option<&[u8]>,
        stored: Option<&[u8]>,
        faults: &mut Faults,
    ) {
        if expected == stored {
            return;
        }
        let place = keys::describe(&keys::posting(kind, name, block.first));
        let (expected, _) = self.rows_of(block, expected);
        let (stored, damage) = self.rows_of(block, stored);
        if let Some(why) = damage {
            faults.push(block.ordinals.clone(), kind.name(), format!("{place}: {why}"));
        }
        for row in expected.difference(&stored) {
            faults.row(*row, kind.name(), format!("{place} does not name this row"));
        }
        for row in stored.difference(&expected) {
            faults.row(*row, kind.name(), format!("{place} names this row, which is another's"));
        }
    }

    /// The verified rows in a list, and what is wrong with its bytes.
    fn rows_of(&self, block: &BlockLists, list: Option<&[u8]>) -> (BTreeSet<u64>, Option<&'static str>) {
        let mut rows = BTreeSet::new();
        let Some(list) = list else { return (rows, None) };
        for offset in Offsets::new(list.to_vec(), self.index.geometry.block_rows()) {
            match offset {
                Ok(offset) => rows.insert(block.first + u64::from(offset)),
                Err(why) => return (rows, Some(why)),
            };
        }
        rows.retain(|row| block.ordinals.contains(row));
        (rows, None)
    }

    fn check_stored_zones(&self, expected: &BlockLists, faults: &mut Faults) {
        let key = keys::zones(expected.first);
        let zones = match self.snapshot.get_pinned_cf(self.column, key) {
            Ok(Some(value)) => zone::decode(&value, &key, self.index.geometry).map_err(|e| e.to_string()),
            Ok(None) => Err("it is missing".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        match zones {
            Ok(zones) => self.check_zones(expected, &zones, faults),
            Err(why) => {
                let why = format!("{}: {why}", keys::describe(&key));
                faults.push(expected.ordinals.clone(), "eventTimestamp", why);
            }
        }
    }

    /// Compares zones; of a zone that is verified in part, the stored span may be wider.
    fn check_zones(&self, expected: &BlockLists, stored: &[Span], faults: &mut Faults) {
        let rows = self.index.geometry.zone_rows();
        for (at, stored) in (0u64..).zip(stored) {
            let zone = expected.first + at * rows..expected.first + (at + 1) * rows;
            let span = expected.zones.get(at as usize).copied().unwrap_or(Span::EMPTY);
            let whole = expected.ordinals.start <= zone.start && zone.end <= expected.ordinals.end;
            if !stored.covers(span) || whole && *stored != span {
                let rows = zone.start.max(expected.ordinals.start)..zone.end.min(expected.ordinals.end);
                faults.push(rows, "eventTimestamp", "the least and greatest event time do not fit the rows");
            }
        }
    }

    /// Compares the lists of a block in memory.
    pub(super) fn check_lists_in_memory(&self, block: &Block, expected: &BlockLists, faults: &mut Faults) {
        for kind in PostingKind::ALL {
            let (expected_lists, lists) = (&expected.postings[kind as usize], &block.postings[kind as usize]);
            for (name, list) in expected_lists.iter() {
                self.check_posting(kind, name, expected, Some(list), lists.get(name), faults);
            }
            for (name, list) in lists.iter().filter(|(name, _)| expected_lists.get(*name).is_none()) {
                self.check_posting(kind, name, expected, None, Some(list), faults);
            }
        }
        self.check_zones(expected, &block.zones, faults);
    }
}
