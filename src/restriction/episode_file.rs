//! The restriction that is not over, or not yet reported as over, on disk: a restart ends it, and both are reported.
//!
//! The file has its whole length from the beginning, so that a full disk does not keep it from being written.

use cdr_raft::RestrictionChange;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Name of the file in the replica's directory.
const NAME: &str = "restriction";
/// Its length, in bytes; the text is filled up with spaces.
const LENGTH: usize = 4096;

/// The file.
pub(super) struct EpisodeFile(File);

/// An episode that has begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OpenEpisode {
    /// Start of the process that it began in.
    pub(super) start: String,
    episode: u64,
    reason: String,
    failures: u32,
    at_ms: i64,
}

impl OpenEpisode {
    /// The episode that `change` begins in the process that was started as `start`.
    pub(super) fn of(start: &str, change: &RestrictionChange) -> Self {
        let RestrictionChange { episode, failures, at_ms, .. } = *change;
        // As much of the reason as is reported.
        let reason = change.reason.chars().take(super::REASON).collect();
        Self { start: start.to_owned(), episode, reason, failures, at_ms }
    }

    /// Its beginning.
    pub(super) fn begun(&self) -> RestrictionChange {
        RestrictionChange { restricted: true, ..self.ended(self.at_ms) }
    }

    /// Its end at a time, in milliseconds since the Unix epoch.
    pub(super) fn ended(&self, at_ms: i64) -> RestrictionChange {
        let (episode, reason, failures) = (self.episode, self.reason.clone(), self.failures);
        RestrictionChange { episode, restricted: false, reason, failures, at_ms }
    }
}

impl EpisodeFile {
    /// Opens the file in `dir`, or makes it.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join(NAME);
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        if file.metadata()?.len() < LENGTH as u64 {
            file.write_all_at(&[b' '; LENGTH], 0)?;
            file.sync_all()?;
        }
        Ok(Self(file))
    }

    /// The episode that is not over, if there is one.
    pub(super) fn read(&self) -> io::Result<Option<OpenEpisode>> {
        let mut bytes = [0; LENGTH];
        self.0.read_exact_at(&mut bytes, 0)?;
        match bytes.trim_ascii() {
            [] => Ok(None),
            text => Ok(Some(serde_json::from_slice(text)?)),
        }
    }

    /// Saves the restriction, or that there is none.
    pub(super) fn write(&self, open: Option<&OpenEpisode>) -> io::Result<()> {
        let mut bytes = open.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        bytes.resize(LENGTH.max(bytes.len()), b' ');
        self.0.write_all_at(&bytes, 0)?;
        self.0.sync_data()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_episode_is_there_until_it_is_over() {
        let dir = tempfile::tempdir().unwrap();
        let file = EpisodeFile::open(dir.path()).unwrap();
        assert_eq!(file.read().unwrap(), None);
        let reason = "\u{1f4be} full\n".repeat(50);
        let change = RestrictionChange { episode: 7, restricted: true, reason, failures: 3, at_ms: 5 };
        let open = OpenEpisode::of("ab12", &change);
        file.write(Some(&open)).unwrap();
        drop(file);
        let file = EpisodeFile::open(dir.path()).unwrap();
        assert_eq!(file.read().unwrap(), Some(open.clone()));
        assert_eq!(open.begun(), change);
        let end = open.ended(9);
        assert_eq!((end.episode, end.restricted, end.failures, end.at_ms), (7, false, 3, 9));
        file.write(None).unwrap();
        assert_eq!(EpisodeFile::open(dir.path()).unwrap().read().unwrap(), None);
        assert_eq!(std::fs::metadata(dir.path().join(NAME)).unwrap().len(), LENGTH as u64);
    }
}
