//! What is counted and shown at `/metrics`, in Prometheus' text format; every name begins with `cdr_`.
//!
//! Workers count as they go. What the ledger, the store and Raft know anyway is read when somebody asks
//! ([`Metrics::render`]), so that an hour that nobody seals shows even where nothing works any more. Counters on
//! which alerts stand exist from the start, at 0, because an increase from nothing is none.

use cdr_core::export::Export;
use cdr_core::{LedgerState, Millis};
use cdr_raft::NodeMetrics;
use cdr_storage::StoreMetrics;
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Upper bounds of the latency histograms, seconds.
const SECONDS: &[f64] =
    &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.5, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0];

/// What a verification compares; the label of `cdr_verification_mismatches_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// One row against its hash.
    Row,
    /// An hour.
    Hour,
    /// A range of hours.
    Range,
}

impl Verified {
    const ALL: [Self; 3] = [Self::Row, Self::Hour, Self::Range];

    fn as_str(self) -> &'static str {
        match self {
            Self::Row => "row",
            Self::Hour => "hour",
            Self::Range => "range",
        }
    }
}

/// Metrics can't be set up or written.
#[derive(Debug, thiserror::Error)]
#[error("metrics: {0}")]
pub struct MetricsError(#[from] prometheus::Error);

/// Everything that is counted in this process for one replica.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    messages: IntCounterVec,
    batches: IntCounter,
    dead_letters: IntCounterVec,
    missing: IntCounter,
    streams_lost: IntCounter,
    commit_seconds: HistogramVec,
    append_latency: HistogramVec,
    events_published: IntCounterVec,
    publish_latency: Histogram,
    clock_offset_ms: IntGauge,
    requests: HistogramVec,
    mismatches: IntCounterVec,
    panics: IntCounter,
    consumed: IntCounterVec,
    pricing_calls: IntCounterVec,
    pricing_breaker: IntGaugeVec,
    pricing_answered_at: IntGaugeVec,
    export_late: IntGauge,
    delivery_attempts: IntCounterVec,
    delivery_exhausted: IntCounter,
    quarantined_day: IntGauge,
    dependency_up: IntGaugeVec,
    dependencies: Mutex<BTreeMap<&'static str, Result<(), String>>>,
    signer_refused: IntGauge,
    /// Since when the signer has not answered.
    signer_away_since: Mutex<Option<Instant>>,
    figures: Mutex<Figures>,
}

/// What is read when somebody asks.
#[derive(Debug)]
struct Figures {
    seal_overdue: IntGauge,
    open_rows: IntGauge,
    rows: IntGauge,
    unsigned_hours: IntGauge,
    last_recorded_at: IntGauge,
    positions: IntGaugeVec,
    node: NodeFigures,
    store: StoreFigures,
    outbox_backlog: IntGauge,
    exports_open: IntGauge,
    export_backlog: IntGauge,
    memory_bytes: IntGauge,
    signer_unavailable: IntGauge,
}

#[derive(Debug)]
struct NodeFigures {
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
    restricted: IntGauge,
    poisoned: IntGauge,
}

#[derive(Debug)]
struct StoreFigures {
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

/// Makes metrics and registers them.
struct Registrar<'a>(&'a Registry);

impl Registrar<'_> {
    fn add<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C, prometheus::Error> {
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.add(IntCounter::new(name, help)?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.add(IntGauge::new(name, help)?)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn seconds(&self, name: &str, help: &str, labels: &[&str]) -> Result<HistogramVec, prometheus::Error> {
        self.add(HistogramVec::new(HistogramOpts::new(name, help).buckets(SECONDS.to_vec()), labels)?)
    }
}

impl Metrics {
    /// All metrics, at zero.
    ///
    /// # Errors
    /// [`MetricsError`] if a name is used twice.
    pub fn new() -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let add = Registrar(&registry);
        let metrics = Self {
            messages: add.counters(
                "cdr_ingest_messages_total",
                "Inbound messages by what became of them",
                &["outcome"],
            )?,
            batches: add
                .counter("cdr_ingest_batches_total", "Batches of inbound messages that were proposed")?,
            dead_letters: add.counters(
                "cdr_dead_letters_total",
                "Messages put away unread, by reason",
                &["reason"],
            )?,
            missing: add.counter(
                "cdr_missing_sequences_total",
                "Sequences that an inbound stream says are deleted",
            )?,
            streams_lost: add.counter(
                "cdr_streams_lost_total",
                "Times that an inbound stream was found lost or rewound",
            )?,
            commit_seconds: add.seconds("cdr_commit_seconds", "From proposal to commit", &["command"])?,
            append_latency: add.seconds(
                "cdr_append_latency_seconds",
                "From the bus's storing of a batch's oldest message to the batch's commit",
                &[],
            )?,
            events_published: add.counters(
                "cdr_events_published_total",
                "Events that the bus confirmed, by stream",
                &["stream"],
            )?,
            publish_latency: add
                .seconds(
                    "cdr_publish_latency_seconds",
                    "From the proposal of what an event tells to the bus's confirmation of the event",
                    &[],
                )?
                .with_label_values::<&str>(&[]),
            clock_offset_ms: add
                .gauge("cdr_clock_offset_ms", "This node's clock against the replicas' median")?,
            requests: add.seconds(
                "cdr_api_request_seconds",
                "Time to answer, by route and status",
                &["method", "route", "status"],
            )?,
            mismatches: add.counters(
                "cdr_verification_mismatches_total",
                "Verifications that found something changed",
                &["what"],
            )?,
            panics: add.counter("cdr_api_panics_total", "Requests that ended in a programming error")?,
            consumed: add.counters(
                "cdr_consumed_messages_total",
                "Messages of the other services, by consumer and what became of them",
                &["consumer", "outcome"],
            )?,
            pricing_calls: add.counters(
                "cdr_pricing_calls_total",
                "Attempts to call the billing service and the operator registry, by how they went",
                &["service", "method", "outcome"],
            )?,
            pricing_breaker: add.gauges(
                "cdr_pricing_breaker",
                "0 while a service is called, 2 while it is left alone, 1 while it is tried again",
                &["service"],
            )?,
            pricing_answered_at: add.gauges(
                "cdr_pricing_answered_at_ms",
                "When the service last gave or confirmed what is in force, ms since the epoch",
                &["dependency"],
            )?,
            delivery_attempts: add.counters(
                "cdr_delivery_attempts_total",
                "Attempts to deliver a file to the regulator, by how they went",
                &["channel", "outcome"],
            )?,
            delivery_exhausted: add.counter(
                "cdr_delivery_exhausted_total",
                "Files for which all channels have failed for too long",
            )?,
            quarantined_day: add.gauge(
                "cdr_quarantined_day",
                "Records put into quarantine within the last 24 hours; more than a thousand are not counted",
            )?,
            dependency_up: add.gauges(
                "cdr_dependency_up",
                "1 while an outside part answers",
                &["dependency"],
            )?,
            dependencies: Mutex::default(),
            signer_refused: add.gauge(
                "cdr_signer_refused",
                "1 while the signer refuses on the leader: wrong PIN, no such key",
            )?,
            signer_away_since: Mutex::default(),
            export_late: add.gauge(
                "cdr_export_late_seconds",
                "On the leader: how long TAP files have been undelivered since a quarter of an hour before their deadline, 0 if none is",
            )?,
            figures: Mutex::new(Figures::new(&add)?),
            registry: registry.clone(),
        };
        for outcome in ["appended", "duplicate", "ignored"] {
            metrics.messages.with_label_values(&[outcome]);
        }
        for what in Verified::ALL {
            metrics.mismatches.with_label_values(&[what.as_str()]);
        }
        Ok(metrics)
    }

    /// A batch of `messages` was proposed; `ignored` of them are no final states, and `missing` sequences between
    /// them are deleted.
    pub fn batch_read(&self, messages: u64, ignored: u64, missing: u64) {
        self.batches.inc();
        self.messages.with_label_values(&["ignored"]).inc_by(ignored);
        self.missing.inc_by(missing);
        tracing::trace!(messages, ignored, missing, "batch proposed");
    }

    /// A message was put away for `reason`, which is one of a fixed set of texts.
    pub fn dead_letter(&self, reason: &str) {
        self.dead_letters.with_label_values(&[reason]).inc();
    }

    /// `consumer` works from now on: its counters exist, at 0.
    pub fn consumer(&self, consumer: &str) {
        for outcome in ["done", "ignored", "put_off", "failed", "dead_letter"] {
            self.consumed.with_label_values(&[consumer, outcome]);
        }
    }

    /// A message for `consumer` ended as `outcome`, which is one of a fixed set of texts.
    pub fn consumed(&self, consumer: &str, outcome: &str) {
        self.consumed.with_label_values(&[consumer, outcome]).inc();
    }

    /// A batch is committed: so many rows were appended, so many messages were known already.
    pub fn ingested(&self, appended: u64, duplicate: u64) {
        self.messages.with_label_values(&["appended"]).inc_by(appended);
        self.messages.with_label_values(&["duplicate"]).inc_by(duplicate);
    }

    /// A batch was committed so many milliseconds after the bus had stored its oldest message (US-CDR-001: P95 within
    /// 200 ms).
    pub fn append_latency(&self, elapsed_ms: i64) {
        self.append_latency.with_label_values::<&str>(&[]).observe(elapsed_ms.max(0) as f64 / 1e3);
    }

    /// The bus confirmed an event of `stream`, so many milliseconds after its cause (aim: P95 within 1 s).
    pub fn published(&self, stream: &str, elapsed_ms: i64) {
        self.events_published.with_label_values(&[stream]).inc();
        self.publish_latency.observe(elapsed_ms.max(0) as f64 / 1e3);
    }

    /// TAP files are undelivered for so long since a quarter of an hour before their deadline.
    pub fn exports_late(&self, late: Duration) {
        self.export_late.set(late.as_secs() as i64);
    }

    /// A command of the given name took `elapsed` from proposal to commit.
    pub fn committed(&self, command: &str, elapsed: Duration) {
        self.commit_seconds.with_label_values(&[command]).observe(elapsed.as_secs_f64());
    }

    /// An inbound stream was found lost or rewound.
    pub fn stream_lost(&self, stream: &str) {
        self.streams_lost.inc();
        tracing::debug!(stream, "counted as lost or rewound");
    }

    /// This node's clock is `offset_ms` off the median of the replicas.
    pub fn clock_offset(&self, offset_ms: i64) {
        self.clock_offset_ms.set(offset_ms);
    }

    /// An attempt to call a service ended as `outcome`, which is one of a fixed set of texts.
    pub fn pricing_call(&self, service: &str, method: &str, outcome: &str) {
        self.pricing_calls.with_label_values(&[service, method, outcome]).inc();
    }

    /// The breaker of a service is closed (0), half-open (1) or open (2).
    pub fn pricing_breaker(&self, service: &str, state: i64) {
        self.pricing_breaker.with_label_values(&[service]).set(state);
    }

    /// A service gave or confirmed at `now` what is in force.
    pub fn pricing_answered(&self, dependency: &str, now: Millis) {
        self.pricing_answered_at.with_label_values(&[dependency]).set(now.0);
    }

    /// Attempts by `channel` can end as `outcome`: the counter exists, at 0.
    pub fn delivery_outcome(&self, channel: &str, outcome: &str) {
        let labels = [channel, outcome].map(str::to_ascii_lowercase);
        self.delivery_attempts.with_label_values(&labels);
    }

    /// An attempt to deliver a file by `channel` ended as `outcome`, both of a fixed set of texts.
    pub fn delivery_attempt(&self, channel: &str, outcome: &str) {
        let labels = [channel, outcome].map(str::to_ascii_lowercase);
        self.delivery_attempts.with_label_values(&labels).inc();
    }

    /// All channels have failed for a file for too long (US-CDR-014); once for each file.
    pub fn delivery_exhausted(&self) {
        self.delivery_exhausted.inc();
    }

    /// So many records were put into quarantine within the last 24 hours.
    pub fn quarantined(&self, count: usize) {
        self.quarantined_day.set(count as i64);
    }

    /// An outside part, such as `bus` or `signer`, answered, or did not for a reason.
    pub fn dependency(&self, name: &'static str, outcome: Result<(), String>) {
        self.dependency_up.with_label_values(&[name]).set(i64::from(outcome.is_ok()));
        self.dependencies.lock().unwrap_or_else(PoisonError::into_inner).insert(name, outcome);
    }

    /// The signer gave what it was asked for.
    pub fn signer_answers(&self) {
        self.signer_rests();
        self.dependency("signer", Ok(()));
    }

    /// The signer can't be reached (US-CDR-012: SEV1 after an hour).
    pub fn signer_is_away(&self, why: String) {
        self.signer_refused.set(0);
        self.away_since().get_or_insert_with(Instant::now);
        self.dependency("signer", Err(why));
    }

    /// The signer refuses, and will until somebody changes something.
    pub fn signer_refuses(&self, why: String) {
        *self.away_since() = None;
        self.signer_refused.set(1);
        self.dependency("signer", Err(why));
    }

    /// Nothing is asked of the signer here any more.
    pub fn signer_rests(&self) {
        *self.away_since() = None;
        self.signer_refused.set(0);
    }

    fn away_since(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.signer_away_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every outside part that was used so far, and how that went last.
    pub fn dependencies(&self) -> BTreeMap<&'static str, Result<(), String>> {
        self.dependencies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A request was answered.
    pub fn request(&self, method: &str, route: &str, status: u16, elapsed: Duration) {
        self.requests.with_label_values(&[method, route, &status.to_string()]).observe(elapsed.as_secs_f64());
    }

    /// A verification found something changed.
    pub fn mismatch(&self, what: Verified) {
        self.mismatches.with_label_values(&[what.as_str()]).inc();
    }

    /// A request ended in a programming error.
    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// Everything, with the figures of ledger, Raft and store as they are at `now`.
    ///
    /// # Errors
    /// [`MetricsError`] if the text can't be written.
    pub fn render(
        &self,
        now: Millis,
        state: &LedgerState,
        node: &NodeMetrics,
        store: &StoreMetrics,
    ) -> Result<String, MetricsError> {
        let figures = self.figures.lock().unwrap_or_else(PoisonError::into_inner);
        figures.show_ledger(now, state);
        figures.node.show(node);
        figures.store.show(now, store);
        let age_ms = store.oldest_unpublished_at.map_or(0, |at| (now.0 - at.0).max(0));
        figures.outbox_backlog.set(age_ms / 1_000);
        figures.memory_bytes.set(resident_bytes());
        let away = self.away_since().map_or(0, |since| since.elapsed().as_secs());
        figures.signer_unavailable.set(away as i64);
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }
}

impl Figures {
    fn new(add: &Registrar<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            seal_overdue: add.gauge("cdr_bucket_seal_overdue", "Hours that have ended and are not sealed")?,
            open_rows: add.gauge("cdr_bucket_open_rows", "Rows of the open hour")?,
            rows: add.gauge("cdr_rows", "Rows of all hours")?,
            unsigned_hours: add.gauge("cdr_seals_unsigned", "Sealed hours without a signature")?,
            last_recorded_at: add
                .gauge("cdr_last_recorded_at_ms", "Time of the last row or seal, ms since the epoch")?,
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
                "Age of the oldest settlement file that is not delivered, since it was opened or last put up for delivery",
            )?,
            memory_bytes: add.gauge("cdr_process_resident_bytes", "Memory of this process")?,
            signer_unavailable: add.gauge(
                "cdr_signer_unavailable_seconds",
                "On the leader: for how long the signer has not answered, 0 while it does",
            )?,
        })
    }

    fn show_ledger(&self, now: Millis, state: &LedgerState) {
        let head = &state.head;
        let (ended, open) = (i64::from(now.hour().0), i64::from(head.open_hour.0));
        let begun = state.cluster.is_some();
        self.seal_overdue.set(if begun { (ended - open).max(0) } else { 0 });
        self.open_rows.set(head.open_rows as i64);
        self.rows.set(head.row_count as i64);
        self.unsigned_hours.set(open - i64::from(head.next_unsigned.0));
        self.last_recorded_at.set(head.last_recorded_at.0);
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
    fn new(add: &Registrar<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            state: add.gauges("cdr_raft_state", "1 for the state that this replica is in", &["state"])?,
            term: add.gauge("cdr_raft_term", "Current term")?,
            leader: add.gauge("cdr_raft_leader", "Id of the leader as this replica knows it, 0 for none")?,
            leads: add.gauge("cdr_raft_is_leader", "1 on the leader")?,
            last_log_index: add.gauge("cdr_raft_last_log_index", "Last entry in the log")?,
            committed_index: add.gauge("cdr_raft_committed_index", "Last entry known to be committed")?,
            applied_index: add.gauge("cdr_raft_applied_index", "Last entry applied")?,
            snapshot_index: add.gauge("cdr_raft_snapshot_index", "Up to here the newest snapshot goes")?,
            lag: add.gauges(
                "cdr_raft_replication_lag",
                "On the leader: entries that a replica lacks",
                &["replica"],
            )?,
            log_bytes: add.gauge("cdr_raft_log_bytes", "Space that the log takes")?,
            fsyncs: add.counter("cdr_raft_fsyncs_total", "Syncs of the log")?,
            fsync_ms: add.counter("cdr_raft_fsync_ms_total", "Time spent in syncs of the log")?,
            longest_fsync_ms: add.gauge("cdr_raft_longest_fsync_ms", "Longest sync of the log")?,
            log_written_bytes: add.counter("cdr_raft_log_written_bytes_total", "Bytes written to the log")?,
            refused_writes: add
                .counter("cdr_raft_refused_writes_total", "Log writes refused for lack of space")?,
            restricted: add.gauge("cdr_node_restricted", "1 while this node takes no commands")?,
            poisoned: add
                .gauge("cdr_node_poisoned", "1 once this node has stopped serving after a failure")?,
        })
    }

    fn show(&self, node: &NodeMetrics) {
        self.state.reset();
        self.state.with_label_values(&[node.state.as_str()]).set(1);
        self.term.set(node.term as i64);
        self.leader.set(node.leader.unwrap_or(0) as i64);
        self.leads.set(i64::from(node.leader == Some(node.node_id)));
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
        self.restricted.set(i64::from(node.restricted.is_some()));
        self.poisoned.set(i64::from(node.failure.is_some()));
    }
}

impl StoreFigures {
    fn new(add: &Registrar<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            rows_appended: add.counter("cdr_store_rows_appended_total", "Rows appended since the start")?,
            duplicates: add.counter("cdr_store_duplicates_total", "Drafts whose message was known")?,
            dedup_lookups: add
                .counter("cdr_store_dedup_lookups_total", "Look-ups that the filter could not spare")?,
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

    fn show(&self, now: Millis, store: &StoreMetrics) {
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

/// Resident memory of this process in bytes, 0 where the system does not tell.
fn resident_bytes() -> i64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split(' ').nth(1).and_then(|pages| pages.parse::<i64>().ok()));
    pages.unwrap_or(0) * 4096
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use cdr_core::command::ClockKind;
    use cdr_core::state::Cluster;

    fn state(now: Millis) -> LedgerState {
        let cluster = Cluster {
            cluster_id: "test".to_owned(),
            generation: 0,
            zone: "Asia/Kabul".to_owned(),
            clock: ClockKind::System,
            dedup_horizon_hours: 168,
            hash_key: [0; 16],
        };
        LedgerState::begin(cluster, 1, now)
    }

    fn line(text: &str, name: &str) -> String {
        text.lines()
            .find(|line| line.starts_with(name))
            .unwrap_or_else(|| panic!("{name} in {text}"))
            .to_owned()
    }

    #[test]
    fn an_hour_is_overdue_once_it_has_ended() {
        let metrics = Metrics::new().unwrap();
        let start = Millis::parse("2026-04-20T13:00:00Z").unwrap();
        let state = state(start);
        let show = |at: &str| {
            let now = Millis::parse(at).unwrap();
            let text =
                metrics.render(now, &state, &NodeMetrics::default(), &StoreMetrics::default()).unwrap();
            line(&text, "cdr_bucket_seal_overdue ")
        };
        assert_eq!(show("2026-04-20T13:59:59.999Z"), "cdr_bucket_seal_overdue 0");
        assert_eq!(show("2026-04-20T14:00:00Z"), "cdr_bucket_seal_overdue 1");
        assert_eq!(show("2026-04-20T17:10:00Z"), "cdr_bucket_seal_overdue 4");
    }

    #[test]
    fn an_unpriced_record_ages() {
        let metrics = Metrics::new().unwrap();
        let show = |store: &StoreMetrics| {
            let (now, state) = (Millis(100_000_000), LedgerState::default());
            let text = metrics.render(now, &state, &NodeMetrics::default(), store).unwrap();
            ["cdr_unpriced_rows ", "cdr_unpriced_oldest_seconds "].map(|name| line(&text, name))
        };
        let oldest_unpriced_at = Some(Millis(100_000_000 - 86_400_000));
        let waiting = StoreMetrics { unpriced_rows: 3, oldest_unpriced_at, ..StoreMetrics::default() };
        assert_eq!(show(&waiting), ["cdr_unpriced_rows 3", "cdr_unpriced_oldest_seconds 86400"]);
        let none = StoreMetrics::default();
        assert_eq!(show(&none), ["cdr_unpriced_rows 0", "cdr_unpriced_oldest_seconds 0"]);
    }

    #[test]
    fn the_backlog_is_as_old_as_its_oldest_entry() {
        let metrics = Metrics::new().unwrap();
        let show = |at: Option<i64>| {
            let store = StoreMetrics { oldest_unpublished_at: at.map(Millis), ..StoreMetrics::default() };
            let text =
                metrics.render(Millis(90_000), &LedgerState::default(), &NodeMetrics::default(), &store);
            line(&text.unwrap(), "cdr_outbox_backlog_seconds ")
        };
        assert_eq!(show(None), "cdr_outbox_backlog_seconds 0");
        assert_eq!(show(Some(20_500)), "cdr_outbox_backlog_seconds 69");
        assert_eq!(show(Some(91_000)), "cdr_outbox_backlog_seconds 0");
    }

    #[test]
    fn the_signer_is_away_or_refuses_until_it_answers() {
        let metrics = Metrics::new().unwrap();
        let show = || {
            let (node, store) = (NodeMetrics::default(), StoreMetrics::default());
            let text = metrics.render(Millis(0), &LedgerState::default(), &node, &store).unwrap();
            let number = |name| line(&text, name).rsplit(' ').next().unwrap().parse::<u64>().unwrap();
            (number("cdr_signer_unavailable_seconds"), number("cdr_signer_refused"))
        };
        assert_eq!(show(), (0, 0));
        let hour = Duration::from_secs(3_700);
        *metrics.away_since() = Instant::now().checked_sub(hour);
        metrics.signer_is_away("gone".to_owned());
        let (seconds, refused) = show();
        assert!(
            seconds >= 3_700 && refused == 0,
            "a further failure does not begin the time anew: {seconds}"
        );
        assert_eq!(metrics.dependencies()["signer"], Err("gone".to_owned()));
        metrics.signer_refuses("wrong PIN".to_owned());
        assert_eq!(show(), (0, 1));
        metrics.signer_answers();
        assert_eq!((show(), &metrics.dependencies()["signer"]), ((0, 0), &Ok(())));
        metrics.signer_refuses("wrong PIN".to_owned());
        metrics.signer_rests();
        assert_eq!(show(), (0, 0), "another node leads");
    }

    #[test]
    fn counters_of_alerts_are_there_from_the_start_and_count() {
        let metrics = Metrics::new().unwrap();
        let state = LedgerState::default();
        let text =
            |node: &NodeMetrics| metrics.render(Millis(0), &state, node, &StoreMetrics::default()).unwrap();
        let before = text(&NodeMetrics::default());
        for name in ["cdr_streams_lost_total 0", "cdr_missing_sequences_total 0", "cdr_node_restricted 0"] {
            line(&before, name);
        }
        assert_eq!(line(&before, "cdr_bucket_seal_overdue"), "cdr_bucket_seal_overdue 0");
        metrics.batch_read(10, 2, 1);
        metrics.ingested(7, 1);
        metrics.stream_lost("S");
        metrics.consumer("sink");
        metrics.consumed("sink", "done");
        metrics.delivery_outcome("SFTP", "UNREACHABLE");
        metrics.delivery_attempt("SFTP", "DELIVERED");
        metrics.delivery_exhausted();
        metrics.mismatch(Verified::Hour);
        metrics.dead_letter("message is not valid JSON");
        let node = NodeMetrics { fsyncs: 7, restricted: Some("full".to_owned()), ..NodeMetrics::default() };
        let after = text(&node);
        for name in [
            "cdr_streams_lost_total 1",
            "cdr_consumed_messages_total{consumer=\"sink\",outcome=\"done\"} 1",
            "cdr_consumed_messages_total{consumer=\"sink\",outcome=\"dead_letter\"} 0",
            "cdr_missing_sequences_total 1",
            "cdr_delivery_attempts_total{channel=\"sftp\",outcome=\"delivered\"} 1",
            "cdr_delivery_attempts_total{channel=\"sftp\",outcome=\"unreachable\"} 0",
            "cdr_delivery_exhausted_total 1",
            "cdr_ingest_messages_total{outcome=\"appended\"} 7",
            "cdr_verification_mismatches_total{what=\"hour\"} 1",
            "cdr_dead_letters_total{reason=\"message is not valid JSON\"} 1",
            "cdr_node_restricted 1",
            "cdr_raft_fsyncs_total 7",
        ] {
            line(&after, name);
        }
        assert_eq!(line(&text(&node), "cdr_raft_fsyncs_total"), "cdr_raft_fsyncs_total 7");
    }
}
