//! What is known of whole hours: seals, `GET /v1/cdr/completeness`, and `GET /v1/cdr/keys` that sign them.

use crate::api::http::Service;
use crate::api::http::access::Caller;
use crate::api::http::answer::{Answer, ListWriter};
use crate::api::http::error::ApiError;
use crate::api::http::input::BUCKET_HOUR;
use crate::auth::SCOPE_READ;
use axum::extract::State;
use axum::http::Uri;
use cdr_core::hash::to_hex;
use cdr_core::key::{KeyRecord, key_time};
use cdr_core::proof::encode_base64;
use cdr_core::{Hour, LedgerState};
use cdr_storage::{Store, StoredSeal};
use serde::Serialize;
use serde_json::{Value, json};

/// The seal of `hour`; `operator_id` is named in the error.
///
/// # Errors
/// 409 before the hour is sealed, 404 before the ledger's first hour.
pub(in crate::api) fn sealed(
    store: &Store,
    hour: Hour,
    operator_id: Option<&str>,
) -> Result<StoredSeal, ApiError> {
    check_sealed(&store.state(), hour, operator_id)?;
    store.seal(hour)?.ok_or_else(|| {
        tracing::error!(severity = "SEV1", %hour, "the seal of a sealed hour is missing");
        ApiError::internal(format!("the seal of hour {hour} is missing"))
    })
}

/// Refuses hours that have no seal.
///
/// # Errors
/// 409 before the hour is sealed, 404 before the ledger's first hour.
pub(in crate::api) fn check_sealed(
    state: &LedgerState,
    hour: Hour,
    operator_id: Option<&str>,
) -> Result<(), ApiError> {
    if state.cluster.is_none() || hour >= state.head.open_hour {
        return Err(ApiError::BucketNotSealed { hour, operator_id: operator_id.map(str::to_owned) });
    }
    if hour < state.head.first_hour {
        let first = state.head.first_hour;
        return Err(ApiError::RecordNotFound {
            what: format!("hour {hour}: the ledger begins with {first}, so that hour"),
        });
    }
    Ok(())
}

/// What became of every inbound sequence in an hour.
pub(in crate::api) async fn completeness(
    State(service): State<Service>,
    caller: Caller,
    uri: Uri,
) -> Result<Answer, ApiError> {
    let (input, read) = service.ledger.read(&caller, SCOPE_READ, &uri, &["bucketHour"])?;
    let hour = input.required("bucketHour", BUCKET_HOUR, Hour::parse)?;
    read.value(move |store| sealed(store, hour, None).map(|stored| statement(&stored))).await
}

fn statement(stored: &StoredSeal) -> Value {
    let seal = &stored.seal;
    json!({
        "clusterId": seal.cluster_id,
        "bucketHour": seal.bucket_hour,
        "recordCount": seal.record_count,
        "sealedAt": seal.sealed_at,
        "sealHash": to_hex(&stored.seal_hash),
        "signerKeyId": seal.signer_key_id,
        "signature": stored.signature.map(|signature| encode_base64(&signature)),
        "addsUp": seal.completeness.iter().all(cdr_core::seal::StreamStatement::adds_up),
        "completeness": seal.completeness,
    })
}

/// A signing key in the list: its record, its status, and until when its signatures are accepted.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ListedKey<'a> {
    #[serde(flatten)]
    record: &'a KeyRecord,
    status: Option<&'static str>,
    signs_before: Option<Hour>,
    exports_before: Option<Hour>,
}

impl<'a> ListedKey<'a> {
    fn new(state: &LedgerState, record: &'a KeyRecord) -> Self {
        let time = key_time(&state.keys, &record.key_id, state.head.open_hour);
        Self {
            record,
            status: time.map(|time| time.status.as_str()),
            signs_before: time.and_then(|time| time.signs_before),
            exports_before: time.and_then(|time| time.exports_before),
        }
    }
}

/// Every signing key ever registered, with the root key's signature over it and its time; beside them the keys that
/// sign events.
pub(in crate::api) async fn keys(
    State(service): State<Service>,
    caller: Caller,
    uri: Uri,
) -> Result<Answer, ApiError> {
    let (_, read) = service.ledger.read(&caller, SCOPE_READ, &uri, &[])?;
    let event_keys = service.ledger.event_keys.clone();
    read.raw(move |store| {
        let mut list = ListWriter::new();
        let state = store.state();
        for record in state.keys.iter() {
            let listed = ListedKey::new(&state, record);
            list.item(|out| serde_json::to_writer(out, &listed).map_err(ApiError::internal))?;
        }
        let total = list.len() as u64;
        let mut json = list.finish(None, Some(total));
        if !event_keys.is_empty() {
            json.pop();
            json.extend_from_slice(b",\"eventKeys\":");
            serde_json::to_writer(&mut json, &*event_keys).map_err(ApiError::internal)?;
            json.push(b'}');
        }
        Ok(json)
    })
    .await
}
