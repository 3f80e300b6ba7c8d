//! Opening, reading and closing a log.

use super::contents::{Contents, ReadPlan};
use super::disk::{Disk, RealDisk, reserve, sync_directory};
use super::error::LogError;
use super::files::{FIRST_SEGMENT, segment_path};
use super::marker::{Flushed, MarkerFile, MarkerKeeper};
use super::options::LogOptions;
use super::record::{Position, Record};
use super::recovery::{Recovered, missing, recover};
use super::stats::LogStats;
use super::writer::{Operation, Shared, Writer, WriterParts, create_segment};
use crate::codec;
use crate::failure::Failure;
use crate::identity::Incarnation;
use crate::types::{Entry, LogId};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// Whose log it is.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Identity {
    cluster: String,
    node_id: u64,
    incarnation: Incarnation,
}

/// A handle on the log. The log is closed by [`close`](Self::close), or when the last handle is dropped.
#[derive(Clone, Debug)]
pub struct LogStore {
    pub(super) shared: Arc<Shared>,
    writer: Arc<WriterThread>,
    pub(super) read_bytes: usize,
}

/// Ends with the last handle.
#[derive(Debug)]
struct WriterThread {
    shared: Arc<Shared>,
    operations: Option<mpsc::Sender<Operation>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        drop(self.operations.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl LogStore {
    /// Opens the log in `dir`, or begins one there. `failure` receives what poisons the log.
    pub fn open(dir: &Path, options: LogOptions, failure: Failure) -> Result<Self, LogError> {
        Self::open_on(Arc::new(RealDisk), dir, options, failure)
    }

    pub(super) fn open_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: LogOptions,
        failure: Failure,
    ) -> Result<Self, LogError> {
        std::fs::create_dir_all(dir).map_err(LogError::io("create", dir))?;
        let lock = lock(dir)?;
        let known = check_identity(dir, &options)?;
        let (marker, recovered) = read_back(dir, known, &options)?;
        let opened = OpenedTail::prepare(&*disk, dir, &options, recovered)?;
        write_identity(dir, &options)?;
        let interval = Duration::from_millis(options.marker_interval_ms);
        let marker = MarkerKeeper::start(marker, interval, failure.clone())
            .map_err(LogError::io("start the marker's thread for", dir))?;
        let read_bytes = options.read_bytes;
        let state = opened.contents.state.clone();
        let vote_term = state.vote.map(|vote| vote.leader_id.term);
        marker.advance(Flushed { upto: opened.tail, vote_term });
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            contents: RwLock::new(opened.contents),
            stats: LogStats::default(),
            failure,
            closing: AtomicBool::new(false),
        });
        let writer = Writer::new(WriterParts {
            shared: Arc::clone(&shared),
            options,
            disk,
            marker,
            lock,
            file: opened.file,
            tail: opened.tail,
            state,
        });
        let (operations, queue) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("raft-log".into())
            .spawn(move || writer.run(&queue))
            .map_err(LogError::io("start the writer's thread for", dir))?;
        let of_writer = Arc::clone(&shared);
        let writer = WriterThread { shared: of_writer, operations: Some(operations), thread: Some(thread) };
        Ok(Self { shared, writer: Arc::new(writer), read_bytes })
    }

    /// Counters.
    pub fn stats(&self) -> &LogStats {
        &self.shared.stats
    }

    /// True if nothing was ever voted or appended here.
    pub fn is_pristine(&self) -> bool {
        let contents = self.contents();
        contents.state.vote.is_none() && contents.last_log_id().is_none()
    }

    /// Index of the first entry that the log has, or of the next one if it is empty.
    pub(crate) fn first_index(&self) -> u64 {
        self.contents().state.purged.map_or(0, |purged| purged.index() + 1)
    }

    /// Index of the last entry, or of the last one purged; 0 if there never was one.
    pub fn last_index(&self) -> u64 {
        self.contents().last_log_id().map_or(0, |log_id| log_id.index())
    }

    /// Records that entries up to this one are known to be committed, which the log itself may no longer know: its
    /// own note of that is not synced.
    pub(crate) fn know_committed(&self, log_id: Option<LogId>) {
        self.shared.change(|contents| contents.state.committed = contents.state.committed.max(log_id));
    }

    /// Number of entries in the log.
    pub fn entry_count(&self) -> u64 {
        self.contents().len()
    }

    /// Space that the entries use in files, in bytes.
    pub fn bytes(&self) -> u64 {
        self.contents().located_bytes()
    }

    /// Writes what is queued, brings `flushed_upto` up to date and ends the writer.
    pub async fn close(&self) -> io::Result<()> {
        self.shared.closing.store(true, Ordering::Relaxed);
        match self.ask(Operation::Close).await {
            // Closed before.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            result => result,
        }
    }

    pub(super) fn contents(&self) -> std::sync::RwLockReadGuard<'_, Contents> {
        self.shared.contents.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn send(&self, operation: Operation) -> io::Result<()> {
        let closed = || io::Error::new(io::ErrorKind::BrokenPipe, "the Raft log is closed");
        let operations = self.writer.operations.as_ref().ok_or_else(closed)?;
        operations.send(operation).map_err(|_| closed())
    }

    pub(super) async fn ask(
        &self,
        operation: impl FnOnce(oneshot::Sender<io::Result<()>>) -> Operation,
    ) -> io::Result<()> {
        let (waiter, done) = oneshot::channel();
        self.send(operation(waiter))?;
        done.await.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the Raft log is closed"))?
    }

    /// Entries in `[start, end)`, stopping after `limit` bytes but not before the first. Blocks if they
    /// are no longer in memory.
    pub(super) fn read(&self, start: u64, end: u64, limit: usize) -> io::Result<Vec<Entry>> {
        self.shared.check()?;
        let plan = self.contents().plan(start, end, limit);
        self.shared.stats.read(plan.from_cache.len() as u64, plan.from_files.len() as u64);
        read_planned(plan)
    }

    pub(super) fn last_and_purged(&self) -> (Option<LogId>, Option<LogId>) {
        let contents = self.contents();
        (contents.last_log_id(), contents.state.purged)
    }
}

fn read_planned(plan: ReadPlan) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::with_capacity(plan.from_files.len() + plan.from_cache.len());
    let mut bytes = Vec::new();
    for (file, location) in plan.from_files {
        bytes.resize(location.bytes as usize, 0);
        file.read_exact_at(&mut bytes, location.offset)?;
        let at = Position { segment: location.segment, offset: location.offset };
        if let Some((Record::Entry(entry), _)) = Record::read(at, &bytes)? {
            entries.push(entry);
        } else {
            let message = format!("the entry at {at} of the Raft log is damaged");
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
    }
    entries.extend(plan.from_cache);
    Ok(entries)
}

fn lock(dir: &Path) -> Result<File, LogError> {
    use rustix::fs::{FlockOperation, flock};
    let path = dir.join("LOCK");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(LogError::io("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(LogError::InUse(dir.to_owned())),
        Err(error) => Err(LogError::io("lock", &path)(error.into())),
    }
}

/// The owner that a log records; `None` if there is no log yet, or none that was ever complete.
fn read_identity(dir: &Path) -> Result<Option<Identity>, LogError> {
    let path = dir.join("identity");
    match std::fs::read(&path) {
        Ok(bytes) => {
            codec::decode(&bytes).map(Some).map_err(|error| LogError::io("read", &path)(error.into()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(LogError::io("read", &path)(error)),
    }
}

/// The incarnation of the log in `dir`, if one was ever made there.
pub(crate) fn incarnation_of(dir: &Path) -> Result<Option<Incarnation>, LogError> {
    Ok(read_identity(dir)?.map(|identity| identity.incarnation))
}

/// True if the log belongs to this node, false if there is none yet.
fn check_identity(dir: &Path, options: &LogOptions) -> Result<bool, LogError> {
    let Some(found) = read_identity(dir)? else { return Ok(false) };
    if found.cluster != options.cluster || found.node_id != options.node_id {
        return Err(LogError::WrongNode {
            dir: dir.to_owned(),
            found_cluster: found.cluster,
            found_node: found.node_id,
            cluster: options.cluster.clone(),
            node: options.node_id,
        });
    }
    if found.incarnation != options.incarnation {
        let reason = "log and state are of two different data directories".to_owned();
        return Err(LogError::Amnesia { dir: dir.to_owned(), reason });
    }
    Ok(true)
}

/// Written last of all, so that a log with an identity was once complete.
fn write_identity(dir: &Path, options: &LogOptions) -> Result<(), LogError> {
    let path = dir.join("identity");
    if path.exists() {
        return Ok(());
    }
    let identity = Identity {
        cluster: options.cluster.clone(),
        node_id: options.node_id,
        incarnation: options.incarnation,
    };
    let write = || -> io::Result<()> {
        let new = dir.join("identity.new");
        std::fs::write(&new, codec::encode(&identity)?)?;
        File::open(&new)?.sync_all()?;
        std::fs::rename(&new, &path)?;
        sync_directory(dir)
    };
    write().map_err(LogError::io("write", &path))
}

/// Reads marker and segments and compares them. Changes nothing unless the log never existed.
fn read_back(
    dir: &Path,
    known: bool,
    options: &LogOptions,
) -> Result<(MarkerFile, Option<Recovered>), LogError> {
    let amnesia = |reason: String| LogError::Amnesia { dir: dir.to_owned(), reason };
    let path = dir.join("flushed_upto");
    let (marker, flushed) = match MarkerFile::open(&path, options.fsync) {
        Ok((marker, flushed)) => (marker, flushed),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !known => {
            let marker = MarkerFile::create(&path, options.fsync).map_err(LogError::io("create", &path))?;
            (marker, Some(Flushed::default()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(amnesia("the file flushed_upto is missing".into()));
        }
        Err(error) => return Err(LogError::io("read", &path)(error)),
    };
    let flushed = match flushed {
        Some(flushed) => flushed,
        // The creation of the marker was not finished: nothing was written yet.
        None if !known => Flushed::default(),
        None => return Err(amnesia("the file flushed_upto is not readable".into())),
    };
    let recovered = recover(dir)?.map_err(amnesia)?;
    if known && recovered.is_none() {
        return Err(amnesia("all segments are missing".into()));
    }
    match missing(flushed, recovered.as_ref()) {
        Some(reason) => Err(amnesia(reason)),
        None => Ok((marker, recovered)),
    }
}

/// The segment at which writing goes on.
struct OpenedTail {
    contents: Contents,
    file: Arc<File>,
    tail: Position,
}

impl OpenedTail {
    fn prepare(
        disk: &dyn Disk,
        dir: &Path,
        options: &LogOptions,
        recovered: Option<Recovered>,
    ) -> Result<Self, LogError> {
        let Some(recovered) = recovered else {
            return Self::begin(disk, dir, options, Contents::default(), FIRST_SEGMENT);
        };
        if let Some(number) = recovered.unfinished {
            let path = segment_path(dir, number);
            std::fs::remove_file(&path).map_err(LogError::io("remove", &path))?;
        }
        if recovered.rolled {
            let number = recovered.unfinished.unwrap_or(recovered.tail.segment + 1);
            return Self::begin(disk, dir, options, recovered.contents, number);
        }
        Self::go_on(dir, options, recovered)
    }

    fn begin(
        disk: &dyn Disk,
        dir: &Path,
        options: &LogOptions,
        mut contents: Contents,
        number: u64,
    ) -> Result<Self, LogError> {
        let (file, tail) = create_segment(disk, dir, number, options, &contents.state)
            .map_err(LogError::io("create", &segment_path(dir, number)))?;
        let file = Arc::new(file);
        contents.segments.insert(number, Arc::clone(&file));
        Ok(Self { contents, file, tail })
    }

    /// Cuts what follows the last valid record and reserves the rest of the segment again.
    fn go_on(dir: &Path, options: &LogOptions, recovered: Recovered) -> Result<Self, LogError> {
        let path = segment_path(dir, recovered.tail.segment);
        let file =
            OpenOptions::new().read(true).write(true).open(&path).map_err(LogError::io("open", &path))?;
        file.set_len(recovered.tail.offset).map_err(LogError::io("cut", &path))?;
        if let Err(error) = reserve(&file, options.segment_bytes) {
            tracing::warn!(%error, path = %path.display(), "no space reserved for the rest of the segment");
        }
        file.sync_all().map_err(LogError::io("sync", &path))?;
        let file = Arc::new(file);
        let mut contents = recovered.contents;
        contents.segments.insert(recovered.tail.segment, Arc::clone(&file));
        Ok(Self { contents, file, tail: recovered.tail })
    }
}
