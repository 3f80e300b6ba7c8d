//! Which fields of a record can be corrected, and to what.

use crate::texts::{self, is_e164, is_imsi, is_reference, is_sender};
pub(crate) use cdr_core::money::is_currency;
use cdr_core::row::{BillingIndicator, ChargeType, Direction, Encoding, FinalState, Sms};
use cdr_core::tariff::{exact_amount, is_version};
use cdr_core::{Millis, Money, Uuid};
use serde_json::{Map, Value};
use std::ops::RangeInclusive;

/// The fields that a CORRECTION may name. `localTimeStamp` follows `eventTimeStamp`; a new `chargeAmount` without a
/// `tariffVersion` is one that no price list gave.
pub const CORRECTABLE: &[&str] = &[
    "billingIndicator",
    "calledPartyAddress",
    "callingPartyAddress",
    "chargeAmount",
    "chargeCurrency",
    "chargeType",
    "direction",
    "encoding",
    "eventTimeStamp",
    "failureCode",
    "finalState",
    "imsi",
    "messageReference",
    "originalServedSubscriberId",
    "segmentCount",
    "serviceCenterAddress",
    "submittedAt",
    "tapTariffClass",
    "tariffVersion",
    "tenantId",
];

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

/// The row with `fields` changed. A new `eventTimeStamp` must be among `event_times`, those with which a receipt could
/// have been recorded when the original was; `offset_minutes` tells the settlement zone's offset at an instant.
///
/// # Errors
/// [`FieldError`] naming the first field that is unknown, can't be corrected, or has no legal value; or
/// `correctedFields` if nothing would change.
pub fn corrected<'a>(
    before: &Sms<'a>,
    fields: &'a Map<String, Value>,
    event_times: &RangeInclusive<Millis>,
    offset_minutes: impl Fn(Millis) -> i16,
) -> Result<Sms<'a>, FieldError> {
    let mut sms = before.clone();
    for (name, value) in fields {
        set(&mut sms, name, value)?;
    }
    if sms.event_at != before.event_at && !event_times.contains(&sms.event_at) {
        let (first, last) = (event_times.start(), event_times.end());
        let message =
            format!("an instant from {first} to {last} is expected, as of a receipt that was recorded then");
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
        // A charge that somebody gave by hand comes from no list.
        if has_charge && !is_there && field != "tariffVersion" {
            return Err(FieldError::new(field, "a record with a chargeAmount needs it"));
        }
    }
    Ok(())
}

fn set<'a>(sms: &mut Sms<'a>, name: &str, value: &'a Value) -> Result<(), FieldError> {
    let field = Field { name, value };
    match name {
        "billingIndicator" => {
            sms.billing_indicator = field
                .parsed("CHARGEABLE, FREE, REVERSE_CHARGED, CPP or MPP", |text| {
                    BillingIndicator::parse(text).filter(|known| *known != BillingIndicator::Unknown)
                })?;
        }
        "calledPartyAddress" => sms.called_party = field.text(E164, is_e164)?,
        "callingPartyAddress" => {
            sms.calling_party = field.text("an E.164 number or a name of 1-11 characters", is_sender)?;
        }
        "chargeAmount" => {
            let expected = "an amount such as \"0.038400\", not negative, of at most six decimals";
            sms.charge_amount = Some(field.parsed(expected, amount)?);
        }
        "chargeCurrency" => sms.charge_currency = Some(field.text("AFN or USD", is_currency)?),
        "chargeType" => sms.charge_type = field.parsed("a known charge type", ChargeType::parse)?,
        "direction" => sms.direction = field.parsed("MO or MT", Direction::parse)?,
        "encoding" => sms.encoding = field.parsed("GSM7, UCS2 or GSM8_LATIN", Encoding::parse)?,
        "eventTimeStamp" => sms.event_at = field.parsed(INSTANT, Millis::parse_any_case)?,
        "failureCode" => {
            let reason = field.optional_text(texts::FAILURE_CODE, texts::is_failure_code)?;
            (sms.failure_code, sms.failure_text) = texts::failure(reason);
        }
        "finalState" => sms.final_state = field.parsed("DELIVERED, FAILED or EXPIRED", FinalState::parse)?,
        "imsi" => sms.imsi = field.optional_text("6-15 digits or null", is_imsi)?,
        "messageReference" => sms.message_reference = field.text("1-20 characters", is_reference)?,
        "originalServedSubscriberId" => {
            sms.original_served_subscriber =
                field.optional_text("an E.164 number with + or null", is_e164)?;
        }
        "segmentCount" => {
            let count = value.as_u64().and_then(|count| u8::try_from(count).ok()).filter(|count| *count > 0);
            sms.segment_count = count.ok_or_else(|| field.refused("an integer from 1 to 255"))?;
        }
        "serviceCenterAddress" => sms.service_center = field.text(E164, is_e164)?,
        "submittedAt" => sms.submitted_at = field.optional(INSTANT, Millis::parse_any_case)?,
        "tapTariffClass" => {
            sms.tap_tariff_class = Some(field.text("four of A-Z and 0-9", is_tariff_class)?);
        }
        "tariffVersion" => {
            sms.tariff_version = Some(field.text("1-64 visible ASCII characters", is_version)?);
        }
        "tenantId" => sms.tenant_id = field.optional("a UUID or null", Uuid::parse_any_case)?,
        _ => {
            let message = format!("it can't be corrected; these can: {}", CORRECTABLE.join(", "));
            return Err(FieldError::new(name, message));
        }
    }
    Ok(())
}

const E164: &str = "an E.164 number with +";
const INSTANT: &str = "an instant of RFC 3339 such as 2026-04-20T13:00:00.000Z";

struct Field<'a, 'n> {
    name: &'n str,
    value: &'a Value,
}

impl<'a> Field<'a, '_> {
    fn refused(&self, expected: &str) -> FieldError {
        FieldError::new(self.name, format!("{expected} is expected"))
    }

    fn parsed<T>(&self, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Result<T, FieldError> {
        self.value.as_str().and_then(parse).ok_or_else(|| self.refused(expected))
    }

    fn optional<T>(
        &self,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, FieldError> {
        if self.value.is_null() { Ok(None) } else { self.parsed(expected, parse).map(Some) }
    }

    fn text(&self, expected: &str, rule: impl FnOnce(&str) -> bool) -> Result<&'a str, FieldError> {
        self.value.as_str().filter(|text| rule(text)).ok_or_else(|| self.refused(expected))
    }

    fn optional_text(
        &self,
        expected: &str,
        rule: impl FnOnce(&str) -> bool,
    ) -> Result<Option<&'a str>, FieldError> {
        if self.value.is_null() { Ok(None) } else { self.text(expected, rule).map(Some) }
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
    use cdr_core::time::HOUR_MS;
    use serde_json::json;

    fn before() -> Sms<'static> {
        Sms {
            message_id: Uuid([1; 16]),
            tenant_id: None,
            calling_party: "+93701234567",
            called_party: "+93791234567",
            original_served_subscriber: None,
            recording_entity: "AFGAW",
            service_center: "+93700000010",
            message_reference: "1",
            event_at: RECORDED,
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
            failure_text: None,
            imsi: None,
            adjustment: None,
        }
    }

    /// 2026-04-20T13:00:00.123Z
    const RECORDED: Millis = Millis(1_776_690_000_123);

    fn event_times() -> RangeInclusive<Millis> {
        Millis(RECORDED.0 - 168 * HOUR_MS)..=Millis(RECORDED.0 + HOUR_MS)
    }

    fn refused(fields: &Value) -> String {
        corrected(&before(), fields.as_object().unwrap(), &event_times(), |_| 270).unwrap_err().field
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
        assert!(fields.keys().eq(CORRECTABLE.iter()));
        let after = corrected(&before(), fields, &event_times(), |_| 60).unwrap();
        assert_eq!((after.local_offset_minutes, after.tariff_version), (60, Some("t2")));
        assert_eq!(after.charge_amount.unwrap().to_string(), "0.038400");
        for name in CORRECTABLE {
            let mut bad = fields.clone();
            bad.insert((*name).to_owned(), json!({"no": "value"}));
            assert_eq!(refused(&Value::Object(bad)), *name);
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
            corrected(&before(), fields.as_object().unwrap(), &event_times(), |_| 270)
                .map(|sms| sms.event_at)
                .unwrap()
        };
        for edge in ["2026-04-13T13:00:00.123Z", "2026-04-20t14:00:00.123z"] {
            assert_eq!(Some(after(json!({"eventTimeStamp": edge}))), Millis::parse_any_case(edge));
        }
        let old = Sms { event_at: Millis(0), ..before() };
        let fields = json!({"segmentCount": 2});
        assert!(
            corrected(&old, fields.as_object().unwrap(), &event_times(), |_| 270).is_ok(),
            "it stays as it is"
        );
        let tenant = json!({"tenantId": "0F8FAD5B-D9CB-469F-A165-70867728950E"});
        let after = corrected(&before(), tenant.as_object().unwrap(), &event_times(), |_| 270).unwrap();
        assert_eq!(after.tenant_id, Uuid::parse("0f8fad5b-d9cb-469f-a165-70867728950e"));
    }

    #[test]
    fn an_amount_without_its_list_was_given_by_none() {
        let fields = json!({
            "chargeAmount": "0.1", "chargeCurrency": "AFN", "tapTariffClass": "A001", "billingIndicator": "CPP",
        });
        let row = Sms { tariff_version: Some("t1"), ..before() };
        let after = corrected(&row, fields.as_object().unwrap(), &event_times(), |_| 270).unwrap();
        assert_eq!(after.tariff_version, None);
        assert!(after.failure_code.is_none());
    }
}
