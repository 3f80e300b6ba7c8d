//! What decisions ask of earlier rows.

use crate::adjust::Predecessor;
use crate::audit::Request;
use crate::codec::CodecError;
use crate::export::Export;
use crate::export::quarantine::Quarantined;
use crate::hash::Hash;
use crate::id::{CdrId, Uuid};
use crate::receipt::Known;
use crate::rules::NeedsBuild;
use crate::time::Hour;

/// What `apply` has to know of earlier rows.
pub trait View {
    /// For every id: what is known of that message, if there is an original CDR (no adjustment) of it in a bucket of
    /// `since` or later? The answer is exact: replicas must decide alike.
    ///
    /// # Errors
    /// If the rows can't be read; nothing is decided then.
    fn known(&self, ids: &[Uuid], since: Hour) -> Result<Vec<Known>, ViewError>;

    /// Hash of the seal of `hour`, if that hour is sealed.
    ///
    /// # Errors
    /// If the seal can't be read.
    fn seal_hash(&self, hour: Hour) -> Result<Option<Hash>, ViewError>;

    /// What an adjustment needs to know of the CDR or adjustment with this id, if there is one.
    ///
    /// # Errors
    /// If the rows can't be read.
    fn predecessor(&self, id: CdrId) -> Result<Option<Predecessor>, ViewError>;

    /// The request that was accepted under `key`, if any was.
    ///
    /// # Errors
    /// If it can't be read.
    fn request(&self, key: &Hash) -> Result<Option<Request>, ViewError>;

    /// The settlement file with this id, if there is one.
    ///
    /// # Errors
    /// If it can't be read.
    fn export(&self, id: CdrId) -> Result<Option<Export>, ViewError>;

    /// The quarantine entry with this id, if there is one.
    ///
    /// # Errors
    /// If it can't be read.
    fn quarantined(&self, id: CdrId) -> Result<Option<Quarantined>, ViewError>;

    /// True if the record waits in the series' quarantine.
    ///
    /// # Errors
    /// If that can't be read.
    fn waits_in_quarantine(&self, series: &str, cdr_id: &str) -> Result<bool, ViewError>;
}

/// Why nothing can be decided: the node must stop serving.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// Earlier rows could not be read, or the entry itself is damaged.
    #[error("earlier rows can't be read: {0}")]
    Unreadable(String),
    /// Another build wrote the entry, or rows that decide about it.
    #[error(transparent)]
    NeedsBuild(#[from] NeedsBuild),
}

impl From<CodecError> for ViewError {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::NeedsBuild(needs) => Self::NeedsBuild(needs),
            error => Self::Unreadable(error.to_string()),
        }
    }
}
