//! Names and first bytes of segment files.

use super::error::LogError;
use super::record::Position;
use std::path::{Path, PathBuf};

/// First bytes of every segment, followed by its number (little endian).
const MAGIC: &[u8; 8] = b"CDRRLOG1";

/// Bytes before a segment's first record.
pub(super) const SEGMENT_HEADER_BYTES: u64 = 16;

/// The first segment's number.
pub(super) const FIRST_SEGMENT: u64 = 1;

/// The header of a segment.
pub(super) fn segment_header(number: u64) -> [u8; SEGMENT_HEADER_BYTES as usize] {
    let mut header = [0; SEGMENT_HEADER_BYTES as usize];
    header[..8].copy_from_slice(MAGIC);
    header[8..].copy_from_slice(&number.to_le_bytes());
    header
}

/// Where a segment's first record is.
pub(super) fn first_record(segment: u64) -> Position {
    Position { segment, offset: SEGMENT_HEADER_BYTES }
}

/// The file of a segment.
pub(super) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:020}.log"))
}

/// Numbers of the segments in a directory, ascending.
pub(super) fn segment_numbers(dir: &Path) -> Result<Vec<u64>, LogError> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(LogError::io("list", dir))? {
        let name = entry.map_err(LogError::io("list", dir))?.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_suffix(".log")).and_then(|n| n.parse::<u64>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}
