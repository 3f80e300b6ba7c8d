//! CDRs against billing: any sequence of records, adjustments and billing events, gathered into writes in any way, gives
//! what counting everything from scratch gives.

use crate::support::{World, applied, open};
use cdr_core::command::{Bill, Command, Reconcile, Reply};
use cdr_core::memory::MemoryLedger;
use cdr_core::time::HOUR_MS;
use cdr_core::{Hour, Millis, Money, Uuid};
use cdr_storage::{EntryRef, HourCounts, Store, Sums};
use proptest::prelude::*;
use serde_json::Value;
use std::collections::BTreeMap;

#[derive(Clone, Debug)]
enum Act {
    Ingest(u32),
    Adjust(u64),
    Expired(u64),
    LateReceipts(u32),
    /// Events of billing; every so many are for a message without a record.
    Bills(u64),
    LookAgain,
    Forget(u32),
    Advance(i64),
    Apply,
    Crash,
    Flush,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        5 => (1u32..20).prop_map(Act::Ingest),
        4 => (1u64..6).prop_map(Act::Adjust),
        1 => (1u64..3).prop_map(Act::Expired),
        1 => (1u32..3).prop_map(Act::LateReceipts),
        7 => (1u64..20).prop_map(Act::Bills),
        3 => Just(Act::LookAgain),
        1 => (0u32..4).prop_map(Act::Forget),
        1 => (0..2 * HOUR_MS).prop_map(Act::Advance),
        4 => Just(Act::Apply),
        1 => Just(Act::Crash),
        1 => Just(Act::Flush),
    ]
}

type Charge = (i64, [u8; 3]);

#[derive(Clone, Copy, Debug)]
struct Event {
    charge: Charge,
    /// None if it was what the record charged when it came.
    at: Option<i64>,
}

/// Everything that billing has said, kept without any care for room.
#[derive(Default)]
struct Book {
    /// By the id of the original.
    billed: BTreeMap<String, Event>,
    waiting: BTreeMap<Uuid, (String, Charge, i64)>,
    forgotten: Vec<(String, Charge, i64)>,
}

fn charge_of(row: &Value) -> Option<Charge> {
    let amount = Money::parse(row["chargeAmount"].as_str()?).unwrap().micros();
    Some((amount, row["chargeCurrency"].as_str().unwrap().as_bytes().try_into().unwrap()))
}

fn json_rows(ledger: &MemoryLedger) -> Vec<Value> {
    ledger.rows.iter().map(|(text, _)| serde_json::from_slice(text).unwrap()).collect()
}

/// The row in effect of the line that `original` began.
fn effective<'r>(rows: &'r [Value], original: &'r Value) -> &'r Value {
    let mut last = original;
    while let Some(next) = rows.iter().find(|row| row["adjustmentOf"] == last["cdrId"]) {
        last = next;
    }
    last
}

fn is_original(row: &Value) -> bool {
    row["recordType"] == "sms" && row["adjustmentOf"].is_null()
}

impl Book {
    /// The original of a message that is no older than the duplicate horizon.
    fn original<'r>(ledger: &MemoryLedger, rows: &'r [Value], message: Uuid) -> Option<&'r Value> {
        let (id, since) = (message.to_string(), ledger.state.dedup_since());
        let hour = |row: &Value| Hour::parse(row["bucketHour"].as_str().unwrap()).unwrap();
        rows.iter()
            .rev()
            .find(|row| is_original(row) && row["messageId"] == id.as_str() && hour(row) >= since)
    }

    fn bill(&mut self, ledger: &MemoryLedger, message: Uuid, operator: &str, charge: Charge, at: i64) {
        let rows = json_rows(ledger);
        self.settle(ledger, &rows, message);
        match Self::original(ledger, &rows, message) {
            Some(original) => self.accept(&rows, original, charge, at),
            None => match self.waiting.get(&message) {
                Some((_, before, then)) if *before == charge || at < *then => {}
                _ => {
                    self.waiting.insert(message, (operator.to_owned(), charge, at));
                }
            },
        }
    }

    fn settle(&mut self, ledger: &MemoryLedger, rows: &[Value], message: Uuid) {
        if let Some(original) = Self::original(ledger, rows, message)
            && let Some((_, charge, at)) = self.waiting.remove(&message)
        {
            self.accept(rows, original, charge, at);
        }
    }

    fn accept(&mut self, rows: &[Value], original: &Value, charge: Charge, at: i64) {
        let id = original["cdrId"].as_str().unwrap().to_owned();
        let is_equal = charge_of(effective(rows, original)) == Some(charge);
        match self.billed.get_mut(&id) {
            None => {
                self.billed.insert(id, Event { charge, at: (!is_equal).then_some(at) });
            }
            Some(before) if before.charge == charge || before.at.is_some_and(|then| at < then) => {}
            Some(before) => *before = Event { charge, at: Some(at) },
        }
    }

    fn forget(&mut self, before: Hour) {
        let old = |(_, (_, _, at)): &(&Uuid, &(String, Charge, i64))| Millis(*at).hour() < before;
        let gone: Vec<Uuid> = self.waiting.iter().filter(old).map(|(id, _)| *id).collect();
        self.forgotten.extend(gone.iter().map(|id| self.waiting.remove(id).unwrap()));
    }

    /// Counts everything from scratch, by hour and operator.
    fn report(&self, ledger: &MemoryLedger) -> BTreeMap<(String, String), HourCounts> {
        let rows = json_rows(ledger);
        let mut report: BTreeMap<(String, String), HourCounts> = BTreeMap::new();
        for original in rows.iter().filter(|row| is_original(row)) {
            let text = |name: &str| original[name].as_str().unwrap().to_owned();
            let counts = report.entry((text("bucketHour"), text("operatorId"))).or_default();
            let charge = charge_of(effective(&rows, original));
            counts.originals += 1;
            add(counts, charge, |sums| &mut sums.cdr_micros);
            if let Some(billed) = self.billed.get(&text("cdrId")) {
                let count =
                    if charge == Some(billed.charge) { &mut counts.matched } else { &mut counts.differing };
                *count += 1;
                add(counts, Some(billed.charge), |sums| &mut sums.billing_micros);
            }
        }
        for (operator, charge, at) in self.waiting.values().chain(&self.forgotten) {
            let hour = Millis(*at).hour().to_string();
            let counts = report.entry((hour, operator.clone())).or_default();
            counts.missing_in_cdr += 1;
            add(counts, Some(*charge), |sums| &mut sums.billing_micros);
        }
        report.values_mut().for_each(plain);
        report
    }
}

fn add(counts: &mut HourCounts, charge: Option<Charge>, side: fn(&mut Sums) -> &mut i128) {
    let Some((micros, currency)) = charge else { return };
    let at = counts.sums.iter().position(|sums| sums.currency == currency).unwrap_or_else(|| {
        counts.sums.push(Sums { currency, ..Sums::default() });
        counts.sums.len() - 1
    });
    *side(&mut counts.sums[at]) += i128::from(micros);
}

/// Without sums of nothing, in order.
fn plain(counts: &mut HourCounts) {
    counts.sums.retain(|sums| (sums.cdr_micros, sums.billing_micros) != (0, 0));
    counts.sums.sort_by_key(|sums| sums.currency);
}

struct Run {
    dir: tempfile::TempDir,
    store: Option<Store>,
    world: World,
    ledger: MemoryLedger,
    log: Vec<Vec<u8>>,
    book: Book,
}

impl Run {
    fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Some(open(dir.path()));
        let (world, ledger, log) = (World::new(seed), MemoryLedger::default(), Vec::new());
        let mut run = Self { dir, store, world, ledger, log, book: Book::default() };
        for entry in run.world.beginning() {
            run.propose(entry);
        }
        run
    }

    fn propose(&mut self, entry: Vec<u8>) -> Reply {
        let reply = self.ledger.apply_entry(self.log.len() as u64 + 1, 1, &entry).unwrap();
        self.log.push(entry);
        reply
    }

    fn propose_ingest(&mut self, entry: Vec<u8>) {
        self.propose(entry);
        let stream = self.ledger.state.stream(&self.world.stream).unwrap();
        self.world.position = self.ledger.state.streams[stream].position;
    }

    fn reconcile(&mut self, reconcile: Reconcile<'_>) {
        let entry = self.world.envelope(Command::Reconcile(reconcile));
        assert_eq!(self.propose(entry), Reply::Reconciled);
    }

    fn bills(&mut self, count: u64) {
        let rows = json_rows(&self.ledger);
        let mut bills = Vec::new();
        for _ in 0..count {
            let random = &mut self.world.random;
            let recent = self.world.messages.len().min(40) as u64;
            let message_id = if recent == 0 || random.below(5) == 0 {
                // Its record may come later.
                let id = Uuid(random.bytes());
                self.world.messages.push(id);
                id
            } else {
                self.world.messages[self.world.messages.len() - 1 - random.below(recent) as usize]
            };
            let random = &mut self.world.random;
            let original = Book::original(&self.ledger, &rows, message_id);
            let present = original.and_then(|row| charge_of(effective(&rows, row)));
            let other =
                (random.below(4) as i64 * 1_000, if random.below(4) == 0 { *b"USD" } else { *b"AFN" });
            let charge = present.filter(|_| random.below(3) > 0).unwrap_or(other);
            let operator = crate::support::OPERATORS[random.below(3) as usize];
            bills.push((
                message_id,
                operator,
                charge,
                self.world.now.0 - random.below(HOUR_MS as u64) as i64,
            ));
        }
        for (message, operator, charge, at) in &bills {
            self.book.bill(&self.ledger, *message, operator, *charge, *at);
        }
        let bills = bills.iter().map(|(message_id, operator_id, (micros, currency), at)| Bill {
            message_id: *message_id,
            operator_id,
            amount: Money::from_micros(*micros).unwrap(),
            currency: std::str::from_utf8(currency).unwrap(),
            occurred_at: Millis(*at),
        });
        self.reconcile(Reconcile { bills: bills.collect(), ..Reconcile::default() });
    }

    fn step(&mut self, act: &Act) {
        match act {
            Act::Ingest(rows) => {
                let entry = self.world.ingest(*rows, 3);
                self.propose_ingest(entry);
            }
            Act::Adjust(count) => {
                let entry = self.world.adjustments(*count);
                self.propose(entry);
            }
            Act::Expired(count) => {
                let entry = self.world.expired(*count);
                self.propose(entry);
            }
            Act::LateReceipts(count) => {
                let entry = self.world.late_receipts(*count, &self.ledger);
                self.propose_ingest(entry);
            }
            Act::Bills(count) => self.bills(*count),
            Act::LookAgain => {
                let rows = json_rows(&self.ledger);
                let look_again: Vec<Uuid> = self.book.waiting.keys().copied().collect();
                for id in &look_again {
                    self.book.settle(&self.ledger, &rows, *id);
                }
                self.reconcile(Reconcile { look_again, ..Reconcile::default() });
            }
            Act::Forget(hours) => {
                let forget_before = Hour(self.world.now.hour().0 - hours);
                self.book.forget(forget_before);
                self.reconcile(Reconcile { forget_before, ..Reconcile::default() });
            }
            Act::Advance(ms) => self.world.now.0 += ms,
            Act::Apply => self.apply(),
            Act::Crash => {
                let crashed = crate::support::crashed_copy(self.dir.path());
                self.store = None;
                self.dir = crashed;
                self.store = Some(open(self.dir.path()));
            }
            Act::Flush => {
                self.store.as_ref().unwrap().flush().unwrap();
            }
        }
    }

    /// Applies what the store does not have yet, in one write.
    fn apply(&self) {
        let store = self.store.as_ref().unwrap();
        let from = applied(store) as usize;
        let entry = |(i, bytes)| Some(EntryRef { index: (from + i + 1) as u64, term: 1, bytes });
        let entries: Vec<_> = self.log[from..].iter().map(Vec::as_slice).enumerate().map(entry).collect();
        store.apply(&entries, &(self.log.len() as u64).to_be_bytes()).unwrap();
        self.check(store);
    }

    fn check(&self, store: &Store) {
        let all = (Hour(0), Hour(u32::MAX));
        let found = store.reconciliation(all, None, None, usize::MAX).unwrap();
        let name = |operator: u16| self.ledger.state.registry[usize::from(operator)].operator_id.clone();
        let mut report = BTreeMap::new();
        for (hour, operator, mut counts) in found.iter().cloned() {
            plain(&mut counts);
            if counts != HourCounts::default() {
                report.insert((hour.to_string(), name(operator)), counts);
            }
        }
        assert_eq!(report, self.book.report(&self.ledger));
        let waiting = store.unmatched_bills(None, usize::MAX).unwrap();
        let mut ids: Vec<Uuid> = waiting.iter().map(|(_, id)| *id).collect();
        ids.sort_unstable();
        assert_eq!(ids, self.book.waiting.keys().copied().collect::<Vec<_>>());
        // In pages, and of one operator.
        let (mut paged, mut after) = (Vec::new(), None);
        while let Some((hour, operator, counts)) = store.reconciliation(all, None, after, 1).unwrap().pop() {
            after = Some((hour, operator));
            paged.push((hour, operator, counts));
        }
        assert_eq!(paged, found);
        let one = store.reconciliation(all, Some(1), None, usize::MAX).unwrap();
        assert!(one.iter().eq(found.iter().filter(|(_, operator, _)| *operator == 1)));
        let (mut places, mut after) = (Vec::new(), None);
        while let Some(place) = store.unmatched_bills(after, 1).unwrap().pop() {
            after = Some(place);
            places.push(place);
        }
        assert_eq!(places, waiting);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(crate::cases(24)))]

    #[test]
    fn any_history_is_counted_as_from_scratch(seed: u64, acts in prop::collection::vec(act(), 1..50)) {
        let mut run = Run::new(seed);
        for act in &acts {
            run.step(act);
        }
        run.apply();
    }
}

#[test]
fn a_long_history_has_something_of_everything() {
    let mut run = Run::new(5);
    for step in 0..120i64 {
        for act in [
            Act::Ingest(6),
            Act::Bills(9),
            Act::Adjust(3),
            Act::Expired(1),
            Act::LateReceipts(1),
            Act::Advance(HOUR_MS / 20 * (step % 3)),
        ] {
            run.step(&act);
        }
        match step % 12 {
            3 => run.step(&Act::LookAgain),
            7 => run.step(&Act::Apply),
            11 => run.step(&Act::Forget(2)),
            _ => {}
        }
    }
    run.apply();
    let report = run.book.report(&run.ledger);
    let sum = |count: fn(&HourCounts) -> u64| report.values().map(count).sum::<u64>();
    let kinds = [
        sum(|c| c.matched),
        sum(|c| c.differing),
        sum(|c| c.missing_in_cdr),
        sum(HourCounts::missing_in_billing),
        run.book.forgotten.len() as u64,
        run.book.billed.values().filter(|event| event.at.is_none()).count() as u64,
    ];
    assert!(kinds.iter().all(|count| *count > 20), "{kinds:?}");
}
