//! The book that readers see, and its replacement.

use super::book::{BookError, PriceBook};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// A book that is replaced as a whole. Readers hold a lock only to clone a reference; books are made outside of it.
#[derive(Debug, Default)]
pub(super) struct SharedBook {
    book: RwLock<Arc<PriceBook>>,
    replacing: Mutex<()>,
}

impl SharedBook {
    /// The book in force.
    pub(super) fn load(&self) -> Arc<PriceBook> {
        self.book.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts what `next` makes of the book in its place; on an error the book stays.
    pub(super) fn replace(
        &self,
        next: impl FnOnce(&PriceBook) -> Result<PriceBook, BookError>,
    ) -> Result<Arc<PriceBook>, BookError> {
        let _one_at_a_time = self.replacing.lock().unwrap_or_else(PoisonError::into_inner);
        let book = Arc::new(next(&self.load())?);
        *self.book.write().unwrap_or_else(PoisonError::into_inner) = book.clone();
        Ok(book)
    }
}
