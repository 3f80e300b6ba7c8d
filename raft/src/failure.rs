//! The first failure that stops a node, kept so that every later refusal can name it.

use std::sync::{Arc, OnceLock};

/// Set once, by whoever fails first.
#[derive(Clone, Debug, Default)]
pub struct Failure(Arc<OnceLock<String>>);

impl Failure {
    /// Records why the node stopped; later failures are consequences and are only logged.
    pub fn record(&self, reason: impl Into<String>) {
        let reason = reason.into();
        tracing::error!(%reason, "this replica stops serving until it is restarted");
        let _ = self.0.set(reason);
    }

    /// The reason, once there is one.
    pub fn reason(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }
}
