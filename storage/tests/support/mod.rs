//! A small world that proposes commands: what a leader would send, reproducible from a seed.
#![allow(dead_code, clippy::unwrap_used)]

use cdr_core::canonical::to_jcs;
use cdr_core::command::{
    Append, ClockKind, Command, DraftsBuffer, Envelope, Ingest, Initialize, Reply, SignSeal, Source,
};
use cdr_core::hash::to_hex;
use cdr_core::job::{JobCounts, JobRequest, JobStep, Place, micros, micros_text};
use cdr_core::memory::MemoryLedger;
use cdr_core::personal::{Salt, SystemContent};
use cdr_core::receipt;
use cdr_core::row::{
    Adjustment, AdjustmentType, BillingIndicator, ChargeType, Direction, Draft, Drawn, Encoding, FinalState,
    Record, Sms, SystemKind,
};
use cdr_core::rules::{Rules, SchemaVersion};
use cdr_core::seal::signed_message;
use cdr_core::setting::SettingChange;
use cdr_core::time::HOUR_MS;
use cdr_core::{CdrId, Hour, LedgerState, Millis, Money, Uuid, View};
use cdr_storage::{EntryRef, Store, StoreOptions};
use ed25519_dalek::{Signer, SigningKey};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub const CLUSTER: &str = "test";
pub const START: Hour = Hour(494_000);
pub const OPERATORS: [&str; 3] = ["AWCC", "MTN", "ROSHAN"];
pub const HORIZON_HOURS: u32 = 3;

/// Small sizes, so that pages, index blocks and tables have many borders.
pub fn options() -> StoreOptions {
    StoreOptions {
        block_cache_bytes: 4 << 20,
        write_buffer_bytes: 4 << 20,
        dedup_filter_bytes: 1 << 20,
        index_block_rows: 64,
        block_bytes: 1 << 10,
        page_rows: 7,
        min_free_bytes: 0,
        adjustment_batch: 3,
        ..StoreOptions::default()
    }
}

pub fn open(dir: &Path) -> Store {
    Store::open(dir, options()).unwrap()
}

/// A reproducible sequence of numbers (SplitMix64).
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }
}

/// The proposer.
pub struct World {
    pub random: Random,
    pub now: Millis,
    pub term: u64,
    pub stream: String,
    pub position: u64,
    pub epoch: u32,
    pub next_unsigned: Hour,
    pub operators: u64,
    /// First hour that the signing key covers.
    pub key_from: Hour,
    /// Messages of the past, for duplicates.
    pub messages: Vec<Uuid>,
    /// Messages of the past that had no receipt.
    pub expired: Vec<Uuid>,
    /// Ids of the past with message and operator, to adjust: some were duplicates.
    pub records: Vec<Known>,
    key: SigningKey,
}

/// What an adjustment copies.
#[derive(Clone)]
pub struct Known {
    pub cdr_id: CdrId,
    pub message_id: Uuid,
    pub operator: String,
}

impl World {
    pub fn new(seed: u64) -> Self {
        Self {
            random: Random(seed),
            now: Millis(START.start().0 + 1000),
            term: 1,
            stream: "DLR".to_owned(),
            position: 0,
            epoch: 1,
            next_unsigned: START,
            operators: 0,
            key_from: START,
            messages: Vec::new(),
            expired: Vec::new(),
            records: Vec::new(),
            key: SigningKey::from_bytes(&[7; 32]),
        }
    }

    pub fn envelope(&self, command: Command<'_>) -> Vec<u8> {
        Envelope::new(self.term, self.now, command).encode().unwrap()
    }

    pub fn fence(&mut self) -> Vec<u8> {
        self.envelope(Command::Fence)
    }

    pub fn initialize(&mut self) -> Vec<u8> {
        let mut rows = DraftsBuffer::default();
        for operator in OPERATORS {
            let body = format!(
                "{{\"effectiveFrom\":\"{START}\",\"operatorId\":\"{operator}\",\"recordingEntity\":\"E\"}}"
            );
            self.push_system(&mut rows, SystemKind::Operator, &body);
        }
        let body = format!(
            "{{\"algorithm\":\"Ed25519\",\"clusterId\":\"{CLUSTER}\",\"fromHour\":\"{}\",\"keyId\":\"k1\",\
             \"publicKey\":\"{}\",\"rootSignature\":\"\",\"toHour\":null}}",
            self.key_from,
            to_hex(self.key.verifying_key().as_bytes())
        );
        self.push_system(&mut rows, SystemKind::Key, &body);
        let body = "{\"created\":\"2026-01-01T00:00:00Z\",\"firstSequence\":1,\"reason\":\"new\",\"stream\":\"DLR\"}";
        self.push_system(&mut rows, SystemKind::Stream, body);
        self.envelope(Command::Initialize(Initialize {
            cluster_id: CLUSTER,
            zone: "Asia/Kabul",
            clock: ClockKind::Replay,
            dedup_horizon_hours: HORIZON_HOURS,
            hash_key: [9; 16],
            rows: rows.drafts(),
        }))
    }

    /// The entries with which every ledger of these tests begins.
    pub fn beginning(&mut self) -> Vec<Vec<u8>> {
        vec![self.fence(), self.initialize()]
    }

    fn push_system(&mut self, rows: &mut DraftsBuffer, kind: SystemKind, body: &str) {
        let cdr_id = CdrId::from_parts(self.now.0, self.random.bytes());
        let content = SystemContent::of_text(kind, body).unwrap();
        let drawn = Drawn { version: SchemaVersion::V2, cdr_id, salt: Salt(self.random.bytes()) };
        rows.push(0, &content.draft(drawn, "trace")).unwrap();
    }

    /// System rows of no further meaning.
    pub fn audits(&mut self, count: u64) -> Vec<u8> {
        let mut rows = DraftsBuffer::default();
        for _ in 0..count {
            let body = format!("{{\"act\":{}}}", self.random.below(1000));
            self.push_system(&mut rows, SystemKind::Audit, &body);
        }
        self.envelope(Command::Append(Append { source: Source::Api, drafts: rows.drafts() }))
    }

    /// An operator that joins in the next hour.
    pub fn operator(&mut self) -> Vec<u8> {
        self.operators += 1;
        let mut rows = DraftsBuffer::default();
        let body = format!(
            "{{\"effectiveFrom\":\"{}\",\"operatorId\":\"NEW{}\",\"recordingEntity\":\"N\"}}",
            self.now.hour().next(),
            self.operators
        );
        self.push_system(&mut rows, SystemKind::Operator, &body);
        self.envelope(Command::Append(Append { source: Source::Internal, drafts: rows.drafts() }))
    }

    /// A new epoch of the stream.
    pub fn epoch(&mut self) -> Vec<u8> {
        self.epoch += 1;
        self.stream = format!("DLR#{}", self.epoch);
        self.position = 0;
        let mut rows = DraftsBuffer::default();
        let body = format!(
            "{{\"created\":\"2026-01-02T00:00:00Z\",\"firstSequence\":1,\"reason\":\"lost\",\"stream\":\"{}\"}}",
            self.stream
        );
        self.push_system(&mut rows, SystemKind::Stream, &body);
        self.envelope(Command::Append(Append { source: Source::Internal, drafts: rows.drafts() }))
    }

    pub fn seal(&mut self) -> Vec<u8> {
        self.envelope(Command::Seal)
    }

    /// The signature of the oldest seal that has none.
    pub fn sign(&mut self, ledger: &MemoryLedger) -> Option<Vec<u8>> {
        let closed = ledger.seals.get(&self.next_unsigned)?;
        let signature = self.key.sign(&signed_message(&closed.seal_hash)).to_bytes();
        let hour = self.next_unsigned;
        self.next_unsigned = hour.next();
        Some(self.envelope(Command::SignSeal(SignSeal { hour, signature })))
    }

    /// A batch of `count` drafts, every `dup_every`-th with a message of the past.
    pub fn ingest(&mut self, count: u32, dup_every: u64) -> Vec<u8> {
        let ignored = self.random.below(3);
        let mut drafts = DraftsBuffer::default();
        for offset in 0..count {
            let known = dup_every > 0 && !self.messages.is_empty() && self.random.below(dup_every) == 0;
            let message_id = if known {
                let at = self.random.below(self.messages.len() as u64) as usize;
                self.messages[at]
            } else {
                let id = Uuid(self.random.bytes());
                self.messages.push(id);
                id
            };
            self.push_sms(&mut drafts, offset, message_id, None, None);
        }
        let (first, last) = (self.position + 1, self.position + u64::from(count) + ignored);
        self.position = last;
        let (stream, last_digest) = (self.stream.clone(), self.random.bytes());
        self.envelope(Command::Ingest(Ingest {
            stream: &stream,
            first,
            last,
            last_digest,
            ignored,
            dead_lettered: 0,
            missing: 0,
            drafts: drafts.drafts(),
        }))
    }

    /// Messages whose receipt did not come; every third is one of the past.
    pub fn expired(&mut self, count: u64) -> Vec<u8> {
        let mut drafts = DraftsBuffer::default();
        for _ in 0..count {
            let known = !self.messages.is_empty() && self.random.below(3) == 0;
            let message_id = if known {
                self.messages[self.random.below(self.messages.len() as u64) as usize]
            } else {
                Uuid(self.random.bytes())
            };
            self.messages.push(message_id);
            self.expired.push(message_id);
            self.push_sms(&mut drafts, 0, message_id, None, Some(FinalState::Expired));
        }
        self.envelope(Command::Append(Append { source: Source::Internal, drafts: drafts.drafts() }))
    }

    /// Receipts of the messages that had none, some of them twice, by a proposer that knows what is in the ledger. Now
    /// and then by one that does not.
    pub fn late_receipts(&mut self, count: u32, ledger: &MemoryLedger) -> Vec<u8> {
        let knows = self.random.below(6) > 0;
        let since = ledger.state.dedup_since();
        let mut drafts = DraftsBuffer::default();
        for offset in 0..count {
            let Some(last) = (self.expired.len() as u64).checked_sub(1) else { break };
            let message_id = self.expired[(last - self.random.below(last.min(20) + 1)) as usize];
            let known = ledger.known(&[message_id], since).unwrap()[0];
            let adjusts = match known {
                receipt::Known::Expired { last } if knows => {
                    let known = self.records.iter().find(|known| known.cdr_id == last).unwrap();
                    Some((last, AdjustmentType::Correction, known.operator.clone()))
                }
                _ => None,
            };
            let adjusts = adjusts.as_ref().map(|(of, kind, operator)| (*of, *kind, operator.as_str()));
            let state = [FinalState::Delivered, FinalState::Failed][self.random.below(2) as usize];
            self.push_sms(&mut drafts, offset, message_id, adjusts, Some(state));
        }
        let (first, last) = (self.position + 1, self.position + drafts.len() as u64);
        self.position = last;
        let (stream, last_digest) = (self.stream.clone(), self.random.bytes());
        self.envelope(Command::Ingest(Ingest {
            stream: &stream,
            first,
            last,
            last_digest,
            ignored: 0,
            dead_lettered: 0,
            missing: 0,
            drafts: drafts.drafts(),
        }))
    }

    /// An adjustment of each of `count` records of the past, whether it can be adjusted or not.
    pub fn adjustments(&mut self, count: u64) -> Vec<u8> {
        let mut drafts = DraftsBuffer::default();
        for _ in 0..count {
            let Some(last) = (self.records.len() as u64).checked_sub(1) else { break };
            // Mostly the latest ones, so that there are long lines and repeated attempts.
            let at = last - self.random.below(last.min(60) + 1);
            let known = self.records[at as usize].clone();
            let kind = AdjustmentType::ALL[self.random.below(3) as usize];
            self.push_sms(
                &mut drafts,
                0,
                known.message_id,
                Some((known.cdr_id, kind, &known.operator)),
                None,
            );
        }
        self.envelope(Command::Append(Append { source: Source::Api, drafts: drafts.drafts() }))
    }

    /// A step of a job: re-rates some records and says so in the same write; begins a job if none is open, and ends it
    /// now and then. Sometimes it comes from a worker that has not heard of the last step.
    pub fn job(&mut self, ledger: &MemoryLedger) -> Vec<u8> {
        let mut drafts = DraftsBuffer::default();
        let Some(job) = ledger.state.jobs.oldest_open() else {
            let step =
                JobStep::Requested(JobRequest { ticket_id: "T-1".to_owned(), ..JobRequest::default() });
            self.push_job(&mut drafts, &step);
            return self.envelope(Command::Append(Append { source: Source::Api, drafts: drafts.drafts() }));
        };
        let (mut counts, count) = (JobCounts::default(), self.random.below(3));
        for _ in 0..count {
            let Some(last) = (self.records.len() as u64).checked_sub(1) else { break };
            let at = last - self.random.below(last.min(100) + 1);
            let known = self.records[at as usize].clone();
            let adjusts = Some((known.cdr_id, AdjustmentType::ReRate, known.operator.as_str()));
            self.push_sms(&mut drafts, 0, known.message_id, adjusts, None);
            counts.adjusted += 1;
        }
        counts.unchanged = self.random.below(4);
        let from = job.cursor.unwrap_or(Place { bucket_hour: START, cdr_sequence: 0 });
        let upto = Place { cdr_sequence: from.cdr_sequence + 1 + self.random.below(5), ..from };
        let behind = if self.random.below(6) == 0 { None } else { job.cursor };
        let sum_delta = micros_text(i128::from(self.random.below(1_000_000)) - 500_000);
        let job_id = job.name();
        self.push_job(
            &mut drafts,
            &JobStep::Progress { job_id: job_id.clone(), behind, upto, counts, sum_delta },
        );
        if self.random.below(5) == 0 {
            self.push_job(&mut drafts, &JobStep::Finished { job_id });
        }
        self.envelope(Command::Append(Append { source: Source::Internal, drafts: drafts.drafts() }))
    }

    fn push_job(&mut self, drafts: &mut DraftsBuffer, step: &JobStep) {
        let body = String::from_utf8(cdr_core::canonical::to_jcs(step).unwrap()).unwrap();
        self.push_system(drafts, SystemKind::Job, &body);
    }

    /// An act under one of a few keys, about one of a few things.
    pub fn request(&mut self) -> Vec<u8> {
        let (key, body) = (self.random.below(6) as u8, self.random.below(2) as u8);
        let body = format!(
            "{{\"entryType\":\"ACT\",\"request\":{{\"answer\":\"{}\",\"body\":\"{}\",\"key\":\"{}\"}}}}",
            CdrId(self.random.bytes()),
            to_hex(&[body; 32]),
            to_hex(&[key; 32]),
        );
        let mut rows = DraftsBuffer::default();
        self.push_system(&mut rows, SystemKind::Audit, &body);
        self.envelope(Command::Append(Append { source: Source::Api, drafts: rows.drafts() }))
    }

    /// A change of one of a few settings, mostly from the value that it has.
    pub fn setting(&mut self, state: &LedgerState) -> Vec<u8> {
        let key = format!("k{}", self.random.below(4));
        let previous = state.settings.get(&key).map(str::to_owned).filter(|_| self.random.below(5) > 0);
        let value = self.random.below(3).to_string();
        self.changed(Rules::FIRST, Source::Api, (key, previous, value))
    }

    /// A first value of a setting, in a command that needs certain rules.
    pub fn setting_under(&mut self, rules: Rules, key: &str, value: &str) -> Vec<u8> {
        self.changed(rules, Source::Internal, (key.to_owned(), None, value.to_owned()))
    }

    fn changed(
        &mut self,
        rules: Rules,
        source: Source,
        (config_key, previous_value, new_value): (String, Option<String>, String),
    ) -> Vec<u8> {
        let change = SettingChange {
            actor_user_id: "somebody".to_owned(),
            approver_user_id: None,
            config_key,
            content: Some(serde_json::json!({"any": ["thing", 1]})),
            new_value,
            previous_value,
            reason: "why".to_owned(),
            ticket_id: None,
        };
        let body = String::from_utf8(to_jcs(&change).unwrap()).unwrap();
        let mut rows = DraftsBuffer::default();
        self.push_system(&mut rows, SystemKind::Config, &body);
        let command = Command::Append(Append { source, drafts: rows.drafts() });
        Envelope { rules, ..Envelope::new(self.term, self.now, command) }.encode().unwrap()
    }

    fn push_sms(
        &mut self,
        drafts: &mut DraftsBuffer,
        offset: u32,
        message_id: Uuid,
        adjusts: Option<(CdrId, AdjustmentType, &str)>,
        state: Option<FinalState>,
    ) {
        let random = &mut self.random;
        let called = format!("+9370{:07}", random.below(40));
        let reference = format!("r{}", random.below(1_000_000));
        let event_at = Millis(self.now.0 - random.below(2 * HOUR_MS as u64) as i64);
        let failed = random.below(5) == 0;
        let operator = match &adjusts {
            Some((_, _, operator)) => (*operator).to_owned(),
            None if self.operators > 0 && random.below(9) == 0 => {
                format!("NEW{}", 1 + random.below(self.operators))
            }
            None => OPERATORS[random.below(2) as usize].to_owned(),
        };
        let kind = adjusts.as_ref().map(|(_, kind, _)| *kind);
        let charge_amount = match kind {
            Some(AdjustmentType::Void) => Some(Money::ZERO),
            Some(AdjustmentType::ReRate) => Money::from_micros(random.below(90_000) as i64),
            _ => Money::from_micros(random.below(90_000) as i64).filter(|_| random.below(6) > 0),
        };
        let sms = Sms {
            message_id,
            tenant_id: (random.below(4) > 0).then(|| Uuid([random.below(5) as u8; 16])),
            calling_party: "اطلاع",
            called_party: &called,
            recording_entity: "E",
            service_center: "+93700000000",
            message_reference: &reference,
            event_at,
            local_offset_minutes: 270,
            submitted_at: Some(Millis(event_at.0 - 900)),
            charge_amount,
            charge_currency: charge_amount.map(|_| "AFN"),
            tap_tariff_class: charge_amount.map(|_| "A"),
            tariff_version: charge_amount.map(|_| "v1"),
            charge_type: ChargeType::A2p,
            billing_indicator: charge_amount
                .map_or(BillingIndicator::Unknown, |_| BillingIndicator::Chargeable),
            direction: Direction::Mt,
            encoding: Encoding::Ucs2,
            final_state: state.unwrap_or(if failed { FinalState::Failed } else { FinalState::Delivered }),
            segment_count: 1 + random.below(3) as u8,
            failure_code: failed.then_some("E7"),
            adjustment: adjusts.as_ref().map(|(of, kind, _)| Adjustment {
                of: *of,
                kind: *kind,
                reason: Some("why"),
                void_reason: None,
                ticket_id: Some("T-1"),
                issued_by: Some("somebody"),
                approver: None,
            }),
            ..Sms::BLANK
        };
        let cdr_id = CdrId::from_parts(self.now.0, random.bytes());
        let record = Record::Sms(sms);
        let salt = Salt(random.bytes());
        drafts
            .push(
                offset,
                &Draft {
                    version: SchemaVersion::V2,
                    cdr_id,
                    operator_id: &operator,
                    trace_id: "trace",
                    salt,
                    record,
                },
            )
            .unwrap();
        self.records.push(Known { cdr_id, message_id, operator });
    }
}

/// The directory of a running store as a power loss would leave it, in a new place.
///
/// RocksDB removes and adds files in the background. A copy during which that happened is none that a power loss
/// could leave (an old manifest beside tables that are gone), so it is made again.
pub fn crashed_copy(dir: &Path) -> tempfile::TempDir {
    for _ in 0..100 {
        let copy = tempfile::tempdir().unwrap();
        let before = listing(dir);
        if copy_dir(dir, copy.path()).is_ok() && listing(dir) == before {
            return copy;
        }
    }
    panic!("{} did not stay the same for the length of one copy, a hundred times", dir.display());
}

/// Every file's path, with the length of those that say which tables there are.
fn listing(dir: &Path) -> BTreeSet<(PathBuf, Option<u64>)> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.append(&mut listing(&path));
        } else {
            let is_manifest = entry.file_name().to_string_lossy().starts_with("MANIFEST-");
            let length = is_manifest.then(|| entry.metadata().map_or(0, |data| data.len()));
            found.insert((path, length));
        }
    }
    found
}

fn copy_dir(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            std::fs::create_dir(&target)?;
            copy_dir(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Applies one entry, with its index as the Raft layer's metadata.
pub fn apply_one(store: &Store, index: u64, bytes: &[u8]) -> Reply {
    let entry = EntryRef { index, term: 1, bytes };
    store.apply(&[Some(entry)], &index.to_be_bytes()).unwrap().remove(0)
}

/// Index of the last entry that the store has, from its Raft metadata.
pub fn applied(store: &Store) -> u64 {
    store.raft_meta().unwrap().map_or(0, |meta| u64::from_be_bytes(meta.try_into().unwrap()))
}

/// Applies everything of `log` (entry 1 first) that the store does not have.
pub fn catch_up(store: &Store, log: &[Vec<u8>]) {
    for index in applied(store)..log.len() as u64 {
        apply_one(store, index + 1, &log[index as usize]);
    }
}

/// A log over several hours with a bit of everything, and its outcome in memory.
pub fn history(seed: u64, hours: u32, batches: u32, rows: u32) -> (Vec<Vec<u8>>, MemoryLedger) {
    let mut world = World::new(seed);
    let mut ledger = MemoryLedger::default();
    let mut log = Vec::new();
    let mut push = |ledger: &mut MemoryLedger, entry: Vec<u8>| {
        let reply = ledger.apply_entry(log.len() as u64 + 1, 1, &entry).unwrap();
        assert!(!matches!(reply, Reply::Rejected(_)), "{reply:?}");
        log.push(entry);
    };
    for entry in world.beginning() {
        push(&mut ledger, entry);
    }
    for hour in 0..hours {
        for _ in 0..batches {
            world.now.0 += 1000;
            let entry = world.ingest(rows, 20);
            push(&mut ledger, entry);
        }
        let entry = world.audits(2);
        push(&mut ledger, entry);
        world.now = Millis(START.start().0 + (i64::from(hour) + 1) * HOUR_MS + 500);
        let entry = world.seal();
        push(&mut ledger, entry);
        if let Some(entry) = world.sign(&ledger) {
            push(&mut ledger, entry);
        }
    }
    (log, ledger)
}

/// Everything that the store holds is what the reference holds.
pub fn assert_same(store: &Store, ledger: &MemoryLedger) {
    assert_eq!(store.state().digest().unwrap(), ledger.state.digest().unwrap(), "state digest");
    let mut ordinal = 0u64;
    let first = ledger.state.head.first_hour;
    for hour in (first.0..=ledger.state.head.open_hour.0).map(Hour) {
        let rows = match ledger.seals.get(&hour) {
            Some(closed) => {
                let stored = store.seal(hour).unwrap().unwrap();
                assert_eq!((&stored.canonical, stored.seal_hash), (&closed.canonical, closed.seal_hash));
                assert_eq!((&stored.seal, stored.first_ordinal), (&closed.seal, ordinal));
                assert_eq!(stored.tallies, closed.tallies);
                assert_eq!(stored.signature, ledger.signatures.get(&hour).map(|sign| sign.signature));
                closed.seal.record_count
            }
            None => ledger.state.head.open_rows,
        };
        for sequence in 1..=rows {
            let stored = store.row_at(hour, sequence).unwrap().unwrap();
            let (canonical, hash) = &ledger.rows[ordinal as usize];
            let mut bytes = Vec::new();
            cdr_core::canonical::push_row(&stored.row().unwrap(), &mut bytes);
            assert_eq!(&bytes, canonical, "row {ordinal}");
            assert_eq!(store.stored_row_hash(&stored).unwrap(), *hash, "hash of row {ordinal}");
            assert_eq!((stored.ordinal(), stored.hour(), stored.sequence()), (ordinal, hour, sequence));
            ordinal += 1;
        }
        assert!(store.row_at(hour, rows + 1).unwrap().is_none() && store.row_at(hour, 0).unwrap().is_none());
    }
    assert_eq!(ordinal, ledger.state.head.row_count);
    assert_told(store, ledger);
    assert_net(store, ledger);
    assert_jobs(ledger);
    assert_known(store, ledger);
    assert_eq!(store.unpriced(0, usize::MAX).unwrap(), unpriced(ledger));
}

/// The outbox names every row and every sealed hour once, in order.
fn assert_told(store: &Store, ledger: &MemoryLedger) {
    let (mut ordinal, mut hour, mut index) = (0, ledger.state.head.first_hour, 0);
    for entry in store.outbox(0, usize::MAX).unwrap() {
        assert!(entry.index > index, "{entry:?}");
        assert_eq!((entry.first_ordinal, entry.first_closed), (ordinal, hour), "{entry:?}");
        let rows = store.rows(entry.ordinals()).unwrap();
        assert_eq!(rows.len(), entry.rows as usize);
        assert!(rows.iter().all(|row| row.row().unwrap().frame.recorded_at == entry.at));
        (ordinal, hour, index) = (entry.ordinals().end, Hour(hour.0 + entry.closed_hours), entry.index);
    }
    assert_eq!((ordinal, hour), (ledger.state.head.row_count, ledger.state.head.open_hour));
}

/// Canonical rows as JSON.
fn json_rows(ledger: &MemoryLedger) -> Vec<serde_json::Value> {
    ledger.rows.iter().map(|(text, _)| serde_json::from_slice(text).unwrap()).collect()
}

/// What the store takes for the rows of a message, and for the row in effect, is what following `adjustmentOf` from
/// each original gives.
fn assert_net(store: &Store, ledger: &MemoryLedger) {
    let rows = json_rows(ledger);
    let id = |row: &serde_json::Value| row["cdrId"].as_str().unwrap().to_owned();
    let mut of_message: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    let mut follower: BTreeMap<String, u64> = BTreeMap::new();
    for (ordinal, row) in rows.iter().enumerate().filter(|(_, row)| row["recordType"] == "sms") {
        of_message.entry(row["messageId"].as_str().unwrap().to_owned()).or_default().push(ordinal as u64);
        if let Some(before) = row["adjustmentOf"].as_str() {
            let other = follower.insert(before.to_owned(), ordinal as u64);
            assert_eq!(other, None, "two rows follow {before}");
        }
    }
    let ordinals = |rows: &[cdr_storage::StoredRow]| -> Vec<u64> {
        rows.iter().map(cdr_storage::StoredRow::ordinal).collect()
    };
    for (message, expected) in &of_message {
        let stored = store.rows_of_message(Uuid::parse(message).unwrap()).unwrap();
        assert_eq!(&ordinals(&stored), expected, "rows of message {message}");
        for original in stored.iter().filter(|row| rows[row.ordinal() as usize]["adjustmentOf"].is_null()) {
            let mut line = vec![original.ordinal()];
            while let Some(next) = follower.get(&id(&rows[line[line.len() - 1] as usize])) {
                line.push(*next);
            }
            for member in stored.iter().filter(|row| line.contains(&row.ordinal())) {
                assert_eq!(ordinals(&store.line(member).unwrap()), line, "line of row {}", member.ordinal());
            }
            let net: Vec<u64> = stored
                .iter()
                .filter(|row| line.contains(&row.ordinal()) && !store.is_followed(row).unwrap())
                .map(cdr_storage::StoredRow::ordinal)
                .collect();
            assert_eq!(net, line[line.len() - 1..], "the row of message {message} that is in effect");
        }
    }
}

/// What the next receipt of every message meets.
fn assert_known(store: &Store, ledger: &MemoryLedger) {
    let ids: Vec<Uuid> = json_rows(ledger)
        .iter()
        .filter_map(|row| row["messageId"].as_str().map(|id| Uuid::parse(id).unwrap()))
        .chain([Uuid([0xee; 16])])
        .collect();
    let expected = ledger.known(&ids, ledger.state.dedup_since()).unwrap();
    assert_eq!(store.known_messages(&ids).unwrap(), expected);
}

/// Counts and sums of every job are those of its rows.
fn assert_jobs(ledger: &MemoryLedger) {
    for job in ledger.state.jobs.iter() {
        let (mut looked_at, mut sum) = (0, 0);
        for row in json_rows(ledger) {
            if row["recordType"] == "job"
                && row["body"]["step"] == "PROGRESS"
                && row["body"]["jobId"] == job.name().as_str()
            {
                let counts = row["body"]["counts"].as_object().unwrap();
                looked_at += counts.values().map(|count| count.as_u64().unwrap()).sum::<u64>();
                sum += micros(row["body"]["sumDelta"].as_str().unwrap()).unwrap();
            }
        }
        assert_eq!((job.counts.total(), job.delta_micros), (looked_at, sum), "job {}", job.name());
    }
}

/// Ordinal and time of every row without a price that nothing follows.
fn unpriced(ledger: &MemoryLedger) -> Vec<(u64, Millis)> {
    let rows = json_rows(ledger);
    let followed: std::collections::HashSet<_> =
        rows.iter().filter_map(|row| row["adjustmentOf"].as_str()).collect();
    let waits = |row: &serde_json::Value| {
        row["recordType"] == "sms"
            && row["chargeAmount"].is_null()
            && !followed.contains(row["cdrId"].as_str().unwrap())
    };
    let recorded = |row: &serde_json::Value| Millis::parse(row["recordedAt"].as_str().unwrap()).unwrap();
    rows.iter().enumerate().filter(|(_, row)| waits(row)).map(|(i, row)| (i as u64, recorded(row))).collect()
}
