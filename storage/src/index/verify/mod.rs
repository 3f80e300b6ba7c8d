//! Compares the indexes with the rows they index: every missing, foreign or altered entry.

mod hashes;
mod lists;

use super::block::Block;
use super::events::clip;
use super::keys::{self, TABLES, Table};
use super::list::RunList;
use super::record::{Run, Summary};
use super::{Index, RowKeys, column};
use crate::error::StoreError;
use crate::keys::CF_INDEX;
use lists::BlockLists;
use rocksdb::{ColumnFamily, DB, SnapshotWithThreadMode};
use std::iter::Peekable;
use std::ops::Range;
use std::sync::Arc;

/// A place where an index does not agree with the rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexFault {
    /// The row concerned, or the rows if it is not known which of them.
    pub ordinals: Range<u64>,
    /// The indexed field, as in `cdrId`.
    pub index: &'static str,
    /// What does not fit, with the place in the index.
    pub why: String,
}

/// Faults that are reported at most; more of them say nothing new.
const MAX_FAULTS: usize = 1000;

/// The faults found so far.
struct Faults(Vec<IndexFault>);

impl Faults {
    fn push(&mut self, ordinals: Range<u64>, index: &'static str, why: impl Into<String>) {
        if self.0.len() < MAX_FAULTS {
            self.0.push(IndexFault { ordinals, index, why: why.into() });
        }
    }

    fn row(&mut self, ordinal: u64, index: &'static str, why: impl Into<String>) {
        self.push(ordinal..ordinal + 1, index, why);
    }
}

/// What is compared: one consistent state of the indexes, and the rows that are verified.
struct Comparison<'a> {
    index: &'a Index,
    column: &'a ColumnFamily,
    list: Arc<RunList>,
    snapshot: SnapshotWithThreadMode<'a, DB>,
    tail: Vec<Arc<Block>>,
    ordinals: Range<u64>,
}

/// What the rows of one run must have led to.
struct Expected {
    /// Entries of every table, in no order.
    entries: [Vec<u64>; TABLES],
    summary: Summary,
}

impl Index {
    /// Compares the entries of rows `ordinals` with the rows themselves, which `rows` yields in order (a row
    /// that is left out is taken as not existing). Returns at most 1,000 faults, ascending by row.
    ///
    /// Besides the rows' own entries, those of all rows in the same runs are read, and memory holds about 50
    /// bytes for each of `ordinals`: ranges of half a million to some million rows suit best.
    ///
    /// # Errors
    /// If the column family is missing. Values that can't be read are faults, not errors.
    pub fn verify(
        &self,
        ordinals: Range<u64>,
        rows: impl IntoIterator<Item = RowKeys>,
    ) -> Result<Vec<IndexFault>, StoreError> {
        let comparison = self.comparison(ordinals)?;
        let mut faults = Faults(Vec::new());
        comparison.run(&mut rows.into_iter().peekable(), &mut faults);
        let mut faults = faults.0;
        faults.sort_by_key(|fault| (fault.ordinals.start, fault.index));
        Ok(faults)
    }

    fn comparison(&self, ordinals: Range<u64>) -> Result<Comparison<'_>, StoreError> {
        let column = column(&self.db, CF_INDEX)?;
        let shared = self.shared();
        let mut tail = shared.full.clone();
        if ordinals.end > shared.open.first {
            tail.push(Arc::new(shared.open.clone()));
        }
        let (list, snapshot) = (Arc::clone(&shared.list), self.db.snapshot());
        Ok(Comparison { index: self, column, list, snapshot, tail, ordinals })
    }
}

impl Comparison<'_> {
    fn run(&self, rows: &mut Peekable<impl Iterator<Item = RowKeys>>, faults: &mut Faults) {
        let kept = clip(&(self.list.first..self.list.next), &self.ordinals);
        while rows.next_if(|row| row.ordinal < self.list.first.max(self.ordinals.start)).is_some() {}
        let mut lists = Vec::new();
        for run in self.list.meeting(&kept) {
            let expected = self.expect_run(run, rows, &mut lists);
            self.check_summary(run, &expected.summary, faults);
            self.check_tables(run, expected.entries, faults);
        }
        self.check_lists(lists, faults);
        self.check_tail(rows, faults);
    }

    fn expect_run(
        &self,
        run: &Run,
        rows: &mut Peekable<impl Iterator<Item = RowKeys>>,
        lists: &mut Vec<BlockLists>,
    ) -> Expected {
        let geometry = self.index.geometry;
        let mut expected = Expected { entries: Default::default(), summary: Summary::EMPTY };
        let mut left = clip(&self.list.rows(run), &self.ordinals);
        while !left.is_empty() {
            let end = left.end.min(geometry.block_of(left.start) + geometry.block_rows());
            let block = self.expect_block(left.start..end, rows);
            for (table, entries) in Table::ALL.into_iter().zip(&mut expected.entries) {
                block.push_widened(table, run, entries);
            }
            expected.summary.join(&block.summary);
            lists.push(BlockLists::of(block, left.start..end));
            left.start = end;
        }
        expected
    }

    /// The block that the rows of `ordinals` make.
    fn expect_block(
        &self,
        ordinals: Range<u64>,
        rows: &mut Peekable<impl Iterator<Item = RowKeys>>,
    ) -> Block {
        let fingerprints = &self.index.fingerprints;
        let mut block = Block::new(self.index.geometry, ordinals.start);
        while let Some(row) = rows.next_if(|row| row.ordinal < ordinals.end) {
            if row.ordinal >= block.next {
                let message = row.message_id.map(|id| fingerprints.of(&id.0));
                block.add(&row, message, fingerprints);
            }
        }
        block
    }

    /// Compares what a run's record says of its rows; only all of its rows together decide everything.
    fn check_summary(&self, run: &Run, expected: &Summary, faults: &mut Faults) {
        let rows = self.list.rows(run);
        let looked_at = clip(&rows, &self.ordinals);
        let stored = &run.summary;
        let covers = stored.hours.covers(expected.hours)
            && stored.id_times.covers(expected.id_times)
            && stored.events.covers(expected.events);
        if !covers || looked_at == rows && stored != expected {
            let key = keys::describe(&keys::run(run.level, run.first));
            faults.push(looked_at, "runs", format!("the record of {key} does not fit its rows"));
        }
    }

    /// Compares the blocks in memory.
    fn check_tail(&self, rows: &mut Peekable<impl Iterator<Item = RowKeys>>, faults: &mut Faults) {
        for block in &self.tail {
            let ordinals = clip(&(block.first.max(self.list.next)..block.next), &self.ordinals);
            if ordinals.is_empty() {
                continue;
            }
            let expected = self.expect_block(ordinals.clone(), rows);
            let run = Run { level: 0, first: block.first, summary: block.summary };
            for table in Table::ALL {
                let mut stored = block.sorted(table);
                stored.retain(|entry| self.concerns(&run, *entry));
                self.check_entries(table, &run, &expected.sorted(table), &stored, faults);
            }
            self.check_lists_in_memory(block, &BlockLists::of(expected, ordinals), faults);
        }
    }
}
