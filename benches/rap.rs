//! A RAP file of many re-rates, from the store to the bytes on disk: selection, encoder and trace together.
//!
//! `cargo bench --profile release --bench rap` fills a store of its own with 1 million records of one operator and a
//! re-rate of each, opens the TAP file that lists them and makes the RAP file that returns them; `-- --records 100000`
//! takes that many, `-- --shuffled` re-rates them in no order. Each rate is given by the clock, and by the CPU time of the
//! thread that makes the file: the latter says what one core can do when the machine is busy with other things. The store
//! is filled by a process of its own, so that memory is what making files takes: the TAP file comes first and fills the
//! store's caches.
#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use cdr_core::command::{
    Append, ClockKind, Command, DraftsBuffer, Envelope, Ingest, Initialize, Reply, Source,
};
use cdr_core::export::step::ExportStep;
use cdr_core::export::{Export, ExportPins, ExportType};
use cdr_core::hash::sha256;
use cdr_core::personal::{Salt, SystemContent};
use cdr_core::row::{
    Adjustment, AdjustmentType, BillingIndicator, ChargeType, Direction, Draft, Drawn, Encoding, FinalState,
    Record, Sms, SystemKind,
};
use cdr_core::rules::SchemaVersion;
use cdr_core::time::{Day, HOUR_MS};
use cdr_core::{CdrId, Hour, Millis, Money, Uuid};
use cdr_mediation::export::ENCODER_VERSION;
use cdr_mediation::export::make::make;
use cdr_storage::{EntryRef, Store, StoreOptions};
use cdr_tap::Variants;
use common::own::{Clocks, memory};
use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

const FIRST: Hour = Hour(494_000);
const OFFSET_MINUTES: i16 = 270;
const OPERATOR: &str = "AWCC";
const ENTITY: &str = "4120101";
const BATCH: u64 = 500;
const RECORDS_AN_HOUR: u64 = 100_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value =
        |name: &str| arguments.iter().position(|argument| argument == name).map(|at| &arguments[at + 1]);
    let records = value("--records").map_or(1_000_000, |records| records.parse().unwrap());
    let shuffled = arguments.iter().any(|argument| argument == "--shuffled");
    let variants = Variants::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tap-schemas"))).unwrap();
    match value("--fill") {
        Some(dir) => fill(Path::new(dir), &variants, records, shuffled),
        None => measure(&variants, records, &arguments[1..]),
    }
}

/// Records, their TAP file, re-rates, and the RAP file of these; nothing is made yet.
fn fill(dir: &Path, variants: &Variants, records: u64, shuffled: bool) {
    let mut ledger = Ledger::begin(dir);
    ledger.ingest(records);
    ledger.open_file(variants, ExportType::Tap);
    ledger.re_rate(records, shuffled);
    ledger.open_file(variants, ExportType::Rap);
    ledger.store.flush().unwrap();
}

fn measure(variants: &Variants, records: u64, arguments: &[String]) {
    let (dir, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut filling = std::process::Command::new(std::env::current_exe().unwrap());
    assert!(filling.args(arguments).arg("--fill").arg(dir.path()).status().unwrap().success());
    let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
    let exports: Vec<Export> = store.state().exports.open().cloned().collect();
    let [tap, rap] = exports.as_slice() else { panic!("{exports:?}") };
    timed(&store, variants, tap, records, files.path());
    let started = Clocks::now();
    let mut found = false;
    let stop = &mut |_| {
        found = true;
        ControlFlow::Break(())
    };
    store.rap_adjustments(rap, stop).unwrap();
    assert!(found);
    println!("whether there is anything to return: {:.1} ms of CPU time", started.cpu().as_secs_f64() * 1e3);
    timed(&store, variants, rap, records, files.path());
}

/// Makes a file, and says how fast.
fn timed(store: &Store, variants: &Variants, export: &Export, records: u64, dir: &Path) {
    let idle = memory("VmRSS:");
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let started = Clocks::now();
    let made = make(store, variants, export, dir).unwrap();
    let rate = started.rate(records);
    let peak = memory("VmHWM:") - idle;
    assert_eq!((made.content.records_included, made.unfit.len()), (records, 0));
    let (kind, size) = (export.pins.export_type.as_str(), made.content.byte_size >> 20);
    println!("{kind}, {records} call events: {rate}, {size} MiB, {peak} MiB of memory above idle");
}

/// A ledger of one operator, fed directly.
struct Ledger {
    store: Store,
    index: u64,
    now: Millis,
}

/// What the record with a number holds.
struct Sent {
    id: CdrId,
    message: Uuid,
    called: String,
    reference: String,
    event_at: Millis,
}

impl Sent {
    fn new(number: u64) -> Self {
        let random = sha256(&number.to_be_bytes());
        let part = |from: usize| u64::from_be_bytes(random[from..from + 8].try_into().unwrap());
        let event_at = Millis(hour_of(number).0 + (part(0) % HOUR_MS as u64) as i64 / 2);
        Self {
            id: CdrId::from_parts(hour_of(number).0, random[16..26].try_into().unwrap()),
            message: Uuid(random[..16].try_into().unwrap()),
            called: format!("+9370{:07}", part(8) % 2_000_000),
            reference: format!("{:016x}", part(16)),
            event_at,
        }
    }

    fn sms(&self, charge: &str) -> Sms<'_> {
        Sms {
            message_id: self.message,
            tenant_id: Some(Uuid([7; 16])),
            calling_party: "AzizBank",
            called_party: &self.called,
            recording_entity: ENTITY,
            service_center: "+93790000001",
            message_reference: &self.reference,
            event_at: self.event_at,
            local_offset_minutes: OFFSET_MINUTES,
            submitted_at: Some(Millis(self.event_at.0 - 1800)),
            charge_amount: Some(Money::parse(charge).unwrap()),
            charge_currency: Some("AFN"),
            tap_tariff_class: Some("A042"),
            tariff_version: Some("2026-04-01"),
            charge_type: ChargeType::A2p,
            billing_indicator: BillingIndicator::Chargeable,
            direction: Direction::Mt,
            encoding: Encoding::Gsm7,
            final_state: FinalState::Delivered,
            segment_count: 1,
            imsi: Some("412012345678901"),
            ..Sms::BLANK
        }
    }
}

/// The beginning of the hour in which a record comes in.
fn hour_of(number: u64) -> Millis {
    Millis(FIRST.start().0 + (number / RECORDS_AN_HOUR) as i64 * HOUR_MS + 1_000)
}

impl Ledger {
    fn begin(dir: &Path) -> Self {
        let store = Store::open(dir, StoreOptions::default()).unwrap();
        let mut ledger = Self { store, index: 0, now: hour_of(0) };
        ledger.send(Command::Fence);
        let operator = format!(
            "{{\"effectiveFrom\":\"{FIRST}\",\"operatorId\":\"{OPERATOR}\",\"recordingEntity\":\"{ENTITY}\"}}"
        );
        let stream =
            "{\"created\":\"2026-01-01T00:00:00Z\",\"firstSequence\":1,\"reason\":\"new\",\"stream\":\"S\"}";
        let mut rows = DraftsBuffer::default();
        for (number, kind, body) in [(1, SystemKind::Operator, &*operator), (2, SystemKind::Stream, stream)] {
            let cdr_id = CdrId::from_parts(ledger.now.0, [number; 10]);
            let content = SystemContent::of_text(kind, body).unwrap();
            rows.push(
                0,
                &content.draft(Drawn { version: SchemaVersion::V2, cdr_id, salt: Salt(cdr_id.0) }, "t"),
            )
            .unwrap();
        }
        ledger.send(Command::Initialize(Initialize {
            cluster_id: "bench",
            zone: "Asia/Kabul",
            clock: ClockKind::Replay,
            dedup_horizon_hours: 168,
            hash_key: [3; 16],
            rows: rows.drafts(),
        }));
        ledger
    }

    fn send(&mut self, command: Command<'_>) {
        let bytes = Envelope::new(1, self.now, command).encode().unwrap();
        self.index += 1;
        let entry = EntryRef { index: self.index, term: 1, bytes: &bytes };
        let replies = self.store.apply(&[Some(entry)], &self.index.to_be_bytes()).unwrap();
        assert!(!matches!(replies[0], Reply::Rejected(_)), "{replies:?}");
    }

    fn ingest(&mut self, records: u64) {
        for first in (0..records).step_by(BATCH as usize) {
            let last = (first + BATCH).min(records);
            self.now = hour_of(first);
            let mut drafts = DraftsBuffer::default();
            for number in first..last {
                let sent = Sent::new(number);
                let record = Record::Sms(sent.sms("0.0384"));
                let (cdr_id, trace_id) = (sent.id, &*sent.reference);
                let draft = Draft {
                    version: SchemaVersion::V2,
                    cdr_id,
                    operator_id: OPERATOR,
                    trace_id,
                    salt: Salt(cdr_id.0),
                    record,
                };
                drafts.push((number - first) as u32, &draft).unwrap();
            }
            self.send(Command::Ingest(Ingest {
                stream: "S",
                first: first + 1,
                last,
                last_digest: sha256(b"last"),
                ignored: 0,
                dead_lettered: 0,
                missing: 0,
                drafts: drafts.drafts(),
            }));
        }
    }

    fn re_rate(&mut self, records: u64, shuffled: bool) {
        // Odd, and coprime with any round number: every record comes once.
        let step = if shuffled { 611_953_709 } else { 1 };
        for first in (0..records).step_by(BATCH as usize) {
            let mut drafts = DraftsBuffer::default();
            for number in first..(first + BATCH).min(records) {
                let sent = Sent::new(number * step % records);
                let adjustment = Adjustment {
                    of: sent.id,
                    kind: AdjustmentType::ReRate,
                    reason: Some("price list of April"),
                    void_reason: None,
                    ticket_id: Some("T-1"),
                    issued_by: Some("somebody"),
                    approver: None,
                };
                let sms = Sms { adjustment: Some(adjustment), ..sent.sms("0.04") };
                let id = CdrId::from_parts(self.now.0, sha256(&sent.id.0)[..10].try_into().unwrap());
                let (salt, record) = (Salt(id.0), Record::Sms(sms));
                let draft = Draft {
                    version: SchemaVersion::V2,
                    cdr_id: id,
                    operator_id: OPERATOR,
                    trace_id: "t",
                    salt,
                    record,
                };
                drafts.push((number - first) as u32, &draft).unwrap();
            }
            self.send(Command::Append(Append { source: Source::Internal, drafts: drafts.drafts() }));
        }
    }

    /// Closes the hour and opens the file of everything before.
    fn open_file(&mut self, variants: &Variants, export_type: ExportType) {
        self.now = Millis(self.now.0 + HOUR_MS);
        self.send(Command::Seal);
        let variant = variants.get("atra-tap-v2").unwrap();
        let pins = ExportPins {
            created_at: self.now,
            created_offset_minutes: OFFSET_MINUTES,
            cut_off_at: self.now,
            cut_off_offset_minutes: OFFSET_MINUTES,
            encoder_version: ENCODER_VERSION,
            exchange_rates: BTreeMap::new(),
            export_type,
            file_name: format!("{}.file", export_type.as_str()),
            file_sequence_number: 1,
            from_bucket: FIRST,
            operator_id: OPERATOR.to_owned(),
            recipient: variant.tap.recipient().to_owned(),
            recording_entity: ENTITY.to_owned(),
            schema_hash: variant.hash,
            schema_variant: variant.name.clone(),
            sender_roaming_partner: variant.tap.sender(ENTITY),
            series: "regulator".to_owned(),
            settlement_day: Day::local(self.now, OFFSET_MINUTES),
            upto_bucket: Hour(self.store.state().head.open_hour.0 - 1),
        };
        let id = CdrId::from_parts(self.now.0, [export_type as u8; 10]);
        let content = SystemContent::new(SystemKind::Export, &ExportStep::Opened(pins)).unwrap();
        let mut rows = DraftsBuffer::default();
        rows.push(0, &content.draft(Drawn { version: SchemaVersion::V2, cdr_id: id, salt: Salt(id.0) }, "t"))
            .unwrap();
        self.send(Command::Append(Append { source: Source::Internal, drafts: rows.drafts() }));
    }
}
