//! Any sequence of commands, restarts and flushes gives what the reference in memory gives.

use crate::support::{World, applied, assert_same, open};
use cdr_core::command::{Rejection, Reply};
use cdr_core::memory::MemoryLedger;
use cdr_core::time::HOUR_MS;
use cdr_storage::{Depth, EntryRef, Store};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Act {
    Ingest {
        rows: u32,
        dup_every: u64,
    },
    Audits(u64),
    Expired(u64),
    LateReceipts(u32),
    Adjust(u64),
    Request,
    Setting,
    Job,
    Operator,
    Epoch,
    Advance(i64),
    Seal,
    Sign,
    WrongPosition,
    OldTerm,
    Blank,
    /// Everything gathered goes into one write.
    Apply,
    Reopen,
    /// What was not flushed is lost, and applied again.
    Crash,
    Flush,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (0u32..40, 0u64..6).prop_map(|(rows, dup_every)| Act::Ingest { rows, dup_every }),
        1 => (0u64..4).prop_map(Act::Audits),
        3 => (1u64..6).prop_map(Act::Expired),
        3 => (1u32..8).prop_map(Act::LateReceipts),
        4 => (1u64..6).prop_map(Act::Adjust),
        2 => Just(Act::Request),
        2 => Just(Act::Setting),
        3 => Just(Act::Job),
        1 => Just(Act::Operator),
        1 => Just(Act::Epoch),
        2 => (0..3 * HOUR_MS).prop_map(Act::Advance),
        1 => Just(Act::Seal),
        2 => Just(Act::Sign),
        1 => Just(Act::WrongPosition),
        1 => Just(Act::OldTerm),
        1 => Just(Act::Blank),
        6 => Just(Act::Apply),
        1 => Just(Act::Reopen),
        1 => Just(Act::Crash),
        1 => Just(Act::Flush),
    ]
}

struct Run {
    dir: tempfile::TempDir,
    store: Option<Store>,
    world: World,
    ledger: MemoryLedger,
    /// Entry 1 first; `None` has no command.
    log: Vec<Option<Vec<u8>>>,
    replies: Vec<Reply>,
    /// Canonical bytes of every CDR, as they were when it was first seen in the store, by ordinal.
    originals: BTreeMap<u64, Vec<u8>>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Some(open(dir.path()));
        let (world, ledger) = (World::new(seed), MemoryLedger::default());
        let (log, replies, originals) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut run = Self { dir, store, world, ledger, log, replies, originals };
        for entry in run.world.beginning() {
            run.propose(Some(entry));
        }
        run
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn propose(&mut self, entry: Option<Vec<u8>>) {
        let index = self.log.len() as u64 + 1;
        let apply = |bytes: &Vec<u8>| self.ledger.apply_entry(index, 1, bytes).unwrap();
        let reply = entry.as_ref().map_or(Reply::None, apply);
        self.log.push(entry);
        self.replies.push(reply);
    }

    /// Every CDR is byte for byte what it was when it was first seen, whatever followed it since.
    fn originals_stay(&mut self) {
        let rows = self.store().rows(0..self.store().state().head.row_count).unwrap();
        for stored in rows {
            let row = stored.row().unwrap();
            if row.sms().is_some_and(|sms| sms.adjustment.is_none()) {
                let mut bytes = Vec::new();
                cdr_core::canonical::push_row(&row, &mut bytes);
                let first = self.originals.entry(stored.ordinal()).or_insert_with(|| bytes.clone());
                assert_eq!(*first, bytes, "row {}", stored.ordinal());
            }
        }
    }

    /// Applies what the store does not have yet, in one write.
    fn apply(&self) {
        let from = applied(self.store()) as usize;
        let entries: Vec<Option<EntryRef<'_>>> = self.log[from..]
            .iter()
            .enumerate()
            .map(|(i, entry)| {
                entry.as_ref().map(|bytes| EntryRef { index: (from + i + 1) as u64, term: 1, bytes })
            })
            .collect();
        let replies = self.store().apply(&entries, &(self.log.len() as u64).to_be_bytes()).unwrap();
        assert_eq!(replies, self.replies[from..]);
    }

    fn step(&mut self, act: &Act) {
        match act {
            Act::Ingest { rows, dup_every } => {
                let entry = self.world.ingest(*rows, *dup_every);
                self.propose_ingest(entry);
            }
            Act::Expired(count) => {
                let entry = self.world.expired(*count);
                self.propose(Some(entry));
            }
            Act::LateReceipts(count) => {
                let entry = self.world.late_receipts(*count, &self.ledger);
                self.propose_ingest(entry);
            }
            Act::Audits(count) => {
                let entry = self.world.audits(*count);
                self.propose(Some(entry));
            }
            Act::Adjust(count) => {
                let entry = self.world.adjustments(*count);
                self.propose(Some(entry));
            }
            Act::Setting => {
                let entry = self.world.setting(&self.ledger.state);
                self.propose(Some(entry));
            }
            Act::Job => {
                let entry = self.world.job(&self.ledger);
                self.propose(Some(entry));
            }
            Act::Request => {
                let entry = self.world.request();
                self.propose(Some(entry));
            }
            Act::Operator => {
                let entry = self.world.operator();
                self.propose(Some(entry));
            }
            Act::Epoch => {
                let entry = self.world.epoch();
                self.propose(Some(entry));
            }
            Act::Advance(ms) => self.world.now.0 += ms,
            Act::Seal => {
                let entry = self.world.seal();
                self.propose(Some(entry));
            }
            Act::Sign => {
                if let Some(entry) = self.world.sign(&self.ledger) {
                    self.propose(Some(entry));
                }
            }
            Act::WrongPosition => {
                self.world.position += 1;
                let entry = self.world.ingest(3, 0);
                self.propose_ingest(entry);
            }
            Act::OldTerm => {
                self.world.term = 0;
                let entry = self.world.seal();
                self.world.term = 1;
                self.propose(Some(entry));
            }
            Act::Blank => self.propose(None),
            Act::Apply => {
                self.apply();
                self.originals_stay();
            }
            Act::Reopen => {
                self.store = None;
                self.store = Some(open(self.dir.path()));
            }
            Act::Crash => {
                let crashed = crate::support::crashed_copy(self.dir.path());
                self.store = None;
                self.dir = crashed;
                self.store = Some(open(self.dir.path()));
            }
            Act::Flush => {
                let durable = self.store().flush().unwrap();
                assert_eq!(durable, self.store().raft_meta().unwrap());
                let before = applied(self.store());
                self.store = None;
                self.store = Some(open(self.dir.path()));
                assert_eq!(applied(self.store()), before, "what was flushed is there after a restart");
            }
        }
    }

    /// A refused batch leaves the stream where it was.
    fn propose_ingest(&mut self, entry: Vec<u8>) {
        self.propose(Some(entry));
        let stream = self.ledger.state.stream(&self.world.stream).unwrap();
        self.world.position = self.ledger.state.streams[stream].position;
    }

    fn finish(&mut self) {
        self.apply();
        self.originals_stay();
        assert_same(self.store(), &self.ledger);
        let state = self.store().state();
        if state.head.open_hour > state.head.first_hour {
            let last = cdr_core::Hour(state.head.open_hour.0 - 1);
            let report = self.store().verify_range(state.head.first_hour, last, None, Depth::Rows).unwrap();
            assert_eq!(report.faults, []);
            let sealed: u64 = state.head.row_count - state.head.open_rows;
            assert_eq!(report.rows_checked, sealed);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::cases(24)))]

    #[test]
    fn the_store_follows_the_reference(seed: u64, acts in prop::collection::vec(act(), 1..60)) {
        let mut run = Run::new(seed);
        for act in &acts {
            run.step(act);
        }
        run.finish();
    }
}

#[test]
fn reopened_after_every_entry() {
    let (log, ledger) = crate::support::history(3, 3, 6, 30);
    let dir = tempfile::tempdir().unwrap();
    for index in 1..=log.len() {
        let store = open(dir.path());
        crate::support::catch_up(&store, &log[..index]);
        if index % 3 == 0 {
            store.flush().unwrap();
        }
    }
    let store = open(dir.path());
    crate::support::catch_up(&store, &log);
    assert_same(&store, &ledger);
}

#[test]
fn late_receipts_in_one_write_and_over_many() {
    let mut run = Run::new(12);
    for step in 0..150u32 {
        run.step(&Act::Expired(2));
        run.step(&Act::LateReceipts(3));
        if step % 5 == 0 {
            run.step(&Act::Adjust(1));
        }
        if step % 7 == 0 {
            run.step(&Act::Apply);
        }
    }
    let count = |wanted: fn(&Reply) -> bool| run.replies.iter().filter(|reply| wanted(reply)).count();
    let corrected = count(|reply| matches!(reply, Reply::Ingested(i) if i.position > 0 && i.appended > 0));
    let refused = count(|reply| matches!(reply, Reply::Rejected(Rejection::Outdated { .. })));
    assert!(corrected > 200 && refused > 5, "{corrected} and {refused}");
    run.finish();
}

#[test]
fn lines_of_adjustments_in_one_write_and_over_many() {
    let mut run = Run::new(11);
    run.step(&Act::Ingest { rows: 30, dup_every: 0 });
    for step in 0..200u32 {
        run.step(&Act::Adjust(1));
        if step % 7 == 0 {
            run.step(&Act::Apply);
        }
    }
    let taken = run.replies.iter().filter(|reply| matches!(reply, Reply::Appended { .. })).count();
    assert!((20..200).contains(&taken), "{taken} of 200 adjustments were taken in");
    run.finish();
}
