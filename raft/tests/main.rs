//! The tests of nodes and of the consensus layer, in one binary.
#![allow(clippy::unwrap_used, missing_docs)]

mod builds;
mod cluster;
mod common;
mod identity;
mod ledger_snapshot;
mod sim;
mod suite;
