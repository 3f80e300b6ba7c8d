//! Records that a file could not list (US-CDR-011): a fold over `quarantine` rows.

use crate::command::Rejection;
use crate::id::CdrId;
use crate::time::Millis;
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};

/// Prefix of an entry's id; the rest is that of its first row's `cdrId`.
pub const QUARANTINE_PREFIX: &str = "qua_";

/// The body of a `quarantine` row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "SCREAMING_SNAKE_CASE", rename_all_fields = "camelCase")]
pub enum QuarantineStep {
    /// A record can't be listed; the row's id is the entry's.
    Quarantined(Unfit),
    /// The record is listed in the next file.
    Resubmitted {
        /// The entry.
        quarantine_id: String,
        /// Who decided it.
        resolved_by: String,
    },
    /// The record is never listed.
    Discarded {
        /// The entry.
        quarantine_id: String,
        /// Who decided it.
        resolved_by: String,
    },
}

/// A record that can't be listed, and why.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Unfit {
    /// The record: an original, or an adjustment that a RAP file could not return.
    pub cdr_id: String,
    /// What the encoder says.
    pub encoder_error: String,
    /// File that should have listed it; none for one that waited for a price for too long, and for an adjustment of a day
    /// that has no RAP file.
    pub export_id: Option<String>,
    /// Its operator.
    pub operator_id: String,
    /// Schema variant that could not express it.
    pub schema_variant: String,
    /// The receiver's series.
    pub series: String,
}

/// A record in quarantine, or that was there.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Quarantined {
    /// Id of the entry.
    pub id: CdrId,
    /// The record, and why.
    pub unfit: Unfit,
    /// When it was put there.
    pub at: Millis,
    /// Number, over all hours, of the row that put it there.
    pub ordinal: u64,
    /// What became of it.
    pub resolved: Option<Resolved>,
}

/// What became of a record in quarantine.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Resolved {
    /// True if it is listed in the next file, false if it is never listed.
    pub resubmitted: bool,
    /// Who decided it.
    pub by: String,
    /// When.
    pub at: Millis,
    /// Number, over all hours, of the row that records it.
    pub ordinal: u64,
}

/// A record's time in quarantine, as [`super::selection`] needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Episode {
    /// Number of the row that began it.
    pub opened: u64,
    /// Number of the row that resubmitted the record, if any did.
    pub resubmitted: Option<u64>,
}

impl Quarantined {
    /// The id as the API writes it.
    pub fn name(&self) -> String {
        self.id.with_prefix(QUARANTINE_PREFIX)
    }

    /// As the selection needs it.
    pub fn episode(&self) -> Episode {
        let resubmitted = self.resolved.as_ref().filter(|resolved| resolved.resubmitted);
        Episode { opened: self.ordinal, resubmitted: resubmitted.map(|resolved| resolved.ordinal) }
    }

    /// Ends its time there.
    ///
    /// # Errors
    /// [`Rejection::Illegal`] if it ended before.
    pub(crate) fn resolve(&mut self, resolved: Resolved) -> Result<(), Rejection> {
        if let Some(before) = &self.resolved {
            let how = if before.resubmitted { "resubmitted" } else { "discarded" };
            let why = format!("{} was {how} already, by {}", self.name(), before.by);
            return Err(Rejection::Illegal { why });
        }
        self.resolved = Some(resolved);
        Ok(())
    }
}
