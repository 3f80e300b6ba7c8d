//! Record ids: UUIDv7 from the clock and the operating system's randomness, drawn in blocks.

use cdr_core::{CdrId, Millis};

/// Draws record ids.
#[derive(Default)]
pub struct IdSource {
    pool: Vec<u8>,
}

/// Bytes drawn from the operating system at once.
const BLOCK_BYTES: usize = 8_000;

impl IdSource {
    /// The next id, carrying the time `at`.
    ///
    /// # Errors
    /// If the operating system gives no random bytes.
    pub fn next(&mut self, at: Millis) -> Result<CdrId, getrandom::Error> {
        let Some(random) = self.pool.split_off_last::<10>() else {
            self.pool.resize(BLOCK_BYTES, 0);
            getrandom::fill(&mut self.pool)?;
            return self.next(at);
        };
        Ok(CdrId::from_parts(at.0, random))
    }
}

trait SplitOffLast {
    fn split_off_last<const N: usize>(&mut self) -> Option<[u8; N]>;
}

impl SplitOffLast for Vec<u8> {
    fn split_off_last<const N: usize>(&mut self) -> Option<[u8; N]> {
        let last = *self.last_chunk::<N>()?;
        self.truncate(self.len() - N);
        Some(last)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn ids_differ_and_carry_their_time() {
        let mut ids = IdSource::default();
        let drawn: HashSet<CdrId> =
            (0..5_000).map(|_| ids.next(Millis(1_776_690_000_123)).unwrap()).collect();
        assert_eq!(drawn.len(), 5_000);
        assert!(drawn.iter().all(|id| id.time_ms() == 1_776_690_000_123));
    }
}
