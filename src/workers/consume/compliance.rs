//! `compliance.audit.v1`: a compliance evaluation of a message, for the audit log.

use super::fields::Fields;
use super::{ConsumeError, Handler, Message, Taken, Work};
use crate::dlr::Reason;
use crate::texts;
use cdr_core::audit::{AuditRecord, RequestRecord};
use cdr_core::hash::{sha256, to_hex};
use cdr_core::{Hash, Uuid};
use serde_json::{Map, Value};

/// Durable name.
pub(super) const DURABLE: &str = "cdr-mediation-audit-sink";
/// Subject.
pub(super) const SUBJECT: &str = "compliance.audit.v1";
/// Who wrote the rows.
const ACTOR: &str = "system:audit-sink";

/// Writes one row of the audit log for each message, whether or not its record is known.
pub(super) struct Sink;

impl Handler for Sink {
    fn take(&self, message: &Message<'_>, work: &mut Work<'_>) -> Result<Taken, ConsumeError> {
        let fields = match Fields::read(message.payload) {
            Ok(fields) => fields,
            Err(reason) => return Ok(Taken::Unreadable(reason)),
        };
        let (message_id, evaluation_id) = match read(&fields) {
            Ok(read) => read,
            Err(reason) => return Ok(Taken::Unreadable(reason)),
        };
        let key = key(message);
        if work.store().request(&key)?.is_some() {
            return Ok(Taken::Done);
        }
        let drawn = work.draw()?;
        let mut details = Map::new();
        details.insert("complianceEvaluationId".to_owned(), Value::from(evaluation_id));
        details.insert("messageId".to_owned(), Value::from(message_id.to_string()));
        let mut audit = AuditRecord {
            actor_user_id: Some(ACTOR.to_owned()),
            entry_type: "COMPLIANCE_EVALUATION".to_owned(),
            request: Some(RequestRecord {
                answer: drawn.cdr_id.to_string(),
                body: sha256(message.payload),
                key,
            }),
            ..AuditRecord::default()
        };
        if let Some(original) = work.rows_of(message_id)?.first() {
            let frame = original.row()?.frame;
            details.insert("cdrId".to_owned(), Value::from(frame.cdr_id.to_string()));
            audit.bucket_hour = Some(frame.bucket_hour);
            audit.operator_id = Some(frame.operator_id.to_owned());
        }
        audit.details = details;
        work.push_audit(drawn, &audit, fields.trace_id(DURABLE))?;
        Ok(Taken::Rows)
    }
}

pub(super) fn read<'a>(fields: &'a Fields<'_>) -> Result<(Uuid, &'a str), Reason> {
    let id = fields.text("complianceEvaluationId", texts::NAME, texts::is_name)?;
    Ok((fields.message_id()?, id))
}

/// A redelivery has the same key. The bytes are part of it, because a stream that was recreated counts from 1 again.
fn key(message: &Message<'_>) -> Hash {
    let Message { durable, stream, sequence, payload } = message;
    sha256(format!("{durable}:{stream}:{sequence}:{}", to_hex(&sha256(payload))).as_bytes())
}
