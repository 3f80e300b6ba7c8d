//! What callers request: adjustments, bulk jobs, notes for the audit log (US-CDR-016 to 018), and work on settlement files.
//!
//! Any replica accepts an [`Act`]; the [`Desk`] of the leader performs it. Every act has a key under which it may be
//! repeated: the client's `Idempotency-Key`, or one that the replica draws, so that a question that arrived twice on
//! its way to the leader still happens once.

mod adjust;
mod appended;
mod correction;
mod desk;
mod files;
mod origin;
mod setting;
mod verification;

pub use adjust::{Adjusted, adjusted};
pub use correction::{FieldError, corrected};
pub(crate) use correction::{is_currency, is_tariff_class};
pub use desk::{Desk, OpenDesk, PATIENCE};
pub use files::file_of_day;
pub use origin::{FOUR_EYES_ABOVE, Origin};
pub use verification::{FAULTS_NOTED, depth_text, fault, verification};

use crate::auth::AuthError;
use cdr_core::export::ExportType;
use cdr_core::hash::{hex_string, sha256};
use cdr_core::job::JobRequest;
use cdr_core::time::Day;
use cdr_core::{CdrId, Hash};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Act {
    /// What is requested.
    pub wish: Wish,
    /// Who requests it.
    pub actor: String,
    /// Who approved, where that was needed.
    pub approver: Option<String>,
    /// Why, in words.
    pub reason: Option<String>,
    /// Ticket that requests it.
    pub ticket_id: Option<String>,
    /// Trace of the request.
    pub trace_id: String,
    /// Hash of the caller and the key that they chose.
    #[serde(with = "hex_string")]
    pub key: Hash,
    /// Hash of the request.
    #[serde(with = "hex_string")]
    pub body: Hash,
    /// Who requests it, and by what they prove it: the leader checks that again.
    pub origin: Origin,
}

/// What is requested.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Wish {
    /// New values for fields of a record.
    Correct {
        /// The record or one of its adjustments.
        #[serde(with = "cdr_id")]
        cdr_id: CdrId,
        /// The fields, by their names in the row.
        fields: Map<String, Value>,
    },
    /// Void a record.
    Void {
        /// The record or one of its adjustments.
        #[serde(with = "cdr_id")]
        cdr_id: CdrId,
        /// Code of the reason.
        void_reason: String,
    },
    /// Re-rate many records.
    ReRate(JobRequest),
    /// Something happened that the audit log has to know.
    Note {
        /// Kind of what happened.
        entry_type: String,
        /// Hour that it concerns.
        bucket_hour: Option<cdr_core::Hour>,
        /// Operator that it concerns.
        operator_id: Option<String>,
        /// What it was about.
        details: Map<String, Value>,
    },
    /// Deliver a settlement file again, as it is.
    Redrop {
        /// The file.
        #[serde(with = "cdr_id")]
        export_id: CdrId,
    },
    /// Deliver the settlement file of a day again, or make it before it is due if there is none.
    Settle(FileOfDay),
    /// The receiver has checked a settlement file.
    Acknowledge {
        /// The file.
        #[serde(with = "cdr_id")]
        export_id: CdrId,
        /// Its receipt.
        receipt_id: String,
        /// None if it accepts the file, else why not.
        rejection_reason: Option<String>,
        /// What it sent with its answer: the text of that JSON, as it was sent.
        payload: Option<String>,
    },
    /// Take a record out of quarantine.
    Resolve {
        /// The entry.
        #[serde(with = "cdr_id")]
        quarantine_id: CdrId,
        /// True if it is listed in the next file, false if it is never listed.
        resubmit: bool,
    },
    /// Activate a schema variant for the files to come.
    Activate(SchemaChoice),
    /// A replica put a setting in force while it runs.
    Configure(NodeSetting),
}

/// Which settlement file is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOfDay {
    /// Kind of the file.
    pub export_type: ExportType,
    /// Operator.
    pub operator_id: String,
    /// The receiver's series.
    pub series: String,
    /// The day; it must be over.
    pub settlement_day: Day,
    /// Schema variant by which it is, or is to be, made.
    pub schema_variant: String,
}

/// Which schema variant is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SchemaChoice {
    /// The variant.
    pub schema_variant: String,
    /// SHA-256 over its files, in hexadecimal.
    pub schema_hash: String,
    /// The variant that is in force as long as none was activated.
    pub configured: String,
}

/// A setting of one replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSetting {
    /// The replica.
    pub node_id: u64,
    /// The setting, as `section.key` or `section`.
    pub name: String,
    /// What was in force on the replica before.
    pub before: String,
    /// What is in force now: a value that is not a secret, or a hash.
    pub value: String,
}

/// Why an act was not performed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ActError {
    /// There is no such CDR.
    #[error("record {cdr_id} does not exist")]
    NotFound {
        /// The record.
        cdr_id: String,
    },
    /// The record no longer counts.
    #[error("record {cdr_id} is voided already")]
    AlreadyVoided {
        /// The record.
        cdr_id: String,
    },
    /// The key was used before, for another request.
    #[error("this Idempotency-Key was used for another request: use a new one")]
    IdempotencyConflict,
    /// A field can't have the value.
    #[error("{field}: {message}")]
    Field {
        /// The field.
        field: String,
        /// What is wrong.
        message: String,
    },
    /// There is no such settlement file.
    #[error("{what} does not exist")]
    UnknownExport {
        /// What was requested.
        what: String,
    },
    /// The receiver has answered for the file.
    #[error("export {export_id} is acknowledged already")]
    ExportAcked {
        /// The file.
        export_id: String,
    },
    /// The file is not that far.
    #[error("export {export_id}: {why}")]
    ExportNotReady {
        /// The file.
        export_id: String,
        /// What is missing.
        why: String,
    },
    /// The file waits for its signature, and the signer is away.
    #[error(
        "export {export_id} is not signed: the signer is unavailable ({why}). The file is signed and delivered once the signer is back"
    )]
    SignerAway {
        /// The file.
        export_id: String,
        /// What the signer says.
        why: String,
    },
    /// The receiver has another file of that name.
    #[error(
        "export {export_id}: the receiver has another file named {file_name}. Find out which of the two is right, then \
         redrop the export"
    )]
    DuplicateFile {
        /// The file.
        export_id: String,
        /// Its name.
        file_name: String,
    },
    /// There is no such entry in quarantine.
    #[error("quarantine entry {quarantine_id} does not exist")]
    UnknownQuarantine {
        /// The entry.
        quarantine_id: String,
    },
    /// The record left quarantine before.
    #[error("quarantine entry {quarantine_id} was {why}")]
    QuarantineResolved {
        /// The entry.
        quarantine_id: String,
        /// How, and by whom.
        why: String,
    },
    /// The schema variant can't be used for this.
    #[error("{why}")]
    SchemaInvalid {
        /// Why.
        why: String,
    },
    /// The schema variant is in force.
    #[error("schema variant {variant} is in force already")]
    SchemaActive {
        /// The variant.
        variant: String,
    },
    /// The leader does not accept the caller's identity.
    #[error("{0}")]
    Unauthenticated(AuthError),
    /// The caller may not do that.
    #[error("this needs the scope {required}")]
    InsufficientScope {
        /// The scope that is missing.
        required: String,
    },
    /// A second person has to approve, and none that counts has.
    #[error("a second person has to approve this: {why}")]
    Unapproved {
        /// What is missing.
        why: String,
    },
    /// The log does not take it as things are.
    #[error("{why}")]
    Refused {
        /// Why.
        why: String,
    },
    /// No leader took it.
    #[error("no leader took the request: {reason}")]
    NotLeader {
        /// The last obstacle.
        reason: String,
    },
    /// The leader takes no commands, such as for lack of space; nothing was done.
    #[error(
        "the leader takes no commands at present: {reason}; repeat the request with the same Idempotency-Key"
    )]
    Restricted {
        /// Why.
        reason: String,
    },
    /// Something failed; whether it was done shows a repetition under the same key.
    #[error("the request was not confirmed: {reason}; repeat it with the same Idempotency-Key")]
    Unconfirmed {
        /// Why.
        reason: String,
    },
}

impl ActError {
    /// True for what may pass by itself, such as an election: the act bears to be repeated.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::NotLeader { .. } | Self::Restricted { .. } | Self::Unconfirmed { .. })
    }
}

/// Whatever failed, as the reason.
#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn unconfirmed(error: impl ToString) -> ActError {
    ActError::Unconfirmed { reason: error.to_string() }
}

impl Act {
    /// The hash of the caller and the key that they chose.
    pub fn key_of(actor: &str, key: &str) -> Hash {
        sha256(format!("{}:{actor}:{key}", actor.len()).as_bytes())
    }
}

/// Record ids as text.
mod cdr_id {
    use cdr_core::CdrId;
    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    pub fn serialize<S: Serializer>(id: &CdrId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<CdrId, D::Error> {
        let text = String::deserialize(deserializer)?;
        CdrId::parse(&text).ok_or_else(|| D::Error::custom("expected a record id"))
    }
}
