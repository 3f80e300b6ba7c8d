//! The crate under test and the oracle side by side, fed with the same events.

use crate::oracle::{Fate, Follow, Oracle, cdr_id, hex, hour_text, jcs};
use crate::samples::{Sample, SystemSample, bits};
use cdr_core::command::{
    Append, ClockKind, Command, DraftsBuffer, Ingest, Ingested, Initialize, SignSeal, Source,
};
use cdr_core::memory::MemoryLedger;
use cdr_core::proof::Trust;
use cdr_core::row::SystemKind;
use cdr_core::rules::{Build, RULES_SETTING, Rules};
use cdr_core::seal::signed_message;
use cdr_core::state::ClosedHour;
use cdr_core::{Envelope, Hash, Hour, LedgerState, Millis, Rejection, Reply, codec};
use ed25519_dalek::{Signer, SigningKey};
use p256::ecdsa::{Signature as P256Signature, SigningKey as P256SigningKey};
use serde_json::{Value, json};

pub const CLUSTER: &str = "golden";

/// 2026-04-20T13:10:00Z.
pub const START_MS: i64 = 1_776_690_600_000;

pub const HOUR_MS: i64 = 3_600_000;

/// One message of a stream.
#[derive(Clone, Debug)]
pub enum Message {
    Final(Box<Sample>),
    Ignored,
    DeadLettered,
    Missing,
}

pub struct World {
    pub ledger: MemoryLedger,
    pub oracle: Oracle,
    pub now: i64,
    pub term: u64,
    /// What commands say that they need.
    pub rules: Rules,
    next_number: u64,
    keys: Vec<(String, SealKey)>,
}

/// A key that signs seals.
pub enum SealKey {
    Ed25519(SigningKey),
    P256(P256SigningKey),
}

impl SealKey {
    pub fn ed25519(seed: u8) -> Self {
        Self::Ed25519(SigningKey::from_bytes(&[seed; 32]))
    }

    pub fn p256(seed: u8) -> Self {
        Self::P256(P256SigningKey::from_slice(&[seed; 32]).expect("a scalar"))
    }

    pub fn algorithm(&self) -> &'static str {
        match self {
            Self::Ed25519(_) => "Ed25519",
            Self::P256(_) => "ecdsa-p256",
        }
    }

    pub fn public_key(&self) -> String {
        match self {
            Self::Ed25519(key) => hex(key.verifying_key().as_bytes()),
            Self::P256(key) => hex(key.verifying_key().to_sec1_point(false).as_bytes()),
        }
    }

    /// Ed25519, or ECDSA over the message's SHA-256 with the lower `s`.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        match self {
            Self::Ed25519(key) => key.sign(message).to_bytes(),
            Self::P256(key) => {
                let signature: P256Signature = key.sign(message);
                signature.normalize_s().to_bytes().as_slice().try_into().expect("64 bytes")
            }
        }
    }
}

pub fn root_key() -> SigningKey {
    SigningKey::from_bytes(&[1; 32])
}

pub fn trust() -> Trust {
    Trust { cluster_id: CLUSTER.to_owned(), root_public_key: root_key().verifying_key().to_bytes() }
}

/// The body of a `key` row without an end, vouched for by the root key.
pub fn key_body(key_id: &str, key: &SealKey, from_hour: i64) -> Value {
    key_body_until(key_id, key, from_hour, None)
}

/// The body of a `key` row, vouched for by the root key.
pub fn key_body_until(key_id: &str, key: &SealKey, from_hour: i64, to_hour: Option<i64>) -> Value {
    let mut body = json!({
        "algorithm": key.algorithm(), "clusterId": CLUSTER, "fromHour": hour_text(from_hour), "keyId": key_id,
        "publicKey": key.public_key(), "toHour": to_hour.map(hour_text),
    });
    let message = [b"cdr-key-v1\0", jcs(&body).as_bytes()].concat();
    body["rootSignature"] = hex(&root_key().sign(&message).to_bytes()).into();
    body
}

pub fn operator_body(operator_id: &str, from_hour: i64) -> Value {
    json!({"effectiveFrom": hour_text(from_hour), "operatorId": operator_id, "recordingEntity": "AFGAW"})
}

pub fn buffer<'a>(drafts: impl IntoIterator<Item = (u32, cdr_core::row::Draft<'a>)>) -> DraftsBuffer {
    let mut buffer = DraftsBuffer::default();
    for (offset, draft) in drafts {
        buffer.push(offset, &draft).expect("a draft can be encoded");
    }
    buffer
}

impl World {
    /// A ledger with operators in force from the first hour, one key and one stream `SMS`.
    pub fn begin(operators: &[&str], horizon_hours: u32) -> Self {
        Self::begin_with_key(operators, horizon_hours, 0, None)
    }

    /// As [`World::begin`], with a key that begins `after` hours later and signs so many hours.
    pub fn begin_with_key(operators: &[&str], horizon_hours: u32, after: i64, hours: Option<i64>) -> Self {
        let mut world = Self {
            ledger: MemoryLedger::default(),
            oracle: Oracle::new(CLUSTER, i64::from(horizon_hours), START_MS),
            now: START_MS,
            term: 1,
            rules: Rules::FIRST,
            next_number: 1,
            keys: vec![("key-1".to_owned(), SealKey::ed25519(2))],
        };
        assert_eq!(world.send(Command::Fence), Reply::Fenced { term: 1 });
        let mut rows: Vec<SystemSample> = Vec::new();
        for id in operators {
            rows.push(world.system_row(SystemKind::Operator, &operator_body(id, START_MS / HOUR_MS)));
        }
        let from = START_MS / HOUR_MS + after;
        let key = key_body_until("key-1", &world.keys[0].1, from, hours.map(|hours| from + hours));
        rows.push(world.system_row(SystemKind::Key, &key));
        let buffer = buffer(rows.iter().map(|row| (0, row.draft())));
        let reply = world.send(Command::Initialize(Initialize {
            cluster_id: CLUSTER,
            zone: "Asia/Kabul",
            clock: ClockKind::Replay,
            dedup_horizon_hours: horizon_hours,
            hash_key: [3; 16],
            rows: buffer.drafts(),
        }));
        assert_eq!(reply, Reply::Initialized);
        world.oracle.append(START_MS, "internal", rows.iter().map(SystemSample::fields).collect());
        world.open_stream("SMS", 1);
        world
    }

    pub fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    pub fn ordinary(&mut self, operator_id: &str) -> Message {
        let number = self.number();
        Message::Final(Box::new(Sample::ordinary(number, operator_id, self.now)))
    }

    pub fn system_row(&mut self, kind: SystemKind, body: &Value) -> SystemSample {
        SystemSample::new(self.number(), self.now, kind, body)
    }

    pub fn send(&mut self, command: Command<'_>) -> Reply {
        let envelope = Envelope { rules: self.rules, ..Envelope::new(self.term, Millis(self.now), command) };
        let entry = envelope.encode().expect("it encodes");
        self.ledger.apply_bytes(&entry).expect("the entry is whole")
    }

    /// Sends what must be refused and checks that nothing has changed.
    pub fn refused(&mut self, command: Command<'_>) -> Rejection {
        let state = self.ledger.state.clone();
        let sizes = |l: &MemoryLedger| (l.rows.len(), l.seals.len(), l.signatures.len());
        let before = sizes(&self.ledger);
        let Reply::Rejected(rejection) = self.send(command) else { panic!("the command was accepted") };
        assert_eq!(self.ledger.state, state, "a refused command changed the state");
        assert_eq!(sizes(&self.ledger), before, "a refused command wrote something");
        rejection
    }

    pub fn ingest(&mut self, stream: &str, messages: &[Message]) {
        let first = self.oracle.position(stream) as u64 + 1;
        let count = |pick: fn(&Message) -> bool| messages.iter().filter(|m| pick(m)).count() as u64;
        let drafts = messages.iter().enumerate().filter_map(|(i, message)| match message {
            Message::Final(sample) => Some((i as u32, sample.draft())),
            _ => None,
        });
        let buffer = buffer(drafts);
        let last = first + messages.len() as u64 - 1;
        let reply = self.send(Command::Ingest(Ingest {
            stream,
            first,
            last,
            last_digest: [9; 32],
            ignored: count(|m| matches!(m, Message::Ignored)),
            dead_lettered: count(|m| matches!(m, Message::DeadLettered)),
            missing: count(|m| matches!(m, Message::Missing)),
            drafts: buffer.drafts(),
        }));
        let fates: Vec<Fate> = messages.iter().map(Message::fate).collect();
        let (appended, duplicate) = self.oracle.ingest(self.now, stream, &fates);
        let bucket_hour = self.oracle.open_hour as u32;
        assert_eq!(reply, Reply::Ingested(Ingested { appended, duplicate, bucket_hour, position: last }));
    }

    /// Sends originals of messages whose receipt did not come.
    pub fn expire(&mut self, samples: &[Sample]) {
        let buffer = buffer(samples.iter().map(|sample| (0, sample.draft())));
        let append = Append { source: Source::Internal, drafts: buffer.drafts() };
        let reply = self.send(Command::Append(append));
        let (appended, duplicate) =
            self.oracle.expire(self.now, samples.iter().map(Sample::fields).collect());
        let position = if appended > 0 { self.oracle.position("internal") as u64 } else { 0 };
        let bucket_hour = self.oracle.open_hour as u32;
        assert_eq!(reply, Reply::Ingested(Ingested { appended, duplicate, bucket_hour, position }));
    }

    pub fn append(&mut self, source: Source, rows: &[SystemSample]) {
        let buffer = buffer(rows.iter().map(|row| (0, row.draft())));
        let reply = self.send(Command::Append(Append { source, drafts: buffer.drafts() }));
        self.oracle.append(self.now, source.as_str(), rows.iter().map(SystemSample::fields).collect());
        let first_sequence = (self.oracle.open_rows() - rows.len() + 1) as u64;
        assert_eq!(reply, Reply::Appended { bucket_hour: self.oracle.open_hour as u32, first_sequence });
    }

    pub fn append_one(&mut self, kind: SystemKind, body: &Value) {
        let row = self.system_row(kind, body);
        self.append(Source::Internal, &[row]);
    }

    /// The hour in which the next row will be.
    pub fn next_row_hour(&self) -> i64 {
        (self.now / HOUR_MS).max(self.oracle.open_hour)
    }

    /// Brings the rules into force that only tests know.
    pub fn raise_rules(&mut self) {
        let body = json!({
            "actorUserId": "admin-1", "approverUserId": "admin-2", "configKey": RULES_SETTING,
            "newValue": Rules::TEST_ONLY.to_string(), "previousValue": null, "reason": "a test", "ticketId": null,
        });
        (self.rules, self.ledger.build) = (Rules::TEST_ONLY, Build::NEXT);
        self.append_one(SystemKind::Config, &body);
    }

    pub fn open_stream(&mut self, name: &str, first_sequence: u64) {
        let body = json!({
            "created": "2026-04-20T13:00:00.123456789Z", "firstSequence": first_sequence,
            "reason": "first seen", "stream": name,
        });
        self.append_one(SystemKind::Stream, &body);
    }

    pub fn join(&mut self, operator_id: &str) {
        self.append_one(SystemKind::Operator, &operator_body(operator_id, self.next_row_hour() + 1));
    }

    pub fn rotate_key(&mut self) {
        self.add_key(0, None);
    }

    /// Registers a key of the other algorithm that signs from now on.
    pub fn rotate_to_p256(&mut self) {
        self.register_key(SealKey::p256, 0, None);
    }

    /// Registers a key that signs `after` hours from now on, and for so many hours.
    pub fn add_key(&mut self, after: i64, hours: Option<i64>) {
        self.register_key(SealKey::ed25519, after, hours);
    }

    fn register_key(&mut self, make: fn(u8) -> SealKey, after: i64, hours: Option<i64>) {
        let number = self.keys.len() as u8 + 1;
        let (id, key) = (format!("key-{number}"), make(number + 1));
        let from = self.next_row_hour() + after;
        let body = key_body_until(&id, &key, from, hours.map(|hours| from + hours));
        self.keys.push((id, key));
        self.append_one(SystemKind::Key, &body);
    }

    pub fn seal(&mut self) {
        let hours = (self.now / HOUR_MS - self.oracle.open_hour).max(0) as u32;
        assert_eq!(self.send(Command::Seal), Reply::Sealed { hours });
        self.oracle.seal(self.now);
    }

    pub fn signature(&self, seal: &Value, seal_hash: &Hash) -> [u8; 64] {
        let signer =
            self.keys.iter().find(|(id, _)| seal["signerKeyId"] == **id).expect("the seal names a key");
        signer.1.sign(&signed_message(seal_hash))
    }

    /// Signs every seal that has no signature yet.
    pub fn sign_all(&mut self) {
        while self.ledger.state.head.next_unsigned < self.ledger.state.head.open_hour {
            let hour = self.ledger.state.head.next_unsigned;
            let closed = &self.ledger.seals[&hour];
            let name = json!({"signerKeyId": closed.seal.signer_key_id});
            let signature = self.signature(&name, &closed.seal_hash);
            assert_eq!(self.send(Command::SignSeal(SignSeal { hour, signature })), Reply::Signed);
        }
    }

    /// Sends an adjustment; it is taken in exactly if the oracle says that it may follow.
    pub fn adjust(&mut self, sample: &Sample) -> bool {
        let buffer = buffer([(0, sample.draft())]);
        let append = Command::Append(Append { source: Source::Api, drafts: buffer.drafts() });
        let of = cdr_id(sample.adjustment.as_ref().expect("an adjustment").of);
        let verdict = self.oracle.may_follow(&of);
        if verdict == Follow::Yes {
            let reply = self.send(append);
            self.oracle.append(self.now, "api", vec![sample.fields()]);
            let (bucket_hour, first_sequence) =
                (self.oracle.open_hour as u32, self.oracle.open_rows() as u64);
            assert_eq!(reply, Reply::Appended { bucket_hour, first_sequence });
            return true;
        }
        let expected = match verdict {
            Follow::Unknown => Rejection::UnknownRecord { cdr_id: of },
            Follow::Voided => Rejection::AlreadyVoided { cdr_id: of },
            Follow::Yes | Follow::Superseded => Rejection::Superseded { cdr_id: of },
        };
        assert_eq!(self.refused(append), expected);
        false
    }

    /// Writes the state and reads it again, as a restart does.
    pub fn restart(&mut self) {
        let bytes = codec::encode("ledger state", &self.ledger.state).expect("the state encodes");
        let read: LedgerState = codec::decode("ledger state", &bytes).expect("the state decodes");
        assert_eq!(read, self.ledger.state);
        self.ledger.state = read;
    }

    pub fn fence(&mut self) {
        self.term += 1;
        assert_eq!(self.send(Command::Fence), Reply::Fenced { term: self.term });
    }

    /// The hour to be signed next is the first sealed one whose seal names a key and has no signature.
    pub fn check_unsigned(&self) {
        let ledger = &self.ledger;
        let wants = |closed: &&ClosedHour| {
            closed.seal.signer_key_id.is_some() && !ledger.signatures.contains_key(&closed.seal.bucket_hour)
        };
        let first = ledger.seals.values().find(wants).map(|closed| closed.seal.bucket_hour);
        assert_eq!(ledger.state.head.next_unsigned, first.unwrap_or(ledger.state.head.open_hour));
    }

    /// Recomputes everything and compares: rows, hashes, seals, chains, open partitions.
    pub fn check(&self) {
        self.check_unsigned();
        let chain = self.oracle.recompute();
        assert_eq!(self.ledger.rows.len(), chain.rows.len());
        for ((text, hash), expected) in self.ledger.rows.iter().zip(&chain.rows) {
            assert_eq!(std::str::from_utf8(text).expect("UTF-8"), expected.text);
            assert_eq!(hash, &expected.hash);
        }
        assert_eq!(self.ledger.seals.len(), chain.seals.len());
        for (closed, expected) in self.ledger.seals.values().zip(&chain.seals) {
            assert_eq!(String::from_utf8_lossy(&closed.canonical), expected.text);
            assert_eq!(closed.seal_hash, expected.hash);
        }
        let state = &self.ledger.state;
        assert_eq!(state.head.open_hour, Hour(self.oracle.open_hour as u32));
        let heads: Vec<_> =
            state.partitions.iter().map(|p| (p.operator_id.clone(), (p.prev_root, p.prev_chain))).collect();
        assert_eq!(heads, chain.heads.into_iter().collect::<Vec<_>>());
    }
}

impl Message {
    fn fate(&self) -> Fate {
        match self {
            Self::Final(sample) => Fate::Final(sample.fields()),
            Self::Ignored => Fate::Ignored,
            Self::DeadLettered => Fate::DeadLettered,
            Self::Missing => Fate::Missing,
        }
    }

    /// An ordinary message whose id is one of a few.
    pub fn repeated(pool: u64, operator_id: &str, number: u64, at_ms: i64) -> Self {
        let mut sample = Sample::ordinary(number, operator_id, at_ms);
        sample.message_id = bits("pool", pool);
        Self::Final(Box::new(sample))
    }
}
