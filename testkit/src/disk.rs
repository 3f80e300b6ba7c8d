//! File systems of a test's own, which get full.

use std::path::PathBuf;
use std::process::Command;

/// A file system in memory over a directory, whose size can be changed; unmounted when dropped.
pub struct Disk(PathBuf);

impl Disk {
    /// Over a directory that is made if it is not there, with a size as `mount` takes it, such as `8g`. What is not used
    /// takes no memory.
    pub fn mount(over: PathBuf, size: &str) -> Self {
        std::fs::create_dir_all(&over).unwrap();
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&over));
        Self(over)
    }

    /// Leaves so many bytes free.
    pub fn leave(&self, free: u64) {
        let output = Command::new("df").args(["--output=used", "-B1"]).arg(&self.0).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let used: u64 = text.lines().nth(1).unwrap().trim().parse().unwrap();
        self.resize(&(used + free).to_string());
    }

    pub fn resize(&self, size: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,size={size}")]).arg(&self.0));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// True if this process may mount. If not, the test of this name runs once more as the root of a namespace of its own.
pub fn may_mount(test: &str) -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    if output.stdout == b"0\n" {
        return true;
    }
    let again = std::env::current_exe().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount"]).arg(again).args(["--exact", test, "--nocapture"]);
    let output = command.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("1 passed"), "{command:?}: {printed}");
    false
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?} failed");
}
