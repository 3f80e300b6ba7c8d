//! Committed entries that were lost: what stops commands, whichever replica leads, until a person decides.
//!
//! A replica whose leader would make it discard committed entries refuses and stops: the quorum that elected this leader
//! had lost them. Its report is in a file of its data directory before any replica learns of it, and every later start of it
//! stops with the same reason. Every replica that it refuses, or that meets a refused one, keeps the report in a file of its
//! own, takes no commands, and shows it in every handshake; a connection on which it was not shown yet ends before
//! anything else is answered on it. So no replica that knows of it elects one that does not.
//!
//! Who has found out which history is right stops the replica that reported, and removes the files of the others.

use crate::failure::Failure;
use crate::restriction::{Cause, Restrictions};
use crate::runtime::blocking;
use crate::types::LogId;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::sleep;

/// The file in a replica's data directory that holds a report of lost commits.
const FILE: &str = "LOST-COMMITS";

/// A report is never longer: it has to fit into a handshake.
const REASON_CHARS: usize = 700;

/// How often to check whether a person has removed the file.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Why a replica refuses to forget its entries from `from` on.
pub(crate) fn would_forget(from: u64, committed: &LogId) -> String {
    format!(
        "SEV1 fork: the leader would have this replica discard entries from {from} on, but those up to {committed} are \
         committed here. Find out first which of the two lost entries, and keep the data \
         directories of all replicas"
    )
}

/// The report of a replica that refused to discard committed entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The replica that refused; 0 if that can't be read.
    pub witness: u64,
    pub reason: String,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {}: {}", self.witness, self.reason)
    }
}

impl Report {
    fn read(text: &str) -> Option<Self> {
        let (witness, reason) = text.trim().strip_prefix("node ")?.split_once(": ")?;
        Some(Self { witness: witness.parse().ok()?, reason: reason.to_owned() })
    }

    fn shortened(&self) -> Self {
        Self { witness: self.witness, reason: self.reason.chars().take(REASON_CHARS).collect() }
    }
}

/// The file of a replica's report.
#[derive(Clone, Debug)]
pub(crate) struct ReportFile(PathBuf);

impl fmt::Display for ReportFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.display())
    }
}

impl ReportFile {
    pub(crate) fn in_dir(data_dir: &Path) -> Self {
        Self(data_dir.join(FILE))
    }

    /// What it holds. A file that can't be read counts as a report.
    pub(crate) fn read(&self) -> Option<Report> {
        let unreadable = |why: &dyn fmt::Display| Report { witness: 0, reason: format!("{self}: {why}") };
        match std::fs::read_to_string(&self.0) {
            Ok(text) => Some(Report::read(&text).unwrap_or_else(|| unreadable(&"it is not a report"))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => Some(unreadable(&error)),
        }
    }

    /// The file is whole and on disk when this returns.
    pub(crate) fn write(&self, report: &Report) -> io::Result<()> {
        let new = self.0.with_extension("new");
        let mut file = File::create(&new)?;
        writeln!(file, "{report}")?;
        file.sync_all()?;
        std::fs::rename(&new, &self.0)?;
        self.0.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    }

    /// True if it is known not to be there.
    fn is_gone(&self) -> bool {
        matches!(self.0.try_exists(), Ok(false))
    }
}

/// Whether this replica refuses all commands because of lost commits.
pub(crate) struct Standstill {
    node: u64,
    file: ReportFile,
    restrictions: Restrictions,
    failure: Failure,
    state: Mutex<State>,
    /// How many reports were taken up: who was met before has not been shown the last one.
    taken_up: AtomicU64,
}

#[derive(Default)]
struct State {
    holds: Option<Report>,
    is_written: bool,
    /// What a person has decided since the start. The report counts again only if its witness repeats it.
    decided: Option<Report>,
}

impl Standstill {
    pub(crate) fn new(node: u64, file: ReportFile, restrictions: Restrictions, failure: Failure) -> Self {
        let (state, taken_up) = (Mutex::default(), AtomicU64::new(0));
        Self { node, file, restrictions, failure, state, taken_up }
    }

    /// Goes on with what the file says from before the start. To be called once Raft has started: a replica that had
    /// refused stops.
    pub(crate) fn resume(&self) {
        let Some(report) = self.file.read() else { return };
        if report.witness == self.node {
            return self.failure.stands_by(&report);
        }
        self.state().is_written = true;
        self.take_up(report);
    }

    /// What this replica shows in handshakes.
    pub(crate) fn shown(&self) -> Option<Report> {
        match self.failure.lost_commits() {
            Some(reason) => Some(Report { witness: self.node, reason: reason.to_owned() }.shortened()),
            None => self.held(),
        }
    }

    /// The report of another replica because of which this one refuses commands.
    pub(crate) fn held(&self) -> Option<Report> {
        self.state().holds.clone()
    }

    /// Changes when there is something to be shown that was not before.
    pub(crate) fn taken_up(&self) -> u64 {
        self.taken_up.load(Ordering::Acquire)
    }

    /// Node `by` shows a report: its own, or one that it holds.
    pub(crate) fn hear(&self, by: u64, report: &Report) {
        if report.witness == self.node {
            return;
        }
        let report = report.shortened();
        {
            let state = self.state();
            let is_old = by != report.witness && state.decided.as_ref() == Some(&report);
            if state.holds.is_some() || is_old {
                return;
            }
        }
        self.take_up(report);
        self.keep();
    }

    fn take_up(&self, report: Report) {
        let reason = self.what_to_do(&report);
        self.state().holds = Some(report);
        self.restrictions.begin(Cause::LostCommits, &reason, 0);
        self.taken_up.fetch_add(1, Ordering::AcqRel);
        tracing::error!(severity = "SEV1", %reason, "ingest and sealing stop");
    }

    /// The report, and what to do.
    pub(crate) fn what_to_do(&self, report: &Report) -> String {
        format!(
            "{report}. No replica takes commands, whichever one leads, until a person has decided. To continue without those \
             entries, stop node {} for good and remove the file {FILE} from the data directory of every other replica \
             (here: {})",
            report.witness, self.file
        )
    }

    /// Writes down what is held and not written yet.
    fn keep(&self) {
        let Some(report) = self.held() else { return };
        match blocking(|| self.file.write(&report)) {
            Ok(()) => self.state().is_written = true,
            Err(error) => {
                tracing::error!(%error, path = %self.file, "a report of lost commits can't be written yet");
            }
        }
    }

    fn look(&self) {
        let (stands, is_written) = {
            let state = self.state();
            (state.holds.is_some(), state.is_written)
        };
        if stands && !is_written {
            self.keep();
        } else if stands && self.file.is_gone() {
            self.end();
        }
    }

    /// A person has decided.
    fn end(&self) {
        {
            let mut state = self.state();
            state.decided = state.holds.take();
            state.is_written = false;
        }
        self.restrictions.end(Cause::LostCommits);
        tracing::warn!("the report of lost commits was removed: this replica takes commands again");
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks after the file until the node stops.
pub(crate) async fn watch(standstill: Arc<Standstill>) {
    loop {
        standstill.look();
        sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(crate) mod tests {
    use super::*;

    /// That of a replica whose data directory is `dir`.
    pub(crate) fn standstill(node: u64, dir: &Path) -> Standstill {
        let file = ReportFile::in_dir(dir);
        let failure = Failure::keeping(node, file.clone());
        Standstill::new(node, file, Restrictions::new(Arc::new(|| 0)), failure)
    }

    fn report(reason: &str) -> Report {
        Report { witness: 1, reason: reason.to_owned() }
    }

    #[test]
    fn a_report_stands_over_restarts_until_its_file_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let one = standstill(2, dir.path());
        one.resume();
        assert_eq!(one.shown(), None);
        one.hear(3, &report("r"));
        let path = dir.path().join(FILE);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "node 1: r\n");
        drop(one);

        let again = standstill(2, dir.path());
        again.resume();
        again.look();
        assert_eq!(again.shown(), Some(report("r")));
        assert!(again.restrictions.reason().unwrap().contains("LOST-COMMITS"));
        std::fs::remove_file(&path).unwrap();
        again.look();
        assert_eq!((again.shown(), again.restrictions.reason()), (None, None));
        // Another replica whose file is still there says nothing new, the one that reported does.
        again.hear(3, &report("r"));
        assert_eq!(again.shown(), None);
        again.hear(3, &report("another"));
        assert_eq!(again.shown(), Some(report("another")));
        std::fs::remove_file(&path).unwrap();
        again.look();
        again.hear(1, &report("another"));
        assert!(again.shown().is_some() && path.exists());
    }

    #[test]
    fn a_replica_that_refused_says_so_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let one = standstill(1, dir.path());
        let reason = would_forget(5, &LogId::new_term_index(3, 20));
        one.failure.record_lost_commits(&reason);
        assert_eq!(one.shown(), Some(report(&reason)));
        let again = standstill(1, dir.path());
        assert_eq!(again.failure.reason(), None);
        again.resume();
        assert_eq!(again.failure.lost_commits(), Some(reason.as_str()));
        assert_eq!(again.shown(), Some(report(&reason)));
        assert_eq!(again.held(), None, "it has stopped: nothing can make it take commands");
    }

    #[test]
    fn what_can_not_be_read_stands_and_what_is_shown_is_short() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE), "\n").unwrap();
        let one = standstill(2, dir.path());
        one.resume();
        one.look();
        assert!(one.restrictions.reason().unwrap().contains("it is not a report"));
        let long = standstill(3, tempfile::tempdir().unwrap().path());
        long.hear(1, &report(&"x".repeat(5_000)));
        assert_eq!(long.shown().unwrap().reason.len(), REASON_CHARS);
    }
}
