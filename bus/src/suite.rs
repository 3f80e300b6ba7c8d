//! What every bus must do; run against each implementation.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;

use super::*;

pub(super) mod queue;

const SOON: Duration = Duration::from_secs(5);
const DAY: Duration = Duration::from_secs(86_400);

/// A stream specification with one subject.
pub(super) fn spec(name: &str, subject: &str) -> StreamSpec {
    StreamSpec {
        name: name.to_owned(),
        subjects: vec![subject.to_owned()],
        max_age: 7 * DAY,
        replicas: 1,
        dedup_window: Duration::from_secs(120),
        max_message_bytes: None,
    }
}

/// A plain message.
pub(super) fn message(subject: &str, payload: &str) -> Outgoing {
    Outgoing { subject: subject.to_owned(), payload: Bytes::from(payload.to_owned()), ..Outgoing::default() }
}

/// Publishes `count` messages with their numbers, from `first`, as payload.
pub(super) async fn publish_numbers(bus: &dyn Bus, subject: &str, first: u64, count: u64) {
    let messages = futures::stream::iter(first..first + count).map(|n| message(subject, &n.to_string()));
    let acks: Vec<_> = bus.publish_many(messages.boxed(), 512).collect().await;
    assert_eq!(acks.len() as u64, count);
    for ack in acks {
        assert!(!ack.unwrap().duplicate);
    }
}

/// Reads until there were `count` deliveries, which must have rising sequences.
pub(super) async fn read(subscription: &mut dyn Subscription, count: usize) -> Vec<Delivery> {
    let mut all: Vec<Delivery> = Vec::new();
    while all.len() < count {
        let batch = subscription.next_batch(1_000.min(count - all.len()), SOON).await.unwrap();
        assert!(!batch.is_empty(), "only {} of {count} deliveries came", all.len());
        all.extend(batch);
    }
    assert!(all.is_sorted_by(|a, b| a.sequence < b.sequence));
    all
}

pub(super) fn handles(deliveries: &[Delivery]) -> Vec<AckHandle> {
    deliveries.iter().map(|delivery| delivery.ack.clone()).collect()
}

/// Runs every check on an empty bus.
pub(super) async fn run(bus: Arc<dyn Bus>) {
    names_and_absences(&*bus).await;
    order_and_positions(&*bus).await;
    stored_messages(&*bus).await;
    duplicates(&*bus).await;
    chained_ids(&*bus).await;
    waiting(&bus).await;
    one_holder(&*bus).await;
    stream_settings(&*bus).await;
    refusals(&*bus).await;
    queue::run(&bus).await;
}

async fn names_and_absences(bus: &dyn Bus) {
    let missing = |error: BusError| matches!(error, BusError::StreamNotFound { .. }) && !error.is_transient();
    assert!(missing(bus.stream_info("ABSENT").await.unwrap_err()));
    assert!(missing(bus.message("ABSENT", 1).await.unwrap_err()));
    assert!(missing(bus.open("ABSENT", "reader", 1).await.err().unwrap()));
    assert!(missing(bus.acknowledged_upto("ABSENT", "reader").await.unwrap_err()));
    let unheard = bus.publish(message("absent.subject", "x")).await.unwrap_err();
    assert!(matches!(unheard, BusError::NoStreamForSubject { .. }), "{unheard}");
    for subject in ["", "a..b", "a.*", "a b"] {
        let error = bus.publish(message(subject, "x")).await.unwrap_err();
        assert!(matches!(error, BusError::InvalidSubject { .. }), "{error}");
    }
    for name in ["", "a.b", "a b", "a/b", ">"] {
        let error = bus.ensure_stream(&spec(name, "names")).await.unwrap_err();
        assert!(matches!(error, BusError::InvalidName { .. }), "{error}");
    }
}

async fn order_and_positions(bus: &dyn Bus) {
    bus.ensure_stream(&spec("ORDER", "order.in")).await.unwrap();
    let empty = bus.stream_info("ORDER").await.unwrap();
    assert_eq!((empty.first_sequence, empty.last_sequence, empty.messages), (1, 0, 0));
    publish_numbers(bus, "order.in", 1, 5_000).await;
    let info = bus.stream_info("ORDER").await.unwrap();
    assert_eq!((info.first_sequence, info.last_sequence, info.messages), (1, 5_000, 5_000));
    assert_eq!(info.created_ms, empty.created_ms);

    let mut subscription = bus.open("ORDER", "reader", 1).await.unwrap();
    let acker = subscription.acker();
    let all = read(&mut *subscription, 5_000).await;
    for (at, delivery) in all.iter().enumerate() {
        assert_eq!(delivery.sequence, at as u64 + 1);
        assert_eq!(delivery.payload, Bytes::from((at + 1).to_string()));
        assert_eq!(&*delivery.subject, "order.in");
        assert_eq!(delivery.ack.sequence(), delivery.sequence);
    }
    let floor = bus.acknowledged_upto("ORDER", "nobody").await.unwrap();
    assert_eq!(floor, None);
    for part in [&all[..2_000], &[], &all[2_000..]] {
        acker.ack(&handles(part)).await.unwrap();
    }
    assert_eq!(bus.acknowledged_upto("ORDER", "reader").await.unwrap(), Some(5_000));
    publish_numbers(bus, "order.in", 5_001, 10).await;
    let more = read(&mut *subscription, 10).await;
    assert_eq!(more[0].sequence, 5_001);

    // The position is the reader's affair: acknowledged or not, the consumer begins where it is told.
    for start in [1, 4_001, 5_010] {
        let mut again = bus.open("ORDER", "reader", start).await.unwrap();
        let floor = bus.acknowledged_upto("ORDER", "reader").await.unwrap();
        assert!(floor <= Some(start - 1), "{floor:?} is beyond what the reader has");
        let count = (5_010 - start + 1) as usize;
        let deliveries = read(&mut *again, count).await;
        assert_eq!((deliveries[0].sequence, deliveries[count - 1].sequence), (start, 5_010));
        assert!(again.next_batch(10, Duration::from_millis(50)).await.unwrap().is_empty());
    }
    let mut limited = bus.open("ORDER", "reader", 1).await.unwrap();
    let batch = limited.next_batch(7, SOON).await.unwrap();
    assert!(!batch.is_empty() && batch.len() <= 7);
}

async fn stored_messages(bus: &dyn Bus) {
    bus.ensure_stream(&spec("STORED", "stored.>")).await.unwrap();
    let headers = vec![
        ("Cdr-Reason".to_owned(), "to is missing: é".to_owned()),
        ("Cdr-Sequence".to_owned(), "17".to_owned()),
    ];
    let payload = Bytes::from((0..=255).cycle().take(70_000).collect::<Vec<u8>>());
    let sent = Outgoing { headers: headers.clone(), payload: payload.clone(), ..message("stored.a.b", "") };
    let ack = bus.publish(sent).await.unwrap();
    assert_eq!((ack.stream.as_str(), ack.sequence, ack.duplicate), ("STORED", 1, false));
    let empty = bus.publish(message("stored.c", "")).await.unwrap();
    assert_eq!(empty.sequence, 2);
    let stored = bus.message("STORED", 1).await.unwrap().unwrap();
    assert_eq!(stored, StoredMessage { sequence: 1, subject: "stored.a.b".to_owned(), payload, headers });
    let stored = bus.message("STORED", 2).await.unwrap().unwrap();
    assert_eq!((stored.subject.as_str(), stored.payload.len(), stored.headers.len()), ("stored.c", 0, 0));
    for absent in [0, 3, u64::MAX / 2] {
        assert_eq!(bus.message("STORED", absent).await.unwrap(), None);
    }
    let mut subscription = bus.open("STORED", "reader", 1).await.unwrap();
    let subjects: Vec<_> =
        read(&mut *subscription, 2).await.into_iter().map(|delivery| delivery.subject).collect();
    assert_eq!((&*subjects[0], &*subjects[1]), ("stored.a.b", "stored.c"));
}

async fn duplicates(bus: &dyn Bus) {
    bus.ensure_stream(&spec("DEDUP", "dedup")).await.unwrap();
    let with_id = |id: &str| Outgoing { message_id: Some(id.to_owned()), ..message("dedup", id) };
    let first = bus.publish(with_id("a")).await.unwrap();
    bus.publish(with_id("b")).await.unwrap();
    let again = bus.publish(with_id("a")).await.unwrap();
    assert_eq!((again.sequence, again.duplicate, first.duplicate), (first.sequence, true, false));
    assert_eq!(bus.stream_info("DEDUP").await.unwrap().last_sequence, 2);
    let stored = bus.message("DEDUP", 1).await.unwrap().unwrap();
    assert_eq!(stored.headers, vec![(MESSAGE_ID_HEADER.to_owned(), "a".to_owned())]);
}

async fn chained_ids(bus: &dyn Bus) {
    bus.ensure_stream(&spec("CHAIN", "chain")).await.unwrap();
    let link = |id: &str, behind: Option<&str>| Outgoing {
        message_id: Some(id.to_owned()),
        behind_id: behind.map(str::to_owned),
        ..message("chain", id)
    };
    bus.publish(link("a", None)).await.unwrap();
    bus.publish(link("b", Some("a"))).await.unwrap();
    let messages =
        vec![link("d", Some("c")), link("e", Some("d")), link("b", Some("a")), link("c", Some("b"))];
    let results: Vec<_> = bus.publish_many(futures::stream::iter(messages).boxed(), 4).collect().await;
    assert!(matches!(results[0], Err(BusError::WrongLastId { .. })), "{results:?}");
    assert!(matches!(results[1], Err(BusError::WrongLastId { .. })), "{results:?}");
    assert!(results[2].as_ref().unwrap().duplicate, "a message that is there is not out of place");
    assert_eq!(results[3].as_ref().unwrap().sequence, 3);
}

async fn waiting(bus: &Arc<dyn Bus>) {
    bus.ensure_stream(&spec("WAIT", "wait")).await.unwrap();
    let mut subscription = bus.open("WAIT", "reader", 1).await.unwrap();
    let before = Instant::now();
    assert!(subscription.next_batch(10, Duration::from_millis(200)).await.unwrap().is_empty());
    assert!(before.elapsed() >= Duration::from_millis(190));
    let publisher = Arc::clone(bus);
    let publishing = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        publisher.publish(message("wait", "1")).await.unwrap();
        Instant::now()
    });
    let batch = subscription.next_batch(10, Duration::from_secs(20)).await.unwrap();
    let (arrived, published) = (Instant::now(), publishing.await.unwrap());
    assert_eq!(batch.len(), 1);
    assert!(arrived.saturating_duration_since(published) < Duration::from_secs(2));
    // An await that is given up loses nothing.
    let given_up = tokio::time::timeout(Duration::from_millis(20), subscription.next_batch(10, SOON)).await;
    assert!(given_up.is_err());
    publish_numbers(&**bus, "wait", 2, 3).await;
    assert_eq!(read(&mut *subscription, 3).await[0].sequence, 2);
}

async fn one_holder(bus: &dyn Bus) {
    bus.ensure_stream(&spec("HOLDER", "holder")).await.unwrap();
    publish_numbers(bus, "holder", 1, 10).await;
    let mut old = bus.open("HOLDER", "reader", 1).await.unwrap();
    let old_acker = old.acker();
    let taken = read(&mut *old, 10).await;
    let mut new = bus.open("HOLDER", "reader", 6).await.unwrap();
    let lost = old.next_batch(10, SOON).await.unwrap_err();
    assert!(matches!(lost, BusError::ConsumerLost { .. }) && lost.is_transient(), "{lost}");
    let unconfirmed = old_acker.ack(&handles(&taken)).await.unwrap_err();
    assert!(matches!(unconfirmed, BusError::ConsumerLost { .. }), "{unconfirmed}");
    let deliveries = read(&mut *new, 5).await;
    new.acker().ack(&handles(&deliveries)).await.unwrap();
    // Another consumer has its own position.
    let mut other = bus.open("HOLDER", "other", 1).await.unwrap();
    assert_eq!(read(&mut *other, 10).await.len(), 10);
}

async fn stream_settings(bus: &dyn Bus) {
    let wanted = spec("SETTINGS", "settings.a");
    bus.ensure_stream(&wanted).await.unwrap();
    bus.publish(message("settings.a", "1")).await.unwrap();
    let before = bus.stream_info("SETTINGS").await.unwrap();
    bus.ensure_stream(&wanted).await.unwrap();
    bus.ensure_stream(&StreamSpec { max_age: DAY, ..wanted.clone() }).await.unwrap();
    bus.ensure_stream(&spec("SETTINGS", "settings.b")).await.unwrap();
    for subject in ["settings.a", "settings.b"] {
        bus.publish(message(subject, "2")).await.unwrap();
    }
    let after = bus.stream_info("SETTINGS").await.unwrap();
    assert_eq!((after.created_ms, after.last_sequence), (before.created_ms, 3));
    for max_age in [8 * DAY, Duration::ZERO] {
        let error = bus.ensure_stream(&StreamSpec { max_age, ..wanted.clone() }).await.unwrap_err();
        assert!(matches!(error, BusError::IncompatibleStream { .. }) && !error.is_transient(), "{error}");
    }
    assert_eq!(bus.stream_of("settings.b").await.unwrap().as_deref(), Some("SETTINGS"));
    assert_eq!(bus.stream_of("settings.c").await.unwrap(), None);
    bus.ensure_stream(&spec("WIDE", "wide.>")).await.unwrap();
    assert_eq!(bus.stream_of("wide.a.b").await.unwrap().as_deref(), Some("WIDE"));
    let error = bus.stream_of("wide..b").await.unwrap_err();
    assert!(matches!(error, BusError::InvalidSubject { .. }), "{error}");
    let error = bus.ensure_stream(&spec("OVERLAP", "settings.>")).await.unwrap_err();
    assert!(matches!(error, BusError::IncompatibleStream { .. }), "{error}");
}

async fn refusals(bus: &dyn Bus) {
    let limited = StreamSpec { max_message_bytes: Some(1_000), ..spec("LIMITED", "limited") };
    bus.ensure_stream(&limited).await.unwrap();
    bus.publish(message("limited", &"x".repeat(900))).await.unwrap();
    let error = bus.publish(message("limited", &"x".repeat(1_001))).await.unwrap_err();
    assert!(matches!(error, BusError::TooLarge { .. }) && !error.is_transient(), "{error}");
    let headers = vec![("Bad:Name".to_owned(), "x".to_owned())];
    let error = bus.publish(Outgoing { headers, ..message("limited", "x") }).await.unwrap_err();
    assert!(matches!(error, BusError::InvalidHeader { .. }), "{error}");
    assert_eq!(bus.stream_info("LIMITED").await.unwrap().last_sequence, 1);
}
