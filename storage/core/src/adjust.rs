//! Adjustments: new rows that follow a row, which itself never changes (US-CDR-016 to 018).
//!
//! The rows of a message form a line: the original, then one adjustment behind another, each naming its direct
//! predecessor. The last one is the effective row. A proposer copies it with the changes; the log takes the copy
//! only if it still follows the last row, so two adjustments can't both follow one.

use crate::command::Rejection;
use crate::id::{CdrId, Uuid};
use crate::money::Money;
use crate::row::{Adjustment, AdjustmentType, Draft, Sms};

/// What has to be known of the row that an adjustment follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predecessor {
    /// Number of the row over all hours, from 0.
    pub ordinal: u64,
    /// Its message.
    pub message_id: Uuid,
    /// Its operator.
    pub operator_id: String,
    /// What kind of adjustment it is itself; none for the original.
    pub kind: Option<AdjustmentType>,
    /// True if it has a price.
    pub is_priced: bool,
    /// True if no other row follows it.
    pub is_last: bool,
}

/// What a new row takes the place of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superseded {
    /// Number of the row over all hours, from 0.
    pub ordinal: u64,
    /// True if it had a price.
    pub was_priced: bool,
}

/// Whether an adjustment may follow `predecessor`.
///
/// # Errors
/// [`Rejection::UnknownRecord`], [`Rejection::AlreadyVoided`], [`Rejection::Superseded`], or
/// [`Rejection::Illegal`] if it changes what can't be changed.
pub fn check(
    draft: &Draft<'_>,
    sms: &Sms<'_>,
    adjustment: &Adjustment<'_>,
    predecessor: Option<&Predecessor>,
) -> Result<Superseded, Rejection> {
    let cdr_id = adjustment.of.to_string();
    let Some(before) = predecessor else { return Err(Rejection::UnknownRecord { cdr_id }) };
    if before.kind == Some(AdjustmentType::Void) {
        return Err(Rejection::AlreadyVoided { cdr_id });
    }
    if !before.is_last {
        return Err(Rejection::Superseded { cdr_id });
    }
    let illegal = |why: &str| Err(Rejection::Illegal { why: format!("adjustment of {cdr_id}: {why}") });
    if before.message_id != sms.message_id || before.operator_id != draft.operator_id {
        return illegal("messageId and operatorId can't be corrected");
    }
    let is_void = adjustment.kind == AdjustmentType::Void;
    if is_void && sms.charge_amount != Some(Money::ZERO) {
        return illegal("a VOID has the charge 0.000000");
    }
    if !is_void && adjustment.void_reason.is_some() {
        return illegal("only a VOID has a void reason");
    }
    if adjustment.kind == AdjustmentType::ReRate && sms.charge_amount.is_none() {
        return illegal("a RE_RATE has a price");
    }
    Ok(Superseded { ordinal: before.ordinal, was_priced: before.is_priced })
}

/// True for rows that wait for a price: without one, and not voided.
pub fn is_unpriced(sms: &Sms<'_>) -> bool {
    sms.charge_amount.is_none()
}

/// The row that an adjustment names as its direct predecessor.
pub fn predecessor_id(sms: &Sms<'_>) -> Option<CdrId> {
    sms.adjustment.as_ref().map(|adjustment| adjustment.of)
}
