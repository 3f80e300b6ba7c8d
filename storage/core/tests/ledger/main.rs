//! The pure ledger, held against an independent recomputation of everything that the format describes.
#![allow(missing_docs)]
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]
#![allow(clippy::assigning_clones, clippy::format_collect, clippy::format_push_string)]

mod adjustments;
mod canonical;
mod codec;
mod golden;
mod history;
mod naive;
mod oracle;
mod proofs;
mod raising;
mod receipts;
mod rules;
mod samples;
mod scenarios;
mod vectors;
mod world;
