//! Where the other replicas are, and the connections to them.

use super::frame::{Kind, receive, send};
use super::handshake::{Declined, PATIENCE, introduce};
use super::places::Lane;
use super::refusals::{Refusal, Refusals, Refused};
use super::tls::{Secured, Security, Validity};
use super::wire::Wire;
use crate::codec;
use crate::roster::{Introduction, Refusal as NoPart, Roster};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Connections kept per peer and lane for the next calls.
const IDLE_CONNECTIONS: usize = 4;

/// Calls of a lane to one peer that are under way at once; more wait.
pub(super) const CALLS: usize = 32;

/// An answer is never longer, in bytes.
const ANSWER_BYTES: usize = 1 << 20;

/// Why a call got no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// No connection.
    #[error("node {node} at {address} cannot be reached: {source}")]
    Unreachable {
        /// The peer.
        node: u64,
        /// Where it should be.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// One of the two can't take part.
    #[error("{refusal}")]
    Refused {
        /// Why.
        refusal: NoPart,
    },
    /// The connection broke or the answer did not come in time.
    #[error("node {node} does not answer: {source}")]
    Broken {
        /// The peer.
        node: u64,
        /// What happened.
        source: io::Error,
    },
    /// The peer answered that it cannot.
    #[error("node {node} answered: {reason}")]
    Failed {
        /// The peer.
        node: u64,
        /// Its reason.
        reason: String,
    },
}

/// An open connection to a peer that has let this node in.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(super) wire: Wire,
    pub(super) validity: Validity,
    /// What it reported about itself.
    pub other: Introduction,
}

type Calls = HashMap<(u64, Lane), Arc<Semaphore>>;

/// The other replicas.
#[derive(Debug)]
pub(crate) struct Peers {
    cluster: String,
    roster: Arc<Roster>,
    configured: BTreeMap<u64, String>,
    security: Arc<Security>,
    refusals: Arc<Refusals>,
    calls: Mutex<Calls>,
    idle: Mutex<HashMap<(u64, Lane), Vec<Connection>>>,
    unreachable: Mutex<HashSet<u64>>,
}

impl Peers {
    pub(crate) fn new(
        cluster: String,
        roster: Arc<Roster>,
        configured: BTreeMap<u64, String>,
        security: Arc<Security>,
        refusals: Arc<Refusals>,
    ) -> Self {
        Self {
            cluster,
            roster,
            configured,
            security,
            refusals,
            calls: Mutex::default(),
            idle: Mutex::default(),
            unreachable: Mutex::default(),
        }
    }

    /// Who may take part.
    pub(crate) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// True if the configuration names the node.
    pub(crate) fn names(&self, node: u64) -> bool {
        self.configured.contains_key(&node)
    }

    /// The address of a node: as configured, otherwise as the membership has it.
    pub(crate) fn address(&self, node: u64, in_membership: &str) -> String {
        self.configured.get(&node).map_or_else(|| in_membership.to_owned(), Clone::clone)
    }

    /// Opens a connection, makes sure whose it is, and introduces this node.
    pub(crate) async fn connect(&self, node: u64, address: &str) -> Result<Connection, CallError> {
        let connected = self.open(node, address).await.map_err(|refused| {
            let counts = [Refusal::Expired, Refusal::Foreign, Refusal::WrongName, Refusal::PlainText];
            if counts.contains(&refused.why) {
                self.refusals.note(refused.why, &address, &refused.error);
            }
            refused.error
        });
        self.note(node, address, connected.as_ref().err());
        match connected {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(Declined { refusal, here })) => {
                if here {
                    self.refusals.note(refusal.grounds.into(), &format_args!("node {node}"), &refusal);
                }
                Err(CallError::Refused { refusal })
            }
            Err(source) => Err(CallError::Unreachable { node, address: address.to_owned(), source }),
        }
    }

    async fn open(&self, node: u64, address: &str) -> Result<Result<Connection, Declined>, Refused> {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let secured = tokio::time::timeout(PATIENCE, self.security.connect(tcp, node)).await.map_err(late)?;
        let Secured { mut wire, validity, .. } = secured?;
        let met = introduce(&mut wire, &self.cluster, &self.roster, node).await?;
        wire.lift();
        Ok(met.map(|other| Connection { wire, validity, other }))
    }

    /// Sends a request and waits for the answer, at most `patience`. Sends it again on a new connection if one from
    /// before turns out to be broken: every call may be received twice without harm.
    pub(crate) async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        node: u64,
        address: &str,
        kind: Kind,
        question: &Q,
        patience: Duration,
    ) -> Result<A, CallError> {
        let call = async {
            let broken = |source| CallError::Broken { node, source };
            let lane = Lane::of(kind).ok_or_else(|| broken(io::ErrorKind::InvalidInput.into()))?;
            let calls = self.calls(node, lane);
            let _turn: SemaphorePermit<'_> =
                calls.acquire().await.map_err(|error| broken(io::Error::other(error)))?;
            if let Some(connection) = self.take_idle(node, lane)
                && let Ok(answer) = self.exchange((node, lane), connection, kind, question).await
            {
                return answer;
            }
            let connection = self.connect(node, address).await?;
            match self.exchange((node, lane), connection, kind, question).await {
                Ok(answer) => answer,
                Err(source) => Err(CallError::Broken { node, source }),
            }
        };
        match tokio::time::timeout(patience, call).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Broken { node, source: io::ErrorKind::TimedOut.into() }),
        }
    }

    /// The outer error is the connection's; it is kept only after a complete answer.
    async fn exchange<Q: Serialize, A: DeserializeOwned>(
        &self,
        (node, lane): (u64, Lane),
        mut connection: Connection,
        kind: Kind,
        question: &Q,
    ) -> io::Result<Result<A, CallError>> {
        send(&mut connection.wire, kind, question).await?;
        let answer = receive(&mut connection.wire, ANSWER_BYTES).await?;
        if let Some(refusal) = self.roster.no_member(node, connection.other.incarnation) {
            return Ok(Err(CallError::Refused { refusal }));
        }
        self.keep_idle(node, lane, connection);
        match answer.kind {
            Kind::Answer => Ok(Ok(codec::decode(&answer.body)?)),
            Kind::Failed => Ok(Err(CallError::Failed { node, reason: codec::decode(&answer.body)? })),
            kind => Err(super::frame::invalid(format!("{kind:?} instead of an answer"))),
        }
    }

    fn calls(&self, node: u64, lane: Lane) -> Arc<Semaphore> {
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(calls.entry((node, lane)).or_insert_with(|| Arc::new(Semaphore::new(CALLS))))
    }

    fn take_idle(&self, node: u64, lane: Lane) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.get_mut(&(node, lane))?;
        connections.retain(|connection| connection.validity.holds());
        connections.pop()
    }

    fn keep_idle(&self, node: u64, lane: Lane, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.entry((node, lane)).or_default();
        if connections.len() < IDLE_CONNECTIONS {
            connections.push(connection);
        }
    }

    /// Drops the open connections to a node.
    pub(super) fn meet_anew(&self, node: u64) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|(to, _), _| *to != node);
    }

    /// Counts an answer of `node` that is refused.
    pub(super) fn believed(&self, node: u64, checked: Result<(), Refused>) -> Result<(), CallError> {
        checked.map_err(|refused| {
            self.refusals.note(refused.why, &format_args!("node {node}"), &refused.error);
            CallError::Broken { node, source: refused.error }
        })
    }

    /// Logs when a peer goes and when it is back, not every attempt between.
    fn note(&self, node: u64, address: &str, error: Option<&io::Error>) {
        let mut unreachable = self.unreachable.lock().unwrap_or_else(PoisonError::into_inner);
        match error {
            Some(error) if unreachable.insert(node) => {
                tracing::warn!(node, address, %error, "a replica cannot be reached");
            }
            None if unreachable.remove(&node) => {
                tracing::info!(node, address, "a replica can be reached again");
            }
            _ => {}
        }
    }
}
