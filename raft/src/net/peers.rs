//! Where the other replicas are, and the connections to them.

use super::frame::{Kind, receive, send};
use super::handshake::introduce;
use crate::codec::{self, MAX_ENCODED_BYTES};
use crate::roster::{Introduction, Refusal, Roster};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::net::TcpStream;

/// Connections kept per peer for the next calls.
const IDLE_CONNECTIONS: usize = 4;

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
        refusal: Refusal,
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

/// The other replicas.
#[derive(Debug)]
pub(crate) struct Peers {
    cluster: String,
    roster: Arc<Roster>,
    configured: BTreeMap<u64, String>,
    idle: Mutex<HashMap<u64, Vec<Connection>>>,
    unreachable: Mutex<HashSet<u64>>,
}

/// A connection to a replica, and what that said of itself.
#[derive(Debug)]
pub(crate) struct Connection {
    pub stream: TcpStream,
    pub other: Introduction,
}

impl Peers {
    pub(crate) fn new(cluster: String, roster: Arc<Roster>, configured: BTreeMap<u64, String>) -> Self {
        Self { cluster, roster, configured, idle: Mutex::default(), unreachable: Mutex::default() }
    }

    /// Who may take part.
    pub(crate) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The address of a node: as configured, otherwise as the membership has it.
    pub(crate) fn address(&self, node: u64, in_membership: &str) -> String {
        self.configured.get(&node).map_or_else(|| in_membership.to_owned(), Clone::clone)
    }

    /// Opens a connection, introduces this node and looks at who answers.
    pub(crate) async fn connect(&self, node: u64, address: &str) -> Result<Connection, CallError> {
        let connected = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let met = introduce(&mut stream, &self.cluster, &self.roster, node).await?;
            Ok(met.map(|other| Connection { stream, other }))
        };
        let connected: io::Result<Result<Connection, Refusal>> = connected.await;
        self.note(node, address, connected.as_ref().err());
        match connected {
            Ok(met) => met.map_err(|refusal| CallError::Refused { refusal }),
            Err(source) => Err(CallError::Unreachable { node, address: address.to_owned(), source }),
        }
    }

    /// Asks and waits for the answer, at most `patience`. Asks again on a new connection if one from
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
            if let Some(connection) = self.take_idle(node)
                && let Ok(answer) = self.exchange(node, connection, kind, question).await
            {
                return answer;
            }
            let connection = self.connect(node, address).await?;
            match self.exchange(node, connection, kind, question).await {
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
        node: u64,
        mut connection: Connection,
        kind: Kind,
        question: &Q,
    ) -> io::Result<Result<A, CallError>> {
        send(&mut connection.stream, kind, question).await?;
        let answer = receive(&mut connection.stream, MAX_ENCODED_BYTES).await?;
        if let Some(refusal) = self.roster.no_member(node, connection.other.incarnation) {
            return Ok(Err(CallError::Refused { refusal }));
        }
        self.keep_idle(node, connection);
        match answer.kind {
            Kind::Answer => Ok(Ok(codec::decode(&answer.body)?)),
            Kind::Failed => Ok(Err(CallError::Failed { node, reason: codec::decode(&answer.body)? })),
            kind => Err(super::frame::invalid(format!("{kind:?} instead of an answer"))),
        }
    }

    fn take_idle(&self, node: u64) -> Option<Connection> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&node)?.pop()
    }

    fn keep_idle(&self, node: u64, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = idle.entry(node).or_default();
        if connections.len() < IDLE_CONNECTIONS {
            connections.push(connection);
        }
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
