//! Every kind of event that has a cause is published once, in order, valid, signed, and without a subscriber's number.

use crate::relay::publisher::{CLUSTER, Publisher};
use cdr_core::CdrId;
use cdr_core::command::OutboxPlace;
use cdr_mediation::events::numbers::PLAIN;
use cdr_mediation::events::signature::{TrustedKey, verify_event};
use cdr_mediation::events::streams::stream_of;
use cdr_mediation::outbox::Outbox;
use serde_json::Value;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use testkit::event_schemas::faults;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_is_published_once_valid_signed_and_without_numbers() {
    let publisher = Publisher::start().await;
    publisher.ingest(700, 1).await;
    publisher.act().await;
    publisher.work().await;
    publisher.settle().await;
    publisher.restrict().await;
    publisher.close_hour().await;
    let store = publisher.replica.store();
    let state = store.state();
    let sms = publisher.cdrs(|_| true).len();
    let hours = (state.head.open_hour.0 - state.head.first_hour.0) as usize;
    let expected = BTreeMap::from([
        ("cdr.record.appended.v1", sms),
        ("cdr.bucket.sealed.v1", hours * 7),
        ("cdr.generated.v1", hours * 7),
        ("cdr.record.repriced.v1", 1),
        ("cdr.adjustment.created.v1", 4),
        ("cdr.adjustment.batch.issued.v1", 1),
        // Three adjustments, one verification, one key, the replica restricted and not; the ledger's first key is no
        // rotation.
        ("cdr.audit.v1", 7),
        ("cdr.restriction.v1", 2),
        // A setting, the price list that came into force, the names of the first key and of the schema variant, and what
        // the leader goes by: where files go, how long records wait, the three times of a day.
        ("cdr.config.changed.v1", 9),
        // Delivered, refused, exhausted, delivered again, accepted.
        ("cdr.exported.v1", 2),
        ("cdr.export.rejected.v1", 2),
        ("cdr.export.acked.v1", 1),
        ("cdr.quarantine.resubmitted.v1", 1),
    ]);
    let all = publisher.messages_once(&expected).await;
    let trusted = TrustedKey::from_pem(CLUSTER, publisher.key.public_pem()).unwrap();
    let secrets = publisher.secrets();
    assert!(secrets.len() > 500, "{}", secrets.len());

    let mut by_subject: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    let mut published = BTreeMap::new();
    for (stream, messages) in &all {
        let mut last = String::new();
        for message in messages {
            assert_eq!(stream_of(&message.subject), Some(*stream));
            assert_eq!(faults(&message.subject, &message.payload), [""; 0], "{}", message.subject);
            verify_event(&message.payload, &message.headers, &trusted).unwrap();
            let text = std::str::from_utf8(&message.payload).unwrap();
            let words = text.split(|c: char| !c.is_ascii_alphanumeric());
            assert!(words.into_iter().all(|word| !secrets.contains(word)), "a number in {text}");
            let event: Value = serde_json::from_str(text).unwrap();
            let id = event["eventId"].as_str().unwrap().to_owned();
            assert!(id > last, "{id} after {last}");
            let header =
                |name: &str| message.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
            assert_eq!(header("Nats-Msg-Id"), Some(id.as_str()));
            assert_eq!(
                header("partitionKey"),
                event.get("operatorId").and_then(Value::as_str).or_else(|| header("partitionKey"))
            );
            published.insert(id.clone(), message.payload.to_vec());
            last = id;
            by_subject.entry(&message.subject).or_default().push(event);
        }
    }
    of_adjustments(&by_subject);

    // What is published is what any replica would tell.
    let told = told(&publisher);
    assert!(told == published, "{} told, {} published", told.len(), published.len());
    publisher.replica.stop().await;
}

/// Every event that the ledger tells, by id.
fn told(publisher: &Publisher) -> BTreeMap<String, Vec<u8>> {
    let outbox = Outbox::new(publisher.replica.store(), &PLAIN).unwrap();
    let (mut told, mut place) = (BTreeMap::new(), OutboxPlace::default());
    loop {
        let next = outbox
            .read(place, &|_| true, &mut |event, _| {
                told.insert(event.event_id.to_string(), event.payload);
                ControlFlow::Continue(())
            })
            .unwrap();
        if next == place {
            return told;
        }
        place = next;
    }
}

/// The ledger keeps the last 200 ended jobs at hand; those before are read out of their rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_at_hand_no_more_is_told_alike() {
    let publisher = Publisher::start().await;
    publisher.ingest(100, 1).await;
    publisher.work().await;
    let batch = publisher.batches_once(1).await.remove(0);
    let event: Value = serde_json::from_slice(&batch.payload).unwrap();
    assert_eq!(event["count"], 6);
    let name = event["jobId"].as_str().unwrap();
    let id = CdrId::parse_prefixed("adjjob_", name).unwrap();
    let failed = publisher.fail_a_job().await;
    let (shown, shown_failed) = (publisher.job(name).await, publisher.job(&failed).await);
    assert_eq!((shown.0, shown_failed.0), (200, 200), "{shown:?} {shown_failed:?}");
    assert_eq!((&shown.1["status"], &shown_failed.1["status"]), (&"FINISHED".into(), &"FAILED".into()));
    publisher.end_jobs(201).await;
    assert!(publisher.replica.store().state().jobs.get(id).is_none());
    assert_eq!(publisher.job(name).await, shown, "as it was told when it was at hand");
    assert_eq!(publisher.job(&failed).await, shown_failed);
    // The id of a row that is no job.
    let (status, refused) = publisher.job(&publisher.cdrs(|_| true)[0].with_prefix("adjjob_")).await;
    assert_eq!((status, &refused["error"]["code"]), (404, &"JOB_NOT_FOUND".into()), "{refused}");
    let told = told(&publisher);
    assert_eq!(told[event["eventId"].as_str().unwrap()], batch.payload);
    publisher.batches_once(202).await;
    publisher.replica.stop().await;
}

fn of_adjustments(by_subject: &BTreeMap<&str, Vec<Value>>) {
    let created = &by_subject["cdr.adjustment.created.v1"];
    assert_eq!(created[0]["originalCdrId"], created[1]["originalCdrId"], "a correction of a correction");
    assert_eq!(created[1]["correctedFields"], serde_json::json!({ "segmentCount": 2 }));
    let batch = &by_subject["cdr.adjustment.batch.issued.v1"][0];
    assert_eq!((&batch["count"], &batch["sumDeltaMinor"]), (&6.into(), &"-0.000014".into()));
    assert_eq!(batch["approverUserId"], "user-2");
    let repriced = &by_subject["cdr.record.repriced.v1"][0];
    assert_eq!(repriced["originalCdrId"], created[3]["originalCdrId"]);
    assert_eq!(repriced["chargeAmount"], "0.250000");
    let kinds: Vec<&str> =
        by_subject["cdr.audit.v1"].iter().map(|event| event["entryType"].as_str().unwrap()).collect();
    let issued = "ADJUSTMENT_ISSUED";
    let restricted = ["NODE_RESTRICTED", "NODE_RESTRICTION_LIFTED"];
    let expected = [issued, issued, issued, "CHAIN_VERIFY_OK", "KEY_ROTATED", restricted[0], restricted[1]];
    assert_eq!(kinds, expected);
    let told = by_subject["cdr.restriction.v1"].iter();
    let told: Vec<_> = told.map(|event| (&event["state"], &event["nodeId"], &event["reason"])).collect();
    let (one, why) = (Value::from(1), Value::from("for +***"));
    assert_eq!(told, [(&"RESTRICTED".into(), &one, &why), (&"LIFTED".into(), &one, &why)]);
}

/// What was on its way when a replica stopped is not doubled when it begins again from an older cursor.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_stops_at_once_goes_on_behind_what_the_streams_hold() {
    let mut publisher = Publisher::start().await;
    for records in [400, 800, 1200] {
        publisher.ingest(records, 2).await;
        publisher = publisher.restart().await;
    }
    publisher.all_published().await;
    let messages = publisher.messages().await;
    let records = messages["CDR_EVENTS"].iter().filter(|m| m.subject == "cdr.record.appended.v1");
    let told: Vec<String> = records
        .map(|message| serde_json::from_slice::<Value>(&message.payload).unwrap()["cdrId"].to_string())
        .collect();
    let expected: Vec<String> = publisher.cdrs(|_| true).iter().map(|id| format!("\"{id}\"")).collect();
    assert!(told == expected, "{} told, {} in the ledger", told.len(), expected.len());
    publisher.replica.stop().await;
}
