//! Settlement files of a whole day, from receipts to what a regulator checks: three replicas in one process, killed while
//! they make, sign and deliver.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::dev::{Dev, free_ports, receipts};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const OPERATORS: usize = 7;
const RECORDS: u64 = 4_000;

/// Receipts of a day of April 2026.
fn day(dir: &Path, number: u8) -> PathBuf {
    let file = dir.join(format!("{number}.ndjson"));
    receipts(&file, &format!("2026-04-{number}"), RECORDS, u64::from(number));
    file
}

/// Final receipts of the day, by message: what has to be listed.
fn messages(day: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(day).unwrap();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let finals = lines
        .filter(|dlr| ["DELIVERED", "FAILED", "EXPIRED"].contains(&dlr["status"].as_str().unwrap_or("")));
    finals
        .filter_map(|dlr| {
            Some((dlr["messageId"].as_str()?.to_owned(), dlr["operatorId"].as_str()?.to_owned()))
        })
        .collect()
}

fn names(dir: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

/// Every file of the day once, whole, signed, with its trace; all records of the ledger in them.
fn check_files(dev: &Dev, records: u64) {
    let exports = dev.exports();
    assert_eq!(exports.len(), OPERATORS, "{exports:#?}");
    let files: BTreeSet<String> =
        exports.iter().map(|export| export["filename"].as_str().unwrap().to_owned()).collect();
    let expected: BTreeSet<String> = files
        .iter()
        .flat_map(|name| [name.clone(), format!("{name}.sig"), format!("{name}.trace.json.zst")])
        .collect();
    assert_eq!(names(&dev.drop_dir()), expected);
    let mut listed = 0;
    for export in &exports {
        assert_eq!(export["deliveryStatus"], "DELIVERED_DIRECTORY", "{export}");
        assert_eq!(export["fileSequenceNumber"], 1, "{export}");
        assert_eq!(export["settlementDay"], "2026-04-20", "{export}");
        listed += export["recordsIncluded"].as_u64().unwrap() + export["quarantinedCount"].as_u64().unwrap();
    }
    assert_eq!(listed, records, "every record is in a file or in quarantine");
    for name in &files {
        let output = dev.verify(&dev.drop_dir().join(name));
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{name}: {said}");
        for held in ["the root key vouches", "signature by key", "encoded again from these records"] {
            assert!(said.contains(held), "{name}: {said}");
        }
    }
}

/// Original records of the ledger, by the API.
fn records(dev: &Dev) -> u64 {
    let (mut count, mut cursor) = (0, String::new());
    loop {
        let page = dev.get(&format!("/v1/cdr/records?limit=500{cursor}")).unwrap();
        let items = page["items"].as_array().unwrap();
        count += items.iter().filter(|item| item["adjustmentOf"].is_null()).count() as u64;
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return count,
        }
    }
}

#[test]
fn a_day_ends_with_signed_files_that_a_regulator_can_check() {
    let dir = tempfile::tempdir().unwrap();
    let (day, data) = (day(dir.path(), 20), dir.path().join("dev"));
    let mut dev = Dev::start(&data, Some(&day), free_ports(0));
    dev.wait_until_serving();
    let count = records(&dev);
    assert!(count > 0 && count <= messages(&day).len() as u64);
    check_files(&dev, count);
    any_replica_gives_the_same_bytes(&dev);
    let name = names(&dev.drop_dir())
        .into_iter()
        .find(|name| Path::new(name).extension().is_some_and(|end| end == "tap"))
        .unwrap();
    refuses_what_was_changed(&dev, &name, dir.path());
}

fn any_replica_gives_the_same_bytes(dev: &Dev) {
    for export in dev.exports() {
        let (id, name) = (export["exportId"].as_str().unwrap(), export["filename"].as_str().unwrap());
        for (part, suffix) in [("file", ""), ("trace", ".trace.json.zst")] {
            let delivered = std::fs::read(dev.drop_dir().join(format!("{name}{suffix}"))).unwrap();
            for replica in 0..3 {
                let given = dev.bytes(replica, &format!("/v1/cdr/exports/{id}/{part}"));
                assert!(given == delivered, "replica {replica} gives other bytes of {name}{suffix}");
            }
        }
    }
}

/// A changed byte, another file's signature and a trace of another file are each found.
fn refuses_what_was_changed(dev: &Dev, name: &str, dir: &Path) {
    let copy = dir.join("copy");
    let copied = |change: &dyn Fn(&str, &mut Vec<u8>)| {
        std::fs::create_dir_all(&copy).unwrap();
        for suffix in ["", ".sig", ".trace.json.zst"] {
            let mut bytes = std::fs::read(dev.drop_dir().join(format!("{name}{suffix}"))).unwrap();
            change(suffix, &mut bytes);
            std::fs::write(copy.join(format!("{name}{suffix}")), bytes).unwrap();
        }
        dev.verify(&copy.join(name)).status.code()
    };
    assert_eq!(copied(&|_, _| ()), Some(0));
    let flip = |at: usize| move |bytes: &mut Vec<u8>| bytes[at] ^= 1;
    assert_eq!(
        copied(&|suffix, bytes| if suffix.is_empty() {
            flip(300)(bytes);
        }),
        Some(1)
    );
    let last_of_signature = |bytes: &mut Vec<u8>| {
        let at = bytes.windows(11).position(|w| w == b"Signature: ").unwrap() + 15;
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
    };
    assert_eq!(
        copied(&|suffix, bytes| if suffix == ".sig" {
            last_of_signature(bytes);
        }),
        Some(1)
    );
}

/// Adjustments of the first day's records, issued after its TAP files, are returned at the next cut-off; operators
/// without any get no RAP file.
#[test]
fn adjustments_are_returned_in_a_rap_file() {
    let dir = tempfile::tempdir().unwrap();
    let (data, ports) = (dir.path().join("dev"), free_ports(2));
    let mut first = Dev::start(&data, Some(&day(dir.path(), 20)), ports);
    first.wait_until_serving();
    let list = first.get("/v1/cdr/records?operatorId=AWCC&limit=3").unwrap();
    let ids: Vec<&str> =
        list["items"].as_array().unwrap().iter().map(|item| item["cdrId"].as_str().unwrap()).collect();
    for (id, act) in ids.iter().zip([
        json!({"type": "VOID", "voidReason": "DUPLICATE_DLR", "reason": "sent twice", "ticketId": "T-1"}),
        json!({"type": "CORRECTION", "correctedFields": {"chargeAmount": "0.100000"}, "reason": "r", "ticketId": "T-2"}),
        json!({"type": "CORRECTION", "correctedFields": {"chargeAmount": "9.900000"}, "reason": "r", "ticketId": "T-3"}),
    ]) {
        first.post(&format!("/v1/cdr/{id}/adjustments"), &act);
    }
    // One record is corrected twice, and so returned twice.
    let again = json!({"type": "CORRECTION", "correctedFields": {"chargeAmount": "0.200000"}, "reason": "r", "ticketId": "T-4"});
    first.post(&format!("/v1/cdr/{}/adjustments", ids[1]), &again);
    drop(first);
    let mut second = Dev::start(&data, Some(&day(dir.path(), 21)), ports);
    second.wait_until_serving();
    let exports = second.exports();
    let of = |kind: &str| exports.iter().filter(|export| export["exportType"] == kind).collect::<Vec<_>>();
    assert_eq!(of("TAP_3_12").len(), 2 * OPERATORS);
    let [rap] = of("RAP_1_5")[..] else { panic!("{exports:#?}") };
    assert_eq!((&rap["operatorId"], &rap["settlementDay"]), (&json!("AWCC"), &json!("2026-04-20")), "{rap}");
    assert_eq!((&rap["recordsIncluded"], &rap["deliveryStatus"]), (&json!(4), &json!("DELIVERED_DIRECTORY")));
    let file = second.drop_dir().join(rap["filename"].as_str().unwrap());
    let output = second.verify(&file);
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("4 events, encoded again from these adjustments, have the same bytes"), "{said}");
    assert!(!said.contains("not checked"), "{said}");
}

#[test]
fn replicas_killed_at_any_step_deliver_every_file_once() {
    let dir = tempfile::tempdir().unwrap();
    let (day, data) = (day(dir.path(), 20), dir.path().join("dev"));
    let ports = free_ports(1);
    // Killed as soon as the first file is there to be seen, in whatever step the others are.
    let first = Dev::start(&data, Some(&day), ports);
    let deadline = Instant::now() + Duration::from_secs(120);
    while first.exports().is_empty() {
        assert!(Instant::now() < deadline, "no file was opened");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(first);
    for pause_ms in [300, 700, 1_200, 1_500] {
        let started = Dev::start(&data, None, ports);
        while started.get("/v1/cdr/exports").is_none() {
            assert!(Instant::now() < deadline, "the replicas did not come back");
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(pause_ms));
        drop(started);
    }
    let last = Dev::start(&data, None, ports);
    let all_delivered = || {
        let exports = last.exports();
        exports.len() == OPERATORS
            && exports.iter().all(|export| export["deliveryStatus"] == "DELIVERED_DIRECTORY")
    };
    while !all_delivered() {
        assert!(Instant::now() < deadline + Duration::from_secs(60), "{:#?}", last.exports());
        std::thread::sleep(Duration::from_millis(100));
    }
    check_files(&last, records(&last));
}
