//! What a table must satisfy before anything is priced by it.

use super::text::{is_operator, is_version};
use super::{Tariff, TariffTable};
use crate::money::is_currency;
use crate::row::BillingIndicator;

/// Why a table can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The version's name can't stand in rows.
    #[error("tariff table {version:?}: a version is named by 1 to 64 visible ASCII characters")]
    Version {
        /// The name.
        version: String,
    },
    /// It ends before it begins.
    #[error("tariff table {version}: valid_to must be later than valid_from")]
    Validity {
        /// The table.
        version: String,
    },
    /// A line can't be used.
    #[error("tariff table {version}, line {line}: {field}: {why}")]
    Line {
        /// The table.
        version: String,
        /// The line, from 1.
        line: usize,
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
}

pub(super) fn table(table: &TariffTable) -> Result<(), TableError> {
    let version = || table.version.clone();
    if !is_version(&table.version) {
        return Err(TableError::Version { version: version() });
    }
    if table.valid_to.is_some_and(|to| to <= table.valid_from) {
        return Err(TableError::Validity { version: version() });
    }
    for (index, tariff) in table.tariffs.iter().enumerate() {
        tariff.check().map_err(|(field, why)| TableError::Line {
            version: version(),
            line: index + 1,
            field,
            why,
        })?;
    }
    Ok(())
}

pub(super) fn line(tariff: &Tariff) -> Result<(), (&'static str, &'static str)> {
    let class = tariff.tap_tariff_class.as_bytes();
    let upper = |b: &u8| b.is_ascii_uppercase();
    if !tariff.operator_id.as_deref().is_none_or(is_operator) {
        Err(("operator_id", "1 to 16 of A-Z a-z 0-9 _ -, not beginning with _"))
    } else if tariff.per_segment.micros() < 0 {
        Err(("per_segment", "a price can't be negative"))
    } else if tariff.amount(u8::MAX).is_none() {
        Err(("per_segment", "255 segments would cost more than 18 digits hold"))
    } else if !is_currency(&tariff.currency) {
        Err(("currency", "AFN or USD: events allow no other currency"))
    } else if class.len() != 4 || !class.iter().all(|b| upper(b) || b.is_ascii_digit()) {
        Err(("tap_tariff_class", "four of A-Z 0-9"))
    } else if tariff.billing_indicator == BillingIndicator::Unknown {
        Err(("billing_indicator", "UNKNOWN marks records without a price; a price says who pays"))
    } else {
        Ok(())
    }
}
