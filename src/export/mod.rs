//! Settlement files: which are due, what a due one is pinned to, and its bytes (EP-CDR-02).
//!
//! | module | does |
//! |---|---|
//! | [`plan`] | decides from the state and the time which file is opened next, and what it is pinned to |
//! | [`make`] | turns the records that a file lists into its bytes and its trace |
//! | [`returns`] | finds out whether a RAP file would hold anything, before it is opened |
//! | `shown` | tells the API what it has to know |
//! | [`files`] | keeps the bytes at hand; makes them again where they are not |
//! | [`names`] | sees to it that no two files have one name |
//! | [`opening`] | refuses what no files can be made by, before a replica starts |

pub mod files;
pub mod make;
pub mod names;
pub mod opening;
pub mod plan;
pub mod returns;
mod shown;

pub use files::{ExportFiles, FilesError};
pub use plan::{Due, ExportSettings, PinError, SeriesSettings};

use crate::config::Config;
use crate::tap::{FileHeader, LocalTime};
use cdr_core::export::ExportPins;
use rust_decimal::Decimal;
use std::collections::BTreeMap;

/// Version of what makes bytes out of records and a schema variant: raised whenever the same input would give others.
pub const ENCODER_VERSION: u32 = 1;

/// Name of the regulator's series.
pub const REGULATOR: &str = "regulator";

/// Setting that names the schema variant of the first series (US-CDR-009).
pub const VARIANT_SETTING: &str = "export.tap.schemaVariant";

/// Which files the configuration asks for; none if it names no schema variant.
pub fn settings(config: &Config) -> Option<ExportSettings> {
    let export = &config.export;
    let first = SeriesSettings {
        name: REGULATOR.to_owned(),
        variant: export.schema_variant.clone()?,
        follows_activation: true,
    };
    let further = export.additional_variants.iter().map(|variant| SeriesSettings {
        name: variant.clone(),
        variant: variant.clone(),
        follows_activation: false,
    });
    let time = |text: &str| crate::zone::time_of_day(text).unwrap_or_default();
    Some(ExportSettings {
        series: std::iter::once(first).chain(further).collect(),
        tap_start: time(&config.settlement.tap_start),
        tap_deadline: time(&config.settlement.tap_deadline),
        rap_cut_off: time(&config.settlement.rap_cut_off),
        exchange_rates: rates(&export.exchange_rates),
    })
}

fn rates(texts: &BTreeMap<String, String>) -> BTreeMap<String, Decimal> {
    texts.iter().filter_map(|(currency, rate)| Some((currency.clone(), rate.parse().ok()?))).collect()
}

/// The header values that a file is pinned to.
pub fn header(pins: &ExportPins) -> FileHeader {
    let created = LocalTime { at: pins.created_at, offset_minutes: pins.created_offset_minutes };
    FileHeader {
        recording_entity: pins.recording_entity.clone(),
        sender: pins.sender_roaming_partner.clone(),
        recipient: pins.recipient.clone(),
        sequence: pins.file_sequence_number,
        settlement_day: crate::zone::date(pins.settlement_day),
        created,
        cut_off: LocalTime { at: pins.cut_off_at, offset_minutes: pins.cut_off_offset_minutes },
        available: created,
        test: false,
        exchange_rates: rates(&pins.exchange_rates),
    }
}
