#![allow(clippy::unwrap_used)]

use super::*;
use crate::clock::Clock;
use crate::ingest::{Halt, Ingest, IngestSettings};
use crate::metrics::Metrics;
use crate::pricing::TablePricing;
use crate::test_support::node::TestNode;
use cdr_bus::{JetStream, NatsOptions, Outgoing};
use cdr_core::command::Command;
use cdr_core::seal::StreamStatement;
use cdr_core::state::Stream;
use cdr_core::{Hour, Millis};
use std::time::Duration;
use testkit::nats::NatsServer;

/// A leader that reads from a real stream while its reading is not interrupted.
struct Reading {
    node: TestNode,
    bus: JetStream,
    ingest: Ingest,
}

impl Reading {
    async fn start(server: &NatsServer) -> Self {
        Self::named(server, "S").await
    }

    /// One that reads a stream of this name.
    async fn named(server: &NatsServer, stream: &str) -> Self {
        let bus = JetStream::connect(NatsOptions::new(server.url())).await.unwrap();
        let settings = IngestSettings {
            subject: stream.to_owned() + ".dlr",
            stream: stream.to_owned(),
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
            let (subject, payload) =
                (self.ingest.settings.subject.clone(), r#"{"status":"ACCEPTED"}"#.into());
            self.bus.publish(Outgoing { subject, payload, ..Outgoing::default() }).await.unwrap();
        }
    }

    /// Reads until something fails, again and again.
    async fn read(&self) {
        loop {
            self.ingest.run(&self.node.proposer).await.unwrap_err();
            tokio::time::sleep(Duration::from_millis(100)).await;
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
        tokio::select! {
            stream = reached => stream,
            () = self.read() => unreachable!(),
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

/// Reads in the last second of the open hour a stream whose end was deleted, and proposes the seal when it is due; the
/// statement of the seal. None if this machine was too slow to read before the hour was nearly over.
async fn sealed_with(server: &NatsServer, stream: &str) -> Option<StreamStatement> {
    let reading = Reading::named(server, stream).await;
    reading.publish(4).await;
    for sequence in 2..=4 {
        reading.bus.delete_message(stream, sequence).await.unwrap();
    }
    let proposer = &reading.node.proposer;
    let (clock, hour) = (proposer.clock(), proposer.state().head.open_hour);
    let left_ms = || hour.end().0 - clock.now().0;
    let position = || proposer.state().latest_epoch(stream).map_or(0, |known| known.position);
    let sealed = async {
        while position() < 1 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let in_time = left_ms() >= 500;
        while left_ms() > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        proposer.propose(Command::Seal).await.unwrap();
        in_time
    };
    clock.observe(Millis(hour.end().0 - 1_000));
    clock.release();
    let in_time = tokio::select! {
        in_time = sealed => in_time,
        () = reading.read() => unreachable!(),
    };
    let seal = proposer.store().seal(hour).unwrap().unwrap().seal;
    let statement = seal.completeness.into_iter().find(|statement| statement.stream == stream).unwrap();
    in_time.then_some(statement)
}

/// Nothing comes for less than the second after which an idle stream's end is looked at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_unread_before_an_hour_ends_is_in_its_seal() {
    let server = NatsServer::start();
    for attempt in 0..10 {
        if let Some(statement) = sealed_with(&server, &format!("S{attempt}")).await {
            assert!(statement.adds_up(), "{statement:?}");
            let counted = (statement.last_sequence, statement.received, statement.missing);
            assert_eq!(counted, (4, 1, 3), "{statement:?}");
            return;
        }
    }
    panic!("this machine is too slow to read a message within half a second");
}

#[test]
fn the_end_is_looked_at_in_quick_succession_before_the_hour_is_over() {
    for (left_ms, wait_ms) in [
        (i64::MAX, 1_000),
        (3_600_000, 1_000),
        (2_000, 1_000),
        (1_700, 700),
        (1_001, 100),
        (1_000, 100),
        (1, 100),
        (0, 1_000),
        (-5_000, 1_000),
    ] {
        assert_eq!(patience(left_ms), Duration::from_millis(wait_ms), "{left_ms}");
    }
}
