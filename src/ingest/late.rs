//! Receipts of messages that were recorded as EXPIRED because none had come: they correct that record.
//!
//! The batcher drafts every DLR as an original. Before a batch is proposed, its messages are looked up at once, and
//! the drafts whose message waits for a receipt are exchanged for a CORRECTION of the row in effect: the final state,
//! its time, and what follows from them; everything else, the price among it, stays with the record. Whether the
//! correction is still right is for the log to say ([`cdr_core::receipt`]).

use cdr_core::Uuid;
use cdr_core::command::{Drafts, DraftsBuffer};
use cdr_core::receipt::Known;
use cdr_core::row::{Adjustment, AdjustmentType, Draft, FinalState, Record, Row, Sms};
use cdr_storage::{Store, StoreError, StoredRow};
use std::collections::HashMap;

/// Who issues the corrections.
const ISSUER: &str = "system:late-receipt";
/// Why.
const REASON: &str = "late receipt";

/// The drafts of a stretch that begins at `first` of `epoch`, with corrections where messages wait for a receipt; none
/// if there are no such messages. `messages` are those of the drafts that can correct one.
///
/// # Errors
/// [`LateError`].
pub fn corrected(
    store: &Store,
    epoch: &str,
    first: u64,
    messages: &[Uuid],
    drafts: &Drafts<'_>,
) -> Result<Option<DraftsBuffer>, LateError> {
    let mut waiting: HashMap<Uuid, StoredRow> = HashMap::new();
    for (id, known) in messages.iter().zip(store.known_messages(messages)?) {
        let Known::Expired { last } = known else { continue };
        let row = store.row_by_id(last)?.ok_or_else(|| LateError(format!("row {last} can't be found")))?;
        waiting.insert(*id, row);
    }
    if waiting.is_empty() {
        return Ok(None);
    }
    let mut out = DraftsBuffer::default();
    for item in drafts.decode()? {
        let said = match &item.draft.record {
            Record::Sms(sms) if sms.final_state != FinalState::Expired => Some(sms),
            _ => None,
        };
        match said.and_then(|sms| Some((sms, waiting.get(&sms.message_id)?))) {
            Some((said, stored)) => {
                let ticket = format!("receipt:{epoch}:{}", first + u64::from(item.offset));
                let effective = stored.row()?;
                let before = effective.sms().ok_or_else(|| LateError("it is not a CDR".to_owned()))?;
                out.push(item.offset, &correction(&effective, before, &item.draft, said, &ticket))?;
            }
            None => out.push(item.offset, &item.draft)?,
        }
    }
    Ok(Some(out))
}

/// The row that follows `effective` with what the receipt says.
fn correction<'a>(
    effective: &Row<'a>,
    before: &Sms<'a>,
    receipt: &Draft<'a>,
    said: &Sms<'a>,
    ticket_id: &'a str,
) -> Draft<'a> {
    let sms = Sms {
        final_state: said.final_state,
        event_at: said.event_at,
        local_offset_minutes: said.local_offset_minutes,
        failure_code: said.failure_code,
        failure_text: said.failure_text,
        adjustment: Some(Adjustment {
            of: effective.frame.cdr_id,
            kind: AdjustmentType::Correction,
            reason: Some(REASON),
            void_reason: None,
            ticket_id: Some(ticket_id),
            issued_by: Some(ISSUER),
            approver: None,
        }),
        ..before.clone()
    };
    let draft =
        Draft { operator_id: effective.frame.operator_id, record: Record::Sms(sms), ..receipt.clone() };
    draft.following(effective)
}

#[cfg(test)]
mod tests;

/// Late DLRs can't be distinguished from others, or not be written.
#[derive(Debug, thiserror::Error)]
#[error("late DLRs can't be turned into corrections: {0}")]
pub struct LateError(String);

impl From<StoreError> for LateError {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

impl From<cdr_core::codec::CodecError> for LateError {
    fn from(error: cdr_core::codec::CodecError) -> Self {
        Self(error.to_string())
    }
}
