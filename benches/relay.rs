//! From the ledger to JetStream: three real replica processes, a real nats-server, real events.
//!
//! `cargo bench --bench relay -- [--records 200000]` prints
//! 1. the rate at which receipts are taken in while no event can be published (their stream can't be used),
//! 2. the rate at which the backlog is then published,
//! 3. beside it the bus's own limit: messages of the same size, chained and with ids, published to the same server by a
//!    process that does nothing else,
//! 4. the rate of ingest of a second cluster whose relay publishes meanwhile, as a share of 1,
//! 5. at a moderate rate, from the proposal of a row to the bus's confirmation of its event, as the leader's own
//!    histogram `cdr_publish_latency_seconds` tells it.
//!
//! Everything shares one machine, the server's disk and both ends' processors included.
#![allow(clippy::unwrap_used)]

use cdr_bus::{Bus, JetStream, NatsOptions, Outgoing, PublishOptions, StreamSpec, publish_file};
use cdr_mediation::generate::{GenerateOptions, generate};
use futures::StreamExt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use testkit::cluster::{ClockOffset, Cluster};
use testkit::nats::NatsServer;
use tokio::runtime::Runtime;

const STREAM: &str = "SMS_DLR_INBOUND";
const EVENTS: &str = "CDR_EVENTS";
/// Messages on their way at once, as the relay has them by default.
const IN_FLIGHT: usize = 2_048;
/// Receipts a second of the last measurement, and its length in seconds.
const MODERATE: (u64, u64) = (2_000, 15);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1));
    let records: u64 = value("--records").map_or(200_000, |text| text.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let nats = NatsServer::start();
    let url = nats.url();

    runtime.block_on(async {
        let bus = connect(&url).await;
        bus.ensure_stream(&spec(STREAM, "sms.dlr.inbound", 8 * 86_400)).await.unwrap();
        // Too short a memory: the relay refuses it, and waits.
        bus.ensure_stream(&spec(EVENTS, "cdr.record.appended.v1", 600)).await.unwrap();
    });
    publish(&runtime, &url, &day(records, 1));
    let cluster = Cluster::start_with_events(dir.path(), &url, ClockOffset(0));
    let leader = cluster.leader();
    let alone = rate(records, || position(&cluster, leader));
    println!("ingest without relay   {alone:>8.0} receipts/s (between 10 % and 90 % of {records})");

    let backlog = cluster.sms_rows(leader).unwrap();
    runtime.block_on(async { connect(&url).await.delete_stream(EVENTS).await.unwrap() });
    let watching = runtime.block_on(connect(&url));
    let relayed = rate(backlog, || stored(&runtime, &watching, EVENTS));
    println!("relay of a backlog     {relayed:>8.0} events/s (of {backlog})");
    let size = message_size(&runtime, &url);
    let limit = runtime.block_on(bus_limit(&url, size, backlog.min(100_000)));
    println!(
        "the bus's own limit    {limit:>8.0} messages/s of {size} bytes: the relay reaches {:.0} %",
        relayed / limit * 100.0
    );

    drop((cluster, nats));

    let (dir, nats) = (tempfile::tempdir().unwrap(), NatsServer::start());
    let url = nats.url();
    runtime.block_on(async {
        connect(&url).await.ensure_stream(&spec(STREAM, "sms.dlr.inbound", 8 * 86_400)).await.unwrap();
    });
    publish(&runtime, &url, &day(records, 1));
    let cluster = Cluster::start_with_events(dir.path(), &url, ClockOffset(0));
    let leader = cluster.leader();
    let both = rate(records, || position(&cluster, leader));
    println!("ingest with relay      {both:>8.0} receipts/s: {:.0} % of that without", both / alone * 100.0);

    wait_for_calm(&cluster, leader);
    let before = buckets(&cluster, leader);
    pace(&runtime, &url, MODERATE);
    wait_for_calm(&cluster, leader);
    let after = buckets(&cluster, leader).into_iter().zip(before);
    let latencies: Vec<(f64, f64)> = after.map(|((le, n), (_, b))| (le, n - b)).collect();
    for (name, share) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
        let at_most = quantile(&latencies, share) * 1e3;
        println!("at {} receipts/s, proposed to published, {name}: at most {at_most:.0} ms", MODERATE.0);
    }
}

async fn connect(url: &str) -> JetStream {
    JetStream::connect(NatsOptions::new(url)).await.unwrap()
}

fn spec(name: &str, subject: &str, seconds: u64) -> StreamSpec {
    StreamSpec {
        name: name.to_owned(),
        subjects: vec![subject.to_owned()],
        max_age: Duration::from_secs(seconds),
        replicas: 1,
        dedup_window: Duration::from_secs(120),
        max_message_bytes: None,
    }
}

/// Receipts of yesterday: of today's, events that are still to come would be put away.
fn day(records: u64, seed: u64) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let yesterday = cdr_core::Millis(now - 86_400_000).to_string()[..10].to_owned();
    let mut text = Vec::new();
    generate(&GenerateOptions::new(&yesterday, records, seed).unwrap(), &mut text).unwrap();
    text
}

fn publish(runtime: &Runtime, url: &str, text: &[u8]) {
    runtime.block_on(async {
        publish_file(&connect(url).await, text, &PublishOptions::default(), |_| ()).await.unwrap()
    });
}

fn position(cluster: &Cluster, node: usize) -> u64 {
    cluster.metric(node, &format!("cdr_stream_position{{stream=\"{STREAM}\"}}")).unwrap_or(0.0) as u64
}

fn stored(runtime: &Runtime, bus: &JetStream, stream: &str) -> u64 {
    runtime.block_on(bus.stream_info(stream)).map_or(0, |info| info.messages)
}

/// How fast `at` goes from 10 % to 90 % of `whole`; returns once it is there.
fn rate(whole: u64, mut at: impl FnMut() -> u64) -> f64 {
    let (low, high) = (whole / 10, whole * 9 / 10);
    let mut marks: Vec<(Instant, u64)> = Vec::new();
    loop {
        let now = at();
        if now >= low && (marks.len() < 2 || now <= high) {
            marks.push((Instant::now(), now));
        }
        if now >= whole {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    match (marks.first(), marks.last()) {
        (Some(from), Some(to)) if to.1 > from.1 => (to.1 - from.1) as f64 / (to.0 - from.0).as_secs_f64(),
        _ => f64::NAN,
    }
}

/// Payload and headers of an ordinary event.
fn message_size(runtime: &Runtime, url: &str) -> usize {
    let message =
        runtime.block_on(async { connect(url).await.message(EVENTS, 1_000).await.unwrap().unwrap() });
    let headers: usize = message.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    message.payload.len() + headers
}

/// Messages a second that one connection gets stored.
async fn bus_limit(url: &str, size: usize, messages: u64) -> f64 {
    let bus = connect(url).await;
    bus.ensure_stream(&spec("LIMIT", "limit", 600)).await.unwrap();
    let payload = bytes::Bytes::from(vec![b'x'; size - 120]);
    let outgoing = (0..messages).map(move |i| Outgoing {
        subject: "limit".to_owned(),
        payload: payload.clone(),
        message_id: Some(format!("{i:036}")),
        behind_id: (i > 0).then(|| format!("{:036}", i - 1)),
        ..Outgoing::default()
    });
    let started = Instant::now();
    let mut results = bus.publish_many(futures::stream::iter(outgoing).boxed(), IN_FLIGHT);
    while let Some(result) = results.next().await {
        result.unwrap();
    }
    messages as f64 / started.elapsed().as_secs_f64()
}

/// Waits until nothing is left to publish.
fn wait_for_calm(cluster: &Cluster, node: usize) {
    while cluster.metric(node, "cdr_outbox_backlog_seconds") != Some(0.0) {
        std::thread::sleep(Duration::from_millis(200));
    }
    std::thread::sleep(Duration::from_secs(2));
}

/// Publishes receipts at a steady rate, fifty windows a second.
fn pace(runtime: &Runtime, url: &str, (per_second, seconds): (u64, u64)) {
    let text = day(per_second * seconds, 3);
    let mut lines = text.split_inclusive(|&b| b == b'\n');
    runtime.block_on(async {
        let bus = connect(url).await;
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        for _ in 0..seconds * 50 {
            tick.tick().await;
            let part: Vec<u8> = lines.by_ref().take(per_second as usize / 50).flatten().copied().collect();
            publish_file(&bus, &part[..], &PublishOptions::default(), |_| ()).await.unwrap();
        }
    });
}

/// Upper bounds in seconds and cumulative counts of the leader's histogram.
fn buckets(cluster: &Cluster, node: usize) -> Vec<(f64, f64)> {
    let text = cluster.metrics_text(node);
    let prefix = "cdr_publish_latency_seconds_bucket{le=\"";
    text.lines()
        .filter_map(|line| {
            let (bound, count) = line.strip_prefix(prefix)?.split_once("\"} ")?;
            Some((bound.parse().unwrap_or(f64::INFINITY), count.parse().ok()?))
        })
        .collect()
}

fn quantile(buckets: &[(f64, f64)], share: f64) -> f64 {
    let total = buckets.last().map_or(0.0, |(_, count)| *count);
    buckets.iter().find(|(_, count)| *count >= total * share).map_or(f64::NAN, |(bound, _)| *bound)
}
