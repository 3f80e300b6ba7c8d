//! What the indexes cost: CPU per row of adding, committing, merging, flushing and compacting; then how long
//! look-ups and a verification take.
//!
//! `cargo run --release -p cdr-storage --example index_cost -- [ROWS] [DIRECTORY]`

use cdr_core::{CdrId, Hour, Millis, Uuid};
use cdr_storage::index::{Index, IndexOptions, Lookup, RowKeys};
use rocksdb::{BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, Options, WriteBatch, WriteOptions};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

type Outcome<T> = Result<T, Box<dyn Error>>;

const BATCH: u64 = 500;
const HOUR_ROWS: u64 = 500_000;

fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let rows: u64 = arguments.next().map_or(Ok(10_000_000), |text| text.parse())?;
    let scratch = tempfile::tempdir()?;
    let directory = arguments.next().map_or(scratch.path().to_owned(), Into::into).join("db");
    let db = open_db(&directory)?;
    let index = Index::open(Arc::clone(&db), [7; 16], IndexOptions::default(), 0)?;

    let (start, began) = (process_ms()?, Instant::now());
    let [made, added] = append(&index, &db, rows)?;
    while index.merging() {
        commit(&index, &db)?;
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let wall = began.elapsed();
    db.flush_cf(db.cf_handle("index").ok_or("no column family")?)?;
    let us = |ms: f64| ms * 1000.0 / rows as f64;
    let total = process_ms()? - start;
    println!("{rows} rows in {wall:.1?}, batches of {BATCH}, {} runs", index.run_count());
    println!("add + commit + write, apply thread: {:.3} us/row", us(added));
    println!("all threads, without making the rows: {:.3} us/row", us(total - made));
    println!("filter: {:?}", index.filter_stats());
    lookups(&index, rows)?;
    verification(&index, rows)?;
    drop(index);
    let began = Instant::now();
    let index = Index::open(Arc::clone(&db), [7; 16], IndexOptions::default(), rows)?;
    println!("open {:.1?}", began.elapsed());
    let began = Instant::now();
    let restored = index.restore_filter(Hour(0))?;
    println!("filter of {restored} messages restored in {:.1?}", began.elapsed());
    Ok(())
}

fn open_db(path: &Path) -> Outcome<Arc<DB>> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_atomic_flush(true);
    options.set_max_background_jobs(2);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(128 << 20));
    table.set_block_size(16 << 10);
    let mut column = Options::default();
    column.set_write_buffer_size(32 << 20);
    column.set_block_based_table_factory(&table);
    let columns = ["default", "index", "meta"].map(|name| ColumnFamilyDescriptor::new(name, column.clone()));
    Ok(Arc::new(DB::open_cf_descriptors(&options, path, columns)?))
}

/// CPU milliseconds of making the rows, and of adding and committing them.
fn append(index: &Index, db: &DB, rows: u64) -> Outcome<[f64; 2]> {
    let (mut made, mut added) = (0.0, 0.0);
    for first in (0..rows).step_by(BATCH as usize) {
        let start = thread_ms()?;
        let batch: Vec<RowKeys> = (first..rows.min(first + BATCH)).map(row).collect();
        let between = thread_ms()?;
        index.add_all(&batch)?;
        commit(index, db)?;
        made += between - start;
        added += thread_ms()? - between;
    }
    Ok([made, added])
}

fn commit(index: &Index, db: &DB) -> Outcome<()> {
    let mut batch = WriteBatch::default();
    index.commit(&mut batch)?;
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    db.write_opt(batch, &options)?;
    index.committed();
    Ok(())
}

fn lookups(index: &Index, rows: u64) -> Outcome<()> {
    for (name, lookup) in [
        ("cdrId", (|row: &RowKeys| Some(Lookup::CdrId(row.cdr_id))) as fn(&RowKeys) -> Option<Lookup>),
        ("messageId", |row| row.message_id.map(Lookup::Message)),
        ("msisdnHashTo, 100 newest", |row| row.msisdn_to.map(Lookup::MsisdnTo)),
    ] {
        let mut times = Vec::new();
        for i in 0..2000 {
            let Some(lookup) = lookup(&row(mix(i) % rows)) else { continue };
            let began = Instant::now();
            let found = index.candidates(lookup, 0..rows, true)?.take(100).collect::<Result<Vec<_>, _>>()?;
            times.push(began.elapsed());
            assert!(!found.is_empty(), "{name} is not found");
        }
        times.sort_unstable();
        println!("{name}: p50 {:.1?}, p99 {:.1?}", times[times.len() / 2], times[times.len() * 99 / 100]);
    }
    Ok(())
}

fn verification(index: &Index, rows: u64) -> Outcome<()> {
    for first in [0, rows / 2, rows.saturating_sub(HOUR_ROWS)] {
        let range = first..rows.min(first + HOUR_ROWS);
        let keys: Vec<RowKeys> = range.clone().map(row).collect();
        let (began, start) = (Instant::now(), thread_ms()?);
        let faults = index.verify(range.clone(), keys)?;
        let (wall, cpu) = (began.elapsed(), thread_ms()? - start);
        println!("verification of rows {range:?}: {wall:.1?}, {cpu:.0} ms CPU, {} faults", faults.len());
    }
    Ok(())
}

/// The finisher of SplitMix64.
fn mix(number: u64) -> u64 {
    let mut hash = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// A row like those of a day: 1,000 tenants, 6 operators, a million subscribers.
fn row(ordinal: u64) -> RowKeys {
    let wide = |salt: u64| {
        let mut bits = [0; 16];
        bits[..8].copy_from_slice(&mix(ordinal ^ salt << 48).to_be_bytes());
        bits[8..].copy_from_slice(&ordinal.to_be_bytes());
        bits
    };
    let choice = mix(ordinal ^ 5 << 48);
    let mut number = [0; 32];
    number[..8].copy_from_slice(&(choice % 1_000_000).to_be_bytes());
    let mut tenant = [0; 16];
    tenant[..8].copy_from_slice(&((choice >> 20) % 1000).to_be_bytes());
    let at = 1_776_690_000_000 + ordinal as i64 * 7;
    let mut random = [0; 10];
    random.copy_from_slice(&wide(2)[..10]);
    RowKeys {
        ordinal,
        cdr_id: CdrId::from_parts(at, random),
        message_id: Some(Uuid(wide(1))),
        original: true,
        msisdn_to: Some(number),
        tenant: Some(Uuid(tenant)),
        operator: 1 + (choice >> 40) as u16 % 6,
        event_at: Some(Millis(at - (choice % 60_000) as i64)),
        adjustment_of: None,
        kind: ordinal.is_multiple_of(11).then_some((ordinal % 3) as u8),
        bucket_hour: Hour(493_525 + (ordinal / HOUR_ROWS) as u32),
    }
}

/// CPU time of this thread, in milliseconds.
fn thread_ms() -> Outcome<f64> {
    schedule_ms("/proc/thread-self/schedstat")
}

/// CPU time of all threads that live, in milliseconds.
fn process_ms() -> Outcome<f64> {
    let mut total = 0.0;
    for task in std::fs::read_dir("/proc/self/task")? {
        let path = task?.path().join("schedstat");
        total += schedule_ms(path.to_str().ok_or("strange path")?)?;
    }
    Ok(total)
}

fn schedule_ms(path: &str) -> Outcome<f64> {
    let text = std::fs::read_to_string(path)?;
    let nanos: f64 = text.split_whitespace().next().ok_or("an empty schedstat")?.parse()?;
    Ok(nanos / 1e6)
}
