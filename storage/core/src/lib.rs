//! What a CDR row is, how it is hashed, chained, sealed and verified, and which transitions are legal.
//!
//! This crate is pure: no IO, no async, no clock, no randomness. Everything the system decides is
//! [`apply()`]: a function of the present [`LedgerState`], what a [`View`] knows of earlier rows, and a
//! [`Command`] that carries its own time. An auditor can build the verifier from this crate alone.
//!
//! | module | owns |
//! |---|---|
//! | [`row`] | the canonical row and its parts |
//! | [`schema`] | which fields a row of which version has: the one definition of a CDR's fields |
//! | [`canonical`] | the RFC 8785 bytes of a row, from which its hash is taken |
//! | [`personal`] | which parts of a row are personal data, and the salted hash that commits to them |
//! | [`merkle`], [`chain`] | trees, frontiers, proofs; the formulas of roots and chains |
//! | [`json`] | the one reader of JSON from outside |
//! | [`reading`] | a row read back from its JSON |
//! | [`seal`] | what closes an hour: seal, completeness statement, signature |
//! | [`key`] | signing keys, their algorithms and times, and the records that vouch for them |
//! | [`export_signature`] | the sidecar that signs the file of an export |
//! | [`state`] | the fold over rows: open bucket, partitions, streams, keys |
//! | [`adjust`], [`job`], [`audit`] | which adjustments may follow a row; bulk jobs; who did what |
//! | [`setting`] | regulator-facing settings |
//! | [`export`] | settlement files: their numbers, what they list, how far they are |
//! | [`command`], [`mod@apply`] | what can be proposed, and what follows from it |
//! | [`rules`] | the rules version of a ledger, the formats that come with it, and what a build knows |
//! | [`history`] | a rolling hash over what was applied, by which replicas notice that they differ |
//! | [`proof`] | portable proofs and the one verifier that everything shares |
//! | [`tariff`] | price lists, and the proof that a row's charge follows from one |
//! | [`codec`] | the compact encoding of drafts and commands, with its version byte |

// Purity is enforced: `clippy.toml` beside this crate's manifest lists what is banned and why.
#![deny(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::disallowed_macros,
    clippy::iter_over_hash_type,
    clippy::float_arithmetic
)]

pub mod adjust;
pub mod apply;
pub mod audit;
pub mod canonical;
pub mod chain;
pub mod codec;
pub mod command;
pub mod export;
pub mod export_signature;
pub mod hash;
pub mod history;
pub mod id;
pub mod job;
pub mod json;
pub mod key;
pub mod memory;
pub mod merkle;
pub mod money;
pub mod personal;
pub mod proof;
pub mod reading;
pub mod receipt;
pub mod row;
pub mod rules;
pub mod schema;
pub mod seal;
pub mod setting;
pub mod state;
mod tally;
pub mod tariff;
pub mod time;

pub use apply::{NewRow, Transition, View, ViewError, apply, apply_entry};
pub use command::{Command, Envelope, Rejection, Reply};
pub use hash::Hash;
pub use history::Mark;
pub use id::{CdrId, Uuid};
pub use money::Money;
pub use row::Row;
pub use seal::Seal;
pub use state::LedgerState;
pub use time::{Day, Hour, Millis};
