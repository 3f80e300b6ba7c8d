//! Reading segments: a cursor that follows the synced part of a stream, and the scan at the start.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::files::failed;
use super::segment::{FRAME_BYTES, Frame, HEADER_BYTES, Record, frame};
use super::state::{Segment, State};
use crate::BusError;

/// Bytes read at once.
const CHUNK_BYTES: u64 = 512 << 10;

/// What is called for each record, with the bytes that it borrows from; `false` ends the reading behind it.
pub(super) type Visit<'a> = dyn FnMut(&Record<'_>, &Bytes) -> bool + 'a;

/// Runs blocking file work beside the runtime's own threads.
pub(super) async fn off_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BusError> + Send + 'static,
) -> Result<T, BusError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        let (operation, target) = ("a file task", "a local stream".to_owned());
        Err(BusError::Unavailable { operation, target, reason: error.to_string() })
    })
}

/// The place of a reader in the files of a stream.
#[derive(Default)]
pub(super) struct Cursor {
    open: Option<OpenSegment>,
}

struct OpenSegment {
    file: File,
    path: PathBuf,
    first_sequence: u64,
    next_sequence: u64,
    offset: u64,
}

impl Cursor {
    /// Visits the synced records from `sequence` on, or from the first that the stream still has behind it, until the
    /// visitor has enough or there are no more.
    pub(super) fn read(
        &mut self,
        state: &State,
        sequence: u64,
        visit: &mut Visit<'_>,
    ) -> Result<(), BusError> {
        let mut wanted = sequence;
        while let Some((open, segment)) = self.segment_for(state, wanted)? {
            let (from, first) = (wanted, open.next_sequence);
            let mut next = first;
            let mut more = true;
            let mut pass = |record: &Record<'_>, file: &Bytes| {
                next = record.sequence + 1;
                if record.sequence >= from {
                    more = visit(record, file);
                }
                more
            };
            let end =
                read_records(&open.file, &open.path, open.offset, segment.length_bytes, &mut pass, first)?;
            open.next_sequence = next;
            open.offset = end.offset;
            let short = more && next <= segment.last_sequence;
            if let Some(reason) = end.damage.or(short.then_some("messages are missing at its end")) {
                return Err(BusError::Damaged { path: open.path.clone(), offset: end.offset, reason });
            }
            if !more {
                return Ok(());
            }
            wanted = wanted.max(next);
        }
        Ok(())
    }

    /// The segment that holds `sequence`, or the first one behind it, opened; `None` at the stream's synced end.
    fn segment_for(
        &mut self,
        state: &State,
        sequence: u64,
    ) -> Result<Option<(&mut OpenSegment, Segment)>, BusError> {
        loop {
            let found = state.segments().iter().find(|segment| segment.last_sequence >= sequence).copied();
            let Some(segment) = found else { return Ok(None) };
            let first_sequence = segment.first_sequence;
            let stands = |open: &OpenSegment| {
                open.first_sequence == first_sequence && open.next_sequence <= sequence.max(first_sequence)
            };
            if !self.open.as_ref().is_some_and(stands) {
                let path = state.segment_path(first_sequence);
                let file = match File::open(&path) {
                    Ok(file) => file,
                    // Dropped for its age since the list was read.
                    Err(error)
                        if error.kind() == ErrorKind::NotFound && is_dropped(state, first_sequence) =>
                    {
                        continue;
                    }
                    Err(source) => return Err(failed("open", &path, source)),
                };
                let (next_sequence, offset) = (first_sequence, HEADER_BYTES);
                self.open = Some(OpenSegment { file, path, first_sequence, next_sequence, offset });
            }
            return Ok(self.open.as_mut().map(|open| (open, segment)));
        }
    }
}

fn is_dropped(state: &State, first_sequence: u64) -> bool {
    !state.segments().iter().any(|segment| segment.first_sequence == first_sequence)
}

/// Where records end.
pub(super) struct End {
    /// Just behind the last good record that was visited.
    pub(super) offset: u64,
    /// Why reading could not go on to the end of the bytes, if it could not.
    pub(super) damage: Option<&'static str>,
}

/// Visits the records of a whole file whose header was checked.
pub(super) fn scan(path: &Path, first_sequence: u64, visit: &mut Visit<'_>) -> Result<End, BusError> {
    let file = File::open(path).map_err(|source| failed("open", path, source))?;
    let length_bytes = file.metadata().map_err(|source| failed("read", path, source))?.len();
    read_records(&file, path, HEADER_BYTES, length_bytes, visit, first_sequence)
}

/// Visits the records from `offset` up to `length_bytes`, which must be numbered from `next_sequence`.
fn read_records(
    file: &File,
    path: &Path,
    mut offset: u64,
    length_bytes: u64,
    visit: &mut Visit<'_>,
    mut next_sequence: u64,
) -> Result<End, BusError> {
    let mut want = CHUNK_BYTES;
    while offset < length_bytes {
        let mut chunk = vec![0; want.min(length_bytes - offset) as usize];
        file.read_exact_at(&mut chunk, offset).map_err(|source| failed("read", path, source))?;
        let chunk = Bytes::from(chunk);
        let mut at = 0;
        loop {
            let damage = match frame(&chunk[at..]) {
                Frame::Whole(length) => {
                    let record = Record::read(&chunk[at + FRAME_BYTES..at + length]);
                    if let Some(record) = record.filter(|record| record.sequence == next_sequence) {
                        at += length;
                        next_sequence += 1;
                        if !visit(&record, &chunk) {
                            return Ok(End { offset: offset + at as u64, damage: None });
                        }
                        continue;
                    }
                    "a record is not the one that should be here"
                }
                Frame::Partial(length) if offset + (at + length) as u64 <= length_bytes => {
                    want = CHUNK_BYTES.max(length as u64);
                    break;
                }
                Frame::Partial(_) if offset + at as u64 == length_bytes => break,
                Frame::Partial(_) => "a record is cut short",
                Frame::Damaged(reason) => reason,
            };
            return Ok(End { offset: offset + at as u64, damage: Some(damage) });
        }
        offset += at as u64;
    }
    Ok(End { offset, damage: None })
}
