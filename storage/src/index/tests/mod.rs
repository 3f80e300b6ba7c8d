//! Indexes in a database of their own, against a plain list of rows.

#![allow(clippy::unwrap_used)]

mod concurrency;
mod damage;
mod history;

use super::{InBoth, Index, IndexOptions, Lookup, PostingKey, RowKeys};
use crate::error::StoreError;
use crate::keys::{CF_INDEX, CF_META};
use cdr_core::{CdrId, Hour, Millis, Uuid};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{DB, FlushOptions, Options, WriteBatch, WriteOptions};
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

const HASH_KEY: [u8; 16] = *b"a key for tests!";
/// Number of rows, in the batch of the rows, as the store keeps it.
const ROWS_KEY: &[u8] = b"rows";
/// Rows an hour.
const HOUR_ROWS: u64 = 40;

/// An index, and the rows that it should know.
struct Fixture {
    index: Index,
    db: Arc<DB>,
    _dir: TempDir,
    options: IndexOptions,
    rows: Vec<RowKeys>,
}

fn small(block_rows: u64, merge_fan_in: u64) -> IndexOptions {
    IndexOptions { block_rows, merge_fan_in, merge_levels: 2, dedup_filter_bytes: 16 << 10, dedup_slices: 4 }
}

fn open_db(path: &Path) -> Arc<DB> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_atomic_flush(true);
    Arc::new(DB::open_cf(&options, path, ["default", CF_INDEX, CF_META]).unwrap())
}

fn stored_rows(db: &DB) -> usize {
    let value = db.get_cf(db.cf_handle(CF_META).unwrap(), ROWS_KEY).unwrap();
    value.map_or(0, |value| u64::from_le_bytes(value.try_into().unwrap()) as usize)
}

/// Some row: ids from small pools, so that every list has several rows and merges meet equal keys.
fn row(ordinal: u64) -> RowKeys {
    let spread = ordinal.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let pick = |count: u64, salt: u32| spread.rotate_left(salt) % count;
    let id = |number: u64| {
        let mut bits = [0; 16];
        bits[8..].copy_from_slice(&number.to_be_bytes());
        bits
    };
    let system = pick(11, 5) == 0;
    let sms = !system;
    let adjustment = sms && ordinal > 0 && pick(7, 9) == 0;
    let mut number = [0; 32];
    number[0] = pick(20, 13) as u8;
    RowKeys {
        ordinal,
        cdr_id: cdr_id(ordinal),
        message_id: sms.then(|| Uuid(id(if adjustment { pick(ordinal, 3) } else { ordinal }))),
        original: sms && !adjustment,
        msisdn_to: sms.then_some(number),
        tenant: (sms && pick(5, 17) > 0).then(|| Uuid(id(pick(6, 21)))),
        operator: if system { 0 } else { 1 + pick(3, 25) as u16 },
        event_at: sms.then(|| Millis((ordinal * 1000 + pick(100_000, 29)) as i64)),
        adjustment_of: adjustment.then(|| cdr_id(pick(ordinal, 3))),
        kind: ordinal.is_multiple_of(11).then_some((ordinal % 3) as u8),
        bucket_hour: Hour((ordinal / HOUR_ROWS) as u32),
    }
}

fn cdr_id(ordinal: u64) -> CdrId {
    CdrId::from_parts(
        ordinal as i64 / 3 * 1000,
        [ordinal as u8, (ordinal >> 8) as u8, 1, 2, 3, 4, 5, 6, 7, 8],
    )
}

impl Fixture {
    fn new(options: IndexOptions) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::open(dir, options, Vec::new()).unwrap()
    }

    /// Opens what is stored in `dir`; rows that were not stored are lost.
    fn open(dir: TempDir, options: IndexOptions, mut rows: Vec<RowKeys>) -> Result<Self, StoreError> {
        let db = open_db(&dir.path().join("db"));
        rows.truncate(stored_rows(&db));
        let index = Index::open(Arc::clone(&db), HASH_KEY, options, rows.len() as u64)?;
        index.restore_filter(Hour(0))?;
        index.add_all(&rows[index.tail_from() as usize..])?;
        Ok(Self { index, db, _dir: dir, options, rows })
    }

    fn append(&mut self, count: u64) {
        let first = self.rows.len() as u64;
        let new: Vec<RowKeys> = (first..first + count).map(row).collect();
        self.index.add_all(&new).unwrap();
        self.rows.extend(new);
        self.commit().unwrap();
    }

    fn commit(&self) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        batch.put_cf(self.db.cf_handle(CF_META).unwrap(), ROWS_KEY, (self.rows.len() as u64).to_le_bytes());
        self.index.commit(&mut batch)?;
        let mut options = WriteOptions::default();
        options.disable_wal(true);
        self.db.write_opt(batch, &options).unwrap();
        self.index.committed();
        Ok(())
    }

    /// Commits until no merge is left to do.
    fn settle(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.index.merging() {
            assert!(Instant::now() < deadline, "merges do not end");
            self.commit().unwrap();
            std::thread::yield_now();
        }
    }

    fn flush(&self) {
        let columns: Vec<_> =
            [CF_INDEX, CF_META].iter().map(|name| self.db.cf_handle(name).unwrap()).collect();
        self.db.flush_cfs_opt(&columns, &FlushOptions::default()).unwrap();
    }

    /// What a crash right now would leave: everything until the last flush.
    fn crash(&self) -> Self {
        self.copy(u64::MAX)
    }

    /// What a crash right now would leave if everything until now had been flushed.
    fn fork(&self) -> Self {
        self.copy(0)
    }

    /// Opens a copy; memory is flushed first only if more than this is in the write-ahead log, which is off.
    fn copy(&self, log_size_for_flush: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = Checkpoint::new(&self.db).unwrap();
        checkpoint.create_checkpoint_with_log_size(dir.path().join("db"), log_size_for_flush).unwrap();
        Self::open(dir, self.options, self.rows.clone()).unwrap()
    }

    fn found(&self, lookup: Lookup, ordinals: Range<u64>, newest_first: bool) -> Vec<u64> {
        self.index.candidates(lookup, ordinals, newest_first).unwrap().map(Result::unwrap).collect()
    }

    /// Ordinals of `range` whose row fits.
    fn naive(&self, range: &Range<u64>, fits: impl Fn(&RowKeys) -> bool) -> Vec<u64> {
        self.rows
            .iter()
            .filter(|row| range.contains(&row.ordinal) && fits(row))
            .map(|row| row.ordinal)
            .collect()
    }

    fn all(&self) -> Range<u64> {
        self.index.first_ordinal()..self.rows.len() as u64
    }

    /// Compares everything that `range` of the rows leads to.
    fn check(&self, range: Range<u64>) {
        let range = range.start.max(self.index.first_ordinal())..range.end;
        let rows: Vec<&RowKeys> = self.rows.iter().filter(|row| range.contains(&row.ordinal)).collect();
        self.check_lookups(&range, &rows);
        self.check_postings(&range, &rows);
        self.check_events(&range);
        assert_eq!(self.faults(range), Vec::new());
        let ids: Vec<Uuid> =
            rows.iter().filter(|row| row.original).filter_map(|row| row.message_id).collect();
        assert!(self.index.maybe_seen(&ids).into_iter().all(|seen| seen));
    }

    fn check_lookups(&self, range: &Range<u64>, rows: &[&RowKeys]) {
        let strange =
            [Lookup::Message(Uuid([9; 16])), Lookup::CdrId(CdrId([9; 16])), Lookup::MsisdnTo([9; 32])];
        for lookup in strange {
            assert_eq!(self.found(lookup, range.clone(), true), Vec::<u64>::new());
        }
        let ids: BTreeSet<CdrId> = rows.iter().map(|row| row.cdr_id).collect();
        for id in ids {
            self.check_lookup(Lookup::CdrId(id), range, |row| row.cdr_id == id);
            self.check_lookup(Lookup::AdjustmentOf(id), range, |row| row.adjustment_of == Some(id));
        }
        let messages: BTreeSet<Uuid> = rows.iter().filter_map(|row| row.message_id).collect();
        for id in &messages {
            self.check_lookup(Lookup::Message(*id), range, |row| row.message_id == Some(*id));
        }
        self.check_messages(&messages, range);
        let numbers: BTreeSet<[u8; 32]> = rows.iter().filter_map(|row| row.msisdn_to).collect();
        for number in numbers {
            self.check_lookup(Lookup::MsisdnTo(number), range, |row| row.msisdn_to == Some(number));
        }
    }

    /// All messages at once, with one that is not there and one that is asked for twice.
    fn check_messages(&self, messages: &BTreeSet<Uuid>, range: &Range<u64>) {
        let asked: Vec<Uuid> =
            messages.iter().rev().chain(messages.first()).copied().chain([Uuid([9; 16])]).collect();
        let at =
            |message: Option<Uuid>| asked.iter().enumerate().filter(move |(_, id)| Some(**id) == message);
        let rows = self.rows.iter().filter(|row| range.contains(&row.ordinal));
        let expected: Vec<(u64, usize)> = rows
            .filter(|row| row.message_id.is_some())
            .flat_map(|row| at(row.message_id).map(|(at, _)| (row.ordinal, at)))
            .collect();
        assert_eq!(self.index.rows_of_messages(&asked, range.clone()).unwrap(), expected, "in {range:?}");
    }

    fn check_lookup(&self, lookup: Lookup, range: &Range<u64>, fits: impl Fn(&RowKeys) -> bool) {
        let mut expected = self.naive(range, fits);
        assert_eq!(self.found(lookup, range.clone(), false), expected, "{lookup:?} in {range:?}");
        expected.reverse();
        assert_eq!(
            self.found(lookup, range.clone(), true),
            expected,
            "{lookup:?} in {range:?}, newest first"
        );
    }

    fn check_postings(&self, range: &Range<u64>, rows: &[&RowKeys]) {
        let found = |key| -> Vec<u64> {
            self.index.postings(key, range.clone()).unwrap().map(Result::unwrap).collect()
        };
        let tenants: BTreeSet<Uuid> = rows.iter().filter_map(|row| row.tenant).collect();
        for tenant in tenants {
            let expected = self.naive(range, |row| row.tenant == Some(tenant));
            assert_eq!(found(PostingKey::Tenant(tenant)), expected, "{tenant} in {range:?}");
        }
        for operator in 0..5 {
            let expected = self.naive(range, |row| row.operator == operator);
            assert_eq!(found(PostingKey::Operator(operator)), expected, "{operator} in {range:?}");
        }
        for kind in 0..3 {
            let expected = self.naive(range, |row| row.kind == Some(kind));
            assert_eq!(found(PostingKey::Kind(kind)), expected, "kind {kind} in {range:?}");
            let lists = [PostingKey::Kind(kind), PostingKey::Operator(2)]
                .map(|key| self.index.postings(key, range.clone()).unwrap());
            let [kinds, operators] = lists;
            let expected = self.naive(range, |row| row.kind == Some(kind) && row.operator == 2);
            let both: Vec<u64> = InBoth(kinds, operators).map(Result::unwrap).collect();
            assert_eq!(both, expected, "kind {kind} of an operator in {range:?}");
        }
    }

    fn check_events(&self, range: &Range<u64>) {
        let end = self.rows.len() as i64 * 1000 + 200_000;
        for (from, to) in [(0, end), (end / 3, end / 2), (end / 2, end / 2 + 1), (end, end + 1), (5, 5)] {
            let ranges: Vec<Range<u64>> = self
                .index
                .event_blocks(Millis(from), Millis(to), range.clone())
                .unwrap()
                .map(Result::unwrap)
                .collect();
            assert!(ranges.iter().all(|r| !r.is_empty() && range.start <= r.start && r.end <= range.end));
            assert!(ranges.windows(2).all(|pair| pair[0].end <= pair[1].start));
            let fits = |row: &RowKeys| row.event_at.is_some_and(|at| (from..to).contains(&at.0));
            for ordinal in self.naive(range, fits) {
                assert!(ranges.iter().any(|r| r.contains(&ordinal)), "{ordinal} in {from}..{to}");
            }
        }
    }

    fn faults(&self, range: Range<u64>) -> Vec<super::IndexFault> {
        let rows = self.rows.iter().filter(|row| range.contains(&row.ordinal)).cloned();
        self.index.verify(range.clone(), rows).unwrap()
    }
}
