//! What the benchmarks share.
#![allow(dead_code, missing_docs)]

pub mod load;
pub mod own;
