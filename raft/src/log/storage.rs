//! openraft's view of the log.

use super::store::LogStore;
use super::writer::Operation;
use crate::lost_commits::would_forget;
use crate::runtime::blocking;
use crate::types::{Entry, LogId, TypeConfig, Vote};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use openraft::{LogIdOptionExt, OptionalSend};
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

impl LogStore {
    /// A leader that would make this replica discard committed entries follows another history: serving on could only make that
    /// history look right.
    fn refuse_to_forget(&self, from: u64, committed: LogId) -> io::Error {
        let reason = would_forget(from, &committed);
        self.shared.failure.record_lost_commits(reason.clone());
        io::Error::other(reason)
    }
}

fn bounds(range: &impl RangeBounds<u64>) -> (u64, u64) {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(last) => last.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    (start, end)
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let (start, end) = bounds(&range);
        blocking(|| self.read(start, end, usize::MAX))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        blocking(|| self.read(start, end, self.read_bytes))
    }

    /// Reads piece by piece, so that a long range never has to be in memory at once.
    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = bounds(&range);
        let store = self.clone();
        stream::try_unfold(start, move |next| {
            let store = store.clone();
            async move {
                if next >= end {
                    return Ok(None);
                }
                let entries = blocking(|| store.read(next, end, store.read_bytes))?;
                let Some(last) = entries.last() else { return Ok(None) };
                let next = last.index() + 1;
                Ok::<_, io::Error>(Some((stream::iter(entries).map(Ok), next)))
            }
        })
        .try_flatten()
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.contents().state.vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let (last_log_id, last_purged_log_id) = self.last_and_purged();
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let vote = *vote;
        self.ask(|waiter| Operation::Vote(vote, waiter)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        self.know_committed(committed);
        self.send(Operation::Committed(committed))
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.contents().state.committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        self.shared.check()?;
        let mut appended = Ok(());
        self.shared.change(|contents| appended = contents.append(&entries));
        appended?;
        self.send(Operation::Append(entries, callback))
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        let from = last_log_id.next_index();
        let committed = self.contents().state.committed;
        if let Some(committed) = committed.filter(|committed| from <= committed.index()) {
            return Err(self.refuse_to_forget(from, committed));
        }
        self.ask(|waiter| Operation::TruncateFrom(from, waiter)).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        self.ask(|waiter| Operation::PurgeUpto(upto, waiter)).await
    }
}
