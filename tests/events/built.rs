//! What stands in an event is what stands in its source.

use crate::events::samples::{AdjustmentSample, Built, ORIGINAL, Sample, head, of_rows, sample, seal};
use cdr_core::hash::{sha256, to_hex};
use cdr_core::row::{AdjustmentType, FinalState, Record, System, SystemKind};
use cdr_core::state::Tally;
use cdr_core::{CdrId, Hour, Millis, Money, Row};
use cdr_mediation::events::{
    AdjustmentBatch, EventError, adjustment_batch, adjustment_created, bucket_sealed, generated,
    record_appended, record_repriced,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn value(event: impl Into<Built>) -> Value {
    serde_json::from_slice(&event.into().payload).unwrap()
}

proptest! {
    #[test]
    fn an_appended_event_says_what_the_row_says(sample in sample()) {
        let row = sample.row();
        let event = record_appended(&row, &[0xcd; 32], &head(&sample.trace_id)).unwrap();
        prop_assert_eq!(event.partition_key, sample.operator_id.as_str());
        let said: Value = serde_json::from_slice(&event.payload).unwrap();
        let mut line = Vec::new();
        cdr_core::canonical::push_whole(&row, &[0xcd; 32], &mut line);
        let stored: Value = serde_json::from_slice(&line).unwrap();
        let shared = [
            "cdrId", "bucketHour", "operatorId", "tenantId", "messageId", "direction", "chargeType",
            "billingIndicator", "tapTariffClass", "chargeAmount", "segmentCount", "encoding", "rowHash",
            "chainHashPrev", "adjustmentOf", "adjustmentType", "traceId",
        ];
        for key in shared {
            prop_assert_eq!(&said[key], &stored[key], "{}", key);
        }
        prop_assert_eq!(said.get("chargeCurrency"), stored.get("chargeCurrency").filter(|c| !c.is_null()));
        prop_assert_eq!(&said["msisdnHashTo"], &json!(to_hex(&sha256(sample.called_party.as_bytes()))));
        let from = sample.calling_party.starts_with('+').then(|| to_hex(&sha256(sample.calling_party.as_bytes())));
        prop_assert_eq!(&said["msisdnHashFrom"], &json!(from));
        prop_assert_eq!(&said["occurredAt"], "2026-04-20T13:00:00.777Z");
        prop_assert_eq!(&said["eventId"], &json!(event.event_id.to_string()));
    }

    #[test]
    fn corrected_fields_are_the_difference_of_the_rows(after in sample(), before in sample()) {
        let mut after = after;
        let adjustment = after.adjustment.take().unwrap_or(AdjustmentSample {
            kind: AdjustmentType::Correction,
            reason: None, void_reason: None, ticket_id: None, issued_by: None, approver: None,
        });
        after.adjustment = Some(AdjustmentSample { kind: AdjustmentType::Correction, ..adjustment });
        let said = value(adjustment_created(&after.row(), Some(&before.row()), ORIGINAL, &head("t")).unwrap());
        let fields = |sample: &Sample| -> serde_json::Map<String, Value> {
            let mut line = Vec::new();
            cdr_core::canonical::push_whole(&sample.row(), &[0; 32], &mut line);
            serde_json::from_slice(&line).unwrap()
        };
        // What belongs to the row itself, not to the message.
        let own = [
            "adjustmentOf", "adjustmentReason", "adjustmentType", "approverUserId", "cdrId", "issuedByUserId",
            "messageId", "operatorId", "personalHash", "ticketId", "traceId", "voidReason",
        ];
        let hashed = ["calledPartyAddress", "callingPartyAddress", "imsi", "originalServedSubscriberId"];
        let old = fields(&before);
        let mut expected = serde_json::Map::new();
        for (key, new) in fields(&after) {
            if old[&key] == new || own.contains(&key.as_str()) {
                continue;
            }
            let new = match &new {
                Value::String(text) if hashed.contains(&key.as_str()) => {
                    json!(format!("sha256:{}", to_hex(&sha256(text.as_bytes()))))
                }
                _ => new,
            };
            expected.insert(key, new);
        }
        prop_assert_eq!(&said["correctedFields"], &Value::Object(expected));
    }
}

fn created(row: &Sample, before: Option<&Sample>) -> Value {
    let before = before.map(Sample::row);
    value(adjustment_created(&row.row(), before.as_ref(), ORIGINAL, &head("t")).unwrap())
}

#[test]
fn a_correction_says_why_by_what_it_changed() {
    let before = Sample::ordinary();
    let corrected = |change: fn(&mut Sample)| {
        let mut after = Sample::ordinary().adjusting(AdjustmentType::Correction);
        change(&mut after);
        created(&after, Some(&before))
    };
    let charge = corrected(|s| s.price.as_mut().unwrap().0 = Money::ZERO);
    assert_eq!(charge["reasonCode"], "CHARGE_CORRECTION");
    assert_eq!(charge["correctedFields"], json!({ "chargeAmount": "0.000000" }));
    let unpriced = corrected(|s| s.price = None);
    assert_eq!(unpriced["reasonCode"], "CHARGE_CORRECTION");
    assert_eq!(
        unpriced["correctedFields"],
        json!({ "billingIndicator": "UNKNOWN", "chargeAmount": null, "chargeCurrency": null,
            "tapTariffClass": null, "tariffVersion": null })
    );
    let outcome = corrected(|s| {
        (s.final_state, s.event_at) = (FinalState::Failed, Millis(1_776_690_001_000));
        s.failure_code = Some("0x0b".to_owned());
    });
    assert_eq!(outcome["reasonCode"], "FINAL_STATE_CORRECTION");
    assert_eq!(
        outcome["correctedFields"],
        json!({ "eventTimeStamp": "2026-04-20T13:00:01.000Z", "failureCode": "0x0b", "finalState": "FAILED",
            "localTimeStamp": "2026-04-20T17:30:01.000+04:30" })
    );
    let both = corrected(|s| {
        s.final_state = FinalState::Failed;
        s.price = None;
    });
    assert_eq!(both["reasonCode"], "FIELD_CORRECTION");
    assert_eq!(corrected(|s| s.segment_count = 2)["reasonCode"], "FIELD_CORRECTION");
    assert_eq!(corrected(|_| ())["correctedFields"], json!({}));
    let unknown = created(&Sample::ordinary().adjusting(AdjustmentType::Correction), None);
    assert_eq!(
        (&unknown["correctedFields"], &unknown["reasonCode"]),
        (&Value::Null, &json!("FIELD_CORRECTION"))
    );
}

#[test]
fn a_void_and_a_re_rate_say_why() {
    let before = Sample::ordinary();
    let mut void = Sample::ordinary().adjusting(AdjustmentType::Void);
    void.price.as_mut().unwrap().0 = Money::ZERO;
    let said = created(&void, Some(&before));
    for (key, expected) in [
        ("adjustmentId", json!(CdrId([0x44; 16]).with_prefix("adj_"))),
        ("originalCdrId", json!(ORIGINAL.to_string())),
        ("adjustmentType", json!("VOID")),
        ("reasonCode", json!("DUPLICATE_DLR")),
        ("voidReason", json!("DUPLICATE_DLR")),
        ("correctedFields", Value::Null),
        ("newPricingTableId", Value::Null),
        ("ticketId", json!("JIRA-CDR-4821")),
        ("issuedByUserId", json!("user-1")),
        ("approverUserId", Value::Null),
        ("bucketHour", json!("2026-04-20T13:00:00Z")),
    ] {
        assert_eq!(said[key], expected, "{key}");
    }
    void.adjustment.as_mut().unwrap().void_reason = Some("customer +93701234567 complained".to_owned());
    let said = created(&void, Some(&before));
    assert_eq!((&said["reasonCode"], &said["voidReason"]), (&json!("OTHER"), &json!("OTHER")));

    let mut re_rate = Sample::ordinary().adjusting(AdjustmentType::ReRate);
    re_rate.price.as_mut().unwrap().3 = "2026-05".to_owned();
    let said = created(&re_rate, Some(&before));
    assert_eq!(said["reasonCode"], "TARIFF_CHANGE");
    assert_eq!((&said["correctedFields"], &said["newPricingTableId"]), (&Value::Null, &json!("2026-05")));
}

#[test]
fn a_repriced_event_gives_the_price() {
    let row = Sample::ordinary().adjusting(AdjustmentType::Correction);
    let said = value(record_repriced(&row.row(), ORIGINAL, &head("t")).unwrap());
    assert_eq!((&said["chargeAmount"], &said["chargeCurrency"]), (&json!("0.038400"), &json!("AFN")));
    assert_eq!((&said["tapTariffClass"], &said["billingIndicator"]), (&json!("A042"), &json!("CHARGEABLE")));
    assert_eq!(said["originalCdrId"], ORIGINAL.to_string());
}

#[test]
fn what_an_event_cannot_be_made_of_is_refused() {
    let original = Sample::ordinary();
    let unpriced = Sample { price: None, ..Sample::ordinary() }.adjusting(AdjustmentType::Correction);
    let system = System { kind: SystemKind::Audit, body: "{}", personal: None };
    let row = Row { record: Record::System(system), ..original.row() };
    let head = head("t");
    let error = record_appended(&row, &[0; 32], &head).unwrap_err();
    assert!(matches!(error, EventError::NotSms { subject: "cdr.record.appended.v1", .. }), "{error}");
    for error in [
        record_repriced(&original.row(), ORIGINAL, &head).unwrap_err(),
        adjustment_created(&original.row(), None, ORIGINAL, &head).unwrap_err(),
    ] {
        assert!(matches!(error, EventError::NotAnAdjustment { .. }), "{error}");
        assert!(error.to_string().contains(&original.cdr_id.to_string()));
    }
    let error = record_repriced(&unpriced.row(), ORIGINAL, &head).unwrap_err();
    assert!(matches!(error, EventError::Unpriced { .. }), "{error}");
}

#[test]
fn a_sealed_hour_says_roots_counts_and_sums() {
    let tally = Tally {
        mo: 1,
        mt: 2,
        broadcast: 3,
        international_mt: 4,
        chargeable_micros: 123_456_789_012_345_678_901,
        free_micros: -1,
    };
    let seal_ = seal("AWCC", 10, Some("dev-1"));
    let event = generated(&seal_, &seal_.operators[0], &tally, &head("t"));
    assert_eq!(event.partition_key, "AWCC");
    let said = value(event);
    for (key, expected) in [
        ("rollupId", json!(seal_.rollup_id("AWCC").with_prefix("roll_"))),
        ("bucketHour", json!("2026-04-20T13:00:00Z")),
        ("recordCount", json!(10)),
        ("moCount", json!(1)),
        ("mtCount", json!(2)),
        ("broadcastCount", json!(3)),
        ("internationalMtCount", json!(4)),
        ("chargeableSumMinor", json!("123456789012345.678901")),
        ("freeSumMinor", json!("-0.000001")),
        ("bucketRoot", json!("05".repeat(32))),
        ("chainHash", json!("06".repeat(32))),
        ("prevChainHash", json!("08".repeat(32))),
        ("sealedAt", json!("2026-04-20T14:00:00.000Z")),
        ("signerKeyId", json!("dev-1")),
    ] {
        assert_eq!(said[key], expected, "{key}");
    }
    let full = value(bucket_sealed(&seal_, &seal_.operators[0], &head("t")));
    assert_eq!((&full["emptyBucket"], &full["bucketRoot"]), (&json!(false), &said["bucketRoot"]));
    let empty = seal("AWCC", 0, None);
    let empty = value(bucket_sealed(&empty, &empty.operators[0], &head("t")));
    assert_eq!((&empty["emptyBucket"], &empty["signerKeyId"]), (&json!(true), &json!("")));
}

#[test]
fn a_batch_says_the_exact_sum_and_is_no_correction() {
    let batch = AdjustmentBatch {
        job_id: CdrId([9; 16]),
        kind: AdjustmentType::ReRate,
        count: 1_000_000,
        sum_delta_micros: -123_456_789_012_345_678_901,
        operator_id: Some("ETS"),
        tenant_id: None,
        bucket_hour_from: Hour(493_500),
        bucket_hour_to: Hour(493_525),
        issued_by: "user-1",
        approver: "user-2",
        ticket_id: "T-1",
        started_at: Millis(0),
        finished_at: Millis(1),
    };
    let event = adjustment_batch(&batch, &head("t")).unwrap();
    assert_eq!(event.partition_key, "ETS");
    let said = value(event);
    assert_eq!(said["sumDeltaMinor"], "-123456789012345.678901");
    assert_eq!(said["jobId"], CdrId([9; 16]).with_prefix("adjjob_"));
    let wrong = AdjustmentBatch { kind: AdjustmentType::Correction, ..batch };
    assert!(matches!(adjustment_batch(&wrong, &head("t")), Err(EventError::NotABulkKind { .. })));
}

#[test]
fn an_ordinary_event_is_one_allocation() {
    let sample = Sample {
        tenant_id: Some(cdr_core::Uuid([7; 16])),
        operator_id: "SIXTEEN-LETTERS_".to_owned(),
        ..Sample::ordinary()
    };
    for sample in [sample.clone(), sample.adjusting(AdjustmentType::Correction)] {
        for event in of_rows(&sample, &Sample::ordinary()) {
            if event.subject == "cdr.record.appended.v1" {
                // A vector that has grown holds at least twice what it began with.
                assert!(
                    event.payload.capacity() < 2 * 1088 && event.payload.len() > 544,
                    "{}",
                    event.payload.len()
                );
            }
        }
    }
}
