//! The trace beside a file, `<filename>.trace.json.zst`: one line of JSON for each call event, which leads to the sealed
//! row that it was made from, and the totals that they add up to.
//!
//! The first line is known last. So it is a zstd frame of its own in front of the frame with the others; any zstd tool
//! unpacks both as one text. Both frames carry checksums.

use super::error::TraceError;
use super::file::FileSummary;
use super::header::LocalTime;
use super::mapping::FileKind;
use super::spool::Spool;
use super::variant::Variant;
use cdr_core::hash::{from_hex, push_hex, to_hex};
use cdr_core::{CdrId, Hash, Hour};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

/// Compression level: most of a line is a hash, which a higher one does not make smaller.
const LEVEL: i32 = 1;
/// No line of a trace is longer.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// Name of the trace of a file.
pub fn trace_name(file_name: &str) -> String {
    format!("{file_name}.trace.json.zst")
}

/// The first line of a trace: which file, made how, with which totals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TraceHead {
    /// Name of the file.
    pub file_name: String,
    /// SHA-256 of the file, in hexadecimal.
    pub file_sha256: String,
    /// Its size.
    pub byte_size: u64,
    /// Its kind, `TAP_3_12` or `RAP_1_5`.
    pub export_type: String,
    /// Variant by which it was made.
    pub schema_variant: String,
    /// Hash of that variant, in hexadecimal.
    pub schema_hash: String,
    /// How many call events it has.
    pub calls: u64,
    /// Sum of their charges in units of the last decimal place, in decimal.
    pub total_charge: String,
    /// Decimal places of every charge.
    pub decimal_places: u8,
    /// Currency of every charge.
    pub currency: String,
    /// Time of the first call event.
    pub earliest: Option<LocalTime>,
    /// Time of the last one.
    pub latest: Option<LocalTime>,
}

impl TraceHead {
    /// The head for a file of `variant`.
    pub fn new(variant: &Variant, file: &FileSummary) -> Self {
        Self {
            file_name: file.file_name.clone(),
            file_sha256: to_hex(&file.sha256),
            byte_size: file.bytes,
            export_type: file.kind.as_str().to_owned(),
            schema_variant: variant.name.clone(),
            schema_hash: to_hex(&variant.hash),
            calls: file.calls,
            total_charge: file.total_charge.to_string(),
            decimal_places: file.decimal_places,
            currency: file.currency.clone(),
            earliest: file.earliest,
            latest: file.latest,
        }
    }

    /// Which kind of file; none if the text is of no kind.
    pub fn kind(&self) -> Option<FileKind> {
        FileKind::parse(&self.export_type)
    }
}

/// Where a call event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceEvent {
    /// Its place in the file, from 0.
    pub index: u64,
    /// The original record.
    pub cdr_id: CdrId,
    /// In a RAP file: the adjustment. The fields below are then those of its row.
    pub adjustment_id: Option<CdrId>,
    /// Hash of the row: the leaf of its sealed hour.
    pub row_hash: Hash,
    /// Hour in which the row is sealed.
    pub bucket_hour: Hour,
    /// Place of the row in that hour.
    pub cdr_sequence: u64,
    /// Charge in units of the last decimal place.
    pub charge: i64,
}

/// Writes a trace as the call events of its file come.
pub struct TraceWriter {
    lines: zstd::Encoder<'static, Spool>,
    line: Vec<u8>,
}

impl TraceWriter {
    /// Opens a trace; its lines are spooled in `folder`.
    ///
    /// # Errors
    /// If the spool file can't be made.
    pub fn new(folder: &Path) -> io::Result<Self> {
        let mut lines = zstd::Encoder::new(Spool::new(folder)?, LEVEL)?;
        lines.include_checksum(true)?;
        Ok(Self { lines, line: Vec::new() })
    }

    /// Appends a call event.
    ///
    /// # Errors
    /// If the spool file can't be written.
    pub fn push(&mut self, event: &TraceEvent) -> io::Result<()> {
        self.line.clear();
        event.push(&mut self.line);
        self.lines.write_all(&self.line)
    }

    /// Writes the trace with `head` as its first line.
    ///
    /// # Errors
    /// If spool file or output fail; what was written is then worthless.
    pub fn finish(self, head: &TraceHead, out: &mut impl Write) -> io::Result<()> {
        let spool = self.lines.finish()?;
        let mut first = zstd::Encoder::new(&mut *out, LEVEL)?;
        first.include_checksum(true)?;
        serde_json::to_writer(&mut first, head)?;
        first.write_all(b"\n")?;
        first.finish()?;
        spool.copy(out)?;
        out.flush()
    }
}

impl TraceEvent {
    /// Appends the line.
    fn push(&self, out: &mut Vec<u8>) {
        let mut number = String::new();
        let mut put = |text: &str, value: &dyn std::fmt::Display, out: &mut Vec<u8>| {
            number.clear();
            // Writing to a String does not fail.
            let _ = write!(number, "{value}");
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(number.as_bytes());
        };
        put("{\"index\":", &self.index, out);
        out.extend_from_slice(b",\"cdrId\":\"cdr_");
        self.cdr_id.push_base32(out);
        if let Some(id) = self.adjustment_id {
            out.extend_from_slice(b"\",\"adjustmentId\":\"adj_");
            id.push_base32(out);
        }
        out.extend_from_slice(b"\",\"rowHash\":\"");
        push_hex(out, &self.row_hash);
        out.extend_from_slice(b"\",\"bucketHour\":\"");
        self.bucket_hour.push_utc(out);
        put("\",\"cdrSequence\":", &self.cdr_sequence, out);
        put(",\"charge\":\"", &self.charge, out);
        out.extend_from_slice(b"\"}\n");
    }
}

/// A line as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Line {
    index: u64,
    cdr_id: String,
    adjustment_id: Option<String>,
    row_hash: String,
    bucket_hour: Hour,
    cdr_sequence: u64,
    charge: String,
}

impl Line {
    fn event(&self) -> Option<TraceEvent> {
        let adjustment = self.adjustment_id.as_ref().map(|id| CdrId::parse_prefixed("adj_", id));
        if let Some(None) = adjustment {
            return None;
        }
        Some(TraceEvent {
            index: self.index,
            cdr_id: CdrId::parse(&self.cdr_id)?,
            adjustment_id: adjustment.flatten(),
            row_hash: from_hex(&self.row_hash)?,
            bucket_hour: self.bucket_hour,
            cdr_sequence: self.cdr_sequence,
            charge: self.charge.parse().ok()?,
        })
    }
}

/// Reads a trace line by line. Its checksums are checked on the way, and so are order, number and sum of its lines: when
/// the iterator ends without an error, the trace is whole.
pub struct TraceReader<R: Read> {
    lines: BufReader<zstd::Decoder<'static, BufReader<R>>>,
    head: TraceHead,
    total: i128,
    number: u64,
    is_done: bool,
}

impl<R: Read> TraceReader<R> {
    /// Opens the trace `input` and reads its head.
    ///
    /// # Errors
    /// If it is not a trace.
    pub fn new(input: R) -> Result<Self, TraceError> {
        let mut lines = BufReader::new(zstd::Decoder::new(input)?);
        let text = next_line(&mut lines, 1)?
            .ok_or(TraceError::Line { line: 1, why: "the trace is empty".to_owned() })?;
        let head: TraceHead = serde_json::from_slice(&text).map_err(|error| TraceError::Line {
            line: 1,
            why: format!("not the head of a trace: {error}"),
        })?;
        Ok(Self { lines, head, total: 0, number: 0, is_done: false })
    }

    /// The first line.
    pub fn head(&self) -> &TraceHead {
        &self.head
    }

    fn read(&mut self) -> Result<Option<TraceEvent>, TraceError> {
        let line = self.number + 2;
        let wrong = |why: String| TraceError::Line { line, why };
        let Some(text) = next_line(&mut self.lines, line)? else {
            if (self.number, self.total.to_string()) != (self.head.calls, self.head.total_charge.clone()) {
                return Err(wrong(format!(
                    "the trace ends with {} call events and a total of {}, but its head says {} and {}",
                    self.number, self.total, self.head.calls, self.head.total_charge
                )));
            }
            return Ok(None);
        };
        let read: Line = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        let event = read.event().ok_or_else(|| wrong("an id, hash or charge is malformed".to_owned()))?;
        if event.index != self.number {
            return Err(wrong(format!("index {} where {} is expected", event.index, self.number)));
        }
        self.number += 1;
        self.total += i128::from(event.charge);
        Ok(Some(event))
    }
}

fn next_line(lines: &mut impl BufRead, number: u64) -> Result<Option<Vec<u8>>, TraceError> {
    let mut line = Vec::new();
    lines.take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) => Err(TraceError::Line { line: number, why: "it has no end".to_owned() }),
    }
}

impl<R: Read> Iterator for TraceReader<R> {
    type Item = Result<TraceEvent, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let event = self.read().transpose();
        self.is_done = !matches!(event, Some(Ok(_)));
        event
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn head(calls: u64, total: i128) -> TraceHead {
        TraceHead {
            file_name: "a.tap".to_owned(),
            file_sha256: "00".repeat(32),
            byte_size: 1,
            export_type: "TAP_3_12".to_owned(),
            schema_variant: "v".to_owned(),
            schema_hash: "11".repeat(32),
            calls,
            total_charge: total.to_string(),
            decimal_places: 6,
            currency: "AFN".to_owned(),
            earliest: None,
            latest: None,
        }
    }

    fn event(index: u64) -> TraceEvent {
        TraceEvent {
            index,
            cdr_id: CdrId([index as u8; 16]),
            adjustment_id: (index % 2 == 1).then_some(CdrId([7; 16])),
            row_hash: [index as u8; 32],
            bucket_hour: Hour(493_526),
            cdr_sequence: index + 1,
            charge: i64::MAX - index as i64,
        }
    }

    fn trace(head: &TraceHead, events: &[TraceEvent]) -> Vec<u8> {
        let mut writer = TraceWriter::new(&std::env::temp_dir()).unwrap();
        for event in events {
            writer.push(event).unwrap();
        }
        let mut out = Vec::new();
        writer.finish(head, &mut out).unwrap();
        out
    }

    fn read(bytes: &[u8]) -> Result<Vec<TraceEvent>, TraceError> {
        TraceReader::new(bytes)?.collect()
    }

    #[test]
    fn lines_and_back() {
        let events: Vec<_> = (0..1000).map(event).collect();
        let total = events.iter().map(|event| i128::from(event.charge)).sum();
        let head = head(1000, total);
        let bytes = trace(&head, &events);
        assert_eq!(TraceReader::new(&bytes[..]).unwrap().head(), &head);
        assert_eq!(read(&bytes).unwrap(), events);
        assert_eq!(head.kind(), Some(FileKind::Tap));
    }

    #[test]
    fn a_trace_without_call_events() {
        assert_eq!(read(&trace(&head(0, 0), &[])).unwrap(), []);
    }

    #[test]
    fn what_does_not_add_up_is_found() {
        let sum: i128 = (0..3).map(|index| i128::from(event(index).charge)).sum();
        let events = [event(0), event(1), event(2)];
        assert!(read(&trace(&head(3, sum), &events)).is_ok());
        for (bytes, part) in [
            (trace(&head(4, sum), &events), "ends with 3"),
            (trace(&head(3, sum + 1), &events), "total"),
            (trace(&head(3, sum), &[event(0), event(2), event(1)]), "index 2 where 1"),
            (trace(&head(3, sum), &events[..2]), "ends with 2"),
        ] {
            let error = read(&bytes).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_damaged_trace_is_refused() {
        let whole = trace(&head(1, event(0).charge.into()), &[event(0)]);
        assert!(read(&whole).is_ok());
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x10;
            // A few bits of a zstd header change nothing of what it holds.
            assert!(
                read(&damaged).is_ok_and(|events| events == [event(0)]) || read(&damaged).is_err(),
                "byte {at}"
            );
            assert!(read(&whole[..at]).is_err(), "cut at {at}");
        }
    }
}
