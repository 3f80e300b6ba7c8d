//! Why a log cannot be opened.

use crate::codec::CodecError;
use std::io;
use std::path::{Path, PathBuf};

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The node may have promised what it no longer knows.
    #[error(
        "the Raft log in {dir} has lost what it had synced ({reason}): this replica must never vote again. \
         Remove its data directory, give it a new node id, and add it to the cluster as a learner"
    )]
    Amnesia {
        /// The log's directory.
        dir: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// Another node's log.
    #[error(
        "the Raft log in {dir} belongs to node {found_node} of cluster {found_cluster:?}, not to node {node} of \
         cluster {cluster:?}: correct the configuration or the data directory"
    )]
    WrongNode {
        /// The log's directory.
        dir: PathBuf,
        /// Cluster in the log.
        found_cluster: String,
        /// Node in the log.
        found_node: u64,
        /// Cluster in the configuration.
        cluster: String,
        /// Node in the configuration.
        node: u64,
    },
    /// Another build's log.
    #[error("{path} is whole, but at {at} {source}")]
    Foreign {
        /// The segment.
        path: PathBuf,
        /// Where.
        at: String,
        /// What is there.
        source: CodecError,
    },
    /// A second process.
    #[error("the Raft log in {0} is in use by another process: stop that one first")]
    InUse(PathBuf),
    /// The operating system refused.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
}

impl LogError {
    /// Wraps an IO error with what was tried.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}
