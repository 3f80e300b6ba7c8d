//! The wire between replicas.
//!
//! TCP, one port per replica, over TLS with certificates on both sides ([`tls`]); plain text between addresses of one
//! machine only. A connection begins with the protocol versions that both sides speak ([`handshake`]) and a hello that names
//! cluster, addressee, and what the sender says of itself ([`roster`](crate::roster)); the addressee answers alike, so that a
//! wrong peer is refused before anything else is sent. Then come frames: length (4 bytes, little endian, of what follows), kind
//! (1 byte), body ([`codec`](crate::codec)).
//!
//! | connection | carries |
//! |---|---|
//! | calls | votes, heartbeats, leader transfer; read index, clock, free space; forwarded requests: one request, one response; kept and reused, each of the three kinds on connections of its own |
//! | stream | entries from a leader, pipelined: answers come in order, without waiting |
//! | snapshot | the files of a checkpoint, those that the receiver lacks |
//!
//! So neither a large batch nor a snapshot nor any number of questions ever delays a heartbeat. How many connections
//! there may be of each kind is in [`places`]; what a message must satisfy before Raft gets it, in [`claims`]; what is
//! refused is counted in [`refusals`].

mod claims;
mod client;
#[cfg(test)]
pub(crate) mod compat;
mod frame;
mod handshake;
mod peers;
mod places;
mod refusals;
mod server;
mod snapshot;
#[cfg(test)]
mod tests;
mod tls;
mod wire;

pub(crate) use client::Network;
pub(crate) use frame::Kind;
pub(crate) use peers::{CallError, Peers};
pub(crate) use refusals::Refusals;
pub use server::{Answerer, Asker};
pub(crate) use server::{Condition, ReadIndexAnswer, Server};
pub(crate) use tls::Security;
pub use tls::{Credentials, CredentialsError};
