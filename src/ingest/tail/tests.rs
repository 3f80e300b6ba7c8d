#![allow(clippy::unwrap_used)]

use super::*;
use crate::bus::{JetStream, NatsOptions, Outgoing};
use crate::clock::Clock;
use crate::ingest::{Halt, Ingest, IngestSettings};
use crate::metrics::Metrics;
use crate::pricing::TablePricing;
use crate::test_nats::NatsServer;
use crate::test_node::TestNode;
use cdr_core::Hour;
use cdr_core::state::Stream;
use std::time::Duration;

const SUBJECT: &str = "sms.dlr.inbound";

/// A leader that reads from a real stream while its reading is not interrupted.
struct Reading {
    node: TestNode,
    bus: JetStream,
    ingest: Ingest,
}

impl Reading {
    async fn start(server: &NatsServer) -> Self {
        let bus = JetStream::connect(NatsOptions::new(server.url())).await.unwrap();
        let settings = IngestSettings {
            subject: SUBJECT.to_owned(),
            stream: "S".to_owned(),
            durable: "reader".to_owned(),
            batch_max: 500,
            in_flight: 8,
            replicas: 1,
        };
        let ingest = Ingest {
            settings,
            bus: Arc::new(bus.clone()),
            pricing: Arc::new(TablePricing::default()),
            metrics: Arc::new(Metrics::new().unwrap()),
            last_named: LastNamed::default(),
            halt: Halt::in_dir(&std::env::temp_dir().join("cdr-no-halt")),
        };
        ingest.ensure_streams().await.unwrap();
        Self { node: TestNode::begin(Clock::replay(Hour(493_525).start())).await, bus, ingest }
    }

    /// Publishes messages that become no records.
    async fn publish(&self, count: usize) {
        for _ in 0..count {
            let (subject, payload) = (SUBJECT.to_owned(), r#"{"status":"ACCEPTED"}"#.into());
            self.bus.publish(Outgoing { subject, payload, ..Outgoing::default() }).await.unwrap();
        }
    }

    /// Reads until `epoch` is accounted for up to `position`; what is accounted for by then.
    async fn until(&self, epoch: &str, position: u64) -> Stream {
        let known = || self.node.proposer.state().streams.iter().find(|s| s.name == epoch).cloned();
        let reached = async {
            loop {
                if let Some(stream) = known().filter(|stream| stream.position >= position) {
                    return stream;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let reading = async {
            loop {
                self.ingest.run(&self.node.proposer).await.unwrap_err();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            stream = reached => stream,
            () = reading => unreachable!(),
            () = tokio::time::sleep(Duration::from_secs(30)) => panic!("{position} of {epoch}: {:?}", known()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_unread_at_the_end_is_missing_without_a_later_message() {
    let server = NatsServer::start();
    let reading = Reading::start(&server).await;
    reading.publish(3).await;
    reading.until("S", 3).await;
    reading.publish(4).await;
    for sequence in 5..=7 {
        reading.bus.delete_message("S", sequence).await.unwrap();
    }
    let stream = reading.until("S", 7).await;
    assert_eq!((stream.position, stream.ignored, stream.missing), (7, 4, 3));
    // Messages that come later are read as ever.
    reading.publish(2).await;
    let stream = reading.until("S", 9).await;
    assert_eq!((stream.position, stream.ignored, stream.missing), (9, 6, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stream_held_unread_when_it_was_made_anew_is_missing() {
    let server = NatsServer::start();
    let reading = Reading::start(&server).await;
    reading.publish(3).await;
    reading.until("S", 3).await;
    reading.publish(5).await;
    // As while messages come, or at a connection that was interrupted at once.
    let info = reading.bus.stream_info("S").await.unwrap();
    reading.ingest.last_named.note("S", info.last_sequence);
    reading.bus.delete_stream("S").await.unwrap();
    reading.ingest.ensure_streams().await.unwrap();
    reading.publish(1).await;
    let anew = reading.until("S#2", 1).await;
    assert_eq!((anew.ignored, anew.missing), (1, 0));
    let old = reading.until("S", 8).await;
    assert_eq!((old.position, old.ignored, old.missing), (8, 3, 5));
}
