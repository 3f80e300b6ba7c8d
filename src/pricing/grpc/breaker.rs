//! A circuit breaker: a service that keeps failing is not called for a while, then tried with one call.
//!
//! | state | admits | becomes |
//! |---|---|---|
//! | closed | everything | open, after this many failures in a row |
//! | open | nothing | half-open, once its time is over and a call is made |
//! | half-open | nothing but the one trial | closed if the trial succeeds, open if it fails or is lost |
//!
//! Pure: the time is given, as the time since some fixed moment.

use std::time::Duration;

/// When a breaker opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row that open it.
    pub failures: u32,
    /// How long it stays open.
    pub open: Duration,
}

/// What a breaker admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything.
    Closed,
    /// One trial.
    HalfOpen,
    /// Nothing.
    Open,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed,
    Open {
        until: Duration,
    },
    /// A trial is under way; if it has no outcome by `until`, it is lost.
    HalfOpen {
        until: Duration,
    },
}

/// A call is not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shut {
    /// Time until a trial will be.
    pub(super) retry_in: Duration,
    /// Failures in a row.
    pub(super) failures: u32,
}

/// The breaker of one service.
#[derive(Debug)]
pub(super) struct Breaker {
    settings: BreakerSettings,
    state: State,
    failures: u32,
}

impl Breaker {
    pub(super) fn new(settings: BreakerSettings) -> Self {
        Self { settings, state: State::Closed, failures: 0 }
    }

    /// Admits a call at `now`, whose outcome must be reported.
    pub(super) fn admit(&mut self, now: Duration) -> Result<(), Shut> {
        match self.state {
            State::Closed => Ok(()),
            State::Open { until } | State::HalfOpen { until } if now < until => {
                Err(Shut { retry_in: until.saturating_sub(now), failures: self.failures })
            }
            State::Open { .. } | State::HalfOpen { .. } => {
                self.state = State::HalfOpen { until: now + self.settings.open };
                Ok(())
            }
        }
    }

    /// An admitted call was answered.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.state = State::Closed;
    }

    /// An admitted call failed at `now`.
    pub(super) fn failed(&mut self, now: Duration) {
        self.failures = self.failures.saturating_add(1);
        let opens = match self.state {
            State::Closed => self.failures >= self.settings.failures,
            State::HalfOpen { .. } => true,
            // A call that was admitted before it opened: it is open as long as it would have been.
            State::Open { .. } => false,
        };
        if opens {
            self.state = State::Open { until: now + self.settings.open };
        }
    }

    /// What it admits.
    pub(super) fn state(&self) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
            State::Open { .. } => BreakerState::Open,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const OPEN: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::new(BreakerSettings { failures: 3, open: OPEN });
        for _ in 0..3 {
            breaker.admit(at(0)).unwrap();
            breaker.failed(at(0));
        }
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it() {
        let mut breaker = Breaker::new(BreakerSettings { failures: 3, open: OPEN });
        for _ in 0..10 {
            breaker.failed(at(1));
            breaker.failed(at(1));
            breaker.succeeded();
        }
        assert_eq!((breaker.admit(at(2)), breaker.state()), (Ok(()), BreakerState::Closed));
        let mut breaker = opened();
        assert_eq!(breaker.admit(at(4)), Err(Shut { retry_in: at(6), failures: 3 }));
        assert_eq!(breaker.state(), BreakerState::Open);
    }

    #[test]
    fn one_trial_decides() {
        let mut breaker = opened();
        assert_eq!(breaker.admit(at(10)), Ok(()));
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert!(breaker.admit(at(11)).is_err(), "one trial only");
        breaker.failed(at(12));
        assert_eq!(breaker.state(), BreakerState::Open);
        assert_eq!(breaker.admit(at(21)), Err(Shut { retry_in: at(1), failures: 4 }));
        assert_eq!(breaker.admit(at(22)), Ok(()));
        breaker.succeeded();
        assert_eq!(breaker.state(), BreakerState::Closed);
        breaker.failed(at(23));
        assert_eq!(breaker.state(), BreakerState::Closed, "failures count anew");
    }

    #[test]
    fn a_lost_trial_does_not_keep_it_shut() {
        let mut breaker = opened();
        breaker.admit(at(10)).unwrap();
        assert!(breaker.admit(at(19)).is_err());
        assert_eq!(breaker.admit(at(20)), Ok(()));
    }

    #[test]
    fn late_failures_do_not_prolong_it() {
        let mut breaker = opened();
        breaker.failed(at(9));
        assert_eq!(breaker.admit(at(10)), Ok(()));
    }
}
