//! Settings that a replica puts in force while it runs, and that the ledger records.
//!
//! Every replica reads its own configuration, so each records what is in force on itself, under a name of its own
//! (`node.<id>.<section>.<key>`). A change waits here until a leader has taken it; a restart forgets what waits.

use crate::acts::{Act, Desk, NodeSetting, Origin, PATIENCE, Wish};
use cdr_core::hash::{sha256, to_hex};
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Who changes settings by a reload.
const RELOAD: &str = "system:reload";
/// Changes that may wait.
const MOST_WAITING: usize = 64;
/// Pause before a change is offered again that no leader took.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Where changes are handed in.
pub struct Recorder {
    node_id: u64,
    waiting: Sender<NodeSetting>,
}

impl Recorder {
    /// A recorder of the replica `node_id`, and what has its changes recorded through `desk` for as long as it is polled.
    pub fn new(node_id: u64, desk: Desk) -> (Self, impl Future<Output = ()> + Send) {
        let (waiting, changes) = channel(MOST_WAITING);
        (Self { node_id, waiting }, record_all(desk, changes))
    }

    /// Has a change recorded. The values must be no secrets.
    pub fn record(&self, name: &str, before: String, value: String) {
        let setting = NodeSetting { node_id: self.node_id, name: name.to_owned(), before, value };
        if let Err(error) = self.waiting.try_send(setting) {
            tracing::error!(%error, setting = name, "too many changes wait for a leader: this one is not recorded");
        }
    }
}

async fn record_all(desk: Desk, mut changes: Receiver<NodeSetting>) {
    while let Some(setting) = changes.recv().await {
        record(&desk, setting).await;
    }
}

async fn record(desk: &Desk, setting: NodeSetting) {
    let (node_id, name) = (setting.node_id, setting.name.clone());
    let mut key = [0; 16];
    while let Err(error) = getrandom::fill(&mut key) {
        tracing::error!(%error, "no random bytes: a changed setting can't be recorded yet");
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    let body = sha256(format!("{node_id} {name} {} {}", setting.before, setting.value).as_bytes());
    let act = Act {
        wish: Wish::Configure(setting),
        actor: RELOAD.to_owned(),
        approver: None,
        reason: Some(format!("SIGHUP on node {node_id}: its configuration was changed")),
        ticket_id: None,
        trace_id: format!("reload-{node_id}-{}", to_hex(&key[..4])),
        key: Act::key_of(RELOAD, &to_hex(&key)),
        body,
        origin: Origin::Replica,
    };
    loop {
        match desk.perform(&act, PATIENCE).await {
            Ok(_) => return tracing::info!(setting = name, "the ledger has the changed setting"),
            Err(error) if error.may_pass() => {
                tracing::warn!(%error, setting = name, "the changed setting is not recorded yet");
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            Err(error) => {
                return tracing::warn!(%error, setting = name, "the changed setting is not recorded");
            }
        }
    }
}
