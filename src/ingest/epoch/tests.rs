#![allow(clippy::unwrap_used)]

use super::*;
use crate::ingest::tests::append;
use cdr_bus::{LocalBackend, LocalOptions, Outgoing, PublishAck, StoredMessage, StreamSpec, WorkQueue};
use cdr_core::memory::MemoryLedger;
use cdr_core::row::SystemKind;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn spec() -> StreamSpec {
    StreamSpec {
        name: "SMS".to_owned(),
        subjects: vec!["sms".to_owned()],
        max_age: Duration::from_secs(86_400),
        replicas: 1,
        dedup_window: Duration::ZERO,
        max_message_bytes: None,
    }
}

/// A bus whose stream is made anew just before its consumer is opened, as often as it is told to.
struct Recreating {
    bus: LocalBackend,
    armed: AtomicBool,
}

impl Recreating {
    async fn start(folder: &std::path::Path) -> Self {
        let bus = LocalBackend::open(folder, LocalOptions::default()).unwrap();
        bus.ensure_stream(&spec()).await.unwrap();
        let recreating = Self { bus, armed: AtomicBool::new(false) };
        recreating.fill(5).await;
        recreating
    }

    async fn fill(&self, count: u64) {
        for number in 0..count {
            let payload = number.to_string().into();
            self.publish(Outgoing { subject: "sms".to_owned(), payload, ..Outgoing::default() })
                .await
                .unwrap();
        }
    }
}

impl Bus for Recreating {
    fn stream_info<'a>(&'a self, stream: &'a str) -> BoxFuture<'a, Result<StreamInfo, BusError>> {
        self.bus.stream_info(stream)
    }

    fn stream_of<'a>(&'a self, subject: &'a str) -> BoxFuture<'a, Result<Option<String>, BusError>> {
        self.bus.stream_of(subject)
    }

    fn message<'a>(
        &'a self,
        stream: &'a str,
        sequence: u64,
    ) -> BoxFuture<'a, Result<Option<StoredMessage>, BusError>> {
        self.bus.message(stream, sequence)
    }

    fn acknowledged_upto<'a>(
        &'a self,
        stream: &'a str,
        durable: &'a str,
    ) -> BoxFuture<'a, Result<Option<u64>, BusError>> {
        self.bus.acknowledged_upto(stream, durable)
    }

    fn open<'a>(
        &'a self,
        stream: &'a str,
        durable: &'a str,
        start_sequence: u64,
    ) -> BoxFuture<'a, Result<Box<dyn Subscription>, BusError>> {
        Box::pin(async move {
            if self.armed.swap(false, Ordering::Relaxed) {
                self.bus.delete_stream(stream)?;
                self.bus.ensure_stream(&spec()).await?;
                self.fill(20).await;
            }
            self.bus.open(stream, durable, start_sequence).await
        })
    }

    fn attach<'a>(
        &'a self,
        stream: &'a str,
        durable: &'a str,
        filter_subject: Option<&'a str>,
        ack_wait: Duration,
    ) -> BoxFuture<'a, Result<Box<dyn WorkQueue>, BusError>> {
        self.bus.attach(stream, durable, filter_subject, ack_wait)
    }

    fn publish(&self, message: Outgoing) -> BoxFuture<'_, Result<PublishAck, BusError>> {
        self.bus.publish(message)
    }

    fn publish_many<'a>(
        &'a self,
        messages: BoxStream<'a, Outgoing>,
        in_flight: usize,
    ) -> BoxStream<'a, Result<PublishAck, BusError>> {
        self.bus.publish_many(messages, in_flight)
    }

    fn max_payload_bytes(&self) -> usize {
        self.bus.max_payload_bytes()
    }

    fn ensure_stream<'a>(&'a self, spec: &'a StreamSpec) -> BoxFuture<'a, Result<(), BusError>> {
        self.bus.ensure_stream(spec)
    }
}

/// Connects; records epochs as long as that is asked for, and tells which were losses.
async fn connected(bus: &Recreating, ledger: &mut MemoryLedger) -> (String, u64, u64, Vec<bool>) {
    let mut losses = Vec::new();
    loop {
        match connect(bus, "SMS", "reader", &ledger.state, None).await.unwrap() {
            Connection::Beyond(beyond) => panic!("{beyond:?}"),
            Connection::Open { record, is_loss } => {
                losses.push(is_loss);
                append(ledger, SystemKind::Stream, &cdr_core::canonical::to_jcs(&record).unwrap());
            }
            Connection::Reading { epoch, position, mut subscription, .. } => {
                let batch = subscription.next_batch(1, Duration::from_secs(5)).await.unwrap();
                return (epoch, position, batch[0].sequence, losses);
            }
        }
    }
}

#[tokio::test]
async fn a_stream_made_anew_while_it_is_connected_to_is_a_new_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let bus = Recreating::start(folder.path()).await;
    let mut ledger = crate::ingest::tests::ledger("UTC");
    assert_eq!(connected(&bus, &mut ledger).await, ("SMS".to_owned(), 0, 1, vec![false]));
    let at = ledger.state.stream("SMS").unwrap();
    ledger.state.streams[at].position = 4;
    assert_eq!(connected(&bus, &mut ledger).await, ("SMS".to_owned(), 4, 5, vec![]));
    // Without a second look the consumer would begin at sequence 5 of another stream.
    bus.armed.store(true, Ordering::Relaxed);
    assert_eq!(connected(&bus, &mut ledger).await, ("SMS#2".to_owned(), 0, 1, vec![true]));
}

#[tokio::test]
async fn a_ledger_behind_the_floor_of_a_local_bus_has_lost_records() {
    let folder = tempfile::tempdir().unwrap();
    let bus = Recreating::start(folder.path()).await;
    let mut ledger = crate::ingest::tests::ledger("UTC");
    connected(&bus, &mut ledger).await;
    let mut reading = bus.open("SMS", "reader", 1).await.unwrap();
    let deliveries = reading.next_batch(3, Duration::from_secs(5)).await.unwrap();
    let handles: Vec<_> = deliveries.into_iter().map(|delivery| delivery.ack).collect();
    reading.acker().ack(&handles).await.unwrap();

    // The ledger is of a copy from before these three.
    let Connection::Beyond(beyond) = connect(&bus, "SMS", "reader", &ledger.state, None).await.unwrap()
    else {
        panic!("it is read on")
    };
    assert_eq!(beyond, Beyond { epoch: "SMS".to_owned(), position: 0, acknowledged: 3 });
    let accepted = connect(&bus, "SMS", "reader", &ledger.state, Some(&beyond)).await.unwrap();
    assert!(matches!(accepted, Connection::Reading { position: 0, .. }));
    // What a person accepted is settled: the floor begins anew at the ledger's position.
    assert_eq!(connected(&bus, &mut ledger).await, ("SMS".to_owned(), 0, 1, vec![]));
}
