//! A dry run of the encoders: single records, without making a file.

use super::pinned::pinned;
use super::schemas::{SchemaVariant, Schemas, Trial, TrialReturn};
use super::{ExportFiles, ExportSettings, names};
use cdr_core::row::{Row, Sms};
use cdr_storage::Store;
use cdr_tap::{CallEncoder, FileHeader, Format, LocalTime, ReturnEncoder, Returned, Variant, Variants};
use std::collections::BTreeMap;
use std::sync::Arc;

impl ExportFiles {
    /// The variants that are loaded, and who gets files made by which.
    pub fn schemas(&self, settings: &ExportSettings) -> Schemas {
        let variants = self.variants();
        Schemas {
            variants: variants
                .iter()
                .map(|variant| SchemaVariant { name: variant.name.clone(), hash: variant.hash })
                .collect(),
            series: settings.series.clone(),
            trial: Box::new(TrialEncoder {
                variants: variants.clone(),
                store: self.store().clone(),
                rates: settings.exchange_rates.clone(),
            }),
        }
    }
}

/// Encodes single records, without making a file.
struct TrialEncoder {
    variants: Arc<Variants>,
    store: Store,
    rates: BTreeMap<String, rust_decimal::Decimal>,
}

impl TrialEncoder {
    fn variant(&self, name: &str) -> Result<&Arc<Variant>, String> {
        self.variants.get(name).ok_or_else(|| format!("there is no schema variant {name}"))
    }

    /// The header of a file of one record: what a call event depends on are its exchange rates alone.
    fn header(&self, format: &Format, sms: &Sms<'_>) -> FileHeader {
        let at = LocalTime::new(sms.event_at, sms.local_offset_minutes);
        FileHeader {
            recording_entity: sms.recording_entity.to_owned(),
            sender: format.sender(sms.recording_entity),
            recipient: format.recipient().to_owned(),
            sequence: format.numbering().first,
            settlement_day: jiff::civil::Date::constant(2000, 1, 1),
            created: at,
            cut_off: at,
            available: at,
            test: false,
            exchange_rates: self.rates.clone(),
        }
    }
}

impl Trial for TrialEncoder {
    fn encode(&self, variant: &str, original: &Row<'_>, priced: &Sms<'_>) -> Result<(), String> {
        let format = &self.variant(variant)?.tap;
        let encoder = CallEncoder::new(format, &self.header(format, priced));
        let mut encoder = encoder.map_err(|error| error.to_string())?;
        encoder.encode(original, priced).map(|_| ()).map_err(|error| error.to_string())
    }

    fn encode_return(&self, variant: &str, returned: &TrialReturn<'_>) -> Result<(), String> {
        let variant = self.variant(variant)?;
        let tap_variant = pinned(&self.variants, returned.tap_file).map_err(|error| error.to_string())?;
        let encoder = ReturnEncoder::new(variant.clone(), &self.header(&variant.rap, returned.listed));
        let mut encoder = encoder.map_err(|error| error.to_string())?;
        let encoded = encoder.encode(&Returned {
            adjustment: returned.adjustment,
            original: returned.original,
            listed: returned.listed,
            tap_variant,
            tap_header: &super::header(returned.tap_file),
        });
        encoded.map(|_| ()).map_err(|error| error.to_string())
    }

    fn names(&self, made_by: &[(&str, &str)]) -> Result<(), String> {
        let found: Result<Vec<_>, String> =
            made_by.iter().map(|(series, variant)| Ok((*series, self.variant(variant)?))).collect();
        let (made_by, state) = (found?, self.store.state());
        let entities = names::recording_entities(std::iter::empty(), &state);
        names::tell_apart_in(&self.store, &made_by, &entities).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use cdr_core::personal::Salt;
    use cdr_core::row::{BillingIndicator, ChargeType, Direction, Encoding, FinalState, Frame, Record};
    use cdr_core::rules::SchemaVersion;
    use cdr_core::{CdrId, Millis, Money, Uuid};
    use std::path::Path;

    fn sms() -> Sms<'static> {
        Sms {
            message_id: Uuid([1; 16]),
            calling_party: "AzizBank",
            called_party: "+93701234567",
            recording_entity: "4120101",
            service_center: "+93701000000",
            message_reference: "ref-1",
            event_at: Millis::parse("2026-04-20T13:00:00.123Z").unwrap(),
            local_offset_minutes: 270,
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
            ..Sms::BLANK
        }
    }

    fn encode(encoding: &TrialEncoder, variant: &str, sms: &Sms<'_>) -> Result<(), String> {
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
        let row =
            Row { version: SchemaVersion::V2, frame, salt: Salt([7; 16]), record: Record::Sms(sms.clone()) };
        encoding.encode(variant, &row, sms)
    }

    #[test]
    fn the_variants_of_the_repository_are_tried_as_files_use_them() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tap-schemas");
        let variants = Arc::new(Variants::load(&folder).unwrap());
        let rates = BTreeMap::from([("USD".to_owned(), rust_decimal::Decimal::from(70))]);
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), cdr_storage::StoreOptions::default()).unwrap();
        let encoding = TrialEncoder { variants: variants.clone(), store, rates };
        for variant in variants.iter() {
            assert_eq!(encode(&encoding, &variant.name, &sms()), Ok(()), "{}", variant.name);
            let dollars = Sms { charge_currency: Some("USD"), ..sms() };
            assert_eq!(encode(&encoding, &variant.name, &dollars), Ok(()), "the configuration has a rate");
            let unpriced = Sms { charge_amount: None, ..sms() };
            assert!(encode(&encoding, &variant.name, &unpriced).unwrap_err().contains("price"));
        }
        assert!(encode(&encoding, "atra-tap-v9", &sms()).unwrap_err().contains("atra-tap-v9"));
    }
}
