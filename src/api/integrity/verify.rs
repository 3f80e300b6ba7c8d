//! `POST /v1/cdr/verify`: one row against its stored hash.

use crate::api::http::Service;
use crate::api::http::access::Caller;
use crate::api::http::answer::Answer;
use crate::api::http::body::read_body;
use crate::api::http::error::ApiError;
use crate::api::http::input::{CDR_ID, Input};
use crate::api::http::ledger::Work;
use crate::api::records::query::find;
use crate::auth::SCOPE_READ;
use crate::metrics::Verified;
use axum::body::Body;
use axum::extract::State;
use axum::http::Uri;
use cdr_core::canonical::row_hash;
use cdr_core::hash::to_hex;
use cdr_core::{CdrId, Hash};
use cdr_storage::{Store, StoreError};
use serde_json::{Value, json};

/// Compares a row's bytes with its stored hash. `rowHash` and `computedHash` repeat `storedRowHash` and
/// `computedRowHash` under the names of US-CDR-002.
pub(in crate::api) async fn record(
    State(service): State<Service>,
    caller: Caller,
    uri: Uri,
    body: Body,
) -> Result<Answer, ApiError> {
    let (_, read) = service.ledger.read(&caller, SCOPE_READ, &uri, &[])?;
    let input = Input::of_body(&read_body(&service.ledger, body).await?, &["cdrId"])?;
    let cdr_id = input.required("cdrId", CDR_ID, CdrId::parse)?;
    let (outcome, applied_index) = read.on_store(Work::Read, move |store| compare(store, cdr_id)).await?;
    if outcome["status"] == "MISMATCH" {
        service.ledger.metrics.mismatch(Verified::Row);
        tracing::error!(severity = "SEV1", %cdr_id, %outcome, "a stored row does not match its stored hash");
    }
    Answer::of(&outcome, applied_index)
}

fn compare(store: &Store, cdr_id: CdrId) -> Result<Value, ApiError> {
    let outcome = (|| {
        let Some(stored) = store.row_by_id(cdr_id)? else { return Ok(None) };
        let row = stored.row()?;
        let hashes = (store.stored_row_hash(&stored)?, row_hash(&row, &mut Vec::new()));
        Ok(Some(describe(cdr_id, hashes, &json!(stored.hour()), &row.frame.chain_prev)))
    })();
    match outcome {
        Ok(Some(outcome)) => Ok(outcome),
        Ok(None) => {
            Err(find(store, cdr_id).err().unwrap_or(ApiError::internal("a row appeared while it was read")))
        }
        // Bytes that can't be read as a row are changed bytes, too.
        Err(StoreError::Damaged { what, why }) => Ok(json!({
            "cdrId": cdr_id.to_string(), "bucketHour": null, "storedRowHash": null, "computedRowHash": null,
            "rowHash": null, "computedHash": null, "chainHashPrev": null, "status": "MISMATCH",
            "differences": [{ "what": what, "why": why }],
        })),
        Err(error) => Err(error.into()),
    }
}

fn describe(cdr_id: CdrId, (stored, computed): (Hash, Hash), hour: &Value, chain_prev: &Hash) -> Value {
    json!({
        "cdrId": cdr_id.to_string(),
        "bucketHour": hour,
        "storedRowHash": to_hex(&stored),
        "computedRowHash": to_hex(&computed),
        "rowHash": to_hex(&stored),
        "computedHash": to_hex(&computed),
        "chainHashPrev": to_hex(chain_prev),
        "status": if stored == computed { "VALID" } else { "MISMATCH" },
    })
}
