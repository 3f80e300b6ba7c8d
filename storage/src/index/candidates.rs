//! Look-ups in the hash indexes.

use super::geometry::Geometry;
use super::keys::Table;
use super::record::Run;
use super::{Index, Lookup, chunk, column};
use crate::error::{StoreError, database};
use crate::keys::CF_INDEX;
use rocksdb::{ColumnFamily, DB, SnapshotWithThreadMode};
use std::ops::Range;

/// Ordinals of rows that may match a look-up, run by run; ends after the first error.
pub struct Candidates<'a> {
    geometry: Geometry,
    column: &'a ColumnFamily,
    snapshot: Option<SnapshotWithThreadMode<'a, DB>>,
    table: Table,
    fingerprint: u64,
    ordinals: Range<u64>,
    newest_first: bool,
    /// Runs still to be read; the last comes first.
    runs: Vec<Run>,
    /// Rows in memory that come after all runs.
    tail: Vec<u64>,
    found: std::vec::IntoIter<u64>,
}

impl Index {
    /// Rows of `ordinals` that may match, newest first or oldest first. The caller looks at each row: about
    /// one in 2^40 is a stranger.
    ///
    /// # Errors
    /// If the column family is missing; the iterator yields what fails later.
    pub fn candidates(
        &self,
        lookup: Lookup,
        ordinals: Range<u64>,
        newest_first: bool,
    ) -> Result<Candidates<'_>, StoreError> {
        let column = column(&self.db, CF_INDEX)?;
        let (table, fingerprint) = self.fingerprints.lookup(&lookup);
        let id_time = if let Lookup::CdrId(id) = lookup { Some(id.time_ms()) } else { None };
        let shared = self.shared();
        let mut tail = Vec::new();
        if ordinals.end > shared.list.next {
            let full = shared.full.iter().map(AsRef::as_ref);
            for block in full.chain([&shared.open]).rev() {
                block.find(table, fingerprint, &mut tail);
            }
        }
        let mut runs = shared.list.meeting(&ordinals).to_vec();
        runs.retain(|run| {
            run.partition_bits(table).is_some() && id_time.is_none_or(|at| run.summary.id_times.holds(at))
        });
        // Together with the list, under its lock: a run of this list can't be gone from this snapshot.
        let snapshot = (!runs.is_empty()).then(|| self.db.snapshot());
        drop(shared);
        tail.retain(|ordinal| ordinals.contains(ordinal));
        if !newest_first {
            tail.reverse();
            runs.reverse();
        }
        let found = if newest_first { std::mem::take(&mut tail) } else { Vec::new() }.into_iter();
        let geometry = self.geometry;
        Ok(Candidates {
            geometry,
            column,
            snapshot,
            table,
            fingerprint,
            ordinals,
            newest_first,
            runs,
            tail,
            found,
        })
    }
}

impl Candidates<'_> {
    fn read(&self, run: &Run) -> Result<Vec<u64>, StoreError> {
        let mut found = Vec::new();
        if let (Some(snapshot), Some(partition_bits)) = (&self.snapshot, run.partition_bits(self.table)) {
            let (key, number) = chunk::locate(self.table, run, partition_bits, self.fingerprint);
            let value =
                snapshot.get_pinned_cf(self.column, key).map_err(database("looking into an index"))?;
            let entries = chunk::checked(value.as_deref(), &key, partition_bits, number)?;
            let bits = self.geometry.bits(run.level);
            chunk::find(entries, run, bits, self.fingerprint, &mut found);
        }
        found.retain(|ordinal| self.ordinals.contains(ordinal));
        if !self.newest_first {
            found.reverse();
        }
        Ok(found)
    }
}

impl Iterator for Candidates<'_> {
    type Item = Result<u64, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(ordinal) = self.found.next() {
                return Some(Ok(ordinal));
            }
            if let Some(run) = self.runs.pop() {
                match self.read(&run) {
                    Ok(found) => self.found = found.into_iter(),
                    Err(error) => {
                        self.runs.clear();
                        self.tail.clear();
                        return Some(Err(error));
                    }
                }
            } else if self.tail.is_empty() {
                return None;
            } else {
                self.found = std::mem::take(&mut self.tail).into_iter();
            }
        }
    }
}
