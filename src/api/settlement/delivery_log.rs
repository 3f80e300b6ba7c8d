//! `GET /v1/cdr/exports/{exportId}/delivery-log`: every row that the ledger holds of a file's delivery (US-CDR-015).

use super::export_view::object;
use super::exports::{EXPORT_ID, find};
use crate::api::http::Service;
use crate::api::http::access::{Caller, PathInput};
use crate::api::http::answer::{Answer, ListWriter};
use crate::api::http::cursor::{self, List};
use crate::api::http::error::ApiError;
use crate::api::http::page::{RowPlace, close, fill};
use crate::api::records::query;
use crate::auth::{SCOPE_PII, SCOPE_READ};
use crate::masking;
use axum::extract::State;
use axum::http::Uri;
use cdr_core::Hour;
use cdr_core::export::fold::export_id;
use cdr_core::export::step::DeliveryStep;
use cdr_core::export::{Delivery, Export};
use cdr_core::row::{Record, SystemKind};
use cdr_storage::{RecordFilter, RowKind, Store, StoredRow};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// What the list can be paged by.
pub(in crate::api) const PARAMETERS: &[&str] = &["cursor", "limit"];

/// Rows of all files that are read in one query.
const ROWS_AT_ONCE: usize = 500;

/// Lists attempts, redrops and the receiver's answers, oldest first.
pub(in crate::api) async fn list(
    State(service): State<Service>,
    caller: Caller,
    path: PathInput,
    uri: Uri,
) -> Result<Answer, ApiError> {
    let (input, read) = service.ledger.read(&caller, SCOPE_READ, &uri, PARAMETERS)?;
    let id = path.parsed("exportId", EXPORT_ID, export_id)?;
    let limit = input.limit()?;
    let (budget, sees_numbers) = (service.ledger.scan_budget, caller.has(SCOPE_PII));
    read.raw(move |store| {
        let after = cursor::after(store, List::Deliveries, &input)?;
        let export = find(store, id)?;
        let (rows, next) = page(store, &export, after, limit, budget)?;
        let mut list = ListWriter::new();
        for stored in &rows {
            let entry = entry(stored, sees_numbers)?;
            list.item(|out| serde_json::to_writer(out, &entry).map_err(ApiError::internal))?;
        }
        let next = cursor::next(store, List::Deliveries, next)?;
        Ok(close(list, after.is_none(), next.as_deref()))
    })
    .await
}

/// A page of the rows that name the file, and where the next one begins.
fn page(
    store: &Store,
    export: &Export,
    after: Option<RowPlace>,
    limit: usize,
    budget: Duration,
) -> Result<(Vec<StoredRow>, Option<RowPlace>), ApiError> {
    let name = export.name();
    let opened = query::find(store, export.id)?;
    let filter = RecordFilter {
        of_kind: Some(RowKind::System(SystemKind::Delivery)),
        bucket_hour_from: Some(opened.hour()),
        bucket_hour_to: last_hour(export),
        ..RecordFilter::default()
    };
    let (mut rows, behind) = (Vec::new(), after.or(Some((opened.hour(), opened.sequence()))));
    // One more than fits shows that there is a next page.
    let mut next = fill(&mut rows, behind, limit + 1, budget, |rows, behind, _| {
        let page = store.query(&filter, behind, ROWS_AT_ONCE)?;
        for stored in page.rows {
            if names(&stored, &name)? {
                rows.push(stored);
            }
        }
        Ok(page.next)
    })?;
    if rows.len() > limit {
        rows.truncate(limit);
        next = rows.last().map(|last| (last.hour(), last.sequence()));
    }
    Ok((rows, next))
}

/// Hour of the last row that can name the file; none while more may come.
fn last_hour(export: &Export) -> Option<Hour> {
    match (&export.delivery, &export.verification) {
        (Delivery::Delivered { at, .. }, None) => Some(at.hour()),
        (Delivery::Delivered { at, .. }, Some(said)) => Some((*at).max(said.at).hour()),
        (Delivery::Pending, _) => None,
    }
}

fn names(stored: &StoredRow, export_id: &str) -> Result<bool, ApiError> {
    let row = stored.row()?;
    let Record::System(system) = &row.record else { return Ok(false) };
    let step = system.read::<DeliveryStep>();
    Ok(step.is_ok_and(|step| step.export_id() == export_id))
}

/// The row's content, with where and when it is in the ledger; masked like the row for callers who may not see numbers.
fn entry(stored: &StoredRow, sees_numbers: bool) -> Result<Map<String, Value>, ApiError> {
    let row = stored.row()?;
    let Record::System(system) = &row.record else {
        return Err(ApiError::internal(format!("{} is not a system row", row.frame.cdr_id)));
    };
    let mut body = Value::Object(system.content().map_err(ApiError::internal)?);
    let masked = !sees_numbers && masking::own(&mut body);
    let mut entry = object(body);
    entry.insert("cdrId".to_owned(), json!(row.frame.cdr_id.to_string()));
    entry.insert("bucketHour".to_owned(), json!(row.frame.bucket_hour));
    entry.insert("recordedAt".to_owned(), json!(row.frame.recorded_at));
    if masked {
        entry.insert("masked".to_owned(), json!(true));
    }
    Ok(entry)
}
