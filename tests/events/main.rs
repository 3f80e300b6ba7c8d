//! Every event that is built, held against its JSON Schema, against its source, and searched for subscribers' numbers.
#![allow(missing_docs, clippy::unwrap_used)]

mod built;
mod carried;
#[path = "../common/nats.rs"]
mod nats;
mod privacy;
mod samples;
mod schemas;
mod valid;
