//! What replicas say to one another, byte by byte: the frames of `tests/compat`.
#![allow(clippy::unwrap_used)]

use super::claims::Append;
use super::frame::{Kind, receive, send};
use super::handshake::{Hello, MAGIC, Range};
use super::server::{Condition, ReadIndexAnswer};
use super::snapshot::Offer;
use crate::codec::{self, MAX_ENCODED_BYTES};
use crate::identity::Incarnation;
use crate::lost_commits::Report;
use crate::roster::{Grounds, Introduction, Refusal};
use crate::types::{Entry, LogId, SnapshotMeta, StoredMembership, TypeConfig, Vote};
use cdr_core::history::Mark;
use cdr_core::rules::{Build, Needs, Rules};
use futures::executor::block_on;
use openraft::raft::{AppendEntriesRequest, TransferLeaderRequest, VoteRequest};
use serde::Serialize;
use serde::de::DeserializeOwned;

fn frame<T: Serialize>(kind: Kind, value: &T) -> Vec<u8> {
    let mut bytes = Vec::new();
    block_on(send(&mut bytes, kind, value)).unwrap();
    bytes
}

fn introduction() -> Introduction {
    Introduction {
        node: 2,
        incarnation: Incarnation::default(),
        knows_other_as: Some(Incarnation::default()),
        log_end: 1_000,
        mark: Mark { index: 999, history: [3; 32] },
        is_formed: true,
        initializes: false,
        lost_commits: Some(Report { witness: 3, reason: "seen".to_owned() }),
        build: Build::THIS,
    }
}

fn vote() -> Vote {
    Vote { leader_id: openraft::vote::RaftLeaderId::new(7, 1), committed: true }
}

/// Every kind of message whose contents are this crate's own, or openraft's.
pub(crate) fn frames(entries: &[Entry]) -> Vec<(String, Vec<u8>)> {
    let last = LogId::new_term_index(7, 300);
    let opening = [MAGIC.as_slice(), &Range::of(Build::THIS).bytes()].concat();
    let hello = Hello { cluster: "compat".to_owned(), to: 1, from: introduction() };
    let refusal = Refusal { node: 2, grounds: Grounds::OlderCopy, reason: "why".to_owned() };
    let append = AppendEntriesRequest::<TypeConfig> {
        vote: vote(),
        prev_log_id: Some(last),
        entries: entries.to_vec(),
        leader_commit: Some(last),
    };
    let ask_for_vote =
        VoteRequest::<TypeConfig> { vote: vote(), last_log_id: Some(last), leadership_transfer: false };
    let transfer = TransferLeaderRequest::<TypeConfig>::new(vote(), 2, Some(last));
    let condition = Condition { takes_commands: true, has_room: false, build: Build::THIS };
    let index = ReadIndexAnswer::Index { index: 300, mark: Mark { index: 299, history: [4; 32] } };
    let meta = SnapshotMeta { last_log_id: Some(last), last_membership: StoredMembership::default() };
    let needs = Needs::of(Rules::FIRST, Rules::FIRST.formats().disk);
    let offer = (vote(), meta, needs, 5_u64, [("000012.sst", 4_096_u64, [6_u8; 32])].as_slice());
    [
        ("opening", opening),
        ("hello", frame(Kind::Hello, &hello)),
        ("welcome", frame(Kind::Welcome, &introduction())),
        ("refused", frame(Kind::Refused, &refusal)),
        ("append", frame(Kind::Append, &append)),
        ("vote", frame(Kind::Vote, &ask_for_vote)),
        ("transfer", frame(Kind::TransferLeader, &transfer)),
        ("condition", frame(Kind::Answer, &condition)),
        ("read-index", frame(Kind::Answer, &index)),
        ("snapshot-offer", frame(Kind::SnapshotOffer, &offer)),
    ]
    .map(|(name, bytes)| (format!("frame-{name}"), bytes))
    .into()
}

/// Reads a frame as its receiver does, and writes what was read again.
fn again<T: DeserializeOwned + Serialize>(bytes: &[u8]) -> Vec<u8> {
    let received = block_on(receive(&mut &bytes[..], MAX_ENCODED_BYTES)).unwrap();
    frame(received.kind, &codec::decode::<T>(&received.body).unwrap())
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> T {
    let received = block_on(receive(&mut &bytes[..], MAX_ENCODED_BYTES)).unwrap();
    codec::decode(&received.body).unwrap()
}

/// Reads what a replica of an earlier build sends, by the name of the file.
pub(crate) fn read_frame(name: &str, bytes: &[u8], entries: &[Entry]) {
    match name {
        "frame-opening" => {
            let range = bytes.strip_prefix(MAGIC.as_slice()).and_then(|range| range.try_into().ok());
            assert!(Range::of(Build::NEXT).common(Range::read(range.unwrap())).is_some());
        }
        "frame-hello" => assert_eq!(again::<Hello>(bytes), bytes),
        "frame-welcome" => assert_eq!(again::<Introduction>(bytes), bytes),
        "frame-refused" => assert_eq!(again::<Refusal>(bytes), bytes),
        "frame-append" => assert_eq!(read::<Append>(bytes).entries.0, entries),
        "frame-vote" => assert_eq!(again::<VoteRequest<TypeConfig>>(bytes), bytes),
        "frame-transfer" => assert_eq!(again::<TransferLeaderRequest<TypeConfig>>(bytes), bytes),
        "frame-condition" => assert_eq!(again::<Condition>(bytes), bytes),
        "frame-read-index" => assert_eq!(again::<ReadIndexAnswer>(bytes), bytes),
        "frame-snapshot-offer" => assert_eq!(again::<Offer>(bytes), bytes),
        other => panic!("{other} is no frame that is known"),
    }
}
