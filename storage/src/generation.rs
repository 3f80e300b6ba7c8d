//! One database with its indexes and what is committed in it; installing a checkpoint brings the next one.

use crate::error::StoreError;
use crate::files::GenerationDir;
use crate::hours::{Committed, HourSpan};
use crate::index::{Index, IndexOptions, RowKeys, kind};
use crate::keys::{self, CF_ROWS, CF_SEALS};
use crate::meta;
use crate::options::StoreOptions;
use crate::page::PageHeader;
use crate::schema::{self, Db, column};
use crate::seals::SealValue;
use crate::verify::walk::{PageWalk, Step};
use cdr_core::hash::sha256;
use cdr_core::history::Marks;
use cdr_core::row::Record;
use cdr_core::rules::Needs;
use cdr_core::{CdrId, Hour, LedgerState, Row};
use rocksdb::{Direction, IteratorMode};
use std::ops::Range;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// A database that is open. Fields are dropped in order: the directory goes last.
pub(crate) struct Generation {
    index: RwLock<Arc<Index>>,
    present: RwLock<Present>,
    /// Why what decides about duplicates could not be rebuilt: rows can be read and verified, but no entry may
    /// be applied, because this replica could decide otherwise than the others.
    pub damage: Option<String>,
    /// The last marks of the history, for comparison with other replicas'. An entry that is being applied adds its own
    /// before it is committed: whatever keeps it from being committed poisons the store.
    marks: Mutex<Marks>,
    /// Disk format under which new values are written.
    format: AtomicU32,
    pub db: Arc<Db>,
    pub dir: GenerationDir,
}

/// What the last write made true.
#[derive(Clone, Default)]
pub(crate) struct Present {
    pub committed: Committed,
    pub raft_meta: Option<Arc<[u8]>>,
}

impl Generation {
    /// Opens the database in `dir`, and brings the indexes up to its last row.
    pub fn open(dir: GenerationDir, options: &StoreOptions) -> Result<Self, StoreError> {
        let (db, format) = schema::open(&dir.path, options)?;
        let db = Arc::new(db);
        let state = Arc::new(meta::read_state(&db)?);
        if let Some(needs) = Needs::of(state.head.rules, format).unknown_to(options.build) {
            return Err(StoreError::NeedsBuild { what: "the ledger".to_owned(), needs });
        }
        let sealed = Arc::new(read_spans(&db, &state)?);
        let raft_meta = meta::read_raft_meta(&db)?.map(Arc::from);
        let index = open_index(&db, &state, options)?;
        let marks = Mutex::new(Marks::begin(state.head.applied));
        let mut generation = Self {
            damage: None,
            marks,
            format: AtomicU32::new(format),
            index: RwLock::new(Arc::new(index)),
            present: RwLock::new(Present { committed: Committed { state, sealed }, raft_meta }),
            db,
            dir,
        };
        generation.damage = generation.rebuild()?;
        Ok(generation)
    }

    pub fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Disk format under which new values are written.
    pub fn format(&self) -> u32 {
        self.format.load(Ordering::Acquire)
    }

    pub fn set_format(&self, format: u32) {
        self.format.store(format, Ordering::Release);
    }

    pub fn index(&self) -> Arc<Index> {
        Arc::clone(&self.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn committed(&self) -> Committed {
        self.present.read().unwrap_or_else(PoisonError::into_inner).committed.clone()
    }

    pub fn raft_meta(&self) -> Option<Arc<[u8]>> {
        self.present.read().unwrap_or_else(PoisonError::into_inner).raft_meta.clone()
    }

    pub fn publish(&self, present: Present) {
        *self.present.write().unwrap_or_else(PoisonError::into_inner) = present;
    }

    /// Indexes from scratch, for a ledger that just began: its hash key was not known before.
    pub fn begin_index(&self, state: &LedgerState, options: &StoreOptions) -> Result<Arc<Index>, StoreError> {
        let index = Arc::new(open_index(&self.db, state, options)?);
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&index);
        Ok(index)
    }

    /// Brings into memory what is not stored: index entries of the last rows, and the filter of known messages.
    /// Returns what is too damaged for that.
    fn rebuild(&self) -> Result<Option<String>, StoreError> {
        let (committed, index) = (self.committed(), self.index());
        let mut damage = None;
        let from = index.tail_from();
        let spans = committed.sealed.iter().copied().chain(committed.span(committed.state.head.open_hour));
        for span in spans.filter(|span| from < span.first_ordinal + span.rows) {
            self.rebuild_hour(&index, span, from, &mut damage)?;
        }
        if committed.state.cluster.is_some() {
            match index.restore_filter(committed.state.dedup_since()) {
                Ok(_) => {}
                Err(error) if error.is_damage() => damage = Some(error.to_string()),
                Err(error) => return Err(error),
            }
        }
        Ok(damage)
    }

    /// Adds the hour's rows from ordinal `from` on to the indexes. A row that can't be read leaves an empty entry.
    fn rebuild_hour(
        &self,
        index: &Index,
        span: HourSpan,
        from: u64,
        damage: &mut Option<String>,
    ) -> Result<(), StoreError> {
        let mut next = from.max(span.first_ordinal);
        let place = |ordinal: u64| ordinal - span.first_ordinal + 1;
        let mut walk = PageWalk::covering(&self.db, span, place(next)..span.rows + 1)?;
        while let Some(step) = walk.step() {
            let Step::Page(header) = step else { continue };
            for position in 0..header.count {
                let sequence = header.first_sequence + position as u64;
                let ordinal = span.first_ordinal + sequence - 1;
                if sequence < place(next) || sequence > span.rows {
                    continue;
                }
                let read = header.verify_checksum(walk.bytes()).and_then(|()| {
                    let raw = header.raw_row(walk.bytes(), position)?;
                    let row = header.row(walk.bytes(), position, &raw)?;
                    Ok(row_keys(ordinal, raw.operator, &row))
                });
                let Ok(keys) = read else { break };
                add_unreadable(index, span, next..ordinal, damage)?;
                index.add(&keys)?;
                next = ordinal + 1;
            }
        }
        add_unreadable(index, span, next..span.first_ordinal + span.rows, damage)
    }
}

/// Keeps the place of rows that can't be read.
fn add_unreadable(
    index: &Index,
    span: HourSpan,
    ordinals: Range<u64>,
    damage: &mut Option<String>,
) -> Result<(), StoreError> {
    if !ordinals.is_empty() {
        let first = ordinals.start - span.first_ordinal + 1;
        let last = ordinals.end - span.first_ordinal;
        damage.get_or_insert_with(|| {
            format!(
                "rows {first} to {last} of hour {} can't be read; verify that hour at depth rows",
                span.hour
            )
        });
    }
    for ordinal in ordinals {
        index.add(&RowKeys {
            ordinal,
            cdr_id: CdrId::default(),
            message_id: None,
            original: false,
            msisdn_to: None,
            tenant: None,
            operator: u16::MAX,
            event_at: None,
            adjustment_of: None,
            kind: None,
            bucket_hour: span.hour,
        })?;
    }
    Ok(())
}

fn open_index(db: &Arc<Db>, state: &LedgerState, options: &StoreOptions) -> Result<Index, StoreError> {
    let hash_key = state.cluster.as_ref().map_or([0; 16], |cluster| cluster.hash_key);
    let index_options = IndexOptions {
        block_rows: options.index_block_rows,
        dedup_filter_bytes: options.dedup_filter_bytes,
        ..IndexOptions::default()
    };
    Index::open(Arc::clone(db), hash_key, index_options, state.head.row_count)
}

/// What the indexes need to know of a row.
pub(crate) fn row_keys(ordinal: u64, operator: u16, row: &Row<'_>) -> RowKeys {
    let sms = row.sms();
    RowKeys {
        ordinal,
        cdr_id: row.frame.cdr_id,
        message_id: sms.map(|sms| sms.message_id),
        original: sms.is_some_and(|sms| sms.adjustment.is_none()),
        msisdn_to: sms.map(|sms| sha256(sms.called_party.as_bytes())),
        tenant: sms.and_then(|sms| sms.tenant_id),
        operator,
        event_at: sms.map(|sms| sms.event_at),
        adjustment_of: sms.and_then(|sms| sms.adjustment.as_ref()).map(|adjustment| adjustment.of),
        kind: match &row.record {
            Record::System(system) => Some(kind::system(system.kind)),
            Record::Sms(sms) => sms.adjustment.as_ref().map(|_| kind::ADJUSTMENT),
        },
        bucket_hour: row.frame.bucket_hour,
    }
}

/// Where the sealed hours begin. A seal that can't be read must not keep the others' rows from being read: its
/// hour's beginning is then taken from the rows, and verification reports the seal.
fn read_spans(db: &Db, state: &LedgerState) -> Result<Vec<HourSpan>, StoreError> {
    let mut starts = Vec::new();
    if state.cluster.is_some() {
        for hour in (state.head.first_hour.0..state.head.open_hour.0).map(Hour) {
            starts.push((hour, read_start(db, hour)?));
        }
    }
    let mut next = state.head.row_count - state.head.open_rows;
    let mut spans = Vec::with_capacity(starts.len());
    for (hour, start) in starts.into_iter().rev() {
        let first_ordinal = start.unwrap_or(next).min(next);
        spans.push(HourSpan { hour, first_ordinal, rows: next - first_ordinal });
        next = first_ordinal;
    }
    spans.reverse();
    Ok(spans)
}

/// First ordinal of a sealed hour, from its seal or else from its first page; none if it has no rows either.
fn read_start(db: &Db, hour: Hour) -> Result<Option<u64>, StoreError> {
    let value = db.get_pinned_cf(column(db, CF_SEALS)?, keys::seal(hour));
    if let Some(value) = value.ok().flatten()
        && let Ok(seal) = SealValue::parse(hour, &value)
    {
        return Ok(Some(seal.first_ordinal));
    }
    tracing::error!(%hour, "the seal can't be read; run chain verification and rebuild this replica");
    let rows = column(db, CF_ROWS)?;
    let start = keys::page(hour, 0);
    let first = db.iterator_cf(rows, IteratorMode::From(&start, Direction::Forward)).next();
    let Some(Ok((key, page))) = first else { return Ok(None) };
    let place = keys::parse_page(&key).filter(|(page_hour, _)| *page_hour == hour);
    Ok(place.and_then(|place| PageHeader::parse(place, &page).ok()).map(|header| header.first_ordinal))
}
