//! What the state behind Raft has to be able to do.
//!
//! The state lives elsewhere. Raft needs of it that it applies commands atomically together with
//! Raft's own metadata, that it can say what of it is on disk, and that it can be copied and replaced
//! as a whole. Calls block; they come from a thread that may block.

use crate::types::Reply;
use bytes::Bytes;
use cdr_core::command::Acknowledged;
use cdr_core::history::{Comparison, Mark};
use cdr_core::rules::{Build, Needs};
use std::path::{Path, PathBuf};

/// A committed command and its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineCommand {
    /// Index in the Raft log.
    pub index: u64,
    /// Term of the leader that proposed it.
    pub term: u64,
    /// The encoded command.
    pub bytes: Bytes,
}

/// Why the state machine failed.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct MachineError {
    source: Box<dyn std::error::Error + Send + Sync>,
    full: bool,
}

impl MachineError {
    /// A failure after which the state is unknown: it stops the node from serving.
    pub fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { source: error.into(), full: false }
    }

    /// There is no space, nothing was changed, and the same call may be repeated.
    pub fn full(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { source: error.into(), full: true }
    }

    /// True if there was no space and nothing was changed.
    pub fn is_full(&self) -> bool {
        self.full
    }
}

/// The replicated state. `raft_meta` is opaque to it.
pub trait Machine: Send + Sync + 'static {
    /// The metadata saved by the last [`apply`](Self::apply) or contained in the last
    /// [`install`](Self::install)ed checkpoint; `None` on an empty store.
    fn raft_meta(&self) -> Result<Option<Vec<u8>>, MachineError>;

    /// Applies commands in order in one atomic write that also stores `raft_meta`, and gives one reply
    /// per entry. `None` is an entry without a command (a leader's first entry, a membership). After
    /// [`MachineError::full`] the same call comes again; any other error stops the node from serving.
    fn apply(
        &self,
        entries: Vec<Option<MachineCommand>>,
        raft_meta: Vec<u8>,
    ) -> Result<Vec<Reply>, MachineError>;

    /// Brings everything applied so far to disk and returns the metadata that is now durable: the log
    /// may be purged up to it. `None` on an empty store.
    fn flush(&self) -> Result<Option<Vec<u8>>, MachineError>;

    /// Writes a durable copy of the whole state into the directory `into`, which does not exist yet but
    /// whose parent does, and returns the metadata that the copy contains (nothing if nothing was applied
    /// yet). May run while commands are applied.
    fn checkpoint(&self, into: &Path) -> Result<Vec<u8>, MachineError>;

    /// What [`keep_identity`](Self::keep_identity) kept; `None` where the state was never opened before.
    fn identity(&self) -> Result<Option<Vec<u8>>, MachineError>;

    /// Keeps what names this state's directory, durably and beside the state: an installed checkpoint does not replace it.
    fn keep_identity(&self, identity: &[u8]) -> Result<(), MachineError>;

    /// As which build the state behaves.
    fn build(&self) -> Build;

    /// What a replica has to know to follow this one, or to take over a [`checkpoint`](Self::checkpoint) that was made
    /// before.
    fn needs(&self) -> Needs;

    /// The last command applied, and the history after it.
    fn mark(&self) -> Mark;

    /// Compares another replica's mark with the history of this one.
    fn compare(&self, theirs: &Mark) -> Comparison;

    /// The last committed entry that each node is known to have had on disk.
    fn acknowledged(&self) -> Vec<Acknowledged>;

    /// Reads `files` of the [`checkpoint`](Self::checkpoint) in `dir`, and refuses them if what they hold is damaged.
    fn check(&self, dir: &Path, files: &[PathBuf]) -> Result<(), MachineError>;

    /// Replaces the whole state by the checkpoint in the directory `from`: after a crash in the middle
    /// either the old or the new state is on disk. What is damaged is refused, and the old state stays. Never runs while
    /// commands are applied.
    fn install(&self, from: &Path) -> Result<(), MachineError>;
}
