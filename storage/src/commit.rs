//! The write path: log entries become transitions, transitions become one atomic write.

use crate::error::{StoreError, database};
use crate::exports;
use crate::following::{self, Rows, StagedRow};
use crate::generation::{Generation, Present, row_keys};
use crate::hours::{Committed, HourSpan};
use crate::index::Index;
use crate::keys::{self, CF_LEAVES, CF_META, CF_ROWS, CF_SEALS, META_RAFT};
use crate::leaves::{LeafWriter, put_subtrees};
use crate::meta::Dirty;
use crate::metrics::Counters;
use crate::options::StoreOptions;
use crate::outbox::{self, OutboxEntry};
use crate::page::PageWriter;
use crate::quarantine;
use crate::reconcile::{self, Reconciling};
use crate::schema::{Db, column, write_options};
use crate::seals;
use crate::store::{operator_name, registry_number};
use cdr_core::adjust::Predecessor;
use cdr_core::audit::{Request, request_of};
use cdr_core::command::{Envelope, Reconcile, Reply};
use cdr_core::export::Export;
use cdr_core::export::books::Books;
use cdr_core::export::quarantine::Quarantined;
use cdr_core::history::Comparison;
use cdr_core::receipt::Known;
use cdr_core::row::{Record, SystemKind};
use cdr_core::state::ClosedHour;
use cdr_core::{CdrId, Hash, Hour, Row, Transition, Uuid, View, ViewError, apply_entry};
use rocksdb::WriteBatch;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A committed log entry that carries a command.
#[derive(Clone, Copy, Debug)]
pub struct EntryRef<'a> {
    /// Index in the log.
    pub index: u64,
    /// Term in the log.
    pub term: u64,
    /// The encoded [`Envelope`].
    pub bytes: &'a [u8],
}

/// Buffers that are kept from one write to the next.
#[derive(Default)]
pub(crate) struct Buffers {
    pages: PageWriter,
    leaves: LeafWriter,
    staged: Vec<StagedRow>,
    /// Size of the last batch: the next one will hardly be larger.
    last_bytes: usize,
}

/// One write in the making: the entries of one call.
pub(crate) struct Write<'a> {
    generation: &'a Generation,
    options: &'a StoreOptions,
    counters: &'a Counters,
    buffers: &'a mut Buffers,
    index: Arc<Index>,
    /// What is in the database already.
    stored: Committed,
    /// What will be once this write is done.
    ahead: Committed,
    batch: WriteBatch,
    dirty: Dirty,
    closed: BTreeMap<Hour, Hash>,
    requests: HashMap<Hash, Request>,
    books: Books,
    reconciled: reconcile::Staged,
}

/// What is committed, and the rows that a write adds to it.
pub(crate) struct Reading<'w> {
    pub db: &'w Db,
    committed: &'w Committed,
    index: &'w Index,
    staged: &'w [StagedRow],
}

impl<'w> Reading<'w> {
    pub fn rows(&self) -> Result<Rows<'w>, StoreError> {
        Rows::new(self.db, self.committed, self.index, self.staged)
    }
}

impl<'a> Write<'a> {
    pub fn new(
        generation: &'a Generation,
        options: &'a StoreOptions,
        counters: &'a Counters,
        buffers: &'a mut Buffers,
    ) -> Self {
        let stored = generation.committed();
        buffers.staged.clear();
        let capacity = buffers.last_bytes + buffers.last_bytes / 8;
        Self {
            index: generation.index(),
            ahead: stored.clone(),
            stored,
            generation,
            options,
            counters,
            buffers,
            batch: WriteBatch::with_capacity_bytes(capacity),
            dirty: Dirty::default(),
            closed: BTreeMap::new(),
            requests: HashMap::new(),
            books: Books::default(),
            reconciled: reconcile::Staged::default(),
        }
    }

    /// Decides one entry and stages what follows from it, unless the leader that proposed it had another history.
    pub fn entry(&mut self, entry: &EntryRef<'_>) -> Result<Reply, StoreError> {
        let undecided = |error: ViewError| match error {
            ViewError::NeedsBuild(needs) => {
                StoreError::NeedsBuild { what: format!("log entry {}", entry.index), needs }
            }
            ViewError::Unreadable(why) => StoreError::Entry { index: entry.index, term: entry.term, why },
        };
        let decoded = Envelope::decode(entry.bytes, self.options.build);
        let envelope = decoded.map_err(|error| undecided(error.into()))?;
        let carried = envelope.progress.applied;
        if let Comparison::Differs(difference) = self.generation.marks().compare_carried(&carried) {
            return Err(StoreError::Forked { index: entry.index, difference });
        }
        let transition = apply_entry(&self.ahead.state, &*self, (entry.index, entry.term), &envelope)
            .map_err(undecided)?;
        self.generation.marks().push(transition.state.head.applied);
        if let Some(happened) = OutboxEntry::of(entry.index, &transition) {
            outbox::put(&self.generation.db, &happened, &mut self.batch)?;
        }
        if transition.reply == Reply::Published {
            let head = &transition.state.head;
            outbox::drop_old(&self.generation.db, head.published, head.open_hour, &mut self.batch)?;
        }
        self.stage(transition)
    }

    fn stage(&mut self, mut transition: Transition<'_>) -> Result<Reply, StoreError> {
        let begins = self.ahead.state.cluster.is_none() && transition.state.cluster.is_some();
        if begins {
            self.index = self.generation.begin_index(&transition.state, self.options)?;
        }
        self.stage_closed(&transition.closed)?;
        self.stage_rows(&transition)?;
        self.stage_books(&mut transition)?;
        if let Some(sign) = &transition.signature {
            let seals = column(&self.generation.db, CF_SEALS)?;
            self.batch.put_cf(seals, keys::signature(sign.hour), sign.signature);
        }
        self.dirty.add(&transition.changes);
        self.ahead.state = Arc::new(transition.state);
        if let Some(reconcile) = &transition.reconcile {
            self.reconcile(reconcile)?;
        }
        if let Reply::Ingested(ingested) = &transition.reply {
            Counters::add(&self.counters.duplicates, ingested.duplicate);
        }
        Ok(transition.reply)
    }

    fn stage_closed(&mut self, closed: &[ClosedHour]) -> Result<(), StoreError> {
        let seals = column(&self.generation.db, CF_SEALS)?;
        for hour in closed {
            self.batch.put_cf(
                seals,
                keys::seal(hour.seal.bucket_hour),
                seals::encode(hour, self.generation.format())?,
            );
            self.closed.insert(hour.seal.bucket_hour, hour.seal_hash);
            Arc::make_mut(&mut self.ahead.sealed).push(HourSpan {
                hour: hour.seal.bucket_hour,
                first_ordinal: hour.first_ordinal,
                rows: hour.seal.record_count,
            });
        }
        Ok(())
    }

    fn stage_rows(&mut self, transition: &Transition<'_>) -> Result<(), StoreError> {
        let Some(first) = transition.rows.first() else { return Ok(()) };
        let db = &self.generation.db;
        let (rows, leaves) = (column(db, CF_ROWS)?, column(db, CF_LEAVES)?);
        let batch = &mut self.batch;
        self.buffers
            .pages
            .write(&transition.rows, self.options.page_rows, |key, page| batch.put_cf(rows, key, page));
        self.buffers.leaves.add(leaves, &transition.rows, batch);
        put_subtrees(leaves, first.row.frame.bucket_hour, &transition.subtrees, batch);
        let keys = transition.rows.iter().map(|row| row_keys(row.ordinal, row.operator, &row.row));
        self.index.add_all(keys)?;
        for row in &transition.rows {
            self.buffers.staged.push(StagedRow::new(row));
            following::stage(db, row, batch)?;
            if let Some(request) = request_in(&row.row) {
                self.requests.insert(request.key, request);
            }
        }
        Counters::add(&self.counters.rows_appended, transition.rows.len() as u64);
        let reading =
            Reading { db, committed: &self.stored, index: &self.index, staged: &self.buffers.staged };
        reconcile::take_rows(&mut self.reconciled, &reading, &transition.rows)
    }

    /// Reconciles billing's events with the records. The core has checked that their operators are known.
    fn reconcile(&mut self, reconcile: &Reconcile<'_>) -> Result<(), StoreError> {
        let db = &*self.generation.db;
        let from = self.ahead.ordinals_between(Some(self.ahead.state.dedup_since()), None).start;
        let mut rows = Rows::new(db, &self.stored, &self.index, &self.buffers.staged)?;
        let mut reconciling = Reconciling { staged: &mut self.reconciled, db, rows: &mut rows };
        let billed: Vec<Uuid> = reconcile.bills.iter().map(|bill| bill.message_id).collect();
        for (bill, maybe) in reconcile.bills.iter().zip(self.index.maybe_seen(&billed)) {
            if let Some(operator) = registry_number(&self.ahead, bill.operator_id) {
                reconciling.billed(bill, operator, maybe.then_some(from))?;
            }
        }
        let again = &reconcile.look_again;
        for (message, maybe) in again.iter().zip(self.index.maybe_seen(again)) {
            reconciling.look_again(*message, maybe.then_some(from))?;
        }
        reconciling.forget(reconcile.forget_before)
    }

    fn stage_books(&mut self, transition: &mut Transition<'_>) -> Result<(), StoreError> {
        let db = &self.generation.db;
        for export in transition.books.exports.values() {
            exports::put(db, export, &mut self.batch)?;
        }
        for entry in transition.books.quarantine.values() {
            quarantine::put(db, entry, &mut self.batch)?;
        }
        self.books.exports.append(&mut transition.books.exports);
        self.books.quarantine.append(&mut transition.books.quarantine);
        Ok(())
    }

    /// Writes everything that was staged, with the Raft layer's metadata, and makes it visible.
    pub fn commit(mut self, raft_meta: &[u8]) -> Result<(), StoreError> {
        let db = &self.generation.db;
        self.buffers.leaves.finish(column(db, CF_LEAVES)?, &mut self.batch);
        self.dirty.write(db, &self.stored.state, &self.ahead.state, &mut self.batch)?;
        self.reconciled.write(db, &mut self.batch)?;
        self.batch.put_cf(column(db, CF_META)?, META_RAFT, raft_meta);
        self.index.commit(&mut self.batch)?;
        self.buffers.last_bytes = self.batch.size_in_bytes();
        Counters::add(&self.counters.written_bytes, self.buffers.last_bytes as u64);
        db.write_opt(self.batch, &write_options()).map_err(database("writing a batch"))?;
        self.index.committed();
        let expired = self.stored.state.head.open_hour != self.ahead.state.head.open_hour;
        let (state, index) = (Arc::clone(&self.ahead.state), Arc::clone(&self.index));
        self.generation.publish(Present { committed: self.ahead, raft_meta: Some(raft_meta.into()) });
        if expired && state.cluster.is_some() {
            index.expire(state.dedup_since());
        }
        Ok(())
    }

    /// Committed rows, and those of this write.
    fn rows(&self) -> Result<Rows<'_>, StoreError> {
        Rows::new(&self.generation.db, &self.stored, &self.index, &self.buffers.staged)
    }
}

impl View for Write<'_> {
    fn known(&self, ids: &[Uuid], since: Hour) -> Result<Vec<Known>, ViewError> {
        let from_ordinal = self.ahead.ordinals_between(Some(since), None).start;
        let mut known = vec![Known::Nothing; ids.len()];
        let mut rows: Option<Rows<'_>> = None;
        for (at, _) in self.index.maybe_seen(ids).into_iter().enumerate().filter(|(_, maybe)| *maybe) {
            let rows = match &mut rows {
                Some(rows) => rows,
                none => none.insert(self.rows()?),
            };
            Counters::add(&self.counters.dedup_lookups, 1);
            known[at] = rows.message(ids[at], from_ordinal)?;
        }
        Ok(known)
    }

    fn seal_hash(&self, hour: Hour) -> Result<Option<Hash>, ViewError> {
        match self.closed.get(&hour) {
            Some(hash) => Ok(Some(*hash)),
            None => Ok(seals::read_hash(&self.generation.db, hour)?),
        }
    }

    fn predecessor(&self, id: CdrId) -> Result<Option<Predecessor>, ViewError> {
        let state = &self.ahead.state;
        Ok(self.rows()?.predecessor(id, |operator| operator_name(state, operator))?)
    }

    fn request(&self, key: &Hash) -> Result<Option<Request>, ViewError> {
        match self.requests.get(key) {
            Some(request) => Ok(Some(*request)),
            None => Ok(following::request(&self.generation.db, key)?),
        }
    }

    fn export(&self, id: CdrId) -> Result<Option<Export>, ViewError> {
        match self.books.exports.get(&id) {
            Some(export) => Ok(Some(export.clone())),
            None => Ok(exports::export(&self.generation.db, id)?),
        }
    }

    fn quarantined(&self, id: CdrId) -> Result<Option<Quarantined>, ViewError> {
        match self.books.quarantine.get(&id) {
            Some(entry) => Ok(Some(entry.clone())),
            None => Ok(quarantine::quarantined(&self.generation.db, id)?),
        }
    }

    fn waits_in_quarantine(&self, series: &str, cdr_id: &str) -> Result<bool, ViewError> {
        if self.books.waits(series, cdr_id) {
            return Ok(true);
        }
        let Some(record) = CdrId::parse(cdr_id) else { return Ok(false) };
        let entries = quarantine::of_record(&self.generation.db, series, record)?;
        // What this write resolved no longer waits.
        let is_resolved = |id| self.books.quarantine.get(&id).is_some_and(|entry| entry.resolved.is_some());
        Ok(entries.iter().any(|entry| entry.resolved.is_none() && !is_resolved(entry.id)))
    }
}

/// The repeatable request of an audit row; what can't be read was refused before.
fn request_in(row: &Row<'_>) -> Option<Request> {
    match &row.record {
        Record::System(system) if system.kind == SystemKind::Audit => request_of(system).ok().flatten(),
        _ => None,
    }
}
