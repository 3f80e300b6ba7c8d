//! Schema variants of settlement files: `GET /v1/cdr/regulator-schemas`, `/{variant}/validate` and
//! `POST /v1/cdr/regulator-schemas/{variant}:activate` (US-CDR-009).
//!
//! What variants there are, and who gets files made by which, is [`Schemas`]; which one is in force the ledger says.

use crate::acts::{Act, SchemaChoice, Wish};
use crate::api::http::Service;
use crate::api::http::access::{Caller, PathInput};
use crate::api::http::act::act;
use crate::api::http::answer::{Answer, ListWriter};
use crate::api::http::approval;
use crate::api::http::body::{Body, Headers};
use crate::api::http::error::ApiError;
use crate::api::http::ledger::{Consistency, Work};
use crate::auth::{SCOPE_ADMIN, SCOPE_PII};
use crate::export::{SchemaVariant, Schemas, SeriesSettings};
use axum::extract::State;
use axum::http::Uri;
use cdr_core::Hour;
use cdr_core::adjust::is_unpriced;
use cdr_core::hash::to_hex;
use cdr_core::row::Sms;
use cdr_storage::{RecordFilter, RowKind, Store, StoredRow};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// CDRs that a dry run encodes.
const SAMPLES: usize = 100;
/// Records of a dry run that are named if they can't be encoded.
const FAILURES_NAMED: usize = 10;

fn variant<'a>(schemas: &'a Schemas, name: &str) -> Result<&'a SchemaVariant, ApiError> {
    schemas.variant(name).ok_or_else(|| ApiError::SchemaNotFound { variant: name.to_owned() })
}

/// Lists the variants that can be used.
pub(in crate::api) async fn list(
    State(service): State<Service>,
    caller: Caller,
    uri: Uri,
) -> Result<Answer, ApiError> {
    let (_, read) = service.ledger.read(&caller, SCOPE_ADMIN, &uri, &[])?;
    let schemas = service.ledger.schemas.clone();
    read.raw(move |store| {
        let state = store.state();
        let active = schemas.active(&state);
        let mut list = ListWriter::new();
        for variant in &schemas.variants {
            let of = |series: &&SeriesSettings| series.variant_now(&state) == variant.name;
            let series: Vec<&str> =
                schemas.series.iter().filter(of).map(|series| series.name.as_str()).collect();
            let shown = json!({
                "schemaVariant": variant.name, "schemaHash": to_hex(&variant.hash),
                "active": variant.name == active, "series": series,
            });
            list.item(|out| serde_json::to_writer(out, &shown).map_err(ApiError::internal))?;
        }
        let total = list.len() as u64;
        Ok(list.finish(None, Some(total)))
    })
    .await
}

/// Puts a variant in force for the files to come. The path's last part ends with `:activate`.
pub(in crate::api) async fn activate(
    State(service): State<Service>,
    caller: Caller,
    path: PathInput,
    headers: Headers,
    body: Body,
) -> Result<Answer, ApiError> {
    caller.require(SCOPE_ADMIN)?;
    let name = path.text("variant").strip_suffix(":activate").ok_or(ApiError::UnknownPath)?.to_owned();
    let body = body.optional_object(&["reason", "ticketId"])?;
    let approved = approval::approver(&service, &caller, &headers, SCOPE_ADMIN)?;
    let approved = approved.and_then(|approver| approver.ok_or_else(approval::nobody));
    let approver = approved.map_err(|why| ApiError::SecondPersonRequired { why })?;
    let schemas = service.ledger.schemas.clone();
    let schema_hash = to_hex(&variant(&schemas, &name)?.hash);
    let (own, active) = (schemas.clone(), name.clone());
    let tell_apart = move |_: &Store| {
        own.told_apart_with(&active).map_err(|why| ApiError::SchemaInvalid { why, failures: Vec::new() })
    };
    service.ledger.on_store(Work::Read, tell_apart).await?;
    let wish = Wish::Activate(SchemaChoice {
        schema_variant: name.clone(),
        schema_hash: schema_hash.clone(),
        configured: schemas.configured().to_owned(),
    });
    let act = act(caller, headers, &body, &format!("activation of {name}"), wish)?;
    let act = Act { approver: Some(approver.clone()), ..act };
    let (_, applied_index) = service.ledger.perform(&act).await?;
    let answer = json!({
        "schemaVariant": name, "schemaHash": schema_hash, "active": true, "actorUserId": act.actor,
        "approverUserId": approver,
    });
    Answer::of(&answer, applied_index)
}

/// Encodes some of the latest CDRs by a variant, without making a file.
pub(in crate::api) async fn validate(
    State(service): State<Service>,
    caller: Caller,
    path: PathInput,
    uri: Uri,
) -> Result<Answer, ApiError> {
    caller.require(SCOPE_ADMIN)?;
    let name = path.text("variant").to_owned();
    let input = crate::api::http::input::Input::of_query(&uri, &["consistency"])?;
    let schemas = service.ledger.schemas.clone();
    let schema_hash = to_hex(&variant(&schemas, &name)?.hash);
    let applied_index = service.ledger.barrier(Consistency::of(&input)?).await?;
    let budget = service.ledger.scan_budget;
    let try_out = move |store: &Store| {
        let rows = latest(store, SAMPLES, budget, |sms| !is_unpriced(sms))?;
        let mut failures = Vec::new();
        for stored in &rows {
            let row = stored.row()?;
            let Some(sms) = row.sms() else { continue };
            if let Err(error) = schemas.trial.encode(&name, &row, sms) {
                failures.push(json!({ "cdrId": row.frame.cdr_id.to_string(), "error": error }));
            }
        }
        let sampled = rows.len();
        if failures.is_empty() {
            return Ok(json!({
                "schemaVariant": name, "schemaHash": schema_hash, "sampled": sampled, "encoded": sampled,
            }));
        }
        let why = format!("{name} can't encode {} of {sampled} CDRs", failures.len());
        failures.truncate(FAILURES_NAMED);
        Err(ApiError::SchemaInvalid { why, failures })
    };
    let tried = service.ledger.on_store(Work::Read, try_out).await;
    let answer: Value =
        tried.map_err(|error| if caller.has(SCOPE_PII) { error } else { error.without_numbers() })?;
    Answer::of(&answer, applied_index)
}

/// Some CDRs that fit, of the latest hours that have any.
fn latest(
    store: &Store,
    count: usize,
    budget: Duration,
    fits: impl Fn(&Sms<'_>) -> bool,
) -> Result<Vec<StoredRow>, ApiError> {
    let (until, state) = (Instant::now() + budget, store.state());
    let mut rows = Vec::new();
    for hour in (state.head.first_hour.0..=state.head.open_hour.0).rev().map(Hour) {
        let filter = RecordFilter {
            of_kind: Some(RowKind::Original),
            bucket_hour_from: Some(hour),
            bucket_hour_to: Some(hour),
            ..RecordFilter::default()
        };
        let mut behind = None;
        loop {
            let page = store.query(&filter, behind, count)?;
            for stored in page.rows {
                if rows.len() < count && stored.row()?.sms().is_some_and(&fits) {
                    rows.push(stored);
                }
            }
            if rows.len() == count || Instant::now() >= until {
                return Ok(rows);
            }
            behind = page.next;
            if behind.is_none() {
                break;
            }
        }
    }
    Ok(rows)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::test_support::node::TestNode;
    use cdr_core::row::Direction;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn records_that_do_not_fit_keep_none_that_do_from_being_found() {
        let node = TestNode::with_records(250).await;
        let store = node.proposer.store();
        let minute = Duration::from_secs(60);
        let sampled = |count, wanted| {
            let fits = move |sms: &Sms<'_>| sms.direction == wanted;
            latest(store, count, minute, fits).unwrap().len()
        };
        assert_eq!(
            sampled(100, Direction::Mo),
            100,
            "half of the records, more than the first hundred holds"
        );
        assert_eq!(sampled(200, Direction::Mt), 125, "no more than there are");
        assert_eq!(latest(store, 100, Duration::ZERO, |_| false).unwrap().len(), 0);
    }
}
