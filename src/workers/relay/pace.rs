//! Gives way to ingest: while it is loaded to its limit, events are made for a part of the time only.
//!
//! Receipts that are not taken in are late for everybody; events wait in the outbox, where nothing is lost. But not for
//! ever: after [`LENIENCE`] of giving way events take their share of the machine until they have caught up.

use std::time::{Duration, Instant};

/// Load from which ingest counts as loaded: at least two of its batches, as configured by default, are on their way at
/// once, so that one has to wait for another. A receipt now and then never gets there.
const BUSY: f64 = 0.12;
/// Time that is left to ingest for each time that a batch took.
const REST: u32 = 3;
/// The longest rest after one batch.
const LONGEST_REST: Duration = Duration::from_millis(200);
/// For how long at a stretch events give way.
const LENIENCE: Duration = Duration::from_secs(60);

/// Keeps the pace of one reader.
pub(super) struct Pace {
    load: Box<dyn Fn() -> f64 + Send>,
    /// When the batch that is being made was begun.
    begun: Instant,
    /// When giving way began.
    giving_way_since: Option<Instant>,
}

impl Pace {
    /// A pace that follows `load`, from 0 to 1.
    pub(super) fn new(load: impl Fn() -> f64 + Send + 'static) -> Self {
        Self { load: Box::new(load), begun: Instant::now(), giving_way_since: None }
    }

    /// There was nothing to do: everything is caught up.
    pub(super) fn rested(&mut self) {
        self.begun = Instant::now();
        self.giving_way_since = None;
    }

    /// A batch is made: rests as long as ingest needs it.
    pub(super) fn give_way(&mut self) {
        let rest = self.rest(Instant::now());
        if !rest.is_zero() {
            std::thread::sleep(rest);
        }
        self.begun = Instant::now();
    }

    /// How long to rest after a batch that is ready `now`.
    fn rest(&mut self, now: Instant) -> Duration {
        if (self.load)() < BUSY {
            return Duration::ZERO;
        }
        let since = *self.giving_way_since.get_or_insert(now);
        if now.saturating_duration_since(since) > LENIENCE {
            return Duration::ZERO;
        }
        (now.saturating_duration_since(self.begun) * REST).min(LONGEST_REST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn events_give_way_to_a_loaded_ingest_but_not_for_ever() {
        let loaded = Arc::new(AtomicBool::new(false));
        let shown = loaded.clone();
        let mut pace = Pace::new(move || if shown.load(Ordering::Relaxed) { 0.5 } else { 0.06 });
        let begun = pace.begun;
        let after = |ms: u64| begun + Duration::from_millis(ms);
        assert_eq!(pace.rest(after(10)), Duration::ZERO);
        loaded.store(true, Ordering::Relaxed);
        assert_eq!(pace.rest(after(10)), Duration::from_millis(30));
        assert_eq!(pace.rest(after(500)), LONGEST_REST);
        assert_eq!(pace.rest(after(60_011)), Duration::ZERO, "a minute is enough");
        pace.rested();
        assert!(!pace.rest(after(60_200)).is_zero() && pace.giving_way_since.is_some());
    }
}
