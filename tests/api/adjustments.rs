//! Adjustments, bulk jobs and the audit log of one replica.

use crate::api::service::{Answer, OPEN, RECORDS, SEALED, Service, TENANT, cdr_id, message_id};
use serde_json::{Value, json};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// One service for everything here; each test adjusts records of its own.
pub static DESK: LazyLock<Service> = LazyLock::new(Service::build);

const WRITE: &[&str] = &["cdr:write"];

fn post_as(service: &Service, subject: &str, path: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
    let token = service.issuer.token(subject, WRITE, 600).unwrap();
    let authorization = format!("Bearer {token}");
    let headers = [&[("Authorization", authorization.as_str())], headers].concat();
    service.post_with(path, body.to_string().as_bytes(), &headers)
}

pub fn path_of(id: impl std::fmt::Display) -> String {
    format!("/v1/cdr/{id}/adjustments")
}

/// Adjusts a record of the shared service.
pub fn adjust(id: impl std::fmt::Display, body: &Value) -> Answer {
    post_as(&DESK, "tester", &path_of(id), body, &[])
}

pub fn correction(fields: &Value) -> Value {
    json!({"type": "CORRECTION", "correctedFields": fields, "reason": "why", "ticketId": "T-1"})
}

pub fn void() -> Value {
    json!({"type": "VOID", "voidReason": "DUPLICATE_DLR", "ticketId": "T-2"})
}

/// The `cdr_` id of the row that an answer names.
fn row_id(answer: &Answer) -> String {
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.body["adjustmentId"].as_str().unwrap().replacen("adj_", "cdr_", 1)
}

fn record(service: &Service, id: impl std::fmt::Display) -> Answer {
    let answer = service.get(&format!("/v1/cdr/records/{id}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer
}

#[test]
fn a_correction_is_a_new_row_and_the_original_stays_byte_for_byte() {
    let before = record(&DESK, cdr_id(5));
    let answer =
        adjust(cdr_id(5), &correction(&json!({"tapTariffClass": "A042", "chargeAmount": "0.038400"})));
    let row = record(&DESK, row_id(&answer));
    let expected = json!({
        "adjustmentId": row.body["cdrId"].as_str().unwrap().replacen("cdr_", "adj_", 1),
        "originalCdrId": cdr_id(5).to_string(),
        "bucketHour": OPEN,
        "rapBatchExpected": "2026-04-20T22:00:00Z",
    });
    assert_eq!(answer.body, expected);
    assert_eq!(record(&DESK, cdr_id(5)).text, before.text);
    let mut copy = before.body.as_object().unwrap().clone();
    for (field, value) in [
        ("adjustmentOf", json!(cdr_id(5).to_string())),
        ("adjustmentType", json!("CORRECTION")),
        ("adjustmentReason", json!("why")),
        ("ticketId", json!("T-1")),
        ("issuedByUserId", json!("tester")),
        ("tapTariffClass", json!("A042")),
        ("chargeAmount", json!("0.038400")),
        // The list of before did not give this charge.
        ("tariffVersion", Value::Null),
    ] {
        copy.insert(field.to_owned(), value);
    }
    for own in [
        "bucketHour",
        "cdrId",
        "cdrSequence",
        "chainHashPrev",
        "personalHash",
        "recordedAt",
        "rowHash",
        "salt",
        "source",
        "traceId",
    ] {
        assert_ne!(copy.get(own), Some(&row.body[own]), "{own} is its own");
        copy.insert(own.to_owned(), row.body[own].clone());
    }
    assert_eq!(row.body, Value::Object(copy));
    assert_eq!((&row.body["bucketHour"], &row.body["source"]["stream"]), (&json!(OPEN), &json!("api")));
}

#[test]
fn corrections_follow_the_last_one_whichever_row_they_name() {
    let first = adjust(cdr_id(8), &correction(&json!({"segmentCount": 2})));
    let second = adjust(first.body["adjustmentId"].as_str().unwrap(), &correction(&json!({"imsi": null})));
    let third = adjust(cdr_id(8), &correction(&json!({"finalState": "FAILED", "failureCode": "E7"})));
    let chain = DESK.get(&path_of(cdr_id(8)));
    let line: Vec<&str> = chain.items().iter().map(|row| row["cdrId"].as_str().unwrap()).collect();
    assert_eq!(line, [row_id(&first), row_id(&second), row_id(&third)]);
    let mut before = cdr_id(8).to_string();
    for row in chain.items() {
        assert_eq!(
            (row["adjustmentOf"].as_str(), row["originalCdrId"].as_str()),
            (Some(before.as_str()), Some(cdr_id(8).to_string().as_str()))
        );
        assert!(row["adjustmentId"].as_str().unwrap().ends_with(&row["cdrId"].as_str().unwrap()[4..]));
        before = row["cdrId"].as_str().unwrap().to_owned();
    }
    let last = &chain.items()[2];
    assert_eq!(
        (&last["segmentCount"], &last["imsi"], &last["finalState"]),
        (&json!(2), &Value::Null, &json!("FAILED"))
    );
    // The whole line, from any of its rows.
    assert_eq!(DESK.get(&path_of(row_id(&second))).items(), chain.items());
    assert_eq!(DESK.get(&path_of(second.body["adjustmentId"].as_str().unwrap())).items(), chain.items());
    assert_eq!(DESK.get(&path_of(cdr_id(9))).body, json!({"items": [], "total": 0}));

    let of_message = format!("/v1/cdr/records?messageId={}", message_id(8));
    assert_eq!(DESK.get(&of_message).items().len(), 4);
    let net = DESK.get(&format!("{of_message}&net=true"));
    assert_eq!(net.items().len(), 1);
    assert_eq!(net.items()[0]["cdrId"], last["cdrId"]);
    let masked = DESK.get_as(&path_of(cdr_id(8)), &["cdr:read"]);
    assert!(masked.items().iter().all(|row| row["masked"] == true && row["adjustmentId"].is_string()));
}

#[test]
fn a_voided_record_counts_no_more_and_can_not_be_adjusted() {
    let before = record(&DESK, cdr_id(11));
    let answer = adjust(cdr_id(11), &void());
    let row = record(&DESK, row_id(&answer));
    assert_eq!(
        (&row.body["chargeAmount"], &row.body["voidReason"], &row.body["adjustmentType"]),
        (&json!("0.000000"), &json!("DUPLICATE_DLR"), &json!("VOID"))
    );
    for body in [void(), correction(&json!({"segmentCount": 2}))] {
        for id in [cdr_id(11).to_string(), row_id(&answer)] {
            let again = adjust(id, &body);
            assert_eq!((again.status, again.code()), (409, "ALREADY_VOIDED"), "{again:?}");
            assert_eq!(again.body["error"]["details"]["cdrId"], row.body["cdrId"]);
        }
    }
    assert_eq!(record(&DESK, cdr_id(11)).text, before.text);
    let net = DESK.get(&format!("/v1/cdr/records?messageId={}&net=true", message_id(11)));
    assert_eq!((net.items().len(), &net.items()[0]["adjustmentType"]), (1, &json!("VOID")));
    // A correction of before can be voided, too.
    let corrected = adjust(cdr_id(12), &correction(&json!({"segmentCount": 2})));
    let voided = record(&DESK, row_id(&adjust(corrected.body["adjustmentId"].as_str().unwrap(), &void())));
    assert_eq!(
        (&voided.body["segmentCount"], &voided.body["adjustmentOf"]),
        (&json!(2), &json!(row_id(&corrected)))
    );
}

#[test]
fn what_can_not_be_done_is_named() {
    let id = cdr_id(14);
    let rows = DESK.store().state().head.row_count;
    let without = |body: Value, name: &str| {
        let mut body = body;
        body.as_object_mut().unwrap().remove(name);
        body
    };
    let fine = correction(&json!({"segmentCount": 2}));
    for body in [without(fine.clone(), "ticketId"), without(void(), "ticketId")] {
        let answer = adjust(id, &body);
        assert_eq!((answer.status, answer.code(), answer.field()), (422, "TICKET_REQUIRED", "ticketId"));
    }
    for (body, field) in [
        (without(fine.clone(), "reason"), "reason"),
        (without(fine.clone(), "correctedFields"), "correctedFields"),
        (without(fine.clone(), "type"), "type"),
        (json!({"type": "RE_RATE", "ticketId": "T"}), "type"),
        (without(void(), "voidReason"), "voidReason"),
        (json!({"type": "VOID", "voidReason": "no code", "ticketId": "T"}), "voidReason"),
        (
            json!({"type": "VOID", "voidReason": "X", "ticketId": "T", "correctedFields": {}}),
            "correctedFields",
        ),
        (json!({"type": "VOID", "voidReason": "X", "ticketId": "T", "why": "x"}), "why"),
        (json!({"type": "VOID", "voidReason": "X", "ticketId": 7}), "ticketId"),
        (json!([]), "body"),
        (correction(&json!({})), "correctedFields"),
        (correction(&json!({"segmentCount": 1})), "correctedFields"),
        (correction(&json!({"messageId": message_id(15).to_string()})), "messageId"),
        (correction(&json!({"operatorId": "ETS"})), "operatorId"),
        (correction(&json!({"segmentCount": 2, "colour": "red"})), "colour"),
        (correction(&json!({"calledPartyAddress": "0701234567"})), "calledPartyAddress"),
        (correction(&json!({"chargeAmount": 0.5})), "chargeAmount"),
    ] {
        let answer = adjust(id, &body);
        assert_eq!(
            (answer.status, answer.code(), answer.field()),
            (400, "CDR_VALIDATION_FAILED", field),
            "{body}: {answer:?}"
        );
    }
    let unknown = adjust(cdr_id(99_999), &fine);
    assert_eq!((unknown.status, unknown.code()), (404, "CDR_NOT_FOUND"), "{unknown:?}");
    let system = cdr_core::CdrId::from_parts(1_776_690_000_000, [0; 10]);
    assert_eq!(adjust(system, &fine).status, 404);
    assert_eq!((adjust("cdr_1", &fine).status, adjust("cdr_1", &fine).field()), (400, "cdrId"));
    assert_eq!(DESK.get(&path_of(cdr_id(99_999))).status, 404);
    let unscoped = DESK.post_as(&path_of(id), fine.to_string().as_bytes(), &["cdr:read", "cdr:admin"]);
    assert_eq!((unscoped.status, unscoped.code()), (403, "INSUFFICIENT_SCOPE"));
    assert_eq!(unscoped.body["error"]["details"]["requiredScope"], "cdr:write");
    assert_eq!(DESK.get_as(&path_of(id), WRITE).status, 403);
    let long = [("Idempotency-Key", "k".repeat(256))].map(|(name, key)| (name, key));
    let answer = post_as(&DESK, "tester", &path_of(id), &fine, &[(long[0].0, long[0].1.as_str())]);
    assert_eq!((answer.status, answer.field()), (400, "Idempotency-Key"));
    assert!(DESK.get(&path_of(id)).items().is_empty());
    // Others adjust at the same time; nothing of this is in the line, and refusals leave no row of their own.
    assert!(DESK.store().state().head.row_count >= rows);
}

/// Sends a body as it stands to a record of the shared service.
fn adjust_raw(id: impl std::fmt::Display, body: &str) -> Answer {
    DESK.post_as(&path_of(id), body.as_bytes(), WRITE)
}

#[test]
fn a_body_that_reads_in_two_ways_is_refused() {
    let of = |more: &str| format!(r#"{{"type":"VOID","voidReason":"X","ticketId":"T-1"{more}}}"#);
    for (body, field) in [
        (of(r#","ticketId":"T-2""#), "ticketId"),
        (of(r#","t\u0079pe":"CORRECTION""#), "type"),
        (of(r#","type":"VOID""#), "type"),
        (of(r#","correctedFields":{"imsi":null,"imsi":"412011234567890"}"#), "body"),
        (of(r#","correctedFields":{"a":[{"b":1,"\u0062":2}]}"#), "body"),
        (of(&format!(r#","correctedFields":{}1{}"#, "[".repeat(32), "]".repeat(32))), "body"),
        (of(&format!(r#","correctedFields":{}1{}"#, "[".repeat(125), "]".repeat(125))), "body"),
        (of(r#","reason":"\ud800""#), "body"),
    ] {
        let answer = adjust_raw(cdr_id(20), &body);
        assert_eq!((answer.status, answer.field()), (400, field), "{body}: {answer:?}");
    }
    for number in ["3.0", "3e0", "1e400", "9007199254740993", "256"] {
        let fields = format!(r#"{{"segmentCount":{number}}}"#);
        let body = correction(&json!("PLACE")).to_string().replace("\"PLACE\"", &fields);
        let answer = adjust_raw(cdr_id(20), &body);
        assert_eq!(answer.status, 400, "{number}: {answer:?}");
    }
    let twice = [("Idempotency-Key", "a"), ("Idempotency-Key", "b")];
    let answer = post_as(&DESK, "tester", &path_of(cdr_id(20)), &void(), &twice);
    assert_eq!((answer.status, answer.field()), (400, "Idempotency-Key"), "{answer:?}");
    let token = DESK.token(&["cdr:read"]);
    let authorization = format!("Bearer {token}");
    let twice = [("Authorization", authorization.as_str()), ("Authorization", authorization.as_str())];
    assert_eq!(DESK.get_with("/v1/cdr/records", &twice).status, 401);
    assert_eq!(DESK.get(&path_of(cdr_id(20))).items().len(), 0, "nothing of this is in the log");
}

#[test]
fn corrections_and_reasons_obey_the_rules_of_inbound_messages() {
    let charge = |amount: &str| json!({"chargeAmount": amount, "tapTariffClass": "A042"});
    let mut cases: Vec<(Value, &str)> = vec![
        (correction(&charge("-0.000001")), "chargeAmount"),
        (correction(&charge("-1")), "chargeAmount"),
        (correction(&json!({"eventTimeStamp": "1970-01-01T00:00:00Z"})), "eventTimeStamp"),
        (correction(&json!({"eventTimeStamp": "9999-12-31T00:00:00Z"})), "eventTimeStamp"),
        (correction(&json!({"failureCode": "x".repeat(101)})), "failureCode"),
        (correction(&json!({"failureCode": "\u{200b}"})), "failureCode"),
    ];
    for ticket in ["\u{200b}", "two words", "é", "0701234567", &"x".repeat(129)] {
        let mut body = void();
        body["ticketId"] = json!(ticket);
        cases.push((body, "ticketId"));
    }
    for reason in ["\u{200b}", "a\u{202e}b", &"x".repeat(1_001)] {
        let mut body = void();
        body["reason"] = json!(reason);
        cases.push((body, "reason"));
    }
    for (body, field) in cases {
        let answer = adjust(cdr_id(21), &body);
        assert_eq!((answer.status, answer.field()), (400, field), "{body}: {answer:?}");
    }
    let id = message_id(21).to_string();
    assert_ne!(id, id.to_uppercase());
    for text in [&id, &id.to_uppercase()] {
        assert_eq!(DESK.get(&format!("/v1/cdr/records?messageId={text}")).items().len(), 1, "{text}");
    }
    let tenant =
        json!({"tenantId": TENANT.to_string().to_uppercase(), "eventTimeStamp": "2026-04-20t13:00:00z"});
    let row = record(&DESK, row_id(&adjust(cdr_id(21), &correction(&tenant))));
    assert_eq!(
        (&row.body["tenantId"], &row.body["eventTimeStamp"]),
        (&json!(TENANT.to_string()), &json!("2026-04-20T13:00:00.000Z"))
    );
}

#[test]
fn a_repeated_request_is_answered_as_before_also_after_a_restart() {
    let service = Service::build();
    let with_key = |service: &Service, subject: &str, number: u64, body: &Value| {
        post_as(service, subject, &path_of(cdr_id(number)), body, &[("Idempotency-Key", "op-1234")])
    };
    let fields = correction(&json!({"segmentCount": 2}));
    let first = with_key(&service, "tester", 21, &fields);
    assert_eq!(first.status, 201, "{first:?}");
    let rows = service.store().state().head.row_count;
    // The order of the fields is no other body.
    let same = json!({"ticketId": "T-1", "reason": "why", "type": "CORRECTION", "correctedFields": {"segmentCount": 2}});
    assert_eq!(with_key(&service, "tester", 21, &same).body, first.body);
    for (number, body) in [(21, void()), (21, correction(&json!({"segmentCount": 3}))), (22, fields.clone())]
    {
        let other = with_key(&service, "tester", number, &body);
        assert_eq!((other.status, other.code()), (409, "IDEMPOTENCY_CONFLICT"), "{other:?}");
    }
    assert_eq!(service.store().state().head.row_count, rows);
    let another = with_key(&service, "somebody", 21, &correction(&json!({"segmentCount": 3})));
    assert_eq!(another.status, 201, "another person's key is another key: {another:?}");
    assert_eq!(post_as(&service, "tester", &path_of(cdr_id(21)), &void(), &[]).status, 201);
    assert_eq!(
        with_key(&service, "tester", 21, &fields).body,
        first.body,
        "although the record is voided now"
    );
    service.pass_hours(3);
    let service = Service::open(service.close());
    let rows = service.store().state().head.row_count;
    assert_eq!(with_key(&service, "tester", 21, &fields).body, first.body);
    let other = with_key(&service, "tester", 21, &void());
    assert_eq!((other.status, other.code()), (409, "IDEMPOTENCY_CONFLICT"));
    assert_eq!(service.store().state().head.row_count, rows);
}

#[test]
fn an_adjustment_is_sealed_in_the_hour_of_its_issue() {
    let service = Service::build();
    let body = correction(&json!({"segmentCount": 2}));
    let answer = post_as(&service, "tester", &path_of(cdr_id(3)), &body, &[]);
    service.pass_hours(1);
    let verify = json!({"bucketHour": OPEN, "operatorId": "AWCC", "proofForCdrId": row_id(&answer)});
    let verified = service.post("/v1/cdr/chain/verify", &verify);
    assert_eq!((&verified.body["verified"], &verified.body["audited"]), (&json!(true), &json!(true)));
    assert!(verified.body["inclusionProof"]["leafIndex"].is_u64(), "{verified:?}");
    let sealed = service.post("/v1/cdr/chain/verify", &json!({"bucketHour": SEALED})).body;
    assert_eq!(sealed["verified"], true);
    // The next cut-off counts from the issue, not from the original.
    assert_eq!(answer.body["rapBatchExpected"], "2026-04-20T22:00:00Z");
    let stream = service.get(&format!("/v1/cdr/completeness?bucketHour={OPEN}")).body;
    assert_eq!(stream["addsUp"], true);
}

#[test]
fn adjustments_are_listed_with_filters_and_by_pages() {
    let service = Service::build();
    for number in 31..=36 {
        // 35 is of the other operator; even numbers are the tenant's.
        let body = if number == 33 { void() } else { correction(&json!({"segmentCount": 2})) };
        assert_eq!(post_as(&service, "tester", &path_of(cdr_id(number)), &body, &[]).status, 201);
    }
    let list = |query: &str| service.get(&format!("/v1/cdr/adjustments?{query}"));
    let all = list("");
    assert_eq!((all.items().len(), &all.body["total"]), (6, &json!(6)));
    assert!(all.items().iter().all(|row| row["adjustmentOf"].is_string()));
    for (query, count) in [
        ("adjustmentType=VOID".to_owned(), 1),
        ("operatorId=ETS".to_owned(), 1),
        (format!("tenantId={TENANT}"), 3),
        (format!("messageId={}", message_id(33)), 1),
        (format!("bucketHourTo={SEALED}"), 0),
        (format!("bucketHourFrom={OPEN}&adjustmentType=CORRECTION"), 5),
    ] {
        assert_eq!(list(&query).items().len(), count, "{query}");
    }
    let (mut pages, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = list(&format!("limit=4{cursor}"));
        pages.extend(page.items().clone());
        match page.body["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(&pages, all.items());
    let foreign = service.get("/v1/cdr/records?limit=1").body["nextCursor"].clone();
    let refused = list(&format!("cursor={}", foreign.as_str().unwrap()));
    assert_eq!((refused.status, refused.field()), (400, "cursor"));
    // Of the adjustments, those that count: a second correction takes the place of the first.
    let again = correction(&json!({"segmentCount": 3}));
    assert_eq!(post_as(&service, "tester", &path_of(cdr_id(31)), &again, &[]).status, 201);
    assert_eq!((list("").items().len(), list("net=true").items().len()), (7, 6));
    let net = service.get(&format!("/v1/cdr/records?net=true&limit=500&bucketHourTo={SEALED}"));
    assert!(net.items().iter().all(|row| row["messageId"] != json!(message_id(31).to_string())));
}

#[test]
fn the_audit_log_says_who_did_what_and_why() {
    let service = Service::build();
    let list = |query: &str, scopes: &[&str]| service.get_as(&format!("/v1/cdr/audit{query}"), scopes);
    let refused = list("", &["cdr:read", "cdr:pii", "cdr:write"]);
    assert_eq!((refused.status, refused.code()), (403, "INSUFFICIENT_SCOPE"));
    assert!(list("", &["cdr:admin"]).items().is_empty());
    let body = correction(&json!({"calledPartyAddress": "+93701999999"}));
    let traced = [("x-trace-id", "case-4711"), ("Idempotency-Key", "k1")];
    let answer = post_as(&service, "tester", &path_of(cdr_id(3)), &body, &traced);
    let verify = json!({"bucketHour": SEALED, "operatorId": "AWCC", "depth": "leaves"});
    assert_eq!(service.post("/v1/cdr/chain/verify", &verify).body["audited"], true);
    let range = json!({"from": SEALED, "to": "2026-04-20T14:00:00Z"});
    assert_eq!(service.post("/v1/cdr/chain/verify/range", &range).body["audited"], true);
    let rows = list("", &["regulator-auditor"]);
    assert_eq!(rows.items(), list("", &["cdr:admin"]).items());
    let [adjusted, hour, span] = rows.items().as_slice() else { panic!("three rows are expected: {rows:?}") };
    assert_eq!((&adjusted["recordType"], &adjusted["traceId"]), (&json!("audit"), &json!("case-4711")));
    let told = &adjusted["body"];
    assert_eq!(
        (
            &told["entryType"],
            &told["actorUserId"],
            &adjusted["reason"],
            &told["ticketId"],
            &told["operatorId"]
        ),
        (&json!("ADJUSTMENT_ISSUED"), &json!("tester"), &json!("why"), &json!("T-1"), &json!("AWCC"))
    );
    assert_eq!(told["details"]["adjustmentId"], answer.body["adjustmentId"]);
    assert_eq!(told["details"]["adjustmentOf"], json!(cdr_id(3).to_string()));
    assert!(!rows.text.contains("+937"), "no address belongs into the audit log");
    assert_eq!(
        (&hour["body"]["entryType"], &hour["body"]["bucketHour"], &hour["body"]["details"]["depth"]),
        (&json!("CHAIN_VERIFY_OK"), &json!(SEALED), &json!("leaves"))
    );
    assert_eq!(
        (&span["body"]["details"]["from"], &span["body"]["actorUserId"]),
        (&json!(SEALED), &json!("tester"))
    );
    let first = list("?limit=1", &["cdr:admin"]);
    let next = first.body["nextCursor"].as_str().unwrap();
    assert_eq!(list(&format!("?limit=2&cursor={next}"), &["cdr:admin"]).items(), &rows.items()[1..]);
    assert!(list(&format!("?bucketHourTo={SEALED}"), &["cdr:admin"]).items().is_empty());
    assert_eq!(list("?operatorId=AWCC", &["cdr:admin"]).field(), "operatorId");
    // Audit rows are of the chain like any other.
    let path = format!("/v1/cdr/records/{}", adjusted["cdrId"].as_str().unwrap());
    assert_eq!(service.get_as(&path, &["cdr:read"]).body, *adjusted);
}

#[test]
fn a_verification_that_can_not_be_noted_is_answered_all_the_same() {
    let mut service = Service::build();
    service.close_desk();
    let asked = Instant::now();
    let hour = service.post("/v1/cdr/chain/verify", &json!({"bucketHour": SEALED}));
    assert_eq!((hour.status, &hour.body["verified"]), (200, &json!(true)), "{hour:?}");
    assert_eq!(hour.body["audited"], false);
    assert!(asked.elapsed() < Duration::from_secs(6), "{:?}", asked.elapsed());
    let range = json!({"from": SEALED, "to": "2026-04-20T14:00:00Z"});
    assert_eq!(service.post("/v1/cdr/chain/verify/range", &range).body["audited"], false);
    assert!(service.get_as("/v1/cdr/audit", &["cdr:admin"]).items().is_empty());
}

fn rerate(service: &Service, body: &Value, headers: &[(&str, &str)]) -> Answer {
    post_as(service, "tester", "/v1/cdr/adjustments/rerate", body, headers)
}

pub fn rerate_body(filter: &Value) -> Value {
    json!({"filter": filter, "newPricingTableId": "p2", "ticketId": "T-5000", "reason": "tariff change"})
}

#[test]
fn a_job_is_taken_in_with_an_estimate_and_once_for_every_key() {
    let service = Service::build();
    let of_ets = RECORDS / 7;
    let key = [("Idempotency-Key", "job-1")];
    let first = rerate(&service, &rerate_body(&json!({"operatorId": "ETS", "bucketHourTo": SEALED})), &key);
    assert_eq!(first.status, 202, "{first:?}");
    let job = first.body["jobId"].as_str().unwrap().to_owned();
    let expected = json!({"jobId": job, "estimatedImpact": of_ets, "requiresApproval": false});
    assert_eq!(first.body, expected);
    let told = service.get(&format!("/v1/cdr/adjustments/jobs/{job}"));
    assert_eq!(
        (&told.body["status"], &told.body["processed"], &told.body["estimatedImpact"]),
        (&json!("RUNNING"), &json!(0), &json!(of_ets))
    );
    assert_eq!(
        (&told.body["issuedByUserId"], &told.body["approverUserId"]),
        (&json!("tester"), &Value::Null)
    );
    assert_eq!(told.body["filter"]["bucketHourTo"], SEALED);
    let again = rerate(&service, &rerate_body(&json!({"bucketHourTo": SEALED, "operatorId": "ETS"})), &key);
    assert_eq!((again.status, &again.body), (202, &first.body));
    let other = rerate(&service, &rerate_body(&json!({"operatorId": "AWCC"})), &key);
    assert_eq!((other.status, other.code()), (409, "IDEMPOTENCY_CONFLICT"));
    let second = rerate(&service, &rerate_body(&json!({"tenantId": TENANT.to_string()})), &[]);
    assert_eq!(second.body["estimatedImpact"], RECORDS / 2 + 1);
    let audit = service.get_as("/v1/cdr/audit", &["cdr:admin"]);
    let noted = &audit.items()[0]["body"];
    assert_eq!((&noted["details"]["jobId"], &noted["ticketId"]), (&json!(job), &json!("T-5000")));
    assert_eq!(noted["details"]["filter"]["operatorId"], "ETS");
    assert_eq!(noted["approverUserId"], Value::Null);
    let service = Service::open(service.close());
    let again = rerate(&service, &rerate_body(&json!({"operatorId": "ETS", "bucketHourTo": SEALED})), &key);
    assert_eq!((again.status, again.body), (202, first.body));
}

#[test]
fn who_asks_for_a_job_does_not_approve_it() {
    let body = rerate_body(&json!({"operatorId": "ETS"}));
    let token = |subject: &str, scopes: &[&str]| DESK.issuer.token(subject, scopes, 600).unwrap();
    for bad in [
        token("tester", WRITE),
        token("somebody", &["cdr:read"]),
        DESK.issuer.token("somebody", WRITE, -60).unwrap(),
        "no token".to_owned(),
    ] {
        let answer = rerate(&DESK, &body, &[("X-Approver-Jwt", &bad)]);
        assert_eq!((answer.status, answer.code()), (403, "FOUR_EYES_REQUIRED"), "{answer:?}");
        assert_eq!(answer.body["error"]["details"]["approvalAbove"], 100_000);
    }
    let good = token("somebody", WRITE);
    let answer = rerate(&DESK, &body, &[("X-Approver-Jwt", &good)]);
    assert_eq!(answer.status, 202, "{answer:?}");
    let job = DESK.get(&format!("/v1/cdr/adjustments/jobs/{}", answer.body["jobId"].as_str().unwrap()));
    assert_eq!(
        (&job.body["issuedByUserId"], &job.body["approverUserId"]),
        (&json!("tester"), &json!("somebody"))
    );
}

#[test]
fn what_is_wrong_with_a_job_is_named() {
    let all = json!({"operatorId": "ETS"});
    let without = |name: &str| {
        let mut body = rerate_body(&all);
        body.as_object_mut().unwrap().remove(name);
        body
    };
    let ticket = rerate(&DESK, &without("ticketId"), &[]);
    assert_eq!((ticket.status, ticket.code()), (422, "TICKET_REQUIRED"));
    for (body, field) in [
        (without("filter"), "filter"),
        (without("newPricingTableId"), "newPricingTableId"),
        (without("reason"), "reason"),
        (rerate_body(&json!({})), "filter"),
        (rerate_body(&json!({"operatorId": "NOBODY"})), "filter.operatorId"),
        (rerate_body(&json!({"tenantId": "t_01"})), "filter.tenantId"),
        (rerate_body(&json!({"bucketHourFrom": OPEN, "bucketHourTo": SEALED})), "filter.bucketHourTo"),
    ] {
        let answer = rerate(&DESK, &body, &[]);
        assert_eq!((answer.status, answer.field()), (400, field), "{answer:?}");
    }
    let path = "/v1/cdr/adjustments/rerate";
    let body = rerate_body(&all).to_string();
    assert_eq!(DESK.post_as(path, body.as_bytes(), &["cdr:read"]).code(), "INSUFFICIENT_SCOPE");
    let unknown = cdr_id(1).with_prefix("adjjob_");
    let answer = DESK.get(&format!("/v1/cdr/adjustments/jobs/{unknown}"));
    assert_eq!((answer.status, answer.code()), (404, "JOB_NOT_FOUND"));
    assert_eq!(DESK.get("/v1/cdr/adjustments/jobs/7").field(), "jobId");
}

#[test]
fn an_adjustment_that_does_not_exist_is_told_as_such() {
    let adjusted = row_id(&adjust(cdr_id(480), &correction(&json!({"segmentCount": 2}))));
    let adjustment = adjusted.replacen("cdr_", "adj_", 1);
    assert_eq!(DESK.get(&path_of(&adjustment)).items().len(), 1);
    assert_eq!(adjust(&adjustment, &correction(&json!({"segmentCount": 3}))).status, 201);
    // Nothing has the first id; the second one is that of a record which adjusts nothing.
    for id in [cdr_id(99_999), cdr_id(481)] {
        let name = id.with_prefix("adj_");
        for answer in [DESK.get(&path_of(&name)), adjust(&name, &void())] {
            assert_eq!((answer.status, answer.code()), (404, "ADJUSTMENT_NOT_FOUND"), "{answer:?}");
            assert_eq!(answer.body["error"]["details"], json!({ "adjustmentId": name }));
        }
    }
    let record = DESK.get(&path_of(cdr_id(99_999)));
    assert_eq!((record.status, record.code()), (404, "CDR_NOT_FOUND"));
}
