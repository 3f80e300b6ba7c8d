//! A replica alone, for tests of what leads: store, Raft node and a proposer of its term.

use crate::clock::Clock;
use crate::proposer::Proposer;
use cdr_core::command::{ClockKind, Command, Initialize, Reply};
use cdr_raft::{Leadership, Node, NodeConfig};
use cdr_storage::{Store, StoreOptions};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// Name of the cluster.
pub const CLUSTER: &str = "test";

/// A leading replica whose ledger has begun, without operators and keys.
pub struct TestNode {
    pub proposer: Proposer,
    _dir: TempDir,
}

impl TestNode {
    /// Starts it and begins the ledger in the hour that `clock` shows.
    pub async fn begin(clock: Clock) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options =
            StoreOptions { dedup_filter_bytes: 1 << 20, min_free_bytes: 0, ..StoreOptions::default() };
        let store = Store::open(&dir.path().join("store"), options).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (peers, shown) = (BTreeMap::from([(1, address.to_string())]), clock.clone());
        let now = Arc::new(move || shown.now().0);
        let config = NodeConfig::new(1, CLUSTER, dir.path().join("raft"), address, peers, now);
        let node = Node::start_on(config, Arc::new(store.clone()), listener).await.unwrap();
        node.initialize().await.unwrap();
        let mut leadership = node.leadership();
        let led = leadership.wait_for(|state| matches!(state, Leadership::Leader { .. }));
        tokio::time::timeout(Duration::from_secs(20), led).await.unwrap().unwrap();
        let (kind, term) = (clock.kind(), node.term());
        let proposer = Proposer::new(node, store, clock, term, 1_000);
        assert_eq!(proposer.propose(Command::Fence).await.unwrap(), Reply::Fenced { term });
        let initialize = Initialize {
            cluster_id: CLUSTER,
            zone: "Asia/Kabul",
            clock: kind,
            dedup_horizon_hours: 24,
            hash_key: [1; 16],
            rows: cdr_core::command::Drafts::default(),
        };
        assert_eq!(kind, ClockKind::Replay);
        assert_eq!(proposer.propose(Command::Initialize(initialize)).await.unwrap(), Reply::Initialized);
        Self { proposer, _dir: dir }
    }
}
