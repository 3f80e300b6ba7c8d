//! Sizes that bound the store's memory and set its trade-offs.

use cdr_core::rules::Build;

/// How the store uses memory, disk and threads. The default keeps a replica below 1 GiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Cache of uncompressed blocks, shared by all tables, in bytes.
    pub block_cache_bytes: usize,
    /// All write buffers together, in bytes; a flush begins before they exceed it.
    pub write_buffer_bytes: usize,
    /// Filter that answers most questions for known messages, in bytes (12 bits a message).
    pub dedup_filter_bytes: usize,
    /// Rows after which the indexes of a block are sorted and written.
    pub index_block_rows: u64,
    /// Background flushes and compactions at once.
    pub max_background_jobs: i32,
    /// Threads of one verification.
    pub verify_threads: usize,
    /// Size of a table's blocks, in bytes.
    pub block_bytes: usize,
    /// Rows of a page at most.
    pub page_rows: usize,
    /// Free disk space below which no command is applied, in bytes.
    pub min_free_bytes: u64,
    /// Rows that one query call looks at most, before it answers with a cursor to go on.
    pub query_scan_rows: usize,
    /// Adjustments that are read together for a settlement file at most: each takes about 2 KB of memory meanwhile.
    pub adjustment_batch: usize,
    /// As which build the store behaves: this one, but for tests of upgrades.
    pub build: Build,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            block_cache_bytes: 128 << 20,
            write_buffer_bytes: 128 << 20,
            dedup_filter_bytes: 300 << 20,
            index_block_rows: 1 << 16,
            max_background_jobs: 2,
            verify_threads: 2,
            block_bytes: 16 << 10,
            page_rows: 50,
            min_free_bytes: 1 << 30,
            query_scan_rows: 50_000,
            adjustment_batch: 16_384,
            build: Build::THIS,
        }
    }
}
