//! A record as it is answered: exactly the canonical row with its `rowHash`, or with the numbers in it masked.

use crate::masking;
use cdr_core::canonical::{push_row_with_hash, to_jcs};
use cdr_core::row::{Adjustment, Record, Sms, System};
use cdr_core::{Hash, Row};

/// Appends the record's JSON to `out`. Without the right to see numbers, those in a CDR's addresses, IMSI and free texts
/// and in a system row's texts are masked, and `"masked": true` comes last; `rowHash` stays that of the true row. A
/// system row without any is answered as it is.
pub fn push_record(row: &Row<'_>, row_hash: &Hash, sees_numbers: bool, out: &mut Vec<u8>) {
    match &row.record {
        Record::Sms(sms) if !sees_numbers => push_masked_sms(row, sms, row_hash, out),
        Record::System(system) if !sees_numbers => match masked_body(system.body) {
            Some(body) => {
                let record = Record::System(System { kind: system.kind, body: &body });
                push_masked(&Row { frame: row.frame.clone(), record }, row_hash, out);
            }
            None => push_row_with_hash(row, row_hash, out),
        },
        _ => push_row_with_hash(row, row_hash, out),
    }
}

/// True if a row can be shown as it is to whoever may not see numbers.
pub(super) fn shows_no_number(row: &Row<'_>) -> bool {
    match &row.record {
        Record::Sms(_) => false,
        Record::System(system) => masked_body(system.body).is_none(),
    }
}

fn push_masked_sms(row: &Row<'_>, sms: &Sms<'_>, row_hash: &Hash, out: &mut Vec<u8>) {
    let text = |text: Option<&str>| text.map(|text| masking::text(text).into_owned());
    let [calling, called] = [sms.calling_party, sms.called_party].map(masking::address);
    let original = sms.original_served_subscriber.map(masking::address);
    let imsi = sms.imsi.map(masking::imsi);
    let failure_code = text(sms.failure_code);
    let adjustment = sms.adjustment.as_ref();
    let [reason, void_reason, ticket_id] = [
        adjustment.and_then(|adjustment| adjustment.reason),
        adjustment.and_then(|adjustment| adjustment.void_reason),
        adjustment.and_then(|adjustment| adjustment.ticket_id),
    ]
    .map(text);
    let masked = Sms {
        calling_party: &calling,
        called_party: &called,
        original_served_subscriber: original.as_deref(),
        imsi: imsi.as_deref(),
        failure_code: failure_code.as_deref(),
        adjustment: adjustment.map(|adjustment| Adjustment {
            reason: reason.as_deref(),
            void_reason: void_reason.as_deref(),
            ticket_id: ticket_id.as_deref(),
            ..adjustment.clone()
        }),
        ..sms.clone()
    };
    push_masked(&Row { frame: row.frame.clone(), record: Record::Sms(masked) }, row_hash, out);
}

fn push_masked(row: &Row<'_>, row_hash: &Hash, out: &mut Vec<u8>) {
    push_row_with_hash(row, row_hash, out);
    out.pop();
    out.extend_from_slice(b",\"masked\":true}");
}

/// The body of a system row without the numbers in it; none if it has none.
fn masked_body(body: &str) -> Option<String> {
    // What can't be read can't be searched: nothing of it is shown.
    let unreadable = || "{}".to_owned();
    let Ok(mut value) = serde_json::from_str(body) else { return Some(unreadable()) };
    if !masking::own(&mut value) {
        return None;
    }
    let text = to_jcs(&value).ok().and_then(|text| String::from_utf8(text).ok());
    Some(text.unwrap_or_else(unreadable))
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
}
