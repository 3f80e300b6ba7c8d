//! What follows from a command.

use crate::adjust::Superseded;
use crate::command::{Reconcile, Reply, SignSeal};
use crate::export::books::Books;
use crate::hash::Hash;
use crate::row::{Row, SystemKind};
use crate::state::{ClosedHour, LedgerState, Subtree};

/// A row that is to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct NewRow<'a> {
    /// Number of the row over all hours, from 0.
    pub ordinal: u64,
    /// Registry index of its operator.
    pub operator: u16,
    /// Its position among the operator's rows of the hour, from 0.
    pub leaf_index: u64,
    /// Its hash.
    pub row_hash: Hash,
    /// The row.
    pub row: Row<'a>,
    /// The draft's encoding, to be stored as it is.
    pub draft_bytes: &'a [u8],
    /// What an adjustment takes the place of.
    pub supersedes: Option<Superseded>,
}

/// What follows from a command; written in one atomic step.
#[derive(Clone, Debug)]
pub struct Transition<'a> {
    /// The state afterwards.
    pub state: LedgerState,
    /// What of the state changed.
    pub changes: Changes,
    /// Hours that were closed, before any row was appended.
    pub closed: Vec<ClosedHour>,
    /// Rows that were appended, all in the state's open hour.
    pub rows: Vec<NewRow<'a>>,
    /// Cached subtrees that the rows completed.
    pub subtrees: Vec<Subtree>,
    /// Settlement files and quarantine entries that rows changed.
    pub books: Books,
    /// A signature to be stored beside the seal of an hour.
    pub signature: Option<SignSeal>,
    /// Billing's events, to be reconciled with the records.
    pub reconcile: Option<Reconcile<'a>>,
    /// The answer.
    pub reply: Reply,
}

/// Which parts of the state a transition changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Everything: settings, registry, keys, every partition and stream.
    pub all: bool,
    /// The head alone, or with the partitions and streams below.
    pub head: bool,
    /// Positions of changed partitions, ascending.
    pub partitions: Vec<usize>,
    /// Positions of changed streams.
    pub streams: Vec<usize>,
    /// Jobs.
    pub jobs: bool,
    /// Settings.
    pub settings: bool,
    /// How far settlement files are.
    pub exports: bool,
    /// Where leaders began.
    pub fences: bool,
}

impl Changes {
    /// What a system row of this kind can change beyond its partition.
    pub(super) fn note(&mut self, kind: SystemKind) {
        match kind {
            SystemKind::Operator | SystemKind::Key | SystemKind::Stream => self.all = true,
            SystemKind::Job => self.jobs = true,
            SystemKind::Config => self.settings = true,
            SystemKind::Export | SystemKind::Delivery => self.exports = true,
            _ => {}
        }
    }

    pub(super) fn stream(&mut self, at: usize) {
        if !self.streams.contains(&at) {
            self.streams.push(at);
        }
    }
}
