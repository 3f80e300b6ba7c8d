//! What is in the log: where each entry is, and the newest entries themselves.
//!
//! `located` covers the entries that are in files, `cache` the newest ones; together they have no gap,
//! because an entry leaves the cache only once it is located. Appending puts entries into the cache (so
//! that they are readable at once); everything else changes when the writer has made it durable.

use super::record::State;
use crate::types::{Entry, LogId, entry_bytes};
use openraft::entry::RaftEntry;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::sync::Arc;

/// Where an entry's record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Location {
    pub segment: u64,
    pub offset: u64,
    pub bytes: u32,
    pub term: u64,
}

/// What a reader has to read: records from files, then entries that are in memory.
#[derive(Debug, Default)]
pub(super) struct ReadPlan {
    pub from_files: Vec<(Arc<File>, Location)>,
    pub from_cache: Vec<Entry>,
}

/// What is in the log.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub state: State,
    pub segments: BTreeMap<u64, Arc<File>>,
    first_located: u64,
    located: VecDeque<Location>,
    located_bytes: u64,
    first_cached: u64,
    cache: VecDeque<Entry>,
    cache_bytes: usize,
}

impl Contents {
    fn located_end(&self) -> u64 {
        self.first_located + self.located.len() as u64
    }

    fn cached_end(&self) -> u64 {
        self.first_cached + self.cache.len() as u64
    }

    /// The last log id: of the last entry, or of the last one purged.
    pub(super) fn last_log_id(&self) -> Option<LogId> {
        if let Some(entry) = self.cache.back() {
            return Some(entry.log_id());
        }
        let located =
            self.located.back().map(|last| LogId::new_term_index(last.term, self.located_end() - 1));
        located.or(self.state.purged)
    }

    /// Number of entries.
    pub(super) fn len(&self) -> u64 {
        let first = if self.located.is_empty() { self.first_cached } else { self.first_located };
        self.located_end().max(self.cached_end()).saturating_sub(first)
    }

    /// Space that the entries use in files, in bytes.
    pub(super) fn located_bytes(&self) -> u64 {
        self.located_bytes
    }

    /// Makes entries readable. They must follow the last one.
    pub(super) fn append(&mut self, entries: &[Entry]) -> io::Result<()> {
        let mut last = self.last_log_id().map(|log_id| log_id.index());
        for entry in entries {
            let index = entry.index();
            if last.is_some_and(|last| index != last + 1) {
                let message =
                    format!("entry {index} does not follow entry {last:?}: the Raft log would have a hole");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            if self.cache.is_empty() {
                self.first_cached = index;
            }
            self.cache_bytes += entry_bytes(entry);
            self.cache.push_back(entry.clone());
            last = Some(index);
        }
        Ok(())
    }

    /// Records where the next entry is. `false` if it is not the next one.
    pub(super) fn locate(&mut self, index: u64, location: Location) -> bool {
        if self.located.is_empty() {
            self.first_located = index;
        }
        let follows = index == self.located_end();
        if follows {
            self.located.push_back(location);
            self.located_bytes += u64::from(location.bytes);
        }
        follows
    }

    /// Forgets entries from `from` on.
    pub(super) fn truncate(&mut self, from: u64) {
        while self.located_end() > from {
            let Some(location) = self.located.pop_back() else { break };
            self.located_bytes -= u64::from(location.bytes);
        }
        self.first_located = self.first_located.min(from);
        while self.cached_end() > from {
            let Some(entry) = self.cache.pop_back() else { break };
            self.cache_bytes -= entry_bytes(&entry);
        }
    }

    /// Forgets entries up to `upto`.
    pub(super) fn purge(&mut self, upto: LogId) {
        if self.state.purged.as_ref().is_none_or(|purged| *purged < upto) {
            self.state.purged = Some(upto);
        }
        while self.first_located <= upto.index() {
            let Some(location) = self.located.pop_front() else { break };
            self.located_bytes -= u64::from(location.bytes);
            self.first_located += 1;
        }
        self.first_located = self.first_located.max(upto.index() + 1);
        while self.first_cached <= upto.index() && self.evict_one() {}
    }

    fn evict_one(&mut self) -> bool {
        let Some(entry) = self.cache.pop_front() else { return false };
        self.cache_bytes -= entry_bytes(&entry);
        self.first_cached += 1;
        true
    }

    /// Drops the oldest located entries from memory until at most `bytes` are left.
    pub(super) fn evict(&mut self, bytes: usize) {
        while self.cache_bytes > bytes && self.first_cached < self.located_end() && self.evict_one() {}
    }

    /// The oldest segment that holds an entry.
    pub(super) fn oldest_segment(&self) -> Option<u64> {
        self.located.front().map(|location| location.segment)
    }

    /// True if entries are missing between the last one purged and the first one there.
    pub(super) fn has_hole(&self) -> bool {
        let after_purged = self.state.purged.as_ref().map(|purged| purged.index() + 1);
        after_purged.is_some_and(|next| !self.located.is_empty() && self.first_located > next)
    }

    /// What to read for the entries in `[start, end)`, stopping after `limit` bytes (but not before the
    /// first entry).
    pub(super) fn plan(&self, start: u64, end: u64, limit: usize) -> ReadPlan {
        let mut plan = ReadPlan::default();
        let mut bytes = 0;
        let cached_from = if self.cache.is_empty() { u64::MAX } else { self.first_cached };
        let mut next = start.max(self.first_located);
        while next < end.min(cached_from).min(self.located_end()) {
            let location = self.located[(next - self.first_located) as usize];
            let Some(file) = self.segments.get(&location.segment) else { return plan };
            plan.from_files.push((Arc::clone(file), location));
            next += 1;
            bytes += location.bytes as usize;
            if bytes >= limit {
                return plan;
            }
        }
        let skip = start.max(next).saturating_sub(self.first_cached) as usize;
        for entry in self.cache.iter().skip(skip) {
            if entry.index() >= end {
                break;
            }
            bytes += entry_bytes(entry);
            plan.from_cache.push(entry.clone());
            if bytes >= limit {
                break;
            }
        }
        plan
    }
}
