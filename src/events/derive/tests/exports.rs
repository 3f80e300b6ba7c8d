//! What rows of settlement files and of quarantine tell.

use super::*;
use cdr_core::export::quarantine::QUARANTINE_PREFIX;
use cdr_core::export::{EXPORT_PREFIX, ExportPins, ExportType};
use cdr_core::time::Day;

fn pins(day: u32) -> ExportPins {
    ExportPins {
        created_at: Millis(START),
        created_offset_minutes: 270,
        cut_off_at: Millis(START),
        cut_off_offset_minutes: 270,
        encoder_version: 1,
        exchange_rates: std::collections::BTreeMap::new(),
        export_type: ExportType::Tap,
        file_name: "TAP_4120101_AFGAW_00000007.20260420.tap".to_owned(),
        file_sequence_number: 7 + day,
        from_bucket: Hour(0),
        operator_id: "AWCC".to_owned(),
        recipient: "ATRAF".to_owned(),
        recording_entity: "4120101".to_owned(),
        schema_hash: [1; 32],
        schema_variant: "atra-tap-v2".to_owned(),
        sender_roaming_partner: "AFGAW".to_owned(),
        series: "regulator".to_owned(),
        settlement_day: Day(20_563 + day),
        upto_bucket: Hour(493_000 + day),
    }
}

impl TestLedger {
    /// A signed file of the day.
    fn file(&mut self, day: u32) -> String {
        let mut opened = json!(pins(day));
        opened["step"] = json!("OPENED");
        let name = self.append(SystemKind::Export, &opened).with_prefix(EXPORT_PREFIX);
        let content = json!({
            "step": "ENCODED", "exportId": name, "byteSize": 400, "fileSha256": "ab".repeat(32),
            "quarantinedCount": 2, "recordsIncluded": 9, "totalCharge": "90", "traceSha256": "cd".repeat(32),
        });
        self.append(SystemKind::Export, &content);
        let signed = json!({
            "step": "SIGNED", "exportId": name, "algorithm": "Ed25519", "keyId": "cdr-export-signer-v1",
            "signature": "AA==",
        });
        self.append(SystemKind::Export, &signed);
        name
    }

    /// Appends a row and gives what its entry tells.
    fn told(&mut self, kind: SystemKind, body: &Value) -> Vec<(&'static str, String, Value)> {
        self.now += 10;
        self.append(kind, body);
        self.last_entry()
    }
}

fn attempt(file: &str, outcome: &Value) -> Value {
    let mut body = json!({ "step": "ATTEMPTED", "exportId": file, "channel": "SFTP" });
    body.as_object_mut().unwrap().extend(outcome.as_object().unwrap().clone());
    body
}

#[test]
fn a_file_tells_when_it_is_delivered_and_what_the_receiver_says() {
    let mut ledger = TestLedger::begin();
    let file = ledger.file(0);
    let failed = attempt(&file, &json!({"outcome": "FAILED", "error": "UNREACHABLE", "reason": "no answer"}));
    assert_eq!(ledger.told(SystemKind::Delivery, &failed), []);
    let delivered = attempt(&file, &json!({"outcome": "DELIVERED", "atraReceiptId": null}));
    let events = ledger.told(SystemKind::Delivery, &delivered);
    let at = Millis(ledger.now).to_string();
    let ids = ["eventId", "schemaVersion"];
    let own = |event: &Value| {
        let mut fields = event.as_object().unwrap().clone();
        fields.retain(|name, _| !ids.contains(&name.as_str()));
        Value::Object(fields)
    };
    assert_eq!(subjects(&events), [subject::EXPORTED]);
    let expected = json!({
        "exportId": file, "exportType": "TAP_3_12", "schemaVariant": "atra-tap-v2", "recordingEntity": "4120101",
        "senderRoamingPartner": "AFGAW", "settlementDay": "2026-04-20", "fileSequenceNumber": 7,
        "fileName": "TAP_4120101_AFGAW_00000007.20260420.tap", "fileSha256": "ab".repeat(32), "byteSize": 400,
        "recordsIncluded": 9, "quarantinedCount": 2, "signerKeyId": "cdr-export-signer-v1",
        "deliveryChannel": "SFTP", "deliveryState": "DELIVERED_SFTP", "deliveredAt": at, "atraReceiptId": null,
        "traceId": "t", "occurredAt": at,
    });
    assert_eq!(own(&events[0].2), expected);

    let refused = json!({
        "step": "ACKED", "exportId": file, "atraReceiptId": "R-1", "rejectionReason": "SIGNATURE_INVALID",
        "payload": {"subscriber": "+93701234567", "at": 93_701_234_567_u64}, "retryCount": 1,
    });
    let events = ledger.told(SystemKind::Delivery, &refused);
    assert_eq!(subjects(&events), [subject::EXPORT_REJECTED]);
    let at = Millis(ledger.now).to_string();
    let expected = json!({
        "exportId": file, "rejectionReason": "SIGNATURE_INVALID", "atraReceiptId": "R-1",
        "atraErrorPayload": {"subscriber": "+***", "at": "***"}, "retryCount": 1, "rejectedAt": at,
        "traceId": "t", "occurredAt": at,
    });
    assert_eq!(own(&events[0].2), expected);

    assert_eq!(ledger.told(SystemKind::Delivery, &json!({"step": "REDROPPED", "exportId": file})), []);
    ledger.told(SystemKind::Delivery, &delivered);
    let accepted = json!({
        "step": "ACKED", "exportId": file, "atraReceiptId": "R-2", "rejectionReason": null, "payload": null,
        "retryCount": 0,
    });
    let events = ledger.told(SystemKind::Delivery, &accepted);
    assert_eq!(subjects(&events), [subject::EXPORT_ACKED]);
    assert_eq!(
        own(&events[0].2),
        json!({
            "exportId": file, "atraReceiptId": "R-2", "atraVerificationStatus": "VERIFIED",
            "ackedAt": Millis(ledger.now), "traceId": "t", "occurredAt": Millis(ledger.now),
        })
    );
}

#[test]
fn a_file_that_the_receiver_refuses_at_once_is_told_as_rejected() {
    let mut ledger = TestLedger::begin();
    let file = ledger.file(0);
    let refused = |reason: &Value| {
        attempt(
            &file,
            &json!({
                "outcome": "FAILED", "error": "REJECTED", "reason": "the receiver answered 422", "channel": "API",
                "answer": {
                    "atraReceiptId": null, "payload": "{\"of\": \"+93701234567\"}", "rejectionReason": reason,
                    "retryCount": 2, "status": 422,
                },
            }),
        )
    };
    let events = ledger.told(SystemKind::Delivery, &refused(&json!("SIGNATURE_INVALID")));
    assert_eq!(subjects(&events), [subject::EXPORT_REJECTED]);
    let event = &events[0].2;
    assert_eq!(event["rejectionReason"], "SIGNATURE_INVALID");
    assert_eq!((&event["retryCount"], &event["atraReceiptId"]), (&json!(2), &Value::Null));
    assert_eq!(event["atraErrorPayload"], json!("{\"of\": \"+***\"}"));
    // What is refused for another reason than the file's is no refusal of it.
    assert_eq!(ledger.told(SystemKind::Delivery, &refused(&Value::Null)), []);
}

#[test]
fn a_file_that_no_channel_takes_is_told_as_rejected() {
    let mut ledger = TestLedger::begin();
    let file = ledger.file(0);
    let exhausted =
        json!({"step": "EXHAUSTED", "exportId": file, "retryCount": 6, "reason": "call +93701234567"});
    let events = ledger.told(SystemKind::Delivery, &exhausted);
    assert_eq!(subjects(&events), [subject::EXPORT_REJECTED]);
    let event = &events[0].2;
    assert_eq!(event["rejectionReason"], "DELIVERY_CHANNELS_EXHAUSTED");
    assert_eq!((&event["retryCount"], &event["atraReceiptId"]), (&json!(6), &Value::Null));
    assert_eq!(event["atraErrorPayload"], json!({"lastFailure": "call +***"}));
}

#[test]
fn a_record_that_leaves_quarantine_is_told_and_one_that_enters_is_not() {
    let mut ledger = TestLedger::begin();
    let file = ledger.file(0);
    for (step, resolution) in [("RESUBMITTED", "RESUBMITTED"), ("DISCARDED", "DISCARDED")] {
        ledger.ingest(&[true]);
        let record = ledger.last.last().unwrap().to_string();
        let unfit = json!({
            "step": "QUARANTINED", "cdrId": record, "encoderError": "calledNumber: +93701234567 is too long",
            "exportId": file, "operatorId": "AWCC", "schemaVariant": "atra-tap-v2", "series": "regulator",
        });
        assert_eq!(ledger.told(SystemKind::Quarantine, &unfit), []);
        let entry = CdrId([ledger.next; 16]).with_prefix(QUARANTINE_PREFIX);
        let resolved = json!({"step": step, "quarantineId": entry, "resolvedBy": "user-1"});
        let events = ledger.told(SystemKind::Quarantine, &resolved);
        assert_eq!(subjects(&events), [subject::QUARANTINE_RESUBMITTED]);
        let event = &events[0].2;
        for (field, value) in [
            ("quarantineId", json!(entry)),
            ("cdrId", json!(record)),
            ("resolution", json!(resolution)),
            ("encoderError", json!("calledNumber: +*** is too long")),
            ("resolvedBy", json!("user-1")),
            ("resolvedAt", json!(Millis(ledger.now))),
        ] {
            assert_eq!(event[field], value, "{field}");
        }
    }
}

#[test]
fn what_is_told_of_a_file_stays_whatever_becomes_of_it() {
    let mut ledger = TestLedger::begin();
    let file = ledger.file(0);
    let delivered = attempt(&file, &json!({"outcome": "DELIVERED", "atraReceiptId": "R-0"}));
    let refused = json!({
        "step": "ACKED", "exportId": file, "atraReceiptId": "R-1", "rejectionReason": "SCHEMA_MISMATCH",
        "payload": [1], "retryCount": 3,
    });
    let redropped = json!({"step": "REDROPPED", "exportId": file});
    let failed = attempt(&file, &json!({"outcome": "FAILED", "error": "UNREACHABLE", "reason": "no answer"}));
    let exhausted = json!({"step": "EXHAUSTED", "exportId": file, "retryCount": 1, "reason": "no answer"});
    let mut first = Vec::new();
    for body in [&delivered, &refused, &redropped, &failed, &exhausted, &delivered] {
        first.push(ledger.told(SystemKind::Delivery, body));
    }
    let from = ledger.entries.len() - first.len();
    let again: Vec<_> = ledger.entries[from..].iter().map(|told| ledger.all(told)).collect();
    assert_eq!(again, first);
    assert_eq!(first.iter().flatten().count(), 4);
}
