//! How much three nodes in one process replicate. Run it with
//! `cargo test --release -p cdr-raft --test throughput -- --ignored --nocapture`.
#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::cluster::Cluster;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const SECONDS: u64 = 8;

#[test]
#[ignore = "a measurement, not a check"]
fn append_and_replicate() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(async {
        println!(
            "bytes/entry in flight  entries/s      MB/s  p50 ms  p95 ms  p99 ms  fsync ms  entries/fsync"
        );
        for (bytes, in_flight) in [(1_500, 8), (30_000, 8), (150_000, 1), (150_000, 4), (150_000, 8)] {
            measure(bytes, in_flight).await;
        }
    });
}

async fn measure(bytes: usize, in_flight: usize) {
    let cluster = Cluster::start(3, |config| {
        config.max_in_flight = 64;
        config.heartbeat_ms = 200;
        config.election_min_ms = 1000;
        config.election_max_ms = 2000;
    })
    .await;
    let node = cluster.node(cluster.leader().await).clone();
    let noise: Bytes = (0..bytes).map(|at| (at * at >> 7) as u8).collect::<Vec<_>>().into();
    let stop = Arc::new(AtomicBool::new(false));
    let before = node.metrics();
    let start = Instant::now();
    let clients: Vec<_> = (0..in_flight)
        .map(|_| {
            let (node, noise, stop) = (node.clone(), noise.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut took = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let begin = Instant::now();
                    node.propose(noise.clone()).await.unwrap();
                    took.push(begin.elapsed());
                }
                took
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(SECONDS)).await;
    stop.store(true, Ordering::Relaxed);
    let mut took = Vec::new();
    for client in clients {
        took.extend(client.await.unwrap());
    }
    let seconds = start.elapsed().as_secs_f64();
    took.sort();
    let ms = |share: f64| took[((took.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    let after = node.metrics();
    let fsyncs = (after.fsyncs - before.fsyncs) as f64;
    let fsync_ms = (after.fsync_ns - before.fsync_ns) as f64 / fsyncs / 1e6;
    let entries = took.len() as f64;
    println!(
        "{bytes:>11} {in_flight:>9} {:>10.0} {:>9.1} {:>7.2} {:>7.2} {:>7.2} {fsync_ms:>9.2} {:>14.1}",
        entries / seconds,
        entries * bytes as f64 / seconds / 1e6,
        ms(0.5),
        ms(0.95),
        ms(0.99),
        entries / fsyncs
    );
    cluster.converge(node.applied_index()).await;
    for replica in cluster.running() {
        replica.node.as_ref().unwrap().shutdown().await;
    }
}
