//! The filters of a query over CDR rows, answered in ascending order of place, with a cursor.
//!
//! An index names the rows that may match; every one of them is read. The most selective index that a filter
//! has a field for leads: message, predecessor or subscriber, then tenant, then operator, within the blocks that an
//! event time can be in; without any of them the rows of the hours are read one after the other.
//!
//! The net effect of a message is its latest row. Every adjustment names its direct predecessor, so a row is the latest
//! of its message exactly if no row names it.

use crate::error::StoreError;
use crate::generation::Generation;
use crate::index::{Index, Lookup, PostingKey, kind};
use crate::page::StoredRow;
use crate::rows::RowReader;
use cdr_core::hash::sha256;
use cdr_core::row::{AdjustmentType, FinalState, Record, Row, Sms, SystemKind};
use cdr_core::{CdrId, Hour, LedgerState, Millis, Uuid};
use std::ops::Range;

/// What looking for a row's successor costs, in rows that are read: one read for each run of the index.
const SUCCESSOR_COST: usize = 16;

/// Which rows are requested; every field that is set must match. All bounds are inclusive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordFilter {
    /// Submitter.
    pub tenant_id: Option<Uuid>,
    /// Operator.
    pub operator_id: Option<String>,
    /// First bucket.
    pub bucket_hour_from: Option<Hour>,
    /// Last bucket.
    pub bucket_hour_to: Option<Hour>,
    /// Message.
    pub message_id: Option<Uuid>,
    /// SHA-256 of the recipient's number.
    pub msisdn_hash_to: Option<[u8; 32]>,
    /// Adjustments of this kind only.
    pub adjustment_type: Option<AdjustmentType>,
    /// Final state.
    pub state: Option<FinalState>,
    /// Earliest event time.
    pub event_from: Option<Millis>,
    /// Latest event time.
    pub event_to: Option<Millis>,
    /// Adjustments whose direct predecessor is this row.
    pub adjustment_of: Option<CdrId>,
    /// Rows of this kind only; system rows of another kind than this never fit.
    pub of_kind: Option<RowKind>,
    /// System rows too: they match unless the filter names a field that only CDRs have.
    pub include_system: bool,
    /// Net effect: of the rows that fit, only those that no adjustment names as its predecessor. An adjusted CDR is left
    /// out even if its last adjustment does not fit.
    pub latest_only: bool,
}

/// What kind of rows is requested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// CDRs as they came, without adjustments.
    Original,
    /// Adjustments of every kind.
    Adjustment,
    /// System rows of one kind.
    System(SystemKind),
}

/// Rows that fit a filter.
#[derive(Clone, Debug, Default)]
pub struct RecordPage {
    /// The rows, ascending by place.
    pub rows: Vec<StoredRow>,
    /// Where to go on: the place up to which everything was read; none at the end.
    pub next: Option<(Hour, u64)>,
}

impl RecordFilter {
    /// True if the row matches. Whether it is its message's latest is not checked: the row alone does not show it.
    pub fn fits(&self, row: &Row<'_>) -> bool {
        let frame = &row.frame;
        self.operator_id.as_deref().is_none_or(|id| id == frame.operator_id)
            && self.bucket_hour_from.is_none_or(|from| from <= frame.bucket_hour)
            && self.bucket_hour_to.is_none_or(|to| frame.bucket_hour <= to)
            && match &row.record {
                Record::Sms(sms) => self.fits_sms(sms),
                Record::System(system) => self.fits_system(system.kind) && !self.asks_for_sms(),
            }
    }

    fn fits_system(&self, kind: SystemKind) -> bool {
        self.of_kind.map_or(self.include_system, |wanted| wanted == RowKind::System(kind))
    }

    fn fits_sms(&self, sms: &Sms<'_>) -> bool {
        let adjustment = sms.adjustment.as_ref();
        let kind = if adjustment.is_some() { RowKind::Adjustment } else { RowKind::Original };
        self.of_kind.is_none_or(|wanted| wanted == kind)
            && self.tenant_id.is_none_or(|id| sms.tenant_id == Some(id))
            && self.message_id.is_none_or(|id| sms.message_id == id)
            && self.state.is_none_or(|state| sms.final_state == state)
            && self.event_from.is_none_or(|from| from <= sms.event_at)
            && self.event_to.is_none_or(|to| sms.event_at <= to)
            && self.adjustment_type.is_none_or(|kind| adjustment.is_some_and(|a| a.kind == kind))
            && self.adjustment_of.is_none_or(|id| adjustment.is_some_and(|a| a.of == id))
            && self.msisdn_hash_to.is_none_or(|hash| sha256(sms.called_party.as_bytes()) == hash)
    }

    /// True if a field is set that system rows do not have.
    fn asks_for_sms(&self) -> bool {
        self.tenant_id.is_some()
            || self.message_id.is_some()
            || self.state.is_some()
            || self.event_from.is_some()
            || self.event_to.is_some()
            || self.adjustment_type.is_some()
            || self.adjustment_of.is_some()
            || self.msisdn_hash_to.is_some()
    }

    fn lookup(&self) -> Option<Lookup> {
        self.message_id
            .map(Lookup::Message)
            .or(self.adjustment_of.map(Lookup::AdjustmentOf))
            .or(self.msisdn_hash_to.map(Lookup::MsisdnTo))
    }

    /// The posting list that leads, if a field has one; an error if the operator is unknown.
    fn posting(&self, state: &LedgerState) -> Result<Option<PostingKey>, UnknownOperator> {
        let operator = match &self.operator_id {
            None => None,
            Some(id) => {
                let number = state.registry.iter().position(|operator| operator.operator_id == *id);
                Some(PostingKey::Operator(number.ok_or(UnknownOperator)? as u16))
            }
        };
        // Adjustments and system rows are few: their lists are the shortest.
        let kind = match self.of_kind {
            Some(RowKind::Adjustment) => Some(PostingKey::Kind(kind::ADJUSTMENT)),
            Some(RowKind::System(system)) => Some(PostingKey::Kind(kind::system(system))),
            Some(RowKind::Original) | None => None,
        };
        Ok(kind.or(self.tenant_id.map(PostingKey::Tenant)).or(operator))
    }
}

/// No row can have an operator that was never registered.
struct UnknownOperator;

type Ordinals<'a> = Box<dyn Iterator<Item = Result<u64, StoreError>> + 'a>;

/// Rows of `range` that may fit, ascending.
fn ordinals<'a>(
    index: &'a Index,
    filter: &RecordFilter,
    posting: Option<PostingKey>,
    range: Range<u64>,
) -> Result<Ordinals<'a>, StoreError> {
    if let Some(lookup) = filter.lookup() {
        return Ok(Box::new(index.candidates(lookup, range, false)?));
    }
    if filter.event_from.is_none() && filter.event_to.is_none() {
        return members(index, posting, range);
    }
    let from = filter.event_from.unwrap_or(Millis(i64::MIN));
    let before = filter.event_to.map_or(Millis(i64::MAX), |to| Millis(to.0.saturating_add(1)));
    let blocks = index.event_blocks(from, before, range)?;
    Ok(Box::new(blocks.flat_map(move |block| {
        block
            .and_then(|block| members(index, posting, block))
            .unwrap_or_else(|e| Box::new(std::iter::once(Err(e))))
    })))
}

fn members(
    index: &Index,
    posting: Option<PostingKey>,
    range: Range<u64>,
) -> Result<Ordinals<'_>, StoreError> {
    Ok(match posting {
        Some(key) => Box::new(index.postings(key, range)?),
        None => Box::new(range.map(Ok)),
    })
}

/// Runs a query on what is committed now.
pub(crate) fn run_query(
    generation: &Generation,
    filter: &RecordFilter,
    after: Option<(Hour, u64)>,
    limit: usize,
    scan_rows: usize,
) -> Result<RecordPage, StoreError> {
    let (committed, index) = (generation.committed(), generation.index());
    let mut range = committed.ordinals_between(filter.bucket_hour_from, filter.bucket_hour_to);
    if let Some(after) = after {
        range.start = range.start.max(committed.ordinal_after(after));
    }
    let mut page = RecordPage::default();
    let Ok(posting) = filter.posting(&committed.state) else { return Ok(page) };
    if range.is_empty() || limit == 0 {
        return Ok(page);
    }
    let mut reader = RowReader::new(&generation.db, &committed)?;
    // Of its own, so that a look ahead does not make the other one read its page again.
    let mut successors = RowReader::new(&generation.db, &committed)?;
    let (mut cost, mut looked_at) = (0, None);
    for ordinal in ordinals(&index, filter, posting, range)? {
        let ordinal = ordinal?;
        if cost >= scan_rows.max(1) {
            page.next = looked_at;
            break;
        }
        cost += 1;
        let Some(stored) = reader.by_ordinal(ordinal)? else { break };
        let place = (stored.hour(), stored.sequence());
        let mut wanted = filter.fits(&stored.row()?);
        if wanted && filter.latest_only {
            cost += SUCCESSOR_COST;
            wanted = !is_adjusted(&index, &mut successors, &stored, committed.state.head.row_count)?;
        }
        if wanted {
            // One more than requested, so that the end is known as such.
            if page.rows.len() == limit {
                page.next = looked_at;
                break;
            }
            page.rows.push(stored);
        }
        looked_at = Some(place);
    }
    Ok(page)
}

/// True if a committed row names this one as its predecessor.
fn is_adjusted(
    index: &Index,
    reader: &mut RowReader<'_>,
    stored: &StoredRow,
    row_count: u64,
) -> Result<bool, StoreError> {
    let id = stored.row()?.frame.cdr_id;
    for ordinal in index.candidates(Lookup::AdjustmentOf(id), stored.ordinal() + 1..row_count, true)? {
        let Some(later) = reader.by_ordinal(ordinal?)? else { continue };
        let row = later.row()?;
        if row.sms().and_then(|sms| sms.adjustment.as_ref()).is_some_and(|adjustment| adjustment.of == id) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
