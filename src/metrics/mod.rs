//! What is counted and shown at `/metrics`, in Prometheus' text format; every name begins with `cdr_`.
//!
//! Workers count as they go. What the ledger, the store and Raft know anyway is read on request
//! ([`Metrics::render`]), so that an unsealed hour shows even where nothing works any more. Counters on
//! which alerts are based exist from the start, at 0, because an increase from nothing does not count.

mod counts;
mod figures;
mod panics;
mod registrar;
#[cfg(test)]
mod tests;

use cdr_core::{LedgerState, Millis};
use cdr_raft::NodeMetrics;
use cdr_storage::StoreMetrics;
use figures::{Figures, resident_bytes};
use prometheus::{
    Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry, TextEncoder,
};
use registrar::Registrar;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// What a verification compares; the label of `cdr_verification_mismatches_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// One row against its hash.
    Row,
    /// An hour.
    Hour,
    /// A range of hours.
    Range,
    /// The hours of the last seven days, at night.
    Nightly,
}

impl Verified {
    const ALL: [Self; 4] = [Self::Row, Self::Hour, Self::Range, Self::Nightly];

    fn as_str(self) -> &'static str {
        match self {
            Self::Row => "row",
            Self::Hour => "hour",
            Self::Range => "range",
            Self::Nightly => "nightly",
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
    consumed: IntCounterVec,
    pricing_calls: IntCounterVec,
    pricing_breaker: IntGaugeVec,
    pricing_answered_at: IntGaugeVec,
    export_late: IntGauge,
    integrity_checked_at: IntGauge,
    worker_failures: IntCounterVec,
    worker_failing: IntGaugeVec,
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

impl Metrics {
    /// All metrics, at zero.
    ///
    /// # Errors
    /// [`MetricsError`] if a name is used twice.
    pub fn new() -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let add = Registrar(&registry);
        add.add(panics::counter()?)?;
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
                "Messages dead-lettered, by reason",
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
                "From the time at which the bus stored a batch's oldest message to the batch's commit",
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
                    "From the proposal that an event reports to the bus's confirmation of the event",
                    &[],
                )?
                .with_label_values::<&str>(&[]),
            clock_offset_ms: add
                .gauge("cdr_clock_offset_ms", "Offset of this node's clock from the replicas' median")?,
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
            consumed: add.counters(
                "cdr_consumed_messages_total",
                "Messages of the other services, by consumer and what became of them",
                &["consumer", "outcome"],
            )?,
            pricing_calls: add.counters(
                "cdr_pricing_calls_total",
                "Attempts to call the billing service and the operator registry, by outcome",
                &["service", "method", "outcome"],
            )?,
            pricing_breaker: add.gauges(
                "cdr_pricing_breaker",
                "Circuit breaker: 0 closed, 1 half open, 2 open",
                &["service"],
            )?,
            pricing_answered_at: add.gauges(
                "cdr_pricing_answered_at_ms",
                "When the service last sent or confirmed the content in force, ms since the epoch",
                &["dependency"],
            )?,
            delivery_attempts: add.counters(
                "cdr_delivery_attempts_total",
                "Attempts to deliver a file to the regulator, by outcome",
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
                "1 while a dependency answers",
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
            integrity_checked_at: add.gauge(
                "cdr_integrity_checked_at_seconds",
                "On the leader: when the nightly check of the last seven days last ended, s since the epoch; 0 before it is known",
            )?,
            worker_failures: add.counters(
                "cdr_worker_failures_total",
                "Times that a worker of the leader failed and was restarted",
                &["worker"],
            )?,
            worker_failing: add.gauges(
                "cdr_worker_failing_seconds",
                "On the leader: for how long a worker has failed each time it was started, 0 while it runs",
                &["worker"],
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
