//! Puts every price list that is used into the ledger, as a `config` row with its content: a rating can then be
//! recomputed from the ledger alone ([`cdr_core::tariff::verify_price`]).

use crate::pricing::Pricing;
use crate::proposer::{ProposalError, Proposer};
use cdr_core::LedgerState;
use cdr_core::canonical::to_jcs;
use cdr_core::command::Reply;
use cdr_core::hash::to_hex;
use cdr_core::row::SystemKind;
use cdr_core::setting::SettingChange;
use cdr_core::tariff::TariffTable;
use std::sync::Arc;
use std::time::Duration;

/// How often the book is looked at.
const PAUSE: Duration = Duration::from_secs(1);
/// Pause after a refusal, which only a person can mend.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// A price list that is larger is recorded by its hash alone, in bytes.
const MOST_CONTENT: usize = 1 << 20;

/// Records price lists as they come.
///
/// # Errors
/// [`ProposalError`]; the caller tries again.
pub async fn run(proposer: &Proposer, pricing: &Arc<dyn Pricing>) -> Result<(), ProposalError> {
    loop {
        let state = proposer.state();
        let book = pricing.book();
        for table in book.tables() {
            if let Some(change) = change(&state, table) {
                record(proposer, table, &change).await?;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn record(
    proposer: &Proposer,
    table: &TariffTable,
    change: &SettingChange,
) -> Result<(), ProposalError> {
    let (row, version) = ((SystemKind::Config, to_jcs(change)), &table.version);
    if let Reply::Rejected(rejection) = proposer.append_rows("tariffs", vec![row]).await? {
        tracing::error!(severity = "SEV2", version, %rejection, "a price list can't be recorded");
        tokio::time::sleep(REFUSED_PAUSE).await;
    } else {
        tracing::info!(version, "a price list is in the ledger");
    }
    Ok(())
}

/// The row that records a price list, unless it is recorded.
fn change(state: &LedgerState, table: &TariffTable) -> Option<SettingChange> {
    let config_key = format!("pricing.table.{}", table.version);
    let canonical = table.canonical_json().ok()?;
    let new_value = to_hex(&table.content_hash().ok()?);
    let previous = state.settings.get(&config_key);
    if previous == Some(new_value.as_str()) {
        return None;
    }
    let content =
        (canonical.len() <= MOST_CONTENT).then(|| serde_json::from_slice(&canonical).ok()).flatten();
    Some(SettingChange {
        actor_user_id: "system:pricing".to_owned(),
        approver_user_id: None,
        previous_value: previous.map(str::to_owned),
        config_key,
        content,
        new_value,
        reason: "a price list came into force".to_owned(),
        ticket_id: None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use cdr_core::Millis;

    #[test]
    fn a_price_list_is_recorded_once_with_its_content() {
        let table = TariffTable {
            version: "2026-1".to_owned(),
            valid_from: Millis(0),
            valid_to: None,
            tariffs: Vec::new(),
        };
        let change = change(&LedgerState::default(), &table).unwrap();
        assert_eq!(change.config_key, "pricing.table.2026-1");
        let content = serde_json::to_vec(&change.content.unwrap()).unwrap();
        let read: TariffTable = serde_json::from_slice(&content).unwrap();
        assert_eq!(to_hex(&read.content_hash().unwrap()), change.new_value);
    }
}
