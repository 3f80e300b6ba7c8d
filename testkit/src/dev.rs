//! `dev`: three replicas in one process of the program, which can be killed and started again.

use crate::{binary, free_ports, repository, tap_schemas};
use serde_json::Value;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Three replicas, killed when they are dropped.
pub struct DevCluster {
    process: Child,
    api: u16,
    data: PathBuf,
    said: String,
}

impl Drop for DevCluster {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl DevCluster {
    /// Starts them on `ports`, for the API and for Raft, to replay a file if there is one.
    pub fn start(data: &Path, replay: Option<&Path>, ports: (u16, u16)) -> Self {
        let mut command = Command::new(binary());
        command.args(["dev", "--data", data.to_str().unwrap()]).current_dir(repository());
        command.args(["--api-port", &ports.0.to_string(), "--raft-port", &ports.1.to_string()]);
        if let Some(file) = replay {
            command.args(["--replay", file.to_str().unwrap()]);
        }
        let process = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
        Self { process, api: ports.0, data: data.to_owned(), said: String::new() }
    }

    /// Waits until everything that was to be replayed is.
    pub fn wait_until_serving(&mut self) {
        let out = self.process.stdout.take().unwrap();
        let mut lines = BufReader::new(out).lines().map_while(Result::ok);
        let served = lines.any(|line| {
            self.said.extend([line.as_str(), "\n"]);
            line.contains("REST on")
        });
        assert!(served, "the replicas stopped");
    }

    /// What was printed until then.
    pub fn said(&self) -> &str {
        &self.said
    }

    /// The root's public key.
    pub fn root_file(&self) -> PathBuf {
        self.data.join("root.pub")
    }

    /// What the first replica answers; none if it does not answer with success.
    pub fn get(&self, path: &str) -> Option<Value> {
        let token = std::fs::read_to_string(self.data.join("dev-token")).ok()?;
        let url = format!("http://127.0.0.1:{}{path}", self.api);
        let request = ureq::get(&url).header("Authorization", &format!("Bearer {}", token.trim()));
        request.call().ok()?.body_mut().read_json().ok()
    }

    /// What the first replica answers once it answers with success.
    pub fn get_ok(&self, path: &str) -> Value {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(answer) = self.get(path) {
                return answer;
            }
            assert!(Instant::now() < deadline, "GET {path}: no answer within 30 s");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Asks the first replica for something that must succeed.
    pub fn post(&self, path: &str, body: &Value) {
        let token = std::fs::read_to_string(self.data.join("dev-token")).unwrap();
        let url = format!("http://127.0.0.1:{}{path}", self.api);
        let request = ureq::post(&url).header("Authorization", &format!("Bearer {}", token.trim()));
        request.send_json(body).unwrap();
    }

    /// Bytes that the replica with this number, from 0, gives: it makes a file again that is not at hand there.
    pub fn bytes(&self, replica: u16, path: &str) -> Vec<u8> {
        let token = std::fs::read_to_string(self.data.join("dev-token")).unwrap();
        let url = format!("http://127.0.0.1:{}{path}", self.api + replica);
        let request = ureq::get(&url).header("Authorization", &format!("Bearer {}", token.trim()));
        request.call().unwrap().body_mut().with_config().limit(1 << 30).read_to_vec().unwrap()
    }

    /// The settlement files that there are.
    pub fn exports(&self) -> Vec<Value> {
        let list = self.get("/v1/cdr/exports?limit=500").unwrap_or_default();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// `verify-export` of a file, against the API of the first replica.
    pub fn verify(&self, file: &Path) -> Output {
        let (token, root) = (self.data.join("dev-token"), self.root_file());
        let url = format!("http://127.0.0.1:{}", self.api);
        let mut command = Command::new(binary());
        command.args(["verify-export", "--cluster", "dev", "--against", &url, "--token-file"]);
        command.arg(token).arg("--schemas").arg(tap_schemas());
        command.arg("--trust").arg(root).arg(file).output().unwrap()
    }

    /// Where files are delivered.
    pub fn drop_dir(&self) -> PathBuf {
        self.data.join("drop")
    }
}

/// Ports for the API and for Raft, each the first of three.
pub fn ports() -> (u16, u16) {
    let ports = free_ports(6);
    (ports[0], ports[3])
}

/// Writes generated receipts of a day, such as `2026-04-20`.
pub fn receipts(file: &Path, day: &str, records: u64, seed: u64) {
    let (records, seed) = (records.to_string(), seed.to_string());
    let arguments = ["generate", "--day", day, "--seed", &seed, "--records", &records];
    let out = File::create(file).unwrap();
    assert!(Command::new(binary()).args(arguments).stdout(out).status().unwrap().success());
}

/// `verify-export` of a file with nothing but these arguments.
pub fn verify_alone(file: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg("verify-export").arg("--schemas").arg(tap_schemas());
    command.args(arguments).arg(file).output().unwrap()
}
