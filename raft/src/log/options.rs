//! How a log is kept.

use crate::identity::Incarnation;

/// How a log is kept.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Name of the cluster; a log of another one is refused.
    pub cluster: String,
    /// Id of this node; a log of another one is refused.
    pub node_id: u64,
    /// What names the data directory.
    pub incarnation: Incarnation,
    /// Sync to disk before anything is reported done. Without it only a crash of the process is
    /// survived, not one of the machine.
    pub fsync: bool,
    /// Size of a segment file, in bytes.
    pub segment_bytes: u64,
    /// Entries kept in memory for readers, in bytes.
    pub cache_bytes: usize,
    /// Entries given to a reader at once, in bytes (at least one entry is given).
    pub read_bytes: usize,
    /// Shortest time between two writes of `flushed_upto`, in milliseconds.
    pub marker_interval_ms: u64,
}

impl LogOptions {
    /// The usual sizes: segments and cache of 64 MB, reads of 1 MB.
    pub fn new(cluster: impl Into<String>, node_id: u64) -> Self {
        Self {
            cluster: cluster.into(),
            node_id,
            incarnation: Incarnation::default(),
            fsync: true,
            segment_bytes: 64 << 20,
            cache_bytes: 64 << 20,
            read_bytes: 1 << 20,
            marker_interval_ms: 25,
        }
    }
}
