//! Settlement files, as the fold leaves them: every one of them, by id and by series.

use crate::error::{StoreError, database};
use crate::keys::{self, CF_WORK, TAG_EXPORT};
use crate::meta::decode;
use crate::schema::{Db, column};
use crate::store::Store;
use bincode::{Decode, Encode};
use cdr_core::export::selection::Reach;
use cdr_core::export::{Cut, Export, SeriesKey};
use cdr_core::{CdrId, codec};
use rocksdb::{Direction, IteratorMode, WriteBatch};

/// A file in its series: how far it reaches, and its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct SeriesFile {
    /// How far it reaches.
    pub cut: Cut,
    /// How far the series was before it.
    pub before: Option<Cut>,
    /// Its id.
    pub id: CdrId,
}

impl SeriesFile {
    /// How far it reaches, and its series did before it.
    pub(crate) fn reach(&self) -> Reach {
        Reach { before: self.before, cut: self.cut }
    }
}

/// Puts a file into the batch.
pub(crate) fn put(db: &Db, export: &Export, batch: &mut WriteBatch) -> Result<(), StoreError> {
    let work = column(db, CF_WORK)?;
    batch.put_cf(work, keys::export(export.id), codec::encode("settlement file", export)?);
    let file = SeriesFile { cut: export.cut, before: export.before, id: export.id };
    let key = keys::in_series(&export.series_key(), export.cut.ordinal);
    batch.put_cf(work, key, codec::encode("settlement file of a series", &file)?);
    Ok(())
}

/// The file with this id.
pub(crate) fn export(db: &Db, id: CdrId) -> Result<Option<Export>, StoreError> {
    get(db, &keys::export(id), "settlement file")
}

/// The value under a key.
pub(crate) fn get<T: Decode<()>>(db: &Db, key: &[u8], what: &'static str) -> Result<Option<T>, StoreError> {
    let value = db.get_cf(column(db, CF_WORK)?, key).map_err(database("reading settlement files"))?;
    value.map(|bytes| decode(what, &bytes)).transpose()
}

/// Values under ids, in the order of the ids, which is that of time.
pub(crate) fn scan<T: Decode<()>>(
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
}
