//! `fraud.reversal.v1`: a message was fraudulent; its record is voided (US-CDR-017).

use super::fields::Fields;
use super::{ConsumeError, Handler, Message, Taken, Work};
use crate::dlr::Reason;
use crate::texts;
use cdr_core::audit::AuditRecord;
use cdr_core::row::{Adjustment, AdjustmentType, Draft, Drawn, Record, Row, Sms};
use cdr_core::{CdrId, Millis, Money, Uuid};
use serde_json::{Map, Value};

/// Durable name.
pub(super) const DURABLE: &str = "cdr-mediation-fraud-reversal";
/// Subject.
pub(super) const SUBJECT: &str = "fraud.reversal.v1";
/// Who issues the voids.
const ISSUER: &str = "system:fraud-reversal";
/// Their code.
const VOID_REASON: &str = "FRAUD_REVERSAL";

/// Voids the effective row of the message, with a row of the audit log in the same command.
pub(super) struct Reversal;

pub(super) struct Asked<'a> {
    message_id: Uuid,
    ticket_id: &'a str,
    detected_at: Millis,
}

impl Handler for Reversal {
    fn take(&self, message: &Message<'_>, work: &mut Work<'_>) -> Result<Taken, ConsumeError> {
        let fields = match Fields::read(message.payload) {
            Ok(fields) => fields,
            Err(reason) => return Ok(Taken::Unreadable(reason)),
        };
        let asked = match read(&fields) {
            Ok(asked) => asked,
            Err(reason) => return Ok(Taken::Unreadable(reason)),
        };
        let rows = work.rows_of(asked.message_id)?;
        let Some(last) = rows.last() else {
            return Ok(Taken::Failed("there is no record of the message".to_owned()));
        };
        let effective = last.row()?;
        let is_void = |a: &Adjustment<'_>| a.kind == AdjustmentType::Void;
        let Some(before) = effective.sms().filter(|sms| !sms.adjustment.as_ref().is_some_and(is_void)) else {
            return Ok(Taken::Done);
        };
        let trace_id = fields.trace_id(effective.frame.trace_id);
        let (void, noted) = (work.draw()?, work.draw()?);
        work.push(&voided(&effective, before, asked.ticket_id, trace_id, void))?;
        work.push_audit(noted, &audit(&effective, void.cdr_id, &asked), trace_id)?;
        Ok(Taken::Rows)
    }
}

pub(super) fn read<'a>(fields: &'a Fields<'_>) -> Result<Asked<'a>, Reason> {
    Ok(Asked {
        message_id: fields.message_id()?,
        ticket_id: fields.text("ticketId", texts::TICKET, texts::is_ticket)?,
        detected_at: fields.instant("detectedAt")?,
    })
}

fn voided<'a>(
    effective: &Row<'a>,
    before: &Sms<'a>,
    ticket_id: &'a str,
    trace_id: &'a str,
    drawn: Drawn,
) -> Draft<'a> {
    let adjustment = Adjustment {
        of: effective.frame.cdr_id,
        kind: AdjustmentType::Void,
        reason: None,
        void_reason: Some(VOID_REASON),
        ticket_id: Some(ticket_id),
        issued_by: Some(ISSUER),
        approver: None,
    };
    let sms = Sms { charge_amount: Some(Money::ZERO), adjustment: Some(adjustment), ..before.clone() };
    Draft::new(drawn, effective.frame.operator_id, trace_id, Record::Sms(sms)).following(effective)
}

fn audit(effective: &Row<'_>, void_id: CdrId, asked: &Asked<'_>) -> AuditRecord {
    let details = [
        ("adjustmentId", void_id.with_prefix("adj_")),
        ("adjustmentOf", effective.frame.cdr_id.to_string()),
        ("adjustmentType", AdjustmentType::Void.as_str().to_owned()),
        ("detectedAt", asked.detected_at.to_string()),
        ("voidReason", VOID_REASON.to_owned()),
    ];
    AuditRecord {
        actor_user_id: Some(ISSUER.to_owned()),
        details: details
            .into_iter()
            .map(|(key, value)| (key.to_owned(), Value::String(value)))
            .collect::<Map<_, _>>(),
        entry_type: "ADJUSTMENT_ISSUED".to_owned(),
        operator_id: Some(effective.frame.operator_id.to_owned()),
        ticket_id: Some(asked.ticket_id.to_owned()),
        ..AuditRecord::default()
    }
}
