//! Price lists, the rule that prices a record, and the proof of a price.
//!
//! A price is a function of one table and of the record's own fields: the first line of the table whose conditions
//! fit decides, and the charge is its amount for each segment times the segments. Amounts have six fraction digits and
//! segments are whole, so the product is exact: nothing is ever rounded. The table is named in the row as
//! `tariffVersion`, so the charge can be recomputed from both with [`verify_price`].

mod check;
mod text;
mod verify;

#[cfg(test)]
mod tests;

pub use check::TableError;
pub use text::{is_operator, is_version};
pub use verify::{Difference, PriceMismatch, verify_price};

use crate::canonical::to_jcs;
use crate::hash::{Hash, sha256};
use crate::id::Uuid;
use crate::money::Money;
use crate::row::{BillingIndicator, ChargeType, Direction, Sms};
use crate::time::Millis;
use serde::{Deserialize, Serialize};

/// A version of the price list and when it is valid. The content of a version never changes: a new price is a new
/// version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TariffTable {
    /// Name of the version, as rows have it in `tariffVersion`.
    pub version: String,
    /// First instant at which it holds.
    pub valid_from: Millis,
    /// First instant at which it no longer holds; open if absent.
    pub valid_to: Option<Millis>,
    /// Its lines; the first that matches decides.
    pub tariffs: Vec<Tariff>,
}

/// A line of a price list; absent conditions match everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tariff {
    /// Operator it is for.
    pub operator_id: Option<String>,
    /// Tenant it is for.
    #[serde(with = "text::optional")]
    pub tenant_id: Option<Uuid>,
    /// Charge type it is for.
    #[serde(with = "text::optional")]
    pub charge_type: Option<ChargeType>,
    /// Direction it is for.
    #[serde(with = "text::optional")]
    pub direction: Option<Direction>,
    /// Amount for each segment.
    #[serde(with = "text::required")]
    pub per_segment: Money,
    /// Currency, ISO 4217.
    pub currency: String,
    /// The regulator's tariff class, four of `A-Z 0-9`.
    pub tap_tariff_class: String,
    /// Who pays.
    #[serde(with = "text::required")]
    pub billing_indicator: BillingIndicator,
}

/// What a price depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// The line that decided, and the charge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Priced<'t> {
    /// Place of the line in its table, from 0.
    pub line: usize,
    /// The line.
    pub tariff: &'t Tariff,
    /// The charge for all segments.
    pub amount: Money,
}

impl<'a> PriceQuery<'a> {
    /// What the price of a record of `operator_id` depends on.
    pub fn of(operator_id: &'a str, sms: &Sms<'_>) -> Self {
        Self {
            operator_id,
            tenant_id: sms.tenant_id,
            charge_type: sms.charge_type,
            direction: sms.direction,
            segment_count: sms.segment_count,
            event_at: sms.event_at,
        }
    }
}

impl TariffTable {
    /// True if events of this instant are priced by this version, unless one that began later holds too.
    pub fn holds_at(&self, at: Millis) -> bool {
        self.valid_from <= at && self.valid_to.is_none_or(|to| at < to)
    }

    /// The price by this version, whether or not it holds at the event: re-rating applies a version that it names.
    /// `None` if no line fits, or the charge is beyond 18 digits (which no table that passes [`Self::check`] gives).
    pub fn price(&self, query: &PriceQuery<'_>) -> Option<Priced<'_>> {
        let line = self.tariffs.iter().position(|tariff| tariff.fits(query))?;
        self.price_by(line, query)
    }

    /// The price by the line at `line`, which must be the first that fits; for those who keep an index of lines.
    pub fn price_by(&self, line: usize, query: &PriceQuery<'_>) -> Option<Priced<'_>> {
        let tariff = self.tariffs.get(line)?;
        Some(Priced { line, tariff, amount: tariff.amount(query.segment_count)? })
    }

    /// The RFC 8785 text of the table, for a `config` row: absent conditions are null, amounts have six fraction
    /// digits.
    ///
    /// # Errors
    /// A text that names what could not be written; none is known for a table.
    pub fn canonical_json(&self) -> Result<Vec<u8>, String> {
        to_jcs(self)
    }

    /// SHA-256 of [`Self::canonical_json`]: the same for everyone who holds the same table.
    ///
    /// # Errors
    /// Those of [`Self::canonical_json`].
    pub fn content_hash(&self) -> Result<Hash, String> {
        Ok(sha256(&self.canonical_json()?))
    }

    /// Checks what every table must satisfy.
    ///
    /// # Errors
    /// The first [`TableError`], with the line that it is in.
    pub fn check(&self) -> Result<(), TableError> {
        check::table(self)
    }
}

impl Tariff {
    /// True if every condition of the line fits.
    pub fn fits(&self, query: &PriceQuery<'_>) -> bool {
        self.operator_id.as_deref().is_none_or(|id| id == query.operator_id)
            && self.tenant_id.is_none_or(|id| Some(id) == query.tenant_id)
            && self.charge_type.is_none_or(|kind| kind == query.charge_type)
            && self.direction.is_none_or(|direction| direction == query.direction)
    }

    /// The charge for this many segments, exactly; `None` beyond 18 digits.
    pub fn amount(&self, segment_count: u8) -> Option<Money> {
        let micros = self.per_segment.micros().checked_mul(i64::from(segment_count))?;
        Money::from_micros(micros)
    }

    /// Checks what every line must satisfy.
    ///
    /// # Errors
    /// The first field that can't be used, and why.
    pub fn check(&self) -> Result<(), (&'static str, &'static str)> {
        check::line(self)
    }
}

/// Reads a plain decimal number of at most six fraction digits; a finer one is not an amount that rows can hold, and
/// rounding it in silence would price differently from its author.
pub fn exact_amount(text: &str) -> Option<Money> {
    let fraction = text.split_once('.').map_or("", |(_, digits)| digits);
    if fraction.trim_end_matches('0').len() > 6 { None } else { Money::parse(text) }
}
