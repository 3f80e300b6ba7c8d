//! The bytes of the ledger in RocksDB: keys, tables, indexes, one atomic write per call, checkpoints, verification.
//!
//! The state machine of a replica calls [`Store::apply`]; readers call the rest from any thread. Decisions are
//! `cdr_core::apply`'s alone: this crate answers what it needs of earlier rows, and stores what follows.
//!
//! | module | owns |
//! |---|---|
//! | [`keys`] | every key of every table |
//! | `files`, `schema`, `generation` | the directory, the database's options and format version, opening |
//! | `page`, `rows`, `hours` | rows in pages; ordinals and places |
//! | `leaves` | row hashes, cached subtree roots, proofs |
//! | `seals`, `meta` | seals and signatures; the ledger state in pieces |
//! | `commit` | the write path |
//! | `following`, `lines`, `outbox` | which row adjusts which, what waits for a price; what every entry made happen |
//! | `exports`, `quarantine`, `settlement`, `settled` | settlement files; what is kept out of them; which records a file lists, and which file a record is in |
//! | [`index`] | look-up by id, message, subscriber, tenant, operator, event time; the filter of known messages |
//! | `query`, [`verify`] | filtered reading; comparing everything stored with the seals |
//!
//! What is on disk is always a prefix of what was applied: the database's own log is off, and a flush takes all
//! tables at once. After a crash the Raft log is applied again from [`Store::raft_meta`] on.

mod commit;
mod error;
mod exports;
mod files;
mod following;
mod generation;
mod hours;
pub mod index;
pub mod keys;
mod leaves;
mod lines;
mod meta;
mod metrics;
mod migration;
mod options;
mod outbox;
mod page;
mod quarantine;
mod query;
mod reconcile;
mod rows;
mod schema;
mod seals;
mod settled;
mod settlement;
mod store;
mod tables;
pub mod verify;

pub use commit::EntryRef;
pub use error::StoreError;
pub use exports::SeriesFile;
pub use metrics::StoreMetrics;
pub use options::StoreOptions;
pub use outbox::{OutboxEntry, UNPRICED_COUNTED};
pub use page::StoredRow;
pub use query::{RecordFilter, RecordPage, RowKind};
pub use reconcile::{HourCounts, Sums};
pub use schema::DISK_FORMAT;
pub use seals::StoredSeal;
pub use settled::RapBatch;
pub use settlement::{Listed, Returned};
pub use store::Store;
pub use verify::{Depth, Fault, HourReport, Pace, RangeReport};
