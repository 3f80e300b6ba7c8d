//! Subscribers' numbers in answers to callers without `cdr:pii`, wherever somebody wrote them.

use crate::api::adjustments::{correction, path_of};
use crate::api::exports::{FILES, Opened, delivered, failed, post as files_post};
use crate::api::service::{Service, cdr_id};
use serde_json::{Value, json};

/// As it stands in texts here, in three scripts.
const NUMBERS: [&str; 3] = [
    "0771234567",
    "\u{660}\u{667}\u{667}\u{661}\u{662}\u{663}\u{664}\u{665}\u{666}\u{667}",
    "\u{ff10}\u{ff17}\u{ff17}\u{ff11}\u{ff12}\u{ff13}\u{ff14}\u{ff15}\u{ff16}\u{ff17}",
];
const READ: &[&str] = &["cdr:read"];

fn shows_none(text: &str, place: &str) {
    let compact: String = text.chars().filter(|c| !" ()-.".contains(*c)).collect();
    for number in NUMBERS {
        // Without its last two digits, which an address keeps.
        let hidden: String = number.chars().skip(1).take(7).collect();
        assert!(!compact.contains(&hidden), "{place} shows {number}: {text}");
    }
}

/// Corrects a record; the path of the row that it gives.
fn corrected(service: &Service, number: u64, fields: &Value, ticket: &str) -> String {
    let mut body = correction(fields);
    body["ticketId"] = json!(ticket);
    body["reason"] = json!(format!("he said {} is his", NUMBERS[0]));
    let answer = service.post_as(&path_of(cdr_id(number)), body.to_string().as_bytes(), &["cdr:write"]);
    assert_eq!(answer.status, 201, "{answer:?}");
    let id = answer.body["adjustmentId"].as_str().unwrap().replacen("adj_", "cdr_", 1);
    format!("/v1/cdr/records/{id}")
}

#[test]
fn numbers_are_masked_in_senders_of_every_form_and_in_every_free_text() {
    let service = Service::build();
    let senders = [
        ("93771234567", "*********67"),
        (NUMBERS[0], "********67"),
        ("077 123 456", "*** *** *56"),
        ("(077)123456", "(***)****56"),
        (NUMBERS[1], "********\u{666}\u{667}"),
        (NUMBERS[2], "********\u{ff16}\u{ff17}"),
        ("+93771234567", "+93*******67"),
        ("Bank", "Bank"),
        ("24x7", "24x7"),
    ];
    for (number, (sender, shown)) in (20..).zip(senders) {
        let fields = json!({"callingPartyAddress": sender, "failureCode": format!("from {}", NUMBERS[1])});
        let path = corrected(&service, number, &fields, "T-1");
        let whole = service.get(&path);
        assert_eq!(whole.body["callingPartyAddress"], sender);
        let masked = service.get_as(&path, READ);
        assert_eq!(masked.body["callingPartyAddress"], shown);
        assert_eq!(
            (&masked.body["failureCode"], &masked.body["failureText"]),
            (&Value::Null, &json!("from ***"))
        );
        assert_eq!(masked.body["adjustmentReason"], "he said *** is his");
        assert_eq!(masked.body["rowHash"], whole.body["rowHash"]);
        for kept in
            ["recordingEntity", "messageReference", "serviceCenterAddress", "traceId", "source", "recordedAt"]
        {
            assert_eq!(masked.body[kept], whole.body[kept], "{kept}");
        }
        for path in [path_of(cdr_id(number)), "/v1/cdr/adjustments?limit=500".to_owned()] {
            shows_none(&service.get_as(&path, READ).text, &path);
        }
    }
    for scope in ["cdr:admin", "regulator-auditor"] {
        let audit = service.get_as("/v1/cdr/audit?limit=500", &[scope]);
        assert!(!audit.items().is_empty());
        shows_none(&audit.text, "the audit log");
        assert!(audit.items().iter().all(|row| row["masked"] == true));
        let row = audit.items()[0]["cdrId"].as_str().unwrap();
        shows_none(&service.get_as(&format!("/v1/cdr/records/{row}"), READ).text, "a row of the audit log");
        assert_eq!(audit.items()[0]["request"]["key"], "***", "a digest of what a client sent");
    }
    let whole = service.get_as("/v1/cdr/audit?limit=500", &["cdr:admin", "cdr:pii"]);
    assert!(whole.text.contains(NUMBERS[0]) && !whole.text.contains("masked"));
    // With salt and personal data, both hashes of a system row follow.
    let mut row = whole.items()[0].clone();
    let members = row.as_object_mut().unwrap();
    let names = ["details", "reason", "request", "salt"];
    let personal: Value =
        names.iter().map(|name| ((*name).to_owned(), members.remove(*name).unwrap())).collect();
    let row_hash = members.remove("rowHash").unwrap();
    let hash = |value: &Value| {
        let text = serde_json_canonicalizer::to_string(value).unwrap();
        json!(cdr_core::hash::to_hex(&cdr_core::hash::sha256(text.as_bytes())))
    };
    assert_eq!((hash(&personal), hash(&row)), (row["personalHash"].clone(), row_hash));
}

#[test]
fn what_receivers_say_is_shown_without_numbers() {
    let file = Opened::of("masking", "2026-04-10", 1).sign(&FILES);
    failed(&FILES, &file, &format!("550 call {}", NUMBERS[0]));
    let of = |rest: &str| format!("/v1/cdr/exports/{file}{rest}");
    for path in [of(""), of("/delivery-log"), "/v1/cdr/exports?recordingEntity=masking".to_owned()] {
        let answer = FILES.get_as(&path, READ);
        assert!(answer.text.contains("550 call ***"), "{answer:?}");
        shows_none(&answer.text, &path);
    }
    delivered(&FILES, &file);
    let refusal = json!({
        "atraReceiptId": "20260420001", "status": "REJECTED", "rejectionReason": "SCHEMA_MISMATCH",
        "payload": {"line": 7, NUMBERS[0]: [771_234_567, format!("of {}", NUMBERS[1])]},
    });
    let path = format!("exports/{file}/mark-acked");
    assert_eq!(files_post(&path, &refusal, &["cdr:regulator-ack"], &[]).status, 200);
    let log = FILES.get_as(&of("/delivery-log"), READ);
    shows_none(&log.text, "the delivery log");
    let said = &log.items()[2];
    assert_eq!((&said["atraReceiptId"], &said["masked"]), (&json!("20260420001"), &json!(true)));
    assert!(log.items()[1].get("masked").is_none(), "nothing to mask");
    let whole = FILES.get_as(&of("/delivery-log"), &["cdr:read", "cdr:pii"]);
    assert!(whole.text.contains("771234567") && whole.text.contains(NUMBERS[1]), "{whole:?}");
}
