//! What a verification found.

use cdr_core::{Hash, Hour};

/// How deep a verification goes; every depth includes the ones above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// Seals, signatures, chains, and roots from the cached subtree roots.
    Roots,
    /// Trees from the stored row hashes.
    Leaves,
    /// Every row's bytes: hash, chain, place, and its entries in the indexes.
    Rows,
}

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Hour concerned.
    pub bucket_hour: Hour,
    /// Operator concerned, if it is not the whole hour.
    pub operator: Option<String>,
    /// First row concerned, where rows can be named.
    pub cdr_sequence: Option<u64>,
    /// Id of that row, if it can still be read.
    pub cdr_id: Option<String>,
    /// What was verified: `row`, `row page`, `row hash`, `subtree root`, `seal`, `signature`, `index`, `chain`.
    pub what: String,
    /// What does not fit.
    pub why: String,
}

/// The most faults that one report names; a damaged disk can have millions.
pub const MAX_FAULTS: usize = 1000;

/// What a verification of one hour found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HourReport {
    /// The hour.
    pub bucket_hour: Hour,
    /// How deep it went.
    pub depth: Depth,
    /// Rows covered by what was checked.
    pub rows_checked: u64,
    /// National root and chain as sealed; none if the seal can't be read.
    pub sealed: Option<SealedRoots>,
    /// Everything that does not fit, at most [`MAX_FAULTS`].
    pub faults: Vec<Fault>,
}

/// The national figures of a seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealedRoots {
    /// National root.
    pub bucket_root: Hash,
    /// National chain.
    pub chain_hash: Hash,
    /// Hash of the seal.
    pub seal_hash: Hash,
}

/// What a verification of several hours found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeReport {
    /// First hour.
    pub from: Hour,
    /// Last hour.
    pub to: Hour,
    /// How deep it went.
    pub depth: Depth,
    /// Hours verified.
    pub hours_checked: u64,
    /// Rows covered by what was checked.
    pub rows_checked: u64,
    /// Everything that does not fit, at most [`MAX_FAULTS`].
    pub faults: Vec<Fault>,
}

impl HourReport {
    /// True without faults.
    pub fn is_verified(&self) -> bool {
        self.faults.is_empty()
    }
}

impl RangeReport {
    /// True without faults.
    pub fn is_verified(&self) -> bool {
        self.faults.is_empty()
    }
}
