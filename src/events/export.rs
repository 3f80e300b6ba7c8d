//! Events of settlement files: delivered, verified, refused; a record that left quarantine.

use super::json::Body;
use super::{Event, EventHead, subject};
use cdr_core::export::quarantine::{QUARANTINE_PREFIX, Quarantined};
use cdr_core::export::{EXPORT_PREFIX, Export, FileContent, FileSignature};
use cdr_core::{CdrId, Millis};

/// Why a file counts as refused once no channel took it for too long.
pub const CHANNELS_EXHAUSTED: &str = "DELIVERY_CHANNELS_EXHAUSTED";

/// A file that the receiver has. Of the file, the event holds only what never changes once it is signed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exported<'a> {
    /// The file.
    pub export: &'a Export,
    /// What it holds.
    pub content: &'a FileContent,
    /// Its signature.
    pub signature: &'a FileSignature,
    /// `SFTP`, `API` or `DIRECTORY`.
    pub channel: &'a str,
    /// When it was delivered.
    pub delivered_at: Millis,
    /// The receiver's receipt, where it gives one.
    pub receipt_id: Option<&'a str>,
}

/// `cdr.exported.v1`.
pub fn exported<'a>(file: &Exported<'a>, head: &EventHead<'_>) -> Event<'a> {
    let (pins, content) = (&file.export.pins, file.content);
    let mut body = Body::begin(head, 1024);
    body.id("exportId", EXPORT_PREFIX, file.export.id);
    body.code("exportType", pins.export_type.as_str());
    body.text("schemaVariant", &pins.schema_variant);
    body.text("recordingEntity", &pins.recording_entity);
    body.text("senderRoamingPartner", &pins.sender_roaming_partner);
    body.code("settlementDay", &pins.settlement_day.to_string());
    body.integer("fileSequenceNumber", u64::from(pins.file_sequence_number));
    body.text("fileName", &pins.file_name);
    body.hash("fileSha256", &content.file_sha256);
    body.integer("byteSize", content.byte_size);
    body.integer("recordsIncluded", content.records_included);
    body.integer("quarantinedCount", content.quarantined_count);
    body.text("signerKeyId", &file.signature.key_id);
    body.text("deliveryChannel", file.channel);
    body.text("deliveryState", &format!("DELIVERED_{}", file.channel));
    body.instant("deliveredAt", file.delivered_at);
    body.text_or_null("atraReceiptId", file.receipt_id);
    of_operator(subject::EXPORTED, &pins.operator_id, body, head)
}

/// A file that the receiver checked and accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportAcked<'a> {
    /// The file.
    pub export_id: CdrId,
    /// Its operator.
    pub operator_id: &'a str,
    /// The receiver's receipt.
    pub receipt_id: &'a str,
    /// When it reported that.
    pub acked_at: Millis,
}

/// `cdr.export.acked.v1`.
pub fn export_acked<'a>(acked: &ExportAcked<'a>, head: &EventHead<'_>) -> Event<'a> {
    let mut body = Body::begin(head, 320);
    body.id("exportId", EXPORT_PREFIX, acked.export_id);
    body.text("atraReceiptId", acked.receipt_id);
    body.code("atraVerificationStatus", "VERIFIED");
    body.instant("ackedAt", acked.acked_at);
    of_operator(subject::EXPORT_ACKED, acked.operator_id, body, head)
}

/// A file that the receiver refused, or that could not be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportRejected<'a> {
    /// The file.
    pub export_id: CdrId,
    /// Its operator.
    pub operator_id: &'a str,
    /// Why, a code of the event's schema.
    pub reason: &'a str,
    /// The receiver's receipt; none if it never had the file.
    pub receipt_id: Option<&'a str>,
    /// More about it: a JSON text without subscribers' numbers, copied as it is.
    pub payload: &'a str,
    /// Attempts that failed before.
    pub retry_count: u32,
    /// When.
    pub rejected_at: Millis,
}

/// `cdr.export.rejected.v1`.
pub fn export_rejected<'a>(rejected: &ExportRejected<'a>, head: &EventHead<'_>) -> Event<'a> {
    let mut body = Body::begin(head, 384 + rejected.payload.len());
    body.id("exportId", EXPORT_PREFIX, rejected.export_id);
    body.text("rejectionReason", rejected.reason);
    body.text_or_null("atraReceiptId", rejected.receipt_id);
    body.raw("atraErrorPayload", rejected.payload);
    body.integer("retryCount", u64::from(rejected.retry_count));
    body.instant("rejectedAt", rejected.rejected_at);
    of_operator(subject::EXPORT_REJECTED, rejected.operator_id, body, head)
}

/// A record that left quarantine. Of the entry, the event holds only how it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuarantineResolved<'a> {
    /// The entry.
    pub entry: &'a Quarantined,
    /// The encoder's error, without subscribers' numbers.
    pub encoder_error: &'a str,
    /// True if the record is listed in the next file, false if it is never listed.
    pub resubmitted: bool,
    /// Who decided it.
    pub resolved_by: &'a str,
    /// When.
    pub resolved_at: Millis,
}

/// `cdr.quarantine.resubmitted.v1`.
pub fn quarantine_resolved<'a>(resolved: &QuarantineResolved<'a>, head: &EventHead<'_>) -> Event<'a> {
    let unfit = &resolved.entry.unfit;
    let mut body = Body::begin(head, 384 + resolved.encoder_error.len());
    body.id("quarantineId", QUARANTINE_PREFIX, resolved.entry.id);
    body.text("cdrId", &unfit.cdr_id);
    body.code("resolution", if resolved.resubmitted { "RESUBMITTED" } else { "DISCARDED" });
    body.text("encoderError", resolved.encoder_error);
    body.text("resolvedBy", resolved.resolved_by);
    body.instant("resolvedAt", resolved.resolved_at);
    of_operator(subject::QUARANTINE_RESUBMITTED, &unfit.operator_id, body, head)
}

fn of_operator<'a>(
    subject: &'static str,
    operator_id: &'a str,
    body: Body,
    head: &EventHead<'_>,
) -> Event<'a> {
    Event { subject, partition_key: operator_id, event_id: head.event_id, payload: body.end(head) }
}
