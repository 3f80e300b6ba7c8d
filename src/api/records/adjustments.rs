//! `POST` and `GET /v1/cdr/{cdrId}/adjustments`, `GET /v1/cdr/adjustments` (US-CDR-016, US-CDR-017).

use super::batching::push_adjustments;
use super::query::{ListRequest, PARAMETERS};
use crate::acts::{Wish, adjusted};
use crate::api::http::Service;
use crate::api::http::access::{Caller, PathInput};
use crate::api::http::act::act;
use crate::api::http::answer::{Answer, ListWriter};
use crate::api::http::body::{Body, Headers, text, ticket};
use crate::api::http::cursor::List;
use crate::api::http::error::ApiError;
use crate::api::http::ledger::{Consistency, Work};
use crate::auth::{SCOPE_PII, SCOPE_READ, SCOPE_WRITE};
use crate::zone;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use cdr_core::{CdrId, Millis};
use cdr_storage::{RowKind, Store, StoredRow};
use serde_json::{Map, Value, json};

/// Prefix of an adjustment's id; the rest is that of its row's `cdrId`.
const ADJUSTMENT_PREFIX: &str = "adj_";
const RECORD_ID: &str = "a record id, `cdr_` or `adj_` and 26 characters";

/// Issues a CORRECTION or a VOID.
pub(in crate::api) async fn issue(
    State(service): State<Service>,
    caller: Caller,
    path: PathInput,
    headers: Headers,
    body: Body,
) -> Result<Answer, ApiError> {
    caller.require(SCOPE_WRITE)?;
    let asked = path.parsed("cdrId", RECORD_ID, Asked::parse)?;
    let cdr_id = asked.id();
    let body = body.object(&["type", "correctedFields", "voidReason", "reason", "ticketId"])?;
    let wish = wish(cdr_id, &body)?;
    if text(&body, "reason")?.is_none() && matches!(wish, Wish::Correct { .. }) {
        return Err(ApiError::invalid("reason", "a CORRECTION says why"));
    }
    if ticket(&body)?.is_none() {
        return Err(ApiError::TicketRequired);
    }
    if let Asked::Adjustment(_) = asked {
        service.ledger.barrier(Consistency::Linearizable).await?;
        service.ledger.on_store(Work::Read, move |store| asked.row(store).map(drop)).await?;
    }
    let act = act(caller, headers, &body, &format!("adjustment of {cdr_id}"), wish)?;
    let (adjustment, applied_index) = service.ledger.perform(&act).await?;
    let cut_off = service.ledger.rap_cut_off;
    let answer = move |store: &Store| {
        let told = adjusted(store, adjustment)?;
        let zone = store.state().cluster.as_ref().map_or("UTC".to_owned(), |cluster| cluster.zone.clone());
        let rap = zone::next_local(&zone, cut_off, told.recorded_at).map_err(ApiError::internal)?;
        Ok(json!({
            "adjustmentId": told.cdr_id.with_prefix(ADJUSTMENT_PREFIX),
            "originalCdrId": told.original.to_string(),
            "bucketHour": told.bucket_hour,
            "rapBatchExpected": whole_seconds(rap),
        }))
    };
    let answer = service.ledger.on_store(Work::Read, answer).await?;
    Ok(Answer::of(&answer, applied_index)?.with_status(StatusCode::CREATED))
}

/// The adjustments of a record, oldest first.
pub(in crate::api) async fn of_record(
    State(service): State<Service>,
    caller: Caller,
    path: PathInput,
    uri: Uri,
) -> Result<Answer, ApiError> {
    let (_, read) = service.ledger.read(&caller, SCOPE_READ, &uri, &[])?;
    let asked = path.parsed("cdrId", RECORD_ID, Asked::parse)?;
    let sees_numbers = caller.has(SCOPE_PII);
    let schemas = service.ledger.schemas.clone();
    read.raw(move |store| {
        let rows = store.line(&asked.row(store)?)?;
        let (_, adjustments) = rows.split_first().ok_or_else(|| asked.not_found())?;
        let mut list = ListWriter::new();
        push_adjustments(store, schemas.regulator(), adjustments, sees_numbers, &mut list)?;
        let total = list.len() as u64;
        Ok(list.finish(None, Some(total)))
    })
    .await
}

/// Lists adjustments, with the filters of records.
pub(in crate::api) async fn list(
    State(service): State<Service>,
    caller: Caller,
    uri: Uri,
) -> Result<Answer, ApiError> {
    let (input, read) = service.ledger.read(&caller, SCOPE_READ, &uri, PARAMETERS)?;
    let sees_numbers = caller.has(SCOPE_PII);
    let request = ListRequest::parse(input, sees_numbers, List::Adjustments, Some(RowKind::Adjustment))?;
    let (budget, schemas) = (service.ledger.scan_budget, service.ledger.schemas.clone());
    read.raw(move |store| {
        request.answer_with(store, budget, |rows, list| {
            push_adjustments(store, schemas.regulator(), rows, sees_numbers, list)
        })
    })
    .await
}

/// What is requested by its id: a record, or an adjustment as events and responses write it.
#[derive(Clone, Copy)]
enum Asked {
    Record(CdrId),
    Adjustment(CdrId),
}

impl Asked {
    fn parse(text: &str) -> Option<Self> {
        let adjustment = || CdrId::parse_prefixed(ADJUSTMENT_PREFIX, text).map(Self::Adjustment);
        CdrId::parse(text).map(Self::Record).or_else(adjustment)
    }

    fn id(self) -> CdrId {
        match self {
            Self::Record(id) | Self::Adjustment(id) => id,
        }
    }

    /// Its row.
    fn row(self, store: &Store) -> Result<StoredRow, ApiError> {
        let stored = store.row_by_id(self.id())?.ok_or_else(|| self.not_found())?;
        let is_adjustment = stored.row()?.sms().is_some_and(|sms| sms.adjustment.is_some());
        if matches!(self, Self::Adjustment(_)) && !is_adjustment { Err(self.not_found()) } else { Ok(stored) }
    }

    fn not_found(self) -> ApiError {
        match self {
            Self::Record(id) => ApiError::RecordNotFound { what: format!("record {id}") },
            Self::Adjustment(id) => {
                ApiError::AdjustmentNotFound { adjustment_id: id.with_prefix(ADJUSTMENT_PREFIX) }
            }
        }
    }
}

fn wish(cdr_id: CdrId, body: &Map<String, Value>) -> Result<Wish, ApiError> {
    match text(body, "type")?.as_deref() {
        Some("CORRECTION") => {
            refuse(body, "voidReason", "only a VOID may have it")?;
            let fields = body.get("correctedFields").and_then(Value::as_object).cloned();
            let fields =
                fields.ok_or_else(|| ApiError::invalid("correctedFields", "an object is required"))?;
            Ok(Wish::Correct { cdr_id, fields })
        }
        Some("VOID") => {
            refuse(body, "correctedFields", "a VOID corrects nothing")?;
            let code = text(body, "voidReason")?.filter(|code| is_code(code));
            let void_reason = code.ok_or_else(|| {
                ApiError::invalid("voidReason", "a code of A-Z, 0-9 and _ is required, such as DUPLICATE_DLR")
            })?;
            Ok(Wish::Void { cdr_id, void_reason })
        }
        Some("RE_RATE") => Err(ApiError::invalid("type", "re-rate by POST /v1/cdr/adjustments/rerate")),
        _ => Err(ApiError::invalid("type", "CORRECTION or VOID is required")),
    }
}

fn refuse(body: &Map<String, Value>, name: &str, why: &str) -> Result<(), ApiError> {
    match body.get(name) {
        None | Some(Value::Null) => Ok(()),
        Some(_) => Err(ApiError::invalid(name, why)),
    }
}

fn is_code(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

fn whole_seconds(at: Millis) -> String {
    at.to_string().replace(".000Z", "Z")
}
