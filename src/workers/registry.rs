//! What of the configuration enters the ledger by rows of the leader's own: operators, and the key that signs seals.
//!
//! Both name the hour from which they count, and must do so before it begins. The leader compares what is
//! configured with the replicated state and appends what is missing.

use crate::proposer::{ProposalError, Proposer, SystemRow};
use crate::signer::{Signing, Voucher};
use cdr_core::canonical::to_jcs;
use cdr_core::command::{Rejection, Reply};
use cdr_core::key::{KeyRecord, PublicKey};
use cdr_core::row::SystemKind;
use cdr_core::setting::SettingChange;
use cdr_core::state::Operator;
use cdr_core::{Hour, LedgerState};
use serde_json::json;
use std::time::Duration;

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

/// The setting that names the key that signs: seals, and the files of exports.
const KEY_SETTING: &str = "signer.keyId";
/// Pause after a refusal of the signer, which only a person can correct.
const REFUSED_PAUSE: Duration = Duration::from_secs(30);

/// The rows with which a ledger begins, by which it knows its first key.
///
/// # Errors
/// [`ProposalError::Rows`] if the signer refuses, or there is no record of the key.
pub async fn first_key_rows(
    signing: &Signing,
    voucher: &Voucher,
    cluster_id: &str,
) -> Result<Vec<SystemRow>, ProposalError> {
    let key_id = signing.active_key_id();
    let public_key = signing.public_key(key_id).await.map_err(unusable)?;
    let record = voucher.record(key_id, &public_key, cluster_id, Hour(0)).map_err(unusable)?;
    Ok(key_rows(&LedgerState::default(), &record))
}

/// The rows by which `record`'s key signs from its first hour on: the record, unless it is known, and the setting that
/// names it, unless it does already.
fn key_rows(state: &LedgerState, record: &KeyRecord) -> Vec<SystemRow> {
    let mut rows = Vec::new();
    if state.key(&record.key_id).is_none() {
        rows.push((SystemKind::Key, to_jcs(record)));
    }
    let previous = state.settings.get(KEY_SETTING);
    if previous != Some(record.key_id.as_str()) {
        let change = SettingChange {
            actor_user_id: "system:signer".to_owned(),
            approver_user_id: None,
            config_key: KEY_SETTING.to_owned(),
            content: Some(json!({"algorithm": record.algorithm, "fromHour": record.from_hour})),
            new_value: record.key_id.clone(),
            previous_value: previous.map(str::to_owned),
            reason: "the configuration names this key, which the root key vouches for".to_owned(),
            ticket_id: None,
        };
        rows.push((SystemKind::Config, to_jcs(&change)));
    }
    rows
}

fn unusable(error: impl std::fmt::Display) -> ProposalError {
    ProposalError::Rows { why: error.to_string() }
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
            tracing::error!(severity = "SEV2", %rejection, "configured operators can't join: their DLRs are dead-lettered; correct [operators] and restart");
        }
        Some(reply) => tracing::info!(?reply, "new operators join with the next hour"),
    }
    Ok(())
}

/// Makes sure that the ledger knows the key that is configured to sign. It waits for a signer that is unavailable; what it
/// refuses is retried until somebody has corrected it.
///
/// # Errors
/// [`ProposalError`]; the caller tries again.
pub async fn keep_key(
    proposer: &Proposer,
    signing: &Signing,
    voucher: &Voucher,
) -> Result<(), ProposalError> {
    let key_id = signing.active_key_id();
    loop {
        match signing.public_key(key_id).await {
            Ok(public_key) => {
                register_key(proposer, key_id, &public_key, voucher).await?;
                // For this term there is nothing left to do.
                return std::future::pending().await;
            }
            Err(error) => tracing::error!(severity = "SEV1", %error, "the signing key can't be used"),
        }
        tokio::time::sleep(REFUSED_PAUSE).await;
    }
}

/// Makes a key known to the ledger if it is not: seals name it from the next hour on, or from the hour on that its
/// signed record says (US-CDR-012).
///
/// # Errors
/// [`ProposalError`]; a key that the log refuses, that has another's name, or that was replaced, is logged.
pub async fn register_key(
    proposer: &Proposer,
    key_id: &str,
    public_key: &PublicKey,
    voucher: &Voucher,
) -> Result<(), ProposalError> {
    let state = proposer.state();
    if let Some(known) = state.key(key_id) {
        if known.public_key().as_ref() != Some(public_key) {
            tracing::error!(
                severity = "SEV1",
                key_id,
                "the ledger knows another key by this name, so that this node can't sign: give its key a name of its own"
            );
            return Ok(());
        }
        let newest = state.keys.iter().max_by_key(|key| key.from_hour);
        if let Some(newest) = newest.filter(|newest| newest.key_id != key_id) {
            tracing::error!(
                severity = "SEV2",
                key_id,
                newest = newest.key_id,
                "another key has replaced the one that is configured to sign: name it in signer.key_id, and this one in signer.previous_key_ids; a key that was replaced can't be put in force again"
            );
            return Ok(());
        }
    }
    let rows = |state: &LedgerState, next: Hour| {
        if let Some(known) = state.key(key_id) {
            return Ok(key_rows(state, known));
        }
        let cluster_id = state.cluster.as_ref().map_or("", |cluster| cluster.cluster_id.as_str());
        let record = voucher.record(key_id, public_key, cluster_id, next).map_err(unusable)?;
        Ok(key_rows(state, &record))
    };
    match append_for_next_hour(proposer, "key", rows).await? {
        None => {}
        Some(Reply::Rejected(rejection)) => {
            let from_hour = next_hour(proposer);
            tracing::error!(severity = "SEV1", key_id, %rejection, %from_hour, "the signing key can't be registered: have the root key sign a record of it with this fromHour or a later one, name it in signer.key_record_file and restart");
        }
        Some(reply) => tracing::info!(key_id, ?reply, "the signing key is registered"),
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
