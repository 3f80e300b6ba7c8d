//! The settlement of a whole day by three replica processes: from the first file that is opened to the last of seven
//! operators that is encoded, traced, signed and dropped. The day's hours are sealed, its events published, and the
//! replicas at rest, before their clocks are set to when the files are due.
//!
//! `cargo bench --profile release --bench settlement` does so with a day of 1 million receipts; `-- --records 100000`
//! with one of that many. Then a follower, which has none of the files, makes them once more, and they are compared.
//! Memory is the leader's, or that follower's, above what it had at rest (aim: under 256 MiB).
#![allow(missing_docs, clippy::unwrap_used)]

use cdr_bus::{JetStream, NatsOptions, PublishOptions, publish_file};
use cdr_core::Millis;
use cdr_mediation::events::signing_key::SigningKey;
use cdr_mediation::generate::{GenerateOptions, generate};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use testkit::cluster::{ClockOffset, Cluster};
use testkit::nats::NatsServer;
use testkit::wait_until;

const OPERATORS: usize = 7;
const DAY: i64 = 86_400;
/// 23:20 in Kabul: receipts are taken in.
const OPENED_AT: i64 = 18 * 3_600 + 50 * 60;
/// A second after 00:30 in Kabul: files are due.
const DUE_AT: i64 = 20 * 3_600 + 1;
const SCHEMAS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tap-schemas");

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let asked = arguments.iter().position(|argument| argument == "--records").map(|at| &arguments[at + 1]);
    let records = asked.map_or(1_000_000, |records| records.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let nats = NatsServer::start();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let day = (now - OPENED_AT + DAY).div_euclid(DAY) * DAY;
    let mut cluster = start(dir.path(), &nats, ClockOffset(day + OPENED_AT - now));
    take_in(&cluster, &nats, &Millis((day - DAY) * 1_000).to_string()[..10], records);

    let before = [1, 2, 3].map(|id| Process::at_rest(&cluster, id));
    (1..=3).for_each(|id| cluster.set_clock(id, ClockOffset(day + DUE_AT - now)));
    while exports(&cluster, 1).is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let begun = Instant::now();
    // The one before may have given up when its clock jumped.
    let leader = cluster.leader();
    let files = loop {
        let files = exports(&cluster, leader);
        let delivered = |file: &Value| file["deliveryStatus"] == "DELIVERED_DIRECTORY";
        if files.len() == OPERATORS && files.iter().all(delivered) {
            break files;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let took = begun.elapsed();
    let sum = |field: &str| files.iter().map(|file| file[field].as_u64().unwrap()).sum::<u64>();
    let listed = sum("recordsIncluded");
    let bytes: u64 = dropped(dir.path()).map(|file| file.metadata().unwrap().len()).sum();
    println!(
        "{listed} records in {OPERATORS} files, {} in quarantine, {} MiB with traces",
        sum("quarantinedCount"),
        bytes >> 20
    );
    before[leader - 1].compare(&cluster, "encoded, traced, signed, dropped", listed, took);
    once_more(&cluster, leader % 3 + 1, &files, dir.path());
}

/// Three replicas that publish events, and drop files into a directory.
fn start(dir: &Path, nats: &NatsServer, clock: ClockOffset) -> Cluster {
    let (key, drop) = (dir.join("events.pem"), dir.join("drop"));
    SigningKey::load_or_create(&key).unwrap();
    fs::create_dir(&drop).unwrap();
    let mut cluster = Cluster::prepare_with_movable_clocks(dir, &nats.url(), clock);
    let sections = format!(
        "[events]\nsigning_key_file = \"{}\"\nreplicas = 1\n\
         [export]\nschema_dir = \"{SCHEMAS}\"\nschema_variant = \"atra-tap-v2\"\nexchange_rates = {{ USD = \"70.25\" }}\n\
         [delivery]\nkind = \"directory\"\ndirectory_path = \"{}\"\n",
        key.display(),
        drop.display()
    );
    cluster.edit_configuration(|text| text.replace("[events]\nenabled = false\n", "") + &sections);
    (1..=3).for_each(|id| cluster.restart(id));
    cluster.leader();
    cluster
}

/// Publishes a day's receipts, and waits until everything is recorded and told.
fn take_in(cluster: &Cluster, nats: &NatsServer, day: &str, records: u64) {
    let mut text = Vec::new();
    generate(&GenerateOptions::new(day, records, 1).unwrap(), &mut text).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let published = runtime.block_on(async {
        let bus = JetStream::connect(NatsOptions::new(nats.url())).await.unwrap();
        publish_file(&bus, &text[..], &PublishOptions::default(), |_| ()).await.unwrap().published
    });
    let position = "cdr_stream_position{stream=\"SMS_DLR_INBOUND\"}";
    let all = |name: &str, value: f64| (1..=3).all(|id| cluster.metric(id, name) == Some(value));
    wait_until("records", 600, || all(position, published as f64));
    wait_until("events", 600, || all("cdr_outbox_backlog_seconds", 0.0));
}

/// A follower makes the files.
fn once_more(cluster: &Cluster, follower: usize, files: &[Value], dir: &Path) {
    let before = Process::at_rest(cluster, follower);
    let (mut took, mut listed) = (Duration::ZERO, 0);
    for file in files {
        let begun = Instant::now();
        let made = cluster.bytes(
            follower,
            &format!("/v1/cdr/exports/{}/file?consistency=stale", file["exportId"].as_str().unwrap()),
        );
        took += begun.elapsed();
        listed += file["recordsIncluded"].as_u64().unwrap();
        assert!(made == fs::read(dir.join("drop").join(file["filename"].as_str().unwrap())).unwrap());
    }
    before.compare(cluster, "made by a follower", listed, took);
}

fn exports(cluster: &Cluster, id: usize) -> Vec<Value> {
    cluster.get_ok(id, "/v1/cdr/exports?limit=500")["items"].as_array().unwrap().clone()
}

fn dropped(dir: &Path) -> impl Iterator<Item = fs::DirEntry> {
    fs::read_dir(dir.join("drop")).unwrap().map(Result::unwrap)
}

/// What the process of a replica has used.
struct Process {
    replica: usize,
    cpu_seconds: f64,
    resident_mib: i64,
    peak_mib: i64,
}

impl Process {
    /// Waits until the replica does next to nothing. From then on its peak is counted anew.
    fn at_rest(cluster: &Cluster, replica: usize) -> Self {
        let mut last = Self::now(cluster, replica);
        loop {
            std::thread::sleep(Duration::from_secs(2));
            let now = Self::now(cluster, replica);
            if now.cpu_seconds - last.cpu_seconds < 0.2 {
                fs::write(format!("/proc/{}/clear_refs", cluster.process_id(replica)), "5").unwrap();
                return now;
            }
            last = now;
        }
    }

    fn now(cluster: &Cluster, replica: usize) -> Self {
        let process = cluster.process_id(replica);
        let read = |name: &str| fs::read_to_string(format!("/proc/{process}/{name}")).unwrap();
        let status = read("status");
        let mib = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse::<i64>().unwrap() / 1024
        };
        let stat = read("stat");
        let numbers: Vec<&str> = stat.rsplit(") ").next().unwrap().split_whitespace().collect();
        // User and system time of all threads, in hundredths of a second.
        let ticks = |at: usize| numbers[at].parse::<f64>().unwrap();
        let cpu_seconds = (ticks(11) + ticks(12)) / 100.0;
        Self { replica, cpu_seconds, resident_mib: mib("VmRSS:"), peak_mib: mib("VmHWM:") }
    }

    /// Prints what it took to get from here to where the process is now.
    fn compare(&self, cluster: &Cluster, what: &str, records: u64, took: Duration) {
        let now = Self::now(cluster, self.replica);
        println!(
            "{what}: {:.2} s, {:.0} records/s, {:.1} s of CPU time; at most {} MiB above {} MiB",
            took.as_secs_f64(),
            records as f64 / took.as_secs_f64(),
            now.cpu_seconds - self.cpu_seconds,
            now.peak_mib - self.resident_mib,
            self.resident_mib
        );
    }
}
