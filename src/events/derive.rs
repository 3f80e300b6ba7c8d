//! The events of one log entry, in order: those of the hours that it closed and of the rows that it appended.
//!
//! | cause | events, in this order |
//! |---|---|
//! | a closed hour, per operator | `cdr.bucket.sealed.v1`, `cdr.generated.v1` |
//! | a CDR | `cdr.record.appended.v1` |
//! | an adjustment | `cdr.record.appended.v1`, `cdr.adjustment.created.v1`; if it prices an unpriced row, `cdr.record.repriced.v1` |
//! | `job` row, step FINISHED | `cdr.adjustment.batch.issued.v1` |
//! | `audit` row of a kind that the schema knows | `cdr.audit.v1`; of a replica's restriction, `cdr.restriction.v1` |
//! | `key` row after the ledger's beginning | `cdr.audit.v1`, KEY_ROTATED |
//! | `config` row with a `configKey` | `cdr.config.changed.v1` |
//! | `delivery` row: an attempt that delivered, the receiver's answer, all channels exhausted | `cdr.exported.v1`; `cdr.export.acked.v1` or `cdr.export.rejected.v1`; `cdr.export.rejected.v1` |
//! | `quarantine` row that resubmits or discards | `cdr.quarantine.resubmitted.v1` |
//!
//! An event's number within its entry is part of its id, so that the events of an entry may never change: new causes come
//! with rows that no entry had before. CDRs need nothing but themselves; everything else is looked up in [`Sources`].

use super::derive_notice::{config_change, key_rotation};
use super::{
    AdjustmentBatch, Event, EventError, EventHead, EventIds, NumberHash, adjustment_batch,
    adjustment_created, bucket_sealed, generated, record_appended, record_repriced, subject,
};
use crate::names::PRICE_ISSUER;
use cdr_core::export::Export;
use cdr_core::export::quarantine::Quarantined;
use cdr_core::job::{JOB_PREFIX, Job, JobStep};
use cdr_core::row::{Adjustment, AdjustmentType, Record, Row, SYSTEM_OPERATOR, Sms, System, SystemKind};
use cdr_core::state::Tally;
use cdr_core::{CdrId, Hash, Hour, Millis, Seal};
use std::ops::ControlFlow;

/// What failed where committed data is kept.
pub type SourceError = Box<dyn std::error::Error + Send + Sync>;

/// A sealed hour.
#[derive(Clone, Debug)]
pub struct SealedHour {
    /// Its seal.
    pub seal: Seal,
    /// Counts and sums of the operators, in the seal's order.
    pub tallies: Vec<Tally>,
}

/// A committed row that is kept in memory.
pub trait HeldRow {
    /// The row.
    ///
    /// # Errors
    /// If it can't be read.
    fn row(&self) -> Result<Row<'_>, SourceError>;
}

/// Committed data beyond the rows from which events are derived.
pub trait Sources {
    /// A row in memory.
    type Held: HeldRow;

    /// The seal of an hour.
    ///
    /// # Errors
    /// If it can't be read.
    fn seal(&self, hour: Hour) -> Result<Option<SealedHour>, SourceError>;

    /// The CDR or adjustment with this id.
    ///
    /// # Errors
    /// If it can't be read.
    fn row(&self, id: CdrId) -> Result<Option<Self::Held>, SourceError>;

    /// The job with this id, which has ended.
    ///
    /// # Errors
    /// If it can't be read.
    fn ended_job(&self, id: CdrId) -> Result<Option<Job>, SourceError>;

    /// The settlement file with this id, as it is now.
    ///
    /// # Errors
    /// If it can't be read.
    fn export(&self, id: CdrId) -> Result<Option<Export>, SourceError>;

    /// The quarantine entry with this id, as it is now.
    ///
    /// # Errors
    /// If it can't be read.
    fn quarantined(&self, id: CdrId) -> Result<Option<Quarantined>, SourceError>;

    /// First hour of the ledger.
    fn first_hour(&self) -> Hour;
}

/// Events can't be derived from their causes.
#[derive(Debug, thiserror::Error)]
pub enum DeriveError {
    /// An event can't be made of its cause.
    #[error(transparent)]
    Event(#[from] EventError),
    /// What it needs can't be read.
    #[error("committed data that an event needs can't be read: {0}")]
    Source(#[source] SourceError),
    /// What it needs is not there.
    #[error("{what} is missing, which the events of log entry {index} need: verify the store")]
    Missing {
        /// What.
        what: String,
        /// Index of the log entry.
        index: u64,
    },
    /// The entry has more events than ids have room for.
    #[error("log entry {index} has more events than can be numbered")]
    TooMany {
        /// Index of the log entry.
        index: u64,
    },
}

/// Takes events with the time of their cause; it may ask to stop behind the one it is given.
pub type Sink<'s> = dyn FnMut(Event<'_>, Millis) -> ControlFlow<()> + 's;

/// A log entry from which events are derived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its index.
    pub index: u64,
    /// When it was committed.
    pub at: Millis,
    /// True for the entry that began the ledger.
    pub begins: bool,
}

/// Derives the events of one log entry: first [`closed`](Self::closed) for its closed hours, then [`row`](Self::row)
/// for its rows, each in order.
pub struct Derivation<'s, S> {
    sources: &'s S,
    ids: &'s EventIds,
    numbers: &'s NumberHash,
    wanted: &'s dyn Fn(&'static str) -> bool,
    entry: Entry,
    from: u32,
    next: u32,
}

impl<'s, S: Sources> Derivation<'s, S> {
    /// The events of `entry` from number `from` on whose subjects are requested in `wanted`.
    pub fn new(
        sources: &'s S,
        (ids, numbers): (&'s EventIds, &'s NumberHash),
        wanted: &'s dyn Fn(&'static str) -> bool,
        entry: Entry,
        from: u32,
    ) -> Self {
        Self { sources, ids, numbers, wanted, entry, from, next: 0 }
    }

    /// Number of events that were passed so far, published or not.
    pub fn passed(&self) -> u32 {
        self.next
    }

    /// Numbers an event, and emits it unless nobody wants it.
    pub(super) fn tell<'e>(
        &mut self,
        subject: &'static str,
        trace_id: &str,
        sink: &mut Sink<'_>,
        build: impl FnOnce(&EventHead<'_>) -> Result<Event<'e>, EventError>,
    ) -> Result<ControlFlow<()>, DeriveError> {
        let ordinal = self.next;
        self.next += 1;
        if ordinal < self.from || !(self.wanted)(subject) {
            return Ok(ControlFlow::Continue(()));
        }
        let event_id =
            self.ids.id(self.entry.index, ordinal).ok_or(DeriveError::TooMany { index: self.entry.index })?;
        let (occurred_at, numbers) = (self.entry.at, self.numbers);
        Ok(sink(build(&EventHead { event_id, trace_id, occurred_at, numbers })?, occurred_at))
    }

    /// Where committed data is looked up.
    pub(super) fn sources(&self) -> &'s S {
        self.sources
    }

    pub(super) fn missing(&self, what: String) -> DeriveError {
        DeriveError::Missing { what, index: self.entry.index }
    }

    /// The events of an hour that the entry closed.
    ///
    /// # Errors
    /// [`DeriveError`].
    pub fn closed(&mut self, hour: Hour, sink: &mut Sink<'_>) -> Result<ControlFlow<()>, DeriveError> {
        let sealed = self.sources.seal(hour).map_err(DeriveError::Source)?;
        let SealedHour { seal, tallies } =
            sealed.ok_or_else(|| self.missing(format!("the seal of hour {hour}")))?;
        let trace_id = format!("seal-{hour}");
        for (operator, tally) in seal.operators.iter().zip(&tallies) {
            if operator.operator_id == SYSTEM_OPERATOR {
                continue;
            }
            let told = self.tell(subject::BUCKET_SEALED, &trace_id, sink, |head| {
                Ok(bucket_sealed(&seal, operator, head))
            })?;
            if told.is_break() {
                return Ok(told);
            }
            let told = self.tell(subject::GENERATED, &trace_id, sink, |head| {
                Ok(generated(&seal, operator, tally, head))
            })?;
            if told.is_break() {
                return Ok(told);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The events of a row that the entry appended.
    ///
    /// # Errors
    /// [`DeriveError`].
    pub fn row(
        &mut self,
        row: &Row<'_>,
        row_hash: &Hash,
        sink: &mut Sink<'_>,
    ) -> Result<ControlFlow<()>, DeriveError> {
        match &row.record {
            Record::Sms(sms) => {
                let told = self.tell(subject::RECORD_APPENDED, row.frame.trace_id, sink, |head| {
                    record_appended(row, row_hash, head)
                })?;
                match &sms.adjustment {
                    Some(adjustment) if told.is_continue() => self.adjustment(row, sms, adjustment, sink),
                    _ => Ok(told),
                }
            }
            Record::System(system) => self.system(row, system, sink),
        }
    }

    fn adjustment(
        &mut self,
        row: &Row<'_>,
        sms: &Sms<'_>,
        adjustment: &Adjustment<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<ControlFlow<()>, DeriveError> {
        let prices = adjustment.kind == AdjustmentType::Correction
            && adjustment.issued_by == Some(PRICE_ISSUER)
            && sms.charge_amount.is_some()
            && sms.charge_currency.is_some()
            && sms.tap_tariff_class.is_some();
        if !prices && !(self.wanted)(subject::ADJUSTMENT_CREATED) {
            self.next += 1;
            return Ok(ControlFlow::Continue(()));
        }
        let held = self.held(adjustment.of)?;
        let before = held.row().map_err(DeriveError::Source)?;
        let original = self.original(&before)?;
        let told = self.tell(subject::ADJUSTMENT_CREATED, row.frame.trace_id, sink, |head| {
            adjustment_created(row, Some(&before), original, head)
        })?;
        let was_unpriced = before.sms().is_some_and(|before| before.charge_amount.is_none());
        if told.is_break() || !prices || !was_unpriced {
            return Ok(told);
        }
        self.tell(subject::RECORD_REPRICED, row.frame.trace_id, sink, |head| {
            record_repriced(row, original, head)
        })
    }

    fn held(&self, id: CdrId) -> Result<S::Held, DeriveError> {
        let held = self.sources.row(id).map_err(DeriveError::Source)?;
        held.ok_or_else(|| self.missing(format!("row {id}")))
    }

    /// The record that the line of adjustments up to `row` began with.
    fn original(&self, row: &Row<'_>) -> Result<CdrId, DeriveError> {
        let mut id = row.frame.cdr_id;
        let mut before = row.sms().and_then(|sms| sms.adjustment.as_ref()).map(|a| a.of);
        while let Some(of) = before {
            let held = self.held(of)?;
            let row = held.row().map_err(DeriveError::Source)?;
            (id, before) = (of, row.sms().and_then(|sms| sms.adjustment.as_ref()).map(|a| a.of));
        }
        Ok(id)
    }

    fn system(
        &mut self,
        row: &Row<'_>,
        system: &System<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<ControlFlow<()>, DeriveError> {
        let trace_id = row.frame.trace_id;
        match system.kind {
            SystemKind::Job => match system.read() {
                Ok(JobStep::Finished { job_id }) => self.job_ended(&job_id, sink),
                _ => Ok(ControlFlow::Continue(())),
            },
            SystemKind::Audit => self.audited(row, system, sink),
            // The ledger's first rows begin with its first key: no other was in its place.
            SystemKind::Key if self.entry.begins => Ok(ControlFlow::Continue(())),
            SystemKind::Key => match key_rotation(system) {
                Some(entry) => {
                    self.tell(subject::AUDIT, trace_id, sink, |head| Ok(entry.event(row.frame.cdr_id, head)))
                }
                None => Ok(ControlFlow::Continue(())),
            },
            SystemKind::Config => match config_change(system) {
                Some(change) => {
                    self.tell(subject::CONFIG_CHANGED, trace_id, sink, |head| Ok(change.event(head)))
                }
                None => Ok(ControlFlow::Continue(())),
            },
            SystemKind::Delivery => self.delivery(row, system, sink),
            SystemKind::Quarantine => self.quarantine(row, system, sink),
            _ => Ok(ControlFlow::Continue(())),
        }
    }

    fn job_ended(&mut self, job_id: &str, sink: &mut Sink<'_>) -> Result<ControlFlow<()>, DeriveError> {
        let missing = || DeriveError::Missing { what: format!("job {job_id}"), index: self.entry.index };
        let id = CdrId::parse_prefixed(JOB_PREFIX, job_id).ok_or_else(missing)?;
        let job = self.sources.ended_job(id).map_err(DeriveError::Source)?.ok_or_else(missing)?;
        let request = &job.request;
        let batch = AdjustmentBatch {
            job_id: job.id,
            kind: AdjustmentType::ReRate,
            count: job.counts.adjusted,
            sum_delta_micros: job.delta_micros,
            operator_id: request.operator_id.as_deref(),
            tenant_id: request.tenant().unwrap_or_default(),
            bucket_hour_from: request.bucket_hour_from.unwrap_or_else(|| self.sources.first_hour()),
            bucket_hour_to: request.bucket_hour_to.unwrap_or(job.asked_at.bucket_hour),
            issued_by: &request.issued_by_user_id,
            approver: request.approver().unwrap_or_default(),
            ticket_id: &request.ticket_id,
            started_at: job.started_at,
            finished_at: self.entry.at,
        };
        self.tell(subject::ADJUSTMENT_BATCH, &request.trace_id, sink, |head| adjustment_batch(&batch, head))
    }
}

#[cfg(test)]
mod tests;
