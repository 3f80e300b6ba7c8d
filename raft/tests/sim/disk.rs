//! A log of the same contract as the real one: one writer, group commit, callbacks after the sync. A crash
//! keeps what was synced and any prefix of what was written after that.

use crate::sim::state::{Entry, LogId, Sim, Vote};
use futures::channel::oneshot;
use openraft::OptionalSend;
use openraft::async_runtime::AsyncRuntime;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft_rt_sim::SimRuntime;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a disk holds.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    entries: BTreeMap<u64, Entry>,
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
}

#[derive(Clone, Debug)]
enum Change {
    Append(Vec<Entry>),
    Vote(Vote),
    Committed(Option<LogId>),
    TruncateFrom(u64),
    PurgeUpto(LogId),
}

enum Done {
    Append(IOFlushed<Sim>),
    Other(oneshot::Sender<()>),
    Nobody,
}

impl Contents {
    fn change(&mut self, change: Change) {
        match change {
            Change::Append(entries) => {
                self.entries.extend(entries.into_iter().map(|entry| (entry.index(), entry)));
            }
            Change::Vote(vote) => self.vote = Some(vote),
            Change::Committed(committed) => self.committed = committed,
            Change::TruncateFrom(index) => drop(self.entries.split_off(&index)),
            Change::PurgeUpto(upto) => {
                self.entries = self.entries.split_off(&(upto.index() + 1));
                self.purged = self.purged.max(Some(upto));
            }
        }
    }
}

struct Inner {
    /// What readers see.
    seen: Contents,
    synced: Contents,
    queue: VecDeque<(Change, Done)>,
    /// Written, but its sync has not returned.
    written: Vec<Change>,
    writing: bool,
    alive: bool,
    rng: SmallRng,
}

/// A handle on the log of one life of a replica.
#[derive(Clone)]
pub struct Log(Arc<Mutex<Inner>>);

impl Log {
    pub fn open(contents: Contents, seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            seen: contents.clone(),
            synced: contents,
            queue: VecDeque::new(),
            written: Vec::new(),
            writing: false,
            alive: true,
            rng: SmallRng::seed_from_u64(seed),
        })))
    }

    /// The power fails: what is on the disk afterwards.
    pub fn crash(&self) -> Contents {
        let mut inner = self.0.lock().unwrap();
        inner.alive = false;
        let inner = &mut *inner;
        let mut contents = inner.synced.clone();
        let queued = inner.queue.drain(..).map(|(change, _)| change);
        let unsynced: Vec<Change> = inner.written.drain(..).chain(queued).collect();
        let kept = inner.rng.random_range(0..=unsynced.len());
        unsynced.into_iter().take(kept).for_each(|change| contents.change(change));
        contents
    }

    fn push(&self, change: Change, done: Done) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap();
        if !inner.alive {
            return Err(crashed());
        }
        inner.queue.push_back((change, done));
        if !std::mem::replace(&mut inner.writing, true) {
            SimRuntime::spawn(self.clone().write());
        }
        Ok(())
    }

    async fn push_and_wait(&self, change: Change) -> io::Result<()> {
        let (done, waiting) = oneshot::channel();
        self.push(change, Done::Other(done))?;
        waiting.await.map_err(|_| crashed())
    }

    /// The writer: takes everything queued, writes, syncs, makes it visible, reports it.
    async fn write(self) {
        loop {
            let (group, sync_ms) = {
                let mut inner = self.0.lock().unwrap();
                if inner.queue.is_empty() || !inner.alive {
                    inner.writing = false;
                    return;
                }
                let group: Vec<_> = inner.queue.drain(..).collect();
                inner.written = group.iter().map(|(change, _)| change.clone()).collect();
                let slow = inner.rng.random_range(0..40) == 0;
                let longest = if slow { 400 } else { 12 };
                (group, inner.rng.random_range(1..longest))
            };
            SimRuntime::sleep(Duration::from_millis(sync_ms)).await;
            let mut inner = self.0.lock().unwrap();
            if !inner.alive {
                return;
            }
            inner.written.clear();
            let mut done = Vec::new();
            for (change, waiter) in group {
                inner.synced.change(change.clone());
                if !matches!(change, Change::Append(_) | Change::Committed(_)) {
                    inner.seen.change(change);
                }
                done.push(waiter);
            }
            drop(inner);
            done.into_iter().for_each(Done::report);
        }
    }
}

impl Done {
    fn report(self) {
        match self {
            Self::Append(callback) => callback.io_completed(Ok(())),
            Self::Other(waiter) => drop(waiter.send(())),
            Self::Nobody => {}
        }
    }
}

fn crashed() -> io::Error {
    io::Error::other("crashed")
}

impl RaftLogReader<Sim> for Log {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let inner = self.0.lock().unwrap();
        Ok(inner.seen.entries.values().filter(|entry| range.contains(&entry.index())).cloned().collect())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let most = self.0.lock().unwrap().rng.random_range(1..6);
        self.try_get_log_entries(start..end.min(start + most)).await
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.0.lock().unwrap().seen.vote)
    }
}

impl RaftLogStorage<Sim> for Log {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Sim>> {
        let inner = self.0.lock().unwrap();
        let last = inner.seen.entries.values().next_back().map(openraft::entry::RaftEntry::log_id);
        Ok(LogState { last_purged_log_id: inner.seen.purged, last_log_id: last.or(inner.seen.purged) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        self.push_and_wait(Change::Vote(*vote)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.0.lock().unwrap().seen.committed = committed;
        self.push(Change::Committed(committed), Done::Nobody)
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.0.lock().unwrap().seen.committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Sim>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let change = Change::Append(entries);
        self.0.lock().unwrap().seen.change(change.clone());
        self.push(change, Done::Append(callback))
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.push_and_wait(Change::TruncateFrom(last.map_or(0, |last| last.index() + 1))).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.push_and_wait(Change::PurgeUpto(upto)).await
    }
}
