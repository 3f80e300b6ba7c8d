//! Files are written as their call events come, in bounded memory: call events go to a spool file, because BER puts the
//! length of everything in front of it and the totals before them state what they add up to.

use super::ber;
use super::call::{CallEvent, Work};
use super::error::{EncodeError, FileError, PushError};
use super::header::{FileHeader, LocalTime};
use super::mapping::FileKind;
use super::plan::{Plan, Scratch};
use super::source::{Lookup, Totals};
use super::spool::{Hashing, Spool};
use super::variant::{Format, Variant};
use cdr_core::Hash;
use cdr_core::row::{Row, Sms};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

/// Writes a TAP file (US-CDR-007).
#[derive(Debug)]
pub struct FileWriter {
    variant: Arc<Variant>,
    body: Body,
}

/// A call event that was taken into a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Its place among the file's call events, from 0.
    pub index: u64,
    /// Its charge in units of the last decimal place. In a RAP file: the charge that is returned.
    pub charge: i64,
}

/// What became of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSummary {
    /// Name by the variant's pattern.
    pub file_name: String,
    /// Which kind.
    pub kind: FileKind,
    /// SHA-256 of its bytes.
    pub sha256: Hash,
    /// Its size.
    pub bytes: u64,
    /// How many call events it has; with 0 it is a Notification.
    pub calls: u64,
    /// Sum of their charges, in units of the last decimal place.
    pub total_charge: i128,
    /// Decimal places of every charge.
    pub decimal_places: u8,
    /// Currency of every charge.
    pub currency: String,
    /// Time of the first call event.
    pub earliest: Option<LocalTime>,
    /// Time of the last one.
    pub latest: Option<LocalTime>,
}

impl FileWriter {
    /// Opens a file; its call events are spooled in `folder`.
    ///
    /// # Errors
    /// A header that no file can have, or the spool file can't be made.
    pub fn new(variant: Arc<Variant>, header: &FileHeader, folder: &Path) -> Result<Self, FileError> {
        let body = Body::new(&variant.tap, header, folder)?;
        Ok(Self { variant, body })
    }

    /// Adds the record `row` with the fields of `sms`: its own, or those of the correction that gave it a price.
    ///
    /// # Errors
    /// [`PushError::Record`]: the record goes into quarantine, and the file is as it was before.
    /// [`PushError::File`]: give the file up.
    pub fn push(&mut self, row: &Row<'_>, sms: &Sms<'_>) -> Result<Taken, PushError> {
        let event = self.body.work.listed(&self.variant.tap, row, sms)?;
        Ok(self.body.ledger.take(&event)?)
    }

    /// How many call events were added.
    pub fn calls(&self) -> u64 {
        self.body.ledger.totals.calls
    }

    /// Writes the file; without call events it is a Notification.
    ///
    /// # Errors
    /// [`FileError`]; what was written is then worthless.
    pub fn finish(self, out: &mut impl Write) -> Result<FileSummary, FileError> {
        self.body.finish(&self.variant.tap, out)
    }
}

/// A file of either kind.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) work: Work,
    pub(super) ledger: Ledger,
}

/// The call events of a file and what they add up to.
#[derive(Debug)]
pub(super) struct Ledger {
    spool: Spool,
    pub(super) totals: Totals,
    offsets: BTreeSet<i16>,
}

impl Body {
    pub(super) fn new(format: &Format, header: &FileHeader, folder: &Path) -> Result<Self, FileError> {
        let work = Work::new(format, header)?;
        let spool = Spool::new(folder).map_err(FileError::io("making a spool file"))?;
        let body =
            Self { work, ledger: Ledger { spool, totals: Totals::default(), offsets: BTreeSet::new() } };
        body.try_header(format)?;
        Ok(body)
    }

    /// Evaluates everything around the call events once, so that a bad header is found before they come.
    fn try_header(&self, format: &Format) -> Result<(), FileError> {
        let at = Some(LocalTime::new(self.work.file.header.created.at, 0));
        let totals = Totals { calls: 1, charge: 0, earliest: at, latest: at };
        if let Some(empty) = &format.compiled.empty {
            self.encode(empty, &Totals::default(), &[])?;
        }
        for level in &format.compiled.frame {
            self.encode(&level.before, &totals, &[0])?;
            self.encode(&level.after, &totals, &[0])?;
        }
        Ok(())
    }

    fn encode(&self, plan: &Plan, totals: &Totals, offsets: &[i16]) -> Result<Vec<u8>, EncodeError> {
        let mut scratch = Scratch::default();
        let lookup = Lookup {
            file: &self.work.file,
            totals: Some(totals),
            offset: None,
            listed: None,
            adjusting: None,
        };
        plan.evaluate(&lookup, offsets, &mut scratch)?;
        ber::encode(plan, &scratch, Vec::new())
    }

    pub(super) fn finish(self, format: &Format, out: &mut impl Write) -> Result<FileSummary, FileError> {
        let io = |error| FileError::io("writing the file")(error);
        let offsets: Vec<i16> = self.ledger.offsets.iter().copied().collect();
        let mut hashing = Hashing::new(out);
        let totals = self.ledger.totals.clone();
        if totals.calls == 0 {
            let empty = format.compiled.empty.as_ref().ok_or(FileError::Empty)?;
            hashing.write_all(&self.encode(empty, &totals, &[])?).map_err(io)?;
        } else {
            let mut tail = Vec::new();
            let mut heads = Vec::new();
            // From the inside: the length of a group is known when everything in it is.
            let mut length = self.ledger.spool.bytes();
            for level in format.compiled.frame.iter().rev() {
                let before = self.encode(&level.before, &totals, &offsets)?;
                let after = self.encode(&level.after, &totals, &offsets)?;
                length += (before.len() + after.len()) as u64;
                let head = ber::header(level.tag, length)?;
                length += head.len() as u64;
                heads.push((head, before));
                tail.extend_from_slice(&after);
            }
            for (head, before) in heads.into_iter().rev() {
                hashing.write_all(&head).and_then(|()| hashing.write_all(&before)).map_err(io)?;
            }
            self.ledger.spool.copy(&mut hashing).map_err(FileError::io("copying the spool file"))?;
            hashing.write_all(&tail).map_err(io)?;
        }
        hashing.flush().map_err(io)?;
        let (sha256, bytes) = hashing.finish();
        Ok(FileSummary {
            file_name: format.file_name(&self.work.file.header),
            kind: format.kind(),
            sha256,
            bytes,
            calls: totals.calls,
            total_charge: totals.charge,
            decimal_places: self.work.file.decimal_places,
            currency: self.work.file.currency,
            earliest: totals.earliest,
            latest: totals.latest,
        })
    }
}

impl Ledger {
    /// Puts an encoded call event behind the others.
    pub(super) fn take(&mut self, event: &CallEvent<'_>) -> Result<Taken, FileError> {
        self.spool.write_all(event.bytes).map_err(FileError::io("writing to the spool file"))?;
        let index = self.totals.calls;
        self.totals.add(event.charge.into(), event.at);
        self.offsets.insert(event.at.offset_minutes);
        Ok(Taken { index, charge: event.charge })
    }
}

impl Totals {
    /// Counts in a call event.
    pub(super) fn add(&mut self, charge: i128, at: LocalTime) {
        self.add_untimed(charge);
        if self.earliest.is_none_or(|earliest| at.at < earliest.at) {
            self.earliest = Some(at);
        }
        if self.latest.is_none_or(|latest| at.at > latest.at) {
            self.latest = Some(at);
        }
    }

    /// Counts in a call event whose time is not known.
    pub(super) fn add_untimed(&mut self, charge: i128) {
        self.calls += 1;
        self.charge += charge;
    }
}

/// SHA-256 of a file.
///
/// # Errors
/// If it can't be read.
pub fn sha256_of(path: &Path) -> io::Result<Hash> {
    let mut file = File::open(path)?;
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(digest.finalize().into()),
            n => digest.update(&buffer[..n]),
        }
    }
}
