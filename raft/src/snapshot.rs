//! Checkpoints on disk, for replicas that fell behind the purged log.
//!
//! A snapshot is a directory that the [`Machine`] wrote, beside it a file `<name>.meta` that describes what
//! it contains. The meta file is written last: a directory without one is the remainder of a crash and is
//! removed at the next start. Only the newest snapshot is kept; an older one goes when its last reader
//! is done with it.
//!
//! The meta file also has the [sum](crate::sums) of every file. When a snapshot is made, the machine checks the
//! contents of those that the snapshot before did not have. A file that is found damaged then, or before it is sent,
//! is the live store's file too: that stops this replica.

use crate::codec::{self, CodecError};
use crate::failure::Failure;
use crate::machine::{Machine, MachineError};
use crate::sums::{SummedFile, Sums};
use crate::types::RaftMeta;
use cdr_core::rules::Needs;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What a snapshot's meta file holds.
#[derive(Debug, Serialize, Deserialize)]
struct MetaFile {
    id: u64,
    meta: RaftMeta,
    needs: Needs,
    sums: Sums,
}

/// A snapshot directory in use. It stays until the last user is done with it.
#[derive(Clone, Debug)]
pub struct SnapshotDir(Arc<Lease>);

#[derive(Debug)]
struct Lease {
    id: u64,
    needs: Needs,
    path: PathBuf,
    sums: Sums,
    failure: Failure,
    obsolete: AtomicBool,
}

impl SnapshotDir {
    fn new((id, needs): (u64, Needs), path: PathBuf, sums: Sums, failure: Failure, obsolete: bool) -> Self {
        Self(Arc::new(Lease { id, needs, path, sums, failure, obsolete: AtomicBool::new(obsolete) }))
    }

    /// What whoever takes it has to know.
    pub(crate) fn needs(&self) -> Needs {
        self.0.needs
    }

    /// Drawn at random when the snapshot was made: two snapshots with one id have the same files.
    pub fn id(&self) -> u64 {
        self.0.id
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Its files, as they were when it was made.
    pub(crate) fn files(&self) -> impl Iterator<Item = &SummedFile> {
        self.0.sums.files()
    }

    /// Reads a file of this replica's own snapshot again. If it is not what it was, its disk can't be trusted: this
    /// replica stops.
    pub(crate) fn check(&self, file: &SummedFile) -> io::Result<()> {
        if file.is_whole(self.path())? {
            return Ok(());
        }
        let path = self.path().join(&file.path);
        let reason = format!(
            "{} is damaged on disk: its bytes are not those that were written; replace this replica's disk: it can only come back empty, under a new node id",
            path.display()
        );
        self.0.failure.record(&reason);
        Err(io::Error::new(io::ErrorKind::InvalidData, reason))
    }

    fn make_obsolete(&self) {
        self.0.obsolete.store(true, Ordering::Relaxed);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.obsolete.load(Ordering::Relaxed) {
            remove_directory(&self.path);
        }
    }
}

fn remove_directory(path: &Path) {
    if let Err(error) = std::fs::remove_dir_all(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "an old snapshot cannot be removed");
    }
}

/// Why a snapshot could not be made or installed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The state failed.
    #[error("the state machine failed: {0}")]
    Machine(#[from] MachineError),
    /// Another build wrote it.
    #[error("snapshot {path} is whole, but its {source}")]
    Foreign {
        /// Its description.
        path: PathBuf,
        /// What is there.
        source: CodecError,
    },
    /// The operating system refused.
    #[error("snapshot {path}: {source}")]
    Io {
        /// What was touched.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::Io { path, source }
}

/// The snapshots of a node.
#[derive(Debug)]
pub struct SnapshotStore {
    dir: PathBuf,
    failure: Failure,
    current: Mutex<Option<(RaftMeta, SnapshotDir)>>,
}

impl SnapshotStore {
    /// Finds the newest snapshot in `dir` and removes everything else there.
    pub fn open(dir: &Path, failure: Failure) -> Result<Self, SnapshotError> {
        std::fs::create_dir_all(dir).map_err(io_error(dir))?;
        let mut found: Vec<(RaftMeta, SnapshotDir)> = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(io_error(dir))? {
            let path = entry.map_err(io_error(dir))?.path();
            if path.extension().is_some_and(|extension| extension == "meta")
                && path.with_extension("").is_dir()
            {
                let bytes = std::fs::read(&path).map_err(io_error(&path))?;
                match codec::decode::<MetaFile>(&bytes) {
                    Ok(MetaFile { id, meta, needs, sums }) => {
                        let path = path.with_extension("");
                        let snapshot = SnapshotDir::new((id, needs), path, sums, failure.clone(), false);
                        found.push((meta, snapshot));
                    }
                    // It may be all that is left of what the log had.
                    Err(error @ CodecError::Version(_)) => {
                        return Err(SnapshotError::Foreign { path, source: error });
                    }
                    Err(error) => tracing::warn!(%error, path = %path.display(), "a snapshot is ignored"),
                }
            }
        }
        found.sort_by_key(|(meta, _)| meta.applied_index());
        let current = found.pop();
        let kept = current.as_ref().map(|(_, snapshot)| snapshot.path().to_owned());
        remove_others(dir, kept.as_deref())?;
        Ok(Self { dir: dir.to_owned(), failure, current: Mutex::new(current) })
    }

    /// Where they are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The newest snapshot.
    pub fn current(&self) -> Option<(RaftMeta, SnapshotDir)> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Makes a snapshot of the present state. Blocks.
    pub fn build(&self, machine: &dyn Machine) -> Result<(RaftMeta, SnapshotDir), SnapshotError> {
        let before = self.current().map(|(_, snapshot)| snapshot.0.sums.clone()).unwrap_or_default();
        self.build_knowing(machine, &before)
    }

    /// Makes a snapshot of the state that `installed` brought, whose files were checked on their way.
    pub(crate) fn build_from(
        &self,
        machine: &dyn Machine,
        installed: &SnapshotDir,
    ) -> Result<(RaftMeta, SnapshotDir), SnapshotError> {
        self.build_knowing(machine, &installed.0.sums)
    }

    fn build_knowing(
        &self,
        machine: &dyn Machine,
        before: &Sums,
    ) -> Result<(RaftMeta, SnapshotDir), SnapshotError> {
        let id = random_id();
        let building = self.dir.join(format!("building-{id:016x}"));
        remove_directory(&building);
        let meta = machine.checkpoint(&building)?;
        let needs = machine.needs();
        let meta = match meta.as_slice() {
            [] => RaftMeta::default(),
            meta => codec::decode(meta).map_err(MachineError::new)?,
        };
        sync_tree(&building).map_err(io_error(&building))?;
        let (sums, new) = Sums::take(&building, before).map_err(io_error(&building))?;
        machine.check(&building, &new)?;
        let path = self.dir.join(format!("{:020}-{id:016x}", meta.applied_index()));
        std::fs::rename(&building, &path).map_err(io_error(&path))?;
        let file = MetaFile { id, meta: meta.clone(), needs, sums };
        self.write_meta(&path, &file)?;
        let snapshot = SnapshotDir::new((id, needs), path, file.sums, self.failure.clone(), false);
        self.replace_current(meta.clone(), snapshot.clone());
        Ok((meta, snapshot))
    }

    /// The directory into which the snapshot `id` of another replica is received.
    pub(crate) fn incoming(&self, id: u64) -> PathBuf {
        self.dir.join(format!("incoming-{id:016x}"))
    }

    /// The snapshot `id` of another replica, received whole: `files` are as offered. It is removed when it is no longer
    /// used. A file that is not what was offered is removed at once.
    pub(crate) fn received(
        &self,
        (id, needs): (u64, Needs),
        files: &[SummedFile],
    ) -> io::Result<SnapshotDir> {
        let root = self.incoming(id);
        let (sums, _) = Sums::take(&root, &Sums::default())?;
        let offered: HashSet<&SummedFile> = files.iter().collect();
        for found in sums.files() {
            if !offered.contains(found) {
                let path = root.join(&found.path);
                std::fs::remove_file(&path)?;
                let damaged = format!("{} was not received as it was offered", path.display());
                return Err(io::Error::new(io::ErrorKind::InvalidData, damaged));
            }
        }
        if sums.files().count() != files.len() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "files of a snapshot are missing"));
        }
        Ok(SnapshotDir::new((id, needs), root, sums, self.failure.clone(), true))
    }

    /// Removes what was received of any other snapshot than `id`.
    pub(crate) fn forget_other_incoming(&self, id: u64) -> io::Result<()> {
        let wanted = self.incoming(id);
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("incoming-") && entry.path() != wanted {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    fn write_meta(&self, snapshot: &Path, meta: &MetaFile) -> Result<(), SnapshotError> {
        let path = snapshot.with_extension("meta");
        let write = || -> io::Result<()> {
            let new = snapshot.with_extension("new");
            std::fs::write(&new, codec::encode(meta)?)?;
            File::open(&new)?.sync_all()?;
            std::fs::rename(&new, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        write().map_err(io_error(&path))
    }

    fn replace_current(&self, meta: RaftMeta, snapshot: SnapshotDir) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, old)) = current.replace((meta, snapshot)) {
            if let Err(error) = std::fs::remove_file(old.path().with_extension("meta")) {
                tracing::warn!(%error, path = %old.path().display(), "an old snapshot's meta file cannot be removed");
            }
            old.make_obsolete();
        }
    }
}

/// At a start nothing is being received or built: everything but the newest snapshot is a remainder.
fn remove_others(dir: &Path, kept: Option<&Path>) -> Result<(), SnapshotError> {
    let kept_meta = kept.map(|path| path.with_extension("meta"));
    for entry in std::fs::read_dir(dir).map_err(io_error(dir))? {
        let path = entry.map_err(io_error(dir))?.path();
        if Some(path.as_path()) == kept || Some(path.as_path()) == kept_meta.as_deref() {
            continue;
        }
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.map_err(io_error(&path))?;
    }
    Ok(())
}

fn random_id() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// Brings the files of a directory tree, and their names, to disk.
pub(crate) fn sync_tree(dir: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { sync_tree(&path)? } else { File::open(&path)?.sync_all()? }
    }
    File::open(dir)?.sync_all()
}
