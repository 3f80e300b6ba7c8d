//! The bytes of settlement files: at hand on this node's disk, and made again where they are not.
//!
//! Only their SHA-256 is in the ledger. A file that was lost with a node's disk, or is asked for on another replica, is
//! made again from rows and pins, and must have that hash.

use super::make::{Made, MakeError, make};
use crate::tap::Variants;
use cdr_core::Hash;
use cdr_core::export::{Export, FileContent};
use cdr_core::hash::to_hex;
use cdr_storage::Store;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// Files that are kept at hand.
const KEPT: usize = 64;

/// Keeps files at hand. Clones share it.
#[derive(Clone)]
pub struct ExportFiles(Arc<Inner>);

struct Inner {
    store: Store,
    variants: Arc<Variants>,
    dir: PathBuf,
    /// One file is made at a time: making takes a core and a disk.
    making: Mutex<()>,
}

/// A file that is at hand.
#[derive(Clone, Debug)]
pub struct AtHand {
    /// Where it is.
    pub path: PathBuf,
    /// Where its trace is.
    pub trace: PathBuf,
}

/// A file can't be had.
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
        "export {export_id}: made again it has SHA-256 {found}, the ledger says {expected}: it is not used; compare \
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
        Self(Arc::new(Inner { store, variants, dir, making: Mutex::default() }))
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
        Ok(made)
    }

    /// The file, as the ledger knows it: from disk, or made again. Blocks.
    ///
    /// # Errors
    /// [`FilesError`].
    pub fn ensure(&self, export: &Export) -> Result<AtHand, FilesError> {
        let content =
            export.content.as_ref().ok_or_else(|| FilesError::NotEncoded { export_id: export.name() })?;
        let dir = self.dir_of(export);
        let path = dir.join(&export.pins.file_name);
        let at_hand = AtHand { trace: dir.join(crate::tap::trace_name(&export.pins.file_name)), path };
        if is_intact(&at_hand, content) {
            return Ok(at_hand);
        }
        let made = self.make(export)?;
        let found = made.content.file_sha256;
        if found != content.file_sha256 {
            let _ = std::fs::remove_dir_all(&dir);
            let (found, expected) = (to_hex(&found), to_hex(&content.file_sha256));
            return Err(FilesError::Differs { export_id: export.name(), found, expected });
        }
        Ok(AtHand { path: made.path, trace: made.trace })
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
            if let Err(error) = std::fs::remove_dir_all(&dir) {
                tracing::warn!(dir = %dir.display(), %error, "an old settlement file can't be removed");
            }
        }
    }
}

fn is_intact(at_hand: &AtHand, content: &FileContent) -> bool {
    hash_of(&at_hand.path).is_ok_and(|hash| hash == content.file_sha256)
        && hash_of(&at_hand.trace).is_ok_and(|hash| hash == content.trace_sha256)
}

/// SHA-256 of a file.
///
/// # Errors
/// If it can't be read.
pub fn hash_of(path: &Path) -> io::Result<Hash> {
    let mut file = File::open(path)?;
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(digest.finalize().into()),
            n => digest.update(&buffer[..n]),
        }
    }
}
