//! Status and code of each error.

use super::ApiError;
use axum::http::StatusCode;

impl ApiError {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Validation { .. } => StatusCode::BAD_REQUEST,
            Self::Unauthenticated(_) => StatusCode::UNAUTHORIZED,
            Self::InsufficientScope { .. }
            | Self::FourEyesRequired { .. }
            | Self::SecondPersonRequired { .. } => StatusCode::FORBIDDEN,
            Self::RecordNotFound { .. }
            | Self::AdjustmentNotFound { .. }
            | Self::JobNotFound { .. }
            | Self::ExportNotFound { .. }
            | Self::QuarantineNotFound { .. }
            | Self::SchemaNotFound { .. }
            | Self::UnknownPath => StatusCode::NOT_FOUND,
            Self::TicketRequired | Self::SchemaInvalid { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::AlreadyVoided { .. }
            | Self::IdempotencyConflict
            | Self::ExportAlreadyAcked { .. }
            | Self::ExportNotReady { .. }
            | Self::DuplicateFile { .. }
            | Self::QuarantineResolved { .. }
            | Self::SchemaActive { .. }
            | Self::BucketNotSealed { .. } => StatusCode::CONFLICT,
            Self::NotLeader { .. }
            | Self::NotTaken { .. }
            | Self::HsmUnavailable { .. }
            | Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The code of the contract.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Validation { .. } | Self::TooLarge { .. } => "CDR_VALIDATION_FAILED",
            Self::Unauthenticated(_) => "UNAUTHENTICATED",
            Self::InsufficientScope { .. } => "INSUFFICIENT_SCOPE",
            Self::RecordNotFound { .. } => "CDR_NOT_FOUND",
            Self::AdjustmentNotFound { .. } => "ADJUSTMENT_NOT_FOUND",
            Self::JobNotFound { .. } => "JOB_NOT_FOUND",
            Self::TicketRequired => "TICKET_REQUIRED",
            Self::AlreadyVoided { .. } => "ALREADY_VOIDED",
            Self::IdempotencyConflict => "IDEMPOTENCY_CONFLICT",
            Self::FourEyesRequired { .. } | Self::SecondPersonRequired { .. } => "FOUR_EYES_REQUIRED",
            Self::ExportNotFound { .. } => "EXPORT_NOT_FOUND",
            Self::ExportAlreadyAcked { .. } => "EXPORT_ALREADY_ACKED",
            Self::ExportNotReady { .. } => "EXPORT_NOT_READY",
            Self::HsmUnavailable { .. } => "HSM_UNAVAILABLE",
            Self::DuplicateFile { .. } => "DUPLICATE_FILE",
            Self::QuarantineNotFound { .. } => "QUARANTINE_NOT_FOUND",
            Self::QuarantineResolved { .. } => "QUARANTINE_RESOLVED",
            Self::SchemaNotFound { .. } => "REGULATOR_SCHEMA_NOT_FOUND",
            Self::SchemaInvalid { .. } => "REGULATOR_SCHEMA_INVALID",
            Self::SchemaActive { .. } => "REGULATOR_SCHEMA_ACTIVE",
            Self::UnknownPath => "NOT_FOUND",
            Self::MethodNotAllowed => "METHOD_NOT_ALLOWED",
            Self::BucketNotSealed { .. } => "BUCKET_NOT_SEALED",
            Self::NotLeader { .. } | Self::NotTaken { .. } => "NOT_LEADER",
            Self::Unavailable { .. } => "DEPENDENCY_UNAVAILABLE",
            Self::Internal { .. } => "INTERNAL",
        }
    }
}
