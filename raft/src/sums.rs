//! The files of a snapshot, each with the SHA-256 that it had when the snapshot was made.
//!
//! Tables are shared with the live store by hard links, so a byte that a disk flips in the store is flipped in the
//! snapshot too. A table never changes: its sum is taken, and its contents are checked, once, in the first snapshot
//! that has it. What is read again later, before it is sent and after it was received, must have that sum.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Bytes that are read at once.
const CHUNK_BYTES: usize = 1 << 20;

/// A file below a snapshot's directory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct SummedFile {
    /// Relative, with `/`.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its contents.
    pub sha256: [u8; 32],
}

/// The file that a link leads to: two links with the same are one file, and it was not written in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct Identity {
    device: u64,
    inode: u64,
    modified_s: i64,
    modified_ns: i64,
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified_s: metadata.mtime(),
            modified_ns: metadata.mtime_nsec(),
        }
    }
}

/// The files of one snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sums(Vec<(SummedFile, Identity)>);

impl Sums {
    /// Sums of all files below `root`, and which of them `before` lacks: these were read.
    pub fn take(root: &Path, before: &Self) -> io::Result<(Self, Vec<PathBuf>)> {
        let mut paths = Vec::new();
        list(root, "", &mut paths)?;
        paths.sort();
        let before: HashMap<Identity, &SummedFile> = before.0.iter().map(|(file, of)| (*of, file)).collect();
        let (mut sums, mut new) = (Vec::new(), Vec::new());
        for path in paths {
            let full = root.join(&path);
            let metadata = std::fs::metadata(&full)?;
            let (bytes, identity) = (metadata.len(), Identity::of(&metadata));
            let known = before.get(&identity).filter(|file| file.bytes == bytes);
            let sha256 = match known {
                Some(file) => file.sha256,
                None => sha256_of(&full)?,
            };
            if known.is_none() {
                new.push(full);
            }
            sums.push((SummedFile { path, bytes, sha256 }, identity));
        }
        Ok((Self(sums), new))
    }

    /// The files.
    pub fn files(&self) -> impl Iterator<Item = &SummedFile> {
        self.0.iter().map(|(file, _)| file)
    }
}

impl SummedFile {
    /// True if the file below `root` still is what it was.
    pub fn is_whole(&self, root: &Path) -> io::Result<bool> {
        let path = root.join(&self.path);
        Ok(std::fs::metadata(&path)?.len() == self.bytes && sha256_of(&path)? == self.sha256)
    }
}

fn list(root: &Path, prefix: &str, files: &mut Vec<String>) -> io::Result<()> {
    for entry in std::fs::read_dir(root.join(prefix))? {
        let entry = entry?;
        let name = entry.file_name().into_string().map_err(|name| {
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the file name {} is not UTF-8", name.display()),
            )
        })?;
        let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
        if entry.file_type()?.is_dir() { list(root, &path, files)? } else { files.push(path) }
    }
    Ok(())
}

fn sha256_of(path: &Path) -> io::Result<[u8; 32]> {
    let (mut file, mut hasher) = (File::open(path)?, Sha256::new());
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(hasher.finalize().into()),
            read => hasher.update(&chunk[..read]),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        std::fs::create_dir_all(first.join("sub")).unwrap();
        std::fs::create_dir(&second).unwrap();
        std::fs::write(first.join("sub/1.sst"), b"table").unwrap();
        std::fs::write(first.join("CURRENT"), b"one").unwrap();
        let (sums, new) = Sums::take(&first, &Sums::default()).unwrap();
        assert_eq!(new, [first.join("CURRENT"), first.join("sub/1.sst")]);
        assert!(sums.files().all(|file| file.is_whole(&first).unwrap()));

        std::fs::hard_link(first.join("sub/1.sst"), second.join("1.sst")).unwrap();
        std::fs::write(second.join("CURRENT"), b"two").unwrap();
        let (later, new) = Sums::take(&second, &sums).unwrap();
        assert_eq!(new, [second.join("CURRENT")]);
        let sum = |sums: &Sums, name: &str| sums.files().find(|f| f.path.ends_with(name)).unwrap().sha256;
        assert_eq!(sum(&later, "1.sst"), sum(&sums, "1.sst"));
        assert_ne!(sum(&later, "CURRENT"), sum(&sums, "CURRENT"));
    }

    #[test]
    fn a_flipped_byte_and_a_missing_end_are_seen() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("1.sst"), b"table").unwrap();
        let (sums, _) = Sums::take(dir.path(), &Sums::default()).unwrap();
        let file = sums.files().next().unwrap();
        for damaged in [&b"tablf"[..], b"tabl"] {
            std::fs::write(dir.path().join("1.sst"), damaged).unwrap();
            assert!(!file.is_whole(dir.path()).unwrap());
        }
    }
}
