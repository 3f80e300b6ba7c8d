//! From JetStream to the replicated ledger: three real replica processes, a real nats-server, real receipts.
//!
//! `cargo bench --bench end_to_end -- [--records 400000]` prints
//! 1. the rate at which a stream that is full already is taken in,
//! 2. at half that rate, paced: the time from the stream's storing of a message to the commit of its record, as the
//!    leader's own histogram `cdr_append_latency_seconds` tells it,
//! 3. the largest resident size of a replica.
#![allow(clippy::unwrap_used)]

use cdr_bus::{Bus, JetStream, NatsOptions, PublishOptions, StreamSpec, publish_file};
use cdr_mediation::generate::{GenerateOptions, generate};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use testkit::cluster::{ClockOffset, Cluster};
use testkit::nats::NatsServer;

const SUBJECT: &str = "sms.dlr.inbound";
const STREAM: &str = "SMS_DLR_INBOUND";

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1));
    let records: u64 = value("--records").map_or(400_000, |text| text.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let nats = NatsServer::start();

    let full = day(records, 1);
    let published = runtime.block_on(async {
        let bus = connect(&nats.url()).await;
        bus.ensure_stream(&StreamSpec {
            name: STREAM.to_owned(),
            subjects: vec![SUBJECT.to_owned()],
            max_age: Duration::from_secs(8 * 86_400),
            replicas: 1,
            dedup_window: Duration::from_secs(120),
            max_message_bytes: None,
        })
        .await
        .unwrap();
        publish_file(&bus, &full[..], &PublishOptions::default(), |_| ()).await.unwrap()
    });
    println!("published {} receipts at {:.0}/s", published.published, published.rate());
    let cluster = Cluster::start(dir.path(), &nats.url(), ClockOffset(0));
    let leader = cluster.leader();
    let rate = drain(&cluster, leader, records);
    println!("taken in at {rate:.0} receipts/s (between 10 % and 90 % of {records})");

    let before = buckets(&cluster, leader);
    let paced = (rate / 2.0) as u64;
    pace(&runtime, &nats.url(), paced, 10);
    drain(&cluster, leader, records + paced * 10);
    let latencies: Vec<(f64, f64)> =
        buckets(&cluster, leader).into_iter().zip(before).map(|((le, n), (_, b))| (le, n - b)).collect();
    for (name, share) in [("p50", 0.5), ("p95", 0.95), ("p99", 0.99)] {
        println!(
            "at {paced}/s, stored to committed, {name}: at most {:.0} ms",
            quantile(&latencies, share) * 1e3
        );
    }
    let largest =
        (1..=3).filter_map(|id| cluster.metric(id, "cdr_process_resident_bytes")).fold(0.0, f64::max);
    println!("largest replica: {:.0} MiB resident", largest / f64::from(1 << 20));
}

async fn connect(url: &str) -> JetStream {
    JetStream::connect(NatsOptions::new(url)).await.unwrap()
}

/// Receipts of yesterday: of today's, events that are still to come would be put away.
fn day(records: u64, seed: u64) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let yesterday = cdr_core::Millis(now - 86_400_000).to_string()[..10].to_owned();
    let mut text = Vec::new();
    generate(&GenerateOptions::new(&yesterday, records, seed).unwrap(), &mut text).unwrap();
    text
}

fn position(cluster: &Cluster, node: usize) -> u64 {
    cluster.metric(node, &format!("cdr_stream_position{{stream=\"{STREAM}\"}}")).unwrap_or(0.0) as u64
}

/// Waits until the stream is taken in up to `last`; the rate between 10 % and 90 % of what was left.
fn drain(cluster: &Cluster, node: usize, last: u64) -> f64 {
    let first = position(cluster, node);
    let (low, high) = (first + (last - first) / 10, first + (last - first) * 9 / 10);
    let mut marks: Vec<(Instant, u64)> = Vec::new();
    loop {
        let at = position(cluster, node);
        if at >= low && (marks.len() < 2 || at <= high) {
            marks.push((Instant::now(), at));
        }
        if at >= last {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    match (marks.first(), marks.last()) {
        (Some(from), Some(to)) if to.1 > from.1 => (to.1 - from.1) as f64 / (to.0 - from.0).as_secs_f64(),
        _ => 0.0,
    }
}

/// Publishes at a steady rate, fifty windows a second.
fn pace(runtime: &tokio::runtime::Runtime, url: &str, per_second: u64, seconds: u64) {
    let window = per_second / 50;
    let text = day(per_second * seconds, 2);
    let mut lines = text.split_inclusive(|&b| b == b'\n');
    runtime.block_on(async {
        let bus = connect(url).await;
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        for _ in 0..seconds * 50 {
            tick.tick().await;
            let part: Vec<u8> = lines.by_ref().take(window as usize).flatten().copied().collect();
            publish_file(&bus, &part[..], &PublishOptions::default(), |_| ()).await.unwrap();
        }
        let rest: Vec<u8> = lines.flatten().copied().collect();
        publish_file(&bus, &rest[..], &PublishOptions::default(), |_| ()).await.unwrap();
    });
}

/// Upper bounds in seconds and cumulative counts of the leader's latency histogram.
fn buckets(cluster: &Cluster, node: usize) -> Vec<(f64, f64)> {
    let text = cluster.metrics_text(node);
    let prefix = "cdr_append_latency_seconds_bucket{le=\"";
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
