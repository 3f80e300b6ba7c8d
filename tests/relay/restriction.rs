//! Three real replicas, one of whose disks gets full: it hands leadership over, and others are told once that it takes no
//! commands, and once that it does again, whoever leads meanwhile.

use crate::receipts::{connect, lines, publish, runtime};
use cdr_bus::Bus;
use cdr_core::Millis;
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use testkit::cluster::{ClockOffset, Cluster};
use testkit::disk::{Disk, may_mount};
use testkit::event_schemas::faults;
use testkit::nats::NatsServer;
use testkit::wait_until;

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// Every event of a subject of the audit stream, in order.
fn told(runtime: &tokio::runtime::Runtime, url: &str, subject: &str) -> Vec<Value> {
    runtime.block_on(async {
        let bus = connect(url).await;
        let last = bus.stream_info("CDR_AUDIT").await.map_or(0, |info| info.last_sequence);
        let mut events = Vec::new();
        for sequence in 1..=last {
            let Some(message) = bus.message("CDR_AUDIT", sequence).await.unwrap() else { continue };
            if message.subject == subject {
                assert_eq!(faults(subject, &message.payload), [""; 0]);
                events.push(serde_json::from_slice(&message.payload).unwrap());
            }
        }
        events
    })
}

fn states(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["state"].as_str().unwrap()).collect()
}

fn occurred(event: &Value) -> i64 {
    Millis::parse(event["occurredAt"].as_str().unwrap()).unwrap().0
}

/// Waits until a replica other than `id` leads.
fn leader_beside(cluster: &Cluster, id: usize) -> usize {
    let leads = |other: &usize| cluster.metric(*other, "cdr_raft_is_leader") == Some(1.0);
    let mut found = None;
    wait_until("another leader", 60, || {
        found = (1..=3).filter(|other| *other != id).find(leads);
        found.is_some()
    });
    found.unwrap()
}

/// The leader and the end of its log, once both have been the same for three seconds: who was restricted first may have
/// handed over to one that was not yet.
fn settled(cluster: &Cluster) -> (usize, Option<f64>) {
    let look = || {
        let leader = cluster.leader();
        (leader, cluster.metric(leader, "cdr_raft_last_log_index"))
    };
    let (mut seen, mut since) = (look(), Instant::now());
    wait_until("a leader that nothing changes", 60, || {
        let now = look();
        if now != seen || now.1.is_none() {
            (seen, since) = (now, Instant::now());
        }
        since.elapsed() >= Duration::from_secs(3)
    });
    seen
}

fn start(dir: &Path, url: &str) -> (Vec<Disk>, Cluster) {
    let disks = (1..=3).map(|id| Disk::mount(dir.join(format!("node-{id}")), "8g")).collect();
    (disks, Cluster::start_with_events(dir, url, ClockOffset(0)))
}

#[test]
fn a_full_disk_is_told_once_and_once_that_it_is_over() {
    if !may_mount("relay::restriction::a_full_disk_is_told_once_and_once_that_it_is_over") {
        return;
    }
    let (dir, nats, runtime) = (tempfile::tempdir().unwrap(), NatsServer::start(), runtime());
    let url = nats.url();
    let (disks, mut cluster) = start(dir.path(), &url);
    let (first, mut messages, _) = lines(5_000, 31);
    publish(&runtime, &url, &first);
    wait_until("the first rows", 60, || {
        (1..=3).all(|id| cluster.sms_rows(id) == Some(messages.len() as u64))
    });

    let full = cluster.leader();
    let disk = &disks[full - 1];
    let filled = now();
    disk.leave(1 << 20);
    let (more, later, _) = lines(60_000, 32);
    messages.extend(later);
    publish(&runtime, &url, &more);
    wait_until("the restriction", 60, || cluster.metric(full, "cdr_node_restricted") == Some(1.0));
    // It has handed leadership over; whoever has it dies while it may be telling.
    let next = leader_beside(&cluster, full);
    wait_until("that it says so", 20, || cluster.log(full).contains("handing leadership over"));
    cluster.kill(next);
    cluster.restart(next);
    leader_beside(&cluster, full);
    let restriction = "cdr.restriction.v1";
    wait_until("that it is told", 60, || !told(&runtime, &url, restriction).is_empty());
    let wanted = Some(messages.len() as u64);
    wait_until("every row on the others", 120, || {
        (1..=3).filter(|id| *id != full).all(|id| cluster.sms_rows(id) == wanted)
    });
    let known = now();
    assert_eq!(states(&told(&runtime, &url, restriction)), ["RESTRICTED"]);
    wait_until("that it is still restricted", 20, || {
        cluster.metric(full, "cdr_node_restricted") == Some(1.0)
    });

    disk.resize("8g");
    wait_until("the end of it", 60, || cluster.metric(full, "cdr_node_restricted") == Some(0.0));
    let over = now();
    let leader = leader_beside(&cluster, full);
    cluster.kill(leader);
    cluster.restart(leader);
    wait_until("that it is told that it is over", 60, || told(&runtime, &url, restriction).len() >= 2);
    wait_until("every row on every replica", 120, || (1..=3).all(|id| cluster.sms_rows(id) == wanted));
    wait_until("the cursor behind everything", 60, || {
        (1..=3).all(|id| cluster.metric(id, "cdr_outbox_backlog_seconds") == Some(0.0))
    });

    let events = told(&runtime, &url, restriction);
    assert_eq!(states(&events), ["RESTRICTED", "LIFTED"]);
    for event in &events {
        assert_eq!(event["nodeId"], full, "{event}");
        assert!(event["consecutiveFailures"].as_u64().unwrap() >= 3, "{event}");
        assert!(event["reason"].as_str().unwrap().contains(" space "), "{event}");
    }
    assert!((filled..=known).contains(&occurred(&events[0])), "{events:?}");
    assert!((known..=over).contains(&occurred(&events[1])), "{events:?}");
    let entries = told(&runtime, &url, "cdr.audit.v1");
    let audit: Vec<(&str, bool)> = entries
        .iter()
        .zip(&events)
        .map(|(entry, event)| (entry["entryType"].as_str().unwrap(), occurred(entry) >= occurred(event)))
        .collect();
    assert_eq!(audit, [("NODE_RESTRICTED", true), ("NODE_RESTRICTION_LIFTED", true)]);

    // Once more, as a follower that dies before it is over: its next start tells that it is.
    disk.leave(1 << 20);
    let (more, later, _) = lines(30_000, 33);
    messages.extend(later);
    publish(&runtime, &url, &more);
    wait_until("that it is told again", 120, || told(&runtime, &url, restriction).len() >= 3);
    cluster.kill(full);
    disk.resize("8g");
    let started = now();
    cluster.restart(full);
    wait_until("that the restart ended it", 120, || told(&runtime, &url, restriction).len() >= 4);
    let events = told(&runtime, &url, restriction);
    assert_eq!(states(&events), ["RESTRICTED", "LIFTED", "RESTRICTED", "LIFTED"]);
    assert!(occurred(&events[3]) >= started, "{events:?}");
    let wanted = Some(messages.len() as u64);
    wait_until("every row on every replica", 120, || (1..=3).all(|id| cluster.sms_rows(id) == wanted));
}

#[test]
fn a_cluster_without_space_reads_on_and_says_why_it_takes_nothing() {
    if !may_mount("relay::restriction::a_cluster_without_space_reads_on_and_says_why_it_takes_nothing") {
        return;
    }
    let (dir, nats, runtime) = (tempfile::tempdir().unwrap(), NatsServer::start(), runtime());
    let url = nats.url();
    let (disks, mut cluster) = start(dir.path(), &url);
    let (first, messages, _) = lines(5_000, 41);
    publish(&runtime, &url, &first);
    let rows = |cluster: &Cluster, wanted: u64| (1..=3).all(|id| cluster.sms_rows(id) == Some(wanted));
    wait_until("the first rows", 60, || rows(&cluster, messages.len() as u64));

    // Less than the bound, and more than what is kept for the log's rest.
    for disk in &disks {
        disk.leave(512 << 20);
    }
    wait_until("every replica's restriction", 60, || {
        (1..=3).all(|id| cluster.metric(id, "cdr_node_restricted") == Some(1.0))
    });
    let void = json!({"type": "VOID", "voidReason": "DUPLICATE_DLR", "ticketId": "T"});
    let record =
        cluster.get_ok(1, "/v1/cdr/records?limit=1")["items"][0]["cdrId"].as_str().unwrap().to_owned();
    let (more, later, _) = lines(2_000, 42);
    publish(&runtime, &url, &more);
    let (leader, log_ends) = settled(&cluster);
    for _ in 0..10 {
        for id in 1..=3 {
            cluster.get_ok(id, "/v1/cdr/records?limit=1");
            wait_until("a replica that is ready", 20, || cluster.get(id, "/health/ready").0 == 200);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    for id in 1..=3 {
        let (status, body) = cluster.post(id, &format!("/v1/cdr/{record}/adjustments"), &void);
        assert_eq!((status, &body["error"]["details"]["dependency"]), (503, &"storage".into()), "{body}");
        let message = body["error"]["message"].as_str().unwrap();
        assert!(
            message.contains("too little space for more commands") && message.contains("1024 MiB"),
            "{message}"
        );
    }
    assert_eq!(cluster.leader(), leader, "nobody else has space, so it leads on");
    assert_eq!(cluster.metric(leader, "cdr_raft_last_log_index"), log_ends, "nothing got into the log");

    // A leader that dies meanwhile has a successor that reads.
    cluster.kill(leader);
    let next = leader_beside(&cluster, leader);
    wait_until("reads under the next leader", 30, || cluster.get(next, "/v1/cdr/records?limit=1").0 == 200);
    cluster.restart(leader);
    for disk in &disks {
        disk.resize("8g");
    }
    wait_until("every row", 120, || rows(&cluster, (messages.len() + later.len()) as u64));
}
