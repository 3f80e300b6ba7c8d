//! `flushed_upto`: where the log ended after a sync, written and synced by a thread of its own so that
//! acknowledgements do not wait for it.
//!
//! Two slots are written in turn, each with a sequence number and a checksum, so that a torn write
//! leaves the other one. Writes overwrite allocated bytes in place: they need no space. The marker
//! trails the log by at most the configured interval and one sync; after an orderly stop it is exact.

use super::record::Position;
use crate::failure::Failure;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

const SLOT_BYTES: u64 = 4096;
const MAGIC: &[u8; 8] = b"CDRFLSH1";
const BODY_BYTES: usize = 48;

/// What is known to be on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Flushed {
    /// End of the log.
    pub upto: Position,
    /// Term of the vote, if there is one.
    pub vote_term: Option<u64>,
}

/// The marker file.
#[derive(Debug)]
pub(super) struct MarkerFile {
    file: File,
    sequence: u64,
    fsync: bool,
}

impl MarkerFile {
    /// Creates the file, recording that nothing is flushed.
    pub(super) fn create(path: &Path, fsync: bool) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(path)?;
        file.write_all_at(&[0; 2 * SLOT_BYTES as usize], 0)?;
        let mut marker = Self { file, sequence: 0, fsync };
        marker.write(Flushed::default())?;
        marker.file.sync_all()?;
        Ok(marker)
    }

    /// Opens the file; `None` as contents if neither slot is valid.
    pub(super) fn open(path: &Path, fsync: bool) -> io::Result<(Self, Option<Flushed>)> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let mut newest: Option<(u64, Flushed)> = None;
        for slot in 0..2 {
            let mut bytes = [0; BODY_BYTES];
            let found = match file.read_exact_at(&mut bytes, slot * SLOT_BYTES) {
                Ok(()) => decode(&bytes),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
                Err(error) => return Err(error),
            };
            newest = newest.into_iter().chain(found).max_by_key(|(sequence, _)| *sequence);
        }
        let sequence = newest.map_or(0, |(sequence, _)| sequence);
        Ok((Self { file, sequence, fsync }, newest.map(|(_, flushed)| flushed)))
    }

    fn write(&mut self, flushed: Flushed) -> io::Result<()> {
        self.sequence += 1;
        let slot = self.sequence % 2;
        self.file.write_all_at(&encode(self.sequence, flushed), slot * SLOT_BYTES)?;
        if self.fsync { self.file.sync_data() } else { Ok(()) }
    }
}

fn encode(sequence: u64, flushed: Flushed) -> [u8; BODY_BYTES] {
    let mut bytes = [0; BODY_BYTES];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..16].copy_from_slice(&sequence.to_le_bytes());
    bytes[16..24].copy_from_slice(&flushed.upto.segment.to_le_bytes());
    bytes[24..32].copy_from_slice(&flushed.upto.offset.to_le_bytes());
    bytes[32..40].copy_from_slice(&flushed.vote_term.unwrap_or(0).to_le_bytes());
    bytes[40] = u8::from(flushed.vote_term.is_some());
    let crc = crc32fast::hash(&bytes[..44]);
    bytes[44..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8; BODY_BYTES]) -> Option<(u64, Flushed)> {
    let number = |at: usize| Some(u64::from_le_bytes(bytes[at..at + 8].try_into().ok()?));
    if &bytes[..8] != MAGIC || bytes[44..] != crc32fast::hash(&bytes[..44]).to_le_bytes() {
        return None;
    }
    let upto = Position { segment: number(16)?, offset: number(24)? };
    let vote_term = if bytes[40] == 1 { Some(number(32)?) } else { None };
    Some((number(8)?, Flushed { upto, vote_term }))
}

#[derive(Debug, Default)]
struct Pending {
    latest: Flushed,
    written: Flushed,
    stop: bool,
}

#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Pending>,
    changed: Condvar,
}

/// Keeps the marker file up with the log.
#[derive(Debug)]
pub(super) struct MarkerKeeper {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl MarkerKeeper {
    /// Starts the thread that writes `file`, at most once per `interval`. A failed write is recorded as
    /// the node's failure.
    pub(super) fn start(file: MarkerFile, interval: Duration, failure: Failure) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("raft-log-marker".into())
            .spawn(move || keep(file, interval, &failure, &of_thread))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Records what is now on disk.
    pub(super) fn advance(&self, flushed: Flushed) {
        self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner).latest = flushed;
        self.shared.changed.notify_one();
    }

    /// Writes the last reported position and ends.
    pub(super) fn finish(&mut self) {
        self.shared.pending.lock().unwrap_or_else(PoisonError::into_inner).stop = true;
        self.shared.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn keep(mut file: MarkerFile, interval: Duration, failure: &Failure, shared: &Shared) {
    let mut pending = shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        while pending.latest == pending.written && !pending.stop {
            pending = shared.changed.wait(pending).unwrap_or_else(PoisonError::into_inner);
        }
        if pending.latest == pending.written {
            return;
        }
        let flushed = pending.latest;
        drop(pending);
        if let Err(error) = file.write(flushed) {
            failure.record(format!("the marker of the Raft log's synced end cannot be written: {error}"));
            return;
        }
        pending = shared.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.written = flushed;
        let pause = shared.changed.wait_timeout_while(pending, interval, |pending| !pending.stop);
        pending = pause.unwrap_or_else(PoisonError::into_inner).0;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn flushed(offset: u64) -> Flushed {
        Flushed { upto: Position { segment: 3, offset }, vote_term: Some(7) }
    }

    #[test]
    fn a_torn_write_leaves_the_previous_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flushed_upto");
        let mut marker = MarkerFile::create(&path, true).unwrap();
        marker.write(flushed(100)).unwrap();
        marker.write(flushed(200)).unwrap();
        assert_eq!(MarkerFile::open(&path, true).unwrap().1, Some(flushed(200)));

        let slot = (marker.sequence % 2) * SLOT_BYTES;
        marker.file.write_all_at(&[0xff], slot + 25).unwrap();
        let (mut reopened, found) = MarkerFile::open(&path, true).unwrap();
        assert_eq!(found, Some(flushed(100)));

        reopened.write(flushed(300)).unwrap();
        assert_eq!(MarkerFile::open(&path, true).unwrap().1, Some(flushed(300)));
    }

    #[test]
    fn the_last_thing_said_is_on_disk_after_finish() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flushed_upto");
        let file = MarkerFile::create(&path, true).unwrap();
        let mut keeper = MarkerKeeper::start(file, Duration::from_secs(60), Failure::default()).unwrap();
        for offset in 1..=50 {
            keeper.advance(flushed(offset));
        }
        keeper.finish();
        assert_eq!(MarkerFile::open(&path, true).unwrap().1, Some(flushed(50)));
    }

    #[test]
    fn an_empty_or_foreign_file_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("flushed_upto");
        std::fs::write(&path, b"").unwrap();
        assert_eq!(MarkerFile::open(&path, true).unwrap().1, None);
        std::fs::write(&path, [7; 9000]).unwrap();
        assert_eq!(MarkerFile::open(&path, true).unwrap().1, None);
    }
}
