//! The tests of the store as other crates see it, in one binary.
#![allow(clippy::unwrap_used, missing_docs)]

mod damage;
mod oracle;
mod outbox;
mod query;
mod reconciliation;
mod recovery;
mod rules;
mod settlement;
mod support;
