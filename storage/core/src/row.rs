//! The canonical row and its parts (ledger format 2, "Everything that happened is a row").
//!
//! A [`Draft`] is what a proposer knows; the log adds the rest when it accepts the row: bucket, sequence,
//! predecessor's hash and time. Both borrow their text, so that a batch is decoded without copying.

use crate::hash::Hash;
use crate::id::CdrId;
use crate::personal::Salt;
use crate::rules::SchemaVersion;
use crate::time::{Hour, Millis};
use bincode::{BorrowDecode, Encode};

pub use crate::schema::sms::{Adjustment, Sms};

/// Operator id of the partition that holds the system's own rows.
pub const SYSTEM_OPERATOR: &str = "_system";

/// A row of the chained log, with everything that is hashed.
#[derive(Clone, Debug, PartialEq)]
pub struct Row<'a> {
    /// Its `schemaVersion`.
    pub version: SchemaVersion,
    /// What every row has.
    pub frame: Frame<'a>,
    /// What makes the hash of its personal data impossible to guess.
    pub salt: Salt,
    /// What this kind of row has.
    pub record: Record<'a>,
}

/// The framing fields, present in every row.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame<'a> {
    /// Hour in which the log accepted the row.
    pub bucket_hour: Hour,
    /// Position in the bucket, from 1, across all operators.
    pub sequence: u64,
    /// Hash of the row before it in the same partition, or the root of the operator's hour before.
    pub chain_prev: Hash,
    /// When the log accepted the row.
    pub recorded_at: Millis,
    /// Stream from which the row came: a bus stream's epoch, `api` or `internal`.
    pub source_stream: &'a str,
    /// Sequence in that stream.
    pub source_sequence: u64,
    /// Id of the row.
    pub cdr_id: CdrId,
    /// Partition of the row.
    pub operator_id: &'a str,
    /// Trace that caused the row.
    pub trace_id: &'a str,
}

/// A row as its proposer knows it.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft<'a> {
    /// `schemaVersion` of the row.
    pub version: SchemaVersion,
    /// Id of the row, drawn by the proposer.
    pub cdr_id: CdrId,
    /// Partition of the row.
    pub operator_id: &'a str,
    /// Trace that caused the row.
    pub trace_id: &'a str,
    /// Salt of the row's personal data, drawn by the proposer.
    pub salt: Salt,
    /// What this kind of row has.
    pub record: Record<'a>,
}

impl<'a> Draft<'a> {
    /// A draft of a row for which this was drawn.
    pub fn new(drawn: Drawn, operator_id: &'a str, trace_id: &'a str, record: Record<'a>) -> Self {
        let Drawn { version, cdr_id, salt } = drawn;
        Self { version, cdr_id, operator_id, trace_id, salt, record }
    }

    /// The version of a row that follows `before` and has all of its fields: never an earlier one.
    #[must_use]
    pub fn following(self, before: &Row<'_>) -> Self {
        Self { version: self.version.max(before.version), ..self }
    }
}

/// What a proposer gives a row before it knows what is in it: what is random, and the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// Its `schemaVersion`, which the rules in force ask for.
    pub version: SchemaVersion,
    /// The row's id.
    pub cdr_id: CdrId,
    /// The row's salt.
    pub salt: Salt,
}

/// What differs between kinds of rows. Nearly every row is a CDR: boxing it would cost each an allocation.
#[allow(clippy::large_enum_variant)]
#[derive(Clone, Debug, PartialEq, Encode, BorrowDecode)]
#[bincode(decode_context = "SchemaVersion")]
pub enum Record<'a> {
    /// A canonical CDR or an adjustment.
    Sms(Sms<'a>),
    /// A row of the system's own.
    System(System<'a>),
}

/// A row of the system's own, in the partition [`SYSTEM_OPERATOR`].
#[derive(Clone, Debug, PartialEq, Encode, BorrowDecode)]
pub struct System<'a> {
    /// Which kind.
    pub kind: SystemKind,
    /// What is hashed in the open: the RFC 8785 text of a JSON object.
    pub body: &'a str,
    /// Its personal data ([`crate::personal`]) without the salt: the RFC 8785 text of a JSON object.
    pub personal: Option<&'a str>,
}

/// A closed set of codes with their text in rows, events and the API.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, bincode::Decode)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// Every value, in declaration order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The text in rows, events and the API.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// The text as JSON.
            pub(crate) const fn as_json(self) -> &'static str {
                match self { $(Self::$variant => concat!("\"", $text, "\"")),+ }
            }

            /// The value of a text, if there is one.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

codes! {
    /// Kind of a system row; the text is its `recordType`.
    SystemKind {
        /// An administrative or regulator-visible act.
        Audit = "audit",
        /// An export file.
        Export = "export",
        /// A delivery attempt.
        Delivery = "delivery",
        /// A record that could not be encoded.
        Quarantine = "quarantine",
        /// An entry in a transparency log.
        Anchor = "anchor",
        /// A signing key.
        Key = "key",
        /// A regulator-facing setting.
        Config = "config",
        /// An operator that joins.
        Operator = "operator",
        /// An inbound stream or a new epoch of one.
        Stream = "stream",
        /// A bulk job.
        Job = "job",
        /// A restored chain's new generation.
        Generation = "generation",
    }
}

codes! {
    /// What was charged for.
    ChargeType {
        /// Mobile originated.
        Mo = "MO",
        /// Mobile terminated.
        Mt = "MT",
        /// Broadcast.
        Broadcast = "BROADCAST",
        /// Terminated from abroad.
        InternationalMt = "INTERNATIONAL_MT",
        /// Person to person.
        P2p = "P2P",
        /// Application to person.
        A2p = "A2P",
    }
}

codes! {
    /// Who pays.
    BillingIndicator {
        /// The submitter.
        Chargeable = "CHARGEABLE",
        /// Nobody.
        Free = "FREE",
        /// The recipient.
        ReverseCharged = "REVERSE_CHARGED",
        /// Calling party pays.
        Cpp = "CPP",
        /// Mobile party pays.
        Mpp = "MPP",
        /// Not yet priced.
        Unknown = "UNKNOWN",
    }
}

codes! {
    /// Direction at the operator.
    Direction {
        /// Mobile originated.
        Mo = "MO",
        /// Mobile terminated.
        Mt = "MT",
    }
}

codes! {
    /// Text encoding (GSM 03.38).
    Encoding {
        /// Seven-bit default alphabet.
        Gsm7 = "GSM7",
        /// UCS-2.
        Ucs2 = "UCS2",
        /// Eight-bit Latin.
        Gsm8Latin = "GSM8_LATIN",
    }
}

codes! {
    /// Final delivery state.
    FinalState {
        /// Delivered.
        Delivered = "DELIVERED",
        /// Failed.
        Failed = "FAILED",
        /// Expired.
        Expired = "EXPIRED",
    }
}

codes! {
    /// Kind of an adjustment.
    AdjustmentType {
        /// Amends fields.
        Correction = "CORRECTION",
        /// Cancels the record.
        Void = "VOID",
        /// New price.
        ReRate = "RE_RATE",
    }
}

impl<'a> Row<'a> {
    /// The row that a draft becomes at a place in the log.
    pub fn from_draft(draft: Draft<'a>, place: Place<'a>) -> Self {
        Self {
            version: draft.version,
            frame: Frame {
                bucket_hour: place.bucket_hour,
                sequence: place.sequence,
                chain_prev: place.chain_prev,
                recorded_at: place.recorded_at,
                source_stream: place.source_stream,
                source_sequence: place.source_sequence,
                cdr_id: draft.cdr_id,
                operator_id: draft.operator_id,
                trace_id: draft.trace_id,
            },
            salt: draft.salt,
            record: draft.record,
        }
    }

    /// The CDR, unless this is a system row.
    pub fn sms(&self) -> Option<&Sms<'a>> {
        match &self.record {
            Record::Sms(sms) => Some(sms),
            Record::System(_) => None,
        }
    }

    /// `recordType` as the row has it.
    pub fn record_type(&self) -> &'static str {
        match &self.record {
            Record::Sms(_) => "sms",
            Record::System(system) => system.kind.as_str(),
        }
    }
}

/// What the log adds to a draft.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place<'a> {
    /// Hour that is open.
    pub bucket_hour: Hour,
    /// Next sequence of the hour.
    pub sequence: u64,
    /// Hash of the predecessor in the partition.
    pub chain_prev: Hash,
    /// Time of acceptance.
    pub recorded_at: Millis,
    /// Stream of origin.
    pub source_stream: &'a str,
    /// Sequence in the stream of origin.
    pub source_sequence: u64,
}
