//! What a message costs, and which recording entity an operator has (US-CDR-001; a price is taken when the CDR is
//! made).
//!
//! Pricing reads the current [`PriceBook`] and never waits: what has no price now is recorded
//! without one and corrected later. Where the book comes from, the configuration says: its own tables, or the billing
//! service over gRPC, which is polled in the background. The rule that prices, and the proof of a price, are
//! [`cdr_core::tariff`].

mod book;
mod entities;
mod error;
mod grpc;
mod index;
mod recorded;
mod shared;
mod source;

#[cfg(test)]
mod tests;

pub use book::{BookError, Price, PriceBook, Quote};
pub use cdr_core::tariff::PriceQuery;
pub use entities::{ConfiguredEntities, Entities, EntitySource};
pub use error::PricingError;
pub use grpc::{
    BreakerSettings, BreakerState, CallSettings, GrpcEntities, GrpcPricing, GrpcSettings, ServiceStatus,
    TlsFiles,
};
pub use recorded::{RecordedPricing, setting_of};
pub use source::Sources;

use cdr_core::tariff::TariffTable;
use futures::future::BoxFuture;
use std::sync::Arc;

/// Source of prices. Looking a price up never waits, neither for a network nor for a lock that another thread holds
/// while waiting.
pub trait Pricing: Send + Sync + 'static {
    /// The current price lists. A book never changes; a newer one replaces it.
    fn book(&self) -> Arc<PriceBook>;

    /// The price of an event by the version that is valid at it, or `None` if there is none yet.
    fn price(&self, query: &PriceQuery<'_>) -> Option<Price> {
        self.book().price(query)
    }

    /// The price by a named version, whether or not it holds at the event; for re-rating.
    fn price_in(&self, version: &str, query: &PriceQuery<'_>) -> Option<Price> {
        self.book().price_in(version, query)
    }

    /// Polls the source now, and returns once the book is as new as the source.
    fn refresh_now(&self) -> BoxFuture<'_, Result<(), PricingError>>;

    /// The table of a version, in force or not, asking the source where the book lacks it; it is in the book
    /// afterwards. `None` if the source knows no such version.
    fn fetch_table<'a>(
        &'a self,
        version: &'a str,
    ) -> BoxFuture<'a, Result<Option<Arc<TariffTable>>, PricingError>>;
}

/// Prices from a book that never changes: the tables of the configuration.
#[derive(Clone, Debug, Default)]
pub struct TablePricing {
    book: Arc<PriceBook>,
}

impl TablePricing {
    /// From tables in any order.
    ///
    /// # Errors
    /// [`BookError`] if a table can't be used.
    pub fn new(tables: Vec<TariffTable>) -> Result<Self, BookError> {
        Ok(Self { book: Arc::new(PriceBook::new(tables)?) })
    }
}

impl Pricing for TablePricing {
    fn book(&self) -> Arc<PriceBook> {
        self.book.clone()
    }

    fn refresh_now(&self) -> BoxFuture<'_, Result<(), PricingError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn fetch_table<'a>(
        &'a self,
        version: &'a str,
    ) -> BoxFuture<'a, Result<Option<Arc<TariffTable>>, PricingError>> {
        Box::pin(std::future::ready(Ok(self.book.table(version).cloned())))
    }
}
