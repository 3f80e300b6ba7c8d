//! What every work queue must do.

use std::collections::BTreeSet;

use super::*;

/// Time after which an unacknowledged delivery comes again.
pub(crate) const ACK_WAIT: Duration = Duration::from_secs(1);

pub(super) async fn run(bus: &Arc<dyn Bus>) {
    // Each has a stream of its own, and most of them wait.
    futures::join!(
        refusals(&**bus),
        until_acknowledged(&**bus),
        put_off(&**bus),
        filtered(&**bus),
        shared(&**bus),
        waiting(bus),
    );
}

pub(crate) async fn attach(bus: &dyn Bus, stream: &str) -> Box<dyn WorkQueue> {
    bus.attach(stream, "worker", None, ACK_WAIT).await.unwrap()
}

/// The deliveries that come within `time`.
pub(crate) async fn collect(queue: &mut dyn WorkQueue, time: Duration) -> Vec<Delivery> {
    let until = Instant::now() + time;
    let mut all = Vec::new();
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        all.extend(queue.next_batch(100, left).await.unwrap());
    }
    all
}

/// Takes deliveries until there were `count`.
pub(crate) async fn take(queue: &mut dyn WorkQueue, count: usize) -> Vec<Delivery> {
    let mut all = Vec::new();
    while all.len() < count {
        let batch = queue.next_batch(count - all.len(), SOON).await.unwrap();
        assert!(!batch.is_empty(), "only {} of {count} deliveries came", all.len());
        all.extend(batch);
    }
    all
}

pub(crate) fn sequences(deliveries: &[Delivery]) -> Vec<u64> {
    let distinct: BTreeSet<u64> = deliveries.iter().map(|delivery| delivery.sequence).collect();
    distinct.into_iter().collect()
}

async fn refusals(bus: &dyn Bus) {
    let error = bus.attach("ABSENT", "worker", None, ACK_WAIT).await.err().unwrap();
    assert!(matches!(error, BusError::StreamNotFound { .. }), "{error}");
    bus.ensure_stream(&spec("WORKREF", "workref.>")).await.unwrap();
    let error = bus.attach("WORKREF", "a.b", None, ACK_WAIT).await.err().unwrap();
    assert!(matches!(error, BusError::InvalidName { .. }), "{error}");
    let error = bus.attach("WORKREF", "worker", Some("a..b"), ACK_WAIT).await.err().unwrap();
    assert!(matches!(error, BusError::InvalidSubject { .. }), "{error}");
    bus.attach("WORKREF", "worker", Some("workref.a"), ACK_WAIT).await.unwrap();
    for other in [None, Some("workref.b"), Some("workref.>")] {
        let error = bus.attach("WORKREF", "worker", other, ACK_WAIT).await.err().unwrap();
        assert!(matches!(error, BusError::IncompatibleConsumer { .. }) && !error.is_transient(), "{error}");
    }
}

async fn until_acknowledged(bus: &dyn Bus) {
    bus.ensure_stream(&spec("WORK", "work")).await.unwrap();
    publish_numbers(bus, "work", 1, 10).await;
    let mut queue = attach(bus, "WORK").await;
    assert!(queue.next_batch(3, SOON).await.unwrap().len() <= 3);
    drop(queue);
    let mut queue = attach(bus, "WORK").await;
    let mut first = take(&mut *queue, 7).await;
    // What the first holder took and did not acknowledge comes again, sooner or later.
    while sequences(&first).len() < 10 {
        first.extend(take(&mut *queue, 1).await);
    }
    for delivery in &first {
        assert_eq!(delivery.payload, delivery.sequence.to_string());
        assert_eq!(&*delivery.subject, "work");
        assert!(delivery.stored_ms > 1_700_000_000_000);
    }
    for delivery in first.iter().filter(|delivery| ![3, 8].contains(&delivery.sequence)) {
        queue.ack(delivery).await.unwrap();
    }
    for _ in 0..2 {
        let again = collect(&mut *queue, ACK_WAIT * 2).await;
        assert_eq!(sequences(&again), [3, 8], "again and again until they are acknowledged");
    }
    // Attached anew it goes on where the acknowledgements left off, not at the beginning.
    drop(queue);
    publish_numbers(bus, "work", 11, 2).await;
    let mut queue = attach(bus, "WORK").await;
    let rest = collect(&mut *queue, ACK_WAIT * 2).await;
    assert_eq!(sequences(&rest), [3, 8, 11, 12]);
    for delivery in &rest {
        queue.ack(delivery).await.unwrap();
    }
    queue.ack(&rest[0]).await.unwrap();
    assert!(collect(&mut *queue, ACK_WAIT * 2).await.is_empty());
}

async fn put_off(bus: &dyn Bus) {
    bus.ensure_stream(&spec("LATER", "later")).await.unwrap();
    publish_numbers(bus, "later", 1, 4).await;
    let mut queue = attach(bus, "LATER").await;
    let taken = take(&mut *queue, 4).await;
    let at = |sequence: u64| taken.iter().find(|delivery| delivery.sequence == sequence).unwrap();
    let began = Instant::now();
    queue.retry_later(at(1), Duration::from_millis(50)).await.unwrap();
    queue.retry_later(at(2), ACK_WAIT * 3).await.unwrap();
    queue.retry_later(at(3), Duration::from_secs(3_600)).await.unwrap();
    queue.ack(at(4)).await.unwrap();
    let soon = take(&mut *queue, 1).await;
    assert!(soon[0].sequence == 1 && began.elapsed() < ACK_WAIT, "{:?} {soon:?}", began.elapsed());
    queue.ack(&soon[0]).await.unwrap();
    let later = take(&mut *queue, 1).await;
    let passed = began.elapsed();
    assert!(
        later[0].sequence == 2 && passed >= ACK_WAIT * 3 && passed < ACK_WAIT * 5,
        "{passed:?} {later:?}"
    );
    queue.ack(&later[0]).await.unwrap();
    // The one that is put off for an hour keeps nothing else from being delivered.
    publish_numbers(bus, "later", 5, 1).await;
    let rest = take(&mut *queue, 1).await;
    queue.ack(&rest[0]).await.unwrap();
    assert_eq!(rest[0].sequence, 5);
    assert!(collect(&mut *queue, ACK_WAIT * 2).await.is_empty());
}

async fn filtered(bus: &dyn Bus) {
    bus.ensure_stream(&spec("FILTER", "filter.>")).await.unwrap();
    for number in 1..=9u64 {
        let subject = ["filter.a.x", "filter.b.x", "filter.c"][(number % 3) as usize];
        bus.publish(message(subject, &number.to_string())).await.unwrap();
    }
    for (durable, filter, expected) in [
        ("only-a", Some("filter.a.x"), vec![3, 6, 9]),
        ("both", Some("filter.*.x"), vec![1, 3, 4, 6, 7, 9]),
        ("all", None, (1..=9).collect()),
        ("none", Some("filter.d"), vec![]),
    ] {
        let mut queue = bus.attach("FILTER", durable, filter, Duration::from_secs(30)).await.unwrap();
        let found = collect(&mut *queue, Duration::from_millis(500)).await;
        assert_eq!(sequences(&found), expected, "{durable}");
    }
}

async fn shared(bus: &dyn Bus) {
    bus.ensure_stream(&spec("SHARED", "shared")).await.unwrap();
    publish_numbers(bus, "shared", 1, 500).await;
    let long = Duration::from_secs(30);
    let mut holders = Vec::new();
    for _ in 0..2 {
        holders.push(bus.attach("SHARED", "worker", None, long).await.unwrap());
    }
    let mut taken = Vec::new();
    for turn in 0..10 {
        taken.extend(take(&mut *holders[turn % 2], 50).await);
    }
    assert_eq!((sequences(&taken).len(), taken.len()), (500, 500), "each delivery goes to one holder");
    // Any holder may acknowledge, and many at once.
    let acks = taken.iter().map(|delivery| holders[0].ack(delivery));
    for acked in futures::future::join_all(acks).await {
        acked.unwrap();
    }
    let mut queue = attach(bus, "SHARED").await;
    assert!(collect(&mut *queue, ACK_WAIT * 2).await.is_empty());
}

async fn waiting(bus: &Arc<dyn Bus>) {
    bus.ensure_stream(&spec("WORKWAIT", "workwait")).await.unwrap();
    let mut queue = attach(&**bus, "WORKWAIT").await;
    let before = Instant::now();
    assert!(queue.next_batch(10, Duration::from_millis(200)).await.unwrap().is_empty());
    assert!(before.elapsed() >= Duration::from_millis(190));
    let publisher = Arc::clone(bus);
    let publishing = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        publisher.publish(message("workwait", "1")).await.unwrap();
        Instant::now()
    });
    let batch = queue.next_batch(10, Duration::from_secs(20)).await.unwrap();
    let (arrived, published) = (Instant::now(), publishing.await.unwrap());
    assert_eq!(sequences(&batch), [1]);
    assert!(arrived.saturating_duration_since(published) < Duration::from_secs(2));
    queue.ack(&batch[0]).await.unwrap();
    // An await that is given up loses nothing.
    let given_up = tokio::time::timeout(Duration::from_millis(20), queue.next_batch(10, SOON)).await;
    assert!(given_up.is_err());
    publish_numbers(&**bus, "workwait", 2, 3).await;
    assert_eq!(sequences(&take(&mut *queue, 3).await), [2, 3, 4]);
}
