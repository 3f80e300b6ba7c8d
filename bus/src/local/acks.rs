//! What a work queue has done with: the file of its acknowledged sequences, `queue-<durable>.acks`.
//!
//! All integers are little-endian. Everything up to the floor is done with; each record adds one sequence above it. When
//! there are many records, the file is rewritten with a higher floor.
//!
//! ```text
//! header   magic "CDRACK\0\x01" | created_ms i64, of the stream | floor u64 | filter length u16 | filter, a subject or
//!          nothing | crc32 of everything before
//! record   sequence u64 | crc32 of those 8 bytes
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::files::{cut, failed, replace_file};
use super::state::State;
use crate::BusError;

/// First bytes of a file; the last one is the format version.
const MAGIC: [u8; 8] = *b"CDRACK\0\x01";
/// The header without filter and sum.
const FIXED_BYTES: usize = 26;
const RECORD_BYTES: usize = 12;
/// Records beyond those that are needed, after which the file is rewritten.
const SPARE_RECORDS: usize = 65_536;

/// The acknowledged sequences of a work queue.
pub(super) struct Acks {
    stream: String,
    directory: PathBuf,
    path: PathBuf,
    created_ms: i64,
    filter: String,
    file: File,
    /// Records in the file.
    records: usize,
    floor: u64,
    above: BTreeSet<u64>,
    /// The first failed write, after which nothing is written any more.
    failure: Option<String>,
}

impl Acks {
    /// Opens the file, or makes one in which nothing is done with. After a crash, a record that was not written whole is
    /// cut off, and its message comes again; a damaged header is an error.
    pub(super) fn open(state: &State, durable: &str, filter: &str) -> Result<Self, BusError> {
        let path = state.directory.join(format!("queue-{durable}.acks"));
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let fresh = header(state.created_ms, 0, filter);
                replace_file(&state.directory, &path, &fresh)?;
                fresh
            }
            Err(source) => return Err(failed("read", &path, source)),
        };
        let damaged = |reason| BusError::Damaged { path: path.clone(), offset: 0, reason };
        let (created_ms, floor, known) =
            read_header(&bytes).ok_or_else(|| damaged("not the header of a work queue, format 1"))?;
        if created_ms != state.created_ms {
            return Err(damaged("it is of another stream"));
        }
        if known != filter {
            return Err(other_filter(state, durable, known, filter));
        }
        let header_bytes = header(created_ms, floor, filter).len();
        let above: Vec<u64> =
            bytes[header_bytes..].chunks_exact(RECORD_BYTES).map_while(read_record).collect();
        let whole_bytes = header_bytes + above.len() * RECORD_BYTES;
        cut(&path, whole_bytes as u64, bytes.len() as u64)?;
        let mut acks = Self {
            stream: state.name.clone(),
            directory: state.directory.clone(),
            file: open_for_append(&path)?,
            path,
            created_ms,
            filter: filter.to_owned(),
            records: above.len(),
            floor,
            above: above.into_iter().collect(),
            failure: None,
        };
        acks.raise_floor(floor);
        Ok(acks)
    }

    pub(super) fn filter(&self) -> &str {
        &self.filter
    }

    /// Everything up to here is done with.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    pub(super) fn is_done(&self, sequence: u64) -> bool {
        sequence <= self.floor || self.above.contains(&sequence)
    }

    /// Nothing up to `floor` is needed any more: it is acknowledged, or not of this queue. Remembered with the next time
    /// that the file is rewritten; until then it follows from the stream.
    pub(super) fn raise_floor(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        while self.above.first().is_some_and(|first| *first <= self.floor + 1) {
            self.floor = self.floor.max(self.above.pop_first().unwrap_or_default());
        }
    }

    /// Writes and syncs acknowledgements, all with one sync.
    pub(super) fn add(&mut self, sequences: &[u64]) -> Result<(), BusError> {
        if self.failure.is_none()
            && let Err(error) = self.write(sequences)
        {
            tracing::error!(stream = %self.stream, %error, "a work queue stopped");
            self.failure = Some(error.to_string());
        }
        match &self.failure {
            None => Ok(()),
            Some(reason) => Err(BusError::Stopped { stream: self.stream.clone(), reason: reason.clone() }),
        }
    }

    fn write(&mut self, sequences: &[u64]) -> Result<(), BusError> {
        let mut bytes = Vec::new();
        for &sequence in sequences {
            if !self.is_done(sequence) && self.above.insert(sequence) {
                push_record(&mut bytes, sequence);
            }
        }
        if bytes.is_empty() {
            return Ok(());
        }
        self.file.write_all(&bytes).map_err(|source| failed("write to", &self.path, source))?;
        self.file.sync_data().map_err(|source| failed("sync", &self.path, source))?;
        self.records += bytes.len() / RECORD_BYTES;
        if self.records > SPARE_RECORDS + 2 * self.above.len() {
            self.write_anew()?;
        }
        Ok(())
    }

    fn write_anew(&mut self) -> Result<(), BusError> {
        let mut bytes = header(self.created_ms, self.floor, &self.filter);
        self.above.iter().for_each(|sequence| push_record(&mut bytes, *sequence));
        replace_file(&self.directory, &self.path, &bytes)?;
        self.file = open_for_append(&self.path)?;
        self.records = self.above.len();
        Ok(())
    }
}

/// A queue that is over other messages than needed.
pub(super) fn other_filter(state: &State, durable: &str, known: &str, wanted: &str) -> BusError {
    let (stream, durable) = (state.name.clone(), durable.to_owned());
    let reason = format!("its subject is {known:?}, not {wanted:?}");
    BusError::IncompatibleConsumer { stream, durable, reason }
}

fn open_for_append(path: &Path) -> Result<File, BusError> {
    File::options().append(true).open(path).map_err(|source| failed("open", path, source))
}

fn header(created_ms: i64, floor: u64, filter: &str) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.extend_from_slice(&created_ms.to_le_bytes());
    out.extend_from_slice(&floor.to_le_bytes());
    out.extend_from_slice(&(filter.len() as u16).to_le_bytes());
    out.extend_from_slice(filter.as_bytes());
    let crc = crc32fast::hash(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

fn read_header(bytes: &[u8]) -> Option<(i64, u64, &str)> {
    let length = u16::from_le_bytes(bytes.get(24..FIXED_BYTES)?.try_into().ok()?);
    let end = FIXED_BYTES + usize::from(length);
    let crc = u32::from_le_bytes(bytes.get(end..end + 4)?.try_into().ok()?);
    if bytes[..8] != MAGIC || crc32fast::hash(&bytes[..end]) != crc {
        return None;
    }
    let created_ms = i64::from_le_bytes(bytes[8..16].try_into().ok()?);
    let floor = u64::from_le_bytes(bytes[16..24].try_into().ok()?);
    Some((created_ms, floor, std::str::from_utf8(&bytes[FIXED_BYTES..end]).ok()?))
}

fn push_record(out: &mut Vec<u8>, sequence: u64) {
    let bytes = sequence.to_le_bytes();
    out.extend_from_slice(&bytes);
    out.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
}

fn read_record(bytes: &[u8]) -> Option<u64> {
    let (sequence, crc) = bytes.split_first_chunk::<8>()?;
    (crc == crc32fast::hash(sequence).to_le_bytes()).then(|| u64::from_le_bytes(*sequence))
}
