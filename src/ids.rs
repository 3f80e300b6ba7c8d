//! Record ids, UUIDv7 from the clock and the operating system's randomness, and salts, from randomness alone; drawn in
//! blocks.

use cdr_core::personal::Salt;
use cdr_core::row::Drawn;
use cdr_core::rules::SchemaVersion;
use cdr_core::{CdrId, Millis};

/// Draws what is random in a row.
#[derive(Default)]
pub struct IdSource {
    pool: Vec<u8>,
}

/// Bytes drawn from the operating system at once.
const BLOCK_BYTES: usize = 300 * (10 + 16);

impl IdSource {
    /// What the next row of this version gets: an id that carries the time `at`, and a salt.
    ///
    /// # Errors
    /// If the operating system gives no random bytes.
    pub fn next(&mut self, at: Millis, version: SchemaVersion) -> Result<Drawn, getrandom::Error> {
        if self.pool.is_empty() {
            self.pool.resize(BLOCK_BYTES, 0);
            getrandom::fill(&mut self.pool)?;
        }
        let (Some(random), Some(salt)) = (self.pool.split_off_last(), self.pool.split_off_last()) else {
            return Err(getrandom::Error::UNEXPECTED);
        };
        Ok(Drawn { version, cdr_id: CdrId::from_parts(at.0, random), salt: Salt(salt) })
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
    fn ids_and_salts_differ_and_ids_carry_their_time() {
        let mut ids = IdSource::default();
        let mut next = || ids.next(Millis(1_776_690_000_123), SchemaVersion::V3).unwrap();
        let drawn: Vec<Drawn> = (0..5_000).map(|_| next()).collect();
        assert!(drawn.iter().all(|drawn| drawn.version == SchemaVersion::V3));
        let different: HashSet<CdrId> = drawn.iter().map(|drawn| drawn.cdr_id).collect();
        assert_eq!(different.len(), 5_000);
        assert!(different.iter().all(|id| id.time_ms() == 1_776_690_000_123));
        let salts: HashSet<[u8; 16]> = drawn.iter().map(|drawn| drawn.salt.0).collect();
        assert_eq!(salts.len(), 5_000, "no salt is used twice");
    }
}
