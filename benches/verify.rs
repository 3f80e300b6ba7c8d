//! Sealing and verification on one store: a bucket of 500,000 rows, and a 24-hour range of many more.
//!
//! `cargo bench --bench verify -- [--rows 10000000] [--dir DIR]` fills a store through the real apply path (500
//! rows an entry, 24 hours of which the last holds 500,000 rows), then prints how long sealing took and, for each
//! depth, p50 and p95 of the verification of one bucket and of the range.

mod common;

use anyhow::{Context, bail};
use cdr_core::command::{Command, Reply};
use cdr_core::time::HOUR_MS;
use cdr_core::{Hour, Millis};
use cdr_storage::{Depth, EntryRef, Store, StoreOptions};
use common::load::{Load, entry};
use std::path::PathBuf;
use std::time::Instant;

const ROWS_PER_ENTRY: u64 = 500;
const BUCKET_ROWS: u64 = 500_000;
const HOURS: u64 = 24;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1));
    let rows: u64 = value("--rows").map_or(Ok(10_000_000), |text| text.parse())?;
    let dir = value("--dir").map_or_else(|| std::env::temp_dir().join("cdr-verify-bench"), PathBuf::from);
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir)?;
    let store = Store::open(&dir.join("store"), StoreOptions::default())?;
    let (first, last) = fill(&store, rows)?;
    println!("{:<34} {:>10} {:>10}", "verification", "p50 ms", "p95 ms");
    for (name, depth) in [("rows", Depth::Rows), ("leaves", Depth::Leaves), ("roots", Depth::Roots)] {
        measure(&format!("bucket of {BUCKET_ROWS}, {name}"), 20, || {
            Ok(store.verify_hour(last, None, depth)?.faults.len())
        })?;
    }
    for (name, depth, repeat) in
        [("roots", Depth::Roots, 20), ("leaves", Depth::Leaves, 5), ("rows", Depth::Rows, 3)]
    {
        measure(&format!("{HOURS} h, {rows} rows, {name}"), repeat, || {
            Ok(store.verify_range(first, last, None, depth)?.faults.len())
        })?;
    }
    drop(store);
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

/// Fills 24 hours, the last of them with 500,000 rows; prints the longest and the last seal.
fn fill(store: &Store, rows: u64) -> anyhow::Result<(Hour, Hour)> {
    let start = Hour::parse("2026-04-19T19:00:00Z").context("no hour")?;
    let mut load = Load::new(1);
    let mut index = 0;
    let mut apply = |bytes: &[u8]| -> anyhow::Result<()> {
        index += 1;
        let replies = store.apply(&[Some(EntryRef { index, term: 1, bytes })], b"bench")?;
        match replies.first() {
            Some(Reply::Rejected(rejection)) => bail!("refused: {rejection}"),
            _ => Ok(()),
        }
    };
    let began = Instant::now();
    for bytes in load.begin(start.start())? {
        apply(&bytes)?;
    }
    let each = rows.saturating_sub(BUCKET_ROWS) / (HOURS - 1);
    let mut seals = Vec::new();
    for hour in 0..HOURS {
        let from = start.0 + hour as u32;
        let count = if hour == HOURS - 1 { BUCKET_ROWS } else { each };
        let entries = count.div_ceil(ROWS_PER_ENTRY);
        for i in 0..entries {
            let at = Millis(Hour(from).start().0 + (i * HOUR_MS as u64 / entries) as i64);
            apply(&load.batch(ROWS_PER_ENTRY, at)?)?;
        }
        let seal = entry(1, Hour(from).end(), Command::Seal)?;
        let sealing = Instant::now();
        apply(&seal)?;
        seals.push(sealing.elapsed().as_secs_f64() * 1e3);
    }
    println!("filled {rows} rows in {:.1} s", began.elapsed().as_secs_f64());
    let longest = seals.iter().copied().fold(0.0, f64::max);
    println!(
        "sealing: longest {longest:.2} ms, bucket of {BUCKET_ROWS} rows {:.2} ms",
        seals[HOURS as usize - 1]
    );
    store.flush()?;
    Ok((start, Hour(start.0 + HOURS as u32 - 1)))
}

fn measure(what: &str, repeat: usize, mut run: impl FnMut() -> anyhow::Result<usize>) -> anyhow::Result<()> {
    let mut times = Vec::new();
    for _ in 0..repeat {
        let started = Instant::now();
        let faults = run()?;
        if faults > 0 {
            bail!("{what}: {faults} faults in a sound store");
        }
        times.push(started.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    println!("{what:<34} {:>10.1} {:>10.1}", at(0.5), at(0.95));
    Ok(())
}
