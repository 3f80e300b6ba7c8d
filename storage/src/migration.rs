//! Migration in place: what is stored under a former disk format is written again under the one that the ledger's rules
//! bring, in small steps beside everything else.
//!
//! The file `FORMAT` says the new number before anything is written under it, so that a build that does not know it
//! refuses the directory. How far the migration is stands in the database: it goes on after a crash, and in whoever
//! installs a checkpoint of it. Until it is done, both formats are read.
//!
//! Disk format 8 (of test-only rules) differs from 7 in the version of the seals' values.

use crate::error::{StoreError, database};
use crate::files;
use crate::generation::Generation;
use crate::keys::{self, CF_META, CF_SEALS, META_FORMAT, META_MIGRATION};
use crate::schema::{Db, column, write_options};
use crate::seals;
use crate::store::{Inner, Store};
use cdr_core::Hour;
use cdr_core::rules::{Build, Needs};
use rocksdb::WriteBatch;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Values that one step writes again at most.
const STEP_VALUES: u32 = 256;

/// Pause between two steps of a migration: commands come first.
const MIGRATION_PAUSE: Duration = Duration::from_millis(5);

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Everything is in the format of the rules in force.
    Done,
    /// There is more to do.
    Again,
}

/// Whether there is anything to do.
pub(crate) fn is_due(generation: &Generation) -> Result<bool, StoreError> {
    let behind = generation.format() < wanted(generation);
    Ok(behind || cursor(&generation.db)?.is_some())
}

fn wanted(generation: &Generation) -> u32 {
    generation.committed().state.head.rules.formats().disk
}

fn cursor(db: &Db) -> Result<Option<Hour>, StoreError> {
    let value = db.get_cf(column(db, CF_META)?, META_MIGRATION).map_err(database("reading the migration"))?;
    let damaged = |_| StoreError::Damaged {
        what: "how far the migration is".to_owned(),
        why: "it is not 4 bytes long".to_owned(),
    };
    value
        .map(|bytes| <[u8; 4]>::try_from(bytes).map(u32::from_le_bytes).map(Hour))
        .transpose()
        .map_err(damaged)
}

/// Does a small part of what is to be done; to be called by whoever may write.
pub(crate) fn step(root: &Path, generation: &Generation) -> Result<Step, StoreError> {
    let (db, wanted) = (&*generation.db, wanted(generation));
    let mut batch = WriteBatch::default();
    let meta = column(db, CF_META)?;
    if generation.format() < wanted {
        let state = generation.committed().state;
        tracing::info!(from = generation.format(), to = wanted, "the disk format is being migrated");
        files::raise_format(root, wanted, state.head.rules)?;
        batch.put_cf(meta, META_FORMAT, wanted.to_le_bytes());
        batch.put_cf(meta, META_MIGRATION, state.head.first_hour.0.to_le_bytes());
        db.write_opt(batch, &write_options()).map_err(database("beginning a migration"))?;
        generation.set_format(wanted);
        return Ok(Step::Again);
    }
    let Some(from) = cursor(db)? else { return Ok(Step::Done) };
    let end = generation.committed().state.head.open_hour;
    let upto = Hour(from.0.saturating_add(STEP_VALUES)).min(end);
    let seals = column(db, CF_SEALS)?;
    for hour in (from.0..upto.0).map(Hour) {
        let value = db.get_pinned_cf(seals, keys::seal(hour)).map_err(database("reading a seal"))?;
        if let Some(value) = value {
            batch.put_cf(seals, keys::seal(hour), seals::rewritten(hour, &value, wanted)?);
        }
    }
    if upto == end {
        batch.delete_cf(meta, META_MIGRATION);
        tracing::info!(format = wanted, "the disk format is migrated");
    } else {
        batch.put_cf(meta, META_MIGRATION, upto.0.to_le_bytes());
    }
    db.write_opt(batch, &write_options()).map_err(database("migrating"))?;
    Ok(if upto == end { Step::Done } else { Step::Again })
}

impl Store {
    /// As which build this store behaves.
    pub fn build(&self) -> Build {
        self.0.options.build
    }

    /// What a replica has to know to follow this one.
    pub fn needs(&self) -> Needs {
        let generation = self.0.generation();
        Needs::of(generation.committed().state.head.rules, generation.format())
    }

    /// True while values of a former disk format are written again.
    ///
    /// # Errors
    /// If that can't be read.
    pub fn is_migrating(&self) -> Result<bool, StoreError> {
        is_due(&self.0.generation())
    }

    /// Has what is stored under a former disk format written again, on a thread of its own.
    pub(crate) fn migrate_if_due(&self) -> Result<(), StoreError> {
        if !self.is_migrating()? || self.0.migrating.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let store = Arc::downgrade(&self.0);
        let thread = std::thread::Builder::new().name("cdr-migration".to_owned());
        let spawned = thread.spawn(move || {
            while let Some(inner) = store.upgrade() {
                if inner.migrate() == Step::Done {
                    return;
                }
                drop(inner);
                std::thread::sleep(MIGRATION_PAUSE);
            }
        });
        spawned.map(|_| ()).map_err(|error| StoreError::io("starting the migration of", &self.0.root, &error))
    }
}

impl Inner {
    /// A step of the migration; one that fails stops the store from writing.
    fn migrate(&self) -> Step {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let done = self
            .refuse_if_poisoned()
            .and_then(|()| step(&self.root, &self.generation()))
            .unwrap_or_else(|error| {
                self.poison_with(error);
                Step::Done
            });
        if done == Step::Done {
            self.migrating.store(false, Ordering::Release);
        }
        done
    }
}
