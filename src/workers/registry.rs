//! What of the configuration enters the ledger by rows of the leader's own: operators, and the key that signs seals.
//!
//! Both name the hour from which they count, and must do so before it begins. Whoever leads compares what is
//! configured with the replicated state and appends what is missing.

use crate::proposer::{ProposalError, Proposer, SystemRow};
use crate::signer::{Signer, Voucher};
use cdr_core::canonical::to_jcs;
use cdr_core::command::{Rejection, Reply};
use cdr_core::hash::to_hex;
use cdr_core::row::SystemKind;
use cdr_core::state::Operator;
use cdr_core::{Hour, LedgerState};

/// Ids of operators and their TAP recording entities.
pub type ConfiguredOperators = [(String, String)];

/// Rows of the configured operators that a ledger does not know yet.
pub fn operator_rows(
    configured: &ConfiguredOperators,
    state: &LedgerState,
    effective_from: Hour,
) -> Vec<SystemRow> {
    let known = |id: &str| state.registry.iter().any(|operator| operator.operator_id == id);
    let new = configured.iter().filter(|(id, _)| !known(id));
    new.map(|(operator_id, recording_entity)| Operator {
        effective_from,
        operator_id: operator_id.clone(),
        recording_entity: recording_entity.clone(),
    })
    .map(|operator| (SystemKind::Operator, to_jcs(&operator)))
    .collect()
}

/// The row that makes the key known from `from_hour` on.
///
/// # Errors
/// [`ProposalError::Rows`] if there is no record of the key.
pub fn key_row(
    signer: &dyn Signer,
    voucher: &Voucher,
    cluster_id: &str,
    from_hour: Hour,
) -> Result<SystemRow, ProposalError> {
    let record = voucher.record(signer, cluster_id, from_hour);
    let record = record.map_err(|error| ProposalError::Rows { why: error.to_string() })?;
    Ok((SystemKind::Key, to_jcs(&record)))
}

/// Operators that were added to the configuration join with the next hour.
///
/// # Errors
/// [`ProposalError`]; operators that the log refuses are logged.
pub async fn join(proposer: &Proposer, configured: &ConfiguredOperators) -> Result<(), ProposalError> {
    let rows = |state: &LedgerState, next: Hour| Ok(operator_rows(configured, state, next));
    match append_for_next_hour(proposer, "operators", rows).await? {
        None => (),
        Some(Reply::Rejected(rejection)) => {
            tracing::error!(severity = "SEV2", %rejection, "configured operators can't join: their receipts go to the dead letter; correct [operators] and restart");
        }
        Some(reply) => tracing::info!(?reply, "new operators join with the next hour"),
    }
    Ok(())
}

/// Makes this node's signing key known to the ledger if it is not: seals name it from the next hour on, or from the
/// hour on that its signed record says.
///
/// # Errors
/// [`ProposalError`]; a key that the log refuses, or that has another's name, is logged.
pub async fn register_key(
    proposer: &Proposer,
    signer: &dyn Signer,
    voucher: &Voucher,
) -> Result<(), ProposalError> {
    let key_id = signer.key_id();
    if let Some(known) = proposer.state().key(key_id) {
        if known.public_key != to_hex(&signer.public_key()) {
            tracing::error!(
                severity = "SEV2",
                key_id,
                "the ledger knows another key by this name, so that this node can't sign: give its key a name of its own"
            );
        }
        return Ok(());
    }
    let rows = |state: &LedgerState, next: Hour| {
        let cluster_id = state.cluster.as_ref().map_or("", |cluster| cluster.cluster_id.as_str());
        Ok(vec![key_row(signer, voucher, cluster_id, next)?])
    };
    match append_for_next_hour(proposer, "key", rows).await? {
        Some(Reply::Rejected(rejection)) => {
            let from_hour = next_hour(proposer);
            tracing::error!(severity = "SEV2", key_id, %rejection, %from_hour, "the signing key can't be registered, so that this node can't sign: have the root key sign a record of it with this fromHour or a later one, name it in signer.key_record_file and restart");
        }
        reply => tracing::info!(key_id, ?reply, "the signing key is registered"),
    }
    Ok(())
}

/// The first hour for which a row can still count.
fn next_hour(proposer: &Proposer) -> Hour {
    proposer.state().head.open_hour.max(proposer.clock().now().hour()).next()
}

/// Appends the rows that `rows` makes for the next hour, and again for a later one if that hour had begun before the
/// rows were in the log. None if there is nothing to append.
async fn append_for_next_hour(
    proposer: &Proposer,
    trace_id: &str,
    mut rows: impl FnMut(&LedgerState, Hour) -> Result<Vec<SystemRow>, ProposalError>,
) -> Result<Option<Reply>, ProposalError> {
    loop {
        let next = next_hour(proposer);
        let rows = rows(&proposer.state(), next)?;
        if rows.is_empty() {
            return Ok(None);
        }
        match proposer.append_rows(trace_id, rows).await? {
            Reply::Rejected(Rejection::Illegal { why }) if next_hour(proposer) > next => {
                tracing::info!(why, "the hour ended meanwhile; trying again for the next one");
            }
            reply => return Ok(Some(reply)),
        }
    }
}

#[cfg(test)]
mod tests;
