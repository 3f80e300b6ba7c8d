//! Turns the records that a file lists into its bytes and its trace. Blocks.

use super::header;
use super::pinned::{MakeError, pinned, set_aside};
use super::returns::TapFiles;
use cdr_core::Hash;
use cdr_core::export::quarantine::Unfit;
use cdr_core::export::{Export, ExportType, FileContent};
use cdr_core::row::Row;
use cdr_storage::{Listed, Store};
use cdr_tap::{
    EncodeError, FileError, FileSummary, FileWriter, PushError, RapWriter, Returned, Taken, TraceEvent,
    TraceHead, TraceWriter, Variant, Variants, trace_name,
};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file that was made.
#[derive(Debug)]
pub struct Made {
    /// Where it is.
    pub path: PathBuf,
    /// Where its trace is.
    pub trace: PathBuf,
    /// What it holds.
    pub content: FileContent,
    /// Records that it could not list.
    pub unfit: Vec<Unfit>,
}

/// Makes a file and its trace in `dir`, in place of what exists there.
///
/// # Errors
/// [`MakeError`].
pub fn make(store: &Store, variants: &Variants, export: &Export, dir: &Path) -> Result<Made, MakeError> {
    let variant = pinned(variants, &export.pins)?;
    std::fs::create_dir_all(dir).map_err(|source| io_error(dir, source))?;
    let mut work = Work {
        store,
        export,
        variant,
        trace: TraceWriter::new(dir).map_err(|source| io_error(dir, source))?,
        unfit: Vec::new(),
        tap_files: TapFiles::new(store, variants),
    };
    let path = dir.join(&export.pins.file_name);
    let summary = match export.pins.export_type {
        ExportType::Tap => work.calls(dir, &path)?,
        ExportType::Rap => work.returns(dir, &path)?,
    };
    work.finish(path, &summary)
}

struct Work<'a> {
    store: &'a Store,
    export: &'a Export,
    variant: &'a Arc<Variant>,
    trace: TraceWriter,
    unfit: Vec<Unfit>,
    tap_files: TapFiles<'a>,
}

impl Work<'_> {
    fn calls(&mut self, dir: &Path, path: &Path) -> Result<FileSummary, MakeError> {
        let mut writer = FileWriter::new(self.variant.clone(), &header(&self.export.pins), dir)?;
        let mut failed = None;
        let (store, export) = (self.store, self.export);
        store.tap_records(export, &mut |listed| {
            self.call(&mut writer, &listed).unwrap_or_else(|error| {
                failed = Some(error);
                ControlFlow::Break(())
            })
        })?;
        failed.map_or(Ok(()), Err)?;
        written(path, |out| writer.finish(out))
    }

    fn call(&mut self, writer: &mut FileWriter, listed: &Listed) -> Result<ControlFlow<()>, MakeError> {
        let row = listed.original.row()?;
        let carried = listed.carried().row()?;
        let Some(sms) = carried.sms() else { return Ok(ControlFlow::Continue(())) };
        match writer.push(&row, sms) {
            Ok(entry) => {
                let (hash, leaf) = match &listed.priced {
                    Some(priced) => (self.store.stored_row_hash(priced)?, &carried),
                    None => (listed.row_hash, &row),
                };
                self.trace(&row, leaf, hash, &entry)?;
            }
            Err(PushError::Record(error)) => self.set_aside(&row, &error)?,
            Err(PushError::File(error)) => return Err(error.into()),
        }
        Ok(ControlFlow::Continue(()))
    }

    fn returns(&mut self, dir: &Path, path: &Path) -> Result<FileSummary, MakeError> {
        let mut writer = RapWriter::new(self.variant.clone(), &header(&self.export.pins), dir)?;
        let mut failed = None;
        let (store, export) = (self.store, self.export);
        store.rap_adjustments(export, &mut |returned| {
            self.one_return(&mut writer, &returned).unwrap_or_else(|error| {
                failed = Some(error);
                ControlFlow::Break(())
            })
        })?;
        failed.map_or(Ok(()), Err)?;
        written(path, |out| writer.finish(out))
    }

    fn one_return(
        &mut self,
        writer: &mut RapWriter,
        returned: &cdr_storage::Returned,
    ) -> Result<ControlFlow<()>, MakeError> {
        let adjustment = returned.adjustment.row()?;
        let original = returned.original.row()?;
        let carried = returned.carried().row()?;
        let Some(listed) = carried.sms() else { return Ok(ControlFlow::Continue(())) };
        let tap_file = self.tap_files.get(returned.tap_file)?;
        let outcome = writer.push(&Returned {
            adjustment: &adjustment,
            original: &original,
            listed,
            tap_variant: &tap_file.variant,
            tap_header: &tap_file.header,
        });
        match outcome {
            Ok(entry) => self.trace(&original, &adjustment, returned.row_hash, &entry)?,
            Err(PushError::Record(error)) => self.set_aside(&adjustment, &error)?,
            Err(PushError::File(error)) => return Err(error.into()),
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Leads from an event in the file to the record and the row, of hash `row_hash`, whose values it carries.
    fn trace(
        &mut self,
        record: &Row<'_>,
        carried: &Row<'_>,
        row_hash: Hash,
        entry: &Taken,
    ) -> Result<(), MakeError> {
        let id = carried.frame.cdr_id;
        let event = TraceEvent {
            index: entry.index,
            cdr_id: record.frame.cdr_id,
            row_hash,
            bucket_hour: carried.frame.bucket_hour,
            cdr_sequence: carried.frame.sequence,
            charge: entry.charge,
            adjustment_id: (id != record.frame.cdr_id).then_some(id),
        };
        let name = Path::new(&self.export.pins.file_name);
        self.trace.push(&event).map_err(|source| io_error(name, source))
    }

    fn set_aside(&mut self, row: &Row<'_>, error: &EncodeError) -> Result<(), MakeError> {
        set_aside(&mut self.unfit, &self.export.pins, Some(self.export.name()), row, error)
    }

    fn finish(self, path: PathBuf, summary: &FileSummary) -> Result<Made, MakeError> {
        let head = TraceHead::new(self.variant, summary);
        let trace = path.with_file_name(trace_name(&self.export.pins.file_name));
        let writer = self.trace;
        let trace_sha256 = written(&trace, |out| {
            let mut hashing = Hashing { out, digest: Sha256::new() };
            writer.finish(&head, &mut hashing)?;
            Ok::<Hash, io::Error>(hashing.digest.finalize().into())
        })?;
        let content = FileContent {
            byte_size: summary.bytes,
            file_sha256: summary.sha256,
            quarantined_count: self.unfit.len() as u64,
            records_included: summary.calls,
            total_charge: summary.total_charge.to_string(),
            trace_sha256,
        };
        Ok(Made { path, trace, content, unfit: self.unfit })
    }
}

/// Writes a file under a temporary name first, so that nobody reads half of it.
fn written<T, E>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<T, E>,
) -> Result<T, MakeError>
where
    MakeError: From<WriteFailed<E>>,
{
    let own = path.with_extension("part");
    let mut out = BufWriter::new(File::create(&own).map_err(|source| io_error(&own, source))?);
    let value = write(&mut out).map_err(|error| WriteFailed { path: own.clone(), error })?;
    out.flush().map_err(|source| io_error(&own, source))?;
    std::fs::rename(&own, path).map_err(|source| io_error(path, source))?;
    Ok(value)
}

/// What failed while a file was written, and where.
struct WriteFailed<E> {
    path: PathBuf,
    error: E,
}

impl From<WriteFailed<FileError>> for MakeError {
    fn from(failed: WriteFailed<FileError>) -> Self {
        failed.error.into()
    }
}

impl From<WriteFailed<io::Error>> for MakeError {
    fn from(failed: WriteFailed<io::Error>) -> Self {
        io_error(&failed.path, failed.error)
    }
}

fn io_error(path: &Path, source: io::Error) -> MakeError {
    MakeError::Io { path: path.display().to_string(), source }
}

struct Hashing<W> {
    out: W,
    digest: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.out.write(bytes)?;
        self.digest.update(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
