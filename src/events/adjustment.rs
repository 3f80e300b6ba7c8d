//! Events of adjustments: one issued, a bulk job ended.

use super::changes::{Changed, push_changes};
use super::json::Body;
use super::record::sms;
use super::{Event, EventError, EventHead, subject};
use crate::masking;
use cdr_core::row::{AdjustmentType, Row};
use cdr_core::{CdrId, Hour, Millis, Uuid};

/// What a reason is called that is not a code: a sentence could name a subscriber.
const OTHER_REASON: &str = "OTHER";

/// `cdr.adjustment.created.v1`: `row` adjusts the record `original`, directly or through earlier adjustments.
///
/// `correctedFields` are the fields in which a CORRECTION differs from `predecessor`, the row that it adjusts directly,
/// with their new values; null for the other kinds, and if the predecessor is unknown. `reasonCode` is the code of
/// a VOID, `TARIFF_CHANGE` for a RE_RATE, and for a CORRECTION follows from what it changed. The reason in words is
/// left out. A void reason that is not a code (capital letters, digits, underscores) is given as `OTHER`.
///
/// # Errors
/// [`EventError`] unless `row` is an adjustment.
pub fn adjustment_created<'a>(
    row: &Row<'a>,
    predecessor: Option<&Row<'_>>,
    original: CdrId,
    head: &EventHead<'_>,
) -> Result<Event<'a>, EventError> {
    let subject = subject::ADJUSTMENT_CREATED;
    let sms = sms(row, subject)?;
    let Some(adjustment) = &sms.adjustment else {
        return Err(EventError::NotAnAdjustment { cdr_id: row.frame.cdr_id.to_string(), subject });
    };
    let void_reason = adjustment.void_reason.map(code_or_other);
    let mut body = Body::begin(head, 768);
    body.id("adjustmentId", "adj_", row.frame.cdr_id);
    body.id("originalCdrId", "cdr_", original);
    body.code("adjustmentType", adjustment.kind.as_str());
    let before = predecessor.and_then(Row::sms).filter(|_| adjustment.kind == AdjustmentType::Correction);
    let changed = if let Some(before) = before {
        body.value("correctedFields", |out| push_changes(before, sms, head.numbers, out))
    } else {
        body.raw("correctedFields", "null");
        Changed::default()
    };
    body.code(
        "reasonCode",
        match adjustment.kind {
            AdjustmentType::Void => void_reason.unwrap_or(OTHER_REASON),
            AdjustmentType::ReRate => "TARIFF_CHANGE",
            AdjustmentType::Correction => changed.reason_code(),
        },
    );
    body.text_or_null("voidReason", void_reason);
    body.text("ticketId", adjustment.ticket_id.unwrap_or_default());
    body.text("issuedByUserId", adjustment.issued_by.unwrap_or_default());
    body.text_or_null("approverUserId", adjustment.approver);
    let table = sms.tariff_version.filter(|_| adjustment.kind == AdjustmentType::ReRate);
    body.text_or_null("newPricingTableId", table);
    body.hour("bucketHour", row.frame.bucket_hour);
    Ok(Event {
        subject,
        partition_key: row.frame.operator_id,
        event_id: head.event_id,
        payload: body.end(head),
    })
}

fn code_or_other(reason: &str) -> &str {
    let is_code = reason.starts_with(|c: char| c.is_ascii_uppercase())
        && reason.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
        // This many digits in a row could be a number.
        && !reason.as_bytes().windows(masking::DIGITS_ALONE).any(|part| part.iter().all(u8::is_ascii_digit));
    if is_code { reason } else { OTHER_REASON }
}

/// A bulk job that has issued all its adjustments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdjustmentBatch<'a> {
    /// The job; its text begins with `adjjob_`.
    pub job_id: CdrId,
    /// RE_RATE or VOID.
    pub kind: AdjustmentType,
    /// Adjustments that it issued.
    pub count: u64,
    /// Sum of new minus old charges, in millionths.
    pub sum_delta_micros: i128,
    /// Operator that it was limited to.
    pub operator_id: Option<&'a str>,
    /// Tenant that it was limited to.
    pub tenant_id: Option<Uuid>,
    /// First hour of the adjusted rows.
    pub bucket_hour_from: Hour,
    /// Last hour of the adjusted rows.
    pub bucket_hour_to: Hour,
    /// Who requested it.
    pub issued_by: &'a str,
    /// Who approved it; empty where no approval was needed.
    pub approver: &'a str,
    /// Ticket that requested it.
    pub ticket_id: &'a str,
    /// When it began.
    pub started_at: Millis,
    /// When its last adjustment was committed.
    pub finished_at: Millis,
}

/// `cdr.adjustment.batch.issued.v1`: a bulk job has ended.
///
/// # Errors
/// [`EventError::NotABulkKind`] for corrections.
pub fn adjustment_batch<'a>(
    batch: &AdjustmentBatch<'a>,
    head: &EventHead<'_>,
) -> Result<Event<'a>, EventError> {
    if batch.kind == AdjustmentType::Correction {
        return Err(EventError::NotABulkKind { job_id: batch.job_id.with_prefix("adjjob_") });
    }
    let mut body = Body::begin(head, 704);
    body.id("jobId", "adjjob_", batch.job_id);
    body.code("adjustmentType", batch.kind.as_str());
    body.integer("count", batch.count);
    body.sum("sumDeltaMinor", batch.sum_delta_micros);
    body.text_or_null("operatorId", batch.operator_id);
    body.uuid_or_null("tenantId", batch.tenant_id);
    body.hour("bucketHourFrom", batch.bucket_hour_from);
    body.hour("bucketHourTo", batch.bucket_hour_to);
    body.text("issuedByUserId", batch.issued_by);
    body.text("approverUserId", batch.approver);
    body.text("ticketId", batch.ticket_id);
    body.instant("startedAt", batch.started_at);
    body.instant("finishedAt", batch.finished_at);
    Ok(Event {
        subject: subject::ADJUSTMENT_BATCH,
        partition_key: batch.operator_id.unwrap_or_default(),
        event_id: head.event_id,
        payload: body.end(head),
    })
}
