#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn of(text: &str) -> Result<Value, JsonError> {
    value(text.as_bytes(), MAX_BYTES)
}

fn nested(depth: usize, open: &str, close: &str) -> String {
    format!("{}1{}", open.repeat(depth), close.repeat(depth))
}

#[test]
fn a_key_may_stand_once_in_an_object_at_any_depth() {
    for (text, key, depth) in [
        (r#"{"a":1,"a":1}"#, "a", 1),
        (r#"{"a":1,"\u0061":1}"#, "a", 1),
        (r#"{"x":[{"b":{"c":1,"\u0063":2}}]}"#, "c", 4),
        (r#"[{"":1,"":2}]"#, "", 2),
    ] {
        assert_eq!(of(text), Err(JsonError::RepeatedKey { key: key.to_owned(), depth }), "{text}");
        if text.starts_with('{') {
            assert!(members(text.as_bytes(), MAX_BYTES).is_err(), "{text}");
        }
    }
    assert!(of(r#"{"a":{"a":1},"b":{"a":1}}"#).is_ok(), "the same key in two objects");
    let many = |last: usize| {
        let keys: Vec<String> = (0..200).chain([last]).map(|i| format!("\"k{i}\":0")).collect();
        of(&format!("{{{}}}", keys.join(",")))
    };
    assert!(many(200).is_ok());
    assert_eq!(many(7), Err(JsonError::RepeatedKey { key: "k7".to_owned(), depth: 1 }));
}

#[test]
fn nesting_and_size_are_bounded() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}"), ("[{\"a\":", "}]")] {
        let levels = MAX_DEPTH / open.matches(['[', '{']).count();
        assert!(of(&nested(levels, open, close)).is_ok(), "{open}");
        assert_eq!(of(&nested(levels + 1, open, close)), Err(JsonError::TooDeep), "{open}");
    }
    assert_eq!(of(&nested(20_000, "[", "]")), Err(JsonError::TooDeep), "no stack is used up");
    assert!(
        matches!(of(&"[".repeat(20_000)), Err(JsonError::Syntax { .. })),
        "that is no JSON, however deep"
    );
    let text = format!("\"{}\"", "x".repeat(MAX_BYTES - 2));
    assert!(of(&text).is_ok());
    assert_eq!(of(&format!("{text} ")), Err(JsonError::TooLarge { limit_bytes: MAX_BYTES }));
}

#[test]
fn what_is_not_json_is_refused() {
    for text in [
        "",
        "{",
        "[1,]",
        "{\"a\":}",
        "\u{feff}{}",
        "{} {}",
        "nul",
        "01",
        "1.",
        "\"\t\"",
        "NaN",
        "{a:1}",
        "{,}",
        "[,]",
        "{\"a\":1,}",
        "[1 2]",
        "{\"a\" 1}",
        "-",
        "1e",
        "1e+",
        ".5",
        "+1",
        "\"",
        "\"\\",
        "\"\\x\"",
        "\"\\é\"",
        "truest",
    ] {
        assert!(matches!(of(text), Err(JsonError::Syntax { .. })), "{text:?}");
    }
    for surrogate in ["\\ud800", "\\udc00", "\\ud800x", "\\ud800\\u0041"] {
        for text in
            [format!("\"{surrogate}\""), format!("[{{\"{surrogate}\":1}}]"), format!("[[\"{surrogate}\"]]")]
        {
            assert!(matches!(of(&text), Err(JsonError::Syntax { .. })), "{text}");
        }
    }
    assert!(matches!(value(b"\"\xff\"", MAX_BYTES), Err(JsonError::Syntax { .. })));
    for text in ["[]", "1", "\"x\"", "null", " true "] {
        assert_eq!(members(text.as_bytes(), MAX_BYTES).unwrap_err(), JsonError::NotAnObject, "{text}");
    }
}

#[test]
fn a_number_is_kept_exactly_or_refused() {
    for (text, same) in [
        ("0", json!(0)),
        ("-0", json!(-0.0)),
        ("9007199254740991", json!(9_007_199_254_740_991_u64)),
        ("-9007199254740991", json!(-9_007_199_254_740_991_i64)),
        ("3.0", json!(3.0)),
        ("0.1", json!(0.1)),
        ("-1.50e2", json!(-150.0)),
        ("1e20", json!(1e20)),
        ("0.000", json!(0.0)),
        ("0e999", json!(0.0)),
        ("123456789012345e-3", json!(123_456_789_012.345)),
    ] {
        assert_eq!(of(text), Ok(same), "{text}");
    }
    for text in [
        "9007199254740992",
        "9007199254740993",
        "-9007199254740993",
        "1234567890123456789",
        "1e400",
        "-1e400",
        "1e-400",
        "1e-310",
        "0.1234567890123456",
        "9007199254740993.0",
    ] {
        assert_eq!(of(text), Err(JsonError::Inexact { number: text.to_owned() }), "{text}");
        let all = format!("{{\"a\":[{text}]}}");
        let members = members(all.as_bytes(), MAX_BYTES).unwrap();
        assert_eq!(members[0].1.text(), format!("[{text}]"), "whoever asks for no value gets the text");
        assert_eq!(members[0].1.value_or_texts(), Ok(json!([text])));
    }
}

#[test]
fn members_keep_the_bytes_that_were_sent() {
    let text = "{ \"payload\" : { \"b\" : 1.50, \"a\":[ 1e400 ] } , \"t\\u0065xt\":\"\\u06a9 x\", \"n\": 3, \"m\": 3.0}";
    let members = members(text.as_bytes(), MAX_BYTES).unwrap();
    let keys: Vec<&str> = members.iter().map(|(key, _)| &**key).collect();
    assert_eq!(keys, ["payload", "text", "n", "m"]);
    assert_eq!(members[0].1.text(), "{ \"b\" : 1.50, \"a\":[ 1e400 ] }");
    assert_eq!(members[1].1.string().unwrap().as_deref(), Some("\u{6a9} x"));
    assert_eq!((members[2].1.integer(), members[3].1.integer()), (Some(3), None));
}

#[test]
fn a_part_may_be_unusable_without_the_others() {
    let text = br#"{"keys":[{"a":1,"a":2},{"a":3},"x"]}"#;
    assert!(members(text, MAX_BYTES).is_err());
    let members = outermost(text, MAX_BYTES).unwrap();
    let elements = members[0].1.elements().unwrap().unwrap();
    assert!(elements[0].value().is_err());
    assert_eq!((elements[1].value(), elements[2].value()), (Ok(json!({"a": 3})), Ok(json!("x"))));
}

#[test]
fn errors_repeat_little_of_what_was_sent() {
    let key = "k".repeat(1_000);
    let error = of(&format!("{{\"{key}\":1,\"{key}\":2}}")).unwrap_err().to_string();
    assert!(error.len() < 120 && error.starts_with("the key \"kkk"), "{error}");
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        (any::<i32>(), 1u32..6)
            .prop_map(|(n, places)| json!(format!("{n}e-{places}").parse::<f64>().unwrap())),
        "\\PC{0,12}".prop_map(Value::from),
        "[\"\\\\\u{1}-\u{20}a]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            proptest::collection::btree_map("\\PC{0,4}", inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn reads_what_the_library_writes(value in any_value()) {
        let (short, long) = (value.to_string(), serde_json::to_string_pretty(&value).unwrap());
        prop_assert_eq!(of(&short), Ok(value.clone()));
        prop_assert_eq!(of(&long), Ok(value));
    }

    #[test]
    fn takes_nothing_that_the_library_refuses(
        value in any_value(), at in any::<proptest::sample::Index>(), put in "[\\[\\]{}\",:0-9eE.\\\\u -]{0,3}",
    ) {
        let mut text: Vec<char> = value.to_string().chars().collect();
        let at = at.index(text.len());
        text.splice(at..(at + put.len()).min(text.len()), put.chars());
        let text: String = text.into_iter().collect();
        let _ = outermost(text.as_bytes(), MAX_BYTES);
        match (of(&text), serde_json::from_str::<Value>(&text)) {
            (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours, theirs),
            (Ok(_), Err(error)) => prop_assert!(false, "{}: {}", text, error),
            (Err(JsonError::Syntax { why }), Ok(_)) => prop_assert!(false, "{}: {}", text, why),
            (Err(_), _) => {}
        }
    }
}
