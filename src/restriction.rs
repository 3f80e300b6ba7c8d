//! What a replica does when it takes no commands, because its disk is full or an operator ordered it: if it leads, it hands
//! leadership to another that takes them, or goes on leading, for reads, where there is none; and it has the ledger record when that began and when it was over.
//!
//! It can't commit anything itself then. The leader records its reports like any other request, under a key of
//! the replica's start, the restriction and its state: however often it is reported, it is one row. Where the whole cluster
//! takes no commands, both are reported once that is over, each with its own time. A restart ends a restriction:
//! the next start reports both, under the same keys.

mod episode_file;

use crate::acts::{Act, Desk, Origin, PATIENCE, Wish};
use crate::clock::Clock;
use crate::names::{NODE_RESTRICTED, NODE_RESTRICTION_LIFTED};
use cdr_core::Millis;
use cdr_core::hash::{sha256, to_hex};
use cdr_raft::{Node, RestrictionChange};
use episode_file::{EpisodeFile, OpenEpisode};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Most characters of a reason that are reported.
const REASON: usize = 500;
/// How often to check whether leadership has to be handed over.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Time for another replica to be elected, before the next attempt.
const ELECTION: Duration = Duration::from_secs(5);
/// Pause before a report that no leader recorded is repeated.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Watches this replica, whose data are in `dir`, for as long as it runs.
pub async fn watch(node: Node, desk: Desk, clock: Clock, dir: PathBuf) {
    let started = clock.now();
    let start = loop {
        let mut bytes = [0; 8];
        match getrandom::fill(&mut bytes) {
            Ok(()) => break to_hex(&bytes),
            Err(error) => tracing::error!(%error, "no random bytes: restrictions can't be reported yet"),
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    };
    let teller = Teller { node: node.clone(), desk, start, file: open(dir).await };
    tokio::join!(give_way(&node), teller.tell(started));
}

/// The file of the restriction that is not over. Without it, a restriction that a restart ends is never reported.
async fn open(dir: PathBuf) -> Option<(Arc<EpisodeFile>, Option<OpenEpisode>)> {
    let opened = tokio::task::spawn_blocking(move || {
        let file = EpisodeFile::open(&dir)?;
        let open =
            file.read().inspect_err(|error| tracing::error!(%error, "an old restriction can't be read"));
        std::io::Result::Ok((Arc::new(file), open.ok().flatten()))
    });
    match opened.await.map_err(std::io::Error::other).flatten() {
        Ok(opened) => Some(opened),
        Err(error) => {
            tracing::warn!(%error, "restrictions of this replica can't be saved for a restart");
            None
        }
    }
}

/// Hands leadership over while this replica leads and takes no commands, but another one does.
async fn give_way(node: &Node) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let Some(reason) = node.restriction() else { continue };
        if node.leads() {
            match node.hand_over().await {
                Ok(true) => tracing::warn!(reason, "this leader takes no commands: handing leadership over"),
                // It is tried again soon: the others may not have reported yet.
                Ok(false) => continue,
                Err(error) => tracing::warn!(%error, "leadership can't be handed over"),
            }
            tokio::time::sleep(ELECTION).await;
        }
    }
}

/// Reports what happens to a replica.
struct Teller {
    node: Node,
    desk: Desk,
    /// Name of this start of the process.
    start: String,
    file: Option<(Arc<EpisodeFile>, Option<OpenEpisode>)>,
}

impl Teller {
    /// Reports a restriction that the start ended, at `started`; then every change, in order.
    async fn tell(&self, started: Millis) {
        let node_id = self.node.node_id();
        if let Some((_, Some(open))) = &self.file {
            for change in [open.begun(), open.ended(started.0)] {
                self.have_taken(&act(node_id, &open.start, &change)).await;
            }
            self.keep(None).await;
        }
        let restrictions = self.node.restrictions();
        let mut changes = restrictions.changes();
        loop {
            let Some(change) = restrictions.first_untold() else {
                if changes.changed().await.is_err() {
                    return;
                }
                continue;
            };
            if change.restricted {
                self.keep(Some(OpenEpisode::of(&self.start, &change))).await;
            }
            self.have_taken(&act(node_id, &self.start, &change)).await;
            if !change.restricted {
                self.keep(None).await;
            }
            restrictions.told(&change);
        }
    }

    /// Offers an act until a leader has taken it.
    async fn have_taken(&self, act: &Act) {
        loop {
            match self.desk.perform_anywhere(act, PATIENCE).await {
                Ok(_) => return,
                Err(error) if error.may_pass() => {
                    tracing::warn!(%error, "a change of this replica's restriction is not recorded yet");
                }
                Err(error) => {
                    return tracing::error!(%error, ?act, "a change of this replica's restriction can't be recorded");
                }
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    /// Saves the restriction that is not over, or that there is none.
    async fn keep(&self, open: Option<OpenEpisode>) {
        let Some((file, _)) = &self.file else { return };
        let file = file.clone();
        let written = tokio::task::spawn_blocking(move || file.write(open.as_ref())).await;
        if let Err(error) = written.map_err(std::io::Error::other).flatten() {
            tracing::warn!(%error, "a restriction of this replica can't be saved for a restart");
        }
    }
}

/// The report of a change of the replica that was started as `start`.
fn act(node_id: u64, start: &str, change: &RestrictionChange) -> Act {
    let reason: String = change.reason.chars().take(REASON).collect();
    let (entry_type, state) =
        if change.restricted { (NODE_RESTRICTED, "RESTRICTED") } else { (NODE_RESTRICTION_LIFTED, "LIFTED") };
    let details = Map::from_iter(
        [
            ("consecutiveFailures", json!(change.failures)),
            ("episode", json!(change.episode)),
            ("nodeId", json!(node_id)),
            ("occurredAt", json!(Millis(change.at_ms))),
            ("reason", json!(reason)),
            ("start", json!(start)),
            ("state", json!(state)),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    let actor = format!("system:node-{node_id}");
    let body = sha256(Value::Object(details.clone()).to_string().as_bytes());
    Act {
        wish: Wish::Note { entry_type: entry_type.to_owned(), bucket_hour: None, operator_id: None, details },
        key: Act::key_of(&actor, &format!("restriction-{start}-{}-{state}", change.episode)),
        actor,
        approver: None,
        reason: Some(reason),
        ticket_id: None,
        trace_id: format!("restriction-{node_id}-{start}-{}", change.episode),
        body,
        origin: Origin::Replica,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_one_act_however_often_it_is_told() {
        let change = RestrictionChange {
            episode: 2,
            restricted: true,
            reason: "full".to_owned(),
            failures: 3,
            at_ms: 1_776_690_000_123,
        };
        let first = act(3, "aa", &change);
        assert_eq!(act(3, "aa", &change), first);
        let lifted = RestrictionChange { restricted: false, ..change.clone() };
        let later = RestrictionChange { episode: 3, ..change.clone() };
        let others =
            [act(3, "aa", &lifted), act(3, "aa", &later), act(3, "bb", &change), act(2, "aa", &change)];
        assert!(others.iter().all(|other| other.key != first.key));
        let Wish::Note { details, .. } = first.wish else { panic!("no note") };
        assert_eq!(details["occurredAt"], "2026-04-20T13:00:00.123Z");
        assert_eq!((first.actor.as_str(), &details["nodeId"]), ("system:node-3", &json!(3)));
    }
}
