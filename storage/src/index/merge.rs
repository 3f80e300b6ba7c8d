//! Merges runs chunk by chunk: memory holds one chunk of every source and one of the result.

use super::geometry::{Geometry, partition, partition_bits, widen};
use super::keys::{self, Table};
use super::record::{Run, Summary};
use super::worker::write;
use super::{chunk, column, damaged};
use crate::error::{StoreError, database};
use crate::keys::CF_INDEX;
use rocksdb::{ColumnFamily, DB, WriteBatch};
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes after which the merged chunks are written.
const BATCH_BYTES: usize = 256 << 10;

/// Writes the run that `sources` make together; none if `stop` was set meanwhile. The result depends on the
/// sources alone, so a merge that a crash cut short is simply done again.
pub(super) fn merge(
    db: &DB,
    geometry: Geometry,
    sources: &[Run],
    stop: &AtomicBool,
) -> Result<Option<Run>, StoreError> {
    let Some(first) = sources.first() else { return Ok(None) };
    let mut merged = Run { level: first.level + 1, first: first.first, summary: Summary::EMPTY };
    for source in sources {
        merged.summary.join(&source.summary);
    }
    for table in Table::ALL {
        let mut merge = TableMerge::new(db, geometry, table, merged, sources)?;
        if !merge.run(stop)? {
            return Ok(None);
        }
    }
    Ok(Some(merged))
}

struct TableMerge<'a> {
    db: &'a DB,
    index: &'a ColumnFamily,
    table: Table,
    merged: Run,
    sources: Vec<Source<'a>>,
    batch: WriteBatch,
}

impl<'a> TableMerge<'a> {
    fn new(
        db: &'a DB,
        geometry: Geometry,
        table: Table,
        merged: Run,
        sources: &[Run],
    ) -> Result<Self, StoreError> {
        let index = column(db, CF_INDEX)?;
        let open = |run: &Run| {
            let partition_bits = run.partition_bits(table)?;
            let shift = run.first - merged.first;
            let bits = (geometry.bits(run.level), geometry.bits(merged.level));
            let (entries, at) = (Vec::new(), 0);
            Some(Source {
                db,
                index,
                table,
                run: *run,
                partition_bits,
                shift,
                bits,
                next: 0,
                entries,
                at,
                taken: 0,
            })
        };
        let sources = sources.iter().filter_map(open).collect();
        Ok(Self { db, index, table, merged, sources, batch: WriteBatch::default() })
    }

    fn run(&mut self, stop: &AtomicBool) -> Result<bool, StoreError> {
        let count = self.merged.summary.counts[self.table as usize];
        if count == 0 {
            return Ok(true);
        }
        let bits = partition_bits(count);
        let (mut entries, mut value) = (Vec::new(), Vec::new());
        for number in 0..1u32 << bits {
            entries.clear();
            for source in &mut self.sources {
                source.take_chunk(bits, number, &mut entries)?;
            }
            entries.sort_unstable();
            chunk::encode(&entries, &mut value);
            self.batch.put_cf(
                self.index,
                keys::chunk(self.table, self.merged.level, self.merged.first, number),
                &value,
            );
            if self.batch.size_in_bytes() >= BATCH_BYTES {
                self.flush()?;
                if stop.load(Ordering::Relaxed) {
                    return Ok(false);
                }
            }
        }
        self.flush()?;
        self.sources.iter().try_for_each(Source::check_count)?;
        Ok(true)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        write(self.db, std::mem::take(&mut self.batch))
    }
}

/// A source's entries in ascending order, as entries of the merged run.
struct Source<'a> {
    db: &'a DB,
    index: &'a ColumnFamily,
    table: Table,
    run: Run,
    partition_bits: u32,
    /// Rows between the first of the merged run and the first of this one.
    shift: u64,
    /// Bits of an entry's offset: here, and in the merged run.
    bits: (u32, u32),
    /// Chunk that is read next.
    next: u32,
    entries: Vec<u64>,
    at: usize,
    taken: u64,
}

impl Source<'_> {
    /// Appends all entries that belong into a chunk of the merged run.
    fn take_chunk(&mut self, bits: u32, number: u32, out: &mut Vec<u64>) -> Result<(), StoreError> {
        loop {
            while let Some(&entry) = self.entries.get(self.at) {
                if partition(entry, bits) != number {
                    return Ok(());
                }
                out.push(entry);
                self.at += 1;
                self.taken += 1;
            }
            if self.next == 1 << self.partition_bits {
                return Ok(());
            }
            self.read_next()?;
        }
    }

    fn read_next(&mut self) -> Result<(), StoreError> {
        let key = keys::chunk(self.table, self.run.level, self.run.first, self.next);
        let value =
            self.db.get_pinned_cf(self.index, key).map_err(database("reading index runs to merge"))?;
        let stored = chunk::checked(value.as_deref(), &key, self.partition_bits, self.next)?;
        let (bits, to_bits) = self.bits;
        self.entries.clear();
        self.entries.extend(stored.iter().map(|e| widen(u64::from_le_bytes(*e), bits, self.shift, to_bits)));
        (self.at, self.next) = (0, self.next + 1);
        Ok(())
    }

    fn check_count(&self) -> Result<(), StoreError> {
        let expected = self.run.summary.counts[self.table as usize];
        if self.taken == expected {
            return Ok(());
        }
        let why = format!("{} has {} entries in it, not {expected}", self.table.name(), self.taken);
        Err(damaged(&keys::run(self.run.level, self.run.first), why))
    }
}
