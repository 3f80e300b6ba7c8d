//! Settlement files: which are due, what a due one is pinned to, and its bytes (EP-CDR-02).
//!
//! | module | does |
//! |---|---|
//! | [`plan`] | decides from the state and the time which file is opened next, and what it is pinned to |
//! | [`make`] | turns the records that a file lists into its bytes and its trace |
//! | `pinned` | what a file is pinned to, and what keeps it from being made so |
//! | [`returns`] | finds out whether a RAP file would hold anything, before it is opened |
//! | `schemas`, `trial` | which variants there are and who gets files made by which; records encoded without a file |
//! | [`files`] | keeps the bytes on disk; makes them again where they are missing |
//! | [`names`] | sees to it that no two files have one name |
//! | [`opening`] | refuses what no files can be made by, before a replica starts |

pub mod files;
pub mod make;
pub mod names;
pub mod opening;
mod pinned;
pub mod plan;
pub mod returns;
mod schemas;
mod trial;

pub use files::{ExportFiles, FilesError};
pub use pinned::MakeError;
pub use plan::{Due, ExportSettings, PinError, SeriesSettings};
pub use schemas::{SchemaVariant, Schemas, Trial, TrialReturn};

use crate::config::Config;
use cdr_core::export::ExportPins;
pub use cdr_tap::ENCODER_VERSION;
use cdr_tap::{FileHeader, LocalTime};
pub use cdr_verify::export::REGULATOR;
use rust_decimal::Decimal;
use std::collections::BTreeMap;

/// Which files the configuration requests; none if it names no schema variant.
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
    Some(ExportSettings {
        series: std::iter::once(first).chain(further).collect(),
        tap_start: config.settlement.tap_start.0,
        tap_deadline: config.settlement.tap_deadline.0,
        rap_cut_off: config.settlement.rap_cut_off.0,
        exchange_rates: export.exchange_rates.iter().map(|(name, rate)| (name.clone(), rate.0)).collect(),
    })
}

/// The exchange rates that a file is pinned to.
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
