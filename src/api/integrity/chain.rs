//! `POST /v1/cdr/chain/verify` and `/v1/cdr/chain/verify/range` (US-CDR-006).
//!
//! A mismatch is not an error of the request: it is answered with 200, `verified: false` and what differs, counted
//! and logged as SEV1. Either outcome becomes an audit row. If it can't be recorded, the answer says `audited: false`.

use super::hours::{check_sealed, sealed};
use super::proof::{national_proof, operator_chain};
use super::rollups::operator_seal;
use crate::acts::{Act, depth_text, fault, verification};
use crate::api::http::Service;
use crate::api::http::access::Caller;
use crate::api::http::answer::Answer;
use crate::api::http::body::{Headers, own_key, read_body};
use crate::api::http::error::ApiError;
use crate::api::http::input::{BUCKET_HOUR, Input};
use crate::api::http::ledger::{Ledger, Work};
use crate::api::records::query::find;
use crate::auth::SCOPE_VERIFY;
use crate::metrics::Verified;
use axum::body::Body;
use axum::extract::State;
use axum::http::Uri;
use cdr_core::hash::{sha256, to_hex};
use cdr_core::proof::encode_base64;
use cdr_core::{CdrId, Hash, Hour, Millis};
use cdr_storage::{Depth, Store, StoreError, StoredSeal};
use serde_json::{Value, json};
use std::time::Duration;

/// Largest bucket whose rows are hashed again unless another depth is requested.
const ROWS_BY_DEFAULT: u64 = 500_000;
/// Most hours of one range: 31 days.
const MAX_HOURS: u32 = 31 * 24;
/// Most hours of one range at depth `rows`.
const MAX_HOURS_OF_ROWS: u32 = 24;

/// How long an answer waits for its audit row: more than a commit, less than an election.
const NOTE_PATIENCE: Duration = Duration::from_secs(1);

/// Verifies one hour: of one operator, or of the whole country.
pub(in crate::api) async fn hour(
    State(service): State<Service>,
    caller: Caller,
    uri: Uri,
    headers: Headers,
    body: Body,
) -> Result<Answer, ApiError> {
    let (_, read) = service.ledger.read(&caller, SCOPE_VERIFY, &uri, &[])?;
    let fields = ["bucketHour", "operatorId", "proofForCdrId", "depth"];
    let input = Input::of_body(&read_body(&service.ledger, body).await?, &fields)?;
    let hour = input.required("bucketHour", BUCKET_HOUR, Hour::parse)?;
    let (depth, proof_for) = (depth_of(&input)?, input.cdr_id("proofForCdrId")?);
    let work = move |store: &Store| {
        let operator = input.operator("operatorId", &store.state())?;
        verify_hour(store, hour, operator.as_deref(), depth, proof_for)
    };
    let (mut answer, applied_index) = read.on_store(Work::Verification, work).await?;
    report(&service.ledger, Verified::Hour, &answer, "differences");
    answer["audited"] = note(&service.ledger, &caller, &headers, Verified::Hour, &answer).await.into();
    Answer::of(&answer, applied_index)
}

/// Verifies a span of hours, and that each continues the one before.
pub(in crate::api) async fn range(
    State(service): State<Service>,
    caller: Caller,
    uri: Uri,
    headers: Headers,
    body: Body,
) -> Result<Answer, ApiError> {
    let (_, read) = service.ledger.read(&caller, SCOPE_VERIFY, &uri, &[])?;
    let fields = ["from", "to", "bucketHourFrom", "bucketHourTo", "operatorId", "depth"];
    let input = Input::of_body(&read_body(&service.ledger, body).await?, &fields)?;
    let depth = depth_of(&input)?.unwrap_or(Depth::Roots);
    let (from, to) = span(&input, depth)?;
    let work = move |store: &Store| {
        let operator = input.operator("operatorId", &store.state())?;
        verify_range(store, (from, to), operator.as_deref(), depth)
    };
    let (mut answer, applied_index) = read.on_store(Work::Verification, work).await?;
    report(&service.ledger, Verified::Range, &answer, "faults");
    answer["audited"] = note(&service.ledger, &caller, &headers, Verified::Range, &answer).await.into();
    Answer::of(&answer, applied_index)
}

/// Counts and logs a verification that found something.
fn report(ledger: &Ledger, what: Verified, answer: &Value, faults: &str) {
    if answer["verified"] == false {
        ledger.metrics.mismatch(what);
        let first = &answer[faults][0];
        tracing::error!(severity = "SEV1", ?what, %first, "the chain does not hold");
    }
}

/// Records a verification in the audit log; whether that was confirmed.
async fn note(ledger: &Ledger, caller: &Caller, headers: &Headers, what: Verified, answer: &Value) -> bool {
    let recorded = async {
        let wish = verification(answer);
        let act = Act {
            body: sha256(&serde_json::to_vec(&wish).map_err(ApiError::internal)?),
            wish,
            actor: caller.0.subject.clone(),
            approver: None,
            reason: None,
            ticket_id: None,
            trace_id: headers.trace_id.clone(),
            key: own_key()?,
            origin: caller.1.clone(),
        };
        ledger.desk.perform(&act, NOTE_PATIENCE).await.map_err(ApiError::from)
    };
    match recorded.await {
        Ok(_) => true,
        Err(error) => {
            tracing::warn!(?error, ?what, "a verification is not in the audit log: no leader confirmed it");
            false
        }
    }
}

fn depth_of(input: &Input) -> Result<Option<Depth>, ApiError> {
    let parse = |text: &str| match text {
        "roots" => Some(Depth::Roots),
        "leaves" => Some(Depth::Leaves),
        "rows" => Some(Depth::Rows),
        _ => None,
    };
    input.parsed("depth", "rows, leaves or roots", parse)
}

/// First and last hour of a range, under either pair of names. The last may be any instant of its hour.
fn span(input: &Input, depth: Depth) -> Result<(Hour, Hour), ApiError> {
    let (first, last) = if input.has("from") || input.has("to") {
        ("from", "to")
    } else {
        ("bucketHourFrom", "bucketHourTo")
    };
    let other = if first == "from" { ["bucketHourFrom", "bucketHourTo"] } else { ["from", "to"] };
    if let Some(name) = other.into_iter().find(|name| input.has(name)) {
        return Err(ApiError::invalid(name, format!("give {first} and {last}, or the other pair, not both")));
    }
    let from = input.required(first, BUCKET_HOUR, Hour::parse)?;
    let to = input.required(last, BUCKET_HOUR, |text| Millis::parse_any_case(text).map(Millis::hour))?;
    if from > to {
        return Err(ApiError::invalid(last, format!("it is before {first}")));
    }
    let most = if depth == Depth::Rows { MAX_HOURS_OF_ROWS } else { MAX_HOURS };
    if to.0 - from.0 >= most {
        let why = format!("at depth {} a range has at most {most} hours", depth_text(depth));
        return Err(ApiError::invalid(last, why));
    }
    Ok((from, to))
}

fn verify_hour(
    store: &Store,
    hour: Hour,
    operator: Option<&str>,
    depth: Option<Depth>,
    proof_for: Option<CdrId>,
) -> Result<Value, ApiError> {
    check_sealed(&store.state(), hour, operator)?;
    let stored = match store.seal(hour) {
        Ok(Some(stored)) => Some(stored),
        // What the report says of it is the answer.
        Ok(None) | Err(StoreError::Damaged { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let depth = depth.unwrap_or(match &stored {
        Some(stored) if stored.seal.record_count > ROWS_BY_DEFAULT => Depth::Leaves,
        _ => Depth::Rows,
    });
    if let (Some(stored), Some(operator)) = (&stored, operator) {
        operator_seal(&stored.seal, operator)?;
    }
    let report = store.verify_hour(hour, operator, depth)?;
    let mut answer = json!({
        "bucketHour": hour,
        "operatorId": operator,
        "depth": depth_text(report.depth),
        "rowsChecked": report.rows_checked,
        "verified": report.is_verified(),
    });
    if let Some(stored) = &stored {
        extend(&mut answer, sealed_figures(stored, operator)?);
        if let Some(cdr_id) = proof_for {
            extend(&mut answer, proof_in(store, stored, operator, cdr_id, report.is_verified())?);
        }
    }
    if !report.is_verified() {
        answer["differences"] = report.faults.iter().map(fault).collect();
    }
    Ok(answer)
}

/// What the seal holds of the operator, or of the country.
fn sealed_figures(stored: &StoredSeal, operator: Option<&str>) -> Result<Value, ApiError> {
    let seal = &stored.seal;
    let (root, chain, previous, count): (&Hash, &Hash, &Hash, u64) = match operator {
        Some(id) => {
            let entry = operator_seal(seal, id)?;
            (&entry.bucket_root, &entry.chain_hash, &entry.prev_chain_hash, entry.record_count)
        }
        None => (&seal.bucket_root, &seal.chain_hash, &seal.prev_chain_hash, seal.record_count),
    };
    Ok(json!({
        "bucketRoot": to_hex(root),
        "chainHash": to_hex(chain),
        "prevChainHash": to_hex(previous),
        "recordCount": count,
        "sealedAt": seal.sealed_at,
        "sealHash": to_hex(&stored.seal_hash),
        "signerKeyId": seal.signer_key_id,
        "signature": stored.signature.map(|signature| encode_base64(&signature)),
    }))
}

/// The way from a record to its operator's root, and from there to the national one.
fn proof_in(
    store: &Store,
    stored: &StoredSeal,
    operator: Option<&str>,
    cdr_id: CdrId,
    verified: bool,
) -> Result<Value, ApiError> {
    let seal = &stored.seal;
    let row = find(store, cdr_id)?;
    let operator_id = row.row()?.frame.operator_id.to_owned();
    if row.hour() != seal.bucket_hour || operator.is_some_and(|id| id != operator_id) {
        let place = format!("that record is of hour {} and operator {operator_id}", row.hour());
        return Err(ApiError::invalid("proofForCdrId", place));
    }
    let proof = match store.inclusion_proof(row.hour(), &operator_id, row.leaf_index()) {
        Ok(proof) => proof,
        // The differences show what is wrong; there is no proof of it.
        Err(StoreError::Damaged { .. }) if !verified => return Ok(json!({ "inclusionProof": null })),
        Err(error) => return Err(error.into()),
    };
    Ok(json!({
        "inclusionProof": proof,
        "nationalProof": national_proof(seal, &operator_id)?,
        "proofOperatorId": operator_id,
        "operatorChain": operator_chain(operator_seal(seal, &operator_id)?),
    }))
}

fn verify_range(
    store: &Store,
    (from, to): (Hour, Hour),
    operator: Option<&str>,
    depth: Depth,
) -> Result<Value, ApiError> {
    let state = store.state();
    check_sealed(&state, from, operator)?;
    check_sealed(&state, to, operator)?;
    let report = store.verify_range(from, to, operator, depth)?;
    let mut answer = json!({
        "from": report.from,
        "to": report.to,
        "operatorId": operator,
        "depth": depth_text(report.depth),
        "hours": report.hours_checked,
        "records": report.rows_checked,
        "verified": report.is_verified(),
        "faults": report.faults.iter().map(fault).collect::<Value>(),
    });
    if report.is_verified() {
        let last = sealed(store, to, operator)?;
        let figures = sealed_figures(&last, operator)?;
        answer["chainHash"] = figures["chainHash"].clone();
        answer["sealHash"] = figures["sealHash"].clone();
    }
    Ok(answer)
}

fn extend(answer: &mut Value, more: Value) {
    if let (Value::Object(answer), Value::Object(more)) = (answer, more) {
        answer.extend(more);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use axum::body::Bytes;

    const FIELDS: &[&str] = &["from", "to", "bucketHourFrom", "bucketHourTo"];

    fn of(body: &str, depth: Depth) -> Result<(Hour, Hour), ApiError> {
        span(&Input::of_body(&Bytes::copy_from_slice(body.as_bytes()), FIELDS).unwrap(), depth)
    }

    fn field(body: &str, depth: Depth) -> String {
        match of(body, depth) {
            Err(ApiError::Validation { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn spans_under_both_names() {
        let body = r#"{"from": "2026-04-20T00:00:00Z", "to": "2026-04-20T23:59:59Z"}"#;
        let (from, to) = of(body, Depth::Rows).unwrap();
        assert_eq!(to.0 - from.0, 23);
        let other = body.replace("from", "bucketHourFrom").replace("\"to\"", "\"bucketHourTo\"");
        assert_eq!(of(&other, Depth::Rows).unwrap(), (from, to));
    }

    #[test]
    fn bad_spans_are_named() {
        let to = |to: &str| format!(r#"{{"from": "2026-04-20T00:00:00Z", "to": "{to}"}}"#);
        assert_eq!(field(&to("2026-04-19T00:00:00Z"), Depth::Roots), "to");
        assert_eq!(field(&to("2026-04-21T00:00:00Z"), Depth::Rows), "to");
        assert!(of(&to("2026-05-20T23:00:00Z"), Depth::Roots).is_ok());
        assert_eq!(field(&to("2026-05-21T00:00:00Z"), Depth::Roots), "to");
        assert_eq!(field(r#"{"from": "2026-04-20T00:00:00Z"}"#, Depth::Roots), "to");
        assert_eq!(
            field(r#"{"from": "2026-04-20T00:30:00Z", "to": "2026-04-20T00:00:00Z"}"#, Depth::Roots),
            "from"
        );
        assert_eq!(field("{}", Depth::Roots), "bucketHourFrom");
        assert_eq!(field(r#"{"from": "x", "bucketHourTo": "y"}"#, Depth::Roots), "bucketHourTo");
    }
}
