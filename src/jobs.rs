//! Bulk jobs that the state holds no more: folded from their rows.
//!
//! The state keeps the last [`FINISHED_KEPT`](cdr_core::job::FINISHED_KEPT) jobs that ended. Older ones stand in the
//! ledger like everything else: the first row has the job's id, and the list of all `job` rows leads from it to the
//! last one.

use cdr_core::job::{Job, JobCounts, JobState, JobStep, Place, micros};
use cdr_core::row::{Record, SystemKind};
use cdr_core::{CdrId, Row};
use cdr_storage::{RecordFilter, RowKind, Store, StoreError};
use std::time::{Duration, Instant};

/// Rows that are read at once.
const PAGE_ROWS: usize = 1_000;

/// A job can't be told from its rows.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Rows can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row is not what the log takes in.
    #[error("a row of job {job} can't be read: {why}")]
    Row {
        /// The job.
        job: String,
        /// What is wrong.
        why: &'static str,
    },
    /// There are more rows of jobs than can be read in the time that is given.
    #[error("the rows of job {job} can't be read within {ms} ms")]
    TooLong {
        /// The job.
        job: String,
        /// The time.
        ms: u128,
    },
}

/// The job `id`, as the state has it or as its rows tell it; none if there is none. Reads rows for as long as `budget`
/// lasts.
///
/// # Errors
/// [`JobError`].
pub fn find(store: &Store, id: CdrId, budget: Duration) -> Result<Option<Job>, JobError> {
    if let Some(job) = store.state().jobs.get(id) {
        return Ok(Some(job.clone()));
    }
    let Some(mut job) = begun(store, id)? else { return Ok(None) };
    let (name, started) = (job.name(), Instant::now());
    let filter = RecordFilter {
        bucket_hour_from: Some(job.asked_at.bucket_hour),
        of_kind: Some(RowKind::System(SystemKind::Job)),
        ..RecordFilter::default()
    };
    let mut after = Some((job.asked_at.bucket_hour, job.asked_at.cdr_sequence));
    while let Some(behind) = after {
        let page = store.query(&filter, Some(behind), PAGE_ROWS)?;
        for stored in &page.rows {
            take_in(&mut job, &name, &stored.row()?)?;
            if !job.is_open() {
                return Ok(Some(job));
            }
        }
        if started.elapsed() > budget {
            return Err(JobError::TooLong { job: name, ms: budget.as_millis() });
        }
        after = page.next;
    }
    Ok(Some(job))
}

/// The job as its first row asks for it; none if no such row does.
fn begun(store: &Store, id: CdrId) -> Result<Option<Job>, JobError> {
    let Some(first) = store.row_by_id(id)? else { return Ok(None) };
    let row = first.row()?;
    let Some(JobStep::Requested(request)) = step(&row) else { return Ok(None) };
    Ok(Some(Job {
        id,
        request,
        asked_at: Place { bucket_hour: first.hour(), cdr_sequence: first.sequence() },
        state: JobState::Running,
        cursor: None,
        counts: JobCounts::default(),
        delta_micros: 0,
        started_at: row.frame.recorded_at,
        finished_at: None,
    }))
}

/// The step in a `job` row.
fn step(row: &Row<'_>) -> Option<JobStep> {
    match &row.record {
        Record::System(system) if system.kind == SystemKind::Job => serde_json::from_str(system.body).ok(),
        _ => None,
    }
}

/// Takes a row into the figures of the job `name`, if it is one of its steps.
fn take_in(job: &mut Job, name: &str, row: &Row<'_>) -> Result<(), JobError> {
    let unreadable = |why| JobError::Row { job: name.to_owned(), why };
    let ended = |job: &mut Job, state| (job.state, job.finished_at) = (state, Some(row.frame.recorded_at));
    match step(row) {
        Some(JobStep::Progress { job_id, upto, counts, sum_delta, .. }) if job_id == name => {
            job.cursor = Some(upto);
            job.counts.adjusted += counts.adjusted;
            job.counts.unchanged += counts.unchanged;
            job.counts.voided += counts.voided;
            job.counts.unpriced += counts.unpriced;
            job.delta_micros += micros(&sum_delta).ok_or_else(|| unreadable("a sum is no amount"))?;
        }
        Some(JobStep::Finished { job_id }) if job_id == name => ended(job, JobState::Finished),
        Some(JobStep::Failed { job_id, why }) if job_id == name => ended(job, JobState::Failed { why }),
        _ => (),
    }
    Ok(())
}
