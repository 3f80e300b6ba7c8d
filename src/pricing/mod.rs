//! What a message costs: tariff tables behind a trait (US-CDR-001; a price is taken when the CDR is made).

use crate::config::{Tariff, TariffTable};
use cdr_core::row::{BillingIndicator, ChargeType, Direction};
use cdr_core::{Millis, Money, Uuid};

/// What a price depends on.
#[derive(Clone, Copy, Debug)]
pub struct PriceQuery<'a> {
    /// Operator of the record.
    pub operator_id: &'a str,
    /// Submitter, where there is one.
    pub tenant_id: Option<Uuid>,
    /// What is charged for.
    pub charge_type: ChargeType,
    /// Direction at the operator.
    pub direction: Direction,
    /// Segments, 1 to 255.
    pub segment_count: u8,
    /// When the event happened.
    pub event_at: Millis,
}

/// A price and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Price<'a> {
    /// The charge for all segments.
    pub amount: Money,
    /// Currency, ISO 4217.
    pub currency: &'a str,
    /// The regulator's tariff class.
    pub tap_tariff_class: &'a str,
    /// Who pays.
    pub billing_indicator: BillingIndicator,
    /// Price list that gave it.
    pub tariff_version: &'a str,
}

/// Source of prices. Never in the way of ingest: what has no price now is recorded without one.
pub trait Pricing: Send + Sync + 'static {
    /// The price, or `None` if there is none yet.
    fn price(&self, query: &PriceQuery<'_>) -> Option<Price<'_>>;
}

/// Tables from the configuration; of the tables that hold at the event, the one that began last decides.
#[derive(Clone, Debug, Default)]
pub struct TablePricing {
    tables: Vec<TariffTable>,
}

impl TablePricing {
    /// From tables in any order.
    pub fn new(mut tables: Vec<TariffTable>) -> Self {
        tables.sort_by_key(|table| std::cmp::Reverse(table.valid_from));
        Self { tables }
    }
}

impl Pricing for TablePricing {
    fn price(&self, query: &PriceQuery<'_>) -> Option<Price<'_>> {
        let table = self.tables.iter().find(|table| {
            table.valid_from <= query.event_at && table.valid_to.is_none_or(|to| query.event_at < to)
        })?;
        let tariff = table.tariffs.iter().find(|tariff| matches(tariff, query))?;
        let micros = tariff.per_segment.micros().checked_mul(i64::from(query.segment_count))?;
        Some(Price {
            amount: Money::from_micros(micros)?,
            currency: &tariff.currency,
            tap_tariff_class: &tariff.tap_tariff_class,
            billing_indicator: tariff.billing_indicator,
            tariff_version: &table.version,
        })
    }
}

/// True if every condition of the line fits.
fn matches(tariff: &Tariff, query: &PriceQuery<'_>) -> bool {
    tariff.operator_id.as_deref().is_none_or(|id| id == query.operator_id)
        && tariff.tenant_id.is_none_or(|id| Some(id) == query.tenant_id)
        && tariff.charge_type.is_none_or(|kind| kind == query.charge_type)
        && tariff.direction.is_none_or(|direction| direction == query.direction)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn tariff(operator: Option<&str>, price: &str) -> Tariff {
        Tariff {
            operator_id: operator.map(str::to_owned),
            tenant_id: None,
            charge_type: None,
            direction: None,
            per_segment: Money::parse(price).unwrap(),
            currency: "AFN".to_owned(),
            tap_tariff_class: "A001".to_owned(),
            billing_indicator: BillingIndicator::Chargeable,
        }
    }

    fn query(operator_id: &str, at: i64) -> PriceQuery<'_> {
        PriceQuery {
            operator_id,
            tenant_id: None,
            charge_type: ChargeType::A2p,
            direction: Direction::Mt,
            segment_count: 3,
            event_at: Millis(at),
        }
    }

    #[test]
    fn the_latest_table_and_the_first_matching_line_decide() {
        let table = |version: &str, from, to: Option<i64>, tariffs| TariffTable {
            version: version.to_owned(),
            valid_from: Millis(from),
            valid_to: to.map(Millis),
            tariffs,
        };
        let pricing = TablePricing::new(vec![
            table("1", 0, Some(1000), vec![tariff(None, "0.5")]),
            table("2", 500, None, vec![tariff(Some("AWCC"), "0.0128"), tariff(None, "1")]),
        ]);
        let price = |operator, at| {
            pricing.price(&query(operator, at)).map(|p| (p.amount.to_string(), p.tariff_version.to_owned()))
        };
        assert_eq!(price("AWCC", 499), Some(("1.500000".to_owned(), "1".to_owned())));
        assert_eq!(price("AWCC", 500), Some(("0.038400".to_owned(), "2".to_owned())));
        assert_eq!(price("ETS", 2000), Some(("3.000000".to_owned(), "2".to_owned())));
        assert_eq!(pricing.price(&query("ETS", -1)), None);
    }
}
