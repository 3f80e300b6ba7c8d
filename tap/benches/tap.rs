//! TAP files of many call events: how fast they are encoded, and how much memory that takes.
//!
//! `cargo bench -p cdr-tap --profile release --bench tap` writes a file of 1 million and one of 5 million call events, with and
//! without a trace; `-- --records 100000` writes one of that many. Each rate is given by the clock, and by the CPU time
//! that was spent: the latter says what one core can do when the machine is busy with other things. Aims: over 300,000
//! records a second on one core, and less than 256 MiB above idle.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/tap/corpus.rs"]
mod corpus;
#[path = "../../benches/common/own.rs"]
mod own;

use cdr_core::Millis;
use cdr_core::row::Row;
use cdr_tap::{
    CallEncoder, FileHeader, FileKind, FileSummary, FileWriter, LocalTime, TraceEvent, TraceHead,
    TraceWriter, Variant, Variants, decode,
};
use own::{Clocks, memory};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::Path;
use std::sync::Arc;

/// Different records; they are listed again and again.
const POOL: u64 = 20_000;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let asked = arguments.iter().position(|argument| argument == "--records").map(|at| &arguments[at + 1]);
    let sizes = asked.map_or(vec![1_000_000, 5_000_000], |records| vec![records.parse().unwrap()]);
    let variants = Variants::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tap-schemas"))).unwrap();
    let pool = corpus::records(1, POOL);
    let rows: Vec<Row<'_>> = pool.iter().map(|record| record.row(record.sms())).collect();
    for variant in variants.iter() {
        encode_only(variant, &rows, sizes[0]);
    }
    let variant = variants.get("atra-tap-v2").unwrap();
    for records in sizes {
        write(variant, &rows, records, false);
        write(variant, &rows, records, true);
    }
}

fn header(variant: &Variant) -> FileHeader {
    let time = |text: &str| LocalTime::new(Millis::parse(text).unwrap(), 270);
    FileHeader {
        recording_entity: "4120101".to_owned(),
        sender: variant.tap.sender("4120101"),
        recipient: variant.tap.recipient().to_owned(),
        sequence: 1,
        settlement_day: "2026-04-20".parse().unwrap(),
        created: time("2026-04-20T20:00:00Z"),
        cut_off: time("2026-04-20T19:30:00Z"),
        available: time("2026-04-20T20:10:00Z"),
        test: false,
        exchange_rates: BTreeMap::new(),
    }
}

/// From record to call event, nothing else.
fn encode_only(variant: &Variant, rows: &[Row<'_>], records: u64) {
    let header = header(variant);
    let mut encoder = CallEncoder::new(&variant.tap, &header).unwrap();
    let started = Clocks::now();
    let mut bytes = 0;
    for row in rows.iter().cycle().take(records as usize) {
        bytes += encoder.encode(row, row.sms().unwrap()).unwrap().bytes.len() as u64;
    }
    let per_call = bytes as f64 / records as f64;
    println!("{}: encoded {}, {per_call:.0} bytes each", variant.name, started.rate(records));
}

/// A whole file: encoded, spooled, put together, hashed; with a trace if asked.
fn write(variant: &Arc<Variant>, rows: &[Row<'_>], records: u64, has_trace: bool) {
    let dir = tempfile::tempdir().unwrap();
    let idle = memory("VmRSS:");
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let started = Clocks::now();
    let mut writer = FileWriter::new(Arc::clone(variant), &header(variant), dir.path()).unwrap();
    let mut trace = has_trace.then(|| TraceWriter::new(dir.path()).unwrap());
    for row in rows.iter().cycle().take(records as usize) {
        let taken = writer.push(row, row.sms().unwrap()).unwrap();
        if let Some(trace) = &mut trace {
            let event = TraceEvent {
                index: taken.index,
                cdr_id: row.frame.cdr_id,
                adjustment_id: None,
                // Hashes do not compress; the pool's ids stand in for them.
                row_hash: cdr_core::hash::sha256(&taken.index.to_be_bytes()),
                bucket_hour: row.frame.bucket_hour,
                cdr_sequence: row.frame.sequence,
                charge: taken.charge,
            };
            trace.push(&event).unwrap();
        }
    }
    let path = dir.path().join("file.tap");
    let summary: FileSummary = writer.finish(&mut BufWriter::new(File::create(&path).unwrap())).unwrap();
    if let Some(trace) = trace {
        let mut out = BufWriter::new(File::create(dir.path().join("file.trace")).unwrap());
        trace.finish(&TraceHead::new(variant, &summary), &mut out).unwrap();
    }
    let written = started.rate(records);
    let peak = memory("VmHWM:") - idle;
    println!(
        "{records} records{}: {written}, {} MiB, {peak} MiB of memory above idle",
        if has_trace { " with trace" } else { "" },
        summary.bytes >> 20,
    );
    let started = Clocks::now();
    let input = BufReader::with_capacity(1 << 20, File::open(&path).unwrap());
    let decoded = decode(variant, FileKind::Tap, input, &mut |_| Ok(())).unwrap();
    assert_eq!((decoded.sha256, decoded.calls), (summary.sha256, records));
    println!("read back and checked: {}", started.rate(records));
}
