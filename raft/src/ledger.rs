//! The ledger's store as the state behind Raft.

use crate::machine::{Machine, MachineCommand, MachineError};
use crate::types::Reply;
use cdr_core::command::Acknowledged;
use cdr_core::history::{Comparison, Mark};
use cdr_core::rules::{Build, Needs};
use cdr_storage::{EntryRef, Store, StoreError};
use std::path::{Path, PathBuf};

impl From<StoreError> for MachineError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Full { .. } => Self::full(error),
            error => Self::new(error),
        }
    }
}

impl Machine for Store {
    fn raft_meta(&self) -> Result<Option<Vec<u8>>, MachineError> {
        Ok(Self::raft_meta(self)?)
    }

    fn apply(
        &self,
        entries: Vec<Option<MachineCommand>>,
        raft_meta: Vec<u8>,
    ) -> Result<Vec<Reply>, MachineError> {
        let refs: Vec<Option<EntryRef<'_>>> = entries
            .iter()
            .map(|entry| {
                entry.as_ref().map(|entry| EntryRef {
                    index: entry.index,
                    term: entry.term,
                    bytes: &entry.bytes,
                })
            })
            .collect();
        Ok(Self::apply(self, &refs, &raft_meta)?)
    }

    fn flush(&self) -> Result<Option<Vec<u8>>, MachineError> {
        Ok(Self::flush(self)?)
    }

    fn checkpoint(&self, into: &Path) -> Result<Vec<u8>, MachineError> {
        Ok(Self::checkpoint(self, into)?)
    }

    fn identity(&self) -> Result<Option<Vec<u8>>, MachineError> {
        Ok(Self::identity(self)?)
    }

    fn keep_identity(&self, identity: &[u8]) -> Result<(), MachineError> {
        Ok(Self::keep_identity(self, identity)?)
    }

    fn build(&self) -> Build {
        Self::build(self)
    }

    fn needs(&self) -> Needs {
        Self::needs(self)
    }

    fn mark(&self) -> Mark {
        self.state().head.applied
    }

    fn compare(&self, theirs: &Mark) -> Comparison {
        Self::compare(self, theirs)
    }

    fn acknowledged(&self) -> Vec<Acknowledged> {
        self.state().head.acknowledged.clone()
    }

    fn check(&self, dir: &Path, files: &[PathBuf]) -> Result<(), MachineError> {
        Ok(Self::check_tables(self, dir, files)?)
    }

    fn install(&self, from: &Path) -> Result<(), MachineError> {
        Ok(Self::install(self, from)?)
    }
}
