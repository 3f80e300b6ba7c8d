//! A replica alone, for tests of what leads: store, Raft node and a proposer of its term.

use crate::clock::Clock;
use crate::proposer::Proposer;
use cdr_core::command::{Append, ClockKind, Command, DraftsBuffer, Ingest, Initialize, Reply, Source};
use cdr_core::personal::{Salt, SystemContent};
use cdr_core::row::{
    BillingIndicator, ChargeType, Direction, Draft, Drawn, Encoding, FinalState, Record, Sms, SystemKind,
};
use cdr_core::rules::SchemaVersion;
use cdr_core::state::{Cluster, StreamRecord};
use cdr_core::{CdrId, Hour, LedgerState, Millis, Uuid};
use cdr_raft::{Leadership, Node, NodeConfig};
use cdr_storage::{Store, StoreOptions};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// Name of the cluster.
pub const CLUSTER: &str = "test";

/// Operator of the records.
pub const OPERATOR: &str = "AWCC";

/// The state of a ledger that began at an instant, with nothing in it.
pub fn ledger_begun_at(at: Millis) -> LedgerState {
    let cluster = Cluster {
        cluster_id: CLUSTER.to_owned(),
        generation: 0,
        zone: "Asia/Kabul".to_owned(),
        clock: ClockKind::System,
        dedup_horizon_hours: 168,
        hash_key: [0; 16],
    };
    LedgerState::begin(cluster, 1, at)
}

/// The message of record `number`.
pub fn message_id(number: u64) -> Uuid {
    let mut bits = [0xaa; 16];
    bits[8..].copy_from_slice(&number.to_be_bytes());
    Uuid(bits)
}

fn unpriced(number: u64, event_at: Millis) -> Sms<'static> {
    Sms {
        message_id: message_id(number),
        calling_party: "Bank",
        called_party: "+93791234567",
        recording_entity: "4120101",
        service_center: "+93700000010",
        message_reference: "7F3A",
        event_at,
        local_offset_minutes: 270,
        charge_type: ChargeType::A2p,
        billing_indicator: BillingIndicator::Unknown,
        direction: if number.is_multiple_of(2) { Direction::Mo } else { Direction::Mt },
        encoding: Encoding::Gsm7,
        final_state: FinalState::Delivered,
        segment_count: 2,
        ..Sms::BLANK
    }
}

/// A leading replica whose ledger has begun, without operators and keys.
pub struct TestNode {
    pub proposer: Proposer,
    _dir: TempDir,
}

impl TestNode {
    /// Starts it and begins the ledger in the hour that `clock` shows.
    pub async fn begin(clock: Clock) -> Self {
        Self::begin_with(clock, &DraftsBuffer::default()).await
    }

    /// Starts it with operator [`OPERATOR`] and, without prices, the records of the messages 1 to `count`.
    pub async fn with_records(count: u64) -> Self {
        Self::with_messages(1..=count).await
    }

    /// Starts it with operator [`OPERATOR`] and, without prices, the records of these messages.
    pub async fn with_messages(numbers: impl IntoIterator<Item = u64>) -> Self {
        let now = Hour(493_525).start();
        let operator =
            format!(r#"{{"effectiveFrom":"{now}","operatorId":"{OPERATOR}","recordingEntity":"4120101"}}"#);
        let content = SystemContent::of_text(SystemKind::Operator, &operator).unwrap();
        let mut rows = DraftsBuffer::default();
        let drawn = Drawn { version: SchemaVersion::V2, cdr_id: CdrId::default(), salt: Salt::default() };
        rows.push(0, &content.draft(drawn, "test")).unwrap();
        let node = Self::begin_with(Clock::replay(now), &rows).await;
        let stream = StreamRecord {
            created: "2026-04-20T00:00:00Z".to_owned(),
            first_sequence: 1,
            reason: "first".to_owned(),
            stream: "S".to_owned(),
        };
        let row = (SystemKind::Stream, cdr_core::canonical::to_jcs(&stream));
        node.proposer.append_rows("test", vec![row]).await.unwrap();
        node.record(numbers).await;
        node
    }

    /// Records messages without a price, behind those that there are.
    pub async fn record(&self, numbers: impl IntoIterator<Item = u64>) {
        let state = self.proposer.state();
        let first = state.latest_epoch("S").unwrap().position + 1;
        let mut drafts = DraftsBuffer::default();
        for (offset, number) in (0..).zip(numbers) {
            let sms = unpriced(number, self.proposer.clock().now());
            let (Drawn { version, cdr_id, salt }, record) = (self.proposer.draw().unwrap(), Record::Sms(sms));
            let draft = Draft { version, cdr_id, operator_id: OPERATOR, trace_id: "trace", salt, record };
            drafts.push(offset, &draft).unwrap();
        }
        let count = drafts.len() as u64;
        let last = first + count - 1;
        let ingest = Ingest {
            stream: "S",
            first,
            last,
            last_digest: [0; 32],
            ignored: 0,
            dead_lettered: 0,
            missing: 0,
            drafts: drafts.drafts(),
        };
        let reply = self.proposer.propose(Command::Ingest(ingest)).await.unwrap();
        let Reply::Ingested(ingested) = reply else { panic!("{reply:?}") };
        assert_eq!(ingested.appended, count);
    }

    /// Records messages as EXPIRED without a receipt.
    pub async fn expire(&self, numbers: impl IntoIterator<Item = u64>) {
        let mut drafts = DraftsBuffer::default();
        for number in numbers {
            let now = self.proposer.clock().now();
            let sms = Sms { final_state: FinalState::Expired, ..unpriced(number, now) };
            let (Drawn { version, cdr_id, salt }, record) = (self.proposer.draw().unwrap(), Record::Sms(sms));
            let draft = Draft { version, cdr_id, operator_id: OPERATOR, trace_id: "trace", salt, record };
            drafts.push(0, &draft).unwrap();
        }
        let append = Append { source: Source::Internal, drafts: drafts.drafts() };
        let reply = self.proposer.propose(Command::Append(append)).await.unwrap();
        let Reply::Ingested(ingested) = reply else { panic!("{reply:?}") };
        assert_eq!(ingested.appended, drafts.len() as u64);
    }

    async fn begin_with(clock: Clock, rows: &DraftsBuffer) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options =
            StoreOptions { dedup_filter_bytes: 1 << 20, min_free_bytes: 0, ..StoreOptions::default() };
        let store = Store::open(&dir.path().join("store"), options).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (peers, shown) = (BTreeMap::from([(1, address.to_string())]), clock.clone());
        let now = Arc::new(move || shown.now().0);
        let config = NodeConfig::new(1, CLUSTER, dir.path().join("raft"), address, peers, now);
        let node = Node::start_on(config, Arc::new(store.clone()), listener).await.unwrap();
        node.initialize().await.unwrap();
        let mut leadership = node.leadership();
        let led = leadership.wait_for(|state| matches!(state, Leadership::Leader { .. }));
        tokio::time::timeout(Duration::from_secs(20), led).await.unwrap().unwrap();
        let (kind, term) = (clock.kind(), node.term());
        let proposer = Proposer::new(node, store, clock, term, 1_000);
        assert_eq!(proposer.propose(Command::Fence).await.unwrap(), Reply::Fenced { term });
        let initialize = Initialize {
            cluster_id: CLUSTER,
            zone: "Asia/Kabul",
            clock: kind,
            dedup_horizon_hours: 24,
            hash_key: [1; 16],
            rows: rows.drafts(),
        };
        assert_eq!(kind, ClockKind::Replay);
        assert_eq!(proposer.propose(Command::Initialize(initialize)).await.unwrap(), Reply::Initialized);
        Self { proposer, _dir: dir }
    }
}
