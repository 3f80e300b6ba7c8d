//! The REST interface refuses a file and says why: its words are kept without numbers, the refusal is published, and the
//! file is named together with those that wait behind it.

use crate::settlement::checks::everything_is_in;
use crate::settlement::cluster::{OPERATORS, Settlement};
use crate::settlement::fallback::keep;
use cdr_bus::{Bus, JetStream, NatsOptions};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testkit::event_schemas::faults;
use testkit::rest_receiver::Act;
use testkit::softhsm::SoftHsm;

/// What the receiver answers, and what may be shown of it.
const WORDS: &str = r#"{"rejectionReason":"SIGNATURE_INVALID","message":"first call +93771234567"}"#;
const SHOWN: &str = r#"{"rejectionReason":"SIGNATURE_INVALID","message":"first call +***"}"#;
const NUMBER: &str = "93771234567";

#[test]
fn a_refusal_is_kept_published_and_named() {
    let Some(hsm) = SoftHsm::for_test("settlement::refusal::a_refusal_is_kept_published_and_named") else {
        return;
    };
    let edit = |text: &str| text.to_owned() + "[observability]\nlog_format = \"json\"\n";
    let mut settlement = Settlement::start_edited(hsm, edit);
    settlement.sshd.kill();
    settlement.end_day(0);
    settlement.wait_for_failures(1, "UNREACHABLE");
    settlement.pass(60);
    settlement.wait_for_failures(2, "UNREACHABLE");
    settlement.receiver.will(&[Act::Answer(422, WORDS.to_owned())]);
    settlement.pass(120);
    let is_refused = |file: &Value| file["lastError"]["error"] == "REJECTED";
    let arrived = |file: &Value| file["deliveryStatus"] == "DELIVERED_API";
    settlement.wait_for_files("the fallback's answers", 1, |file| is_refused(file) || arrived(file));
    let refused = settlement.receiver.uploads()[0].parts[0].file_name.clone();
    let held = named(&settlement, &refused);
    assert!(is_refused(&held), "{held}");
    assert_eq!(settlement.files().into_iter().filter(is_refused).count(), 1, "one was refused");
    kept_with_the_attempt(&settlement, &held);
    published(&settlement, &held);
    counted(&settlement);
    said(&settlement, "the refused file", |fields| {
        fields["file"] == *refused && fields["class"] == "REJECTED"
    });

    // The next file of the same series waits behind it, and both are named; all others go their way.
    settlement.sshd.restart("host");
    settlement.begin_day(1);
    settlement.take_in_day(1);
    settlement.end_day(1);
    let of_series = |file: &Value| file["recordingEntity"] == held["recordingEntity"];
    settlement.wait_for_files("the next day's files", 2, |file| {
        of_series(file) || arrived(file) || file["deliveryStatus"] == "DELIVERED_SFTP"
    });
    let waits = settlement.files().into_iter().find(|file| of_series(file) && file["filename"] != *refused);
    let waits = waits.unwrap()["filename"].as_str().unwrap().to_owned();
    said(&settlement, "what waits behind it", |fields| {
        fields["file"] == *refused && fields["waiting_files"] == waits
    });
    let waiting = named(&settlement, &waits);
    assert!(waiting["lastError"].is_null() && waiting["deliveredAt"].is_null(), "out of order: {waiting}");
    assert!((1..=3).all(|id| !settlement.cluster.log(id).contains(NUMBER)), "a number in a log");

    settlement.redrop(&held);
    settlement.wait_for_files("everything", 2, |file| file["deliveredAt"].is_string());
    let taken = settlement.dir.join("taken");
    std::fs::create_dir(&taken).unwrap();
    assert_eq!(keep(&settlement.receiver.uploads()[1..], &taken), OPERATORS - 1);
    for name in settlement.sshd.names() {
        std::fs::copy(settlement.sshd.drop().join(&name), taken.join(&name)).unwrap();
    }
    everything_is_in(&settlement, 2, &taken);
    assert_eq!(rejections(&settlement).len(), 1, "published once");
}

fn named(settlement: &Settlement, name: &str) -> Value {
    settlement.files().into_iter().find(|file| file["filename"] == *name).unwrap()
}

/// The row of the attempt holds the status, the reason and the words, whoever reads it without the number.
fn kept_with_the_attempt(settlement: &Settlement, held: &Value) {
    let path = format!("/v1/cdr/exports/{}/delivery-log", held["exportId"].as_str().unwrap());
    let log = settlement.cluster.get_ok(settlement.cluster.leader(), &path);
    let rows = log["items"].as_array().unwrap();
    let answered: Vec<&Value> = rows.iter().filter(|row| row["answer"].is_object()).collect();
    let [row] = answered[..] else { panic!("{log}") };
    assert_eq!(
        (&row["step"], &row["channel"], &row["error"]),
        (&json!("ATTEMPTED"), &json!("API"), &json!("REJECTED"))
    );
    let answer = &row["answer"];
    assert_eq!(answer["status"], 422);
    assert_eq!(answer["rejectionReason"], "SIGNATURE_INVALID");
    assert_eq!(answer["payload"], SHOWN);
    assert!(!log.to_string().contains(NUMBER), "{log}");
}

/// `cdr.export.rejected.v1` names the file, the mapped reason, and the receiver's words without the number.
fn published(settlement: &Settlement, held: &Value) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut events = rejections(settlement);
    while events.is_empty() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
        events = rejections(settlement);
    }
    let [event] = &events[..] else { panic!("{events:?}") };
    assert_eq!(event["exportId"], held["exportId"]);
    assert_eq!(event["rejectionReason"], "SIGNATURE_INVALID");
    assert_eq!(event["retryCount"], 3, "SFTP had failed three times");
    assert_eq!(event["atraErrorPayload"], SHOWN);
}

/// Every `cdr.export.rejected.v1` on the bus.
fn rejections(settlement: &Settlement) -> Vec<Value> {
    let (stream, subject) = ("CDR_EXPORTS", "cdr.export.rejected.v1");
    settlement.runtime.block_on(async {
        let bus = JetStream::connect(NatsOptions::new(settlement.nats.url())).await.unwrap();
        let last = bus.stream_info(stream).await.unwrap().last_sequence;
        let mut events = Vec::new();
        for sequence in 1..=last {
            let Some(message) = bus.message(stream, sequence).await.unwrap() else { continue };
            if message.subject == subject {
                assert_eq!(faults(subject, &message.payload), [""; 0]);
                events.push(serde_json::from_slice(&message.payload).unwrap());
            }
        }
        events
    })
}

/// The figure by which `cdr_delivery_needs_person` wakes somebody up.
fn counted(settlement: &Settlement) {
    let line = "cdr_delivery_attempts_total{channel=\"api\",outcome=\"rejected\"} 1";
    let shown = settlement.cluster.metrics_text(settlement.cluster.leader());
    assert!(shown.lines().any(|shown| shown == line), "{line} is not in\n{shown}");
}

/// Waits until a replica has said as SEV1 what `is_it` recognises by its fields.
fn said(settlement: &Settlement, what: &str, is_it: impl Fn(&Value) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let logs: Vec<String> = (1..=3).map(|id| settlement.cluster.log(id)).collect();
        let lines = logs.iter().flat_map(|log| log.lines());
        let mut alarms = lines
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|line| line["level"] == "ERROR" && line["fields"]["severity"] == "SEV1");
        if alarms.any(|line| is_it(&line["fields"])) {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: not said within a minute");
        std::thread::sleep(Duration::from_millis(100));
    }
}
