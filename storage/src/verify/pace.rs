//! How fast a verification goes that must not get into anybody's way.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a waiting verification checks whether it has to stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Every row is read twice: for its hash, and for the indexes.
const READINGS: f64 = 2.0;

/// Bounds a verification to this many rows a second, and lets it be stopped.
#[derive(Debug)]
pub struct Pace {
    reading_seconds: f64,
    /// When the rows that were read so far are due.
    due: Mutex<Instant>,
    stopped: AtomicBool,
}

impl Pace {
    /// At most `rows_per_second`, on average over a page of rows; time that was not used is not made up for.
    pub fn new(rows_per_second: u64) -> Self {
        let reading_seconds = 1.0 / (rows_per_second.max(1) as f64 * READINGS);
        Self { reading_seconds, due: Mutex::new(Instant::now()), stopped: AtomicBool::new(false) }
    }

    /// Has the verification end without an outcome.
    pub fn stop(&self) {
        self.stopped.store(true, Relaxed);
    }

    /// True once it has to stop.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Relaxed)
    }

    /// Waits after `rows` were read, until they are due; false if the verification has to stop.
    pub(crate) fn read(&self, rows: usize) -> bool {
        let until = {
            let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            *due = (*due).max(Instant::now()) + Duration::from_secs_f64(self.reading_seconds * rows as f64);
            *due
        };
        while !self.is_stopped() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_rows_take_so_long_and_a_stop_ends_the_wait() {
        let pace = Pace::new(1_000);
        let began = Instant::now();
        for _ in 0..4 {
            assert!(pace.read(50));
        }
        assert!(began.elapsed() >= Duration::from_millis(100), "{:?}", began.elapsed());
        pace.stop();
        assert!(!pace.read(1_000_000));
        assert!(began.elapsed() < Duration::from_secs(60));
    }
}
