//! A NATS server with JetStream for tests: one process on a free loopback port, its store in a temporary folder.

use crate::copy_tree;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to be ready.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// A running (or killed) server; gone, with its store, when dropped.
pub struct NatsServer {
    process: Option<Child>,
    port: u16,
    extra_config: String,
    folder: tempfile::TempDir,
}

impl NatsServer {
    /// Starts a server that anybody on this machine may use.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// Starts a server with further lines in its configuration, such as `authorization { … }`.
    pub fn start_with(extra_config: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("nats-").tempdir().unwrap();
        let mut server = Self { process: None, port: 0, extra_config: extra_config.to_owned(), folder };
        // Another process may take the free port before the server does: try others.
        let mut failure = String::new();
        for _ in 0..5 {
            server.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            match server.launch() {
                Ok(()) => return server,
                Err(error) => failure = error,
            }
        }
        panic!("nats-server did not start: {failure}");
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Ends the process at once, as a crash would; the store stays.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Ends the process orderly; the store stays.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let pid = process.id().to_string();
            assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
            process.wait().unwrap();
        }
    }

    /// Starts the process again on the same port and store.
    pub fn restart(&mut self) {
        self.kill();
        let deadline = Instant::now() + READY_WITHIN;
        while let Err(error) = self.launch() {
            assert!(Instant::now() < deadline, "nats-server did not start again: {error}");
        }
    }

    /// A copy of the store of a server that does not run.
    pub fn copy_store(&self) -> tempfile::TempDir {
        assert!(self.process.is_none(), "the store of a running server can't be copied");
        let copy = tempfile::tempdir().unwrap();
        copy_tree(&self.folder.path().join("store"), &copy.path().join("store"));
        copy
    }

    /// Puts a copy in the place of the store: what came after it is lost.
    pub fn replace_store(&self, copy: &tempfile::TempDir) {
        assert!(self.process.is_none(), "the store of a running server can't be replaced");
        let store = self.folder.path().join("store");
        std::fs::remove_dir_all(&store).unwrap();
        copy_tree(&copy.path().join("store"), &store);
    }

    fn launch(&mut self) -> Result<(), String> {
        let config = self.folder.path().join("nats.conf");
        let store = self.folder.path().join("store");
        let mut file = std::fs::File::create(&config).unwrap();
        writeln!(file, "listen: 127.0.0.1:{}", self.port).unwrap();
        writeln!(file, "jetstream {{ store_dir: \"{}\", max_mem: 256MB, max_file: 8GB }}", store.display())
            .unwrap();
        writeln!(file, "{}", self.extra_config).unwrap();
        let spawned = Command::new(server_program())
            .arg("-c")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn();
        let mut process = spawned.map_err(|error| error.to_string())?;
        let output = BufReader::new(process.stderr.take().unwrap());
        let (ready, is_ready) = std::sync::mpsc::channel();
        // Reads on after that too, so that the server never waits for its own output.
        std::thread::spawn(move || {
            let mut before = String::new();
            for line in output.lines().map_while(Result::ok) {
                before = format!("{before}\n{line}");
                if line.contains("Server is ready") {
                    let _ = ready.send(Ok(()));
                    before.clear();
                }
                before.truncate(4_000);
            }
            let _ = ready.send(Err(before));
        });
        let outcome =
            is_ready.recv_timeout(READY_WITHIN).unwrap_or_else(|_| Err("it is not ready in time".to_owned()));
        let reachable = TcpStream::connect(("127.0.0.1", self.port)).is_ok();
        if outcome.is_ok() && reachable {
            self.process = Some(process);
            return Ok(());
        }
        let _ = process.kill();
        let _ = process.wait();
        Err(outcome.err().unwrap_or_else(|| "its port is taken".to_owned()))
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The `nats-server` of the system; Debian keeps it in a folder that is not in everybody's `PATH`.
fn server_program() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let found = folders.map(|folder| folder.join("nats-server")).find(|program| Path::is_file(program));
    found.expect("nats-server is not installed; run `make deps`, which installs it")
}
