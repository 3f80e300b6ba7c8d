//! What is checked before a message reaches Raft: that it is sent in its sender's name, that its terms and positions are
//! within bounds, and that its entries continue what is committed.
//!
//! Raft trusts every message that looks like one. A single term near the largest number would end all elections, since
//! no larger one can follow; and entries in the place of committed ones would make the replicas differ.

use super::refusals::{Refusal, Refused};
use crate::lost_commits::would_forget;
use crate::types::{Entry, LogId, SnapshotMeta, TypeConfig, Vote};
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderRequest, VoteRequest,
};
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// A term further above one's own is refused: elections do not get there in years.
pub(super) const TERMS_AHEAD: u64 = 1 << 20;

/// No log gets as far as this.
const LAST_INDEX: u64 = 1 << 62;

/// Entries in one append, at most; a leader sends far fewer.
const MOST_ENTRIES: usize = 4_096;

/// How far this replica is.
#[derive(Clone, Debug, Default)]
pub(super) struct Here {
    pub term: u64,
    /// True if it has neither entries nor a vote: then it can't know how far the others are.
    pub is_empty: bool,
    /// The last entry that it knows to be committed.
    pub committed: Option<LogId>,
    /// The last committed entry that the peer is known to have on disk.
    pub acknowledged: u64,
}

type Checked = Result<(), Refused>;

fn refuse(why: Refusal, message: impl Into<String>) -> Checked {
    Err(Refused::new(why, message))
}

/// A vote or a pre-vote that `peer` requests.
pub(super) fn check_vote(request: &VoteRequest<TypeConfig>, peer: u64, here: &Here) -> Checked {
    named(&request.vote, peer, "candidate")?;
    bounded(&request.vote, here)?;
    within(request.last_log_id.as_ref(), &request.vote)?;
    complete(request.last_log_id.as_ref(), peer, here.acknowledged)
}

/// What `peer` has acknowledged is in its log, which ends with `last`. Whether it is an older copy is decided when it
/// introduces itself again: what it acknowledges meanwhile says nothing against it.
pub(super) fn complete(last: Option<&LogId>, peer: u64, acknowledged: u64) -> Checked {
    let end = last.map_or(0, LogId::index);
    if end >= acknowledged {
        return Ok(());
    }
    let message = format!(
        "the log of node {peer} ends at entry {end}, but entries up to {acknowledged} were acknowledged: it has to \
         introduce itself again"
    );
    refuse(Refusal::LogEnd, message)
}

/// Entries or a heartbeat come from `peer`.
pub(super) fn check_append(request: &Append, peer: u64, here: &Here) -> Checked {
    led(&request.vote, peer)?;
    bounded(&request.vote, here)?;
    within(request.prev_log_id.as_ref(), &request.vote)?;
    within(request.leader_commit.as_ref(), &request.vote)?;
    continuous(request)?;
    not_forking(request, here)
}

/// A snapshot is offered by `peer`.
pub(super) fn check_snapshot(vote: &Vote, meta: &SnapshotMeta, peer: u64, here: &Here) -> Checked {
    led(vote, peer)?;
    bounded(vote, here)?;
    within(meta.last_log_id.as_ref(), vote)
}

/// Leadership is handed over by `peer`.
pub(super) fn check_transfer(request: &TransferLeaderRequest<TypeConfig>, peer: u64, here: &Here) -> Checked {
    led(request.from_leader(), peer)?;
    bounded(request.from_leader(), here)?;
    within(request.last_log_id(), request.from_leader())
}

/// The term in a response to a request in term `asked`.
pub(super) fn check_answer(vote: &Vote, asked: u64) -> Checked {
    let here = Here { term: asked, ..Here::default() };
    bounded(vote, &here)
}

/// The response to an append: its term, and that no more is acknowledged than was sent, up to `sent`.
pub(super) fn check_accepted(answer: &StreamAppendResult<TypeConfig>, asked: u64, sent: u64) -> Checked {
    match answer {
        Err(StreamAppendError::HigherVote(vote)) => check_answer(vote, asked),
        Ok(Some(matching)) if matching.index() > sent => refuse(
            Refusal::OutOfBounds,
            format!("it acknowledged entries up to {matching}, but only those up to {sent} were sent"),
        ),
        _ => Ok(()),
    }
}

fn led(vote: &Vote, peer: u64) -> Checked {
    named(vote, peer, "leader")?;
    if vote.committed { Ok(()) } else { refuse(Refusal::Impostor, "a leader that no quorum has elected") }
}

fn named(vote: &Vote, peer: u64, role: &str) -> Checked {
    let named = vote.leader_id.voted_for;
    if named == peer {
        return Ok(());
    }
    refuse(Refusal::Impostor, format!("node {peer} names node {named} as the {role}"))
}

fn bounded(vote: &Vote, here: &Here) -> Checked {
    let (term, own) = (vote.leader_id.term, here.term);
    // The next term must exist, whichever replica starts it.
    let highest = if here.is_empty { u64::MAX - TERMS_AHEAD } else { own.saturating_add(TERMS_AHEAD) };
    if term <= highest {
        return Ok(());
    }
    refuse(
        Refusal::OutOfBounds,
        format!("term {term} is more than {TERMS_AHEAD} above this replica's term, {own}"),
    )
}

fn within(log_id: Option<&LogId>, vote: &Vote) -> Checked {
    match log_id {
        Some(id) if id.leader_id.term > vote.leader_id.term => {
            refuse(Refusal::OutOfBounds, format!("log id {id} is of a later term than its message"))
        }
        Some(id) if id.index() > LAST_INDEX => {
            refuse(Refusal::OutOfBounds, format!("no log can reach log id {id}"))
        }
        _ => Ok(()),
    }
}

/// Each entry has the index after the one before it, and no earlier term.
fn continuous(request: &Append) -> Checked {
    let mut before = request.prev_log_id;
    for entry in &request.entries.0 {
        let id = &entry.log_id;
        within(Some(id), &request.vote)?;
        let follows = match &before {
            Some(before) => id.index() == before.index() + 1 && id.leader_id.term >= before.leader_id.term,
            None => id.index() == 0,
        };
        if !follows {
            return refuse(Refusal::Fork, format!("entry {id} can't follow {before:?}"));
        }
        before = Some(*id);
    }
    Ok(())
}

/// What is committed here is not replaced: up to there, no entry can be of a later term than the last one committed.
fn not_forking(request: &Append, here: &Here) -> Checked {
    let Some(committed) = here.committed.as_ref() else { return Ok(()) };
    let same_place = |id: &LogId| id.index() == committed.index() && id != committed;
    let too_late =
        |id: &LogId| id.index() < committed.index() && id.leader_id.term > committed.leader_id.term;
    let forks = |id: &&LogId| same_place(id) || too_late(id);
    // Without entries nothing is replaced, and Raft answers what does not match.
    let before = request.prev_log_id.iter().filter(|_| !request.entries.0.is_empty());
    let mut told = before.chain(request.entries.0.iter().map(|entry| &entry.log_id));
    match told.find(forks) {
        None => Ok(()),
        Some(id) => {
            let refused = Refused::new(Refusal::Fork, would_forget(id.index(), committed));
            Err(Refused { forgets: true, ..refused })
        }
    }
}

/// An append as it is read off the wire: [`AppendEntriesRequest`], with a bound on its entries. A blank entry takes a
/// few bytes there and far more in memory.
#[derive(Debug, Deserialize)]
pub(super) struct Append {
    pub vote: Vote,
    pub prev_log_id: Option<LogId>,
    pub entries: Entries,
    pub leader_commit: Option<LogId>,
}

/// Entries of an append.
#[derive(Debug)]
pub(super) struct Entries(pub Vec<Entry>);

impl From<Append> for AppendEntriesRequest<TypeConfig> {
    fn from(append: Append) -> Self {
        let Append { vote, prev_log_id, entries, leader_commit } = append;
        Self { vote, prev_log_id, entries: entries.0, leader_commit }
    }
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Bounded)
    }
}

struct Bounded;

impl<'de> Visitor<'de> for Bounded {
    type Value = Entries;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "at most {MOST_ENTRIES} entries")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::with_capacity(sequence.size_hint().unwrap_or(0).min(MOST_ENTRIES));
        while let Some(entry) = sequence.next_element()? {
            if entries.len() == MOST_ENTRIES {
                return Err(serde::de::Error::custom(format!("more than {MOST_ENTRIES} entries")));
            }
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::codec::{decode, encode};
    use openraft::EntryPayload;

    fn id(term: u64, index: u64) -> LogId {
        LogId::new_term_index(term, index)
    }

    fn append(vote: Vote, prev: Option<LogId>, entries: &[LogId]) -> AppendEntriesRequest<TypeConfig> {
        let blank = |log_id: &LogId| Entry { log_id: *log_id, payload: EntryPayload::Blank };
        AppendEntriesRequest {
            vote,
            prev_log_id: prev,
            entries: entries.iter().map(blank).collect(),
            leader_commit: Some(id(1, 1)),
        }
    }

    fn read(request: &AppendEntriesRequest<TypeConfig>) -> Append {
        decode(&encode(request).unwrap()).unwrap()
    }

    fn here() -> Here {
        Here { term: 5, is_empty: false, committed: Some(id(4, 10)), acknowledged: 9 }
    }

    fn why(checked: Checked) -> Option<Refusal> {
        checked.err().map(|refused| refused.why)
    }

    #[test]
    fn an_append_is_read_as_it_was_written() {
        let request = append(Vote::new_committed(5, 1), Some(id(4, 10)), &[id(5, 11), id(5, 12)]);
        let read = AppendEntriesRequest::from(read(&request));
        assert_eq!(encode(&read).unwrap(), encode(&request).unwrap());
        let many: Vec<LogId> = (0..=MOST_ENTRIES as u64).map(|index| id(1, index)).collect();
        let bytes = encode(&append(Vote::new_committed(5, 1), None, &many)).unwrap();
        assert!(decode::<Append>(&bytes).is_err(), "too many entries");
    }

    #[test]
    fn candidates_speak_for_themselves_in_terms_within_reach() {
        let ask = |term, node, last| VoteRequest::new(Vote::new(term, node), last);
        let check = |request, here: &Here| why(check_vote(&request, 2, here));
        assert_eq!(check(ask(6, 2, Some(id(5, 9))), &here()), None);
        assert_eq!(check(ask(5 + TERMS_AHEAD, 2, Some(id(5, 9))), &here()), None);
        assert_eq!(check(ask(6, 3, None), &here()), Some(Refusal::Impostor));
        assert_eq!(check(ask(6, 2, Some(id(5, 8))), &here()), Some(Refusal::LogEnd));
        assert_eq!(check(ask(6, 2, None), &here()), Some(Refusal::LogEnd));
        for term in [6 + TERMS_AHEAD, u64::MAX - 1, u64::MAX] {
            assert_eq!(check(ask(term, 2, None), &here()), Some(Refusal::OutOfBounds), "{term}");
        }
        for last in [id(7, 9), id(5, u64::MAX)] {
            assert_eq!(check(ask(6, 2, Some(last)), &here()), Some(Refusal::OutOfBounds));
        }
        let empty = Here { is_empty: true, ..Here::default() };
        assert_eq!(check(ask(1 << 40, 2, None), &empty), None, "it can't know");
        assert_eq!(check(ask(u64::MAX, 2, None), &empty), Some(Refusal::OutOfBounds), "none could follow");
    }

    #[test]
    fn appends_come_from_the_leader_and_continue_what_is_committed() {
        let leader = Vote::new_committed(5, 1);
        let checked = |vote: Vote, prev, entries: &[LogId]| {
            check_append(&read(&append(vote, prev, entries)), 1, &here())
        };
        let check = |vote: Vote, prev, entries: &[LogId]| why(checked(vote, prev, entries));
        let forgets = |prev, entries: &[LogId]| checked(leader, prev, entries).unwrap_err().forgets;
        assert_eq!(check(leader, Some(id(4, 10)), &[id(5, 11), id(5, 12)]), None);
        assert_eq!(check(leader, Some(id(4, 9)), &[id(4, 10), id(5, 11)]), None, "what is there already");
        assert_eq!(check(leader, Some(id(3, 2)), &[]), None);
        let blanks: Vec<LogId> = (0..30).map(|index| id(5, index)).collect();
        assert_eq!(check(leader, None, &blanks), Some(Refusal::Fork));
        assert!(forgets(None, &blanks) && forgets(Some(id(5, 10)), &[id(5, 11)]));
        assert!(!forgets(Some(id(4, 10)), &[id(5, 12)]), "nothing is replaced behind a gap");
        assert_eq!(check(leader, Some(id(5, 10)), &[id(5, 11)]), Some(Refusal::Fork));
        assert_eq!(check(leader, Some(id(4, 10)), &[id(5, 12)]), Some(Refusal::Fork), "a gap");
        assert_eq!(check(leader, Some(id(4, 10)), &[id(3, 11)]), Some(Refusal::Fork), "an earlier term");
        assert_eq!(check(leader, Some(id(4, 10)), &[id(6, 11)]), Some(Refusal::OutOfBounds));
        assert_eq!(check(Vote::new_committed(5, 3), None, &[]), Some(Refusal::Impostor));
        assert_eq!(check(Vote::new(5, 1), None, &[]), Some(Refusal::Impostor), "not elected");
        let ahead = Vote::new_committed(6 + TERMS_AHEAD, 1);
        assert_eq!(check(ahead, None, &[]), Some(Refusal::OutOfBounds));
    }

    #[test]
    fn snapshots_and_transfers_come_from_the_leader() {
        let meta = SnapshotMeta { last_log_id: Some(id(4, 10)), ..SnapshotMeta::default() };
        let snapshot = |vote: Vote| why(check_snapshot(&vote, &meta, 1, &here()));
        let transfer = |vote: Vote| {
            why(check_transfer(&TransferLeaderRequest::new(vote, 2, Some(id(4, 10))), 1, &here()))
        };
        for check in [&snapshot as &dyn Fn(Vote) -> Option<Refusal>, &transfer] {
            assert_eq!(check(Vote::new_committed(5, 1)), None);
            assert_eq!(check(Vote::new_committed(5, 2)), Some(Refusal::Impostor));
            assert_eq!(check(Vote::new_committed(u64::MAX, 1)), Some(Refusal::OutOfBounds));
        }
        assert_eq!(
            snapshot(Vote::new_committed(3, 1)),
            Some(Refusal::OutOfBounds),
            "older than what it holds"
        );
    }

    #[test]
    fn answers_lead_nobody_beyond_reach() {
        assert_eq!(why(check_answer(&Vote::new(5, 3), 4)), None);
        assert_eq!(why(check_answer(&Vote::new(u64::MAX, 3), 4)), Some(Refusal::OutOfBounds));
        let accepted = |index| why(check_accepted(&Ok(Some(id(4, index))), 4, 10));
        assert_eq!((accepted(10), accepted(11)), (None, Some(Refusal::OutOfBounds)));
        let higher = Err(StreamAppendError::HigherVote(Vote::new(u64::MAX, 3)));
        assert_eq!(why(check_accepted(&higher, 4, 10)), Some(Refusal::OutOfBounds));
    }
}
