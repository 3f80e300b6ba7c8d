//! The bodies of `export` and `delivery` rows.

use super::{ExportPins, ExportType, FileContent, FileSignature, Outcome};
use crate::time::{Day, Hour};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The body of an `export` row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "SCREAMING_SNAKE_CASE", rename_all_fields = "camelCase")]
pub enum ExportStep {
    /// The file of a day was requested before it is due.
    Requested {
        /// Kind of the file.
        export_type: ExportType,
        /// Operator.
        operator_id: String,
        /// The receiver's series.
        series: String,
        /// The day; it must be over.
        settlement_day: Day,
    },
    /// There is nothing that a file could return: the series goes on without one (US-CDR-008).
    Skipped {
        /// Kind of the file; a TAP file is never left out.
        export_type: ExportType,
        /// Operator.
        operator_id: String,
        /// The receiver's series.
        series: String,
        /// The day.
        settlement_day: Day,
        /// Last hour that was read.
        upto_bucket: Hour,
        /// How many rows the log had when it was read: what was resubmitted later is still to be returned.
        rows_looked_at: u64,
    },
    /// A file is opened and takes its number; the row's id is the file's.
    Opened(ExportPins),
    /// The file's bytes are known.
    Encoded {
        /// The file.
        export_id: String,
        /// What it holds.
        #[serde(flatten)]
        content: FileContent,
    },
    /// The file is signed.
    Signed {
        /// The file.
        export_id: String,
        /// The signature.
        #[serde(flatten)]
        signature: FileSignature,
    },
}

/// What the receiver of a file said when it gave no receipt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceiverAnswer {
    /// Its own number for this, if it gave one.
    pub atra_receipt_id: Option<String>,
    /// Its words, without subscribers' numbers.
    pub payload: String,
    /// Why it refuses the file, a code of `cdr.export.rejected.v1`; none if it refuses something else.
    pub rejection_reason: Option<String>,
    /// Attempts that failed before this one.
    pub retry_count: u32,
    /// HTTP status.
    pub status: u16,
}

/// The body of a `delivery` row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "SCREAMING_SNAKE_CASE", rename_all_fields = "camelCase")]
pub enum DeliveryStep {
    /// An attempt ended.
    Attempted {
        /// The file.
        export_id: String,
        /// Channel.
        channel: String,
        /// What came of it.
        #[serde(flatten)]
        outcome: Outcome,
        /// The receiver's response when it did not accept the file, if there was any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answer: Option<ReceiverAnswer>,
    },
    /// All channels failed for too long.
    Exhausted {
        /// The file.
        export_id: String,
        /// Failed attempts so far.
        retry_count: u32,
        /// The last failure, in words.
        reason: String,
    },
    /// The file was requested to be delivered again, as it is.
    Redropped {
        /// The file.
        export_id: String,
    },
    /// The receiver checked the file.
    Acked {
        /// The file.
        export_id: String,
        /// The receiver's receipt.
        atra_receipt_id: String,
        /// None if it accepts the file, else why not.
        rejection_reason: Option<String>,
        /// What it sent with its answer: the text of that JSON, byte for byte, because a value read and written again
        /// would change numbers without a word.
        payload: Option<Value>,
        /// Attempts that failed before the file was delivered.
        retry_count: u32,
    },
}

impl ExportStep {
    /// The file, unless this opens one.
    pub fn export_id(&self) -> Option<&str> {
        match self {
            Self::Requested { .. } | Self::Skipped { .. } | Self::Opened(_) => None,
            Self::Encoded { export_id, .. } | Self::Signed { export_id, .. } => Some(export_id),
        }
    }
}

impl DeliveryStep {
    /// The file.
    pub fn export_id(&self) -> &str {
        match self {
            Self::Attempted { export_id, .. }
            | Self::Exhausted { export_id, .. }
            | Self::Redropped { export_id }
            | Self::Acked { export_id, .. } => export_id,
        }
    }
}
