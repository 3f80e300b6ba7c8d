//! Disks that fail.

use super::*;
use crate::log::disk::{Disk, RealDisk};
use crate::restriction::Restrictions;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A disk that refuses so many writes and syncs.
#[derive(Default)]
struct FaultyDisk {
    full: AtomicU32,
    broken_writes: AtomicU32,
    broken_syncs: AtomicU32,
}

fn due(count: &AtomicU32) -> bool {
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

impl Disk for FaultyDisk {
    fn create(&self, path: &Path, bytes: u64) -> io::Result<File> {
        if due(&self.full) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        RealDisk.create(path, bytes)
    }

    fn write_at(&self, file: &File, buffer: &[u8], offset: u64) -> io::Result<usize> {
        if due(&self.full) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if due(&self.broken_writes) {
            return Err(io::Error::other("EIO"));
        }
        // Never everything at once.
        RealDisk.write_at(file, &buffer[..buffer.len().div_ceil(2)], offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        if due(&self.broken_syncs) {
            return Err(io::Error::other("EIO"));
        }
        RealDisk.sync(file)
    }
}

fn open_on(disk: &Arc<FaultyDisk>, dir: &Path) -> (LogStore, Failure) {
    let failure = Failure::default();
    let disk: Arc<dyn Disk> = Arc::clone(disk) as _;
    (LogStore::open_on(disk, dir, options(), failure.clone()).unwrap(), failure)
}

async fn poisons(break_it: impl FnOnce(&FaultyDisk)) {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk::default());
    let (mut log, failure) = open_on(&disk, dir.path());
    log.save_vote(&vote(1)).await.unwrap();
    append(&mut log, 1, 0..3).await;
    break_it(&disk);
    assert!(log.blocking_append([entry(1, 3, 10)]).await.is_err());
    assert!(failure.reason().unwrap().contains("EIO"));

    // The disk works again, but nobody knows what is on it.
    assert!(log.blocking_append([entry(1, 4, 10)]).await.is_err());
    assert!(log.save_vote(&vote(2)).await.is_err());
    assert!(log.try_get_log_entries(..).await.is_err());
    assert!(log.purge(LogId::new_term_index(1, 0)).await.is_err());
    assert!(log.close().await.is_err());
    drop(log);

    let mut log = reopen(dir.path()).await;
    assert_eq!(log.read_vote().await.unwrap(), Some(vote(1)));
    assert!(last_index(&mut log).await >= Some(2));
}

/// The writer's thread may need a moment to let go of the directory.
async fn reopen(dir: &Path) -> LogStore {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match open(dir) {
            Err(LogError::InUse(_)) if Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            opened => return opened.unwrap(),
        }
    }
}

#[tokio::test]
async fn a_failed_sync_poisons_the_log() {
    poisons(|disk| disk.broken_syncs.store(1, Ordering::Relaxed)).await;
}

#[tokio::test]
async fn a_failed_write_poisons_the_log() {
    poisons(|disk| disk.broken_writes.store(1, Ordering::Relaxed)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_restricts_and_lifts_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk::default());
    let (mut log, failure) = open_on(&disk, dir.path());
    let restrictions = Restrictions::new(Arc::new(|| 0));
    log.stats().tell(restrictions.clone());
    append(&mut log, 1, 0..3).await;
    disk.full.store(5, Ordering::Relaxed);
    let mut writer = log.clone();
    let append = tokio::spawn(async move { writer.blocking_append([entry(1, 3, 10)]).await });
    let deadline = Instant::now() + Duration::from_secs(10);
    while restrictions.reason().is_none() {
        assert!(Instant::now() < deadline, "never restricted");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(log.stats().refused_writes() >= 3);
    append.await.unwrap().unwrap();
    assert_eq!(log.stats().refused_writes(), 5);
    assert_eq!(restrictions.reason(), None);
    assert_eq!(failure.reason(), None);
    log.close().await.unwrap();
    drop(log);
    assert_eq!(last_index(&mut reopen(dir.path()).await).await, Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_space_for_the_next_segment_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(FaultyDisk::default());
    let (mut log, failure) = open_on(&disk, dir.path());
    for index in 0..40 {
        if index == 19 {
            disk.full.store(2, Ordering::Relaxed);
        }
        log.blocking_append([entry(1, index, 50_000)]).await.unwrap();
    }
    assert_eq!(failure.reason(), None);
    assert_eq!(log.stats().refused_writes(), 2);
    log.close().await.unwrap();
    drop(log);
    assert_eq!(entries(&mut reopen(dir.path()).await).await.len(), 40);
}

#[tokio::test]
async fn committed_entries_are_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let failure = Failure::default();
    let mut log = LogStore::open(dir.path(), options(), failure.clone()).unwrap();
    log.blocking_append((0..10).map(|index| entry(1, index, 10)).collect::<Vec<_>>()).await.unwrap();
    log.save_committed(Some(LogId::new_term_index(1, 5))).await.unwrap();
    log.truncate_after(Some(LogId::new_term_index(1, 7))).await.unwrap();
    log.truncate_after(Some(LogId::new_term_index(1, 5))).await.unwrap();
    assert!(failure.reason().is_none());

    let refused = log.truncate_after(Some(LogId::new_term_index(1, 4))).await.unwrap_err();
    assert!(refused.to_string().contains("SEV1 fork"), "{refused}");
    assert!(failure.lost_commits().is_some_and(|reason| reason.contains("from 5 on")), "{failure:?}");
    assert_eq!(log.get_log_state().await.unwrap().last_log_id, Some(LogId::new_term_index(1, 5)));
    assert!(log.save_vote(&vote(2)).await.is_err(), "nothing more is written");
}
