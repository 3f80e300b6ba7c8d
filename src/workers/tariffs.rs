//! Puts every price list that is used into the ledger, as a `config` row with its content: a rating can then be
//! recomputed from the ledger alone ([`cdr_core::tariff::verify_price`]).

use crate::names::PRICE_ISSUER;
use crate::pricing::{Pricing, setting_of};
use crate::proposer::{ProposalError, Proposer};
use cdr_core::LedgerState;
use cdr_core::canonical::to_jcs;
use cdr_core::command::Reply;
use cdr_core::hash::to_hex;
use cdr_core::row::SystemKind;
use cdr_core::setting::SettingChange;
use cdr_core::tariff::TariffTable;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// How often the book is compared.
const PAUSE: Duration = Duration::from_secs(1);
/// Pause after a refusal, which only a person can correct.
const REFUSED_PAUSE: Duration = Duration::from_secs(60);
/// A price list that is larger is recorded by its hash alone, in bytes.
const MOST_CONTENT: usize = 1 << 20;

/// Records price lists as they come. One that the ledger has with another content is reported, and prices nothing.
///
/// # Errors
/// [`ProposalError`]; the caller tries again.
pub async fn run(proposer: &Proposer, pricing: &Arc<dyn Pricing>) -> Result<(), ProposalError> {
    let mut told = BTreeSet::new();
    loop {
        let recorded = record_all(proposer, pricing).await?;
        for version in pricing.book().refused().filter(|version| told.insert((*version).to_owned())) {
            tracing::error!(
                severity = "SEV1",
                version,
                "a price list was received with other content under a version that the ledger has: it prices nothing, and records of its time stay without a price. Give the new list a version of its own"
            );
        }
        tokio::time::sleep(if recorded { PAUSE } else { REFUSED_PAUSE }).await;
    }
}

/// Records the current price lists, before anything is priced by them; false if the log refused one.
///
/// # Errors
/// [`ProposalError`].
pub async fn record_all(proposer: &Proposer, pricing: &Arc<dyn Pricing>) -> Result<bool, ProposalError> {
    let (book, mut recorded) = (pricing.book(), true);
    for table in book.every_table() {
        if let Some(change) = change(&proposer.state(), table) {
            recorded &= record(proposer, table, &change).await?;
        }
    }
    Ok(recorded)
}

async fn record(
    proposer: &Proposer,
    table: &TariffTable,
    change: &SettingChange,
) -> Result<bool, ProposalError> {
    let (row, version) = ((SystemKind::Config, to_jcs(change)), &table.version);
    if let Reply::Rejected(rejection) = proposer.append_rows("tariffs", vec![row]).await? {
        tracing::error!(severity = "SEV2", version, %rejection, "a price list can't be recorded");
        return Ok(false);
    }
    tracing::info!(version, "a price list is in the ledger");
    Ok(true)
}

/// The row that records a price list, unless it is recorded.
fn change(state: &LedgerState, table: &TariffTable) -> Option<SettingChange> {
    let config_key = setting_of(&table.version);
    if state.settings.get(&config_key).is_some() {
        return None;
    }
    let canonical = table.canonical_json().ok()?;
    let new_value = to_hex(&table.content_hash().ok()?);
    let content =
        (canonical.len() <= MOST_CONTENT).then(|| serde_json::from_slice(&canonical).ok()).flatten();
    Some(SettingChange {
        actor_user_id: PRICE_ISSUER.to_owned(),
        approver_user_id: None,
        previous_value: None,
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
    use crate::clock::Clock;
    use crate::pricing::{PriceQuery, RecordedPricing, TablePricing};
    use crate::test_support::node::TestNode;
    use cdr_core::row::{BillingIndicator, ChargeType, Direction};
    use cdr_core::tariff::Tariff;
    use cdr_core::{Hour, Millis, Money};

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

    fn list(per_segment: &str, valid_from: i64) -> TariffTable {
        let tariff = Tariff {
            operator_id: None,
            tenant_id: None,
            charge_type: None,
            direction: None,
            per_segment: Money::parse(per_segment).unwrap(),
            currency: "AFN".to_owned(),
            tap_tariff_class: "A042".to_owned(),
            billing_indicator: BillingIndicator::Chargeable,
        };
        let version = format!("from-{valid_from}");
        TariffTable { version, valid_from: Millis(valid_from), valid_to: None, tariffs: vec![tariff] }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_list_that_the_ledger_has_otherwise_prices_nothing_and_takes_no_ones_place() {
        let node = TestNode::begin(Clock::replay(Hour(493_525).start())).await;
        let proposer = &node.proposer;
        let pricing = |tables: Vec<TariffTable>| -> Arc<dyn Pricing> {
            let source = Arc::new(TablePricing::new(tables).unwrap());
            Arc::new(RecordedPricing::new(source, proposer.store().clone()))
        };
        let price = |pricing: &Arc<dyn Pricing>, event_at: i64| {
            let query = PriceQuery {
                operator_id: "AWCC",
                tenant_id: None,
                charge_type: ChargeType::A2p,
                direction: Direction::Mt,
                segment_count: 1,
                event_at: Millis(event_at),
            };
            pricing.price(&query).map(|price| price.amount().to_string())
        };
        let first = pricing(vec![list("0.1", 0), list("0.2", 100)]);
        assert!(record_all(proposer, &first).await.unwrap());
        assert_eq!(price(&first, 150).as_deref(), Some("0.200000"));
        let held = proposer.state().settings.get("pricing.table.from-100").map(str::to_owned);

        let other = pricing(vec![list("0.1", 0), list("0.3", 100)]);
        assert_eq!(price(&other, 50).as_deref(), Some("0.100000"));
        assert_eq!(price(&other, 150), None, "neither by what it says now, nor by the list before it");
        assert_eq!(other.book().refused().collect::<Vec<_>>(), ["from-100"]);
        assert!(other.fetch_table("from-100").await.is_err(), "nor is anything rated anew by it");
        assert!(record_all(proposer, &other).await.unwrap());
        assert_eq!(proposer.state().settings.get("pricing.table.from-100").map(str::to_owned), held);
    }
}
