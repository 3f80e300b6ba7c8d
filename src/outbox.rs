//! Events read out of the store's outbox, in order, from any place: what the relay publishes and the live feed shows.

use crate::events::derive::{
    Derivation, DeriveError, Entry, HeldRow, SealedHour, Sink, SourceError, Sources,
};
use crate::events::{EventId, EventIds, NumberHash};
use crate::jobs;
use cdr_core::command::OutboxPlace;
use cdr_core::export::Export;
use cdr_core::export::quarantine::Quarantined;
use cdr_core::job::Job;
use cdr_core::{CdrId, Hour, Row};
use cdr_storage::{OutboxEntry, Store, StoreError, StoredRow};
use std::ops::ControlFlow;
use std::time::Duration;

/// Entries that are read at once.
const ENTRIES_AT_ONCE: usize = 64;
/// Rows that are held in memory at once.
const ROWS_AT_ONCE: u64 = 512;

/// Reads the events of one store. Clones share it.
#[derive(Clone)]
pub struct Outbox {
    store: Store,
    ids: EventIds,
    numbers: NumberHash,
}

/// Events can't be read.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The store can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Events can't be derived from what is stored.
    #[error(transparent)]
    Derive(#[from] DeriveError),
}

/// The place behind an event.
pub fn behind(id: EventId) -> OutboxPlace {
    let (index, ordinal) = id.place();
    OutboxPlace { index, events: ordinal + 1 }
}

impl Outbox {
    /// The events of `store`'s ledger, which name numbers as `numbers` does; none before it has begun, since ids carry its name.
    pub fn new(store: &Store, numbers: &NumberHash) -> Option<Self> {
        let state = store.state();
        let cluster = state.cluster.as_ref()?;
        let ids = EventIds::new(&cluster.cluster_id, cluster.generation);
        Some(Self { store: store.clone(), ids, numbers: numbers.clone() })
    }

    /// The ids of its events.
    pub fn ids(&self) -> &EventIds {
        &self.ids
    }

    /// Passes the events from the place `from` on whose subjects are `wanted` to `sink`, of some entries at most, until
    /// it returns that it wants to stop. Returns the place to go on from: `from` itself if there is nothing new.
    ///
    /// # Errors
    /// [`OutboxError`]; events before the failure were handed out.
    pub fn read(
        &self,
        from: OutboxPlace,
        wanted: &dyn Fn(&'static str) -> bool,
        sink: &mut Sink<'_>,
    ) -> Result<OutboxPlace, OutboxError> {
        let mut place = from;
        for entry in self.store.outbox(from.index, ENTRIES_AT_ONCE)? {
            let skip = if entry.index == from.index { from.events } else { 0 };
            let what = Entry { index: entry.index, at: entry.at, begins: entry.first_ordinal == 0 };
            let mut telling = Derivation::new(self, (&self.ids, &self.numbers), wanted, what, skip);
            if self.tell(&entry, &mut telling, sink)?.is_break() {
                return Ok(OutboxPlace { index: entry.index, events: telling.passed() });
            }
            place = OutboxPlace { index: entry.index + 1, events: 0 };
        }
        Ok(place)
    }

    fn tell(
        &self,
        entry: &OutboxEntry,
        telling: &mut Derivation<'_, Self>,
        sink: &mut Sink<'_>,
    ) -> Result<ControlFlow<()>, OutboxError> {
        for hour in entry.first_closed.0..entry.first_closed.0 + entry.closed_hours {
            if telling.closed(Hour(hour), sink)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        let ordinals = entry.ordinals();
        let mut first = ordinals.start;
        while first < ordinals.end {
            let end = ordinals.end.min(first + ROWS_AT_ONCE);
            let rows = self.store.hashed_rows(first..end)?;
            if rows.len() as u64 != end - first {
                let what = format!("row number {} or one behind it", first + rows.len() as u64);
                return Err(DeriveError::Missing { what, index: entry.index }.into());
            }
            for (stored, hash) in &rows {
                if telling.row(&stored.row()?, hash, sink)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            first = end;
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl HeldRow for StoredRow {
    fn row(&self) -> Result<Row<'_>, SourceError> {
        Ok(StoredRow::row(self)?)
    }
}

impl Sources for Outbox {
    type Held = StoredRow;

    fn seal(&self, hour: Hour) -> Result<Option<SealedHour>, SourceError> {
        let stored = self.store.seal(hour)?;
        Ok(stored.map(|stored| SealedHour { seal: stored.seal, tallies: stored.tallies }))
    }

    fn row(&self, id: CdrId) -> Result<Option<StoredRow>, SourceError> {
        Ok(self.store.row_by_id(id)?)
    }

    fn ended_job(&self, id: CdrId) -> Result<Option<Job>, SourceError> {
        // Its rows end with the one that is being reported, so that there is an end to reading them.
        Ok(jobs::find(&self.store, id, Duration::MAX)?)
    }

    fn export(&self, id: CdrId) -> Result<Option<Export>, SourceError> {
        Ok(self.store.export(id)?)
    }

    fn quarantined(&self, id: CdrId) -> Result<Option<Quarantined>, SourceError> {
        Ok(self.store.quarantined(id)?)
    }

    fn first_hour(&self) -> Hour {
        self.store.state().head.first_hour
    }
}
