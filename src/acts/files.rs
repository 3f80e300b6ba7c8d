//! Acts on settlement files, quarantine and schema variants (US-CDR-009, 011, 015): the row that each appends, and what
//! the audit log records of it.

use super::appended::{Appended, jcs, object};
use super::setting::recorded;
use super::{Act, ActError, FileOfDay, SchemaChoice, Wish, unconfirmed};
use crate::names::{VARIANT_SETTING, variant_in_force};
use cdr_core::audit::AuditRecord;
use cdr_core::export::quarantine::{QuarantineStep, Quarantined};
use cdr_core::export::step::{DeliveryStep, ExportStep};
use cdr_core::export::{Delivery, EXPORT_PREFIX, Export, Outcome, SeriesKey};
use cdr_core::row::SystemKind;
use cdr_core::setting::SettingChange;
use cdr_core::{CdrId, LedgerState};
use cdr_storage::Store;
use serde_json::{Value, json};

/// How an attempt ended that met another file of the same name at the receiver.
const DUPLICATE_FILE: &str = "DUPLICATE_FILE";

/// The row of a request on files or settings; none for every other kind.
///
/// # Errors
/// [`ActError`] if it can't be done as things are.
pub(super) fn appended(
    store: &Store,
    state: &LedgerState,
    act: &Act,
    signer: &SignerState,
) -> Result<Option<Appended>, ActError> {
    match &act.wish {
        Wish::Redrop { export_id } => redrop(&export(store, *export_id)?, signer).map(Some),
        Wish::Settle(file) => settle(store, state, file, signer).map(Some),
        Wish::Acknowledge { export_id, .. } => acknowledge(&export(store, *export_id)?, &act.wish).map(Some),
        Wish::Resolve { quarantine_id, resubmit } => {
            let missing = || ActError::UnknownQuarantine {
                quarantine_id: quarantine_id.with_prefix(cdr_core::export::quarantine::QUARANTINE_PREFIX),
            };
            let entry = store.quarantined(*quarantine_id).map_err(unconfirmed)?.ok_or_else(missing)?;
            resolve(&entry, *resubmit, &act.actor).map(Some)
        }
        Wish::Activate(choice) => activate(state, choice, act).map(Some),
        Wish::Configure(setting) => recorded(state, setting, act).map(Some),
        Wish::Correct { .. } | Wish::Void { .. } | Wish::ReRate(_) | Wish::Note { .. } => Ok(None),
    }
}

fn export(store: &Store, id: CdrId) -> Result<Export, ActError> {
    let missing = || ActError::UnknownExport { what: format!("export {}", id.with_prefix(EXPORT_PREFIX)) };
    store.export(id).map_err(unconfirmed)?.ok_or_else(missing)
}

/// Nothing if the signer works as far as is known, else what it says.
pub(super) type SignerState = Result<(), String>;

/// Refuses a file that waits for a signer that is away.
fn signer_is_there(export: &Export, signer: &SignerState) -> Result<(), ActError> {
    match signer {
        Err(why) if export.content.is_some() && export.signature.is_none() => {
            Err(ActError::SignerAway { export_id: export.name(), why: why.clone() })
        }
        _ => Ok(()),
    }
}

fn redrop(export: &Export, signer: &SignerState) -> Result<Appended, ActError> {
    signer_is_there(export, signer)?;
    let export_id = export.name();
    if export.signature.is_none() {
        let why = "it is not signed yet, and is delivered once it is signed".to_owned();
        return Err(ActError::ExportNotReady { export_id, why });
    }
    if export.verification.as_ref().is_some_and(|said| said.rejection_reason.is_none()) {
        return Err(ActError::ExportAcked { export_id });
    }
    Ok(Appended {
        kind: SystemKind::Delivery,
        body: jcs(&DeliveryStep::Redropped { export_id })?,
        audit: of_export("EXPORT_REPLAYED", export),
    })
}

fn of_export(entry_type: &str, export: &Export) -> AuditRecord {
    let pins = &export.pins;
    AuditRecord {
        entry_type: entry_type.to_owned(),
        operator_id: Some(pins.operator_id.clone()),
        details: object(json!({
            "exportId": export.name(), "exportType": pins.export_type, "fileName": pins.file_name,
            "settlementDay": pins.settlement_day,
        })),
        ..AuditRecord::default()
    }
}

/// The file of a day: delivered again if it exists, requested otherwise.
fn settle(
    store: &Store,
    state: &LedgerState,
    file: &FileOfDay,
    signer: &SignerState,
) -> Result<Appended, ActError> {
    match file_of_day(store, file)? {
        Some(export) if export.pins.schema_variant != file.schema_variant => {
            let (variant, made_by) = (&file.schema_variant, &export.pins.schema_variant);
            let (name, day) = (export.name(), file.settlement_day);
            Err(ActError::SchemaInvalid {
                why: format!(
                    "the file of {day} is {name}, made by {made_by}: it is not made again by {variant}"
                ),
            })
        }
        // After the cause is known, the file is redropped by its id.
        Some(export) if is_there_already(&export) => {
            Err(ActError::DuplicateFile { export_id: export.name(), file_name: export.pins.file_name })
        }
        Some(export) if export.signature.is_some() => redrop(&export, signer),
        // It is being made; what is requested comes anyway.
        Some(export) => signer_is_there(&export, signer).and_then(|()| request(file)),
        None => {
            let reached = state.exports.reached(&file.key());
            if reached.is_some_and(|reached| reached.day >= file.settlement_day) {
                let FileOfDay { export_type, operator_id, settlement_day, .. } = file;
                return Err(ActError::UnknownExport {
                    what: format!(
                        "a file {} of {operator_id} for {settlement_day} (what it would list is in a later one), it",
                        export_type.as_str()
                    ),
                });
            }
            request(file)
        }
    }
}

/// True if the last attempt to deliver it met another file of its name.
fn is_there_already(export: &Export) -> bool {
    let last = export.attempts.last().filter(|_| export.delivery == Delivery::Pending && export.failures > 0);
    let met = |outcome: &Outcome| matches!(outcome, Outcome::Failed { error, .. } if error == DUPLICATE_FILE);
    last.is_some_and(|last| met(&last.outcome))
}

fn request(file: &FileOfDay) -> Result<Appended, ActError> {
    let FileOfDay { export_type, operator_id, series, settlement_day, schema_variant } = file;
    let step = ExportStep::Requested {
        export_type: *export_type,
        operator_id: operator_id.clone(),
        series: series.clone(),
        settlement_day: *settlement_day,
    };
    let audit = AuditRecord {
        entry_type: "EXPORT_REQUESTED".to_owned(),
        operator_id: Some(operator_id.clone()),
        details: object(json!({
            "exportType": export_type, "schemaVariant": schema_variant, "series": series,
            "settlementDay": settlement_day,
        })),
        ..AuditRecord::default()
    };
    Ok(Appended { kind: SystemKind::Export, body: jcs(&step)?, audit })
}

/// The file of a day, if its series has one.
///
/// # Errors
/// [`ActError::Unconfirmed`] if files can't be read.
pub fn file_of_day(store: &Store, file: &FileOfDay) -> Result<Option<Export>, ActError> {
    let files = store.series(&file.key()).map_err(unconfirmed)?;
    match files.binary_search_by_key(&file.settlement_day, |known| known.cut.day) {
        Ok(at) => store.export(files[at].id).map_err(unconfirmed),
        Err(_) => Ok(None),
    }
}

fn acknowledge(export: &Export, wish: &Wish) -> Result<Appended, ActError> {
    let Wish::Acknowledge { receipt_id, rejection_reason, payload, .. } = wish else {
        return Err(unconfirmed("this request does not acknowledge a file"));
    };
    let export_id = export.name();
    if export.signature.is_none() || export.delivery == Delivery::Pending {
        let why = "it is not recorded as delivered yet: repeat this once it is".to_owned();
        return Err(ActError::ExportNotReady { export_id, why });
    }
    if export.verification.is_some() {
        return Err(ActError::ExportAcked { export_id });
    }
    let mut audit = of_export("EXPORT_ACKED", export);
    let status = if rejection_reason.is_some() { "REJECTED" } else { "VERIFIED" };
    audit.details.insert("atraReceiptId".to_owned(), json!(receipt_id));
    audit.details.insert("atraVerificationStatus".to_owned(), json!(status));
    audit.details.insert("rejectionReason".to_owned(), json!(rejection_reason));
    let step = DeliveryStep::Acked {
        export_id,
        atra_receipt_id: receipt_id.clone(),
        rejection_reason: rejection_reason.clone(),
        payload: payload.clone().map(Value::String),
        retry_count: export.failures,
    };
    Ok(Appended { kind: SystemKind::Delivery, body: jcs(&step)?, audit })
}

fn resolve(entry: &Quarantined, resubmit: bool, actor: &str) -> Result<Appended, ActError> {
    let quarantine_id = entry.name();
    if let Some(resolved) = &entry.resolved {
        let how = if resolved.resubmitted { "resubmitted" } else { "discarded" };
        let why = format!("{how} already, by {}", resolved.by);
        return Err(ActError::QuarantineResolved { quarantine_id, why });
    }
    let audit = AuditRecord {
        entry_type: if resubmit { "QUARANTINE_RESUBMITTED" } else { "QUARANTINE_DISCARDED" }.to_owned(),
        operator_id: Some(entry.unfit.operator_id.clone()),
        details: object(json!({
            "cdrId": entry.unfit.cdr_id, "quarantineId": quarantine_id, "series": entry.unfit.series,
        })),
        ..AuditRecord::default()
    };
    let resolved_by = actor.to_owned();
    let step = if resubmit {
        QuarantineStep::Resubmitted { quarantine_id, resolved_by }
    } else {
        QuarantineStep::Discarded { quarantine_id, resolved_by }
    };
    Ok(Appended { kind: SystemKind::Quarantine, body: jcs(&step)?, audit })
}

fn activate(state: &LedgerState, choice: &SchemaChoice, act: &Act) -> Result<Appended, ActError> {
    let SchemaChoice { schema_variant, schema_hash, configured } = choice;
    let set = variant_in_force(state);
    let before = set.unwrap_or(configured);
    if before == schema_variant {
        return Err(ActError::SchemaActive { variant: schema_variant.clone() });
    }
    let details = json!({
        "previousVariant": before, "schemaHash": schema_hash, "schemaVariant": schema_variant,
    });
    let change = SettingChange {
        actor_user_id: act.actor.clone(),
        approver_user_id: act.approver.clone(),
        config_key: VARIANT_SETTING.to_owned(),
        content: Some(details.clone()),
        new_value: schema_variant.clone(),
        previous_value: set.map(str::to_owned),
        reason: act.reason.clone().unwrap_or_else(|| "a schema variant was activated".to_owned()),
        ticket_id: act.ticket_id.clone(),
    };
    let audit = AuditRecord {
        entry_type: "SCHEMA_CHANGED".to_owned(),
        details: object(details),
        ..AuditRecord::default()
    };
    Ok(Appended { kind: SystemKind::Config, body: jcs(&change)?, audit })
}

impl FileOfDay {
    /// The series that it is one of.
    pub fn key(&self) -> SeriesKey {
        SeriesKey {
            series: self.series.clone(),
            export_type: self.export_type,
            operator_id: self.operator_id.clone(),
        }
    }
}
