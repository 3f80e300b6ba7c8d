//! Adjustments: from the effective row of a message to the row that follows it.

use super::correction::corrected;
use super::{Act, ActError, Wish, unconfirmed};
use crate::clock::event_times;
use cdr_core::row::{Adjustment, AdjustmentType, Draft, Drawn, Record, Row, Sms};
use cdr_core::{CdrId, LedgerState, Millis, Money};
use cdr_storage::{Store, StoredRow};

/// The line that `cdr_id`, a record or an adjustment, belongs to: at least the original.
///
/// # Errors
/// [`ActError::NotFound`], or [`ActError::Unconfirmed`] if the rows can't be read.
pub(super) fn line(store: &Store, cdr_id: CdrId) -> Result<Vec<StoredRow>, ActError> {
    let not_found = || ActError::NotFound { cdr_id: cdr_id.to_string() };
    let row = store.row_by_id(cdr_id).map_err(unconfirmed)?.ok_or_else(not_found)?;
    let rows = store.line(&row).map_err(unconfirmed)?;
    if rows.is_empty() { Err(not_found()) } else { Ok(rows) }
}

/// The row that follows `effective`, the last row of a record that was recorded first at `recorded_at`, as `act` wishes
/// it.
///
/// # Errors
/// [`ActError::AlreadyVoided`], or [`ActError::Field`].
pub(super) fn draft<'a>(
    effective: &Row<'a>,
    recorded_at: Millis,
    act: &'a Act,
    drawn: Drawn,
    state: &LedgerState,
) -> Result<Draft<'a>, ActError> {
    let Some(before) = effective.sms() else {
        return Err(ActError::NotFound { cdr_id: effective.frame.cdr_id.to_string() });
    };
    if before.adjustment.as_ref().is_some_and(|adjustment| adjustment.kind == AdjustmentType::Void) {
        return Err(ActError::AlreadyVoided { cdr_id: effective.frame.cdr_id.to_string() });
    }
    let mut adjustment = Adjustment {
        of: effective.frame.cdr_id,
        kind: AdjustmentType::Correction,
        reason: act.reason.as_deref(),
        void_reason: None,
        ticket_id: act.ticket_id.as_deref(),
        issued_by: Some(&act.actor),
        approver: act.approver.as_deref(),
    };
    let mut sms = match &act.wish {
        Wish::Correct { fields, .. } => {
            let event_times = event_times(state, recorded_at);
            let version = drawn.version.max(effective.version);
            corrected(version, before, fields, &event_times, |at| offset_minutes(state, at))
                .map_err(|error| ActError::Field { field: error.field, message: error.message })?
        }
        Wish::Void { void_reason, .. } => {
            (adjustment.kind, adjustment.void_reason) = (AdjustmentType::Void, Some(void_reason.as_str()));
            Sms { charge_amount: Some(Money::ZERO), ..before.clone() }
        }
        _ => {
            return Err(ActError::Unconfirmed {
                reason: "this is not an adjustment of one record".to_owned(),
            });
        }
    };
    sms.adjustment = Some(adjustment);
    Ok(Draft::new(drawn, effective.frame.operator_id, &act.trace_id, Record::Sms(sms)).following(effective))
}

/// Minutes east of UTC in the ledger's settlement zone at an instant.
fn offset_minutes(state: &LedgerState, at: Millis) -> i16 {
    crate::zone::offset_minutes(state.cluster.as_ref().map_or("UTC", |cluster| &cluster.zone), at)
}

/// What is published about an adjustment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adjusted {
    /// The adjustment's row.
    pub cdr_id: CdrId,
    /// The original record.
    pub original: CdrId,
    /// Hour in which it was issued.
    pub bucket_hour: cdr_core::Hour,
    /// When it was issued.
    pub recorded_at: Millis,
}

/// What is published about the adjustment `cdr_id`.
///
/// # Errors
/// [`ActError::NotFound`], or [`ActError::Unconfirmed`] if the rows can't be read.
pub fn adjusted(store: &Store, cdr_id: CdrId) -> Result<Adjusted, ActError> {
    let rows = line(store, cdr_id)?;
    let mut told = None;
    let mut original = cdr_id;
    for (i, stored) in rows.iter().enumerate() {
        let row = stored.row().map_err(unconfirmed)?;
        if i == 0 {
            original = row.frame.cdr_id;
        }
        if row.frame.cdr_id == cdr_id {
            told = Some((row.frame.bucket_hour, row.frame.recorded_at));
        }
    }
    let (bucket_hour, recorded_at) = told.ok_or(ActError::NotFound { cdr_id: cdr_id.to_string() })?;
    Ok(Adjusted { cdr_id, original, bucket_hour, recorded_at })
}
