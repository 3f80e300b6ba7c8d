//! Reading rows by place and by ordinal.

use crate::error::{StoreError, database};
use crate::hours::Committed;
use crate::keys::{self, CF_ROWS};
use crate::page::{StoredPage, StoredRow, page_name};
use crate::schema::{Db, column};
use cdr_core::Hour;
use rocksdb::{DBRawIterator, ReadOptions};
use std::sync::Arc;

/// Reads rows of one view of the store, keeping the last page: best used in ascending or descending order.
pub(crate) struct RowReader<'a> {
    committed: &'a Committed,
    iterator: DBRawIterator<'a>,
    page: Option<Arc<StoredPage>>,
}

impl<'a> RowReader<'a> {
    pub fn new(db: &'a Db, committed: &'a Committed) -> Result<Self, StoreError> {
        let iterator = db.raw_iterator_cf_opt(column(db, CF_ROWS)?, ReadOptions::default());
        Ok(Self { committed, iterator, page: None })
    }

    /// The row with this number, if it is committed.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it should be there and can't be read.
    pub fn by_ordinal(&mut self, ordinal: u64) -> Result<Option<StoredRow>, StoreError> {
        let Some(place) = self.committed.place_of(ordinal) else { return Ok(None) };
        let row = self.by_committed_place(place)?;
        if row.ordinal() == ordinal {
            return Ok(Some(row));
        }
        let why = format!("it claims to hold row number {}, not {ordinal}", row.ordinal());
        Err(StoreError::Damaged { what: page_name(place), why })
    }

    /// The row at this place, if it is committed.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it should be there and can't be read.
    pub fn by_place(&mut self, hour: Hour, sequence: u64) -> Result<Option<StoredRow>, StoreError> {
        let rows = self.committed.span(hour).map_or(0, |span| span.rows);
        if sequence == 0 || sequence > rows {
            return Ok(None);
        }
        self.by_committed_place((hour, sequence)).map(Some)
    }

    fn by_committed_place(&mut self, place: (Hour, u64)) -> Result<StoredRow, StoreError> {
        if let Some(row) = self.in_page(place) {
            return row;
        }
        self.page = None;
        self.iterator.seek_for_prev(keys::page(place.0, place.1));
        self.iterator.status().map_err(database("reading a row page"))?;
        let found = self.iterator.key().and_then(keys::parse_page).zip(self.iterator.value());
        if let Some((page_place, value)) = found {
            self.page = Some(StoredPage::new(page_place, value)?);
        }
        self.in_page(place).unwrap_or_else(|| {
            Err(StoreError::Damaged { what: page_name(place), why: "the page is missing".to_owned() })
        })
    }

    fn in_page(&self, (hour, sequence): (Hour, u64)) -> Option<Result<StoredRow, StoreError>> {
        let page = self.page.as_ref().filter(|page| page.header.hour == hour)?;
        let position = sequence.checked_sub(page.header.first_sequence)?;
        (position < page.header.count as u64).then(|| page.row(position as usize))
    }
}
