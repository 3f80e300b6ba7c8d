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

/// How many cases a property is tried with: so many, times `CDR_TEST_ROUNDS` where that is set, as in `make nightly`.
pub fn cases(usual: u32) -> u32 {
    usual * std::env::var("CDR_TEST_ROUNDS").map_or(1, |rounds| rounds.parse::<u32>().unwrap())
}
