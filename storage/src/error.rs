//! The one error type of this crate: what happened, to what, and what to do.

use cdr_core::ViewError;
use cdr_core::codec::CodecError;
use cdr_core::history::Difference;
use cdr_core::rules::NeedsBuild;

/// Why the store could not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory was written by a build with another on-disk format.
    #[error(
        "{what} has format version {found}, this build reads version {supported}: use a build that reads it"
    )]
    FormatVersion {
        /// The file or key that holds it.
        what: String,
        /// Version found.
        found: String,
        /// Version of this build.
        supported: u32,
    },
    /// Another build wrote something that this one does not know.
    #[error("{what}: {needs}")]
    NeedsBuild {
        /// What was being read.
        what: String,
        /// What it is and which build knows it.
        needs: NeedsBuild,
    },
    /// A file operation failed.
    #[error("{action} {path} failed: {why}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file or directory.
        path: String,
        /// The system's words.
        why: String,
    },
    /// `RocksDB` refused a read, or could not be opened.
    #[error("{action}: RocksDB says: {why}")]
    Database {
        /// What was being done.
        action: &'static str,
        /// `RocksDB`'s words.
        why: String,
    },
    /// Stored bytes can't be what was written; verification names the records concerned.
    #[error(
        "{what} is damaged: {why}; run chain verification at depth rows, and rebuild this replica from another one"
    )]
    Damaged {
        /// Which value.
        what: String,
        /// What does not fit.
        why: String,
    },
    /// A log entry does not decode, or earlier rows that decide about it can't be read.
    #[error(
        "log entry {index} of term {term} can't be applied: {why}; this replica must be rebuilt from another one"
    )]
    Entry {
        /// Index in the log.
        index: u64,
        /// Term in the log.
        term: u64,
        /// What is wrong.
        why: String,
    },
    /// The leader that proposed a command had another history: the replicas are forked.
    #[error(
        "SEV1 fork: before log entry {index} this replica and its leader have different histories ({difference}); \
         find out first which of them lost or changed entries, and keep the data directories of \
         all replicas"
    )]
    Forked {
        /// The entry whose command shows it.
        index: u64,
        /// Where the histories differ.
        difference: Difference,
    },
    /// A checkpoint of another history would take the place of what is applied here.
    #[error(
        "SEV1 fork: the checkpoint has another history than this replica ({difference}), and would replace \
         entries that are committed here; find out first which of the two lost entries, and keep \
         the data directories of all replicas"
    )]
    ForeignCheckpoint {
        /// Where the histories differ.
        difference: Difference,
    },
    /// The disk is too full to begin a write; nothing was changed, and the same call may be repeated.
    #[error(
        "only {free_bytes} bytes are free under {path}, writes need {needed_bytes}: free some space, writes then resume by themselves"
    )]
    Full {
        /// The store's directory.
        path: String,
        /// Space that is left.
        free_bytes: u64,
        /// Space below which no write is begun.
        needed_bytes: u64,
    },
    /// An earlier write failed; nothing more is written until the process restarts and reads its log again.
    #[error(
        "the store stopped writing after a failure: {cause}; restart this node, and replace its disk if it happens again"
    )]
    Poisoned {
        /// The first failure.
        cause: String,
    },
    /// The options do not fit the store or this machine.
    #[error("the store's options can't be used: {why}; correct the configuration")]
    Options {
        /// Which option, and why.
        why: String,
    },
    /// The hour has no seal yet.
    #[error("hour {hour} is not sealed yet: retry after it has closed")]
    NotSealed {
        /// The hour.
        hour: String,
    },
    /// Something that was requested by name or position does not exist.
    #[error("{what} does not exist")]
    Unknown {
        /// What was requested.
        what: String,
    },
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::Io { action, path: path.display().to_string(), why: error.to_string() }
    }

    /// True if the bytes that were read are wrong or unreadable, as opposed to a failure of the machine.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. })
    }
}

/// Words for a failed `RocksDB` call; `Corruption` becomes [`StoreError::Damaged`].
pub(crate) fn database(action: &'static str) -> impl Fn(rocksdb::Error) -> StoreError {
    move |error| {
        let why = error.into_string();
        if why.starts_with("Corruption") {
            StoreError::Damaged { what: action.to_owned(), why }
        } else {
            StoreError::Database { action, why }
        }
    }
}

impl From<CodecError> for StoreError {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::NeedsBuild(needs) => Self::NeedsBuild { what: "a stored value".to_owned(), needs },
            error => Self::Damaged { what: "a stored value".to_owned(), why: error.to_string() },
        }
    }
}

impl From<StoreError> for ViewError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NeedsBuild { needs, .. } => Self::NeedsBuild(needs),
            error => Self::Unreadable(error.to_string()),
        }
    }
}
