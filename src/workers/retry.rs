//! A worker runs repeatedly until its term is over: at once after a failure that passes, ever more slowly behind
//! one that does not, which is counted and reported.

use super::{EndsTerm, RETRY_PAUSE};
use crate::metrics::Metrics;
use std::future::Future;
use std::pin::pin;
use std::time::{Duration, Instant};

/// Longest pause before the next attempt.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// A worker that ran for this long has worked.
const WORKED: Duration = Duration::from_secs(60);
/// After this long without any success somebody has to look, and it is reported again as often.
const ALARM_AFTER: Duration = Duration::from_secs(60);

/// Runs `run` until its error means that the term is over. A change of what `progress` returns is a success, too.
pub(super) async fn repeat<E: EndsTerm, F: Future<Output = Result<(), E>>>(
    name: &str,
    metrics: &Metrics,
    progress: impl Fn() -> u64,
    mut run: impl FnMut() -> F,
) {
    let mut failures = Failures::new(name, metrics);
    loop {
        let before = progress();
        let mut running = pin!(run());
        let outcome = if let Ok(outcome) = tokio::time::timeout(WORKED, &mut running).await {
            outcome
        } else {
            failures.end();
            running.await
        };
        let pause = match outcome {
            Ok(()) => failures.end(),
            Err(error) if error.ends_term() => {
                tracing::info!(worker = name, %error, "stopped: the term is over");
                return;
            }
            Err(error) => {
                if progress() != before {
                    failures.end();
                }
                failures.one_more(&error, Instant::now())
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Failures without a success in between.
struct Failures<'a> {
    name: &'a str,
    metrics: &'a Metrics,
    count: u32,
    since: Option<Instant>,
    told: Option<Instant>,
}

impl<'a> Failures<'a> {
    fn new(name: &'a str, metrics: &'a Metrics) -> Self {
        metrics.worker_goes_on(name);
        Self { name, metrics, count: 0, since: None, told: None }
    }

    /// There was a success; how long to wait before the next run.
    fn end(&mut self) -> Duration {
        if self.count > 0 {
            (self.count, self.since, self.told) = (0, None, None);
            self.metrics.worker_goes_on(self.name);
        }
        RETRY_PAUSE
    }

    /// One more failure, at `now`; how long to wait before the next attempt.
    fn one_more(&mut self, error: &dyn std::fmt::Display, now: Instant) -> Duration {
        self.count = self.count.saturating_add(1);
        let failing = now - *self.since.get_or_insert(now);
        self.metrics.worker_failed(self.name, failing);
        let pause = pause_after(self.count);
        let (worker, failures, failing_seconds) = (self.name, self.count, failing.as_secs());
        if failing >= ALARM_AFTER && self.told.is_none_or(|told| now - told >= ALARM_AFTER) {
            self.told = Some(now);
            tracing::error!(
                severity = "SEV1",
                worker,
                failures,
                failing_seconds,
                %error,
                "has failed each time it was started: correct what the error names"
            );
        } else {
            let pause_ms = pause.as_millis() as u64;
            tracing::warn!(worker, failures, pause_ms, %error, "failed; it restarts after what is committed");
        }
        pause
    }
}

impl Drop for Failures<'_> {
    fn drop(&mut self) {
        self.metrics.worker_goes_on(self.name);
    }
}

/// Twice as long for each further failure.
fn pause_after(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(10);
    (RETRY_PAUSE * 2u32.pow(doublings)).min(LONGEST_PAUSE)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use cdr_core::{LedgerState, Millis};
    use cdr_raft::NodeMetrics;
    use cdr_storage::StoreMetrics;
    use std::cell::{Cell, RefCell};

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Failure(&'static str);

    impl EndsTerm for Failure {
        fn ends_term(&self) -> bool {
            self.0 == "over"
        }
    }

    /// Pauses between runs that failed so, the term's end included, in units of the shortest.
    async fn pauses(outcomes: &[&'static str], progress: impl Fn() -> u64) -> Vec<u128> {
        let (metrics, next, starts) = (Metrics::new().unwrap(), Cell::new(0), RefCell::new(Vec::new()));
        repeat("ingest", &metrics, progress, || {
            starts.borrow_mut().push(Instant::now());
            let outcome = outcomes[next.replace(next.get() + 1)];
            async move { Err(Failure(outcome)) }
        })
        .await;
        let pause = |pair: &[Instant]| (pair[1] - pair[0]).as_millis() / RETRY_PAUSE.as_millis();
        starts.into_inner().windows(2).map(pause).collect()
    }

    #[tokio::test]
    async fn a_failure_that_stays_is_tried_ever_more_slowly_unless_something_got_on() {
        assert_eq!(pauses(&["a", "a", "a", "over"], || 0).await, [1, 2, 4]);
        let position = Cell::new(0);
        assert_eq!(pauses(&["a", "a", "over"], || position.replace(position.get() + 1)).await, [1, 1]);
        let later: Vec<u128> = (4..12).map(|failures| pause_after(failures).as_millis()).collect();
        assert_eq!(later, [2_400, 4_800, 5_000, 5_000, 5_000, 5_000, 5_000, 5_000]);
    }

    #[test]
    fn failures_are_counted_and_their_end_is_seen() {
        let metrics = Metrics::new().unwrap();
        let shown = |name: &str| {
            let (state, node, store) = Default::default();
            let (state, node, store): (LedgerState, NodeMetrics, StoreMetrics) = (state, node, store);
            let text = metrics.render(Millis(0), &state, &node, &store).unwrap();
            let line = text.lines().find(|line| line.starts_with(&format!("{name}{{worker=\"ingest\"}}")));
            line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        };
        let mut failures = Failures::new("ingest", &metrics);
        assert_eq!(shown("cdr_worker_failing_seconds"), Some(0));
        let now = Instant::now();
        failures.one_more(&"x", now);
        assert!(failures.told.is_none());
        failures.one_more(&"x", now + Duration::from_secs(70));
        assert_eq!(shown("cdr_worker_failures_total"), Some(2));
        assert_eq!(shown("cdr_worker_failing_seconds"), Some(70));
        assert!(failures.told.is_some(), "an alarm");
        failures.end();
        assert_eq!(shown("cdr_worker_failing_seconds"), Some(0));
        failures.one_more(&"x", now);
        drop(failures);
        assert_eq!(shown("cdr_worker_failing_seconds"), Some(0), "another replica's work");
    }
}
