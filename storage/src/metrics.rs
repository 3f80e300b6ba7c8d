//! Figures of a running store.

use cdr_core::Millis;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters since the store was opened, and present sizes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreMetrics {
    /// Log entries applied.
    pub entries_applied: u64,
    /// Rows appended.
    pub rows_appended: u64,
    /// Drafts whose message was known already.
    pub duplicates: u64,
    /// Look-ups of rows that the filter could not spare.
    pub dedup_lookups: u64,
    /// Bytes handed to the database, before compaction.
    pub written_bytes: u64,
    /// Time spent in [`crate::Store::apply`], in microseconds.
    pub apply_us: u64,
    /// Writes refused because the disk is too full.
    pub refused_full: u64,
    /// Rows of all hours.
    pub row_count: u64,
    /// Size of all table files, in bytes.
    pub table_bytes: u64,
    /// Size of all write buffers, in bytes.
    pub memtable_bytes: u64,
    /// Bytes that wait for compaction, as RocksDB estimates them.
    pub pending_compaction_bytes: u64,
    /// Flushes and compactions that failed.
    pub background_errors: u64,
    /// Rows that wait for a price; more than [`crate::UNPRICED_COUNTED`] are not counted.
    pub unpriced_rows: u64,
    /// When the oldest of them was recorded.
    pub oldest_unpriced_at: Option<Millis>,
    /// 1 once the store has stopped writing.
    pub poisoned: u64,
    /// Time of the oldest log entry whose events are not published, if there is one.
    pub oldest_unpublished_at: Option<Millis>,
}

/// The counters behind [`StoreMetrics`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub entries_applied: AtomicU64,
    pub rows_appended: AtomicU64,
    pub duplicates: AtomicU64,
    pub dedup_lookups: AtomicU64,
    pub written_bytes: AtomicU64,
    pub apply_us: AtomicU64,
    pub refused_full: AtomicU64,
}

impl Counters {
    pub fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Relaxed);
    }

    pub fn fill(&self, metrics: &mut StoreMetrics) {
        metrics.entries_applied = self.entries_applied.load(Relaxed);
        metrics.rows_appended = self.rows_appended.load(Relaxed);
        metrics.duplicates = self.duplicates.load(Relaxed);
        metrics.dedup_lookups = self.dedup_lookups.load(Relaxed);
        metrics.written_bytes = self.written_bytes.load(Relaxed);
        metrics.apply_us = self.apply_us.load(Relaxed);
        metrics.refused_full = self.refused_full.load(Relaxed);
    }
}
