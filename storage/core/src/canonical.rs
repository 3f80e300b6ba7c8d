//! The RFC 8785 (JCS) bytes of a row, and its hash.
//!
//! Rows have no binary fractions and no integers over 2^53, and all their keys are ASCII, so writing the
//! fields in ascending order with JSON's minimal escapes gives the same bytes as a general canonicaliser,
//! many times faster. Property tests hold this against `serde_json_canonicalizer`.

use crate::hash::{Hash, push_hex, sha256};
use crate::row::{Frame, Record, Row, Sms, System};

/// The largest integer that RFC 8785 writes exactly: 2^53 - 1.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// How the row of an original CDR begins.
const NO_ADJUSTMENT: &[u8] =
    b"{\"adjustmentOf\":null,\"adjustmentReason\":null,\"adjustmentType\":null,\"approverUserId\":null";

/// Appends the canonical bytes of `row` to `out`.
pub fn push_row(row: &Row<'_>, out: &mut Vec<u8>) {
    out.reserve(1280);
    match &row.record {
        Record::Sms(sms) => push_sms(&row.frame, sms, None, out),
        Record::System(system) => push_system(&row.frame, system, None, out),
    }
}

/// Appends the row with its `rowHash`: the line of an archive file and the record of the API.
pub fn push_row_with_hash(row: &Row<'_>, row_hash: &Hash, out: &mut Vec<u8>) {
    out.reserve(1366);
    match &row.record {
        Record::Sms(sms) => push_sms(&row.frame, sms, Some(row_hash), out),
        Record::System(system) => push_system(&row.frame, system, Some(row_hash), out),
    }
}

/// `sha256(JCS(row))`, using `scratch` for the canonical bytes.
pub fn row_hash(row: &Row<'_>, scratch: &mut Vec<u8>) -> Hash {
    scratch.clear();
    push_row(row, scratch);
    sha256(scratch)
}

/// The canonical bytes of any JSON value (RFC 8785), for seals, bodies and anchors.
///
/// # Errors
/// A text that says what could not be written, such as a number that is not finite.
pub fn to_jcs<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, String> {
    serde_json_canonicalizer::to_vec(value).map_err(|e| e.to_string())
}

fn push_sms(frame: &Frame<'_>, sms: &Sms<'_>, row_hash: Option<&Hash>, out: &mut Vec<u8>) {
    let adjustment = sms.adjustment.as_ref();
    match adjustment {
        Some(a) => {
            out.extend_from_slice(b"{\"adjustmentOf\":\"cdr_");
            a.of.push_base32(out);
            optional(out, b"\",\"adjustmentReason\":", a.reason);
            text(out, b",\"adjustmentType\":", a.kind.as_str());
            optional(out, b",\"approverUserId\":", a.approver);
        }
        None => out.extend_from_slice(NO_ADJUSTMENT),
    }
    code(out, b",\"billingIndicator\":\"", sms.billing_indicator.as_str());
    bucket_hour(out, b"\",\"bucketHour\":\"", frame);
    text(out, b"\",\"calledPartyAddress\":", sms.called_party);
    text(out, b",\"callingPartyAddress\":", sms.calling_party);
    cdr_id_to_chain_prev(out, frame);
    match sms.charge_amount {
        Some(amount) => {
            out.extend_from_slice(b"\",\"chargeAmount\":\"");
            amount.push(out);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"\",\"chargeAmount\":null"),
    }
    optional(out, b",\"chargeCurrency\":", sms.charge_currency);
    code(out, b",\"chargeType\":\"", sms.charge_type.as_str());
    code(out, b"\",\"direction\":\"", sms.direction.as_str());
    code(out, b"\",\"encoding\":\"", sms.encoding.as_str());
    out.extend_from_slice(b"\",\"eventTimeStamp\":\"");
    sms.event_at.push_utc(out);
    optional(out, b"\",\"failureCode\":", sms.failure_code);
    code(out, b",\"finalState\":\"", sms.final_state.as_str());
    optional(out, b"\",\"imsi\":", sms.imsi);
    optional(out, b",\"issuedByUserId\":", adjustment.and_then(|a| a.issued_by));
    out.extend_from_slice(b",\"localTimeStamp\":\"");
    sms.event_at.push_local(sms.local_offset_minutes, out);
    out.extend_from_slice(b"\",\"messageId\":\"");
    sms.message_id.push(out);
    text(out, b"\",\"messageReference\":", sms.message_reference);
    text(out, b",\"operatorId\":", frame.operator_id);
    optional(out, b",\"originalServedSubscriberId\":", sms.original_served_subscriber);
    out.extend_from_slice(b",\"recordType\":\"sms");
    recorded_at(out, frame);
    text(out, b"\",\"recordingEntity\":", sms.recording_entity);
    hash_field(out, row_hash);
    out.extend_from_slice(b",\"schemaVersion\":\"1\",\"segmentCount\":");
    push_integer(out, u64::from(sms.segment_count));
    text(out, b",\"serviceCenterAddress\":", sms.service_center);
    source(out, frame);
    match sms.submitted_at {
        Some(at) => {
            out.extend_from_slice(b",\"submittedAt\":\"");
            at.push_utc(out);
            out.push(b'"');
        }
        None => out.extend_from_slice(b",\"submittedAt\":null"),
    }
    optional(out, b",\"tapTariffClass\":", sms.tap_tariff_class);
    optional(out, b",\"tariffVersion\":", sms.tariff_version);
    match sms.tenant_id {
        Some(tenant) => {
            out.extend_from_slice(b",\"tenantId\":\"");
            tenant.push(out);
            out.push(b'"');
        }
        None => out.extend_from_slice(b",\"tenantId\":null"),
    }
    optional(out, b",\"ticketId\":", adjustment.and_then(|a| a.ticket_id));
    text(out, b",\"traceId\":", frame.trace_id);
    optional(out, b",\"voidReason\":", adjustment.and_then(|a| a.void_reason));
    out.push(b'}');
}

fn push_system(frame: &Frame<'_>, system: &System<'_>, row_hash: Option<&Hash>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"body\":");
    out.extend_from_slice(system.body.as_bytes());
    bucket_hour(out, b",\"bucketHour\":\"", frame);
    out.push(b'"');
    cdr_id_to_chain_prev(out, frame);
    text(out, b"\",\"operatorId\":", frame.operator_id);
    code(out, b",\"recordType\":\"", system.kind.as_str());
    recorded_at(out, frame);
    out.push(b'"');
    hash_field(out, row_hash);
    out.extend_from_slice(b",\"schemaVersion\":\"1\"");
    source(out, frame);
    text(out, b",\"traceId\":", frame.trace_id);
    out.push(b'}');
}

fn bucket_hour(out: &mut Vec<u8>, key: &[u8], frame: &Frame<'_>) {
    out.extend_from_slice(key);
    frame.bucket_hour.push_utc(out);
}

/// `,"cdrId":…` up to the open string of `chainHashPrev`.
fn cdr_id_to_chain_prev(out: &mut Vec<u8>, frame: &Frame<'_>) {
    out.extend_from_slice(b",\"cdrId\":\"cdr_");
    frame.cdr_id.push_base32(out);
    out.extend_from_slice(b"\",\"cdrSequence\":");
    push_integer(out, frame.sequence);
    out.extend_from_slice(b",\"chainHashPrev\":\"");
    push_hex(out, &frame.chain_prev);
}

fn recorded_at(out: &mut Vec<u8>, frame: &Frame<'_>) {
    out.extend_from_slice(b"\",\"recordedAt\":\"");
    frame.recorded_at.push_utc(out);
}

fn hash_field(out: &mut Vec<u8>, row_hash: Option<&Hash>) {
    if let Some(hash) = row_hash {
        out.extend_from_slice(b",\"rowHash\":\"");
        push_hex(out, hash);
        out.push(b'"');
    }
}

fn source(out: &mut Vec<u8>, frame: &Frame<'_>) {
    out.extend_from_slice(b",\"source\":{\"sequence\":");
    push_integer(out, frame.source_sequence);
    text(out, b",\"stream\":", frame.source_stream);
    out.push(b'}');
}

/// Appends a JSON integer.
pub fn push_integer(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// A key, an open quote and a text that needs no escapes.
fn code(out: &mut Vec<u8>, key: &[u8], value: &str) {
    out.extend_from_slice(key);
    out.extend_from_slice(value.as_bytes());
}

fn optional(out: &mut Vec<u8>, key: &[u8], value: Option<&str>) {
    if let Some(value) = value {
        return text(out, key, value);
    }
    out.extend_from_slice(key);
    out.extend_from_slice(b"null");
}

fn text(out: &mut Vec<u8>, key: &[u8], value: &str) {
    out.extend_from_slice(key);
    push_string(out, value);
}

/// Appends a JSON string with the escapes that RFC 8785 asks for.
#[allow(clippy::needless_bitwise_bool)] // No early end: the search then looks at many bytes in one step.
pub fn push_string(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    let bytes = value.as_bytes();
    if bytes.iter().fold(false, |found, &b| found | (b < 0x20) | (b == b'"') | (b == b'\\')) {
        for &byte in bytes {
            push_escaped(out, byte);
        }
    } else {
        out.extend_from_slice(bytes);
    }
    out.push(b'"');
}

fn push_escaped(out: &mut Vec<u8>, byte: u8) {
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x09 => b't',
        0x0a => b'n',
        0x0c => b'f',
        0x0d => b'r',
        0..0x20 => {
            out.extend_from_slice(b"\\u00");
            return push_hex(out, &[byte]);
        }
        _ => return out.push(byte),
    };
    out.extend_from_slice(&[b'\\', short]);
}
