//! Events on their way out: every kind through the local bus, the live feed, and a real bus that fails.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../common/mod.rs"]
mod common;
mod feed;
mod files;
mod house;
mod jobs;
mod outage;
mod published;
mod restriction;
#[allow(dead_code)] // the events tests read more of it
#[path = "../events/schemas.rs"]
mod schemas;
