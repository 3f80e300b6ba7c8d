//! A history: three replicas, clients, and what goes wrong.

use crate::sim::checks::Checks;
use crate::sim::commands::{self, Draw, START_MS};
use crate::sim::network::Network;
use crate::sim::replica::{Disks, Replica};
use crate::sim::state::{Sim, State};
use cdr_raft::CommandBytes;
use openraft::BasicNode;
use openraft::async_runtime::AsyncRuntime;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::type_config::TypeConfigExt;
use openraft_rt_sim::SimRuntime;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::BTreeMap;
use std::time::Duration;

const NODES: u64 = 3;
const STEPS: u64 = 400;

/// Milliseconds of the ledger's time in one of virtual time: hours pass within a history.
const SPEED: i64 = 1000;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    pub virtual_ms: u64,
    pub acknowledged: u64,
    pub crashes: u64,
    pub snapshots_installed: u64,
    pub rows: u64,
    pub digest: [u8; 32],
}

struct Simulation {
    seed: u64,
    rng: SmallRng,
    network: Network,
    checks: Checks,
    replicas: BTreeMap<u64, Replica>,
    began: openraft_rt_sim::SimInstant,
    lives: u64,
    proposals: u64,
}

/// Runs the history of a seed to its end and checks it.
pub fn run(seed: u64) -> Outcome {
    let mut runtime = SimRuntime::with_seed(seed);
    runtime.block_on(async move {
        let mut simulation = Simulation::begin(seed).await;
        for _ in 0..STEPS {
            simulation.propose();
            let pause = simulation.rng.random_range(1..60);
            SimRuntime::sleep(Duration::from_millis(pause)).await;
            simulation.disturb().await;
        }
        simulation.end().await
    })
}

impl Simulation {
    async fn begin(seed: u64) -> Self {
        let mut simulation = Self {
            seed,
            rng: SmallRng::seed_from_u64(seed ^ 0x000C_0FFE),
            network: Network::new(seed + 1),
            checks: Checks::default(),
            replicas: BTreeMap::new(),
            began: Sim::now(),
            lives: 0,
            proposals: 0,
        };
        for node in 1..=NODES {
            simulation.boot(node, Disks::default()).await;
        }
        let members: BTreeMap<u64, BasicNode> =
            (1..=NODES).map(|node| (node, BasicNode::new("sim"))).collect();
        let first = simulation.replicas[&1].raft.clone();
        first.initialize(members).await.unwrap();
        // The first membership is durable once it is applied.
        first.wait(Some(Duration::from_secs(60))).applied_index_at_least(Some(1), "begin").await.unwrap();
        simulation
    }

    async fn boot(&mut self, node: u64, disks: Disks) {
        self.lives += 1;
        let seed = self.seed * 1000 + self.lives;
        let replica = Replica::boot(node, disks, &self.network, &self.checks, seed).await;
        self.replicas.insert(node, replica);
    }

    fn elapsed_ms(&self) -> u64 {
        (Sim::now() - self.began).as_millis() as u64
    }

    /// Whoever believes to lead proposes something, as a client would see it: without waiting.
    fn propose(&mut self) {
        let leaders: Vec<u64> = self
            .replicas
            .iter()
            .filter(|(_, replica)| replica.raft.is_leader())
            .map(|(node, _)| *node)
            .collect();
        if leaders.is_empty() {
            return;
        }
        let leader = &self.replicas[&leaders[self.rng.random_range(0..leaders.len())]];
        let term = leader.raft.metrics().borrow_watched().current_term;
        self.proposals += 1;
        let draw = Draw {
            messages: self.rng.random_range(1..6),
            seal: self.rng.random_range(0..12) == 0,
            ahead: if self.rng.random_range(0..10) == 0 { self.rng.random_range(1..6) } else { 0 },
            number: self.proposals,
        };
        let now_ms = START_MS + self.elapsed_ms() as i64 * SPEED;
        let command = commands::next(&leader.machine.state.lock().unwrap().ledger, term, now_ms, draw);
        let (raft, checks) = (leader.raft.clone(), self.checks.clone());
        SimRuntime::spawn(async move {
            if let Ok(written) = raft.client_write(CommandBytes(command.clone())).await {
                checks.acknowledged(written.log_id, command, written.data);
            }
        });
    }

    async fn disturb(&mut self) {
        let node = self.rng.random_range(1..=NODES);
        let other = node % NODES + 1;
        match self.rng.random_range(0..40) {
            0 => {
                self.network.cut(node, other);
                self.network.cut(other, node);
            }
            1 => self.network.cut(node, other),
            2 => {
                for other in (1..=NODES).filter(|other| *other != node) {
                    self.network.cut(node, other);
                    self.network.cut(other, node);
                }
            }
            3..=5 => self.network.heal(),
            6 | 7 => self.crash(&[node]).await,
            8 if self.rng.random_range(0..4) == 0 => self.crash(&[1, 2, 3]).await,
            9 | 10 => {
                let raft = &self.replicas[&node].raft;
                let _ = raft.trigger().snapshot().await;
                let snapshot = raft.metrics().borrow_watched().snapshot.map_or(0, |last| last.index());
                let _ = raft.trigger().purge_log(snapshot.saturating_sub(3)).await;
            }
            _ => {}
        }
    }

    async fn crash(&mut self, nodes: &[u64]) {
        let mut disks = Vec::new();
        for node in nodes {
            if let Some(replica) = self.replicas.remove(node) {
                self.network.leave(*node);
                disks.push((*node, replica.crash().await));
            }
        }
        let pause = self.rng.random_range(10..2000);
        SimRuntime::sleep(Duration::from_millis(pause)).await;
        for (node, disks) in disks {
            self.boot(node, disks).await;
        }
    }

    /// Heals everything, waits until all replicas have applied everything, and checks.
    async fn end(mut self) -> Outcome {
        self.network.heal();
        let mut last = None;
        for _ in 0..300 {
            SimRuntime::sleep(Duration::from_millis(100)).await;
            let Some(leader) = self.replicas.values().find(|replica| replica.raft.is_leader()) else {
                continue;
            };
            if let Ok(written) = leader.raft.write_blank().await {
                last = Some(written.log_id.index());
                break;
            }
        }
        let last = last.expect("the cluster does not heal");
        // Late commands of clients may still be committed.
        SimRuntime::sleep(Duration::from_secs(10)).await;
        let mut end = last;
        for replica in self.replicas.values() {
            end = end.max(replica.raft.metrics().borrow_watched().last_log_index.unwrap_or(0));
        }
        for replica in self.replicas.values() {
            let wait = replica.raft.wait(Some(Duration::from_secs(60)));
            wait.applied_index_at_least(Some(end), "converge").await.expect("a replica does not catch up");
        }
        let states: Vec<State> =
            self.replicas.values().map(|replica| replica.machine.state.lock().unwrap().clone()).collect();
        self.checks.finish(&states);
        let outcome = Outcome {
            virtual_ms: self.elapsed_ms(),
            acknowledged: self.checks.acknowledgements(),
            crashes: self.lives - NODES,
            snapshots_installed: self.checks.installations(),
            rows: states[0].ledger.rows.len() as u64,
            digest: states[0].digest,
        };
        for replica in std::mem::take(&mut self.replicas).into_values() {
            let _ = replica.raft.shutdown().await;
        }
        outcome
    }
}
