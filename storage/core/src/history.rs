//! What a replica has applied, in 32 bytes: a rolling hash over every command and what followed from it.
//!
//! Two replicas that applied the same commands to the same state have the same history; two whose logs differ, or whose
//! code decided differently, never have it again. A command carries the history of its leader, so a fork is found with
//! the next command, whatever made it.
//!
//! With the commands from the log's first on, `history = SHA-256(bytes)` over, integers big-endian:
//!
//! | bytes | |
//! |---|---|
//! | 32 | the history before; zeros at the beginning |
//! | 8, 8 | index and term of the log entry |
//! | 1, 0 to 40 | the reply: its number, then its figures |
//! | 8 | rows of all hours, after the command |
//! | 32 | hash of the last row that it appended; zeros if none |
//! | 32 | hash of the last seal |
//! | 2 + n, 48 | of every stream that it changed, ascending by name: length and bytes of the name; position, appended, duplicate, ignored, dead letters, missing |
//!
//! Entries without a command (a leader's first, memberships) have no part in it.

use crate::command::{Rejection, Reply};
use crate::hash::Hash;
use crate::state::{LedgerState, Stream};
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::VecDeque;

/// Marks that a replica keeps for comparison.
pub const MARKS_KEPT: usize = 1024;

/// The history after a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
pub struct Mark {
    /// Index of the command's entry in the Raft log; 0 before the first command.
    pub index: u64,
    /// The history after it.
    pub history: Hash,
}

/// What a command did, as far as its history needs it.
#[derive(Clone, Copy, Debug)]
pub struct Applied<'a> {
    /// Index of its entry.
    pub index: u64,
    /// Term of its entry.
    pub term: u64,
    /// Its reply.
    pub reply: &'a Reply,
    /// Hash of the last row that it appended.
    pub last_row: Option<&'a Hash>,
}

/// The mark after a command that led from `before` to `after`.
pub fn next(before: &LedgerState, after: &LedgerState, applied: &Applied<'_>) -> Mark {
    let mut hash = Sha256::new();
    hash.update(before.head.applied.history);
    hash.update(applied.index.to_be_bytes());
    hash.update(applied.term.to_be_bytes());
    add_reply(&mut hash, applied.reply);
    hash.update(after.head.row_count.to_be_bytes());
    hash.update(applied.last_row.unwrap_or(&[0; 32]));
    hash.update(after.head.prev_seal_hash);
    for stream in &after.streams {
        if before.stream(&stream.name).map(|at| &before.streams[at]) != Some(stream) {
            add_stream(&mut hash, stream);
        }
    }
    Mark { index: applied.index, history: hash.finalize().into() }
}

fn add_reply(hash: &mut Sha256, reply: &Reply) {
    let (number, figures): (u8, Vec<u64>) = match reply {
        Reply::None => (0, vec![]),
        Reply::Initialized => (1, vec![]),
        Reply::Fenced { term } => (2, vec![*term]),
        Reply::Ingested(done) => {
            (3, vec![done.appended, done.duplicate, u64::from(done.bucket_hour), done.position])
        }
        Reply::Appended { bucket_hour, first_sequence } => {
            (4, vec![u64::from(*bucket_hour), *first_sequence])
        }
        Reply::Sealed { hours } => (5, vec![u64::from(*hours)]),
        Reply::Repeated { .. } => (6, vec![]),
        Reply::Signed => (7, vec![]),
        Reply::Published => (8, vec![]),
        Reply::Rejected(rejection) => (9, vec![rejection_number(rejection)]),
        Reply::Reconciled => (10, vec![]),
    };
    hash.update([number]);
    for figure in figures {
        hash.update(figure.to_be_bytes());
    }
}

/// Numbers are never reused.
fn rejection_number(rejection: &Rejection) -> u64 {
    match rejection {
        Rejection::Fenced { .. } => 1,
        Rejection::NotInitialized => 2,
        Rejection::AlreadyInitialized { .. } => 3,
        Rejection::ClockJump { .. } => 4,
        Rejection::Position { .. } => 5,
        Rejection::UnknownStream { .. } => 6,
        Rejection::UnknownOperator { .. } => 7,
        Rejection::UnknownRecord { .. } => 8,
        Rejection::AlreadyVoided { .. } => 9,
        Rejection::Superseded { .. } => 10,
        Rejection::IdempotencyConflict => 11,
        Rejection::JobMoved { .. } => 12,
        Rejection::UnknownExport { .. } => 13,
        Rejection::ExportMoved { .. } => 14,
        Rejection::ExportAcked { .. } => 15,
        Rejection::AlreadyQuarantined { .. } => 16,
        Rejection::Illegal { .. } => 17,
        Rejection::Signature { .. } => 18,
        Rejection::Outdated { .. } => 19,
    }
}

fn add_stream(hash: &mut Sha256, stream: &Stream) {
    // Names of streams are bounded far below by the bus.
    hash.update((stream.name.len() as u16).to_be_bytes());
    hash.update(&stream.name);
    let figures = [
        stream.position,
        stream.appended,
        stream.duplicate,
        stream.ignored,
        stream.dead_lettered,
        stream.missing,
    ];
    for figure in figures {
        hash.update(figure.to_be_bytes());
    }
}

/// What comparing another replica's mark with one's own says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Both have the same history up to there.
    Same,
    /// The mark is older than what is kept, or newer than what is applied here.
    Unknown,
    /// The replicas are forked.
    Differs(Difference),
}

/// Where two replicas' histories differ first, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Entry up to which they were last seen to agree.
    pub agreed: Option<u64>,
    /// What the other replica has.
    pub theirs: Mark,
    /// What this one has at the same entry; `None` if it applied no command there.
    pub ours: Option<Hash>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ours = self.ours.map_or_else(|| "none".to_owned(), |hash| crate::hash::to_hex(&hash));
        write!(
            f,
            "at entry {} the other replica's history is {}, this one's {ours}",
            self.theirs.index,
            crate::hash::to_hex(&self.theirs.history)
        )?;
        match self.agreed {
            Some(agreed) => write!(f, "; they last agreed at entry {agreed}"),
            None => write!(f, "; they were not seen to agree since this replica's start"),
        }
    }
}

/// The last marks of a replica. Started over at a start and with an installed snapshot.
#[derive(Clone, Debug, Default)]
pub struct Marks {
    kept: VecDeque<Mark>,
    agreed: Option<u64>,
}

impl Marks {
    /// Marks of a replica whose last one is `mark`.
    pub fn begin(mark: Mark) -> Self {
        Self { kept: VecDeque::from([mark]), agreed: None }
    }

    /// The last one.
    pub fn last(&self) -> Mark {
        self.kept.back().copied().unwrap_or_default()
    }

    /// Adds the mark of the next command.
    pub fn push(&mut self, mark: Mark) {
        if self.kept.len() >= MARKS_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(mark);
    }

    /// Compares a mark that another replica has reached.
    pub fn compare(&self, theirs: &Mark) -> Comparison {
        let (Some(first), Some(last)) = (self.kept.front(), self.kept.back()) else {
            return Comparison::Unknown;
        };
        if theirs.index < first.index || theirs.index > last.index {
            return Comparison::Unknown;
        }
        let at = self.kept.partition_point(|mark| mark.index < theirs.index);
        match self.kept.get(at).filter(|mark| mark.index == theirs.index) {
            Some(ours) if ours.history == theirs.history => Comparison::Same,
            ours => self.differs(theirs, ours.map(|mark| mark.history)),
        }
    }

    /// Compares the mark that a command carries, before it is applied. Its leader had applied no command that comes
    /// behind this one, so a mark behind the last one here means a command that this replica does not have.
    pub fn compare_carried(&mut self, theirs: &Mark) -> Comparison {
        // A mark of 0 means that the leader had applied no command.
        if theirs.index > self.last().index {
            return self.differs(theirs, None);
        }
        let compared = self.compare(theirs);
        if compared == Comparison::Same {
            self.agreed = Some(theirs.index);
        }
        compared
    }

    fn differs(&self, theirs: &Mark, ours: Option<Hash>) -> Comparison {
        Comparison::Differs(Difference { agreed: self.agreed, theirs: *theirs, ours })
    }
}

/// Fences that a ledger remembers. There is one for each time that a replica began to lead.
pub const FENCES_KEPT: usize = 1024;

/// Where a ledger that is to take this one's place has another history, if it has. Every fork begins with somebody else's
/// leading, so the marks of fences show: up to the last entry that is `applied` here, both have the same ones.
pub fn fork_by_fences(ours: &[Mark], applied: u64, theirs: &[Mark]) -> Option<Difference> {
    let (Some(our_first), Some(their_first)) = (ours.first(), theirs.first()) else { return None };
    let from = our_first.index.max(their_first.index);
    let compared = |mark: &&Mark| (from..=applied).contains(&mark.index);
    let (mut agreed, mut theirs) = (None, theirs.iter().filter(compared));
    for mark in ours.iter().filter(compared) {
        match theirs.next() {
            Some(other) if other == mark => agreed = Some(mark.index),
            Some(other) => {
                let ours = (other.index == mark.index).then_some(mark.history);
                return Some(Difference { agreed, theirs: *other, ours });
            }
            None => {
                let theirs = Mark { index: mark.index, history: [0; 32] };
                return Some(Difference { agreed, theirs, ours: Some(mark.history) });
            }
        }
    }
    theirs.next().map(|other| Difference { agreed, theirs: *other, ours: None })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn another_leader_at_or_before_what_is_applied_is_a_fork() {
        let ours = [mark(1), mark(40)];
        assert_eq!(fork_by_fences(&ours, 100, &[mark(1), mark(40), mark(101)]), None);
        assert_eq!(fork_by_fences(&ours, 100, &[mark(1), mark(40)]), None);
        let led_since = fork_by_fences(&ours, 100, &[mark(1), mark(40), mark(91)]).unwrap();
        assert_eq!((led_since.agreed, led_since.theirs, led_since.ours), (Some(40), mark(91), None));
        assert!(fork_by_fences(&ours, 100, &[mark(1), other(40)]).is_some());
        assert!(fork_by_fences(&ours, 100, &[mark(1), mark(101)]).is_some(), "they lack one");
    }

    #[test]
    fn fences_that_one_of_them_no_longer_remembers_say_nothing() {
        assert_eq!(fork_by_fences(&[], 0, &[mark(1), mark(40)]), None);
        assert_eq!(fork_by_fences(&[mark(1), mark(40)], 100, &[mark(40), mark(101)]), None);
        assert_eq!(fork_by_fences(&[mark(40)], 100, &[mark(1), mark(40)]), None);
    }

    fn mark(index: u64) -> Mark {
        Mark { index, history: [index as u8; 32] }
    }

    fn other(index: u64) -> Mark {
        Mark { index, history: [0xff; 32] }
    }

    fn marks() -> Marks {
        let mut marks = Marks::begin(mark(4));
        [5, 7, 9].map(mark).into_iter().for_each(|mark| marks.push(mark));
        marks
    }

    #[test]
    fn a_known_entry_with_another_history_differs() {
        let marks = marks();
        assert_eq!(marks.compare(&mark(5)), Comparison::Same);
        assert!(matches!(marks.compare(&other(5)), Comparison::Differs(d) if d.ours == Some([5; 32])));
        assert!(matches!(marks.compare(&mark(6)), Comparison::Differs(d) if d.ours.is_none()));
    }

    #[test]
    fn what_is_older_or_not_reached_is_unknown() {
        let marks = marks();
        assert_eq!(marks.compare(&other(3)), Comparison::Unknown);
        assert_eq!(marks.compare(&other(10)), Comparison::Unknown);
        assert_eq!(Marks::default().compare(&other(1)), Comparison::Unknown);
    }

    #[test]
    fn a_command_whose_leader_applied_more_than_precedes_it_here_differs() {
        let mut marks = marks();
        assert!(matches!(marks.compare_carried(&mark(10)), Comparison::Differs(d) if d.agreed.is_none()));
        assert_eq!(marks.compare_carried(&mark(7)), Comparison::Same);
        assert!(matches!(marks.compare_carried(&other(9)), Comparison::Differs(d) if d.agreed == Some(7)));
        assert_eq!(Marks::begin(Mark::default()).compare_carried(&Mark::default()), Comparison::Same);
    }

    #[test]
    fn no_more_are_kept_than_needed() {
        let mut marks = Marks::begin(mark(1));
        (2..=3000).map(mark).for_each(|mark| marks.push(mark));
        assert_eq!(marks.kept.len(), MARKS_KEPT);
        assert_eq!(marks.compare(&other(3000 - MARKS_KEPT as u64)), Comparison::Unknown);
        assert!(matches!(marks.compare(&other(3001 - MARKS_KEPT as u64)), Comparison::Differs(_)));
    }
}
