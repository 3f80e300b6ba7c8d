//! The bytes of settlement files: kept on this node's disk, and made again where they are missing.
//!
//! Only their SHA-256 is in the ledger. A file that was lost with a node's disk, or is requested from another replica, is
//! made again from rows and pins, and must have that hash. Callers that pass on bytes which nothing else checks use
//! [`ExportFiles::ensure`], which reads all of them; a delivery, which hashes what it sends, takes
//! [`ExportFiles::ensure_for_sending`] and comes back with [`ExportFiles::ensure`] if the bytes were not right.

use super::make::{Made, make};
use super::pinned::MakeError;
use cdr_core::Hash;
use cdr_core::export::Export;
use cdr_core::hash::to_hex;
use cdr_storage::Store;
use cdr_tap::{Variants, sha256_of};
use std::collections::HashMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

/// Files that are kept on disk.
const KEPT: usize = 64;

/// Keeps files on disk. Clones share it.
#[derive(Clone)]
pub struct ExportFiles(Arc<Inner>);

struct Inner {
    store: Store,
    variants: Arc<Variants>,
    dir: PathBuf,
    /// One file is made at a time: making takes a core and a disk.
    making: Mutex<()>,
    /// What was found right, with its hash, and how the file looked then.
    found_right: Mutex<HashMap<PathBuf, (Hash, Stamp)>>,
}

/// What distinguishes a file that was written since from one that was not; damage of the disk it does not show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    length: u64,
    modified: SystemTime,
}

impl Stamp {
    fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self { inode: metadata.ino(), length: metadata.len(), modified: metadata.modified()? })
    }
}

/// A file on this node's disk.
#[derive(Clone, Debug)]
pub struct AtHand {
    /// Where it is.
    pub path: PathBuf,
    /// Where its trace is.
    pub trace: PathBuf,
    /// True if it had to be made: it was not there, or not as it should be.
    pub made_now: bool,
}

/// A file is unavailable.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// It is not encoded yet.
    #[error("export {export_id} is not encoded yet: ask again later")]
    NotEncoded {
        /// The file.
        export_id: String,
    },
    /// It can't be made.
    #[error(transparent)]
    Make(#[from] MakeError),
    /// What was made is not what was signed.
    #[error(
        "export {export_id}: regenerated it has SHA-256 {found}, the ledger has {expected}: it is not used; compare \
         schema variant and version with those that the export is pinned to"
    )]
    Differs {
        /// The file.
        export_id: String,
        /// SHA-256 of what was made.
        found: String,
        /// SHA-256 in the ledger.
        expected: String,
    },
}

impl ExportFiles {
    /// Files under `dir`, of `store`'s exports.
    pub fn new(store: Store, variants: Arc<Variants>, dir: PathBuf) -> Self {
        let (making, found_right) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { store, variants, dir, making, found_right }))
    }

    /// The ledger whose files they are.
    pub(super) fn store(&self) -> &Store {
        &self.0.store
    }

    /// The schema variants that are loaded.
    pub fn variants(&self) -> &Arc<Variants> {
        &self.0.variants
    }

    /// Makes a file for the first time. Blocks.
    ///
    /// # Errors
    /// [`MakeError`].
    pub fn make(&self, export: &Export) -> Result<Made, MakeError> {
        let _one = self.0.making.lock().unwrap_or_else(PoisonError::into_inner);
        let made = make(&self.0.store, &self.0.variants, export, &self.dir_of(export))?;
        self.drop_oldest();
        self.note(&made.path, made.content.file_sha256);
        self.note(&made.trace, made.content.trace_sha256);
        Ok(made)
    }

    /// The file, as the ledger knows it: from disk, or made again. Reads all of it. Blocks.
    ///
    /// # Errors
    /// [`FilesError`].
    pub fn ensure(&self, export: &Export) -> Result<AtHand, FilesError> {
        self.ensure_if(export, |path, expected| sha256_of(path).is_ok_and(|found| found == expected))
    }

    /// The same for callers that hash what they read: a file that was found right, and not written since, is not read again.
    /// Blocks.
    ///
    /// # Errors
    /// [`FilesError`].
    pub fn ensure_for_sending(&self, export: &Export) -> Result<AtHand, FilesError> {
        self.ensure_if(export, |path, expected| {
            self.is_known(path, expected) || sha256_of(path).is_ok_and(|found| found == expected)
        })
    }

    fn ensure_if(
        &self,
        export: &Export,
        is_right: impl Fn(&Path, Hash) -> bool,
    ) -> Result<AtHand, FilesError> {
        let content =
            export.content.as_ref().ok_or_else(|| FilesError::NotEncoded { export_id: export.name() })?;
        let dir = self.dir_of(export);
        let path = dir.join(&export.pins.file_name);
        let trace = dir.join(cdr_tap::trace_name(&export.pins.file_name));
        let parts = [(&path, content.file_sha256), (&trace, content.trace_sha256)];
        if parts.iter().all(|(path, expected)| is_right(path, *expected)) {
            for (path, hash) in parts {
                self.note(path, hash);
            }
            return Ok(AtHand { path, trace, made_now: false });
        }
        let made = self.make(export)?;
        let found = made.content.file_sha256;
        if found != content.file_sha256 {
            let _ = std::fs::remove_dir_all(&dir);
            let (found, expected) = (to_hex(&found), to_hex(&content.file_sha256));
            return Err(FilesError::Differs { export_id: export.name(), found, expected });
        }
        Ok(AtHand { path: made.path, trace: made.trace, made_now: true })
    }

    fn is_known(&self, path: &Path, expected: Hash) -> bool {
        let known = self.known().get(path).copied();
        known.is_some_and(|(hash, then)| hash == expected && Stamp::of(path).is_ok_and(|now| now == then))
    }

    /// Records that a file was found right.
    fn note(&self, path: &Path, hash: Hash) {
        if let Ok(stamp) = Stamp::of(path) {
            self.known().insert(path.to_owned(), (hash, stamp));
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<PathBuf, (Hash, Stamp)>> {
        self.0.found_right.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dir_of(&self, export: &Export) -> PathBuf {
        self.0.dir.join(export.name())
    }

    /// Removes what was made longest ago, beyond [`KEPT`] files: it can be made again.
    fn drop_oldest(&self) {
        let Ok(entries) = std::fs::read_dir(&self.0.dir) else { return };
        let mut dirs: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
            .collect();
        dirs.sort();
        let surplus = dirs.len().saturating_sub(KEPT);
        for (_, dir) in dirs.drain(..surplus) {
            self.known().retain(|path, _| !path.starts_with(&dir));
            if let Err(error) = std::fs::remove_dir_all(&dir) {
                tracing::warn!(dir = %dir.display(), %error, "an old settlement file can't be removed");
            }
        }
    }
}
