//! What can go wrong with schemas, records, files and traces.

use std::fmt;
use std::io;

/// A schema that can't be used: the service must not start with it (US-CDR-009).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaError {
    /// The file, as a path below the folder that was loaded.
    pub file: String,
    /// Line from 1; 0 where the file as a whole is meant.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub why: String,
}

impl SchemaError {
    pub(super) fn new(file: &str, line: usize, why: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, why: why.into() }
    }
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "schema {}: {}", self.file, self.why),
            line => write!(f, "schema {}:{line}: {}", self.file, self.why),
        }
    }
}

impl std::error::Error for SchemaError {}

/// A record that can't be put into a file of this variant: it goes into quarantine (US-CDR-011).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} can't be encoded as {item}: {why}")]
pub struct EncodeError {
    /// The canonical field that is at fault, by its name in the row.
    pub field: String,
    /// The item of the file that it was meant for.
    pub item: String,
    /// Why.
    pub why: String,
}

impl EncodeError {
    pub(super) fn new(field: &str, item: &str, why: impl Into<String>) -> Self {
        Self { field: field.to_owned(), item: item.to_owned(), why: why.into() }
    }
}

/// A file that could not be written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The spool file or the output failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A header value does not fit the variant.
    #[error("header of the file: {0}")]
    Header(#[from] EncodeError),
    /// There is nothing to write, and the variant has no form for that.
    #[error(
        "no call event was put into the file, and its variant has no empty form: do not open such a file"
    )]
    Empty,
}

impl FileError {
    pub(super) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}

/// Why a call event was not taken into a file.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// The record is at fault; the file is as it was before.
    #[error(transparent)]
    Record(#[from] EncodeError),
    /// The file is at fault: abandon it and write it again.
    #[error(transparent)]
    File(#[from] FileError),
}

/// A file that is not what its schema says.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The input could not be read.
    #[error("the file can't be read: {0}")]
    Io(#[from] io::Error),
    /// The bytes are not what they should be.
    #[error("byte {offset}: {why}")]
    Malformed {
        /// Offset of the item at fault from the beginning of the file.
        offset: u64,
        /// What is wrong.
        why: String,
    },
    /// The file's own totals are not those of its call events.
    #[error("{what} is {stated} in the file, but its call events give {found}")]
    Totals {
        /// Which total.
        what: String,
        /// What the file says.
        stated: String,
        /// What was found.
        found: String,
    },
    /// What the caller found in a call event.
    #[error("call event {index}: {why}")]
    Call {
        /// Index of the call event, from 0.
        index: u64,
        /// What is wrong.
        why: String,
    },
}

impl DecodeError {
    pub(super) fn at(offset: u64, why: impl Into<String>) -> Self {
        Self::Malformed { offset, why: why.into() }
    }
}

/// A trace that can't be read.
#[derive(Debug, thiserror::Error)]
pub enum TraceError {
    /// The input could not be read or unpacked.
    #[error("the trace can't be read: {0}")]
    Io(#[from] io::Error),
    /// A line is not what it should be.
    #[error("line {line} of the trace: {why}")]
    Line {
        /// Line from 1.
        line: u64,
        /// What is wrong.
        why: String,
    },
}
