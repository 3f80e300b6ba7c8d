//! How full a disk is.

use std::io;
use std::path::Path;

/// Space that is free for this process in the file system of `dir`, in bytes.
pub(crate) fn free_bytes(dir: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(dir)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}
