//! The rule of each field.

use std::borrow::Cow;

use cdr_core::row::{ChargeType, Direction, Encoding, FinalState};
use serde_json::{Value, json};

use super::{REQUIRED, reason, receipt, with};
use crate::dlr::{Parsed, parse};

#[test]
fn a_full_receipt_is_read() {
    let text = Value::Object(receipt()).to_string();
    let Parsed::Final(dlr) = parse(text.as_bytes()) else { panic!("{:?}", parse(text.as_bytes())) };
    assert_eq!(dlr.message_id.to_string(), "0f8fad5b-d9cb-469f-a165-70867728950e");
    assert_eq!(dlr.tenant_id.unwrap().to_string(), "7c9e6679-7425-40de-944b-e07fc1f90ae7");
    assert_eq!((&*dlr.operator_id, &*dlr.from, &*dlr.to), ("MTN_AF", "کابل بانک", "+93771234567"));
    assert_eq!((dlr.final_state, dlr.direction), (FinalState::Delivered, Direction::Mt));
    assert_eq!((dlr.charge_type, dlr.encoding, dlr.segment_count), (ChargeType::A2p, Encoding::Ucs2, 2));
    assert_eq!((dlr.original_served_subscriber_id, dlr.failure_code), (None, None));
    assert_eq!(dlr.imsi.as_deref(), Some("412401234567890"));
    assert_eq!((&*dlr.service_center_address, &*dlr.message_reference), ("+93770011111", "7F3A"));
    assert_eq!(dlr.final_at.to_string(), "2026-04-20T13:00:04.123Z", "in UTC, truncated to milliseconds");
    assert_eq!(dlr.submitted_at.unwrap().to_string(), "2026-04-20T13:00:00.000Z");
    assert_eq!(dlr.trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
    assert!(matches!(dlr.from, Cow::Borrowed(_)), "nothing is copied that needs no unescaping");
}

#[test]
fn optional_fields_may_be_absent() {
    let mut fields = receipt();
    let optional =
        ["schemaVersion", "tenantId", "originalServedSubscriberId", "imsi", "submittedAt", "failureCode"];
    for key in optional {
        fields.remove(key);
    }
    let text = Value::Object(fields).to_string();
    let Parsed::Final(dlr) = parse(text.as_bytes()) else { panic!() };
    assert_eq!((dlr.tenant_id, dlr.imsi, dlr.submitted_at), (None, None, None));
}

#[test]
fn states_that_are_not_final_are_ignored_whatever_else_they_lack() {
    for state in ["ACCEPTED", "BUFFERED", "ENROUTE", "UNKNOWN"] {
        let text = format!("{{\"status\":\"{state}\"}}");
        assert_eq!(parse(text.as_bytes()), Parsed::Ignored(state));
    }
    assert_eq!(reason("{\"status\":\"delivered\"}"), "status is not a known state");
    assert_eq!(
        reason("{\"status\":\"ENROUTE\",\"schemaVersion\":\"2\"}"),
        "schemaVersion is not the string \"1\""
    );
}

/// Every field with values that it takes and values that it refuses.
#[test]
fn each_field_has_its_rule() {
    let long = |n: usize| Value::from("x".repeat(n));
    let cases: Vec<(&str, Vec<Value>, Vec<Value>)> = vec![
        ("schemaVersion", vec![json!("1"), json!(null)], vec![json!("2"), json!(1), json!("")]),
        (
            "messageId",
            vec![json!("0F8FAD5B-D9CB-469F-A165-70867728950E")],
            vec![json!("0f8fad5bd9cb469fa16570867728950e"), json!("x"), json!(7), json!(""), json!({})],
        ),
        ("tenantId", vec![json!(null)], vec![json!("x"), json!(7), json!(false)]),
        (
            "operatorId",
            vec![json!("A"), json!("a-b_C9"), long(16)],
            vec![json!(""), json!("_system"), json!("a b"), long(17), json!("é"), json!(1)],
        ),
        ("status", vec![json!("FAILED"), json!("EXPIRED")], vec![json!("OTHER"), json!(""), json!(1)]),
        ("direction", vec![json!("MO")], vec![json!("mo"), json!("OM"), json!(1)]),
        (
            "chargeType",
            ["MO", "MT", "BROADCAST", "INTERNATIONAL_MT", "P2P", "A2P"].map(Value::from).to_vec(),
            vec![json!("P2A"), json!([])],
        ),
        (
            "from",
            vec![
                json!("+93701234567"),
                json!("1234"),
                json!("A"),
                json!("A&B - c.d!"),
                json!("وزارت صحت"),
                json!("ااااااااااا"),
                json!("می‌خواهم"),
            ],
            vec![
                json!(""),
                json!("twelve chars"),
                json!("+0701234567"),
                json!("+x"),
                json!("a\nb"),
                json!("a\u{202e}b"),
                json!("a\u{200b}"),
                json!(" "),
                json!("..."),
                json!(1),
            ],
        ),
        (
            "to",
            vec![json!("+12"), json!("+123456789012345")],
            vec![
                json!("+1"),
                json!("+1234567890123456"),
                json!("12345"),
                json!("+012345"),
                json!("+93 70"),
                json!("+٩٣٧٠"),
                json!(""),
                json!(93),
            ],
        ),
        ("originalServedSubscriberId", vec![json!("+93701234567"), json!(null)], vec![json!("x"), json!("")]),
        (
            "imsi",
            vec![json!("123456"), json!("123456789012345"), json!(null)],
            vec![json!("12345"), json!("1234567890123456"), json!("12345a"), json!(""), json!(123_456)],
        ),
        ("serviceCenterAddress", vec![json!("+93700000000")], vec![json!("smsc"), json!("")]),
        (
            "messageReference",
            vec![json!("x"), long(20), json!("é".repeat(20))],
            vec![json!(""), long(21), json!(5), json!("\u{200b}"), json!(" "), json!("a\u{0}")],
        ),
        (
            "segmentCount",
            vec![json!(1), json!(255)],
            vec![json!(0), json!(256), json!(-1), json!(1.0), json!(1.5), json!("1"), json!(1e3), json!([1])],
        ),
        ("encoding", vec![json!("GSM7"), json!("GSM8_LATIN")], vec![json!("UTF8"), json!(8)]),
        (
            "submittedAt",
            vec![
                json!(null),
                json!("2026-04-20T13:00:00Z"),
                json!("2026-04-20t13:00:00.5z"),
                json!("2026-04-20T13:00:00.123456789-11:30"),
            ],
            vec![json!("2026-04-20"), json!(1_776_690_000), json!("")],
        ),
        (
            "finalAt",
            vec![json!("2024-02-29T23:59:59.999Z")],
            vec![
                json!("2026-04-20T13:00:60.000Z"),
                json!("2025-02-29T00:00:00.000Z"),
                json!("2026-04-20T24:00:00.000Z"),
                json!("2026-04-20T13:00:00.000"),
                json!("2026-04-20 13:00:00.000Z"),
                json!("1969-12-31T23:59:59.999Z"),
                json!(0),
            ],
        ),
        (
            "failureCode",
            vec![json!("ABSENT"), json!(""), json!(null), json!("غایب"), long(100)],
            vec![json!(5), json!([]), long(101), long(60_000), json!("\u{feff}"), json!("a\tb")],
        ),
        (
            "traceId",
            vec![json!("t"), long(128)],
            vec![json!(""), json!(1), long(129), json!("a b"), json!("é"), json!("\u{200b}")],
        ),
    ];
    for (key, good, bad) in cases {
        for value in good {
            let text = with(key, value.clone());
            assert!(
                matches!(parse(text.as_bytes()), Parsed::Final(_)),
                "{key} {value}: {:?}",
                parse(text.as_bytes())
            );
        }
        for value in bad {
            let text = reason(&with(key, value.clone()));
            assert!(text.starts_with(&format!("{key} is not ")), "{key} {value}: {text}");
        }
    }
}

#[test]
fn required_fields_are_named_when_they_lack() {
    for key in REQUIRED {
        let mut fields = receipt();
        fields.remove(key);
        assert_eq!(reason(&Value::Object(fields).to_string()), format!("{key} is missing"));
        assert_eq!(reason(&with(key, Value::Null)), format!("{key} is missing"));
    }
}
