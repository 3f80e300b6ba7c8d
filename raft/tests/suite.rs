//! openraft's own tests of log and state machine.

use crate::common::machine::TestMachine;
use cdr_raft::failure::Failure;
use cdr_raft::log::{LogOptions, LogStore};
use cdr_raft::state_machine::StateMachine;
use cdr_raft::types::TypeConfig;
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use std::sync::Arc;

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let mut options = LogOptions::new("suite", 0);
        options.segment_bytes = 4 << 10;
        let log = LogStore::open(&dir.path().join("raft-log"), options, Failure::default()).unwrap();
        let machine = Arc::new(TestMachine::default());
        let state = StateMachine::open(machine, &dir.path().join("snapshots"), Failure::default()).unwrap();
        Ok((dir, log, state.tolerating_gaps()))
    }
}

#[test]
fn openrafts_storage_suite() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async { Suite::test_all(Builder).await.unwrap() });
}
