//! Logs that were cut, damaged or mixed up.

use super::*;
use crate::log::marker::MarkerFile;

/// A log of a vote and entries 0 to 4, closed; then entries 5 to 7, whose sync the marker does not know of.
/// Returns the directory, where the known part ends and where the log ends.
async fn with_unsynced_tail() -> (tempfile::TempDir, u64, u64) {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path()).unwrap();
    log.save_vote(&vote(3)).await.unwrap();
    append(&mut log, 3, 0..5).await;
    log.close().await.unwrap();
    drop(log);
    let known_end = used_bytes(dir.path());
    let marker = std::fs::read(dir.path().join("flushed_upto")).unwrap();
    let mut log = open(dir.path()).unwrap();
    append(&mut log, 3, 5..8).await;
    log.close().await.unwrap();
    let end = used_bytes(dir.path());
    std::fs::write(dir.path().join("flushed_upto"), marker).unwrap();
    (dir, known_end, end)
}

/// Bytes of the only segment up to the zeros that are reserved.
fn used_bytes(dir: &Path) -> u64 {
    let bytes = std::fs::read(&segments(dir)[0]).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1
}

fn cut(dir: &Path, at: u64, zeros: bool) {
    let segment = segments(dir).pop().unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(segment).unwrap();
    file.set_len(at).unwrap();
    if zeros {
        file.set_len(1 << 20).unwrap();
    }
}

#[tokio::test]
async fn a_torn_tail_is_cut_wherever_it_tore() {
    let (dir, known_end, end) = with_unsynced_tail().await;
    let record = (end - known_end) / 3;
    for at in known_end..=end {
        let copy = copy(dir.path());
        cut(copy.path(), at, at % 2 == 0);
        let mut log = open(copy.path()).unwrap_or_else(|error| panic!("cut at {at}: {error}"));
        let complete = (at - known_end) / record;
        assert_eq!(last_index(&mut log).await, Some(4 + complete), "cut at {at}");
        assert_eq!(log.read_vote().await.unwrap(), Some(vote(3)));

        let next = 5 + complete;
        append(&mut log, 4, next..next + 2).await;
        log.close().await.unwrap();
        let mut log = open(copy.path()).unwrap();
        assert_eq!(last_index(&mut log).await, Some(next + 1), "cut at {at}");
        assert_eq!(entries(&mut log).await.len() as u64, next + 2);
    }
}

#[tokio::test]
async fn a_torn_tail_full_of_noise_is_cut() {
    let (dir, known_end, end) = with_unsynced_tail().await;
    let segment = segments(dir.path()).pop().unwrap();
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[known_end as usize..end as usize].fill(0xa5);
    std::fs::write(&segment, bytes).unwrap();
    let mut log = open(dir.path()).unwrap();
    assert_eq!(last_index(&mut log).await, Some(4));
}

#[tokio::test]
async fn a_cut_of_what_was_synced_is_amnesia_and_changes_nothing() {
    let (dir, known_end, _) = with_unsynced_tail().await;
    for at in (0..known_end).step_by(7) {
        let copy = copy(dir.path());
        cut(copy.path(), at, at % 2 == 0);
        let before = std::fs::read(segments(copy.path()).pop().unwrap()).unwrap();
        assert!(is_amnesia(&open(copy.path())), "cut at {at}");
        assert_eq!(std::fs::read(segments(copy.path()).pop().unwrap()).unwrap(), before);
        assert!(is_amnesia(&open(copy.path())), "cut at {at}, second start");
    }
}

#[tokio::test]
async fn a_changed_bit_in_what_was_synced_is_amnesia() {
    let (dir, known_end, _) = with_unsynced_tail().await;
    for at in (0..known_end as usize).step_by(11) {
        let copy = copy(dir.path());
        let segment = segments(copy.path()).pop().unwrap();
        let mut bytes = std::fs::read(&segment).unwrap();
        bytes[at] ^= 0x10;
        std::fs::write(&segment, bytes).unwrap();
        assert!(is_amnesia(&open(copy.path())), "bit at {at}");
    }
}

#[tokio::test]
async fn missing_files_are_amnesia() {
    let (dir, ..) = with_unsynced_tail().await;
    let without_segment = copy(dir.path());
    std::fs::remove_file(segments(without_segment.path()).pop().unwrap()).unwrap();
    assert!(is_amnesia(&open(without_segment.path())));

    let without_marker = copy(dir.path());
    std::fs::remove_file(without_marker.path().join("flushed_upto")).unwrap();
    assert!(is_amnesia(&open(without_marker.path())));

    let without_both = without_segment;
    std::fs::remove_file(without_both.path().join("flushed_upto")).unwrap();
    assert!(is_amnesia(&open(without_both.path())));

    let unreadable_marker = copy(dir.path());
    std::fs::write(unreadable_marker.path().join("flushed_upto"), [1; 8192]).unwrap();
    assert!(is_amnesia(&open(unreadable_marker.path())));
}

#[tokio::test]
async fn a_crash_while_the_log_begins_is_no_amnesia() {
    let (dir, ..) = with_unsynced_tail().await;
    let files = ["flushed_upto", "00000000000000000001.log"];
    for present in 0..=files.len() {
        let begun = tempfile::tempdir().unwrap();
        drop(open(begun.path()).unwrap());
        std::fs::remove_file(begun.path().join("identity")).unwrap();
        drop(MarkerFile::create(&begun.path().join("flushed_upto"), true).unwrap());
        for file in &files[present..] {
            std::fs::remove_file(begun.path().join(file)).unwrap();
        }
        let mut log = open(begun.path()).unwrap();
        assert!(log.is_pristine());
        append(&mut log, 1, 0..1).await;
    }
    assert!(!open(dir.path()).unwrap().is_pristine());
}

#[tokio::test]
async fn a_crash_between_two_segments_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = open(dir.path()).unwrap();
    log.save_vote(&vote(2)).await.unwrap();
    for index in 0..30 {
        log.blocking_append([entry(2, index, 50_000)]).await.unwrap();
    }
    log.close().await.unwrap();
    drop(log);
    assert_eq!(segments(dir.path()).len(), 2);
    let second = segments(dir.path()).pop().unwrap();
    let rolled_at = entries_in_first_segment(dir.path());
    let zero_marker = tempfile::tempdir().unwrap();
    drop(open(zero_marker.path()).unwrap());
    for bytes in [None, Some(0), Some(16), Some(20)] {
        let copy = copy(dir.path());
        std::fs::copy(zero_marker.path().join("flushed_upto"), copy.path().join("flushed_upto")).unwrap();
        let of_copy = copy.path().join(second.file_name().unwrap());
        match bytes {
            None => std::fs::remove_file(&of_copy).unwrap(),
            Some(bytes) => cut(copy.path(), bytes, false),
        }
        let mut log = open(copy.path()).unwrap();
        assert_eq!(last_index(&mut log).await, Some(rolled_at - 1));
        assert_eq!(log.read_vote().await.unwrap(), Some(vote(2)));
        append(&mut log, 2, rolled_at..rolled_at + 1).await;
        log.close().await.unwrap();
        let mut log = open(copy.path()).unwrap();
        assert_eq!(last_index(&mut log).await, Some(rolled_at));
    }
}

fn entries_in_first_segment(dir: &Path) -> u64 {
    let only_first = copy(dir);
    std::fs::remove_file(segments(only_first.path()).pop().unwrap()).unwrap();
    let recovered = super::super::recovery::recover(only_first.path()).unwrap().unwrap().unwrap();
    assert!(recovered.rolled);
    recovered.contents.len()
}

#[tokio::test]
async fn another_nodes_log_and_a_log_in_use_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    assert!(matches!(open(dir.path()), Err(LogError::InUse(_))));
    log.close().await.unwrap();
    let other = LogStore::open(dir.path(), LogOptions::new("test", 2), Failure::default());
    assert!(matches!(other, Err(LogError::WrongNode { found_node: 1, node: 2, .. })));
    let other = LogStore::open(dir.path(), LogOptions::new("other", 1), Failure::default());
    assert!(matches!(other, Err(LogError::WrongNode { .. })));
    open(dir.path()).unwrap();
}
