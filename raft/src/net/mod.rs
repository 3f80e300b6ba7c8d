//! The wire between replicas.
//!
//! TCP, one port per replica. A connection begins with eight bytes of magic and a hello that names
//! protocol version, cluster, addressee, and what the sender says of itself ([`roster`](crate::roster)); the
//! addressee answers alike, so that a wrong peer is refused before anything is said. Then come frames: length (4 bytes, little endian, of what follows), kind (1 byte), body
//! ([`codec`](crate::codec)).
//!
//! | connection | carries |
//! |---|---|
//! | calls | votes, heartbeats, leader transfer, read index, clock: one question, one answer; kept and used again |
//! | stream | entries from a leader, pipelined: answers come in order, without waiting |
//! | snapshot | the files of a checkpoint, those that the receiver lacks |
//!
//! So neither a large batch nor a snapshot ever delays a heartbeat. There is no encryption here: replicas
//! talk in a network of their own.

mod client;
mod frame;
mod handshake;
mod peers;
mod server;
mod snapshot;

pub(crate) use client::Network;
pub(crate) use frame::Kind;
pub(crate) use peers::{CallError, Peers};
pub use server::Answerer;
pub(crate) use server::{ReadIndexAnswer, Server};
