//! An immutable set of price lists, and the prices that it gives.

use super::index::LineIndex;
use cdr_core::Money;
use cdr_core::hash::to_hex;
use cdr_core::row::BillingIndicator;
use cdr_core::tariff::{PriceQuery, Priced, TableError, Tariff, TariffTable};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Most tables that are kept for those who name them, besides those in force.
const MAX_NAMED: usize = 64;

/// Why tables are not a book.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BookError {
    /// A table can't be used.
    #[error(transparent)]
    Table(#[from] TableError),
    /// A version occurs twice.
    #[error("tariff table {version} occurs twice")]
    Duplicate {
        /// The version.
        version: String,
    },
    /// A table has no text that identifies it.
    #[error("tariff table {version} can't be written: {why}")]
    Content {
        /// The version.
        version: String,
        /// Why.
        why: String,
    },
    /// A version is known with another content: rows that it priced could no longer be recomputed.
    #[error("tariff table {version} has changed under the same name: a new price needs a new version")]
    Changed {
        /// The version.
        version: String,
    },
}

/// A table that can be shared, with the index of its lines.
#[derive(Clone, Debug)]
struct Entry {
    table: Arc<TariffTable>,
    index: Arc<LineIndex>,
    /// SHA-256 of the table's content, in hexadecimal.
    hash: Arc<str>,
    /// True if it may price nothing.
    is_refused: bool,
}

/// The price lists at one moment. Of the versions that hold at an event, the one that began last decides; of those
/// that began together, the one whose name is greatest.
#[derive(Clone, Debug, Default)]
pub struct PriceBook {
    /// Tables in force, the one that began last first.
    in_force: Vec<Entry>,
    /// Tables that price only what names them, the newest last.
    named: Vec<Entry>,
}

/// A price as it is in a book.
#[derive(Clone, Copy, Debug)]
pub struct Quote<'b> {
    /// The price list that gave it.
    pub table: &'b Arc<TariffTable>,
    /// The line that decided, and the charge.
    pub priced: Priced<'b>,
}

/// A price and where it comes from. It holds its table, so that it outlives the book.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    table: Arc<TariffTable>,
    line: usize,
    amount: Money,
}

impl Entry {
    fn new(table: TariffTable) -> Result<Self, BookError> {
        table.check()?;
        let index = Arc::new(LineIndex::new(&table));
        let hash =
            table.content_hash().map_err(|why| BookError::Content { version: table.version.clone(), why })?;
        Ok(Self { table: Arc::new(table), index, hash: to_hex(&hash).into(), is_refused: false })
    }

    fn quote(&self, query: &PriceQuery<'_>) -> Option<Quote<'_>> {
        if self.is_refused {
            return None;
        }
        let line = self.index.first_fit(&self.table, query)?;
        Some(Quote { table: &self.table, priced: self.table.price_by(line, query)? })
    }
}

impl PriceBook {
    /// From the tables in force, in any order.
    ///
    /// # Errors
    /// [`BookError`] if a table can't be used or a version occurs twice.
    pub fn new(tables: Vec<TariffTable>) -> Result<Self, BookError> {
        let mut versions = BTreeSet::new();
        if let Some(twice) = tables.iter().find(|table| !versions.insert(table.version.as_str())) {
            return Err(BookError::Duplicate { version: twice.version.clone() });
        }
        let mut in_force = tables.into_iter().map(Entry::new).collect::<Result<Vec<_>, _>>()?;
        in_force.sort_by(|a, b| order(&a.table).cmp(&order(&b.table)));
        Ok(Self { in_force, named: Vec::new() })
    }

    /// The book with `tables` in force. What was in force and no longer is stays known by its name.
    ///
    /// # Errors
    /// [`BookError`], also if a known version has another content now.
    pub fn with_in_force(&self, tables: Vec<TariffTable>) -> Result<Self, BookError> {
        let mut next = Self::new(tables)?;
        for entry in &next.in_force {
            self.refuse_change(&entry.table)?;
        }
        let retired = self.named.iter().chain(&self.in_force);
        let retired = retired.filter(|old| next.table(&old.table.version).is_none()).cloned();
        next.named = retired.collect();
        next.forget_oldest();
        Ok(next)
    }

    /// The book with a table that prices only what names it.
    ///
    /// # Errors
    /// [`BookError`], also if the version is known with another content.
    pub fn with_named(&self, table: TariffTable) -> Result<Self, BookError> {
        self.refuse_change(&table)?;
        let mut next = self.clone();
        if self.table(&table.version).is_none() {
            next.named.push(Entry::new(table)?);
            next.forget_oldest();
        }
        Ok(next)
    }

    /// The book in which tables that `is_refused` selects, by version and hash of the content, price nothing; none if
    /// there are none. Events at which one of them is valid have no price, not another's.
    pub fn refusing(&self, is_refused: impl Fn(&str, &str) -> bool) -> Option<Self> {
        let differs = |entry: &&Entry| is_refused(&entry.table.version, &entry.hash);
        self.in_force.iter().chain(&self.named).find(differs)?;
        let mut next = self.clone();
        for entry in next.in_force.iter_mut().chain(&mut next.named) {
            entry.is_refused = is_refused(&entry.table.version, &entry.hash);
        }
        Some(next)
    }

    /// Versions that price nothing.
    pub fn refused(&self) -> impl Iterator<Item = &str> {
        let all = self.in_force.iter().chain(&self.named);
        all.filter(|entry| entry.is_refused).map(|entry| entry.table.version.as_str())
    }

    fn refuse_change(&self, table: &TariffTable) -> Result<(), BookError> {
        match self.table(&table.version) {
            Some(known) if **known != *table => Err(BookError::Changed { version: table.version.clone() }),
            _ => Ok(()),
        }
    }

    fn forget_oldest(&mut self) {
        self.named.drain(..self.named.len().saturating_sub(MAX_NAMED));
    }

    /// The price of an event by the version that is valid at it, borrowed: for pricing many events with one book.
    pub fn quote(&self, query: &PriceQuery<'_>) -> Option<Quote<'_>> {
        self.in_force.iter().find(|entry| entry.table.holds_at(query.event_at))?.quote(query)
    }

    /// The price of an event by the version that holds at it.
    pub fn price(&self, query: &PriceQuery<'_>) -> Option<Price> {
        self.quote(query).map(Price::from)
    }

    /// The price by a named version, whether or not it holds at the event.
    pub fn price_in(&self, version: &str, query: &PriceQuery<'_>) -> Option<Price> {
        self.entry(version)?.quote(query).map(Price::from)
    }

    /// The tables in force, the one that began last first.
    pub fn tables(&self) -> impl ExactSizeIterator<Item = &Arc<TariffTable>> {
        self.in_force.iter().map(|entry| &entry.table)
    }

    /// The tables in force, and those that price only what names them.
    pub fn every_table(&self) -> impl Iterator<Item = &Arc<TariffTable>> {
        self.in_force.iter().chain(&self.named).map(|entry| &entry.table)
    }

    /// The table of a version, in force or known by its name.
    pub fn table(&self, version: &str) -> Option<&Arc<TariffTable>> {
        self.entry(version).map(|entry| &entry.table)
    }

    fn entry(&self, version: &str) -> Option<&Entry> {
        self.in_force.iter().chain(&self.named).find(|entry| entry.table.version == version)
    }
}

/// Orders tables: the one that began last first, then the greatest name.
fn order(table: &TariffTable) -> impl Ord + '_ {
    (Reverse(table.valid_from), Reverse(table.version.as_str()))
}

impl From<Quote<'_>> for Price {
    fn from(quote: Quote<'_>) -> Self {
        let Priced { line, amount, .. } = quote.priced;
        Self { table: quote.table.clone(), line, amount }
    }
}

impl Price {
    fn tariff(&self) -> &Tariff {
        &self.table.tariffs[self.line]
    }

    /// The charge for all segments.
    pub fn amount(&self) -> Money {
        self.amount
    }

    /// Currency, ISO 4217.
    pub fn currency(&self) -> &str {
        &self.tariff().currency
    }

    /// The regulator's tariff class.
    pub fn tap_tariff_class(&self) -> &str {
        &self.tariff().tap_tariff_class
    }

    /// Who pays.
    pub fn billing_indicator(&self) -> BillingIndicator {
        self.tariff().billing_indicator
    }

    /// Version of the price list that gave it.
    pub fn tariff_version(&self) -> &str {
        &self.table.version
    }

    /// The price list that gave it.
    pub fn table(&self) -> &Arc<TariffTable> {
        &self.table
    }
}
