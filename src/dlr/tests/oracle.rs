//! The same rules a second time, written slowly, and random receipts on which both have to agree.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};

use super::{REQUIRED, receipt};
use crate::dlr::{Parsed, Reason, parse};
use crate::texts::is_shown;

type Rule<'a> = &'a dyn Fn(&str) -> bool;

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
    #![proptest_config(ProptestConfig { cases: testkit::cases(3_000), ..ProptestConfig::default() })]

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
