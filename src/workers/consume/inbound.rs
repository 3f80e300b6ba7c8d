//! Up to when the DLRs of the inbound stream are in the ledger: a backlog there does not mean that none came.

use crate::proposer::Proposer;
use cdr_bus::{Bus, BusError, StreamInfo};
use cdr_core::{LedgerState, Millis};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Looks at the stream are at least this far apart.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// Follows how far the inbound stream is read, for one term.
pub(super) struct Inbound {
    bus: Arc<dyn Bus>,
    stream: String,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    looked: Option<Instant>,
    /// What the stream held at a time, until that is read.
    unread: Option<(Millis, StreamInfo)>,
    read_upto: Option<Millis>,
}

impl Inbound {
    pub fn new(bus: Arc<dyn Bus>, stream: String) -> Self {
        Self { bus, stream, seen: Mutex::default() }
    }

    /// True if every receipt that came up to `at` is in the ledger, as far as was looked.
    pub fn is_read_upto(&self, at: Millis) -> bool {
        self.seen().read_upto.is_some_and(|upto| upto >= at)
    }

    /// Compares the stream with the ledger.
    pub async fn look(&self, proposer: &Proposer) -> Result<(), BusError> {
        self.settle(&proposer.state());
        let is_early = |looked: Instant| looked.elapsed() < BETWEEN_LOOKS;
        if self.seen().looked.is_some_and(is_early) {
            return Ok(());
        }
        // The time before the answer: whatever came up to then is in it.
        let now = proposer.clock().now();
        let info = match self.bus.stream_info(&self.stream).await {
            Ok(info) => info,
            // It is made when ingest begins.
            Err(BusError::StreamNotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        {
            let mut seen = self.seen();
            seen.looked = Some(Instant::now());
            // An older look is settled sooner; under load the stream is always ahead of the newest one.
            seen.unread.get_or_insert((now, info));
        }
        self.settle(&proposer.state());
        Ok(())
    }

    /// Takes note if what was unread has been read by now.
    fn settle(&self, state: &LedgerState) {
        let mut seen = self.seen();
        let Some((at, info)) = seen.unread else { return };
        let Some(epoch) = state.latest_epoch(&self.stream) else { return };
        if Millis::parse(&epoch.created) != Some(Millis(info.created_ms)) {
            // A stream that was recreated is read again once its epoch is open.
            seen.unread = None;
        } else if info.messages == 0 || epoch.position >= info.last_sequence {
            seen.read_upto = seen.read_upto.max(Some(at));
            seen.unread = None;
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
