//! The adapter from openraft to a [`Machine`].
//!
//! Entries are applied in batches of a few megabytes, each in one atomic write of the machine that also
//! holds Raft's metadata. The log is the machine's write-ahead log: what a crash takes from the machine is
//! applied again from the log, which is purged only up to a snapshot.

use crate::codec;
use crate::failure::Failure;
use crate::machine::{Machine, MachineCommand, MachineError};
use crate::restriction::{Cause, Restrictions};
use crate::runtime::blocking;
use crate::snapshot::{SnapshotDir, SnapshotError, SnapshotStore};
use crate::types::{Entry, LogId, RaftMeta, Reply, SnapshotMeta, StoredMembership, TypeConfig, entry_bytes};
use cdr_core::command::Acknowledged;
use cdr_core::history::{Comparison, Mark};
use cdr_core::rules::{Build, Needs};
use futures::{Stream, TryStreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Applied in one atomic write, in bytes (at least one entry).
const BATCH_BYTES: usize = 4 << 20;

/// Pause before commands are applied again for which there was no space.
const FULL_DISK_PAUSE: Duration = Duration::from_millis(200);

type Snapshot = openraft::alias::SnapshotOf<TypeConfig, SnapshotDir>;

/// The machine with what Raft needs to know of it. Clones share it.
#[derive(Clone)]
pub struct StateMachine(Arc<Shared>, Gaps);

/// May entries be applied whose predecessors were not?
#[derive(Clone, Copy, PartialEq, Eq)]
enum Gaps {
    Refused,
    Tolerated,
}

struct Shared {
    machine: Arc<dyn Machine>,
    snapshots: SnapshotStore,
    meta: Mutex<RaftMeta>,
    applied: watch::Sender<Option<LogId>>,
    failure: Failure,
    /// Refusals for lack of space in a row.
    refusals: AtomicU32,
    told: OnceLock<Restrictions>,
    closing: AtomicBool,
}

#[derive(Default)]
struct Batch {
    entries: Vec<Option<MachineCommand>>,
    responders: Vec<Option<ApplyResponder<TypeConfig>>>,
    bytes: usize,
}

impl StateMachine {
    /// Opens the state: reads what it has applied, and the snapshots in `snapshots_dir`.
    pub fn open(
        machine: Arc<dyn Machine>,
        snapshots_dir: &Path,
        failure: Failure,
    ) -> Result<Self, SnapshotError> {
        let snapshots = SnapshotStore::open(snapshots_dir, failure.clone())?;
        let meta = read_meta(&*machine)?;
        let applied = watch::Sender::new(meta.last_applied);
        let shared = Arc::new(Shared {
            machine,
            snapshots,
            meta: Mutex::new(meta),
            applied,
            failure,
            refusals: AtomicU32::new(0),
            told: OnceLock::new(),
            closing: AtomicBool::new(false),
        });
        Ok(Self(shared, Gaps::Refused))
    }

    /// The same, but without the check that no entry is left out: openraft's storage suite applies entries
    /// with gaps.
    #[must_use]
    pub fn tolerating_gaps(self) -> Self {
        Self(self.0, Gaps::Tolerated)
    }

    /// True if nothing was ever applied.
    pub fn is_pristine(&self) -> bool {
        self.meta().last_applied.is_none()
    }

    /// The last entry applied.
    pub(crate) fn last_applied(&self) -> Option<LogId> {
        self.with_meta(|meta| meta.last_applied)
    }

    /// Follows the last applied log id.
    pub fn applied(&self) -> watch::Receiver<Option<LogId>> {
        self.0.applied.subscribe()
    }

    /// Flushes the machine; the index up to which everything is on disk.
    pub(crate) fn flush(&self) -> Result<u64, MachineError> {
        let meta = self.0.machine.flush()?;
        let meta =
            meta.map(|meta| codec::decode::<RaftMeta>(&meta)).transpose().map_err(MachineError::new)?;
        Ok(meta.map_or(0, |meta| meta.applied_index()))
    }

    pub(crate) fn snapshots(&self) -> &SnapshotStore {
        &self.0.snapshots
    }

    /// Looks at Raft's own metadata as of the last entry applied.
    pub(crate) fn with_meta<T>(&self, look: impl FnOnce(&RaftMeta) -> T) -> T {
        look(&self.0.meta.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// As which build this replica behaves.
    pub(crate) fn build(&self) -> Build {
        self.0.machine.build()
    }

    /// What a replica has to know to follow this one.
    pub(crate) fn needs(&self) -> Needs {
        self.0.machine.needs()
    }

    /// The last command applied, and the history after it.
    pub(crate) fn mark(&self) -> Mark {
        self.0.machine.mark()
    }

    /// Compares another replica's mark with the history of this one.
    pub(crate) fn compare(&self, theirs: &Mark) -> Comparison {
        self.0.machine.compare(theirs)
    }

    /// The last committed entry that each node is known to have had on disk.
    pub(crate) fn acknowledged(&self) -> Vec<Acknowledged> {
        self.0.machine.acknowledged()
    }

    fn meta(&self) -> RaftMeta {
        self.with_meta(RaftMeta::clone)
    }

    fn set_meta(&self, meta: RaftMeta) {
        let applied = meta.last_applied;
        *self.0.meta.lock().unwrap_or_else(PoisonError::into_inner) = meta;
        self.0.applied.send_replace(applied);
    }

    fn stop(&self, what: &str, error: &dyn std::error::Error) -> io::Error {
        self.0.failure.record(format!("{what}: {error}"));
        io::Error::other(format!("{what}: {error}"))
    }

    fn apply_batch(&self, meta: &RaftMeta, batch: Batch) -> io::Result<()> {
        if batch.entries.is_empty() {
            return Ok(());
        }
        let expected = batch.entries.len();
        let encoded = codec::encode(meta)?;
        let replies = blocking(|| self.apply_with_space(&batch.entries, &encoded))
            .map_err(|error| self.stop("the state machine cannot apply", &error))?;
        if replies.len() != expected {
            let error = MachineError::new(format!("{} replies for {expected} entries", replies.len()));
            return Err(self.stop("the state machine cannot apply", &error));
        }
        self.set_meta(meta.clone());
        for (responder, reply) in batch.responders.into_iter().zip(replies) {
            if let Some(responder) = responder {
                responder.send(reply);
            }
        }
        Ok(())
    }
}

impl StateMachine {
    /// Applies, and retries as long as there is no space for it.
    fn apply_with_space(
        &self,
        entries: &[Option<MachineCommand>],
        meta: &[u8],
    ) -> Result<Vec<Reply>, MachineError> {
        loop {
            match self.0.machine.apply(entries.to_vec(), meta.to_vec()) {
                Err(error) if error.is_full() && !self.0.closing.load(Ordering::Relaxed) => {
                    let refusals = self.0.refusals.fetch_add(1, Ordering::Relaxed) + 1;
                    if let Some(restrictions) = self.0.told.get() {
                        restrictions.refused(Cause::State, refusals);
                    }
                    if refusals <= 3 || refusals.is_multiple_of(50) {
                        tracing::warn!(%error, refusals, "no space for the state, retrying: free some space");
                    }
                    std::thread::sleep(FULL_DISK_PAUSE);
                }
                result => {
                    if self.0.refusals.swap(0, Ordering::Relaxed) > 0
                        && let Some(restrictions) = self.0.told.get()
                    {
                        restrictions.end(Cause::State);
                    }
                    return result;
                }
            }
        }
    }

    /// Sets who is notified of refusals; only the first call counts.
    pub(crate) fn tell(&self, restrictions: Restrictions) {
        let _ = self.0.told.set(restrictions);
    }

    /// Nothing is retried any more.
    pub(crate) fn close(&self) {
        self.0.closing.store(true, Ordering::Relaxed);
    }
}

fn read_meta(machine: &dyn Machine) -> Result<RaftMeta, MachineError> {
    match machine.raft_meta()? {
        Some(bytes) => codec::decode(&bytes).map_err(MachineError::new),
        None => Ok(RaftMeta::default()),
    }
}

/// Adds an entry to the batch and records it in `meta`.
fn take(entry: Entry, meta: &mut RaftMeta, batch: &mut Batch, gaps: Gaps) -> io::Result<()> {
    let index = entry.index();
    let follows = meta.last_applied.is_none() || index == meta.applied_index() + 1;
    if !follows && gaps == Gaps::Refused {
        let message = format!("entry {index} does not follow {}, the last one applied", meta.applied_index());
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    batch.bytes += entry_bytes(&entry);
    meta.last_applied = Some(entry.log_id);
    batch.entries.push(match entry.payload {
        EntryPayload::Blank => None,
        EntryPayload::Membership(membership) => {
            meta.take_membership(entry.log_id, membership);
            None
        }
        EntryPayload::Normal(command) => {
            Some(MachineCommand { index, term: entry.log_id.leader_id.term, bytes: command.0 })
        }
    });
    Ok(())
}

fn described(meta: RaftMeta, snapshot: SnapshotDir) -> Snapshot {
    Snapshot {
        meta: SnapshotMeta { last_log_id: meta.last_applied, last_membership: meta.membership },
        snapshot,
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotDir;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let meta = self.meta();
        Ok((meta.last_applied, meta.membership))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        let mut meta = self.meta();
        let mut batch = Batch::default();
        while let Some((entry, responder)) = entries.try_next().await? {
            take(entry, &mut meta, &mut batch, self.1)
                .map_err(|error| self.stop("the Raft log has a hole", &error))?;
            batch.responders.push(responder);
            if batch.bytes >= BATCH_BYTES {
                self.apply_batch(&meta, std::mem::take(&mut batch))?;
            }
        }
        self.apply_batch(&meta, batch)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotDir) -> io::Result<()> {
        let machine = &self.0.machine;
        let installed = blocking(|| -> Result<RaftMeta, SnapshotError> {
            machine.install(snapshot.path())?;
            let installed = read_meta(&**machine)?;
            self.0.snapshots.build_from(&**machine, &snapshot)?;
            Ok(installed)
        })
        .map_err(|error| self.stop("a received snapshot cannot be installed", &error))?;
        if installed.last_applied != meta.last_log_id {
            let error = MachineError::new(format!(
                "it ends at {:?}, not at {:?}",
                installed.last_applied, meta.last_log_id
            ));
            return Err(self.stop("a received snapshot is not the one that was announced", &error));
        }
        self.set_meta(installed);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        Ok(self.0.snapshots.current().map(|(meta, snapshot)| described(meta, snapshot)))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotDir;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let built = blocking(|| self.0.snapshots.build(&*self.0.machine));
        built
            .map(|(meta, snapshot)| described(meta, snapshot))
            .map_err(|error| self.stop("a snapshot cannot be made", &error))
    }
}
