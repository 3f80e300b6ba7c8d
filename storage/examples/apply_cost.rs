//! Measures the whole apply path: CPU per row by phase, bytes per row, memory; then verification and look-ups.
//!
//! `cargo run --release -p cdr-storage --example apply_cost -- [ROWS] [BATCH] [ROWS_PER_HOUR] [DIRECTORY]`
//!
//! CPU of the process includes RocksDB's background threads and those of the indexes; generating the entries is
//! left out. "Settled" includes the last flush and the compactions that it causes. Linux only (reads `/proc`).
#![allow(clippy::unwrap_used)]

use cdr_core::adjust::Predecessor;
use cdr_core::audit::Request;
use cdr_core::command::{ClockKind, Command, DraftsBuffer, Envelope, Ingest, Initialize, Reply};
use cdr_core::export::Export;
use cdr_core::export::quarantine::Quarantined;
use cdr_core::hash::sha256;
use cdr_core::personal::{Salt, SystemContent};
use cdr_core::receipt::Known;
use cdr_core::row::{
    BillingIndicator, ChargeType, Direction, Draft, Drawn, Encoding, FinalState, Record, Sms, SystemKind,
};
use cdr_core::rules::{Build, SchemaVersion};
use cdr_core::time::HOUR_MS;
use cdr_core::{CdrId, Hash, Hour, LedgerState, Millis, Money, Uuid, View, ViewError, apply};
use cdr_storage::{Depth, EntryRef, RecordFilter, Store, StoreOptions};
use std::path::Path;
use std::time::{Duration, Instant};

const START: Hour = Hour(494_000);
const OPERATORS: [&str; 7] = ["AWCC", "ETISALAT", "MTN", "ROSHAN", "SALAAM", "AFTEL", "WASEL"];
const SUBSCRIBERS: u64 = 2_000_000;
const TENANTS: u64 = 300;

/// Nanoseconds on a processor, of this thread.
fn thread_cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// Seconds on a processor, of all threads.
fn process_cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn status(field: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

fn written() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap();
    text.lines().find(|line| line.starts_with("write_bytes")).unwrap()[13..].parse().unwrap()
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        out.chunks_mut(8).for_each(|part| part.copy_from_slice(&self.next().to_le_bytes()[..part.len()]));
        out
    }
}

/// Proposes batches at the pace of `rows_per_hour`.
struct Proposer {
    random: Random,
    position: u64,
    rows_per_hour: u64,
    samples: Vec<(CdrId, Uuid, Hash)>,
}

impl Proposer {
    fn now(&self) -> Millis {
        Millis(
            START.start().0
                + (self.position as i128 * i128::from(HOUR_MS) / i128::from(self.rows_per_hour)) as i64,
        )
    }

    fn envelope(&self, command: Command<'_>) -> Vec<u8> {
        Envelope::new(1, self.now(), command).encode().unwrap()
    }

    fn initialize(&mut self) -> Vec<u8> {
        let mut rows = DraftsBuffer::default();
        let mut bodies: Vec<(SystemKind, String)> = OPERATORS
            .iter()
            .map(|id| {
                let body = format!(
                    "{{\"effectiveFrom\":\"{START}\",\"operatorId\":\"{id}\",\"recordingEntity\":\"AF{id}\"}}"
                );
                (SystemKind::Operator, body)
            })
            .collect();
        let stream = "{\"created\":\"2026-01-01T00:00:00Z\",\"firstSequence\":1,\"reason\":\"new\",\"stream\":\"DLR\"}";
        bodies.push((SystemKind::Stream, stream.to_owned()));
        for (kind, body) in &bodies {
            let content = SystemContent::of_text(*kind, body).unwrap();
            let cdr_id = CdrId::from_parts(self.now().0, self.random.bytes());
            let drawn = Drawn { version: SchemaVersion::V2, cdr_id, salt: Salt(self.random.bytes()) };
            rows.push(0, &content.draft(drawn, "begin")).unwrap();
        }
        self.envelope(Command::Initialize(Initialize {
            cluster_id: "bench",
            zone: "Asia/Kabul",
            clock: ClockKind::Replay,
            dedup_horizon_hours: 168,
            hash_key: [3; 16],
            rows: rows.drafts(),
        }))
    }

    fn batch(&mut self, count: u32) -> Vec<u8> {
        let now = self.now();
        let mut drafts = DraftsBuffer::default();
        for offset in 0..count {
            self.row(&mut drafts, offset, now);
        }
        let (first, last) = (self.position + 1, self.position + u64::from(count));
        self.position = last;
        let ingest = Ingest {
            stream: "DLR",
            first,
            last,
            last_digest: [1; 32],
            ignored: 0,
            dead_lettered: 0,
            missing: 0,
            drafts: drafts.drafts(),
        };
        Envelope::new(1, now, Command::Ingest(ingest)).encode().unwrap()
    }

    fn row(&mut self, drafts: &mut DraftsBuffer, offset: u32, now: Millis) {
        let random = &mut self.random;
        let (a, b) = (random.next(), random.next());
        let called = format!("+9370{:07}", a % SUBSCRIBERS);
        let sender = format!("SENDER{:03}", b % 500);
        let reference = format!("{:016x}", random.next());
        let trace = format!("{:016x}{:016x}", random.next(), random.next());
        let tenant = ((a >> 32 & 0xffff) * (b >> 32 & 0xffff) * TENANTS) >> 32;
        let event_at = Millis(now.0 - (a >> 40 & 0xfff) as i64);
        let sms = Sms {
            message_id: Uuid(random.bytes()),
            tenant_id: Some(Uuid((u128::from(tenant) << 64 | 0x4000_8000).to_be_bytes())),
            calling_party: &sender,
            called_party: &called,
            recording_entity: "AFMTN01",
            service_center: "+93790000001",
            message_reference: &reference,
            event_at,
            local_offset_minutes: 270,
            submitted_at: Some(Millis(event_at.0 - 1800)),
            charge_amount: Money::from_micros(38_400),
            charge_currency: Some("AFN"),
            tap_tariff_class: Some("A2P_STD"),
            tariff_version: Some("2026-04-01"),
            charge_type: ChargeType::A2p,
            billing_indicator: BillingIndicator::Chargeable,
            direction: Direction::Mt,
            encoding: Encoding::Gsm7,
            final_state: if a % 17 == 0 { FinalState::Failed } else { FinalState::Delivered },
            segment_count: 1 + (b % 3) as u8,
            failure_code: (a % 17 == 0).then_some("0x000B"),
            imsi: Some("412012345678901"),
            ..Sms::BLANK
        };
        let cdr_id = CdrId::from_parts(now.0, random.bytes());
        if b % 5000 == 0 {
            self.samples.push((cdr_id, sms.message_id, sha256(called.as_bytes())));
        }
        let operator_id = OPERATORS[(b >> 20) as usize % OPERATORS.len()];
        let record = Record::Sms(sms);
        let salt = Salt(random.bytes());
        drafts
            .push(
                offset,
                &Draft { version: SchemaVersion::V2, cdr_id, operator_id, trace_id: &trace, salt, record },
            )
            .unwrap();
    }
}

/// A view to which everything is new: what remains is cdr-core's own work.
struct Nothing;

impl View for Nothing {
    fn known(&self, ids: &[Uuid], _: Hour) -> Result<Vec<Known>, ViewError> {
        Ok(vec![Known::Nothing; ids.len()])
    }

    fn seal_hash(&self, _: Hour) -> Result<Option<Hash>, ViewError> {
        Ok(None)
    }

    fn predecessor(&self, _: CdrId) -> Result<Option<Predecessor>, ViewError> {
        Ok(None)
    }

    fn request(&self, _: &Hash) -> Result<Option<Request>, ViewError> {
        Ok(None)
    }

    fn export(&self, _: CdrId) -> Result<Option<Export>, ViewError> {
        Ok(None)
    }

    fn quarantined(&self, _: CdrId) -> Result<Option<Quarantined>, ViewError> {
        Ok(None)
    }

    fn waits_in_quarantine(&self, _: &str, _: &str) -> Result<bool, ViewError> {
        Ok(false)
    }
}

fn core_cost(rows_per_hour: u64, batch: u32) {
    let mut proposer = Proposer { random: Random(1), position: 0, rows_per_hour, samples: Vec::new() };
    let mut state = LedgerState::default();
    let mut entries = vec![proposer.envelope(Command::Fence), proposer.initialize()];
    entries.extend((0..200_000 / batch).map(|_| proposer.batch(batch)));
    let (mut canonical, mut rows) = (Vec::new(), 0);
    let started = thread_cpu();
    for entry in &entries {
        let transition = apply(&state, &Nothing, &Envelope::decode(entry, Build::THIS).unwrap()).unwrap();
        rows += transition.rows.len();
        if canonical.is_empty() && rows > 100 {
            cdr_core::canonical::push_row(&transition.rows[0].row, &mut canonical);
        }
        state = transition.state;
    }
    let cost = (thread_cpu() - started) as f64 / 1e3 / rows as f64;
    println!(
        "cdr-core alone (decode, canonicalise, hash, chain, trees): {cost:.2} us a row; canonical row {} bytes",
        canonical.len()
    );
}

fn percentiles(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 100].as_secs_f64() * 1e3;
    println!(
        "{what}: p50 {:.3} ms, p95 {:.3} ms, p99 {:.3} ms ({} times)",
        at(50),
        at(95),
        at(99),
        times.len()
    );
}

fn timed(times: usize, mut run: impl FnMut(usize)) -> Vec<Duration> {
    (0..times)
        .map(|i| {
            let started = Instant::now();
            run(i);
            started.elapsed()
        })
        .collect()
}

fn load(store: &Store, proposer: &mut Proposer, rows: u64, batch: u32) {
    let (mut applied_ns, mut written_before) = (0, written());
    let (started, cpu) = (Instant::now(), process_cpu());
    let (mut generated_ns, mut index, mut next_note) = (0, 2u64, 1_000_000);
    let mut slowest = Duration::ZERO;
    while proposer.position < rows {
        let before = thread_cpu();
        let entry = proposer.batch(batch);
        let generated = thread_cpu();
        index += 1;
        let begun = Instant::now();
        let reply =
            store.apply(&[Some(EntryRef { index, term: 1, bytes: &entry })], &index.to_be_bytes()).unwrap();
        slowest = slowest.max(begun.elapsed());
        assert!(matches!(&reply[0], Reply::Ingested(i) if i.duplicate == 0), "{reply:?}");
        applied_ns += thread_cpu() - generated;
        generated_ns += generated - before;
        if proposer.position >= next_note {
            let cost = (process_cpu() - cpu) * 1e6 - generated_ns as f64 / 1e3;
            let n = proposer.position as f64;
            println!(
                "{:>9} rows: {:.2} us a row ({:.2} apply thread), slowest write {:.1} ms, memory {} MiB",
                proposer.position,
                cost / n,
                applied_ns as f64 / 1e3 / n,
                slowest.as_secs_f64() * 1e3,
                status("VmRSS")
            );
            next_note += 1_000_000;
            slowest = Duration::ZERO;
        }
    }
    let wall = started.elapsed().as_secs_f64() - generated_ns as f64 / 1e9;
    let unsettled = (process_cpu() - cpu) * 1e6 - generated_ns as f64 / 1e3;
    store.flush().unwrap();
    let mut quiet = 0;
    while quiet < 3 {
        let before = process_cpu();
        std::thread::sleep(Duration::from_millis(500));
        quiet = if process_cpu() - before < 0.02 { quiet + 1 } else { 0 };
    }
    let settled = (process_cpu() - cpu) * 1e6 - generated_ns as f64 / 1e3;
    let n = rows as f64;
    written_before = written() - written_before;
    let metrics = store.metrics();
    println!(
        "{rows} rows, batch {batch}: {:.2} us CPU a row, {:.2} settled, of it {:.2} on the apply thread; {:.0} rows/s",
        unsettled / n,
        settled / n,
        applied_ns as f64 / 1e3 / n,
        n / wall
    );
    println!(
        "bytes a row: {:.0} in tables, {:.0} handed to the database, {:.0} written to disk; peak memory {} MiB",
        metrics.table_bytes as f64 / n,
        metrics.written_bytes as f64 / n,
        written_before as f64 / n,
        status("VmHWM")
    );
}

fn read(store: &Store, samples: &[(CdrId, Uuid, Hash)]) {
    let mut random = Random(77);
    let mut pick = || &samples[random.next() as usize % samples.len()];
    percentiles("row by cdrId", timed(2000, |_| assert!(store.row_by_id(pick().0).unwrap().is_some())));
    let query = |filter: &RecordFilter, limit| store.query(filter, None, limit).unwrap().rows.len();
    percentiles(
        "query by messageId",
        timed(2000, |_| {
            let filter = RecordFilter { message_id: Some(pick().1), ..RecordFilter::default() };
            assert_eq!(query(&filter, 100), 1);
        }),
    );
    percentiles(
        "query by subscriber",
        timed(500, |_| {
            let filter = RecordFilter { msisdn_hash_to: Some(pick().2), ..RecordFilter::default() };
            assert!(query(&filter, 100) > 0);
        }),
    );
    percentiles(
        "100 rows of a tenant in an hour",
        timed(500, |i| {
            let tenant = Uuid((((i as u128) % 50) << 64 | 0x4000_8000).to_be_bytes());
            let hour = Some(store.state().head.first_hour);
            let filter = RecordFilter {
                tenant_id: Some(tenant),
                bucket_hour_from: hour,
                bucket_hour_to: hour,
                ..RecordFilter::default()
            };
            query(&filter, 100);
        }),
    );
    let state = store.state();
    let hours = state.head.open_hour.0 - state.head.first_hour.0;
    if hours == 0 {
        return println!("no hour is sealed: nothing to verify");
    }
    let (first, last) = (state.head.first_hour, Hour(state.head.open_hour.0 - 1));
    percentiles(
        "inclusion proof",
        timed(500, |i| {
            let hour = Hour(first.0 + i as u32 % hours);
            store.inclusion_proof(hour, OPERATORS[i % 7], i as u64).unwrap();
        }),
    );
    for depth in [Depth::Roots, Depth::Leaves, Depth::Rows] {
        let mut rows = 0;
        let cpu = process_cpu();
        let times = timed(20, |i| {
            let report = store.verify_hour(Hour(first.0 + i as u32 % hours), None, depth).unwrap();
            assert_eq!(report.faults, []);
            rows = rows.max(report.rows_checked);
        });
        percentiles(&format!("verify one hour of {rows} rows, {depth:?}"), times);
        println!("    {:.0} ms on a processor each", (process_cpu() - cpu) * 1e3 / 20.0);
    }
    for (depth, times) in [(Depth::Roots, 20), (Depth::Leaves, 3), (Depth::Rows, 1)] {
        let mut rows = 0;
        let times = timed(times, |_| {
            let report = store.verify_range(first, last, None, depth).unwrap();
            assert_eq!(report.faults, []);
            rows = report.rows_checked;
        });
        percentiles(&format!("verify {hours} hours of {rows} rows, {depth:?}"), times);
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: u64| arguments.get(at).map_or(default, |text| text.parse().unwrap());
    let (rows, batch, rows_per_hour) = (number(0, 10_000_000), number(1, 500) as u32, number(2, 500_000));
    let directory = arguments.get(3).map_or("target/apply_cost", String::as_str);
    std::fs::remove_dir_all(directory).ok();
    core_cost(rows_per_hour, batch);
    let store = Store::open(Path::new(directory), StoreOptions::default()).unwrap();
    let mut proposer = Proposer { random: Random(42), position: 0, rows_per_hour, samples: Vec::new() };
    for (index, entry) in [proposer.envelope(Command::Fence), proposer.initialize()].iter().enumerate() {
        let entry = EntryRef { index: index as u64 + 1, term: 1, bytes: entry };
        store.apply(&[Some(entry)], b"begin").unwrap();
    }
    load(&store, &mut proposer, rows, batch);
    read(&store, &proposer.samples);
    println!("memory after verification: {} MiB, peak {} MiB", status("VmRSS"), status("VmHWM"));
    drop(store);
    let started = Instant::now();
    let store = Store::open(Path::new(directory), StoreOptions::default()).unwrap();
    println!(
        "opened again in {:.2} s, {} rows",
        started.elapsed().as_secs_f64(),
        store.state().head.row_count
    );
    drop(store);
    std::fs::remove_dir_all(directory).ok();
}
