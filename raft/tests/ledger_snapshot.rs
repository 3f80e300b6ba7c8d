//! A replica that was away too long gets the ledger itself by snapshot: every row, hash, seal and index of it.

use cdr_core::command::{
    Append, ClockKind, Command, DraftsBuffer, Ingest, Ingested, Initialize, Reply, Source,
};
use cdr_core::personal::{Salt, SystemContent};
use cdr_core::row::{
    BillingIndicator, ChargeType, Direction, Draft, Drawn, Encoding, FinalState, Record, Sms, SystemKind,
};
use cdr_core::rules::SchemaVersion;
use cdr_core::state::{Operator, StreamRecord};
use cdr_core::time::HOUR_MS;
use cdr_core::{CdrId, Envelope, Hour, Millis, Money, Rejection, Uuid};
use cdr_raft::{Leadership, Node, NodeConfig, ProposeError};
use cdr_storage::{Depth, Store, StoreOptions};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

const START: Hour = Hour(493_525);
const ROWS_PER_BATCH: u64 = 20;
const PATIENCE: Duration = Duration::from_secs(60);

async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

struct Replica {
    id: u64,
    address: SocketAddr,
    running: Option<(Node, Store)>,
}

impl Replica {
    async fn start(&mut self, dir: &Path, peers: &BTreeMap<u64, String>) {
        let dir = dir.join(self.id.to_string());
        std::fs::create_dir_all(&dir).unwrap();
        let options = StoreOptions {
            dedup_filter_bytes: 1 << 20,
            write_buffer_bytes: 16 << 20,
            index_block_rows: 256,
            min_free_bytes: 0,
            ..StoreOptions::default()
        };
        // What a stopped replica was just doing holds its store for a moment longer; a process would take it along.
        let open = || match Store::open(&dir.join("store"), options.clone()) {
            Err(error) if error.to_string().contains("lock hold by current process") => None,
            opened => Some(opened.unwrap()),
        };
        let store = eventually("the store of before is let go", open).await;
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let now = Arc::new(|| START.start().0);
        let mut config = NodeConfig::new(self.id, "test", dir, self.address, peers.clone(), now);
        (config.heartbeat_ms, config.election_min_ms, config.election_max_ms) = (50, 300, 600);
        (config.snapshot_every_entries, config.log_keep_entries) = (20, 2);
        let node = Node::start_on(config, Arc::new(store.clone()), listener).await.unwrap();
        self.running = Some((node, store));
    }

    async fn stop(&mut self) {
        let (node, store) = self.running.take().unwrap();
        node.shutdown().await;
        drop((node, store));
    }

    fn node(&self) -> &Node {
        &self.running.as_ref().unwrap().0
    }

    fn store(&self) -> &Store {
        &self.running.as_ref().unwrap().1
    }
}

/// Three replicas of a ledger, and what is proposed to it next.
struct LedgerCluster {
    dir: tempfile::TempDir,
    peers: BTreeMap<u64, String>,
    replicas: Vec<Replica>,
    now: Millis,
    fenced: u64,
    position: u64,
    next_id: u64,
}

impl LedgerCluster {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut addresses = Vec::new();
        for _ in 0..3 {
            addresses.push(TcpListener::bind("127.0.0.1:0").await.unwrap());
        }
        let addresses: Vec<_> = addresses.into_iter().map(|l| l.local_addr().unwrap()).collect();
        let peers: BTreeMap<u64, String> = (1..).zip(addresses.iter().map(ToString::to_string)).collect();
        let mut replicas = Vec::new();
        for (id, address) in (1..).zip(addresses) {
            let mut replica = Replica { id, address, running: None };
            replica.start(dir.path(), &peers).await;
            replicas.push(replica);
        }
        replicas[0].node().initialize().await.unwrap();
        let now = Millis(START.start().0 + 1_000);
        let mut cluster = Self { dir, peers, replicas, now, fenced: 0, position: 0, next_id: 0 };
        cluster.begin().await;
        cluster
    }

    async fn leader(&self) -> &Replica {
        eventually("a leader", || {
            self.replicas
                .iter()
                .filter(|replica| replica.running.is_some())
                .find(|replica| matches!(&*replica.node().leadership().borrow(), Leadership::Leader { .. }))
        })
        .await
    }

    /// Proposes at whoever leads, with a fence before the first command of a term.
    async fn propose(&mut self, command: Command<'_>) -> Reply {
        loop {
            let node = self.leader().await.node().clone();
            let term = node.term();
            let entry = |command| {
                let bytes = Envelope::new(term, self.now, command).encode().unwrap();
                node.propose(bytes.into())
            };
            let command = if self.fenced == term { command.clone() } else { Command::Fence };
            match entry(command).await.map(|committed| committed.reply) {
                Ok(Reply::Fenced { .. }) => self.fenced = term,
                // An election in between.
                Ok(Reply::Rejected(Rejection::Fenced { .. })) | Err(ProposeError::NotLeader { .. }) => (),
                Ok(Reply::Rejected(rejection)) => panic!("{rejection}"),
                Ok(reply) => return reply,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn cdr_id(&mut self) -> CdrId {
        self.next_id += 1;
        let mut random = [0; 10];
        random[2..].copy_from_slice(&self.next_id.to_be_bytes());
        CdrId::from_parts(self.now.0, random)
    }

    fn system(&mut self, drafts: &mut DraftsBuffer, kind: SystemKind, body: &impl serde::Serialize) {
        let (cdr_id, content) = (self.cdr_id(), SystemContent::new(kind, body).unwrap());
        drafts
            .push(0, &content.draft(Drawn { version: SchemaVersion::V2, cdr_id, salt: Salt(cdr_id.0) }, "t"))
            .unwrap();
    }

    async fn begin(&mut self) {
        let mut drafts = DraftsBuffer::default();
        let operator = Operator {
            effective_from: START,
            operator_id: "AWCC".to_owned(),
            recording_entity: "4120101".to_owned(),
        };
        self.system(&mut drafts, SystemKind::Operator, &operator);
        let stream = StreamRecord {
            created: "2026-04-20T00:00:00Z".to_owned(),
            first_sequence: 1,
            reason: "first seen".to_owned(),
            stream: "DLR".to_owned(),
        };
        self.system(&mut drafts, SystemKind::Stream, &stream);
        self.propose(Command::Initialize(Initialize {
            cluster_id: "test",
            zone: "Asia/Kabul",
            clock: ClockKind::Replay,
            dedup_horizon_hours: 24,
            hash_key: [5; 16],
            rows: drafts.drafts(),
        }))
        .await;
    }

    /// A batch of the messages from `first_message` on; how many of them were known.
    async fn ingest(&mut self, first_message: u64) -> u64 {
        let mut drafts = DraftsBuffer::default();
        for offset in 0..ROWS_PER_BATCH {
            let mut message = [7; 16];
            message[8..].copy_from_slice(&(first_message + offset).to_be_bytes());
            let (cdr_id, called) = (self.cdr_id(), format!("+93701{:06}", first_message + offset));
            let record = Record::Sms(sms(Uuid(message), &called, self.now));
            let salt = Salt(cdr_id.0);
            let draft = Draft {
                version: SchemaVersion::V2,
                cdr_id,
                operator_id: "AWCC",
                trace_id: "t",
                salt,
                record,
            };
            drafts.push(offset as u32, &draft).unwrap();
        }
        let first = self.position + 1;
        self.position += ROWS_PER_BATCH;
        let ingest = Ingest {
            stream: "DLR",
            first,
            last: self.position,
            last_digest: [1; 32],
            ignored: 0,
            dead_lettered: 0,
            missing: 0,
            drafts: drafts.drafts(),
        };
        match self.propose(Command::Ingest(ingest)).await {
            Reply::Ingested(Ingested { duplicate, .. }) => duplicate,
            reply => panic!("{reply:?}"),
        }
    }

    /// Waits until all have applied the same, and compares what they hold.
    async fn converge(&self) {
        let index = self.leader().await.node().applied_index();
        for replica in &self.replicas {
            let what = format!("node {} applies {index}: {:?}", replica.id, replica.node().metrics());
            eventually(&what, || (replica.node().applied_index() >= index).then_some(())).await;
        }
        // One may already have applied what the others have not.
        let digest = |replica: &Replica| replica.store().state().digest().unwrap();
        let digests = || self.replicas.iter().map(digest).collect::<Vec<_>>();
        let equal = || digests().windows(2).all(|pair| pair[0] == pair[1]).then_some(());
        eventually("all replicas are equal", equal).await;
    }
}

fn sms(message_id: Uuid, called: &str, at: Millis) -> Sms<'_> {
    Sms {
        message_id,
        calling_party: "BANK",
        called_party: called,
        recording_entity: "4120101",
        service_center: "+93700000000",
        message_reference: "1",
        event_at: at,
        local_offset_minutes: 270,
        charge_amount: Money::parse("0.42"),
        charge_currency: Some("AFN"),
        tap_tariff_class: Some("A040"),
        tariff_version: Some("1"),
        charge_type: ChargeType::A2p,
        billing_indicator: BillingIndicator::Chargeable,
        direction: Direction::Mt,
        encoding: Encoding::Gsm7,
        final_state: FinalState::Delivered,
        segment_count: 1,
        ..Sms::BLANK
    }
}

/// Every row, page, tree, index and seal of the sealed hours, checked on the replica itself.
fn verify(store: &Store) -> u64 {
    let last = Hour(store.state().head.open_hour.0 - 1);
    let report = store.verify_range(START, last, None, Depth::Rows).unwrap();
    assert_eq!(report.faults, []);
    report.rows_checked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_that_was_away_too_long_gets_a_whole_ledger_and_goes_on_with_it() {
    let mut cluster = LedgerCluster::start().await;
    assert_eq!(cluster.ingest(0).await, 0);
    cluster.converge().await;
    let leader = cluster.leader().await.id;
    let away = cluster.replicas.iter().position(|replica| replica.id != leader).unwrap();
    let left_at = cluster.replicas[away].node().applied_index();
    cluster.replicas[away].stop().await;

    let mut messages = ROWS_PER_BATCH;
    for _ in 0..4 {
        for _ in 0..20 {
            assert_eq!(cluster.ingest(messages).await, 0);
            messages += ROWS_PER_BATCH;
        }
        let mut drafts = DraftsBuffer::default();
        cluster.system(&mut drafts, SystemKind::Audit, &BTreeMap::from([("act", "LOGIN")]));
        cluster.propose(Command::Append(Append { source: Source::Api, drafts: drafts.drafts() })).await;
        cluster.now.0 += HOUR_MS;
        cluster.propose(Command::Seal).await;
    }
    let node = cluster.leader().await.node().clone();
    eventually("what the replica lacks is purged", || {
        (node.metrics().purged_index > left_at + 1).then_some(())
    })
    .await;

    let (dir, peers) = (cluster.dir.path().to_owned(), cluster.peers.clone());
    cluster.replicas[away].start(&dir, &peers).await;
    cluster.converge().await;
    let back = &cluster.replicas[away];
    // A log is purged some time after its snapshot is installed.
    eventually("its log begins behind a snapshot", || {
        (back.node().metrics().purged_index > left_at).then_some(())
    })
    .await;
    let rows = verify(back.store());
    // 81 batches, two rows of the beginning, four of requests.
    assert_eq!(rows, messages + 2 + 4);

    // What came by snapshot decides what is a duplicate, after a restart as well.
    for _ in 0..2 {
        assert_eq!(cluster.ingest(messages - ROWS_PER_BATCH / 2).await, ROWS_PER_BATCH / 2);
        messages += ROWS_PER_BATCH / 2;
        cluster.now.0 += HOUR_MS;
        cluster.propose(Command::Seal).await;
        cluster.converge().await;
        assert_eq!(verify(cluster.replicas[away].store()), messages + 2 + 4);
        cluster.replicas[away].stop().await;
        cluster.replicas[away].start(&dir, &peers).await;
    }
    let target = cluster.replicas[away].id;
    let leader = cluster.leader().await.node().clone();
    if leader.node_id() != target {
        cluster.converge().await;
        leader.transfer_leader(target).await.unwrap();
        eventually("the replica leads", || {
            let leadership = cluster.replicas[away].node().leadership();
            let leads = matches!(&*leadership.borrow(), Leadership::Leader { .. });
            leads.then_some(())
        })
        .await;
    }
    assert_eq!(cluster.ingest(0).await, ROWS_PER_BATCH, "it knows what it never saw in its own log");
    cluster.converge().await;
}

/// Flips a bit in the first block of the largest table of a replica's snapshot, which is its store's table too.
fn damage(dir: &Path) -> PathBuf {
    let snapshots = std::fs::read_dir(dir.join("snapshots")).unwrap().map(|entry| entry.unwrap().path());
    let snapshot = snapshots.filter(|path| path.is_dir()).max().unwrap();
    let tables = std::fs::read_dir(snapshot).unwrap().map(|entry| entry.unwrap().path());
    let tables = tables.filter(|path| path.extension().is_some_and(|extension| extension == "sst"));
    let table = tables.max_by_key(|path| std::fs::metadata(path).unwrap().len()).unwrap();
    let file = std::fs::File::options().read(true).write(true).open(&table).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 10).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(&[byte[0] ^ 1], 10).unwrap();
    // A disk that flips it changes no time.
    file.set_modified(modified).unwrap();
    table
}

/// A flipped bit in a table is found before a snapshot of it is sent. That replica stops, and another one sends what is
/// whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_damaged_snapshot_stops_its_owner_and_reaches_nobody() {
    let mut cluster = LedgerCluster::start().await;
    cluster.ingest(0).await;
    cluster.converge().await;
    let leader = cluster.leader().await.id;
    let away = cluster.replicas.iter().position(|replica| replica.id != leader).unwrap();
    let left_at = cluster.replicas[away].node().applied_index();
    cluster.replicas[away].stop().await;
    for batch in 1..=80 {
        cluster.ingest(batch * ROWS_PER_BATCH).await;
    }
    let purged = |replica: &Replica| replica.node().metrics().purged_index > left_at + 1;
    for replica in cluster.replicas.iter().filter(|replica| replica.running.is_some()) {
        eventually("what the replica lacks is purged", || purged(replica).then_some(())).await;
    }
    let damaged = cluster.leader().await.id;
    let table = damage(&cluster.dir.path().join(damaged.to_string()));

    let (dir, peers) = (cluster.dir.path().to_owned(), cluster.peers.clone());
    cluster.replicas[away].start(&dir, &peers).await;
    let leadership = cluster.replicas[damaged as usize - 1].node().leadership();
    let reason = eventually("its owner stops", || match &*leadership.borrow() {
        Leadership::Stopped { reason } => Some(reason.clone()),
        _ => None,
    })
    .await;
    let name = table.file_name().unwrap().to_str().unwrap();
    assert!(reason.contains(name) && reason.contains("damaged"), "{reason}");

    let next = cluster.leader().await;
    assert_ne!(next.id, damaged);
    let index = next.node().applied_index();
    let back = &cluster.replicas[away];
    let what = format!("the replica is back: {:?}", back.node().metrics());
    eventually(&what, || (back.node().applied_index() >= index).then_some(())).await;
    cluster.now.0 += HOUR_MS;
    cluster.propose(Command::Seal).await;
    let sealed = cluster.leader().await.node().applied_index();
    let back = &cluster.replicas[away];
    eventually("the seal", || (back.node().applied_index() >= sealed).then_some(())).await;
    assert_eq!(verify(back.store()), 81 * ROWS_PER_BATCH + 2);
}

/// A table that was damaged before a snapshot had it is found when the first one is made.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_damaged_table_gets_into_no_snapshot() {
    let mut cluster = LedgerCluster::start().await;
    cluster.ingest(0).await;
    cluster.converge().await;
    let leader = cluster.leader().await;
    let (node, store) = (leader.node().clone(), leader.store().clone());
    store.flush().unwrap();
    let ledger = cluster.dir.path().join(leader.id.to_string()).join("store/ledger-1");
    let tables = std::fs::read_dir(ledger).unwrap().map(|entry| entry.unwrap().path());
    let tables = tables.filter(|path| path.extension().is_some_and(|extension| extension == "sst"));
    let table = tables.max_by_key(|path| std::fs::metadata(path).unwrap().len()).unwrap();
    let file = std::fs::File::options().write(true).open(&table).unwrap();
    file.write_all_at(&[0xff; 8], 10).unwrap();
    node.trigger_snapshot().await.unwrap();
    let reason = eventually("it stops", || node.failure()).await;
    let name = table.file_name().unwrap().to_str().unwrap();
    assert!(reason.contains("a snapshot cannot be made") && reason.contains(name), "{reason}");
}
