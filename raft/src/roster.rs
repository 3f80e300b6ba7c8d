//! Which replicas may take part: what they report about themselves when they connect, and what each makes of it.
//!
//! Both sides of a connection introduce themselves. A replica is refused if its id is spent, if its data directory is
//! not the one that the membership names, if its log ends before what it had acknowledged, or if its history is another.
//! Refused means: no vote, no entries, no answer, in either direction. What is refused, and why, is an alarm on both
//! sides. A membership may change while a connection is open, and so may what is known of a replica, so ids, incarnations
//! and the ends of logs are checked again with every message on it; a connection that fails the check is closed,
//! and the next introduction says why.

use crate::failure::Failure;
use crate::identity::Incarnation;
use crate::log::LogStore;
use crate::lost_commits::{Report, Standstill};
use crate::state_machine::StateMachine;
use crate::types::{Membership, Raft};
use cdr_core::command::Acknowledged;
use cdr_core::history::{Comparison, Mark};
use cdr_core::rules::Build;
use openraft::async_runtime::watch::WatchReceiver;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// What a replica reports about itself.
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
    /// What it knows of committed entries that were lost.
    pub lost_commits: Option<Report>,
    /// Its build.
    pub build: Build,
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
    /// Its leader would have made it discard committed entries.
    LostCommits,
    /// It is of another cluster, or looks for somebody else.
    Misdirected,
    /// Its build is too far from this one's.
    Build,
}

impl Grounds {
    /// Name in health and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retired => "retired",
            Self::Incarnation => "incarnation",
            Self::OlderCopy => "older_copy",
            Self::Fork => "fork",
            Self::LostCommits => "lost_commits",
            Self::Misdirected => "misdirected",
            Self::Build => "build",
        }
    }
}

/// A refusal, as it is sent to the replica that it concerns.
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

/// An alarm that was not renewed for this long is cleared: replicas connect again and again.
const ALARM_STANDS: Duration = Duration::from_secs(300);

/// What an alarm is about, and which replica found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct AlarmKey {
    node: u64,
    grounds: Grounds,
    by: u64,
}

/// Who this replica is, and who may talk to it.
pub(crate) struct Roster {
    node: u64,
    incarnation: Incarnation,
    initializes: AtomicBool,
    log: LogStore,
    state_machine: StateMachine,
    failure: Failure,
    standstill: Arc<Standstill>,
    raft: OnceLock<Raft>,
    alarms: Mutex<BTreeMap<AlarmKey, (String, Instant)>>,
}

impl Roster {
    pub(crate) fn new(
        node: u64,
        incarnation: Incarnation,
        log: LogStore,
        state_machine: StateMachine,
        failure: Failure,
        standstill: Arc<Standstill>,
    ) -> Self {
        Self {
            node,
            incarnation,
            initializes: AtomicBool::new(false),
            log,
            state_machine,
            failure,
            standstill,
            raft: OnceLock::new(),
            alarms: Mutex::default(),
        }
    }

    /// Says where the membership in force is to be looked up; before, the one that is applied counts.
    pub(crate) fn follow(&self, raft: Raft) {
        let _ = self.raft.set(raft);
    }

    /// Records that this replica is to begin the cluster.
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

    /// True if the membership in force names the node.
    pub(crate) fn is_member(&self, node: u64) -> bool {
        self.known_incarnation(node).is_some()
    }

    /// The data directory that the membership in force has for a node.
    fn known_incarnation(&self, node: u64) -> Option<Incarnation> {
        self.with_membership(|membership| membership.get_node(&node).map(|member| member.incarnation))
    }

    /// What this replica reports about itself to node `to`.
    pub(crate) fn introduction(&self, to: u64) -> Introduction {
        Introduction {
            node: self.node,
            incarnation: self.incarnation,
            knows_other_as: self.known_incarnation(to),
            log_end: self.log.last_index(),
            mark: self.state_machine.mark(),
            is_formed: self.is_formed(),
            initializes: self.initializes.load(Ordering::Acquire),
            lost_commits: self.standstill.shown(),
            build: self.build(),
        }
    }

    /// As which build this replica behaves.
    pub(crate) fn build(&self) -> Build {
        self.state_machine.build()
    }

    /// Node `node` speaks no version of the protocol that this replica does.
    pub(crate) fn refused_build(&self, node: u64, refusal: &Refusal) {
        self.alarm(node, refusal);
    }

    /// What the replicas are known to have on disk. To be taken before another one says where its log ends: what it
    /// acknowledges after that says nothing against it.
    pub(crate) fn acknowledged(&self) -> Vec<Acknowledged> {
        self.state_machine.acknowledged()
    }

    /// The last committed entry that a node is known to have on disk.
    pub(crate) fn acknowledged_by(&self, node: u64) -> u64 {
        Acknowledged::by(&self.acknowledged(), node)
    }

    /// Why this replica refuses one with this introduction, if it does; `acknowledged` is from before the introduction.
    pub(crate) fn objection(&self, other: &Introduction, acknowledged: &[Acknowledged]) -> Option<Refusal> {
        if let Some(refusal) = self.unwell() {
            return Some(refusal);
        }
        let found = self
            .no_member(other.node, other.incarnation)
            .or_else(|| self.known_as_another(other))
            .or_else(|| older_copy(other, acknowledged))
            .or_else(|| self.other_history(other));
        match (&found, &other.lost_commits) {
            (Some(refusal), _) => self.alarm(other.node, refusal),
            (None, Some(report)) if self.is_member(other.node) => self.standstill.hear(other.node, report),
            (None, _) => {}
        }
        found
    }

    /// Why a replica with this id and data directory is not, or no longer, who the membership means.
    pub(crate) fn no_member(&self, node: u64, incarnation: Incarnation) -> Option<Refusal> {
        if self.state_machine.with_meta(|meta| meta.retired.contains(&node)) {
            let reason = format!(
                "node {node} was removed from the cluster, and ids are never reused: remove its data directory, and add \
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
        let reason = self.failure.lost_commits()?.to_owned();
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

    fn other_history(&self, other: &Introduction) -> Option<Refusal> {
        let reason = self.fork_from(other.node, &other.mark)?;
        Some(Refusal { node: other.node, grounds: Grounds::Fork, reason })
    }

    /// Compares a mark of another replica. If that one leads, a difference stops this replica.
    pub(crate) fn fork_from(&self, node: u64, mark: &Mark) -> Option<String> {
        let Comparison::Differs(difference) = self.state_machine.compare(mark) else { return None };
        let reason = format!(
            "SEV1 fork: node {node} and node {} have different histories: {difference}. Find out first which of them lost or changed \
             entries, and keep the data directories of all replicas",
            self.node
        );
        if self.is_led_by(node) {
            self.failure.record(reason.clone());
        }
        Some(reason)
    }

    /// True if this replica follows that one.
    fn is_led_by(&self, node: u64) -> bool {
        self.raft.get().is_some_and(|raft| raft.metrics().borrow_watched().current_leader == Some(node))
    }

    /// Node `node` would make this replica discard committed entries. If it leads, this replica stops, and every replica that
    /// meets it learns of that; from any other node it is ignored.
    pub(crate) fn refuse_to_forget(&self, node: u64, reason: &str) {
        if self.is_led_by(node) {
            self.failure.record_lost_commits(reason);
        }
    }

    /// Node `node` offers what this build does not know. If it leads, this replica can't follow and stops.
    pub(crate) fn needs_build(&self, node: u64, reason: &str) {
        if self.is_led_by(node) {
            self.failure.record(reason);
        }
    }

    /// Changes when there is something to be shown in introductions that was not before.
    pub(crate) fn news(&self) -> u64 {
        self.standstill.taken_up()
    }

    /// Node `by` refused this one, or reports what keeps it from answering. It is trusted about itself and about this
    /// replica, of lost commits about itself alone.
    pub(crate) fn refused(&self, by: u64, refusal: &Refusal) {
        let about_itself = refusal.node == by;
        if refusal.grounds == Grounds::LostCommits {
            if about_itself {
                let report = Report { witness: by, reason: refusal.reason.clone() };
                self.standstill.hear(by, &report);
            }
        } else if about_itself || refusal.node == self.node {
            self.alarm(by, refusal);
        }
    }

    /// Node `node` was met and nothing is wrong with it, nor with this one in its eyes.
    pub(crate) fn met(&self, node: u64) {
        self.alarms().retain(|key, _| key.node != node && key.by != node);
    }

    fn alarm(&self, by: u64, refusal: &Refusal) {
        let Refusal { node, grounds, reason } = refusal;
        if *grounds == Grounds::Misdirected {
            return;
        }
        let key = AlarmKey { node: *node, grounds: *grounds, by };
        let before = self.alarms().insert(key, (reason.clone(), Instant::now()));
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

    fn alarms(&self) -> MutexGuard<'_, BTreeMap<AlarmKey, (String, Instant)>> {
        let mut alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        alarms.retain(|_, (_, at)| at.elapsed() < ALARM_STANDS);
        alarms
    }

    /// What a person has to look at.
    pub(crate) fn open_alarms(&self) -> Vec<Alarm> {
        let lost = self.standstill.held().map(|report| Alarm {
            grounds: Grounds::LostCommits,
            node: report.witness,
            reason: self.standstill.what_to_do(&report),
        });
        let mut open: Vec<Alarm> = lost.into_iter().collect();
        for (key, (reason, _)) in self.alarms().iter() {
            if !open.iter().any(|alarm| alarm.node == key.node && alarm.grounds == key.grounds) {
                open.push(Alarm { grounds: key.grounds, node: key.node, reason: reason.clone() });
            }
        }
        open
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

fn older_copy(other: &Introduction, acknowledged: &[Acknowledged]) -> Option<Refusal> {
    let (node, end) = (other.node, other.log_end);
    let acknowledged = Acknowledged::by(acknowledged, node);
    (end < acknowledged).then(|| Refusal {
        node,
        grounds: Grounds::OlderCopy,
        reason: format!(
            "SEV1: the log of node {node} ends at entry {end}, but it had acknowledged entries up to {acknowledged}: its \
             data directory is an older copy and never votes again. Remove it, and add the replica under an id that was \
             never used"
        ),
    })
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
    use crate::lost_commits::tests::standstill;
    use cdr_storage::{Store, StoreOptions};

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
        let standstill = Arc::new(standstill(node, dir.path()));
        Roster::new(node, Incarnation::draw().unwrap(), log, state_machine, failure, standstill)
    }

    #[test]
    fn a_replica_that_another_one_knows_as_somebody_else_is_told_what_to_do() {
        let (one, two) = (roster(1), roster(2));
        assert_eq!(one.objection(&two.introduction(1), &[]), None);
        let knows_other = Introduction { knows_other_as: Some(two.incarnation()), ..two.introduction(1) };
        let refusal = one.objection(&knows_other, &[]).unwrap();
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
    fn what_is_acknowledged_after_an_introduction_says_nothing_against_it() {
        let (one, two) = (roster(1), roster(2));
        let introduction = Introduction { log_end: 100, ..two.introduction(1) };
        let acknowledged = |index| [Acknowledged { node: 2, index }];
        assert_eq!(one.objection(&introduction, &acknowledged(100)), None);
        let refusal = one.objection(&introduction, &acknowledged(101)).unwrap();
        assert_eq!((refusal.node, refusal.grounds), (2, Grounds::OlderCopy));
    }

    #[test]
    fn a_replica_is_believed_about_its_own_refusal_only() {
        let one = roster(1);
        let refusal = Refusal { node: 2, grounds: Grounds::LostCommits, reason: "r".to_owned() };
        one.refused(3, &refusal);
        assert!(one.open_alarms().is_empty(), "node 3 says it of node 2");
        let heard = one.news();
        one.refused(2, &refusal);
        one.met(2);
        assert_eq!(one.open_alarms().iter().map(|alarm| alarm.node).collect::<Vec<_>>(), [2]);
        assert_eq!(one.introduction(3).lost_commits.unwrap().witness, 2);
        assert!(one.news() > heard, "connections from before have not shown it");

        one.failure.record_lost_commits("entries");
        let refusal = one.objection(&roster(3).introduction(1), &[]).unwrap();
        assert_eq!(refusal.grounds, Grounds::LostCommits);
        assert!(one.standing_objection(&roster(3).introduction(1)).is_some());
    }
}
