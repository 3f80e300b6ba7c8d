//! What every log entry caused, so that events can be derived from it: rows by their ordinals, and hours that it
//! closed. The rows themselves are not stored a second time.
//!
//! Entries are kept for a week after they are published, so that a live feed can be taken up again.

use crate::error::{StoreError, database};
use crate::keys::{self, CF_WORK, TAG_OUTBOX, TAG_UNPRICED};
use crate::leaves::LeafCursor;
use crate::page::StoredRow;
use crate::rows::RowReader;
use crate::schema::{Db, column};
use crate::store::Store;
use bincode::{Decode, Encode};
use cdr_core::command::OutboxPlace;
use cdr_core::{Hash, Hour, Millis, Transition, codec};
use rocksdb::{Direction, IteratorMode, WriteBatch};
use std::ops::Range;

/// How long published entries are kept, in hours.
pub const KEPT_HOURS: u32 = 7 * 24;
/// Rows without a price that are counted; more only cost time.
pub const UNPRICED_COUNTED: usize = 10_000;
/// Entries that are read in one go when old ones are dropped.
const DROPPED_AT_ONCE: usize = 4_096;

/// What one log entry made happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct OutboxEntry {
    /// Index in the Raft log.
    pub index: u64,
    /// First hour that it closed.
    pub first_closed: Hour,
    /// How many hours it closed, one after the other, before its rows.
    pub closed_hours: u32,
    /// Number of its first row over all hours.
    pub first_ordinal: u64,
    /// Rows that it appended.
    pub rows: u32,
    /// Time of the entry.
    pub at: Millis,
}

impl OutboxEntry {
    /// What follows from the entry `index`; none if it causes no event.
    pub(crate) fn of(index: u64, transition: &Transition<'_>) -> Option<Self> {
        let closed = transition.closed.first().map(|closed| closed.seal.bucket_hour);
        if closed.is_none() && transition.rows.is_empty() {
            return None;
        }
        let head = &transition.state.head;
        Some(Self {
            index,
            first_closed: closed.unwrap_or(head.open_hour),
            closed_hours: transition.closed.len() as u32,
            first_ordinal: transition.rows.first().map_or(head.row_count, |row| row.ordinal),
            rows: transition.rows.len() as u32,
            at: head.last_recorded_at,
        })
    }

    /// Ordinals of its rows.
    pub fn ordinals(&self) -> Range<u64> {
        self.first_ordinal..self.first_ordinal + u64::from(self.rows)
    }
}

pub(crate) fn put(db: &Db, entry: &OutboxEntry, batch: &mut WriteBatch) -> Result<(), StoreError> {
    batch.put_cf(column(db, CF_WORK)?, keys::outbox(entry.index), codec::encode("outbox entry", entry)?);
    Ok(())
}

/// Drops entries before `published` that are older than [`KEPT_HOURS`], some at a time.
pub(crate) fn drop_old(
    db: &Db,
    published: OutboxPlace,
    open_hour: Hour,
    batch: &mut WriteBatch,
) -> Result<(), StoreError> {
    let work = column(db, CF_WORK)?;
    let mut end = None;
    for entry in entries(db, 0)?.take(DROPPED_AT_ONCE) {
        let entry = entry?;
        if entry.index >= published.index || entry.at.hour().0.saturating_add(KEPT_HOURS) >= open_hour.0 {
            break;
        }
        end = Some(entry.index + 1);
    }
    if let Some(end) = end {
        batch.delete_range_cf(work, keys::outbox(0), keys::outbox(end));
    }
    Ok(())
}

/// The entries from `from_index` on, each read as it is asked for.
fn entries(
    db: &Db,
    from_index: u64,
) -> Result<impl Iterator<Item = Result<OutboxEntry, StoreError>> + '_, StoreError> {
    let mode = IteratorMode::From(&keys::outbox(from_index), Direction::Forward);
    let items = db.iterator_cf(column(db, CF_WORK)?, mode);
    Ok(items.map_while(|item| match item {
        Ok((key, value)) => {
            keys::parse_numbered(TAG_OUTBOX, &key)?;
            Some(codec::decode("outbox entry", &value).map_err(StoreError::from))
        }
        Err(error) => Some(Err(database("reading the outbox")(error))),
    }))
}

impl Store {
    /// What the log entries from `from_index` on made happen, at most `limit` of them, in order.
    ///
    /// # Errors
    /// If the outbox can't be read.
    pub fn outbox(&self, from_index: u64, limit: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        entries(&self.generation().db, from_index)?.take(limit).collect()
    }

    /// The committed rows with these numbers, ascending.
    ///
    /// # Errors
    /// If a row can't be read.
    pub fn rows(&self, ordinals: Range<u64>) -> Result<Vec<StoredRow>, StoreError> {
        let generation = self.generation();
        let committed = generation.committed();
        let mut reader = RowReader::new(&generation.db, &committed)?;
        ordinals.map_while(|ordinal| reader.by_ordinal(ordinal).transpose()).collect()
    }

    /// As [`Store::rows`], each with its stored hash.
    ///
    /// # Errors
    /// If a row or its hash can't be read.
    pub fn hashed_rows(&self, ordinals: Range<u64>) -> Result<Vec<(StoredRow, Hash)>, StoreError> {
        let generation = self.generation();
        let committed = generation.committed();
        let mut reader = RowReader::new(&generation.db, &committed)?;
        // Rows of one entry are of one hour and few operators, whose hashes lie one behind the other.
        let mut cursors: Vec<((Hour, u16), LeafCursor<'_>)> = Vec::new();
        let mut rows = Vec::with_capacity((ordinals.end - ordinals.start).min(4_096) as usize);
        for ordinal in ordinals {
            let Some(row) = reader.by_ordinal(ordinal)? else { break };
            let place = (row.hour(), row.operator());
            let known = cursors.iter().position(|(known, _)| *known == place);
            let at = known.unwrap_or(cursors.len());
            if known.is_none() {
                cursors.push((place, LeafCursor::new(&generation.db, place.0, place.1)?));
            }
            let hash = cursors[at].1.hash(row.leaf_index())?;
            rows.push((row, hash));
        }
        Ok(rows)
    }

    /// The oldest entry that has events which are not published yet, as far as the state shows.
    ///
    /// # Errors
    /// If the outbox can't be read.
    pub fn oldest_unpublished(&self) -> Result<Option<OutboxEntry>, StoreError> {
        let generation = self.generation();
        let published = generation.committed().state.head.published;
        entries(&generation.db, published.index)?.next().transpose()
    }

    /// Rows that wait for a price, from ordinal `from` on: at most `limit`, ascending, with the time at which each
    /// was recorded.
    ///
    /// # Errors
    /// If the list can't be read.
    pub fn unpriced(&self, from: u64, limit: usize) -> Result<Vec<(u64, Millis)>, StoreError> {
        let generation = self.generation();
        let start = keys::unpriced(from);
        let items = generation
            .db
            .iterator_cf(column(&generation.db, CF_WORK)?, IteratorMode::From(&start, Direction::Forward));
        let mut waiting = Vec::new();
        for item in items.take(limit) {
            let (key, value) = item.map_err(database("reading the rows without a price"))?;
            let Some(ordinal) = keys::parse_numbered(TAG_UNPRICED, &key) else { break };
            let at = value.as_ref().try_into().map(i64::from_be_bytes).map_err(|_| StoreError::Damaged {
                what: format!("the time of unpriced row {ordinal}"),
                why: "it does not have eight bytes".to_owned(),
            })?;
            waiting.push((ordinal, Millis(at)));
        }
        Ok(waiting)
    }
}
