//! `GET /v1/cdr/rollups` and `/v1/cdr/rollups/{bucketHour}/{operatorId}`: an operator's sealed hour.

use super::hours::sealed;
use crate::api::http::Service;
use crate::api::http::access::{Caller, PathInput};
use crate::api::http::answer::{Answer, ListWriter};
use crate::api::http::cursor::{self, List};
use crate::api::http::error::ApiError;
use crate::api::http::input::{BUCKET_HOUR, known_operator};
use crate::auth::SCOPE_READ;
use axum::extract::State;
use axum::http::Uri;
use cdr_core::hash::hex_string;
use cdr_core::seal::OperatorSeal;
use cdr_core::{Hash, Hour, Millis, Seal};
use cdr_storage::Store;
use serde::Serialize;

/// What the list can be narrowed and paged by.
pub(in crate::api) const PARAMETERS: &[&str] =
    &["operatorId", "bucketHourFrom", "bucketHourTo", "cursor", "limit"];

/// An operator's sealed hour, the system's own partition included.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
// The names are those of the interface.
#[allow(clippy::struct_field_names)]
struct Rollup<'a> {
    rollup_id: String,
    bucket_hour: Hour,
    operator_id: &'a str,
    record_count: u64,
    #[serde(with = "hex_string")]
    bucket_root: Hash,
    #[serde(with = "hex_string")]
    chain_hash: Hash,
    #[serde(with = "hex_string")]
    prev_bucket_root: Hash,
    #[serde(with = "hex_string")]
    prev_chain_hash: Hash,
    sealed_at: Millis,
    signer_key_id: Option<&'a str>,
}

impl<'a> Rollup<'a> {
    fn of(seal: &'a Seal, operator: &'a OperatorSeal) -> Self {
        Self {
            rollup_id: seal.rollup_id(&operator.operator_id).with_prefix("roll_"),
            bucket_hour: seal.bucket_hour,
            operator_id: &operator.operator_id,
            record_count: operator.record_count,
            bucket_root: operator.bucket_root,
            chain_hash: operator.chain_hash,
            prev_bucket_root: operator.prev_bucket_root,
            prev_chain_hash: operator.prev_chain_hash,
            sealed_at: seal.sealed_at,
            signer_key_id: seal.signer_key_id.as_deref(),
        }
    }
}

/// Lists rollups, ascending by hour and operator.
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
        let after = cursor::after(store, List::Rollups, &input)?;
        page(store, operator.as_deref(), (from, to), after, limit)
    })
    .await
}

fn page(
    store: &Store,
    operator: Option<&str>,
    (from, to): (Option<Hour>, Option<Hour>),
    after: Option<(Hour, u64)>,
    limit: usize,
) -> Result<Vec<u8>, ApiError> {
    let first = from.unwrap_or_default().max(after.map_or(Hour(0), |(hour, _)| hour));
    let mut list = ListWriter::new();
    let mut last = None;
    for sealed in store.seals(first, to.unwrap_or(Hour(u32::MAX))) {
        let seal = sealed?.seal;
        for (number, entry) in (1..).zip(&seal.operators) {
            let place = (seal.bucket_hour, number);
            if after.is_some_and(|after| place <= after) || operator.is_some_and(|id| id != entry.operator_id)
            {
                continue;
            }
            if list.len() == limit {
                let next = cursor::next(store, List::Rollups, last)?;
                return Ok(list.finish(next.as_deref(), None));
            }
            list.item(|out| {
                serde_json::to_writer(out, &Rollup::of(&seal, entry)).map_err(ApiError::internal)
            })?;
            last = Some(place);
        }
    }
    let total = if after.is_none() { Some(list.len() as u64) } else { None };
    Ok(list.finish(None, total))
}

/// One rollup.
pub(in crate::api) async fn one(
    State(service): State<Service>,
    caller: Caller,
    path: PathInput,
    uri: Uri,
) -> Result<Answer, ApiError> {
    let (_, read) = service.ledger.read(&caller, SCOPE_READ, &uri, &[])?;
    let hour = path.parsed("bucketHour", BUCKET_HOUR, Hour::parse)?;
    read.raw(move |store| {
        let operator = known_operator("operatorId", path.text("operatorId"), &store.state())?;
        let stored = sealed(store, hour, Some(&operator))?;
        let entry = operator_seal(&stored.seal, &operator)?;
        serde_json::to_vec(&Rollup::of(&stored.seal, entry)).map_err(ApiError::internal)
    })
    .await
}

/// The operator's entry in a seal.
///
/// # Errors
/// 404 if it joined later.
pub(in crate::api) fn operator_seal<'a>(
    seal: &'a Seal,
    operator_id: &str,
) -> Result<&'a OperatorSeal, ApiError> {
    seal.operator(operator_id).ok_or_else(|| ApiError::RecordNotFound {
        what: format!("hour {} of operator {operator_id}, which was not in force then,", seal.bucket_hour),
    })
}
