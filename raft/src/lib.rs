//! Consensus for the replicas: openraft, with a log, a wire and a snapshot transport of our own.
//!
//! What is proposed here is opaque bytes, and what keeps the state is a [`Machine`]; this crate only
//! sees to it that every replica applies the same commands in the same order, that an acknowledged
//! command survives power loss, and that a replica that lost what it had promised never votes again.
//!
//! | module | owns |
//! |---|---|
//! | [`node`] | the [`Node`] handle: start, propose, read, lead, change membership |
//! | [`machine`] | the trait that the state behind Raft fulfils |
//! | [`log`] | the Raft log in segment files, the vote, and the proof that nothing synced was lost |
//! | [`net`] | frames, connections, the server, snapshots on the wire |
//! | [`identity`], [`roster`] | data directories and their incarnations; who may take part |
//! | [`lost_commits`] | what stops commands, whichever replica leads, until a person decides |
//! | [`state_machine`], [`snapshot`] | the adapter from openraft to a [`Machine`], checkpoints on disk |
//! | [`codec`] | the one place that knows the encoding of what is stored and sent |
//!
//! All of it runs on the tokio runtime on which [`Node::start`] is called. Give Raft a multi-threaded
//! runtime of its own, so that no other work delays heartbeats; applying commands blocks a worker
//! thread of that runtime (through `block_in_place`), never its scheduler.

// The tests in `tests/common` name this crate from outside, and are used inside as well.
#[cfg(test)]
extern crate self as cdr_raft;

pub mod codec;
#[cfg(test)]
mod compat;
pub mod failure;
mod free_space;
pub mod identity;
mod ledger;
pub mod log;
mod lost_commits;
pub mod machine;
pub mod net;
pub mod node;
mod restriction;
mod roster;
mod runtime;
pub mod snapshot;
pub mod state_machine;
mod sums;
pub mod types;

pub use identity::{Incarnation, Member};
pub use machine::{Machine, MachineCommand, MachineError};
pub use net::{Answerer, Asker, Credentials, CredentialsError};
pub use node::{
    AdminError, ClockError, Committed, Leadership, Node, NodeConfig, NodeMetrics, ProposeError, ReadError,
    StartError, UnchangedMembership,
};
pub use restriction::{RestrictionChange, Restrictions};
pub use roster::{Alarm, Grounds};
pub use types::{CommandBytes, Reply};
