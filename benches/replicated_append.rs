//! Rate and latency of replicated, fsynced appends of rated CDRs with all indexes: three replica processes on
//! this machine, real Raft over loopback and mutual TLS, the product's own command, apply and storage path.
//!
//! `cargo bench --bench replicated_append -- [--seconds 6] [--batches 1,100,500,1000] [--in-flight 1,8] [--dir DIR]
//! [--plain]`
//! prints a table: batch size, proposals in flight, CDR/s, commit latency p50/p95/p99, bytes that the three
//! processes wrote to disk per CDR, CPU time that they took per CDR, and the largest resident size of a replica. With
//! `--plain` the replicas talk in plain text: the difference is what TLS costs, best seen in CPU time where others use
//! the machine, too.

mod common;

use anyhow::{Context, bail};
use cdr_core::Millis;
use cdr_core::command::Reply;
use cdr_mediation::tls::ReplicaFiles;
use cdr_raft::{Committed, Leadership, Node, NodeConfig, ProposeError};
use cdr_storage::{Store, StoreOptions};
use common::load::Load;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command as Process, Stdio};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| {
        arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1)).map(String::as_str)
    };
    match value("--replica") {
        Some(id) => replica(
            id.parse()?,
            value("--ports").unwrap_or_default(),
            Path::new(value("--dir").unwrap_or(".")),
            value("--certificates").map(Path::new),
        ),
        None => coordinate(
            value("--seconds").unwrap_or("6").parse()?,
            value("--batches").unwrap_or("1,100,500,1000"),
            value("--in-flight").unwrap_or("1,8"),
            &value("--dir").map_or_else(|| std::env::temp_dir().join("cdr-replicated-append"), PathBuf::from),
            arguments.iter().any(|argument| argument == "--plain"),
        ),
    }
}

/// Starts three replica processes, lets the leader run each case, prints the table.
fn coordinate(seconds: f64, batches: &str, in_flights: &str, dir: &Path, plain: bool) -> anyhow::Result<()> {
    let _ = std::fs::remove_dir_all(dir);
    std::fs::create_dir_all(dir)?;
    let certificates = dir.join("certificates");
    if !plain {
        certify(&certificates)?;
    }
    let certificates = (!plain).then_some(certificates.as_path());
    println!("between the replicas: {}", if plain { "plain text" } else { "mutual TLS" });
    let ports: Vec<String> = (0..3)
        .map(|_| TcpListener::bind("127.0.0.1:0")?.local_addr().map(|a| a.port().to_string()))
        .collect::<Result<_, _>>()?;
    let mut replicas: Vec<Replica> = (1..=3)
        .map(|id| Replica::start(id, &ports.join(","), dir, certificates))
        .collect::<anyhow::Result<_>>()?;
    let leader = loop {
        std::thread::sleep(Duration::from_millis(300));
        let mut found = None;
        for (i, replica) in replicas.iter_mut().enumerate() {
            if replica.ask("leader?")? == "yes" {
                found = Some(i);
            }
        }
        if let Some(leader) = found {
            break leader;
        }
    };
    replicas[leader].ask("begin")?;
    println!(
        "{:>6} {:>9} {:>10} {:>9} {:>9} {:>9} {:>11} {:>10} {:>9}",
        "batch", "in flight", "CDR/s", "p50 ms", "p95 ms", "p99 ms", "bytes/CDR", "CPU us/CDR", "RSS MiB"
    );
    for batch in batches.split(',') {
        for in_flight in in_flights.split(',') {
            let (before, cpu_before) = (written(&replicas), cpu_us(&replicas)?);
            let line = replicas[leader].ask(&format!("run {batch} {in_flight} {seconds}"))?;
            let fields: Vec<&str> = line.split(' ').collect();
            let [rows, rate, p50, p95, p99] = fields[..] else { bail!("the leader answered {line:?}") };
            let rows: f64 = rows.parse()?;
            let bytes = (written(&replicas) - before) as f64 / rows;
            let cpu = (cpu_us(&replicas)? - cpu_before) as f64 / rows;
            let rss = replicas.iter().map(Replica::resident_mib).max().unwrap_or(0);
            println!(
                "{batch:>6} {in_flight:>9} {rate:>10} {p50:>9} {p95:>9} {p99:>9} {bytes:>11.0} {cpu:>10.2} {rss:>9}"
            );
        }
    }
    let heads: Vec<String> = replicas.iter_mut().map(|r| r.ask("head")).collect::<Result<_, _>>()?;
    if heads.iter().any(|head| *head != heads[0]) {
        bail!("the replicas differ: {heads:?}");
    }
    println!("replicas agree: {}", heads[0]);
    drop(replicas);
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

/// Makes an authority and a certificate for each replica.
fn certify(dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    std::fs::write(dir.join("ca.pem"), params.self_signed(&key)?.pem())?;
    let authority = Issuer::new(params, key);
    for id in 1..=3 {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(vec![format!("node-{id}.bench")])?;
        std::fs::write(dir.join(format!("{id}.pem")), params.signed_by(&key, &authority)?.pem())?;
        let mut file = std::fs::OpenOptions::new();
        let mut file = file.write(true).create(true).truncate(true).mode(0o600).open(key_file(dir, id))?;
        file.write_all(key.serialize_pem().as_bytes())?;
    }
    Ok(())
}

fn key_file(certificates: &Path, id: u64) -> PathBuf {
    certificates.join(format!("{id}.key"))
}

struct Replica {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Replica {
    fn start(id: u64, ports: &str, dir: &Path, certificates: Option<&Path>) -> anyhow::Result<Self> {
        let mut process = Process::new(std::env::current_exe()?);
        process.args(["--replica", &id.to_string(), "--ports", ports, "--dir"]).arg(dir.join(id.to_string()));
        if let Some(certificates) = certificates {
            process.arg("--certificates").arg(certificates);
        }
        let mut child = process.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().context("no pipe to the replica")?;
        let output = BufReader::new(child.stdout.take().context("no pipe from the replica")?);
        Ok(Self { child, input, output })
    }

    fn ask(&mut self, question: &str) -> anyhow::Result<String> {
        writeln!(self.input, "{question}")?;
        let mut answer = String::new();
        if self.output.read_line(&mut answer)? == 0 {
            bail!("a replica ended");
        }
        Ok(answer.trim().to_owned())
    }

    fn proc(&self, file: &str, key: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
        line.split_ascii_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
    }

    /// CPU time that the process and the kernel on its behalf have used, in microseconds.
    fn cpu_us(&self) -> anyhow::Result<u64> {
        // Linux gives it in hundredths of a second, behind the name in parentheses.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let (_, fields) = stat.rsplit_once(')').context("no name in the process's figures")?;
        let ticks = fields.split_ascii_whitespace().skip(11).take(2).map(str::parse::<u64>);
        Ok(ticks.sum::<Result<u64, _>>()? * 10_000)
    }

    fn resident_mib(&self) -> u64 {
        self.proc("status", "VmHWM:") >> 10
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn written(replicas: &[Replica]) -> u64 {
    replicas.iter().map(|replica| replica.proc("io", "write_bytes:")).sum()
}

fn cpu_us(replicas: &[Replica]) -> anyhow::Result<u64> {
    replicas.iter().map(Replica::cpu_us).sum()
}

fn now() -> Millis {
    Millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64)
}

/// One replica process: answers the coordinator's questions, line by line.
fn replica(id: u64, ports: &str, dir: &Path, certificates: Option<&Path>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    std::fs::create_dir_all(dir)?;
    let store = Store::open(&dir.join("store"), StoreOptions::default())?;
    let peers: BTreeMap<u64, String> =
        (1..).zip(ports.split(',')).map(|(id, p)| (id, format!("127.0.0.1:{p}"))).collect();
    let listen = peers[&id].parse()?;
    let mut config = NodeConfig::new(id, "bench", dir, listen, peers, Arc::new(|| now().0));
    config.max_in_flight = 16;
    if let Some(dir) = certificates {
        let (ca, cert) = (dir.join("ca.pem"), dir.join(format!("{id}.pem")));
        let files = ReplicaFiles { ca, cert, key: key_file(dir, id) };
        config.credentials = Some(Arc::new(files.read()?));
    }
    let node = runtime.block_on(Node::start(config, Arc::new(store.clone())))?;
    if id == 1 {
        runtime.block_on(node.initialize())?;
    }
    let mut load = Load::new(id);
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words[..] {
            ["leader?"] => match *node.leadership().borrow() {
                Leadership::Leader { .. } => "yes".to_owned(),
                _ => "no".to_owned(),
            },
            ["begin"] => runtime.block_on(begin(&node, &mut load))?,
            ["run", batch, in_flight, seconds] => runtime.block_on(run(
                &node,
                &mut load,
                batch.parse()?,
                in_flight.parse()?,
                seconds.parse()?,
            ))?,
            ["head"] => {
                runtime.block_on(node.read_barrier())?;
                let state = store.state();
                format!("{} rows, state {}", state.head.row_count, cdr_core::hash::to_hex(&state.digest()?))
            }
            _ => bail!("unknown question {line:?}"),
        };
        println!("{answer}");
    }
    Ok(())
}

/// Begins the ledger.
async fn begin(node: &Node, load: &mut Load) -> anyhow::Result<String> {
    load.term = node.term();
    for entry in load.begin(now())? {
        if let Reply::Rejected(rejection) = node.propose(entry).await?.reply {
            bail!("the ledger did not begin: {rejection}")
        }
    }
    Ok("begun".to_owned())
}

/// A proposal and when it was made.
type Proposal = BoxFuture<'static, (Result<Committed, ProposeError>, Instant)>;

/// Keeps batches in flight as the ingest does, and measures from proposal to commit.
async fn run(
    node: &Node,
    load: &mut Load,
    rows: u64,
    in_flight: usize,
    seconds: f64,
) -> anyhow::Result<String> {
    let (started, limit) = (Instant::now(), Duration::from_secs_f64(seconds));
    let mut latencies = Vec::new();
    let mut pending = FuturesOrdered::new();
    let mut done = 0;
    loop {
        while pending.len() < in_flight && started.elapsed() < limit {
            let entry = load.batch(rows, now())?;
            let (node, at) = (node.clone(), Instant::now());
            let mut proposal: Proposal = Box::pin(async move { (node.propose(entry).await, at) });
            // The first poll puts the entry into Raft's queue, in order.
            match futures::poll!(&mut proposal) {
                Poll::Ready(outcome) => pending.push_back(Box::pin(std::future::ready(outcome)) as Proposal),
                Poll::Pending => pending.push_back(proposal),
            }
        }
        let Some((outcome, at)) = pending.next().await else { break };
        match outcome?.reply {
            Reply::Ingested(ingested) if ingested.appended == rows => done += rows,
            reply => bail!("a batch was not appended: {reply:?}"),
        }
        latencies.push(at.elapsed().as_secs_f64() * 1e3);
    }
    let elapsed = started.elapsed().as_secs_f64();
    latencies.sort_by(f64::total_cmp);
    let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
    Ok(format!("{done} {:.0} {:.2} {:.2} {:.2}", done as f64 / elapsed, at(0.5), at(0.95), at(0.99)))
}
