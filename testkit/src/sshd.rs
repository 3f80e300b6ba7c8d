//! An OpenSSH server for tests: a process on a free loopback port that lets one user put files into one directory.

use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PROGRAM: &str = "/usr/sbin/sshd";
const READY_WITHIN: Duration = Duration::from_secs(20);

/// A running (or killed) server.
pub struct Sshd {
    process: Option<Child>,
    port: u16,
    user: String,
    folder: TempDir,
}

/// Runs a program that must succeed, and gives its output.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|e| panic!("{program}: {e}; run `make deps`, which installs it"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

pub fn is_root() -> bool {
    run("id", &["-u"]) == "0"
}

impl Sshd {
    /// A server with one host key and one client key, `client`, both Ed25519.
    pub fn start() -> Self {
        // A server of root's lets in somebody without rights, one of another user only that user.
        let user = if is_root() { "nobody".to_owned() } else { run("id", &["-un"]) };
        if is_root() {
            fs::create_dir_all("/run/sshd").unwrap();
        }
        let folder = tempfile::Builder::new().prefix("sshd-").tempdir().unwrap();
        fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let mut server = Self { process: None, port: 0, user, folder };
        fs::create_dir(server.drop()).unwrap();
        server.give_to_user(&server.drop());
        server.make_key("host", "ed25519");
        server.make_key("client", "ed25519");
        server.authorize(&["client"]);
        let mut failure = String::new();
        for _ in 0..5 {
            server.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            match server.launch("host") {
                Ok(()) => return server,
                Err(why) => failure = why,
            }
        }
        panic!("sshd did not start: {failure}");
    }

    /// Where files arrive.
    pub fn drop(&self) -> PathBuf {
        self.path("drop")
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes `path` the property of whom the server lets in.
    pub fn give_to_user(&self, path: &Path) {
        if is_root() {
            let id = |which| run("id", &[which, &self.user]).parse().ok();
            chown(path, id("-u"), id("-g")).unwrap();
        }
    }

    /// Makes a pair of keys, of which the private one has mode 0600.
    pub fn make_key(&self, name: &str, kind: &str) {
        let path = self.path(name);
        run("ssh-keygen", &["-q", "-t", kind, "-N", "", "-f", path.to_str().unwrap()]);
    }

    /// Lets in exactly those who have one of these keys.
    pub fn authorize(&self, names: &[&str]) {
        let keys: String =
            names.iter().map(|name| fs::read_to_string(self.path(&format!("{name}.pub"))).unwrap()).collect();
        fs::write(self.path("authorized_keys"), keys).unwrap();
    }

    /// What OpenSSH says of a key.
    pub fn fingerprint(&self, name: &str) -> String {
        let path = self.path(&format!("{name}.pub"));
        run("ssh-keygen", &["-l", "-f", path.to_str().unwrap()]).split(' ').nth(1).unwrap().to_owned()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whom it lets in.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Where files arrive, as a client names it.
    pub fn directory(&self) -> &'static str {
        "drop"
    }

    /// Names in the drop.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.drop())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    /// Waits until so many clients have ended their connections orderly.
    pub async fn wait_for_goodbyes(&self, clients: usize) {
        let deadline = Instant::now() + READY_WITHIN;
        while self.log().matches("Received disconnect from").count() < clients {
            assert!(Instant::now() < deadline, "not {clients} goodbyes: {}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends the server and everybody's sessions at once, as a crash would.
    pub fn kill(&mut self) {
        let Some(mut process) = self.process.take() else { return };
        let sessions = descendants(process.id());
        process.kill().unwrap();
        process.wait().unwrap();
        for session in sessions {
            let _ = Command::new("kill").args(["-KILL", &session.to_string()]).stderr(Stdio::null()).status();
        }
    }

    /// Starts it again on the same port, with this host key.
    pub fn restart(&mut self, host_key: &str) {
        self.kill();
        let deadline = Instant::now() + READY_WITHIN;
        while let Err(why) = self.launch(host_key) {
            assert!(Instant::now() < deadline, "sshd did not start again: {why}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn launch(&mut self, host_key: &str) -> Result<(), String> {
        let config = self.path("sshd_config");
        let at = |name: &str| self.path(name).display().to_string();
        let lines = format!(
            "Port {}\nListenAddress 127.0.0.1\nHostKey {}\nPidFile none\nAuthorizedKeysFile {}\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nAllowUsers {}\nLogLevel VERBOSE\n\
             Subsystem sftp internal-sftp\nForceCommand internal-sftp -d {}\n",
            self.port,
            at(host_key),
            at("authorized_keys"),
            self.user,
            self.folder.path().display(),
        );
        fs::write(&config, lines).unwrap();
        let mut process = Command::new(PROGRAM)
            .args(["-D", "-E", &at("log"), "-f"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| panic!("{PROGRAM}: {e}; run `make deps`, which installs it"));
        let deadline = Instant::now() + READY_WITHIN;
        while Instant::now() < deadline {
            if process.try_wait().unwrap().is_some() {
                return Err(self.log());
            }
            if greets(self.port) {
                self.process = Some(process);
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = process.kill();
        let _ = process.wait();
        Err("it is not ready in time".to_owned())
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// True if an SSH server answers.
fn greets(port: u16) -> bool {
    let mut greeting = [0; 4];
    TcpStream::connect(("127.0.0.1", port)).is_ok_and(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.read_exact(&mut greeting).is_ok() && &greeting == b"SSH-"
    })
}

/// The processes that a process has started, and those that they have: a session outlives its server.
fn descendants(of: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        // The name, in parentheses, may hold spaces; behind it come the state and the parent.
        let parent =
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse::<u32>().ok());
        parents.extend(parent.map(|parent| (pid, parent)));
    }
    let mut found = vec![of];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(parents.iter().filter(|(_, p)| *p == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}
