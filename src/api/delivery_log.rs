//! `GET /v1/cdr/exports/{exportId}/delivery-log`: every row that the ledger holds of a file's delivery (US-CDR-015).

use super::Service;
use super::access::{Caller, PathInput};
use super::answer::{Answer, ListWriter};
use super::cursor::{self, List};
use super::error::ApiError;
use super::export_view::object;
use super::exports::{EXPORT_ID, find};
use super::records;
use crate::auth::{SCOPE_PII, SCOPE_READ};
use crate::masking;
use axum::extract::State;
use axum::http::Uri;
use cdr_core::Hour;
use cdr_core::export::fold::export_id;
use cdr_core::export::step::DeliveryStep;
use cdr_core::export::{Delivery, Export};
use cdr_core::row::{Record, SystemKind};
use cdr_storage::{RecordFilter, RecordPage, RowKind, Store, StoredRow};
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

/// What the list can be paged by.
pub(super) const PARAMETERS: &[&str] = &["cursor", "limit"];

/// Rows of all files that are looked at in one query.
const ROWS_AT_ONCE: usize = 500;

/// Lists attempts, redrops and the receiver's answers, oldest first.
pub(super) async fn list(
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
        let page = page(store, &export, after, limit, budget)?;
        let mut list = ListWriter::new();
        for stored in &page.rows {
            let entry = entry(stored, sees_numbers)?;
            list.item(|out| serde_json::to_writer(out, &entry).map_err(ApiError::internal))?;
        }
        let next = cursor::next(store, List::Deliveries, page.next)?;
        let total = (after.is_none() && next.is_none()).then(|| list.len() as u64);
        Ok(list.finish(next.as_deref(), total))
    })
    .await
}

/// A page of the rows that name the file: full, unless nothing is left or `budget` is used up.
fn page(
    store: &Store,
    export: &Export,
    after: Option<(Hour, u64)>,
    limit: usize,
    budget: Duration,
) -> Result<RecordPage, ApiError> {
    let (started, name) = (Instant::now(), export.name());
    let opened = records::find(store, export.id)?;
    let filter = RecordFilter {
        of_kind: Some(RowKind::System(SystemKind::Delivery)),
        bucket_hour_from: Some(opened.hour()),
        bucket_hour_to: last_hour(export),
        ..RecordFilter::default()
    };
    let mut page = RecordPage { rows: Vec::new(), next: after.or(Some((opened.hour(), opened.sequence()))) };
    while let Some(behind) = page.next {
        let more = store.query(&filter, Some(behind), ROWS_AT_ONCE)?;
        page.next = more.next;
        for stored in more.rows {
            if !names(&stored, &name)? {
                continue;
            }
            if page.rows.len() == limit {
                page.next = page.rows.last().map(|last| (last.hour(), last.sequence()));
                return Ok(page);
            }
            page.rows.push(stored);
        }
        if started.elapsed() >= budget {
            break;
        }
    }
    Ok(page)
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

/// The row's content, with where and when it is in the ledger; masked like the row for whoever may not see numbers.
fn entry(stored: &StoredRow, sees_numbers: bool) -> Result<Map<String, Value>, ApiError> {
    let row = stored.row()?;
    let Record::System(system) = &row.record else {
        return Err(ApiError::internal(format!("{} is no system row", row.frame.cdr_id)));
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
