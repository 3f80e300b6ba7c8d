//! What stops ingest and sealing here until a person decides: another replica reports that this cluster's leader would
//! have it forget committed entries.
//!
//! The report is kept in a file of the data directory, so that a restart does not forget it. Who has found out which
//! history is right removes the file; then commands are taken again.

use crate::restriction::{Cause, Restrictions};
use crate::roster::Roster;
use crate::runtime::blocking;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// The file that holds a report of lost commits.
pub(super) const FILE: &str = "LOST-COMMITS";

const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) struct Standstill {
    pub roster: Arc<Roster>,
    pub restrictions: Restrictions,
    pub data_dir: PathBuf,
}

impl Standstill {
    fn path(&self) -> PathBuf {
        self.data_dir.join(FILE)
    }

    /// Always true: it stands.
    fn begin(&self, reason: &str) -> bool {
        let path = self.path();
        let path = path.display();
        let reason = format!(
            "{reason}. No commands are taken here until a person has decided; then remove the file {path}"
        );
        tracing::error!(severity = "SEV1", %reason, "ingest and sealing stop");
        self.restrictions.begin(Cause::LostCommits, &reason, 0);
        true
    }
}

/// Looks for reports until the node stops.
pub(super) async fn watch(standstill: Standstill) {
    let path = standstill.path();
    let mut stands = false;
    match std::fs::read_to_string(&path) {
        Ok(reason) => stands = standstill.begin(reason.trim()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => stands = standstill.begin(&format!("{} can't be read: {error}", path.display())),
    }
    loop {
        // What can't be looked at stands.
        if stands && matches!(path.try_exists(), Ok(false)) {
            standstill.roster.forget_lost_commits();
            standstill.restrictions.end(Cause::LostCommits);
            tracing::warn!("the report of lost commits was removed: commands are taken again");
            stands = false;
        }
        if !stands && let Some(reason) = standstill.roster.lost_commits() {
            match blocking(|| write(&path, &reason)) {
                Ok(()) => stands = standstill.begin(&reason),
                Err(error) if !standstill.restrictions.holds(Cause::LostCommits) => {
                    tracing::error!(%error, path = %path.display(), "a report of lost commits can't be kept yet");
                    standstill.begin(&reason);
                }
                Err(_) => {}
            }
        }
        sleep(LOOK_EVERY).await;
    }
}

fn write(path: &Path, reason: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    writeln!(file, "{reason}")?;
    file.sync_all()?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}
