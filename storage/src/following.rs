//! Which row follows which: what adjustments have to know, of committed rows and of those in the same write.

use crate::error::{StoreError, database};
use crate::hours::Committed;
use crate::index::{Index, Lookup};
use crate::keys::{self, CF_WORK};
use crate::page::StoredRow;
use crate::reconcile::Charge;
use crate::rows::RowReader;
use crate::schema::{Db, column};
use crate::store::{Store, operator_name};
use cdr_core::adjust::{Predecessor, is_unpriced, predecessor_id};
use cdr_core::audit::{Request, request_of};
use cdr_core::receipt::{Known, is_born_expired, settles};
use cdr_core::row::{AdjustmentType, Record, Row, SystemKind};
use cdr_core::{CdrId, Hash, Hour, NewRow, Uuid, codec};
use rocksdb::WriteBatch;

/// What has to be known of a row that no committed write holds yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StagedRow {
    cdr_id: CdrId,
    /// Message of a CDR or adjustment.
    message_id: Option<Uuid>,
    /// Its bucket.
    pub hour: Hour,
    /// Registry index of its operator.
    pub operator: u16,
    /// What it charges.
    pub charge: Option<Charge>,
    kind: Option<AdjustmentType>,
    is_priced: bool,
    follows: Option<CdrId>,
    /// An original that was recorded without a receipt.
    is_born_expired: bool,
    /// An adjustment after which no receipt corrects the message.
    settles: bool,
}

impl StagedRow {
    pub fn new(row: &NewRow<'_>) -> Self {
        Self::of(&row.row, row.operator)
    }

    fn of(row: &Row<'_>, operator: u16) -> Self {
        let sms = row.sms();
        let adjustment = sms.and_then(|sms| sms.adjustment.as_ref());
        Self {
            cdr_id: row.frame.cdr_id,
            message_id: sms.map(|sms| sms.message_id),
            hour: row.frame.bucket_hour,
            operator,
            charge: sms.and_then(Charge::of),
            kind: adjustment.map(|adjustment| adjustment.kind),
            is_priced: sms.is_some_and(|sms| !is_unpriced(sms)),
            follows: sms.and_then(predecessor_id),
            is_born_expired: is_born_expired(row),
            settles: settles(row),
        }
    }

    /// True for the original CDR of `message`.
    pub fn is_original_of(&self, message: Uuid) -> bool {
        self.message_id == Some(message) && self.follows.is_none()
    }
}

/// Committed rows and, behind them, rows of the write in the making.
pub(crate) struct Rows<'a> {
    reader: RowReader<'a>,
    committed: &'a Committed,
    staged: &'a [StagedRow],
    index: &'a Index,
}

impl<'a> Rows<'a> {
    pub fn new(
        db: &'a Db,
        committed: &'a Committed,
        index: &'a Index,
        staged: &'a [StagedRow],
    ) -> Result<Self, StoreError> {
        Ok(Self { reader: RowReader::new(db, committed)?, committed, staged, index })
    }

    fn count(&self) -> u64 {
        self.committed.state.head.row_count + self.staged.len() as u64
    }

    /// What there is to know of the row with this number.
    pub fn known(&mut self, ordinal: u64) -> Result<Option<StagedRow>, StoreError> {
        let committed = self.committed.state.head.row_count;
        if ordinal >= committed {
            return Ok(self.staged.get((ordinal - committed) as usize).copied());
        }
        let Some(stored) = self.reader.by_ordinal(ordinal)? else { return Ok(None) };
        Ok(Some(StagedRow::of(&stored.row()?, stored.operator())))
    }

    /// What an adjustment of `id` has to know. `operator` names a registry index.
    pub fn predecessor(
        &mut self,
        id: CdrId,
        operator: impl Fn(u16) -> String,
    ) -> Result<Option<Predecessor>, StoreError> {
        let index = self.index;
        for ordinal in index.candidates(Lookup::CdrId(id), 0..self.count(), true)? {
            let ordinal = ordinal?;
            let Some(row) = self.known(ordinal)?.filter(|row| row.cdr_id == id) else { continue };
            let Some(message_id) = row.message_id else { continue };
            return Ok(Some(Predecessor {
                ordinal,
                message_id,
                operator_id: operator(row.operator),
                kind: row.kind,
                is_priced: row.is_priced,
                is_last: !self.is_followed(id, ordinal)?,
            }));
        }
        Ok(None)
    }

    /// True if a row behind `ordinal` names `id` as its predecessor.
    pub fn is_followed(&mut self, id: CdrId, ordinal: u64) -> Result<bool, StoreError> {
        Ok(self.follower(id, ordinal)?.is_some())
    }

    /// The row behind `ordinal` that names `id` as its predecessor, with its number.
    fn follower(&mut self, id: CdrId, ordinal: u64) -> Result<Option<(u64, StagedRow)>, StoreError> {
        let index = self.index;
        for later in index.candidates(Lookup::AdjustmentOf(id), ordinal + 1..self.count(), false)? {
            let later = later?;
            if let Some(row) = self.known(later)?.filter(|row| row.follows == Some(id)) {
                return Ok(Some((later, row)));
            }
        }
        Ok(None)
    }

    /// The original of a message among the rows from number `from` on.
    pub fn original(&mut self, id: Uuid, from: u64) -> Result<Option<(u64, StagedRow)>, StoreError> {
        let index = self.index;
        for ordinal in index.candidates(Lookup::Message(id), from..self.count(), true)? {
            let ordinal = ordinal?;
            if let Some(row) = self.known(ordinal)?.filter(|row| row.is_original_of(id)) {
                return Ok(Some((ordinal, row)));
            }
        }
        Ok(None)
    }

    /// What is known of a message by the rows from number `from` on.
    pub fn message(&mut self, id: Uuid, from: u64) -> Result<Known, StoreError> {
        let Some((mut at, original)) = self.original(id, from)? else { return Ok(Known::Nothing) };
        if !original.is_born_expired {
            return Ok(Known::Recorded);
        }
        let mut last = original.cdr_id;
        while let Some((later, row)) = self.follower(last, at)? {
            if row.settles {
                return Ok(Known::Recorded);
            }
            (last, at) = (row.cdr_id, later);
        }
        Ok(Known::Expired { last })
    }

    /// The last row of the line that the original `row` with this number began.
    pub fn effective(&mut self, ordinal: u64, row: &StagedRow) -> Result<StagedRow, StoreError> {
        let (mut at, mut last) = (ordinal, *row);
        while let Some(next) = self.follower(last.cdr_id, at)? {
            (at, last) = next;
        }
        Ok(last)
    }

    /// The original of the line that the row with this number belongs to.
    pub fn origin(&mut self, ordinal: u64) -> Result<(u64, StagedRow), StoreError> {
        let (mut at, mut row) = (ordinal, self.present(ordinal)?);
        while let Some(before) = row.follows {
            let index = self.index;
            let mut found = None;
            for earlier in index.candidates(Lookup::CdrId(before), 0..at, true)? {
                let earlier = earlier?;
                if let Some(row) = self.known(earlier)?.filter(|row| row.cdr_id == before) {
                    found = Some((earlier, row));
                    break;
                }
            }
            (at, row) = found.ok_or_else(|| StoreError::Unknown { what: format!("row {before}") })?;
        }
        Ok((at, row))
    }

    /// What there is to know of a row that must be there.
    pub fn present(&mut self, ordinal: u64) -> Result<StagedRow, StoreError> {
        self.known(ordinal)?.ok_or_else(|| StoreError::Unknown { what: format!("row number {ordinal}") })
    }
}

/// Keeps the set of rows that wait for a price, and the requests that were accepted.
pub(crate) fn stage(db: &Db, row: &NewRow<'_>, batch: &mut WriteBatch) -> Result<(), StoreError> {
    match &row.row.record {
        Record::Sms(sms) => {
            let left = row.supersedes.filter(|before| !before.was_priced);
            if left.is_some() || is_unpriced(sms) {
                let work = column(db, CF_WORK)?;
                if let Some(before) = left {
                    batch.delete_cf(work, keys::unpriced(before.ordinal));
                }
                if is_unpriced(sms) {
                    let at = row.row.frame.recorded_at.0.to_be_bytes();
                    batch.put_cf(work, keys::unpriced(row.ordinal), at);
                }
            }
        }
        Record::System(system) if system.kind == SystemKind::Audit => {
            let damaged = |why: String| StoreError::Damaged { what: "an audit row".to_owned(), why };
            if let Some(request) = request_of(system).map_err(damaged)? {
                let value = codec::encode("request", &request)?;
                batch.put_cf(column(db, CF_WORK)?, keys::request(&request.key), value);
            }
        }
        Record::System(_) => {}
    }
    Ok(())
}

/// The committed request under `key`.
pub(crate) fn request(db: &Db, key: &Hash) -> Result<Option<Request>, StoreError> {
    let value = db
        .get_pinned_cf(column(db, CF_WORK)?, keys::request(key))
        .map_err(database("looking a request up"))?;
    Ok(value.map(|bytes| codec::decode("request", &bytes)).transpose()?)
}

impl Store {
    /// What is known of each of these messages within the dedup horizon: what the next batch of receipts meets, unless
    /// something is appended before it.
    ///
    /// # Errors
    /// If the index or a row can't be read.
    pub fn known_messages(&self, ids: &[Uuid]) -> Result<Vec<Known>, StoreError> {
        let generation = self.generation();
        let (committed, index) = (generation.committed(), generation.index());
        let from = committed.ordinals_between(Some(committed.state.dedup_since()), None).start;
        let mut rows = Rows::new(&generation.db, &committed, &index, &[])?;
        let maybe = index.maybe_seen(ids);
        let known = |(id, maybe): (&Uuid, bool)| {
            if maybe { rows.message(*id, from) } else { Ok(Known::Nothing) }
        };
        ids.iter().zip(maybe).map(known).collect()
    }

    /// True if an adjustment follows this row.
    ///
    /// # Errors
    /// If the index or a row can't be read.
    pub fn is_followed(&self, row: &StoredRow) -> Result<bool, StoreError> {
        let generation = self.generation();
        let (committed, index) = (generation.committed(), generation.index());
        let mut rows = Rows::new(&generation.db, &committed, &index, &[])?;
        rows.is_followed(row.row()?.frame.cdr_id, row.ordinal())
    }

    /// What an adjustment of the row `id` has to know; none if there is no such CDR.
    ///
    /// # Errors
    /// If the index or a row can't be read.
    pub fn predecessor(&self, id: CdrId) -> Result<Option<Predecessor>, StoreError> {
        let generation = self.generation();
        let (committed, index) = (generation.committed(), generation.index());
        let mut rows = Rows::new(&generation.db, &committed, &index, &[])?;
        rows.predecessor(id, |operator| operator_name(&committed.state, operator))
    }

    /// The request that was accepted under `key`, if any was.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn request(&self, key: &Hash) -> Result<Option<Request>, StoreError> {
        request(&self.generation().db, key)
    }
}
