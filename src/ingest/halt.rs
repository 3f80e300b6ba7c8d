//! What stops ingest until a person decides: the bus reports more acknowledgements than the ledger has rows for.
//!
//! Messages are acknowledged after a quorum has them, so a ledger whose position lies behind the bus's acknowledgement floor
//! has lost records: all replicas were restored from older copies, or a new ledger was begun where another one had
//! read. Reading on would ingest again what is still in the stream and hide that the rest is gone. After a restore that
//! is what has to happen, once; so a person confirms it, by removing a file.

use crate::proposer::{ProposalError, Proposer};
use cdr_core::audit::AuditRecord;
use cdr_core::row::SystemKind;
use serde_json::{Map, json};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The file in a replica's data directory that says why ingest is halted.
const FILE: &str = "INGEST-HALTED";

/// Kind of the audit entry that records that a person confirmed it.
const CONFIRMED: &str = "INGEST_POSITION_CONFIRMED";

/// Acknowledged messages that the ledger does not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beyond {
    /// Stream epoch.
    pub epoch: String,
    /// Its position in the ledger.
    pub position: u64,
    /// Sequence up to which the bus has acknowledgements.
    pub acknowledged: u64,
}

/// Whether ingest is halted on this replica. Clones share it.
#[derive(Clone, Debug)]
pub struct Halt(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    /// What the file asks a person to confirm.
    asked: Mutex<Option<Beyond>>,
}

impl Halt {
    /// Keeps its file in `dir`.
    pub fn in_dir(dir: &Path) -> Self {
        Self(Arc::new(Inner { path: dir.join(FILE), asked: Mutex::default() }))
    }

    /// The file whose removal confirms.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// True if a person has confirmed that ingest may continue in spite of exactly this loss; otherwise asks for it. A start
    /// of the process asks for it again.
    pub(super) fn is_confirmed(&self, beyond: &Beyond) -> io::Result<bool> {
        let mut asked = self.0.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.as_ref() == Some(beyond) {
            return self.0.path.try_exists().map(|exists| !exists);
        }
        let mut file = File::create(&self.0.path)?;
        writeln!(file, "{}", text(beyond))?;
        file.sync_all()?;
        let path = self.0.path.display();
        tracing::error!(
            severity = "SEV1",
            reason = text(beyond),
            "nothing is ingested until a person confirms it: then remove the file {path}, while this replica leads"
        );
        *asked = Some(beyond.clone());
        Ok(false)
    }

    /// Forgets a confirmation that was used.
    pub(super) fn lower(&self) {
        *self.0.asked.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// What is wrong.
pub(super) fn text(beyond: &Beyond) -> String {
    let Beyond { epoch, position, acknowledged } = beyond;
    format!(
        "stream {epoch} is acknowledged up to {acknowledged}, but the ledger has it up to {position} only: acknowledged \
         records are lost. If all replicas were restored from older copies, find out which copies are newest first"
    )
}

/// Records that a person confirmed it.
pub(super) async fn record(proposer: &Proposer, beyond: &Beyond) -> Result<(), ProposalError> {
    let details = [
        ("acknowledged", json!(beyond.acknowledged)),
        ("nodeId", json!(proposer.node().node_id())),
        ("position", json!(beyond.position)),
        ("stream", json!(beyond.epoch)),
    ];
    let body = AuditRecord {
        actor_user_id: Some(format!("system:node-{}", proposer.node().node_id())),
        details: Map::from_iter(details.map(|(name, value)| (name.to_owned(), value))),
        entry_type: CONFIRMED.to_owned(),
        reason: Some(text(beyond)),
        ..AuditRecord::default()
    };
    proposer.append_rows("ingest", vec![(SystemKind::Audit, cdr_core::canonical::to_jcs(&body))]).await?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn beyond(acknowledged: u64) -> Beyond {
        Beyond { epoch: "S".to_owned(), position: 3, acknowledged }
    }

    #[test]
    fn ingest_goes_on_once_the_file_is_removed_that_asked_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let halt = Halt::in_dir(dir.path());
        assert!(!halt.is_confirmed(&beyond(9)).unwrap());
        assert!(std::fs::read_to_string(halt.path()).unwrap().contains("up to 9"));
        assert!(!halt.is_confirmed(&beyond(9)).unwrap(), "nobody has removed it");
        std::fs::remove_file(halt.path()).unwrap();
        assert!(halt.is_confirmed(&beyond(9)).unwrap());
        assert!(!halt.is_confirmed(&beyond(20)).unwrap(), "another loss is another question");
        assert!(halt.path().exists());
        std::fs::remove_file(halt.path()).unwrap();
        halt.lower();
        assert!(!halt.is_confirmed(&beyond(20)).unwrap(), "the next time a person is asked again");
    }

    #[test]
    fn a_restart_confirms_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!Halt::in_dir(dir.path()).is_confirmed(&beyond(9)).unwrap());
        let again = Halt::in_dir(dir.path());
        assert!(!again.is_confirmed(&beyond(9)).unwrap());
        std::fs::remove_file(again.path()).unwrap();
        assert!(
            !Halt::in_dir(dir.path()).is_confirmed(&beyond(9)).unwrap(),
            "it was removed while nothing ran"
        );
    }
}
