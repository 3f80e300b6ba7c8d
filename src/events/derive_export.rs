//! Events of `delivery` and `quarantine` rows.
//!
//! An event holds what its row holds, and of the file or entry that the row names only what never changes afterwards: so the
//! answer is the same at any time.

use super::derive::{Derivation, DeriveError, Sink, Sources};
use super::derive_notice::text_of;
use super::export::{
    CHANNELS_EXHAUSTED, ExportAcked, ExportRejected, Exported, QuarantineResolved, export_acked,
    export_rejected, exported, quarantine_resolved,
};
use super::subject;
use crate::masking;
use cdr_core::export::fold::{export_id, quarantine_id};
use cdr_core::export::quarantine::{QuarantineStep, Quarantined};
use cdr_core::export::step::{DeliveryStep, ReceiverAnswer};
use cdr_core::export::{Export, Outcome};
use cdr_core::json::{MAX_BYTES, value_or_texts};
use cdr_core::row::{Row, System};
use serde_json::{Value, json};
use std::ops::ControlFlow;

impl<S: Sources> Derivation<'_, S> {
    /// The event of a `delivery` row.
    pub(super) fn delivery(
        &mut self,
        row: &Row<'_>,
        system: &System<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<ControlFlow<()>, DeriveError> {
        let Ok(step) = system.read::<DeliveryStep>() else {
            return Ok(ControlFlow::Continue(()));
        };
        let (trace_id, at) = (row.frame.trace_id, row.frame.recorded_at);
        match &step {
            DeliveryStep::Attempted { channel, outcome: Outcome::Delivered { atra_receipt_id }, .. } => {
                let export = self.named_export(&step)?;
                let (Some(content), Some(signature)) = (&export.content, &export.signature) else {
                    return Err(self.missing(format!("the signature of {}", export.name())));
                };
                let (receipt_id, delivered_at) = (atra_receipt_id.as_deref(), at);
                let file =
                    Exported { export: &export, content, signature, channel, delivered_at, receipt_id };
                self.tell(subject::EXPORTED, trace_id, sink, |head| Ok(exported(&file, head)))
            }
            DeliveryStep::Acked { atra_receipt_id, rejection_reason: None, .. } => {
                let export = self.named_export(&step)?;
                let acked = ExportAcked {
                    export_id: export.id,
                    operator_id: &export.pins.operator_id,
                    receipt_id: atra_receipt_id,
                    acked_at: at,
                };
                self.tell(subject::EXPORT_ACKED, trace_id, sink, |head| Ok(export_acked(&acked, head)))
            }
            DeliveryStep::Acked {
                atra_receipt_id,
                rejection_reason: Some(why),
                payload,
                retry_count,
                ..
            } => {
                let payload = payload.as_ref().map(sent).unwrap_or_default();
                let refusal =
                    Refusal { why, receipt_id: Some(atra_receipt_id), payload, retry_count: *retry_count };
                self.rejected(row, &step, refusal, sink)
            }
            DeliveryStep::Exhausted { retry_count, reason, .. } => {
                let payload = json!({ "lastFailure": reason });
                let refusal =
                    Refusal { why: CHANNELS_EXHAUSTED, receipt_id: None, payload, retry_count: *retry_count };
                self.rejected(row, &step, refusal, sink)
            }
            DeliveryStep::Attempted {
                answer:
                    Some(ReceiverAnswer {
                        rejection_reason: Some(why),
                        atra_receipt_id,
                        payload,
                        retry_count,
                        ..
                    }),
                ..
            } => {
                let (receipt_id, payload) = (atra_receipt_id.as_deref(), json!(payload));
                let refusal = Refusal { why, receipt_id, payload, retry_count: *retry_count };
                self.rejected(row, &step, refusal, sink)
            }
            DeliveryStep::Attempted { .. } | DeliveryStep::Redropped { .. } => Ok(ControlFlow::Continue(())),
        }
    }

    fn rejected(
        &mut self,
        row: &Row<'_>,
        step: &DeliveryStep,
        mut refusal: Refusal<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<ControlFlow<()>, DeriveError> {
        let export = self.named_export(step)?;
        masking::foreign(&mut refusal.payload);
        let payload = text_of(&refusal.payload).unwrap_or_else(|| "null".to_owned());
        let rejected = ExportRejected {
            export_id: export.id,
            operator_id: &export.pins.operator_id,
            reason: refusal.why,
            receipt_id: refusal.receipt_id,
            payload: &payload,
            retry_count: refusal.retry_count,
            rejected_at: row.frame.recorded_at,
        };
        self.tell(subject::EXPORT_REJECTED, row.frame.trace_id, sink, |head| {
            Ok(export_rejected(&rejected, head))
        })
    }

    fn named_export(&self, step: &DeliveryStep) -> Result<Export, DeriveError> {
        let name = step.export_id();
        let found = match export_id(name) {
            Some(id) => self.sources().export(id).map_err(DeriveError::Source)?,
            None => None,
        };
        found.ok_or_else(|| self.missing(format!("export {name}")))
    }

    /// The event of a `quarantine` row.
    pub(super) fn quarantine(
        &mut self,
        row: &Row<'_>,
        system: &System<'_>,
        sink: &mut Sink<'_>,
    ) -> Result<ControlFlow<()>, DeriveError> {
        let (name, resolved_by, resubmitted) = match system.read() {
            Ok(QuarantineStep::Resubmitted { quarantine_id, resolved_by }) => {
                (quarantine_id, resolved_by, true)
            }
            Ok(QuarantineStep::Discarded { quarantine_id, resolved_by }) => {
                (quarantine_id, resolved_by, false)
            }
            Ok(QuarantineStep::Quarantined(_)) | Err(_) => return Ok(ControlFlow::Continue(())),
        };
        let entry = self.named_entry(&name)?;
        let encoder_error = masking::text(&entry.unfit.encoder_error);
        let resolved = QuarantineResolved {
            entry: &entry,
            encoder_error: &encoder_error,
            resubmitted,
            resolved_by: &resolved_by,
            resolved_at: row.frame.recorded_at,
        };
        self.tell(subject::QUARANTINE_RESUBMITTED, row.frame.trace_id, sink, |head| {
            Ok(quarantine_resolved(&resolved, head))
        })
    }

    fn named_entry(&self, name: &str) -> Result<Quarantined, DeriveError> {
        let found = match quarantine_id(name) {
            Some(id) => self.sources().quarantined(id).map_err(DeriveError::Source)?,
            None => None,
        };
        found.ok_or_else(|| self.missing(format!("quarantine entry {name}")))
    }
}

/// What the regulator sent, as a value: the row holds the text of its JSON. Numbers that a double does not hold are
/// texts.
fn sent(payload: &Value) -> Value {
    let text = payload.as_str().and_then(|text| value_or_texts(text.as_bytes(), MAX_BYTES).ok());
    text.unwrap_or_else(|| payload.clone())
}

/// Why a file counts as refused.
struct Refusal<'a> {
    why: &'a str,
    receipt_id: Option<&'a str>,
    payload: Value,
    retry_count: u32,
}
