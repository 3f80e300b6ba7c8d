//! `GET /v1/cdr/quarantine`, `POST /v1/cdr/quarantine/{quarantineId}/resubmit` and `/discard` (US-CDR-011).

use crate::acts::Wish;
use crate::api::http::Service;
use crate::api::http::access::{Caller, PathInput};
use crate::api::http::act::act;
use crate::api::http::answer::{Answer, ListWriter};
use crate::api::http::body::{Body, Headers};
use crate::api::http::cursor::{self, List};
use crate::api::http::error::ApiError;
use crate::api::http::ledger::{Consistency, Work};
use crate::api::http::page::{Walk, close};
use crate::api::records::query;
use crate::auth::{SCOPE_ADMIN, SCOPE_PII};
use crate::export::{Schemas, TrialReturn};
use crate::masking;
use axum::extract::State;
use axum::http::Uri;
use cdr_core::adjust::is_unpriced;
use cdr_core::export::fold::quarantine_id;
use cdr_core::export::quarantine::{QUARANTINE_PREFIX, Quarantined, Unfit};
use cdr_core::export::{Export, ExportType, SeriesKey};
use cdr_core::{CdrId, Row};
use cdr_storage::{Store, StoredRow};
use serde_json::{Value, json};
use std::time::Duration;

/// What the list can be narrowed and paged by.
pub(in crate::api) const PARAMETERS: &[&str] = &["unresolved", "operatorId", "cursor", "limit"];

const QUARANTINE_ID: &str = "a quarantine entry's id, `qua_` and 26 characters";

/// Lists records that could not be listed in a file, oldest first.
pub(in crate::api) async fn list(
    State(service): State<Service>,
    caller: Caller,
    uri: Uri,
) -> Result<Answer, ApiError> {
    let (input, read) = service.ledger.read(&caller, SCOPE_ADMIN, &uri, PARAMETERS)?;
    let parse_bool = |text: &str| text.parse::<bool>().ok();
    let unresolved = input.parsed("unresolved", "true or false", parse_bool)?;
    let limit = input.limit()?;
    let (budget, sees_numbers) = (service.ledger.scan_budget, caller.has(SCOPE_PII));
    read.raw(move |store| {
        let operator = input.operator("operatorId", &store.state())?;
        let fits = |entry: &Quarantined| {
            unresolved.is_none_or(|unresolved| unresolved == entry.resolved.is_none())
                && operator.as_ref().is_none_or(|operator| *operator == entry.unfit.operator_id)
        };
        let after = cursor::after_id(store, List::Quarantine, &input)?;
        let show = |entry: &Quarantined| view(entry, sees_numbers);
        page(store, unresolved == Some(true), (fits, show), after, limit, budget)
    })
    .await
}

/// A page of the entries that fit, as they are shown: full, unless nothing is left or `budget` is used up. What is
/// resolved is not even read if `open_only`.
fn page(
    store: &Store,
    open_only: bool,
    (fits, show): (impl Fn(&Quarantined) -> bool, impl Fn(&Quarantined) -> Value),
    after: Option<CdrId>,
    limit: usize,
    budget: Duration,
) -> Result<Vec<u8>, ApiError> {
    let mut walk = Walk::new(limit, budget);
    let each = |entry: Quarantined| walk.offer(entry.id, entry, &fits);
    if open_only {
        store.unresolved_quarantine(after, each)?;
    } else {
        store.quarantine(after, each)?;
    }
    let (found, next) = walk.end();
    let mut list = ListWriter::new();
    for entry in &found {
        list.item(|out| serde_json::to_writer(out, &show(entry)).map_err(ApiError::internal))?;
    }
    let next = cursor::next_id(store, List::Quarantine, next)?;
    Ok(close(list, after.is_none(), next.as_deref()))
}

fn view(entry: &Quarantined, sees_numbers: bool) -> Value {
    let (unfit, resolved) = (&entry.unfit, entry.resolved.as_ref());
    let mut view = json!({
        "quarantineId": entry.name(),
        "cdrId": unfit.cdr_id,
        "encoderError": unfit.encoder_error,
        "encoderVariant": unfit.schema_variant,
        "exportId": unfit.export_id,
        "operatorId": unfit.operator_id,
        "series": unfit.series,
        "quarantinedAt": entry.at,
        "resolution": resolved.map(|resolved| if resolved.resubmitted { "RESUBMITTED" } else { "DISCARDED" }),
        "resolvedBy": resolved.map(|resolved| &resolved.by),
        "resolvedAt": resolved.map(|resolved| resolved.at),
    });
    if !sees_numbers {
        masking::own(&mut view);
    }
    view
}

/// Sends a record into the next file, if it can be encoded now.
pub(in crate::api) async fn resubmit(
    State(service): State<Service>,
    caller: Caller,
    path: PathInput,
    headers: Headers,
    body: Body,
) -> Result<Answer, ApiError> {
    resolve(&service, caller, &path, headers, &body, true).await
}

/// Keeps a record out of every file.
pub(in crate::api) async fn discard(
    State(service): State<Service>,
    caller: Caller,
    path: PathInput,
    headers: Headers,
    body: Body,
) -> Result<Answer, ApiError> {
    resolve(&service, caller, &path, headers, &body, false).await
}

async fn resolve(
    service: &Service,
    caller: Caller,
    path: &PathInput,
    headers: Headers,
    body: &Body,
    resubmit: bool,
) -> Result<Answer, ApiError> {
    caller.require(SCOPE_ADMIN)?;
    let id = path.parsed("quarantineId", QUARANTINE_ID, quarantine_id)?;
    let body = body.optional_object(&["reason", "ticketId"])?;
    let sees_numbers = caller.has(SCOPE_PII);
    let verb = if resubmit { "resubmission" } else { "discarding" };
    let wish = Wish::Resolve { quarantine_id: id, resubmit };
    let act = act(caller, headers, &body, &format!("{verb} of {id}"), wish)?;
    if resubmit {
        service.ledger.barrier(Consistency::Linearizable).await?;
        let schemas = service.ledger.schemas.clone();
        let try_out = move |store: &Store| encodes(store, &schemas, &find(store, id)?);
        let tried = service.ledger.on_store(Work::Read, try_out).await;
        tried.map_err(|error| if sees_numbers { error } else { error.without_numbers() })?;
    }
    let (_, applied_index) = service.ledger.perform(&act).await?;
    let show = move |store: &Store| Ok(view(&find(store, id)?, sees_numbers));
    let answer = service.ledger.on_store(Work::Read, show).await?;
    Answer::of(&answer, applied_index)
}

fn find(store: &Store, id: CdrId) -> Result<Quarantined, ApiError> {
    let missing = || ApiError::QuarantineNotFound { quarantine_id: id.with_prefix(QUARANTINE_PREFIX) };
    store.quarantined(id)?.ok_or_else(missing)
}

/// Refuses a record that would fail again.
fn encodes(store: &Store, schemas: &Schemas, entry: &Quarantined) -> Result<(), ApiError> {
    let unfit = &entry.unfit;
    if entry.resolved.is_some() {
        // The answer shows how it was resolved, or that this request did it.
        return Ok(());
    }
    let cdr_id = &unfit.cdr_id;
    let state = store.state();
    let Some(series) = schemas.series(&unfit.series) else {
        return Err(invalid(format!("no receiver has the series {} any more", unfit.series), cdr_id));
    };
    let variant = series.variant_now(&state);
    let id = CdrId::parse(cdr_id).ok_or_else(|| ApiError::internal(format!("{cdr_id} is not a record")))?;
    let record = query::find(store, id)?;
    let line = store.line(&record)?;
    let original = line.first().ok_or_else(|| ApiError::internal(format!("{cdr_id} has no original")))?;
    let rows = line.iter().map(StoredRow::row).collect::<Result<Vec<_>, _>>()?;
    // The first row with a price: a TAP file lists its values.
    let Some(listed) = rows.iter().filter_map(Row::sms).find(|sms| !is_unpriced(sms)) else {
        return Err(invalid("it has no price yet: it can't be listed before it has one".to_owned(), cdr_id));
    };
    let encoded = if record.ordinal() == original.ordinal() {
        schemas.trial.encode(variant, &rows[0], listed)
    } else {
        let tap_file = tap_file(store, unfit, &record)?;
        let (adjustment, original) = (&record.row()?, &rows[0]);
        let returned = TrialReturn { adjustment, original, listed, tap_file: &tap_file.pins };
        schemas.trial.encode_return(variant, &returned)
    };
    encoded.map_err(|error| invalid(format!("{variant} still can't encode it: {error}"), cdr_id))
}

/// The TAP file from which the series' RAP file would return an adjustment.
fn tap_file(store: &Store, unfit: &Unfit, adjustment: &StoredRow) -> Result<Export, ApiError> {
    let key = SeriesKey {
        series: unfit.series.clone(),
        export_type: ExportType::Tap,
        operator_id: unfit.operator_id.clone(),
    };
    let file = store.tap_file_of(&key, adjustment)?.map(|id| store.export(id)).transpose()?.flatten();
    file.ok_or_else(|| {
        let why = "no TAP file lists its original: it can't be returned before one does";
        invalid(why.to_owned(), &unfit.cdr_id)
    })
}

fn invalid(why: String, cdr_id: &str) -> ApiError {
    let failures = vec![json!({ "cdrId": cdr_id, "error": why })];
    ApiError::SchemaInvalid { why, failures }
}
