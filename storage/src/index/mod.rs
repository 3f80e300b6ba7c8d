//! Node-local indexes: where rows with some id, subscriber, tenant, operator or event time are.
//!
//! Rows are numbered over all hours: their *ordinal*. Every answer of an index is an ordinal, or a range of
//! them, that **may** match; the caller reads the row. A matching row is never left out.
//!
//! Rows gather in memory in a *block*. A full block is written in the batch of the row that filled it:
//!
//! | index | answers | stored as |
//! |---|---|---|
//! | [`Lookup`] | rows with an id or subscriber | sorted *runs* of (keyed fingerprint, inverted ordinal), cut into chunks |
//! | [`PostingKey`] | rows of a tenant, an operator or a kind | a list of offsets per block |
//! | event time | rows of a time span | minimum and maximum per 1,024 rows |
//! | [`filter`] | has a message been seen | Bloom filter in memory, rebuilt from the runs at open |
//!
//! Runs of one level that lie side by side are merged by a background thread ([`worker`]), which writes the
//! merged run beside its sources; the next [`Index::commit`] swaps the run list, and the sources are deleted
//! after that. Memory does not follow history: one block, the run list, the filter.
//!
//! Keys and values are documented in [`keys`], [`record`] and [`chunk`]; the tail of rows after the last full
//! block is not stored here, the owner adds those rows again at open ([`Index::tail_from`]).
//!
//! Call order of the apply thread: [`Index::add`], [`Index::commit`], write the batch, [`Index::committed`].
//! Every other method may be called from any thread at any time.

mod batch;
mod block;
mod candidates;
mod chunk;
mod events;
mod filter;
mod fingerprint;
mod geometry;
mod keys;
mod list;
mod merge;
mod open;
mod options;
mod posting;
mod postings;
mod record;
#[cfg(test)]
mod tests;
mod verify;
mod worker;
mod write;
mod zone;

pub use batch::Match;
pub use candidates::Candidates;
pub use events::EventRanges;
pub use filter::FilterStats;
pub use options::IndexOptions;
pub use postings::{InBoth, Postings};
pub use verify::IndexFault;

use crate::error::StoreError;
use cdr_core::{CdrId, Hour, Millis, Uuid};
use rocksdb::{ColumnFamily, DB};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What the indexes need to know of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowKeys {
    /// Number of the row over all hours, from 0.
    pub ordinal: u64,
    /// Id of the row.
    pub cdr_id: CdrId,
    /// Message, of every `sms` row, adjustments too.
    pub message_id: Option<Uuid>,
    /// True for an `sms` row that is not an adjustment: it takes part in the search for duplicates.
    pub original: bool,
    /// Keyed hash of the recipient's number.
    pub msisdn_to: Option<[u8; 32]>,
    /// Submitter.
    pub tenant: Option<Uuid>,
    /// Registry index of the operator.
    pub operator: u16,
    /// Time of the final state.
    pub event_at: Option<Millis>,
    /// Direct predecessor, of an adjustment.
    pub adjustment_of: Option<CdrId>,
    /// What kind of row it is, if it is not an original CDR (see [`kind`]).
    pub kind: Option<u8>,
    /// Hour in which the log accepted the row; never falls from one ordinal to the next.
    pub bucket_hour: Hour,
}

/// What rows are looked up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Rows with this id.
    CdrId(CdrId),
    /// Rows of this message: the CDR and its adjustments.
    Message(Uuid),
    /// Rows to this subscriber.
    MsisdnTo([u8; 32]),
    /// Direct adjustments of this row.
    AdjustmentOf(CdrId),
}

/// Whose posting list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostingKey {
    /// Rows that this tenant submitted.
    Tenant(Uuid),
    /// Rows of the operator with this registry index.
    Operator(u16),
    /// Rows of this kind (see [`kind`]).
    Kind(u8),
}

/// Kinds of rows that have lists of their own: they are few among many CDRs.
pub mod kind {
    use cdr_core::row::SystemKind;

    /// Adjustments.
    pub const ADJUSTMENT: u8 = 0;

    /// System rows of a kind.
    pub fn system(kind: SystemKind) -> u8 {
        16 + kind as u8
    }
}

/// The indexes of one store. Owns column family `index` and the keys of `meta` that begin with `index/`.
pub struct Index {
    db: Arc<DB>,
    fingerprints: fingerprint::Fingerprints,
    geometry: geometry::Geometry,
    shared: RwLock<Shared>,
    writer: Mutex<write::Writer>,
    filter: Mutex<filter::Filter>,
}

/// What readers see: the runs on disk, and the rows after them.
struct Shared {
    list: Arc<list::RunList>,
    /// Full blocks that no committed batch holds yet, in order.
    full: Vec<Arc<block::Block>>,
    open: block::Block,
}

impl Index {
    /// First ordinal that no written block covers: the owner adds the rows from here again after opening.
    pub fn tail_from(&self) -> u64 {
        self.shared().list.next
    }

    /// First ordinal that the indexes still cover; rows before it were dropped.
    pub fn first_ordinal(&self) -> u64 {
        self.shared().list.first
    }

    /// Number of runs on disk.
    pub fn run_count(&self) -> usize {
        self.shared().list.runs.len()
    }

    // A panic while a lock was held leaves at most a block without its last row, and the owner of the apply
    // thread has died with it: readers may go on.
    fn shared(&self) -> RwLockReadGuard<'_, Shared> {
        self.shared.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared_mut(&self) -> RwLockWriteGuard<'_, Shared> {
        self.shared.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn writer(&self) -> MutexGuard<'_, write::Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn filter(&self) -> MutexGuard<'_, filter::Filter> {
        self.filter.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The handle of a column family.
fn column<'a>(db: &'a DB, name: &'static str) -> Result<&'a ColumnFamily, StoreError> {
    db.cf_handle(name).ok_or_else(|| StoreError::Unknown { what: format!("column family {name}") })
}

/// A stored value that can't be what was written.
fn damaged(key: &[u8], why: impl Into<String>) -> StoreError {
    StoreError::Damaged { what: format!("index entry {}", keys::describe(key)), why: why.into() }
}
