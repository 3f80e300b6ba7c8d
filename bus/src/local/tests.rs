#![allow(clippy::unwrap_used)]

use std::fs;
use std::time::Duration;

use super::*;
use crate::Delivery;
use crate::suite::{self, handles, message, publish_numbers, queue, read, spec};

const SMALL: LocalOptions = LocalOptions { segment_bytes: 4_096, queue_messages: 64, dedup_ids: 1_000 };

fn segments(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|end| end == "seg")).collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn does_what_every_bus_does() {
    for options in [LocalOptions::default(), SMALL] {
        let folder = tempfile::tempdir().unwrap();
        suite::run(Arc::new(LocalBackend::open(folder.path(), options).unwrap())).await;
    }
}

#[tokio::test]
async fn everything_survives_a_new_start() {
    let folder = tempfile::tempdir().unwrap();
    let bus = LocalBackend::open(folder.path(), SMALL).unwrap();
    bus.ensure_stream(&spec("A", "a")).await.unwrap();
    bus.ensure_stream(&spec("B", "b")).await.unwrap();
    publish_numbers(&bus, "a", 1, 1_000).await;
    let with_id = Outgoing { message_id: Some("id".to_owned()), ..message("a", "1001") };
    bus.publish(with_id.clone()).await.unwrap();
    let before = bus.stream_info("A").await.unwrap();
    drop(bus);

    let bus = LocalBackend::open(folder.path(), SMALL).unwrap();
    assert_eq!(bus.stream_info("A").await.unwrap(), before);
    assert_eq!(bus.stream_info("B").await.unwrap().messages, 0);
    let again = bus.publish(with_id).await.unwrap();
    assert_eq!((again.sequence, again.duplicate), (1_001, true));
    let behind = Outgoing { behind_id: Some("id".to_owned()), ..message("a", "1002") };
    assert_eq!(bus.publish(behind).await.unwrap().sequence, 1_002);
    let mut subscription = bus.open("A", "reader", 1).await.unwrap();
    let all = read(&mut *subscription, 1_002).await;
    assert!(all.iter().all(|delivery| delivery.payload == delivery.sequence.to_string()));
    assert!(segments(&folder.path().join("A")).len() > 5, "several segments were read");
    for sequence in [1, 500, 1_002] {
        assert_eq!(bus.message("A", sequence).await.unwrap().unwrap().sequence, sequence);
    }
}

#[tokio::test]
async fn acknowledgement_floors_survive_a_new_start_and_end_with_their_stream() {
    let folder = tempfile::tempdir().unwrap();
    let floor = |bus: LocalBackend| async move { bus.acknowledged_upto("A", "reader").await };
    {
        let bus = LocalBackend::open(folder.path(), SMALL).unwrap();
        bus.ensure_stream(&spec("A", "a")).await.unwrap();
        publish_numbers(&bus, "a", 1, 10).await;
        assert_eq!(floor(bus.clone()).await.unwrap(), None);
        let mut old = bus.open("A", "reader", 1).await.unwrap();
        let deliveries = read(&mut *old, 10).await;
        old.acker().ack(&handles(&deliveries[..7])).await.unwrap();
        old.acker().ack(&handles(&deliveries[..3])).await.unwrap();
        assert_eq!(floor(bus).await.unwrap(), Some(7), "it never falls");
    }
    let bus = LocalBackend::open(folder.path(), SMALL).unwrap();
    assert_eq!(floor(bus.clone()).await.unwrap(), Some(7));
    // Whoever lost the consumer moves its floor no more.
    let mut lost = bus.open("A", "reader", 1).await.unwrap();
    let deliveries = read(&mut *lost, 10).await;
    drop(bus.open("A", "reader", 4).await.unwrap());
    assert!(lost.acker().ack(&handles(&deliveries)).await.is_err());
    assert_eq!(floor(bus.clone()).await.unwrap(), Some(3));
    bus.delete_stream("A").unwrap();
    bus.ensure_stream(&spec("A", "a")).await.unwrap();
    assert_eq!(floor(bus.clone()).await.unwrap(), None, "another stream");

    drop(bus.open("A", "reader", 4).await.unwrap());
    drop(bus);
    let file = folder.path().join("A/consumer-reader.floor");
    let mut bytes = fs::read(&file).unwrap();
    bytes[16] ^= 1;
    fs::write(&file, bytes).unwrap();
    let error = floor(LocalBackend::open(folder.path(), SMALL).unwrap()).await.unwrap_err();
    assert!(matches!(error, BusError::Damaged { .. }), "{error}");
}

/// Cuts the last file at every length: what is whole stays, the rest goes, and the stream goes on.
#[tokio::test]
async fn a_torn_end_is_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let bus = LocalBackend::open(folder.path(), LocalOptions::default()).unwrap();
    bus.ensure_stream(&spec("A", "a")).await.unwrap();
    let mut ends = vec![segment::HEADER_BYTES];
    let file = segments(&folder.path().join("A")).remove(0);
    for number in 1..=4 {
        publish_numbers(&bus, "a", number, 1).await;
        ends.push(fs::metadata(&file).unwrap().len());
    }
    drop(bus);
    let whole = fs::read(&file).unwrap();
    for length in (segment::HEADER_BYTES as usize..whole.len()).rev() {
        fs::write(&file, &whole[..length]).unwrap();
        let kept = ends.iter().filter(|end| **end <= length as u64).count() as u64 - 1;
        let bus = LocalBackend::open(folder.path(), LocalOptions::default()).unwrap();
        assert_eq!(bus.stream_info("A").await.unwrap().last_sequence, kept, "cut at {length}");
        let ack = bus.publish(message("a", "new")).await.unwrap();
        assert_eq!(ack.sequence, kept + 1);
        let mut subscription = bus.open("A", "reader", 1).await.unwrap();
        assert_eq!(read(&mut *subscription, kept as usize + 1).await.last().unwrap().payload, "new");
    }
}

/// Flips each byte of a closed segment: never a wrong message, always an error that names the file.
#[tokio::test]
async fn a_damaged_byte_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let options = LocalOptions { segment_bytes: 200, ..SMALL };
    let bus = LocalBackend::open(folder.path(), options).unwrap();
    bus.ensure_stream(&StreamSpec { dedup_window: Duration::ZERO, ..spec("A", "a") }).await.unwrap();
    for number in 1..=12 {
        publish_numbers(&bus, "a", number, 1).await;
    }
    drop(bus);
    let file = segments(&folder.path().join("A")).remove(0);
    let whole = fs::read(&file).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&file, &damaged).unwrap();
        let error = match LocalBackend::open(folder.path(), options) {
            Err(error) => error,
            Ok(bus) => {
                let mut subscription = bus.open("A", "reader", 1).await.unwrap();
                let mut read = subscription.next_batch(100, Duration::from_secs(1)).await;
                while read.is_ok() {
                    read = subscription.next_batch(100, Duration::from_millis(10)).await;
                }
                read.unwrap_err()
            }
        };
        assert!(matches!(&error, BusError::Damaged { path, .. } if *path == file), "byte {at}: {error}");
    }
}

#[tokio::test]
async fn old_segments_go_and_leave_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let bus = LocalBackend::open(folder.path(), LocalOptions { segment_bytes: 1_000, ..SMALL }).unwrap();
    let brief = StreamSpec { max_age: Duration::from_millis(1_500), ..spec("A", "a") };
    bus.ensure_stream(&brief).await.unwrap();
    let mut early = bus.open("A", "early", 1).await.unwrap();
    for group in 0..10 {
        publish_numbers(&bus, "a", 1 + group * 10, 10).await;
    }
    assert_eq!(early.next_batch(1, Duration::from_secs(1)).await.unwrap()[0].sequence, 1);
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    for group in 10..13 {
        publish_numbers(&bus, "a", 1 + group * 10, 10).await;
    }
    let info = bus.stream_info("A").await.unwrap();
    assert!(info.first_sequence > 50 && info.last_sequence == 130, "{info:?}");
    assert_eq!(info.messages, 130 - info.first_sequence + 1);
    assert_eq!(bus.message("A", info.first_sequence - 1).await.unwrap(), None);
    assert!(bus.message("A", info.first_sequence).await.unwrap().is_some());
    let mut late = bus.open("A", "late", 1).await.unwrap();
    assert_eq!(read(&mut *late, info.messages as usize).await[0].sequence, info.first_sequence);
    let next = early.next_batch(1, Duration::from_secs(1)).await.unwrap()[0].sequence;
    assert!(next == 2 || next == info.first_sequence, "{next}");
    drop(bus);
    let bus = LocalBackend::open(folder.path(), SMALL).unwrap();
    assert_eq!(bus.stream_info("A").await.unwrap(), info);
}

#[tokio::test]
async fn a_stream_made_anew_is_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let bus = LocalBackend::open(folder.path(), SMALL).unwrap();
    bus.ensure_stream(&spec("A", "a")).await.unwrap();
    publish_numbers(&bus, "a", 1, 10).await;
    let before = bus.stream_info("A").await.unwrap();
    let mut subscription = bus.open("A", "reader", 1).await.unwrap();
    let taken = read(&mut *subscription, 10).await;
    bus.delete_stream("A").unwrap();
    assert!(matches!(bus.delete_stream("A"), Err(BusError::StreamNotFound { .. })));
    bus.ensure_stream(&spec("A", "a")).await.unwrap();
    let after = bus.stream_info("A").await.unwrap();
    assert!(after.created_ms > before.created_ms);
    assert_eq!(after.last_sequence, 0);
    let lost = subscription.next_batch(1, Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(lost, BusError::ConsumerLost { .. }));
    assert!(subscription.acker().ack(&handles(&taken)).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_publishers_are_stored_in_groups() {
    let folder = tempfile::tempdir().unwrap();
    let bus = LocalBackend::open(folder.path(), SMALL).unwrap();
    bus.ensure_stream(&spec("A", "a")).await.unwrap();
    let publishers = (0..20).map(|_| {
        let bus = bus.clone();
        tokio::spawn(async move {
            let mut last = 0;
            for _ in 0..50 {
                let sequence = bus.publish(message("a", "x")).await.unwrap().sequence;
                assert!(sequence > last);
                last = sequence;
            }
        })
    });
    for publisher in publishers.collect::<Vec<_>>() {
        publisher.await.unwrap();
    }
    assert_eq!(bus.stream_info("A").await.unwrap().messages, 1_000);
}

#[test]
fn foreign_settings_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("stray-file"), b"x").unwrap();
    fs::create_dir(folder.path().join("A")).unwrap();
    assert!(LocalBackend::open(folder.path(), SMALL).is_ok(), "a folder without settings is no stream");
    for settings in ["{}", "not json", "{\"formatVersion\":2}"] {
        fs::write(folder.path().join("A/stream.json"), settings).unwrap();
        assert!(matches!(LocalBackend::open(folder.path(), SMALL), Err(BusError::Damaged { .. })));
    }
}

async fn ack_all(queue: &dyn WorkQueue, deliveries: &[Delivery]) {
    for acked in futures::future::join_all(deliveries.iter().map(|delivery| queue.ack(delivery))).await {
        acked.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledgements_survive_a_new_start() {
    let folder = tempfile::tempdir().unwrap();
    let long = Duration::from_secs(3_600);
    let bus = LocalBackend::open(folder.path(), SMALL).unwrap();
    bus.ensure_stream(&spec("A", "a.>")).await.unwrap();
    for number in 1..=300 {
        publish_numbers(&bus, if number % 3 == 0 { "a.other" } else { "a.work" }, number, 1).await;
    }
    let mut queue = bus.attach("A", "worker", Some("a.work"), long).await.unwrap();
    let taken = queue::take(&mut *queue, 150).await;
    let (done, left): (Vec<_>, Vec<_>) =
        taken.into_iter().partition(|delivery| ![1, 2, 77, 100].contains(&delivery.sequence));
    ack_all(&*queue, &done).await;
    queue.retry_later(&left[0], long).await.unwrap();
    drop((queue, bus));

    let bus = LocalBackend::open(folder.path(), SMALL).unwrap();
    let other = bus.attach("A", "worker", None, long).await.err().unwrap();
    assert!(matches!(other, BusError::IncompatibleConsumer { .. }), "{other}");
    let mut queue = bus.attach("A", "worker", Some("a.work"), long).await.unwrap();
    let rest = queue::collect(&mut *queue, Duration::from_millis(300)).await;
    let expected: Vec<u64> =
        (1..=300).filter(|n| n % 3 != 0 && ([1, 2, 77, 100].contains(n) || *n > 225)).collect();
    assert_eq!(queue::sequences(&rest), expected, "what was not acknowledged, at once");
    ack_all(&*queue, &rest).await;
    drop((queue, bus));

    let bus = LocalBackend::open(folder.path(), SMALL).unwrap();
    let mut queue = bus.attach("A", "worker", Some("a.work"), long).await.unwrap();
    assert!(queue.next_batch(10, Duration::from_millis(50)).await.unwrap().is_empty());
    publish_numbers(&bus, "a.work", 301, 1).await;
    assert_eq!(queue::take(&mut *queue, 1).await[0].sequence, 301);
    bus.delete_stream("A").unwrap();
    let lost = queue.next_batch(1, Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(lost, BusError::ConsumerLost { .. }), "{lost}");
    bus.ensure_stream(&spec("A", "a.>")).await.unwrap();
    publish_numbers(&bus, "a.work", 1, 1).await;
    let mut queue = bus.attach("A", "worker", Some("a.work"), long).await.unwrap();
    assert_eq!(queue::take(&mut *queue, 1).await[0].sequence, 1, "another stream, another queue");
}

/// Cuts the file of a queue at every length and flips every byte: an acknowledgement may be lost, never made up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_of_acknowledgements_loses_no_work() {
    let folder = tempfile::tempdir().unwrap();
    let long = Duration::from_secs(3_600);
    let bus = LocalBackend::open(folder.path(), SMALL).unwrap();
    bus.ensure_stream(&spec("A", "a")).await.unwrap();
    publish_numbers(&bus, "a", 1, 8).await;
    let mut queue = bus.attach("A", "worker", None, long).await.unwrap();
    let taken = queue::take(&mut *queue, 8).await;
    for sequence in [2, 4, 5, 7] {
        queue.ack(&taken[sequence - 1]).await.unwrap();
    }
    drop((queue, bus));
    let file = folder.path().join("A/queue-worker.acks");
    let whole = fs::read(&file).unwrap();
    let header = whole.len() - 4 * 12;
    let remaining = async || {
        let bus = LocalBackend::open(folder.path(), SMALL).unwrap();
        let mut queue = bus.attach("A", "worker", None, long).await?;
        Ok::<_, BusError>(queue::sequences(&queue.next_batch(100, Duration::from_secs(5)).await?))
    };
    // What comes when the first so many records are good.
    let after = |good: usize| {
        let acked = &[2, 4, 5, 7][..good];
        (1..=8).filter(|n| !acked.contains(n)).collect::<Vec<u64>>()
    };
    for length in 0..=whole.len() {
        fs::write(&file, &whole[..length]).unwrap();
        match remaining().await {
            Ok(found) => assert_eq!(found, after((length - header) / 12), "cut at {length}"),
            Err(error) => assert!(length < header && matches!(error, BusError::Damaged { .. }), "{error}"),
        }
    }
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x04;
        fs::write(&file, &damaged).unwrap();
        match remaining().await {
            Ok(found) => assert_eq!(found, after((at - header) / 12), "byte {at}"),
            Err(error) => assert!(at < header && matches!(error, BusError::Damaged { .. }), "{error}"),
        }
    }
}

/// The file of a queue stays short, however many messages pass; what is put off stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_of_acknowledgements_is_written_anew() {
    const MESSAGES: u64 = 150_000;
    let folder = tempfile::tempdir().unwrap();
    let long = Duration::from_secs(3_600);
    let bus = LocalBackend::open(folder.path(), LocalOptions::default()).unwrap();
    bus.ensure_stream(&StreamSpec { dedup_window: Duration::ZERO, ..spec("A", "a") }).await.unwrap();
    publish_numbers(&bus, "a", 1, MESSAGES).await;
    let mut queue = bus.attach("A", "worker", None, long).await.unwrap();
    let mut left = MESSAGES as usize;
    while left > 0 {
        let batch = queue::take(&mut *queue, left.min(10_000)).await;
        left -= batch.len();
        let done: Vec<Delivery> =
            batch.into_iter().filter(|delivery| delivery.sequence != MESSAGES - 5).collect();
        ack_all(&*queue, &done).await;
    }
    drop((queue, bus));
    let bytes = fs::metadata(folder.path().join("A/queue-worker.acks")).unwrap().len();
    assert!(bytes < 90_000 * 12, "{bytes} bytes");
    let bus = LocalBackend::open(folder.path(), LocalOptions::default()).unwrap();
    let mut queue = bus.attach("A", "worker", None, long).await.unwrap();
    let rest = queue::collect(&mut *queue, Duration::from_millis(300)).await;
    assert_eq!(queue::sequences(&rest), [MESSAGES - 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_the_stream_dropped_for_its_age_is_no_longer_due() {
    let folder = tempfile::tempdir().unwrap();
    let bus = LocalBackend::open(folder.path(), LocalOptions { segment_bytes: 1_000, ..SMALL }).unwrap();
    let brief = StreamSpec { max_age: Duration::from_millis(500), ..spec("A", "a") };
    bus.ensure_stream(&brief).await.unwrap();
    for group in 0..4 {
        publish_numbers(&bus, "a", 1 + group * 10, 10).await;
    }
    let mut queue = bus.attach("A", "worker", None, Duration::from_millis(800)).await.unwrap();
    assert_eq!(queue::take(&mut *queue, 40).await.len(), 40);
    tokio::time::sleep(Duration::from_millis(900)).await;
    for group in 4..7 {
        publish_numbers(&bus, "a", 1 + group * 10, 10).await;
    }
    let first = bus.stream_info("A").await.unwrap().first_sequence;
    assert!(first > 10, "{first}");
    let rest = queue::collect(&mut *queue, Duration::from_millis(300)).await;
    assert_eq!(queue::sequences(&rest), (first..=70).collect::<Vec<_>>());
}
