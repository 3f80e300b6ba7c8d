//! A record as it is answered: the canonical row with its personal data, salt and `rowHash`, or with its personal data
//! masked.

use crate::masking;
use cdr_core::canonical::{personal_hash, push_masked, push_whole, to_jcs};
use cdr_core::row::{Adjustment, Record, Sms, System};
use cdr_core::schema::{Field, Kind, Value as FieldValue};
use cdr_core::{Hash, Row};
use serde_json::Value;
use std::borrow::Cow;

/// Members of a system row's personal data that are digests of what a client sent.
const DIGESTS: &[&str] = &["/request/body", "/request/key"];

/// Appends the record's JSON to `out`. Without the right to see personal data they are masked, the salt is absent, and
/// `"masked": true` comes last; `rowHash` and `personalHash` stay those of the true row. A row without personal data is
/// answered as it is.
pub fn push_record(row: &Row<'_>, row_hash: &Hash, sees_numbers: bool, out: &mut Vec<u8>) {
    let Some(commitment) = (!sees_numbers).then(|| personal_hash(row)).flatten() else {
        return push_whole(row, row_hash, out);
    };
    match &row.record {
        Record::Sms(sms) => push_masked_sms(row, sms, &commitment, row_hash, out),
        Record::System(system) => {
            let personal = masked_members(system.personal.unwrap_or_default());
            let record = Record::System(System { personal: Some(&personal), ..system.clone() });
            push_masked(&Row { record, ..row.clone() }, Some(&commitment), row_hash, out);
        }
    }
    out.pop();
    out.extend_from_slice(b",\"masked\":true}");
}

fn push_masked_sms(row: &Row<'_>, sms: &Sms<'_>, commitment: &Hash, row_hash: &Hash, out: &mut Vec<u8>) {
    let hidden: Vec<(Field, Cow<'_, str>)> = Field::ALL
        .iter()
        .filter(|field| field.is_personal())
        .filter_map(|field| Some((*field, hidden(field.kind(), sms.get(*field).text()?))))
        .collect();
    let adjustment = sms.adjustment.as_ref();
    let reason = adjustment.and_then(|adjustment| adjustment.reason).map(masking::text);
    let mut masked = sms.clone();
    for (field, text) in &hidden {
        masked.set(*field, FieldValue::Text(text));
    }
    masked.adjustment =
        adjustment.map(|adjustment| Adjustment { reason: reason.as_deref(), ..adjustment.clone() });
    push_masked(&Row { record: Record::Sms(masked), ..row.clone() }, Some(commitment), row_hash, out);
}

/// What is shown of a CDR's personal field to whoever may not see it.
fn hidden(kind: Kind, text: &str) -> Cow<'_, str> {
    match kind {
        Kind::Number => masking::address(text),
        Kind::Identity => Cow::Owned(masking::imsi(text)),
        _ => masking::text(text),
    }
}

/// The personal data of a system row without the numbers and digests in them.
fn masked_members(personal: &str) -> String {
    // What can't be read can't be searched: nothing of it is shown.
    let Ok(mut members) = serde_json::from_str::<Value>(personal) else { return "{}".to_owned() };
    masking::own(&mut members);
    for digest in DIGESTS {
        if let Some(digest) = members.pointer_mut(digest) {
            *digest = masking::HIDDEN.into();
        }
    }
    to_jcs(&members).ok().and_then(|text| String::from_utf8(text).ok()).unwrap_or_else(|| "{}".to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use cdr_core::personal::Salt;
    use cdr_core::row::{
        BillingIndicator, ChargeType, Direction, Encoding, FinalState, Frame, Sms, System, SystemKind,
    };
    use cdr_core::rules::SchemaVersion;
    use cdr_core::{CdrId, Hour, Millis, Uuid};
    use serde_json::Value;

    fn row<'a>(calling_party: &'a str, record: impl FnOnce(Sms<'a>) -> Record<'a>) -> Row<'a> {
        let sms = Sms {
            message_id: Uuid([1; 16]),
            calling_party,
            called_party: "+93701234567",
            original_served_subscriber: Some("+93799999921"),
            recording_entity: "4120101",
            service_center: "+93700000000",
            message_reference: "ref",
            event_at: Millis(1_776_690_000_123),
            local_offset_minutes: 270,
            charge_type: ChargeType::A2p,
            billing_indicator: BillingIndicator::Unknown,
            direction: Direction::Mt,
            encoding: Encoding::Gsm7,
            final_state: FinalState::Delivered,
            segment_count: 1,
            imsi: Some("412011234567890"),
            ..Sms::BLANK
        };
        Row {
            version: SchemaVersion::V2,
            frame: Frame {
                bucket_hour: Hour(493_525),
                sequence: 1,
                chain_prev: [2; 32],
                recorded_at: Millis(1_776_690_000_200),
                source_stream: "S",
                source_sequence: 1,
                cdr_id: CdrId([3; 16]),
                operator_id: "AWCC",
                trace_id: "t",
            },
            salt: Salt([7; 16]),
            record: record(sms),
        }
    }

    fn answer(row: &Row<'_>, sees_numbers: bool) -> (String, Value) {
        let mut out = Vec::new();
        push_record(row, &[4; 32], sees_numbers, &mut out);
        let value = serde_json::from_slice(&out).unwrap();
        (String::from_utf8(out).unwrap(), value)
    }

    #[test]
    fn whoever_may_see_addresses_gets_the_canonical_row() {
        let row = row("+93700111222", Record::Sms);
        let mut canonical = Vec::new();
        push_whole(&row, &[4; 32], &mut canonical);
        let (text, value) = answer(&row, true);
        assert_eq!(text.as_bytes(), canonical);
        assert!(value.get("masked").is_none());
    }

    #[test]
    fn others_get_masked_addresses_and_everything_else() {
        let row = row("+93700111222", Record::Sms);
        let (text, masked) = answer(&row, false);
        let (_, full) = answer(&row, true);
        for (field, expected) in [
            ("callingPartyAddress", "+93*******22"),
            ("calledPartyAddress", "+93*******67"),
            ("originalServedSubscriberId", "+93*******21"),
            ("imsi", "412**********90"),
        ] {
            assert_eq!(masked[field], expected);
            assert!(!text.contains(full[field].as_str().unwrap()), "{field} leaks");
        }
        assert_eq!(masked["masked"], true);
        for (field, value) in full.as_object().unwrap() {
            let is_address =
                ["callingPartyAddress", "calledPartyAddress", "originalServedSubscriberId", "imsi", "salt"];
            assert!(is_address.contains(&field.as_str()) || masked[field] == *value, "{field}");
        }
    }

    #[test]
    fn names_and_system_rows_are_not_masked() {
        assert_eq!(answer(&row("GHASI", Record::Sms), false).1["callingPartyAddress"], "GHASI");
        let system =
            row("", |_| Record::System(System { kind: SystemKind::Key, body: "{}", personal: None }));
        assert!(answer(&system, false).1.get("masked").is_none());
    }

    #[test]
    fn a_later_field_that_is_no_personal_data_is_shown_to_everybody() {
        let three = |sms| Record::Sms(Sms { correlation_id: Some("order-7"), ..sms });
        let row = Row { version: SchemaVersion::V3, ..row("+93700111222", three) };
        let (text, masked) = answer(&row, false);
        assert_eq!(
            (masked["schemaVersion"].as_str(), masked["correlationId"].as_str()),
            (Some("3"), Some("order-7"))
        );
        assert_eq!(masked["callingPartyAddress"], "+93*******22");
        assert!(text.ends_with(",\"masked\":true}") && masked.get("salt").is_none());
    }
}
