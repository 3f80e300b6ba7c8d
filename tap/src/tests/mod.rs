//! Variants loaded, refused and added; files written and read back. Decoders that nobody here wrote: `tests/tap` of the crate.
#![allow(clippy::unwrap_used)]

mod files;
mod schemas;

use super::*;
use cdr_core::row::{BillingIndicator, ChargeType, Direction, Encoding, FinalState, Frame, Record, Row, Sms};
use cdr_core::rules::SchemaVersion;
use cdr_core::{CdrId, Millis, Money, Uuid};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tap-schemas");

fn at(text: &str) -> Millis {
    Millis::parse(text).unwrap()
}

fn header() -> FileHeader {
    let time = |text| LocalTime::new(at(text), 270);
    FileHeader {
        recording_entity: "4120101".to_owned(),
        sender: "41201".to_owned(),
        recipient: "AFGRA".to_owned(),
        sequence: 42,
        settlement_day: "2026-04-20".parse().unwrap(),
        created: time("2026-04-20T20:00:00.000Z"),
        cut_off: time("2026-04-20T19:30:00.000Z"),
        available: time("2026-04-20T20:10:00.000Z"),
        test: false,
        exchange_rates: BTreeMap::new(),
    }
}

fn sms() -> Sms<'static> {
    Sms {
        message_id: Uuid([1; 16]),
        calling_party: "AzizBank",
        called_party: "+93701234567",
        recording_entity: "4120101",
        service_center: "+93701000000",
        message_reference: "ref-1",
        event_at: at("2026-04-20T13:00:00.123Z"),
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

fn row(sms: Sms<'_>) -> Row<'_> {
    Row {
        version: SchemaVersion::V2,
        frame: Frame {
            bucket_hour: sms.event_at.hour(),
            sequence: 1,
            chain_prev: [0; 32],
            recorded_at: sms.event_at,
            source_stream: "DLR",
            source_sequence: 1,
            cdr_id: CdrId([3; 16]),
            operator_id: "AWCC",
            trace_id: "t",
        },
        salt: cdr_core::personal::Salt([7; 16]),
        record: Record::Sms(sms),
    }
}

fn shipped() -> Variants {
    Variants::load(Path::new(SHIPPED)).unwrap()
}

fn push(writer: &mut FileWriter, sms: Sms<'_>) -> Result<Taken, PushError> {
    let row = row(sms);
    writer.push(&row, row.sms().unwrap())
}

/// A copy of `atra-tap-v2` as the variant `mine` in a folder of its own.
struct Copy {
    dir: tempfile::TempDir,
}

impl Copy {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("mine");
        fs::create_dir(&folder).unwrap();
        for name in ["tap.asn1", "rap.asn1", "tap.toml", "rap.toml"] {
            fs::copy(Path::new(SHIPPED).join("atra-tap-v2").join(name), folder.join(name)).unwrap();
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("mine").join(name)
    }

    /// Replaces the first `from` in a file, which must be there, and says on which line it stood.
    fn edit(&self, name: &str, from: &str, to: &str) -> usize {
        let text = fs::read_to_string(self.path(name)).unwrap();
        let start = text.find(from).unwrap_or_else(|| panic!("{name} has no {from}"));
        fs::write(self.path(name), text.replacen(from, to, 1)).unwrap();
        1 + text[..start].matches('\n').count()
    }

    fn load(&self) -> Result<Variants, SchemaError> {
        Variants::load(self.dir.path())
    }

    fn variant(&self) -> Arc<Variant> {
        Arc::clone(self.load().unwrap().get("mine").unwrap())
    }
}
