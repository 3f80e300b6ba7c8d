//! `GET /v1/cdr/records` and `/v1/cdr/records/{cdrId}`.

use super::record::push_record;
use crate::api::http::Service;
use crate::api::http::access::{Caller, PathInput};
use crate::api::http::answer::{Answer, ListWriter};
use crate::api::http::cursor::{self, List};
use crate::api::http::error::ApiError;
use crate::api::http::input::{CDR_ID, Input};
use crate::api::http::page::fill;
use crate::auth::{SCOPE_PII, SCOPE_READ};
use axum::extract::State;
use axum::http::Uri;
use cdr_core::row::{AdjustmentType, FinalState, SYSTEM_OPERATOR};
use cdr_core::{CdrId, LedgerState};
use cdr_storage::{RecordFilter, RowKind, Store, StoredRow};
use std::time::Duration;

/// What the list can be narrowed and paged by.
pub(in crate::api) const PARAMETERS: &[&str] = &[
    "tenantId",
    "operatorId",
    "bucketHourFrom",
    "bucketHourTo",
    "messageId",
    "msisdnHashTo",
    "adjustmentType",
    "state",
    "eventFrom",
    "eventTo",
    "net",
    "cursor",
    "limit",
];

/// Parameters that do not narrow what is listed.
const PAGING: &[&str] = &["cursor", "limit", "consistency"];

/// Seals that are read at most to count the records of a span of hours: 31 days.
const MAX_COUNTED_HOURS: u32 = 31 * 24;

/// Lists CDRs and adjustments.
pub(in crate::api) async fn list(
    State(service): State<Service>,
    caller: Caller,
    uri: Uri,
) -> Result<Answer, ApiError> {
    let (input, read) = service.ledger.read(&caller, SCOPE_READ, &uri, PARAMETERS)?;
    let request = ListRequest::parse(input, caller.has(SCOPE_PII), List::Records, None)?;
    let budget = service.ledger.scan_budget;
    read.raw(move |store| request.answer(store, budget)).await
}

/// One record, of any record type.
pub(in crate::api) async fn one(
    State(service): State<Service>,
    caller: Caller,
    path: PathInput,
    uri: Uri,
) -> Result<Answer, ApiError> {
    let (_, read) = service.ledger.read(&caller, SCOPE_READ, &uri, &[])?;
    let cdr_id = path.parsed("cdrId", CDR_ID, CdrId::parse)?;
    let sees_numbers = caller.has(SCOPE_PII);
    read.raw(move |store| {
        let mut json = Vec::new();
        push_stored(store, &find(store, cdr_id)?, sees_numbers, &mut json)?;
        Ok(json)
    })
    .await
}

/// The row with this id.
///
/// # Errors
/// 404 if there is none.
pub(in crate::api) fn find(store: &Store, cdr_id: CdrId) -> Result<StoredRow, ApiError> {
    store.row_by_id(cdr_id)?.ok_or_else(|| ApiError::RecordNotFound { what: format!("record {cdr_id}") })
}

pub(in crate::api) fn push_stored(
    store: &Store,
    stored: &StoredRow,
    sees_numbers: bool,
    out: &mut Vec<u8>,
) -> Result<(), ApiError> {
    push_record(&stored.row()?, &store.stored_row_hash(stored)?, sees_numbers, out);
    Ok(())
}

/// The filters of a list. Operators are looked up when the ledger is read.
pub(in crate::api) struct ListRequest {
    list: List,
    input: Input,
    filter: RecordFilter,
    limit: usize,
    sees_numbers: bool,
}

impl ListRequest {
    /// Reads the parameters of a list of rows, of one kind or all.
    ///
    /// # Errors
    /// 400 naming the parameter; 403 for a filter by the hash of a number without the right to see numbers: such a hash
    /// can be reversed by trying all numbers.
    pub(in crate::api) fn parse(
        input: Input,
        sees_numbers: bool,
        list: List,
        of_kind: Option<RowKind>,
    ) -> Result<Self, ApiError> {
        let parse_bool = |text: &str| text.parse::<bool>().ok();
        let (bucket_hour_from, bucket_hour_to) = input.hours("bucketHourFrom", "bucketHourTo")?;
        let filter = RecordFilter {
            tenant_id: input.uuid("tenantId")?,
            operator_id: input.text("operatorId").map(str::to_owned),
            bucket_hour_from,
            bucket_hour_to,
            message_id: input.uuid("messageId")?,
            msisdn_hash_to: input.parsed(
                "msisdnHashTo",
                "64 lower-case hexadecimal digits, the SHA-256 of the number with its +",
                cdr_core::hash::from_hex,
            )?,
            adjustment_type: input.parsed(
                "adjustmentType",
                "CORRECTION, VOID or RE_RATE",
                AdjustmentType::parse,
            )?,
            state: input.parsed("state", "DELIVERED, FAILED or EXPIRED", FinalState::parse)?,
            event_from: input.instant("eventFrom")?,
            event_to: input.instant("eventTo")?,
            of_kind,
            latest_only: input.parsed("net", "true or false", parse_bool)?.unwrap_or(false),
            ..RecordFilter::default()
        };
        if filter.msisdn_hash_to.is_some() && !sees_numbers {
            return Err(ApiError::InsufficientScope { required: SCOPE_PII });
        }
        if let (Some(from), Some(to)) = (filter.event_from, filter.event_to)
            && from > to
        {
            return Err(ApiError::invalid("eventTo", "it is before eventFrom"));
        }
        Ok(Self { list, limit: input.limit()?, input, filter, sees_numbers })
    }

    /// The list, after at most about `budget` of looking.
    ///
    /// # Errors
    /// 400 for an unknown operator, 503 if the rows can't be read.
    pub(in crate::api) fn answer(&self, store: &Store, budget: Duration) -> Result<Vec<u8>, ApiError> {
        self.answer_with(store, budget, |rows, list| {
            rows.iter().try_for_each(|row| list.item(|out| push_stored(store, row, self.sees_numbers, out)))
        })
    }

    /// The same with items as `write` appends them.
    ///
    /// # Errors
    /// As [`Self::answer`].
    pub(in crate::api) fn answer_with(
        &self,
        store: &Store,
        budget: Duration,
        write: impl FnOnce(&[StoredRow], &mut ListWriter) -> Result<(), ApiError>,
    ) -> Result<Vec<u8>, ApiError> {
        let state = store.state();
        self.input.operator("operatorId", &state)?;
        let after = cursor::after(store, self.list, &self.input)?;
        let mut rows = Vec::new();
        let next = fill(&mut rows, after, self.limit, budget, |rows, behind, room| {
            let page = store.query(&self.filter, behind, room)?;
            rows.extend(page.rows);
            Ok(page.next)
        })?;
        let mut list = ListWriter::new();
        write(&rows, &mut list)?;
        let next = cursor::next(store, self.list, next)?;
        let total = match (after, &next) {
            (None, None) => Some(list.len() as u64),
            (None, Some(_)) => self.count(store, &state)?,
            (Some(_), _) => None,
        };
        Ok(list.finish(next.as_deref(), total))
    }

    /// The names of parameters that narrow the list; `net=false` does not.
    fn narrowing(&self) -> impl Iterator<Item = &str> {
        self.input
            .names()
            .filter(|name| !PAGING.contains(name) && (*name != "net" || self.filter.latest_only))
    }

    /// How many records match, where the seals' counts give it: by operator and range of hours only, and not net of
    /// adjustments.
    fn count(&self, store: &Store, state: &LedgerState) -> Result<Option<u64>, ApiError> {
        let countable = |name| matches!(name, "operatorId" | "bucketHourFrom" | "bucketHourTo");
        let head = &state.head;
        let from = self.filter.bucket_hour_from.unwrap_or(head.first_hour).max(head.first_hour);
        let to = self.filter.bucket_hour_to.unwrap_or(head.open_hour).min(head.open_hour);
        if self.filter.of_kind.is_some()
            || !self.narrowing().all(countable)
            || to.0.saturating_sub(from.0) >= MAX_COUNTED_HOURS
        {
            return Ok(None);
        }
        let wanted = |id: &str| {
            id != SYSTEM_OPERATOR && self.filter.operator_id.as_deref().is_none_or(|operator| operator == id)
        };
        let mut total = 0;
        for sealed in store.seals(from, to) {
            let seal = sealed?.seal;
            if seal.bucket_hour < head.open_hour {
                total += seal
                    .operators
                    .iter()
                    .filter(|o| wanted(&o.operator_id))
                    .map(|o| o.record_count)
                    .sum::<u64>();
            }
        }
        if to == head.open_hour {
            let open = state.partitions.iter().filter(|partition| wanted(&partition.operator_id));
            total += open.map(|partition| partition.frontier.count()).sum::<u64>();
        }
        Ok(Some(total))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<ListRequest, ApiError> {
        let uri = format!("/v1/cdr/records?{query}").parse().unwrap();
        ListRequest::parse(Input::of_query(&uri, PARAMETERS)?, true, List::Records, None)
    }

    fn refused_field(query: &str) -> String {
        match parse(query) {
            Err(ApiError::Validation { field, .. }) => field,
            Err(other) => panic!("{other:?}"),
            Ok(_) => panic!("{query} was accepted"),
        }
    }

    #[test]
    fn every_filter_is_read() {
        let message = "00000000-0000-4000-8000-000000000001";
        let request = parse(&format!(
            "tenantId={message}&operatorId=AWCC&messageId={message}&msisdnHashTo={}&adjustmentType=VOID&state=FAILED\
             &eventFrom=2026-04-20T13:00:00.5Z&eventTo=2026-04-20T14:00:00Z&bucketHourFrom=2026-04-20T13:00:00Z\
             &bucketHourTo=2026-04-20T14:59:59Z&limit=7&net=true",
            "ab".repeat(32)
        ))
        .unwrap();
        let filter = request.filter;
        assert_eq!(filter.msisdn_hash_to, Some([0xab; 32]));
        assert_eq!(filter.state, Some(FinalState::Failed));
        assert_eq!(filter.adjustment_type, Some(AdjustmentType::Void));
        assert_eq!(filter.bucket_hour_to.unwrap().to_string(), "2026-04-20T14:00:00Z");
        assert!(!filter.include_system);
        assert_eq!((request.limit, filter.latest_only), (7, true));
    }

    #[test]
    fn bad_filters_are_named() {
        for (query, field) in [
            ("tenantId=x", "tenantId"),
            ("messageId=7", "messageId"),
            ("msisdnHashTo=%2B93", "msisdnHashTo"),
            ("adjustmentType=UNDO", "adjustmentType"),
            ("state=SENT", "state"),
            ("eventFrom=now", "eventFrom"),
            ("eventFrom=2026-04-20T13:00:00Z&eventTo=2026-04-20T12:00:00Z", "eventTo"),
            ("limit=501", "limit"),
            ("limit=0", "limit"),
            ("net=1", "net"),
            ("page=2", "page"),
        ] {
            assert_eq!(refused_field(query), field, "{query}");
        }
    }
}
