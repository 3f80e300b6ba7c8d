//! The store: what the replicated state machine and the readers call.

use crate::commit::{Buffers, EntryRef, Write};
use crate::error::{StoreError, database};
use crate::files;
use crate::generation::Generation;
use crate::hours::Committed;
use crate::index::Lookup;
use crate::keys::COLUMN_FAMILIES;
use crate::leaves::{LeafCursor, StoredTree};
use crate::meta;
use crate::metrics::{Counters, StoreMetrics};
use crate::options::StoreOptions;
use crate::outbox::UNPRICED_COUNTED;
use crate::page::StoredRow;
use crate::query::{RecordFilter, RecordPage, run_query};
use crate::rows::RowReader;
use crate::schema::{self, Db, column};
use crate::seals::{self, StoredSeal};
use crate::tables;
use crate::verify::{self, Depth, HourReport, Pace, RangeReport};
use cdr_core::command::Reply;
use cdr_core::history::{self, Comparison, Difference, Mark};
use cdr_core::merkle::InclusionProof;
use cdr_core::{CdrId, Hash, Hour, LedgerState};
use rocksdb::checkpoint::Checkpoint;
use rocksdb::{FlushOptions, properties};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::Instant;

/// Bytes written between two looks at the free disk space and at background errors.
const CHECK_EVERY_BYTES: u64 = 4 << 20;

/// The bytes of the ledger on one disk. Clones share it.
///
/// [`apply`](Self::apply) is called in log order, by one caller at a time; everything else may be called from any
/// thread at any time.
#[derive(Clone)]
pub struct Store(pub(crate) Arc<Inner>);

/// What the clones of a store share.
pub(crate) struct Inner {
    pub(crate) root: PathBuf,
    pub(crate) options: StoreOptions,
    current: RwLock<Arc<Generation>>,
    pub(crate) writer: Mutex<Buffers>,
    counters: Counters,
    poison: OnceLock<String>,
    /// Value of `written_bytes` at which the disk is checked again.
    check_at: AtomicU64,
    /// A thread migrates the disk format.
    pub(crate) migrating: AtomicBool,
}

impl Store {
    /// Opens or creates the store in `dir`, and rebuilds in memory what is not stored. If rows or indexes that
    /// this needs are damaged, the store is open for reading and verification only: [`Store::poisoned`] says why.
    ///
    /// # Errors
    /// [`StoreError::FormatVersion`] for another build's directory, [`StoreError::Damaged`] if what is needed to go
    /// on can't be read, or what the system says.
    pub fn open(dir: &Path, options: StoreOptions) -> Result<Self, StoreError> {
        let generation = Generation::open(files::open_current(dir, options.build)?, &options)?;
        let damage = generation.damage.clone();
        let store = Self(Arc::new(Inner {
            root: dir.to_owned(),
            options,
            current: RwLock::new(Arc::new(generation)),
            writer: Mutex::default(),
            counters: Counters::default(),
            poison: OnceLock::new(),
            check_at: AtomicU64::new(0),
            migrating: AtomicBool::new(false),
        }));
        if let Some(cause) = damage {
            store.0.poison_with(StoreError::Poisoned { cause });
        }
        store.migrate_if_due()?;
        Ok(store)
    }

    /// The Raft layer's metadata as of the last write, durable or not.
    ///
    /// # Errors
    /// None at present; reading it may fail in the future.
    pub fn raft_meta(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.generation().raft_meta().map(|meta| meta.to_vec()))
    }

    /// Applies entries in log order, in one atomic write that also stores `raft_meta`; one reply per entry. An
    /// entry that is `None` carries no command. The call holds the whole write in memory: callers bound its size.
    ///
    /// # Errors
    /// [`StoreError::Full`] before anything was changed; the same call may be repeated. Every other error poisons
    /// the store: nothing of this call is visible, and all later calls fail with [`StoreError::Poisoned`].
    pub fn apply(
        &self,
        entries: &[Option<EntryRef<'_>>],
        raft_meta: &[u8],
    ) -> Result<Vec<Reply>, StoreError> {
        let started = Instant::now();
        let inner = &*self.0;
        let mut buffers = inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // Without a command, little is written, and that to memory: it finds room where commands don't, so that a new
        // leader's first entry is applied, and reads go on.
        if entries.iter().any(Option::is_some) {
            inner.ready_to_write()?;
        } else {
            inner.refuse_if_poisoned()?;
        }
        let generation = inner.generation();
        let mut write = Write::new(&generation, &inner.options, &inner.counters, &mut buffers);
        let replies = entries
            .iter()
            .map(|entry| entry.as_ref().map_or(Ok(Reply::None), |entry| write.entry(entry)))
            .collect::<Result<Vec<Reply>, StoreError>>()
            .and_then(|replies| write.commit(raft_meta).map(|()| replies));
        let replies = replies.map_err(|error| inner.poison_with(error))?;
        drop(buffers);
        if generation.format() < generation.committed().state.head.rules.formats().disk {
            self.migrate_if_due()?;
        }
        Counters::add(&inner.counters.entries_applied, entries.len() as u64);
        Counters::add(&inner.counters.apply_us, started.elapsed().as_micros() as u64);
        Ok(replies)
    }

    /// Brings everything applied so far to disk; returns the Raft layer's metadata that is durable now.
    ///
    /// # Errors
    /// Any failure poisons the store.
    pub fn flush(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let inner = &*self.0;
        inner.refuse_if_poisoned()?;
        let generation = inner.generation();
        // Whatever was written before this line is in the buffers that are flushed below.
        let durable = generation.raft_meta();
        flush_tables(&generation.db).map_err(|error| inner.poison_with(error))?;
        Ok(durable.map(|meta| meta.to_vec()))
    }

    /// Writes a durable copy of the store into the directory `into`, which must not exist; returns the Raft
    /// layer's metadata in it. Writes may go on meanwhile.
    ///
    /// # Errors
    /// What the database or the system says; the store itself goes on.
    pub fn checkpoint(&self, into: &Path) -> Result<Vec<u8>, StoreError> {
        self.0.refuse_if_poisoned()?;
        let generation = self.0.generation();
        generation.raft_meta().ok_or_else(nothing_applied)?;
        Checkpoint::new(&*generation.db)
            .and_then(|checkpoint| checkpoint.create_checkpoint(into))
            .map_err(database("making a checkpoint"))?;
        files::sync(into)?;
        let copy = schema::open_read_only(into)?;
        meta::read_raft_meta(&copy)?.ok_or_else(|| StoreError::Unknown {
            what: "the metadata of the Raft layer: nothing was applied yet, so there is nothing to copy; it"
                .to_owned(),
        })
    }

    /// Reads every block of the tables among `files`, which are of the checkpoint in `dir`.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] names the first that does not hold what was written; else what the system says.
    pub fn check_tables(&self, dir: &Path, files: &[PathBuf]) -> Result<(), StoreError> {
        tables::check(dir, files)
    }

    /// Replaces everything by the checkpoint in the directory `from`, which stays as it is. Readers that are under
    /// way finish on the old content.
    ///
    /// # Errors
    /// If the checkpoint can't be read, is damaged, is of another history than what was applied here, or its files can't be
    /// written: the store goes on with the old content.
    pub fn install(&self, from: &Path) -> Result<(), StoreError> {
        let inner = &*self.0;
        let writer = inner.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let old = inner.generation();
        let staged = files::stage(&inner.root, &old.dir, from)?;
        if let Err(error) = tables::of(&staged.path).and_then(|all| tables::check(&staged.path, &all)) {
            staged.retire();
            return Err(error);
        }
        let new = Generation::open(staged, &inner.options)?;
        if let Some(cause) = &new.damage {
            new.dir.retire();
            return Err(StoreError::Damaged { what: "the checkpoint".to_owned(), why: cause.clone() });
        }
        if let Some(difference) = fork_between(&old, &new) {
            new.dir.retire();
            return Err(StoreError::ForeignCheckpoint { difference });
        }
        files::raise_format(&inner.root, new.format(), new.committed().state.head.rules)?;
        files::switch(&inner.root, &new.dir)?;
        *inner.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
        old.dir.retire();
        drop(writer);
        self.migrate_if_due()
    }

    /// Compares another replica's mark with what was applied here.
    pub fn compare(&self, theirs: &Mark) -> Comparison {
        self.0.generation().marks().compare(theirs)
    }

    /// What names this directory among all that ever were, as [`keep_identity`](Self::keep_identity) left it.
    ///
    /// # Errors
    /// If the file exists and can't be read.
    pub fn identity(&self) -> Result<Option<Vec<u8>>, StoreError> {
        files::read_identity(&self.0.root)
    }

    /// Keeps what names this directory, durably. An installed checkpoint does not replace it.
    ///
    /// # Errors
    /// If the file can't be written.
    pub fn keep_identity(&self, identity: &[u8]) -> Result<(), StoreError> {
        files::write_durably(&self.0.root, files::IDENTITY_FILE, identity)
    }

    /// The ledger's state as of the last write.
    pub fn state(&self) -> Arc<LedgerState> {
        self.0.generation().committed().state
    }

    /// The row with this id.
    ///
    /// # Errors
    /// If the index or a row can't be read.
    pub fn row_by_id(&self, id: CdrId) -> Result<Option<StoredRow>, StoreError> {
        let generation = self.0.generation();
        let (committed, index) = (generation.committed(), generation.index());
        let mut reader = RowReader::new(&generation.db, &committed)?;
        let range = 0..committed.state.head.row_count;
        for ordinal in index.candidates(Lookup::CdrId(id), range, true)? {
            if let Some(stored) = reader.by_ordinal(ordinal?)?
                && stored.row()?.frame.cdr_id == id
            {
                return Ok(Some(stored));
            }
        }
        Ok(None)
    }

    /// The row at a place, of a sealed hour or of the open one.
    ///
    /// # Errors
    /// If the row can't be read.
    pub fn row_at(&self, hour: Hour, sequence: u64) -> Result<Option<StoredRow>, StoreError> {
        let generation = self.0.generation();
        let committed = generation.committed();
        RowReader::new(&generation.db, &committed)?.by_place(hour, sequence)
    }

    /// Rows that fit `filter`, ascending by `(bucketHour, cdrSequence)`, from behind the place `after`: at most
    /// `limit`. One call looks at a bounded number of rows; it may return fewer than there are, even none, with a
    /// place to go on from.
    ///
    /// # Errors
    /// If an index or a row can't be read.
    pub fn query(
        &self,
        filter: &RecordFilter,
        after: Option<(Hour, u64)>,
        limit: usize,
    ) -> Result<RecordPage, StoreError> {
        run_query(&self.0.generation(), filter, after, limit, self.0.options.query_scan_rows)
    }

    /// The seal of an hour.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn seal(&self, hour: Hour) -> Result<Option<StoredSeal>, StoreError> {
        seals::read(&self.0.generation().db, hour)
    }

    /// The seals of hours `from` to `to_inclusive`, ascending, each read as it is asked for.
    pub fn seals(
        &self,
        from: Hour,
        to_inclusive: Hour,
    ) -> impl Iterator<Item = Result<StoredSeal, StoreError>> {
        let generation = self.0.generation();
        let sealed = generation.committed().sealed;
        let from = sealed.partition_point(|span| span.hour < from);
        let end = sealed.partition_point(|span| span.hour <= to_inclusive);
        (from..end).map(move |at| seals::read_sealed(&generation.db, sealed[at].hour))
    }

    /// The row's hash as its hash page has it.
    ///
    /// # Errors
    /// If the hash page can't be read.
    pub fn stored_row_hash(&self, row: &StoredRow) -> Result<Hash, StoreError> {
        let generation = self.0.generation();
        LeafCursor::new(&generation.db, row.hour(), row.operator())?.hash(row.leaf_index())
    }

    /// Proof that the row with this leaf index is in its operator's root of a sealed hour, verified before it is
    /// returned.
    ///
    /// # Errors
    /// [`StoreError::NotSealed`], [`StoreError::Unknown`] without that operator or leaf, [`StoreError::Damaged`] if
    /// what is stored does not lead to the sealed root.
    pub fn inclusion_proof(
        &self,
        hour: Hour,
        operator: &str,
        leaf_index: u64,
    ) -> Result<InclusionProof, StoreError> {
        let generation = self.0.generation();
        let committed = generation.committed();
        let seal = seals::read(&generation.db, hour)?
            .ok_or_else(|| StoreError::NotSealed { hour: hour.to_string() })?
            .seal;
        let unknown = || StoreError::Unknown {
            what: format!("leaf {leaf_index} of operator {operator} in hour {hour}"),
        };
        let sealed = seal.operator(operator).filter(|o| leaf_index < o.record_count).ok_or_else(unknown)?;
        let number = registry_number(&committed, operator).ok_or_else(unknown)?;
        let mut tree = StoredTree::new(&generation.db, hour, number, sealed.record_count)?;
        let proof = tree.proof(leaf_index)?;
        if proof.verify(&tree.leaf(leaf_index)?, sealed.record_count, &sealed.bucket_root) {
            return Ok(proof);
        }
        Err(StoreError::Damaged {
            what: format!("the tree of operator {operator} in hour {hour}"),
            why: format!("the proof of leaf {leaf_index} does not lead to the sealed root"),
        })
    }

    /// Checks a sealed hour, of all operators or of one. What does not fit, or can't be read, is in the report.
    ///
    /// # Errors
    /// [`StoreError::NotSealed`] for the open hour and later ones, [`StoreError::Unknown`] for hours before the
    /// first and for unknown operators, and failures that say nothing about the stored bytes.
    pub fn verify_hour(
        &self,
        hour: Hour,
        operator: Option<&str>,
        depth: Depth,
    ) -> Result<HourReport, StoreError> {
        verify::verify_hour(&self.0.generation(), hour, operator, depth, self.0.options.verify_threads)
    }

    /// Checks a sealed hour at depth `rows` on this thread alone, no faster than `pace` allows; none if it was stopped.
    /// What it reads displaces nothing from the cache.
    ///
    /// # Errors
    /// As [`Store::verify_hour`].
    pub fn verify_hour_slowly(&self, hour: Hour, pace: &Pace) -> Result<Option<HourReport>, StoreError> {
        verify::verify_hour_slowly(&self.0.generation(), hour, pace)
    }

    /// Checks the sealed hours `from` to `to_inclusive`, and that each continues the one before.
    ///
    /// # Errors
    /// As [`Store::verify_hour`].
    pub fn verify_range(
        &self,
        from: Hour,
        to_inclusive: Hour,
        operator: Option<&str>,
        depth: Depth,
    ) -> Result<RangeReport, StoreError> {
        verify::verify_range(
            &self.0.generation(),
            from,
            to_inclusive,
            operator,
            depth,
            self.0.options.verify_threads,
        )
    }

    /// Figures of this store.
    pub fn metrics(&self) -> StoreMetrics {
        let generation = self.0.generation();
        let mut metrics = StoreMetrics {
            row_count: generation.committed().state.head.row_count,
            background_errors: self.0.background_errors(),
            poisoned: u64::from(self.poisoned().is_some()),
            oldest_unpublished_at: self.oldest_unpublished().ok().flatten().map(|entry| entry.at),
            ..StoreMetrics::default()
        };
        for family in COLUMN_FAMILIES {
            let Ok(family) = column(&generation.db, family) else { continue };
            let size = |name| generation.db.property_int_value_cf(family, name).ok().flatten().unwrap_or(0);
            metrics.table_bytes += size(properties::TOTAL_SST_FILES_SIZE);
            metrics.memtable_bytes += size(properties::CUR_SIZE_ALL_MEM_TABLES);
            metrics.pending_compaction_bytes += size(properties::ESTIMATE_PENDING_COMPACTION_BYTES);
        }
        // Metrics are no reason to fail; what can't be read shows where rows are read.
        let waiting = self.unpriced(0, UNPRICED_COUNTED).unwrap_or_default();
        metrics.unpriced_rows = waiting.len() as u64;
        metrics.oldest_unpriced_at = waiting.iter().map(|(_, at)| *at).min();
        self.0.counters.fill(&mut metrics);
        metrics
    }

    /// Its sizes.
    pub(crate) fn options(&self) -> &StoreOptions {
        &self.0.options
    }

    /// What is current.
    pub(crate) fn generation(&self) -> Arc<Generation> {
        self.0.generation()
    }

    /// Why the store stopped writing, if it did.
    pub fn poisoned(&self) -> Option<String> {
        self.0.poison.get().cloned()
    }
}

/// Where a checkpoint has another history than what it would take the place of.
fn fork_between(old: &Generation, new: &Generation) -> Option<Difference> {
    let (ours, theirs) = (old.committed().state, new.committed().state);
    history::fork_by_fences(&ours.fences, ours.head.applied.index, &theirs.fences)
}

fn nothing_applied() -> StoreError {
    StoreError::Unknown { what: "a checkpoint of a store to which nothing was applied".to_owned() }
}

/// Id of the operator with this registry index.
pub(crate) fn operator_name(state: &LedgerState, operator: u16) -> String {
    state.registry.get(usize::from(operator)).map_or_else(String::new, |known| known.operator_id.clone())
}

/// Registry index of an operator.
pub(crate) fn registry_number(committed: &Committed, operator_id: &str) -> Option<u16> {
    let at = committed.state.registry.iter().position(|operator| operator.operator_id == operator_id)?;
    u16::try_from(at).ok()
}

impl Inner {
    pub(crate) fn generation(&self) -> Arc<Generation> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn refuse_if_poisoned(&self) -> Result<(), StoreError> {
        self.poison.get().map_or(Ok(()), |cause| Err(StoreError::Poisoned { cause: cause.clone() }))
    }

    /// Keeps the first failure, after which nothing is written any more.
    pub(crate) fn poison_with(&self, error: StoreError) -> StoreError {
        if self.poison.set(error.to_string()).is_ok() {
            tracing::error!(%error, "the store stops writing");
        }
        error
    }

    /// Refuses before anything is changed: after a failure, or without room for what the buffers hold.
    fn ready_to_write(&self) -> Result<(), StoreError> {
        self.refuse_if_poisoned()?;
        let written = self.counters.written_bytes.load(Relaxed);
        if written < self.check_at.load(Relaxed) {
            return Ok(());
        }
        let errors = self.background_errors();
        if errors > 0 {
            let cause = format!(
                "{errors} background flushes or compactions failed; the database's LOG file names them"
            );
            self.poison_with(StoreError::Poisoned { cause });
            return self.refuse_if_poisoned();
        }
        self.check_free_space()?;
        self.check_at.store(written + CHECK_EVERY_BYTES, Relaxed);
        Ok(())
    }

    fn check_free_space(&self) -> Result<(), StoreError> {
        let disk = rustix::fs::statvfs(&self.root)
            .map_err(|errno| StoreError::io("reading the free space of", &self.root, &errno.into()))?;
        let free_bytes = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free_bytes >= self.options.min_free_bytes {
            return Ok(());
        }
        Counters::add(&self.counters.refused_full, 1);
        Err(StoreError::Full {
            path: self.root.display().to_string(),
            free_bytes,
            needed_bytes: self.options.min_free_bytes,
        })
    }

    fn background_errors(&self) -> u64 {
        self.generation().db.property_int_value(properties::BACKGROUND_ERRORS).ok().flatten().unwrap_or(0)
    }
}

/// Writes all buffers of all column families to tables, as one step.
fn flush_tables(db: &Db) -> Result<(), StoreError> {
    let families = COLUMN_FAMILIES.into_iter().map(|name| column(db, name));
    let families = families.collect::<Result<Vec<_>, StoreError>>()?;
    let mut options = FlushOptions::default();
    options.set_wait(true);
    db.flush_cfs_opt(&families, &options).map_err(database("flushing"))
}
