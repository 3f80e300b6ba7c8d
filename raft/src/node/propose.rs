//! Getting a command committed.

use super::{Node, ProposeError};
use crate::restriction::Restrictions;
use crate::types::{CommandBytes, LogId, Reply, TypeConfig};
use bytes::Bytes;
use cdr_core::command::Acknowledged;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, ForwardToLeader, RaftError};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// The largest command, in bytes.
const COMMAND_BYTES: usize = 16 << 20;

/// Pause before a command is offered again to a leader that has no lease yet.
const RETRY_EVERY: Duration = Duration::from_millis(10);

/// A committed command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its index in the Raft log.
    pub index: u64,
    /// The term in which it was proposed.
    pub term: u64,
    /// What the state machine answered.
    pub reply: Reply,
}

/// What an attempt to write came to.
enum Attempt {
    Done(Committed),
    /// Nothing was proposed; another attempt may succeed.
    Again,
    Failed(ProposeError),
}

impl Node {
    /// Proposes a command and waits until it is committed and applied here. Only the leader can; one that
    /// has no lease yet, and a replica that knows no leader, try again for a bounded time.
    pub async fn propose(&self, command: Bytes) -> Result<Committed, ProposeError> {
        if command.len() > COMMAND_BYTES {
            return Err(ProposeError::TooLarge { bytes: command.len(), limit: COMMAND_BYTES });
        }
        self.check_serving()?;
        let config = &self.0.config;
        let start = Instant::now();
        let deadline = start + Duration::from_millis(config.propose_timeout_ms);
        let leader_deadline = deadline.min(start + Duration::from_millis(config.leader_wait_ms));
        let acquired = timeout_at(deadline, self.0.in_flight.acquire()).await;
        let Ok(Ok(_permit)) = acquired else { return Err(ProposeError::Busy) };
        loop {
            let Ok(attempt) = timeout_at(deadline, self.attempt(command.clone())).await else {
                return Err(ProposeError::Unknown { reason: "it was not committed in time".into() });
            };
            match attempt {
                Attempt::Done(committed) => return Ok(committed),
                Attempt::Failed(error) => return Err(error),
                Attempt::Again if Instant::now() >= leader_deadline => {
                    return Err(ProposeError::NotLeader { leader: self.other_leader() });
                }
                Attempt::Again => sleep(RETRY_EVERY).await,
            }
            self.check_serving()?;
        }
    }

    async fn attempt(&self, command: Bytes) -> Attempt {
        match self.0.raft.client_write(CommandBytes(command)).await {
            Ok(written) => Attempt::Done(Committed {
                index: written.log_id.index(),
                term: written.log_id.leader_id.term,
                reply: written.data,
            }),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => self.forwarded(forward),
            Err(RaftError::APIError(error)) => {
                Attempt::Failed(ProposeError::Unknown { reason: error.to_string() })
            }
            Err(RaftError::Fatal(error)) => {
                let reason = self.failure().unwrap_or_else(|| error.to_string());
                Attempt::Failed(ProposeError::Stopped { reason })
            }
        }
    }

    /// What each voter has on disk of the committed entries, as far as this leader knows. Empty elsewhere.
    pub fn acknowledged(&self) -> Vec<Acknowledged> {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        let committed = metrics.local_committed.as_ref().map_or(0, LogId::index);
        let voters = metrics.membership_config.membership();
        let matched = metrics.replication.iter().flatten();
        matched
            .filter(|(node, _)| voters.get_node(node).is_some())
            .filter_map(|(node, matched)| {
                let index = matched.as_ref()?.index().min(committed);
                Some(Acknowledged { node: *node, index })
            })
            .collect()
    }

    fn forwarded(&self, forward: ForwardToLeader<TypeConfig>) -> Attempt {
        match forward.leader_id {
            Some(leader) if leader != self.node_id() => {
                let known = forward.leader_node.map(|node| node.address).unwrap_or_default();
                let leader = Some((leader, self.0.peers.address(leader, &known)));
                Attempt::Failed(ProposeError::NotLeader { leader })
            }
            // No leader, or this one without a lease yet.
            _ => Attempt::Again,
        }
    }

    fn other_leader(&self) -> Option<(u64, String)> {
        self.leader().filter(|(leader, _)| *leader != self.node_id())
    }

    fn check_serving(&self) -> Result<(), ProposeError> {
        if let Some(reason) = self.failure() {
            return Err(ProposeError::Stopped { reason });
        }
        match self.restriction() {
            Some(reason) => Err(ProposeError::Restricted { reason }),
            None => Ok(()),
        }
    }

    /// Why this replica takes no commands at present, if so: a full disk, or [`restrict`](Self::restrict).
    pub fn restriction(&self) -> Option<String> {
        self.0.restrictions.reason()
    }

    /// When and why this replica took no commands, for the one who reports it.
    pub fn restrictions(&self) -> &Restrictions {
        &self.0.restrictions
    }
}
