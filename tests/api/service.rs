//! One replica with a small, known ledger, served over HTTP on loopback.

use cdr_core::command::{
    Bill, ClockKind, Command, DraftsBuffer, Envelope, Ingest, Initialize, Reconcile, Reply, SignSeal, Source,
};
use cdr_core::hash::sha256;
use cdr_core::personal::{Salt, SystemContent};
use cdr_core::row::{
    BillingIndicator, ChargeType, Direction, Draft, Drawn, Encoding, FinalState, Record, Sms, SystemKind,
};
use cdr_core::rules::SchemaVersion;
use cdr_core::seal::signed_message;
use cdr_core::state::{Operator, StreamRecord};
use cdr_core::{CdrId, Hour, Millis, Money, Row, Uuid};
use cdr_mediation::acts::{Desk, OpenDesk};
use cdr_mediation::api::{self, Doors, Ledger};
use cdr_mediation::auth::Authenticator;
use cdr_mediation::auth::dev::{AUDIENCE, DevIssuer, ISSUER};
use cdr_mediation::clock::Clock;
use cdr_mediation::config::Config;
use cdr_mediation::export::{SchemaVariant, Schemas, SeriesSettings, Trial, TrialReturn};
use cdr_mediation::metrics::Metrics;
use cdr_mediation::proposer::Proposer;
use cdr_mediation::signer::{DevKey, DevRoot, Signer};
use cdr_mediation::workers::Integrity;
use cdr_raft::{Leadership, Node, NodeConfig};
use cdr_storage::{Store, StoreOptions};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

/// First, sealed hour.
pub const SEALED: &str = "2026-04-20T13:00:00Z";
/// Second hour: sealed without any CDR.
pub const EMPTY: &str = "2026-04-20T14:00:00Z";
/// Third hour: open.
pub const OPEN: &str = "2026-04-20T15:00:00Z";
/// CDRs of the first hour; every seventh is of `ETS`, the rest of `AWCC`.
pub const RECORDS: u64 = 620;
/// A message that only billing knows.
const UNKNOWN: u64 = 900_000;
/// CDRs of the third hour.
pub const OPEN_RECORDS: u64 = 3;
/// Tenant of every record with an even number.
pub const TENANT: Uuid = Uuid([0x11; 16]);

const STREAM: &str = "SMS_DLR_INBOUND";
const CLUSTER: &str = "test";

/// How far one answer goes.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Rows of one query of the store.
    pub query_scan_rows: usize,
    /// Time of one list of records; with 0 it is one query.
    pub scan_budget_ms: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { query_scan_rows: 50_000, scan_budget_ms: 2_000 }
    }
}

/// A replica and what a client needs to talk to it.
pub struct Service {
    pub dir: TempDir,
    pub issuer: DevIssuer,
    pub root_public_key: [u8; 32],
    runtime: Runtime,
    replica: Started,
    /// As long as it is there, the replica performs acts.
    desk: Option<OpenDesk>,
    agent: ureq::Agent,
}

/// A replica that runs.
pub struct Started {
    pub node: Node,
    pub store: Store,
    pub clock: Clock,
    pub desk: Desk,
    pub metrics: Arc<Metrics>,
    pub api: SocketAddr,
}

impl Started {
    /// Performs acts in the name of the term in which this replica leads.
    pub async fn open_desk(&self) -> OpenDesk {
        let (node, store, clock) = (self.node.clone(), self.store.clone(), self.clock.clone());
        let proposer = Proposer::new(node, store, clock, self.node.term(), 1_000);
        proposer.propose(Command::Fence).await.unwrap();
        self.desk.open(proposer)
    }
}

/// An answer: status, headers by lower-case name, JSON body (null for other bodies).
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: BTreeMap<String, String>,
    pub text: String,
    pub body: Value,
}

impl Answer {
    pub fn code(&self) -> &str {
        self.body["error"]["code"].as_str().unwrap_or_default()
    }

    pub fn field(&self) -> &str {
        self.body["error"]["details"]["field"].as_str().unwrap_or_default()
    }

    pub fn items(&self) -> &Vec<Value> {
        self.body["items"].as_array().unwrap_or_else(|| panic!("no list: {self:?}"))
    }
}

impl Service {
    /// A replica whose ledger is filled as the constants above say.
    pub fn build() -> Self {
        Self::build_bounded(Bounds::default())
    }

    /// The same, with answers that end early.
    pub fn build_bounded(bounds: Bounds) -> Self {
        let service = Self::open_bounded(tempfile::tempdir().unwrap(), bounds);
        service.runtime.block_on(fill(&service.replica.node, &service.replica.store, service.dir.path()));
        service
    }

    /// A replica on what lies in `dir`.
    pub fn open(dir: TempDir) -> Self {
        Self::open_bounded(dir, Bounds::default())
    }

    fn open_bounded(dir: TempDir, bounds: Bounds) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let issuer = DevIssuer::load_or_create(dir.path()).unwrap();
        let root = DevRoot::load_or_create(&dir.path().join("root.key")).unwrap();
        let root_public_key = cdr_core::proof::parse_public_key(&root.public_key_hex()).unwrap();
        let replica = runtime.block_on(serve(dir.path(), &issuer, bounds));
        let desk = Some(runtime.block_on(replica.open_desk()));
        let agent = agent();
        Self { dir, issuer, root_public_key, runtime, replica, desk, agent }
    }

    /// Stops the replica and gives its directory back.
    pub fn close(self) -> TempDir {
        self.runtime.block_on(self.replica.node.shutdown());
        self.replica.store.flush().unwrap();
        let Self { dir, runtime, replica, desk, .. } = self;
        drop((replica, desk));
        runtime.shutdown_timeout(Duration::from_secs(10));
        dir
    }

    /// Performs no acts any more.
    pub fn close_desk(&mut self) {
        self.desk = None;
    }

    /// How the signer is.
    pub fn signer(&self, outcome: Result<(), String>) {
        self.replica.metrics.dependency("signer", outcome);
    }

    /// The replica's store.
    pub fn store(&self) -> &Store {
        &self.replica.store
    }

    /// Ends the open hour, as a timer would an hour later.
    pub fn pass_hours(&self, hours: i64) {
        let clock = &self.replica.clock;
        clock.observe(Millis(clock.now().0 + hours * 3_600_000));
        self.runtime.block_on(propose(&self.replica.node, clock.now(), Command::Seal));
    }

    /// Lets the leader's nightly verification run until it has added `rows` rows or, without any, for `at_most`; what it
    /// counted.
    pub fn verify_nights(&self, rows_per_second: u64, rows: u64, at_most: Duration) -> String {
        let Started { node, store, clock, desk, .. } = &self.replica;
        let (term, metrics) = (node.term(), Arc::new(Metrics::new().unwrap()));
        let proposer = Proposer::new(node.clone(), store.clone(), clock.clone(), term, 1_000);
        let at = jiff::civil::time(3, 30, 0, 0);
        let integrity = Integrity { at, rows_per_second, desk: desk.clone(), metrics: metrics.clone() };
        let enough = store.state().head.row_count + rows;
        let added = async {
            while rows == 0 || store.state().head.row_count < enough {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        self.runtime.block_on(async {
            tokio::select! {
                () = added => (),
                outcome = integrity.run(&proposer) => panic!("{outcome:?}"),
                () = tokio::time::sleep(at_most) => assert_eq!(rows, 0, "it took too long"),
            }
        });
        metrics.render(clock.now(), &store.state(), &node.metrics(), &store.metrics()).unwrap()
    }

    /// Appends a system row, as a worker would; its id.
    pub fn append(&self, kind: SystemKind, body: &Value) -> CdrId {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut random = [0; 10];
        random[2..].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        let now = self.replica.clock.now();
        let cdr_id = CdrId::from_parts(now.0, random);
        let content = SystemContent::new(kind, body).unwrap();
        let mut drafts = DraftsBuffer::default();
        drafts
            .push(
                0,
                &content.draft(Drawn { version: SchemaVersion::V2, cdr_id, salt: Salt(cdr_id.0) }, "worker"),
            )
            .unwrap();
        let append = cdr_core::command::Append { source: Source::Internal, drafts: drafts.drafts() };
        self.runtime.block_on(propose(&self.replica.node, now, Command::Append(append)));
        cdr_id
    }

    /// A token with these scopes.
    pub fn token(&self, scopes: &[&str]) -> String {
        self.issuer.token("tester", scopes, 600).unwrap()
    }

    /// GET with the headers given.
    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        let mut request = self.agent.get(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(request.call())
    }

    /// GET with every right to read.
    pub fn get(&self, path: &str) -> Answer {
        self.get_as(path, &["cdr:read", "cdr:pii"])
    }

    /// GET with these scopes.
    pub fn get_as(&self, path: &str, scopes: &[&str]) -> Answer {
        self.get_with(path, &[("Authorization", &format!("Bearer {}", self.token(scopes)))])
    }

    /// POST with the headers given.
    pub fn post_with(&self, path: &str, body: &[u8], headers: &[(&str, &str)]) -> Answer {
        let mut request = self.agent.post(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(request.send(body))
    }

    /// POST with these scopes.
    pub fn post_as(&self, path: &str, body: &[u8], scopes: &[&str]) -> Answer {
        self.post_with(path, body, &[("Authorization", &format!("Bearer {}", self.token(scopes)))])
    }

    /// POST with every right to verify.
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_as(path, body.to_string().as_bytes(), &["cdr:read", "cdr:verify"])
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.replica.api)
    }
}

/// A client that takes every status for an answer.
pub fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(60)))
        .build()
        .new_agent()
}

/// What was answered.
pub fn read(outcome: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Answer {
    let mut response = outcome.unwrap();
    let headers = response.headers().iter();
    let headers =
        headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    let text = response.body_mut().with_config().limit(64 << 20).read_to_string().unwrap();
    let body = serde_json::from_str(&text).unwrap_or_default();
    Answer { status: response.status().as_u16(), headers, text, body }
}

async fn serve(dir: &Path, issuer: &DevIssuer, bounds: Bounds) -> Started {
    let raft = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peers = BTreeMap::from([(1, raft.local_addr().unwrap().to_string())]);
    let replica = start_replica(dir, issuer, 1, raft, peers, bounds).await;
    replica.node.initialize().await.unwrap();
    let mut leadership = replica.node.leadership();
    let led = leadership.wait_for(|state| !matches!(state, Leadership::Follower { .. }));
    let state = tokio::time::timeout(Duration::from_secs(20), led).await.unwrap().unwrap().clone();
    assert!(matches!(state, Leadership::Leader { .. }), "{state:?}");
    replica
}

/// One replica with its API.
pub async fn start_replica(
    dir: &Path,
    issuer: &DevIssuer,
    id: u64,
    raft: TcpListener,
    peers: BTreeMap<u64, String>,
    bounds: Bounds,
) -> Started {
    let options = StoreOptions {
        dedup_filter_bytes: 1 << 20,
        write_buffer_bytes: 16 << 20,
        block_cache_bytes: 8 << 20,
        min_free_bytes: 0,
        // Small enough that most rows leave the part of the index that is rebuilt from rows at every start.
        index_block_rows: 64,
        query_scan_rows: bounds.query_scan_rows,
        ..StoreOptions::default()
    };
    let store = Store::open(&dir.join("store"), options).unwrap();
    let address = raft.local_addr().unwrap();
    let clock = Clock::replay(millis(OPEN, 1_000));
    let node_clock = clock.clone();
    let now = Arc::new(move || node_clock.now().0);
    let mut node_config = NodeConfig::new(id, CLUSTER, dir.join("raft"), address, peers.clone(), now);
    node_config.read_timeout_ms = 1_500;
    let node = Node::start_on(node_config, Arc::new(store.clone()), raft).await.unwrap();

    let mut config = Config::development(CLUSTER, id, peers, dir, "127.0.0.1:0");
    config.auth.jwks_file = issuer.jwks_path().to_owned();
    config.auth.issuer = Some(ISSUER.to_owned());
    config.auth.audience = Some(AUDIENCE.to_owned());
    config.auth.leeway_seconds = 0;
    config.api.max_body_bytes = 4096;
    config.api.scan_budget_ms = bounds.scan_budget_ms;
    let tokens = Arc::new(Authenticator::from_config(&config.auth, &config.api).unwrap());
    let metrics = Arc::new(Metrics::new().unwrap());
    let known = metrics.clone();
    let signer = move || known.dependencies().remove("signer").unwrap_or(Ok(()));
    let desk = Desk::new(node.clone(), store.clone(), tokens.clone()).asking_signer(signer);
    let ledger =
        Ledger::new(store.clone(), node.clone(), clock.clone(), metrics.clone(), desk.clone(), &config)
            .with_schemas(Arc::new(schemas()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let api = listener.local_addr().unwrap();
    tokio::spawn(api::serve(Doors { plain: listener, mutual_tls: None }, ledger, tokens));
    Started { node, store, clock, desk, metrics, api }
}

/// Two variants: the second one can't express a sender that is no number.
fn schemas() -> Schemas {
    struct NumbersOnly;
    impl Trial for NumbersOnly {
        fn encode(&self, variant: &str, original: &Row<'_>, priced: &Sms<'_>) -> Result<(), String> {
            assert_eq!(original.sms().map(|sms| sms.message_id), Some(priced.message_id));
            match priced.calling_party {
                name if variant == "tap-b" && !name.starts_with('+') => {
                    Err("callingNumber: it is no number".to_owned())
                }
                _ => Ok(()),
            }
        }

        fn encode_return(&self, variant: &str, returned: &TrialReturn<'_>) -> Result<(), String> {
            let sms = returned.adjustment.sms().filter(|sms| sms.adjustment.is_some()).unwrap();
            assert_eq!(returned.tap_file.operator_id, returned.adjustment.frame.operator_id);
            assert!(returned.original.sms().is_some_and(|sms| sms.adjustment.is_none()));
            match sms.failure_code {
                Some(code) if variant == "tap-b" => Err(format!("failureCode: {code} is unknown")),
                _ => self.encode(variant, returned.original, returned.listed),
            }
        }

        fn names(&self, made_by: &[(&str, &str)]) -> Result<(), String> {
            if made_by.contains(&("regulator", "tap-same")) {
                Err("both would be named SAME.tap".to_owned())
            } else {
                Ok(())
            }
        }
    }
    let variant = |name: &str, hash: u8| SchemaVariant { name: name.to_owned(), hash: [hash; 32] };
    let series = |name: &str, variant: &str, follows_activation: bool| SeriesSettings {
        name: name.to_owned(),
        variant: variant.to_owned(),
        follows_activation,
    };
    Schemas {
        variants: vec![variant("tap-a", 0xaa), variant("tap-b", 0xbb), variant("tap-same", 0xcc)],
        series: vec![series("regulator", "tap-a", true), series("clearing", "tap-b", false)],
        trial: Box::new(NumbersOnly),
    }
}

/// `offset_ms` after the beginning of an hour.
fn millis(hour: &str, offset_ms: i64) -> Millis {
    Millis(Hour::parse(hour).unwrap().start().0 + offset_ms)
}

async fn propose(node: &Node, now: Millis, command: Command<'_>) -> Reply {
    let bytes = Envelope::new(node.term(), now, command).encode().unwrap();
    let reply = node.propose(bytes.into()).await.unwrap().reply;
    assert!(!matches!(reply, Reply::Rejected(_)), "{reply:?}");
    reply
}

/// Begins a ledger and fills it, at the leader.
pub async fn fill(node: &Node, store: &Store, dir: &Path) {
    let signer = DevKey::load_or_create(&dir.join("signer.key"), "seal").unwrap();
    let root = DevRoot::load_or_create(&dir.join("root.key")).unwrap();
    propose(node, millis(SEALED, 0), Command::Fence).await;
    begin(node, &json!(root.vouch(&signer, CLUSTER, Hour(0)).unwrap())).await;
    ingest(node, SEALED, 1, RECORDS).await;
    propose(node, millis(OPEN, 500), Command::Seal).await;
    ingest(node, OPEN, RECORDS + 1, OPEN_RECORDS).await;
    bill(node).await;
    for hour in [SEALED, EMPTY].map(|hour| Hour::parse(hour).unwrap()) {
        let seal_hash = store.seal(hour).unwrap().unwrap().seal_hash;
        let signature = signer.sign(signer.key_id(), &signed_message(&seal_hash)).unwrap();
        propose(node, millis(OPEN, 2_000), Command::SignSeal(SignSeal { hour, signature })).await;
    }
}

/// Billing charged the records 1 and 7 as they are and 2 otherwise, and an unknown message twice.
async fn bill(node: &Node) {
    let charges =
        [(1, "0.42"), (2, "0.5"), (7, "0.42"), (UNKNOWN, "999999999999"), (UNKNOWN, "999999999999")];
    let bills = charges.map(|(number, amount)| Bill {
        message_id: message_id(number),
        operator_id: "AWCC",
        amount: Money::parse(amount).unwrap(),
        currency: if number == UNKNOWN { "USD" } else { "AFN" },
        occurred_at: millis(SEALED, 5),
    });
    let reconcile = Reconcile { bills: bills.to_vec(), ..Reconcile::default() };
    assert_eq!(propose(node, millis(OPEN, 1_500), Command::Reconcile(reconcile)).await, Reply::Reconciled);
}

/// Two operators, a signing key and an inbound stream.
async fn begin(node: &Node, key: &Value) {
    let now = millis(SEALED, 0);
    let operator = |id: &str| {
        json!(Operator {
            effective_from: now.hour(),
            operator_id: id.to_owned(),
            recording_entity: "4120101".to_owned(),
        })
    };
    let first = [
        (SystemKind::Operator, operator("AWCC")),
        (SystemKind::Operator, operator("ETS")),
        (SystemKind::Key, key.clone()),
    ];
    let rows = system_rows(0, &first);
    let initialize = Initialize {
        cluster_id: CLUSTER,
        zone: "Asia/Kabul",
        clock: ClockKind::Replay,
        dedup_horizon_hours: 168,
        hash_key: [7; 16],
        rows: rows.drafts(),
    };
    propose(node, now, Command::Initialize(initialize)).await;
    let stream = StreamRecord {
        created: SEALED.to_owned(),
        first_sequence: 1,
        reason: "first connection".to_owned(),
        stream: STREAM.to_owned(),
    };
    let opened = system_rows(100, &[(SystemKind::Stream, json!(stream))]);
    let append = cdr_core::command::Append { source: Source::Internal, drafts: opened.drafts() };
    propose(node, now, Command::Append(append)).await;
}

fn system_rows(first_id: u8, rows: &[(SystemKind, Value)]) -> DraftsBuffer {
    let mut drafts = DraftsBuffer::default();
    for (id, (kind, body)) in (first_id..).zip(rows) {
        let content = SystemContent::new(*kind, body).unwrap();
        let cdr_id = CdrId::from_parts(1_776_690_000_000, [id; 10]);
        drafts
            .push(
                0,
                &content.draft(Drawn { version: SchemaVersion::V2, cdr_id, salt: Salt(cdr_id.0) }, "begin"),
            )
            .unwrap();
    }
    drafts
}

/// The id of record `number`, from 1.
pub fn cdr_id(number: u64) -> CdrId {
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.to_be_bytes());
    CdrId::from_parts(1_776_690_000_000 + number as i64, random)
}

/// The message of record `number`.
pub fn message_id(number: u64) -> Uuid {
    let mut bits = [0xaa; 16];
    bits[8..].copy_from_slice(&number.to_be_bytes());
    Uuid(bits)
}

/// The recipient of record `number`.
pub fn recipient(number: u64) -> String {
    format!("+93701{number:06}")
}

async fn ingest(node: &Node, hour: &str, first: u64, count: u64) {
    let mut drafts = DraftsBuffer::default();
    for number in first..first + count {
        push_cdr(&mut drafts, first, number, millis(hour, 10 + number as i64));
    }
    let command = Ingest {
        stream: STREAM,
        first,
        last: first + count - 1,
        last_digest: sha256(b"last"),
        ignored: 0,
        dead_lettered: 0,
        missing: 0,
        drafts: drafts.drafts(),
    };
    propose(node, millis(hour, 1_000), Command::Ingest(command)).await;
}

fn push_cdr(drafts: &mut DraftsBuffer, first: u64, number: u64, event_at: Millis) {
    let reference = format!("reference-{number}");
    let sms = Sms {
        message_id: message_id(number),
        tenant_id: number.is_multiple_of(2).then_some(TENANT),
        calling_party: if number.is_multiple_of(3) { "GHASI \"\u{6a9}\"" } else { "+93799000001" },
        called_party: &recipient(number),
        recording_entity: "4120101",
        service_center: "+93700000000",
        message_reference: &reference,
        event_at,
        local_offset_minutes: 270,
        charge_amount: Money::parse("0.42"),
        charge_currency: Some("AFN"),
        tap_tariff_class: Some("A040"),
        tariff_version: Some("1"),
        charge_type: ChargeType::A2p,
        billing_indicator: BillingIndicator::Chargeable,
        direction: Direction::Mt,
        encoding: Encoding::Gsm7,
        final_state: if number.is_multiple_of(10) { FinalState::Failed } else { FinalState::Delivered },
        segment_count: 1,
        imsi: Some("412011234567890"),
        ..Sms::BLANK
    };
    let operator_id = if number.is_multiple_of(7) { "ETS" } else { "AWCC" };
    let (cdr_id, record) = (cdr_id(number), Record::Sms(sms));
    let draft = Draft {
        version: SchemaVersion::V2,
        cdr_id,
        operator_id,
        trace_id: "trace",
        salt: Salt(cdr_id.0),
        record,
    };
    drafts.push((number - first) as u32, &draft).unwrap();
}
