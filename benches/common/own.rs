//! What this process uses: time of its thread, and memory.
#![allow(dead_code, missing_docs, clippy::unwrap_used)]

use std::fs;
use std::time::{Duration, Instant};

/// The clock and the CPU time of this thread.
pub struct Clocks {
    wall: Instant,
    cpu: Duration,
}

impl Clocks {
    pub fn now() -> Self {
        Self { wall: Instant::now(), cpu: cpu_time() }
    }

    pub fn cpu(&self) -> Duration {
        cpu_time().saturating_sub(self.cpu)
    }

    pub fn rate(&self, records: u64) -> String {
        let per_second = |time: Duration| (records as f64 / time.as_secs_f64()) as u64;
        let (wall, cpu) = (per_second(self.wall.elapsed()), per_second(self.cpu()));
        format!("{wall} records/s ({cpu} per second of CPU time)")
    }
}

fn cpu_time() -> Duration {
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(schedstat.split_whitespace().next().unwrap().parse().unwrap())
}

/// A figure of this process in MiB.
pub fn memory(name: &str) -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<i64>().unwrap() / 1024
}
