//! Delivery receipts (DLRs) as they arrive on the bus: a tolerant reader, and the rules for every field.
//!
//! Unknown fields are ignored, whatever numbers they hold. What the ledger could not keep faithfully is refused
//! ([`cdr_core::json`]): text that is not JSON, a key that appears twice in one object, half a surrogate pair, deep
//! nesting, more than [`MAX_DLR_BYTES`]. [`parse`] borrows from the input wherever the text has no escapes. Whether the
//! operator is registered is for the caller to decide.

mod reader;
mod rules;

pub(crate) use reader::refused;

use std::borrow::Cow;
use std::fmt;

use cdr_core::row::{ChargeType, Direction, Encoding, FinalState};
use cdr_core::{Millis, Uuid};

/// Largest inbound message, in bytes.
pub const MAX_DLR_BYTES: usize = cdr_core::json::MAX_BYTES;

/// A receipt of a final state, with every field checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dlr<'a> {
    /// Identity of the message; duplicates are decided by it.
    pub message_id: Uuid,
    /// Tenant that sent it; `None` for subscribers.
    pub tenant_id: Option<Uuid>,
    /// Operator, `[A-Za-z0-9_-]{1,16}` and not beginning with `_`; registered or not.
    pub operator_id: Cow<'a, str>,
    /// How delivery ended.
    pub final_state: FinalState,
    /// Direction at the operator.
    pub direction: Direction,
    /// What is charged for.
    pub charge_type: ChargeType,
    /// Sender: E.164 with `+`, or an alphanumeric name of 1-11 characters.
    pub from: Cow<'a, str>,
    /// Recipient, E.164 with `+`.
    pub to: Cow<'a, str>,
    /// The subscriber's number before it was ported or forwarded, E.164.
    pub original_served_subscriber_id: Option<Cow<'a, str>>,
    /// 6-15 digits.
    pub imsi: Option<Cow<'a, str>>,
    /// Service centre, E.164.
    pub service_center_address: Cow<'a, str>,
    /// The operator's reference, 1-20 characters.
    pub message_reference: Cow<'a, str>,
    /// 1-255.
    pub segment_count: u8,
    /// Text encoding.
    pub encoding: Encoding,
    /// When it was submitted.
    pub submitted_at: Option<Millis>,
    /// When its final state was reached: the event time.
    pub final_at: Millis,
    /// The operator's reason for a failure.
    pub failure_code: Option<Cow<'a, str>>,
    /// The submitter's id of the message, unchecked: whoever makes a row of a version that has it checks it, and all
    /// others ignore it. What is no text is an empty one.
    pub correlation_id: Option<Cow<'a, str>>,
    /// Trace through the platform.
    pub trace_id: Cow<'a, str>,
}

/// What an inbound message is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// A final receipt, to be recorded.
    Final(Box<Dlr<'a>>),
    /// A receipt of this known state, which is not final: counted, not recorded.
    Ignored(&'static str),
    /// Not a DLR that can be recorded: it is dead-lettered with its reason.
    Malformed {
        /// Why; its text is stable.
        reason: Reason,
    },
}

/// Why a message can't be recorded. Its text names the field, never its value, and is stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Over [`MAX_DLR_BYTES`].
    TooLarge,
    /// Not JSON in UTF-8 with whole surrogate pairs.
    NotJson,
    /// JSON, but not an object.
    NotAnObject,
    /// Nested deeper than [`cdr_core::json::MAX_DEPTH`].
    TooDeep,
    /// A known field occurs twice.
    RepeatedField(&'static str),
    /// Some other key occurs twice in one object.
    RepeatedKey,
    /// A required field is absent or null.
    Missing(&'static str),
    /// A field's value breaks its rule.
    Invalid {
        /// The field.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// The operator is not in the registry.
    UnknownOperator,
    /// Older than the horizon over which duplicates are recognised.
    BeyondHorizon,
    /// More than an hour ahead of the clock. Duplicates are remembered by the time of recording, events age by their
    /// own: an event of tomorrow would still be young when its first record is forgotten.
    AheadOfClock,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(f, "message is over {MAX_DLR_BYTES} bytes"),
            Self::NotJson => f.write_str("message is not valid JSON"),
            Self::NotAnObject => f.write_str("message is not a JSON object"),
            Self::TooDeep => write!(f, "message is nested more than {} deep", cdr_core::json::MAX_DEPTH),
            Self::RepeatedField(field) => write!(f, "{field} appears twice"),
            Self::RepeatedKey => f.write_str("a key appears twice in one object"),
            Self::Missing(field) => write!(f, "{field} is missing"),
            Self::Invalid { field, expected } => write!(f, "{field} is not {expected}"),
            Self::UnknownOperator => f.write_str("operatorId is not a registered operator"),
            Self::BeyondHorizon => f.write_str("finalAt is older than the duplicate horizon"),
            Self::AheadOfClock => f.write_str("finalAt is more than an hour in the future"),
        }
    }
}

/// Reads one inbound message.
///
/// States that are not final are reported before the other fields are checked, since such DLRs need not have
/// them.
pub fn parse(payload: &[u8]) -> Parsed<'_> {
    reader::read(payload).and_then(rules::check).unwrap_or_else(|reason| Parsed::Malformed { reason })
}

#[cfg(test)]
mod tests;
