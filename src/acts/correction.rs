//! Which fields of a record can be corrected, and to what.

use crate::texts::{self, is_e164, is_imsi, is_reference, is_sender};
pub(crate) use cdr_core::money::is_currency;
use cdr_core::row::{BillingIndicator, Sms};
use cdr_core::rules::SchemaVersion;
use cdr_core::schema::{Field, Group, Kind, Value as FieldValue};
use cdr_core::tariff::{exact_amount, is_version};
use cdr_core::{Millis, Money, Uuid};
use serde_json::{Map, Value};
use std::ops::RangeInclusive;

/// A field that can't be corrected so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

impl FieldError {
    fn new(field: &str, message: impl Into<String>) -> Self {
        Self { field: field.to_owned(), message: message.into() }
    }
}

/// The row with `fields` changed, those that a correction may name in a row of this version ([`Field::correctable`]).
/// `localTimeStamp` follows `eventTimeStamp`; a new `chargeAmount` without a `tariffVersion` is one that no price list
/// gave. A new `eventTimeStamp` must be among `event_times`, those with which a receipt could
/// have been recorded when the original was; `offset_minutes` gives the settlement zone's offset at an instant.
///
/// # Errors
/// [`FieldError`] naming the first field that is unknown, can't be corrected, or has no legal value; or
/// `correctedFields` if nothing would change.
pub fn corrected<'a>(
    version: SchemaVersion,
    before: &Sms<'a>,
    fields: &'a Map<String, Value>,
    event_times: &RangeInclusive<Millis>,
    offset_minutes: impl Fn(Millis) -> i16,
) -> Result<Sms<'a>, FieldError> {
    let mut sms = before.clone();
    for (name, value) in fields {
        set(version, &mut sms, name, value)?;
    }
    if sms.event_at != before.event_at && !event_times.contains(&sms.event_at) {
        let (first, last) = (event_times.start(), event_times.end());
        let message =
            format!("an instant from {first} to {last} is expected, as a DLR recorded then could have had");
        return Err(FieldError::new("eventTimeStamp", message));
    }
    if fields.contains_key("chargeAmount") && !fields.contains_key("tariffVersion") {
        sms.tariff_version = None;
    }
    sms.local_offset_minutes = offset_minutes(sms.event_at);
    if !sms.event_at.has_local(sms.local_offset_minutes) {
        return Err(FieldError::new("eventTimeStamp", "it has no local time in the settlement zone"));
    }
    if sms == *before {
        return Err(FieldError::new("correctedFields", "nothing would change"));
    }
    check_charge(&sms)?;
    Ok(sms)
}

/// A record has either a charge with all that belongs to it, or none of it.
fn check_charge(sms: &Sms<'_>) -> Result<(), FieldError> {
    let has_charge = sms.charge_amount.is_some();
    for (field, is_there) in [
        ("chargeCurrency", sms.charge_currency.is_some()),
        ("tapTariffClass", sms.tap_tariff_class.is_some()),
        ("billingIndicator", sms.billing_indicator != BillingIndicator::Unknown),
        ("tariffVersion", sms.tariff_version.is_some()),
    ] {
        if is_there && !has_charge {
            return Err(FieldError::new(field, "a record without a chargeAmount has none"));
        }
        // A charge that was set by hand comes from no list.
        if has_charge && !is_there && field != "tariffVersion" {
            return Err(FieldError::new(field, "a record with a chargeAmount needs it"));
        }
    }
    Ok(())
}

fn set<'a>(
    version: SchemaVersion,
    sms: &mut Sms<'a>,
    name: &str,
    value: &'a Value,
) -> Result<(), FieldError> {
    let Some(field) = Field::correctable(version).find(|field| field.name() == name) else {
        let names: Vec<_> = Field::correctable(version).map(Field::name).collect();
        let message = format!("it can't be corrected; these can: {}", names.join(", "));
        return Err(FieldError::new(name, message));
    };
    let is_set = match field {
        // What is no code becomes a text.
        Field::FailureCode => {
            let reason = value.as_str();
            (sms.failure_code, sms.failure_text) = texts::failure(reason);
            value.is_null() || reason.is_some_and(texts::is_failure_code)
        }
        _ => legal(field, value).is_some_and(|value| sms.set(field, value)),
    };
    if is_set { Ok(()) } else { Err(FieldError::new(name, format!("{} is expected", expected(field)))) }
}

/// The value that a correction gives a field, if it may. A price can be changed, but not taken away.
fn legal(field: Field, value: &Value) -> Option<FieldValue<'_>> {
    let text = value.as_str();
    match field.kind() {
        _ if value.is_null() => (field.group() != Group::Price).then_some(FieldValue::Absent),
        Kind::Integer => value.as_u64().filter(|count| *count > 0).map(FieldValue::Integer),
        Kind::Id => text.and_then(Uuid::parse_any_case).map(FieldValue::Uuid),
        Kind::Instant => text.and_then(Millis::parse_any_case).map(FieldValue::Instant),
        Kind::Money => text.and_then(amount).map(FieldValue::Money),
        _ => text.filter(|text| is_legal(field, text)).map(FieldValue::Text),
    }
}

fn is_legal(field: Field, text: &str) -> bool {
    match field {
        Field::BillingIndicator => text != BillingIndicator::Unknown.as_str(),
        Field::CallingParty => is_sender(text),
        Field::CalledParty | Field::OriginalServedSubscriber | Field::ServiceCenter => is_e164(text),
        Field::ChargeCurrency => is_currency(text),
        Field::Imsi => is_imsi(text),
        Field::MessageReference => is_reference(text),
        Field::TapTariffClass => is_tariff_class(text),
        Field::TariffVersion => is_version(text),
        other if other.kind() == Kind::Code => texts::is_code(text),
        other => other.kind() == Kind::Choice,
    }
}

/// What a field may be set to, in words.
fn expected(field: Field) -> &'static str {
    match (field, field.kind()) {
        (Field::CallingParty, _) => "an E.164 number or a name of 1-11 characters",
        (Field::CalledParty | Field::ServiceCenter, _) => "an E.164 number with +",
        (Field::OriginalServedSubscriber, _) => "an E.164 number with + or null",
        (Field::ChargeCurrency, _) => "AFN or USD",
        (Field::ChargeType, _) => "a known charge type",
        (Field::Direction, _) => "MO or MT",
        (Field::Encoding, _) => "GSM7, UCS2 or GSM8_LATIN",
        (Field::FinalState, _) => "DELIVERED, FAILED or EXPIRED",
        (Field::MessageReference, _) => "1-20 characters",
        (Field::TapTariffClass, _) => "four of A-Z and 0-9",
        (Field::TariffVersion, _) => "1-64 visible ASCII characters",
        (Field::FailureCode, _) => texts::FAILURE_CODE,
        (Field::BillingIndicator, _) => "CHARGEABLE, FREE, REVERSE_CHARGED, CPP or MPP",
        (_, Kind::Code) => texts::CODE,
        (_, Kind::Identity) => "6-15 digits or null",
        (_, Kind::Id) => "a UUID or null",
        (_, Kind::Instant | Kind::LocalTime) => "an instant of RFC 3339 such as 2026-04-20T13:00:00.000Z",
        (_, Kind::Integer) => "an integer from 1 to 255",
        (_, Kind::Money) => "an amount such as \"0.038400\", not negative, of at most six decimals",
        (_, Kind::Text | Kind::Choice | Kind::Number | Kind::Words) => "a text",
    }
}
/// What would have to be rounded is refused; a negative charge fits no settlement file.
fn amount(text: &str) -> Option<Money> {
    exact_amount(text).filter(|amount| *amount >= Money::ZERO)
}

/// The regulator's tariff classes.
pub(crate) fn is_tariff_class(text: &str) -> bool {
    text.len() == 4 && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use cdr_core::row::{ChargeType, Direction, Encoding, FinalState};
    use cdr_core::time::HOUR_MS;
    use serde_json::json;

    fn before() -> Sms<'static> {
        Sms {
            message_id: Uuid([1; 16]),
            calling_party: "+93701234567",
            called_party: "+93791234567",
            recording_entity: "AFGAW",
            service_center: "+93700000010",
            message_reference: "1",
            event_at: RECORDED,
            local_offset_minutes: 270,
            charge_type: ChargeType::A2p,
            billing_indicator: BillingIndicator::Unknown,
            direction: Direction::Mt,
            encoding: Encoding::Gsm7,
            final_state: FinalState::Delivered,
            segment_count: 1,
            ..Sms::BLANK
        }
    }

    /// 2026-04-20T13:00:00.123Z
    const RECORDED: Millis = Millis(1_776_690_000_123);

    fn event_times() -> RangeInclusive<Millis> {
        Millis(RECORDED.0 - 168 * HOUR_MS)..=Millis(RECORDED.0 + HOUR_MS)
    }

    fn refused(fields: &Value) -> String {
        corrected(SchemaVersion::V2, &before(), fields.as_object().unwrap(), &event_times(), |_| 270)
            .unwrap_err()
            .field
    }

    #[test]
    fn every_correctable_field_takes_a_good_value_and_refuses_a_bad_one() {
        let good = json!({
            "billingIndicator": "FREE", "calledPartyAddress": "+93700000001", "callingPartyAddress": "Bank",
            "chargeAmount": "0.0384", "chargeCurrency": "USD", "chargeType": "P2P", "direction": "MO",
            "encoding": "UCS2", "eventTimeStamp": "2026-04-20T12:00:00.123Z", "failureCode": "E1",
            "finalState": "FAILED", "imsi": "412011234567890", "messageReference": "r2",
            "originalServedSubscriberId": "+93700000002", "segmentCount": 3,
            "serviceCenterAddress": "+93700000011", "submittedAt": "2026-04-20T12:00:00Z",
            "tapTariffClass": "A042", "tariffVersion": "t2", "tenantId": "00000000-0000-4000-8000-000000000001",
        });
        let fields = good.as_object().unwrap();
        let names: Vec<&str> = Field::correctable(SchemaVersion::V2).map(Field::name).collect();
        assert!(fields.keys().eq(names.iter()));
        let after = corrected(SchemaVersion::V2, &before(), fields, &event_times(), |_| 60).unwrap();
        assert_eq!((after.local_offset_minutes, after.tariff_version), (60, Some("t2")));
        assert_eq!(after.charge_amount.unwrap().to_string(), "0.038400");
        for name in names {
            let mut bad = fields.clone();
            bad.insert(name.to_owned(), json!({"no": "value"}));
            assert_eq!(refused(&Value::Object(bad)), name);
        }
    }

    #[test]
    fn what_makes_a_record_what_it_is_stays() {
        for name in ["messageId", "operatorId", "cdrId", "recordedAt", "localTimeStamp", "colour"] {
            assert_eq!(refused(&json!({ name: "x" })), name);
        }
        assert_eq!(refused(&json!({})), "correctedFields");
        assert_eq!(refused(&json!({"segmentCount": 1})), "correctedFields");
        assert_eq!(refused(&json!({"chargeAmount": "0.1"})), "chargeCurrency");
        assert_eq!(refused(&json!({"chargeAmount": "0.0000001", "chargeCurrency": "AFN"})), "chargeAmount");
        assert_eq!(refused(&json!({"segmentCount": 256})), "segmentCount");
        assert_eq!(refused(&json!({"chargeAmount": 1})), "chargeAmount");
        assert_eq!(refused(&json!({"chargeCurrency": "AFN"})), "chargeCurrency");
        assert_eq!(refused(&json!({"tariffVersion": "t1"})), "tariffVersion");
        assert_eq!(refused(&json!({"billingIndicator": "FREE"})), "billingIndicator");
    }

    #[test]
    fn a_correction_obeys_the_rules_of_inbound_messages() {
        for (field, bad) in [
            ("chargeAmount", json!("-0.000001")),
            ("chargeAmount", json!("-1")),
            ("eventTimeStamp", json!("1970-01-01T00:00:00Z")),
            ("eventTimeStamp", json!("2026-04-13T13:00:00.122Z")),
            ("eventTimeStamp", json!("2026-04-20T14:00:00.124Z")),
            ("eventTimeStamp", json!("9999-12-31T23:00:00Z")),
            ("failureCode", json!("x".repeat(101))),
            ("failureCode", json!("\u{200b}")),
            ("failureCode", json!("a\nb")),
            ("messageReference", json!("\u{200b}")),
            ("callingPartyAddress", json!("Bank\u{202e}")),
            ("segmentCount", json!(3.0)),
            ("tariffVersion", json!("two words")),
        ] {
            let mut fields = json!({
                "chargeAmount": "1", "chargeCurrency": "AFN", "tapTariffClass": "A001", "billingIndicator": "CPP",
            });
            fields[field] = bad.clone();
            assert_eq!(refused(&fields), field, "{bad}");
        }
        let after = |fields: Value| {
            corrected(SchemaVersion::V2, &before(), fields.as_object().unwrap(), &event_times(), |_| 270)
                .map(|sms| sms.event_at)
                .unwrap()
        };
        for edge in ["2026-04-13T13:00:00.123Z", "2026-04-20t14:00:00.123z"] {
            assert_eq!(Some(after(json!({"eventTimeStamp": edge}))), Millis::parse_any_case(edge));
        }
        let old = Sms { event_at: Millis(0), ..before() };
        let fields = json!({"segmentCount": 2});
        assert!(
            corrected(SchemaVersion::V2, &old, fields.as_object().unwrap(), &event_times(), |_| 270).is_ok(),
            "it stays as it is"
        );
        let tenant = json!({"tenantId": "0F8FAD5B-D9CB-469F-A165-70867728950E"});
        let after =
            corrected(SchemaVersion::V2, &before(), tenant.as_object().unwrap(), &event_times(), |_| 270)
                .unwrap();
        assert_eq!(after.tenant_id, Uuid::parse("0f8fad5b-d9cb-469f-a165-70867728950e"));
    }

    #[test]
    fn an_amount_without_its_list_was_given_by_none() {
        let fields = json!({
            "chargeAmount": "0.1", "chargeCurrency": "AFN", "tapTariffClass": "A001", "billingIndicator": "CPP",
        });
        let row = Sms { tariff_version: Some("t1"), ..before() };
        let after =
            corrected(SchemaVersion::V2, &row, fields.as_object().unwrap(), &event_times(), |_| 270).unwrap();
        assert_eq!(after.tariff_version, None);
        assert!(after.failure_code.is_none());
    }

    #[test]
    fn a_later_field_can_be_corrected_in_rows_that_have_it() {
        let of = |version, value: Value| {
            let fields = json!({ "correlationId": value });
            corrected(version, &before(), fields.as_object().unwrap(), &event_times(), |_| 270)
                .map(|sms| sms.correlation_id.map(str::to_owned))
                .map_err(|error| error.message)
        };
        assert_eq!(of(SchemaVersion::V3, json!("order-7")), Ok(Some("order-7".to_owned())));
        assert!(of(SchemaVersion::V2, json!("order-7")).unwrap_err().contains("it can't be corrected"));
        for bad in [json!(""), json!("two words"), json!("+93701234567"), json!("x".repeat(65)), json!(7)] {
            assert!(of(SchemaVersion::V3, bad.clone()).unwrap_err().contains(texts::CODE), "{bad}");
        }
        let fields = json!({ "correlationId": null });
        let row = Sms { correlation_id: Some("order-7"), ..before() };
        let after = corrected(SchemaVersion::V3, &row, fields.as_object().unwrap(), &event_times(), |_| 270);
        assert_eq!(after.unwrap().correlation_id, None);
    }
}
