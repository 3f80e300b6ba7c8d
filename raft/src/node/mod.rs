//! The handle on a running replica.
//!
//! [`Node::start`] opens log and state, starts openraft and serves the Raft port, all on the tokio runtime
//! on which it is called (there is no hidden global one): give Raft a multi-threaded runtime of its own. The handle is cheap
//! to clone, and its methods may be awaited on any runtime.
//!
//! | file | holds |
//! |---|---|
//! | `config` | the settings of a node |
//! | `propose` | getting a command committed |
//! | `read` | linearizable reads on any replica, clocks of the others |
//! | `leadership` | who leads, as workers have to see it |
//! | `ask` | questions of the owners' own to the leader's |
//! | `admin` | membership, leader transfer, restriction |
//! | `space` | no commands without room for them |
//! | `builds` | which rules every member knows |
//! | `policy` | when to make a snapshot and purge the log |
//! | `metrics` | numbers for the outside |
//!
//! When the log is poisoned or the state machine fails, Raft is stopped: [`Leadership::Stopped`] says why,
//! and so do all later calls. The process keeps running, so that its health check can report it.

mod admin;
mod ask;
mod builds;
mod config;
mod error;
mod leadership;
mod metrics;
mod policy;
mod propose;
mod read;
mod space;

pub use builds::UnchangedMembership;
pub use config::NodeConfig;
pub use error::{AdminError, ClockError, ProposeError, ReadError, StartError};
pub use leadership::Leadership;
pub use metrics::NodeMetrics;
pub use propose::Committed;

use crate::failure::Failure;
use crate::identity::{self, IdentityError, Incarnation};
use crate::log::{LogError, LogOptions, LogStore, incarnation_of};
use crate::lost_commits::{self, ReportFile, Standstill};
use crate::machine::Machine;
use crate::net::{Credentials, CredentialsError, Network, Peers, Refusals, Security, Server};
use crate::restriction::{Cause, Restrictions};
use crate::roster::{Alarm, Roster};
use crate::runtime::blocking;
use crate::state_machine::StateMachine;
use crate::types::{LogId, Raft};
use cdr_core::command::Acknowledged;
use openraft::async_runtime::watch::WatchReceiver;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// A running replica.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    config: NodeConfig,
    address: SocketAddr,
    raft: Raft,
    log: LogStore,
    state_machine: StateMachine,
    peers: Arc<Peers>,
    server: Arc<Server>,
    roster: Arc<Roster>,
    security: Arc<Security>,
    failure: Failure,
    applied: watch::Receiver<Option<LogId>>,
    leadership: watch::Sender<Leadership>,
    in_flight: Semaphore,
    restrictions: Restrictions,
    space: space::Others,
    builds: builds::Builds,
    /// Held while the membership changes, or rules are raised that every member has to know.
    membership: tokio::sync::Mutex<()>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Node {
    /// Starts a replica on the current tokio runtime. Takes as long as it takes to read the log and to
    /// apply again what a crash took from the state.
    pub async fn start(config: NodeConfig, machine: Arc<dyn Machine>) -> Result<Self, StartError> {
        let listener = TcpListener::bind(config.listen).await;
        let listener = listener.map_err(|source| StartError::Bind { address: config.listen, source })?;
        Self::start_on(config, machine, listener).await
    }

    /// As [`start`](Self::start), with a listener that is already bound (`config.listen` is ignored).
    pub async fn start_on(
        config: NodeConfig,
        machine: Arc<dyn Machine>,
        listener: TcpListener,
    ) -> Result<Self, StartError> {
        let address =
            listener.local_addr().map_err(|source| StartError::Bind { address: config.listen, source })?;
        let raft_config = config.for_openraft()?;
        let security = Arc::new(secure(&config, address)?);
        let report = ReportFile::in_dir(&config.data_dir);
        let failure = Failure::keeping(config.node_id, report.clone());
        let Stores { log, state_machine, incarnation } =
            blocking(|| open_stores(&config, &machine, &failure))?;
        let restrictions = Restrictions::new(Arc::clone(&config.clock));
        log.stats().tell(restrictions.clone());
        state_machine.tell(restrictions.clone());
        let standstill =
            Arc::new(Standstill::new(config.node_id, report, restrictions.clone(), failure.clone()));
        let roster = Arc::new(Roster::new(
            config.node_id,
            incarnation,
            log.clone(),
            state_machine.clone(),
            failure.clone(),
            Arc::clone(&standstill),
        ));
        let refusals = Arc::new(Refusals::default());
        let peers = Arc::new(Peers::new(
            config.cluster.clone(),
            Arc::clone(&roster),
            config.peers.clone(),
            Arc::clone(&security),
            Arc::clone(&refusals),
        ));
        let network = Network(Arc::clone(&peers));
        let raft = Raft::new(config.node_id, raft_config, network, log.clone(), state_machine.clone())
            .await
            .map_err(|error| StartError::Raft(error.to_string()))?;
        roster.follow(raft.clone());
        standstill.resume();
        let server = Arc::new(Server {
            cluster: config.cluster.clone(),
            roster: roster.clone(),
            raft: raft.clone(),
            state_machine: state_machine.clone(),
            clock: Arc::clone(&config.clock),
            peers: Arc::clone(&peers),
            security: Arc::clone(&security),
            refusals,
            restrictions: restrictions.clone(),
            min_free_bytes: config.min_free_bytes,
            receiving: tokio::sync::Mutex::new(()),
            questions: OnceLock::new(),
        });
        let leadership = watch::Sender::new(Leadership::Follower { leader: None, term: 0 });
        let node = Self(Arc::new(Inner {
            applied: state_machine.applied(),
            in_flight: Semaphore::new(config.max_in_flight),
            restrictions,
            space: space::Others::default(),
            builds: builds::Builds::default(),
            membership: tokio::sync::Mutex::default(),
            tasks: Mutex::default(),
            config,
            address,
            raft,
            log,
            state_machine,
            peers,
            server,
            roster,
            security,
            failure,
            leadership,
        }));
        node.spawn(Arc::clone(&node.0.server).serve(listener));
        node.spawn(leadership::follow(node.leadership_sources(), node.0.leadership.clone()));
        node.spawn(policy::keep(node.policy_parts()));
        node.spawn(lost_commits::watch(standstill));
        node.spawn(space::watch(Arc::downgrade(&node.0)));
        Ok(node)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(tokio::spawn(task));
    }

    fn leadership_sources(&self) -> leadership::Sources {
        leadership::Sources {
            raft: self.0.raft.clone(),
            node_id: self.0.config.node_id,
            lease: self.0.config.lease(),
            applied: self.0.applied.clone(),
            failure: self.0.failure.clone(),
        }
    }

    fn policy_parts(&self) -> policy::Policy {
        policy::Policy {
            raft: self.0.raft.clone(),
            state_machine: self.0.state_machine.clone(),
            log: self.0.log.clone(),
            failure: self.0.failure.clone(),
            limits: self.0.config.log_limits(),
        }
    }

    /// This replica's id.
    pub fn node_id(&self) -> u64 {
        self.0.config.node_id
    }

    /// The address on which the Raft port is served.
    pub fn local_addr(&self) -> SocketAddr {
        self.0.address
    }

    /// The current term, as far as this replica knows.
    pub fn term(&self) -> u64 {
        self.0.raft.metrics().borrow_watched().current_term
    }

    /// True while this replica leads, as [`leadership`](Self::leadership) says.
    pub fn leads(&self) -> bool {
        matches!(*self.0.leadership.borrow(), Leadership::Leader { .. })
    }

    /// The leader and its address, as far as this replica knows. It names itself only while it leads as
    /// [`leadership`](Self::leadership) says, and none once it has stopped.
    pub fn leader(&self) -> Option<(u64, String)> {
        let leads = match &*self.0.leadership.borrow() {
            Leadership::Leader { .. } => true,
            Leadership::Follower { .. } => false,
            Leadership::Stopped { .. } => return None,
        };
        self.elected().filter(|(leader, _)| leads || *leader != self.node_id())
    }

    /// Which replica a quorum elected last, as far as this one knows; it may have lost its quorum since.
    fn elected(&self) -> Option<(u64, String)> {
        let metrics = self.0.raft.metrics();
        let metrics = metrics.borrow_watched();
        let leader = metrics.current_leader?;
        let known = metrics.membership_config.membership().get_node(&leader).map(|node| node.address.clone());
        Some((leader, self.0.peers.address(leader, &known.unwrap_or_default())))
    }

    /// Index of the last entry applied here, 0 if none.
    pub fn applied_index(&self) -> u64 {
        self.0.applied.borrow().as_ref().map_or(0, LogId::index)
    }

    /// Follows who leads. [`Leadership::Leader`] is reported only while a quorum's lease holds and everything
    /// from before this term is applied here.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.0.leadership.subscribe()
    }

    /// Why this replica stopped, if it did.
    pub fn failure(&self) -> Option<String> {
        if let Some(reason) = self.0.failure.reason() {
            return Some(reason.to_owned());
        }
        match &*self.0.leadership.borrow() {
            Leadership::Stopped { reason } => Some(reason.clone()),
            _ => None,
        }
    }

    /// Presents other certificates, and trusts other authorities, from now on; open connections are re-established. If
    /// they can't be used, those in use stay.
    pub fn exchange_credentials(&self, credentials: &Credentials) -> Result<(), CredentialsError> {
        self.0.security.exchange(credentials)
    }

    /// Begins a cluster with the configured peers as voters, once all of them answer; waits for them without limit.
    /// Exactly one replica may do this: empty ones vote for anybody. Does nothing where this replica was part of a
    /// cluster before. Returns true if this call began it.
    ///
    /// # Errors
    /// [`AdminError::Refused`] if a peer is part of a cluster already, or also wants to begin one.
    pub async fn initialize(&self) -> Result<bool, AdminError> {
        self.begin_cluster().await
    }

    /// Stops this replica from serving, for a reason that its owner found.
    pub fn fail(&self, reason: &str) {
        self.0.failure.record(reason);
    }

    /// What a person has to look at: replicas that can't take part, this one or others.
    pub fn alarms(&self) -> Vec<Alarm> {
        self.0.roster.open_alarms()
    }

    /// True if this replica takes no commands because committed entries were lost somewhere: no other leader would
    /// do better.
    pub fn stands_still(&self) -> bool {
        self.0.restrictions.holds(Cause::LostCommits)
    }

    /// Who this replica is to others.
    #[cfg(test)]
    pub(crate) fn roster(&self) -> &Arc<Roster> {
        &self.0.roster
    }

    /// What names this replica's data directory.
    pub fn incarnation(&self) -> Incarnation {
        self.0.roster.incarnation()
    }

    /// Stops Raft, closes connections and log. Commands that are under way have an unknown outcome.
    pub async fn shutdown(&self) {
        self.0.state_machine.close();
        if let Err(error) = self.0.raft.shutdown().await {
            tracing::warn!(%error, "Raft did not stop in order");
        }
        let tasks = std::mem::take(&mut *self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        for task in tasks {
            task.abort();
            let _ = task.await;
        }
        self.0.leadership.send_if_modified(|said| {
            let stops = !matches!(said, Leadership::Stopped { .. });
            if stops {
                *said = Leadership::Stopped { reason: "it was shut down".to_owned() };
            }
            stops
        });
        if let Err(error) = self.0.log.close().await {
            tracing::warn!(%error, "the Raft log was not closed in order");
        }
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("node_id", &self.node_id()).field("address", &self.0.address).finish()
    }
}

/// How connections are secured; without credentials, only this machine's own addresses may be listened on.
fn secure(config: &NodeConfig, address: SocketAddr) -> Result<Security, StartError> {
    let security = Security::new(config.cluster.clone(), config.node_id, config.credentials.as_deref())?;
    if security.is_plain() && !address.ip().to_canonical().is_loopback() {
        let reason =
            format!("replicas talk in plain text on loopback addresses only: {address} needs certificates");
        return Err(StartError::Config(reason));
    }
    Ok(security)
}

struct Stores {
    log: LogStore,
    state_machine: StateMachine,
    incarnation: Incarnation,
}

fn open_stores(
    config: &NodeConfig,
    machine: &Arc<dyn Machine>,
    failure: &Failure,
) -> Result<Stores, StartError> {
    let dir = config.data_dir.join("raft-log");
    let amnesia = |reason: String| LogError::Amnesia { dir: config.data_dir.clone(), reason };
    let incarnation = match identity::establish(&**machine, incarnation_of(&dir)?) {
        Ok(incarnation) => incarnation,
        Err(IdentityError::Amnesia(reason)) => return Err(amnesia(reason.to_owned()).into()),
        Err(error) => return Err(StartError::Identity(error)),
    };
    let mut options = LogOptions::new(config.cluster.clone(), config.node_id);
    options.fsync = config.fsync;
    options.incarnation = incarnation;
    let log = LogStore::open(&dir, options, failure.clone())?;
    let snapshots = config.data_dir.join("snapshots");
    let state_machine = StateMachine::open(Arc::clone(machine), &snapshots, failure.clone())?;
    if let Some(reason) = missing_part(config.node_id, &log, &state_machine) {
        return Err(amnesia(reason).into());
    }
    identity::confirm(&**machine, incarnation).map_err(|error| StartError::Identity(error.into()))?;
    log.know_committed(state_machine.last_applied());
    Ok(Stores { log, state_machine, incarnation })
}

/// What log and state show to be missing from one another.
fn missing_part(node: u64, log: &LogStore, state_machine: &StateMachine) -> Option<String> {
    let applied = state_machine.last_applied().as_ref().map_or(0, LogId::index);
    let (first, last) = (log.first_index(), log.last_index());
    if log.is_pristine() && !state_machine.is_pristine() {
        return Some("the state has applied entries, but the log is empty".to_owned());
    }
    if applied + 1 < first && state_machine.snapshots().current().is_none() {
        return Some(format!(
            "the state ends at entry {applied}, but the log begins at entry {first}: the state was removed"
        ));
    }
    let acknowledged = Acknowledged::by(&state_machine.acknowledged(), node);
    (last < acknowledged).then(|| {
        format!(
            "the log ends at entry {last}, but this replica had acknowledged entries up to {acknowledged}"
        )
    })
}
