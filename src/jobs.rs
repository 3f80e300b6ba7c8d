//! Bulk jobs that are no longer in the state: folded from their rows.
//!
//! The state keeps the last [`FINISHED_KEPT`](cdr_core::job::FINISHED_KEPT) jobs that ended. Older ones stand in the
//! ledger like everything else: the first row has the job's id, and the list of all `job` rows leads from it to the
//! last one.

use cdr_core::command::Rejection;
use cdr_core::job::{JOB_PREFIX, Job, JobStep, Jobs, Place};
use cdr_core::row::{Record, SystemKind};
use cdr_core::{CdrId, Row};
use cdr_storage::{RecordFilter, RowKind, Store, StoreError, StoredRow};
use std::time::{Duration, Instant};

/// Rows that are read at once.
const PAGE_ROWS: usize = 1_000;

/// A job can't be read from its rows.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// Rows can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A row is not one that the log accepts.
    #[error("a row of job {job} can't be read: {why}")]
    Row {
        /// The job.
        job: String,
        /// What is wrong.
        why: Rejection,
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

/// The job `id`, from the state or from its rows; none if there is none. Reads rows for as long as `budget`
/// lasts.
///
/// # Errors
/// [`JobError`].
pub fn find(store: &Store, id: CdrId, budget: Duration) -> Result<Option<Job>, JobError> {
    if let Some(job) = store.state().jobs.get(id) {
        return Ok(Some(job.clone()));
    }
    let (name, started) = (id.with_prefix(JOB_PREFIX), Instant::now());
    let mut folded = Jobs::default();
    let Some(first) = store.row_by_id(id)? else { return Ok(None) };
    let Some(asked @ JobStep::Requested(_)) = step(&first.row()?) else { return Ok(None) };
    fold(&mut folded, &name, &first, asked)?;
    let filter = RecordFilter {
        bucket_hour_from: Some(first.hour()),
        of_kind: Some(RowKind::System(SystemKind::Job)),
        ..RecordFilter::default()
    };
    let mut after = Some((first.hour(), first.sequence()));
    while let Some(behind) = after {
        let page = store.query(&filter, Some(behind), PAGE_ROWS)?;
        for stored in &page.rows {
            match step(&stored.row()?) {
                Some(step) if goes_on(&step, &name) => fold(&mut folded, &name, stored, step)?,
                _ => continue,
            }
            if folded.oldest_open().is_none() {
                return Ok(folded.get(id).cloned());
            }
        }
        if started.elapsed() > budget {
            return Err(JobError::TooLong { job: name, ms: budget.as_millis() });
        }
        after = page.next;
    }
    Ok(folded.get(id).cloned())
}

/// Applies a row as the state did.
fn fold(jobs: &mut Jobs, name: &str, stored: &StoredRow, step: JobStep) -> Result<(), JobError> {
    let at = Place { bucket_hour: stored.hour(), cdr_sequence: stored.sequence() };
    let frame = stored.row()?.frame;
    jobs.fold(frame.cdr_id, at, frame.recorded_at, step)
        .map_err(|why| JobError::Row { job: name.to_owned(), why })
}

/// The step in a `job` row.
fn step(row: &Row<'_>) -> Option<JobStep> {
    match &row.record {
        Record::System(system) if system.kind == SystemKind::Job => system.read().ok(),
        _ => None,
    }
}

/// True if it is a step of the job `name` behind its first.
fn goes_on(step: &JobStep, name: &str) -> bool {
    match step {
        JobStep::Requested(_) => false,
        JobStep::Progress { job_id, .. } | JobStep::Finished { job_id } | JobStep::Failed { job_id, .. } => {
            job_id == name
        }
    }
}
