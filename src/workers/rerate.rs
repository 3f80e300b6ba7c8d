//! Works bulk jobs off: RE_RATE rows in steps, each in one command with the progress that it means (US-CDR-018).
//!
//! A job reads every original record of its filter that existed when it was requested, in order, and follows each
//! one's effective row. Its place is in the state, so another leader goes on exactly there. A job that can't go
//! on for now, because its price list is unavailable, waits while others go on: see [`turns`](super::turns).

use super::rating::{Cause, Charge, charged};
use super::tariffs;
use super::turns::Turns;
use crate::pricing::{PriceBook, PriceQuery, Pricing, PricingError};
use crate::proposer::{ProposalError, Proposer};
use cdr_core::Hour;
use cdr_core::canonical::to_jcs;
use cdr_core::command::{Append, Command, DraftsBuffer, Rejection, Reply, Source};
use cdr_core::job::{Job, JobCounts, JobStep, Place, micros_text};
use cdr_core::personal::SystemContent;
use cdr_core::row::{AdjustmentType, Draft, SystemKind};
use cdr_storage::{RecordFilter, RowKind, Store, StoreError, StoredRow};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Records that one step looks at, at most: what bounds memory and how long others wait for the log.
const STEP_RECORDS: usize = 400;
/// How often the state is checked for new jobs.
const PAUSE: Duration = Duration::from_millis(200);

/// Why a job stopped; the caller tries again.
#[derive(Debug, thiserror::Error)]
pub enum ReRateError {
    /// The proposal failed.
    #[error(transparent)]
    Proposal(#[from] ProposalError),
    /// Rows can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The price list is unavailable.
    #[error(transparent)]
    Pricing(#[from] PricingError),
    /// A step can't be made.
    #[error("a step of a job can't be made: {0}")]
    Step(String),
    /// The log refused the step.
    #[error("the log refused a step: {0}")]
    Refused(Rejection),
}

impl ReRateError {
    /// True if only the job is in trouble, not the log or the store.
    fn concerns_one_job(&self) -> bool {
        match self {
            Self::Pricing(_) | Self::Step(_) | Self::Refused(_) => true,
            Self::Proposal(_) | Self::Store(_) => false,
        }
    }
}

/// Works off jobs, the oldest first that can go on.
///
/// # Errors
/// [`ReRateError`], but none that concerns only one job.
pub async fn run(proposer: &Proposer, pricing: &Arc<dyn Pricing>) -> Result<(), ReRateError> {
    let mut turns = Turns::default();
    loop {
        let state = proposer.state();
        turns.keep(|id| state.jobs.get(id).is_some_and(Job::is_open));
        let Some(job) = turns.next(&state.jobs, Instant::now()) else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        match step(proposer, pricing, job).await {
            Ok(()) => turns.went_on(job.id),
            Err(error) if error.concerns_one_job() => {
                let pause = turns.rest(job.id, Instant::now());
                tracing::warn!(job = job.name(), %error, ?pause, "a job waits; others go on");
            }
            Err(error) => return Err(error),
        }
    }
}

async fn step(proposer: &Proposer, pricing: &Arc<dyn Pricing>, job: &Job) -> Result<(), ReRateError> {
    let version = &job.request.new_pricing_table_id;
    if pricing.fetch_table(version).await?.is_none() {
        let why = format!("price list {version} is not known");
        tracing::error!(job = job.name(), why, "a job failed");
        return end(proposer, JobStep::Failed { job_id: job.name(), why }).await;
    }
    tariffs::record_all(proposer, pricing).await?;
    // A book never changes; another one could have dropped the list meanwhile.
    let book = pricing.book();
    if book.table(version).is_none() {
        return Err(ReRateError::Step(format!("price list {version} was dropped from the book again")));
    }
    let (own, work) = (proposer.clone(), job.clone());
    let made = tokio::task::spawn_blocking(move || make_step(&own, &book, &work));
    let (drafts, done) = made.await.map_err(|e| ReRateError::Step(e.to_string()))??;
    let append = Append { source: Source::Internal, drafts: drafts.drafts() };
    match proposer.propose(Command::Append(append)).await? {
        // Another writer adjusted one of the records, or an earlier step arrived after all: the next step sees it.
        Reply::Rejected(
            Rejection::Superseded { .. } | Rejection::AlreadyVoided { .. } | Rejection::JobMoved { .. },
        ) => Ok(()),
        Reply::Rejected(rejection) => Err(ReRateError::Refused(rejection)),
        _ => {
            if done {
                tracing::info!(job = job.name(), "a job is done");
            }
            Ok(())
        }
    }
}

async fn end(proposer: &Proposer, step: JobStep) -> Result<(), ReRateError> {
    match proposer.append_rows("rerate", vec![(SystemKind::Job, to_jcs(&step))]).await? {
        Reply::Rejected(rejection) => Err(ReRateError::Refused(rejection)),
        _ => Ok(()),
    }
}

/// The rows of the next step, and whether it is the last.
fn make_step(proposer: &Proposer, book: &PriceBook, job: &Job) -> Result<(DraftsBuffer, bool), ReRateError> {
    let store = proposer.store();
    let filter = filter(job)?;
    let behind = job.cursor.map(|place| (place.bucket_hour, place.cdr_sequence));
    let page = store.query(&filter, behind, STEP_RECORDS)?;
    let mut step = Step::new(proposer, book, job);
    let mut beyond = false;
    for stored in &page.rows {
        // Records that came later were not part of the request.
        if place(stored.hour(), stored.sequence()) > job.asked_at {
            beyond = true;
            break;
        }
        step.follow(store, stored)?;
    }
    let next = page.next.map(|(hour, sequence)| place(hour, sequence));
    let done = beyond || next.is_none_or(|next| next >= job.asked_at);
    let upto = if done { job.asked_at } else { next.unwrap_or(job.asked_at) };
    Ok((step.finish(upto, done)?, done))
}

fn place(bucket_hour: Hour, cdr_sequence: u64) -> Place {
    Place { bucket_hour, cdr_sequence }
}

fn filter(job: &Job) -> Result<RecordFilter, ReRateError> {
    let request = &job.request;
    let last = job.asked_at.bucket_hour;
    Ok(RecordFilter {
        tenant_id: request.tenant().map_err(ReRateError::Step)?,
        operator_id: request.operator_id.clone(),
        bucket_hour_from: request.bucket_hour_from,
        bucket_hour_to: Some(request.bucket_hour_to.map_or(last, |to| to.min(last))),
        of_kind: Some(RowKind::Original),
        ..RecordFilter::default()
    })
}

/// A step in the making.
struct Step<'a> {
    proposer: &'a Proposer,
    book: &'a PriceBook,
    job: &'a Job,
    drafts: DraftsBuffer,
    counts: JobCounts,
    delta_micros: i128,
}

impl<'a> Step<'a> {
    fn new(proposer: &'a Proposer, book: &'a PriceBook, job: &'a Job) -> Self {
        let (drafts, counts) = (DraftsBuffer::default(), JobCounts::default());
        Self { proposer, book, job, drafts, counts, delta_micros: 0 }
    }

    /// Re-rates the effective row of an original record, unless it is voided, has that price, or the list has none
    /// for it.
    fn follow(&mut self, store: &Store, original: &StoredRow) -> Result<(), ReRateError> {
        let line = store.line(original)?;
        let Some(last) = line.last() else { return Ok(()) };
        let effective = last.row()?;
        let Some(sms) = effective.sms() else { return Ok(()) };
        if sms.adjustment.as_ref().is_some_and(|adjustment| adjustment.kind == AdjustmentType::Void) {
            self.counts.voided += 1;
            return Ok(());
        }
        let request = &self.job.request;
        let query = PriceQuery::of(effective.frame.operator_id, sms);
        let Some(price) = self.book.price_in(&request.new_pricing_table_id, &query) else {
            self.counts.unpriced += 1;
            return Ok(());
        };
        let charge = Charge::of(&price);
        if charge.is_that_of(sms) {
            self.counts.unchanged += 1;
            return Ok(());
        }
        let cause = Cause {
            kind: AdjustmentType::ReRate,
            reason: Some(&request.reason),
            ticket_id: &request.ticket_id,
            issued_by: &request.issued_by_user_id,
            approver: request.approver(),
            trace_id: &request.trace_id,
        };
        let drawn = self.proposer.draw().map_err(|e| ReRateError::Step(e.to_string()))?;
        self.push(&charged(&effective, sms, &charge, &cause, drawn))?;
        let before = sms.charge_amount.map_or(0, |amount| i128::from(amount.micros()));
        self.delta_micros += i128::from(charge.amount.micros()) - before;
        self.counts.adjusted += 1;
        Ok(())
    }

    fn push(&mut self, draft: &Draft<'_>) -> Result<(), ReRateError> {
        self.drafts.push(0, draft).map_err(|e| ReRateError::Step(e.to_string()))
    }

    fn push_job(&mut self, step: &JobStep) -> Result<(), ReRateError> {
        let content = SystemContent::new(SystemKind::Job, step).map_err(ReRateError::Step)?;
        let drawn = self.proposer.draw().map_err(|e| ReRateError::Step(e.to_string()))?;
        self.push(&content.draft(drawn, &self.job.request.trace_id))
    }

    /// The rows, with the progress that they mean.
    fn finish(mut self, upto: Place, done: bool) -> Result<DraftsBuffer, ReRateError> {
        let job_id = self.job.name();
        let progress = JobStep::Progress {
            job_id: job_id.clone(),
            behind: self.job.cursor,
            upto,
            counts: self.counts,
            sum_delta: micros_text(self.delta_micros),
        };
        self.push_job(&progress)?;
        if done {
            self.push_job(&JobStep::Finished { job_id })?;
        }
        Ok(self.drafts)
    }
}
