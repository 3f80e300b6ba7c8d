//! `GET /v1/cdr/records/{cdrId}/proof`: a file that proves one record with no server.

use super::hours::sealed;
use super::rollups::operator_seal;
use crate::api::http::Service;
use crate::api::http::access::{Caller, PathInput};
use crate::api::http::answer::Answer;
use crate::api::http::error::ApiError;
use crate::api::http::input::CDR_ID;
use crate::api::records::query::find;
use crate::auth::{SCOPE_PII, SCOPE_READ};
use axum::extract::State;
use axum::http::Uri;
use cdr_core::canonical::{push_personal, push_row};
use cdr_core::chain::national_leaf;
use cdr_core::merkle::InclusionProof;
use cdr_core::proof::{OperatorChain, PortableProof, encode_base64};
use cdr_core::seal::{FORMAT_VERSION, OperatorSeal};
use cdr_core::{CdrId, Seal};
use cdr_storage::Store;

/// The portable proof of a record whose hour is sealed. For callers who may see personal data it holds them with their salt;
/// for anybody else it proves the row without them.
pub(in crate::api) async fn of_record(
    State(service): State<Service>,
    caller: Caller,
    path: PathInput,
    uri: Uri,
) -> Result<Answer, ApiError> {
    let (_, read) = service.ledger.read(&caller, SCOPE_READ, &uri, &[])?;
    let cdr_id = path.parsed("cdrId", CDR_ID, CdrId::parse)?;
    let sees_numbers = caller.has(SCOPE_PII);
    read.value(move |store| prove(store, cdr_id, sees_numbers)).await
}

fn prove(store: &Store, cdr_id: CdrId, sees_numbers: bool) -> Result<PortableProof, ApiError> {
    let stored = find(store, cdr_id)?;
    let row = stored.row()?;
    let operator_id = row.frame.operator_id;
    let hour = sealed(store, stored.hour(), Some(operator_id))?;
    let operator = operator_seal(&hour.seal, operator_id)?;
    let (mut canonical, mut personal) = (Vec::new(), Vec::new());
    push_row(&row, &mut canonical);
    if sees_numbers {
        push_personal(&row, &mut personal);
    }
    let personal = (!personal.is_empty()).then(|| serde_json::from_slice(&personal)).transpose();
    let key = hour
        .signature
        .and(hour.seal.signer_key_id.as_ref())
        .and_then(|key_id| store.state().key(key_id).cloned());
    Ok(PortableProof {
        format_version: FORMAT_VERSION,
        row: serde_json::from_slice(&canonical).map_err(ApiError::internal)?,
        personal: personal.map_err(ApiError::internal)?,
        row_hash: store.stored_row_hash(&stored)?,
        operator_proof: store.inclusion_proof(stored.hour(), operator_id, stored.leaf_index())?,
        operator_chain: operator_chain(operator),
        national_proof: national_proof(&hour.seal, operator_id)?,
        seal_hash: hour.seal_hash,
        signature: hour.signature.map(|signature| encode_base64(&signature)),
        key,
        anchor: None,
        seal: hour.seal,
    })
}

/// How an operator's root enters its chain.
pub(in crate::api) fn operator_chain(operator: &OperatorSeal) -> OperatorChain {
    OperatorChain {
        bucket_root: operator.bucket_root,
        prev_chain_hash: operator.prev_chain_hash,
        chain_hash: operator.chain_hash,
    }
}

/// From an operator's chain to the national root.
///
/// # Errors
/// 500 if the seal does not name the operator.
pub(in crate::api) fn national_proof(seal: &Seal, operator_id: &str) -> Result<InclusionProof, ApiError> {
    let index = seal.operators.iter().position(|operator| operator.operator_id == operator_id);
    let leaves: Vec<_> =
        seal.operators.iter().map(|o| national_leaf(&o.operator_id, &o.chain_hash)).collect();
    index.and_then(|index| InclusionProof::from_leaves(index as u64, &leaves)).ok_or_else(|| {
        ApiError::internal(format!("the seal of hour {} lacks {operator_id}", seal.bucket_hour))
    })
}
