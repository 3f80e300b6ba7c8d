//! Prices by lists that agree with the ledger.
//!
//! A row names the list that priced it, and the ledger holds each list's content under that name. A list that a source
//! gives with another content under a name that the ledger has would make prices that nobody can recompute: it prices
//! nothing, and no other list does in its place.

use super::{PriceBook, Pricing, PricingError, book::BookError};
use cdr_core::LedgerState;
use cdr_core::tariff::TariffTable;
use cdr_storage::Store;
use futures::future::BoxFuture;
use std::sync::Arc;

/// The setting that holds the hash of a price list's content.
pub fn setting_of(version: &str) -> String {
    format!("pricing.table.{version}")
}

/// A source of prices beside the ledger that it must agree with.
pub struct RecordedPricing {
    source: Arc<dyn Pricing>,
    store: Store,
}

impl RecordedPricing {
    /// The lists of `source`, as far as `store`'s ledger has no others of the same name.
    pub fn new(source: Arc<dyn Pricing>, store: Store) -> Self {
        Self { source, store }
    }
}

/// True if the ledger has a list of that name with another content.
fn differs(state: &LedgerState, version: &str, hash: &str) -> bool {
    state.settings.get(&setting_of(version)).is_some_and(|held| held != hash)
}

impl Pricing for RecordedPricing {
    fn book(&self) -> Arc<PriceBook> {
        let (book, state) = (self.source.book(), self.store.state());
        let is_refused = |version: &str, hash: &str| differs(&state, version, hash);
        match book.refusing(is_refused) {
            Some(book) => Arc::new(book),
            None => book,
        }
    }

    fn refresh_now(&self) -> BoxFuture<'_, Result<(), PricingError>> {
        self.source.refresh_now()
    }

    fn fetch_table<'a>(
        &'a self,
        version: &'a str,
    ) -> BoxFuture<'a, Result<Option<Arc<TariffTable>>, PricingError>> {
        Box::pin(async move {
            let table = self.source.fetch_table(version).await?;
            if self.book().refused().any(|refused| refused == version) {
                return Err(BookError::Changed { version: version.to_owned() }.into());
            }
            Ok(table)
        })
    }
}
