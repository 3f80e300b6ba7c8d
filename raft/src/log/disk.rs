//! The four operations that the writer needs of a disk, so that tests can make each of them fail.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What the writer needs of a disk.
pub(crate) trait Disk: Send + Sync + 'static {
    /// Creates a file that does not exist, with `bytes` of space reserved for it.
    fn create(&self, path: &Path, bytes: u64) -> io::Result<File>;
    /// Writes some of `buffer` at `offset` and returns how much.
    fn write_at(&self, file: &File, buffer: &[u8], offset: u64) -> io::Result<usize>;
    /// Brings the contents of a file to disk.
    fn sync(&self, file: &File) -> io::Result<()>;
}

/// The real one.
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn create(&self, path: &Path, bytes: u64) -> io::Result<File> {
        let file = OpenOptions::new().create_new(true).read(true).write(true).open(path)?;
        if let Err(error) = reserve(&file, bytes) {
            drop(file);
            std::fs::remove_file(path)?;
            return Err(error);
        }
        Ok(file)
    }

    fn write_at(&self, file: &File, buffer: &[u8], offset: u64) -> io::Result<usize> {
        file.write_at(buffer, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

/// Reserves space from the start of the file; a file system that cannot do that gets a longer file.
pub(crate) fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    use rustix::io::Errno;
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes) {
        Ok(()) => Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(bytes.max(file.metadata()?.len())),
        Err(error) => Err(error.into()),
    }
}

/// True if the disk refused for lack of space, before anything was written.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Makes the names in a directory durable.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}
