#![allow(clippy::unwrap_used)]

use std::fs;
use std::time::Duration;

use super::*;
use crate::bus::suite::{self, handles, message, publish_numbers, read, spec};

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
