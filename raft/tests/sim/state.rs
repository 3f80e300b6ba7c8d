//! openraft's types on virtual time, and the state behind them.

use crate::sim::checks::Checks;
use cdr_core::memory::MemoryLedger;
use cdr_raft::{CommandBytes, Reply, codec};
use futures::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use openraft_rt_sim::SimRuntime;
use sha2::{Digest, Sha256};
use std::io;
use std::sync::{Arc, Mutex};

openraft::declare_raft_types!(
    pub Sim:
        D = CommandBytes,
        R = Reply,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = SimRuntime,
);

pub type Entry = openraft::alias::EntryOf<Sim>;
pub type LogId = openraft::alias::LogIdOf<Sim>;
pub type Vote = openraft::alias::VoteOf<Sim>;
pub type StoredMembership = openraft::alias::StoredMembershipOf<Sim>;
pub type SnapshotMeta = openraft::alias::SnapshotMetaOf<Sim>;
pub type Snapshot = openraft::alias::SnapshotOf<Sim, State>;
pub type Raft = openraft::Raft<Sim, Machine>;

/// Everything that a replica has applied.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub applied: Option<LogId>,
    pub membership: StoredMembership,
    pub ledger: MemoryLedger,
    pub digest: [u8; 32],
}

/// The state in memory, lost in a crash, and the last snapshot, which is not.
#[derive(Clone)]
pub struct Machine {
    pub node: u64,
    pub state: Arc<Mutex<State>>,
    pub snapshot: Arc<Mutex<Option<State>>>,
    pub checks: Checks,
}

impl Machine {
    pub fn new(node: u64, snapshot: Arc<Mutex<Option<State>>>, checks: Checks) -> Self {
        Self { node, state: Arc::default(), snapshot, checks }
    }

    fn apply_one(&self, entry: Entry) -> io::Result<Reply> {
        let mut state = self.state.lock().unwrap();
        let expected = state.applied.map_or(0, |last| last.index() + 1);
        assert_eq!(entry.log_id.index(), expected, "node {} leaves entries out", self.node);
        state.applied = Some(entry.log_id);
        let mut hasher = Sha256::new().chain_update(state.digest);
        let mut reply = Reply::None;
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(membership) => {
                state.membership = StoredMembership::new(Some(entry.log_id), membership);
            }
            EntryPayload::Normal(command) => {
                let rows = state.ledger.rows.len();
                let (index, term) = (entry.log_id.index(), entry.log_id.leader_id.term);
                let applied = state.ledger.apply_entry(index, term, &command.0);
                reply = applied.map_err(|error| io::Error::other(error.to_string()))?;
                hasher.update(&command.0);
                state.ledger.rows[rows..].iter().for_each(|(_, hash)| hasher.update(hash));
            }
        }
        hasher.update(codec::encode(&reply)?);
        if let Some((hour, closed)) = state.ledger.seals.last_key_value() {
            hasher.update(hour.0.to_be_bytes());
            hasher.update(closed.seal_hash);
        }
        state.digest = hasher.finalize().into();
        self.checks.applied(self.node, entry.log_id, state.digest, &reply);
        Ok(reply)
    }
}

fn described(state: State) -> Snapshot {
    let meta = SnapshotMeta { last_log_id: state.applied, last_membership: state.membership.clone() };
    Snapshot { meta, snapshot: state }
}

impl RaftSnapshotBuilder<Sim> for Machine {
    type SnapshotData = State;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let state = self.state.lock().unwrap().clone();
        *self.snapshot.lock().unwrap() = Some(state.clone());
        Ok(described(state))
    }
}

impl RaftStateMachine<Sim> for Machine {
    type SnapshotData = State;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let state = self.state.lock().unwrap();
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Sim>>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let reply = self.apply_one(entry)?;
            if let Some(responder) = responder {
                responder.send(reply);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, _meta: &SnapshotMeta, snapshot: State) -> io::Result<()> {
        self.checks.installed();
        *self.snapshot.lock().unwrap() = Some(snapshot.clone());
        *self.state.lock().unwrap() = snapshot;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        Ok(self.snapshot.lock().unwrap().clone().map(described))
    }
}
