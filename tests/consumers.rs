//! Messages of the other services from a real JetStream into three real processes: late prices, fraud reversals, the
//! audit sink, messages that expired without a receipt, dead letters, and leaders that are killed meanwhile.

use cdr_bus::{Bus, JetStream, NatsOptions, Outgoing};
use serde_json::{Value, json};
use std::time::Duration;
use testkit::cluster::Cluster;
use testkit::nats::NatsServer;
use testkit::wait_until;
use tokio::runtime::Runtime;

const DLR: &str = "sms.dlr.inbound";
const PRICED: &str = "billing.pricing.snapshot.ready.v1";
const FRAUD: &str = "fraud.reversal.v1";
const COMPLIANCE: &str = "compliance.audit.v1";
const STATUS: &str = "sms.events.status";
const BILLING: &str = "billing.events.v1";
/// Silence after which the bus delivers a message again.
const ACK_WAIT: Duration = Duration::from_secs(30);

/// Three replicas on a bus, with prices for what mobiles originate only.
struct Fixture {
    cluster: Cluster,
    _nats: NatsServer,
    bus: JetStream,
    runtime: Runtime,
    _dir: tempfile::TempDir,
}

fn message_id(number: u64) -> String {
    format!("0f8fad5b-d9cb-469f-a165-{number:012}")
}

fn receipt(number: u64, direction: &str) -> Value {
    let now = jiff::Timestamp::now();
    json!({
        "schemaVersion": "1", "messageId": message_id(number), "operatorId": "AWCC", "status": "DELIVERED",
        "direction": direction, "chargeType": "A2P", "from": "Bank", "to": "+93771234567",
        "serviceCenterAddress": "+93770011111", "messageReference": "7F3A", "segmentCount": 1,
        "encoding": "GSM7", "finalAt": format!("{now:.3}"), "traceId": "trace",
    })
}

/// The message as the orchestrator sees it.
fn status(number: u64, state: &str) -> Value {
    let mut status = receipt(number, "MO");
    status["status"] = json!(state);
    status
}

fn price(number: u64) -> Value {
    json!({
        "messageId": message_id(number), "chargeAmount": "0.5", "chargeCurrency": "AFN",
        "tapTariffClass": "A042", "billingIndicator": "CHARGEABLE", "tariffVersion": "by-message",
    })
}

fn billed(number: u64, amount: &str) -> Value {
    let now = jiff::Timestamp::now();
    json!({
        "eventId": message_id(number), "messageId": message_id(number), "operatorId": "AWCC",
        "chargeAmount": amount, "chargeCurrency": "AFN", "occurredAt": format!("{now:.3}"),
    })
}

fn reversal(number: u64) -> Value {
    json!({"messageId": message_id(number), "ticketId": "FRAUD-7", "detectedAt": "2026-04-20T13:00:00Z"})
}

fn evaluation(number: u64) -> Value {
    json!({"messageId": message_id(number), "complianceEvaluationId": format!("evaluation-{number}")})
}

impl Fixture {
    fn start() -> Self {
        Self::start_edited(str::to_owned)
    }

    fn start_edited(edit: impl Fn(&str) -> String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let nats = NatsServer::start();
        let runtime = crate::receipts::runtime();
        let cluster = Cluster::start_edited(dir.path(), &nats.url(), |text| {
            let text =
                text.replace("[[pricing.tables]]\n", "[pricing]\nreprice_ms = 300\n[[pricing.tables]]\n");
            edit(&text.replace("per_segment =", "direction = \"MO\"\nper_segment ="))
        });
        let bus = runtime.block_on(JetStream::connect(NatsOptions::new(nats.url()))).unwrap();
        let fixture = Self { cluster, _nats: nats, bus, runtime, _dir: dir };
        for subject in [DLR, PRICED, FRAUD, COMPLIANCE, STATUS, BILLING] {
            wait_until(subject, 60, || {
                fixture.runtime.block_on(fixture.bus.stream_of(subject)).unwrap().is_some()
            });
        }
        fixture
    }

    fn publish(&self, subject: &str, messages: impl IntoIterator<Item = Value>) {
        for message in messages {
            let (subject, payload) = (subject.to_owned(), message.to_string().into());
            self.runtime
                .block_on(self.bus.publish(Outgoing { subject, payload, ..Outgoing::default() }))
                .unwrap();
        }
    }

    fn records(&self, count: u64) {
        wait_until(&format!("{count} records"), 60, || {
            (1..=3).all(|id| self.cluster.sms_rows(id) == Some(count))
        });
    }

    /// The rows of a message, oldest first.
    fn rows_of(&self, number: u64) -> Vec<Value> {
        let leader = self.cluster.leader();
        let path = format!("/v1/cdr/records?limit=50&messageId={}", message_id(number));
        self.cluster.get_ok(leader, &path)["items"].as_array().unwrap().clone()
    }

    /// The adjustments of a message, oldest first.
    fn adjustments(&self, number: u64) -> Vec<Value> {
        let rows = self.rows_of(number);
        rows.into_iter().filter(|row| row.get("adjustmentType").is_some_and(|kind| !kind.is_null())).collect()
    }

    /// Rows of records that the log itself made, in a final state.
    fn made_here(&self, state: &str) -> Vec<Value> {
        let leader = self.cluster.leader();
        let rows = self.cluster.get_ok(leader, &format!("/v1/cdr/records?limit=500&state={state}"));
        let rows = rows["items"].as_array().unwrap().clone();
        rows.into_iter().filter(|row| row["source"]["stream"] == "internal").collect()
    }

    /// What counts of a message.
    fn net(&self, number: u64) -> Value {
        let leader = self.cluster.leader();
        let path = format!("/v1/cdr/records?net=true&messageId={}", message_id(number));
        let items = self.cluster.get_ok(leader, &path)["items"].as_array().unwrap().clone();
        assert_eq!(items.len(), 1, "{items:?}");
        items[0].clone()
    }

    /// Figures of the reconciliation over all hours, as one replica has them.
    fn reconciled(&self, id: usize) -> [u64; 5] {
        let answer = self.cluster.get_ok(id, "/v1/cdr/reconciliation?consistency=stale&operatorId=AWCC");
        let items = answer["items"].as_array().unwrap();
        ["cdrCount", "matched", "amountDiffers", "missingInBilling", "missingInCdr"]
            .map(|name| items.iter().map(|item| item[name].as_u64().unwrap()).sum())
    }

    /// Waits until every replica has these figures.
    fn reconciles(&self, figures: [u64; 5]) {
        let (mut found, what) = ([[0; 5]; 3], format!("reconciliation {figures:?}"));
        let deadline = std::time::Instant::now() + Duration::from_secs(90);
        while found != [figures; 3] {
            assert!(std::time::Instant::now() < deadline, "{what}: {found:?}");
            std::thread::sleep(Duration::from_millis(200));
            // One that was killed may not answer yet.
            let answers = |id: &usize| self.cluster.metric(*id, "cdr_rows").is_some();
            if [1, 2, 3].iter().all(answers) {
                found = [1, 2, 3].map(|id| self.reconciled(id));
            }
        }
    }

    /// Kills the leader, waits for the next one, and brings the old one back.
    fn change_leader(&mut self) {
        let leader = self.cluster.leader();
        self.cluster.kill(leader);
        self.cluster.leader();
        self.cluster.restart(leader);
    }

    /// Entries of the audit log of one type.
    fn audit(&self, entry_type: &str) -> Vec<Value> {
        let leader = self.cluster.leader();
        let found = self.cluster.every_item(leader, "/v1/cdr/audit?");
        found.into_iter().filter(|entry| entry["body"]["entryType"] == entry_type).collect()
    }

    fn letters(&self, stream: &str) -> u64 {
        self.runtime.block_on(self.bus.stream_info(stream)).unwrap().messages
    }

    fn unpriced(&self) -> Option<f64> {
        self.cluster.metric(self.cluster.leader(), "cdr_unpriced_rows")
    }

    fn consumed(&self, outcome: &str) -> f64 {
        let series = format!("outcome=\"{outcome}\"");
        let counted = |id| {
            let text = self.cluster.metrics_text(id);
            let lines = text.lines().filter(|l| l.starts_with("cdr_consumed_") && l.contains(&series));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
        };
        (1..=3).map(counted).sum()
    }
}

#[test]
fn records_get_their_prices_late_and_poison_ends_in_the_dead_letter() {
    let mut fixture = Fixture::start();
    fixture.publish(DLR, (1..=4).map(|n| receipt(n, "MT")).chain([receipt(5, "MO")]));
    fixture.records(5);
    wait_until("four records without a price", 20, || fixture.unpriced() == Some(4.0));

    // The first message is for a record that never comes, the second can't be read: they hold up nothing.
    fixture.publish(PRICED, [price(99), json!({"messageId": message_id(1)}), price(1), price(1), price(5)]);
    wait_until("the price by message", 20, || fixture.unpriced() == Some(3.0));
    let priced = fixture.adjustments(1);
    assert_eq!(priced.len(), 1, "{priced:?}");
    assert_eq!(priced[0]["adjustmentType"], "CORRECTION");
    assert_eq!(
        (&priced[0]["chargeAmount"], &priced[0]["tariffVersion"]),
        (&json!("0.500000"), &json!("by-message"))
    );
    assert_eq!(priced[0]["issuedByUserId"], "system:pricing", "{}", priced[0]);
    wait_until("both dead letters", 90, || fixture.letters("BILLING_PRICING_DEADLETTER") == 2);
    let letter = |sequence| {
        let stored = fixture.bus.message("BILLING_PRICING_DEADLETTER", sequence);
        let stored = fixture.runtime.block_on(stored).unwrap().unwrap();
        let value = |name: &str| {
            stored
                .headers
                .iter()
                .find(|(header, _)| header == name)
                .map(|(_, v)| v.clone())
                .unwrap_or_default()
        };
        let payload: Value = serde_json::from_slice(&stored.payload).unwrap();
        assert_eq!(
            (stored.subject.as_str(), value("Cdr-Stream").as_str()),
            ("billing.pricing.snapshot.ready.v1.deadletter", "BILLING_PRICING")
        );
        (value("Cdr-Sequence"), value("Cdr-Reason"), payload)
    };
    let (sequence, reason, _) = letter(1);
    assert_eq!((sequence.as_str(), reason.as_str()), ("2", "chargeAmount is missing"));
    let (sequence, reason, payload) = letter(2);
    assert_eq!((sequence.as_str(), payload), ("1", price(99)));
    assert_eq!(reason, "processing failed 5 times: there is no record of the message");
    // It is counted once the message is acknowledged, behind the dead letter.
    let counted = || (fixture.consumed("failed"), fixture.consumed("dead_letter"));
    wait_until("what is counted", 20, || counted() == (5.0, 2.0));
    assert!(fixture.adjustments(5).is_empty(), "it had a price");

    // A list that knows the rest.
    fixture.cluster.add_configuration(
        "[[pricing.tables]]\nversion = \"test-2\"\nvalid_from = \"1971-01-01T00:00:00Z\"\n\
         [[pricing.tables.tariffs]]\nper_segment = \"0.3\"\ncurrency = \"AFN\"\ntap_tariff_class = \"A041\"\n",
    );
    (1..=3).for_each(|id| fixture.cluster.kill(id));
    (1..=3).for_each(|id| fixture.cluster.restart(id));
    wait_until("prices by the list", 60, || fixture.unpriced() == Some(0.0));
    for number in 2..=4 {
        let found = fixture.adjustments(number);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(
            (&found[0]["chargeAmount"], &found[0]["ticketId"]),
            (&json!("0.300000"), &json!("pricing:test-2"))
        );
    }
    assert_eq!(fixture.adjustments(1).len(), 1, "it had a price");
}

#[test]
fn reversals_and_evaluations_happen_once_across_a_leader_change() {
    const COUNT: u64 = 400;
    let mut fixture = Fixture::start();
    fixture.publish(DLR, (1..=COUNT).map(|n| receipt(n, "MO")));
    fixture.records(COUNT);
    let done = |fixture: &Fixture| fixture.audit("ADJUSTMENT_ISSUED").len() as u64;
    for first in [1, COUNT / 2 + 1] {
        let half = first..first + COUNT / 2;
        // Every reversal is asked for twice.
        fixture.publish(FRAUD, half.clone().flat_map(|n| [reversal(n), reversal(n)]));
        fixture.publish(COMPLIANCE, half.map(evaluation));
        if first == 1 {
            fixture.change_leader();
        }
    }
    let evaluations = |fixture: &Fixture| fixture.audit("COMPLIANCE_EVALUATION").len() as u64;
    wait_until("everything", 120, || done(&fixture) >= COUNT && evaluations(&fixture) >= COUNT);
    // What the killed leader had not acknowledged comes again.
    fixture.cluster.idle(ACK_WAIT + Duration::from_secs(3));
    assert_eq!((done(&fixture), evaluations(&fixture)), (COUNT, COUNT));
    for number in [1, COUNT / 2, COUNT] {
        let voids = fixture.adjustments(number);
        assert_eq!(voids.len(), 1, "{voids:?}");
        assert_eq!(voids[0]["adjustmentType"], "VOID");
        assert_eq!(
            (&voids[0]["voidReason"], &voids[0]["ticketId"]),
            (&json!("FRAUD_REVERSAL"), &json!("FRAUD-7"))
        );
    }
    for stream in ["FRAUD_DEADLETTER", "COMPLIANCE_DEADLETTER"] {
        assert_eq!(fixture.letters(stream), 0, "{stream}");
    }
}

#[test]
fn a_failover_is_no_failed_attempt() {
    let mut fixture = Fixture::start();
    fixture.publish(DLR, [receipt(1, "MO")]);
    fixture.records(1);
    // A record that is there can't be voided as long as there is no quorum: longer than four attempts' pauses.
    let leader = fixture.cluster.leader();
    let others: Vec<usize> = (1..=3).filter(|id| *id != leader).collect();
    for id in &others {
        fixture.cluster.kill(*id);
    }
    fixture.publish(FRAUD, [reversal(1)]);
    fixture.cluster.idle(Duration::from_secs(55));
    for id in others {
        fixture.cluster.restart(id);
    }
    wait_until("the void", 90, || fixture.adjustments(1).len() == 1);
    assert_eq!((fixture.consumed("failed"), fixture.letters("FRAUD_DEADLETTER")), (0.0, 0));

    // A record that comes late: what failed under one leader is not held against it under the next.
    fixture.publish(FRAUD, [reversal(2)]);
    let leader = fixture.cluster.leader();
    wait_until("three attempts", 30, || fixture.consumed("failed") >= 3.0);
    fixture.cluster.kill(leader);
    fixture.cluster.leader();
    wait_until("two more", 60, || fixture.consumed("failed") >= 2.0);
    assert_eq!(fixture.letters("FRAUD_DEADLETTER"), 0);
    fixture.publish(DLR, [receipt(2, "MO")]);
    wait_until("the void of the late record", 60, || fixture.adjustments(2).len() == 1);
    assert_eq!(fixture.letters("FRAUD_DEADLETTER"), 0);
    fixture.cluster.restart(leader);
}

#[test]
fn messages_that_expire_without_a_receipt_are_recorded_and_corrected_once() {
    const RECEIVED: u64 = 20;
    const COUNT: u64 = 60;
    let mut fixture =
        Fixture::start_edited(|text| text.replace("[ingest]\n", "[ingest]\nexpired_wait = \"6s\"\n"));
    fixture.publish(DLR, (1..=RECEIVED).map(|n| receipt(n, "MO")));
    // Every message expires twice, and the bus holds them while nobody leads.
    let states = (1..=COUNT).flat_map(|n| ["ENROUTE", "EXPIRED", "EXPIRED"].map(|state| status(n, state)));
    fixture.publish(STATUS, states.chain([json!({"status": 7})]));
    fixture.change_leader();
    wait_until("the records without a receipt", 90, || {
        fixture.made_here("EXPIRED").len() as u64 == COUNT - RECEIVED
    });
    assert_eq!(fixture.made_here("DELIVERED").len(), 0);

    // Receipts that come after all, two of each message, while the leader changes again.
    let late = RECEIVED + 1..COUNT;
    fixture.publish(DLR, late.clone().map(|n| status(n, "FAILED")));
    fixture.change_leader();
    fixture.publish(DLR, late.clone().map(|n| receipt(n, "MO")));
    fixture.publish(DLR, [status(COUNT, "EXPIRED"), receipt(COUNT + 1, "MO")]);
    let is_read = |fixture: &Fixture| !fixture.rows_of(COUNT + 1).is_empty();
    wait_until("every receipt", 60, || is_read(&fixture));
    for number in late {
        let found = fixture.adjustments(number);
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(
            (&found[0]["adjustmentType"], &found[0]["source"]["stream"], &found[0]["issuedByUserId"]),
            (&json!("CORRECTION"), &json!("SMS_DLR_INBOUND"), &json!("system:late-receipt"))
        );
        assert_eq!(fixture.net(number)["finalState"], "FAILED");
    }
    for number in [1, RECEIVED, COUNT] {
        assert_eq!(fixture.rows_of(number).len(), 1, "there was nothing to correct");
    }
    // What a killed leader had in its hands comes again, and changes nothing.
    fixture.cluster.idle(ACK_WAIT + Duration::from_secs(3));
    assert_eq!(fixture.made_here("EXPIRED").len() as u64, COUNT - RECEIVED);
    wait_until("the dead letter", 60, || fixture.letters("SMS_STATUS_DEADLETTER") == 1);
    assert!(fixture.consumed("failed") < 0.5, "nothing failed");
    let rows = |fixture: &Fixture| [1, 2, 3].map(|id| fixture.cluster.metric(id, "cdr_rows"));
    wait_until("all replicas", 60, || rows(&fixture).windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn billing_is_reconciled_alike_on_every_replica_across_a_leader_change() {
    const COUNT: u64 = 300;
    let mut fixture = Fixture::start();
    fixture.publish(DLR, (1..=COUNT).map(|n| receipt(n, "MO")));
    fixture.records(COUNT);
    fixture.reconciles([COUNT, 0, 0, COUNT, 0]);
    // The list charges 0.42: 100 are equal, 100 are not, 100 are missing; 50 are of messages that are not there.
    let event = |n: u64| billed(n, if n <= 100 { "0.42" } else { "0.5" });
    let events: Vec<Value> = (1..=200).chain(COUNT + 1..=COUNT + 50).map(event).collect();
    fixture.publish(BILLING, events.iter().take(120).cloned());
    fixture.change_leader();
    // Everything is told twice, as after an answer that was lost, and one event can't be read.
    fixture.publish(BILLING, events.iter().chain(&events).cloned().chain([json!({"messageId": "x"})]));
    fixture.reconciles([COUNT, 100, 100, 100, 50]);
    // Half of the missing records come after all; one record is voided, one charge is put right.
    fixture.publish(DLR, (COUNT + 1..=COUNT + 25).map(|n| receipt(n, "MO")));
    fixture.publish(FRAUD, [reversal(1)]);
    fixture.publish(BILLING, [billed(101, "0.42")]);
    fixture.change_leader();
    fixture.reconciles([COUNT + 25, 100, 125, 100, 25]);
    wait_until("the dead letter", 60, || fixture.letters("BILLING_EVENTS_DEADLETTER") == 1);
    assert!(fixture.consumed("failed") < 0.5, "nothing failed");
}
