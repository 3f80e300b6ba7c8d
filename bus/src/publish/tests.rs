#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::future::BoxFuture;
use futures::stream::BoxStream;

use super::*;
use crate::{
    LocalBackend, LocalOptions, PublishAck, StoredMessage, StreamInfo, StreamSpec, Subscription, WorkQueue,
};

async fn local(folder: &std::path::Path, max_message_bytes: Option<u32>) -> LocalBackend {
    let bus = LocalBackend::open(folder, LocalOptions::default()).unwrap();
    let spec = StreamSpec {
        name: "SMS".to_owned(),
        subjects: vec!["sms.>".to_owned()],
        max_age: Duration::ZERO,
        replicas: 1,
        dedup_window: Duration::from_secs(60),
        max_message_bytes,
    };
    bus.ensure_stream(&spec).await.unwrap();
    bus
}

async fn stored(bus: &LocalBackend) -> Vec<String> {
    let info = bus.stream_info("SMS").await.unwrap();
    let mut all = Vec::new();
    for sequence in info.first_sequence..=info.last_sequence {
        let message = bus.message("SMS", sequence).await.unwrap().unwrap();
        all.push(String::from_utf8(message.payload.to_vec()).unwrap());
    }
    all
}

fn options() -> PublishOptions {
    PublishOptions { in_flight: 64, ..PublishOptions::default() }
}

#[tokio::test]
async fn every_line_is_published_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let bus = local(folder.path(), None).await;
    let numbers: Vec<_> = (1..=500).map(|n| n.to_string()).collect();
    let text = format!("{}\r\n\n\nsame\nsame\nlast without an end", numbers.join("\n"));
    let mut steps = Vec::new();
    let report = publish_file(&bus, text.as_bytes(), &options(), |count| steps.push(count)).await.unwrap();
    let expected: Vec<_> = text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    assert_eq!(stored(&bus).await, expected);
    assert_eq!(report.published, expected.len() as u64);
    assert_eq!(report.bytes, expected.iter().map(|line| line.len() as u64).sum::<u64>());
    assert!(steps.is_sorted() && steps.last() == Some(&report.published) && steps.len() > 5);
    assert!(report.rate() > 0.0);
    // Another run of the same file is not taken for a repetition.
    publish_file(&bus, text.as_bytes(), &options(), |_| ()).await.unwrap();
    assert_eq!(stored(&bus).await.len(), expected.len() * 2);
}

#[tokio::test]
async fn a_refused_line_ends_it_and_the_rest_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let bus = local(folder.path(), Some(100)).await;
    let mut lines: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    lines[100] = "x".repeat(101);
    let error = publish_file(&bus, lines.join("\n").as_bytes(), &options(), |_| ()).await.unwrap_err();
    let PublishError::Bus { line, published, unpublished, source } = error else { panic!("{error}") };
    assert_eq!((line, published, unpublished), (101, 100, 200));
    assert!(matches!(source, BusError::TooLarge { .. }));
    assert_eq!(stored(&bus).await, lines[..100]);
}

#[tokio::test]
async fn a_line_that_is_no_receipt_ends_it_after_those_before() {
    let folder = tempfile::tempdir().unwrap();
    let bus = local(folder.path(), None).await;
    let text = format!("1\n2\n{}\n4\n", "x".repeat(50));
    let options = PublishOptions { max_line_bytes: 49, ..options() };
    let error = publish_file(&bus, text.as_bytes(), &options, |_| ()).await.unwrap_err();
    assert!(matches!(error, PublishError::LongLine { line: 3, max_bytes: 49 }), "{error}");
    assert_eq!(stored(&bus).await, ["1", "2"]);
}

#[tokio::test]
async fn patience_ends_when_nothing_takes_the_subject() {
    let folder = tempfile::tempdir().unwrap();
    let bus = local(folder.path(), None).await;
    let options =
        PublishOptions { subject: "other".to_owned(), patience: Duration::from_millis(200), ..options() };
    let error = publish_file(&bus, "1\n2\n3\n".as_bytes(), &options, |_| ()).await.unwrap_err();
    assert!(matches!(error, PublishError::Bus { line: 1, published: 0, unpublished: 3, .. }), "{error}");
}

/// A bus that loses messages, or their acknowledgements, by a fixed pattern.
struct Flaky {
    bus: LocalBackend,
    sent: std::sync::atomic::AtomicU64,
}

impl Bus for Flaky {
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
        self.bus.open(stream, durable, start_sequence)
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
        Box::pin(async move {
            let count = self.sent.fetch_add(1, Ordering::Relaxed);
            let reason = "lost".to_owned();
            let lost =
                Err(BusError::Unavailable { operation: "publish", target: message.subject.clone(), reason });
            match count % 101 {
                37 => lost,
                73 => self.bus.publish(message).await.and(lost),
                _ => self.bus.publish(message).await,
            }
        })
    }

    fn publish_many<'a>(
        &'a self,
        messages: BoxStream<'a, Outgoing>,
        _in_flight: usize,
    ) -> BoxStream<'a, Result<PublishAck, BusError>> {
        messages.then(|message| self.publish(message)).boxed()
    }

    fn max_payload_bytes(&self) -> usize {
        self.bus.max_payload_bytes()
    }

    fn ensure_stream<'a>(&'a self, spec: &'a StreamSpec) -> BoxFuture<'a, Result<(), BusError>> {
        self.bus.ensure_stream(spec)
    }
}

#[tokio::test]
async fn lost_messages_and_lost_acknowledgements_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let bus = Flaky { bus: local(folder.path(), None).await, sent: 0.into() };
    let lines: Vec<String> = (0..500).map(|n| n.to_string()).collect();
    let report = publish_file(&bus, lines.join("\n").as_bytes(), &options(), |_| ()).await.unwrap();
    assert_eq!(report.published, 500);
    assert_eq!(stored(&bus.bus).await, lines);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_publishers_in_between_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let bus = local(folder.path(), None).await;
    let stop = Arc::new(AtomicBool::new(false));
    let other = tokio::spawn({
        let (bus, stop) = (bus.clone(), Arc::clone(&stop));
        async move {
            while !stop.load(Ordering::Relaxed) {
                let subject = "sms.other".to_owned();
                bus.publish(Outgoing { subject, payload: Bytes::from("other"), ..Outgoing::default() })
                    .await
                    .unwrap();
            }
        }
    });
    let lines: Vec<String> = (0..1_000).map(|n| n.to_string()).collect();
    publish_file(&bus, lines.join("\n").as_bytes(), &options(), |_| ()).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    other.await.unwrap();
    let mut all = stored(&bus).await;
    assert!(all.iter().any(|line| line == "other"));
    all.retain(|line| line != "other");
    assert_eq!(all, lines);
}
