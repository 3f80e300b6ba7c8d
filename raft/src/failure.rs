//! The first failure that stops a node, kept so that every later refusal can name it.

use std::sync::{Arc, OnceLock};

/// Set once, by whoever fails first.
#[derive(Clone, Debug, Default)]
pub struct Failure(Arc<OnceLock<Reason>>);

#[derive(Debug)]
struct Reason {
    text: String,
    lost_commits: bool,
}

impl Failure {
    /// Records why the node stopped; later failures are consequences and are only logged.
    pub fn record(&self, reason: impl Into<String>) {
        self.set(reason.into(), false);
    }

    /// The same if the leader would have committed entries forgotten: it has to hear of that.
    pub fn record_lost_commits(&self, reason: impl Into<String>) {
        self.set(reason.into(), true);
    }

    fn set(&self, text: String, lost_commits: bool) {
        tracing::error!(reason = %text, "this replica stops serving until it is restarted");
        let _ = self.0.set(Reason { text, lost_commits });
    }

    /// The reason, once there is one.
    pub fn reason(&self) -> Option<&str> {
        self.0.get().map(|reason| reason.text.as_str())
    }

    /// The reason, if it is that the leader would have committed entries forgotten.
    pub fn lost_commits(&self) -> Option<&str> {
        self.0.get().filter(|reason| reason.lost_commits).map(|reason| reason.text.as_str())
    }
}
