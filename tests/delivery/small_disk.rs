//! A disk that is soon full.

use std::path::PathBuf;
use std::process::Command;

/// A file system of 4 MiB over a directory; unmounted when dropped.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    pub fn mount(over: PathBuf) -> Self {
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(&over).status();
        assert!(mounted.unwrap().success(), "a small file system can't be mounted");
        Self(over)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
