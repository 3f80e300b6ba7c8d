//! A settlement file as it is answered.

use crate::masking;
use cdr_core::Millis;
use cdr_core::export::{Delivery, Export, Outcome};
use cdr_core::hash::to_hex;
use serde_json::{Map, Value, json};

/// A file as lists show it (US-CDR-015).
pub(in crate::api) fn item(export: &Export) -> Map<String, Value> {
    let (pins, content) = (&export.pins, export.content.as_ref());
    let Delivered { channel, at, receipt_id } = Delivered::of(export);
    let mut item = object(json!({
        "exportId": export.name(),
        "filename": pins.file_name,
        "exportType": pins.export_type,
        "schemaVariant": pins.schema_variant,
        "operatorId": pins.operator_id,
        "recordingEntity": pins.recording_entity,
        "senderRoamingPartner": pins.sender_roaming_partner,
        "settlementDay": pins.settlement_day,
        "fileSequenceNumber": pins.file_sequence_number,
        "sha256": content.map(|content| to_hex(&content.file_sha256)),
        "byteSize": content.map(|content| content.byte_size),
        "recordsIncluded": content.map(|content| content.records_included),
        "quarantinedCount": content.map(|content| content.quarantined_count),
        "signedAt": export.signed_at,
        "signerKeyId": export.signature.as_ref().map(|signature| &signature.key_id),
        "deliveryChannel": channel,
        "deliveryStatus": export.delivery_status(),
        "deliveredAt": at,
        "atraReceiptId": receipt_id,
        "atraVerificationStatus": verification_status(export),
    }));
    if export.delivery == Delivery::Pending && export.failures > 0 {
        item.insert("retryCount".to_owned(), json!(export.failures));
        item.insert("lastError".to_owned(), last_error(export));
    }
    item
}

/// A file with everything that is known of it.
pub(in crate::api) fn whole(export: &Export) -> Map<String, Value> {
    let (pins, cut) = (&export.pins, &export.cut);
    let mut whole = item(export);
    let content = export.content.as_ref();
    whole.extend(object(json!({
        "series": pins.series,
        "recipient": pins.recipient,
        "schemaHash": to_hex(&pins.schema_hash),
        "encoderVersion": pins.encoder_version,
        "createdAt": local(pins.created_at, pins.created_offset_minutes),
        "exchangeRates": pins.exchange_rates,
        "fromBucket": pins.from_bucket,
        "uptoBucket": cut.upto,
        "cut": {
            "cutOffAt": local(pins.cut_off_at, pins.cut_off_offset_minutes),
            "previousUptoBucket": export.before.map(|before| before.upto),
            "openedAtRow": cut.ordinal,
        },
        "totals": content.map(|content| json!({
            "recordsIncluded": content.records_included,
            "quarantinedCount": content.quarantined_count,
            "totalCharge": content.total_charge,
        })),
        "traceSha256": content.map(|content| to_hex(&content.trace_sha256)),
        "signature": export.signature.as_ref().map(|signature| json!({
            "algorithm": signature.algorithm,
            "keyId": signature.key_id,
            "signature": signature.signature,
            "fileSha256": content.map(|content| to_hex(&content.file_sha256)),
            "signedAt": export.signed_at,
        })),
        "verification": export.verification.as_ref().map(|said| json!({
            "atraReceiptId": said.receipt_id,
            "status": if said.rejection_reason.is_some() { "REJECTED" } else { "VERIFIED" },
            "rejectionReason": said.rejection_reason,
            "saidAt": said.at,
        })),
        "channelsExhausted": export.exhausted,
    })));
    whole
}

/// `VERIFIED` or `REJECTED` once the receiver has reported it.
pub(in crate::api) fn verification_status(export: &Export) -> Option<&'static str> {
    let verification = export.verification.as_ref();
    verification.map(|said| if said.rejection_reason.is_some() { "REJECTED" } else { "VERIFIED" })
}

/// By which channel a file was delivered, or was to be, and what the receiver gave for it.
struct Delivered<'a> {
    channel: Option<&'a str>,
    at: Option<Millis>,
    receipt_id: Option<&'a str>,
}

impl<'a> Delivered<'a> {
    fn of(export: &'a Export) -> Self {
        let said = export.verification.as_ref().map(|said| said.receipt_id.as_str());
        match &export.delivery {
            Delivery::Delivered { channel, at, receipt_id } => {
                Self { channel: Some(channel), at: Some(*at), receipt_id: said.or(receipt_id.as_deref()) }
            }
            Delivery::Pending => {
                let tried = export.attempts.last().filter(|_| export.failures > 0);
                Self { channel: tried.map(|attempt| attempt.channel.as_str()), at: None, receipt_id: said }
            }
        }
    }
}

/// The latest failure, without numbers: the delivery log has it whole for callers who may see them.
fn last_error(export: &Export) -> Value {
    let failed = export.attempts.iter().rev().find_map(|attempt| match &attempt.outcome {
        Outcome::Failed { error, reason } => Some(json!({
            "at": attempt.at, "channel": attempt.channel, "error": error, "reason": reason,
        })),
        Outcome::Delivered { .. } => None,
    });
    let mut failed: Value = failed.unwrap_or_default();
    masking::own(&mut failed);
    failed
}

fn local(at: Millis, offset_minutes: i16) -> Value {
    let mut text = Vec::new();
    if at.has_local(offset_minutes) {
        at.push_local(offset_minutes, &mut text);
    } else {
        at.push_utc(&mut text);
    }
    Value::String(String::from_utf8_lossy(&text).into_owned())
}

/// The fields of an object.
pub(in crate::api) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
