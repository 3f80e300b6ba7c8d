//! What a caller reads: message and details of each error, in the envelope of the contract.

use super::ApiError;
use axum::http::{HeaderValue, Response, header};
use axum::response::IntoResponse;
use cdr_core::Millis;
use cdr_core::time::MAX_MILLIS;
use serde_json::{Value, json};

/// How long after an hour's end its seal may take (US-CDR-003), milliseconds.
const SEAL_WITHIN_MS: i64 = 5 * 60_000;

impl ApiError {
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
                format!("job {job} does not exist, or ended so long ago that only its rows are left")
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
                    "{why}: an approval that is sent must be valid; {impact} records need none, so it may be left out"
                )
            }
            Self::SecondPersonRequired { why } => format!("a second person has to approve this: {why}"),
            Self::ExportAlreadyAcked { export_id } => {
                format!("the regulator has answered for export {export_id} already")
            }
            Self::ExportNotReady { export_id, why } => format!("export {export_id}: {why}"),
            Self::HsmUnavailable { export_id, .. } => format!(
                "export {export_id} is not signed, and the signer is unavailable: the file is signed and delivered once the signer is back"
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::auth::AuthError;
    use cdr_core::Hour;

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
