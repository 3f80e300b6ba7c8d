//! Who may take part: what replicas say of themselves when they meet, and what each makes of it.
//!
//! Both sides of a connection introduce themselves. A replica is refused if its id is spent, if its data directory is
//! not the one that the membership names, if its log ends before what it had acknowledged, or if its history is another.
//! Refused means: no vote, no entries, no answer, in either direction. What is refused, and why, is an alarm on both
//! sides. A membership may change while a connection is open, so ids and incarnations are looked at again with each
//! request.

use crate::failure::Failure;
use crate::identity::Incarnation;
use crate::log::LogStore;
use crate::state_machine::StateMachine;
use crate::types::{Membership, Raft};
use cdr_core::history::{Comparison, Mark};
use openraft::async_runtime::watch::WatchReceiver;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// What a replica says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Introduction {
    /// Its id.
    pub node: u64,
    /// Its data directory.
    pub incarnation: Incarnation,
    /// The data directory that its membership has for the replica that it talks to.
    pub knows_other_as: Option<Incarnation>,
    /// Index of the last entry in its log.
    pub log_end: u64,
    /// The last command that it applied.
    pub mark: Mark,
    /// It has voted, or has entries.
    pub is_formed: bool,
    /// It wants to begin the cluster.
    pub initializes: bool,
}

/// Why a replica is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Grounds {
    /// Its id was a member once and is spent.
    Retired,
    /// The membership names another data directory.
    Incarnation,
    /// It is an older copy: entries that it had acknowledged are missing.
    OlderCopy,
    /// Its history is another one.
    Fork,
    /// Its leader would have had it forget committed entries.
    LostCommits,
    /// It is of another cluster, or speaks another protocol, or looks for somebody else.
    Misdirected,
}

impl Grounds {
    /// Name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retired => "retired",
            Self::Incarnation => "incarnation",
            Self::OlderCopy => "older_copy",
            Self::Fork => "fork",
            Self::LostCommits => "lost_commits",
            Self::Misdirected => "misdirected",
        }
    }
}

/// A refusal, as it is sent to whom it concerns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refusal {
    /// The replica that can't take part.
    pub node: u64,
    pub grounds: Grounds,
    /// What is wrong and what to do.
    pub reason: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Something that a person has to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// What it is about.
    pub grounds: Grounds,
    /// The replica that can't take part: this one or another.
    pub node: u64,
    /// What is wrong and what to do.
    pub reason: String,
}

/// Who this replica is, and who may talk to it.
pub(crate) struct Roster {
    node: u64,
    incarnation: Incarnation,
    initializes: AtomicBool,
    log: LogStore,
    state_machine: StateMachine,
    failure: Failure,
    raft: OnceLock<Raft>,
    alarms: Mutex<BTreeMap<(u64, Grounds), String>>,
}

impl Roster {
    pub(crate) fn new(
        node: u64,
        incarnation: Incarnation,
        log: LogStore,
        state_machine: StateMachine,
        failure: Failure,
    ) -> Self {
        Self {
            node,
            incarnation,
            initializes: AtomicBool::new(false),
            log,
            state_machine,
            failure,
            raft: OnceLock::new(),
            alarms: Mutex::default(),
        }
    }

    /// Says where the membership in force is to be looked up; before, the one that is applied counts.
    pub(crate) fn follow(&self, raft: Raft) {
        let _ = self.raft.set(raft);
    }

    /// Says that this replica wants to begin the cluster.
    pub(crate) fn set_initializes(&self) {
        self.initializes.store(true, Ordering::Release);
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// True if this replica has voted or has entries.
    pub(crate) fn is_formed(&self) -> bool {
        !self.log.is_pristine()
    }

    fn with_membership<T>(&self, look: impl FnOnce(&Membership) -> T) -> T {
        match self.raft.get() {
            Some(raft) => look(raft.metrics().borrow_watched().membership_config.membership()),
            None => self.state_machine.with_meta(|meta| look(meta.membership.membership())),
        }
    }

    /// The data directory that the membership in force has for a node.
    fn known_incarnation(&self, node: u64) -> Option<Incarnation> {
        self.with_membership(|membership| membership.get_node(&node).map(|member| member.incarnation))
    }

    /// What this replica says of itself to node `to`.
    pub(crate) fn introduction(&self, to: u64) -> Introduction {
        Introduction {
            node: self.node,
            incarnation: self.incarnation,
            knows_other_as: self.known_incarnation(to),
            log_end: self.log.last_index(),
            mark: self.state_machine.mark(),
            is_formed: self.is_formed(),
            initializes: self.initializes.load(Ordering::Acquire),
        }
    }

    /// Why this replica has nothing to do with one that introduces itself so, if so.
    pub(crate) fn objection(&self, other: &Introduction) -> Option<Refusal> {
        if let Some(refusal) = self.unwell() {
            return Some(refusal);
        }
        let found = self
            .no_member(other.node, other.incarnation)
            .or_else(|| self.known_as_another(other))
            .or_else(|| self.older_copy(other))
            .or_else(|| self.other_history(other))?;
        self.alarm(&found);
        Some(found)
    }

    /// Why a replica with this id and data directory is not, or no longer, who the membership means.
    pub(crate) fn no_member(&self, node: u64, incarnation: Incarnation) -> Option<Refusal> {
        if self.state_machine.with_meta(|meta| meta.retired.contains(&node)) {
            let reason = format!(
                "node {node} was removed from the cluster, and ids are spent once: remove its data directory, and add \
                 it under an id that was never used"
            );
            return Some(Refusal { node, grounds: Grounds::Retired, reason });
        }
        let known = self.known_incarnation(node)?;
        (known != incarnation).then(|| Refusal {
            node,
            grounds: Grounds::Incarnation,
            reason: stranger(node, known, incarnation),
        })
    }

    /// What can come up while a connection is open.
    pub(crate) fn standing_objection(&self, other: &Introduction) -> Option<Refusal> {
        if let Some(refusal) = self.unwell() {
            return Some(refusal);
        }
        self.no_member(other.node, other.incarnation)
    }

    /// This replica has nothing more to say but what happened to it.
    fn unwell(&self) -> Option<Refusal> {
        let reason = format!("node {}: {}", self.node, self.failure.lost_commits()?);
        Some(Refusal { node: self.node, grounds: Grounds::LostCommits, reason })
    }

    fn is_stranger_to(&self, other: &Introduction) -> bool {
        other.knows_other_as.is_some_and(|known| known != self.incarnation)
    }

    /// The other one's membership has another data directory for this node: this one was emptied or exchanged.
    fn known_as_another(&self, other: &Introduction) -> Option<Refusal> {
        let known = other.knows_other_as.filter(|_| self.is_stranger_to(other))?;
        let reason = stranger(self.node, known, self.incarnation);
        Some(Refusal { node: self.node, grounds: Grounds::Incarnation, reason })
    }

    fn older_copy(&self, other: &Introduction) -> Option<Refusal> {
        let acknowledged = self.state_machine.acknowledged_by(other.node);
        (other.log_end < acknowledged).then(|| Refusal {
            node: other.node,
            grounds: Grounds::OlderCopy,
            reason: format!(
                "SEV1: the log of node {} ends at entry {}, but it had acknowledged entries up to {acknowledged}: its \
                 data directory is an older copy and never votes again. Remove it, and add the replica under an id \
                 that was never used",
                other.node, other.log_end
            ),
        })
    }

    fn other_history(&self, other: &Introduction) -> Option<Refusal> {
        let reason = self.fork_from(other.node, &other.mark)?;
        Some(Refusal { node: other.node, grounds: Grounds::Fork, reason })
    }

    /// Compares a mark of another replica. If that one leads, a difference stops this replica.
    pub(crate) fn fork_from(&self, node: u64, mark: &Mark) -> Option<String> {
        let Comparison::Differs(difference) = self.state_machine.compare(mark) else { return None };
        let reason = format!(
            "SEV1 fork: node {node} and node {} have different histories: {difference}. Which of them lost or changed \
             entries has to be found out before anything else: keep the data directories of all replicas",
            self.node
        );
        let leads =
            self.raft.get().is_some_and(|raft| raft.metrics().borrow_watched().current_leader == Some(node));
        if leads {
            self.failure.record(reason.clone());
        }
        Some(reason)
    }

    /// Another replica refused this one, or says what keeps it from answering.
    pub(crate) fn refused(&self, refusal: &Refusal) {
        self.alarm(refusal);
    }

    /// Node `node` was met and nothing is wrong with it, nor with this one in its eyes.
    pub(crate) fn met(&self, node: u64) {
        // What was said of lost commits stands until a person decides.
        self.alarms().retain(|(about, grounds), _| {
            *grounds == Grounds::LostCommits || (*about != node && *about != self.node)
        });
    }

    fn alarm(&self, refusal: &Refusal) {
        let Refusal { node, grounds, reason } = refusal;
        if *grounds == Grounds::Misdirected {
            return;
        }
        let before = self.alarms().insert((*node, *grounds), reason.clone());
        if before.is_none() {
            tracing::error!(
                severity = "SEV1",
                node,
                grounds = grounds.as_str(),
                reason,
                "a replica can't take part"
            );
        }
    }

    fn alarms(&self) -> MutexGuard<'_, BTreeMap<(u64, Grounds), String>> {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a person has to look at.
    pub(crate) fn open_alarms(&self) -> Vec<Alarm> {
        let alarm = |((node, grounds), reason): (&(u64, Grounds), &String)| Alarm {
            grounds: *grounds,
            node: *node,
            reason: reason.clone(),
        };
        self.alarms().iter().map(alarm).collect()
    }

    /// What another replica says of committed entries that this cluster's leader lost.
    pub(crate) fn lost_commits(&self) -> Option<String> {
        let alarms = self.alarms();
        alarms
            .iter()
            .find(|((_, grounds), _)| *grounds == Grounds::LostCommits)
            .map(|(_, reason)| reason.clone())
    }

    /// A person has decided about lost commits.
    pub(crate) fn forget_lost_commits(&self) {
        self.alarms().retain(|(_, grounds), _| *grounds != Grounds::LostCommits);
    }
}

impl std::fmt::Debug for Roster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Roster")
            .field("node", &self.node)
            .field("incarnation", &self.incarnation)
            .finish_non_exhaustive()
    }
}

fn stranger(node: u64, known: Incarnation, found: Incarnation) -> String {
    format!(
        "SEV1: the cluster knows node {node} with data directory {known}, this one is {found}: it was emptied or \
         exchanged, what it had promised is lost, and it never votes again. Remove it, and add the replica under an id \
         that was never used"
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;
    use crate::log::LogOptions;
    use cdr_storage::{Store, StoreOptions};
    use std::sync::Arc;

    /// A replica of cluster `c` that has nothing yet.
    pub(crate) fn roster(node: u64) -> Roster {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions { dedup_filter_bytes: 1 << 20, ..StoreOptions::default() };
        let store = Arc::new(Store::open(&dir.path().join("store"), options).unwrap());
        let failure = Failure::default();
        let log =
            LogStore::open(&dir.path().join("log"), LogOptions::new("c", node), failure.clone()).unwrap();
        let state_machine =
            StateMachine::open(store, &dir.path().join("snapshots"), failure.clone()).unwrap();
        Roster::new(node, Incarnation::draw().unwrap(), log, state_machine, failure)
    }

    #[test]
    fn a_replica_that_another_one_knows_as_somebody_else_is_told_what_to_do() {
        let (one, two) = (roster(1), roster(2));
        assert_eq!(one.objection(&two.introduction(1)), None);
        let knows_other = Introduction { knows_other_as: Some(two.incarnation()), ..two.introduction(1) };
        let refusal = one.objection(&knows_other).unwrap();
        assert_eq!(refusal.grounds, Grounds::Incarnation);
        assert!(
            refusal.reason.contains("knows node 1") && refusal.reason.contains("never used"),
            "{refusal}"
        );
        assert_eq!(one.open_alarms().iter().map(|alarm| alarm.node).collect::<Vec<_>>(), [1]);
        one.met(2);
        assert!(one.open_alarms().is_empty());
    }

    #[test]
    fn what_is_said_of_lost_commits_stands_until_a_person_decides() {
        let one = roster(1);
        let refusal = Refusal { node: 2, grounds: Grounds::LostCommits, reason: "r".to_owned() };
        one.refused(&refusal);
        one.met(2);
        assert_eq!(one.lost_commits().as_deref(), Some("r"));
        one.forget_lost_commits();
        assert_eq!(one.lost_commits(), None);

        one.failure.record_lost_commits("entries");
        let refusal = one.objection(&roster(3).introduction(1)).unwrap();
        assert_eq!(refusal.grounds, Grounds::LostCommits);
        assert!(one.standing_objection(&roster(3).introduction(1)).is_some());
    }
}
