//! What proves the chain: hours and their seals, proofs, verification.

pub(super) mod chain;
pub(super) mod hours;
pub(super) mod proof;
pub(super) mod rollups;
pub(super) mod verify;
