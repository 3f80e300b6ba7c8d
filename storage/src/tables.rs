//! Whether tables hold what was written: every block of theirs is read and compared with its checksum.
//!
//! `RocksDB` checks a table as a whole only together with all others of a database. So the tables in question are linked
//! into a directory of their own, and `RocksDB` builds a database of what it can read there: it reads each once,
//! and sets aside those that it can't.

use crate::error::{StoreError, database};
use crate::files::link_or_copy;
use crate::schema::Db;
use rocksdb::Options;
use std::fs;
use std::path::{Path, PathBuf};

/// How the name of a directory ends in which tables are checked.
const SCRATCH_SUFFIX: &str = ".checking";

/// Extension of a table's file.
pub(crate) const TABLE: &str = "sst";

/// Every table in `dir`.
pub(crate) fn of(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let listing = |e: std::io::Error| StoreError::io("listing", dir, &e);
    let paths = fs::read_dir(dir).map_err(listing)?.map(|entry| entry.map(|entry| entry.path()));
    paths
        .filter(|path| path.as_ref().map_or(true, |path| is_table(path)))
        .collect::<Result<_, _>>()
        .map_err(listing)
}

/// Reads every block of the tables among `files`, in a directory beside `dir`.
pub(crate) fn check(dir: &Path, files: &[PathBuf]) -> Result<(), StoreError> {
    let tables: Vec<&PathBuf> = files.iter().filter(|path| is_table(path)).collect();
    if tables.is_empty() {
        return Ok(());
    }
    let mut name = dir.as_os_str().to_owned();
    name.push(SCRATCH_SUFFIX);
    let scratch = PathBuf::from(name);
    remove(&scratch)?;
    fs::create_dir(&scratch).map_err(|e| StoreError::io("creating", &scratch, &e))?;
    let checked = check_in(&scratch, &tables);
    remove(&scratch)?;
    checked
}

fn check_in(scratch: &Path, tables: &[&PathBuf]) -> Result<(), StoreError> {
    let link = |table: &Path| scratch.join(table.file_name().unwrap_or_default());
    for table in tables {
        link_or_copy(table, &link(table))?;
    }
    let mut options = Options::default();
    options.set_max_open_files(64);
    Db::repair(&options, scratch).map_err(database("reading tables again"))?;
    match tables.iter().find(|table| !link(table).exists()) {
        None => Ok(()),
        Some(table) => Err(StoreError::Damaged {
            what: format!("the table {}", table.display()),
            why: "not all of its blocks are what was written".to_owned(),
        }),
    }
}

/// Removes what a check that was cut short left in `root`.
pub(crate) fn remove_scratch(root: &Path) -> Result<(), StoreError> {
    let listing = |e: std::io::Error| StoreError::io("listing", root, &e);
    for entry in fs::read_dir(root).map_err(listing)? {
        let entry = entry.map_err(listing)?;
        if entry.file_name().to_string_lossy().ends_with(SCRATCH_SUFFIX) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn is_table(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == TABLE)
}

fn remove(scratch: &Path) -> Result<(), StoreError> {
    match fs::remove_dir_all(scratch) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io("removing", scratch, &error))
        }
        _ => Ok(()),
    }
}
