//! Settlement files of a whole day, from receipts to what a regulator checks: three replicas in one process, killed while
//! they make, sign and deliver.

use cdr_tap::{TraceEvent, TraceHead, TraceReader, TraceWriter};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use testkit::dev::{DevCluster, ports, receipts, verify_alone};
use testkit::every_item;

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

/// The settlement files, once there are so many of them and each is delivered.
fn exports_once(dev: &DevCluster, count: usize) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let exports = dev.exports();
        let is_delivered = |export: &Value| export["deliveryStatus"] == "DELIVERED_DIRECTORY";
        if exports.len() >= count && exports.iter().all(is_delivered) {
            return exports;
        }
        assert!(Instant::now() < deadline, "{count} files are not delivered: {exports:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Every file of the day once, whole, signed, with its trace; all records of the ledger in them.
fn check_files(dev: &DevCluster, records: u64) {
    let exports = exports_once(dev, OPERATORS);
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
fn records(dev: &DevCluster) -> u64 {
    let rows = every_item("/v1/cdr/records?", |page| dev.get_ok(page));
    rows.iter().filter(|row| row["adjustmentOf"].is_null()).count() as u64
}

#[test]
fn a_day_ends_with_signed_files_that_a_regulator_can_check() {
    let dir = tempfile::tempdir().unwrap();
    let (day, data) = (day(dir.path(), 20), dir.path().join("dev"));
    let mut dev = DevCluster::start(&data, Some(&day), ports());
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
    says_what_a_check_lacks(&dev, &name, dir.path());
    let said = dev.said();
    let printed = said.lines().find(|line| line.contains("verify-export")).unwrap();
    let arguments: Vec<&str> = printed.split_whitespace().skip(1).collect();
    let output = std::process::Command::new(testkit::binary()).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{printed}: {output:?}");
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("the root key vouches"),
        "{printed}: {output:?}"
    );
}

fn any_replica_gives_the_same_bytes(dev: &DevCluster) {
    for export in exports_once(dev, OPERATORS) {
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
fn refuses_what_was_changed(dev: &DevCluster, name: &str, dir: &Path) {
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

/// Without keys and without a node's API a file is not called what nobody has looked at, forged or not.
fn says_what_a_check_lacks(dev: &DevCluster, name: &str, dir: &Path) {
    let copy = dir.join("alone");
    std::fs::create_dir_all(&copy).unwrap();
    for suffix in ["", ".sig", ".trace.json.zst"] {
        std::fs::copy(dev.drop_dir().join(format!("{name}{suffix}")), copy.join(format!("{name}{suffix}")))
            .unwrap();
    }
    let (keys, root) = (dir.join("keys.json"), dev.root_file());
    std::fs::write(&keys, dev.get_ok("/v1/cdr/keys").to_string()).unwrap();
    let (keys, root) = (keys.to_str().unwrap(), root.to_str().unwrap());
    let check = |arguments: &[&str]| {
        let output = verify_alone(&copy.join(name), arguments);
        let said = [&output.stdout[..], &output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let trusted = ["--keys", keys, "--cluster", "dev", "--trust", root];
    let without_keys = || {
        let (code, said) = check(&[]);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("for lack of keys") && said.contains("--against"), "{said}");
        assert!(!said.contains("signed") && !said.contains("verified"), "{said}");
        let (code, said) = check(&["--json"]);
        let answer: Value = serde_json::from_str(&said).unwrap();
        assert_eq!((code, &answer["verified"]), (Some(2), &json!(false)), "{said}");
    };
    without_keys();
    let (code, said) = check(&["--keys", keys]);
    assert!(code == Some(2) && said.contains("the key's right to sign"), "{said}");
    let (code, said) = check(&[&trusted[..], &["--file-only"]].concat());
    assert!(
        code == Some(0) && said.contains("signature by key") && said.contains("not checked: the records"),
        "{said}"
    );
    assert!(!said.contains("verified"), "{said}");

    // Whoever forges a trace changes hashes in it, and nothing in the file says otherwise.
    let trace = copy.join(format!("{name}.trace.json.zst"));
    let rewrite = |change: &dyn Fn(&mut TraceHead, &mut Vec<TraceEvent>)| {
        let mut reader = TraceReader::new(std::fs::File::open(&trace).unwrap()).unwrap();
        let mut head = reader.head().clone();
        let mut events: Vec<TraceEvent> = reader.by_ref().map(Result::unwrap).collect();
        change(&mut head, &mut events);
        let mut writer = TraceWriter::new(dir).unwrap();
        for event in &events {
            writer.push(event).unwrap();
        }
        writer.finish(&head, &mut std::fs::File::create(&trace).unwrap()).unwrap();
    };
    rewrite(&|_, events| events[0].row_hash = [0xab; 32]);
    let (code, said) = check(&trusted);
    assert!(code == Some(2) && said.contains("the records and the trace that names them"), "{said}");
    assert!(!said.contains("verified"), "{said}");
    let output = dev.verify(&copy.join(name));
    assert_eq!(output.status.code(), Some(1), "{output:?}");

    // Another number in the file, and the signature of another file that claims to be of this one.
    let path = copy.join(name);
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(3).position(|w| w == b"937").unwrap() + 3;
    bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
    std::fs::write(&path, &bytes).unwrap();
    let hash = cdr_core::hash::to_hex(&cdr_core::hash::sha256(&bytes));
    let sidecar = copy.join(format!("{name}.sig"));
    let text = std::fs::read_to_string(&sidecar).unwrap();
    let (before, _) = text.split_once("FileSha256: ").unwrap();
    std::fs::write(&sidecar, format!("{before}FileSha256: {hash}\n")).unwrap();
    rewrite(&|head, _| head.file_sha256.clone_from(&hash));
    without_keys();
    let (code, said) = check(&[&trusted[..], &["--file-only"]].concat());
    assert!(code == Some(1) && said.contains("NOT VERIFIED"), "{said}");
}

/// Adjustments of the first day's records, issued after its TAP files, are returned at the next cut-off; operators
/// without any get no RAP file.
#[test]
fn adjustments_are_returned_in_a_rap_file() {
    let dir = tempfile::tempdir().unwrap();
    let (data, ports) = (dir.path().join("dev"), ports());
    let mut first = DevCluster::start(&data, Some(&day(dir.path(), 20)), ports);
    first.wait_until_serving();
    let list = first.get_ok("/v1/cdr/records?operatorId=AWCC&limit=3");
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
    let mut second = DevCluster::start(&data, Some(&day(dir.path(), 21)), ports);
    second.wait_until_serving();
    let exports = exports_once(&second, 2 * OPERATORS + 1);
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
    let ports = ports();
    // Killed as soon as the first file is there to be seen, in whatever step the others are.
    let first = DevCluster::start(&data, Some(&day), ports);
    let deadline = Instant::now() + Duration::from_secs(120);
    while first.exports().is_empty() {
        assert!(Instant::now() < deadline, "no file was opened");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(first);
    for pause_ms in [300, 700, 1_200, 1_500] {
        let started = DevCluster::start(&data, None, ports);
        while started.get("/v1/cdr/exports").is_none() {
            assert!(Instant::now() < deadline, "the replicas did not come back");
            std::thread::sleep(Duration::from_millis(20));
        }
        std::thread::sleep(Duration::from_millis(pause_ms));
        drop(started);
    }
    let last = DevCluster::start(&data, None, ports);
    check_files(&last, records(&last));
}
