//! What a write changes of the reconciliation, over what is stored.

use super::counts::HourCounts;
use super::marks::{self, BYTES, Mark, Marks};
use super::{Billed, Waiting};
use crate::error::{StoreError, database};
use crate::keys::{self, CF_WORK};
use crate::schema::{Db, column};
use bincode::BorrowDecode;
use cdr_core::{Hour, Uuid, codec};
use rocksdb::{Direction, IteratorMode, WriteBatch};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// A value that was read, and what it is now.
type Changed<T> = (Option<T>, Option<T>);

/// Values that a write has read or changed.
#[derive(Default)]
pub(crate) struct Staged {
    counts: BTreeMap<(Hour, u16), HourCounts>,
    marks: BTreeMap<u64, Marks>,
    billed: BTreeMap<u64, Billed>,
    waiting: BTreeMap<Uuid, Changed<Waiting>>,
}

impl Staged {
    /// The counts of an operator's hour, to be changed.
    pub(super) fn counts(
        &mut self,
        db: &Db,
        hour: Hour,
        operator: u16,
    ) -> Result<&mut HourCounts, StoreError> {
        Ok(match self.counts.entry((hour, operator)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                place.insert(read(db, &keys::reconciled(hour, operator))?.unwrap_or_default())
            }
        })
    }

    pub(super) fn mark(&mut self, db: &Db, ordinal: u64) -> Result<Mark, StoreError> {
        Ok(self.page(db, ordinal)?.get(ordinal))
    }

    pub(super) fn set_mark(&mut self, db: &Db, ordinal: u64, mark: Mark) -> Result<(), StoreError> {
        self.page(db, ordinal)?.set(ordinal, mark);
        Ok(())
    }

    fn page(&mut self, db: &Db, ordinal: u64) -> Result<&mut Marks, StoreError> {
        let page = marks::page_of(ordinal);
        Ok(match self.marks.entry(page) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(read_marks(db, page)?),
        })
    }

    /// The charge that is kept for a row.
    pub(super) fn billed(&self, db: &Db, ordinal: u64) -> Result<Option<Billed>, StoreError> {
        match self.billed.get(&ordinal) {
            Some(billed) => Ok(Some(*billed)),
            None => read(db, &keys::billed_amount(ordinal)),
        }
    }

    /// Keeps a charge for a row.
    pub(super) fn keep(&mut self, db: &Db, ordinal: u64, billed: Billed) -> Result<(), StoreError> {
        self.billed.insert(ordinal, billed);
        self.set_mark(db, ordinal, Mark::Kept)
    }

    pub(super) fn waiting(&mut self, db: &Db, message: Uuid) -> Result<Option<Waiting>, StoreError> {
        Ok(self.changed(db, message)?.1)
    }

    pub(super) fn set_waiting(
        &mut self,
        db: &Db,
        message: Uuid,
        event: Option<Waiting>,
    ) -> Result<(), StoreError> {
        self.changed(db, message)?.1 = event;
        Ok(())
    }

    fn changed(&mut self, db: &Db, message: Uuid) -> Result<&mut Changed<Waiting>, StoreError> {
        Ok(match self.waiting.entry(message) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => {
                let stored = read(db, &keys::unmatched(message))?;
                place.insert((stored, stored))
            }
        })
    }

    /// The messages of the oldest events that wait, of hours before `before`: what is stored and what this write has
    /// changed, so that it does not matter how entries are gathered into writes.
    pub(super) fn oldest_waiting(
        &self,
        db: &Db,
        before: Hour,
        limit: usize,
    ) -> Result<Vec<Uuid>, StoreError> {
        let mut found = Vec::new();
        for place in waiting_from(db, None)? {
            let (hour, message) = place?;
            if hour >= before || found.len() == limit {
                break;
            }
            if !self.waiting.contains_key(&message) {
                found.push((hour, message));
            }
        }
        let changed = self.waiting.iter().filter_map(|(id, (_, now))| Some((now.as_ref()?.at.hour(), *id)));
        found.extend(changed.filter(|(hour, _)| *hour < before));
        found.sort_unstable();
        found.truncate(limit);
        Ok(found.into_iter().map(|(_, message)| message).collect())
    }

    /// Puts everything into the batch.
    pub fn write(&self, db: &Db, batch: &mut WriteBatch) -> Result<(), StoreError> {
        let work = column(db, CF_WORK)?;
        for ((hour, operator), counts) in &self.counts {
            batch.put_cf(work, keys::reconciled(*hour, *operator), codec::encode("reconciliation", counts)?);
        }
        for (page, marks) in &self.marks {
            batch.put_cf(work, keys::billed_page(*page), marks.0);
        }
        for (ordinal, billed) in &self.billed {
            batch.put_cf(work, keys::billed_amount(*ordinal), codec::encode("billed charge", billed)?);
        }
        for (message, (stored, now)) in self.waiting.iter().filter(|(_, (stored, now))| stored != now) {
            if let Some(stored) = stored {
                batch.delete_cf(work, keys::unmatched_at(stored.at.hour(), *message));
            }
            match now {
                Some(now) => {
                    batch.put_cf(work, keys::unmatched(*message), codec::encode("billing event", now)?);
                    batch.put_cf(work, keys::unmatched_at(now.at.hour(), *message), []);
                }
                None => batch.delete_cf(work, keys::unmatched(*message)),
            }
        }
        Ok(())
    }
}

/// The marks of a page; none of a page that is not stored.
fn read_marks(db: &Db, page: u64) -> Result<Marks, StoreError> {
    let stored = db
        .get_pinned_cf(column(db, CF_WORK)?, keys::billed_page(page))
        .map_err(database("reading billing's charges"))?;
    let bytes = stored.map_or(Ok([0; BYTES]), |bytes| bytes.as_ref().try_into());
    bytes.map(Marks).map_err(|_| StoreError::Damaged {
        what: format!("page {page} of billing's charges"),
        why: format!("it does not have {BYTES} bytes"),
    })
}

fn read<T: for<'a> BorrowDecode<'a, ()>>(db: &Db, key: &[u8]) -> Result<Option<T>, StoreError> {
    let value =
        db.get_pinned_cf(column(db, CF_WORK)?, key).map_err(database("reading the reconciliation"))?;
    Ok(value.map(|bytes| codec::decode("reconciliation", &bytes)).transpose()?)
}

/// Stored events that wait, by hour, from `from` on, each read as it is asked for.
pub(super) fn waiting_from(
    db: &Db,
    from: Option<(Hour, Uuid)>,
) -> Result<impl Iterator<Item = Result<(Hour, Uuid), StoreError>> + '_, StoreError> {
    let (hour, message) = from.unwrap_or_default();
    let start = keys::unmatched_at(hour, message);
    let items = db.iterator_cf(column(db, CF_WORK)?, IteratorMode::From(&start, Direction::Forward));
    Ok(items.map_while(|item| match item {
        Ok((key, _)) => keys::parse_unmatched_at(&key).map(Ok),
        Err(error) => Some(Err(database("reading billing events without a CDR")(error))),
    }))
}
