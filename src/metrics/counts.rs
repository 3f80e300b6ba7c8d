//! What workers count as they go.

use super::{Metrics, Verified};
use cdr_core::Millis;
use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

impl Metrics {
    /// A batch of `messages` was proposed; `ignored` of them are not final, and `missing` sequences between
    /// them are deleted.
    pub fn batch_read(&self, messages: u64, ignored: u64, missing: u64) {
        self.batches.inc();
        self.messages.with_label_values(&["ignored"]).inc_by(ignored);
        self.missing.inc_by(missing);
        tracing::trace!(messages, ignored, missing, "batch proposed");
    }

    /// A message was dead-lettered for `reason`, which is one of a fixed set of texts.
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

    /// A batch is committed: this many rows were appended, this many messages were known already.
    pub fn ingested(&self, appended: u64, duplicate: u64) {
        self.messages.with_label_values(&["appended"]).inc_by(appended);
        self.messages.with_label_values(&["duplicate"]).inc_by(duplicate);
    }

    /// A batch was committed this many milliseconds after the bus had stored its oldest message (US-CDR-001: P95 within
    /// 200 ms).
    pub fn append_latency(&self, elapsed_ms: i64) {
        self.append_latency.with_label_values::<&str>(&[]).observe(elapsed_ms.max(0) as f64 / 1e3);
    }

    /// The bus confirmed an event of `stream`, this many milliseconds after its cause (target: P95 within 1 s).
    pub fn published(&self, stream: &str, elapsed_ms: i64) {
        self.events_published.with_label_values(&[stream]).inc();
        self.publish_latency.observe(elapsed_ms.max(0) as f64 / 1e3);
    }

    /// TAP files have been undelivered for this long since a quarter of an hour before their deadline.
    pub fn exports_late(&self, late: Duration) {
        self.export_late.set(late.as_secs() as i64);
    }

    /// The nightly check of the last seven days ended then.
    pub fn integrity_checked(&self, at: Millis) {
        self.integrity_checked_at.set(at.0 / 1_000);
    }

    /// A check is due since then, and none is known to have ended: it is counted from there.
    pub fn integrity_due(&self, since: Millis) {
        if self.integrity_checked_at.get() == 0 {
            self.integrity_checked_at.set(since.0 / 1_000);
        }
    }

    /// A worker of the leader failed, and has failed each time for this long.
    pub fn worker_failed(&self, worker: &str, failing_for: Duration) {
        self.worker_failures.with_label_values(&[worker]).inc();
        self.worker_failing.with_label_values(&[worker]).set(failing_for.as_secs().max(1) as i64);
    }

    /// A worker of the leader runs, or is no longer this replica's.
    pub fn worker_goes_on(&self, worker: &str) {
        self.worker_failing.with_label_values(&[worker]).set(0);
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

    /// This many records went into quarantine within the last 24 hours.
    pub fn quarantined(&self, count: usize) {
        self.quarantined_day.set(count as i64);
    }

    /// An outside part, such as `bus` or `signer`, answered, or did not for a reason.
    pub fn dependency(&self, name: &'static str, outcome: Result<(), String>) {
        self.dependency_up.with_label_values(&[name]).set(i64::from(outcome.is_ok()));
        self.dependencies.lock().unwrap_or_else(PoisonError::into_inner).insert(name, outcome);
    }

    /// A dependency is no longer used.
    pub fn forget_dependency(&self, name: &'static str) {
        let mut known = self.dependencies.lock().unwrap_or_else(PoisonError::into_inner);
        if known.remove(name).is_some() {
            // It has such a label: it was known.
            let _ = self.dependency_up.remove_label_values(&[name]);
        }
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

    /// The signer did what it was asked to do.
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

    /// The signer refuses, and will until a person changes something.
    pub fn signer_refuses(&self, why: String) {
        *self.away_since() = None;
        self.signer_refused.set(1);
        self.dependency("signer", Err(why));
    }

    /// The signer is no longer used here.
    pub fn signer_rests(&self) {
        *self.away_since() = None;
        self.signer_refused.set(0);
    }

    pub(super) fn away_since(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.signer_away_since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
