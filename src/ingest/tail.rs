//! Messages that are deleted unread at a stream's end. No later message shows their gap, and none ever does if the stream
//! is recreated: so the end that the bus reports is compared with what was read. That is done at every connect, whenever
//! nothing has come for a while, in quick succession before an hour is sealed, and when an epoch ends.

use cdr_bus::{Bus, BusError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// After this long without a message the end of the stream is checked.
const IDLE: Duration = Duration::from_secs(1);
/// This long before the open hour is over its seal is prepared: what was deleted unread by then, the seal counts as missing.
const BEFORE_SEAL: Duration = Duration::from_secs(1);
/// During that time the end is checked after this long without a message.
const QUICK: Duration = Duration::from_millis(100);

/// Places at a stream's end that are read one by one before anything else is done.
const LOOKED_AT: u64 = 1_000;

/// The last sequence of an epoch that the bus has reported to this process. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct LastNamed(Arc<Mutex<Option<(String, u64)>>>);

impl LastNamed {
    /// The bus named `sequence` as the last one of `epoch`.
    pub(super) fn note(&self, epoch: &str, sequence: u64) {
        let mut named = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut *named {
            Some((known, last)) if known == epoch => *last = sequence.max(*last),
            other => *other = Some((epoch.to_owned(), sequence)),
        }
    }

    /// The last one that it reported of `epoch`; 0 if it was not queried.
    pub(super) fn of(&self, epoch: &str) -> u64 {
        let named = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        named.as_ref().filter(|(known, _)| known == epoch).map_or(0, |(_, last)| *last)
    }
}

/// How long to wait for a message before the stream's end is checked, `left_ms` before the open hour is over. The seal
/// itself never waits for a look, so that a bus that does not answer holds up none; an hour that is over and not yet sealed
/// needs no haste.
pub(super) fn patience(left_ms: i64) -> Duration {
    let Ok(left @ 1..) = u64::try_from(left_ms) else { return IDLE };
    Duration::from_millis(left).saturating_sub(BEFORE_SEAL).clamp(QUICK, IDLE)
}

/// The last sequence up to which the stream holds no message behind `position`; at most `last`, which must have been the
/// stream's end before its consumer had nothing to deliver for a while. The stream begins with `first_sequence`.
pub(super) async fn gone_upto(
    bus: &dyn Bus,
    stream: &str,
    (position, last): (u64, u64),
    first_sequence: u64,
) -> Result<u64, BusError> {
    let mut upto = position.max(last.min(first_sequence.saturating_sub(1)));
    let end = last.min(upto.saturating_add(LOOKED_AT));
    while upto < end && bus.message(stream, upto + 1).await?.is_none() {
        upto += 1;
    }
    Ok(upto)
}

#[cfg(test)]
mod tests;
