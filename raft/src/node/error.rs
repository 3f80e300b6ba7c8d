//! Why a replica cannot do what it is asked, and what the caller can do.

use crate::identity::IdentityError;
use crate::log::LogError;
use crate::net::CredentialsError;
use crate::snapshot::SnapshotError;
use std::io;
use std::net::SocketAddr;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The node may have promised what it no longer knows: it must never vote again.
    #[error(transparent)]
    Amnesia(LogError),
    /// The log cannot be opened.
    #[error(transparent)]
    Log(LogError),
    /// State or snapshots cannot be opened.
    #[error(transparent)]
    State(#[from] SnapshotError),
    /// The data directory can't be identified.
    #[error(transparent)]
    Identity(IdentityError),
    /// The port cannot be served.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The settings contradict each other.
    #[error("the Raft settings can't be used: {0}")]
    Config(String),
    /// Certificates can't be used.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// openraft refused.
    #[error("Raft cannot start: {0}")]
    Raft(String),
}

impl From<LogError> for StartError {
    fn from(error: LogError) -> Self {
        match error {
            error @ LogError::Amnesia { .. } => Self::Amnesia(error),
            error => Self::Log(error),
        }
    }
}

/// Why a command was not committed, or not known to be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Not proposed: propose it at the leader.
    #[error("this replica does not lead; the leader is {leader:?}")]
    NotLeader {
        /// Id and address of the leader, if known.
        leader: Option<(u64, String)>,
    },
    /// Not proposed: too many commands are in flight.
    #[error("too many commands are in flight")]
    Busy,
    /// Not proposed: larger than the log takes.
    #[error("a command of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// Not proposed: this replica is restricted.
    #[error("this replica is restricted: {reason}")]
    Restricted {
        /// Why.
        reason: String,
    },
    /// Proposed, but it is not known whether it is or will be committed. Find out from the state before
    /// proposing again.
    #[error("it is not known whether the command was committed: {reason}")]
    Unknown {
        /// What happened.
        reason: String,
    },
    /// This replica has stopped. The outcome of a command that was under way is unknown.
    #[error("this replica has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

/// Why a linearizable read is not possible.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader confirmed by a quorum answered in time: try again, or read what may be stale.
    #[error("no leader confirmed the read in time: {reason}")]
    Unavailable {
        /// The last obstacle.
        reason: String,
    },
    /// The leader answered, but this replica has not caught up in time.
    #[error("this replica has applied {applied} of {wanted} entries that the read has to see")]
    Behind {
        /// Applied here.
        applied: u64,
        /// To be applied for the read.
        wanted: u64,
    },
    /// This replica has stopped.
    #[error("this replica has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

/// Why the clocks could not be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("only {answered} of {replicas} replicas reported their clock, which is not a majority")]
pub struct ClockError {
    /// Clocks known, the own one included.
    pub answered: usize,
    /// Replicas there are.
    pub replicas: usize,
}

/// Why an administrative change was not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// Ask the leader.
    #[error("this replica does not lead; the leader is {leader:?}")]
    NotLeader {
        /// Id and address of the leader, if known.
        leader: Option<(u64, String)>,
    },
    /// Not possible as things are.
    #[error("refused: {0}")]
    Refused(String),
    /// This replica has stopped.
    #[error("this replica has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}
