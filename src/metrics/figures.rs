//! What is read of ledger, Raft and store when `/metrics` is requested.

use super::registrar::{MaybeGauge, Registrar};
use cdr_core::export::Export;
use cdr_core::{LedgerState, Millis};
use cdr_raft::NodeMetrics;
use cdr_storage::StoreMetrics;
use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use std::time::UNIX_EPOCH;

/// What is read when `/metrics` is requested.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) seal_overdue: MaybeGauge,
    pub(super) open_rows: IntGauge,
    pub(super) rows: IntGauge,
    pub(super) unsigned_hours: IntGauge,
    pub(super) last_recorded_at: MaybeGauge,
    pub(super) positions: IntGaugeVec,
    pub(super) node: NodeFigures,
    pub(super) store: StoreFigures,
    pub(super) outbox_backlog: IntGauge,
    pub(super) exports_open: IntGauge,
    pub(super) export_backlog: IntGauge,
    pub(super) memory_bytes: IntGauge,
    pub(super) signer_unavailable: IntGauge,
}

/// Figures of Raft and its log.
#[derive(Debug)]
pub(super) struct NodeFigures {
    state: IntGaugeVec,
    term: IntGauge,
    leader: IntGauge,
    leads: IntGauge,
    last_log_index: IntGauge,
    committed_index: IntGauge,
    applied_index: IntGauge,
    snapshot_index: IntGauge,
    lag: IntGaugeVec,
    log_bytes: IntGauge,
    fsyncs: IntCounter,
    fsync_ms: IntCounter,
    longest_fsync_ms: IntGauge,
    log_written_bytes: IntCounter,
    refused_writes: IntCounter,
    refused_peers: IntCounterVec,
    certificate_expires: IntGauge,
    restricted: IntGauge,
    poisoned: IntGauge,
}

/// Figures of the store.
#[derive(Debug)]
pub(super) struct StoreFigures {
    rows_appended: IntCounter,
    duplicates: IntCounter,
    dedup_lookups: IntCounter,
    written_bytes: IntCounter,
    apply_ms: IntCounter,
    refused_full: IntCounter,
    background_errors: IntCounter,
    table_bytes: IntGauge,
    memtable_bytes: IntGauge,
    pending_compaction_bytes: IntGauge,
    unpriced_rows: IntGauge,
    unpriced_oldest_seconds: IntGauge,
    poisoned: IntGauge,
}

impl Figures {
    pub(super) fn new(add: &Registrar<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            seal_overdue: add.maybe(
                "cdr_bucket_seal_overdue",
                "Hours that have ended and are not sealed; absent on a replica without a ledger",
            )?,
            open_rows: add.gauge("cdr_bucket_open_rows", "Rows of the open hour")?,
            rows: add.gauge("cdr_rows", "Rows of all hours")?,
            unsigned_hours: add.gauge("cdr_seals_unsigned", "Sealed hours without a signature")?,
            last_recorded_at: add.maybe(
                "cdr_last_recorded_at_ms",
                "Time of the last row or seal, ms since the epoch; absent on a replica without a ledger",
            )?,
            positions: add.gauges(
                "cdr_stream_position",
                "Last sequence of a stream that is accounted for",
                &["stream"],
            )?,
            node: NodeFigures::new(add)?,
            store: StoreFigures::new(add)?,
            outbox_backlog: add.gauge(
                "cdr_outbox_backlog_seconds",
                "Age of the oldest log entry whose events are not known to be published",
            )?,
            exports_open: add.gauge("cdr_exports_open", "Settlement files that are not delivered")?,
            export_backlog: add.gauge(
                "cdr_export_backlog_seconds",
                "Age of the oldest settlement file that is not delivered, since it was opened or last queued for delivery",
            )?,
            memory_bytes: add.gauge("cdr_process_resident_bytes", "Memory of this process")?,
            signer_unavailable: add.gauge(
                "cdr_signer_unavailable_seconds",
                "On the leader: for how long the signer has not answered, 0 while it does",
            )?,
        })
    }

    pub(super) fn show_ledger(&self, now: Millis, state: &LedgerState) {
        let head = &state.head;
        let (ended, open) = (i64::from(now.hour().0), i64::from(head.open_hour.0));
        let begun = state.cluster.is_some();
        self.seal_overdue.set(begun.then(|| (ended - open).max(0)));
        self.open_rows.set(head.open_rows as i64);
        self.rows.set(head.row_count as i64);
        self.unsigned_hours.set(open - i64::from(head.next_unsigned.0));
        self.last_recorded_at.set(begun.then_some(head.last_recorded_at.0));
        let waits_since = |export: &Export| export.due_since.map_or(export.id.time_ms(), |since| since.0);
        let oldest = state.exports.open().map(waits_since).min();
        self.exports_open.set(state.exports.open().count() as i64);
        self.export_backlog.set(oldest.map_or(0, |since| (now.0 - since).max(0) / 1_000));
        for stream in &state.streams {
            self.positions.with_label_values(&[stream.name.as_str()]).set(stream.position as i64);
        }
    }
}

impl NodeFigures {
    pub(super) fn new(add: &Registrar<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            state: add.gauges("cdr_raft_state", "1 for the state that this replica is in", &["state"])?,
            term: add.gauge("cdr_raft_term", "Current term")?,
            leader: add.gauge("cdr_raft_leader", "Id of the leader as this replica knows it, 0 for none")?,
            leads: add.gauge(
                "cdr_raft_is_leader",
                "1 while this replica leads: a quorum's lease holds, and its workers run",
            )?,
            last_log_index: add.gauge("cdr_raft_last_log_index", "Last entry in the log")?,
            committed_index: add.gauge("cdr_raft_committed_index", "Last entry known to be committed")?,
            applied_index: add.gauge("cdr_raft_applied_index", "Last entry applied")?,
            snapshot_index: add.gauge("cdr_raft_snapshot_index", "Last entry in the newest snapshot")?,
            lag: add.gauges(
                "cdr_raft_replication_lag",
                "On the leader: entries that a replica lacks",
                &["replica"],
            )?,
            log_bytes: add.gauge("cdr_raft_log_bytes", "Size of the log")?,
            fsyncs: add.counter("cdr_raft_fsyncs_total", "Syncs of the log")?,
            fsync_ms: add.counter("cdr_raft_fsync_ms_total", "Time spent in syncs of the log")?,
            longest_fsync_ms: add.gauge("cdr_raft_longest_fsync_ms", "Longest sync of the log")?,
            log_written_bytes: add.counter("cdr_raft_log_written_bytes_total", "Bytes written to the log")?,
            refused_writes: add
                .counter("cdr_raft_refused_writes_total", "Log writes refused for lack of space")?,
            refused_peers: add.counters(
                "cdr_raft_refused_total",
                "Connections and messages between replicas that were refused, by reason",
                &["reason"],
            )?,
            certificate_expires: add.gauge(
                "cdr_raft_certificate_expires_at_seconds",
                "When this replica's certificate for the other replicas expires, seconds since the epoch; 0 in plain text",
            )?,
            restricted: add.gauge("cdr_node_restricted", "1 while this node takes no commands")?,
            poisoned: add
                .gauge("cdr_node_poisoned", "1 once this node has stopped serving after a failure")?,
        })
    }

    pub(super) fn show(&self, node: &NodeMetrics) {
        self.state.reset();
        self.state.with_label_values(&[node.state.as_str()]).set(1);
        self.term.set(node.term as i64);
        self.leader.set(node.leader.unwrap_or(0) as i64);
        self.leads.set(i64::from(node.leads));
        self.last_log_index.set(node.last_log_index as i64);
        self.committed_index.set(node.committed_index as i64);
        self.applied_index.set(node.applied_index as i64);
        self.snapshot_index.set(node.snapshot_index as i64);
        self.lag.reset();
        for (replica, lag) in &node.replication_lag {
            self.lag.with_label_values(&[replica.to_string()]).set(*lag as i64);
        }
        self.log_bytes.set(node.log_bytes as i64);
        show_total(&self.fsyncs, node.fsyncs);
        show_total(&self.fsync_ms, node.fsync_ns / 1_000_000);
        self.longest_fsync_ms.set((node.longest_fsync_ns / 1_000_000) as i64);
        show_total(&self.log_written_bytes, node.log_written_bytes);
        show_total(&self.refused_writes, node.refused_writes);
        for (reason, count) in &node.refused_peers {
            show_total(&self.refused_peers.with_label_values(&[*reason]), *count);
        }
        let ends = node.certificate_ends.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        self.certificate_expires.set(ends.map_or(0, |at| at.as_secs() as i64));
        self.restricted.set(i64::from(node.restricted.is_some()));
        self.poisoned.set(i64::from(node.failure.is_some()));
    }
}

impl StoreFigures {
    pub(super) fn new(add: &Registrar<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            rows_appended: add.counter("cdr_store_rows_appended_total", "Rows appended since the start")?,
            duplicates: add.counter("cdr_store_duplicates_total", "Drafts whose message was known")?,
            dedup_lookups: add
                .counter("cdr_store_dedup_lookups_total", "Look-ups that the filter could not avoid")?,
            written_bytes: add.counter("cdr_store_written_bytes_total", "Bytes written before compaction")?,
            apply_ms: add.counter("cdr_store_apply_ms_total", "Time spent applying")?,
            refused_full: add
                .counter("cdr_store_refused_full_total", "Writes refused because the disk is too full")?,
            background_errors: add
                .counter("cdr_store_background_errors_total", "Flushes and compactions that failed")?,
            table_bytes: add.gauge("cdr_store_table_bytes", "Size of all table files")?,
            memtable_bytes: add.gauge("cdr_store_memtable_bytes", "Size of all write buffers")?,
            pending_compaction_bytes: add
                .gauge("cdr_store_pending_compaction_bytes", "Bytes that wait for compaction")?,
            unpriced_rows: add.gauge(
                "cdr_unpriced_rows",
                "Records that wait for a price; more than ten thousand are not counted",
            )?,
            unpriced_oldest_seconds: add.gauge(
                "cdr_unpriced_oldest_seconds",
                "Age of the oldest record that waits for a price, 0 if none does",
            )?,
            poisoned: add.gauge("cdr_store_poisoned", "1 once the store has stopped writing")?,
        })
    }

    pub(super) fn show(&self, now: Millis, store: &StoreMetrics) {
        self.unpriced_rows.set(store.unpriced_rows as i64);
        let waited_ms = store.oldest_unpriced_at.map_or(0, |at| now.0 - at.0);
        self.unpriced_oldest_seconds.set((waited_ms / 1_000).max(0));
        show_total(&self.rows_appended, store.rows_appended);
        show_total(&self.duplicates, store.duplicates);
        show_total(&self.dedup_lookups, store.dedup_lookups);
        show_total(&self.written_bytes, store.written_bytes);
        show_total(&self.apply_ms, store.apply_us / 1_000);
        show_total(&self.refused_full, store.refused_full);
        show_total(&self.background_errors, store.background_errors);
        self.table_bytes.set(store.table_bytes as i64);
        self.memtable_bytes.set(store.memtable_bytes as i64);
        self.pending_compaction_bytes.set(store.pending_compaction_bytes as i64);
        self.poisoned.set(store.poisoned as i64);
    }
}

/// Shows a count that is kept elsewhere.
fn show_total(counter: &IntCounter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

/// Resident memory of this process in bytes, 0 where the system does not report it.
pub(super) fn resident_bytes() -> i64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split(' ').nth(1).and_then(|pages| pages.parse::<i64>().ok()));
    pages.unwrap_or(0) * 4096
}
