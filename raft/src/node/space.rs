//! Whether there is room on the disks for more commands: a replica without room refuses them before they enter the log.
//!
//! Everything in the log has to be applied, by every replica, or nothing can be read any more. So a replica that has less
//! space than its bound takes no commands, long before there is none for those that it has; and a leader takes none while
//! it knows that there is no quorum of replicas with room.

use super::{Inner, Node};
use crate::free_space::free_bytes;
use crate::net::{Condition, Kind};
use crate::restriction::Cause;
use futures::future::join_all;
use openraft::async_runtime::watch::WatchReceiver;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::time::sleep;

/// How often this replica's disk is checked.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Looks in a row that have to find too little.
const LOOKS: u32 = 3;

/// Checks after which a leader asks the others.
const ASK_EVERY: u32 = 5;

/// How long another replica may take to report whether it has space.
const PATIENCE: Duration = Duration::from_millis(500);

/// What the others reported last.
#[derive(Debug, Default)]
pub(super) struct Others(Mutex<BTreeMap<u64, Condition>>);

impl Others {
    fn set(&self, conditions: BTreeMap<u64, Condition>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = conditions;
    }

    /// True if a replica said that it takes commands.
    pub fn takes_commands(&self, node: u64) -> bool {
        let conditions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        conditions.get(&node).is_some_and(|condition| condition.takes_commands)
    }
}

/// Checks the disks for as long as the node exists.
pub(super) async fn watch(node: Weak<Inner>) {
    let (mut looks, mut too_little) = (0_u32, 0);
    while let Some(node) = node.upgrade().map(Node) {
        node.look_at_disk(&mut too_little);
        if looks.is_multiple_of(ASK_EVERY) {
            node.look_at_quorum().await;
        }
        drop(node);
        looks = looks.wrapping_add(1);
        sleep(LOOK_EVERY).await;
    }
}

impl Node {
    fn look_at_disk(&self, looks: &mut u32) {
        let (dir, least) = (&self.0.config.data_dir, self.0.config.min_free_bytes);
        let free = match free_bytes(dir) {
            Ok(free) => free,
            Err(error) => {
                return tracing::warn!(%error, dir = %dir.display(), "free space can't be determined");
            }
        };
        // Space that is freed little by little does not lift the restriction again and again.
        let restricted = *looks >= LOOKS;
        let enough = if restricted { least.saturating_add(least / 8) } else { least };
        if free >= enough {
            *looks = 0;
            return self.0.restrictions.end(Cause::Space);
        }
        *looks = looks.saturating_add(1);
        if *looks >= LOOKS {
            let reason = format!(
                "too little space for more commands: less than {} MiB are free under {}; free some space, the restriction then lifts by itself",
                least >> 20,
                dir.display()
            );
            self.0.restrictions.begin(Cause::Space, &reason, *looks);
        }
    }

    /// On the leader: whether a quorum has room.
    async fn look_at_quorum(&self) {
        if !self.leads() {
            self.0.space.set(BTreeMap::new());
            return self.0.restrictions.end(Cause::Quorum);
        }
        let asked = self.other_replicas().into_iter().map(|(node, address)| async move {
            let condition =
                self.0.peers.call::<_, Condition>(node, &address, Kind::Condition, &(), PATIENCE).await;
            condition.ok().map(|condition| (node, condition))
        });
        let conditions: BTreeMap<u64, Condition> = join_all(asked).await.into_iter().flatten().collect();
        let voters: Vec<u64> = {
            let metrics = self.0.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.membership_config.membership().voter_ids().collect()
        };
        // Its own disk is another cause.
        let full: Vec<u64> = voters
            .iter()
            .copied()
            .filter(|voter| conditions.get(voter).is_some_and(|condition| !condition.has_room))
            .collect();
        let with_room = |voter: &&u64| {
            conditions.get(voter).is_some_and(|condition| condition.has_room) || **voter == self.node_id()
        };
        let able = voters.iter().filter(with_room).count();
        self.0.builds.hear(conditions.iter().map(|(node, condition)| (*node, condition.build)));
        self.0.space.set(conditions);
        if full.is_empty() || able * 2 > voters.len() {
            return self.0.restrictions.end(Cause::Quorum);
        }
        let full = full.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let reason = format!(
            "no quorum of replicas has enough space: nodes {full} are short of it; free some there, the restriction then lifts by itself"
        );
        self.0.restrictions.begin(Cause::Quorum, &reason, 0);
    }
}
