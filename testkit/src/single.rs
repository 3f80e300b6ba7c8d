//! One replica that is a cluster of its own: a process of the program, on loopback, with a local bus.

use crate::tokens::rsa_key;
use crate::{binary, free_ports, repository};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The process, killed when it is dropped.
pub struct SingleReplica {
    process: Option<Child>,
    dir: PathBuf,
    ports: Vec<u16>,
}

impl Drop for SingleReplica {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl SingleReplica {
    /// One whose files are in `dir`, and which takes tokens by the keys in `jwks`; it does not run.
    pub fn new(dir: &Path, jwks: &Path) -> Self {
        let single = Self { process: None, dir: dir.to_owned(), ports: free_ports(3) };
        let dir = dir.display();
        let text = format!(
            "[cluster]\nid = \"test\"\nnode_id = 1\nlisten = \"127.0.0.1:{0}\"\ninitialize = true\n\
             [cluster.peers]\n1 = \"127.0.0.1:{0}\"\n\
             [storage]\ndata_dir = \"{dir}/node\"\ndedup_filter_mb = 8\n\
             [ingest]\nbus = \"local\"\nreplicas = 1\n\
             [events]\nenabled = false\n\
             [signer]\nkey_file = \"{dir}/signer.key\"\nallow_dev = true\n\
             [auth]\njwks_file = \"{1}\"\n\
             [observability]\nlog_level = \"info\"\n\
             [api]\nlisten = \"127.0.0.1:{2}\"\n",
            single.ports[0],
            jwks.display(),
            single.ports[1],
        );
        std::fs::write(single.configuration(), text).unwrap();
        single
    }

    /// One by the sample configuration that is shipped, `config/single.toml`, with other paths and ports only.
    pub fn as_shipped(dir: &Path, jwks: &Path) -> Self {
        let single = Self { process: None, dir: dir.to_owned(), ports: free_ports(3) };
        let sample = repository().join("config/single.toml");
        let text = std::fs::read_to_string(sample).unwrap();
        let text = text
            .replace("run/single", dir.to_str().unwrap())
            .replace("run/dev/jwks.json", jwks.to_str().unwrap())
            .replace("127.0.0.1:7018", &format!("127.0.0.1:{}", single.ports[0]))
            .replace("127.0.0.1:3018", &format!("127.0.0.1:{}", single.ports[1]));
        std::fs::write(single.configuration(), text).unwrap();
        std::fs::write(dir.join("events.pem"), rsa_key()).unwrap();
        single
    }

    /// A figure of `/metrics` without labels, while it answers.
    pub fn figure(&self, name: &str) -> Option<f64> {
        let text = ureq::get(&self.url("/metrics")).call().ok()?.into_body().read_to_string().ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// The configuration's file, which ends with the section `[api]`.
    pub fn configuration(&self) -> PathBuf {
        self.dir.join("node.toml")
    }

    /// Changes the configuration, which is read at the start and at SIGHUP.
    pub fn edit(&self, edit: impl FnOnce(String) -> String) {
        let text = std::fs::read_to_string(self.configuration()).unwrap();
        std::fs::write(self.configuration(), edit(text)).unwrap();
    }

    /// Where the API is served over HTTP.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.ports[1])
    }

    /// A port that nobody else uses.
    pub fn spare_port(&self) -> u16 {
        self.ports[2]
    }

    pub fn start(&mut self) {
        let process = Command::new(binary())
            .args(["node", "--config"])
            .arg(self.configuration())
            .env_remove("RUST_LOG")
            .stdout(Stdio::null())
            .stderr(File::create(self.dir.join("log")).unwrap())
            .spawn();
        self.process = Some(process.unwrap());
    }

    /// Kills it.
    pub fn stop(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// Sends SIGHUP.
    pub fn hang_up(&self) {
        let id = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-HUP", &id]).status().unwrap().success());
    }

    /// What it has logged since its start.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap()
    }

    /// True if it has not ended.
    pub fn runs(&mut self) -> bool {
        self.process.as_mut().unwrap().try_wait().unwrap().is_none()
    }
}
