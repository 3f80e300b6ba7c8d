//! Numbers for the outside.

use super::{Leadership, Node, leadership};
use openraft::async_runtime::watch::WatchReceiver;
use std::collections::BTreeMap;
use std::time::SystemTime;

/// State of a replica that was elected and does not lead.
const UNCONFIRMED: &str = "Unconfirmed";

/// Numbers for the outside. Indexes are those of the Raft log, 0 for none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeMetrics {
    /// This replica.
    pub node_id: u64,
    /// `Leader`, `Follower`, `Candidate`, `Learner` or `Shutdown`; `Unconfirmed` where a replica was elected and no
    /// quorum's lease holds, or not everything from before its term is applied: it does not do a leader's work yet, or
    /// no longer.
    pub state: String,
    /// True exactly while this replica does a leader's work, as [`Leadership::Leader`] says.
    pub leads: bool,
    /// The current term.
    pub term: u64,
    /// The leader, if known; this replica only while it [`leads`](Self::leads).
    pub leader: Option<u64>,
    /// Last entry in the log.
    pub last_log_index: u64,
    /// Last entry known to be committed.
    pub committed_index: u64,
    /// Last entry applied.
    pub applied_index: u64,
    /// Up to here the log is purged.
    pub purged_index: u64,
    /// Last entry in the newest snapshot.
    pub snapshot_index: u64,
    /// On the leader: entries that each other replica lacks.
    pub replication_lag: BTreeMap<u64, u64>,
    /// For an elected leader: milliseconds since a quorum last acknowledged it.
    pub quorum_acked_ms_ago: Option<u64>,
    /// Voters, with their addresses in the membership.
    pub voters: BTreeMap<u64, String>,
    /// Replicas that receive the log but do not vote.
    pub learners: BTreeMap<u64, String>,
    /// Entries in the log.
    pub log_entries: u64,
    /// Size of the log, in bytes.
    pub log_bytes: u64,
    /// Syncs of the log since the start.
    pub fsyncs: u64,
    /// Time spent in them, in nanoseconds.
    pub fsync_ns: u64,
    /// The longest, in nanoseconds.
    pub longest_fsync_ns: u64,
    /// Operations that shared these syncs.
    pub log_operations: u64,
    /// Bytes written to the log since the start.
    pub log_written_bytes: u64,
    /// Entries read from the log's memory.
    pub log_cache_reads: u64,
    /// Entries read from the log's files.
    pub log_file_reads: u64,
    /// Log writes refused for lack of space.
    pub refused_writes: u64,
    /// Peers and messages refused since the start, by reason.
    pub refused_peers: Vec<(&'static str, u64)>,
    /// When this replica's certificate for the others ends, if it has one.
    pub certificate_ends: Option<SystemTime>,
    /// Why no commands are taken, if so.
    pub restricted: Option<String>,
    /// Why this replica stopped, if it did.
    pub failure: Option<String>,
}

impl NodeMetrics {
    /// True if this replica was elected but does not do a leader's work.
    pub fn is_unconfirmed(&self) -> bool {
        self.state == UNCONFIRMED
    }
}

impl Node {
    /// The present numbers.
    pub fn metrics(&self) -> NodeMetrics {
        let said = self.0.leadership.borrow().clone();
        let leads = matches!(said, Leadership::Leader { .. });
        let leader = self.leader().map(|(leader, _)| leader);
        let receiver = self.0.raft.metrics();
        let raft = receiver.borrow_watched();
        let index =
            |log_id: &Option<crate::types::LogId>| log_id.as_ref().map_or(0, crate::types::LogId::index);
        let last = raft.last_log_index.unwrap_or(0);
        let lag = |(id, matched): (&u64, &Option<_>)| (*id, last.saturating_sub(index(matched)));
        let membership = raft.membership_config.membership();
        let address =
            |id: u64| (id, membership.get_node(&id).map(|node| node.address.clone()).unwrap_or_default());
        let stats = self.0.log.stats();
        NodeMetrics {
            node_id: self.node_id(),
            state: match said {
                Leadership::Leader { .. } => "Leader".to_owned(),
                Leadership::Stopped { .. } => "Shutdown".to_owned(),
                Leadership::Follower { .. } if raft.state.is_leader() => UNCONFIRMED.to_owned(),
                Leadership::Follower { .. } => format!("{:?}", raft.state),
            },
            leads,
            term: raft.current_term,
            leader,
            last_log_index: last,
            committed_index: index(&raft.local_committed),
            applied_index: self.applied_index(),
            purged_index: index(&raft.purged),
            snapshot_index: index(&raft.snapshot),
            replication_lag: raft.replication.iter().flatten().filter(|_| leads).map(lag).collect(),
            quorum_acked_ms_ago: (raft.state.is_leader())
                .then(|| leadership::since_quorum(&raft, self.node_id()))
                .flatten()
                .map(|since| since.as_millis() as u64),
            voters: membership.voter_ids().map(address).collect(),
            learners: membership.learner_ids().map(address).collect(),
            log_entries: self.0.log.entry_count(),
            log_bytes: self.0.log.bytes(),
            fsyncs: stats.syncs(),
            fsync_ns: stats.sync_ns(),
            longest_fsync_ns: stats.longest_sync_ns(),
            log_operations: stats.operations(),
            log_written_bytes: stats.written_bytes(),
            log_cache_reads: stats.cache_reads(),
            log_file_reads: stats.file_reads(),
            refused_writes: stats.refused_writes(),
            refused_peers: self.0.server.refusals.counts(),
            certificate_ends: self.0.security.ends(),
            restricted: self.restriction(),
            failure: self.failure(),
        }
    }
}
