//! Slows down for ingest: while DLRs arrive faster than any day's peak, events are held to a modest rate.
//!
//! DLRs that are not ingested are late for everybody; events wait in the outbox, where nothing is lost. But not for
//! ever: after [`LENIENCE`] of giving way events take their share of the machine until they have caught up.

use std::time::{Duration, Instant};

/// Rows a second from which ingest has precedence: the peak that a cluster is made for.
const BUSY_ROWS_PER_SECOND: f64 = 20_000.0;
/// Over how long, at least, the rate is taken.
const WINDOW: Duration = Duration::from_millis(50);
/// Events a second that are published meanwhile.
const MEANWHILE: f64 = 15_000.0;
/// For how long at a stretch events are slowed down.
const LENIENCE: Duration = Duration::from_secs(60);

/// Keeps the pace of one reader.
pub(super) struct Pace {
    rows: Box<dyn Fn() -> u64 + Send>,
    /// When the batch that is being made was begun.
    begun: Instant,
    /// When the rate was taken last, and the rows of then.
    looked: (Instant, u64),
    busy: bool,
    /// When giving way began.
    giving_way_since: Option<Instant>,
}

impl Pace {
    /// A pace that follows how many `rows` there are.
    pub(super) fn new(rows: impl Fn() -> u64 + Send + 'static) -> Self {
        let now = Instant::now();
        let looked = (now, rows());
        Self { rows: Box::new(rows), begun: now, looked, busy: false, giving_way_since: None }
    }

    /// There was nothing to do: everything is caught up.
    pub(super) fn rested(&mut self) {
        self.begun = Instant::now();
        self.giving_way_since = None;
    }

    /// A batch of `events` is made: rests as long as ingest needs it.
    pub(super) fn give_way(&mut self, events: usize) {
        let rest = self.rest(Instant::now(), events);
        if !rest.is_zero() {
            std::thread::sleep(rest);
        }
        self.begun = Instant::now();
    }

    /// How long to rest after a batch of `events` that is ready `now`.
    fn rest(&mut self, now: Instant, events: usize) -> Duration {
        if !self.is_busy(now) {
            return Duration::ZERO;
        }
        let since = *self.giving_way_since.get_or_insert(now);
        if now.saturating_duration_since(since) > LENIENCE {
            return Duration::ZERO;
        }
        let due = Duration::from_secs_f64(events as f64 / MEANWHILE);
        due.saturating_sub(now.saturating_duration_since(self.begun))
    }

    fn is_busy(&mut self, now: Instant) -> bool {
        let (before, rows_before) = self.looked;
        let elapsed = now.saturating_duration_since(before);
        if elapsed >= WINDOW {
            let rows = (self.rows)();
            let rate = rows.saturating_sub(rows_before) as f64 / elapsed.as_secs_f64();
            self.busy = rate >= BUSY_ROWS_PER_SECOND;
            self.looked = (now, rows);
        }
        self.busy
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn events_give_way_to_a_loaded_ingest_but_not_for_ever() {
        let rows = Arc::new(AtomicU64::new(0));
        let shown = rows.clone();
        let mut pace = Pace::new(move || shown.load(Ordering::Relaxed));
        let begun = pace.begun;
        let after = |ms: u64| begun + Duration::from_millis(ms);
        rows.store(1_900, Ordering::Relaxed);
        assert_eq!(pace.rest(after(100), 300), Duration::ZERO, "19,000 a second");
        rows.store(3_900, Ordering::Relaxed);
        assert_eq!(pace.rest(after(140), 300), Duration::ZERO, "too soon to tell");
        pace.begun = after(200);
        assert_eq!(pace.rest(after(200), 300), Duration::from_millis(20), "20,000 a second");
        assert_eq!(pace.rest(after(215), 300), Duration::from_millis(5));
        rows.store(2_000_000, Ordering::Relaxed);
        assert_eq!(pace.rest(after(60_201), 300), Duration::ZERO, "a minute is enough");
        pace.rested();
        pace.begun = after(60_210);
        assert!(!pace.rest(after(60_210), 300).is_zero() && pace.giving_way_since.is_some());
    }
}
