//! `POST /v1/cdr/adjustments/rerate` and `GET /v1/cdr/adjustments/jobs/{jobId}` (US-CDR-018).

use super::query::find;
use crate::acts::{Act, FOUR_EYES_ABOVE, Wish};
use crate::api::http::Service;
use crate::api::http::access::{Caller, PathInput};
use crate::api::http::answer::Answer;
use crate::api::http::approval;
use crate::api::http::body::{Body, Headers, text, text_of, ticket};
use crate::api::http::error::ApiError;
use crate::api::http::input::UUID;
use crate::api::http::ledger::{Consistency, Work};
use crate::auth::{SCOPE_PII, SCOPE_READ, SCOPE_WRITE};
use crate::jobs::{self, JobError};
use crate::masking;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use cdr_core::job::{JOB_PREFIX, Job, JobRequest, JobState, JobStep, micros_text};
use cdr_core::row::{Record, SYSTEM_OPERATOR};
use cdr_core::tariff::is_version;
use cdr_core::time::{HOUR_MS, MAX_MILLIS};
use cdr_core::{CdrId, Hour, LedgerState, Millis, Uuid};
use cdr_storage::{RecordFilter, RowKind, Store};
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

/// How long records are counted one by one before an upper bound has to do.
const COUNT_FOR: Duration = Duration::from_secs(3);
/// Rows that are read at once while counting.
const COUNT_PAGE: usize = 5_000;

/// Starts a job that re-rates records.
pub(in crate::api) async fn start(
    State(service): State<Service>,
    caller: Caller,
    headers: Headers,
    body: Body,
) -> Result<Answer, ApiError> {
    caller.require(SCOPE_WRITE)?;
    let body = body.object(&["filter", "newPricingTableId", "ticketId", "reason"])?;
    let ticket_id = ticket(&body)?.ok_or(ApiError::TicketRequired)?;
    let missing = |name: &str| ApiError::invalid(name, "it is required");
    let table = text_of(&body, "newPricingTableId", "1 to 64 visible ASCII characters", is_version)?
        .ok_or_else(|| missing("newPricingTableId"))?;
    let reason = text(&body, "reason")?.ok_or_else(|| missing("reason"))?;
    let filter = Filter::parse(body.get("filter"))?;
    let actor = caller.0.subject.clone();
    let key = headers.request_key(&actor)?;
    let hash = body.hash("re-rating")?;
    let applied_index = service.ledger.barrier(Consistency::Linearizable).await?;
    // A repeated request gets the first one's answer, however many records match by now and whoever approves.
    let taken_in = service.ledger.store.request(&key)?.filter(|request| request.body == hash);
    if let Some(request) = taken_in {
        return taken(&service, request.answer, applied_index).await;
    }
    let counted = filter.clone();
    let estimated_impact =
        service.ledger.on_store(Work::Verification, move |store| counted.count(store)).await?;
    let approver = approver(&service, &caller, &headers, estimated_impact)?;
    let request = JobRequest {
        approver_user_id: approver.clone().unwrap_or_default(),
        bucket_hour_from: filter.from,
        bucket_hour_to: filter.to,
        estimated_impact,
        issued_by_user_id: actor.clone(),
        new_pricing_table_id: table,
        operator_id: filter.operator_id.clone(),
        reason: reason.clone(),
        tenant_id: filter.tenant_id.map(|id| id.to_string()),
        ticket_id: ticket_id.clone(),
        trace_id: headers.trace_id.clone(),
    };
    let act = Act {
        wish: Wish::ReRate(request),
        actor,
        approver,
        reason: Some(reason),
        ticket_id: Some(ticket_id),
        trace_id: headers.trace_id.clone(),
        key,
        body: hash,
        origin: caller.1,
    };
    let (job, applied_index) = service.ledger.perform(&act).await?;
    taken(&service, job, applied_index).await
}

/// The response to a request that is in the log: its row holds what was estimated when it was accepted.
async fn taken(service: &Service, job: CdrId, applied_index: u64) -> Result<Answer, ApiError> {
    let estimate = move |store: &Store| {
        let stored = find(store, job)?;
        let row = stored.row()?;
        let Record::System(system) = &row.record else {
            return Err(ApiError::internal(format!("{job} is not a row of a job")));
        };
        match system.read().map_err(ApiError::internal)? {
            JobStep::Requested(request) => Ok(request.estimated_impact),
            other => Err(ApiError::internal(format!("{job} does not begin a job: {other:?}"))),
        }
    };
    let estimated_impact = service.ledger.on_store(Work::Read, estimate).await?;
    let answer = json!({
        "jobId": job.with_prefix(JOB_PREFIX),
        "estimatedImpact": estimated_impact,
        "requiresApproval": needs_approval(estimated_impact),
    });
    Ok(Answer::of(&answer, applied_index)?.with_status(StatusCode::ACCEPTED))
}

/// True if this many records need a second person.
fn needs_approval(impact: u64) -> bool {
    impact > FOUR_EYES_ABOVE
}

/// Who approved, if an approver's token was sent; the requester can't approve, and many records need an approver.
fn approver(
    service: &Service,
    caller: &Caller,
    headers: &Headers,
    impact: u64,
) -> Result<Option<String>, ApiError> {
    let approved = approval::approver(service, caller, headers, SCOPE_WRITE)?;
    enough(impact, approved).map_err(|why| ApiError::FourEyesRequired { impact, limit: FOUR_EYES_ABOVE, why })
}

/// Who approved, or what is wrong with the approval of this many records.
fn enough(impact: u64, approved: Result<Option<String>, String>) -> Result<Option<String>, String> {
    match approved {
        Ok(None) if needs_approval(impact) => Err(approval::nobody()),
        other => other,
    }
}

/// How far a job is.
pub(in crate::api) async fn job(
    State(service): State<Service>,
    caller: Caller,
    path: PathInput,
    uri: Uri,
) -> Result<Answer, ApiError> {
    let (_, read) = service.ledger.read(&caller, SCOPE_READ, &uri, &[])?;
    let expected = "a job id, `adjjob_` and 26 characters";
    let id = path.parsed("jobId", expected, |text| CdrId::parse_prefixed(JOB_PREFIX, text))?;
    let (budget, sees_numbers) = (service.ledger.scan_budget, caller.has(SCOPE_PII));
    read.value(move |store| {
        let found = jobs::find(store, id, budget).map_err(|error| match error {
            JobError::Store(error) => error.into(),
            error @ JobError::TooLong { .. } => {
                ApiError::Unavailable { dependency: "storage", reason: error.to_string() }
            }
            error @ JobError::Row { .. } => ApiError::internal(error),
        })?;
        let missing = || ApiError::JobNotFound { job: id.with_prefix(JOB_PREFIX) };
        found.map(|job| describe(&job, sees_numbers)).ok_or_else(missing)
    })
    .await
}

fn describe(job: &Job, sees_numbers: bool) -> Value {
    let (status, error) = match &job.state {
        JobState::Running => ("RUNNING", None),
        JobState::Finished => ("FINISHED", None),
        JobState::Failed { why } => ("FAILED", Some(why)),
    };
    let mut described = json!({
        "jobId": job.name(),
        "adjustmentType": "RE_RATE",
        "status": status,
        "error": error,
        "filter": {
            "tenantId": job.request.tenant_id, "operatorId": job.request.operator_id,
            "bucketHourFrom": job.request.bucket_hour_from, "bucketHourTo": job.request.bucket_hour_to,
        },
        "newPricingTableId": job.request.new_pricing_table_id,
        "estimatedImpact": job.request.estimated_impact,
        "processed": job.counts.total(),
        "adjusted": job.counts.adjusted,
        "unchanged": job.counts.unchanged,
        "voided": job.counts.voided,
        "unpriced": job.counts.unpriced,
        "sumDeltaMinor": micros_text(job.delta_micros),
        "ticketId": job.request.ticket_id,
        "reason": job.request.reason,
        "issuedByUserId": job.request.issued_by_user_id,
        "approverUserId": job.request.approver(),
        "startedAt": job.started_at,
        "finishedAt": job.finished_at,
    });
    if !sees_numbers {
        masking::own(&mut described);
    }
    described
}

/// Which records are re-rated.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Filter {
    tenant_id: Option<Uuid>,
    operator_id: Option<String>,
    from: Option<Hour>,
    to: Option<Hour>,
}

impl Filter {
    fn parse(value: Option<&Value>) -> Result<Self, ApiError> {
        const KNOWN: &[&str] = &["tenantId", "operatorId", "bucketHourFrom", "bucketHourTo"];
        let fields = value.and_then(Value::as_object);
        let fields = fields.ok_or_else(|| ApiError::invalid("filter", "an object is required"))?;
        if let Some(name) = fields.keys().find(|name| !KNOWN.contains(&name.as_str())) {
            let why = format!("unknown field; known here: {}", KNOWN.join(", "));
            return Err(ApiError::invalid(format!("filter.{name}"), why));
        }
        let instant = |name| parsed(fields, name, "an instant of RFC 3339", Millis::parse_any_case);
        let from = instant("bucketHourFrom")?.map(|at| Hour(((at.0 + HOUR_MS - 1) / HOUR_MS) as u32));
        if from.is_some_and(|from| from.start().0 > MAX_MILLIS) {
            return Err(ApiError::invalid("filter.bucketHourFrom", "no bucket begins then or later"));
        }
        let to = instant("bucketHourTo")?.map(Millis::hour);
        if from.zip(to).is_some_and(|(from, to)| from > to) {
            return Err(ApiError::invalid("filter.bucketHourTo", "it is before bucketHourFrom"));
        }
        let filter = Self {
            tenant_id: parsed(fields, "tenantId", UUID, Uuid::parse_any_case)?,
            operator_id: text(fields, "operatorId")?,
            from,
            to,
        };
        if filter.tenant_id.is_none() && filter.operator_id.is_none() && from.is_none() && to.is_none() {
            return Err(ApiError::invalid("filter", "it is empty: every record would be re-rated"));
        }
        Ok(filter)
    }

    /// How many records fit: counted one by one as long as that takes no time, the rest by the seals' counts, which
    /// are an upper bound.
    fn count(&self, store: &Store) -> Result<u64, ApiError> {
        let state = store.state();
        if let Some(id) = &self.operator_id {
            crate::api::http::input::known_operator("filter.operatorId", id, &state)?;
        }
        let records = RecordFilter {
            tenant_id: self.tenant_id,
            operator_id: self.operator_id.clone(),
            bucket_hour_from: self.from,
            bucket_hour_to: self.to,
            of_kind: Some(RowKind::Original),
            ..RecordFilter::default()
        };
        let (started, mut count, mut after) = (Instant::now(), 0, None);
        loop {
            let page = store.query(&records, after, COUNT_PAGE)?;
            count += page.rows.len() as u64;
            after = page.next;
            match after {
                None => return Ok(count),
                Some((hour, _)) if started.elapsed() > COUNT_FOR => {
                    let first = self.from.unwrap_or(state.head.first_hour);
                    let all = self.at_most(store, &state, first)?;
                    return Ok(all.min(count + self.at_most(store, &state, hour)?));
                }
                Some(_) => {}
            }
        }
    }

    /// Rows of the operators in question from `hour` on, by the seals.
    fn at_most(&self, store: &Store, state: &LedgerState, hour: Hour) -> Result<u64, ApiError> {
        let wanted = |id: &str| {
            id != SYSTEM_OPERATOR && self.operator_id.as_deref().is_none_or(|operator| operator == id)
        };
        let upto = self.to.unwrap_or(state.head.open_hour).min(state.head.open_hour);
        let mut rows = 0;
        for sealed in store.seals(hour, upto) {
            let seal = sealed?.seal;
            let counts = seal.operators.iter().filter(|o| wanted(&o.operator_id)).map(|o| o.record_count);
            rows += counts.sum::<u64>();
        }
        if upto == state.head.open_hour {
            let open = state.partitions.iter().filter(|partition| wanted(&partition.operator_id));
            rows += open.map(|partition| partition.frontier.count()).sum::<u64>();
        }
        Ok(rows)
    }
}

fn parsed<T>(
    fields: &Map<String, Value>,
    name: &str,
    expected: &str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, ApiError> {
    let Some(text) = text(fields, name)? else { return Ok(None) };
    let refused = || ApiError::invalid(format!("filter.{name}"), format!("{text:?} is not {expected}"));
    parse(&text).map(Some).ok_or_else(refused)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn many_records_need_a_second_person() {
        assert!(!needs_approval(100_000) && needs_approval(100_001));
        assert_eq!(enough(100_000, Ok(None)), Ok(None));
        assert!(enough(100_001, Ok(None)).unwrap_err().contains("X-Approver-Jwt"));
        for impact in [0, 100_001] {
            assert_eq!(enough(impact, Ok(Some("b".to_owned()))), Ok(Some("b".to_owned())));
            assert!(enough(impact, Err("an approval that does not count".to_owned())).is_err());
        }
    }

    #[test]
    fn filters_name_something_known() {
        let parse = |filter: Value| Filter::parse(Some(&filter));
        let field = |filter: Value| match parse(filter) {
            Err(ApiError::Validation { field, .. }) => field,
            other => panic!("{other:?}"),
        };
        let tenant = "00000000-0000-4000-8000-000000000001";
        let filter = parse(json!({
            "tenantId": tenant, "operatorId": "AWCC",
            "bucketHourFrom": "2026-04-01T00:00:00Z", "bucketHourTo": "2026-04-14T23:59:59Z",
        }))
        .unwrap();
        assert_eq!(filter.tenant_id, Uuid::parse(tenant));
        assert_eq!(filter.to.unwrap().to_string(), "2026-04-14T23:00:00Z");
        assert_eq!(field(json!({})), "filter");
        assert_eq!(field(json!("all")), "filter");
        assert_eq!(field(json!({"tenantId": "t_01"})), "filter.tenantId");
        assert_eq!(field(json!({"msisdn": "x"})), "filter.msisdn");
        assert_eq!(field(json!({"bucketHourFrom": "now"})), "filter.bucketHourFrom");
        assert_eq!(field(json!({"bucketHourFrom": "9999-12-31T23:00:01Z"})), "filter.bucketHourFrom");
        assert!(parse(json!({"bucketHourFrom": "9999-12-31T23:00:00Z"})).is_ok());
        let turned =
            json!({"bucketHourFrom": "2026-04-02T00:00:00Z", "bucketHourTo": "2026-04-01T00:00:00Z"});
        assert_eq!(field(turned), "filter.bucketHourTo");
    }
}
