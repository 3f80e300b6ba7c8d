//! When and why this replica takes no commands: the present causes, and each restriction until it is reported.
//!
//! An episode begins with the first cause and ends when none is left. A replica that is restricted may not be able to
//! commit that it is, so its changes wait here, in order, until their owner has reported them; a restart ends the restriction
//! and forgets them.

use crate::net::Condition;
use cdr_core::rules::Build;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Writes refused in a row after which a replica is restricted.
const RESTRICTED_AFTER: u32 = 3;

/// Changes that may wait to be reported; later restrictions are not kept.
const MOST_UNTOLD: usize = 1_000;

/// What can restrict a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    /// There is no space for the Raft log.
    Log,
    /// There is no space for the state.
    State,
    /// There is less space than commands are taken with.
    Space,
    /// There is on the disks of too many others.
    Quorum,
    /// An operator ordered it.
    Order,
    /// Another replica reports that committed entries were lost.
    LostCommits,
}

/// The beginning or the end of an episode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestrictionChange {
    /// Number of the episode since the start of the process, from 1.
    pub episode: u64,
    /// True if it begins, false if it ends.
    pub restricted: bool,
    /// What began it.
    pub reason: String,
    /// The longest run of refused writes in it so far; 0 if an operator ordered it.
    pub failures: u32,
    /// When that was by this replica's clock, in milliseconds since the Unix epoch.
    pub at_ms: i64,
}

/// When and why a replica takes no commands. Clones share it.
#[derive(Clone)]
pub struct Restrictions(Arc<Inner>);

struct Inner {
    clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    causes: BTreeMap<Cause, String>,
    /// The episode that goes on, or the last one.
    episode: u64,
    reason: String,
    failures: u32,
    /// True if the episode's beginning is kept, and so will be its end.
    is_kept: bool,
    untold: VecDeque<RestrictionChange>,
}

impl Restrictions {
    pub(crate) fn new(clock: Arc<dyn Fn() -> i64 + Send + Sync>) -> Self {
        Self(Arc::new(Inner { clock, state: Mutex::default(), changes: watch::Sender::new(0) }))
    }

    /// Why no commands are taken at present, if so.
    pub fn reason(&self) -> Option<String> {
        self.state().causes.values().next().cloned()
    }

    pub(crate) fn holds(&self, cause: Cause) -> bool {
        self.state().causes.contains_key(&cause)
    }

    /// What a leader has to know.
    pub(crate) fn condition(&self, build: Build) -> Condition {
        let causes = &self.state().causes;
        Condition { takes_commands: causes.is_empty(), has_room: !causes.contains_key(&Cause::Space), build }
    }

    /// True if another replica could take commands where this one does not.
    pub(crate) fn is_own(&self) -> bool {
        self.state().causes.keys().any(|cause| *cause != Cause::Quorum)
    }

    /// The oldest change that is not reported yet.
    pub fn first_untold(&self) -> Option<RestrictionChange> {
        self.state().untold.front().cloned()
    }

    /// This change is reported.
    pub fn told(&self, change: &RestrictionChange) {
        let untold = &mut self.state().untold;
        if untold.front() == Some(change) {
            untold.pop_front();
        }
    }

    /// Follows how many changes there were.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// A write was refused for lack of space, `in_a_row` by now.
    pub(crate) fn refused(&self, cause: Cause, in_a_row: u32) {
        let reason = match cause {
            Cause::Log => "no space for the Raft log; free some space, the restriction then lifts by itself",
            _ => "no space for the state; free some space, the restriction then lifts by itself",
        };
        if in_a_row >= RESTRICTED_AFTER {
            self.begin(cause, reason, in_a_row);
        }
    }

    /// `cause` restricts from now on.
    pub(crate) fn begin(&self, cause: Cause, reason: &str, failures: u32) {
        let mut state = self.state();
        let begins = state.causes.is_empty();
        state.causes.insert(cause, reason.to_owned());
        if !begins {
            state.failures = state.failures.max(failures);
            return;
        }
        state.episode += 1;
        (state.reason, state.failures) = (reason.to_owned(), failures);
        state.is_kept = state.untold.len() < MOST_UNTOLD;
        self.note(state, true);
    }

    /// `cause` restricts no longer.
    pub(crate) fn end(&self, cause: Cause) {
        let mut state = self.state();
        if state.causes.remove(&cause).is_some() && state.causes.is_empty() {
            self.note(state, false);
        }
    }

    fn note(&self, mut state: MutexGuard<'_, State>, restricted: bool) {
        let (episode, failures) = (state.episode, state.failures);
        let change = RestrictionChange {
            episode,
            restricted,
            reason: state.reason.clone(),
            failures,
            at_ms: (self.0.clock)(),
        };
        if state.is_kept {
            state.untold.push_back(change);
        } else {
            tracing::warn!(
                episode,
                restricted,
                "too many restriction changes wait to be reported: this one is not recorded"
            );
        }
        drop(state);
        self.0.changes.send_modify(|count| *count += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Restrictions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Restrictions").field("causes", &self.state().causes).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicI64, Ordering};

    fn restrictions() -> Restrictions {
        let time = AtomicI64::new(0);
        Restrictions::new(Arc::new(move || time.fetch_add(1, Ordering::Relaxed)))
    }

    fn all(restrictions: &Restrictions) -> Vec<(u64, bool, u32, i64)> {
        let mut all = Vec::new();
        while let Some(change) = restrictions.first_untold() {
            restrictions.told(&change);
            all.push((change.episode, change.restricted, change.failures, change.at_ms));
        }
        all
    }

    #[test]
    fn an_episode_lasts_from_the_third_refusal_until_no_cause_is_left() {
        let restrictions = restrictions();
        let followed = restrictions.changes();
        for in_a_row in 1..=2 {
            restrictions.refused(Cause::Log, in_a_row);
            assert_eq!(restrictions.reason(), None);
        }
        for in_a_row in 3..=7 {
            restrictions.refused(Cause::Log, in_a_row);
        }
        assert!(restrictions.reason().unwrap().contains("Raft log"));
        restrictions.begin(Cause::Order, "maintenance", 0);
        restrictions.end(Cause::Log);
        assert_eq!(restrictions.reason().as_deref(), Some("maintenance"));
        restrictions.end(Cause::Log);
        restrictions.end(Cause::Order);
        restrictions.end(Cause::State);
        assert_eq!(restrictions.reason(), None);
        restrictions.begin(Cause::Order, "again", 0);
        assert_eq!(*followed.borrow(), 3);
        assert_eq!(all(&restrictions), [(1, true, 3, 0), (1, false, 7, 1), (2, true, 0, 2)]);
    }

    #[test]
    fn what_is_kept_is_bounded_and_whole() {
        let restrictions = restrictions();
        for _ in 0..MOST_UNTOLD {
            restrictions.begin(Cause::Order, "over and over", 0);
            restrictions.end(Cause::Order);
        }
        let kept = all(&restrictions);
        assert_eq!(kept.len(), MOST_UNTOLD);
        assert!(kept.chunks(2).all(|pair| pair[0].0 == pair[1].0 && pair[0].1 && !pair[1].1));
        restrictions.begin(Cause::Order, "once more", 0);
        assert_eq!(all(&restrictions).len(), 1, "there is room again");
    }
}
