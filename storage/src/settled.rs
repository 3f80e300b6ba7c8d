//! The other way round: which settlement file holds a record or an adjustment.

use crate::error::StoreError;
use crate::exports::SeriesFile;
use crate::page::StoredRow;
use crate::quarantine::Episodes;
use crate::schema::Db;
use crate::settlement::Line;
use crate::store::{Store, operator_name};
use cdr_core::export::quarantine::{Episode, Quarantined};
use cdr_core::export::selection::{AdjustmentFacts, Reach, rap_file_of, tap_file_of};
use cdr_core::export::{ExportType, SeriesKey};
use cdr_core::{CdrId, Millis};
use std::collections::HashMap;

/// A RAP file that returns an adjustment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RapBatch {
    /// The file.
    pub file: CdrId,
    /// The TAP file whose call event it returns.
    pub tap_file: CdrId,
    /// When it was encoded: all of its adjustments were batched by that one row of the log.
    pub batched_at: Millis,
}

/// What has to be known of an operator's files and quarantine in a series.
struct OperatorFiles<'a> {
    tap: Vec<SeriesFile>,
    tap_reaches: Vec<Reach>,
    rap: Vec<SeriesFile>,
    rap_reaches: Vec<Reach>,
    episodes: Episodes<'a>,
    of_originals: Episodes<'a>,
}

impl<'a> OperatorFiles<'a> {
    fn read(store: &Store, db: &'a Db, series: &str, operator_id: String) -> Result<Self, StoreError> {
        let episodes = || Episodes::new(db, series, &operator_id);
        let (episodes, of_originals) = (episodes()?, episodes()?);
        let tap = SeriesKey { series: series.to_owned(), export_type: ExportType::Tap, operator_id };
        let rap = store.series(&SeriesKey { export_type: ExportType::Rap, ..tap.clone() })?;
        let rap_reaches = rap.iter().map(SeriesFile::reach).collect();
        let tap = store.series(&tap)?;
        let tap_reaches = tap.iter().map(SeriesFile::reach).collect();
        Ok(Self { tap, tap_reaches, rap, rap_reaches, episodes, of_originals })
    }

    /// The RAP file that returns an adjustment, unless it found it unfit, and the TAP file that it returns it from.
    fn rap_file_of(
        &mut self,
        adjustment: &StoredRow,
        line: &Line,
    ) -> Result<Option<(CdrId, CdrId)>, StoreError> {
        let Some((original, priced)) = line.carried() else { return Ok(None) };
        let of_original = self.of_originals.of(original.row()?.frame.cdr_id)?;
        let tap_file = tap_file_of(&self.tap_reaches, &line.facts, &of_original);
        let facts = AdjustmentFacts {
            bucket: adjustment.hour(),
            listed_at: tap_file.map(|at| self.tap[at].cut.ordinal),
            is_listed: priced.as_ref().unwrap_or(&original).ordinal() >= adjustment.ordinal(),
        };
        let episodes = self.episodes.of(adjustment.row()?.frame.cdr_id)?;
        let rap_file = rap_file_of(&self.rap_reaches, &facts, &episodes);
        Ok(rap_file.zip(tap_file).map(|(rap, tap)| (self.rap[rap].id, self.tap[tap].id)))
    }
}

impl Store {
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
        let reaches: Vec<Reach> = files.iter().map(SeriesFile::reach).collect();
        Ok(tap_file_of(&reaches, &line.facts, &episodes).map(|at| files[at].id))
    }

    /// The RAP files of a series that return these adjustments, given each with its line ([`Store::lines`]); none for an
    /// adjustment that no encoded file returns: it waits, or is in quarantine, or is what the TAP file lists.
    ///
    /// # Errors
    /// If files, quarantine or rows can't be read.
    pub fn rap_batches(
        &self,
        series: &str,
        adjustments: &[(&StoredRow, &[StoredRow])],
    ) -> Result<Vec<Option<RapBatch>>, StoreError> {
        let generation = self.generation();
        let state = generation.committed().state;
        let (mut files, mut encoded) = (HashMap::<u16, OperatorFiles<'_>>::new(), HashMap::new());
        let mut found = Vec::with_capacity(adjustments.len());
        for (adjustment, line) in adjustments {
            let operator = adjustment.operator();
            let of_operator = match files.entry(operator) {
                std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::hash_map::Entry::Vacant(new) => {
                    let operator_id = operator_name(&state, operator);
                    new.insert(OperatorFiles::read(self, &generation.db, series, operator_id)?)
                }
            };
            let files = of_operator.rap_file_of(adjustment, &Line::new(line.to_vec())?)?;
            found.push(match files {
                Some((file, tap_file)) => self.encoded_at(file, &mut encoded)?.map(|batched_at| RapBatch {
                    file,
                    tap_file,
                    batched_at,
                }),
                None => None,
            });
        }
        Ok(found)
    }

    /// When a file was encoded, if it is: until then its content is unknown.
    fn encoded_at(
        &self,
        file: CdrId,
        known: &mut HashMap<CdrId, Option<Millis>>,
    ) -> Result<Option<Millis>, StoreError> {
        if let Some(at) = known.get(&file) {
            return Ok(*at);
        }
        let at = self.export(file)?.and_then(|export| export.encoded_at);
        known.insert(file, at);
        Ok(at)
    }
}
