//! Inbound streams: how far each is accounted for, and what became of the open hour's messages.

use crate::hash::Hash;
use crate::seal::StreamStatement;
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// The body of a `stream` row: an inbound stream or a new epoch of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StreamRecord {
    /// When the bus says the stream was created, RFC 3339 with the precision the bus gives.
    pub created: String,
    /// First sequence of the epoch.
    pub first_sequence: u64,
    /// Why the epoch was opened.
    pub reason: String,
    /// `NAME`, or `NAME#2` for a second epoch.
    pub stream: String,
}

/// Position and counters of a stream epoch.
#[derive(Clone, Debug, PartialEq, Encode, Decode)]
pub struct Stream {
    /// Name of the epoch.
    pub name: String,
    /// When the bus says the stream was created.
    pub created: String,
    /// Last sequence that is accounted for.
    pub position: u64,
    /// SHA-256 of the message at `position`.
    pub digest: Hash,
    /// Position when the open hour began.
    pub hour_start: u64,
    /// Rows of the open hour.
    pub appended: u64,
    /// Known messages of the open hour.
    pub duplicate: u64,
    /// Non-final messages of the open hour.
    pub ignored: u64,
    /// Dead letters of the open hour.
    pub dead_lettered: u64,
    /// Deleted sequences of the open hour.
    pub missing: u64,
}

impl Stream {
    /// A stream epoch that begins after `position`.
    pub fn new(name: String, created: String, position: u64) -> Self {
        Self {
            name,
            created,
            position,
            digest: [0; 32],
            hour_start: position,
            appended: 0,
            duplicate: 0,
            ignored: 0,
            dead_lettered: 0,
            missing: 0,
        }
    }

    /// What became of every sequence in the open hour.
    pub fn statement(&self) -> StreamStatement {
        StreamStatement {
            appended: self.appended,
            dead_lettered: self.dead_lettered,
            duplicate: self.duplicate,
            first_sequence: self.hour_start + 1,
            ignored: self.ignored,
            last_sequence: self.position,
            missing: self.missing,
            received: self.position - self.hour_start - self.missing,
            stream: self.name.clone(),
        }
    }

    pub(super) fn next_hour(&mut self) {
        self.hour_start = self.position;
        (self.appended, self.duplicate, self.ignored) = (0, 0, 0);
        (self.dead_lettered, self.missing) = (0, 0);
    }
}

/// Name and number of a stream epoch: `NAME` is 1, `NAME#2` is 2.
pub fn stream_epoch(name: &str) -> Option<(&str, u32)> {
    match name.split_once('#') {
        None => (!name.is_empty()).then_some((name, 1)),
        Some((base, number)) => {
            let epoch = number.parse().ok()?;
            (epoch >= 2 && !base.is_empty() && format!("{base}#{epoch}") == name).then_some((base, epoch))
        }
    }
}
