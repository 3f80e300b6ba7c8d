//! What has to hold in the end, whatever happened on the way.

use crate::settlement::cluster::{OPERATORS, Settlement};
use cdr_bus::{Bus, JetStream, NatsOptions};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;
use testkit::{run, tap_schemas, wait_until};

/// Every file of so many days is in the drop of the SFTP server, and nothing else is there.
pub fn everything_is_settled(settlement: &Settlement, days: usize) {
    settlement.wait_until_delivered(days, "SFTP");
    assert!(settlement.receiver.uploads().is_empty(), "the fallback has got a file, too");
    everything_is_in(settlement, days, &settlement.sshd.drop());
}

/// Every file of so many days is in a directory once, whole, signed, with its sidecars, and so is every record; each
/// delivery was told once.
pub fn everything_is_in(settlement: &Settlement, days: usize, dir: &Path) {
    let files = settlement.files();
    let expected: BTreeSet<String> = files
        .iter()
        .map(|file| file["filename"].as_str().unwrap())
        .flat_map(|name| [name.to_owned(), format!("{name}.sig"), format!("{name}.trace.json.zst")])
        .collect();
    assert_eq!(expected.len(), 3 * days * OPERATORS, "{files:#?}");
    let entries = std::fs::read_dir(dir).unwrap();
    let names: BTreeSet<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names, expected);
    numbers_have_no_gap(settlement, &files, days);
    let count = |file: &Value, field: &str| file[field].as_u64().unwrap();
    let listed: u64 =
        files.iter().map(|file| count(file, "recordsIncluded") + count(file, "quarantinedCount")).sum();
    assert_eq!(listed, settlement.records, "every record is in a file or in quarantine");
    for file in &files {
        verify(settlement, &dir.join(file["filename"].as_str().unwrap()));
    }
    deliveries_are_told_once(settlement, &files);
}

fn numbers_have_no_gap(settlement: &Settlement, files: &[Value], days: usize) {
    let mut numbers = BTreeMap::<&str, Vec<u64>>::new();
    for file in files {
        let number = file["fileSequenceNumber"].as_u64().unwrap();
        numbers.entry(file["recordingEntity"].as_str().unwrap()).or_default().push(number);
    }
    assert_eq!(numbers.len(), OPERATORS);
    for (entity, numbers) in &numbers {
        assert_eq!(*numbers, (1..=days as u64).collect::<Vec<_>>(), "{entity}");
        let path = format!("/v1/cdr/exports?recordingEntity={entity}");
        let list = settlement.cluster.get_ok(settlement.cluster.leader(), &path);
        let items = list["items"].as_array().unwrap();
        assert!(items.len() == days && items.iter().all(|item| item["gapBefore"] == false), "{list}");
    }
}

/// A regulator's check, with nothing but the root's public key and a replica's API.
fn verify(settlement: &Settlement, file: &Path) {
    let (root, token) = (settlement.root.public_key_file(), settlement.dir.join("dev-token"));
    let url = settlement.cluster.api_url(settlement.cluster.leader());
    let schemas = tap_schemas();
    let schemas = schemas.to_str().unwrap();
    let trust = ["verify-export", "--schemas", schemas, "--cluster", "test", "--trust", &root];
    let against = ["--against", &url, "--token-file", token.to_str().unwrap(), file.to_str().unwrap()];
    let output = run(&[&trust[..], &against].concat());
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{}: {said}", file.display());
    for held in ["the root key vouches", "signature by key", "encoded again from these records"] {
        assert!(said.contains(held), "{}: {said}", file.display());
    }
}

/// One `cdr.exported.v1` for each file, and none beside them.
fn deliveries_are_told_once(settlement: &Settlement, files: &[Value]) {
    wait_until("events of everything", 60, || {
        (1..=3).all(|id| settlement.cluster.metric(id, "cdr_outbox_backlog_seconds") == Some(0.0))
    });
    let field = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let mut told: Vec<(String, String)> = exported(settlement)
        .iter()
        .map(|event| (field(event, "exportId"), field(event, "fileSha256")))
        .collect();
    let mut delivered: Vec<(String, String)> =
        files.iter().map(|file| (field(file, "exportId"), field(file, "sha256"))).collect();
    told.sort();
    delivered.sort();
    assert_eq!(told, delivered);
}

/// The events of deliveries on the bus.
fn exported(settlement: &Settlement) -> Vec<Value> {
    let mut events: Vec<Value> = Vec::new();
    settlement.runtime.block_on(async {
        let bus = JetStream::connect(NatsOptions::new(settlement.nats.url())).await.unwrap();
        let info = bus.stream_info("CDR_EXPORTS").await.unwrap();
        let mut subscription = bus.open("CDR_EXPORTS", "test-reader", 1).await.unwrap();
        while (events.len() as u64) < info.messages {
            let batch = subscription.next_batch(100, Duration::from_secs(5)).await.unwrap();
            assert!(!batch.is_empty(), "the stream ends after {} of {}", events.len(), info.messages);
            events.extend(batch.iter().map(|one| serde_json::from_slice::<Value>(&one.payload).unwrap()));
            let handles: Vec<_> = batch.into_iter().map(|delivery| delivery.ack).collect();
            subscription.acker().ack(&handles).await.unwrap();
        }
    });
    events.retain(|event| event["deliveryState"] != json!(null));
    events
}
