//! Files of every variant, read by decoders that nobody here wrote: `check.py` beside this file says what is checked.
#![allow(missing_docs, clippy::unwrap_used)]

mod corpus;

use cdr_core::Millis;
use cdr_tap::{
    DecodedCall, FileHeader, FileKind, FileSummary, FileWriter, LocalTime, RapWriter, Returned, Variant,
    Variants, decode,
};
use corpus::{Owned, Random};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

const SCHEMAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tap-schemas");
/// Call events of the largest file; two decoders in Python need about a minute for it.
const LARGEST: u64 = 20_000;

fn variants() -> Variants {
    Variants::load(Path::new(SCHEMAS)).unwrap()
}

fn header(variant: &Variant, sequence: u32, test: bool) -> FileHeader {
    let time = |text: &str, offset| LocalTime::new(Millis::parse(text).unwrap(), offset);
    FileHeader {
        recording_entity: "4120101".to_owned(),
        sender: variant.tap.sender("4120101"),
        recipient: variant.tap.recipient().to_owned(),
        sequence,
        settlement_day: "2026-04-20".parse().unwrap(),
        created: time("2026-04-20T20:00:00.250Z", 270),
        cut_off: time("2026-04-20T19:30:00Z", 270),
        available: time("2026-04-20T20:10:00Z", -210),
        test,
        exchange_rates: BTreeMap::new(),
    }
}

/// A folder with files and what is to be expected of each.
struct Export {
    dir: tempfile::TempDir,
    files: Vec<Value>,
}

impl Export {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), files: Vec::new() }
    }

    fn path(&self, variant: &Variant, summary_name: &str) -> (String, PathBuf) {
        let name = format!("{}.{summary_name}", variant.name);
        let path = self.dir.path().join(&name);
        (name, path)
    }

    fn expect(
        &mut self,
        variant: &Variant,
        header: &FileHeader,
        path: &str,
        kind: FileKind,
        calls: &[Value],
        from: &str,
    ) {
        self.files.push(json!({
            "path": path, "variant": variant.name, "kind": kind.as_str(), "calls": calls, "returnsFrom": from,
            "sender": header.sender, "recipient": header.recipient, "sequence": header.sequence, "test": header.test,
        }));
    }

    /// Writes a TAP file of the records, and says where.
    fn tap(&mut self, variant: &Arc<Variant>, header: &FileHeader, records: &[Owned]) -> String {
        let (path, file) = self.path(variant, &variant.tap.file_name(header));
        let mut writer = FileWriter::new(Arc::clone(variant), header, self.dir.path()).unwrap();
        let mut calls = Vec::new();
        for (index, record) in records.iter().enumerate() {
            let row = record.row(record.sms());
            let taken = writer.push(&row, row.sms().unwrap()).unwrap();
            assert_eq!((taken.index, taken.charge), (index as u64, record.charge.micros()));
            calls.push(expected(record));
        }
        let summary = writer.finish(&mut BufWriter::new(File::create(&file).unwrap())).unwrap();
        assert_eq!(summary.calls, records.len() as u64);
        read_back(variant, &summary, &file);
        self.expect(variant, header, &path, FileKind::Tap, &calls, "");
        path
    }

    /// Writes a RAP file that returns some of the call events of a TAP file.
    fn rap(
        &mut self,
        variant: &Arc<Variant>,
        header: &FileHeader,
        tap: (&str, &FileHeader),
        records: &[Owned],
    ) {
        let (path, file) = self.path(variant, &variant.rap.file_name(header));
        let mut writer = RapWriter::new(Arc::clone(variant), header, self.dir.path()).unwrap();
        let mut random = Random(header.sequence.into());
        let mut calls = Vec::new();
        for (index, record) in records.iter().enumerate().filter(|(index, _)| index % 3 == 0) {
            let adjusting = corpus::adjusting(&mut random);
            let (original, adjustment) = (record.row(record.sms()), adjusting.row(record));
            let listed = record.sms();
            let returned = Returned {
                adjustment: &adjustment,
                original: &original,
                listed: &listed,
                tap_variant: variant,
                tap_header: tap.1,
            };
            let taken = writer.push(&returned).unwrap();
            assert_eq!(taken.charge, record.charge.micros());
            calls.push(json!({
                "index": index, "tapSequence": tap.1.sequence, "type": adjusting.kind.as_str(),
                "adjustmentId": adjusting.id.with_prefix("adj_"), "messageReference": record.reference,
                "newCharge": adjusting.charge.to_string(), "voidCode": adjusting.void_code, "charge": taken.charge,
            }));
        }
        let summary = writer.finish(&mut BufWriter::new(File::create(&file).unwrap())).unwrap();
        read_back(variant, &summary, &file);
        self.expect(variant, header, &path, FileKind::Rap, &calls, tap.0);
    }

    /// Has the files checked by the decoders.
    fn check(&self) {
        let manifest = json!({ "files": self.files });
        fs::write(self.dir.path().join("manifest.json"), manifest.to_string()).unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = root.join("../.venv/bin/python");
        assert!(python.exists(), "{} is missing: run `make deps`", python.display());
        let checked = Command::new(python)
            .arg(root.join("tests/tap/check.py"))
            .args([self.dir.path(), Path::new(SCHEMAS)])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&checked.stdout);
        assert!(checked.status.success(), "{said}{}", String::from_utf8_lossy(&checked.stderr));
        let events: usize = self.files.iter().map(|file| file["calls"].as_array().unwrap().len()).sum();
        assert_eq!(said.trim(), format!("{} files with {events} call events hold", self.files.len()));
    }
}

/// This project's own reader agrees with what was written.
fn read_back(variant: &Variant, summary: &FileSummary, file: &Path) {
    let mut charges = 0;
    let mut add = |call: DecodedCall<'_>| {
        charges += i128::from(call.charge);
        Ok(())
    };
    let input = BufReader::new(File::open(file).unwrap());
    let decoded = decode(variant, summary.kind, input, &mut add).unwrap();
    assert_eq!((decoded.sha256, decoded.bytes), (summary.sha256, summary.bytes));
    assert_eq!((decoded.calls, decoded.total_charge), (summary.calls, summary.total_charge));
    assert_eq!((decoded.earliest, decoded.latest), (summary.earliest, summary.latest));
    assert_eq!(charges, summary.total_charge);
}

fn expected(record: &Owned) -> Value {
    let minutes = record.offset_minutes.unsigned_abs();
    let sign = if record.offset_minutes < 0 { '-' } else { '+' };
    json!({
        "cdrId": record.cdr_id.to_string(),
        "callingPartyAddress": record.calling,
        "calledPartyAddress": record.called,
        "originalServedSubscriberId": record.original,
        "recordingEntity": "4120101",
        "serviceCenterAddress": record.service_center,
        "messageReference": record.reference,
        "eventTimeStamp": record.event_at.to_string(),
        "offset": format!("{sign}{:02}{:02}", minutes / 60, minutes % 60),
        "charge": record.charge.micros(),
        "billingIndicator": record.billing.as_str(),
        "chargeType": record.charge_type.as_str(),
        "encoding": record.encoding.as_str(),
        "direction": record.direction.as_str(),
        "finalState": record.state.as_str(),
        "segmentCount": record.segments,
        "imsi": record.imsi,
    })
}

#[test]
fn other_decoders_read_every_kind_of_file() {
    let variants = variants();
    let mut export = Export::new();
    for (number, variant) in variants.iter().enumerate() {
        let seed = 1000 * (1 + number as u64);
        for (sequence, count) in [(1, 1), (2, 7), (3, 400)] {
            let header = header(variant, sequence, false);
            let records = corpus::records(seed + count, count);
            let path = export.tap(variant, &header, &records);
            export.rap(variant, &self::header(variant, 10 + sequence, false), (&path, &header), &records);
        }
        export.tap(variant, &header(variant, 4, false), &[]);
        export.tap(variant, &header(variant, 99_999, true), &corpus::records(seed, 3));
        export.tap(variant, &header(variant, 99_998, true), &[]);
    }
    export.check();
}

#[test]
fn other_decoders_read_a_file_with_many_call_events() {
    let variants = variants();
    let variant = variants.get("atra-tap-v2").unwrap();
    let mut export = Export::new();
    export.tap(variant, &header(variant, 1, false), &corpus::records(77, LARGEST));
    export.check();
}

#[test]
fn the_corpus_has_what_matters() {
    let records = corpus::records(77, LARGEST);
    let has = |wanted: &dyn Fn(&Owned) -> bool| assert!(records.iter().any(wanted));
    has(&|record| record.charge.micros() == 0);
    has(&|record| record.charge.micros() == corpus::MAX_CHARGE);
    has(&|record| record.segments == 255);
    has(&|record| !record.calling.is_ascii());
    has(&|record| record.imsi.is_none() && !record.calling.starts_with('+'));
    let total: i128 = records.iter().map(|record| i128::from(record.charge.micros())).sum();
    assert!(total > i128::from(i64::MAX), "the total is beyond 64 bits");
}
