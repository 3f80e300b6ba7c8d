//! `POST /v1/cdr/exports/{exportId}/redrop` and `/mark-acked`, `POST /v1/cdr/exports/trigger` (US-CDR-012, US-CDR-015).

use super::export_view::{item, verification_status};
use super::exports::{EXPORT_ID, export_type, find, local_day};
use crate::acts::{FileOfDay, Wish, file_of_day};
use crate::api::http::Service;
use crate::api::http::access::{Caller, PathInput};
use crate::api::http::act::act;
use crate::api::http::answer::Answer;
use crate::api::http::body::{Body, Headers, Object, text};
use crate::api::http::error::ApiError;
use crate::api::http::input::known_operator;
use crate::api::http::ledger::{Consistency, Work};
use crate::api::records::query;
use crate::auth::{SCOPE_ADMIN, SCOPE_REGULATOR_ACK};
use crate::delivery::Reason;
use crate::export::Schemas;
use crate::texts;
use crate::zone;
use axum::extract::State;
use axum::http::StatusCode;
use cdr_core::export::ExportType;
use cdr_core::export::fold::export_id;
use cdr_core::row::{Record, SystemKind};
use cdr_core::time::Day;
use cdr_core::{CdrId, Millis};
use cdr_storage::Store;
use jiff::civil::Time;
use serde_json::{Value, json};

/// Puts a signed file up for delivery again, with its signature.
pub(in crate::api) async fn redrop(
    State(service): State<Service>,
    caller: Caller,
    path: PathInput,
    headers: Headers,
    body: Body,
) -> Result<Answer, ApiError> {
    caller.require(SCOPE_ADMIN)?;
    let id = path.parsed("exportId", EXPORT_ID, export_id)?;
    let body = body.optional_object(&["reason", "ticketId"])?;
    let act = act(caller, headers, &body, &format!("redrop of {id}"), Wish::Redrop { export_id: id })?;
    let (_, applied_index) = service.ledger.perform(&act).await?;
    let answer = service.ledger.on_store(Work::Read, move |store| Ok(item(&find(store, id)?))).await?;
    Ok(Answer::of(&answer, applied_index)?.with_status(StatusCode::ACCEPTED))
}

/// Records whether the regulator accepts a file that it received.
pub(in crate::api) async fn mark_acked(
    State(service): State<Service>,
    caller: Caller,
    path: PathInput,
    headers: Headers,
    body: Body,
) -> Result<Answer, ApiError> {
    caller.require(SCOPE_REGULATOR_ACK)?;
    let id = path.parsed("exportId", EXPORT_ID, export_id)?;
    let body = body.object_keeping(&["atraReceiptId", "status", "rejectionReason", "payload"], "payload")?;
    let wish = Wish::Acknowledge {
        export_id: id,
        receipt_id: receipt_id(&body)?,
        rejection_reason: rejection_reason(&body)?,
        payload: body.get("payload").and_then(Value::as_str).map(str::to_owned),
    };
    let act = act(caller, headers, &body, &format!("acknowledgement of {id}"), wish)?;
    let (_, applied_index) = service.ledger.perform(&act).await?;
    let answer = move |store: &Store| {
        let export = find(store, id)?;
        let said = export.verification.as_ref();
        Ok(json!({
            "exportId": export.name(),
            "atraReceiptId": said.map(|said| &said.receipt_id),
            "atraVerificationStatus": verification_status(&export),
            "rejectionReason": said.and_then(|said| said.rejection_reason.as_ref()),
            "ackedAt": said.map(|said| said.at),
        }))
    };
    let answer = service.ledger.on_store(Work::Read, answer).await?;
    Answer::of(&answer, applied_index)
}

/// The regulator's name for its receipt.
fn receipt_id(body: &Object) -> Result<String, ApiError> {
    let name = "atraReceiptId";
    let text = body.get(name).and_then(Value::as_str).filter(|text| texts::is_name(text));
    text.map(str::to_owned).ok_or_else(|| ApiError::invalid(name, format!("{} is required", texts::NAME)))
}

/// Why the file is refused; none if it is accepted.
fn rejection_reason(body: &Object) -> Result<Option<String>, ApiError> {
    let reason = text(body, "rejectionReason")?;
    match required(body, "status")?.as_str() {
        "VERIFIED" if reason.is_some() => Err(ApiError::invalid("rejectionReason", "only a refusal has one")),
        "VERIFIED" => Ok(None),
        "REJECTED" => reason
            .filter(|reason| Reason::ALL.iter().any(|known| known.as_str() == reason))
            .map(Some)
            .ok_or_else(|| ApiError::invalid("rejectionReason", one_of(&Reason::ALL.map(Reason::as_str)))),
        _ => Err(ApiError::invalid("status", "VERIFIED or REJECTED is required")),
    }
}

/// Requests the file of a day: delivered again if there is one, made before it is due otherwise.
pub(in crate::api) async fn trigger(
    State(service): State<Service>,
    caller: Caller,
    headers: Headers,
    body: Body,
) -> Result<Answer, ApiError> {
    caller.require(SCOPE_ADMIN)?;
    let known = &["exportType", "settlementDay", "operatorId", "schemaVariant", "reason", "ticketId"];
    let body = body.object(known)?;
    let asked = Asked::parse(&body)?;
    let applied_index = service.ledger.barrier(Consistency::Linearizable).await?;
    let key = headers.request_key(&caller.0.subject)?;
    let hash = body.hash("trigger")?;
    // A repeated request gets the first one's answer, whatever is in force by now.
    let known = service.ledger.store.request(&key)?.filter(|request| request.body == hash);
    if let Some(request) = known {
        return triggered(&service, request.answer, applied_index).await;
    }
    let (schemas, now) = (service.ledger.schemas.clone(), service.ledger.clock.now());
    let cut_off = service.ledger.rap_cut_off;
    let find = move |store: &Store| {
        let file = asked.file(store, &schemas, now)?;
        cut_off_is_over(store, &file, cut_off, now)?;
        Ok(file)
    };
    let file = service.ledger.on_store(Work::Read, find).await?;
    let mut act = act(caller, headers, &body, "trigger", Wish::Settle(file))?;
    act.key = key;
    let (row, applied_index) = service.ledger.perform(&act).await?;
    triggered(&service, row, applied_index).await
}

/// The content of the row that answers a trigger.
async fn triggered(service: &Service, row: CdrId, applied_index: u64) -> Result<Answer, ApiError> {
    let answer = move |store: &Store| {
        let stored = query::find(store, row)?;
        let read = stored.row()?;
        let Record::System(system) = &read.record else {
            return Err(ApiError::internal(format!("{row} does not answer a trigger")));
        };
        let body = system.content().map_err(ApiError::internal)?;
        let is_request = system.kind == SystemKind::Export;
        Ok(json!({
            "requestId": row.to_string(),
            "action": if is_request { "REQUESTED" } else { "REDROPPED" },
            "exportId": body.get("exportId"),
        }))
    };
    let answer = service.ledger.on_store(Work::Read, answer).await?;
    Ok(Answer::of(&answer, applied_index)?.with_status(StatusCode::ACCEPTED))
}

/// What a trigger names.
#[derive(Clone, Debug)]
struct Asked {
    /// All but its series and, unless it is named, its variant.
    file: FileOfDay,
    is_variant_named: bool,
}

impl Asked {
    fn parse(body: &Object) -> Result<Self, ApiError> {
        let kind = required(body, "exportType")?;
        let export_type = export_type(&kind)
            .ok_or_else(|| ApiError::invalid("exportType", "TAP_3_12 or RAP_1_5 is required"))?;
        let day = required(body, "settlementDay")?;
        let settlement_day = Day::parse(&day)
            .ok_or_else(|| ApiError::invalid("settlementDay", "a day such as 2026-04-20 is required"))?;
        required(body, "reason")?;
        let variant = text(body, "schemaVariant")?;
        let file = FileOfDay {
            export_type,
            operator_id: required(body, "operatorId")?,
            series: String::new(),
            settlement_day,
            schema_variant: variant.clone().unwrap_or_default(),
        };
        Ok(Self { file, is_variant_named: variant.is_some() })
    }

    /// The file, with its series: one that has a file of that day by this variant, or else one whose files are made by
    /// it now.
    fn file(self, store: &Store, schemas: &Schemas, now: Millis) -> Result<FileOfDay, ApiError> {
        let (mut file, state) = (self.file, store.state());
        known_operator("operatorId", &file.operator_id, &state)?;
        if file.settlement_day >= local_day(&state, now) {
            return Err(ApiError::invalid("settlementDay", "the day is not over in the settlement zone"));
        }
        if !self.is_variant_named {
            schemas.active(&state).clone_into(&mut file.schema_variant);
        }
        for series in &schemas.series {
            file.series.clone_from(&series.name);
            let made = file_of_day(store, &file)?;
            if made.is_some_and(|export| export.pins.schema_variant == file.schema_variant) {
                return Ok(file);
            }
        }
        let by_it = schemas.series.iter().find(|series| series.variant_now(&state) == file.schema_variant);
        let Some(series) = by_it else {
            let why = format!(
                "no files are made by schema variant {:?}: it is neither the one in force nor that of a declared series",
                file.schema_variant
            );
            return Err(ApiError::SchemaInvalid { why, failures: Vec::new() });
        };
        file.series.clone_from(&series.name);
        Ok(file)
    }
}

/// Refuses a RAP file of a day whose adjustments are not all there yet: those that come until the cut-off are promised to
/// be in it.
fn cut_off_is_over(store: &Store, file: &FileOfDay, cut_off: Time, now: Millis) -> Result<(), ApiError> {
    let (state, day) = (store.state(), file.settlement_day);
    let is_past = state.exports.reached(&file.key()).is_some_and(|reached| reached.day >= day);
    if file.export_type == ExportType::Tap || is_past {
        return Ok(());
    }
    if zone::is_cut_off(&state, day, cut_off, now).map_err(ApiError::internal)? {
        return Ok(());
    }
    let at = cut_off.strftime("%H:%M");
    let message = format!(
        "its RAP file holds what is adjusted until {at} of the day after, local time, and is made once the hour of \
         that cut-off is sealed: it can't be made earlier"
    );
    Err(ApiError::invalid("settlementDay", message))
}

fn required(body: &Object, name: &str) -> Result<String, ApiError> {
    text(body, name)?.ok_or_else(|| ApiError::invalid(name, "it is required"))
}

fn one_of(texts: &[&str]) -> String {
    format!("one of {} is required", texts.join(", "))
}
