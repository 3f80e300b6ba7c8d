//! Quarantine, as the fold leaves it: entries by id and by record; and, by series and operator, what a settlement file
//! has to know of it. A file of today so reads nothing of what other operators, or days, put there.
//!
//! Beside each entry stands its [`Episode`] under the record's id, and what was resubmitted under the number of the row
//! that records it: both in the write that changes the entry.

use crate::error::{StoreError, database};
use crate::exports::{get, scan};
use crate::keys::{self, CF_WORK, TAG_EPISODE, TAG_QUARANTINE, TAG_RESUBMITTED, TAG_UNRESOLVED};
use crate::meta::decode;
use crate::schema::{Db, column};
use crate::store::Store;
use cdr_core::export::quarantine::{Episode, Quarantined};
use cdr_core::{CdrId, Millis, codec};
use rocksdb::{DBRawIterator, Direction, IteratorMode, ReadOptions, WriteBatch};
use std::ops::Range;

/// How long before its row is accepted an id is drawn at most, milliseconds.
const DRAWN_BEFORE_MS: i64 = 60_000;

/// Puts an entry into the batch, with what leads to it.
pub(crate) fn put(db: &Db, entry: &Quarantined, batch: &mut WriteBatch) -> Result<(), StoreError> {
    let work = column(db, CF_WORK)?;
    batch.put_cf(work, keys::quarantine(entry.id), codec::encode("quarantine entry", entry)?);
    match entry.resolved {
        None => batch.put_cf(work, keys::unresolved(entry.id), []),
        Some(_) => batch.delete_cf(work, keys::unresolved(entry.id)),
    }
    let unfit = &entry.unfit;
    let Some(record) = CdrId::parse(&unfit.cdr_id) else { return Ok(()) };
    let mut of_record = keys::quarantined_record(&unfit.series, record);
    of_record.extend_from_slice(&entry.id.0);
    batch.put_cf(work, of_record, []);
    let episode = entry.episode();
    let mut of_operator = keys::of_operator(TAG_EPISODE, &unfit.series, &unfit.operator_id);
    of_operator.extend_from_slice(&record.0);
    of_operator.extend_from_slice(&entry.id.0);
    batch.put_cf(work, of_operator, codec::encode("time in quarantine", &episode)?);
    if let Some(at) = episode.resubmitted {
        let mut resubmitted = keys::of_operator(TAG_RESUBMITTED, &unfit.series, &unfit.operator_id);
        resubmitted.extend_from_slice(&at.to_be_bytes());
        batch.put_cf(work, resubmitted, codec::encode("resubmitted record", &(record, entry.ordinal))?);
    }
    Ok(())
}

/// The quarantine entry with this id.
pub(crate) fn quarantined(db: &Db, id: CdrId) -> Result<Option<Quarantined>, StoreError> {
    get(db, &keys::quarantine(id), "quarantine entry")
}

/// A record's quarantine entries in a series, oldest first.
pub(crate) fn of_record(db: &Db, series: &str, record: CdrId) -> Result<Vec<Quarantined>, StoreError> {
    let prefix = keys::quarantined_record(series, record);
    let mut entries = Vec::new();
    for item in db.iterator_cf(column(db, CF_WORK)?, IteratorMode::From(&prefix, Direction::Forward)) {
        let (key, _) = item.map_err(database("reading quarantine"))?;
        let Some(id) = key.strip_prefix(prefix.as_slice()) else { break };
        let id = id.try_into().map_err(|_| damaged("its key is too short"))?;
        entries.extend(quarantined(db, CdrId(id))?);
    }
    entries.sort_by_key(|entry| entry.ordinal);
    Ok(entries)
}

/// Records of an operator that rows with numbers in `rows` resubmitted in a series, each once, in the order in which they
/// had come into quarantine.
pub(crate) fn resubmitted(
    db: &Db,
    series: &str,
    operator_id: &str,
    rows: Range<u64>,
) -> Result<Vec<CdrId>, StoreError> {
    let prefix = keys::of_operator(TAG_RESUBMITTED, series, operator_id);
    let from = [prefix.as_slice(), &rows.start.to_be_bytes()].concat();
    let mut found: Vec<(CdrId, u64)> = Vec::new();
    for item in db.iterator_cf(column(db, CF_WORK)?, IteratorMode::From(&from, Direction::Forward)) {
        let (key, value) = item.map_err(database("reading quarantine"))?;
        let Some(at) = key.strip_prefix(prefix.as_slice()) else { break };
        let at = at.try_into().map_err(|_| damaged("its key is cut"))?;
        if u64::from_be_bytes(at) >= rows.end {
            break;
        }
        found.push(decode("resubmitted record", &value)?);
    }
    // Of several entries of a record the oldest counts.
    found.sort_by_key(|(record, opened)| (*record, *opened));
    found.dedup_by_key(|(record, _)| *record);
    found.sort_by_key(|(_, opened)| *opened);
    Ok(found.into_iter().map(|(record, _)| record).collect())
}

/// Looks up when an operator's records were in a series' quarantine. Most never were: it remembers from which record to
/// which there is none, so that records in the order of their ids, which is about that of the log, cost next to nothing.
pub(crate) struct Episodes<'a> {
    iterator: DBRawIterator<'a>,
    prefix: Vec<u8>,
    /// Behind the first of these records and before the second, if there is one, none was ever there.
    gap: Option<(CdrId, Option<CdrId>)>,
}

impl<'a> Episodes<'a> {
    pub fn new(db: &'a Db, series: &str, operator_id: &str) -> Result<Self, StoreError> {
        let iterator = db.raw_iterator_cf_opt(column(db, CF_WORK)?, ReadOptions::default());
        Ok(Self { iterator, prefix: keys::of_operator(TAG_EPISODE, series, operator_id), gap: None })
    }

    /// A record's times in quarantine, oldest first.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn of(&mut self, record: CdrId) -> Result<Vec<Episode>, StoreError> {
        let is_between = |(after, before): (CdrId, Option<CdrId>)| {
            after < record && before.is_none_or(|before| record < before)
        };
        if self.gap.is_some_and(is_between) {
            return Ok(Vec::new());
        }
        self.iterator.seek([self.prefix.as_slice(), &record.0].concat());
        let mut episodes: Vec<Episode> = Vec::new();
        let mut next = self.record_here()?;
        while next == Some(record) {
            episodes.push(decode("time in quarantine", self.iterator.value().unwrap_or_default())?);
            self.iterator.next();
            next = self.record_here()?;
        }
        self.gap = Some((record, next));
        episodes.sort_by_key(|episode| episode.opened);
        Ok(episodes)
    }

    /// The record of the entry under the iterator; none behind the last one of the series and operator.
    fn record_here(&self) -> Result<Option<CdrId>, StoreError> {
        self.iterator.status().map_err(database("reading quarantine"))?;
        let key = self.iterator.key().and_then(|key| key.strip_prefix(self.prefix.as_slice()));
        let Some(key) = key else { return Ok(None) };
        let (record, _) = key.split_first_chunk::<16>().ok_or_else(|| damaged("its key is cut"))?;
        Ok(Some(CdrId(*record)))
    }
}

fn damaged(why: &str) -> StoreError {
    StoreError::Damaged { what: "a quarantine entry of a record".to_owned(), why: why.to_owned() }
}

impl Store {
    /// The quarantine entry with this id.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn quarantined(&self, id: CdrId) -> Result<Option<Quarantined>, StoreError> {
        quarantined(&self.generation().db, id)
    }

    /// Quarantine entries behind the one with id `after`, oldest first, until `each` says false.
    ///
    /// # Errors
    /// If one can't be read.
    pub fn quarantine(
        &self,
        after: Option<CdrId>,
        mut each: impl FnMut(Quarantined) -> bool,
    ) -> Result<(), StoreError> {
        let from = keys::quarantine(after.unwrap_or(CdrId([0; 16])));
        let is_new = |entry: &Quarantined| after.is_none_or(|after| entry.id > after);
        scan(&self.generation().db, TAG_QUARANTINE, "quarantine entry", &from, Direction::Forward, |entry| {
            !is_new(&entry) || each(entry)
        })
    }

    /// The same of entries that are not resolved.
    ///
    /// # Errors
    /// If one can't be read.
    pub fn unresolved_quarantine(
        &self,
        after: Option<CdrId>,
        mut each: impl FnMut(Quarantined) -> bool,
    ) -> Result<(), StoreError> {
        let generation = self.generation();
        let (db, from) = (&generation.db, keys::unresolved(after.unwrap_or(CdrId([0; 16]))));
        for item in db.iterator_cf(column(db, CF_WORK)?, IteratorMode::From(&from, Direction::Forward)) {
            let (key, _) = item.map_err(database("reading quarantine"))?;
            let Some(id) = key.strip_prefix(&[TAG_UNRESOLVED]) else { break };
            let id = CdrId(id.try_into().map_err(|_| damaged("its key is cut"))?);
            if after == Some(id) {
                continue;
            }
            // It may have been resolved since the iterator was made.
            let entry = quarantined(db, id)?.filter(|entry| entry.resolved.is_none());
            if entry.is_some_and(|entry| !each(entry)) {
                break;
            }
        }
        Ok(())
    }

    /// How many records were put into quarantine at `since` or later; more than `most` are not counted.
    ///
    /// # Errors
    /// If one can't be read.
    pub fn quarantined_since(&self, since: Millis, most: usize) -> Result<usize, StoreError> {
        // An id is drawn shortly before its row is accepted.
        let from = CdrId::from_parts((since.0 - DRAWN_BEFORE_MS).max(0), [0; 10]);
        let mut count = 0;
        self.quarantine(Some(from), |entry| {
            count += usize::from(entry.at >= since);
            count < most
        })?;
        Ok(count)
    }

    /// A record's quarantine entries in a series, oldest first.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn quarantine_of(&self, series: &str, record: CdrId) -> Result<Vec<Quarantined>, StoreError> {
        of_record(&self.generation().db, series, record)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::options::StoreOptions;
    use crate::schema;
    use cdr_core::export::quarantine::{Resolved, Unfit};
    use proptest::prelude::*;

    /// Record, series and operator of an entry, and how it ended: none if it did not, true if it was resubmitted.
    type Put = (u8, bool, bool, Option<bool>);

    fn names((_, series, operator, _): Put) -> (&'static str, &'static str) {
        (if series { "a" } else { "ab" }, if operator { "MTN" } else { "AWCC" })
    }

    fn record(number: u8) -> CdrId {
        CdrId([number; 16])
    }

    fn entry(number: usize, put: Put) -> Quarantined {
        let ((series, operator), ordinal) = (names(put), 10 * number as u64);
        let unfit = Unfit {
            cdr_id: record(put.0).to_string(),
            encoder_error: "it can't be expressed".to_owned(),
            export_id: None,
            operator_id: operator.to_owned(),
            schema_variant: "v".to_owned(),
            series: series.to_owned(),
        };
        let resolved = put.3.map(|resubmitted| Resolved {
            resubmitted,
            by: "somebody".to_owned(),
            at: Millis(0),
            // Not in the order in which they came.
            ordinal: ordinal ^ 0x155,
        });
        Quarantined { id: CdrId::from_parts(number as i64, [7; 10]), unfit, at: Millis(0), ordinal, resolved }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn a_file_finds_what_concerns_it_whatever_else_is_there(
            puts in prop::collection::vec((0..12u8, any::<bool>(), any::<bool>(), any::<Option<bool>>()), 0..40),
            asked in prop::collection::vec(0..13u8, 1..60),
            (from, upto) in (0..300u64, 0..600u64),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let (db, _) = schema::open(dir.path(), &StoreOptions { block_cache_bytes: 1 << 20, ..StoreOptions::default() }).unwrap();
            let entries: Vec<Quarantined> = puts.iter().enumerate().map(|(at, put)| entry(at, *put)).collect();
            for entry in &entries {
                let mut batch = WriteBatch::default();
                put(&db, &Quarantined { resolved: None, ..entry.clone() }, &mut batch).unwrap();
                put(&db, entry, &mut batch).unwrap();
                db.write_opt(batch, &schema::write_options()).unwrap();
            }
            for (series, operator) in [("a", "MTN"), ("a", "AWCC"), ("ab", "MTN"), ("ab", "AWCC"), ("b", "MTN")] {
                let own = |entry: &&Quarantined| (&*entry.unfit.series, &*entry.unfit.operator_id) == (series, operator);
                let mut episodes = Episodes::new(&db, series, operator).unwrap();
                for number in &asked {
                    let of_record = |entry: &&Quarantined| own(entry) && entry.unfit.cdr_id == record(*number).to_string();
                    let expected: Vec<Episode> = entries.iter().filter(of_record).map(Quarantined::episode).collect();
                    prop_assert_eq!(episodes.of(record(*number)).unwrap(), expected);
                }
                let mut expected: Vec<CdrId> = Vec::new();
                for entry in entries.iter().filter(own) {
                    let id = CdrId::parse(&entry.unfit.cdr_id).unwrap();
                    let is_new = entry.episode().resubmitted.is_some_and(|at| (from..upto).contains(&at));
                    if is_new && !expected.contains(&id) {
                        expected.push(id);
                    }
                }
                prop_assert_eq!(resubmitted(&db, series, operator, from..upto).unwrap(), expected);
            }
        }
    }
}
