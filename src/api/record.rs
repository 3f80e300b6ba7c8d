//! A record as it is answered: exactly the canonical row with its `rowHash`, or with its addresses masked.

use cdr_core::canonical::push_row_with_hash;
use cdr_core::row::Record;
use cdr_core::{Hash, Row};

/// Appends the record's JSON to `out`. Without the right to see addresses, `callingPartyAddress` (if it is a number),
/// `calledPartyAddress`, `originalServedSubscriberId` and `imsi` are masked and `"masked": true` comes last;
/// `rowHash` stays that of the true row.
pub fn push_record(row: &Row<'_>, row_hash: &Hash, sees_addresses: bool, out: &mut Vec<u8>) {
    match &row.record {
        Record::Sms(sms) if !sees_addresses => {
            let calling = mask_number(sms.calling_party);
            let called = mask_number(sms.called_party);
            let original = sms.original_served_subscriber.map(mask_number);
            let imsi = sms.imsi.map(mask_imsi);
            let mut masked = sms.clone();
            masked.calling_party = &calling;
            masked.called_party = &called;
            masked.original_served_subscriber = original.as_deref();
            masked.imsi = imsi.as_deref();
            push_row_with_hash(&Row { frame: row.frame.clone(), record: Record::Sms(masked) }, row_hash, out);
            out.pop();
            out.extend_from_slice(b",\"masked\":true}");
        }
        _ => push_row_with_hash(row, row_hash, out),
    }
}

/// A number with all but its country code and its last two digits hidden; names stay as they are.
fn mask_number(address: &str) -> String {
    match address.strip_prefix('+') {
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => {
            format!("+{}", mask(digits, country_code_digits(digits)))
        }
        _ => address.to_owned(),
    }
}

/// An IMSI with all but its country (MCC, three digits) and its last two digits hidden.
fn mask_imsi(imsi: &str) -> String {
    mask(imsi, 3)
}

fn mask(digits: &str, keep: usize) -> String {
    let last = digits.len().saturating_sub(2).max(keep);
    digits.bytes().enumerate().map(|(i, b)| if i < keep || i >= last { char::from(b) } else { '*' }).collect()
}

/// How many digits the country code of an E.164 number has (ITU-T E.164, list of assigned codes).
fn country_code_digits(digits: &str) -> usize {
    let two = digits.get(..2).and_then(|code| code.parse::<u8>().ok()).unwrap_or(0);
    match two {
        10..=19 | 70..=79 => 1,
        20 | 27 | 28 | 30..=34 | 36 | 39..=41 | 43..=49 | 51..=58 | 60..=66 | 81..=84 | 86 | 90..=95 | 98 => {
            2
        }
        _ => 3,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use cdr_core::row::{
        BillingIndicator, ChargeType, Direction, Encoding, FinalState, Frame, Sms, System, SystemKind,
    };
    use cdr_core::{CdrId, Hour, Millis, Uuid};
    use serde_json::Value;

    fn row<'a>(calling_party: &'a str, record: impl FnOnce(Sms<'a>) -> Record<'a>) -> Row<'a> {
        let sms = Sms {
            message_id: Uuid([1; 16]),
            tenant_id: None,
            calling_party,
            called_party: "+93701234567",
            original_served_subscriber: Some("+93799999921"),
            recording_entity: "4120101",
            service_center: "+93700000000",
            message_reference: "ref",
            event_at: Millis(1_776_690_000_123),
            local_offset_minutes: 270,
            submitted_at: None,
            charge_amount: None,
            charge_currency: None,
            tap_tariff_class: None,
            tariff_version: None,
            charge_type: ChargeType::A2p,
            billing_indicator: BillingIndicator::Unknown,
            direction: Direction::Mt,
            encoding: Encoding::Gsm7,
            final_state: FinalState::Delivered,
            segment_count: 1,
            failure_code: None,
            imsi: Some("412011234567890"),
            adjustment: None,
        };
        Row {
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
            record: record(sms),
        }
    }

    fn answer(row: &Row<'_>, sees_addresses: bool) -> (String, Value) {
        let mut out = Vec::new();
        push_record(row, &[4; 32], sees_addresses, &mut out);
        let value = serde_json::from_slice(&out).unwrap();
        (String::from_utf8(out).unwrap(), value)
    }

    #[test]
    fn whoever_may_see_addresses_gets_the_canonical_row() {
        let row = row("+93700111222", Record::Sms);
        let mut canonical = Vec::new();
        push_row_with_hash(&row, &[4; 32], &mut canonical);
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
                ["callingPartyAddress", "calledPartyAddress", "originalServedSubscriberId", "imsi"];
            assert!(is_address.contains(&field.as_str()) || masked[field] == *value, "{field}");
        }
    }

    #[test]
    fn names_and_system_rows_are_not_masked() {
        assert_eq!(answer(&row("GHASI", Record::Sms), false).1["callingPartyAddress"], "GHASI");
        let system = row("", |_| Record::System(System { kind: SystemKind::Key, body: "{}" }));
        assert!(answer(&system, false).1.get("masked").is_none());
    }

    #[test]
    fn short_and_foreign_numbers() {
        assert_eq!(mask_number("+12025550123"), "+1********23");
        assert_eq!(mask_number("+992123456789"), "+992*******89");
        assert_eq!(mask_number("+931"), "+931");
        assert_eq!(mask_number("+93"), "+93");
        assert_eq!(mask_imsi("412"), "412");
    }
}
