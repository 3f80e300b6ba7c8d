//! Replicas whose data directories are not the ones that the cluster knows: what was acknowledged stays, nobody who
//! forgot it votes, and each replica says what to do.

use crate::receipts::{connect, runtime, yesterday};
use cdr_bus::{Bus, LocalBackend, LocalOptions, PublishOptions, publish_file};
use cdr_mediation::auth::dev::DevIssuer;
use cdr_mediation::generate::{GenerateOptions, Generator, LineKind};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use testkit::cluster::{ClockOffset, Cluster};
use testkit::nats::NatsServer;
use testkit::single::SingleReplica;
use testkit::{copy_tree, wait_until};

/// Final receipts of a day that is over, each of a message of its own, one a line.
fn receipts(seed: u64, count: usize) -> Vec<u8> {
    let lines = Generator::new(GenerateOptions::new(&yesterday(), count as u64 * 2, seed).unwrap());
    lines
        .filter(|line| line.kind == LineKind::Final)
        .take(count)
        .flat_map(|line| [line.json.trim_ascii_end(), b"\n".as_slice()].concat())
        .collect()
}

async fn publish_to(bus: &dyn Bus, seed: u64, count: usize) {
    publish_file(bus, &receipts(seed, count)[..], &PublishOptions::default(), |_| ()).await.unwrap();
}

fn publish(nats: &NatsServer, seed: u64, count: usize) {
    runtime().block_on(async {
        publish_to(&connect(&nats.url()).await, seed, count).await;
    });
}

/// Hash of every record and adjustment, by id.
fn rows(cluster: &Cluster, node: usize) -> BTreeMap<String, String> {
    let page = cluster.get_ok(node, "/v1/cdr/records?limit=500");
    assert!(page.get("nextCursor").is_none_or(Value::is_null), "more rows than one page");
    let items = page["items"].as_array().unwrap().iter();
    let text = |item: &Value, key: &str| item[key].as_str().unwrap().to_owned();
    items.map(|item| (text(item, "cdrId"), text(item, "rowHash"))).collect()
}

fn ready(cluster: &Cluster, node: usize) -> (u16, Value) {
    cluster.get(node, "/health/ready")
}

/// What a node's health says of replicas that can't take part.
fn alarms(cluster: &Cluster, node: usize) -> String {
    ready(cluster, node).1["alarms"].to_string()
}

#[test]
fn a_replica_whose_data_were_wiped_never_votes_and_nothing_acknowledged_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let nats = NatsServer::start();
    let mut cluster = Cluster::start(dir.path(), &nats.url(), ClockOffset(0));
    publish(&nats, 1, 30);
    wait_until("the first receipts", 60, || (1..=3).all(|id| cluster.sms_rows(id) == Some(30)));

    // Node 2 is away while 20 receipts and a VOID are acknowledged.
    cluster.kill(2);
    publish(&nats, 2, 20);
    wait_until("20 more", 60, || [1, 3].iter().all(|id| cluster.sms_rows(*id) == Some(50)));
    let before = rows(&cluster, 1);
    let voided = before.keys().next().unwrap().clone();
    let body = json!({"type": "VOID", "voidReason": "DUPLICATE_DLR", "ticketId": "T-1"});
    let path = format!("/v1/cdr/{voided}/adjustments");
    let (status, _, answer) = cluster.post_with(1, &path, &body, &[("Idempotency-Key", "wiped-1")]);
    assert!(status == 200 || status == 201, "{status} {answer}");
    let acknowledged = rows(&cluster, 1);
    assert_eq!(acknowledged.len(), 51);

    cluster.kill(1);
    cluster.kill(3);
    std::fs::remove_dir_all(cluster.data_dir(3)).unwrap();
    cluster.restart(2);
    cluster.restart(3);
    for id in [2, 3] {
        let answers = || !cluster.metrics_text(id).is_empty();
        let says = || answers() && alarms(&cluster, id).contains("emptied or exchanged");
        wait_until("both say which replica is not known, and what to do", 30, says);
        assert!(alarms(&cluster, id).contains("under an id that was never used"), "{}", alarms(&cluster, id));
    }
    std::thread::sleep(Duration::from_secs(8));
    for id in [2, 3] {
        assert_eq!(ready(&cluster, id).0, 503, "two of three, but one of them promised nothing");
        assert_eq!(cluster.metric(id, "cdr_raft_is_leader"), Some(0.0));
    }

    // The one that has what was acknowledged returns: the same rows under the same ids.
    cluster.restart(1);
    wait_until("node 1 answers", 30, || !cluster.metrics_text(1).is_empty());
    wait_until("a quorum", 30, || [1, 2].iter().all(|id| ready(&cluster, *id).0 == 200));
    for id in [1, 2] {
        assert_eq!(rows(&cluster, id), acknowledged, "node {id}");
    }
    let (status, body) = ready(&cluster, 3);
    assert_eq!(status, 503, "{body}");
    assert_eq!(cluster.sms_rows(3), Some(0));
}

#[test]
fn a_data_directory_that_was_brought_back_from_a_copy_takes_no_part() {
    let dir = tempfile::tempdir().unwrap();
    let nats = NatsServer::start();
    let mut cluster = Cluster::start(dir.path(), &nats.url(), ClockOffset(0));
    publish(&nats, 3, 30);
    wait_until("the first receipts", 60, || (1..=3).all(|id| cluster.sms_rows(id) == Some(30)));
    let leader = cluster.leader();
    let older = (1..=3).find(|id| *id != leader).unwrap();
    cluster.kill(older);
    let kept = dir.path().join("kept");
    copy_tree(&cluster.data_dir(older), &kept);
    cluster.restart(older);
    publish(&nats, 4, 20);
    wait_until("20 more", 60, || (1..=3).all(|id| cluster.sms_rows(id) == Some(50)));
    // Within seconds the ledger knows what each voter acknowledged, also behind the last batch.
    std::thread::sleep(Duration::from_secs(4));
    cluster.kill(older);
    std::fs::remove_dir_all(cluster.data_dir(older)).unwrap();
    copy_tree(&kept, &cluster.data_dir(older));
    cluster.restart(older);
    for id in [leader, older] {
        wait_until("both say that it is an older copy", 30, || alarms(&cluster, id).contains("older copy"));
    }
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(ready(&cluster, older).0, 503);
    assert_eq!(cluster.sms_rows(older), Some(30), "it gets no entries");
    assert_eq!(ready(&cluster, leader).0, 200);
}

#[test]
fn a_state_without_its_log_or_a_log_without_its_state_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let nats = NatsServer::start();
    let mut cluster = Cluster::start(dir.path(), &nats.url(), ClockOffset(0));
    publish(&nats, 9, 20);
    wait_until("the receipts", 60, || (1..=3).all(|id| cluster.sms_rows(id) == Some(20)));
    cluster.kill(2);
    cluster.kill(3);
    std::fs::remove_dir_all(cluster.data_dir(2).join("raft-log")).unwrap();
    for part in ["store", "snapshots"] {
        std::fs::remove_dir_all(cluster.data_dir(3).join(part)).unwrap();
    }
    for id in [2, 3] {
        cluster.restart(id);
        wait_until("it ends", 30, || !cluster.runs(id));
        let log = cluster.log(id);
        assert!(log.contains("never vote again") && log.contains("new node id"), "{log}");
    }
}

#[test]
fn replicas_that_are_all_brought_back_from_copies_take_nothing_in_until_a_person_confirms() {
    let dir = tempfile::tempdir().unwrap();
    let nats = NatsServer::start();
    let mut cluster = Cluster::start(dir.path(), &nats.url(), ClockOffset(0));
    publish(&nats, 11, 30);
    wait_until("the first receipts", 60, || (1..=3).all(|id| cluster.sms_rows(id) == Some(30)));
    (1..=3).for_each(|id| cluster.kill(id));
    let kept = dir.path().join("kept");
    (1..=3).for_each(|id| copy_tree(&cluster.data_dir(id), &kept.join(id.to_string())));
    (1..=3).for_each(|id| cluster.restart(id));
    publish(&nats, 12, 20);
    wait_until("20 more", 60, || (1..=3).all(|id| cluster.sms_rows(id) == Some(50)));
    // Acknowledgements follow the commit.
    std::thread::sleep(Duration::from_secs(2));
    (1..=3).for_each(|id| cluster.kill(id));
    for id in 1..=3 {
        std::fs::remove_dir_all(cluster.data_dir(id)).unwrap();
        copy_tree(&kept.join(id.to_string()), &cluster.data_dir(id));
        cluster.restart(id);
    }
    let leader = cluster.leader();
    let report = cluster.data_dir(leader).join("INGEST-HALTED");
    wait_until("it says what is lost", 60, || report.exists());
    let said = std::fs::read_to_string(&report).unwrap();
    assert!(said.contains("acknowledged up to") && said.contains("older copies"), "{said}");
    publish(&nats, 13, 10);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(cluster.sms_rows(leader), Some(30), "nothing is ingested");
    let log = cluster.log(leader);
    assert!(log.contains("severity=\"SEV1\"") && log.contains("nothing is ingested until"), "{log}");

    std::fs::remove_file(&report).unwrap();
    wait_until("all that the stream still has", 120, || (1..=3).all(|id| cluster.sms_rows(id) == Some(60)));
    let audit = cluster.get_ok(leader, "/v1/cdr/audit?limit=100").to_string();
    assert!(audit.contains("INGEST_POSITION_CONFIRMED"), "{audit}");
}

#[tokio::test]
async fn a_ledger_brought_back_from_a_copy_is_noticed_by_a_local_bus() {
    let dir = tempfile::tempdir().unwrap();
    let issuer = DevIssuer::load_or_create(dir.path()).unwrap();
    let mut replica = SingleReplica::new(dir.path(), issuer.jwks_path());
    let (data, kept) = (dir.path().join("node"), dir.path().join("kept"));
    let (bus, report) = (data.join("bus"), data.join("INGEST-HALTED"));
    let position = "cdr_stream_position{stream=\"SMS_DLR_INBOUND\"}";
    let read = |replica: &SingleReplica, last: f64| {
        wait_until("it reads them", 60, || replica.figure(position) == Some(last));
        // Acknowledgements follow the commit.
        std::thread::sleep(Duration::from_secs(1));
    };
    // The bus is the process's own: what it is to read is published while it does not run.
    let local = || LocalBackend::open(&bus, LocalOptions::default()).unwrap();
    replica.start();
    wait_until("its streams", 60, || bus.join("SMS_DLR_INBOUND/stream.json").exists());
    replica.stop();
    publish_to(&local(), 21, 30).await;
    replica.start();
    read(&replica, 30.0);
    replica.stop();
    copy_tree(&data, &kept);
    publish_to(&local(), 22, 20).await;
    replica.start();
    read(&replica, 50.0);
    replica.stop();
    for part in ["raft-log", "store", "snapshots"] {
        std::fs::remove_dir_all(data.join(part)).unwrap();
        copy_tree(&kept.join(part), &data.join(part));
    }
    assert!(!report.exists());
    replica.start();
    wait_until("it says what is lost", 60, || report.exists());
    assert!(std::fs::read_to_string(&report).unwrap().contains("acknowledged up to 50"));
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(replica.figure(position), Some(30.0), "nothing is ingested");
    std::fs::remove_file(&report).unwrap();
    wait_until("it goes on once a person confirmed", 60, || replica.figure(position) == Some(50.0));
}
