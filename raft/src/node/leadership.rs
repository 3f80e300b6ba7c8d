//! Who leads, as workers have to see it.
//!
//! openraft calls a node leader as soon as it is elected. Work may only begin when a quorum's lease holds
//! (before that the node refuses to write) and when everything that earlier leaders committed is applied
//! here, because workers read from the state what is to be done. Both are said by openraft; here they are
//! checked every few milliseconds, because a lease ends without any event. A replica that is its cluster's
//! only voter is a quorum by itself: nobody acknowledges it, and its lease holds as long as it leads.
//!
//! Health and figures say the same ([`Node::metrics`](super::Node::metrics)).
//!
//! Even so, what is reported here is never a fence: a command carries the term in which it was proposed, and the
//! log decides.

use crate::failure::Failure;
use crate::types::{LogId, Raft, TypeConfig};
use futures::FutureExt;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::Fatal;
use openraft::{Instant, RaftMetrics};
use std::time::Duration;
use tokio::sync::watch;

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leadership {
    /// This replica.
    Leader {
        /// Its term.
        term: u64,
    },
    /// Another replica, or none that is known.
    Follower {
        /// The leader, if known.
        leader: Option<u64>,
        /// The current term.
        term: u64,
    },
    /// This replica no longer takes part.
    Stopped {
        /// Why.
        reason: String,
    },
}

pub(super) struct Sources {
    pub raft: Raft,
    pub node_id: u64,
    pub lease: Duration,
    pub applied: watch::Receiver<Option<LogId>>,
    pub failure: Failure,
}

/// For how long no quorum has acknowledged this leader: not at all if it is one by itself, unknown if none ever did.
pub(super) fn since_quorum(metrics: &RaftMetrics<TypeConfig>, node_id: u64) -> Option<Duration> {
    if metrics.membership_config.membership().voter_ids().eq([node_id]) {
        return Some(Duration::ZERO);
    }
    metrics.last_quorum_acked.map(|at| at.elapsed())
}

impl Sources {
    fn look(&self) -> Leadership {
        if let Some(reason) = self.failure.reason() {
            return Leadership::Stopped { reason: reason.to_owned() };
        }
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        if let Err(error) = &metrics.running_state {
            return self.stopped(error);
        }
        let term = metrics.current_term;
        let own = metrics.state.is_leader();
        let lease_stands = since_quorum(&metrics, self.node_id).is_some_and(|since| since < self.lease);
        let caught_up = self.applied.borrow().as_ref().is_some_and(|last| last.leader_id.term == term);
        if own && lease_stands && caught_up {
            return Leadership::Leader { term };
        }
        let leader = metrics.current_leader.filter(|leader| *leader != self.node_id);
        Leadership::Follower { leader, term }
    }

    /// Raft has ended. Unless that was requested, it is a failure like any other.
    fn stopped(&self, error: &Fatal<TypeConfig>) -> Leadership {
        if !matches!(error, Fatal::Stopped) {
            self.failure.record(format!("Raft has stopped: {error}"));
        }
        Leadership::Stopped { reason: self.failure.reason().map_or_else(|| error.to_string(), str::to_owned) }
    }
}

/// Publishes who leads until this replica has stopped; stops Raft if the replica failed.
pub(super) async fn follow(sources: Sources, says: watch::Sender<Leadership>) {
    let mut core = sources.raft.metrics();
    loop {
        let mut now = sources.look();
        // The writer of the metrics ended without an error.
        if !matches!(now, Leadership::Stopped { .. }) && matches!(core.changed().now_or_never(), Some(Err(_)))
        {
            now = sources.stopped(&Fatal::Panicked);
        }
        let stopped = matches!(now, Leadership::Stopped { .. });
        says.send_if_modified(|said| {
            let changed = *said != now;
            if changed {
                tracing::info!(node = sources.node_id, leadership = ?now, "leadership");
                *said = now;
            }
            changed
        });
        if stopped {
            if let Err(error) = sources.raft.shutdown().await {
                tracing::warn!(%error, "Raft did not stop in order");
            }
            return;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
