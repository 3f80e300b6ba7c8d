#![allow(clippy::unwrap_used)]

use super::work::verdicts;
use super::*;
use crate::pricing::{Entities, PricingError, TablePricing};
use crate::test_support::node::{OPERATOR, TestNode, message_id};
use cdr_bus::{AckHandle, LocalBackend, LocalOptions, Outgoing};
use cdr_core::command::{Command, Drafts, Ingest, Reply};
use cdr_core::row::{Adjustment, AdjustmentType, BillingIndicator, FinalState, SystemKind};
use cdr_core::state::StreamRecord;
use cdr_core::{Millis, Money};
use futures::future::BoxFuture;
use serde_json::{Value, json};

fn delivery(sequence: u64, payload: &Value) -> Delivery {
    Delivery {
        sequence,
        subject: Arc::from("subject"),
        payload: payload.to_string().into(),
        stored_ms: 0,
        ack: AckHandle::unbound(sequence),
    }
}

/// What a handler says of messages that come together.
async fn said(handler: impl Handler, node: &TestNode, payloads: &[Value]) -> Vec<Verdict> {
    let handler: Arc<dyn Handler> = Arc::new(handler);
    let deliveries: Vec<_> = (1..).zip(payloads).map(|(n, payload)| delivery(n, payload)).collect();
    verdicts(&handler, &node.proposer, "durable", "STREAM", &deliveries).await.unwrap()
}

/// The adjustments of a message, as `kind, charge, ticket, issuer`.
fn adjustments(node: &TestNode, number: u64) -> Vec<(AdjustmentType, Option<Money>, String, String)> {
    let rows = node.proposer.store().rows_of_message(message_id(number)).unwrap();
    let mut found = Vec::new();
    for stored in &rows {
        let row = stored.row().unwrap();
        let sms = row.sms().unwrap();
        let Some(Adjustment { kind, ticket_id, issued_by, .. }) = sms.adjustment else { continue };
        found.push((kind, sms.charge_amount, ticket_id.unwrap().to_owned(), issued_by.unwrap().to_owned()));
    }
    found
}

/// Bodies of the audit log.
fn audit(node: &TestNode) -> Vec<Value> {
    let store = node.proposer.store();
    let rows = store.rows(0..node.proposer.state().head.row_count).unwrap();
    let mut found = Vec::new();
    for stored in &rows {
        if let cdr_core::row::Record::System(system) = stored.row().unwrap().record
            && system.kind == SystemKind::Audit
        {
            found.push(system.read().unwrap());
        }
    }
    found
}

fn price(number: u64, amount: &str) -> Value {
    json!({
        "messageId": message_id(number).to_string(), "chargeAmount": amount, "chargeCurrency": "AFN",
        "tapTariffClass": "A042", "billingIndicator": "CHARGEABLE", "tariffVersion": "2026-05", "new": [],
    })
}

fn reversal(number: u64) -> Value {
    json!({
        "messageId": message_id(number).to_string(), "ticketId": "FRAUD-7",
        "detectedAt": "2026-04-20T13:00:00Z",
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_price_corrects_an_unpriced_record_once() {
    let node = TestNode::with_records(3).await;
    // The second price for a message and the unknown one don't keep the others from theirs.
    let all = [price(1, "0.5"), price(99, "0.5"), price(1, "0.7"), price(2, "0.25")];
    let unknown = Verdict::Failed("there is no record of the message".to_owned());
    for _ in 0..2 {
        let verdicts = said(priced::Priced, &node, &all).await;
        assert_eq!(verdicts, [Verdict::Done, unknown.clone(), Verdict::Done, Verdict::Done]);
    }
    let expected = |amount| {
        let (ticket, issuer) = ("pricing:2026-05".to_owned(), "system:pricing".to_owned());
        vec![(AdjustmentType::Correction, Money::parse(amount), ticket, issuer)]
    };
    assert_eq!(adjustments(&node, 1), expected("0.5"));
    assert_eq!(adjustments(&node, 2), expected("0.25"));
    assert!(adjustments(&node, 3).is_empty());
    let rows = node.proposer.store().rows_of_message(message_id(1)).unwrap();
    let row = rows[1].row().unwrap();
    let sms = row.sms().unwrap();
    assert_eq!((sms.tap_tariff_class, sms.billing_indicator), (Some("A042"), BillingIndicator::Chargeable));
    assert_eq!(sms.adjustment.as_ref().unwrap().reason, Some("late pricing"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_price_that_can_not_be_read_is_refused_by_its_field() {
    let node = TestNode::with_records(1).await;
    for (field, value) in [
        ("chargeAmount", json!(0.5)),
        ("chargeAmount", json!("1e3")),
        ("chargeAmount", json!("-0.5")),
        ("chargeCurrency", json!("EUR")),
        ("tapTariffClass", json!("a042")),
        ("billingIndicator", json!("UNKNOWN")),
        ("tariffVersion", json!("")),
        ("tariffVersion", json!("two words")),
        ("messageId", json!("1")),
    ] {
        let mut message = price(1, "0.5");
        message[field] = value;
        let Verdict::Unreadable(reason) = &said(priced::Priced, &node, &[message]).await[0] else {
            panic!("{field} was taken")
        };
        assert!(reason.to_string().starts_with(field), "{field}: {reason}");
    }
    assert!(adjustments(&node, 1).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reversal_voids_once_with_its_audit_row() {
    let node = TestNode::with_records(2).await;
    for _ in 0..2 {
        let all = [reversal(1), reversal(1), reversal(99)];
        let verdicts = said(fraud::Reversal, &node, &all).await;
        assert_eq!(verdicts[..2], [Verdict::Done, Verdict::Done]);
        assert!(matches!(verdicts[2], Verdict::Failed(_)));
    }
    let (ticket, issuer) = ("FRAUD-7".to_owned(), "system:fraud-reversal".to_owned());
    assert_eq!(adjustments(&node, 1), [(AdjustmentType::Void, Some(Money::ZERO), ticket, issuer)]);
    let rows = node.proposer.store().rows_of_message(message_id(1)).unwrap();
    let (original, void) = (rows[0].row().unwrap(), rows[1].row().unwrap());
    assert_eq!(void.sms().unwrap().adjustment.as_ref().unwrap().void_reason, Some("FRAUD_REVERSAL"));
    let audit = audit(&node);
    assert_eq!(audit.len(), 1, "{audit:?}");
    assert_eq!(audit[0]["entryType"], "ADJUSTMENT_ISSUED");
    assert_eq!(audit[0]["actorUserId"], "system:fraud-reversal");
    assert_eq!((&audit[0]["operatorId"], &audit[0]["ticketId"]), (&json!(OPERATOR), &json!("FRAUD-7")));
    let details = &audit[0]["details"];
    assert_eq!(details["adjustmentOf"], json!(original.frame.cdr_id.to_string()));
    assert_eq!(details["adjustmentId"], json!(void.frame.cdr_id.with_prefix("adj_")));
    // What is voided has no price to wait for.
    assert_eq!(said(priced::Priced, &node, &[price(1, "1")]).await, [Verdict::Done]);
    assert_eq!(adjustments(&node, 1).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reversal_is_read_as_receipts_are() {
    let node = TestNode::with_records(2).await;
    let with = |field: &str, value: &str| {
        let mut message = reversal(1);
        message[field] = json!(value);
        message
    };
    let id = message_id(1).to_string().to_uppercase();
    let all = [
        with("ticketId", "\u{200b}"),
        with("ticketId", &"x".repeat(129)),
        with("detectedAt", "2026-04-20 13:00:00Z"),
        with("messageId", &id),
    ];
    let verdicts = said(fraud::Reversal, &node, &all).await;
    assert!(verdicts[..3].iter().all(|verdict| matches!(verdict, Verdict::Unreadable(_))), "{verdicts:?}");
    assert_eq!(verdicts[3], Verdict::Done, "digits of either case name the same message");
    assert_eq!(adjustments(&node, 1).len(), 1);
    let mut lower = reversal(2);
    lower["detectedAt"] = json!("2026-04-20t13:00:00z");
    assert_eq!(said(fraud::Reversal, &node, &[lower]).await, [Verdict::Done]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evaluation_is_written_once_for_each_message() {
    let node = TestNode::with_records(1).await;
    let evaluation = |number: u64, id: &str| json!({"messageId": message_id(number).to_string(), "complianceEvaluationId": id});
    let all = [evaluation(1, "e-1"), evaluation(99, "e-2"), json!({"messageId": "x"}), evaluation(1, "e-3")];
    for _ in 0..2 {
        let verdicts = said(compliance::Sink, &node, &all).await;
        assert_eq!([&verdicts[0], &verdicts[1], &verdicts[3]], [&Verdict::Done; 3]);
        assert!(matches!(verdicts[2], Verdict::Unreadable(_)));
    }
    let found = audit(&node);
    let ids: Vec<_> = found.iter().map(|row| row["details"]["complianceEvaluationId"].clone()).collect();
    assert_eq!(ids, ["e-1", "e-2", "e-3"]);
    let rows = node.proposer.store().rows_of_message(message_id(1)).unwrap();
    let cdr_id = rows[0].row().unwrap().frame.cdr_id.to_string();
    assert_eq!(found[0]["details"]["cdrId"], json!(cdr_id));
    assert_eq!(found[0]["operatorId"], OPERATOR);
    assert_eq!(found[0]["entryType"], "COMPLIANCE_EVALUATION");
    assert_eq!(found[1]["details"].get("cdrId"), None, "a record that is not known");
    // Another message at the same place of a stream made anew is another evaluation.
    said(compliance::Sink, &node, &[evaluation(1, "e-4")]).await;
    assert_eq!(audit(&node).len(), 4);
}

#[derive(Default)]
struct Asked(Mutex<Vec<String>>);

impl EntitySource for Asked {
    fn recording_entity(&self, _operator_id: &str) -> Option<Arc<str>> {
        None
    }

    fn invalidate(&self, operator_id: &str) {
        self.0.lock().unwrap().push(operator_id.to_owned());
    }

    fn resolve<'a>(&'a self, _operator_ids: &'a [&'a str]) -> BoxFuture<'a, Result<Entities, PricingError>> {
        Box::pin(std::future::ready(Ok(Entities::new())))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_updated_operator_is_asked_for_again() {
    let node = TestNode::with_records(1).await;
    let asked = Arc::new(Asked::default());
    let all = [json!({"operatorId": "AWCC"}), json!({"operatorId": 7}), json!("AWCC")];
    let verdicts = said(operators::Registry(asked.clone()), &node, &all).await;
    assert_eq!(verdicts[0], Verdict::Done);
    assert!(verdicts[1..].iter().all(|verdict| matches!(verdict, Verdict::Unreadable(_))), "{verdicts:?}");
    assert_eq!(*asked.0.lock().unwrap(), ["AWCC"]);
}

fn status(number: u64, state: &str, final_at: Millis) -> Value {
    json!({
        "messageId": message_id(number).to_string(), "operatorId": OPERATOR, "status": state,
        "direction": "MT", "chargeType": "A2P", "from": "Bank", "to": "+93771234567",
        "serviceCenterAddress": "+93770011111", "messageReference": "7F3A", "segmentCount": 1,
        "encoding": "GSM7", "finalAt": final_at.to_string(), "traceId": "trace",
    })
}

/// A consumer of states over a bus with the inbound stream `IN`, which waits an hour for receipts.
async fn status_consumer() -> (TestNode, Arc<dyn Handler>, Arc<LocalBackend>, tempfile::TempDir) {
    let node = TestNode::with_records(1).await;
    let folder = tempfile::tempdir().unwrap();
    let bus = Arc::new(LocalBackend::open(folder.path(), LocalOptions::default()).unwrap());
    let handler: Arc<dyn Handler> = Arc::new(status::Expired {
        wait: Duration::from_secs(3_600),
        inbound: Inbound::new(bus.clone(), "IN".to_owned()),
        pricing: Arc::new(TablePricing::default()),
    });
    (node, handler, bus, folder)
}

/// Makes the inbound stream and its first epoch.
async fn open_inbound(node: &TestNode, bus: &LocalBackend) {
    let spec = StreamSpec {
        name: "IN".to_owned(),
        subjects: vec!["in".to_owned()],
        max_age: MAX_AGE,
        replicas: 1,
        dedup_window: DEDUP_WINDOW,
        max_message_bytes: None,
    };
    bus.ensure_stream(&spec).await.unwrap();
    let record = StreamRecord {
        created: Millis(bus.stream_info("IN").await.unwrap().created_ms).to_string(),
        first_sequence: 1,
        reason: "first".to_owned(),
        stream: "IN".to_owned(),
    };
    let row = (SystemKind::Stream, cdr_core::canonical::to_jcs(&record));
    node.proposer.append_rows("test", vec![row]).await.unwrap();
}

async fn said_of(handler: &Arc<dyn Handler>, node: &TestNode, payloads: &[Value]) -> Vec<Verdict> {
    let deliveries: Vec<_> = (1..).zip(payloads).map(|(n, payload)| delivery(n, payload)).collect();
    verdicts(handler, &node.proposer, "durable", "STREAM", &deliveries).await.unwrap()
}

const SOON: Verdict = Verdict::Later(Duration::from_secs(1));

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_message_is_recorded_when_no_receipt_came_in_time() {
    let (node, handler, bus, _folder) = status_consumer().await;
    open_inbound(&node, &bus).await;
    let start = node.proposer.clock().now();
    let mut lacking = status(2, "EXPIRED", start);
    lacking["to"] = Value::Null;
    let mut stranger = status(2, "EXPIRED", start);
    stranger["operatorId"] = json!("NOBODY");
    let all = [
        status(2, "EXPIRED", start),
        status(2, "ENROUTE", start),
        json!({"status": "SOMETHING_NEW"}),
        status(1, "EXPIRED", start),
        status(3, "EXPIRED", Millis(start.0 + 60_000)),
        json!({"messageId": message_id(2).to_string()}),
        lacking,
        stranger,
    ];
    let verdicts = said_of(&handler, &node, &all).await;
    assert_eq!(verdicts[..5], [SOON, Verdict::Ignored, Verdict::Ignored, Verdict::Done, SOON]);
    for (verdict, reason) in verdicts[5..].iter().zip([
        "status is missing",
        "to is missing",
        "operatorId is not a registered operator",
    ]) {
        let Verdict::Unreadable(said) = verdict else { panic!("{verdict:?}") };
        assert_eq!(said.to_string(), reason);
    }
    let rows = |number| node.proposer.store().rows_of_message(message_id(number)).unwrap();
    assert!(rows(2).is_empty());
    node.proposer.clock().observe(Millis(start.0 + 3_600_000));
    for _ in 0..2 {
        // Whoever comes twice is recorded once; the other's hour is not over.
        let all = [status(2, "EXPIRED", start), status(2, "EXPIRED", start), all[4].clone()];
        until(&handler, &node, &all, &[Verdict::Done, Verdict::Done, SOON]).await;
    }
    assert_eq!((rows(1).len(), rows(2).len(), rows(3).len()), (1, 1, 0));
    let row = rows(2).remove(0);
    let row = row.row().unwrap();
    let sms = row.sms().unwrap();
    assert_eq!((sms.final_state, sms.event_at, sms.adjustment.is_none()), (FinalState::Expired, start, true));
    assert_eq!((row.frame.source_stream, row.frame.operator_id), ("internal", OPERATOR));
}

/// Takes messages until this is said of them: what the inbound stream holds is looked at now and then only.
async fn until(handler: &Arc<dyn Handler>, node: &TestNode, payloads: &[Value], expected: &[Verdict]) {
    for _ in 0..200 {
        if said_of(handler, node, payloads).await == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{:?} is said", said_of(handler, node, payloads).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_of_receipts_is_no_silence() {
    let (node, handler, bus, _folder) = status_consumer().await;
    let start = node.proposer.clock().now();
    node.proposer.clock().observe(Millis(start.0 + 7_200_000));
    let all = [status(2, "EXPIRED", start)];
    assert_eq!(said_of(&handler, &node, &all).await, [SOON], "the stream is not there yet");
    open_inbound(&node, &bus).await;
    let (subject, payload) = ("in".to_owned(), "a receipt".into());
    bus.publish(Outgoing { subject, payload, ..Outgoing::default() }).await.unwrap();
    for _ in 0..6 {
        assert_eq!(said_of(&handler, &node, &all).await, [SOON], "a receipt is not read yet");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let ingest = Ingest {
        stream: "IN",
        first: 1,
        last: 1,
        last_digest: [0; 32],
        ignored: 1,
        dead_lettered: 0,
        missing: 0,
        drafts: Drafts::default(),
    };
    assert!(matches!(node.proposer.propose(Command::Ingest(ingest)).await.unwrap(), Reply::Ingested(_)));
    until(&handler, &node, &all, &[Verdict::Done]).await;
    assert_eq!(node.proposer.store().rows_of_message(message_id(2)).unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn billing_is_counted_once_for_each_message() {
    let node = TestNode::with_records(3).await;
    let now = node.proposer.clock().now();
    let charge = |number: u64, amount: &str, minutes: i64| {
        json!({
            "eventId": "0f8fad5b-d9cb-469f-a165-70867728950e", "messageId": message_id(number).to_string(),
            "operatorId": OPERATOR, "chargeAmount": amount, "chargeCurrency": "AFN",
            "occurredAt": Millis(now.0 + minutes * 60_000).to_string(), "new": {},
        })
    };
    let handler: Arc<dyn Handler> = Arc::new(billing::Charges { kept_hours: 48 });
    let wrong = |field: &str, value: Value| {
        let mut event = charge(1, "0.1", 0);
        event[field] = value;
        event
    };
    let all = [
        charge(1, "0.5", 0),
        charge(1, "0.7", -1),
        charge(2, "0.5", 0),
        charge(2, "0.25", 1),
        charge(9, "0.5", 0),
        charge(3, "0.5", 61),
        charge(3, "0.5", -49 * 60),
        wrong("operatorId", json!("NOBODY")),
        wrong("operatorId", json!("_system")),
        wrong("chargeAmount", json!(0.5)),
        wrong("chargeCurrency", json!("EUR")),
        wrong("occurredAt", Value::Null),
        wrong("messageId", json!("1")),
    ];
    for _ in 0..2 {
        let verdicts = said_of(&handler, &node, &all).await;
        assert_eq!(verdicts[..5], [const { Verdict::Done }; 5]);
        assert_eq!(verdicts[5], SOON, "the clock follows other events");
        assert!(
            verdicts[6..].iter().all(|verdict| matches!(verdict, Verdict::Unreadable(_))),
            "{verdicts:?}"
        );
    }
    let rows = node.proposer.state().head.row_count;
    let hour = node.proposer.state().head.open_hour;
    let counts = node.proposer.store().reconciliation((hour, hour), None, None, 9).unwrap().remove(0).2;
    // The records have no price.
    assert_eq!((counts.originals, counts.matched, counts.differing, counts.missing_in_cdr), (3, 0, 2, 1));
    assert_eq!(
        (counts.missing_in_billing(), counts.sums[0].billing_micros),
        (1, 500_000 + 250_000 + 500_000)
    );
    // A price that comes late is what billing charged.
    assert_eq!(said(priced::Priced, &node, &[price(2, "0.25")]).await, [Verdict::Done]);
    let counts = node.proposer.store().reconciliation((hour, hour), None, None, 9).unwrap().remove(0).2;
    assert_eq!((counts.matched, counts.differing, counts.sums[0].cdr_micros), (1, 1, 250_000));
    assert_eq!(node.proposer.state().head.row_count, rows + 1, "billing appends nothing");
}

/// A log that is gone is no message's fault.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_of_the_log_is_no_verdict() {
    let node = TestNode::with_records(1).await;
    node.proposer.set_clock_is_right(false);
    let handler: Arc<dyn Handler> = Arc::new(fraud::Reversal);
    let deliveries = [delivery(1, &reversal(1))];
    let outcome = verdicts(&handler, &node.proposer, "durable", "STREAM", &deliveries).await;
    assert!(matches!(outcome, Err(ConsumeError::Proposal(ProposalError::ClockIsOff))), "{outcome:?}");
    assert!(adjustments(&node, 1).is_empty());
}
