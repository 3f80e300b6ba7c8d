//! The first failure that stops a node, kept so that every later refusal can name it.

use crate::lost_commits::{Report, ReportFile};
use crate::runtime::blocking;
use std::sync::{Arc, OnceLock};

/// Set once, by the first failure.
#[derive(Clone, Debug, Default)]
pub struct Failure(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    reason: OnceLock<Reason>,
    /// Where it is kept over a restart that this replica refused to forget committed entries, and this replica's id.
    refusal: Option<(u64, ReportFile)>,
}

#[derive(Debug)]
struct Reason {
    text: String,
    lost_commits: bool,
}

impl Failure {
    /// A failure of node `node`, which writes into `file` that it refused to forget committed entries.
    pub(crate) fn keeping(node: u64, file: ReportFile) -> Self {
        Self(Arc::new(Inner { reason: OnceLock::new(), refusal: Some((node, file)) }))
    }

    /// Records why the node stopped; later failures are consequences and are only logged.
    pub fn record(&self, reason: impl Into<String>) {
        self.set(reason.into(), false);
    }

    /// The same if the leader would make this replica discard committed entries. It is on disk before it is known elsewhere, so that
    /// the next start says the same.
    pub fn record_lost_commits(&self, reason: impl Into<String>) {
        let reason = reason.into();
        if let Some((node, file)) = &self.0.refusal
            && self.lost_commits().is_none()
        {
            let report = Report { witness: *node, reason: reason.clone() };
            if let Err(error) = blocking(|| file.write(&report)) {
                tracing::error!(severity = "SEV1", %error, path = %file, "a report of lost commits can't be written");
            }
        }
        self.set(reason, true);
    }

    /// This replica stopped in this way before it was restarted.
    pub(crate) fn stands_by(&self, refusal: &Report) {
        self.set(refusal.reason.clone(), true);
    }

    fn set(&self, text: String, lost_commits: bool) {
        tracing::error!(reason = %text, "this replica stops serving until it is restarted");
        let _ = self.0.reason.set(Reason { text, lost_commits });
    }

    /// The reason, once there is one.
    pub fn reason(&self) -> Option<&str> {
        self.0.reason.get().map(|reason| reason.text.as_str())
    }

    /// The reason, if it is that the leader tried to make this replica discard committed entries.
    pub fn lost_commits(&self) -> Option<&str> {
        self.0.reason.get().filter(|reason| reason.lost_commits).map(|reason| reason.text.as_str())
    }
}
