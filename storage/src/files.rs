//! The store's directory: format file, generations of the database, and the file that names the current one.
//!
//! `FORMAT` holds the on-disk format version and the lowest build that reads it, `IDENTITY` what names the directory, `CURRENT` the name of a directory
//! `ledger-N`. Installing a
//! checkpoint makes `ledger-N+1` complete and durable before `CURRENT` is exchanged by a rename, so that after a
//! crash at any moment either the old or the new generation exists as a whole.

use crate::error::StoreError;
use crate::schema::{DISK_FORMAT, known_format, unknown_format};
use crate::tables;
use cdr_core::rules::{Build, Rules, Version};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

const FORMAT_FILE: &str = "FORMAT";
const CURRENT_FILE: &str = "CURRENT";
/// What names this directory; beside the generations, so that a checkpoint of another replica does not bring its own.
pub(crate) const IDENTITY_FILE: &str = "IDENTITY";
const GENERATION_PREFIX: &str = "ledger-";

/// The directory of one generation; removed when it is dropped after [`GenerationDir::retire`].
#[derive(Debug)]
pub(crate) struct GenerationDir {
    pub path: PathBuf,
    number: u64,
    retired: AtomicBool,
}

impl GenerationDir {
    fn new(root: &Path, number: u64) -> Self {
        let path = root.join(format!("{GENERATION_PREFIX}{number}"));
        Self { path, number, retired: AtomicBool::new(false) }
    }

    fn remove(&self) -> Result<(), StoreError> {
        fs::remove_dir_all(&self.path).map_err(|e| StoreError::io("removing", &self.path, &e))
    }

    /// Has the directory removed as soon as nobody reads from it any more.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }
}

impl Drop for GenerationDir {
    fn drop(&mut self) {
        if self.retired.load(Ordering::Acquire) {
            // What stays behind is removed at the next start.
            if let Err(error) = fs::remove_dir_all(&self.path) {
                tracing::warn!(path = %self.path.display(), %error, "an old generation could not be removed");
            }
        }
    }
}

/// Finds or creates the current generation under `root` and removes all others.
pub(crate) fn open_current(root: &Path, build: Build) -> Result<GenerationDir, StoreError> {
    fs::create_dir_all(root).map_err(|e| StoreError::io("creating", root, &e))?;
    let generations = list_generations(root)?;
    check_format_file(root, !generations.is_empty(), build)?;
    let current_file = root.join(CURRENT_FILE);
    let current = match fs::read_to_string(&current_file) {
        Ok(name) => parse_generation(name.trim()).ok_or_else(|| StoreError::Damaged {
            what: current_file.display().to_string(),
            why: format!("{name:?} is not the name of a generation"),
        })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && generations.is_empty() => {
            write_durably(root, CURRENT_FILE, format!("{GENERATION_PREFIX}1\n").as_bytes())?;
            1
        }
        Err(error) => return Err(StoreError::io("reading", &current_file, &error)),
    };
    for number in generations.into_iter().filter(|number| *number != current) {
        GenerationDir::new(root, number).remove()?;
    }
    tables::remove_scratch(root)?;
    Ok(GenerationDir::new(root, current))
}

/// Makes the files of a checkpoint a durable new generation beside `current`, which stays current.
pub(crate) fn stage(root: &Path, current: &GenerationDir, from: &Path) -> Result<GenerationDir, StoreError> {
    let staged = GenerationDir::new(root, current.number + 1);
    if staged.path.exists() {
        staged.remove()?;
    }
    fs::create_dir_all(&staged.path).map_err(|e| StoreError::io("creating", &staged.path, &e))?;
    for entry in fs::read_dir(from).map_err(|e| StoreError::io("listing", from, &e))? {
        let source = entry.map_err(|e| StoreError::io("listing", from, &e))?;
        let target = staged.path.join(source.file_name());
        link_or_copy(&source.path(), &target)?;
    }
    sync(&staged.path)?;
    Ok(staged)
}

/// Makes `staged` the current generation.
pub(crate) fn switch(root: &Path, staged: &GenerationDir) -> Result<(), StoreError> {
    write_durably(root, CURRENT_FILE, format!("{GENERATION_PREFIX}{}\n", staged.number).as_bytes())
}

/// Table files never change, so they are shared; everything else is copied, and so are files of another file system.
pub(crate) fn link_or_copy(source: &Path, target: &Path) -> Result<(), StoreError> {
    let is_table = source.extension().is_some_and(|extension| extension == tables::TABLE);
    if !is_table || fs::hard_link(source, target).is_err() {
        fs::copy(source, target).map_err(|e| StoreError::io("copying", source, &e))?;
    }
    sync(target)
}

fn check_format_file(root: &Path, has_generations: bool, build: Build) -> Result<(), StoreError> {
    let path = root.join(FORMAT_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let what = path.display().to_string();
            let (format, needs) = parse_format(&text).ok_or_else(|| unknown_format(&what, text.trim()))?;
            known_format(&what, format, needs, build).map(|_| ())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !has_generations => {
            write_format(root, DISK_FORMAT, Rules::FIRST)
        }
        Err(error) => Err(StoreError::io("reading", &path, &error)),
    }
}

/// `7 0.1.0`: the format, and the lowest build that reads it.
fn parse_format(text: &str) -> Option<(u32, Option<Version>)> {
    let mut words = text.split_whitespace();
    let format = words.next()?.parse().ok()?;
    Some((format, words.next().and_then(Version::parse)))
}

fn write_format(root: &Path, format: u32, rules: Rules) -> Result<(), StoreError> {
    let needs = rules.needs().map(|build| format!(" {build}")).unwrap_or_default();
    write_durably(root, FORMAT_FILE, format!("{format}{needs}\n").as_bytes())
}

/// Says that from now on something may be written under `format`, which comes with `rules`. It never goes back.
pub(crate) fn raise_format(root: &Path, format: u32, rules: Rules) -> Result<(), StoreError> {
    let path = root.join(FORMAT_FILE);
    let text = fs::read_to_string(&path).map_err(|e| StoreError::io("reading", &path, &e))?;
    match parse_format(&text) {
        Some((found, _)) if found >= format => Ok(()),
        _ => write_format(root, format, rules),
    }
}

fn list_generations(root: &Path) -> Result<Vec<u64>, StoreError> {
    let entries = fs::read_dir(root).map_err(|e| StoreError::io("listing", root, &e))?;
    let names =
        entries.map(|entry| entry.map(|e| e.file_name()).map_err(|e| StoreError::io("listing", root, &e)));
    names.filter_map(|name| name.map(|name| parse_generation(&name.to_string_lossy())).transpose()).collect()
}

fn parse_generation(name: &str) -> Option<u64> {
    name.strip_prefix(GENERATION_PREFIX)?.parse().ok()
}

/// What [`IDENTITY_FILE`] holds, if it exists.
pub(crate) fn read_identity(root: &Path) -> Result<Option<Vec<u8>>, StoreError> {
    let path = root.join(IDENTITY_FILE);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::io("reading", &path, &error)),
    }
}

/// Writes a small file so that after a crash either the old or the new content is on disk.
pub(crate) fn write_durably(root: &Path, name: &str, content: &[u8]) -> Result<(), StoreError> {
    let (temporary, path) = (root.join(format!("{name}.new")), root.join(name));
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)
    };
    write().map_err(|e| StoreError::io("writing", &path, &e))?;
    sync(root)
}

pub(crate) fn sync(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|e| StoreError::io("syncing", path, &e))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_current_generation_is_found_again_and_leftovers_go() {
        let root = tempfile::tempdir().unwrap();
        let first = open_current(root.path(), Build::THIS).unwrap();
        assert!(first.path.ends_with("ledger-1"));
        fs::create_dir_all(&first.path).unwrap();
        let from = tempfile::tempdir().unwrap();
        fs::write(from.path().join("1.sst"), b"table").unwrap();
        fs::write(from.path().join("MANIFEST"), b"m").unwrap();
        let staged = stage(root.path(), &first, from.path()).unwrap();
        assert!(
            open_current(root.path(), Build::THIS).unwrap().path.ends_with("ledger-1"),
            "not switched yet"
        );
        assert!(!staged.path.exists(), "what was not switched to is gone");
        let staged = stage(root.path(), &first, from.path()).unwrap();
        switch(root.path(), &staged).unwrap();
        let current = open_current(root.path(), Build::THIS).unwrap();
        assert_eq!((current.path.ends_with("ledger-2"), first.path.exists()), (true, false));
        assert_eq!(fs::read(current.path.join("1.sst")).unwrap(), b"table");
        current.retire();
        let path = current.path.clone();
        drop(current);
        assert!(!path.exists());
    }

    #[test]
    fn unknown_formats_and_lost_files_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let dir = open_current(root.path(), Build::THIS).unwrap();
        fs::create_dir_all(&dir.path).unwrap();
        for former in ["6\n", "none\n", ""] {
            fs::write(root.path().join(FORMAT_FILE), former).unwrap();
            let opened = open_current(root.path(), Build::THIS);
            assert!(matches!(opened, Err(StoreError::FormatVersion { .. })), "{former:?}");
        }
        fs::write(root.path().join(FORMAT_FILE), "99 3.2.1\n").unwrap();
        let error = open_current(root.path(), Build::THIS).unwrap_err().to_string();
        assert!(error.contains("disk format 99, which needs build 3.2.1"), "{error}");
        fs::remove_file(root.path().join(FORMAT_FILE)).unwrap();
        assert!(matches!(open_current(root.path(), Build::THIS), Err(StoreError::Io { .. })));
        fs::write(root.path().join(FORMAT_FILE), format!("{DISK_FORMAT}\n")).unwrap();
        fs::write(root.path().join(CURRENT_FILE), "elsewhere\n").unwrap();
        assert!(matches!(open_current(root.path(), Build::THIS), Err(StoreError::Damaged { .. })));
        fs::remove_file(root.path().join(CURRENT_FILE)).unwrap();
        assert!(matches!(open_current(root.path(), Build::THIS), Err(StoreError::Io { .. })));
        assert!(dir.path.exists(), "nothing is removed while it is unclear what is current");
    }
}
