//! The settlement of a whole day: from the first file that is opened to the last of seven operators that is encoded,
//! traced, signed and dropped, in the program as `make run` starts it, with three replicas in one process.
//!
//! `cargo bench --profile release --bench settlement` does so with a day of 1 million receipts; `-- --records 100000`
//! with one of that many. The events of the day are published meanwhile. Then, when all is quiet, the files are made once
//! more, by a replica that has none of them, and compared.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../tests/common/mod.rs"]
mod common;

use common::dev::{Dev, free_ports, receipts};
use serde_json::Value;
use std::fs;
use std::time::{Duration, Instant};

const OPERATORS: usize = 7;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let asked = arguments.iter().position(|argument| argument == "--records").map(|at| &arguments[at + 1]);
    let records = asked.map_or(1_000_000, |records| records.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let day = dir.path().join("day.ndjson");
    receipts(&day, "2026-04-20", records, 1);
    let mut dev = Dev::start(&dir.path().join("dev"), Some(&day), free_ports(9));
    while dev.exports().is_empty() {
        std::thread::sleep(Duration::from_millis(20));
    }
    let (begun, before) = (Instant::now(), Process::of(&dev));
    let mut encoded = None;
    let exports = loop {
        let exports = dev.exports();
        let all = |done: fn(&Value) -> bool| exports.len() == OPERATORS && exports.iter().all(done);
        if encoded.is_none() && all(|export| !export["recordsIncluded"].is_null()) {
            encoded = Some(begun.elapsed());
        }
        if all(|export| export["deliveryStatus"] == "DELIVERED_DIRECTORY") {
            break exports;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let took = begun.elapsed();
    let sum = |field: &str| exports.iter().map(|export| export[field].as_u64().unwrap()).sum::<u64>();
    let listed = sum("recordsIncluded");
    println!(
        "{listed} records in {OPERATORS} files, {} in quarantine, {} MiB with traces",
        sum("quarantinedCount"),
        dropped_bytes(&dev) >> 20,
    );
    println!("encoded and traced after {:.2} s", encoded.unwrap_or(took).as_secs_f64());
    before.compare(&dev, "encoded, traced, signed, dropped", listed, took);
    // The program verifies its replicas before it says so.
    dev.wait_until_serving();
    once_more(&dev, &exports, listed);
}

/// The second replica makes the files.
fn once_more(dev: &Dev, exports: &[Value], listed: u64) {
    let mut last = Process::of(dev).cpu_seconds;
    loop {
        std::thread::sleep(Duration::from_secs(2));
        let now = Process::of(dev).cpu_seconds;
        if now - last < 0.1 {
            break;
        }
        last = now;
    }
    let (begun, before) = (Instant::now(), Process::of(dev));
    for export in exports {
        let id = export["exportId"].as_str().unwrap();
        let dropped = fs::read(dev.drop_dir().join(export["filename"].as_str().unwrap())).unwrap();
        assert!(dev.bytes(1, &format!("/v1/cdr/exports/{id}/file")) == dropped, "{id} differs");
    }
    before.compare(dev, "made by another replica", listed, begun.elapsed());
}

fn dropped_bytes(dev: &Dev) -> u64 {
    let files = fs::read_dir(dev.drop_dir()).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

/// What a process has used.
struct Process {
    cpu_seconds: f64,
    resident_mib: i64,
    peak_mib: i64,
}

impl Process {
    fn of(dev: &Dev) -> Self {
        let read = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", dev.process_id())).unwrap();
        let status = read("status");
        let mib = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<i64>().unwrap() / 1024
        };
        let stat = read("stat");
        let numbers: Vec<&str> = stat.rsplit(") ").next().unwrap().split_whitespace().collect();
        // User and system time of all threads, in hundredths of a second.
        let ticks = |at: usize| numbers[at].parse::<f64>().unwrap();
        let cpu_seconds = (ticks(11) + ticks(12)) / 100.0;
        let process = Self { cpu_seconds, resident_mib: mib("VmRSS:"), peak_mib: mib("VmHWM:") };
        // From here on the peak is counted anew.
        fs::write(format!("/proc/{}/clear_refs", dev.process_id()), "5").unwrap();
        process
    }

    /// Prints what it took to get from here to where the process is now.
    fn compare(&self, dev: &Dev, what: &str, records: u64, took: Duration) {
        let now = Self::of(dev);
        println!(
            "{what}: {:.2} s, {:.0} records/s, {:.1} s of CPU time; at most {} MiB above {} MiB",
            took.as_secs_f64(),
            records as f64 / took.as_secs_f64(),
            now.cpu_seconds - self.cpu_seconds,
            now.peak_mib - self.resident_mib,
            self.resident_mib
        );
    }
}
