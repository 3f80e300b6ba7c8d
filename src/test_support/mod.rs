//! What the unit tests of the service share, and what needs its own types. What needs none of them is in the crate
//! `testkit`.

pub mod node;
pub mod settlement;
