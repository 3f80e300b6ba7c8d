//! What the API is told of settlement files: variants, series, bytes, and a dry run of the encoder.

use super::{ExportFiles, ExportSettings};
use crate::api::{FilesAtHand, SchemaSeries, SchemaVariant, Schemas, Trial};
use crate::tap::{CallEncoder, FileHeader, LocalTime, Variants};
use cdr_core::export::Export;
use cdr_core::row::{Row, Sms};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

impl FilesAtHand for ExportFiles {
    fn at_hand(&self, export: &Export) -> Result<(PathBuf, PathBuf), String> {
        let at_hand = self.ensure(export).map_err(|error| error.to_string())?;
        Ok((at_hand.path, at_hand.trace))
    }
}

impl ExportFiles {
    /// The variants that are loaded, and who gets files made by which.
    pub fn schemas(&self, settings: &ExportSettings) -> Schemas {
        let variants = self.variants();
        let series = settings.series.iter().map(|series| SchemaSeries {
            name: series.name.clone(),
            variant: (!series.follows_activation).then(|| series.variant.clone()),
        });
        let configured = settings.series.iter().find(|series| series.follows_activation);
        Schemas {
            variants: variants
                .iter()
                .map(|variant| SchemaVariant { name: variant.name.clone(), hash: variant.hash })
                .collect(),
            series: series.collect(),
            configured: configured.map(|series| series.variant.clone()).unwrap_or_default(),
            trial: Box::new(Encoding { variants: variants.clone(), rates: settings.exchange_rates.clone() }),
        }
    }
}

/// Encodes single records, without making a file.
struct Encoding {
    variants: Arc<Variants>,
    rates: BTreeMap<String, rust_decimal::Decimal>,
}

impl Trial for Encoding {
    fn encode(&self, variant: &str, original: &Row<'_>, priced: &Sms<'_>) -> Result<(), String> {
        let variant =
            self.variants.get(variant).ok_or_else(|| format!("there is no schema variant {variant}"))?;
        let at = LocalTime::new(priced.event_at, priced.local_offset_minutes);
        let header = FileHeader {
            recording_entity: priced.recording_entity.to_owned(),
            sender: variant.tap.sender(priced.recording_entity),
            recipient: variant.tap.recipient().to_owned(),
            sequence: variant.tap.numbering().first,
            settlement_day: jiff::civil::Date::constant(2000, 1, 1),
            created: at,
            cut_off: at,
            available: at,
            test: false,
            exchange_rates: self.rates.clone(),
        };
        let mut encoder = CallEncoder::new(&variant.tap, &header).map_err(|error| error.to_string())?;
        encoder.encode(original, priced).map(|_| ()).map_err(|error| error.to_string())
    }
}
