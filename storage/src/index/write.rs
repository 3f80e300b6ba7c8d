//! The apply thread's part: add rows, put full blocks and finished merges into the batch, publish them.

use super::block::Block;
use super::list::RunList;
use super::record::Run;
use super::worker::{Job, Worker};
use super::{Index, RowKeys, column, damaged, keys};
use crate::error::StoreError;
use crate::keys::{CF_INDEX, CF_META};
use rocksdb::WriteBatch;
use std::borrow::Borrow;
use std::sync::Arc;

/// What only the apply thread changes.
pub(super) struct Writer {
    worker: Worker,
    /// A merge was ordered and its outcome is not committed yet.
    merging: bool,
    /// A merged run that no committed run list has yet.
    merged: Option<Run>,
    /// Rows before this ordinal are no longer needed.
    drop_below: u64,
    /// What the batch in hand will make true.
    pending: Option<Pending>,
}

struct Pending {
    list: RunList,
    full: usize,
    retired: Vec<Run>,
    merged: bool,
}

impl Writer {
    /// Of a store that has just been opened.
    pub fn new(worker: Worker) -> Self {
        Self { worker, merging: false, merged: None, drop_below: 0, pending: None }
    }

    /// Hands a job to the background thread.
    pub fn order(&self, job: Job) {
        self.worker.order(job);
    }

    /// Orders the next merge, unless one is under way.
    pub fn order_merge(&mut self, list: &RunList) {
        if !self.merging
            && let Some(sources) = list.mergeable()
        {
            self.worker.order(Job::Merge(sources));
            self.merging = true;
        }
    }
}

impl Index {
    /// Adds the next row; ordinals have no gaps. To be called only when its write is about to be tried.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the ordinal is not the next one.
    pub fn add(&self, row: &RowKeys) -> Result<(), StoreError> {
        self.add_all(std::iter::once(row))
    }

    /// [`Index::add`] for many rows, faster than one by one.
    ///
    /// # Errors
    /// As there; the rows before the wrong one are added.
    pub fn add_all<R: Borrow<RowKeys>>(&self, rows: impl IntoIterator<Item = R>) -> Result<(), StoreError> {
        let mut guard = self.shared_mut();
        let shared = &mut *guard;
        let mut filter = self.filter();
        for row in rows {
            let (row, open) = (row.borrow(), &mut shared.open);
            if row.ordinal != open.next {
                let why = format!("row {} was added where row {} comes next", row.ordinal, open.next);
                return Err(StoreError::Damaged { what: "the order of rows".to_owned(), why });
            }
            let message = row.message_id.map(|id| self.fingerprints.of(&id.0));
            if row.original
                && let Some(message) = message
            {
                filter.add(message, row.bucket_hour);
            }
            open.add(row, message, &self.fingerprints);
            if open.room() == 0 {
                let next = Block::new(self.geometry, open.next);
                shared.full.push(Arc::new(std::mem::replace(open, next)));
            }
        }
        Ok(())
    }

    /// Puts what has become ready into the batch of the rows: full blocks, finished merges, dropped runs.
    /// Mostly there is nothing, which costs about 0.1 us.
    ///
    /// # Errors
    /// The background thread's failure, if it failed.
    pub fn commit(&self, batch: &mut WriteBatch) -> Result<(), StoreError> {
        let mut writer = self.writer();
        if let Some(merged) = writer.worker.finished()? {
            writer.merged = Some(merged);
        }
        let shared = self.shared();
        let (full, list) = (shared.full.clone(), Arc::clone(&shared.list));
        drop(shared);
        writer.pending = None;
        let drops = writer.drop_below > list.first;
        if full.is_empty() && writer.merged.is_none() && !drops {
            return Ok(());
        }
        let mut pending =
            Pending { list: (*list).clone(), full: full.len(), retired: Vec::new(), merged: false };
        self.commit_full(&full, &mut pending, batch)?;
        if let Some(merged) = writer.merged {
            self.commit_merged(merged, &mut pending, batch)?;
        }
        if drops {
            let meta = column(&self.db, CF_META)?;
            for run in pending.list.drop_below(writer.drop_below) {
                batch.delete_cf(meta, keys::run(run.level, run.first));
                pending.retired.push(run);
            }
        }
        if pending.list == *list && pending.retired.is_empty() {
            return Ok(());
        }
        let head = pending.list.head(self.fingerprints.key_check());
        batch.put_cf(column(&self.db, CF_META)?, keys::HEAD, head.encode());
        writer.pending = Some(pending);
        Ok(())
    }

    fn commit_full(
        &self,
        full: &[Arc<Block>],
        pending: &mut Pending,
        batch: &mut WriteBatch,
    ) -> Result<(), StoreError> {
        let (index, meta) = (column(&self.db, CF_INDEX)?, column(&self.db, CF_META)?);
        for block in full {
            let run = block.write(index, batch);
            batch.put_cf(meta, keys::run(run.level, run.first), run.summary.encode());
            pending.list.push(run);
        }
        Ok(())
    }

    fn commit_merged(
        &self,
        merged: Run,
        pending: &mut Pending,
        batch: &mut WriteBatch,
    ) -> Result<(), StoreError> {
        let meta = column(&self.db, CF_META)?;
        pending.merged = true;
        match pending.list.replace(merged) {
            Some(sources) => {
                for run in &sources {
                    batch.delete_cf(meta, keys::run(run.level, run.first));
                }
                batch.put_cf(meta, keys::run(merged.level, merged.first), merged.summary.encode());
                pending.retired.extend(sources);
            }
            // Its sources were dropped meanwhile.
            None => pending.retired.push(merged),
        }
        Ok(())
    }

    /// Shows readers what the batch of the last [`Index::commit`] made true. To be called after its write. If
    /// the background thread has failed, the next [`Index::commit`] returns that.
    pub fn committed(&self) {
        let mut writer = self.writer();
        let Some(pending) = writer.pending.take() else { return };
        let list = Arc::new(pending.list);
        let dropped = {
            let mut shared = self.shared_mut();
            shared.full.drain(..pending.full);
            let before = std::mem::replace(&mut shared.list, Arc::clone(&list));
            before.first < list.first
        };
        if pending.merged {
            (writer.merged, writer.merging) = (None, false);
        }
        // Only now: a reader that took the list before also took a snapshot before, and reads the old runs from it.
        if !pending.retired.is_empty() {
            writer.order(Job::Retire(pending.retired));
        }
        if dropped {
            writer.order(Job::Sweep { below: list.first });
        }
        writer.order_merge(&list);
    }

    /// Drops whole runs before `ordinal`; the next [`Index::commit`] does it.
    pub fn drop_below(&self, ordinal: u64) {
        let mut writer = self.writer();
        writer.drop_below = writer.drop_below.max(ordinal);
    }

    /// True while a merge is under way or waits for the next [`Index::commit`].
    pub fn merging(&self) -> bool {
        self.writer().merging
    }

    /// A run list that does not fit the rows at open.
    pub(super) fn beyond_rows(next: u64, rows: u64) -> StoreError {
        damaged(keys::HEAD, format!("it covers {next} rows, but the store has {rows}"))
    }
}
