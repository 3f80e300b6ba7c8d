//! Adjustments on their way into RAP files: when lists show the file, and what has to be true before one that could not
//! be returned is tried again.

use crate::api::exports::{Opened, encode, refused};
use crate::api::openapi::{check, document};
use crate::api::service::{Answer, OPEN, Service, cdr_id};
use cdr_core::row::SystemKind;
use serde_json::{Value, json};

/// Corrects a record; the `cdr_` id of the correction.
fn correct(service: &Service, number: u64, fields: &Value) -> String {
    let body = json!({"type": "CORRECTION", "correctedFields": fields, "reason": "why", "ticketId": "T-1"});
    let path = format!("/v1/cdr/{}/adjustments", cdr_id(number));
    let answer = service.post_as(&path, body.to_string().as_bytes(), &["cdr:write"]);
    assert_eq!(answer.status, 201, "{answer:?}");
    assert!(answer.body["rapBatchExpected"].is_string() && answer.body.get("rapFileId").is_none());
    answer.body["adjustmentId"].as_str().unwrap().replacen("adj_", "cdr_", 1)
}

fn put_into_quarantine(service: &Service, cdr_id: &str, series: &str) -> String {
    let body = json!({
        "step": "QUARANTINED", "cdrId": cdr_id, "encoderError": "no", "exportId": null, "operatorId": "AWCC",
        "schemaVariant": "tap-b", "series": series,
    });
    service.append(SystemKind::Quarantine, &body).with_prefix("qua_")
}

/// File and time of every adjustment that is listed, by its row.
fn batched(answer: &Answer) -> Vec<(&str, &Value, &Value)> {
    for item in answer.items() {
        assert!(item["adjustmentId"].as_str().unwrap().ends_with(&item["cdrId"].as_str().unwrap()[4..]));
        assert_eq!(item["originalCdrId"], item["adjustmentOf"], "the first of its record");
    }
    let shown = answer.items().iter();
    shown.map(|item| (item["cdrId"].as_str().unwrap(), &item["rapFileId"], &item["rapBatchedAt"])).collect()
}

#[test]
fn an_adjustment_shows_the_rap_file_that_returns_it_once_that_is_encoded() {
    let (service, document) = (Service::build(), document());
    let list = || {
        let answer = service.get("/v1/cdr/adjustments");
        check(&document, "get", "/v1/cdr/adjustments", &answer);
        answer
    };
    let [fit, unfit] = [1, 2].map(|number| correct(&service, number, &json!({"segmentCount": 3})));
    let other = correct(&service, 7, &json!({"segmentCount": 3}));
    service.pass_hours(1);
    let late = correct(&service, 4, &json!({"segmentCount": 3}));
    let nothing = || {
        let (answer, null) = (list(), &Value::Null);
        let expected = [&fit, &unfit, &other, &late].map(|id| (id.as_str(), null, null));
        assert_eq!(batched(&answer), expected);
    };
    nothing();
    let tap_file = Opened::of("regulator", "2026-04-20", 1).open(&service);
    let rap = Opened { kind: "RAP_1_5", upto: OPEN, ..Opened::of("regulator", "2026-04-20", 1) };
    let file = rap.open(&service);
    // What it holds is known once it is encoded.
    nothing();
    put_into_quarantine(&service, &unfit, "regulator");
    encode(&service, &file);

    let answer = list();
    let at = answer.items()[0]["rapBatchedAt"].clone();
    assert!(at.as_str().unwrap().starts_with("2026-04-20T16:"), "{answer:?}");
    let from: Vec<&Value> = answer.items().iter().map(|item| &item["tapFileId"]).collect();
    assert_eq!(from, [&json!(tap_file), &Value::Null, &Value::Null, &Value::Null]);
    let (name, null) = (json!(file), &Value::Null);
    let [fit, unfit, other, late] = [&fit, &unfit, &other, &late].map(String::as_str);
    let expected = [(fit, &name, &at), (unfit, null, null), (other, null, null), (late, null, null)];
    assert_eq!(batched(&answer), expected, "in quarantine, of another operator, of a later hour");
    for (number, row) in [(1, fit), (2, unfit)] {
        let chain = service.get(&format!("/v1/cdr/{}/adjustments", cdr_id(number)));
        check(&document, "get", "/v1/cdr/{cdrId}/adjustments", &chain);
        let shown = expected.iter().filter(|(id, ..)| *id == row).copied().collect::<Vec<_>>();
        assert_eq!(batched(&chain), shown);
    }
    // Page by page they show the same.
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = service.get(&format!("/v1/cdr/adjustments?limit=1{cursor}"));
        paged.extend(page.items().iter().map(|item| item["rapFileId"].clone()));
        match page.body["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(paged, [name.clone(), Value::Null, Value::Null, Value::Null]);
    // Records are listed as they are.
    let record = service.get(&format!("/v1/cdr/records/{fit}"));
    assert!(record.body.get("rapFileId").is_none());
}

#[test]
fn an_adjustment_is_tried_as_the_return_that_a_file_would_hold() {
    let service = Service::build();
    let resubmit =
        |entry: &str| service.post_as(&format!("/v1/cdr/quarantine/{entry}/resubmit"), b"{}", &["cdr:admin"]);
    // The variant of this series takes numbers as senders, and no failure code in returns.
    let failure = correct(&service, 4, &json!({"finalState": "FAILED", "failureCode": "E7"}));
    let fine = correct(&service, 2, &json!({"segmentCount": 3}));
    let [failure, fine] = [&failure, &fine].map(|id| put_into_quarantine(&service, id, "clearing"));
    let why = |answer: &Answer| answer.body["error"]["details"]["failures"][0]["error"].to_string();
    for entry in [&failure, &fine] {
        let answer = resubmit(entry);
        refused(&answer, 422, "REGULATOR_SCHEMA_INVALID");
        assert!(why(&answer).contains("no TAP file lists its original"), "{answer:?}");
    }
    Opened { variant: "tap-b", ..Opened::of("clearing", "2026-04-20", 1) }.open(&service);
    let answer = resubmit(&failure);
    refused(&answer, 422, "REGULATOR_SCHEMA_INVALID");
    assert!(why(&answer).contains("E7 is unknown"), "its call event alone could be encoded: {answer:?}");
    let answer = resubmit(&fine);
    assert_eq!((answer.status, &answer.body["resolution"]), (200, &json!("RESUBMITTED")), "{answer:?}");
}

#[test]
fn nobody_brings_a_rap_file_forward() {
    let service = Service::build();
    let asked = |day: &str| {
        let body = json!({
            "exportType": "RAP_1_5", "settlementDay": day, "operatorId": "AWCC", "reason": "asked for",
        });
        service.post_as("/v1/cdr/exports/trigger", body.to_string().as_bytes(), &["cdr:admin"])
    };
    // From 15:00Z to one o'clock in the morning there.
    service.pass_hours(5);
    let early = asked("2026-04-20");
    assert_eq!((early.status, early.field()), (400, "settlementDay"), "{early:?}");
    assert!(early.body["error"]["message"].as_str().unwrap().contains("02:30"), "{early:?}");
    let yesterday = asked("2026-04-19");
    assert_eq!((yesterday.status, &yesterday.body["action"]), (202, &json!("REQUESTED")), "{yesterday:?}");
    service.pass_hours(1);
    assert_eq!(asked("2026-04-20").status, 400, "half an hour before the cut-off");
    service.pass_hours(1);
    assert_eq!(asked("2026-04-20").status, 202);
}
