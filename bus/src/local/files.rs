//! Files of a stream's folder: written whole or not at all, and synced.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::segment::header;
use crate::BusError;

/// Segment files end so.
pub(super) const SEGMENT_EXTENSION: &str = "seg";

/// Milliseconds since the epoch by the system's clock.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    since.as_millis() as i64
}

pub(super) fn failed(operation: &'static str, path: &Path, source: std::io::Error) -> BusError {
    BusError::File { operation, path: path.to_owned(), source }
}

pub(super) fn segment_path(directory: &Path, first_sequence: u64) -> PathBuf {
    directory.join(format!("{first_sequence:020}.{SEGMENT_EXTENSION}"))
}

/// Makes an empty segment that is either wholly there after a crash or not at all.
pub(super) fn create_segment(directory: &Path, created_ms: i64, first_sequence: u64) -> Result<(), BusError> {
    replace_file(directory, &segment_path(directory, first_sequence), &header(created_ms, first_sequence))
}

pub(super) fn replace_file(directory: &Path, path: &Path, bytes: &[u8]) -> Result<(), BusError> {
    let fresh = path.with_extension("new");
    let write = || {
        let mut file = File::create(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    write().map_err(|source| failed("write", path, source))?;
    sync_directory(directory)
}

pub(super) fn sync_directory(directory: &Path) -> Result<(), BusError> {
    let sync = || File::open(directory)?.sync_all();
    sync().map_err(|source| failed("sync the folder", directory, source))
}

pub(super) fn cut(path: &Path, keep_bytes: u64, present_bytes: u64) -> Result<(), BusError> {
    if keep_bytes == present_bytes {
        return Ok(());
    }
    let dropped = present_bytes - keep_bytes;
    tracing::warn!(file = %path.display(), dropped_bytes = dropped, "cut off an unfinished write at a file's end");
    let cut = || {
        let file = File::options().write(true).open(path)?;
        file.set_len(keep_bytes)?;
        file.sync_all()
    };
    cut().map_err(|source| failed("cut", path, source))
}
