//! The log against crashes, cuts and disks that fail.
#![allow(clippy::unwrap_used)]

mod faults;
mod model;
mod recovery;

use super::{LogError, LogOptions, LogStore};
use crate::failure::Failure;
use crate::types::{CommandBytes, Entry, LogId, Vote};
use openraft::EntryPayload;
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};
use std::path::{Path, PathBuf};

fn options() -> LogOptions {
    let mut options = LogOptions::new("test", 1);
    options.segment_bytes = 1 << 20;
    options.marker_interval_ms = 0;
    options
}

fn open(dir: &Path) -> Result<LogStore, LogError> {
    LogStore::open(dir, options(), Failure::default())
}

fn entry(term: u64, index: u64, bytes: usize) -> Entry {
    let command = CommandBytes(vec![index as u8; bytes].into());
    Entry { log_id: LogId::new_term_index(term, index), payload: EntryPayload::Normal(command) }
}

fn vote(term: u64) -> Vote {
    Vote { leader_id: openraft::vote::RaftLeaderId::new(term, 1), committed: true }
}

async fn append(log: &mut LogStore, term: u64, indexes: std::ops::Range<u64>) {
    log.blocking_append(indexes.map(|index| entry(term, index, 40))).await.unwrap();
}

async fn entries(log: &mut LogStore) -> Vec<Entry> {
    log.try_get_log_entries(..).await.unwrap()
}

async fn last_index(log: &mut LogStore) -> Option<u64> {
    log.get_log_state().await.unwrap().last_log_id.map(|last| last.index())
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    super::files::segment_numbers(dir)
        .unwrap()
        .iter()
        .map(|number| super::files::segment_path(dir, *number))
        .collect()
}

fn copy(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.path().join(file.file_name())).unwrap();
    }
    to
}

fn is_amnesia(result: &Result<LogStore, LogError>) -> bool {
    matches!(result, Err(LogError::Amnesia { .. }))
}
