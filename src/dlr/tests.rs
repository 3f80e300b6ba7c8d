#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use super::*;
use crate::texts::is_shown;

fn receipt() -> Map<String, Value> {
    let value = json!({
        "schemaVersion": "1",
        "messageId": "0f8fad5b-d9cb-469f-a165-70867728950e",
        "tenantId": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
        "operatorId": "MTN_AF",
        "status": "DELIVERED",
        "direction": "MT",
        "chargeType": "A2P",
        "from": "کابل بانک",
        "to": "+93771234567",
        "originalServedSubscriberId": null,
        "imsi": "412401234567890",
        "serviceCenterAddress": "+93770011111",
        "messageReference": "7F3A",
        "segmentCount": 2,
        "encoding": "UCS2",
        "submittedAt": "2026-04-20T13:00:00.000Z",
        "finalAt": "2026-04-20T17:30:04.1239+04:30",
        "failureCode": null,
        "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
        "somethingNew": {"a": [1, 2.5, true, null, "x"]}
    });
    value.as_object().unwrap().clone()
}

fn with(key: &str, value: Value) -> String {
    let mut fields = receipt();
    fields.insert(key.to_owned(), value);
    Value::Object(fields).to_string()
}

fn reason(text: &str) -> String {
    match parse(text.as_bytes()) {
        Parsed::Malformed { reason } => reason.to_string(),
        other => panic!("{text} is {other:?}"),
    }
}

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

#[test]
fn escapes_are_read() {
    let text = with("from", json!("PLACE")).replace("PLACE", "\\u06a9\\u0627\\ud83d\\ude00a");
    let Parsed::Final(dlr) = parse(text.as_bytes()) else { panic!() };
    assert_eq!(dlr.from, "کا😀a");
    let text = with("messageReference", json!("x")).replace("messageReference", "message\\u0052eference");
    assert!(matches!(parse(text.as_bytes()), Parsed::Final(_)));
}

#[test]
fn what_json_must_not_hold() {
    let text = Value::Object(receipt()).to_string();
    for broken in [&text[..text.len() - 1], "", "{", "{\"a\":}", "\u{feff}{}", "{} {}", "nul"] {
        assert_eq!(reason(broken), "message is not valid JSON", "{broken}");
    }
    for other in ["[]", "1", "\"x\"", "null", "true", "-1.5", "[{\"a\":1}]"] {
        assert_eq!(reason(other), "message is not a JSON object");
    }
    let mut invalid_utf8 = text.clone().into_bytes();
    let at = text.find("MTN_AF").unwrap();
    invalid_utf8[at] = 0xff;
    assert_eq!(parse(&invalid_utf8), Parsed::Malformed { reason: Reason::NotJson });
    for surrogate in ["\\ud800", "\\udc00", "\\ud800x", "\\ud800\\u0041"] {
        for key in ["from", "somethingNew"] {
            let text = with(key, json!("PLACE")).replace("PLACE", surrogate);
            assert_eq!(reason(&text), "message is not valid JSON", "{key} {surrogate}");
        }
        let text = text.replace("somethingNew", surrogate);
        assert_eq!(reason(&text), "message is not valid JSON", "key {surrogate}");
        let text = text.replace("\"a\":", &format!("\"{surrogate}\":"));
        assert_eq!(reason(&text), "message is not valid JSON", "inner key {surrogate}");
    }
}

#[test]
fn no_key_may_appear_twice() {
    let text = Value::Object(receipt()).to_string();
    let again = |more: &str| format!("{},{more}}}", &text[..text.len() - 1]);
    assert_eq!(reason(&again("\"to\":\"+93771234567\"")), "to appears twice");
    assert_eq!(reason(&again("\"t\\u006f\":\"+93771234567\"")), "to appears twice");
    for more in ["\"somethingNew\":1", "\"x\":{\"a\":1,\"b\":{},\"a\":2}", "\"x\":[{\"a\":1,\"\\u0061\":2}]"]
    {
        assert_eq!(reason(&again(more)), "a key appears twice in one object");
    }
    assert_eq!(reason(&again("\"x\":1,\"x\":2")), "a key appears twice in one object");
    let inside_known = with("imsi", json!("PLACE")).replace("\"PLACE\"", "{\"a\":1,\"a\":1}");
    assert_eq!(reason(&inside_known), "a key appears twice in one object");
    assert!(matches!(parse(again("\"x\":{\"to\":1},\"y\":{\"to\":1}").as_bytes()), Parsed::Final(_)));
}

#[test]
fn size_is_limited() {
    let fits = MAX_DLR_BYTES - with("padding", json!("")).len();
    assert!(matches!(parse(with("padding", json!("x".repeat(fits))).as_bytes()), Parsed::Final(_)));
    assert_eq!(reason(&with("padding", json!("x".repeat(fits + 1)))), "message is over 65536 bytes");
}

#[test]
fn deep_nesting_is_refused_not_overflowed() {
    let text = with("x", json!("PLACE")).replace("\"PLACE\"", &"[".repeat(30_000));
    assert_eq!(reason(&text), "message is not valid JSON");
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for key in ["x", "imsi"] {
        let text = with(key, json!("PLACE")).replace("\"PLACE\"", &nested(32));
        assert_eq!(reason(&text), "message is nested more than 32 deep", "{key}");
    }
    let text = with("x", json!("PLACE")).replace("\"PLACE\"", &nested(31));
    assert!(matches!(parse(text.as_bytes()), Parsed::Final(_)));
}

#[test]
fn numbers_of_unknown_fields_are_nobodys_concern() {
    for number in ["1e400", "-1e-400", "9007199254740993", "123456789012345678901234567890", "[1e400]"] {
        let text = with("x", json!("PLACE")).replace("\"PLACE\"", number);
        assert!(matches!(parse(text.as_bytes()), Parsed::Final(_)), "{number}");
    }
    for number in ["3.0", "3e0", "1e400", "-1", "256", "18446744073709551616"] {
        let text = with("segmentCount", json!("PLACE")).replace("\"PLACE\"", number);
        assert_eq!(reason(&text), "segmentCount is not an integer from 1 to 255", "{number}");
    }
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

type Rule<'a> = &'a dyn Fn(&str) -> bool;

const REQUIRED: [&str; 13] = [
    "messageId",
    "operatorId",
    "status",
    "direction",
    "chargeType",
    "from",
    "to",
    "serviceCenterAddress",
    "messageReference",
    "segmentCount",
    "encoding",
    "finalAt",
    "traceId",
];

/// The same rules, written slowly over whole JSON values: which field is wrong, if any. `None` for ignored receipts.
fn oracle(fields: &Map<String, Value>) -> Option<Result<(), String>> {
    let one_of = |all: &'static [&'static str]| move |text: &str| all.contains(&text);
    let e164 = |text: &str| {
        let mut chars = text.chars();
        let digits = text.chars().skip(1).filter(char::is_ascii_digit).count();
        chars.next() == Some('+')
            && chars.next().is_some_and(|c| ('1'..='9').contains(&c))
            && digits == text.chars().count() - 1
            && (2..=15).contains(&digits)
    };
    let uuid = |text: &str| {
        let groups: Vec<_> = text.split('-').map(str::len).collect();
        groups == [8, 4, 4, 4, 12] && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
    };
    let instant = |text: &str| {
        let Ok(time) = text.parse::<slow_time::Instant>() else { return false };
        time.0
    };
    let is_wrong = |key: &str, rule: Rule<'_>| match fields.get(key) {
        None | Some(Value::Null) => REQUIRED.contains(&key),
        Some(Value::String(text)) => !rule(text),
        Some(_) => true,
    };
    if is_wrong("schemaVersion", &|text| text == "1") {
        return Some(Err("schemaVersion".to_owned()));
    }
    let states = ["DELIVERED", "FAILED", "EXPIRED", "ACCEPTED", "BUFFERED", "ENROUTE", "UNKNOWN"];
    if is_wrong("status", &|text| states.contains(&text)) {
        return Some(Err("status".to_owned()));
    }
    if states[3..].contains(&fields["status"].as_str().unwrap()) {
        return None;
    }
    let sender = |text: &str| {
        let count = text.chars().count();
        e164(text)
            || (!text.starts_with('+')
                && (1..=11).contains(&count)
                && text.chars().any(char::is_alphanumeric)
                && is_shown(text))
    };
    let operator = |text: &str| {
        (1..=16).contains(&text.chars().count())
            && !text.starts_with('_')
            && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
    };
    let rules: [(&str, Rule<'_>); 16] = [
        ("messageId", &uuid),
        ("tenantId", &uuid),
        ("operatorId", &operator),
        ("direction", &one_of(&["MO", "MT"])),
        ("chargeType", &one_of(&["MO", "MT", "BROADCAST", "INTERNATIONAL_MT", "P2P", "A2P"])),
        ("from", &sender),
        ("to", &e164),
        ("originalServedSubscriberId", &e164),
        ("imsi", &|text| {
            (6..=15).contains(&text.chars().count()) && text.chars().all(|c| c.is_ascii_digit())
        }),
        ("serviceCenterAddress", &e164),
        ("messageReference", &|text| (1..=20).contains(&text.chars().count()) && is_shown(text)),
        ("encoding", &one_of(&["GSM7", "UCS2", "GSM8_LATIN"])),
        ("submittedAt", &instant),
        ("finalAt", &instant),
        ("failureCode", &|text| text.is_empty() || text.len() <= 100 && is_shown(text)),
        ("traceId", &|text| {
            (1..=128).contains(&text.len()) && text.chars().all(|c| ('!'..='~').contains(&c))
        }),
    ];
    let mut wrong: Vec<String> =
        rules.iter().filter(|(key, rule)| is_wrong(key, rule)).map(|(key, _)| (*key).to_owned()).collect();
    if !fields.get("segmentCount").and_then(Value::as_u64).is_some_and(|count| (1..=255).contains(&count)) {
        wrong.push("segmentCount".to_owned());
    }
    Some(if wrong.is_empty() { Ok(()) } else { Err(wrong.join(",")) })
}

/// Instants of the test's own making, by splitting instead of by position.
mod slow_time {
    pub struct Instant(pub bool);

    impl std::str::FromStr for Instant {
        type Err = ();

        fn from_str(text: &str) -> Result<Self, ()> {
            let (date, rest) = text.split_once(['T', 't']).ok_or(())?;
            let zone_at = rest.find(['Z', 'z', '+', '-']).ok_or(())?;
            let (time, zone) = rest.split_at(zone_at);
            let number = |text: &str, length: usize| {
                if text.len() == length && text.bytes().all(|b| b.is_ascii_digit()) {
                    text.parse::<u32>().map_err(|_| ())
                } else {
                    Err(())
                }
            };
            let date: Vec<_> = date.split('-').collect();
            let [year, month, day] = date[..] else { return Err(()) };
            let (year, month, day) = (number(year, 4)?, number(month, 2)?, number(day, 2)?);
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let days = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
            let time: Vec<_> = time.split(':').collect();
            let [hour, minute, second] = time[..] else { return Err(()) };
            let zone_ok = zone == "Z" || zone == "z" || {
                let (hours, minutes) = zone[1..].split_once(':').ok_or(())?;
                number(hours, 2)? <= 23 && number(minutes, 2)? <= 59
            };
            Ok(Self(
                (1971..=9998).contains(&year)
                    && (1..=12).contains(&month)
                    && (1..=days[month as usize - 1]).contains(&day)
                    && number(hour, 2)? <= 23
                    && number(minute, 2)? <= 59
                    && number(second, 2)? <= 59
                    && (1..=18).contains(&fraction.len())
                    && fraction.bytes().all(|b| b.is_ascii_digit())
                    && zone_ok,
            ))
        }
    }
}

const KEYS: [&str; 20] = [
    "schemaVersion",
    "messageId",
    "tenantId",
    "operatorId",
    "status",
    "direction",
    "chargeType",
    "from",
    "to",
    "originalServedSubscriberId",
    "imsi",
    "serviceCenterAddress",
    "messageReference",
    "segmentCount",
    "encoding",
    "submittedAt",
    "finalAt",
    "failureCode",
    "traceId",
    "unheardOf",
];

fn any_value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "\\PC{0,25}",
        "[+]?[0-9]{0,18}",
        "[+][1-9][0-9]{0,15}",
        "[A-Za-z0-9_-]{0,18}",
        "(19|20|21)[0-9]{2}-[01][0-9]-[0-3][0-9][Tt][0-2][0-9]:[0-6][0-9]:[0-6][0-9]([.][0-9]{1,6})?(Z|z|[+-][0-2][0-9]:[0-9]{2})",
        "[0-9a-fA-F]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
        select(vec![
            "DELIVERED",
            "FAILED",
            "ENROUTE",
            "MO",
            "MT",
            "A2P",
            "P2P",
            "GSM7",
            "UCS2",
            "1",
            "\u{1F600}"
        ])
        .prop_map(str::to_owned),
    ];
    prop_oneof![
        6 => text.prop_map(Value::from),
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        1 => (-3i64..300).prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        1 => Just(json!([{"a": 1}, "x"])),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_the_oracle(changes in proptest::collection::vec((select(&KEYS[..]), proptest::option::of(any_value())), 0..4)) {
        let mut fields = receipt();
        for (key, value) in changes {
            match value {
                Some(value) => fields.insert(key.to_owned(), value),
                None => fields.remove(key),
            };
        }
        let text = Value::Object(fields.clone()).to_string();
        match (parse(text.as_bytes()), oracle(&fields)) {
            (Parsed::Final(dlr), Some(Ok(()))) => {
                prop_assert_eq!(&*dlr.to, fields["to"].as_str().unwrap());
                prop_assert_eq!(&*dlr.from, fields["from"].as_str().unwrap());
                prop_assert_eq!(u64::from(dlr.segment_count), fields["segmentCount"].as_u64().unwrap());
                prop_assert_eq!(dlr.imsi.as_deref(), fields.get("imsi").and_then(Value::as_str));
            }
            (Parsed::Ignored(state), None) => prop_assert_eq!(state, fields["status"].as_str().unwrap()),
            (Parsed::Malformed { reason: Reason::Invalid { field, .. } | Reason::Missing(field) }, Some(Err(wrong))) => {
                prop_assert!(wrong.split(',').any(|key| key == field), "{} but {}", field, wrong);
            }
            (parsed, expected) => prop_assert!(false, "{:?} but {:?}: {}", parsed, expected, text),
        }
    }

    #[test]
    fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), at in any::<proptest::sample::Index>()) {
        parse(&bytes);
        let mut text = Value::Object(receipt()).to_string().into_bytes();
        let at = at.index(text.len());
        let count = bytes.len().min(3);
        text.splice(at..(at + count).min(text.len()), bytes[..count].iter().copied());
        parse(&text);
        parse(&text[..at]);
    }
}
