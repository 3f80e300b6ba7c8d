//! Many look-ups at once: every chunk of a run is read once, in the order of the keys, for all that it may answer.

use super::fingerprint::Fingerprints;
use super::geometry::partition;
use super::keys::Table;
use super::record::Run;
use super::{Index, Lookup, chunk, column};
use crate::error::{StoreError, database};
use crate::keys::CF_INDEX;
use cdr_core::Uuid;
use rocksdb::{ColumnFamily, DB, SnapshotWithThreadMode};
use std::ops::Range;

/// Look-ups in memory before writers get their turn.
const AT_ONCE: usize = 512;

/// A row that may be of a message: its ordinal, and which of the requested messages.
pub type Match = (u64, usize);

/// Fingerprint of a message that is looked up, and which it is.
type Wanted = (u64, usize);

impl Index {
    /// Rows of `ordinals` that may be of one of these messages, ascending. The caller looks at each row, as after
    /// [`Index::candidates`].
    ///
    /// # Errors
    /// If a run can't be read.
    pub fn rows_of_messages(
        &self,
        messages: &[Uuid],
        ordinals: Range<u64>,
    ) -> Result<Vec<Match>, StoreError> {
        let wanted = wanted(&self.fingerprints, messages);
        let column = column(&self.db, CF_INDEX)?;
        let mut found: Vec<Match> = Vec::with_capacity(2 * messages.len());
        // Before the list of runs is taken: what leaves memory meanwhile is in it.
        for some in wanted.chunks(AT_ONCE) {
            self.find_in_memory(some, &mut found);
        }
        let shared = self.shared();
        let runs = shared.list.meeting(&ordinals).to_vec();
        // Together with the list, under its lock: a run of this list can't be gone from this snapshot.
        let snapshot = (!runs.is_empty()).then(|| self.db.snapshot());
        drop(shared);
        for run in &runs {
            if let Some(snapshot) = &snapshot {
                self.find_in_run(snapshot, column, run, &wanted, &mut found)?;
            }
        }
        found.retain(|(ordinal, _)| ordinals.contains(ordinal));
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    fn find_in_memory(&self, wanted: &[Wanted], found: &mut Vec<Match>) {
        let (shared, mut ordinals) = (self.shared(), Vec::new());
        for block in shared.full.iter().map(AsRef::as_ref).chain([&shared.open]) {
            for (fingerprint, at) in wanted {
                ordinals.clear();
                block.find(Table::Message, *fingerprint, &mut ordinals);
                found.extend(ordinals.iter().map(|ordinal| (*ordinal, *at)));
            }
        }
    }

    fn find_in_run(
        &self,
        snapshot: &SnapshotWithThreadMode<'_, DB>,
        column: &ColumnFamily,
        run: &Run,
        mut wanted: &[Wanted],
        found: &mut Vec<Match>,
    ) -> Result<(), StoreError> {
        let Some(partition_bits) = run.partition_bits(Table::Message) else { return Ok(()) };
        let (bits, mut ordinals) = (self.geometry.bits(run.level), Vec::new());
        while let Some((first, _)) = wanted.first() {
            let (key, number) = chunk::locate(Table::Message, run, partition_bits, *first);
            let value = snapshot.get_pinned_cf(column, key).map_err(database("looking into an index"))?;
            let entries = chunk::checked(value.as_deref(), &key, partition_bits, number)?;
            let (of_chunk, rest) = wanted.split_at(
                wanted.partition_point(|(fingerprint, _)| partition(*fingerprint, partition_bits) == number),
            );
            for (fingerprint, at) in of_chunk {
                ordinals.clear();
                chunk::find(entries, run, bits, *fingerprint, &mut ordinals);
                found.extend(ordinals.iter().map(|ordinal| (*ordinal, *at)));
            }
            wanted = rest;
        }
        Ok(())
    }
}

/// What is looked up, in the order in which it is stored.
fn wanted(fingerprints: &Fingerprints, messages: &[Uuid]) -> Vec<Wanted> {
    let fingerprint = |message: &Uuid| fingerprints.lookup(&Lookup::Message(*message)).1;
    let mut wanted: Vec<Wanted> =
        messages.iter().enumerate().map(|(at, message)| (fingerprint(message), at)).collect();
    wanted.sort_unstable();
    wanted
}
