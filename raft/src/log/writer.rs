//! The one thread that writes the log.

use super::contents::{Contents, Location};
use super::disk::{Disk, is_full, sync_directory};
use super::files::{SEGMENT_HEADER_BYTES, first_record, segment_header, segment_path};
use super::marker::{Flushed, MarkerKeeper};
use super::options::LogOptions;
use super::record::{Position, Record, State};
use super::stats::LogStats;
use crate::failure::Failure;
use crate::types::{Entry, LogId, TypeConfig, Vote, entry_bytes};
use openraft::entry::RaftEntry;
use openraft::storage::IOFlushed;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// What is written at once, in bytes; more waits for the next round.
const GROUP_BYTES: usize = 8 << 20;

/// Pause before a write is tried again for which there was no space.
const FULL_DISK_PAUSE: Duration = Duration::from_millis(200);

/// Who waits for an operation.
pub(super) type Waiter = oneshot::Sender<io::Result<()>>;

/// What the writer is asked to do, in this order.
pub(super) enum Operation {
    Append(Vec<Entry>, IOFlushed<TypeConfig>),
    Vote(Vote, Waiter),
    Committed(Option<LogId>),
    TruncateFrom(u64, Waiter),
    PurgeUpto(LogId, Waiter),
    Close(Waiter),
}

/// What the writer shares with the handles.
#[derive(Debug)]
pub(super) struct Shared {
    pub dir: PathBuf,
    pub contents: RwLock<Contents>,
    pub stats: LogStats,
    pub failure: Failure,
    pub closing: AtomicBool,
}

impl Shared {
    /// The error of every operation after a failure.
    pub(super) fn check(&self) -> io::Result<()> {
        match self.failure.reason() {
            None => Ok(()),
            Some(reason) => Err(io::Error::other(format!("this replica stopped: {reason}"))),
        }
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Contents)) {
        change(&mut self.contents.write().unwrap_or_else(PoisonError::into_inner));
    }
}

enum Done {
    Append(IOFlushed<TypeConfig>),
    Other(Waiter),
}

impl Done {
    fn report(self, result: io::Result<()>) {
        match self {
            Self::Append(callback) => callback.io_completed(result),
            Self::Other(waiter) => {
                let _ = waiter.send(result);
            }
        }
    }
}

/// A change that readers see once it is durable.
enum Change {
    Located(u64, Location),
    Vote(Vote),
    TruncateFrom(u64),
    PurgeUpto(LogId),
}

/// The state of the writing thread.
pub(super) struct Writer {
    shared: Arc<Shared>,
    options: LogOptions,
    disk: Arc<dyn Disk>,
    marker: MarkerKeeper,
    /// Held until the thread ends.
    _lock: File,
    file: Arc<File>,
    tail: Position,
    /// What the records up to the end of `buffer` amount to.
    state: State,
    buffer: Vec<u8>,
    needs_sync: bool,
    done: Vec<Done>,
    changes: Vec<Change>,
    refusals: u32,
}

/// What a writer starts with.
pub(super) struct WriterParts {
    pub shared: Arc<Shared>,
    pub options: LogOptions,
    pub disk: Arc<dyn Disk>,
    pub marker: MarkerKeeper,
    pub lock: File,
    pub file: Arc<File>,
    pub tail: Position,
    pub state: State,
}

impl Writer {
    pub(super) fn new(parts: WriterParts) -> Self {
        Self {
            shared: parts.shared,
            options: parts.options,
            disk: parts.disk,
            marker: parts.marker,
            _lock: parts.lock,
            file: parts.file,
            tail: parts.tail,
            state: parts.state,
            buffer: Vec::new(),
            needs_sync: false,
            done: Vec::new(),
            changes: Vec::new(),
            refusals: 0,
        }
    }

    /// Works until the log is closed or every handle is gone.
    pub(super) fn run(mut self, operations: &Receiver<Operation>) {
        let mut closed = None;
        while closed.is_none() {
            let Ok(first) = operations.recv() else { break };
            closed = self.write_group(first, operations);
        }
        self.marker.finish();
        let end = self.shared.check();
        // Releases the directory before anybody learns that the log is closed.
        drop(self);
        if let Some(waiter) = closed {
            let _ = waiter.send(end);
        }
    }

    fn write_group(&mut self, first: Operation, operations: &Receiver<Operation>) -> Option<Waiter> {
        let mut count = 0;
        let mut closed = None;
        let mut next = Some(first);
        while let Some(operation) = next.take() {
            count += 1;
            let taken = match operation {
                Operation::Close(waiter) => {
                    closed = Some(waiter);
                    break;
                }
                operation => self.take(operation),
            };
            if let Err(error) = taken {
                self.fail(&error);
            }
            if self.buffer.len() < GROUP_BYTES {
                next = operations.try_recv().ok();
            }
        }
        let bytes = self.buffer.len() as u64;
        if let Err(error) = self.shared.check().and_then(|()| self.commit()) {
            self.fail(&error);
        }
        self.shared.stats.wrote(count, bytes);
        self.buffer.shrink_to(GROUP_BYTES);
        closed
    }

    fn take(&mut self, operation: Operation) -> io::Result<()> {
        match operation {
            Operation::Append(entries, callback) => {
                self.done.push(Done::Append(callback));
                self.needs_sync = true;
                self.shared.check()?;
                for entry in entries {
                    self.push_entry(entry)?;
                }
            }
            Operation::Vote(vote, waiter) => {
                self.begin(waiter)?;
                self.push(&Record::Vote(vote), 0)?;
                self.state.vote = Some(vote);
                self.changes.push(Change::Vote(vote));
            }
            Operation::TruncateFrom(index, waiter) => {
                self.begin(waiter)?;
                self.push(&Record::TruncateFrom(index), 0)?;
                self.changes.push(Change::TruncateFrom(index));
            }
            Operation::PurgeUpto(upto, waiter) => {
                self.begin(waiter)?;
                self.push(&Record::PurgeUpto(upto), 0)?;
                self.state.purged = self.state.purged.max(Some(upto));
                self.changes.push(Change::PurgeUpto(upto));
            }
            Operation::Committed(log_id) => {
                self.shared.check()?;
                self.push(&Record::Committed(log_id), 0)?;
                self.state.committed = log_id;
            }
            Operation::Close(_) => {}
        }
        Ok(())
    }

    fn begin(&mut self, waiter: Waiter) -> io::Result<()> {
        self.done.push(Done::Other(waiter));
        self.needs_sync = true;
        self.shared.check()
    }

    fn push_entry(&mut self, entry: Entry) -> io::Result<()> {
        let (index, term) = (entry.index(), entry.log_id.leader_id.term);
        let size = entry_bytes(&entry);
        let (at, bytes) = self.push(&Record::Entry(entry), size)?;
        let location = Location { segment: at.segment, offset: at.offset, bytes, term };
        self.changes.push(Change::Located(index, location));
        Ok(())
    }

    /// Encodes a record of about `size` bytes for the place where it will be.
    fn push(&mut self, record: &Record, size: usize) -> io::Result<(Position, u32)> {
        const SMALL_RECORD_BYTES: u64 = 1024;
        let end = self.end().offset + size as u64 + SMALL_RECORD_BYTES;
        if end > self.options.segment_bytes && self.end().offset > SEGMENT_HEADER_BYTES + SMALL_RECORD_BYTES {
            self.roll()?;
        }
        let at = self.end();
        let before = self.buffer.len();
        record.push(at, &mut self.buffer)?;
        Ok((at, (self.buffer.len() - before) as u32))
    }

    /// Where the next record goes.
    fn end(&self) -> Position {
        Position { offset: self.tail.offset + self.buffer.len() as u64, ..self.tail }
    }

    /// Completes the segment and goes on in a new one.
    fn roll(&mut self) -> io::Result<()> {
        Record::Roll.push(self.end(), &mut self.buffer)?;
        self.needs_sync = true;
        self.commit()?;
        let number = self.tail.segment + 1;
        let file = loop {
            match create_segment(&*self.disk, &self.shared.dir, number, &self.options, &self.state) {
                Err(error) if is_full(&error) => self.wait_for_space(error)?,
                created => break created?,
            }
        };
        self.has_space();
        self.tail = file.1;
        self.file = Arc::new(file.0);
        self.shared.change(|contents| {
            contents.segments.insert(number, Arc::clone(&self.file));
        });
        Ok(())
    }

    /// Writes and syncs what is encoded, makes it visible and reports it done.
    fn commit(&mut self) -> io::Result<()> {
        self.write()?;
        if self.needs_sync {
            self.sync()?;
        }
        self.make_visible()?;
        for done in self.done.drain(..) {
            done.report(Ok(()));
        }
        if std::mem::take(&mut self.needs_sync) {
            let vote_term = self.state.vote.map(|vote| vote.leader_id.term);
            self.marker.advance(Flushed { upto: self.tail, vote_term });
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        let mut written = 0;
        while written < self.buffer.len() {
            let offset = self.tail.offset + written as u64;
            match self.disk.write_at(&self.file, &self.buffer[written..], offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(bytes) => {
                    written += bytes;
                    self.has_space();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_full(&error) => self.wait_for_space(error)?,
                Err(error) => return Err(error),
            }
        }
        self.tail.offset += written as u64;
        self.buffer.clear();
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.options.fsync {
            let start = Instant::now();
            self.disk.sync(&self.file)?;
            self.shared.stats.synced(start.elapsed());
        }
        Ok(())
    }

    fn make_visible(&mut self) -> io::Result<()> {
        let mut purged = false;
        let mut in_order = true;
        let mut contents = self.shared.contents.write().unwrap_or_else(PoisonError::into_inner);
        for change in self.changes.drain(..) {
            match change {
                Change::Located(index, location) => in_order &= contents.locate(index, location),
                Change::Vote(vote) => contents.state.vote = Some(vote),
                Change::TruncateFrom(index) => contents.truncate(index),
                Change::PurgeUpto(upto) => {
                    contents.purge(upto);
                    purged = true;
                }
            }
        }
        contents.evict(self.options.cache_bytes);
        if !in_order {
            return Err(io::Error::other("entries were appended out of order"));
        }
        if purged {
            let live = contents.oldest_segment().unwrap_or(self.tail.segment).min(self.tail.segment);
            let dead =
                contents.segments.keys().copied().take_while(|number| *number < live).collect::<Vec<_>>();
            contents.segments.retain(|number, _| *number >= live);
            drop(contents);
            delete_segments(&self.shared.dir, &dead)?;
        }
        Ok(())
    }

    fn has_space(&mut self) {
        if self.refusals > 0 {
            tracing::info!(refusals = self.refusals, "the Raft log has space again");
            self.refusals = 0;
            self.shared.stats.has_space();
        }
    }

    fn wait_for_space(&mut self, error: io::Error) -> io::Result<()> {
        self.refusals = self.refusals.saturating_add(1);
        self.shared.stats.refused(self.refusals);
        if self.refusals <= 3 || self.refusals.is_multiple_of(50) {
            tracing::warn!(%error, refusals = self.refusals, "no space for the Raft log, retrying: free some space");
        }
        if self.shared.closing.load(Ordering::Relaxed) {
            return Err(error);
        }
        std::thread::sleep(FULL_DISK_PAUSE);
        Ok(())
    }

    /// After a failure it is unknown what is on disk: nothing more is written.
    fn fail(&mut self, error: &io::Error) {
        if self.shared.failure.reason().is_none() {
            let dir = self.shared.dir.display();
            self.shared.failure.record(format!("the Raft log in {dir} cannot be written: {error}"));
        }
        self.buffer.clear();
        self.changes.clear();
        for done in self.done.drain(..) {
            done.report(Err(io::Error::new(error.kind(), error.to_string())));
        }
    }
}

/// Creates a segment that begins with `state`, durable when this returns, and says where it goes on.
pub(super) fn create_segment(
    disk: &dyn Disk,
    dir: &Path,
    number: u64,
    options: &LogOptions,
    state: &State,
) -> io::Result<(File, Position)> {
    let path = segment_path(dir, number);
    let file = disk.create(&path, options.segment_bytes)?;
    let mut bytes = segment_header(number).to_vec();
    Record::State(state.clone()).push(first_record(number), &mut bytes)?;
    let mut written = 0;
    while written < bytes.len() {
        match disk.write_at(&file, &bytes[written..], written as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_full(&error) => {
                std::fs::remove_file(&path)?;
                return Err(error);
            }
            Err(error) => return Err(error),
        }
    }
    if options.fsync {
        disk.sync(&file)?;
        sync_directory(dir)?;
    }
    Ok((file, Position { segment: number, offset: written as u64 }))
}

fn delete_segments(dir: &Path, numbers: &[u64]) -> io::Result<()> {
    numbers.iter().try_for_each(|number| std::fs::remove_file(segment_path(dir, *number)))
}
