//! Events: what the product publishes about what it has committed.
//!
//! Everything here is a pure function of committed data: the same row gives the same bytes and the same id on every
//! replica, whoever publishes it. Nothing here knows the bus beyond the [streams] that it needs, nor the store.
//! The bytes follow the JSON Schemas in `config/event-schemas`; no event holds a subscriber's number, only hashes.
//!
//! | module | builds |
//! |---|---|
//! | [`mod@id`] | the derived id of an event |
//! | [`record`] | `cdr.record.appended.v1`, `cdr.record.repriced.v1` |
//! | [`adjustment`] | `cdr.adjustment.created.v1`, `cdr.adjustment.batch.issued.v1` |
//! | [`sealing`] | `cdr.bucket.sealed.v1`, `cdr.generated.v1` |
//! | [`mod@export`] | `cdr.exported.v1`, `cdr.export.acked.v1`, `cdr.export.rejected.v1`, `cdr.quarantine.resubmitted.v1` |
//! | [`notice`] | `cdr.audit.v1`, `cdr.config.changed.v1`, `cdr.restriction.v1` |
//! | [`mod@derive`] | the events of one log entry, in order |
//! | [`streams`] | which stream carries which subject, and what streams must be like |
//! | [`signature`], [`signing_key`] | one signature per published batch, and a proof in each event's headers |

pub mod adjustment;
mod changes;
pub mod derive;
mod derive_export;
mod derive_notice;
mod derive_restriction;
pub mod export;
pub mod id;
mod json;
pub mod notice;
pub mod numbers;
pub mod record;
pub mod sealing;
pub mod signature;
pub mod signing_key;
pub mod streams;

pub use adjustment::{AdjustmentBatch, adjustment_batch, adjustment_created};
pub use export::{
    ExportAcked, ExportRejected, Exported, QuarantineResolved, export_acked, export_rejected, exported,
    quarantine_resolved,
};
pub use id::{EventId, EventIds};
pub use notice::{
    Audit, AuditEntry, ConfigChange, Restriction, RestrictionState, audit, config_changed, restriction,
};
pub use numbers::NumberHash;
pub use record::{record_appended, record_repriced};
pub use sealing::{bucket_sealed, generated};

use cdr_core::Millis;

/// Subjects of the published events.
pub mod subject {
    /// A row of the ledger was appended.
    pub const RECORD_APPENDED: &str = "cdr.record.appended.v1";
    /// A record without a price got one.
    pub const RECORD_REPRICED: &str = "cdr.record.repriced.v1";
    /// An operator's hour was sealed.
    pub const BUCKET_SEALED: &str = "cdr.bucket.sealed.v1";
    /// The summary of an operator's sealed hour.
    pub const GENERATED: &str = "cdr.generated.v1";
    /// A file was delivered.
    pub const EXPORTED: &str = "cdr.exported.v1";
    /// The regulator verified a file.
    pub const EXPORT_ACKED: &str = "cdr.export.acked.v1";
    /// The regulator refused a file.
    pub const EXPORT_REJECTED: &str = "cdr.export.rejected.v1";
    /// An adjustment was appended.
    pub const ADJUSTMENT_CREATED: &str = "cdr.adjustment.created.v1";
    /// A bulk job has ended.
    pub const ADJUSTMENT_BATCH: &str = "cdr.adjustment.batch.issued.v1";
    /// An administrative or regulator-visible act.
    pub const AUDIT: &str = "cdr.audit.v1";
    /// Hours were archived and dropped.
    pub const ARCHIVE_COMPLETED: &str = "cdr.archive.completed.v1";
    /// A regulator-facing setting changed.
    pub const CONFIG_CHANGED: &str = "cdr.config.changed.v1";
    /// A quarantined record was resubmitted or discarded.
    pub const QUARANTINE_RESUBMITTED: &str = "cdr.quarantine.resubmitted.v1";
    /// A replica refuses writes, or accepts them again.
    pub const RESTRICTION: &str = "cdr.restriction.v1";
}

/// Header that carries [`Event::partition_key`].
pub const PARTITION_KEY_HEADER: &str = "partitionKey";

/// What every event has.
#[derive(Clone, Copy, Debug)]
pub struct EventHead<'a> {
    /// The event's id.
    pub event_id: EventId,
    /// Trace that caused it.
    pub trace_id: &'a str,
    /// When its cause was committed.
    pub occurred_at: Millis,
    /// How it names subscribers' numbers.
    pub numbers: &'a NumberHash,
}

/// An event, ready to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Subject to publish it to, one of [`subject`].
    pub subject: &'static str,
    /// Operator whose events keep their order; empty for events of no operator.
    pub partition_key: &'a str,
    /// Its id, also the bus's message id.
    pub event_id: EventId,
    /// The JSON text.
    pub payload: Vec<u8>,
}

/// A cause that an event can't be made of. Each is a mistake of the caller, none a matter of the data's values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// A system row where a CDR is needed.
    #[error("row {cdr_id} is a system row: {subject} announces CDRs and adjustments only")]
    NotSms {
        /// The row.
        cdr_id: String,
        /// The requested event.
        subject: &'static str,
    },
    /// An original where an adjustment is needed.
    #[error("row {cdr_id} is not an adjustment: {subject} announces adjustments only")]
    NotAnAdjustment {
        /// The row.
        cdr_id: String,
        /// The requested event.
        subject: &'static str,
    },
    /// A row without a complete price.
    #[error("row {cdr_id} lacks an amount, a currency or a tariff class: {subject} announces prices only")]
    Unpriced {
        /// The row.
        cdr_id: String,
        /// The requested event.
        subject: &'static str,
    },
    /// A kind of adjustment that no bulk job issues.
    #[error("job {job_id} can't have issued adjustments of type CORRECTION: bulk jobs issue RE_RATE or VOID")]
    NotABulkKind {
        /// The job.
        job_id: String,
    },
}
