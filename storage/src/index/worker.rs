//! The background thread: merges runs and deletes what is no longer referenced, one job after the other.

use super::geometry::Geometry;
use super::keys::{self, PostingKind, Table};
use super::record::Run;
use super::{column, merge};
use crate::error::{StoreError, database};
use crate::keys::CF_INDEX;
use rocksdb::{DB, WriteBatch, WriteOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

/// The jobs of the background thread.
pub(super) enum Job {
    /// Merge these runs, which lie side by side and fill a run of the next level.
    Merge(Vec<Run>),
    /// Delete the chunks of these runs, which are no longer in any run list.
    Retire(Vec<Run>),
    /// Delete posting lists and event times of blocks before this ordinal.
    Sweep {
        /// First ordinal that is kept.
        below: u64,
    },
}

/// Handle of the thread; it ends when the handle is dropped, if need be in the middle of a merge.
pub(super) struct Worker {
    jobs: Option<Sender<Job>>,
    outcomes: Receiver<Result<Run, StoreError>>,
    failure: Option<StoreError>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Starts the thread.
    pub fn start(db: Arc<DB>, geometry: Geometry) -> Result<Self, StoreError> {
        let (jobs, inbox) = channel();
        let (outbox, outcomes) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::Builder::new()
            .name("index-merge".to_owned())
            .spawn({
                let stop = Arc::clone(&stop);
                move || work(&db, geometry, &inbox, &outbox, &stop)
            })
            .map_err(|error| StoreError::Database {
                action: "starting the thread that merges index runs",
                why: error.to_string(),
            })?;
        Ok(Self { jobs: Some(jobs), outcomes, failure: None, stop, thread: Some(thread) })
    }

    /// Hands a job over. If the thread has ended, [`Worker::finished`] says why.
    pub fn order(&self, job: Job) {
        if let Some(jobs) = &self.jobs
            && jobs.send(job).is_err()
        {
            tracing::error!("the thread that merges index runs has ended");
        }
    }

    /// The next finished merge, if there is one; the thread's failure from then on if it failed.
    pub fn finished(&mut self) -> Result<Option<Run>, StoreError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        match self.outcomes.try_recv() {
            Ok(Ok(run)) => Ok(Some(run)),
            Ok(Err(error)) => Err(self.failure.insert(error).clone()),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(self.failure.insert(gone()).clone()),
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that merges index runs had panicked");
        }
    }
}

fn gone() -> StoreError {
    StoreError::Poisoned { cause: "the thread that merges index runs has ended".to_owned() }
}

fn work(
    db: &DB,
    geometry: Geometry,
    inbox: &Receiver<Job>,
    outbox: &Sender<Result<Run, StoreError>>,
    stop: &AtomicBool,
) {
    while let Ok(job) = inbox.recv() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let outcome = match job {
            Job::Merge(sources) => merge::merge(db, geometry, &sources, stop),
            Job::Retire(runs) => retire(db, &runs).map(|()| None),
            Job::Sweep { below } => sweep(db, below).map(|()| None),
        };
        let failed = outcome.is_err();
        if let Some(outcome) = outcome.transpose()
            && (outbox.send(outcome).is_err() || failed)
        {
            return;
        }
    }
}

/// Writes without write-ahead log, as the whole store does: the Raft log is the log.
pub(super) fn write(db: &DB, batch: WriteBatch) -> Result<(), StoreError> {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    db.write_opt(batch, &options).map_err(database("writing index runs"))
}

/// Deletes all chunks of runs that nothing refers to.
pub(super) fn retire(db: &DB, runs: &[Run]) -> Result<(), StoreError> {
    let index = column(db, CF_INDEX)?;
    let mut batch = WriteBatch::default();
    for run in runs {
        for table in Table::ALL.into_iter().filter(|table| run.partition_bits(*table).is_some()) {
            let from = keys::chunk(table, run.level, run.first, 0);
            batch.delete_range_cf(index, from, keys::chunk(table, run.level, run.first, u32::MAX));
        }
    }
    write(db, batch)
}

/// Deletes posting lists and event times of blocks before `below`.
fn sweep(db: &DB, below: u64) -> Result<(), StoreError> {
    let index = column(db, CF_INDEX)?;
    let mut batch = WriteBatch::default();
    batch.delete_range_cf(index, keys::zones(0), keys::zones(below));
    for kind in PostingKind::ALL {
        let mut lists = db.raw_iterator_cf(index);
        lists.seek([kind.tag()]);
        while let Some((name, block)) = lists.key().and_then(|key| keys::parse_posting(kind, key)) {
            if block < below {
                let from = keys::posting(kind, name, block);
                batch.delete_range_cf(index, from, keys::posting(kind, name, below));
            }
            lists.seek(keys::posting(kind, name, u64::MAX));
        }
        lists.status().map_err(database("looking for dropped posting lists"))?;
    }
    write(db, batch)
}
