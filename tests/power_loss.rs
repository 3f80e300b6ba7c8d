//! Power fails on all machines at once: what was not synced is gone, what was acknowledged is not; and a replica that
//! lost what it *had* synced takes no part any more.

use crate::receipts::{lines, publish_all, runtime};
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use testkit::cluster::{ClockOffset, Cluster};
use testkit::nats::NatsServer;
use testkit::wait_until;

/// Where the log of a node was known to be synced: the newer valid slot of `flushed_upto`.
fn flushed_upto(raft_log: &Path) -> (u64, u64) {
    let bytes = std::fs::read(raft_log.join("flushed_upto")).unwrap();
    let number =
        |slot: usize, at: usize| u64::from_le_bytes(bytes[slot + at..slot + at + 8].try_into().unwrap());
    let slots = [0, 4096].into_iter().filter(|slot| &bytes[*slot..slot + 8] == b"CDRFLSH1");
    let newest = slots.max_by_key(|slot| number(*slot, 8)).unwrap();
    (number(newest, 16), number(newest, 24))
}

fn segment(raft_log: &Path, number: u64) -> PathBuf {
    raft_log.join(format!("{number:020}.log"))
}

/// Drops every byte of the log behind a place, as if it had never reached the disk.
fn forget_behind(raft_log: &Path, (number, offset): (u64, u64)) {
    let path = segment(raft_log, number);
    let length = std::fs::metadata(&path).unwrap().len();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let zeros = vec![0; (length - offset) as usize];
    file.write_all_at(&zeros, offset).unwrap();
    let mut later = number + 1;
    while std::fs::remove_file(segment(raft_log, later)).is_ok() {
        later += 1;
    }
}

fn rows_by_message(cluster: &Cluster, node: usize) -> BTreeMap<String, (String, String)> {
    let text = |item: &Value, key: &str| item[key].as_str().unwrap().to_owned();
    let rows = cluster.every_item(node, "/v1/cdr/records?");
    rows.iter().map(|row| (text(row, "messageId"), (text(row, "cdrId"), text(row, "rowHash")))).collect()
}

#[test]
fn acknowledged_records_survive_and_a_lost_synced_tail_abstains() {
    let dir = tempfile::tempdir().unwrap();
    let nats = NatsServer::start();
    let runtime = runtime();
    let (text, messages, _) = lines(60_000, 11);
    let mut cluster = Cluster::start(dir.path(), &nats.url(), ClockOffset(0));
    let publishing = runtime.spawn(publish_all(nats.url(), text));
    let leader = cluster.leader();
    wait_until("some thousand rows", 60, || cluster.sms_rows(leader).is_some_and(|rows| rows >= 5_000));
    // What a linearizable read shows is on the disks of a quorum.
    let acknowledged = rows_by_message(&cluster, leader);
    assert!(acknowledged.len() >= 5_000);
    // The marker trails the log by some milliseconds: let it pass what was read, while more comes in.
    std::thread::sleep(Duration::from_millis(500));
    (1..=3).for_each(|id| cluster.kill(id));
    for id in 1..=3 {
        let raft_log = cluster.data_dir(id).join("raft-log");
        forget_behind(&raft_log, flushed_upto(&raft_log));
    }
    (1..=3).for_each(|id| cluster.restart(id));
    cluster.leader();
    runtime.block_on(publishing).unwrap();
    wait_until("every message", 120, || {
        (1..=3).all(|id| cluster.sms_rows(id) == Some(messages.len() as u64))
    });
    let after = rows_by_message(&cluster, 2);
    assert_eq!(after.len(), messages.len());
    for (message, row) in &acknowledged {
        assert_eq!(
            after.get(message),
            Some(row),
            "acknowledged record of message {message} was lost or made anew"
        );
    }

    // One replica forgets bytes that it had synced: it must never vote again.
    cluster.kill(3);
    let raft_log = cluster.data_dir(3).join("raft-log");
    let (number, offset) = flushed_upto(&raft_log);
    forget_behind(&raft_log, (number, offset - 64));
    cluster.restart(3);
    wait_until("the replica to refuse", 30, || !cluster.runs(3));
    assert!(cluster.log(3).contains("has lost what it had synced"), "{}", cluster.tail(3));
    wait_until("a quorum of two replicas", 60, || cluster.get(cluster.leader(), "/health/ready").0 == 200);
    let leader = cluster.leader();
    assert_eq!(rows_by_message(&cluster, leader).len(), messages.len());
}
