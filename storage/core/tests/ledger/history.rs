//! The rolling history, recomputed from the description of its bytes alone.

use cdr_core::command::{Acknowledged, Command, Envelope, Progress, Reply, Source};
use cdr_core::history::Mark;
use cdr_core::memory::MemoryLedger;
use cdr_core::row::SystemKind;
use cdr_core::{LedgerState, Millis};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::samples::SystemSample;
use crate::world::{HOUR_MS, START_MS, buffer, operator_body};

const TERM: u64 = 3;

struct Log {
    ledger: MemoryLedger,
    index: u64,
    now: i64,
}

impl Log {
    fn apply(&mut self, term: u64, progress: Progress, command: Command<'_>) -> Result<Reply, String> {
        self.index += 2;
        let entry = Envelope { progress, ..Envelope::new(term, Millis(self.now), command) }.encode().unwrap();
        self.ledger.apply_entry(self.index, TERM, &entry).map_err(|error| error.to_string())
    }

    /// Applies a command and checks the history after it; `reply` are the bytes of its reply.
    fn step(&mut self, command: Command<'_>, reply: &[u8]) {
        let before = self.ledger.state.clone();
        let rows = self.ledger.rows.len();
        self.apply(TERM, Progress { applied: before.head.applied, acknowledged: vec![] }, command).unwrap();
        let last_row = self.ledger.rows[rows..].last().map_or([0; 32], |(_, hash)| *hash);
        let after = &self.ledger.state;
        let mut bytes = before.head.applied.history.to_vec();
        bytes.extend(self.index.to_be_bytes());
        bytes.extend(TERM.to_be_bytes());
        bytes.extend(reply);
        bytes.extend((self.ledger.rows.len() as u64).to_be_bytes());
        bytes.extend(last_row);
        bytes.extend(after.head.prev_seal_hash);
        bytes.extend(changed_streams(&before, after));
        let history: [u8; 32] = Sha256::digest(&bytes).into();
        assert_eq!(after.head.applied, Mark { index: self.index, history });
    }
}

fn changed_streams(before: &LedgerState, after: &LedgerState) -> Vec<u8> {
    let mut bytes = Vec::new();
    for stream in &after.streams {
        if before.streams.iter().any(|old| old == stream) {
            continue;
        }
        bytes.extend((stream.name.len() as u16).to_be_bytes());
        bytes.extend(stream.name.as_bytes());
        for figure in [
            stream.position,
            stream.appended,
            stream.duplicate,
            stream.ignored,
            stream.dead_lettered,
            stream.missing,
        ] {
            bytes.extend(figure.to_be_bytes());
        }
    }
    bytes
}

fn figures(number: u8, figures: &[u64]) -> Vec<u8> {
    let mut bytes = vec![number];
    for figure in figures {
        bytes.extend(figure.to_be_bytes());
    }
    bytes
}

fn initialize(rows: cdr_core::command::Drafts<'_>) -> Command<'_> {
    Command::Initialize(cdr_core::command::Initialize {
        cluster_id: "history",
        zone: "Asia/Kabul",
        clock: cdr_core::command::ClockKind::System,
        dedup_horizon_hours: 168,
        hash_key: [3; 16],
        rows,
    })
}

fn begun() -> Log {
    let mut log = Log { ledger: MemoryLedger::default(), index: 0, now: START_MS };
    log.step(Command::Fence, &figures(2, &[TERM]));
    let body = operator_body("AWCC", START_MS / HOUR_MS);
    let row = SystemSample::new(1, START_MS, SystemKind::Operator, &body);
    log.step(initialize(buffer([(0, row.draft())]).drafts()), &figures(1, &[]));
    log
}

fn audit(number: u64) -> SystemSample {
    SystemSample::new(
        number,
        START_MS,
        SystemKind::Audit,
        &json!({"actor": "a", "entryType": "NOTE", "note": number}),
    )
}

#[test]
fn every_command_continues_the_history() {
    let mut log = begun();
    let hour = (START_MS / HOUR_MS) as u64;
    let rows = [audit(2), audit(3)];
    let drafts = buffer(rows.iter().map(|row| (0, row.draft())));
    let first_sequence = log.ledger.state.head.open_rows + 1;
    let append = cdr_core::command::Append { source: Source::Api, drafts: drafts.drafts() };
    log.step(Command::Append(append), &figures(4, &[hour, first_sequence]));
    log.now += HOUR_MS;
    log.step(Command::Seal, &figures(5, &[1]));
    // Refused commands are part of it.
    log.step(initialize(buffer([]).drafts()), &figures(9, &[3]));
}

#[test]
fn a_command_of_another_term_than_its_entry_is_part_of_it() {
    let mut log = begun();
    let before = log.ledger.state.head.applied;
    let refused = log.apply(TERM - 1, Progress::default(), Command::Seal).unwrap();
    assert!(matches!(refused, Reply::Rejected(_)), "{refused:?}");
    assert_ne!(log.ledger.state.head.applied, before);
}

#[test]
fn a_command_from_a_leader_of_another_history_is_not_applied() {
    let mut log = begun();
    let state = log.ledger.state.clone();
    for applied in [
        Mark { history: [1; 32], ..state.head.applied },
        Mark { index: state.head.applied.index - 1, history: state.head.applied.history },
        Mark { index: state.head.applied.index + 1, history: state.head.applied.history },
    ] {
        let error = log.apply(TERM, Progress { applied, acknowledged: vec![] }, Command::Seal).unwrap_err();
        assert!(error.contains("another history"), "{error}");
        assert_eq!(log.ledger.state, state);
    }
}

#[test]
fn what_voters_acknowledged_only_rises() {
    let mut log = begun();
    let mut acknowledge = |voters: &[(u64, u64)]| {
        let acknowledged = voters.iter().map(|(node, index)| Acknowledged { node: *node, index: *index });
        let applied = log.ledger.state.head.applied;
        log.apply(TERM, Progress { applied, acknowledged: acknowledged.collect() }, Command::Seal).unwrap();
        [1, 2, 3].map(|node| Acknowledged::by(&log.ledger.state.head.acknowledged, node))
    };
    assert_eq!(acknowledge(&[(3, 5), (1, 7)]), [7, 0, 5]);
    assert_eq!(acknowledge(&[(1, 6), (2, 9)]), [7, 9, 5]);
    assert_eq!(acknowledge(&[]), [7, 9, 5]);
}
