//! No event holds a subscriber's number or identity.

use crate::events::samples::{Built, Sample, of_rows, of_the_rest, sample};
use cdr_core::row::AdjustmentType;
use proptest::prelude::*;

/// The first of `secrets` that stands in `payload`, with or without its `+`, plainly or with escapes undone.
fn found<'s>(payload: &[u8], secrets: &[&'s str]) -> Option<&'s str> {
    let plain = String::from_utf8(payload.to_vec()).unwrap();
    let read = serde_json::from_slice::<serde_json::Value>(payload).unwrap();
    let mut texts = Vec::new();
    collect(&read, &mut texts);
    secrets.iter().copied().find(|secret| {
        let digits = secret.trim_start_matches('+');
        plain.contains(digits) || texts.iter().any(|text| text.contains(digits))
    })
}

fn collect(value: &serde_json::Value, texts: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => texts.push(text.clone()),
        serde_json::Value::Array(all) => all.iter().for_each(|one| collect(one, texts)),
        serde_json::Value::Object(all) => all.values().for_each(|one| collect(one, texts)),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(testkit::cases(512)))]

    #[test]
    fn no_event_of_a_row_holds_a_number(row in sample(), before in sample()) {
        let mut secrets = row.secrets();
        secrets.extend(before.secrets());
        let mut events: Vec<Built> = of_rows(&row, &before);
        events.extend(of_the_rest(&row));
        for event in events {
            prop_assert_eq!(found(&event.payload, &secrets), None, "{}", event.subject);
        }
    }
}

#[test]
fn every_corrected_address_is_hashed_and_the_search_would_find_it() {
    let before = Sample {
        original_served_subscriber: Some("+93780000001".to_owned()),
        imsi: Some("412011234567890".to_owned()),
        ..Sample::ordinary()
    };
    let after = Sample {
        calling_party: "+93701111111".to_owned(),
        called_party: "+93702222222".to_owned(),
        original_served_subscriber: Some("+93703333333".to_owned()),
        imsi: Some("412019876543210".to_owned()),
        ..Sample::ordinary()
    }
    .adjusting(AdjustmentType::Correction);
    let events = of_rows(&after, &before);
    let corrected = &events.iter().find(|e| e.subject == "cdr.adjustment.created.v1").unwrap().payload;
    let value: serde_json::Value = serde_json::from_slice(corrected).unwrap();
    let fields = value["correctedFields"].as_object().unwrap();
    assert_eq!(fields.len(), 4, "{fields:?}");
    for (key, number) in [
        ("callingPartyAddress", "+93701111111"),
        ("calledPartyAddress", "+93702222222"),
        ("originalServedSubscriberId", "+93703333333"),
        ("imsi", "412019876543210"),
    ] {
        let hash = cdr_core::hash::to_hex(&cdr_core::hash::sha256(number.as_bytes()));
        assert_eq!(fields[key], format!("sha256:{hash}"));
    }
    let leaky = String::from_utf8(corrected.clone()).unwrap().replace("FIELD_CORRECTION", "for 93702222222");
    assert_eq!(found(leaky.as_bytes(), &after.secrets()), Some("+93702222222"));
}

#[test]
fn numbers_in_free_texts_are_hidden() {
    let number = "+93771234567";
    let before = Sample::ordinary();
    for kind in [AdjustmentType::Correction, AdjustmentType::Void, AdjustmentType::ReRate] {
        for written in [
            number,
            "0771234567",
            "called 0771234567 back",
            "\u{660}\u{667}\u{667}\u{661}\u{662}\u{663}\u{664}",
        ] {
            let mut after =
                Sample { failure_text: Some(written.to_owned()), ..Sample::ordinary() }.adjusting(kind);
            let adjustment = after.adjustment.as_mut().unwrap();
            adjustment.reason = Some(written.to_owned());
            adjustment.void_reason = (kind == AdjustmentType::Void).then(|| written.to_owned());
            for event in of_rows(&after, &before) {
                let leak = found(&event.payload, &["771234567", written]);
                assert_eq!(leak, None, "{} {}", event.subject, String::from_utf8_lossy(&event.payload));
            }
        }
    }
}
