//! What the API is told of settlement files: schema variants, who gets files made by which, and an encoder for trial.

use crate::api::{SchemaSeries, SchemaVariant, Schemas, Trial};
use crate::export::ExportSettings;
use crate::tap::{CallEncoder, FileHeader, LocalTime, Variants};
use crate::zone;
use cdr_core::Row;
use cdr_core::row::Sms;
use cdr_core::time::Day;
use rust_decimal::Decimal;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The variants at hand, and the series that the configuration names.
pub(super) fn schemas(variants: &Arc<Variants>, settings: &ExportSettings) -> Schemas {
    let series = settings.series.iter().map(|series| SchemaSeries {
        name: series.name.clone(),
        variant: (!series.follows_activation).then(|| series.variant.clone()),
    });
    let configured = settings.series.iter().find(|series| series.follows_activation);
    let exchange_rates = settings.exchange_rates.clone();
    Schemas {
        variants: variants
            .iter()
            .map(|variant| SchemaVariant { name: variant.name.clone(), hash: variant.hash })
            .collect(),
        series: series.collect(),
        configured: configured.map(|series| series.variant.clone()).unwrap_or_default(),
        trial: Box::new(Encoders { variants: variants.clone(), exchange_rates }),
    }
}

/// Encodes call events as TAP files have them. Which file it would be does not change a call event.
struct Encoders {
    variants: Arc<Variants>,
    exchange_rates: BTreeMap<String, Decimal>,
}

impl Trial for Encoders {
    fn encode(&self, variant: &str, original: &Row<'_>, priced: &Sms<'_>) -> Result<(), String> {
        let variant =
            self.variants.get(variant).ok_or_else(|| format!("there is no schema variant {variant}"))?;
        let (format, at) = (&variant.tap, priced.event_at);
        let time = LocalTime::new(at, priced.local_offset_minutes);
        let header = FileHeader {
            recording_entity: priced.recording_entity.to_owned(),
            sender: format.sender(priced.recording_entity),
            recipient: format.recipient().to_owned(),
            sequence: format.numbering().first,
            settlement_day: zone::date(Day::local(at, priced.local_offset_minutes)),
            created: time,
            cut_off: time,
            available: time,
            test: false,
            exchange_rates: self.exchange_rates.clone(),
        };
        let mut encoder = CallEncoder::new(format, &header).map_err(|error| error.to_string())?;
        encoder.encode(original, priced).map(drop).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::export::SeriesSettings;
    use cdr_core::row::{BillingIndicator, ChargeType, Direction, Encoding, FinalState, Frame, Record};
    use cdr_core::{CdrId, Millis, Money, Uuid};
    use jiff::civil::Time;
    use std::path::Path;

    fn sms() -> Sms<'static> {
        Sms {
            message_id: Uuid([1; 16]),
            tenant_id: None,
            calling_party: "AzizBank",
            called_party: "+93701234567",
            original_served_subscriber: None,
            recording_entity: "4120101",
            service_center: "+93701000000",
            message_reference: "ref-1",
            event_at: Millis::parse("2026-04-20T13:00:00.123Z").unwrap(),
            local_offset_minutes: 270,
            submitted_at: None,
            charge_amount: Money::parse("0.5"),
            charge_currency: Some("AFN"),
            tap_tariff_class: Some("A042"),
            tariff_version: Some("t-1"),
            charge_type: ChargeType::A2p,
            billing_indicator: BillingIndicator::Chargeable,
            direction: Direction::Mt,
            encoding: Encoding::Gsm7,
            final_state: FinalState::Delivered,
            segment_count: 1,
            failure_code: None,
            imsi: None,
            adjustment: None,
        }
    }

    fn encode(schemas: &Schemas, variant: &str, sms: Sms<'_>) -> Result<(), String> {
        let frame = Frame {
            bucket_hour: sms.event_at.hour(),
            sequence: 1,
            chain_prev: [0; 32],
            recorded_at: sms.event_at,
            source_stream: "S",
            source_sequence: 1,
            cdr_id: CdrId([3; 16]),
            operator_id: "AWCC",
            trace_id: "t",
        };
        let row = Row { frame, record: Record::Sms(sms.clone()) };
        schemas.trial.encode(variant, &row, &sms)
    }

    #[test]
    fn the_variants_of_the_repository_are_tried_as_files_use_them() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tap-schemas");
        let variants = Arc::new(Variants::load(&folder).unwrap());
        let series = |name: &str, variant: &str, follows_activation| SeriesSettings {
            name: name.to_owned(),
            variant: variant.to_owned(),
            follows_activation,
        };
        let settings = ExportSettings {
            series: vec![series("regulator", "atra-tap-v2", true), series("clearing", "atra-tap-v1", false)],
            tap_start: Time::midnight(),
            tap_deadline: Time::midnight(),
            rap_cut_off: Time::midnight(),
            exchange_rates: BTreeMap::from([("USD".to_owned(), Decimal::from(70))]),
        };
        let schemas = schemas(&variants, &settings);
        assert_eq!(schemas.configured, "atra-tap-v2");
        let of: Vec<Option<&str>> = schemas.series.iter().map(|series| series.variant.as_deref()).collect();
        assert_eq!(of, [None, Some("atra-tap-v1")]);
        assert_eq!(schemas.variants.len(), variants.iter().count());
        for variant in &schemas.variants {
            assert_eq!(encode(&schemas, &variant.name, sms()), Ok(()), "{}", variant.name);
            let dollars = Sms { charge_currency: Some("USD"), ..sms() };
            assert_eq!(encode(&schemas, &variant.name, dollars), Ok(()), "the configuration has a rate");
            let unpriced = Sms { charge_amount: None, ..sms() };
            assert!(encode(&schemas, &variant.name, unpriced).unwrap_err().contains("price"));
        }
        assert!(encode(&schemas, "atra-tap-v9", sms()).unwrap_err().contains("atra-tap-v9"));
    }
}
