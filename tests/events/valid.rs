//! Schemas are schemas; what is built fits them; what is broken does not.

use crate::events::samples::{Sample, of_rows, of_the_rest, sample};
use cdr_core::row::AdjustmentType;
use cdr_mediation::dlr::{Parsed, parse};
use cdr_mediation::events::streams::{STREAMS, stream_of};
use cdr_mediation::generate::{GenerateOptions, Generator};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use testkit::event_schemas::{all, faults, faults_of};

const INBOUND: [&str; 7] = [
    "billing.events.v1",
    "billing.pricing.snapshot.ready.v1",
    "compliance.audit.v1",
    "fraud.reversal.v1",
    "operator.registry.updated.v1",
    "sms.dlr.inbound",
    "sms.events.status",
];

#[test]
fn every_subject_has_a_valid_schema_and_the_index_names_it() {
    let outbound = STREAMS.iter().flat_map(|(_, subjects)| subjects.iter().copied());
    let expected: BTreeSet<&str> = outbound.chain(INBOUND).collect();
    assert_eq!(all().keys().map(String::as_str).collect::<BTreeSet<_>>(), expected);
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/event-schemas/README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    for (subject, schema) in all() {
        jsonschema::draft202012::meta::validate(&schema.text).unwrap_or_else(|e| panic!("{subject}: {e}"));
        assert_eq!(schema.text["$schema"], "https://json-schema.org/draft/2020-12/schema", "{subject}");
        assert_eq!(schema.text["title"], json!(subject));
        let id = schema.text["$id"].as_str().unwrap();
        let name = subject.strip_prefix("cdr.").map(|name| format!("/cdr/{}.json", name.replace('.', "-")));
        let name = name.unwrap_or_else(|| format!("/cdr/inbound/{}.json", subject.replace('.', "-")));
        assert_eq!(id, format!("https://schemas.ghasi.af{name}"));
        let row = readme.lines().find(|line| line.contains(&format!("[{subject}]({subject}.json)")));
        let row = row.unwrap_or_else(|| panic!("the index lacks {subject}"));
        assert!(stream_of(subject).is_none_or(|stream| row.contains(stream)), "{row}");
        assert_eq!(
            stream_of(subject).is_some(),
            schema.text["additionalProperties"] == json!(false),
            "{subject}"
        );
    }
}

#[test]
fn what_the_source_documents_require_is_required() {
    for (subject, _) in all().iter().filter(|(subject, _)| stream_of(subject).is_some()) {
        let schema = &all()[subject].text;
        let required: BTreeSet<&str> =
            schema["required"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        for common in ["schemaVersion", "eventId", "traceId", "occurredAt"] {
            assert!(required.contains(common), "{subject}: {common}");
        }
        let properties: BTreeSet<&str> =
            schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        assert!(required.is_subset(&properties), "{subject}");
        // All fields of an interface are required; the one schema that the documents give has a list of its own.
        let optional: Vec<&str> = properties.difference(&required).copied().collect();
        if subject == "cdr.record.appended.v1" {
            assert_eq!(
                optional,
                [
                    "adjustmentOf",
                    "adjustmentType",
                    "billingIndicator",
                    "chargeAmount",
                    "chargeCurrency",
                    "encoding",
                    "msisdnHashFrom",
                    "msisdnHashTo",
                    "tapTariffClass",
                ]
            );
        } else {
            assert!(optional.is_empty(), "{subject}: {optional:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(testkit::cases(512)))]

    #[test]
    fn events_of_any_row_fit_their_schema(row in sample(), before in sample()) {
        for event in of_rows(&row, &before) {
            let faults = faults(event.subject, &event.payload);
            prop_assert!(faults.is_empty(), "{}: {:?}\n{}", event.subject, faults, String::from_utf8_lossy(&event.payload));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(testkit::cases(64)))]

    #[test]
    fn all_other_events_fit_their_schema(row in sample()) {
        for event in of_the_rest(&row) {
            let faults = faults(event.subject, &event.payload);
            prop_assert!(faults.is_empty(), "{}: {:?}\n{}", event.subject, faults, String::from_utf8_lossy(&event.payload));
        }
    }
}

/// One event of each kind that is built, and the source documents' other kind by hand.
fn one_of_each() -> Vec<(&'static str, Value)> {
    let before = Sample::ordinary();
    let mut events = of_the_rest(&before);
    for kind in AdjustmentType::ALL {
        events.extend(of_rows(&Sample::ordinary().adjusting(*kind), &before));
    }
    let mut values: Vec<(&'static str, Value)> = Vec::new();
    for event in events {
        if values.iter().all(|(subject, _)| *subject != event.subject) {
            values.push((event.subject, serde_json::from_slice(&event.payload).unwrap()));
        }
    }
    let common = json!({
        "schemaVersion": "1", "eventId": "12345678-9abc-8fed-b2dc-8537ab557a93",
        "traceId": "t", "occurredAt": "2026-04-21T09:00:00.000Z",
    });
    let own = json!({
        "archiveId": "a", "partitionNames": ["2026-04-20T13"], "rowCount": 1, "byteSize": 2,
        "s3ManifestUri": "s3://bucket/v1/_MANIFEST.json", "droppedAt": "2026-04-21T09:00:00.000Z",
    });
    let mut value = common;
    value.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
    values.push(("cdr.archive.completed.v1", value));
    values
}

#[test]
fn a_broken_event_of_each_kind_does_not_fit() {
    let events = one_of_each();
    assert_eq!(events.len(), 14, "one of each subject");
    for (subject, good) in events {
        assert_eq!(faults_of(subject, &good), [""; 0], "{subject}");
        let required = all()[subject].text["required"].as_array().unwrap();
        for (key, _) in good.as_object().unwrap() {
            let mut without = good.clone();
            without.as_object_mut().unwrap().remove(key);
            let is_required = required.contains(&json!(key));
            assert_eq!(faults_of(subject, &without).is_empty(), !is_required, "{subject} without {key}");
            let mut wrong = good.clone();
            wrong[key] = json!([{}]);
            assert_eq!(
                faults_of(subject, &wrong).is_empty(),
                key == "atraErrorPayload",
                "{subject} with a wrong {key}"
            );
        }
        let mut more = good.clone();
        more["calledPartyAddress"] = json!("+93701234567");
        assert!(!faults_of(subject, &more).is_empty(), "{subject} with an unknown field");
    }
}

#[test]
fn patterns_enumerations_and_formats_are_checked() {
    let events = one_of_each();
    for (subject, key, bad) in [
        ("cdr.record.appended.v1", "cdrId", json!("cdr_0000000000000000000000000I")),
        ("cdr.record.appended.v1", "chargeAmount", json!("0.0384")),
        ("cdr.record.appended.v1", "chargeAmount", json!(0.0384)),
        ("cdr.record.appended.v1", "chargeCurrency", json!(null)),
        ("cdr.record.appended.v1", "chargeCurrency", json!("EUR")),
        ("cdr.record.appended.v1", "tapTariffClass", json!("SMS_A2P")),
        ("cdr.record.appended.v1", "segmentCount", json!(0)),
        ("cdr.record.appended.v1", "messageId", json!("m-1")),
        ("cdr.record.appended.v1", "operatorId", json!("a.b")),
        ("cdr.record.appended.v1", "msisdnHashTo", json!("+93701234567")),
        ("cdr.record.appended.v1", "occurredAt", json!("yesterday")),
        ("cdr.adjustment.created.v1", "adjustmentId", json!("cdr_00000000000000000000000000")),
        ("cdr.adjustment.batch.issued.v1", "adjustmentType", json!("CORRECTION")),
        ("cdr.generated.v1", "chargeableSumMinor", json!("1")),
        ("cdr.audit.v1", "entryType", json!("SOMETHING")),
        ("cdr.restriction.v1", "state", json!("CLOSED")),
        ("cdr.exported.v1", "settlementDay", json!("20260420")),
    ] {
        let mut event = events.iter().find(|(s, _)| *s == subject).unwrap().1.clone();
        event[key] = bad;
        let faults = faults_of(subject, &event);
        let there = format!("/{key}: ");
        assert!(
            !faults.is_empty() && faults.iter().all(|f| f.starts_with(&there)),
            "{subject} {key}: {faults:?}"
        );
    }
}

#[test]
fn receipts_that_are_read_fit_the_inbound_schema() {
    let mut read = 0;
    let options = GenerateOptions::new("2026-04-20", 3_000, 5).unwrap();
    for line in Generator::new(options) {
        if let Parsed::Final(_) | Parsed::Ignored(_) = parse(&line.json) {
            read += 1;
            let faults = faults("sms.dlr.inbound", &line.json);
            assert!(faults.is_empty(), "{faults:?}\n{}", String::from_utf8_lossy(&line.json));
        }
    }
    assert!(read > 2_900, "{read}");
}

#[test]
fn inbound_messages_may_hold_more_but_not_less() {
    let id = "0195f3a0-1111-7222-8333-444455556666";
    let at = "2026-04-21T09:00:00.000Z";
    let dlr = json!({
        "messageId": id, "status": "EXPIRED", "operatorId": "AWCC", "direction": "MT", "chargeType": "A2P",
        "from": "AFGBANK", "to": "+93791234567", "serviceCenterAddress": "+93700000010",
        "messageReference": "1", "segmentCount": 1, "encoding": "GSM7", "finalAt": at, "traceId": "t",
    });
    let price = json!({ "messageId": id, "chargeAmount": "0.0384", "chargeCurrency": "AFN",
        "tapTariffClass": "A042", "billingIndicator": "CHARGEABLE", "tariffVersion": "2026-04" });
    let billing = json!({ "eventId": id, "messageId": id, "operatorId": "AWCC", "chargeAmount": "0.038400",
        "chargeCurrency": "AFN", "occurredAt": at });
    for (subject, good) in [
        ("sms.dlr.inbound", dlr.clone()),
        ("sms.events.status", dlr.clone()),
        ("billing.pricing.snapshot.ready.v1", price),
        ("billing.events.v1", billing),
        ("fraud.reversal.v1", json!({ "messageId": id, "ticketId": "FRD-1", "detectedAt": at })),
        ("operator.registry.updated.v1", json!({ "operatorId": "AWCC" })),
        ("compliance.audit.v1", json!({ "messageId": id, "complianceEvaluationId": "e-1" })),
    ] {
        let mut more = good.clone();
        more["later"] = json!({ "added": true });
        assert_eq!(faults_of(subject, &more), [""; 0], "{subject}");
        for (key, _) in good.as_object().unwrap() {
            let mut without = good.clone();
            without.as_object_mut().unwrap().remove(key);
            assert!(!faults_of(subject, &without).is_empty(), "{subject} without {key}");
        }
    }
    // What makes no record needs nothing else.
    assert_eq!(faults_of("sms.dlr.inbound", &json!({ "status": "ENROUTE" })), [""; 0]);
    assert_eq!(faults_of("sms.events.status", &json!({ "messageId": id, "status": "SUBMITTED" })), [""; 0]);
    let mut number = dlr;
    number["from"] = json!("+12345678901234567");
    assert!(!faults_of("sms.dlr.inbound", &number).is_empty());
}
