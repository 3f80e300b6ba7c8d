//! A network that delays, drops, duplicates and cuts.

use crate::sim::state::{Raft, Sim, Snapshot, State, Vote};
use openraft::async_runtime::AsyncRuntime;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, v2::RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend};
use openraft_rt_sim::SimRuntime;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// True while the replica that holds it lives.
pub type Alive = Arc<Mutex<bool>>;

type Failed = RPCError<Sim>;

struct Inner {
    nodes: BTreeMap<u64, (Raft, Alive)>,
    /// Nothing goes from the first to the second.
    cuts: BTreeSet<(u64, u64)>,
    rng: SmallRng,
}

#[derive(Clone)]
pub struct Network(Arc<Mutex<Inner>>);

impl Network {
    pub fn new(seed: u64) -> Self {
        let rng = SmallRng::seed_from_u64(seed);
        Self(Arc::new(Mutex::new(Inner { nodes: BTreeMap::new(), cuts: BTreeSet::new(), rng })))
    }

    pub fn join(&self, node: u64, raft: Raft, alive: Alive) {
        self.0.lock().unwrap().nodes.insert(node, (raft, alive));
    }

    pub fn leave(&self, node: u64) {
        self.0.lock().unwrap().nodes.remove(&node);
    }

    pub fn cut(&self, from: u64, to: u64) {
        self.0.lock().unwrap().cuts.insert((from, to));
    }

    pub fn heal(&self) {
        self.0.lock().unwrap().cuts.clear();
    }

    async fn travel(&self, from: u64, to: u64) -> Result<(), Failed> {
        let (delay, lost) = {
            let mut inner = self.0.lock().unwrap();
            let slow = inner.rng.random_range(0..30) == 0;
            let longest = if slow { 300 } else { 20 };
            (inner.rng.random_range(0..longest), inner.rng.random_range(0..20) == 0)
        };
        SimRuntime::sleep(Duration::from_millis(delay)).await;
        if lost || self.0.lock().unwrap().cuts.contains(&(from, to)) {
            SimRuntime::sleep(Duration::from_millis(60)).await;
            return Err(failed("lost"));
        }
        Ok(())
    }

    fn find(&self, node: u64) -> Result<(Raft, Alive), Failed> {
        self.0.lock().unwrap().nodes.get(&node).cloned().ok_or_else(|| failed("down"))
    }

    fn duplicates(&self) -> bool {
        self.0.lock().unwrap().rng.random_range(0..25) == 0
    }
}

fn failed(why: &str) -> Failed {
    RPCError::Unreachable(Unreachable::new(&io::Error::other(why.to_owned())))
}

fn wrapped<E: std::error::Error + 'static>(error: E) -> Failed {
    RPCError::Unreachable(Unreachable::new(&error))
}

#[derive(Clone)]
pub struct Factory {
    pub node: u64,
    pub network: Network,
    pub alive: Alive,
}

#[derive(Clone)]
pub struct Client {
    from: Factory,
    to: u64,
}

impl RaftNetworkFactory<Sim> for Factory {
    type Network = Client;

    async fn new_client(&mut self, to: u64, _: &BasicNode) -> Client {
        Client { from: self.clone(), to }
    }
}

impl Client {
    /// Carries a question there and the answer back; neither leaves a replica that is dead.
    async fn call<A, F>(&self, ask: impl Fn(Raft) -> F + Clone + Send + 'static) -> Result<A, Failed>
    where
        A: Send + 'static,
        F: Future<Output = Result<A, Failed>> + Send,
    {
        let (network, here, there) = (self.from.network.clone(), self.from.node, self.to);
        if !*self.from.alive.lock().unwrap() {
            return Err(failed("crashed"));
        }
        if network.duplicates() {
            let (again, network) = (ask.clone(), network.clone());
            SimRuntime::spawn(async move {
                let arrived = network.travel(here, there).await;
                if let (Ok(()), Ok((raft, _))) = (arrived, network.find(there)) {
                    let _ = again(raft).await;
                }
            });
        }
        network.travel(here, there).await?;
        let (raft, alive) = network.find(there)?;
        let answer = ask(raft).await?;
        if !*alive.lock().unwrap() {
            return Err(failed("crashed"));
        }
        network.travel(there, here).await?;
        Ok(answer)
    }
}

impl RaftNetworkV2<Sim> for Client {
    type SnapshotData = State;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Sim>,
        _: RPCOption,
    ) -> Result<AppendEntriesResponse<Sim>, Failed> {
        self.call(move |raft| {
            let request = request.clone();
            async move { raft.append_entries(request).await.map_err(wrapped) }
        })
        .await
    }

    async fn vote(&mut self, request: VoteRequest<Sim>, _: RPCOption) -> Result<VoteResponse<Sim>, Failed> {
        self.call(move |raft| {
            let request = request.clone();
            async move { raft.vote(request).await.map_err(wrapped) }
        })
        .await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<Sim>,
        _: RPCOption,
    ) -> Result<VoteResponse<Sim>, Failed> {
        self.call(move |raft| {
            let request = request.clone();
            async move { raft.pre_vote(request).await.map_err(wrapped) }
        })
        .await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        _: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<Sim>, StreamingError<Sim>> {
        let sent = self.call(move |raft| {
            let snapshot = snapshot.clone();
            async move { raft.install_full_snapshot(vote, snapshot).await.map_err(wrapped) }
        });
        Ok(sent.await?)
    }
}
