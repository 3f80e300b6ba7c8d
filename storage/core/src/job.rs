//! Bulk jobs (US-CDR-018): their rows, and the fold over them.
//!
//! A `job` row with a `step` moves a job on. Progress stands in the same command as the adjustments that it counts,
//! and records from where it goes on: a worker that is restarted continues exactly there, and no row is adjusted twice.

use crate::command::Rejection;
use crate::id::{CdrId, Uuid};
use crate::time::{Hour, Millis};
use bincode::{Decode, Encode};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;

/// Finished jobs that are kept in the state; older ones are found by their rows.
pub const FINISHED_KEPT: usize = 200;
/// Jobs that may be open at once.
pub const MOST_OPEN: usize = 100;

/// Prefix of a job's id; the rest is that of its first row's `cdrId`.
pub const JOB_PREFIX: &str = "adjjob_";

/// The body of a `job` row that means something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "SCREAMING_SNAKE_CASE", rename_all_fields = "camelCase")]
pub enum JobStep {
    /// The job was requested; the row's id is the job's.
    Requested(JobRequest),
    /// Rows were adjusted, in the same command.
    Progress {
        /// The job.
        job_id: String,
        /// Place behind which this step began; none at the beginning.
        behind: Option<Place>,
        /// Place up to which every row was processed.
        upto: Place,
        /// What became of the rows.
        counts: JobCounts,
        /// Sum of new minus old charges, six decimals.
        sum_delta: String,
    },
    /// Every row was processed.
    Finished {
        /// The job.
        job_id: String,
    },
    /// The job can't go on.
    Failed {
        /// The job.
        job_id: String,
        /// Why.
        why: String,
    },
}

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Place {
    /// Bucket hour.
    pub bucket_hour: Hour,
    /// `cdrSequence`.
    pub cdr_sequence: u64,
}

/// The request of a RE_RATE job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct JobRequest {
    /// Who approved; empty, and null in rows, where no approval was needed. See [`JobRequest::approver`].
    #[serde(with = "empty_is_null")]
    pub approver_user_id: String,
    /// First bucket, where given.
    pub bucket_hour_from: Option<Hour>,
    /// Last bucket, where given.
    pub bucket_hour_to: Option<Hour>,
    /// Rows that were expected to be concerned when the job was requested.
    pub estimated_impact: u64,
    /// The requester.
    pub issued_by_user_id: String,
    /// Price list by which records are re-rated.
    pub new_pricing_table_id: String,
    /// Operator, where given.
    pub operator_id: Option<String>,
    /// Why, in words.
    pub reason: String,
    /// Submitter, where given.
    pub tenant_id: Option<String>,
    /// Ticket that requested it.
    pub ticket_id: String,
    /// Trace of the request.
    pub trace_id: String,
}

/// What became of the rows of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobCounts {
    /// Re-rated.
    pub adjusted: u64,
    /// Rated by that very price list already.
    pub unchanged: u64,
    /// Voided before.
    pub voided: u64,
    /// Not priced by the new list.
    pub unpriced: u64,
}

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub enum JobState {
    /// It goes on.
    Running,
    /// Every row was processed.
    Finished,
    /// It can't go on.
    Failed {
        /// Why.
        why: String,
    },
}

/// A job as its rows show it.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Job {
    /// Its id.
    pub id: CdrId,
    /// Its request.
    pub request: JobRequest,
    /// Place of its own first row: rows behind it do not concern it.
    pub asked_at: Place,
    /// How far it is.
    pub state: JobState,
    /// Place up to which every row was processed.
    pub cursor: Option<Place>,
    /// What became of the rows.
    pub counts: JobCounts,
    /// Sum of new minus old charges, in millionths.
    pub delta_micros: i128,
    /// When it was requested.
    pub started_at: Millis,
    /// When it ended.
    pub finished_at: Option<Millis>,
}

impl Job {
    /// The id as the API writes it.
    pub fn name(&self) -> String {
        self.id.with_prefix(JOB_PREFIX)
    }

    /// True while there is work left.
    pub fn is_open(&self) -> bool {
        self.state == JobState::Running
    }
}

/// Open jobs and the last finished ones, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
pub struct Jobs(Arc<VecDeque<Job>>);

impl Jobs {
    /// Every job in the state, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Job> {
        self.0.iter()
    }

    /// The job with this id, if it is in the state.
    pub fn get(&self, id: CdrId) -> Option<&Job> {
        self.iter().rev().find(|job| job.id == id)
    }

    /// The oldest job that has work left.
    pub fn oldest_open(&self) -> Option<&Job> {
        self.iter().find(|job| job.is_open())
    }

    /// Applies a `job` row.
    ///
    /// # Errors
    /// [`Rejection::Illegal`], or [`Rejection::JobMoved`] if the step does not go on where the job is.
    pub fn fold(
        &mut self,
        row: CdrId,
        at: Place,
        recorded_at: Millis,
        step: JobStep,
    ) -> Result<(), Rejection> {
        match step {
            JobStep::Requested(request) => self.ask(row, at, recorded_at, request),
            JobStep::Progress { job_id, behind, upto, counts, sum_delta } => {
                let delta = micros(&sum_delta).ok_or_else(|| illegal(&job_id, "its sum is no amount"))?;
                let job = self.open_job(&job_id)?;
                if job.cursor != behind || behind.is_some_and(|behind| upto <= behind) {
                    return Err(Rejection::JobMoved { job_id });
                }
                job.cursor = Some(upto);
                job.counts.add(&counts);
                job.delta_micros += delta;
                Ok(())
            }
            JobStep::Finished { job_id } => self.end(&job_id, JobState::Finished, recorded_at),
            JobStep::Failed { job_id, why } => self.end(&job_id, JobState::Failed { why }, recorded_at),
        }
    }

    fn ask(
        &mut self,
        id: CdrId,
        asked_at: Place,
        started_at: Millis,
        request: JobRequest,
    ) -> Result<(), Rejection> {
        if self.iter().filter(|job| job.is_open()).count() >= MOST_OPEN {
            return Err(illegal(&id.with_prefix(JOB_PREFIX), "too many jobs are open: wait for one to end"));
        }
        let jobs = Arc::make_mut(&mut self.0);
        jobs.push_back(Job {
            id,
            request,
            asked_at,
            state: JobState::Running,
            cursor: None,
            counts: JobCounts::default(),
            delta_micros: 0,
            started_at,
            finished_at: None,
        });
        Ok(())
    }

    fn end(&mut self, job_id: &str, state: JobState, at: Millis) -> Result<(), Rejection> {
        let job = self.open_job(job_id)?;
        job.state = state;
        job.finished_at = Some(at);
        let jobs = Arc::make_mut(&mut self.0);
        while jobs.iter().filter(|job| !job.is_open()).count() > FINISHED_KEPT {
            let oldest = jobs.iter().position(|job| !job.is_open()).unwrap_or(0);
            jobs.remove(oldest);
        }
        Ok(())
    }

    fn open_job(&mut self, job_id: &str) -> Result<&mut Job, Rejection> {
        let id = CdrId::parse_prefixed(JOB_PREFIX, job_id);
        let at = self.0.iter().position(|job| Some(job.id) == id && job.is_open());
        let at = at.ok_or_else(|| illegal(job_id, "there is no open job of that id"))?;
        Ok(&mut Arc::make_mut(&mut self.0)[at])
    }
}

impl FromIterator<Job> for Jobs {
    /// From jobs in the order in which they were requested.
    fn from_iter<T: IntoIterator<Item = Job>>(jobs: T) -> Self {
        Self(Arc::new(jobs.into_iter().collect()))
    }
}

impl JobCounts {
    fn add(&mut self, more: &Self) {
        self.adjusted += more.adjusted;
        self.unchanged += more.unchanged;
        self.voided += more.voided;
        self.unpriced += more.unpriced;
    }

    /// Rows processed.
    pub fn total(&self) -> u64 {
        self.adjusted + self.unchanged + self.voided + self.unpriced
    }
}

/// A text that is null in JSON if it is empty.
mod empty_is_null {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
        Some(text).filter(|text| !text.is_empty()).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
        Ok(Option::deserialize(deserializer)?.unwrap_or_default())
    }
}

impl JobRequest {
    /// Who approved: another person than the requester. A requester who is named there has approved nothing: rows of
    /// before name the requester where no approval was needed.
    pub fn approver(&self) -> Option<&str> {
        let approver = self.approver_user_id.as_str();
        Some(approver).filter(|approver| !approver.is_empty() && *approver != self.issued_by_user_id)
    }

    /// The submitter, where given.
    ///
    /// # Errors
    /// If it is not a UUID.
    pub fn tenant(&self) -> Result<Option<Uuid>, String> {
        self.tenant_id
            .as_deref()
            .map(|text| Uuid::parse(text).ok_or_else(|| format!("tenantId {text:?} is no UUID")))
            .transpose()
    }
}

/// A sum of amounts with six decimals, in millionths; larger than one amount may be.
pub fn micros(text: &str) -> Option<i128> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (whole, fraction) = digits.split_once('.')?;
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    if !plain(whole) || !plain(fraction) || fraction.len() != 6 || whole.len() > 24 {
        return None;
    }
    let (whole, fraction): (i128, i128) = (whole.parse().ok()?, fraction.parse().ok()?);
    Some(sign * (whole * 1_000_000 + fraction))
}

/// A sum in millionths as text with six decimals; zero has no sign.
pub fn micros_text(micros: i128) -> String {
    let sign = if micros < 0 { "-" } else { "" };
    let magnitude = micros.unsigned_abs();
    format!("{sign}{}.{:06}", magnitude / 1_000_000, magnitude % 1_000_000)
}

fn illegal(job_id: &str, why: &str) -> Rejection {
    Rejection::Illegal { why: format!("job {job_id}: {why}") }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(hour: u32, cdr_sequence: u64) -> Place {
        Place { bucket_hour: Hour(hour), cdr_sequence }
    }

    fn progress(job_id: &str, behind: Option<Place>, upto: Place) -> JobStep {
        let counts = JobCounts { adjusted: 2, ..JobCounts::default() };
        let (job_id, sum_delta) = (job_id.to_owned(), "-0.000003".to_owned());
        JobStep::Progress { job_id, behind, upto, counts, sum_delta }
    }

    #[test]
    fn a_job_goes_on_where_it_was_and_nowhere_else() {
        let mut jobs = Jobs::default();
        let (id, at) = (CdrId([7; 16]), Millis(5));
        jobs.fold(id, place(9, 9), at, JobStep::Requested(JobRequest::default())).unwrap();
        let name = jobs.get(id).unwrap().name();
        assert_eq!(jobs.oldest_open().map(|job| job.id), Some(id));
        jobs.fold(id, place(9, 10), at, progress(&name, None, place(1, 5))).unwrap();
        let before = jobs.clone();
        let moved = Rejection::JobMoved { job_id: name.clone() };
        for (behind, upto) in [
            (None, place(1, 5)),
            (Some(place(1, 4)), place(1, 6)),
            (Some(place(1, 5)), place(1, 5)),
            (Some(place(1, 5)), place(1, 2)),
        ] {
            assert_eq!(jobs.fold(id, place(9, 11), at, progress(&name, behind, upto)), Err(moved.clone()));
        }
        assert_eq!(jobs, before);
        jobs.fold(id, place(9, 11), at, progress(&name, Some(place(1, 5)), place(2, 1))).unwrap();
        let job = jobs.get(id).unwrap();
        assert_eq!((job.counts.adjusted, job.delta_micros), (4, -6));
        jobs.fold(id, place(9, 12), Millis(8), JobStep::Finished { job_id: name.clone() }).unwrap();
        assert_eq!(jobs.get(id).unwrap().finished_at, Some(Millis(8)));
        assert!(jobs.oldest_open().is_none());
        assert!(jobs.fold(id, place(9, 13), at, JobStep::Finished { job_id: name }).is_err());
    }

    #[test]
    fn only_the_last_finished_jobs_are_kept() {
        let mut jobs = Jobs::default();
        for n in 0..=FINISHED_KEPT as u8 {
            let id = CdrId([n; 16]);
            jobs.fold(id, place(1, 1), Millis(0), JobStep::Requested(JobRequest::default())).unwrap();
            let job_id = id.with_prefix(JOB_PREFIX);
            jobs.fold(id, place(1, 2), Millis(0), JobStep::Finished { job_id }).unwrap();
        }
        assert_eq!(jobs.iter().count(), FINISHED_KEPT);
        assert!(jobs.get(CdrId([0; 16])).is_none());
    }

    proptest! {
        #[test]
        fn sums_and_back(sum in -(10i128.pow(27))..10i128.pow(27)) {
            prop_assert_eq!(micros(&micros_text(sum)), Some(sum));
        }
    }
}
