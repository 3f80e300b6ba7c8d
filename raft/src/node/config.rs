//! The settings of a node.

use super::error::StartError;
use super::policy::LogLimits;
use crate::net::Credentials;
use openraft::{Config, SnapshotPolicy};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The settings of a node.
#[derive(Clone)]
pub struct NodeConfig {
    /// Id of this replica, never used again once its data is lost.
    pub node_id: u64,
    /// Name of the cluster; replicas of other clusters are refused.
    pub cluster: String,
    /// The log goes to `raft-log` below this directory, snapshots to `snapshots`.
    pub data_dir: PathBuf,
    /// Where the Raft port is served. Port 0 picks a free one.
    pub listen: SocketAddr,
    /// Addresses (`host:port`) of the replicas, this one included. They are the voters of a new cluster,
    /// and override the addresses that the membership has.
    pub peers: BTreeMap<u64, String>,
    /// Pause between heartbeats, in milliseconds. Time-outs of calls between replicas follow it.
    pub heartbeat_ms: u64,
    /// Shortest time without a leader after which a replica stands for election, in milliseconds.
    pub election_min_ms: u64,
    /// Longest such time; also the length of a leader's lease, in milliseconds.
    pub election_max_ms: u64,
    /// Commands that may be under way at once; more wait.
    pub max_in_flight: usize,
    /// How long a command may take before its outcome is reported as unknown, in milliseconds.
    pub propose_timeout_ms: u64,
    /// How long a command waits for a leader or its lease before it is refused, in milliseconds.
    pub leader_wait_ms: u64,
    /// How long a linearizable read may take, in milliseconds.
    pub read_timeout_ms: u64,
    /// A snapshot is made when this many entries were applied since the last one.
    pub snapshot_every_entries: u64,
    /// A snapshot is made when the log takes so much space, in bytes.
    pub snapshot_every_bytes: u64,
    /// Entries before the snapshot that stay in the log, so that a replica which was away for a moment
    /// needs no snapshot. Never more than half of `snapshot_every_bytes`.
    pub log_keep_entries: u64,
    /// The node's clock, in milliseconds since the Unix epoch, as the other replicas get to see it.
    pub clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// What this replica presents to the others and whom it trusts; without it, replicas talk in plain text, and on
    /// loopback addresses only.
    pub credentials: Option<Arc<Credentials>>,
    /// Free space on the disk of `data_dir` below which commands are refused, in bytes; 0 for no bound.
    pub min_free_bytes: u64,
    /// Sync the log before anything is acknowledged. Without it an acknowledged command survives the
    /// crash of a process, not that of a machine.
    pub fsync: bool,
}

impl NodeConfig {
    /// The usual times and sizes.
    pub fn new(
        node_id: u64,
        cluster: impl Into<String>,
        data_dir: impl Into<PathBuf>,
        listen: SocketAddr,
        peers: BTreeMap<u64, String>,
        clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    ) -> Self {
        Self {
            node_id,
            cluster: cluster.into(),
            data_dir: data_dir.into(),
            listen,
            peers,
            heartbeat_ms: 200,
            election_min_ms: 1000,
            election_max_ms: 2000,
            max_in_flight: 8,
            propose_timeout_ms: 10_000,
            leader_wait_ms: 4_000,
            read_timeout_ms: 5_000,
            snapshot_every_entries: 20_000,
            snapshot_every_bytes: 1 << 30,
            log_keep_entries: 2_000,
            clock,
            credentials: None,
            min_free_bytes: 0,
            fsync: true,
        }
    }

    /// How long a leader may count on a quorum's last acknowledgement.
    pub(super) fn lease(&self) -> Duration {
        Duration::from_millis(self.election_max_ms)
    }

    pub(super) fn log_limits(&self) -> LogLimits {
        LogLimits {
            snapshot_every_entries: self.snapshot_every_entries.max(1),
            snapshot_every_bytes: self.snapshot_every_bytes,
            keep_entries: self.log_keep_entries,
        }
    }

    pub(super) fn for_openraft(&self) -> Result<Arc<Config>, StartError> {
        if self.max_in_flight == 0 {
            return Err(StartError::Config("at least one command has to be allowed in flight".into()));
        }
        let config = Config {
            cluster_name: self.cluster.clone(),
            heartbeat_interval: self.heartbeat_ms,
            election_timeout_min: self.election_min_ms,
            election_timeout_max: self.election_max_ms,
            // The log gives out at most a megabyte at once; the number of entries does not matter.
            max_payload_entries: 1024,
            max_append_entries: Some(256),
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            enable_pre_vote: Some(true),
            // A leader that restores itself without an election may hold entries that only it ever saw, in
            // places where another leader has put others since: replicas then differ.
            enable_leader_restore: Some(false),
            backoff: "100ms 200ms ...1000ms".into(),
            ..Config::default()
        };
        config.validate().map(Arc::new).map_err(|error| StartError::Config(error.to_string()))
    }
}

impl std::fmt::Debug for NodeConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodeConfig")
            .field("node_id", &self.node_id)
            .field("cluster", &self.cluster)
            .field("data_dir", &self.data_dir)
            .field("listen", &self.listen)
            .field("peers", &self.peers)
            .finish_non_exhaustive()
    }
}
