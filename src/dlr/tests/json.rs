//! What a receipt is as a JSON text.

use serde_json::{Value, json};

use super::{reason, receipt, with};
use crate::dlr::{MAX_DLR_BYTES, Parsed, Reason, parse};

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
