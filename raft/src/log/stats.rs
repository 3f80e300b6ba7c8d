//! Counters of the log.

use crate::restriction::{Cause, Restrictions};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Counters of the log, all since the start of the process.
#[derive(Debug, Default)]
pub struct LogStats {
    syncs: AtomicU64,
    sync_ns: AtomicU64,
    longest_sync_ns: AtomicU64,
    operations: AtomicU64,
    written_bytes: AtomicU64,
    cache_reads: AtomicU64,
    file_reads: AtomicU64,
    refused: AtomicU64,
    told: OnceLock<Restrictions>,
}

impl LogStats {
    /// Sets who is notified of refusals; only the first call counts.
    pub(crate) fn tell(&self, restrictions: Restrictions) {
        let _ = self.told.set(restrictions);
    }

    pub(super) fn synced(&self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.syncs.fetch_add(1, Relaxed);
        self.sync_ns.fetch_add(ns, Relaxed);
        self.longest_sync_ns.fetch_max(ns, Relaxed);
    }

    pub(super) fn wrote(&self, operations: u64, bytes: u64) {
        self.operations.fetch_add(operations, Relaxed);
        self.written_bytes.fetch_add(bytes, Relaxed);
    }

    pub(super) fn read(&self, from_cache: u64, from_files: u64) {
        self.cache_reads.fetch_add(from_cache, Relaxed);
        self.file_reads.fetch_add(from_files, Relaxed);
    }

    /// Counts a refusal for lack of space, of which there were `in_a_row`.
    pub(super) fn refused(&self, in_a_row: u32) {
        self.refused.fetch_add(1, Relaxed);
        if let Some(restrictions) = self.told.get() {
            restrictions.refused(Cause::Log, in_a_row);
        }
    }

    pub(super) fn has_space(&self) {
        if let Some(restrictions) = self.told.get() {
            restrictions.end(Cause::Log);
        }
    }

    /// Syncs of the log.
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Relaxed)
    }

    /// Time spent in syncs, in nanoseconds.
    pub fn sync_ns(&self) -> u64 {
        self.sync_ns.load(Relaxed)
    }

    /// The longest sync, in nanoseconds.
    pub fn longest_sync_ns(&self) -> u64 {
        self.longest_sync_ns.load(Relaxed)
    }

    /// Operations written; divided by the syncs it gives how many share one.
    pub fn operations(&self) -> u64 {
        self.operations.load(Relaxed)
    }

    /// Bytes written to segments.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Relaxed)
    }

    /// Entries read from memory.
    pub fn cache_reads(&self) -> u64 {
        self.cache_reads.load(Relaxed)
    }

    /// Entries read from files.
    pub fn file_reads(&self) -> u64 {
        self.file_reads.load(Relaxed)
    }

    /// Writes refused for lack of space.
    pub fn refused_writes(&self) -> u64 {
        self.refused.load(Relaxed)
    }
}
