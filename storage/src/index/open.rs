//! Opening: load the run list, remove what a crash left behind, rebuild the filter.

use super::block::Block;
use super::filter::{Filter, FilterStats};
use super::fingerprint::Fingerprints;
use super::geometry::Geometry;
use super::keys::{self, Table};
use super::list::RunList;
use super::record::{Head, Run, Summary};
use super::worker::{self, Job, Worker};
use super::write::Writer;
use super::{Index, IndexOptions, Shared, chunk, column, damaged};
use crate::error::{StoreError, database};
use crate::keys::{CF_INDEX, CF_META};
use cdr_core::{Hour, Uuid};
use rocksdb::{DB, ReadOptions, WriteBatch};
use std::sync::{Arc, Mutex, RwLock};

impl Index {
    /// Opens the indexes of a store with `rows` rows. The owner then adds the rows from [`Index::tail_from`]
    /// again, and calls [`Index::restore_filter`].
    ///
    /// `hash_key` is that of the ledger; as long as no block is written, any key will do.
    ///
    /// # Errors
    /// If the stored runs can't be read, or were written with another key or other sizes.
    pub fn open(
        db: Arc<DB>,
        hash_key: [u8; 16],
        options: IndexOptions,
        rows: u64,
    ) -> Result<Self, StoreError> {
        let geometry = options.geometry()?;
        let fingerprints = Fingerprints::new(&hash_key);
        let list = load(&db, geometry, fingerprints.key_check())?;
        if list.next > rows {
            return Err(Self::beyond_rows(list.next, rows));
        }
        remove_unreferenced(&db, &list)?;
        let mut writer = Writer::new(Worker::start(Arc::clone(&db), geometry)?);
        if list.first > 0 {
            writer.order(Job::Sweep { below: list.first });
        }
        writer.order_merge(&list);
        let open = Block::new(geometry, list.next);
        let mut filter = Filter::new(options.dedup_filter_bytes, options.dedup_slices, geometry.max_bits());
        filter.set_complete(list.runs.is_empty());
        Ok(Self {
            db,
            fingerprints,
            geometry,
            shared: RwLock::new(Shared { list: Arc::new(list), full: Vec::new(), open }),
            writer: Mutex::new(writer),
            filter: Mutex::new(filter),
        })
    }

    /// Takes the messages of all runs with rows of hour `since` or later into the filter, and returns how many.
    /// The rows after the runs come in by [`Index::add`]. Until this was done every message may have been seen.
    ///
    /// # Errors
    /// If a chunk can't be read.
    pub fn restore_filter(&self, since: Hour) -> Result<u64, StoreError> {
        let list = Arc::clone(&self.shared().list);
        let mut filter = self.filter();
        let mut count = 0;
        for run in list.runs.iter().filter(|run| run.newest_hour() >= since) {
            let Some(partition_bits) = run.partition_bits(Table::Message) else { continue };
            let mut options = ReadOptions::default();
            options.fill_cache(false);
            let mut chunks = self.db.raw_iterator_cf_opt(column(&self.db, CF_INDEX)?, options);
            chunks.seek(keys::chunk(Table::Message, run.level, run.first, 0));
            for number in 0..1u32 << partition_bits {
                let key = keys::chunk(Table::Message, run.level, run.first, number);
                let value = chunks.item().filter(|(found, _)| *found == key).map(|(_, value)| value);
                if value.is_none() {
                    chunks.status().map_err(database("reading the message index"))?;
                }
                let entries = chunk::checked(value, &key, partition_bits, number)?;
                for entry in entries {
                    filter.add(u64::from_le_bytes(*entry), run.newest_hour());
                }
                count += entries.len() as u64;
                chunks.next();
            }
        }
        filter.set_complete(true);
        Ok(count)
    }

    /// For every message, whether a row may have it: `false` is certain.
    pub fn maybe_seen(&self, ids: &[Uuid]) -> Vec<bool> {
        let fingerprints: Vec<u64> = ids.iter().map(|id| self.fingerprints.of(&id.0)).collect();
        self.filter().maybe(&fingerprints)
    }

    /// Frees parts of the filter that hold only messages of hours before `before`.
    pub fn expire(&self, before: Hour) {
        self.filter().expire(before);
    }

    /// Memory and load of the filter.
    pub fn filter_stats(&self) -> FilterStats {
        self.filter().stats()
    }
}

fn load(db: &DB, geometry: Geometry, key_check: u64) -> Result<RunList, StoreError> {
    let meta = column(db, CF_META)?;
    let stored = db.get_pinned_cf(meta, keys::HEAD).map_err(database("reading the index head"))?;
    let Some(stored) = stored else {
        return match load_runs(db, geometry)?.first() {
            None => Ok(RunList::new(geometry)),
            Some(_) => Err(damaged(keys::HEAD, "it is missing")),
        };
    };
    let head = Head::decode(&stored, keys::HEAD)?;
    if head.geometry != geometry {
        let why = format!("the indexes were written with {:?}, the options give {geometry:?}", head.geometry);
        return Err(StoreError::Options { why });
    }
    if head.key_check != key_check {
        return Err(StoreError::Options {
            why: "the indexes were written under another hash key".to_owned(),
        });
    }
    RunList::assemble(&head, load_runs(db, geometry)?)
}

fn load_runs(db: &DB, geometry: Geometry) -> Result<Vec<Run>, StoreError> {
    let mut options = ReadOptions::default();
    options.set_iterate_upper_bound(keys::RUN_END);
    let mut records = db.raw_iterator_cf_opt(column(db, CF_META)?, options);
    let mut runs = Vec::new();
    records.seek(keys::RUN_PREFIX);
    while let Some((key, value)) = records.item() {
        let (level, first) =
            keys::parse_run(key).ok_or_else(|| damaged(key, "its key is not that of a run"))?;
        if level > geometry.max_level {
            return Err(damaged(key, "its level is higher than runs are merged"));
        }
        let summary = Summary::decode(value, key, geometry.run_rows(level))?;
        runs.push(Run { level, first, summary });
        records.next();
    }
    records.status().map_err(database("reading the run list"))?;
    Ok(runs)
}

/// Deletes chunks of runs that the list does not have: a merge that was not committed, or sources of one
/// that was.
fn remove_unreferenced(db: &DB, list: &RunList) -> Result<(), StoreError> {
    let index = column(db, CF_INDEX)?;
    let mut batch = WriteBatch::default();
    for table in Table::ALL {
        let mut chunks = db.raw_iterator_cf(index);
        chunks.seek([table.tag()]);
        while let Some((level, first, _)) = chunks.key().and_then(|key| keys::parse_chunk(table, key)) {
            let end = keys::chunk(table, level, first, u32::MAX);
            if !list.runs.iter().any(|run| (run.level, run.first) == (level, first)) {
                batch.delete_range_cf(index, keys::chunk(table, level, first, 0), end);
            }
            chunks.seek(end);
        }
        chunks.status().map_err(database("looking for unreferenced index runs"))?;
    }
    worker::write(db, batch)
}
