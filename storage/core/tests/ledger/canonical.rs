//! The fast canonical bytes of rows against a general RFC 8785 canonicaliser.

use crate::oracle::{hex, hour_text, instant, sha};
use crate::samples::{AdjustmentSample, Sample, SystemSample};
use cdr_core::canonical::{
    personal_hash, push_archived, push_masked, push_row, push_string, push_whole, row_hash,
};
use cdr_core::reading::cdr_row_as;
use cdr_core::row::{AdjustmentType, Draft, Place, Row, SystemKind};
use cdr_core::rules::{Build, SchemaVersion};
use cdr_core::schema::{SchemaError, check_hashed};
use cdr_core::{Hour, Millis};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// The fields of an `sms` row, as the format lists them.
const SMS_FIELDS: &str = "adjustmentOf adjustmentType approverUserId billingIndicator bucketHour cdrId cdrSequence \
    chainHashPrev chargeAmount chargeCurrency chargeType direction encoding eventTimeStamp failureCode finalState \
    issuedByUserId localTimeStamp messageId messageReference operatorId personalHash recordType recordedAt \
    recordingEntity schemaVersion segmentCount serviceCenterAddress source submittedAt tapTariffClass tariffVersion \
    tenantId ticketId traceId voidReason";

/// The fields of an `sms` row of this version, as the format lists them.
fn fields_of(version: SchemaVersion) -> Vec<&'static str> {
    let later: &[&str] = if version == SchemaVersion::V2 { &[] } else { &["correlationId"] };
    let mut fields: Vec<_> = SMS_FIELDS.split_whitespace().chain(later.iter().copied()).collect();
    fields.sort_unstable();
    fields
}

/// 9999-12-30, so that local time stays within four-digit years.
const LAST_DAY_MS: i64 = 253_402_214_400_000;
const MAX_INTEGER: u64 = (1 << 53) - 1;

fn text() -> impl Strategy<Value = String> {
    let letter = prop_oneof![
        3 => any::<char>(),
        2 => proptest::char::range('\0', '\u{7f}'),
        1 => Just('"'),
        1 => Just('\\'),
        1 => Just('\u{2028}'),
        1 => Just('\u{10ffff}'),
    ];
    proptest::collection::vec(letter, 0..12).prop_map(|letters| letters.into_iter().collect())
}

prop_compose! {
    fn adjustment()(
        of in any::<[u8; 16]>(),
        kind in proptest::sample::select(AdjustmentType::ALL),
        texts in proptest::array::uniform5(proptest::option::of(text())),
    ) -> AdjustmentSample {
        let [reason, void_reason, ticket_id, issued_by, approver] = texts;
        AdjustmentSample { of, kind, reason, void_reason, ticket_id, issued_by, approver }
    }
}

prop_compose! {
    fn wild_sample()(
        ids in any::<([u8; 16], [u8; 16], Option<[u8; 16]>)>(),
        texts in proptest::array::uniform8(text()),
        options in proptest::array::uniform7(proptest::option::of(text())),
        version in proptest::sample::select(&SchemaVersion::ALL[..]),
        times in (86_400_000..LAST_DAY_MS, proptest::option::of(0..LAST_DAY_MS), -1080i16..=1080),
        charge in proptest::option::of(-999_999_999_999_999_999i64..=999_999_999_999_999_999),
        segment_count in any::<u8>(),
        codes in 0usize..648,
        adjustment in proptest::option::of(adjustment()),
    ) -> Sample {
        let [operator_id, trace_id, calling_party, called_party, entity, center, reference, failure] = texts;
        let [subscriber, currency, class, list, failure_code, imsi, correlation] = options;
        Sample {
            version,
            cdr_id: ids.0,
            message_id: ids.1,
            tenant_id: ids.2,
            operator_id,
            trace_id,
            calling_party,
            called_party,
            original_served_subscriber: subscriber,
            recording_entity: entity,
            service_center: center,
            message_reference: reference,
            event_at: times.0,
            local_offset_minutes: times.2,
            submitted_at: times.1,
            charge_micros: charge,
            charge_currency: currency,
            tap_tariff_class: class,
            tariff_version: list,
            correlation_id: correlation.filter(|_| version != SchemaVersion::V2),
            failure_text: failure_code.as_ref().map(|_| failure),
            failure_code,
            imsi,
            segment_count,
            codes,
            adjustment,
        }
    }
}

#[derive(Clone, Debug)]
struct WildPlace {
    hour: u32,
    sequence: u64,
    chain_prev: [u8; 32],
    recorded_at: i64,
    stream: String,
    source_sequence: u64,
}

prop_compose! {
    fn wild_place()(
        hour in 0u32..70_389_504,
        sequence in 1..=MAX_INTEGER,
        chain_prev in any::<[u8; 32]>(),
        recorded_at in 0..LAST_DAY_MS,
        stream in text(),
        source_sequence in 0..=MAX_INTEGER,
    ) -> WildPlace {
        WildPlace { hour, sequence, chain_prev, recorded_at, stream, source_sequence }
    }
}

impl WildPlace {
    fn row<'a>(&'a self, draft: Draft<'a>) -> Row<'a> {
        Row::from_draft(
            draft,
            Place {
                bucket_hour: Hour(self.hour),
                sequence: self.sequence,
                chain_prev: self.chain_prev,
                recorded_at: Millis(self.recorded_at),
                source_stream: &self.stream,
                source_sequence: self.source_sequence,
            },
        )
    }

    fn json(&self, mut fields: Map<String, Value>) -> Value {
        fields.insert("bucketHour".into(), hour_text(i64::from(self.hour)).into());
        fields.insert("cdrSequence".into(), self.sequence.into());
        fields.insert("chainHashPrev".into(), hex(&self.chain_prev).into());
        fields.insert("recordedAt".into(), instant(self.recorded_at).into());
        fields.insert("source".into(), json!({"sequence": self.source_sequence, "stream": self.stream}));
        Value::Object(fields)
    }
}

/// Takes the personal data out and puts their hash in.
fn commit(value: &mut Value) -> Value {
    let personal = value["personal"].take();
    let hash = (!personal.is_null())
        .then(|| hex(&sha(&[serde_json_canonicalizer::to_string(&personal).unwrap().as_bytes()])));
    value.as_object_mut().unwrap().remove("personal");
    value["personalHash"] = hash.into();
    personal
}

/// Bytes, hashes, archive line and record of a row are those of its JSON.
fn agrees(row: &Row<'_>, mut value: Value) -> Result<(), TestCaseError> {
    let personal = commit(&mut value);
    let expected = serde_json_canonicalizer::to_string(&value).unwrap();
    let mut bytes = b"before".to_vec();
    push_row(row, &mut bytes);
    prop_assert_eq!(std::str::from_utf8(&bytes[6..]).unwrap(), &expected);
    let mut scratch = b"left over".to_vec();
    let hash = row_hash(row, &mut scratch);
    prop_assert_eq!(hash, sha(&[expected.as_bytes()]));
    value["rowHash"] = hex(&hash).into();
    let commitment = personal_hash(row);
    prop_assert_eq!(&Value::from(commitment.map(|hash| hex(&hash))), &value["personalHash"]);
    let canonical = |push: &dyn Fn(&mut Vec<u8>)| {
        let mut line = Vec::new();
        push(&mut line);
        String::from_utf8(line).unwrap()
    };
    let expected = |value: &Value| serde_json_canonicalizer::to_string(value).unwrap();
    let (mut whole, mut masked) = (value.clone(), value.clone());
    value["personal"] = personal.clone();
    prop_assert_eq!(canonical(&|out| push_archived(row, &hash, out)), expected(&value));
    for (name, member) in personal.as_object().into_iter().flatten() {
        whole[name] = member.clone();
        if name != "salt" {
            masked[name] = member.clone();
        }
    }
    prop_assert_eq!(canonical(&|out| push_whole(row, &hash, out)), expected(&whole));
    prop_assert_eq!(canonical(&|out| push_masked(row, commitment.as_ref(), &hash, out)), expected(&masked));
    if whole["recordType"] == "sms" {
        reads_as_it_was_written(row, &whole, &masked)?;
    }
    Ok(())
}

/// A record reads as it was written; one of another version, with other members, or masked does not.
fn reads_as_it_was_written(row: &Row<'_>, whole: &Value, masked: &Value) -> Result<(), TestCaseError> {
    let read = |record: &Value| {
        cdr_row_as(record.as_object().unwrap(), Build::NEXT).map(|read| assert_eq!(&read, row))
    };
    prop_assert_eq!(read(whole), Ok(()));
    prop_assert!(read(masked).is_err(), "a masked record is no row");
    let is_known = Build::THIS.schema(row.version.number()).is_some();
    prop_assert_eq!(cdr_row_as(whole.as_object().unwrap(), Build::THIS).is_ok(), is_known);
    for name in fields_of(row.version).into_iter().chain(["imsi", "rowHash", "salt"]) {
        let mut cut = whole.clone();
        cut.as_object_mut().unwrap().remove(name);
        prop_assert!(read(&cut).is_err(), "a record without {}", name);
    }
    let mut other = whole.clone();
    other["colour"] = Value::Null;
    let unknown = SchemaError::Unknown { member: "colour".to_owned(), version: row.version };
    prop_assert_eq!(read(&other), Err(unknown));
    let mut renamed = whole.clone();
    renamed["schemaVersion"] = if row.version == SchemaVersion::V2 { "3" } else { "2" }.into();
    prop_assert!(read(&renamed).is_err(), "no row has the members of another version");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::cases(2000)))]

    #[test]
    fn sms_and_adjustment_rows_are_canonical(sample in wild_sample(), place in wild_place()) {
        let value = place.json(sample.fields());
        let names = fields_of(sample.version);
        let mut hashed = value.clone();
        commit(&mut hashed);
        prop_assert_eq!(hashed.as_object().unwrap().keys().collect::<Vec<_>>(), names);
        prop_assert_eq!(check_hashed(&hashed, Build::NEXT), Ok(sample.version));
        agrees(&place.row(sample.draft()), value)?;
    }

    #[test]
    fn system_rows_are_canonical(
        kind in proptest::sample::select(SystemKind::ALL),
        pairs in proptest::collection::vec((text(), text(), 0..=MAX_INTEGER), 0..5),
        (trace_id, reason) in (text(), proptest::option::of(text())),
        version in proptest::sample::select(&SchemaVersion::ALL[..]),
        place in wild_place(),
    ) {
        let body: Map<String, Value> =
            pairs.into_iter().map(|(key, text, n)| (key, json!({"list": [text, n, null], "yes": true}))).collect();
        let mut content = body;
        if let Some(reason) = reason {
            content.insert("reason".to_owned(), reason.into());
        }
        let sample = SystemSample::new(1, 1, kind, &Value::Object(content));
        let sample = SystemSample { version, cdr_id: place.chain_prev[..16].try_into().unwrap(), trace_id, ..sample };
        let value = place.json(sample.fields());
        let mut hashed = value.clone();
        commit(&mut hashed);
        prop_assert_eq!(check_hashed(&hashed, Build::NEXT), Ok(version));
        agrees(&place.row(sample.draft()), value)?;
    }

    #[test]
    fn strings_are_canonical(value in text()) {
        let mut bytes = Vec::new();
        push_string(&mut bytes, &value);
        prop_assert_eq!(String::from_utf8(bytes).unwrap(), serde_json_canonicalizer::to_string(&value).unwrap());
    }
}

#[test]
fn every_control_character_is_escaped_as_rfc_8785_says() {
    let mut bytes = Vec::new();
    push_string(&mut bytes, "\u{0}\u{8}\t\n\u{b}\u{c}\r\u{1f}\u{7f}\"\\/é€😀");
    let expected = r#""\u0000\b\t\n\u000b\f\r\u001f"#.to_owned() + "\u{7f}" + r#"\"\\/é€😀""#;
    assert_eq!(String::from_utf8(bytes).unwrap(), expected);
}
