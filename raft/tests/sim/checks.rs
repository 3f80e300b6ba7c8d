//! What must hold, checked while a history runs and at its end.

use crate::sim::commands;
use crate::sim::state::{LogId, State};
use bytes::Bytes;
use cdr_raft::Reply;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// What the first replica that applied an index had there.
#[derive(Clone, Debug, PartialEq)]
struct Applied {
    log_id: LogId,
    digest: [u8; 32],
    reply: Reply,
}

#[derive(Default)]
struct Inner {
    applied: BTreeMap<u64, Applied>,
    acknowledged: BTreeMap<u64, (LogId, Bytes, Reply)>,
    installed: u64,
}

/// Shared by all replicas and clients.
#[derive(Clone, Default)]
pub struct Checks(Arc<Mutex<Inner>>);

impl Checks {
    /// A replica applied an entry: all replicas must have the same there, in every one of their lives.
    pub fn applied(&self, node: u64, log_id: LogId, digest: [u8; 32], reply: &Reply) {
        let now = Applied { log_id, digest, reply: reply.clone() };
        let mut inner = self.0.lock().unwrap();
        let first = inner.applied.entry(log_id.index()).or_insert_with(|| now.clone()).clone();
        drop(inner);
        assert_eq!(now, first, "node {node} differs at index {}", log_id.index());
    }

    /// A client was told that its command is committed.
    pub fn acknowledged(&self, log_id: LogId, command: Bytes, reply: Reply) {
        let mut inner = self.0.lock().unwrap();
        let before = inner.acknowledged.insert(log_id.index(), (log_id, command, reply));
        drop(inner);
        assert!(before.is_none(), "two commands were acknowledged at {log_id}");
    }

    pub fn installed(&self) {
        self.0.lock().unwrap().installed += 1;
    }

    pub fn acknowledgements(&self) -> u64 {
        self.0.lock().unwrap().acknowledged.len() as u64
    }

    pub fn installations(&self) -> u64 {
        self.0.lock().unwrap().installed
    }

    /// At the end all replicas have applied everything.
    pub fn finish(&self, states: &[State]) {
        let first = &states[0];
        for state in states {
            assert_eq!(state.applied, first.applied, "a replica has applied less");
            assert_eq!(state.digest, first.digest, "replicas differ");
            assert_eq!(state.ledger.rows, first.ledger.rows, "rows differ");
            assert_eq!(state.ledger.seals, first.ledger.seals, "seals differ");
        }
        let inner = self.0.lock().unwrap();
        for (index, (log_id, _, reply)) in &inner.acknowledged {
            let applied = inner.applied.get(index).expect("an acknowledged command is missing");
            assert_eq!((&applied.log_id, &applied.reply), (log_id, reply), "an acknowledged command moved");
        }
        commands::check_rows(&first.ledger);
    }
}
