//! Three real replicas and a real nats-server: a leader is killed while it publishes, the bus goes away for a while, a
//! stream can't be used. Every event arrives once and in order, and ingest goes on.

use crate::receipts::{connect, lines, publish, runtime};
use cdr_bus::{Bus, StreamSpec};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use testkit::cluster::{ClockOffset, Cluster};
use testkit::nats::NatsServer;
use testkit::wait_until;

fn stored_events(runtime: &tokio::runtime::Runtime, url: &str) -> u64 {
    let info = runtime.block_on(async { connect(url).await.stream_info("CDR_EVENTS").await });
    info.map_or(0, |info| info.messages)
}

/// Every event of the stream of records, in order.
fn events(runtime: &tokio::runtime::Runtime, url: &str) -> Vec<Value> {
    runtime.block_on(async {
        let bus = connect(url).await;
        let last = bus.stream_info("CDR_EVENTS").await.unwrap().last_sequence;
        let mut subscription = bus.open("CDR_EVENTS", "test-reader", 1).await.unwrap();
        let mut events = Vec::new();
        while (events.len() as u64) < last {
            let batch = subscription.next_batch(1_000, Duration::from_secs(5)).await.unwrap();
            assert!(!batch.is_empty(), "the stream ends after {} of {last}", events.len());
            events.extend(batch.iter().map(|d| serde_json::from_slice::<Value>(&d.payload).unwrap()));
            let handles: Vec<_> = batch.into_iter().map(|delivery| delivery.ack).collect();
            subscription.acker().ack(&handles).await.unwrap();
        }
        events
    })
}

/// Every event of the stream of records, once each of these messages is among them.
fn events_once(runtime: &tokio::runtime::Runtime, url: &str, messages: &BTreeSet<String>) -> Vec<Value> {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let events = events(runtime, url);
        let told: BTreeSet<&str> = events.iter().filter_map(|event| event["messageId"].as_str()).collect();
        if messages.iter().all(|message| told.contains(message.as_str())) || Instant::now() >= deadline {
            return events;
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// Each message is told once, and each operator's rows follow one another by their hashes. Returns how many adjustments
/// are told.
fn check(events: &[Value], messages: &BTreeSet<String>) -> usize {
    let ids: Vec<&str> = events.iter().map(|event| event["eventId"].as_str().unwrap()).collect();
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "doubled or out of order");
    let (mut told, mut adjustments) = (BTreeSet::new(), 0);
    let mut last: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
    for event in events.iter().filter(|event| event.get("rowHash").is_some()) {
        let text = |key: &str| event[key].as_str().unwrap();
        if event["adjustmentOf"].is_string() {
            adjustments += 1;
        } else {
            assert!(told.insert(text("messageId").to_owned()), "{} is told twice", text("messageId"));
        }
        if let Some((hour, hash)) = last.insert(text("operatorId"), (text("bucketHour"), text("rowHash")))
            && hour == text("bucketHour")
        {
            assert_eq!(text("chainHashPrev"), hash, "{}: not behind the row before", text("cdrId"));
        }
    }
    assert!(told == *messages, "{} told, {} expected", told.len(), messages.len());
    adjustments
}

/// How long the bus is away: `CDR_OUTAGE_SECONDS`, 8 if that is not set.
fn outage() -> Duration {
    let seconds = std::env::var("CDR_OUTAGE_SECONDS").map_or(8, |text| text.parse().unwrap());
    Duration::from_secs(seconds)
}

/// Without the bus every replica answers, and the leader takes in what people ask for.
fn serves_without_the_bus(cluster: &Cluster, number: usize) {
    let leader = cluster.leader();
    let page = cluster.get_ok(leader, "/v1/cdr/records?limit=1");
    let id = page["items"][0]["cdrId"].as_str().unwrap();
    let correction = json!({
        "type": "CORRECTION", "reason": "the bus is away", "ticketId": "T-1",
        "correctedFields": {"segmentCount": 10 + number % 200},
    });
    let path = format!("/v1/cdr/{id}/adjustments");
    let key = format!("outage-{number}");
    for node in 1..=3 {
        // An election in between is no outage of the bus: whoever leads then answers.
        wait_until("a correction without the bus", 20, || {
            let (status, _, body) = cluster.post_with(node, &path, &correction, &[("Idempotency-Key", &key)]);
            assert!([201, 503].contains(&status), "{body}");
            status == 201
        });
        wait_until("a replica that is ready", 20, || cluster.get(node, "/health/ready").0 == 200);
    }
}

fn rows(cluster: &Cluster) -> u64 {
    (1..=3).filter_map(|id| cluster.sms_rows(id)).max().unwrap_or(0)
}

#[test]
fn a_killed_leader_and_a_bus_that_was_gone_lose_and_double_no_event() {
    let dir = tempfile::tempdir().unwrap();
    let mut nats = NatsServer::start();
    let (runtime, url) = (runtime(), nats.url());
    let (text, mut messages, _) = lines(80_000, 11);
    let mut cluster = Cluster::start_with_events(dir.path(), &url, ClockOffset(0));
    publish(&runtime, &url, &text);
    wait_until("events before the leader dies", 90, || stored_events(&runtime, &url) > 4_000);
    let killed = cluster.leader();
    cluster.kill(killed);
    let at_death = stored_events(&runtime, &url);
    cluster.leader();
    cluster.restart(killed);
    wait_until("events of the next leader", 90, || stored_events(&runtime, &url) > at_death + 4_000);
    wait_until("the API of every replica", 60, || (1..=3).all(|id| cluster.sms_rows(id).is_some()));
    nats.kill();
    let (gone, mut asked) = (Instant::now(), 0);
    while gone.elapsed() < outage() {
        serves_without_the_bus(&cluster, asked);
        asked += 1;
        std::thread::sleep(Duration::from_secs(2));
    }
    assert!((1..=3).all(|id| cluster.runs(id)));
    wait_until("a leader that says that the bus is away", 30, || {
        cluster.metrics_text(cluster.leader()).contains("cdr_dependency_up{dependency=\"events\"} 0")
    });
    nats.restart();
    let (more, later, _) = lines(5_000, 13);
    publish(&runtime, &url, &more);
    messages.extend(later);
    let wanted = messages.len() as u64;
    wait_until("every row", 180, || rows(&cluster) == wanted);
    // A correction is a row of its own, and told as one.
    let told = wanted + asked as u64;
    wait_until("every event", 180, || stored_events(&runtime, &url) >= told);
    wait_until("the cursor behind everything", 60, || {
        (1..=3).all(|id| cluster.metric(id, "cdr_outbox_backlog_seconds") == Some(0.0))
    });
    assert_eq!(check(&events_once(&runtime, &url, &messages), &messages), asked, "corrections");
}

#[test]
fn a_stream_that_cannot_be_used_holds_up_events_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let nats = NatsServer::start();
    let (runtime, url) = (runtime(), nats.url());
    let (text, messages, _) = lines(20_000, 12);
    let too_short = StreamSpec {
        name: "CDR_EVENTS".to_owned(),
        subjects: vec!["cdr.record.appended.v1".to_owned()],
        max_age: Duration::from_secs(600),
        replicas: 1,
        dedup_window: Duration::from_secs(120),
        max_message_bytes: None,
    };
    runtime.block_on(async { connect(&url).await.ensure_stream(&too_short).await.unwrap() });
    let cluster = Cluster::start_with_events(dir.path(), &url, ClockOffset(0));
    publish(&runtime, &url, &text);
    let wanted = messages.len() as u64;
    wait_until("every row on every replica", 120, || (1..=3).all(|id| cluster.sms_rows(id) == Some(wanted)));
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(stored_events(&runtime, &url), 0);
    wait_until("that somebody is told what to do", 30, || {
        cluster.log(cluster.leader()).contains("max_age is 600 s")
    });
    wait_until("the backlog", 30, || {
        cluster.metric(cluster.leader(), "cdr_outbox_backlog_seconds").is_some_and(|seconds| seconds >= 2.0)
    });
    assert_eq!(stored_events(&runtime, &url), 0);
    runtime.block_on(async { connect(&url).await.delete_stream("CDR_EVENTS").await.unwrap() });
    wait_until("every event", 120, || stored_events(&runtime, &url) >= wanted);
    check(&events_once(&runtime, &url, &messages), &messages);
}

/// A server that is started again after its dedup window has forgotten the last id of a stream, so that nothing can be
/// stored behind it; one whose store is an older copy has lost events that it had confirmed.
#[test]
fn a_bus_that_forgot_goes_on_and_gets_again_what_it_lost() {
    let dir = tempfile::tempdir().unwrap();
    let mut nats = NatsServer::start();
    let (runtime, url) = (runtime(), nats.url());
    let short = Duration::from_secs(1);
    runtime.block_on(async {
        let bus = connect(&url).await;
        for spec in cdr_mediation::events::streams::stream_specs(1) {
            bus.ensure_stream(&StreamSpec { dedup_window: short, ..spec }).await.unwrap();
        }
    });
    let cluster = Cluster::start_with_events(dir.path(), &url, ClockOffset(0));
    let mut messages = BTreeSet::new();
    let mut more = |records: u64, seed: u64| {
        let (text, new, _) = lines(records, seed);
        publish(&runtime, &url, &text);
        messages.extend(new);
        let wanted = messages.len() as u64;
        wait_until("every event", 120, || stored_events(&runtime, &url) >= wanted);
        std::thread::sleep(short * 2);
    };
    more(2_000, 21);
    nats.kill();
    nats.restart();
    more(1_000, 22);
    nats.kill();
    let older = nats.copy_store();
    nats.restart();
    more(2_000, 23);
    nats.kill();
    nats.replace_store(&older);
    nats.restart();
    more(5_000, 24);
    check(&events_once(&runtime, &url, &messages), &messages);
    wait_until("the cursor behind everything", 60, || {
        cluster.metric(cluster.leader(), "cdr_outbox_backlog_seconds") == Some(0.0)
    });
}
