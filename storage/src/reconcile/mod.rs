//! CDRs against billing, per hour and operator: counted as rows and billing events come, so that a report reads a few
//! small values and no row (`GET /v1/cdr/reconciliation`).
//!
//! The side of the CDRs is the charge of the row in effect; it counts in the hour and at the operator of the original.
//! The side of billing is one event for each message. Its charge is kept in two bits for each row: most charges are
//! equal, and only the others are kept as amounts. An event whose message has no CDR within the duplicate horizon waits
//! in a list of its own, and counts as missing among the CDRs in the hour and at the operator that it names, until it is
//! found to have one. What waits for too long is forgotten and stays counted.
//!
//! Of several events of a message the one with the latest `occurredAt` counts; one that repeats the charge changes
//! nothing. All this is derived from log entries alike on every replica, but it is neither hashed nor in the chain:
//! after a restore from the archive the side of billing is read from billing's stream again.

mod counts;
mod marks;
mod staged;

pub(crate) use counts::Charge;
pub use counts::{HourCounts, Sums};
pub(crate) use staged::Staged;

use crate::commit::Reading;
use crate::error::StoreError;
use crate::following::{Rows, StagedRow};
use crate::keys::{self, CF_WORK};
use crate::schema::{Db, column};
use crate::store::Store;
use bincode::{Decode, Encode};
use cdr_core::command::Bill;
use cdr_core::{Hour, Millis, NewRow, Uuid};
use marks::Mark;
use rocksdb::{Direction, IteratorMode};

/// Waiting events that are forgotten by one command, at most.
const FORGOTTEN_AT_ONCE: usize = 1_000;

/// A charge that billing named, where it is kept as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
struct Billed {
    charge: Charge,
    /// When it occurred; not known of a charge that was equal when it came.
    at: Option<Millis>,
}

/// An event without a CDR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
struct Waiting {
    operator: u16,
    charge: Charge,
    at: Millis,
}

/// Takes rows and billing events in, on top of what is stored and of what the same write changed before.
pub(crate) struct Reconciling<'a, 'r> {
    pub staged: &'a mut Staged,
    pub db: &'a Db,
    pub rows: &'a mut Rows<'r>,
}

impl Reconciling<'_, '_> {
    /// Takes an adjustment in: the charge of its record may be another now.
    pub fn adjusted(&mut self, row: &NewRow<'_>, before: u64) -> Result<(), StoreError> {
        let charge = row.row.sms().and_then(Charge::of);
        let was = self.rows.present(before)?.charge;
        if was == charge {
            return Ok(());
        }
        let (ordinal, original) = self.rows.origin(before)?;
        let mark = self.staged.mark(self.db, ordinal)?;
        let billed = match mark {
            Mark::None => None,
            // What was equal is what the record had before.
            Mark::Equal => was.map(|charge| Billed { charge, at: None }),
            Mark::Kept => self.staged.billed(self.db, ordinal)?,
        };
        if let (Mark::Equal, Some(billed)) = (mark, billed) {
            self.staged.keep(self.db, ordinal, billed)?;
        }
        let counts = self.staged.counts(self.db, original.hour, original.operator)?;
        counts.recorded(was, -1);
        counts.recorded(charge, 1);
        if let Some(billed) = billed {
            counts.compared(was == Some(billed.charge), -1);
            counts.compared(charge == Some(billed.charge), 1);
        }
        Ok(())
    }

    /// Takes a billing event in; `from` is the first row of the duplicate horizon, none if the message is in none.
    pub fn billed(&mut self, bill: &Bill<'_>, operator: u16, from: Option<u64>) -> Result<(), StoreError> {
        let charge = Charge::new(bill.amount, bill.currency);
        let event = Waiting { operator, charge, at: bill.occurred_at };
        match self.original(bill.message_id, from)? {
            Some((ordinal, original)) => {
                self.found(bill.message_id, ordinal, &original)?;
                self.accept(ordinal, &original, &event)
            }
            None => self.wait(bill.message_id, event),
        }
    }

    /// Looks whether the message of a waiting event has a CDR by now.
    pub fn look_again(&mut self, message: Uuid, from: Option<u64>) -> Result<(), StoreError> {
        match self.original(message, from)? {
            Some((ordinal, original)) => self.found(message, ordinal, &original),
            None => Ok(()),
        }
    }

    fn original(&mut self, message: Uuid, from: Option<u64>) -> Result<Option<(u64, StagedRow)>, StoreError> {
        from.map_or(Ok(None), |from| self.rows.original(message, from))
    }

    /// The message has a CDR: if an event waited for it, it no longer waits.
    fn found(&mut self, message: Uuid, ordinal: u64, original: &StagedRow) -> Result<(), StoreError> {
        let Some(event) = self.staged.waiting(self.db, message)? else { return Ok(()) };
        self.staged.set_waiting(self.db, message, None)?;
        self.count_waiting(&event, -1)?;
        self.accept(ordinal, original, &event)
    }

    fn accept(&mut self, ordinal: u64, original: &StagedRow, event: &Waiting) -> Result<(), StoreError> {
        let effective = self.rows.effective(ordinal, original)?.charge;
        let kept = Billed { charge: event.charge, at: Some(event.at) };
        let before = match self.staged.mark(self.db, ordinal)? {
            Mark::None => None,
            Mark::Equal => effective.map(|charge| Billed { charge, at: None }),
            Mark::Kept => self.staged.billed(self.db, ordinal)?,
        };
        let is_old =
            |before: Billed| before.charge == event.charge || before.at.is_some_and(|at| event.at < at);
        if before.is_some_and(is_old) {
            return Ok(());
        }
        if before.is_none() && effective == Some(event.charge) {
            self.staged.set_mark(self.db, ordinal, Mark::Equal)?;
        } else {
            self.staged.keep(self.db, ordinal, kept)?;
        }
        let counts = self.staged.counts(self.db, original.hour, original.operator)?;
        if let Some(before) = before {
            counts.compared(effective == Some(before.charge), -1);
            counts.billed(before.charge, -1);
        }
        counts.compared(effective == Some(event.charge), 1);
        counts.billed(event.charge, 1);
        Ok(())
    }

    fn wait(&mut self, message: Uuid, event: Waiting) -> Result<(), StoreError> {
        if let Some(before) = self.staged.waiting(self.db, message)? {
            if before.charge == event.charge || event.at < before.at {
                return Ok(());
            }
            self.count_waiting(&before, -1)?;
        }
        self.staged.set_waiting(self.db, message, Some(event))?;
        self.count_waiting(&event, 1)
    }

    fn count_waiting(&mut self, event: &Waiting, by: i64) -> Result<(), StoreError> {
        let counts = self.staged.counts(self.db, event.at.hour(), event.operator)?;
        counts.missing_in_cdr = counts.missing_in_cdr.saturating_add_signed(by);
        counts.billed(event.charge, by);
        Ok(())
    }

    /// Forgets events of hours before `before` that still wait, some at a time. They stay counted.
    pub fn forget(&mut self, before: Hour) -> Result<(), StoreError> {
        for message in self.staged.oldest_waiting(self.db, before, FORGOTTEN_AT_ONCE)? {
            self.staged.set_waiting(self.db, message, None)?;
        }
        Ok(())
    }
}

/// Applies the rows of a transition. Rows that adjust others are looked up; originals only count.
pub(crate) fn take_rows(
    staged: &mut Staged,
    reading: &Reading<'_>,
    new: &[NewRow<'_>],
) -> Result<(), StoreError> {
    let mut rows: Option<Rows<'_>> = None;
    for row in new {
        let Some(sms) = row.row.sms() else { continue };
        let Some(before) = row.supersedes else {
            let counts = staged.counts(reading.db, row.row.frame.bucket_hour, row.operator)?;
            counts.originals += 1;
            counts.recorded(Charge::of(sms), 1);
            continue;
        };
        let rows = match &mut rows {
            Some(rows) => rows,
            none => none.insert(reading.rows()?),
        };
        Reconciling { staged, db: reading.db, rows }.adjusted(row, before.ordinal)?;
    }
    Ok(())
}

impl Store {
    /// Counts per hour and operator (by its number in the registry), ascending, from behind the place `after`, of the
    /// hours `from` to `upto` and of one operator or all: at most `limit`.
    ///
    /// # Errors
    /// If a value can't be read.
    pub fn reconciliation(
        &self,
        (from, upto): (Hour, Hour),
        operator: Option<u16>,
        after: Option<(Hour, u16)>,
        limit: usize,
    ) -> Result<Vec<(Hour, u16, HourCounts)>, StoreError> {
        let generation = self.generation();
        let first = keys::reconciled(from, 0);
        let start = after.map_or(first, |(hour, operator)| first.max(keys::reconciled(hour, operator)));
        let work = column(&generation.db, CF_WORK)?;
        let mut found = Vec::new();
        for item in generation.db.iterator_cf(work, IteratorMode::From(&start, Direction::Forward)) {
            let (key, value) = item.map_err(crate::error::database("reading the reconciliation"))?;
            let Some((hour, number)) = keys::parse_reconciled(&key).filter(|(hour, _)| *hour <= upto) else {
                break;
            };
            if after.is_some_and(|after| (hour, number) <= after) || operator.is_some_and(|one| one != number)
            {
                continue;
            }
            found.push((hour, number, cdr_core::codec::decode("reconciliation", &value)?));
            if found.len() == limit {
                break;
            }
        }
        Ok(found)
    }

    /// Messages of billing events that wait for a CDR, by the hour in which they occurred: at most `limit`, from behind
    /// `after`.
    ///
    /// # Errors
    /// If the list can't be read.
    pub fn unmatched_bills(
        &self,
        after: Option<(Hour, Uuid)>,
        limit: usize,
    ) -> Result<Vec<(Hour, Uuid)>, StoreError> {
        let generation = self.generation();
        let found = staged::waiting_from(&generation.db, after)?;
        found.filter(|place| place.as_ref().map_or(true, |place| Some(*place) != after)).take(limit).collect()
    }
}
