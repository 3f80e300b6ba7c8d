//! What is answered when a request can't be: status, code, message and details (API contract, section 4).
//!
//! A handler returns an [`ApiError`]; the outermost layer, which knows the trace id, writes the envelope.

use crate::acts::ActError;
use crate::auth::{ALL_SCOPES, AuthError};
use crate::masking;
use axum::http::{HeaderValue, Response, StatusCode, header};
use axum::response::IntoResponse;
use cdr_core::json::JsonError;
use cdr_core::time::MAX_MILLIS;
use cdr_core::{Hour, Millis};
use cdr_raft::ReadError;
use cdr_storage::StoreError;
use serde_json::{Value, json};

/// How long after an hour's end its seal may take (US-CDR-003), milliseconds.
const SEAL_WITHIN_MS: i64 = 5 * 60_000;

/// Why a request is not answered as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiError {
    /// A parameter, or the body, can't be used.
    Validation {
        /// Parameter or field.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// Nobody knows who asks.
    Unauthenticated(AuthError),
    /// Who asks may not.
    InsufficientScope {
        /// Scope that is missing.
        required: &'static str,
    },
    /// There is no such record.
    RecordNotFound {
        /// What was asked for.
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
    /// An adjustment has to name the ticket that asks for it.
    TicketRequired,
    /// The record counts no more.
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
        /// What was asked for.
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
        /// Operator that was asked for.
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

    /// A body that can't be read. A key that is there twice in its outermost object is named.
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

    /// The same for whoever may not see numbers, which an encoder quotes from the record that it can't encode.
    #[must_use]
    pub(super) fn without_numbers(self) -> Self {
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

    fn message(&self) -> String {
        match self {
            Self::Validation { field, message } => format!("{field}: {message}"),
            Self::Unauthenticated(why) => why.to_string(),
            Self::InsufficientScope { required } => format!("this needs the scope {required}"),
            Self::RecordNotFound { what } | Self::ExportNotFound { what } => {
                format!("{what} does not exist")
            }
            Self::AdjustmentNotFound { adjustment_id } => {
                format!("adjustment {adjustment_id} does not exist")
            }
            Self::JobNotFound { job } => {
                format!("job {job} does not exist, or ended so long ago that only its rows tell of it")
            }
            Self::TicketRequired => "ticketId: an adjustment names the ticket that asks for it".to_owned(),
            Self::AlreadyVoided { cdr_id } => format!("the record is voided already, by {cdr_id}"),
            Self::IdempotencyConflict => {
                "this Idempotency-Key was used for another request: use a new one".to_owned()
            }
            Self::FourEyesRequired { impact, limit, why } if impact > limit => {
                format!("{impact} records are concerned, more than {limit} need a second person: {why}")
            }
            Self::FourEyesRequired { impact, why, .. } => {
                format!(
                    "{why}: an approval that is sent must count; {impact} records need none, so that it may be left out"
                )
            }
            Self::SecondPersonRequired { why } => format!("a second person has to approve this: {why}"),
            Self::ExportAlreadyAcked { export_id } => {
                format!("the regulator has answered for export {export_id} already")
            }
            Self::ExportNotReady { export_id, why } => format!("export {export_id}: {why}"),
            Self::HsmUnavailable { export_id, .. } => format!(
                "export {export_id} is not signed, and the signer is away: it is signed and delivered once it is back"
            ),
            Self::DuplicateFile { export_id, file_name } => format!(
                "export {export_id}: the receiver has another file named {file_name}; find out which of the two is \
                 right, then redrop the export"
            ),
            Self::QuarantineNotFound { quarantine_id } => {
                format!("quarantine entry {quarantine_id} does not exist")
            }
            Self::QuarantineResolved { quarantine_id, why } => {
                format!("quarantine entry {quarantine_id} was {why}")
            }
            Self::SchemaNotFound { variant } => {
                format!("there is no schema variant {variant:?} here: see GET /v1/cdr/regulator-schemas")
            }
            Self::SchemaInvalid { why, .. } => why.clone(),
            Self::SchemaActive { variant } => format!("schema variant {variant} is in force already"),
            Self::UnknownPath => "there is no such path".to_owned(),
            Self::MethodNotAllowed => "this path has other methods: see the header Allow".to_owned(),
            Self::TooLarge { limit_bytes } => format!("body: it is larger than {limit_bytes} bytes"),
            Self::BucketNotSealed { hour, .. } => format!("Bucket {hour} not yet sealed"),
            Self::NotLeader { reason, .. } => format!(
                "no leader confirmed the read in time ({reason}): try again, or ask with consistency=stale"
            ),
            Self::NotTaken { reason, .. } => format!(
                "no leader took the request in time ({reason}): repeat it with the same Idempotency-Key"
            ),
            Self::Unavailable { dependency, reason } => format!("{dependency} is not available: {reason}"),
            Self::Internal { .. } => "an internal error; the log has it under this trace id".to_owned(),
        }
    }

    fn details(&self) -> Value {
        match self {
            Self::Validation { field, .. } => json!({ "field": field }),
            Self::TooLarge { limit_bytes } => json!({ "field": "body", "limitBytes": limit_bytes }),
            Self::InsufficientScope { required } => json!({ "requiredScope": required }),
            Self::RecordNotFound { what } | Self::ExportNotFound { what } => json!({ "what": what }),
            Self::AdjustmentNotFound { adjustment_id } => json!({ "adjustmentId": adjustment_id }),
            Self::JobNotFound { job } => json!({ "jobId": job }),
            Self::TicketRequired => json!({ "field": "ticketId" }),
            Self::AlreadyVoided { cdr_id } => json!({ "cdrId": cdr_id }),
            Self::FourEyesRequired { impact, limit, .. } => {
                json!({ "estimatedImpact": impact, "approvalAbove": limit })
            }
            Self::ExportAlreadyAcked { export_id } | Self::ExportNotReady { export_id, .. } => {
                json!({ "exportId": export_id })
            }
            Self::HsmUnavailable { export_id, why } => {
                json!({ "dependency": "signer", "exportId": export_id, "reason": why })
            }
            Self::DuplicateFile { export_id, file_name } => {
                json!({ "exportId": export_id, "fileName": file_name })
            }
            Self::QuarantineNotFound { quarantine_id } | Self::QuarantineResolved { quarantine_id, .. } => {
                json!({ "quarantineId": quarantine_id })
            }
            Self::SchemaNotFound { variant } | Self::SchemaActive { variant } => {
                json!({ "schemaVariant": variant })
            }
            Self::SchemaInvalid { failures, .. } => json!({ "failures": failures }),
            Self::BucketNotSealed { hour, operator_id } => {
                let by = hour.end().0 + SEAL_WITHIN_MS;
                // No later instant has a text: the last hour of 9999 ends behind it.
                let by = (by <= MAX_MILLIS).then(|| Millis(by).to_string().replace(".000Z", "Z"));
                json!({ "bucketHour": hour, "operatorId": operator_id, "expectedSealBy": by })
            }
            Self::NotLeader { leader: Some((id, address)), .. }
            | Self::NotTaken { leader: Some((id, address)), .. } => {
                json!({ "leader": { "nodeId": id, "address": address } })
            }
            Self::NotLeader { leader: None, .. } | Self::NotTaken { leader: None, .. } => {
                json!({ "leader": null })
            }
            Self::Unavailable { dependency, .. } => json!({ "dependency": dependency }),
            _ => json!({}),
        }
    }

    /// The error envelope.
    pub fn envelope(&self, trace_id: &str) -> Vec<u8> {
        let error = json!({
            "code": self.code(), "message": self.message(), "details": self.details(), "traceId": trace_id,
        });
        json!({ "error": error }).to_string().into_bytes()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> axum::response::Response {
        let mut response = Response::new(axum::body::Body::empty());
        *response.status_mut() = self.status();
        if matches!(self, Self::Unauthenticated(_)) {
            let challenge = HeaderValue::from_static("Bearer realm=\"cdr-mediation\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response.extensions_mut().insert(self);
        response
    }
}

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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_envelope_is_that_of_the_contract() {
        let hour = Hour::parse("2026-04-21T09:00:00Z").unwrap();
        let error = ApiError::BucketNotSealed { hour, operator_id: Some("AWCC".to_owned()) };
        let envelope: Value = serde_json::from_slice(&error.envelope("00-abc")).unwrap();
        let expected = json!({ "error": {
            "code": "BUCKET_NOT_SEALED",
            "message": "Bucket 2026-04-21T09:00:00Z not yet sealed",
            "details": {
                "bucketHour": "2026-04-21T09:00:00Z",
                "operatorId": "AWCC",
                "expectedSealBy": "2026-04-21T10:05:00Z",
            },
            "traceId": "00-abc",
        }});
        assert_eq!(envelope, expected);
        assert_eq!(error.status(), 409);
    }

    #[test]
    fn no_seal_is_expected_behind_the_last_instant_that_has_a_text() {
        let hour = Hour::parse("9999-12-31T23:00:00Z").unwrap();
        let error = ApiError::BucketNotSealed { hour, operator_id: None };
        let envelope: Value = serde_json::from_slice(&error.envelope("t")).unwrap();
        assert_eq!(envelope["error"]["details"]["bucketHour"], "9999-12-31T23:00:00Z");
        assert_eq!(envelope["error"]["details"]["expectedSealBy"], Value::Null);
    }

    #[test]
    fn an_approval_that_does_not_count_is_told_as_such_where_none_is_needed() {
        let said = |impact: u64| {
            ApiError::FourEyesRequired { impact, limit: 100_000, why: "X-Approver-Jwt: expired".to_owned() }
                .message()
        };
        assert_eq!(
            said(100_001),
            "100001 records are concerned, more than 100000 need a second person: X-Approver-Jwt: expired"
        );
        let small = said(99);
        assert!(
            small.starts_with("X-Approver-Jwt: expired") && small.contains("99 records need none"),
            "{small}"
        );
    }

    #[test]
    fn the_reason_of_an_internal_error_is_not_told() {
        let error = ApiError::internal("the password is swordfish");
        assert!(!String::from_utf8(error.envelope("t")).unwrap().contains("swordfish"));
    }

    #[test]
    fn a_refused_caller_is_told_how_to_prove_itself() {
        let response = ApiError::from(AuthError::Expired).into_response();
        assert_eq!(response.status(), 401);
        assert!(response.headers().contains_key(header::WWW_AUTHENTICATE));
    }
}
