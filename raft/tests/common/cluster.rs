//! Clusters of nodes in one process, on ports of the loopback interface.

use super::machine::TestMachine;
use bytes::Bytes;
use cdr_raft::{Committed, Leadership, Machine, Node, NodeConfig, ProposeError, StartError};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Replica {
    pub id: u64,
    pub address: SocketAddr,
    pub machine: Arc<TestMachine>,
    pub node: Option<Node>,
}

pub struct Cluster {
    pub dir: tempfile::TempDir,
    pub peers: BTreeMap<u64, String>,
    pub replicas: BTreeMap<u64, Replica>,
    pub adjust: fn(&mut NodeConfig),
}

/// Waits until `look` finds something.
pub async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn clock() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

impl Cluster {
    /// Starts nodes 1 to `voters` as one cluster.
    pub async fn start(voters: u64, adjust: fn(&mut NodeConfig)) -> Self {
        let cluster = Self::start_unformed(voters, adjust).await;
        assert!(cluster.node(1).initialize().await.unwrap());
        cluster
    }

    /// Starts nodes 1 to `voters`, which are not a cluster yet.
    pub async fn start_unformed(voters: u64, adjust: fn(&mut NodeConfig)) -> Self {
        let mut listeners = BTreeMap::new();
        for id in 1..=voters {
            listeners.insert(id, TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let address = |listener: &TcpListener| listener.local_addr().unwrap().to_string();
        let peers = listeners.iter().map(|(id, listener)| (*id, address(listener))).collect();
        let mut cluster =
            Self { dir: tempfile::tempdir().unwrap(), peers, replicas: BTreeMap::new(), adjust };
        for (id, listener) in listeners {
            let replica = Replica {
                id,
                address: listener.local_addr().unwrap(),
                machine: Arc::new(TestMachine::default()),
                node: None,
            };
            cluster.replicas.insert(id, replica);
            cluster.start_on(id, listener).await.unwrap();
        }
        cluster
    }

    pub fn data_dir(&self, id: u64) -> PathBuf {
        self.dir.path().join(format!("node-{id}"))
    }

    pub fn log_dir(&self, id: u64) -> PathBuf {
        self.data_dir(id).join("raft-log")
    }

    async fn start_on(&mut self, id: u64, listener: TcpListener) -> Result<(), StartError> {
        let config = self.config(id);
        let replica = self.replicas.get_mut(&id).unwrap();
        let machine: Arc<dyn Machine> = replica.machine.clone();
        replica.node = Some(Node::start_on(config, machine, listener).await?);
        Ok(())
    }

    pub fn config(&self, id: u64) -> NodeConfig {
        let address = self.replicas[&id].address;
        let mut config =
            NodeConfig::new(id, "test", self.data_dir(id), address, self.peers.clone(), Arc::new(clock));
        config.heartbeat_ms = 50;
        config.election_min_ms = 300;
        config.election_max_ms = 600;
        (self.adjust)(&mut config);
        config
    }

    /// Adds a replica that is not a member yet.
    pub async fn start_stranger(&mut self, id: u64) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let replica = Replica { id, address, machine: Arc::new(TestMachine::default()), node: None };
        self.replicas.insert(id, replica);
        self.start_on(id, listener).await.unwrap();
        address.to_string()
    }

    /// Stops a replica as a power failure would: its state machine loses what it has not flushed.
    pub async fn stop(&mut self, id: u64) {
        let replica = self.replicas.get_mut(&id).unwrap();
        let node = replica.node.take().unwrap();
        node.shutdown().await;
        drop(node);
        replica.machine.crash();
    }

    /// Empties the data directory of a replica that is stopped.
    pub fn wipe(&self, id: u64) {
        std::fs::remove_dir_all(self.data_dir(id)).unwrap();
        self.replicas[&id].machine.remove();
    }

    pub async fn restart(&mut self, id: u64) -> Result<(), StartError> {
        let address = self.replicas[&id].address;
        let deadline = Instant::now() + PATIENCE;
        let listener = loop {
            match TcpListener::bind(address).await {
                Ok(listener) => break listener,
                Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => panic!("{error}"),
            }
        };
        self.start_on(id, listener).await
    }

    pub fn node(&self, id: u64) -> &Node {
        self.replicas[&id].node.as_ref().unwrap()
    }

    pub fn running(&self) -> impl Iterator<Item = &Replica> {
        self.replicas.values().filter(|replica| replica.node.is_some())
    }

    /// The replica that leads, once there is one.
    pub async fn leader(&self) -> u64 {
        eventually("a leader", || {
            self.running().find_map(|replica| {
                let leadership = replica.node.as_ref().unwrap().leadership();
                let leads = matches!(&*leadership.borrow(), Leadership::Leader { .. });
                leads.then_some(replica.id)
            })
        })
        .await
    }

    /// Proposes at whoever leads.
    pub async fn propose(&self, command: impl Into<Bytes>) -> Committed {
        let command = command.into();
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.node(self.leader().await).propose(command.clone()).await {
                Ok(committed) => return committed,
                Err(ProposeError::NotLeader { .. }) if Instant::now() < deadline => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Waits until every running replica has applied `index`, and checks that all are equal.
    pub async fn converge(&self, index: u64) {
        for replica in self.running() {
            let node = replica.node.as_ref().unwrap();
            let what = format!("node {} applies {index}: {:?}", replica.id, node.metrics());
            eventually(&what, || (node.applied_index() >= index).then_some(())).await;
        }
        // One may already have applied what the others have not.
        let digests = || self.running().map(|replica| replica.machine.state().digest).collect::<Vec<_>>();
        let equal = || digests().windows(2).all(|pair| pair[0] == pair[1]).then_some(());
        eventually("all replicas are equal", equal).await;
    }
}

/// Size of a directory's files, in bytes.
pub fn used(dir: &Path) -> u64 {
    std::fs::read_dir(dir).map_or(0, |files| files.map(|file| file.unwrap().metadata().unwrap().len()).sum())
}
