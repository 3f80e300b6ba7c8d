//! Errors of what a request needs, as they are reported to the caller.

use super::ApiError;
use crate::acts::ActError;
use crate::auth::{ALL_SCOPES, AuthError};
use cdr_raft::ReadError;
use cdr_storage::StoreError;

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable { reason } => Self::NotLeader { leader: None, reason },
            error @ ReadError::Behind { .. } => Self::NotLeader { leader: None, reason: error.to_string() },
            error @ ReadError::Stopped { .. } => {
                Self::Unavailable { dependency: "raft", reason: error.to_string() }
            }
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unknown { what } => Self::RecordNotFound { what },
            error if error.is_damage() => {
                tracing::error!(severity = "SEV1", %error, "stored bytes are damaged");
                Self::internal(error)
            }
            error => Self::Unavailable { dependency: "storage", reason: error.to_string() },
        }
    }
}

impl From<ActError> for ApiError {
    fn from(error: ActError) -> Self {
        match error {
            ActError::NotFound { cdr_id } => Self::RecordNotFound { what: format!("record {cdr_id}") },
            ActError::AlreadyVoided { cdr_id } => Self::AlreadyVoided { cdr_id },
            ActError::IdempotencyConflict => Self::IdempotencyConflict,
            ActError::Field { field, message } => Self::Validation { field, message },
            ActError::UnknownExport { what } => Self::ExportNotFound { what },
            ActError::ExportAcked { export_id } => Self::ExportAlreadyAcked { export_id },
            ActError::ExportNotReady { export_id, why } => Self::ExportNotReady { export_id, why },
            ActError::SignerAway { export_id, why } => Self::HsmUnavailable { export_id, why },
            ActError::DuplicateFile { export_id, file_name } => Self::DuplicateFile { export_id, file_name },
            ActError::UnknownQuarantine { quarantine_id } => Self::QuarantineNotFound { quarantine_id },
            ActError::QuarantineResolved { quarantine_id, why } => {
                Self::QuarantineResolved { quarantine_id, why }
            }
            ActError::SchemaInvalid { why } => Self::SchemaInvalid { why, failures: Vec::new() },
            ActError::SchemaActive { variant } => Self::SchemaActive { variant },
            ActError::Unauthenticated(error) => Self::Unauthenticated(error),
            ActError::InsufficientScope { required } => {
                let known = ALL_SCOPES.iter().find(|scope| **scope == required);
                Self::InsufficientScope { required: known.copied().unwrap_or_default() }
            }
            ActError::Unapproved { why } => Self::SecondPersonRequired { why },
            ActError::NotLeader { reason } => Self::NotTaken { leader: None, reason },
            ActError::Refused { why } => Self::Unavailable { dependency: "ledger", reason: why },
            error @ ActError::Restricted { .. } => {
                Self::Unavailable { dependency: "storage", reason: error.to_string() }
            }
            error @ ActError::Unconfirmed { .. } => {
                Self::Unavailable { dependency: "raft", reason: error.to_string() }
            }
        }
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        Self::Unauthenticated(error)
    }
}
