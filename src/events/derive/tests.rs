#![allow(clippy::unwrap_used)]

use super::*;
use crate::events::numbers::PLAIN;
use cdr_core::apply::apply;
use cdr_core::command::{
    Append, ClockKind, Command, Drafts, DraftsBuffer, Envelope, Ingest, Initialize, Reply, Source,
};
use cdr_core::memory::MemoryLedger;
use cdr_core::personal::{Salt, SystemContent};
use cdr_core::row::{
    BillingIndicator, ChargeType, Direction, Draft, Drawn, Encoding, FinalState, Place as RowPlace,
};
use cdr_core::rules::{Build, SchemaVersion};
use cdr_core::state::{Operator, StreamRecord};
use cdr_core::{Money, Uuid, codec};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::HashMap;

mod exports;

const START: i64 = 1_776_690_600_000;

/// A row apart from the entry that brought it.
#[derive(Clone)]
struct Held {
    draft: Vec<u8>,
    hour: Hour,
    sequence: u64,
    chain_prev: Hash,
    at: Millis,
}

impl HeldRow for Held {
    fn row(&self) -> Result<Row<'_>, SourceError> {
        let draft = codec::decode_draft(&self.draft)?;
        let place = RowPlace {
            bucket_hour: self.hour,
            sequence: self.sequence,
            chain_prev: self.chain_prev,
            recorded_at: self.at,
            source_stream: "any",
            source_sequence: 1,
        };
        Ok(Row::from_draft(draft, place))
    }
}

/// What an entry brought.
struct Told {
    entry: Entry,
    closed: Vec<Hour>,
    rows: Vec<(Held, Hash)>,
}

struct TestLedger {
    ledger: MemoryLedger,
    now: i64,
    next: u8,
    position: u64,
    held: HashMap<CdrId, Held>,
    entries: Vec<Told>,
    /// Last row of every message.
    last: Vec<CdrId>,
}

impl Sources for TestLedger {
    type Held = Held;

    fn seal(&self, hour: Hour) -> Result<Option<SealedHour>, SourceError> {
        let closed = self.ledger.seals.get(&hour);
        Ok(closed.map(|c| SealedHour { seal: c.seal.clone(), tallies: c.tallies.clone() }))
    }

    fn row(&self, id: CdrId) -> Result<Option<Held>, SourceError> {
        Ok(self.held.get(&id).cloned())
    }

    fn ended_job(&self, id: CdrId) -> Result<Option<Job>, SourceError> {
        Ok(self.ledger.state.jobs.get(id).cloned())
    }

    fn export(&self, id: CdrId) -> Result<Option<Export>, SourceError> {
        Ok(self.ledger.books.exports.get(&id).cloned())
    }

    fn quarantined(&self, id: CdrId) -> Result<Option<Quarantined>, SourceError> {
        Ok(self.ledger.books.quarantine.get(&id).cloned())
    }

    fn first_hour(&self) -> Hour {
        self.ledger.state.head.first_hour
    }
}

impl TestLedger {
    fn begin() -> Self {
        let (ledger, held) = (MemoryLedger::default(), HashMap::new());
        let (entries, last) = (Vec::new(), Vec::new());
        let mut ledger = Self { ledger, now: START, next: 0, position: 0, held, entries, last };
        ledger.send(Command::Fence);
        let operator = |id: &str| Operator {
            effective_from: Millis(START).hour(),
            operator_id: id.to_owned(),
            recording_entity: "1".to_owned(),
        };
        let mut drafts = DraftsBuffer::default();
        for id in ["AWCC", "ETS"] {
            ledger.system(&mut drafts, SystemKind::Operator, &json!(operator(id)));
        }
        ledger.system(&mut drafts, SystemKind::Key, &key("key-1", 0));
        ledger.send(Command::Initialize(Initialize {
            cluster_id: "dev",
            zone: "Asia/Kabul",
            clock: ClockKind::Replay,
            dedup_horizon_hours: 168,
            hash_key: [1; 16],
            rows: drafts.drafts(),
        }));
        let stream = StreamRecord {
            created: "now".to_owned(),
            first_sequence: 1,
            reason: "first".to_owned(),
            stream: "S".to_owned(),
        };
        ledger.append(SystemKind::Stream, &json!(stream));
        ledger
    }

    fn id(&mut self) -> CdrId {
        self.next += 1;
        CdrId([self.next; 16])
    }

    fn send(&mut self, command: Command<'_>) {
        let index = self.entries.len() as u64 + 10;
        let bytes = Envelope::new(1, Millis(self.now), command).encode().unwrap();
        let transition =
            apply(&self.ledger.state, &self.ledger, &Envelope::decode(&bytes, Build::THIS).unwrap()).unwrap();
        assert!(!matches!(transition.reply, Reply::Rejected(_)), "{:?}", transition.reply);
        let rows = transition.rows.iter().map(|new| {
            let frame = &new.row.frame;
            let held = Held {
                draft: new.draft_bytes.to_vec(),
                hour: frame.bucket_hour,
                sequence: frame.sequence,
                chain_prev: frame.chain_prev,
                at: frame.recorded_at,
            };
            (frame.cdr_id, held, new.row_hash)
        });
        let rows: Vec<(CdrId, Held, Hash)> = rows.collect();
        let begins = transition.rows.first().is_some_and(|row| row.ordinal == 0);
        let entry = Entry { index, at: transition.state.head.last_recorded_at, begins };
        let closed = transition.closed.iter().map(|closed| closed.seal.bucket_hour).collect();
        self.ledger.apply_bytes(&bytes).unwrap();
        self.held.extend(rows.iter().map(|(id, held, _)| (*id, held.clone())));
        let rows = rows.into_iter().map(|(_, held, hash)| (held, hash)).collect();
        self.entries.push(Told { entry, closed, rows });
    }

    fn system(&mut self, drafts: &mut DraftsBuffer, kind: SystemKind, body: &Value) {
        let content = SystemContent::new(kind, body).unwrap();
        let cdr_id = self.id();
        drafts
            .push(0, &content.draft(Drawn { version: SchemaVersion::V2, cdr_id, salt: Salt(cdr_id.0) }, "t"))
            .unwrap();
    }

    fn append(&mut self, kind: SystemKind, body: &Value) -> CdrId {
        let mut drafts = DraftsBuffer::default();
        self.system(&mut drafts, kind, body);
        self.send_drafts(drafts.drafts());
        CdrId([self.next; 16])
    }

    fn send_drafts(&mut self, drafts: Drafts<'_>) {
        self.send(Command::Append(Append { source: Source::Internal, drafts }));
    }

    fn ingest(&mut self, priced: &[bool]) {
        let mut drafts = DraftsBuffer::default();
        for (offset, priced) in (0..).zip(priced) {
            let cdr_id = self.id();
            self.last.push(cdr_id);
            let operator_id = if self.next.is_multiple_of(2) { "AWCC" } else { "ETS" };
            let record = Record::Sms(sms(Uuid(cdr_id.0), *priced));
            let salt = Salt(cdr_id.0);
            drafts
                .push(
                    offset,
                    &Draft { version: SchemaVersion::V2, cdr_id, operator_id, trace_id: "t", salt, record },
                )
                .unwrap();
        }
        let first = self.position + 1;
        self.position += priced.len() as u64;
        self.send(Command::Ingest(Ingest {
            stream: "S",
            first,
            last: self.position,
            last_digest: [0; 32],
            ignored: 0,
            dead_lettered: 0,
            missing: 0,
            drafts: drafts.drafts(),
        }));
    }

    /// Adjusts the last row of a message, unless that is a VOID.
    fn adjust(&mut self, message: usize, kind: AdjustmentType, issued_by: &str) {
        let of = self.last[message];
        let before = self.held[&of].clone();
        let before = before.row().unwrap();
        let mut changed = before.sms().unwrap().clone();
        if changed.adjustment.as_ref().is_some_and(|a| a.kind == AdjustmentType::Void) {
            return;
        }
        price(
            &mut changed,
            if kind == AdjustmentType::Void { Money::ZERO } else { Money::parse("2.5").unwrap() },
        );
        let void_reason = (kind == AdjustmentType::Void).then_some("DUPLICATE_DLR");
        changed.adjustment = Some(Adjustment {
            of,
            kind,
            reason: None,
            void_reason,
            ticket_id: Some("T-1"),
            issued_by: Some(issued_by),
            approver: None,
        });
        let (cdr_id, operator_id) = (self.id(), before.frame.operator_id);
        let mut drafts = DraftsBuffer::default();
        let (salt, record) = (Salt(cdr_id.0), Record::Sms(changed));
        let draft = Draft { version: SchemaVersion::V2, cdr_id, operator_id, trace_id: "t", salt, record };
        drafts.push(0, &draft).unwrap();
        self.last[message] = cdr_id;
        self.send_drafts(drafts.drafts());
    }

    /// Subject, id and payload of what an entry tells.
    fn tell(
        &self,
        told: &Told,
        from: u32,
        wanted: &dyn Fn(&'static str) -> bool,
        most: usize,
    ) -> (Vec<(&'static str, String, Value)>, u32) {
        let ids = EventIds::new("dev", 1);
        let mut events = Vec::new();
        let mut sink = |event: Event<'_>, at: Millis| {
            assert_eq!(at, told.entry.at);
            let payload = serde_json::from_slice(&event.payload).unwrap();
            events.push((event.subject, event.event_id.to_string(), payload));
            if events.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let mut telling = Derivation::new(self, (&ids, &PLAIN), wanted, told.entry, from);
        let mut goes_on = true;
        for hour in &told.closed {
            goes_on = goes_on && telling.closed(*hour, &mut sink).unwrap().is_continue();
        }
        for (held, hash) in &told.rows {
            goes_on = goes_on && telling.row(&held.row().unwrap(), hash, &mut sink).unwrap().is_continue();
        }
        let passed = telling.passed();
        (events, passed)
    }

    fn all(&self, told: &Told) -> Vec<(&'static str, String, Value)> {
        self.tell(told, 0, &|_| true, usize::MAX).0
    }

    fn last_entry(&self) -> Vec<(&'static str, String, Value)> {
        self.all(self.entries.last().unwrap())
    }
}

fn key(key_id: &str, from: u32) -> Value {
    json!({
        "algorithm": "Ed25519", "clusterId": "dev", "fromHour": Hour(Millis(START).hour().0 + from), "keyId": key_id,
        "publicKey": "00".repeat(32), "rootSignature": "00".repeat(64), "toHour": null,
    })
}

fn sms(message_id: Uuid, priced: bool) -> Sms<'static> {
    let mut sms = Sms {
        message_id,
        calling_party: "BANK",
        called_party: "+93701234567",
        recording_entity: "1",
        service_center: "+93700000010",
        message_reference: "1",
        event_at: Millis(START),
        local_offset_minutes: 270,
        charge_type: ChargeType::A2p,
        billing_indicator: BillingIndicator::Unknown,
        direction: Direction::Mt,
        encoding: Encoding::Gsm7,
        final_state: FinalState::Delivered,
        segment_count: 1,
        ..Sms::BLANK
    };
    if priced {
        price(&mut sms, Money::parse("1").unwrap());
    }
    sms
}

fn price(sms: &mut Sms<'_>, amount: Money) {
    (sms.charge_amount, sms.charge_currency) = (Some(amount), Some("AFN"));
    (sms.tap_tariff_class, sms.tariff_version) = (Some("A001"), Some("p-1"));
    sms.billing_indicator = BillingIndicator::Chargeable;
}

fn subjects(events: &[(&'static str, String, Value)]) -> Vec<&'static str> {
    events.iter().map(|(subject, ..)| *subject).collect()
}

#[test]
fn closed_hours_come_first_by_operator_and_the_system_is_none() {
    let mut ledger = TestLedger::begin();
    for told in &ledger.entries {
        assert_eq!(ledger.all(told), [], "operators, streams and the first key tell nothing");
    }
    ledger.ingest(&[true, true]);
    ledger.now += 2 * 3_600_000;
    ledger.ingest(&[false]);
    let events = ledger.last_entry();
    let hour = [subject::BUCKET_SEALED, subject::GENERATED, subject::BUCKET_SEALED, subject::GENERATED];
    assert_eq!(subjects(&events), [&hour[..], &hour[..], &[subject::RECORD_APPENDED]].concat());
    let operators: Vec<&Value> = events.iter().map(|(.., event)| &event["operatorId"]).collect();
    assert_eq!(operators[..4], ["AWCC", "AWCC", "ETS", "ETS"]);
    assert!(events[3].2["bucketHour"].as_str() < events[4].2["bucketHour"].as_str());
    let index = ledger.entries.last().unwrap().entry.index;
    let ids = EventIds::new("dev", 1);
    for (ordinal, (_, id, _)) in (0..).zip(&events) {
        assert_eq!(*id, ids.id(index, ordinal).unwrap().to_string());
    }
}

#[test]
fn adjustments_name_the_original_and_only_a_late_price_is_a_repricing() {
    let mut ledger = TestLedger::begin();
    ledger.ingest(&[false, true]);
    let (unpriced, priced) = (ledger.last[0], ledger.last[1]);
    let pair = [subject::RECORD_APPENDED, subject::ADJUSTMENT_CREATED];
    ledger.adjust(0, AdjustmentType::Correction, PRICE_ISSUER);
    let events = ledger.last_entry();
    assert_eq!(subjects(&events), [pair[0], pair[1], subject::RECORD_REPRICED]);
    assert_eq!(events[2].2["originalCdrId"], unpriced.to_string());
    for (message, kind, by, original) in [
        (0, AdjustmentType::Correction, PRICE_ISSUER, unpriced),
        (0, AdjustmentType::ReRate, "user", unpriced),
        (1, AdjustmentType::Correction, "user", priced),
        (1, AdjustmentType::Void, "user", priced),
    ] {
        ledger.adjust(message, kind, by);
        let events = ledger.last_entry();
        assert_eq!(subjects(&events), pair, "{kind:?} by {by}");
        assert_eq!(events[1].2["originalCdrId"], original.to_string());
    }
}

#[test]
fn jobs_keys_settings_and_known_audits_tell_something() {
    let mut ledger = TestLedger::begin();
    let request = json!({
        "step": "REQUESTED", "approverUserId": "b", "bucketHourFrom": null, "bucketHourTo": null, "estimatedImpact": 1,
        "issuedByUserId": "a", "newPricingTableId": "p-2", "operatorId": "ETS", "reason": "r", "tenantId": null,
        "ticketId": "T-1", "traceId": "trace",
    });
    let id = ledger.append(SystemKind::Job, &request).with_prefix(JOB_PREFIX);
    assert_eq!(ledger.last_entry(), []);
    ledger.now += 5;
    ledger.append(SystemKind::Job, &json!({ "step": "FINISHED", "jobId": id }));
    let events = ledger.last_entry();
    assert_eq!(subjects(&events), [subject::ADJUSTMENT_BATCH]);
    let batch = &events[0].2;
    assert_eq!(
        (&batch["jobId"], &batch["count"], &batch["sumDeltaMinor"]),
        (&json!(id), &json!(0), &json!("0.000000"))
    );
    assert_eq!((&batch["bucketHourFrom"], &batch["traceId"]), (&json!(ledger.first_hour()), &json!("trace")));
    assert_ne!(batch["startedAt"], batch["finishedAt"]);
    assert_eq!((&batch["issuedByUserId"], &batch["approverUserId"]), (&json!("a"), &json!("b")));
    // Where nobody had to approve, nobody did; rows of before name the requester there.
    for nobody in [Value::Null, json!(""), json!("a")] {
        let mut alone = request.clone();
        alone["approverUserId"] = nobody.clone();
        let id = ledger.append(SystemKind::Job, &alone).with_prefix(JOB_PREFIX);
        ledger.append(SystemKind::Job, &json!({ "step": "FINISHED", "jobId": id }));
        assert_eq!(ledger.last_entry()[0].2["approverUserId"], "", "{nobody}");
    }
    ledger.append(SystemKind::Key, &key("key-2", 9));
    let events = ledger.last_entry();
    assert_eq!((events[0].0, &events[0].2["entryType"]), (subject::AUDIT, &json!("KEY_ROTATED")));
    for (kind, body, told) in [
        (SystemKind::Audit, json!({ "entryType": "CHAIN_VERIFY_OK", "details": {} }), Some(subject::AUDIT)),
        (SystemKind::Audit, json!({ "entryType": "SOMETHING_ELSE" }), None),
        (
            SystemKind::Config,
            json!({ "configKey": "k", "newValue": "v", "actorUserId": "a", "reason": "r" }),
            Some(subject::CONFIG_CHANGED),
        ),
        (SystemKind::Config, json!({ "other": 1 }), None),
        (SystemKind::Job, json!({ "note": 1 }), None),
        (SystemKind::Export, json!({}), None),
    ] {
        ledger.append(kind, &body);
        assert_eq!(subjects(&ledger.last_entry()), Vec::from_iter(told), "{body}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Ingest(Vec<bool>),
    Adjust(usize, AdjustmentType, bool),
    Audit,
    Hour,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => proptest::collection::vec(any::<bool>(), 1..6).prop_map(Step::Ingest),
        3 => (any::<usize>(), proptest::sample::select(AdjustmentType::ALL.to_vec()), any::<bool>())
            .prop_map(|(message, kind, late)| Step::Adjust(message, kind, late)),
        1 => Just(Step::Audit),
        1 => Just(Step::Hour),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(testkit::cases(64)))]

    #[test]
    fn every_row_and_hour_is_told_once_and_any_part_is_a_part_of_the_whole(
        steps in proptest::collection::vec(step(), 1..20),
        cut in 0..12_u32,
    ) {
        let mut ledger = TestLedger::begin();
        for step in steps {
            match step {
                Step::Ingest(priced) => ledger.ingest(&priced),
                Step::Adjust(message, kind, late) if !ledger.last.is_empty() => {
                    let issuer = if late { PRICE_ISSUER } else { "user" };
                    ledger.adjust(message % ledger.last.len(), kind, issuer);
                }
                Step::Adjust(..) => (),
                Step::Audit => {
                    ledger.append(SystemKind::Audit, &json!({ "entryType": "CHAIN_VERIFY_OK" }));
                }
                Step::Hour => ledger.now += 3_600_000,
            }
        }
        ledger.send(Command::Seal);
        let (mut appended, mut created, mut sealed, mut ids) = (Vec::new(), 0, 0, Vec::new());
        for told in &ledger.entries {
            let whole = ledger.all(told);
            let (rest, passed) = ledger.tell(told, cut, &|_| true, usize::MAX);
            prop_assert_eq!(passed as usize, whole.len());
            prop_assert_eq!(&rest[..], &whole[whole.len().min(cut as usize)..]);
            let audits = |subject: &str| subject == subject::AUDIT || subject == subject::RECORD_REPRICED;
            let (some, passed) = ledger.tell(told, 0, &audits, usize::MAX);
            prop_assert_eq!(passed as usize, whole.len());
            prop_assert!(some.iter().all(|event| audits(event.0) && whole.contains(event)));
            prop_assert_eq!(some.len(), whole.iter().filter(|event| audits(event.0)).count());
            if cut > 0 && whole.len() >= cut as usize {
                let (first, passed) = ledger.tell(told, 0, &|_| true, cut as usize);
                prop_assert_eq!((passed, &first[..]), (cut, &whole[..cut as usize]));
            }
            for (subject, id, event) in whole {
                match subject {
                    subject::RECORD_APPENDED => appended.push(event["cdrId"].as_str().unwrap().to_owned()),
                    subject::ADJUSTMENT_CREATED => created += 1,
                    subject::BUCKET_SEALED => sealed += 1,
                    _ => (),
                }
                ids.push(id);
            }
        }
        let rows: Vec<Value> =
            ledger.ledger.rows.iter().map(|(row, _)| serde_json::from_slice(row).unwrap()).collect();
        let sms = rows.iter().filter(|row| row["recordType"] == "sms");
        let expected: Vec<String> = sms.clone().map(|row| row["cdrId"].as_str().unwrap().to_owned()).collect();
        prop_assert_eq!(appended, expected);
        prop_assert_eq!(created, sms.filter(|row| row.get("adjustmentType").is_some_and(|kind| !kind.is_null())).count());
        prop_assert_eq!(sealed, ledger.ledger.seals.len() * 2);
        prop_assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
    }
}
