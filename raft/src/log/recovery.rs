//! Reading a log back.

use super::contents::{Contents, Location};
use super::error::LogError;
use super::files::{first_record, segment_header, segment_numbers, segment_path};
use super::marker::Flushed;
use super::record::{Position, Record};
use crate::codec::CodecError;
use openraft::entry::RaftEntry;
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::sync::Arc;

/// A log that was read back.
#[derive(Debug)]
pub(super) struct Recovered {
    pub contents: Contents,
    /// After the last valid record.
    pub tail: Position,
    /// The last segment records that the log goes on in the next one.
    pub rolled: bool,
    /// A segment whose creation was not finished.
    pub unfinished: Option<u64>,
}

/// Why a segment can't be read back.
enum Unreadable {
    /// What was synced is missing.
    Lost(String),
    /// What is there was written by another build.
    Foreign(Position, CodecError),
}

struct Replay {
    contents: Contents,
    tail: Position,
    rolled: bool,
    started: bool,
}

/// Reads all segments, changing nothing. `None` if there are none. `Err(reason)` inside if records that
/// were synced are not readable.
pub(super) fn recover(dir: &Path) -> Result<Result<Option<Recovered>, String>, LogError> {
    let numbers = segment_numbers(dir)?;
    let Some(&last) = numbers.last() else { return Ok(Ok(None)) };
    if let Some(gap) = numbers.windows(2).find(|pair| pair[0] + 1 != pair[1]) {
        return Ok(Err(format!("segments {} to {} are missing", gap[0] + 1, gap[1] - 1)));
    }
    let mut replay =
        Replay { contents: Contents::default(), tail: Position::default(), rolled: true, started: false };
    let mut unfinished = None;
    for number in numbers {
        if !replay.rolled {
            return Ok(Err(format!("segment {} is not readable to its end, at {}", number - 1, replay.tail)));
        }
        let path = segment_path(dir, number);
        let bytes = std::fs::read(&path).map_err(LogError::io("read", &path))?;
        match replay.read_segment(number, &bytes) {
            Ok(true) => {}
            Ok(false) if number == last => unfinished = Some(number),
            Ok(false) => return Ok(Err(format!("the start of segment {number} is not readable"))),
            Err(Unreadable::Lost(reason)) => return Ok(Err(reason)),
            Err(Unreadable::Foreign(at, source)) => {
                return Err(LogError::Foreign { path, at: at.to_string(), source });
            }
        }
        if unfinished.is_none() {
            let file = open_segment(&path)?;
            replay.contents.segments.insert(number, Arc::new(file));
        }
    }
    if replay.contents.has_hole() {
        return Ok(Err("entries after the last purged one are missing".into()));
    }
    Ok(Ok(Some(replay.finish(unfinished))))
}

fn open_segment(path: &Path) -> Result<File, LogError> {
    OpenOptions::new().read(true).write(true).open(path).map_err(LogError::io("open", path))
}

impl Replay {
    /// Reads one segment. `Ok(false)` if not even its first record is present.
    fn read_segment(&mut self, number: u64, bytes: &[u8]) -> Result<bool, Unreadable> {
        let mut at = first_record(number);
        if !bytes.starts_with(&segment_header(number)) {
            return Ok(false);
        }
        let Some((Record::State(state), len)) = Self::read(at, bytes)? else {
            return Ok(false);
        };
        if self.started && state.purged != self.contents.state.purged {
            let reason = format!("segment {number} does not go on where segment {} ended", number - 1);
            return Err(Unreadable::Lost(reason));
        }
        self.contents.state = state;
        self.started = true;
        self.rolled = false;
        at.offset += len as u64;
        while !self.rolled {
            let Some((record, len)) = Self::read(at, bytes)? else { break };
            self.take(record, at, len).map_err(Unreadable::Lost)?;
            at.offset += len as u64;
        }
        self.tail = at;
        Ok(true)
    }

    fn read(at: Position, bytes: &[u8]) -> Result<Option<(Record, usize)>, Unreadable> {
        Record::read(at, &bytes[at.offset as usize..]).map_err(|error| Unreadable::Foreign(at, error))
    }

    fn take(&mut self, record: Record, at: Position, len: usize) -> Result<(), String> {
        let contents = &mut self.contents;
        match record {
            Record::State(_) => return Err(format!("a segment's first record is at {at}")),
            Record::Entry(entry) => {
                let term = entry.log_id.leader_id.term;
                let location = Location { segment: at.segment, offset: at.offset, bytes: len as u32, term };
                if !contents.locate(entry.index(), location) {
                    return Err(format!("entry {} at {at} does not follow the one before", entry.index()));
                }
            }
            Record::Vote(vote) => contents.state.vote = Some(vote),
            Record::Committed(log_id) => contents.state.committed = log_id,
            Record::TruncateFrom(index) => contents.truncate(index),
            Record::PurgeUpto(log_id) => contents.purge(log_id),
            Record::Roll => self.rolled = true,
        }
        Ok(())
    }

    fn finish(mut self, unfinished: Option<u64>) -> Recovered {
        if let Some(purged) = self.contents.state.purged {
            self.contents.purge(purged);
        }
        Recovered { contents: self.contents, tail: self.tail, rolled: self.rolled, unfinished }
    }
}

/// What is missing of what had been synced, if anything.
pub(super) fn missing(flushed: Flushed, recovered: Option<&Recovered>) -> Option<String> {
    let end = recovered.map(|recovered| recovered.tail).unwrap_or_default();
    if flushed.upto > end {
        return Some(format!("it was synced up to {} but is readable only up to {end}", flushed.upto));
    }
    let vote = recovered.and_then(|recovered| recovered.contents.state.vote);
    let term = vote.map(|vote| vote.leader_id.term);
    if flushed.vote_term > term {
        return Some(format!("it held a vote in term {:?} but now {term:?}", flushed.vote_term));
    }
    None
}
