//! Files on disk that hold what is not yet due, and outputs that are hashed as they are written.

use cdr_core::Hash;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Bytes in memory for each open spool and each copy.
const BUFFER_BYTES: usize = 256 * 1024;

/// A nameless temporary file: it is gone when it is closed, however the process ends.
#[derive(Debug)]
pub(super) struct Spool {
    file: BufWriter<File>,
    bytes: u64,
}

impl Spool {
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        let file = tempfile::tempfile_in(folder)?;
        Ok(Self { file: BufWriter::with_capacity(BUFFER_BYTES, file), bytes: 0 })
    }

    /// Bytes written so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Copies everything that was written to `out`.
    pub(super) fn copy(self, out: &mut impl Write) -> io::Result<()> {
        let bytes = self.bytes;
        let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.seek(SeekFrom::Start(0))?;
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut copied = 0;
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            out.write_all(&buffer[..read])?;
            copied += read as u64;
        }
        if copied == bytes {
            Ok(())
        } else {
            Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("{copied} of {bytes} bytes are in the spool file"),
            ))
        }
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Passes on what is written, and hashes and counts it.
pub(super) struct Hashing<'o, W> {
    out: &'o mut W,
    hasher: Sha256,
    bytes: u64,
}

impl<'o, W: Write> Hashing<'o, W> {
    pub(super) fn new(out: &'o mut W) -> Self {
        Self { out, hasher: Sha256::new(), bytes: 0 }
    }

    /// SHA-256 and number of the bytes that passed.
    pub(super) fn finish(self) -> (Hash, u64) {
        (self.hasher.finalize().into(), self.bytes)
    }
}

impl<W: Write> Write for Hashing<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
