//! Membership, leader transfer, restriction.

use super::{AdminError, Node};
use crate::restriction::Cause;
use crate::types::TypeConfig;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, Fatal, InitializeError, RaftError};
use openraft::{BasicNode, ChangeMembers};
use std::collections::{BTreeMap, BTreeSet};

impl Node {
    pub(super) async fn begin_cluster(&self) -> Result<bool, AdminError> {
        let peers = self.0.config.peers.iter();
        let members: BTreeMap<u64, BasicNode> = peers.map(|(id, at)| (*id, BasicNode::new(at))).collect();
        match self.0.raft.initialize(members).await {
            Ok(()) => Ok(true),
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(false),
            Err(RaftError::APIError(error)) => Err(AdminError::Refused(error.to_string())),
            Err(RaftError::Fatal(error)) => Err(self.stopped(&error)),
        }
    }

    /// Gives leadership to the voter that has most of the log. Only the leader can.
    pub async fn step_down(&self) -> Result<(), AdminError> {
        let to = {
            let metrics = self.0.raft.metrics();
            let metrics = metrics.borrow_watched();
            let voters: BTreeSet<u64> = metrics.membership_config.membership().voter_ids().collect();
            let others = metrics.replication.iter().flatten().filter(|(id, _)| voters.contains(id));
            others
                .filter(|(id, _)| **id != self.node_id())
                .max_by_key(|(_, matched)| **matched)
                .map(|(id, _)| *id)
        };
        match to {
            Some(to) => self.transfer_leader(to).await,
            None => Err(self.not_leader()),
        }
    }

    /// Gives leadership to `to`, a voter. Only the leader can. Returns when the transfer has begun.
    pub async fn transfer_leader(&self, to: u64) -> Result<(), AdminError> {
        {
            let metrics = self.0.raft.metrics();
            let metrics = metrics.borrow_watched();
            if !metrics.state.is_leader() {
                drop(metrics);
                return Err(self.not_leader());
            }
            if !metrics.membership_config.membership().voter_ids().any(|id| id == to) {
                return Err(AdminError::Refused(format!("node {to} is not a voter")));
            }
        }
        self.0.raft.trigger().transfer_leader(to).await.map_err(|error| self.stopped(&error))
    }

    /// Makes a snapshot now. Returns when that has begun.
    pub async fn trigger_snapshot(&self) -> Result<(), AdminError> {
        self.0.raft.trigger().snapshot().await.map_err(|error| self.stopped(&error))
    }

    /// Lets this replica stand for election, or not. It votes all the same.
    pub fn allow_election(&self, allowed: bool) {
        self.0.raft.runtime_config().elect(allowed);
    }

    /// Adds a replica that receives the log but does not vote. Returns when that is committed, not when
    /// the replica has caught up: see the replication in [`metrics`](Self::metrics).
    pub async fn add_learner(&self, id: u64, address: &str) -> Result<(), AdminError> {
        self.check_command(self.0.raft.add_learner(id, BasicNode::new(address), false).await)
    }

    /// Makes a learner a voter.
    pub async fn promote(&self, id: u64) -> Result<(), AdminError> {
        let change = ChangeMembers::AddVoterIds(BTreeSet::from([id]));
        self.check_command(self.0.raft.change_membership(change, false).await)
    }

    /// Removes a replica, voter or learner.
    pub async fn remove(&self, id: u64) -> Result<(), AdminError> {
        let voter = {
            let metrics = self.0.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.membership_config.membership().voter_ids().any(|voter| voter == id)
        };
        let ids = BTreeSet::from([id]);
        let change = if voter { ChangeMembers::RemoveVoters(ids) } else { ChangeMembers::RemoveNodes(ids) };
        self.check_command(self.0.raft.change_membership(change, false).await)
    }

    /// Refuses commands at this replica until [`unrestrict`](Self::unrestrict).
    pub fn restrict(&self, reason: &str) {
        self.0.restrictions.begin(Cause::Order, reason, 0);
    }

    /// Lifts what [`restrict`](Self::restrict) began.
    pub fn unrestrict(&self) {
        self.0.restrictions.end(Cause::Order);
    }

    fn check_command<T>(
        &self,
        result: Result<T, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>,
    ) -> Result<(), AdminError> {
        match result {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Err(self.not_leader()),
            Err(RaftError::APIError(error)) => Err(AdminError::Refused(error.to_string())),
            Err(RaftError::Fatal(error)) => Err(self.stopped(&error)),
        }
    }

    fn not_leader(&self) -> AdminError {
        AdminError::NotLeader { leader: self.leader() }
    }

    fn stopped(&self, error: &Fatal<TypeConfig>) -> AdminError {
        AdminError::Stopped { reason: self.failure().unwrap_or_else(|| error.to_string()) }
    }
}
