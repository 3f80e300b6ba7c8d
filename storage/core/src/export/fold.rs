//! What `export`, `delivery` and `quarantine` rows mean to the state.
//!
//! The state holds how far every series is, the last number of every recording entity, and the files that are still on
//! their way; all others, and quarantine, are looked up by the view and passed in before a row is applied.

use super::quarantine::{QUARANTINE_PREFIX, QuarantineStep, Quarantined, Resolved};
use super::step::{DeliveryStep, ExportStep};
use super::{
    ATTEMPTS_KEPT, Attempt, Cut, Delivery, EXPORT_PREFIX, Export, ExportPins, ExportType, Outcome, SeriesKey,
    Verification,
};
use crate::command::Rejection;
use crate::id::CdrId;
use crate::time::{Day, Millis};
use bincode::{Decode, Encode};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How far all series are, and the files that are still on their way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Exports(Arc<Folded>);

#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
struct Folded {
    /// Last number by series, kind and recording entity.
    numbers: BTreeMap<(String, ExportType, String), u32>,
    /// Last file of each series.
    reached: BTreeMap<SeriesKey, Cut>,
    /// Files with work left.
    open: BTreeMap<CdrId, Export>,
    /// Days that were requested before they are due.
    requested: BTreeMap<SeriesKey, Day>,
}

/// The place of a row.
#[derive(Clone, Copy, Debug)]
pub struct RowPlace {
    /// Its id.
    pub id: CdrId,
    /// Its number over all hours.
    pub ordinal: u64,
    /// When the log accepted it.
    pub recorded_at: Millis,
}

impl Exports {
    /// The last number that a recording entity's files of this kind took in a series.
    pub fn last_number(&self, series: &str, export_type: ExportType, recording_entity: &str) -> Option<u32> {
        self.0.numbers.get(&(series.to_owned(), export_type, recording_entity.to_owned())).copied()
    }

    /// How far a series is.
    pub fn reached(&self, key: &SeriesKey) -> Option<&Cut> {
        self.0.reached.get(key)
    }

    /// Files with work left, oldest first.
    pub fn open(&self) -> impl Iterator<Item = &Export> {
        self.0.open.values()
    }

    /// A file with work left.
    pub fn get(&self, id: CdrId) -> Option<&Export> {
        self.0.open.get(&id)
    }

    /// The day up to which a series' files were requested before they are due.
    pub fn requested(&self, key: &SeriesKey) -> Option<Day> {
        self.0.requested.get(key).copied()
    }

    /// Takes an `export` row in; the file as it is then, if it names one. `known` is the file that the row names, open or not.
    ///
    /// # Errors
    /// [`Rejection::Illegal`], or [`Rejection::ExportMoved`] if the step does not go on where the file or its series is.
    pub(crate) fn fold(
        &mut self,
        at: RowPlace,
        step: ExportStep,
        known: Option<Export>,
    ) -> Result<Option<Export>, Rejection> {
        let export = match step {
            ExportStep::Requested { export_type, operator_id, series, settlement_day } => {
                let key = SeriesKey { series, export_type, operator_id };
                if self.reached(&key).is_none_or(|reached| reached.day < settlement_day) {
                    Arc::make_mut(&mut self.0).requested.insert(key, settlement_day);
                }
                return Ok(None);
            }
            ExportStep::Skipped {
                export_type,
                operator_id,
                series,
                settlement_day,
                upto_bucket,
                rows_looked_at,
            } => {
                let key = SeriesKey { series, export_type, operator_id };
                let ordinal = rows_looked_at.min(at.ordinal);
                let cut = Cut { day: settlement_day, upto: upto_bucket, ordinal };
                if export_type == ExportType::Tap || !self.goes_on(&key, &cut) {
                    return Err(Rejection::ExportMoved { export_id: at.id.with_prefix(EXPORT_PREFIX) });
                }
                self.reach(key, cut);
                return Ok(None);
            }
            ExportStep::Opened(pins) => self.begin(at, pins)?,
            ExportStep::Encoded { export_id, content } => {
                let mut export = named(known, &export_id)?;
                if export.content.is_some() {
                    return Err(Rejection::ExportMoved { export_id });
                }
                export.content = Some(content);
                export.encoded_at = Some(at.recorded_at);
                export
            }
            ExportStep::Signed { export_id, signature } => {
                let mut export = named(known, &export_id)?;
                if export.content.is_none() || export.signature.is_some() {
                    return Err(Rejection::ExportMoved { export_id });
                }
                export.signature = Some(signature);
                export.signed_at = Some(at.recorded_at);
                export.due_since = Some(at.recorded_at);
                export
            }
        };
        Ok(Some(self.keep(export)))
    }

    /// Takes a `delivery` row in; the file as it is then.
    ///
    /// # Errors
    /// As [`Exports::fold`].
    pub(crate) fn fold_delivery(
        &mut self,
        at: RowPlace,
        step: DeliveryStep,
        known: Option<Export>,
    ) -> Result<Export, Rejection> {
        let mut export = named(known, step.export_id())?;
        let moved = || Rejection::ExportMoved { export_id: export.name() };
        if export.signature.is_none() {
            return Err(moved());
        }
        match step {
            DeliveryStep::Attempted { channel, outcome, .. } => {
                if export.delivery != Delivery::Pending {
                    return Err(moved());
                }
                attempted(&mut export, Attempt { at: at.recorded_at, channel, outcome });
            }
            DeliveryStep::Exhausted { .. } if export.exhausted || export.delivery != Delivery::Pending => {
                return Err(moved());
            }
            DeliveryStep::Exhausted { .. } => export.exhausted = true,
            DeliveryStep::Redropped { export_id } => {
                if export.verification.as_ref().is_some_and(|said| said.rejection_reason.is_none()) {
                    return Err(Rejection::ExportAcked { export_id });
                }
                export.delivery = Delivery::Pending;
                export.due_since = Some(at.recorded_at);
                (export.failures, export.exhausted, export.verification) = (0, false, None);
            }
            DeliveryStep::Acked { export_id, atra_receipt_id, rejection_reason, .. } => {
                if export.delivery == Delivery::Pending {
                    return Err(moved());
                }
                if export.verification.is_some() {
                    return Err(Rejection::ExportAcked { export_id });
                }
                let (at, receipt_id) = (at.recorded_at, atra_receipt_id);
                export.verification = Some(Verification { at, receipt_id, rejection_reason });
            }
        }
        Ok(self.keep(export))
    }

    fn begin(&mut self, at: RowPlace, pins: ExportPins) -> Result<Export, Rejection> {
        let cut = Cut { day: pins.settlement_day, upto: pins.upto_bucket, ordinal: at.ordinal };
        let mut export = Export::opened(at.id, pins, cut, None);
        let key = export.series_key();
        let pins = &export.pins;
        let number = (pins.series.clone(), pins.export_type, pins.recording_entity.clone());
        export.before = self.reached(&key).copied();
        let last = self.0.numbers.get(&number).copied();
        // Where numbers wrap, and at which, is the schema variant's.
        let next =
            last.is_none_or(|last| last + 1 == pins.file_sequence_number || pins.file_sequence_number < last);
        if !self.goes_on(&key, &cut) || !next {
            return Err(Rejection::ExportMoved { export_id: export.name() });
        }
        Arc::make_mut(&mut self.0).numbers.insert(number, export.pins.file_sequence_number);
        self.reach(key, cut);
        Ok(export)
    }

    /// True if a series may go on to `cut`: to a later day, and not back in the log.
    fn goes_on(&self, key: &SeriesKey, cut: &Cut) -> bool {
        self.reached(key).is_none_or(|before| before.day < cut.day && before.upto <= cut.upto)
    }

    fn reach(&mut self, key: SeriesKey, cut: Cut) {
        let folded = Arc::make_mut(&mut self.0);
        if folded.requested.get(&key).is_some_and(|day| *day <= cut.day) {
            folded.requested.remove(&key);
        }
        folded.reached.insert(key, cut);
    }

    fn keep(&mut self, export: Export) -> Export {
        let folded = Arc::make_mut(&mut self.0);
        if export.is_open() {
            folded.open.insert(export.id, export.clone());
        } else {
            folded.open.remove(&export.id);
        }
        export
    }
}

fn attempted(export: &mut Export, attempt: Attempt) {
    match &attempt.outcome {
        Outcome::Delivered { atra_receipt_id } => {
            let (channel, receipt_id) = (attempt.channel.clone(), atra_receipt_id.clone());
            export.delivery = Delivery::Delivered { channel, at: attempt.at, receipt_id };
            export.exhausted = false;
        }
        Outcome::Failed { .. } => export.failures += 1,
    }
    if export.attempts.len() >= ATTEMPTS_KEPT {
        export.attempts.remove(0);
    }
    export.attempts.push(attempt);
}

fn named(known: Option<Export>, export_id: &str) -> Result<Export, Rejection> {
    known.ok_or_else(|| Rejection::UnknownExport { export_id: export_id.to_owned() })
}

/// Takes a `quarantine` row in; the entry as it is then. `known` is the entry that the row names.
///
/// # Errors
/// [`Rejection::Illegal`].
pub(crate) fn fold_quarantine(
    at: RowPlace,
    step: QuarantineStep,
    known: Option<Quarantined>,
) -> Result<Quarantined, Rejection> {
    let (quarantine_id, by, resubmitted) = match step {
        QuarantineStep::Quarantined(unfit) => {
            return Ok(Quarantined {
                id: at.id,
                unfit,
                at: at.recorded_at,
                ordinal: at.ordinal,
                resolved: None,
            });
        }
        QuarantineStep::Resubmitted { quarantine_id, resolved_by } => (quarantine_id, resolved_by, true),
        QuarantineStep::Discarded { quarantine_id, resolved_by } => (quarantine_id, resolved_by, false),
    };
    let why = || Rejection::Illegal { why: format!("there is no {quarantine_id} in quarantine") };
    let mut entry = known.ok_or_else(why)?;
    entry.resolve(Resolved { resubmitted, by, at: at.recorded_at, ordinal: at.ordinal })?;
    Ok(entry)
}

/// The id in an export's name.
pub fn export_id(name: &str) -> Option<CdrId> {
    CdrId::parse_prefixed(EXPORT_PREFIX, name)
}

/// The id in a quarantine entry's name.
pub fn quarantine_id(name: &str) -> Option<CdrId> {
    CdrId::parse_prefixed(QUARANTINE_PREFIX, name)
}
