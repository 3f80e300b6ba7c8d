//! The Raft log: entries, vote, and the proof that nothing which was synced has been lost.
//!
//! The log is a sequence of records in segment files of 64 MB, allocated ahead. One thread writes: it
//! takes everything that is queued (entries, vote, truncation, purge), writes it with one write and one
//! `fdatasync`, and then reports all of it done, so that a vote and an append can never change order
//! and many appends share one sync. The last 64 MB of entries are also kept in memory, which serves
//! nearly every read.
//!
//! | file | holds |
//! |---|---|
//! | `<number>.log` | records: checksum, length, kind, payload ([`record`]) |
//! | `flushed_upto` | where the log ended after a sync, synced separately ([`marker`]) |
//! | `identity` | the cluster and node whose log this is |
//! | `LOCK` | held while a process uses the log |
//!
//! **Recovery** reads every segment. What follows the last valid record of the last segment is the torn
//! remainder of a write that was never acknowledged, and is cut. If the log ends before `flushed_upto`,
//! or a vote is missing that was there, the node has *amnesia*: it may have promised what it no longer
//! knows, so [`LogStore::open`] refuses, changes nothing, and the node must rejoin under a new id.
//!
//! **Failures**: a failed sync or an IO error poisons the log, because what the kernel then has on disk
//! is unknown; every later operation fails until a restart has read the log again. A full disk is
//! different: space is reserved before anything is written, so a refusal loses nothing. It is counted,
//! tried again, and after three refusals in a row the node is restricted until one succeeds.
//!
//! Why not the crate `raft-log`: it changes its state in memory before the write and its flush worker
//! ends at the first error, so a full disk could not be survived; it also does not record how far it
//! has synced, so the loss of a synced tail would pass for a torn one.

mod contents;
mod disk;
mod error;
mod files;
mod marker;
mod options;
mod record;
mod recovery;
mod stats;
mod storage;
mod store;
mod writer;

#[cfg(test)]
mod tests;

pub use error::LogError;
pub use options::LogOptions;
pub use stats::LogStats;
pub use store::LogStore;
pub(crate) use store::incarnation_of;
