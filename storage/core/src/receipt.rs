//! What a receipt means for a message, given what the ledger knows of it (US-CDR-001).
//!
//! A message has one original CDR within the dedup horizon. Most are born from a receipt, and every later receipt is a
//! duplicate. A message whose receipt did not come in time is recorded by a worker, as EXPIRED; the first receipt of
//! another state that comes after all becomes a CORRECTION of that record, and every later one is a duplicate again.
//!
//! | known of the message | receipt EXPIRED | receipt of another state |
//! |---|---|---|
//! | nothing | original CDR | original CDR |
//! | a CDR from a receipt | duplicate | duplicate |
//! | EXPIRED without a receipt | duplicate: there is nothing to correct | CORRECTION of the row in effect |
//! | the same, corrected by a receipt | duplicate | duplicate |
//! | the same, voided | duplicate: nothing follows a VOID | duplicate |
//!
//! Corrections by people or by late prices change nothing of this: the receipt follows whatever row is in effect.
//! A proposer drafts what it takes to be right; if the ledger has moved on meanwhile, the batch is refused as
//! [`Rejection::Outdated`] rather than a receipt being swallowed.

use crate::command::{DraftItem, Rejection, Source};
use crate::id::{CdrId, Uuid};
use crate::row::{AdjustmentType, Draft, FinalState, Record, Row, Sms};

/// What the ledger knows of a message within the dedup horizon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Known {
    /// Nothing.
    #[default]
    Nothing,
    /// It is recorded, and no receipt changes that.
    Recorded,
    /// It was recorded as EXPIRED without a receipt, and none has come since.
    Expired {
        /// The row in effect.
        last: CdrId,
    },
}

/// What becomes of a receipt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// An original CDR.
    Original,
    /// A CORRECTION of a record whose receipt had not come.
    Correction,
    /// Nothing new.
    Duplicate,
}

/// True for an original CDR that was recorded without a receipt.
pub fn is_born_expired(row: &Row<'_>) -> bool {
    let original = row.sms().filter(|sms| sms.adjustment.is_none());
    row.frame.source_stream == Source::Internal.as_str()
        && original.is_some_and(|sms| sms.final_state == FinalState::Expired)
}

/// True if no DLR may correct the message any more once this adjustment is in effect.
pub fn settles(row: &Row<'_>) -> bool {
    let by_receipt =
        ![Source::Api, Source::Internal].iter().any(|own| own.as_str() == row.frame.source_stream);
    let kind = row.sms().and_then(|sms| sms.adjustment.as_ref()).map(|adjustment| adjustment.kind);
    by_receipt || kind == Some(AdjustmentType::Void)
}

/// What becomes of the receipt that was drafted as `sms`.
///
/// # Errors
/// [`Rejection::Outdated`] if the draft is not what the ledger calls for now, [`Rejection::Illegal`] if a receipt
/// never calls for it.
pub(crate) fn fate(sms: &Sms<'_>, known: Known) -> Result<Fate, Rejection> {
    let outdated = || Rejection::Outdated { message_id: sms.message_id.to_string() };
    let is_expired = sms.final_state == FinalState::Expired;
    let Some(adjustment) = &sms.adjustment else {
        return match known {
            Known::Nothing => Ok(Fate::Original),
            Known::Recorded => Ok(Fate::Duplicate),
            Known::Expired { .. } if is_expired => Ok(Fate::Duplicate),
            Known::Expired { .. } => Err(outdated()),
        };
    };
    if adjustment.kind != AdjustmentType::Correction || is_expired {
        let why = "the adjustments of an inbound stream are corrections of EXPIRED to another state";
        return Err(Rejection::Illegal { why: why.to_owned() });
    }
    match known {
        Known::Recorded => Ok(Fate::Duplicate),
        Known::Expired { last } if last == adjustment.of => Ok(Fate::Correction),
        Known::Nothing | Known::Expired { .. } => Err(outdated()),
    }
}

/// The ids of a batch's messages, for one look-up; none if there is anything but CDRs in it.
pub(crate) fn message_ids(items: &[DraftItem<'_>]) -> Option<Vec<Uuid>> {
    items.iter().map(|item| sms_of(&item.draft).map(|sms| sms.message_id)).collect()
}

/// The CDR or adjustment of a draft.
pub(crate) fn sms_of<'d, 'a>(draft: &'d Draft<'a>) -> Option<&'d Sms<'a>> {
    match &draft.record {
        Record::Sms(sms) => Some(sms),
        Record::System(_) => None,
    }
}

/// True for the drafts of messages whose receipt did not come: originals, EXPIRED, from a worker.
pub(crate) fn are_expired(items: &[DraftItem<'_>], source: Source) -> bool {
    let is_one = |sms: &Sms<'_>| sms.adjustment.is_none() && sms.final_state == FinalState::Expired;
    source == Source::Internal
        && !items.is_empty()
        && items.iter().all(|item| sms_of(&item.draft).is_some_and(is_one))
}
