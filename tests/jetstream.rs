//! Ingest from a real JetStream into three real processes: leaders killed, streams lost, nothing missing and nothing
//! twice.

use crate::receipts::{connect, lines, publish, publish_all, runtime};
use cdr_bus::{Bus, Outgoing, StreamSpec};
use std::time::Duration;
use testkit::audit::{recompute_bucket, rollups, statement};
use testkit::cluster::{ClockOffset, Cluster};
use testkit::nats::NatsServer;
use testkit::{unix_seconds, wait_until};

const STREAM: &str = "SMS_DLR_INBOUND";
const DEAD_LETTERS: &str = "SMS_DLR_INBOUND_DEADLETTER";

fn wait_for_rows(cluster: &Cluster, rows: usize) {
    wait_until(&format!("{rows} rows on every replica"), 180, || {
        (1..=3).all(|id| cluster.sms_rows(id) == Some(rows as u64))
    });
}

#[test]
fn killed_leaders_lose_and_double_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let nats = NatsServer::start();
    let runtime = runtime();
    let (text, messages, malformed) = lines(200_000, 7);
    // Everything has to be in the log before the hour ends.
    let ends = (unix_seconds().div_euclid(3_600) + 1) * 3_600;
    let hour = cdr_core::Hour((ends / 3_600 - 1) as u32).to_string();
    let clock = ClockOffset::showing(ends - 3_000);
    let mut cluster = Cluster::start_with_movable_clocks(dir.path(), &nats.url(), clock);
    let publishing = runtime.spawn(publish_all(nats.url(), text));
    for kill in 1..=3u64 {
        let leader = cluster.leader();
        let wanted = kill * 30_000;
        wait_until("rows before the next kill", 90, || {
            (1..=3).filter_map(|id| cluster.sms_rows(id)).any(|rows| rows >= wanted)
        });
        cluster.kill(leader);
        cluster.leader();
        cluster.restart(leader);
    }
    runtime.block_on(publishing).unwrap();
    wait_for_rows(&cluster, messages.len());
    cluster.set_clocks(ClockOffset::showing(ends - 2));
    wait_until("the seal of the hour", 180, || {
        (1..=3).all(|id| {
            cluster.get(id, &format!("/v1/cdr/completeness?bucketHour={hour}&consistency=stale")).0 == 200
        })
    });

    let found = recompute_bucket(&cluster, 1, &hour);
    assert!(found == messages, "{} messages recorded, {} expected", found.len(), messages.len());
    let statement = statement(&cluster, 1, &hour, STREAM);
    assert_eq!(statement["received"], 200_000);
    assert_eq!(statement["appended"], messages.len() as u64);
    assert_eq!(statement["deadLettered"], malformed);
    assert_eq!(statement["missing"], 0);
    let letters =
        runtime.block_on(async { connect(&nats.url()).await.stream_info(DEAD_LETTERS).await.unwrap() });
    assert_eq!(letters.messages, malformed, "dead letters");
    let first = rollups(&cluster, 1, &hour);
    assert!((2..=3).all(|id| rollups(&cluster, id, &hour) == first), "the replicas' roots differ");
}

#[test]
fn a_recreated_and_a_rewound_stream_swallow_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut nats = NatsServer::start();
    let runtime = runtime();
    let cluster = Cluster::start(dir.path(), &nats.url(), ClockOffset(0));
    let (text, first, _) = lines(3_000, 1);
    publish(&runtime, &nats.url(), &text);
    wait_for_rows(&cluster, first.len());

    // The stream is deleted, and made again by whoever comes first.
    runtime.block_on(async { connect(&nats.url()).await.delete_stream(STREAM).await.unwrap() });
    let (text, second, _) = lines(4_000, 2);
    wait_until("the stream made anew", 60, || {
        runtime.block_on(async { connect(&nats.url()).await.stream_info(STREAM).await.is_ok() })
    });
    publish(&runtime, &nats.url(), &text);
    wait_for_rows(&cluster, first.len() + second.len());
    // Whoever led counted it; another one may lead by now.
    let lost = || (1..=3).filter_map(|id| cluster.metric(id, "cdr_streams_lost_total")).sum::<f64>();
    wait_until("one lost stream on all replicas together", 30, || lost() > 0.5);
    assert!(lost() < 1.5 && (1..=3).any(|id| cluster.log(id).contains("SEV1")));

    // The server comes back without its last messages, and gets others in their place.
    let (text, third, _) = lines(2_000, 3);
    nats.kill();
    let backup = nats.copy_store();
    nats.restart();
    publish(&runtime, &nats.url(), &text);
    wait_for_rows(&cluster, first.len() + second.len() + third.len());
    nats.kill();
    nats.replace_store(&backup);
    let (text, fourth, _) = lines(5_000, 4);
    nats.restart();
    publish(&runtime, &nats.url(), &text);
    wait_for_rows(&cluster, first.len() + second.len() + third.len() + fourth.len());
    wait_until("a report of the rewind", 30, || lost() > 1.5);
}

/// A stream that somebody else made takes messages as large as the server does: no room is left for headers.
#[test]
fn a_message_as_large_as_the_server_takes_does_not_stall_ingest() {
    let dir = tempfile::tempdir().unwrap();
    let nats = NatsServer::start();
    let runtime = runtime();
    let largest = bytes::Bytes::from(vec![b'x'; 1 << 20]);
    runtime.block_on(async {
        let bus = connect(&nats.url()).await;
        assert_eq!(bus.max_payload_bytes(), largest.len());
        let spec = StreamSpec {
            name: STREAM.to_owned(),
            subjects: vec!["sms.dlr.inbound".to_owned()],
            max_age: Duration::from_secs(8 * 86_400),
            replicas: 1,
            dedup_window: Duration::from_secs(120),
            max_message_bytes: None,
        };
        bus.ensure_stream(&spec).await.unwrap();
        let (subject, payload) = ("sms.dlr.inbound".to_owned(), largest.clone());
        bus.publish(Outgoing { subject, payload, ..Outgoing::default() }).await.unwrap();
    });
    let (text, messages, malformed) = lines(1_000, 6);
    publish(&runtime, &nats.url(), &text);
    let cluster = Cluster::start(dir.path(), &nats.url(), ClockOffset(0));
    wait_for_rows(&cluster, messages.len());
    let (bare, letter, count) = runtime.block_on(async {
        let bus = connect(&nats.url()).await;
        let count = bus.stream_info(DEAD_LETTERS).await.unwrap().messages;
        let bare = bus.message(DEAD_LETTERS, 1).await.unwrap().unwrap();
        (bare, bus.message(DEAD_LETTERS, 2).await.unwrap().unwrap(), count)
    });
    assert_eq!(count, malformed + 2);
    assert!(bare.payload == largest && bare.headers.is_empty(), "{:?}", bare.headers);
    assert!(letter.payload.is_empty());
    let value =
        |name: &str| letter.headers.iter().find(|(header, _)| header == name).map(|(_, v)| v.as_str());
    assert_eq!(value("Cdr-Reason"), Some("message is over 65536 bytes"));
    assert_eq!((value("Cdr-Sequence"), value("Cdr-Payload-Sequence")), (Some("1"), Some("1")));
    let logged = (1..=3).any(|id| cluster.log(id).contains("no room for its headers"));
    assert!(logged, "nobody was told");
}

#[test]
fn a_leader_with_a_wrong_clock_seals_nothing_and_steps_down() {
    let dir = tempfile::tempdir().unwrap();
    let nats = NatsServer::start();
    let ahead = ClockOffset(7_200);
    let cluster =
        Cluster::start_without_waiting(dir.path(), &nats.url(), [ahead, ClockOffset(0), ClockOffset(0)]);
    let right = |id: usize| id != 1;
    wait_until("a leader with the right clock", 90, || right(cluster.leader()));
    let (text, messages, _) = lines(1_000, 5);
    publish(&runtime(), &nats.url(), &text);
    wait_for_rows(&cluster, messages.len());
    let sealed = cluster.get_ok(2, "/v1/cdr/rollups?limit=10");
    assert_eq!(sealed["items"].as_array().unwrap().len(), 0, "an hour was sealed early: {sealed}");
    let now = cdr_core::Millis(unix_seconds() * 1000);
    let records = cluster.get_ok(2, "/v1/cdr/records?limit=1");
    let bucket = cdr_core::Hour::parse(records["items"][0]["bucketHour"].as_str().unwrap()).unwrap();
    assert!(bucket <= now.hour(), "a row went into a future hour");
}

#[test]
fn a_leader_whose_clock_is_set_while_it_leads_stops_proposing_and_steps_down() {
    let dir = tempfile::tempdir().unwrap();
    let nats = NatsServer::start();
    let runtime = runtime();
    let mut cluster = Cluster::start_with_movable_clocks(dir.path(), &nats.url(), ClockOffset(0));
    let leader = cluster.leader();
    let (text, first, _) = lines(1_000, 11);
    publish(&runtime, &nats.url(), &text);
    wait_for_rows(&cluster, first.len());

    let (text, second, _) = lines(20_000, 12);
    let publishing = runtime.spawn(publish_all(nats.url(), text));
    cluster.set_clock(leader, ClockOffset(7_200));
    let off = "off the median";
    wait_until("it says that its clock is off", 60, || cluster.log(leader).contains(off));
    wait_until("another leader", 60, || {
        (1..=3).any(|id| id != leader && cluster.metric(id, "cdr_raft_is_leader") == Some(1.0))
    });
    runtime.block_on(publishing).unwrap();
    wait_for_rows(&cluster, first.len() + second.len());
    assert!(
        (1..=3).filter(|id| *id != leader).all(|id| !cluster.log(id).contains(off)),
        "the others are right"
    );

    // Nothing was stamped with the time that the clock was set to, on any replica.
    let now = cdr_core::Millis(unix_seconds() * 1000);
    for id in 1..=3 {
        let path = format!("/v1/cdr/rollups?limit=100&bucketHourFrom={}&consistency=stale", now.hour());
        let early = cluster.get_ok(id, &path);
        assert_eq!(early["items"].as_array().unwrap().len(), 0, "an hour was sealed early: {early}");
        let path = format!("/v1/cdr/records?limit=1&bucketHourFrom={}&consistency=stale", now.hour().next());
        let future = cluster.get_ok(id, &path);
        assert_eq!(future["items"].as_array().unwrap().len(), 0, "a row went into a future hour: {future}");
    }
    // With its clock right again it may lead again, and everything goes on.
    cluster.set_clock(leader, ClockOffset(0));
    let other = cluster.leader();
    cluster.kill(other);
    cluster.leader();
    cluster.restart(other);
    let (text, third, _) = lines(1_000, 13);
    publish(&runtime, &nats.url(), &text);
    wait_for_rows(&cluster, first.len() + second.len() + third.len());
}
