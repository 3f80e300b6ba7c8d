//! A small state machine and clusters of nodes in one process.
#![allow(dead_code, clippy::unwrap_used, missing_docs)]

pub mod cluster;
pub mod machine;
