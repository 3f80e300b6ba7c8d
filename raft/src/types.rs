//! The types with which openraft is instantiated.
//!
//! Leader ids are those of standard Raft, one leader per term, because the commands are fenced by their
//! term: a mode with several leaders per term would let two of them pass the same fence.

use crate::identity::Member;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// What a committed command answers.
pub use cdr_core::command::Reply;

/// An encoded command. This crate never looks inside.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandBytes(pub Bytes);

impl fmt::Debug for CommandBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CommandBytes({} bytes)", self.0.len())
    }
}

impl fmt::Display for CommandBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

openraft::declare_raft_types!(
    /// openraft's type configuration.
    #[derive(Serialize, Deserialize)]
    pub TypeConfig:
        D = CommandBytes,
        R = Reply,
        Node = Member,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
);

/// A log entry: a command, a membership or a leader's blank first entry.
pub type Entry = openraft::alias::EntryOf<TypeConfig>;
/// Term and index of an entry.
pub type LogId = openraft::alias::LogIdOf<TypeConfig>;
/// For which node a node voted, and whether a quorum did.
pub type Vote = openraft::alias::VoteOf<TypeConfig>;
/// Voters and learners.
pub type Membership = openraft::Membership<u64, Member>;
/// A membership and the log id at which it was set.
pub type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
/// What a snapshot covers.
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
/// openraft's handle.
pub type Raft = openraft::Raft<TypeConfig, crate::state_machine::StateMachine>;

/// What Raft keeps beside the state, saved by the machine with every apply.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaftMeta {
    /// The last entry applied.
    pub last_applied: Option<LogId>,
    /// The membership in force at that entry.
    pub membership: StoredMembership,
    /// Ids of nodes that were members once and no longer are. They are never reused: a node under one of them is refused.
    pub retired: BTreeSet<u64>,
}

impl RaftMeta {
    /// Applies a membership that was committed at `log_id`.
    pub(crate) fn take_membership(&mut self, log_id: LogId, membership: Membership) {
        let before = self.membership.membership().nodes().map(|(id, _)| *id);
        let gone = before.filter(|id| membership.get_node(id).is_none());
        self.retired.extend(gone);
        self.membership = StoredMembership::new(Some(log_id), membership);
    }

    /// Index of the last entry applied, 0 on an empty state.
    pub fn applied_index(&self) -> u64 {
        self.last_applied.as_ref().map_or(0, LogId::index)
    }
}

/// Memory that an entry uses in caches and messages, in bytes.
pub(crate) fn entry_bytes(entry: &Entry) -> usize {
    const OVERHEAD: usize = 96;
    match &entry.payload {
        openraft::EntryPayload::Normal(command) => OVERHEAD + command.0.len(),
        _ => OVERHEAD,
    }
}
