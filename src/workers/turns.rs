//! Which bulk job goes on: the oldest that is open, unless it rests.
//!
//! Jobs whose filters overlap keep their order, because the price of the one that was requested last has to be
//! the one that counts: a job waits behind an older one that rests if their filters overlap. All others pass it.

use cdr_core::CdrId;
use cdr_core::job::{Job, JobRequest, Jobs};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long a job rests that could not go on, at first; each further time twice as long.
const REST: Duration = Duration::from_secs(1);
/// How long at most.
const LONGEST_REST: Duration = Duration::from_secs(30);

/// The jobs that rest. Only their pace is kept here: a leader that knows nothing of it tries them all once.
#[derive(Debug, Default)]
pub(super) struct Turns(HashMap<CdrId, Rest>);

#[derive(Clone, Copy, Debug)]
struct Rest {
    until: Instant,
    length: Duration,
}

impl Turns {
    /// The oldest open job that neither rests nor has to wait for one that does.
    pub(super) fn next<'j>(&self, jobs: &'j Jobs, now: Instant) -> Option<&'j Job> {
        let mut resting: Vec<&Job> = Vec::new();
        for job in jobs.iter().filter(|job| job.is_open()) {
            if resting.iter().any(|older| overlap(&older.request, &job.request)) {
                // What overlaps this one must not pass it either.
                resting.push(job);
            } else if self.0.get(&job.id).is_some_and(|rest| now < rest.until) {
                resting.push(job);
            } else {
                return Some(job);
            }
        }
        None
    }

    /// The job could not go on; returns how long it rests.
    pub(super) fn rest(&mut self, id: CdrId, now: Instant) -> Duration {
        let length = self.0.get(&id).map_or(REST, |rest| (rest.length * 2).min(LONGEST_REST));
        self.0.insert(id, Rest { until: now + length, length });
        length
    }

    /// The job went on.
    pub(super) fn went_on(&mut self, id: CdrId) {
        self.0.remove(&id);
    }

    /// Forgets all jobs but those that are `open`.
    pub(super) fn keep(&mut self, open: impl Fn(CdrId) -> bool) {
        self.0.retain(|id, _| open(*id));
    }
}

/// True if a record could be in both filters.
fn overlap(a: &JobRequest, b: &JobRequest) -> bool {
    fn same<T: PartialEq>(a: Option<&T>, b: Option<&T>) -> bool {
        a.zip(b).is_none_or(|(a, b)| a == b)
    }
    let apart = |from: &JobRequest, to: &JobRequest| {
        from.bucket_hour_from.zip(to.bucket_hour_to).is_some_and(|(from, to)| to < from)
    };
    same(a.operator_id.as_ref(), b.operator_id.as_ref())
        && same(a.tenant_id.as_ref(), b.tenant_id.as_ref())
        && !apart(a, b)
        && !apart(b, a)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use cdr_core::job::{JobCounts, JobState, Place};
    use cdr_core::{Hour, Millis};

    fn job(n: u8, request: JobRequest) -> Job {
        Job {
            id: CdrId([n; 16]),
            request,
            asked_at: Place { bucket_hour: Hour(9), cdr_sequence: u64::from(n) },
            state: JobState::Running,
            cursor: None,
            counts: JobCounts::default(),
            delta_micros: 0,
            started_at: Millis(0),
            finished_at: None,
        }
    }

    fn of(operator: &str, from: Option<u32>, to: Option<u32>) -> JobRequest {
        JobRequest {
            operator_id: Some(operator.to_owned()),
            bucket_hour_from: from.map(Hour),
            bucket_hour_to: to.map(Hour),
            ..JobRequest::default()
        }
    }

    #[test]
    fn a_resting_job_is_passed_by_those_that_can_not_meet_it() {
        let any_operator = JobRequest {
            bucket_hour_from: Some(Hour(3)),
            bucket_hour_to: Some(Hour(5)),
            ..JobRequest::default()
        };
        let jobs: Jobs = [
            job(1, of("AWCC", Some(4), None)),
            job(2, of("AWCC", None, Some(4))),
            job(3, any_operator),
            job(4, of("AWCC", None, Some(3))),
            job(5, of("ETS", Some(5), Some(5))),
            job(6, of("ETS", Some(6), Some(7))),
        ]
        .into_iter()
        .collect();
        let (mut turns, now) = (Turns::default(), Instant::now());
        let next = |turns: &Turns, at| turns.next(&jobs, at).map(|job| job.id.0[0]);
        assert_eq!(next(&turns, now), Some(1));
        let rest = turns.rest(CdrId([1; 16]), now);
        // Jobs 2 and 3 meet job 1 in hour 4, job 4 meets job 2, and job 5 meets job 3 in hour 5.
        assert_eq!(next(&turns, now), Some(6));
        turns.rest(CdrId([6; 16]), now);
        assert_eq!(next(&turns, now), None);
        assert_eq!(next(&turns, now + rest), Some(1), "it is come back to");
        assert_eq!(turns.rest(CdrId([1; 16]), now), rest * 2);
        turns.went_on(CdrId([1; 16]));
        assert_eq!(next(&turns, now), Some(1));
    }

    #[test]
    fn rests_grow_up_to_a_bound_and_are_forgotten() {
        let (mut turns, now, id) = (Turns::default(), Instant::now(), CdrId([1; 16]));
        let rests: Vec<u64> = (0..8).map(|_| turns.rest(id, now).as_secs()).collect();
        assert_eq!(rests, [1, 2, 4, 8, 16, 30, 30, 30]);
        turns.keep(|_| false);
        assert_eq!(turns.rest(id, now), REST);
    }
}
