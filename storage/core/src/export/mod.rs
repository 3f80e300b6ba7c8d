//! Settlement files (US-CDR-007 to 015): what is known of each, as a fold over `export` and `delivery` rows.
//!
//! A file is a pure function of sealed rows and of what its first row pins: which hours count ([`ExportPins::upto_bucket`]),
//! schema variant, header values. Its bytes are never stored in the ledger; their SHA-256 is. A file belongs to a
//! *series*: the files that one receiver gets, of one kind, for one operator, one after another.
//!
//! | module | owns |
//! |---|---|
//! | [`step`] | the bodies of the rows |
//! | [`fold`] | what they mean: sequence numbers, how far each series is, which files are still on their way |
//! | [`books`] | files and quarantine entries that rows name |
//! | [`selection`] | which records a file lists |
//! | [`quarantine`] | records that could not be listed |

pub mod books;
pub mod fold;
pub mod quarantine;
pub mod selection;
pub mod step;

use crate::hash::{Hash, hex_string};
use crate::id::CdrId;
use crate::time::{Day, Hour, Millis};
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Prefix of an export's id; the rest is that of its first row's `cdrId`.
pub const EXPORT_PREFIX: &str = "exp_";

/// Delivery attempts that are kept in the state for each file; all of them stay in the ledger.
pub const ATTEMPTS_KEPT: usize = 64;

/// Kind of a file.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode, Serialize, Deserialize,
)]
pub enum ExportType {
    /// Call events, TAP 3.12.
    #[serde(rename = "TAP_3_12")]
    Tap,
    /// Adjustments, RAP 1.5.
    #[serde(rename = "RAP_1_5")]
    Rap,
}

impl ExportType {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Tap, Self::Rap];

    /// The text in rows, events and the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tap => "TAP_3_12",
            Self::Rap => "RAP_1_5",
        }
    }
}

/// Which series of files: receiver, kind, operator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct SeriesKey {
    /// The receiver's series.
    pub series: String,
    /// Kind of its files.
    pub export_type: ExportType,
    /// Operator.
    pub operator_id: String,
}

/// What the command that opens a file fixes for good.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExportPins {
    /// When the file counts as made.
    pub created_at: Millis,
    /// Minutes that the settlement zone is east of UTC then.
    pub created_offset_minutes: i16,
    /// End of the settlement day: what happened before it may be listed.
    pub cut_off_at: Millis,
    /// Minutes that the settlement zone is east of UTC then.
    pub cut_off_offset_minutes: i16,
    /// Version of the encoder: another version may give other bytes.
    pub encoder_version: u32,
    /// Exchange rates to the file's currency, by currency, as decimal numbers.
    pub exchange_rates: BTreeMap<String, String>,
    /// Kind of the file.
    pub export_type: ExportType,
    /// Its name.
    pub file_name: String,
    /// Its number (US-CDR-010).
    pub file_sequence_number: u32,
    /// First hour that can hold a record that is new to this file: earlier ones need not be read.
    pub from_bucket: Hour,
    /// Operator whose records it lists.
    pub operator_id: String,
    /// PLMN id of the receiver.
    pub recipient: String,
    /// TAP recording entity of the operator.
    pub recording_entity: String,
    /// SHA-256 over the schema variant's files.
    #[serde(with = "hex_string")]
    pub schema_hash: Hash,
    /// Schema variant.
    pub schema_variant: String,
    /// PLMN id of the sender.
    pub sender_roaming_partner: String,
    /// The receiver's series.
    pub series: String,
    /// Settlement day.
    pub settlement_day: Day,
    /// Last hour that counts.
    pub upto_bucket: Hour,
}

/// How far a series is with a file: what that file and those before it could list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Cut {
    /// Settlement day.
    pub day: Day,
    /// Last hour that counts.
    pub upto: Hour,
    /// Number, over all hours, of the row that opened the file, or of the first that was not read: rows of
    /// quarantine before it count.
    pub ordinal: u64,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileContent {
    /// Size.
    pub byte_size: u64,
    /// SHA-256 of the file.
    #[serde(with = "hex_string")]
    pub file_sha256: Hash,
    /// Records that could not be listed.
    pub quarantined_count: u64,
    /// Call events or returns.
    pub records_included: u64,
    /// Sum of their charges in the file's units, as an integer.
    pub total_charge: String,
    /// SHA-256 of the trace beside it.
    #[serde(with = "hex_string")]
    pub trace_sha256: Hash,
}

/// The signature of a file.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileSignature {
    /// `Ed25519` or `ecdsa-p256`.
    pub algorithm: String,
    /// Key.
    pub key_id: String,
    /// Signature over the file's SHA-256, base64.
    pub signature: String,
}

/// One attempt to deliver a file.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Attempt {
    /// When it ended.
    pub at: Millis,
    /// `SFTP`, `API`, `DIRECTORY`.
    pub channel: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "SCREAMING_SNAKE_CASE", rename_all_fields = "camelCase")]
pub enum Outcome {
    /// The receiver has the whole file and its signature.
    Delivered {
        /// The receiver's receipt, where it gives one.
        atra_receipt_id: Option<String>,
    },
    /// It has not, or that is unknown.
    Failed {
        /// Class of the error, such as `UNREACHABLE`.
        error: String,
        /// What happened, in words.
        reason: String,
    },
}

/// The state of a file's delivery.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum Delivery {
    /// It is still to be delivered.
    Pending,
    /// The receiver has it.
    Delivered {
        /// Channel.
        channel: String,
        /// When.
        at: Millis,
        /// Receipt, where there is one.
        receipt_id: Option<String>,
    },
}

/// The receiver's response about a file that it received.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Verification {
    /// When it reported that.
    pub at: Millis,
    /// Its receipt.
    pub receipt_id: String,
    /// None if it accepted the file, else why not.
    pub rejection_reason: Option<String>,
}

/// Everything that is known of a file.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Export {
    /// Its id.
    pub id: CdrId,
    /// What was fixed when it was opened.
    pub pins: ExportPins,
    /// How far it reaches.
    pub cut: Cut,
    /// How far the file before it of the same series reached.
    pub before: Option<Cut>,
    /// What it holds, once it is encoded.
    pub content: Option<FileContent>,
    /// When it was encoded: from then on it is known what it holds.
    pub encoded_at: Option<Millis>,
    /// Its signature, once it is signed.
    pub signature: Option<FileSignature>,
    /// When it was signed.
    pub signed_at: Option<Millis>,
    /// The state of its delivery.
    pub delivery: Delivery,
    /// The last attempts, oldest first.
    pub attempts: Vec<Attempt>,
    /// Failed attempts since it was last queued for delivery.
    pub failures: u32,
    /// When it was last queued for delivery.
    pub due_since: Option<Millis>,
    /// True once all channels failed for too long, until it is delivered.
    pub exhausted: bool,
    /// The receiver's response about it.
    pub verification: Option<Verification>,
}

impl Export {
    /// A file that was just opened.
    pub fn opened(id: CdrId, pins: ExportPins, cut: Cut, before: Option<Cut>) -> Self {
        Self {
            id,
            pins,
            cut,
            before,
            content: None,
            encoded_at: None,
            signature: None,
            signed_at: None,
            delivery: Delivery::Pending,
            attempts: Vec::new(),
            failures: 0,
            due_since: None,
            exhausted: false,
            verification: None,
        }
    }

    /// The id as the API writes it.
    pub fn name(&self) -> String {
        self.id.with_prefix(EXPORT_PREFIX)
    }

    /// Its series.
    pub fn series_key(&self) -> SeriesKey {
        SeriesKey {
            series: self.pins.series.clone(),
            export_type: self.pins.export_type,
            operator_id: self.pins.operator_id.clone(),
        }
    }

    /// True while something is left to be done with it.
    pub fn is_open(&self) -> bool {
        self.signature.is_none() || self.delivery == Delivery::Pending
    }

    /// `PENDING`, `FAILED` after an attempt that failed, or `DELIVERED_` and the channel.
    pub fn delivery_status(&self) -> String {
        match &self.delivery {
            Delivery::Delivered { channel, .. } => format!("DELIVERED_{channel}"),
            Delivery::Pending if self.failures > 0 => "FAILED".to_owned(),
            Delivery::Pending => "PENDING".to_owned(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
