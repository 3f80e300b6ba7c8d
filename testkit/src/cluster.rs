//! Three replicas as real processes on loopback, each of which can be killed and started again.

use crate::tokens::{TokenIssuer, rsa_key};
use crate::turns::Turn;
use crate::{binary, every_item, free_ports, unix_seconds};
use serde_json::Value;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What the replicas' clocks show, relative to the machine's, in seconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct ClockOffset(pub i64);

impl ClockOffset {
    /// With which a clock shows this instant now, in seconds since 1970.
    pub fn showing(seconds: i64) -> Self {
        Self(seconds - unix_seconds())
    }
}

/// A cluster of three replica processes.
pub struct Cluster {
    dir: PathBuf,
    nodes: Vec<Node>,
    token: String,
    agent: ureq::Agent,
    /// True if the clocks can be set while the replicas run.
    movable_clocks: bool,
    /// Given back after the processes have ended.
    turn: Option<Turn>,
}

struct Node {
    api_port: u16,
    clock: ClockOffset,
    process: Option<Child>,
}

const OPERATORS: [(&str, &str); 7] = [
    ("AWCC", "4120101"),
    ("ROSHAN", "4122001"),
    ("MTN_AF", "4124001"),
    ("ETS", "4125001"),
    ("SALAAM", "4128001"),
    ("INTL_IN", "4129901"),
    ("INTL_OUT", "4129902"),
];

/// Where Debian's `faketime` package keeps its library.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// No events are published.
const NO_EVENTS: &str = "[events]\nenabled = false\n";

impl Cluster {
    /// Starts three replicas that read from the bus at `nats_url`, and waits until one leads.
    pub fn start(dir: &Path, nats_url: &str, clock: ClockOffset) -> Self {
        let cluster = Self::start_without_waiting(dir, nats_url, [clock; 3]);
        cluster.leader();
        cluster
    }

    /// Starts three replicas whose configurations `edit` has changed, and waits until one leads.
    pub fn start_edited(dir: &Path, nats_url: &str, edit: impl Fn(&str) -> String) -> Self {
        let mut cluster = Self::configure(dir, nats_url, [ClockOffset(0); 3], NO_EVENTS);
        cluster.edit_configuration(edit);
        (1..=3).for_each(|id| cluster.restart(id));
        cluster.leader();
        cluster
    }

    /// Three replicas with clocks that [`Cluster::set_clock`] can set; none of them runs.
    pub fn prepare_with_movable_clocks(dir: &Path, nats_url: &str, clock: ClockOffset) -> Self {
        let mut cluster = Self::configure(dir, nats_url, [clock; 3], NO_EVENTS);
        cluster.movable_clocks = true;
        cluster
    }

    /// Changes every node's configuration; a node reads it when it starts.
    pub fn edit_configuration(&self, edit: impl Fn(&str) -> String) {
        for id in 1..=3 {
            let path = config_file(&self.dir, id);
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(path, edit(&text)).unwrap();
        }
    }

    /// The configuration of a node.
    pub fn configuration(&self, id: usize) -> PathBuf {
        config_file(&self.dir, id)
    }

    /// Starts three replicas whose clocks can be set by [`Cluster::set_clock`] while they run.
    pub fn start_with_movable_clocks(dir: &Path, nats_url: &str, clock: ClockOffset) -> Self {
        let mut cluster = Self::prepare_with_movable_clocks(dir, nats_url, clock);
        (1..=3).for_each(|id| cluster.restart(id));
        cluster.leader();
        cluster
    }

    /// Starts three replicas whose configurations have further lines, and waits until one leads.
    pub fn start_configured(dir: &Path, nats_url: &str, lines: &str) -> Self {
        let cluster = Self::start_as(dir, nats_url, [ClockOffset(0); 3], &format!("{NO_EVENTS}{lines}"));
        cluster.leader();
        cluster
    }

    /// Starts three replicas with clocks of their own, which publish no events.
    pub fn start_without_waiting(dir: &Path, nats_url: &str, clocks: [ClockOffset; 3]) -> Self {
        Self::start_as(dir, nats_url, clocks, NO_EVENTS)
    }

    /// Starts three replicas that also publish events, signed with the key in `dir/events.pem`, and waits until one
    /// leads.
    pub fn start_with_events(dir: &Path, nats_url: &str, clock: ClockOffset) -> Self {
        let key = dir.join("events.pem");
        std::fs::write(&key, rsa_key()).unwrap();
        let events = format!("[events]\nsigning_key_file = \"{}\"\nreplicas = 1\n", key.display());
        let cluster = Self::start_as(dir, nats_url, [clock; 3], &events);
        cluster.leader();
        cluster
    }

    fn start_as(dir: &Path, nats_url: &str, clocks: [ClockOffset; 3], more: &str) -> Self {
        let mut cluster = Self::configure(dir, nats_url, clocks, more);
        (1..=3).for_each(|id| cluster.restart(id));
        cluster
    }

    fn configure(dir: &Path, nats_url: &str, clocks: [ClockOffset; 3], more: &str) -> Self {
        let turn = Some(Turn::wait());
        let issuer = TokenIssuer::create(dir);
        let token = std::fs::read_to_string(dir.join("dev-token")).unwrap();
        let ports = free_ports(6);
        let (raft, api) = ports.split_at(3);
        for id in 1..=3 {
            let text = configuration(dir, id, raft, api, nats_url, &issuer);
            std::fs::write(config_file(dir, id), text + more).unwrap();
        }
        let nodes = api
            .iter()
            .zip(clocks)
            .map(|(&api_port, clock)| Node { api_port, clock, process: None })
            .collect();
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(60)))
            .build()
            .new_agent();
        Self { dir: dir.to_owned(), nodes, token, agent, movable_clocks: false, turn }
    }

    /// Sets the clock of a replica, also while it runs; it is seen within a second.
    pub fn set_clock(&mut self, id: usize, clock: ClockOffset) {
        assert!(self.movable_clocks, "the replica started with a clock of its own");
        self.nodes[id - 1].clock = clock;
        // Renamed into place: never read by halves.
        let (file, new) = (self.clock_file(id), self.dir.join(format!("clock-{id}.new")));
        std::fs::write(&new, format!("{:+}\n", clock.0)).unwrap();
        std::fs::rename(new, file).unwrap();
    }

    /// Lets time pass in which the replicas have nothing to do; meanwhile other tests may run a cluster.
    pub fn idle(&mut self, time: Duration) {
        self.turn = None;
        std::thread::sleep(time);
        self.turn = Some(Turn::wait());
    }

    /// Sets the clocks of all replicas.
    pub fn set_clocks(&mut self, clock: ClockOffset) {
        (1..=3).for_each(|id| self.set_clock(id, clock));
    }

    fn clock_file(&self, id: usize) -> PathBuf {
        self.dir.join(format!("clock-{id}"))
    }

    /// Where a node's API is.
    pub fn api_url(&self, id: usize) -> String {
        format!("http://127.0.0.1:{}", self.nodes[id - 1].api_port)
    }

    /// Directory of a node's data.
    pub fn data_dir(&self, id: usize) -> PathBuf {
        self.dir.join(format!("node-{id}"))
    }

    /// `kill -9`.
    pub fn kill(&mut self, id: usize) {
        if let Some(mut process) = self.nodes[id - 1].process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// SIGTERM, and waits until the process has ended.
    pub fn terminate(&mut self, id: usize) {
        let mut process = self.nodes[id - 1].process.take().unwrap();
        let pid = process.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(process.wait().unwrap().success(), "node {id} did not stop in order\n{}", self.tail(id));
    }

    /// Adds lines to every node's configuration; a node reads them when it starts.
    pub fn add_configuration(&self, lines: &str) {
        self.edit_configuration(|text| format!("{text}{lines}"));
    }

    /// Starts a node that does not run.
    pub fn restart(&mut self, id: usize) {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join(format!("node-{id}.log")))
            .unwrap();
        let clock = self.nodes[id - 1].clock;
        if self.movable_clocks {
            self.set_clock(id, clock);
        }
        let clock_file = self.clock_file(id);
        let node = &mut self.nodes[id - 1];
        assert!(node.process.is_none(), "node {id} runs already");
        let mut command = Command::new(binary());
        command.args(["node", "--config"]).arg(config_file(&self.dir, id)).stdout(Stdio::null()).stderr(log);
        // As the unit in deploy/systemd says.
        command.env("MALLOC_ARENA_MAX", "2");
        if clock.0 != 0 || self.movable_clocks {
            assert!(Path::new(FAKETIME).exists(), "{FAKETIME} is missing: run make deps");
            command.env("LD_PRELOAD", FAKETIME).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
            if self.movable_clocks {
                command.env("FAKETIME_TIMESTAMP_FILE", clock_file).env("FAKETIME_CACHE_DURATION", "1");
            } else {
                command.env("FAKETIME", format!("{:+}", clock.0));
            }
        }
        node.process = Some(command.spawn().unwrap());
    }

    /// True if the process has not ended.
    pub fn runs(&mut self, id: usize) -> bool {
        let process = self.nodes[id - 1].process.as_mut();
        process.is_some_and(|process| process.try_wait().unwrap().is_none())
    }

    /// What a node has logged.
    pub fn log(&self, id: usize) -> String {
        std::fs::read_to_string(self.dir.join(format!("node-{id}.log"))).unwrap_or_default()
    }

    /// Node id of the leader, waiting for one to be elected and to be ready.
    pub fn leader(&self) -> usize {
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            for id in 1..=3 {
                if self.metric(id, "cdr_raft_is_leader") == Some(1.0) {
                    return id;
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!(
            "nobody leads within a minute; node logs:\n{}",
            (1..=3).map(|id| self.tail(id)).collect::<String>()
        );
    }

    /// The last lines of a node's log.
    pub fn tail(&self, id: usize) -> String {
        let log = self.log(id);
        let lines: Vec<&str> = log.lines().collect();
        format!("--- node {id}\n{}\n", lines[lines.len().saturating_sub(30)..].join("\n"))
    }

    /// Sum of a metric over its labels, if the node answers and knows it.
    pub fn metric(&self, id: usize, name: &str) -> Option<f64> {
        let text = self.metrics_text(id);
        let values: Vec<f64> = text
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])))
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// All metrics of a node; nothing if it does not answer.
    pub fn metrics_text(&self, id: usize) -> String {
        let url = format!("http://127.0.0.1:{}/metrics", self.nodes[id - 1].api_port);
        let answer = self.agent.get(&url).call().ok();
        answer.and_then(|mut answer| answer.body_mut().read_to_string().ok()).unwrap_or_default()
    }

    /// CDRs that a node has applied, without adjustments, if it answers.
    pub fn sms_rows(&self, id: usize) -> Option<u64> {
        let all = self.metric(id, "cdr_rows")?;
        let own = ["api", "internal"].map(|stream| {
            self.metric(id, &format!("cdr_stream_position{{stream=\"{stream}\"}}")).unwrap_or(0.0)
        });
        Some((all - own[0] - own[1]) as u64)
    }

    /// GET with the development token; status and JSON body.
    pub fn get(&self, id: usize, path: &str) -> (u16, Value) {
        let url = format!("http://127.0.0.1:{}{path}", self.nodes[id - 1].api_port);
        let request = self.agent.get(&url).header("Authorization", format!("Bearer {}", self.token));
        let mut response =
            request.call().unwrap_or_else(|e| panic!("GET {path} on node {id}: {e}\n{}", self.tail(id)));
        (response.status().as_u16(), response.body_mut().with_config().limit(64 << 20).read_json().unwrap())
    }

    /// POST with the development token; status and JSON body.
    pub fn post(&self, id: usize, path: &str, body: &Value) -> (u16, Value) {
        let url = format!("http://127.0.0.1:{}{path}", self.nodes[id - 1].api_port);
        let request = self.agent.post(&url).header("Authorization", format!("Bearer {}", self.token));
        let mut response = request
            .send_json(body)
            .unwrap_or_else(|e| panic!("POST {path} on node {id}: {e}\n{}", self.tail(id)));
        (response.status().as_u16(), response.body_mut().read_json().unwrap())
    }

    /// POST with the development token and further headers; status, the node that answered, and JSON body.
    pub fn post_with(
        &self,
        id: usize,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> (u16, String, Value) {
        let url = format!("http://127.0.0.1:{}{path}", self.nodes[id - 1].api_port);
        let mut request = self.agent.post(&url).header("Authorization", format!("Bearer {}", self.token));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = request
            .send_json(body)
            .unwrap_or_else(|e| panic!("POST {path} on node {id}: {e}\n{}", self.tail(id)));
        let node = response.headers()["cdr-node"].to_str().unwrap().to_owned();
        (response.status().as_u16(), node, response.body_mut().read_json().unwrap())
    }

    /// A node's process.
    pub fn process_id(&self, id: usize) -> u32 {
        self.nodes[id - 1].process.as_ref().unwrap().id()
    }

    /// Bytes that a node answers with success.
    pub fn bytes(&self, id: usize, path: &str) -> Vec<u8> {
        let url = format!("http://127.0.0.1:{}{path}", self.nodes[id - 1].api_port);
        let request = self.agent.get(&url).header("Authorization", format!("Bearer {}", self.token));
        let mut response = request.call().unwrap_or_else(|e| panic!("GET {path} on node {id}: {e}"));
        let bytes = response.body_mut().with_config().limit(4 << 30).read_to_vec().unwrap();
        assert_eq!(response.status().as_u16(), 200, "GET {path}: {}", String::from_utf8_lossy(&bytes));
        bytes
    }

    /// The largest resident size that a node's process ever had, in bytes.
    pub fn peak_bytes(&self, id: usize) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process_id(id))).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    /// Every item of a list that a node gives; `path` ends with `?` or `&`.
    pub fn every_item(&self, id: usize, path: &str) -> Vec<Value> {
        every_item(path, |page| self.get_ok(id, page))
    }

    /// GET that has to succeed. While nobody leads there is no answer; that is waited for.
    pub fn get_ok(&self, id: usize, path: &str) -> Value {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let (status, body) = self.get(id, path);
            if status == 503 && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
            assert_eq!(status, 200, "GET {path}: {body}");
            return body;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (1..=3).for_each(|id| self.kill(id));
        if std::thread::panicking() {
            (1..=3).for_each(|id| eprintln!("{}", self.tail(id)));
        }
    }
}

fn config_file(dir: &Path, id: usize) -> PathBuf {
    dir.join(format!("node-{id}.toml"))
}

fn configuration(
    dir: &Path,
    id: usize,
    raft: &[u16],
    api: &[u16],
    nats_url: &str,
    issuer: &TokenIssuer,
) -> String {
    let mut peers = String::new();
    for (id, port) in (1..4).zip(raft) {
        let _ = writeln!(peers, "{id} = \"127.0.0.1:{port}\"");
    }
    let mut operators = String::new();
    for (id, entity) in OPERATORS {
        let _ = writeln!(operators, "[[operators.list]]\nid = \"{id}\"\nrecording_entity = \"{entity}\"");
    }
    format!(
        "[cluster]\nid = \"test\"\nnode_id = {id}\nlisten = \"127.0.0.1:{}\"\ninitialize = {}\n\
         [cluster.peers]\n{peers}\
         [storage]\ndata_dir = \"{}\"\ndedup_filter_mb = 64\n\
         [ingest]\nnats_urls = [\"{nats_url}\"]\nreplicas = 1\n\
         [signer]\nkey_file = \"{}\"\nallow_dev = true\n\
         [api]\nlisten = \"127.0.0.1:{}\"\n\
         [auth]\njwks_file = \"{}\"\n\
         [[pricing.tables]]\nversion = \"test-1\"\nvalid_from = \"1970-01-01T00:00:00Z\"\n\
         [[pricing.tables.tariffs]]\nper_segment = \"0.42\"\ncurrency = \"AFN\"\ntap_tariff_class = \"A040\"\n\
         {operators}",
        raft[id - 1],
        id == 1,
        dir.join(format!("node-{id}")).display(),
        dir.join("signer.key").display(),
        api[id - 1],
        issuer.jwks_file().display(),
    )
}
