//! `GET /v1/cdr/reconciliation`: CDRs against billing, by hour and operator.

use crate::api::http::Service;
use crate::api::http::access::Caller;
use crate::api::http::answer::{Answer, ListWriter};
use crate::api::http::cursor::{self, List};
use crate::api::http::error::ApiError;
use crate::auth::SCOPE_READ;
use axum::extract::State;
use axum::http::Uri;
use cdr_core::Hour;
use cdr_core::money::push_micros;
use cdr_storage::{HourCounts, Store, Sums};
use serde::Serialize;

/// What the list can be narrowed and paged by.
pub(in crate::api) const PARAMETERS: &[&str] =
    &["operatorId", "bucketHourFrom", "bucketHourTo", "cursor", "limit"];

/// An operator's hour, of the CDRs and of billing.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reconciliation<'a> {
    bucket_hour: Hour,
    operator_id: &'a str,
    cdr_count: u64,
    matched: u64,
    missing_in_billing: u64,
    missing_in_cdr: u64,
    amount_differs: u64,
    sums: Vec<Amounts>,
}

/// What both sides charged in one currency.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Amounts {
    currency: String,
    cdr_amount: String,
    billing_amount: String,
}

impl<'a> Reconciliation<'a> {
    fn of(hour: Hour, operator_id: &'a str, counts: &HourCounts) -> Self {
        Self {
            bucket_hour: hour,
            operator_id,
            cdr_count: counts.originals,
            matched: counts.matched,
            missing_in_billing: counts.missing_in_billing(),
            missing_in_cdr: counts.missing_in_cdr,
            amount_differs: counts.differing,
            sums: counts.sums.iter().map(Amounts::of).collect(),
        }
    }
}

impl Amounts {
    fn of(sums: &Sums) -> Self {
        Self {
            currency: String::from_utf8_lossy(&sums.currency).into_owned(),
            cdr_amount: exact(sums.cdr_micros),
            billing_amount: exact(sums.billing_micros),
        }
    }
}

fn exact(micros: i128) -> String {
    let mut text = Vec::new();
    push_micros(micros, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Lists hours of operators, ascending by hour; within an hour in the order in which operators joined.
pub(in crate::api) async fn list(
    State(service): State<Service>,
    caller: Caller,
    uri: Uri,
) -> Result<Answer, ApiError> {
    let (input, read) = service.ledger.read(&caller, SCOPE_READ, &uri, PARAMETERS)?;
    let (from, to) = input.hours("bucketHourFrom", "bucketHourTo")?;
    let limit = input.limit()?;
    read.raw(move |store| {
        let operator = input.operator("operatorId", &store.state())?;
        let hours = (from.unwrap_or_default(), to.unwrap_or(Hour(u32::MAX)));
        let after = cursor::after(store, List::Reconciliation, &input)?;
        page(store, operator.as_deref(), hours, after, limit)
    })
    .await
}

fn page(
    store: &Store,
    operator: Option<&str>,
    hours: (Hour, Hour),
    after: Option<(Hour, u64)>,
    limit: usize,
) -> Result<Vec<u8>, ApiError> {
    let state = store.state();
    let number = operator.and_then(|id| state.registry.iter().position(|known| known.operator_id == id));
    let number = number.and_then(|at| u16::try_from(at).ok());
    let after = after.map(|(hour, number)| (hour, u16::try_from(number).unwrap_or(u16::MAX)));
    let mut found = store.reconciliation(hours, number, after, limit + 1)?;
    let has_more = found.len() > limit;
    found.truncate(limit);
    let mut list = ListWriter::new();
    for (hour, number, counts) in &found {
        let operator_id = state.registry.get(usize::from(*number)).map_or("", |known| &known.operator_id);
        let item = Reconciliation::of(*hour, operator_id, counts);
        list.item(|out| serde_json::to_writer(out, &item).map_err(ApiError::internal))?;
    }
    let last = found.last().filter(|_| has_more).map(|(hour, number, _)| (*hour, u64::from(*number)));
    let next = cursor::next(store, List::Reconciliation, last)?;
    let total = (after.is_none() && !has_more).then_some(list.len() as u64);
    Ok(list.finish(next.as_deref(), total))
}
