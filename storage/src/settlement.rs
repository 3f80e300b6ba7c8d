//! Which records a settlement file lists, read from rows: the rules are [`cdr_core::export::selection`]'s.
//!
//! A file's rows are looked at once, in the order of the log, from the first hour that can hold something new to it.
//! What was resubmitted from quarantine follows behind them.

use crate::error::StoreError;
use crate::exports::SeriesFile;
use crate::index::{PostingKey, kind};
use crate::leaves::LeafCursor;
use crate::page::StoredRow;
use crate::quarantine::{Episodes, resubmitted};
use crate::rows::RowReader;
use crate::schema::Db;
use crate::store::{Store, registry_number};
use cdr_core::adjust::is_unpriced;
use cdr_core::export::quarantine::{Episode, Quarantined};
use cdr_core::export::selection::{AdjustmentFacts, RecordFacts, rap_takes, tap_file_of, tap_takes};
use cdr_core::export::{Cut, Export, ExportType, SeriesKey};
use cdr_core::time::Day;
use cdr_core::{CdrId, Hash, Hour};
use std::collections::HashSet;
use std::ops::{ControlFlow, Range};

/// A record that a TAP file lists.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The original.
    pub original: StoredRow,
    /// Its hash.
    pub row_hash: Hash,
    /// The adjustment that gave it its first price, if it had none itself: the entry carries this one's values.
    pub priced: Option<StoredRow>,
}

/// An adjustment that a RAP file returns.
#[derive(Clone, Debug)]
pub struct Returned {
    /// The adjustment.
    pub adjustment: StoredRow,
    /// What the TAP file listed.
    pub listed: Listed,
    /// The TAP file.
    pub tap_file: CdrId,
}

/// What a reader does with each: goes on, or stops.
pub type Each<'a, T> = &'a mut dyn FnMut(T) -> ControlFlow<()>;

impl Listed {
    /// The row whose values the entry carries.
    pub fn carried(&self) -> &StoredRow {
        self.priced.as_ref().unwrap_or(&self.original)
    }
}

/// A line of rows that follow one another, and what decides where its original is listed.
struct Line {
    rows: Vec<StoredRow>,
    /// Position of the first row with a price.
    priced: Option<usize>,
    facts: RecordFacts,
}

impl Line {
    fn new(rows: Vec<StoredRow>) -> Result<Self, StoreError> {
        let mut line = Self { priced: None, facts: RecordFacts { day: Day(0), priced_in: None }, rows };
        for (at, stored) in line.rows.iter().enumerate() {
            let row = stored.row()?;
            let Some(sms) = row.sms() else { continue };
            if at == 0 {
                line.facts.day = Day::local(sms.event_at, sms.local_offset_minutes);
            }
            if line.priced.is_none() && !is_unpriced(sms) {
                line.priced = Some(at);
                line.facts.priced_in = Some(stored.hour());
            }
        }
        Ok(line)
    }

    fn listed(&self, store: &Store) -> Result<Option<Listed>, StoreError> {
        let Some(original) = self.rows.first().cloned() else { return Ok(None) };
        let priced = self.priced.filter(|at| *at > 0).map(|at| self.rows[at].clone());
        Ok(Some(Listed { row_hash: store.stored_row_hash(&original)?, original, priced }))
    }
}

/// Reads what the files of one operator need.
struct Selection<'a> {
    store: &'a Store,
    export: &'a Export,
    /// Times in quarantine of the file's records, looked up in the order of the log.
    episodes: Episodes<'a>,
    /// Those of originals whose adjustments are in that order.
    of_originals: Episodes<'a>,
    /// Originals and adjustments that were resubmitted since the file before, each once.
    resubmitted: Vec<CdrId>,
}

impl<'a> Selection<'a> {
    fn new(store: &'a Store, db: &'a Db, export: &'a Export) -> Result<Self, StoreError> {
        let (series, operator) = (&export.pins.series, &export.pins.operator_id);
        let new = since(store, export)?..export.cut.ordinal;
        Ok(Self {
            store,
            export,
            episodes: Episodes::new(db, series, operator)?,
            of_originals: Episodes::new(db, series, operator)?,
            resubmitted: resubmitted(db, series, operator, new)?,
        })
    }

    fn takes(&mut self, record: CdrId, facts: &RecordFacts) -> Result<bool, StoreError> {
        let episodes = self.episodes.of(record)?;
        Ok(tap_takes(self.export.before.as_ref(), &self.export.cut, facts, &episodes))
    }

    fn hours(&self) -> (Hour, Hour) {
        (self.export.pins.from_bucket, self.export.cut.upto)
    }

    fn call(&mut self, each: Each<'_, Listed>) -> Result<(), StoreError> {
        let (from, store, export) = (self.hours().0, self.store, self.export);
        let stopped = store.each_of_operator(export, false, &mut |stored, row_hash| {
            let row = stored.row()?;
            let Some(sms) = row.sms() else { return Ok(ControlFlow::Continue(())) };
            let listed = if sms.adjustment.is_some() {
                self.priced_now(&stored, from)?
            } else if is_unpriced(sms) {
                let line = Line::new(store.line(&stored)?)?;
                let takes = self.takes(row.frame.cdr_id, &line.facts)?;
                if takes { line.listed(store)? } else { None }
            } else {
                let facts = RecordFacts {
                    day: Day::local(sms.event_at, sms.local_offset_minutes),
                    priced_in: Some(stored.hour()),
                };
                let takes = self.takes(row.frame.cdr_id, &facts)?;
                takes.then(|| Listed { original: stored.clone(), row_hash, priced: None })
            };
            Ok(listed.map_or(ControlFlow::Continue(()), &mut *each))
        })?;
        if stopped.is_break() {
            return Ok(());
        }
        for record in self.resubmitted.clone() {
            let Some(stored) = store.row_by_id(record)? else { continue };
            // An adjustment that was resubmitted is a RAP file's.
            if stored.row()?.sms().is_none_or(|sms| sms.adjustment.is_some()) {
                continue;
            }
            let line = Line::new(store.line(&stored)?)?;
            let is_new = stored.hour() < from && line.facts.priced_in.is_none_or(|hour| hour < from);
            if !is_new || !self.takes(record, &line.facts)? {
                continue;
            }
            if line.listed(store)?.is_some_and(|listed| each(listed).is_break()) {
                break;
            }
        }
        Ok(())
    }

    /// The record that this adjustment gives its first price, unless the record itself is looked at anyway.
    fn priced_now(&mut self, stored: &StoredRow, from: Hour) -> Result<Option<Listed>, StoreError> {
        let line = Line::new(self.store.line(stored)?)?;
        let Some(listed) = line.listed(self.store)? else { return Ok(None) };
        let is_this = listed.priced.as_ref().is_some_and(|priced| priced.ordinal() == stored.ordinal());
        if !is_this || listed.original.hour() >= from {
            return Ok(None);
        }
        let record = listed.original.row()?.frame.cdr_id;
        Ok(self.takes(record, &line.facts)?.then_some(listed))
    }

    fn returns(&mut self, each: Each<'_, Returned>) -> Result<(), StoreError> {
        let key = SeriesKey { export_type: ExportType::Tap, ..self.export.series_key() };
        let (store, export) = (self.store, self.export);
        let tap_files = store.series(&key)?;
        let stopped = store.each_of_operator(export, true, &mut |stored, _| {
            let returned = self.returned(&tap_files, stored)?;
            Ok(returned.map_or(ControlFlow::Continue(()), &mut *each))
        })?;
        if stopped.is_break() {
            return Ok(());
        }
        for adjustment in self.resubmitted_adjustments()? {
            let returned = self.returned(&tap_files, adjustment)?;
            if returned.is_some_and(|returned| each(returned).is_break()) {
                break;
            }
        }
        Ok(())
    }

    /// Adjustments of earlier hours that a resubmission may have made new: they themselves were resubmitted, or their
    /// original was, and a TAP file lists it since.
    fn resubmitted_adjustments(&self) -> Result<Vec<StoredRow>, StoreError> {
        let (from, mut known, mut rows) = (self.hours().0, HashSet::new(), Vec::new());
        for record in &self.resubmitted {
            let Some(stored) = self.store.row_by_id(*record)? else { continue };
            let is_adjustment = stored.row()?.sms().is_some_and(|sms| sms.adjustment.is_some());
            let line = if is_adjustment { vec![stored] } else { self.store.line(&stored)? };
            for row in line {
                let is_original = row.row()?.sms().is_none_or(|sms| sms.adjustment.is_none());
                if !is_original && row.hour() < from && known.insert(row.ordinal()) {
                    rows.push(row);
                }
            }
        }
        Ok(rows)
    }

    fn returned(
        &mut self,
        tap_files: &[SeriesFile],
        adjustment: StoredRow,
    ) -> Result<Option<Returned>, StoreError> {
        let line = Line::new(self.store.line(&adjustment)?)?;
        let Some(listed) = line.listed(self.store)? else { return Ok(None) };
        let (original, own) = (listed.original.row()?.frame.cdr_id, adjustment.row()?.frame.cdr_id);
        let cuts: Vec<Cut> = tap_files.iter().map(|file| file.cut).collect();
        let of_original = self.of_originals.of(original)?;
        let tap_file = tap_file_of(&cuts, &line.facts, &of_original).map(|at| tap_files[at]);
        let is_listed = listed.carried().ordinal() >= adjustment.ordinal();
        let listed_at = tap_file.map(|file| file.cut.ordinal);
        let facts = AdjustmentFacts { bucket: adjustment.hour(), listed_at, is_listed };
        let episodes = self.episodes.of(own)?;
        let takes = rap_takes(self.export.before.as_ref(), &self.export.cut, &facts, &episodes);
        Ok(tap_file.filter(|_| takes).map(|file| Returned { adjustment, listed, tap_file: file.id }))
    }
}

/// Where the rows of quarantine begin that are new to a file. An original that was resubmitted before the RAP file
/// before was opened, but is listed by a TAP file that was opened behind that one, is new to a RAP file.
fn since(store: &Store, export: &Export) -> Result<u64, StoreError> {
    let Some(before) = export.before else { return Ok(0) };
    if export.pins.export_type == ExportType::Tap {
        return Ok(before.ordinal);
    }
    let tap = SeriesKey { export_type: ExportType::Tap, ..export.series_key() };
    let files = store.series(&tap)?;
    let last = files.partition_point(|file| file.cut.ordinal < before.ordinal);
    Ok(last.checked_sub(1).map_or(0, |last| files[last].cut.ordinal))
}

impl Store {
    /// The records that a TAP file lists, in its order, until `each` breaks off.
    ///
    /// # Errors
    /// If rows can't be read.
    pub fn tap_records(&self, export: &Export, each: Each<'_, Listed>) -> Result<(), StoreError> {
        let generation = self.generation();
        Selection::new(self, &generation.db, export)?.call(each)
    }

    /// The adjustments that a RAP file returns, in its order, until `each` breaks off.
    ///
    /// # Errors
    /// If rows can't be read.
    pub fn rap_adjustments(&self, export: &Export, each: Each<'_, Returned>) -> Result<(), StoreError> {
        let generation = self.generation();
        Selection::new(self, &generation.db, export)?.returns(each)
    }

    /// Which TAP file of a series lists the record that this row belongs to, if one does.
    ///
    /// # Errors
    /// If rows can't be read.
    pub fn tap_file_of(&self, key: &SeriesKey, row: &StoredRow) -> Result<Option<CdrId>, StoreError> {
        let line = Line::new(self.line(row)?)?;
        let Some(original) = line.rows.first() else { return Ok(None) };
        let record = original.row()?.frame.cdr_id;
        let entries = self.quarantine_of(&key.series, record)?;
        let episodes: Vec<Episode> = entries.iter().map(Quarantined::episode).collect();
        let files = self.series(key)?;
        let cuts: Vec<Cut> = files.iter().map(|file| file.cut).collect();
        Ok(tap_file_of(&cuts, &line.facts, &episodes).map(|at| files[at].id))
    }

    /// The rows of a file's operator in its hours, all or adjustments only.
    fn each_of_operator(
        &self,
        export: &Export,
        adjustments_only: bool,
        each: &mut dyn FnMut(StoredRow, Hash) -> Result<ControlFlow<()>, StoreError>,
    ) -> Result<ControlFlow<()>, StoreError> {
        let generation = self.generation();
        let (committed, index) = (generation.committed(), generation.index());
        let Some(operator) = registry_number(&committed, &export.pins.operator_id) else {
            return Ok(ControlFlow::Continue(()));
        };
        let range: Range<u64> =
            committed.ordinals_between(Some(export.pins.from_bucket), Some(export.cut.upto));
        let key = if adjustments_only {
            PostingKey::Kind(kind::ADJUSTMENT)
        } else {
            PostingKey::Operator(operator)
        };
        let mut reader = RowReader::new(&generation.db, &committed)?;
        let mut hashes: Option<(Hour, LeafCursor<'_>)> = None;
        for ordinal in index.postings(key, range)? {
            let Some(stored) = reader.by_ordinal(ordinal?)? else { break };
            if stored.operator() != operator {
                continue;
            }
            let cursor = match &mut hashes {
                Some((hour, cursor)) if *hour == stored.hour() => cursor,
                other => {
                    let cursor = LeafCursor::new(&generation.db, stored.hour(), operator)?;
                    &mut other.insert((stored.hour(), cursor)).1
                }
            };
            let hash = cursor.hash(stored.leaf_index())?;
            if each(stored, hash)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}
