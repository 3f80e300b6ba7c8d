//! Which records a settlement file lists, read from rows: the rules are [`cdr_core::export::selection`]'s.
//!
//! A file's rows are read once, in the order of the log, from the first hour that can hold something new to it.
//! What was resubmitted from quarantine follows behind them. Adjustments are read some thousands at a time, so that
//! what they follow is read in the order in which it is stored.

use crate::error::StoreError;
use crate::exports::SeriesFile;
use crate::index::{InBoth, PostingKey, kind};
use crate::leaves::LeafCursor;
use crate::page::StoredRow;
use crate::quarantine::{Episodes, resubmitted};
use crate::rows::RowReader;
use crate::schema::Db;
use crate::store::{Store, registry_number};
use cdr_core::adjust::is_unpriced;
use cdr_core::export::selection::{AdjustmentFacts, Reach, RecordFacts, rap_takes, tap_file_of, tap_takes};
use cdr_core::export::{Export, ExportType, SeriesKey};
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
    /// Its hash.
    pub row_hash: Hash,
    /// The original.
    pub original: StoredRow,
    /// The adjustment that gave it its first price, if it had none itself: the TAP file lists this one's values.
    pub priced: Option<StoredRow>,
    /// The TAP file.
    pub tap_file: CdrId,
}

/// Adjustments that are read together at first, so that a caller who wants one does not wait for thousands.
const FIRST_BATCH: usize = 64;

/// What a reader does with each: goes on, or stops.
pub type Each<'a, T> = &'a mut dyn FnMut(T) -> ControlFlow<()>;

impl Listed {
    /// The row whose values the entry carries.
    pub fn carried(&self) -> &StoredRow {
        self.priced.as_ref().unwrap_or(&self.original)
    }
}

impl Returned {
    /// The row whose values the TAP file lists.
    pub fn carried(&self) -> &StoredRow {
        self.priced.as_ref().unwrap_or(&self.original)
    }
}

/// A line of rows that follow one another, and what decides where its original is listed.
pub(crate) struct Line {
    pub rows: Vec<StoredRow>,
    /// Position of the first row with a price.
    priced: Option<usize>,
    pub facts: RecordFacts,
}

impl Line {
    pub fn new(rows: Vec<StoredRow>) -> Result<Self, StoreError> {
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

    /// The original, and the adjustment that gave it its first price if it had none itself.
    pub fn carried(&self) -> Option<(StoredRow, Option<StoredRow>)> {
        let priced = self.priced.filter(|at| *at > 0).map(|at| self.rows[at].clone());
        Some((self.rows.first()?.clone(), priced))
    }

    fn listed(&self, store: &Store) -> Result<Option<Listed>, StoreError> {
        let Some((original, priced)) = self.carried() else { return Ok(None) };
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

    /// The record that this adjustment gives its first price, unless the record itself is read anyway.
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
        let most = store.options().adjustment_batch.max(1);
        let (mut batch, mut size) = (Vec::new(), FIRST_BATCH.min(most));
        let stopped = store.each_of_operator(export, true, &mut |stored, row_hash| {
            batch.push((stored.alone()?, row_hash));
            if batch.len() < size {
                return Ok(ControlFlow::Continue(()));
            }
            size = (4 * size).min(most);
            self.return_some(&tap_files, &mut batch, each)
        })?;
        if stopped.is_break() || self.return_some(&tap_files, &mut batch, each)?.is_break() {
            return Ok(());
        }
        for adjustment in self.resubmitted_adjustments()? {
            let row_hash = store.stored_row_hash(&adjustment)?;
            batch.push((adjustment, row_hash));
            if batch.len() >= most && self.return_some(&tap_files, &mut batch, each)?.is_break() {
                return Ok(());
            }
        }
        self.return_some(&tap_files, &mut batch, each).map(|_| ())
    }

    /// Hands on those of these adjustments that the file returns.
    fn return_some(
        &mut self,
        tap_files: &[SeriesFile],
        batch: &mut Vec<(StoredRow, Hash)>,
        each: Each<'_, Returned>,
    ) -> Result<ControlFlow<()>, StoreError> {
        let (rows, hashes): (Vec<StoredRow>, Vec<Hash>) = batch.drain(..).unzip();
        let lines = self.store.lines(&rows)?.into_iter().map(Line::new);
        let lines = lines.collect::<Result<Vec<Line>, StoreError>>()?;
        let listed_by = self.listed_by(tap_files, &lines)?;
        for (((adjustment, row_hash), line), tap_file) in
            rows.into_iter().zip(hashes).zip(lines).zip(listed_by)
        {
            let Some((tap_file, (original, priced))) = tap_file.zip(line.carried()) else { continue };
            if self.takes_adjustment(&adjustment, priced.as_ref().unwrap_or(&original), &tap_file)? {
                let returned = Returned { adjustment, row_hash, original, priced, tap_file: tap_file.id };
                if each(returned).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The TAP file that lists each line's original, if one does. Quarantine is read in the order of the originals.
    fn listed_by(
        &mut self,
        tap_files: &[SeriesFile],
        lines: &[Line],
    ) -> Result<Vec<Option<SeriesFile>>, StoreError> {
        let reaches: Vec<Reach> = tap_files.iter().map(SeriesFile::reach).collect();
        let mut originals = Vec::with_capacity(lines.len());
        for (at, line) in lines.iter().enumerate() {
            if let Some(original) = line.rows.first() {
                originals.push((original.row()?.frame.cdr_id, at));
            }
        }
        originals.sort_unstable();
        let mut files = vec![None; lines.len()];
        for (original, at) in originals {
            let episodes = self.of_originals.of(original)?;
            files[at] = tap_file_of(&reaches, &lines[at].facts, &episodes).map(|file| tap_files[file]);
        }
        Ok(files)
    }

    /// True if the file returns an adjustment of what `tap_file` lists, with the values of `carried`.
    fn takes_adjustment(
        &mut self,
        adjustment: &StoredRow,
        carried: &StoredRow,
        tap_file: &SeriesFile,
    ) -> Result<bool, StoreError> {
        let facts = AdjustmentFacts {
            bucket: adjustment.hour(),
            listed_at: Some(tap_file.cut.ordinal),
            is_listed: carried.ordinal() >= adjustment.ordinal(),
        };
        let episodes = self.episodes.of(adjustment.row()?.frame.cdr_id)?;
        Ok(rap_takes(self.export.before.as_ref(), &self.export.cut, &facts, &episodes))
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
        let own = index.postings(PostingKey::Operator(operator), range.clone())?;
        let ordinals: Box<dyn Iterator<Item = Result<u64, StoreError>>> = if adjustments_only {
            Box::new(InBoth(own, index.postings(PostingKey::Kind(kind::ADJUSTMENT), range)?))
        } else {
            Box::new(own)
        };
        let mut reader = RowReader::new(&generation.db, &committed)?;
        let mut hashes: Option<(Hour, LeafCursor<'_>)> = None;
        for ordinal in ordinals {
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
