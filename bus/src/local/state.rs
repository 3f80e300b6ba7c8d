//! What the writer and the readers of a stream share.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::files::segment_path;
use super::floor::Floors;
use crate::{BusError, StreamInfo};

/// What `stream.json` holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Settings {
    pub(super) format_version: u32,
    pub(super) name: String,
    pub(super) created_ms: i64,
    pub(super) subjects: Vec<String>,
    /// 0 keeps messages for ever.
    pub(super) max_age_ms: u64,
    pub(super) dedup_window_ms: u64,
    pub(super) max_message_bytes: u32,
}

/// A segment as far as it is synced.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub(super) first_sequence: u64,
    /// `first_sequence - 1` while it is empty.
    pub(super) last_sequence: u64,
    pub(super) length_bytes: u64,
    /// No message in it is newer than this.
    pub(super) newest_ms: i64,
}

/// What readers wait for: more messages, or a change among the consumers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tick {
    pub(super) last_sequence: u64,
    pub(super) opened_consumers: u64,
    pub(super) deleted: bool,
}

/// What writer and readers of a stream share.
pub(super) struct State {
    pub(super) name: String,
    pub(super) directory: PathBuf,
    pub(super) created_ms: i64,
    settings: Mutex<Settings>,
    segments: Mutex<Vec<Segment>>,
    consumers: Mutex<HashMap<String, u64>>,
    floors: Floors,
    pub(super) ticks: watch::Sender<Tick>,
}

impl State {
    /// A stream as its folder has it; nobody reads it yet.
    pub(super) fn new(directory: &Path, settings: Settings, segments: Vec<Segment>) -> Self {
        let last_sequence = segments.last().map_or(0, |segment| segment.last_sequence);
        Self {
            name: settings.name.clone(),
            directory: directory.to_owned(),
            created_ms: settings.created_ms,
            settings: Mutex::new(settings),
            segments: Mutex::new(segments),
            consumers: Mutex::new(HashMap::new()),
            floors: Floors::default(),
            ticks: watch::Sender::new(Tick { last_sequence, opened_consumers: 0, deleted: false }),
        }
    }

    pub(super) fn settings(&self) -> MutexGuard<'_, Settings> {
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn segments(&self) -> MutexGuard<'_, Vec<Segment>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn info(&self) -> StreamInfo {
        let segments = self.segments();
        let first_sequence = segments.first().map_or(1, |segment| segment.first_sequence);
        let last_sequence = segments.last().map_or(0, |segment| segment.last_sequence);
        let messages = last_sequence + 1 - first_sequence;
        StreamInfo { created_ms: self.created_ms, first_sequence, last_sequence, messages }
    }

    /// Makes the caller the one holder of consumer `durable`, which begins behind `floor`, and returns the token that says
    /// so. Blocks on files.
    pub(super) fn take_consumer(&self, durable: &str, floor: u64) -> Result<u64, BusError> {
        let mut consumers = self.consumers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut token = 0;
        self.ticks.send_modify(|tick| {
            tick.opened_consumers += 1;
            token = tick.opened_consumers;
        });
        consumers.insert(durable.to_owned(), token);
        drop(consumers);
        self.floors.begin(&self.directory, self.created_ms, durable, floor)?;
        Ok(token)
    }

    /// Records that the holder of consumer `durable` has acknowledged everything up to `upto`. Blocks on files.
    pub(super) fn acknowledge(&self, durable: &str, token: u64, upto: u64) -> Result<(), BusError> {
        self.floors.raise(self.created_ms, durable, upto, || self.check_consumer(durable, token))
    }

    /// Up to where consumer `durable` has acknowledged everything, if it was ever opened. Blocks on files.
    pub(super) fn acknowledged_upto(&self, durable: &str) -> Result<Option<u64>, BusError> {
        self.floors.of(&self.directory, self.created_ms, durable)
    }

    /// Fails if another has taken the consumer, or the stream is gone.
    pub(super) fn check_consumer(&self, durable: &str, token: u64) -> Result<(), BusError> {
        let lost = |reason: &str| BusError::ConsumerLost {
            stream: self.name.clone(),
            durable: durable.to_owned(),
            reason: reason.to_owned(),
        };
        if self.ticks.borrow().deleted {
            return Err(lost("the stream was deleted"));
        }
        let consumers = self.consumers.lock().unwrap_or_else(PoisonError::into_inner);
        if consumers.get(durable) == Some(&token) {
            Ok(())
        } else {
            Err(lost("it was opened again elsewhere"))
        }
    }

    pub(super) fn segment_path(&self, first_sequence: u64) -> PathBuf {
        segment_path(&self.directory, first_sequence)
    }
}
