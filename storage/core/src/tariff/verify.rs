//! The proof of a price: recompute it from the table and the row, and name what differs.

use super::{PriceQuery, TariffTable};
use crate::row::Sms;
use crate::time::Millis;
use std::fmt;

/// A field of a row that is not what the table gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The row's field, by its name in the canonical row.
    pub field: &'static str,
    /// The value in the row; none for null.
    pub row: Option<String>,
    /// What the table gives.
    pub expected: String,
}

/// Why a row's price does not follow from a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PriceMismatch {
    /// The row names no table: it is unpriced, or its price can't be recomputed.
    #[error("tariffVersion is null: no table gave this row a price")]
    Unpriced,
    /// The row names another table.
    #[error(
        "tariffVersion is {row}, the table at hand is {table}: compare with the table that the row names"
    )]
    OtherTable {
        /// Version that the row names.
        row: String,
        /// Version of the table.
        table: String,
    },
    /// An original row was priced by a table that did not hold at its event.
    #[error("eventTimeStamp {event_at} is outside the validity of tariff table {version}")]
    OutsideValidity {
        /// The row's event.
        event_at: Millis,
        /// The table.
        version: String,
    },
    /// The table has no line for the row.
    #[error(
        "tariff table {version} gives no price for this row's operator, tenant, charge type and direction"
    )]
    NoPrice {
        /// The table.
        version: String,
    },
    /// Fields differ from what the table gives.
    #[error("{}", list(.0))]
    Differs(
        /// All that differ, in the order of the canonical row.
        Vec<Difference>,
    ),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let row = self.row.as_deref().unwrap_or("null");
        write!(f, "{} is {row}, the table gives {}", self.field, self.expected)
    }
}

fn list(differences: &[Difference]) -> String {
    differences.iter().map(Difference::to_string).collect::<Vec<_>>().join("; ")
}

/// Recomputes a row's amount, currency, tariff class and billing indicator from its own fields and the table that it
/// names. `operator_id` is the row's, which is in its frame.
///
/// An original must also lie in the table's validity; an adjustment need not, because a re-rating applies the table
/// that it was given. A void takes its charge back, so its zero is not a price of a table and differs here.
///
/// # Errors
/// [`PriceMismatch`] names what does not follow from the table.
pub fn verify_price(table: &TariffTable, operator_id: &str, row: &Sms<'_>) -> Result<(), PriceMismatch> {
    let named = row.tariff_version.ok_or(PriceMismatch::Unpriced)?;
    if named != table.version {
        return Err(PriceMismatch::OtherTable { row: named.to_owned(), table: table.version.clone() });
    }
    if row.adjustment.is_none() && !table.holds_at(row.event_at) {
        let version = table.version.clone();
        return Err(PriceMismatch::OutsideValidity { event_at: row.event_at, version });
    }
    let priced = table
        .price(&PriceQuery::of(operator_id, row))
        .ok_or_else(|| PriceMismatch::NoPrice { version: table.version.clone() })?;
    let (tariff, amount) = (priced.tariff, row.charge_amount.map(|amount| amount.to_string()));
    let differences: Vec<Difference> = [
        (
            "billingIndicator",
            Some(row.billing_indicator.as_str()),
            tariff.billing_indicator.as_str().to_owned(),
        ),
        ("chargeAmount", amount.as_deref(), priced.amount.to_string()),
        ("chargeCurrency", row.charge_currency, tariff.currency.clone()),
        ("tapTariffClass", row.tap_tariff_class, tariff.tap_tariff_class.clone()),
    ]
    .into_iter()
    .filter(|(_, row, expected)| *row != Some(expected.as_str()))
    .map(|(field, row, expected)| Difference { field, row: row.map(str::to_owned), expected })
    .collect();
    if differences.is_empty() { Ok(()) } else { Err(PriceMismatch::Differs(differences)) }
}
