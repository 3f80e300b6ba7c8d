//! `POST /v1/cdr/adjustments/rerate` and `GET /v1/cdr/adjustments/jobs/{jobId}` (US-CDR-018).

use super::Service;
use super::access::{Caller, PathInput};
use super::adjustments::text;
use super::answer::Answer;
use super::body::{Body, Headers};
use super::error::ApiError;
use super::ledger::{Consistency, Work};
use crate::acts::{Act, Wish};
use crate::auth::{SCOPE_READ, SCOPE_WRITE};
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use cdr_core::job::{JOB_PREFIX, Job, JobRequest, JobState, micros_text};
use cdr_core::time::HOUR_MS;
use cdr_core::{CdrId, Hour, LedgerState, Millis, Uuid};
use cdr_storage::{RecordFilter, RowKind, Store};
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

/// More records than this need a second person (API contract, section 3.3).
const FOUR_EYES_ABOVE: u64 = 100_000;
/// How long records are counted one by one before an upper bound has to do.
const COUNT_FOR: Duration = Duration::from_secs(3);
/// Rows that are asked for at once while counting.
const COUNT_PAGE: usize = 5_000;

/// Starts a job that rates records anew.
pub(super) async fn start(
    State(service): State<Service>,
    caller: Caller,
    headers: Headers,
    body: Body,
) -> Result<Answer, ApiError> {
    caller.require(SCOPE_WRITE)?;
    let body = body.object(&["filter", "newPricingTableId", "ticketId", "reason"])?;
    let ticket_id = text(&body, "ticketId")?.ok_or(ApiError::TicketRequired)?;
    let required = |name: &str| text(&body, name)?.ok_or_else(|| ApiError::invalid(name, "it is required"));
    let (table, reason) = (required("newPricingTableId")?, required("reason")?);
    let filter = Filter::parse(body.get("filter"))?;
    let actor = caller.0.subject.clone();
    let key = headers.request_key(&actor)?;
    let hash = body.hash("re-rating")?;
    service.ledger.barrier(Consistency::Linearizable).await?;
    let counted = filter.clone();
    let estimated_impact =
        service.ledger.on_store(Work::Verification, move |store| counted.count(store)).await?;
    let approver = approver(&service, &caller, &headers, estimated_impact)?;
    let request = JobRequest {
        approver_user_id: approver.clone().unwrap_or_else(|| actor.clone()),
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
    };
    let job = service.ledger.desk.perform(&act).await?;
    let applied_index = service.ledger.barrier(Consistency::Linearizable).await?;
    // A repeated request gets the estimate of the first.
    let known = service.ledger.store.state().jobs.get(job).map(|job| job.request.estimated_impact);
    let estimated_impact = known.unwrap_or(estimated_impact);
    let answer = json!({
        "jobId": job.with_prefix(JOB_PREFIX),
        "estimatedImpact": estimated_impact,
        "requiresApproval": estimated_impact > FOUR_EYES_ABOVE,
    });
    Ok(Answer::of(&answer, applied_index)?.with_status(StatusCode::ACCEPTED))
}

/// Who approved, if somebody sent an approver's token; who asked can't approve, and many records need somebody.
fn approver(
    service: &Service,
    caller: &Caller,
    headers: &Headers,
    impact: u64,
) -> Result<Option<String>, ApiError> {
    let needed = impact > FOUR_EYES_ABOVE;
    let four_eyes = |why: String| ApiError::FourEyesRequired { impact, limit: FOUR_EYES_ABOVE, why };
    let Some(token) = headers.text("X-Approver-Jwt")? else {
        if needed {
            return Err(four_eyes("send the approver's token in X-Approver-Jwt".to_owned()));
        }
        return Ok(None);
    };
    let approver = service
        .tokens
        .authenticate(Some(&format!("Bearer {token}")))
        .map_err(|error| four_eyes(format!("X-Approver-Jwt: {error}")))?;
    if !approver.has(SCOPE_WRITE) {
        return Err(four_eyes(format!("the approver lacks the scope {SCOPE_WRITE}")));
    }
    if approver.subject == caller.0.subject {
        return Err(four_eyes("nobody approves their own request".to_owned()));
    }
    Ok(Some(approver.subject))
}

/// How far a job is.
pub(super) async fn job(
    State(service): State<Service>,
    caller: Caller,
    path: PathInput,
    uri: Uri,
) -> Result<Answer, ApiError> {
    let (_, read) = service.ledger.read(&caller, SCOPE_READ, &uri, &[])?;
    let expected = "a job id, `adjjob_` and 26 characters";
    let id = path.parsed("jobId", expected, |text| CdrId::parse_prefixed(JOB_PREFIX, text))?;
    read.value(move |store| {
        let state = store.state();
        let job =
            state.jobs.get(id).ok_or_else(|| ApiError::JobNotFound { job: id.with_prefix(JOB_PREFIX) })?;
        Ok(describe(job))
    })
    .await
}

fn describe(job: &Job) -> Value {
    let (status, error) = match &job.state {
        JobState::Running => ("RUNNING", None),
        JobState::Finished => ("FINISHED", None),
        JobState::Failed { why } => ("FAILED", Some(why)),
    };
    json!({
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
        "approverUserId": job.request.approver_user_id,
        "startedAt": job.started_at,
        "finishedAt": job.finished_at,
    })
}

/// Which records are rated anew.
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
        let instant = |name| parsed(fields, name, "an instant of RFC 3339", Millis::parse);
        let from = instant("bucketHourFrom")?.map(|at| Hour(((at.0 + HOUR_MS - 1) / HOUR_MS) as u32));
        let to = instant("bucketHourTo")?.map(Millis::hour);
        if from.zip(to).is_some_and(|(from, to)| from > to) {
            return Err(ApiError::invalid("filter.bucketHourTo", "it is before bucketHourFrom"));
        }
        let filter = Self {
            tenant_id: parsed(fields, "tenantId", "a lower-case UUID", Uuid::parse)?,
            operator_id: text(fields, "operatorId")?,
            from,
            to,
        };
        if filter.tenant_id.is_none() && filter.operator_id.is_none() && from.is_none() && to.is_none() {
            return Err(ApiError::invalid("filter", "it names nothing: every record would be rated anew"));
        }
        Ok(filter)
    }

    /// How many records fit: counted one by one as long as that takes no time, the rest by the seals' counts, which
    /// are an upper bound.
    fn count(&self, store: &Store) -> Result<u64, ApiError> {
        let state = store.state();
        if let Some(id) = &self.operator_id {
            super::input::known_operator("filter.operatorId", id, &state)?;
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
                    return Ok(count + self.at_most(store, &state, hour)?);
                }
                Some(_) => {}
            }
        }
    }

    /// Rows of the operators in question from `hour` on, by the seals.
    fn at_most(&self, store: &Store, state: &LedgerState, hour: Hour) -> Result<u64, ApiError> {
        let wanted = |id: &str| self.operator_id.as_deref().is_none_or(|operator| operator == id);
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
