//! Ingest: receipts from the bus become canonical CDRs in the log (US-CDR-001).
//!
//! The replicated position of each stream epoch is the truth. Every term creates the consumer again behind it,
//! reads in stream order, and proposes batches that continue it exactly; messages are acknowledged to the bus
//! only after a quorum has their rows on disk. Stages: [`epoch`] compares the stream with the position, [`halt`] stops
//! where the bus has acknowledged more than the ledger has,
//! [`batch`] projects and accounts for every sequence, [`late`] finds receipts that correct a record, [`tail`] finds
//! what was deleted unread at the stream's end, [`pump`] keeps several proposals in flight.

mod batch;
mod dead_letter;
mod epoch;
mod halt;
mod late;
mod projection;
mod pump;
mod tail;

pub use dead_letter::dead_letter_names;
pub(crate) use dead_letter::{dead_letter, inbound_limit_bytes, put_away};
pub use halt::Halt;
pub(crate) use projection::Projector;
pub use pump::{Ingest, IngestError, IngestSettings};
pub use tail::LastNamed;

#[cfg(test)]
mod tests;
