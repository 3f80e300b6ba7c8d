//! What is answered when a request can't be: status, code, message and details (API contract, section 4).
//!
//! A handler returns an [`ApiError`]; the outermost layer, which knows the trace id, writes the envelope.

mod codes;
mod envelope;
mod sources;

use crate::auth::AuthError;
use crate::masking;
use cdr_core::Hour;
use cdr_core::json::JsonError;
use serde_json::Value;

/// Why a request is not answered as requested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiError {
    /// A parameter, or the body, can't be used.
    Validation {
        /// Parameter or field.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// The caller is not authenticated.
    Unauthenticated(AuthError),
    /// The caller may not do that.
    InsufficientScope {
        /// Scope that is missing.
        required: &'static str,
    },
    /// There is no such record.
    RecordNotFound {
        /// What was requested.
        what: String,
    },
    /// There is no such adjustment.
    AdjustmentNotFound {
        /// Its id, `adj_…`.
        adjustment_id: String,
    },
    /// There is no such job.
    JobNotFound {
        /// Its id.
        job: String,
    },
    /// An adjustment has to name the ticket that requests it.
    TicketRequired,
    /// The record no longer counts.
    AlreadyVoided {
        /// The VOID.
        cdr_id: String,
    },
    /// The key was used for another request.
    IdempotencyConflict,
    /// A second person has to approve.
    FourEyesRequired {
        /// Records that are concerned.
        impact: u64,
        /// Records that need no approval.
        limit: u64,
        /// What is missing.
        why: String,
    },
    /// A second person has to approve, whatever is concerned.
    SecondPersonRequired {
        /// What is missing.
        why: String,
    },
    /// There is no such settlement file.
    ExportNotFound {
        /// What was requested.
        what: String,
    },
    /// The receiver has answered for the file.
    ExportAlreadyAcked {
        /// The file.
        export_id: String,
    },
    /// The file is not that far.
    ExportNotReady {
        /// The file.
        export_id: String,
        /// What is missing.
        why: String,
    },
    /// The file waits for its signature, and the signer is away.
    HsmUnavailable {
        /// The file.
        export_id: String,
        /// What the signer says.
        why: String,
    },
    /// The receiver has another file of that name.
    DuplicateFile {
        /// The file.
        export_id: String,
        /// Its name.
        file_name: String,
    },
    /// There is no such entry in quarantine.
    QuarantineNotFound {
        /// The entry.
        quarantine_id: String,
    },
    /// The record left quarantine before.
    QuarantineResolved {
        /// The entry.
        quarantine_id: String,
        /// How, and by whom.
        why: String,
    },
    /// There is no such schema variant.
    SchemaNotFound {
        /// Its name.
        variant: String,
    },
    /// The schema variant can't be used for this, or can't encode these records.
    SchemaInvalid {
        /// What is wrong.
        why: String,
        /// Records that it can't encode, the first of them: `cdrId` and `error`.
        failures: Vec<Value>,
    },
    /// The schema variant is in force.
    SchemaActive {
        /// Its name.
        variant: String,
    },
    /// There is no such path.
    UnknownPath,
    /// The path has other methods.
    MethodNotAllowed,
    /// The body is larger than allowed.
    TooLarge {
        /// Largest body, bytes.
        limit_bytes: usize,
    },
    /// The hour is not sealed yet.
    BucketNotSealed {
        /// The hour.
        hour: Hour,
        /// The requested operator.
        operator_id: Option<String>,
    },
    /// No leader confirms that this replica's state is current.
    NotLeader {
        /// The leader, if known: id and address.
        leader: Option<(u64, String)>,
        /// The last obstacle.
        reason: String,
    },
    /// No leader took a request that changes something.
    NotTaken {
        /// The leader, if known: id and address.
        leader: Option<(u64, String)>,
        /// The last obstacle.
        reason: String,
    },
    /// Something that the answer depends on does not work.
    Unavailable {
        /// What.
        dependency: &'static str,
        /// Why.
        reason: String,
    },
    /// A failure that the caller can do nothing about.
    Internal {
        /// For the log, not for the caller.
        reason: String,
    },
}

impl ApiError {
    /// A parameter or field that can't be used.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Validation { field: field.into(), message: message.into() }
    }

    /// A body that can't be read. A key that occurs twice in its outermost object is named.
    #[allow(clippy::needless_pass_by_value)] // for `map_err`
    pub fn of_body(error: JsonError) -> Self {
        match error {
            JsonError::RepeatedKey { key, depth: 1 } => Self::invalid(key, "it is given twice"),
            JsonError::Syntax { why } => Self::invalid("body", format!("a JSON object is expected: {why}")),
            error => Self::invalid("body", error.to_string()),
        }
    }

    /// A failure that the caller can do nothing about.
    pub fn internal(reason: impl std::fmt::Display) -> Self {
        Self::Internal { reason: reason.to_string() }
    }

    /// The same for callers who may not see numbers, which an encoder quotes from the record that it can't encode.
    #[must_use]
    pub(in crate::api) fn without_numbers(self) -> Self {
        match self {
            Self::SchemaInvalid { why, mut failures } => {
                for failure in &mut failures {
                    masking::own(failure);
                }
                Self::SchemaInvalid { why: masking::text(&why).into_owned(), failures }
            }
            other => other,
        }
    }
}
