//! What tests and benchmarks start and talk to. It knows the programs as their users do: by their files, ports and
//! answers.
//!
//! | module | what |
//! |---|---|
//! | [`cluster`], [`single`], [`dev`] | replicas as processes: three, one, or three in one process with a bus of its own |
//! | [`nats`], [`sshd`], [`rest_receiver`], [`softhsm`] | the counterparts: nats-server, OpenSSH, the regulator's REST interface, an HSM |
//! | [`disk`], [`tcp_relay`] | a file system that gets full, a connection that stalls |
//! | [`certificates`], [`tokens`], [`root_key`] | who may do what: X.509, bearer tokens, the offline root |
//! | [`turns`] | how many clusters run beside each other |
//! | [`event_schemas`], [`audit`] | what others check with: JSON Schemas of events, an auditor's recomputation |
#![allow(clippy::unwrap_used, missing_docs)]

pub mod audit;
pub mod certificates;
pub mod cluster;
pub mod dev;
pub mod disk;
pub mod event_schemas;
pub mod nats;
pub mod rest_receiver;
pub mod root_key;
pub mod single;
pub mod softhsm;
pub mod sshd;
pub mod tcp_relay;
pub mod tokens;
pub mod turns;

use serde_json::Value;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The schema variants that are shipped.
pub fn tap_schemas() -> PathBuf {
    repository().join("tap-schemas")
}

/// The service's program, which Cargo builds beside every test of the root package.
pub fn binary() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let folder = own.ancestors().skip(1).find(|folder| !folder.ends_with("deps")).unwrap();
    let binary = folder.join("cdr-mediation");
    assert!(binary.exists(), "{} is not built: cargo build --release --workspace --bins", binary.display());
    binary
}

/// Runs the service's program to its end, without input.
pub fn run(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).stdin(Stdio::null()).output().unwrap()
}

/// How many cases a property is tried with: so many, times `CDR_TEST_ROUNDS` where that is set, as in `make nightly`.
pub fn cases(usual: u32) -> u32 {
    usual * std::env::var("CDR_TEST_ROUNDS").map_or(1, |rounds| rounds.parse::<u32>().unwrap())
}

/// Every item of a list of the API, page by page, in order. `path` ends with `?` or `&`; `get` gives the body of an answer.
pub fn every_item(path: &str, get: impl Fn(&str) -> Value) -> Vec<Value> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = get(&format!("{path}limit=500{cursor}"));
        items.extend(page["items"].as_array().unwrap_or_else(|| panic!("no list: {page}")).iter().cloned());
        match page["nextCursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return items,
        }
    }
}

/// What this machine's clock shows.
pub fn unix_seconds() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// Copies a folder with everything in it.
pub fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Waits until `condition` holds.
pub fn wait_until(what: &str, seconds: u64, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {seconds} s");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Below the ports that the system gives to connections, so that none of them is in the way when a process binds later.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// Successive ports that nobody listens on, and that no other test of this process gets.
pub fn free_ports(count: u16) -> Vec<u16> {
    static TAKEN: AtomicU16 = AtomicU16::new(0);
    // Processes of tests run side by side: each begins elsewhere.
    let begin = (std::process::id() % 211) as u16 * 100;
    for _ in 0..PORTS.len() {
        let offset =
            TAKEN.fetch_add(count, Ordering::Relaxed).wrapping_add(begin) % (PORTS.len() as u16 - count);
        let ports: Vec<u16> = (PORTS.start + offset..).take(count.into()).collect();
        if ports.iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()) {
            return ports;
        }
    }
    panic!("no {count} free ports");
}
