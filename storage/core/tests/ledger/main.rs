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
mod versions;
mod world;

/// How many cases a property is tried with: so many, times `CDR_TEST_ROUNDS` where that is set, as in `make nightly`.
pub fn cases(usual: u32) -> u32 {
    usual * std::env::var("CDR_TEST_ROUNDS").map_or(1, |rounds| rounds.parse::<u32>().unwrap())
}
