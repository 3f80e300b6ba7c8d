//! How often processing a message has failed, as far as this leader knows.

use std::collections::HashMap;
use std::time::Duration;

/// Failed attempts after which a message is dead-lettered.
pub(super) const MOST_ATTEMPTS: usize = PAUSES.len() + 1;

/// How long a message waits after its first, second, ... failed attempt.
const PAUSES: [Duration; 4] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(15), Duration::from_secs(30)];

/// What follows from a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    /// How many there were.
    pub count: usize,
    /// When the message is tried again; never, if there were too many.
    pub again_after: Option<Duration>,
}

/// Failed attempts by sequence, of one life of a stream. As many as there are unacknowledged messages at most, which
/// the bus bounds.
#[derive(Debug, Default)]
pub(super) struct Attempts {
    created_ms: i64,
    by_sequence: HashMap<u64, usize>,
}

impl Attempts {
    /// Counts for the stream that was made at `created_ms`; what was counted for another is forgotten.
    pub fn begin(&mut self, created_ms: i64) {
        if self.created_ms != created_ms {
            *self = Self { created_ms, by_sequence: HashMap::new() };
        }
    }

    /// When the stream was made, milliseconds since the epoch.
    pub fn created_ms(&self) -> i64 {
        self.created_ms
    }

    /// Counts a failed attempt.
    pub fn failed(&mut self, sequence: u64) -> Failed {
        let count = self.by_sequence.entry(sequence).or_default();
        *count += 1;
        Failed { count: *count, again_after: PAUSES.get(*count - 1).copied() }
    }

    /// The message is done with.
    pub fn forget(&mut self, sequence: u64) {
        self.by_sequence.remove(&sequence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fifth_failed_attempt_is_the_last() {
        let mut attempts = Attempts::default();
        attempts.begin(7);
        let pauses: Vec<_> = (0..5).map(|_| attempts.failed(3).again_after.map(|p| p.as_secs())).collect();
        assert_eq!(pauses, [Some(1), Some(5), Some(15), Some(30), None]);
        assert_eq!(attempts.failed(4).count, 1, "every message has its own");
        // A failed answer to the bus does not reset the count; an answer does.
        assert_eq!(attempts.failed(3), Failed { count: 6, again_after: None });
        attempts.forget(3);
        assert_eq!(attempts.failed(3).count, 1);
    }

    #[test]
    fn attempts_belong_to_one_life_of_the_stream() {
        let mut attempts = Attempts::default();
        attempts.begin(7);
        attempts.failed(1);
        attempts.begin(7);
        assert_eq!(attempts.failed(1).count, 2, "attached anew");
        attempts.begin(8);
        assert_eq!((attempts.failed(1).count, attempts.created_ms()), (1, 8));
    }
}
