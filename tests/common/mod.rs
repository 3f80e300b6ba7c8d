//! What the integration tests share. Each test binary uses a part of it.
#![allow(dead_code, clippy::unwrap_used, missing_docs)]

pub mod audit;
pub mod certificates;
pub mod cluster;
pub mod dev;
pub mod nats;
pub mod single;
