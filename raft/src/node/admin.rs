//! Membership, leader transfer, restriction.

use super::{AdminError, Node};
use crate::identity::{Incarnation, Member};
use crate::net::CallError;
use crate::restriction::Cause;
use crate::roster::Introduction;
use crate::types::TypeConfig;
use openraft::ChangeMembers;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, Fatal, InitializeError, RaftError};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Pause before a founding replica that has not answered is called again.
const FOUNDER_PAUSE: Duration = Duration::from_millis(200);

/// That a replica does not answer is logged once in this many tries.
const FOUNDER_SAID_EVERY: u32 = 50;

/// How long a replica that is to be added may take to answer.
const NEWCOMER_PATIENCE: Duration = Duration::from_secs(5);

impl Node {
    pub(super) async fn begin_cluster(&self) -> Result<bool, AdminError> {
        if self.0.roster.is_formed() {
            return Ok(false);
        }
        self.0.roster.set_initializes();
        let mut members = self.meet_founders().await?;
        // While one was waited for, another may have been emptied: all of them have to be there at once.
        loop {
            let again = self.meet_founders().await?;
            if again == members {
                break;
            }
            members = again;
        }
        match self.0.raft.initialize(members).await {
            Ok(()) => Ok(true),
            Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(false),
            Err(RaftError::APIError(error)) => Err(AdminError::Refused(error.to_string())),
            Err(RaftError::Fatal(error)) => Err(self.stopped(&error)),
        }
    }

    /// Waits until every replica of the cluster that is to be begun has answered.
    async fn meet_founders(&self) -> Result<BTreeMap<u64, Member>, AdminError> {
        let mut members = BTreeMap::new();
        for (id, address) in &self.0.config.peers {
            let incarnation = if *id == self.node_id() {
                self.incarnation()
            } else {
                self.meet_founder(*id, address).await?
            };
            members.insert(*id, Member { address: address.clone(), incarnation });
        }
        Ok(members)
    }

    /// Waits until a replica of the cluster that is to be begun answers.
    async fn meet_founder(&self, id: u64, address: &str) -> Result<Incarnation, AdminError> {
        let mut tries = 0_u32;
        loop {
            if let Some(reason) = self.failure() {
                return Err(AdminError::Stopped { reason });
            }
            match self.0.peers.connect(id, address).await {
                Ok(connection) => return founder(&connection.other),
                Err(CallError::Refused { refusal }) => return Err(AdminError::Refused(refusal.reason)),
                Err(error) if tries.is_multiple_of(FOUNDER_SAID_EVERY) => {
                    tracing::warn!(%error, node = id, "waiting for a replica: the cluster is formed once all of them answer");
                }
                Err(_) => {}
            }
            tries += 1;
            tokio::time::sleep(FOUNDER_PAUSE).await;
        }
    }

    /// Whose log the node has that is to be added: it must answer, be new, and come under an id that was never used.
    async fn meet_newcomer(&self, id: u64, address: &str) -> Result<Incarnation, AdminError> {
        let refused = |error: CallError| AdminError::Refused(error.to_string());
        let meeting = self.0.peers.connect(id, address);
        let met = tokio::time::timeout(NEWCOMER_PATIENCE, meeting).await;
        let late = |_| AdminError::Refused(format!("node {id} at {address} does not answer"));
        let other = met.map_err(late)?.map_err(refused)?.other;
        if let Some(refusal) = self.0.roster.no_member(id, other.incarnation) {
            return Err(AdminError::Refused(refusal.reason));
        }
        if other.is_formed && !self.0.roster.is_member(id) {
            let why =
                format!("node {id} has voted or has entries of its own: empty its data directory first");
            return Err(AdminError::Refused(why));
        }
        let needs = self.0.state_machine.needs();
        if let Some(needs) = needs.unknown_to(other.build) {
            return Err(AdminError::Refused(format!("node {id} can't follow: {needs}")));
        }
        self.0.builds.hear([(id, other.build)].into_iter());
        Ok(other.incarnation)
    }

    /// Gives leadership to the voter that has most of the log. Only the leader can.
    pub async fn step_down(&self) -> Result<(), AdminError> {
        match self.heir(|_| true) {
            Some(to) => self.transfer_leader(to).await,
            None => Err(self.not_leader()),
        }
    }

    /// Before an orderly stop: a leader gives leadership away, so that the others need not wait until they miss it, and waits
    /// for the next one for at most `patience`.
    pub async fn leave_leadership(&self, patience: Duration) {
        if !self.leads() {
            return;
        }
        let Some(heir) = self.heir(|_| true) else { return };
        if let Err(error) = self.transfer_leader(heir).await {
            return tracing::warn!(%error, "leadership can't be given away before the stop");
        }
        let mut metrics = self.0.raft.metrics();
        let followed = metrics
            .wait_until(|metrics| metrics.current_leader.is_some_and(|leader| leader != self.node_id()));
        if tokio::time::timeout(patience, followed).await.is_err() {
            tracing::warn!(to = heir, "nobody took leadership over before the stop");
        }
    }

    /// Gives leadership to a voter that takes commands where this replica does not; false if none is known that would
    /// take more of them. Only the leader can.
    pub async fn hand_over(&self) -> Result<bool, AdminError> {
        if self.stands_still() || !self.0.restrictions.is_own() {
            return Ok(false);
        }
        match self.heir(|id| self.0.space.takes_commands(id)) {
            Some(to) => self.transfer_leader(to).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Of the other voters that are `fit`, the one that has most of the log.
    fn heir(&self, fit: impl Fn(u64) -> bool) -> Option<u64> {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        let voters: BTreeSet<u64> = metrics.membership_config.membership().voter_ids().collect();
        let others = metrics.replication.iter().flatten().filter(|(id, _)| voters.contains(id));
        others
            .filter(|(id, _)| **id != self.node_id() && fit(**id))
            .max_by_key(|(_, matched)| **matched)
            .map(|(id, _)| *id)
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

    /// Lets this replica stand for election, or not. It votes in either case.
    pub fn allow_election(&self, allowed: bool) {
        self.0.raft.runtime_config().elect(allowed);
    }

    /// Adds a replica that receives the log but does not vote. It has to run already; an id that was ever a member
    /// is refused. Returns when that is committed, not when
    /// the replica has caught up: see the replication in [`metrics`](Self::metrics).
    pub async fn add_learner(&self, id: u64, address: &str) -> Result<(), AdminError> {
        if !self.0.raft.metrics().borrow_watched().state.is_leader() {
            return Err(self.not_leader());
        }
        let _unchanged = self.0.membership.lock().await;
        let incarnation = self.meet_newcomer(id, address).await?;
        let member = Member { address: address.to_owned(), incarnation };
        self.check_command(self.0.raft.add_learner(id, member, false).await)
    }

    /// Makes a learner a voter.
    pub async fn promote(&self, id: u64) -> Result<(), AdminError> {
        let _unchanged = self.0.membership.lock().await;
        let in_force = self.0.state_machine.needs().rules;
        if let Some(obstacle) = self.0.builds.obstacle(id, in_force) {
            return Err(AdminError::Refused(obstacle));
        }
        let change = ChangeMembers::AddVoterIds(BTreeSet::from([id]));
        self.check_command(self.0.raft.change_membership(change, false).await)
    }

    /// Removes a replica, voter or learner.
    pub async fn remove(&self, id: u64) -> Result<(), AdminError> {
        let _unchanged = self.0.membership.lock().await;
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

/// The data directory of a replica with which a cluster can be begun.
fn founder(other: &Introduction) -> Result<Incarnation, AdminError> {
    let node = other.node;
    if other.is_formed {
        return Err(AdminError::Refused(format!(
            "node {node} is part of a cluster already, and this replica is empty. If its data directory was emptied, it \
             has to be replaced by a replica under an id that was never used. If the cluster was never formed whole, \
             empty the data directories of all replicas and start over"
        )));
    }
    if other.initializes {
        return Err(AdminError::Refused(format!(
            "node {node} is configured to form the cluster, too: set cluster.initialize at exactly one replica"
        )));
    }
    Ok(other.incarnation)
}
