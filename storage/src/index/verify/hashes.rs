//! Comparison of hash indexes: all chunks of a run against the sorted entries that its rows must have.

use super::super::chunk;
use super::super::events::clip;
use super::super::geometry::{mask, offset, partition};
use super::super::keys::{self, TABLES, Table};
use super::super::record::Run;
use super::{Comparison, Faults};
use crate::error::database;
use rocksdb::{DBRawIteratorWithThreadMode, ReadOptions};
use std::cmp::Ordering;

impl Comparison<'_> {
    /// Compares a run's tables; the expected entries are in no order.
    pub(super) fn check_tables(&self, run: &Run, expected: [Vec<u64>; TABLES], faults: &mut Faults) {
        for (table, mut expected) in Table::ALL.into_iter().zip(expected) {
            expected.sort_unstable();
            match run.partition_bits(table) {
                Some(bits) => self.check_table(run, table, bits, &expected, faults),
                None => self.check_entries(table, run, &expected, &[], faults),
            }
        }
    }

    fn check_table(
        &self,
        run: &Run,
        table: Table,
        partition_bits: u32,
        expected: &[u64],
        faults: &mut Faults,
    ) {
        let mut chunks = Chunks::new(self, run, table);
        let mut stored = Vec::new();
        let mut rest = expected;
        for number in 0..1u32 << partition_bits {
            let length = rest.partition_point(|e| partition(*e, partition_bits) == number);
            let (expected, after) = rest.split_at(length);
            rest = after;
            match chunks.read(number, |value| self.select(run, value, &mut stored)) {
                Ok(()) => self.check_entries(table, run, expected, &stored, faults),
                Err(why) => self.unreadable(table, run, number, expected, &why, faults),
            }
        }
        if chunks.has_more() {
            let rows = clip(&self.list.rows(run), &self.ordinals);
            let key = keys::chunk(table, run.level, run.first, 1 << partition_bits);
            faults.push(rows, table.name(), format!("{} or a later one is too many", keys::describe(&key)));
        }
    }

    /// Puts the entries that concern the verified rows into `out`, ascending.
    fn select(&self, run: &Run, value: &[u8], out: &mut Vec<u64>) -> Result<(), &'static str> {
        out.clear();
        let entries = chunk::entries(value)?;
        out.extend(entries.iter().map(|e| u64::from_le_bytes(*e)).filter(|e| self.concerns(run, *e)));
        if !out.is_sorted() {
            out.sort_unstable();
        }
        Ok(())
    }

    /// True if an entry is of a row that is verified.
    pub(super) fn concerns(&self, run: &Run, entry: u64) -> bool {
        self.ordinals.contains(&(run.first + offset(entry, self.index.geometry.bits(run.level))))
    }

    /// Compares ascending entries of a part of a table.
    pub(super) fn check_entries(
        &self,
        table: Table,
        run: &Run,
        expected: &[u64],
        stored: &[u64],
        faults: &mut Faults,
    ) {
        if expected == stored {
            return;
        }
        let bits = self.index.geometry.bits(run.level);
        let (mut expected, mut stored) = (expected.iter().peekable(), stored.iter().peekable());
        loop {
            let order = match (expected.peek(), stored.peek()) {
                (None, None) => return,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(e), Some(s)) => e.cmp(s),
            };
            let missing = if order == Ordering::Greater { None } else { expected.next() };
            let found = if order == Ordering::Less { None } else { stored.next() };
            let (entry, why) = match (missing, found) {
                (Some(entry), None) => (*entry, "has no entry of this row"),
                (None, Some(entry)) => (*entry, "has an entry of this row that the row does not give"),
                _ => continue,
            };
            let place = format!("run {} (level {}), key {:x}", run.first, run.level, entry & !mask(bits));
            faults.row(run.first + offset(entry, bits), table.name(), format!("{place} {why}"));
        }
    }

    /// Every row with an entry in a chunk that can't be read.
    fn unreadable(
        &self,
        table: Table,
        run: &Run,
        number: u32,
        expected: &[u64],
        why: &str,
        faults: &mut Faults,
    ) {
        let key = keys::chunk(table, run.level, run.first, number);
        let why = format!("{} can't be read: {why}", keys::describe(&key));
        if expected.is_empty() {
            faults.push(clip(&self.list.rows(run), &self.ordinals), table.name(), why);
            return;
        }
        for entry in expected {
            let ordinal = run.first + offset(*entry, self.index.geometry.bits(run.level));
            faults.row(ordinal, table.name(), why.clone());
        }
    }
}

/// A run's chunks in order. After a block that can't be read, the chunks are read one by one, so that one
/// damaged block hides no other.
struct Chunks<'a, 'b> {
    comparison: &'a Comparison<'b>,
    run: &'a Run,
    table: Table,
    scan: DBRawIteratorWithThreadMode<'a, rocksdb::DB>,
    scanning: bool,
}

impl<'a, 'b> Chunks<'a, 'b> {
    fn new(comparison: &'a Comparison<'b>, run: &'a Run, table: Table) -> Self {
        let mut options = ReadOptions::default();
        // A whole run passes by once: it must not push what queries need out of the cache.
        options.fill_cache(false);
        options.set_iterate_upper_bound(keys::chunk(table, run.level, run.first, u32::MAX));
        let mut scan = comparison.snapshot.raw_iterator_cf_opt(comparison.column, options);
        scan.seek(keys::chunk(table, run.level, run.first, 0));
        Self { comparison, run, table, scan, scanning: true }
    }

    fn read(
        &mut self,
        number: u32,
        mut each: impl FnMut(&[u8]) -> Result<(), &'static str>,
    ) -> Result<(), String> {
        let key = keys::chunk(self.table, self.run.level, self.run.first, number);
        if self.scanning {
            if self.scan.key() != Some(&key) {
                self.scan.seek(key);
            }
            if let Some((found, value)) = self.scan.item()
                && found == key
            {
                let outcome = each(value);
                self.scan.next();
                return outcome.map_err(str::to_owned);
            }
            self.scanning = self.scan.status().is_ok();
        }
        let value = self.comparison.snapshot.get_pinned_cf(self.comparison.column, key);
        match value.map_err(|error| database("reading it")(error).to_string())? {
            Some(value) => each(&value).map_err(str::to_owned),
            None => Err("it is missing".to_owned()),
        }
    }

    /// True if there are chunks after those that were read.
    fn has_more(&self) -> bool {
        self.scanning && self.scan.valid()
    }
}
