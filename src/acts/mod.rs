//! What people ask for: adjustments, bulk jobs, notes for the audit log (US-CDR-016 to 018).
//!
//! Any replica takes an [`Act`]; the [`Desk`] of the leader performs it. Every act has a key under which it may be
//! repeated: the client's `Idempotency-Key`, or one that the replica draws, so that a question that arrived twice on
//! its way to the leader still happens once.

mod adjust;
mod correction;
mod desk;

pub use adjust::{Adjusted, adjusted};
pub use correction::{CORRECTABLE, FieldError, corrected};
pub(crate) use correction::{is_currency, is_tariff_class};
pub use desk::{Desk, OpenDesk, PATIENCE};

use cdr_core::hash::{hex_string, sha256};
use cdr_core::job::JobRequest;
use cdr_core::{CdrId, Hash};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Something that somebody asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Act {
    /// What is asked.
    pub wish: Wish,
    /// Who asks.
    pub actor: String,
    /// Who approved, where somebody had to.
    pub approver: Option<String>,
    /// Why, in words.
    pub reason: Option<String>,
    /// Ticket that asks for it.
    pub ticket_id: Option<String>,
    /// Trace of the request.
    pub trace_id: String,
    /// Hash of who asks and the key that they chose.
    #[serde(with = "hex_string")]
    pub key: Hash,
    /// Hash of what was asked.
    #[serde(with = "hex_string")]
    pub body: Hash,
}

/// What is asked.
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
    /// A record shall count no more.
    Void {
        /// The record or one of its adjustments.
        #[serde(with = "cdr_id")]
        cdr_id: CdrId,
        /// Code of the reason.
        void_reason: String,
    },
    /// Many records shall be rated anew.
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
    /// The record counts no more.
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
    /// Something failed; whether it was done shows a repetition under the same key.
    #[error("the request was not confirmed: {reason}; repeat it with the same Idempotency-Key")]
    Unconfirmed {
        /// Why.
        reason: String,
    },
}

/// Whatever failed, as the reason.
#[allow(clippy::needless_pass_by_value)] // for `map_err`
fn unconfirmed(error: impl ToString) -> ActError {
    ActError::Unconfirmed { reason: error.to_string() }
}

impl Act {
    /// The hash of who asks and the key that they chose.
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
