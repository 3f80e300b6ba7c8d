//! When to make a snapshot and purge the log.
//!
//! openraft never makes a snapshot by itself here. A snapshot is made when enough was applied since the
//! last one, or when the log takes too much space; the machine is flushed first. The log is purged only up
//! to a snapshot, and leaves the configured number of entries before it for replicas that were away for a
//! moment.

use crate::failure::Failure;
use crate::log::LogStore;
use crate::runtime::blocking;
use crate::state_machine::StateMachine;
use crate::types::{LogId, Raft};
use openraft::async_runtime::watch::WatchReceiver;
use std::time::Duration;
use tokio::time::{Instant, sleep};

const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A snapshot that takes longer is no longer waited for.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(600);

/// How large the log may become.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogLimits {
    pub snapshot_every_entries: u64,
    pub snapshot_every_bytes: u64,
    pub keep_entries: u64,
}

pub(super) struct Policy {
    pub raft: Raft,
    pub state_machine: StateMachine,
    pub log: LogStore,
    pub failure: Failure,
    pub limits: LogLimits,
}

/// Indexes, 0 for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progress {
    applied: u64,
    snapshot: u64,
    purged: u64,
    log_entries: u64,
    log_bytes: u64,
}

impl LogLimits {
    fn wants_snapshot(&self, progress: Progress) -> bool {
        let since = progress.applied.saturating_sub(progress.snapshot);
        let grown = since >= self.keep(progress).max(1) && progress.log_bytes >= self.snapshot_every_bytes;
        since >= self.snapshot_every_entries || grown
    }

    /// Entries to keep before a snapshot: fewer if they are large.
    fn keep(&self, progress: Progress) -> u64 {
        let entry_bytes = (progress.log_bytes / progress.log_entries.max(1)).max(1);
        self.keep_entries.min(self.snapshot_every_bytes / 2 / entry_bytes)
    }

    fn purge_upto(&self, progress: Progress) -> Option<u64> {
        let upto = progress.snapshot.min(progress.applied).saturating_sub(self.keep(progress));
        (upto > progress.purged).then_some(upto)
    }
}

impl Policy {
    fn progress(&self) -> Progress {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        Progress {
            applied: metrics.last_applied.as_ref().map_or(0, LogId::index),
            snapshot: metrics.snapshot.as_ref().map_or(0, LogId::index),
            purged: metrics.purged.as_ref().map_or(0, LogId::index),
            log_entries: self.log.entry_count(),
            log_bytes: self.log.bytes(),
        }
    }

    /// Flushes the machine and makes a snapshot. False if that failed and Raft has stopped or will.
    async fn make_snapshot(&self, before: Progress) -> bool {
        if let Err(error) = blocking(|| self.state_machine.flush()) {
            self.failure.record(format!("the state machine cannot be flushed: {error}"));
            return false;
        }
        if self.raft.trigger().snapshot().await.is_err() {
            return false;
        }
        let deadline = Instant::now() + SNAPSHOT_PATIENCE;
        while self.progress().snapshot <= before.snapshot {
            if Instant::now() >= deadline || self.failure.reason().is_some() {
                return false;
            }
            sleep(Duration::from_millis(20)).await;
        }
        true
    }
}

/// Looks after the size of the log until Raft stops.
pub(super) async fn keep(policy: Policy) {
    while policy.failure.reason().is_none() {
        let progress = policy.progress();
        if policy.limits.wants_snapshot(progress) && policy.make_snapshot(progress).await {
            tracing::info!(snapshot = policy.progress().snapshot, "a snapshot was made");
        }
        if let Some(upto) = policy.limits.purge_upto(policy.progress())
            && policy.raft.trigger().purge_log(upto).await.is_err()
        {
            return;
        }
        sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: LogLimits =
        LogLimits { snapshot_every_entries: 100, snapshot_every_bytes: 1 << 20, keep_entries: 10 };

    fn progress(applied: u64, snapshot: u64, purged: u64, log_bytes: u64) -> Progress {
        Progress { applied, snapshot, purged, log_entries: applied - purged, log_bytes }
    }

    #[test]
    fn a_snapshot_is_made_by_entries_or_by_size() {
        assert!(!LIMITS.wants_snapshot(progress(99, 0, 0, 1000)));
        assert!(LIMITS.wants_snapshot(progress(100, 0, 0, 1000)));
        assert!(!LIMITS.wants_snapshot(progress(150, 100, 90, 1000)));
        assert!(LIMITS.wants_snapshot(progress(150, 100, 90, 1 << 20)));
    }

    #[test]
    fn the_log_is_purged_up_to_a_snapshot_minus_what_is_kept() {
        assert_eq!(LIMITS.purge_upto(progress(150, 0, 0, 1000)), None);
        assert_eq!(LIMITS.purge_upto(progress(150, 100, 0, 1000)), Some(90));
        assert_eq!(LIMITS.purge_upto(progress(150, 100, 90, 1000)), None);
        // 100 KB an entry: only five may stay
        assert_eq!(LIMITS.purge_upto(progress(150, 100, 0, 150 * 100_000)), Some(95));
    }
}
