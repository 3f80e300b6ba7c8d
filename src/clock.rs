//! The one clock that everything is given: the machine's, or a replay clock that follows the events.
//!
//! A replay clock lets history run through hours and days in seconds with the code that production runs.
//! It never goes back, and once released it ticks on in real time.

use cdr_core::command::ClockKind;
use cdr_core::time::{HOUR_MS, MAX_MILLIS};
use cdr_core::{LedgerState, Millis};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A shared clock. Clones show the same time.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Source>);

#[derive(Debug)]
enum Source {
    System { offset_ms: AtomicI64 },
    Replay { at_ms: AtomicI64, released: OnceLock<Instant> },
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self::skewed(0)
    }

    /// The machine's clock, wrong by `offset_ms`: for rehearsing what a wrong clock does.
    pub fn skewed(offset_ms: i64) -> Self {
        Self(Arc::new(Source::System { offset_ms: AtomicI64::new(offset_ms) }))
    }

    /// A clock that stays at `start` until events move it.
    pub fn replay(start: Millis) -> Self {
        Self(Arc::new(Source::Replay { at_ms: AtomicI64::new(start.0), released: OnceLock::new() }))
    }

    /// The time.
    pub fn now(&self) -> Millis {
        match &*self.0 {
            Source::System { offset_ms } => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
                Millis(since.as_millis() as i64 + offset_ms.load(Ordering::Relaxed))
            }
            Source::Replay { at_ms, released } => {
                let ticked = released.get().map_or(0, |since| since.elapsed().as_millis() as i64);
                Millis(at_ms.load(Ordering::Acquire) + ticked)
            }
        }
    }

    /// What seals record of this clock.
    pub fn kind(&self) -> ClockKind {
        match &*self.0 {
            Source::System { .. } => ClockKind::System,
            Source::Replay { .. } => ClockKind::Replay,
        }
    }

    /// True while events move this clock.
    pub fn follows_events(&self) -> bool {
        matches!(&*self.0, Source::Replay { released, .. } if released.get().is_none())
    }

    /// Moves a replay clock forward to an event's time; other clocks and earlier times change nothing.
    pub fn observe(&self, at: Millis) {
        if let Source::Replay { at_ms, released } = &*self.0
            && released.get().is_none()
        {
            at_ms.fetch_max(at.0, Ordering::AcqRel);
        }
    }

    /// Sets the machine's clock forward, as far as this process can see.
    #[cfg(test)]
    pub fn skew(&self, by_ms: i64) {
        if let Source::System { offset_ms } = &*self.0 {
            offset_ms.fetch_add(by_ms, Ordering::Relaxed);
        }
    }

    /// Lets a replay clock tick on in real time.
    pub fn release(&self) {
        if let Source::Replay { released, .. } = &*self.0 {
            let _ = released.set(Instant::now());
        }
    }
}

/// How far an event may be ahead of the clock. The ledger remembers messages for as much longer than its horizon.
const MOST_AHEAD_MS: i64 = HOUR_MS;

/// The times that the event of a receipt may have which is recorded at `now`: back to the horizon over which duplicates
/// are recognised, and little ahead of the clock.
pub fn event_times(state: &LedgerState, now: Millis) -> RangeInclusive<Millis> {
    let horizon = state.cluster.as_ref().map_or(0, |cluster| i64::from(cluster.dedup_horizon_hours));
    Millis((now.0 - horizon * HOUR_MS).max(0))..=Millis((now.0 + MOST_AHEAD_MS).min(MAX_MILLIS))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_clock_follows_events_and_never_goes_back() {
        let clock = Clock::replay(Millis(1_000));
        clock.observe(Millis(5_000));
        clock.observe(Millis(4_000));
        assert_eq!(clock.now(), Millis(5_000));
        assert!(clock.follows_events());
        clock.release();
        clock.observe(Millis(9_000_000));
        let now = clock.now();
        assert!((5_000..65_000).contains(&now.0), "{now}");
        assert!(!clock.follows_events());
    }

    #[test]
    fn a_skewed_clock_is_off_by_its_skew() {
        let off = Clock::skewed(7_200_000).now().0 - Clock::system().now().0;
        assert!((7_199_000..=7_201_000).contains(&off), "{off}");
    }
}
