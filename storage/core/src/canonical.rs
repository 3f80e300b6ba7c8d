//! The RFC 8785 (JCS) bytes of a row and of its personal data, and their hashes.
//!
//! Rows have no binary fractions and no integers over 2^53, and all their keys are ASCII, so writing the
//! fields in ascending order with JSON's minimal escapes gives the same bytes as a general canonicaliser,
//! many times faster. Property tests hold this against `serde_json_canonicalizer`.

use crate::hash::{Hash, push_hex, sha256, to_hex};
use crate::personal::{SALT, Salt};
use crate::row::{Frame, Record, Row, Sms, System};
use serde_json::{Map, Value};

/// The largest integer that RFC 8785 writes exactly: 2^53 - 1.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// Version of the rows that this crate writes, their `schemaVersion`.
pub const SCHEMA_VERSION: u8 = 2;

const SCHEMA_MEMBER: &[u8] = b",\"schemaVersion\":\"2\"";

/// What of a row's personal data is written with it.
#[derive(Clone, Copy)]
enum Shown<'a> {
    /// Nothing but their hash: the bytes that are hashed themselves.
    Hashed,
    /// Beside the row, as one member, with the row's hash.
    Nested(&'a Hash),
    /// Among the row's own members, with the row's hash; without a salt they are masked.
    Flat(&'a Hash, Option<Salt>),
}

/// Appends the canonical bytes of `row`, which are hashed, to `out`.
pub fn push_row(row: &Row<'_>, out: &mut Vec<u8>) {
    out.reserve(1280);
    let personal_hash = personal_hash_at_end(row, out);
    push(row, personal_hash.as_ref(), Shown::Hashed, out);
}

/// Appends the row with its `rowHash`, and its personal data as one member: the line of an archive file.
pub fn push_archived(row: &Row<'_>, row_hash: &Hash, out: &mut Vec<u8>) {
    out.reserve(1664);
    let personal_hash = personal_hash_at_end(row, out);
    push(row, personal_hash.as_ref(), Shown::Nested(row_hash), out);
}

/// Appends the row with its `rowHash`, and its personal data and salt among its members: the record of the API.
pub fn push_whole(row: &Row<'_>, row_hash: &Hash, out: &mut Vec<u8>) {
    out.reserve(1664);
    let personal_hash = personal_hash_at_end(row, out);
    push(row, personal_hash.as_ref(), Shown::Flat(row_hash, Some(row.salt)), out);
}

/// Appends a row whose personal data were masked, as [`push_whole`] does, but without the salt. `personal_hash` is that
/// of the true row: `rowHash` still follows.
pub fn push_masked(masked: &Row<'_>, personal_hash: Option<&Hash>, row_hash: &Hash, out: &mut Vec<u8>) {
    out.reserve(1664);
    push(masked, personal_hash, Shown::Flat(row_hash, None), out);
}

/// Appends the bytes of the row's personal data with their salt, in canonical form; nothing if it has none.
pub fn push_personal(row: &Row<'_>, out: &mut Vec<u8>) {
    match &row.record {
        Record::Sms(sms) => push_personal_sms(sms, row.salt, out),
        Record::System(system) => out.extend(system.personal_with_salt(row.salt).unwrap_or_default()),
    }
}

/// The row's `personalHash`; none if it has no personal data.
pub fn personal_hash(row: &Row<'_>) -> Option<Hash> {
    personal_hash_at_end(row, &mut Vec::with_capacity(384))
}

/// As [`personal_hash`], with the end of `out` as scratch space.
fn personal_hash_at_end(row: &Row<'_>, out: &mut Vec<u8>) -> Option<Hash> {
    let start = out.len();
    push_personal(row, out);
    let hash = (out.len() > start).then(|| sha256(&out[start..]));
    out.truncate(start);
    hash
}

/// `sha256(JCS(row))`, using `scratch` for the canonical bytes.
pub fn row_hash(row: &Row<'_>, scratch: &mut Vec<u8>) -> Hash {
    scratch.clear();
    push_row(row, scratch);
    sha256(scratch)
}

fn push(row: &Row<'_>, personal_hash: Option<&Hash>, shown: Shown<'_>, out: &mut Vec<u8>) {
    match &row.record {
        Record::Sms(sms) => push_sms(row, sms, personal_hash, shown, out),
        Record::System(system) => push_system(row, system, personal_hash, shown, out),
    }
}

/// The canonical bytes of any JSON value (RFC 8785), for seals, bodies and anchors.
///
/// # Errors
/// A text that says what could not be written, such as a number that is not finite.
pub fn to_jcs<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, String> {
    serde_json_canonicalizer::to_vec(value).map_err(|e| e.to_string())
}

fn push_sms(row: &Row<'_>, sms: &Sms<'_>, personal_hash: Option<&Hash>, shown: Shown<'_>, out: &mut Vec<u8>) {
    let (frame, adjustment) = (&row.frame, sms.adjustment.as_ref());
    let is_flat = matches!(shown, Shown::Flat(..));
    match adjustment {
        Some(a) => {
            out.extend_from_slice(b"{\"adjustmentOf\":\"cdr_");
            a.of.push_base32(out);
            out.push(b'"');
        }
        None => out.extend_from_slice(b"{\"adjustmentOf\":null"),
    }
    if is_flat {
        optional(out, b",\"adjustmentReason\":", adjustment.and_then(|a| a.reason));
    }
    match adjustment {
        Some(a) => {
            text(out, b",\"adjustmentType\":", a.kind.as_str());
            optional(out, b",\"approverUserId\":", a.approver);
        }
        None => out.extend_from_slice(b",\"adjustmentType\":null,\"approverUserId\":null"),
    }
    code(out, b",\"billingIndicator\":\"", sms.billing_indicator.as_str());
    bucket_hour(out, b"\",\"bucketHour\":\"", frame);
    out.push(b'"');
    if is_flat {
        text(out, b",\"calledPartyAddress\":", sms.called_party);
        text(out, b",\"callingPartyAddress\":", sms.calling_party);
    }
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
    if is_flat {
        optional(out, b",\"failureText\":", sms.failure_text);
    }
    code(out, b",\"finalState\":\"", sms.final_state.as_str());
    out.push(b'"');
    if is_flat {
        optional(out, b",\"imsi\":", sms.imsi);
    }
    optional(out, b",\"issuedByUserId\":", adjustment.and_then(|a| a.issued_by));
    out.extend_from_slice(b",\"localTimeStamp\":\"");
    sms.event_at.push_local(sms.local_offset_minutes, out);
    out.extend_from_slice(b"\",\"messageId\":\"");
    sms.message_id.push(out);
    text(out, b"\",\"messageReference\":", sms.message_reference);
    text(out, b",\"operatorId\":", frame.operator_id);
    if is_flat {
        optional(out, b",\"originalServedSubscriberId\":", sms.original_served_subscriber);
    }
    push_personal_members(row, personal_hash, shown, out);
    out.extend_from_slice(b",\"recordType\":\"sms");
    recorded_at(out, frame);
    text(out, b"\",\"recordingEntity\":", sms.recording_entity);
    hash_and_salt(out, shown);
    out.extend_from_slice(SCHEMA_MEMBER);
    out.extend_from_slice(b",\"segmentCount\":");
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

/// The members are [`crate::personal::SMS_MEMBERS`] and the salt.
fn push_personal_sms(sms: &Sms<'_>, salt: Salt, out: &mut Vec<u8>) {
    optional(out, b"{\"adjustmentReason\":", sms.adjustment.as_ref().and_then(|a| a.reason));
    text(out, b",\"calledPartyAddress\":", sms.called_party);
    text(out, b",\"callingPartyAddress\":", sms.calling_party);
    optional(out, b",\"failureText\":", sms.failure_text);
    optional(out, b",\"imsi\":", sms.imsi);
    optional(out, b",\"originalServedSubscriberId\":", sms.original_served_subscriber);
    out.extend_from_slice(b",\"salt\":\"");
    push_hex(out, &salt.0);
    out.extend_from_slice(b"\"}");
}

fn push_system(
    row: &Row<'_>,
    system: &System<'_>,
    personal_hash: Option<&Hash>,
    shown: Shown<'_>,
    out: &mut Vec<u8>,
) {
    let frame = &row.frame;
    if let (Shown::Flat(row_hash, salt), Some(personal)) = (shown, system.personal) {
        return push_flat_system(row, personal, (personal_hash, row_hash, salt), out);
    }
    out.extend_from_slice(b"{\"body\":");
    out.extend_from_slice(system.body.as_bytes());
    bucket_hour(out, b",\"bucketHour\":\"", frame);
    out.push(b'"');
    cdr_id_to_chain_prev(out, frame);
    text(out, b"\",\"operatorId\":", frame.operator_id);
    push_personal_members(row, personal_hash, shown, out);
    code(out, b",\"recordType\":\"", system.kind.as_str());
    recorded_at(out, frame);
    out.push(b'"');
    if let Shown::Nested(row_hash) | Shown::Flat(row_hash, _) = shown {
        hash_field(out, row_hash);
    }
    out.extend_from_slice(SCHEMA_MEMBER);
    source(out, frame);
    text(out, b",\"traceId\":", frame.trace_id);
    out.push(b'}');
}

/// A system row with the members of its personal data among its own: few are asked for, so the general canonicaliser
/// does.
fn push_flat_system(
    row: &Row<'_>,
    personal: &str,
    (personal_hash, row_hash, salt): (Option<&Hash>, &Hash, Option<Salt>),
    out: &mut Vec<u8>,
) {
    let mut bytes = Vec::new();
    push(row, personal_hash, Shown::Hashed, &mut bytes);
    let mut members: Map<String, Value> = serde_json::from_slice(&bytes).unwrap_or_default();
    members.extend(serde_json::from_str::<Map<String, Value>>(personal).unwrap_or_default());
    members.insert("rowHash".to_owned(), to_hex(row_hash).into());
    members.extend(salt.map(|salt| (SALT.to_owned(), salt.to_hex().into())));
    out.extend(to_jcs(&members).unwrap_or_default());
}

/// `personal`, where it stands beside the row, and `personalHash`.
fn push_personal_members(row: &Row<'_>, personal_hash: Option<&Hash>, shown: Shown<'_>, out: &mut Vec<u8>) {
    if matches!(shown, Shown::Nested(_)) {
        out.extend_from_slice(b",\"personal\":");
        match personal_hash {
            Some(_) => push_personal(row, out),
            None => out.extend_from_slice(b"null"),
        }
    }
    match personal_hash {
        Some(hash) => {
            out.extend_from_slice(b",\"personalHash\":\"");
            push_hex(out, hash);
            out.push(b'"');
        }
        None => out.extend_from_slice(b",\"personalHash\":null"),
    }
}

fn hash_and_salt(out: &mut Vec<u8>, shown: Shown<'_>) {
    match shown {
        Shown::Hashed => {}
        Shown::Nested(row_hash) => hash_field(out, row_hash),
        Shown::Flat(row_hash, salt) => {
            hash_field(out, row_hash);
            if let Some(salt) = salt {
                out.extend_from_slice(b",\"salt\":\"");
                push_hex(out, &salt.0);
                out.push(b'"');
            }
        }
    }
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

fn hash_field(out: &mut Vec<u8>, row_hash: &Hash) {
    out.extend_from_slice(b",\"rowHash\":\"");
    push_hex(out, row_hash);
    out.push(b'"');
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
