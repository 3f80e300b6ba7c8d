//! An upgrade of the whole service, replica by replica, while receipts come in; and the rules that come into force behind it.
//!
//! "Old" is this build as it is. "New" is the same program, told to know rules that no release has (`cluster.test_build`).

use crate::receipts::{connect, lines, runtime};
use cdr_bus::{PublishOptions, publish_file};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use testkit::cluster::{ClockOffset, Cluster};
use testkit::nats::NatsServer;
use testkit::wait_until;

/// Receipts in one portion of the load, and the pause behind it.
const PORTION: usize = 40;
const PAUSE: Duration = Duration::from_millis(100);
/// The longest time without a new record around an orderly restart: 2 s on a machine that does nothing else, as
/// `make nightly` asks; beside other tests, what no replica needs that only waits for its turn.
fn longest_gap() -> Duration {
    let ms = std::env::var("CDR_UPGRADE_GAP_MS").map_or(15_000, |ms| ms.parse().unwrap());
    Duration::from_millis(ms)
}

/// Publishes receipts until it is stopped.
struct Load {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeSet<String>>,
}

impl Load {
    fn begin(url: String) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = runtime();
            let bus = runtime.block_on(connect(&url));
            let (text, messages, _) = lines(60_000, 41);
            let all: Vec<&[u8]> = text.split_inclusive(|&b| b == b'\n').collect();
            let mut sent = BTreeSet::new();
            for portion in all.chunks(PORTION).take_while(|_| !stopped.load(Ordering::Relaxed)) {
                let portion = portion.concat();
                let publish = publish_file(&bus, &portion[..], &PublishOptions::default(), |_| ());
                runtime.block_on(publish).unwrap();
                let ids = portion.split(|&b| b == b'\n').filter_map(message_id);
                sent.extend(ids.filter(|id| messages.contains(id)));
                std::thread::sleep(PAUSE);
            }
            assert!(stopped.load(Ordering::Relaxed), "the load ended before the test");
            sent
        });
        Self { stop, thread }
    }

    /// The messages that must be recorded.
    fn end(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

fn message_id(line: &[u8]) -> Option<String> {
    let dlr: Value = serde_json::from_slice(line).ok()?;
    Some(dlr.get("messageId")?.as_str()?.to_owned())
}

/// Watches, from outside, how long no replica shows a new record.
struct Gaps {
    longest_ms: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Gaps {
    fn watch(urls: Vec<String>) -> Self {
        let (longest_ms, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (longest, stopped) = (longest_ms.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let agent = ureq::Agent::config_builder()
                .timeout_global(Some(Duration::from_millis(500)))
                .build()
                .new_agent();
            let (mut rows, mut since) = (0.0, Instant::now());
            while !stopped.load(Ordering::Relaxed) {
                let newest = urls.iter().filter_map(|url| rows_at(&agent, url)).fold(rows, f64::max);
                let gap = since.elapsed().as_millis() as u64;
                longest.fetch_max(gap, Ordering::Relaxed);
                if newest > rows {
                    (rows, since) = (newest, Instant::now());
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Self { longest_ms, stop, thread: Some(thread) }
    }

    /// The longest gap since the last call.
    fn longest(&self) -> Duration {
        Duration::from_millis(self.longest_ms.swap(0, Ordering::Relaxed))
    }
}

impl Drop for Gaps {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn rows_at(agent: &ureq::Agent, url: &str) -> Option<f64> {
    let text = agent.get(&format!("{url}/metrics")).call().ok()?.body_mut().read_to_string().ok()?;
    text.lines().find_map(|line| line.strip_prefix("cdr_rows ")?.parse().ok())
}

/// Replaces a line of `[cluster]` in the configuration of one node.
fn configure(cluster: &Cluster, id: usize, build: &str, rules_upto: u32) {
    let path = cluster.configuration(id);
    let text = std::fs::read_to_string(&path).unwrap();
    let kept: Vec<&str> = text
        .lines()
        .filter(|line| !line.starts_with("test_build") && !line.starts_with("rules_upto"))
        .collect();
    let ours = format!("[cluster]\ntest_build = \"{build}\"\nrules_upto = {rules_upto}");
    std::fs::write(path, kept.join("\n").replacen("[cluster]", &ours, 1)).unwrap();
}

/// Stops a replica in order and starts it as `build`; how long no record came meanwhile.
fn upgrade(cluster: &mut Cluster, gaps: &Gaps, id: usize, build: &str, rules_upto: u32) {
    settle(cluster);
    configure(cluster, id, build, rules_upto);
    gaps.longest();
    let led = cluster.metric(id, "cdr_raft_is_leader") == Some(1.0);
    cluster.terminate(id);
    cluster.restart(id);
    settle(cluster);
    let gap = gaps.longest();
    println!("node {id} (leader: {led}) as {build}: {} ms without a record", gap.as_millis());
    assert!(gap <= longest_gap(), "{gap:?} without a record while node {id} was replaced");
}

/// Waits until all three replicas are ready and have applied what the leader has.
fn settle(cluster: &Cluster) {
    wait_until("three replicas that are ready and follow", 60, || {
        let applied = |id| cluster.metric(id, "cdr_raft_applied_index");
        let behind = cluster.metric(cluster.leader(), "cdr_raft_applied_index").unwrap_or(f64::MAX) - 50.0;
        (1..=3).all(|id| applied(id).is_some_and(|index| index >= behind) && is_ready(cluster, id))
    });
}

fn is_ready(cluster: &Cluster, id: usize) -> bool {
    health(cluster, id).is_some()
}

/// What a replica that is ready says of itself, on a connection of its own: one from before a restart is dead.
fn health(cluster: &Cluster, id: usize) -> Option<Value> {
    ureq::get(&format!("{}/health/ready", cluster.api_url(id))).call().ok()?.body_mut().read_json().ok()
}

/// What of a record does not depend on the replica that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    cdr_id: String,
    hash: String,
    schema_version: String,
    bucket_hour: String,
}

fn rows_by_message(cluster: &Cluster, node: usize) -> BTreeMap<String, Record> {
    let text = |item: &Value, key: &str| item[key].as_str().unwrap().to_owned();
    let row = |item: &Value| Record {
        cdr_id: text(item, "cdrId"),
        hash: text(item, "rowHash"),
        schema_version: text(item, "schemaVersion"),
        bucket_hour: text(item, "bucketHour"),
    };
    let rows = cluster.every_item(node, "/v1/cdr/records?");
    rows.iter().map(|item| (text(item, "messageId"), row(item))).collect()
}

fn obstacle(cluster: &Cluster) -> Option<String> {
    let health = health(cluster, cluster.leader())?;
    health["checks"]["rules"]["reason"].as_str().map(str::to_owned)
}

#[test]
fn an_upgrade_replica_by_replica_loses_nothing_and_brings_later_rules_into_force() {
    let dir = tempfile::tempdir().unwrap();
    let nats = NatsServer::start();
    let mut cluster = Cluster::start_with_movable_clocks(dir.path(), &nats.url(), ClockOffset(0));
    let load = Load::begin(nats.url());
    let gaps = Gaps::watch((1..=3).map(|id| cluster.api_url(id)).collect());
    wait_until("the first records", 60, || cluster.sms_rows(1).is_some_and(|rows| rows > 100));

    // One after the other; one is killed in the middle, one goes back.
    upgrade(&mut cluster, &gaps, 1, "next", 2);
    upgrade(&mut cluster, &gaps, 2, "next", 2);
    cluster.kill(2);
    cluster.restart(2);
    settle(&cluster);
    upgrade(&mut cluster, &gaps, 1, "this", 1);
    upgrade(&mut cluster, &gaps, 1, "next", 2);

    // Rules that one replica does not know wait for it, whoever leads.
    wait_until("a leader that says for whom it waits", 60, || {
        let leader = cluster.leader();
        if leader == 3 {
            upgrade(&mut cluster, &gaps, 3, "this", 1);
        }
        obstacle(&cluster).is_some_and(|reason| reason.contains("node 3 is build 0.1.0"))
    });
    assert!((1..=3).all(|id| rules(&cluster, id) == 1));
    let before = rows_by_message(&cluster, 1);
    upgrade(&mut cluster, &gaps, 3, "next", 2);
    wait_until("the later rules", 60, || (1..=3).all(|id| rules(&cluster, id) == 2));
    let raised_at = cluster.sms_rows(1).unwrap();
    wait_until("records under them", 60, || cluster.sms_rows(1).is_some_and(|rows| rows > raised_at + 200));

    // There is no way back.
    configure(&cluster, 3, "this", 1);
    cluster.terminate(3);
    cluster.restart(3);
    wait_until("the former build to refuse", 30, || !cluster.runs(3));
    assert!(cluster.log(3).contains("needs build 0.2.0: this is build 0.1.0"), "{}", cluster.tail(3));
    // Its process has ended; this forgets it.
    cluster.kill(3);
    configure(&cluster, 3, "next", 2);
    cluster.restart(3);
    settle(&cluster);

    let sent = load.end();
    wait_until("every message on every replica", 60, || {
        (1..=3).all(|id| cluster.sms_rows(id) == Some(sent.len() as u64))
    });
    let after = rows_by_message(&cluster, 1);
    assert_eq!(after.keys().collect::<BTreeSet<_>>(), sent.iter().collect::<BTreeSet<_>>());
    assert!(before.iter().all(|(message, row)| after.get(message) == Some(row)), "a record was changed");
    assert!(before.values().all(|row| row.schema_version == "2"));
    assert!(after.values().any(|row| row.schema_version == "3"), "no row of the later rules");
    for id in 2..=3 {
        assert_eq!(rows_by_message(&cluster, id), after, "node {id}");
    }
    let hours = after.into_values().map(|row| row.bucket_hour).collect();
    verified(&mut cluster, &hours);
}

fn rules(cluster: &Cluster, id: usize) -> u64 {
    health(cluster, id).and_then(|health| health["rules"].as_u64()).unwrap_or_default()
}

/// Every hour with records is sealed and verified row by row, on every replica.
fn verified(cluster: &mut Cluster, hours: &BTreeSet<String>) {
    cluster.set_clocks(ClockOffset(3_700));
    for hour in hours {
        for id in 1..=3 {
            let asked = json!({ "bucketHour": hour, "depth": "rows" });
            wait_until("a sealed hour that is verified", 60, || {
                let (status, answer) = cluster.post(id, "/v1/cdr/chain/verify", &asked);
                assert!(status != 200 || answer["verified"] == true, "node {id}: {answer}");
                status == 200
            });
        }
    }
}
