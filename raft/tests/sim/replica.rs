//! One life of a replica.

use crate::sim::checks::Checks;
use crate::sim::disk::{Contents, Log};
use crate::sim::network::{Alive, Factory, Network};
use crate::sim::state::{Machine, Raft, State};
use openraft::{Config, SnapshotPolicy};
use std::sync::{Arc, Mutex};

/// What survives a crash.
#[derive(Clone, Default)]
pub struct Disks {
    pub log: Contents,
    pub snapshot: Arc<Mutex<Option<State>>>,
}

pub struct Replica {
    pub raft: Raft,
    pub machine: Machine,
    log: Log,
    alive: Alive,
}

impl Replica {
    pub async fn boot(node: u64, disks: Disks, network: &Network, checks: &Checks, seed: u64) -> Self {
        let config = Config {
            heartbeat_interval: 100,
            election_timeout_min: 500,
            election_timeout_max: 1000,
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            enable_pre_vote: Some(true),
            enable_leader_restore: Some(false),
            ..Config::default()
        };
        let log = Log::open(disks.log, seed);
        let machine = Machine::new(node, disks.snapshot, checks.clone());
        let alive = Alive::new(Mutex::new(true));
        let factory = Factory { node, network: network.clone(), alive: Arc::clone(&alive) };
        let config = Arc::new(config.validate().unwrap());
        let raft = Raft::new(node, config, factory, log.clone(), machine.clone()).await.unwrap();
        network.join(node, raft.clone(), Arc::clone(&alive));
        Self { raft, machine, log, alive }
    }

    /// Nothing leaves this replica any more; what is on its disks is left.
    pub async fn crash(self) -> Disks {
        *self.alive.lock().unwrap() = false;
        let log = self.log.crash();
        let snapshot = self.machine.snapshot.lock().unwrap().clone();
        let _ = self.raft.shutdown().await;
        Disks { log, snapshot: Arc::new(Mutex::new(snapshot)) }
    }
}
