//! Settlement files and quarantine, as the fold leaves them: every one of them, by id and by series.

use crate::error::{StoreError, database};
use crate::keys::{self, CF_WORK, TAG_EXPORT, TAG_QUARANTINE};
use crate::meta::decode;
use crate::schema::{Db, column};
use crate::store::Store;
use bincode::{Decode, Encode};
use cdr_core::export::books::Books;
use cdr_core::export::quarantine::Quarantined;
use cdr_core::export::{Cut, Export, SeriesKey};
use cdr_core::{CdrId, Millis, codec};
use rocksdb::{Direction, IteratorMode, WriteBatch};

/// How long before its row is accepted an id is drawn at most, milliseconds.
const DRAWN_BEFORE_MS: i64 = 60_000;

/// A file in its series: how far it reaches, and its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SeriesFile {
    /// How far it reaches.
    pub cut: Cut,
    /// Its id.
    pub id: CdrId,
}

/// Puts what rows changed into the batch.
pub(crate) fn put(db: &Db, books: &Books, batch: &mut WriteBatch) -> Result<(), StoreError> {
    let work = column(db, CF_WORK)?;
    for export in books.exports.values() {
        batch.put_cf(work, keys::export(export.id), codec::encode("settlement file", export)?);
        let file = SeriesFile { cut: export.cut, id: export.id };
        let key = keys::in_series(&export.series_key(), export.cut.ordinal);
        batch.put_cf(work, key, codec::encode("settlement file of a series", &file)?);
    }
    for entry in books.quarantine.values() {
        batch.put_cf(work, keys::quarantine(entry.id), codec::encode("quarantine entry", entry)?);
        if let Some(record) = CdrId::parse(&entry.unfit.cdr_id) {
            let mut key = keys::quarantined_record(&entry.unfit.series, record);
            key.extend_from_slice(&entry.id.0);
            batch.put_cf(work, key, []);
        }
    }
    Ok(())
}

/// The file with this id.
pub(crate) fn export(db: &Db, id: CdrId) -> Result<Option<Export>, StoreError> {
    get(db, &keys::export(id), "settlement file")
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
        let id = CdrId(
            id.try_into().map_err(|_| damaged("a quarantine entry of a record", "its key is too short"))?,
        );
        entries.extend(quarantined(db, id)?);
    }
    entries.sort_by_key(|entry| entry.ordinal);
    Ok(entries)
}

fn get<T: Decode<()>>(db: &Db, key: &[u8], what: &'static str) -> Result<Option<T>, StoreError> {
    let value = db.get_cf(column(db, CF_WORK)?, key).map_err(database("reading settlement files"))?;
    value.map(|bytes| decode(what, &bytes)).transpose()
}

fn damaged(what: &str, why: &str) -> StoreError {
    StoreError::Damaged { what: what.to_owned(), why: why.to_owned() }
}

/// Values under ids, in the order of the ids, which is that of time.
fn scan<T: Decode<()>>(
    db: &Db,
    tag: u8,
    what: &'static str,
    from: &[u8],
    direction: Direction,
    mut each: impl FnMut(T) -> bool,
) -> Result<(), StoreError> {
    for item in db.iterator_cf(column(db, CF_WORK)?, IteratorMode::From(from, direction)) {
        let (key, value) = item.map_err(database("reading settlement files"))?;
        if key.first() != Some(&tag) || !each(decode(what, &value)?) {
            break;
        }
    }
    Ok(())
}

impl Store {
    /// The settlement file with this id.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn export(&self, id: CdrId) -> Result<Option<Export>, StoreError> {
        export(&self.generation().db, id)
    }

    /// Settlement files behind the one with id `after`, in the order in which they were opened, until `each` says false.
    ///
    /// # Errors
    /// If one can't be read.
    pub fn exports(
        &self,
        after: Option<CdrId>,
        mut each: impl FnMut(Export) -> bool,
    ) -> Result<(), StoreError> {
        let from = keys::export(after.unwrap_or(CdrId([0; 16])));
        let is_new = |export: &Export| after.is_none_or(|after| export.id > after);
        scan(&self.generation().db, TAG_EXPORT, "settlement file", &from, Direction::Forward, |export| {
            !is_new(&export) || each(export)
        })
    }

    /// The files of a series, oldest first.
    ///
    /// # Errors
    /// If they can't be read.
    pub fn series(&self, key: &SeriesKey) -> Result<Vec<SeriesFile>, StoreError> {
        let generation = self.generation();
        let (db, prefix) = (&generation.db, keys::series(key));
        let mut files = Vec::new();
        for item in db.iterator_cf(column(db, CF_WORK)?, IteratorMode::From(&prefix, Direction::Forward)) {
            let (key, value) = item.map_err(database("reading settlement files"))?;
            if !key.starts_with(&prefix) {
                break;
            }
            files.push(decode("settlement file of a series", &value)?);
        }
        Ok(files)
    }

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
