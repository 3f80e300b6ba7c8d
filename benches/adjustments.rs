//! Adjustments on three real replica processes, asked over HTTP.
//!
//! `CDR_BENCH_ROWS=1000000 cargo bench --profile release --bench adjustments` prints
//! 1. the time of a single CORRECTION, asked at the leader and at a follower (aim: p95 under 50 ms),
//! 2. a bulk re-rating of that many records while receipts come in: rate, how fast the receipts were taken in meanwhile,
//!    and the largest resident size that the leader ever had, before and after.
#![allow(clippy::unwrap_used)]

use cdr_bus::{JetStream, NatsOptions, PublishOptions, publish_file};
use cdr_mediation::generate::{GenerateOptions, generate};
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use testkit::cluster::Cluster;
use testkit::nats::NatsServer;

const STREAM: &str = "SMS_DLR_INBOUND";
/// Records that are re-rated unless the environment says otherwise.
const ROWS: u64 = 100_000;
/// Single adjustments at each replica.
const SINGLES: usize = 400;
/// Receipts that are published in one go while a job runs.
const WAVE: u64 = 20_000;

const SECOND_LIST: &str = "[[pricing.tables]]\nversion = \"test-2\"\nvalid_from = \"2100-01-01T00:00:00Z\"\n\
     [[pricing.tables.tariffs]]\nper_segment = \"0.500001\"\ncurrency = \"AFN\"\ntap_tariff_class = \"A042\"\n";

fn main() {
    let rows = std::env::var("CDR_BENCH_ROWS").map_or(ROWS, |text| text.parse().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let nats = NatsServer::start();
    let cluster = Cluster::start_configured(dir.path(), &nats.url(), SECOND_LIST);
    let leader = cluster.leader();
    let mut published = 0;
    let publish = |text: Vec<u8>| {
        runtime.block_on(async {
            let bus = JetStream::connect(NatsOptions::new(nats.url())).await.unwrap();
            publish_file(&bus, &text[..], &PublishOptions::default(), |_| ()).await.unwrap().published
        })
    };
    while published < rows {
        published += publish(day((rows - published).min(200_000), published + 1));
    }
    wait_for(&cluster, leader, published);
    singles(&cluster, leader, "at the leader");
    singles(&cluster, 1 + leader % 3, "at a follower");

    let approver = std::fs::read_to_string(dir.path().join("approver-token")).unwrap();
    let body = json!({"filter": {"bucketHourFrom": "2020-01-01T00:00:00Z"}, "newPricingTableId": "test-2",
        "ticketId": "BENCH", "reason": "bench"});
    let before = (position(&cluster, leader), cluster.peak_bytes(leader));
    let asked = Instant::now();
    let headers = [("X-Approver-Jwt", approver.trim())];
    let (status, _, job) = cluster.post_with(leader, "/v1/cdr/adjustments/rerate", &body, &headers);
    assert_eq!(status, 202, "{job}");
    println!(
        "re-rating: {} records, estimated and taken in after {:.2} s",
        job["estimatedImpact"],
        seconds(asked)
    );
    let path = format!("/v1/cdr/adjustments/jobs/{}", job["jobId"].as_str().unwrap());
    let started = Instant::now();
    let mut told = cluster.get_ok(leader, &path);
    while told["status"] == "RUNNING" {
        published += publish(day(WAVE, published + 1));
        told = cluster.get_ok(leader, &path);
    }
    let (took, taken_in) = (seconds(started), position(&cluster, leader) - before.0);
    assert_eq!(told["status"], "FINISHED", "{told}");
    let adjusted = told["adjusted"].as_u64().unwrap();
    println!(
        "re-rated {adjusted} records in {took:.1} s: {:.0}/s, while receipts came in at {:.0}/s",
        adjusted as f64 / took,
        taken_in as f64 / took
    );
    let mib = |bytes: u64| bytes >> 20;
    println!(
        "largest resident size of the leader: {} MiB before, {} MiB after",
        mib(before.1),
        mib(cluster.peak_bytes(leader))
    );
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

fn wait_for(cluster: &Cluster, node: usize, sequence: u64) {
    while position(cluster, node) < sequence {
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn seconds(since: Instant) -> f64 {
    since.elapsed().as_secs_f64()
}

/// Corrects records one after the other at one replica.
fn singles(cluster: &Cluster, node: usize, place: &str) {
    let page = cluster.get_ok(node, &format!("/v1/cdr/records?limit={SINGLES}&operatorId=AWCC&net=true"));
    let ids: Vec<&str> =
        page["items"].as_array().unwrap().iter().map(|row| row["cdrId"].as_str().unwrap()).collect();
    let body: Value = json!({"type": "CORRECTION", "correctedFields": {"failureCode": place},
        "reason": "bench", "ticketId": "BENCH"});
    let mut times: Vec<f64> = ids
        .iter()
        .map(|id| {
            let asked = Instant::now();
            let (status, _, answer) =
                cluster.post_with(node, &format!("/v1/cdr/{id}/adjustments"), &body, &[]);
            assert_eq!(status, 201, "{answer}");
            seconds(asked) * 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "single CORRECTION {place:<13} p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms ({} of them)",
        at(0.5),
        at(0.95),
        at(0.99),
        times.len()
    );
}
