//! What a leader proposes: a fence, a ledger, a stream, and then the messages of the stream, again and again
//! some that were there before; now and then it seals.

use bytes::Bytes;
use cdr_core::command::{Append, ClockKind, DraftsBuffer, Ingest, Initialize, Progress, Source};
use cdr_core::memory::MemoryLedger;
use cdr_core::personal::{Salt, SystemContent};
use cdr_core::row::{
    BillingIndicator, ChargeType, Direction, Draft, Drawn, Encoding, FinalState, Record, Sms, SystemKind,
};
use cdr_core::rules::SchemaVersion;
use cdr_core::{CdrId, Command, Envelope, Hour, Millis, Uuid};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;

/// Time at which a history begins, in milliseconds since the epoch.
pub const START_MS: i64 = 1_776_690_000_000;

const OPERATOR: &str = "AWCC";
const STREAM: &str = "SMS";

/// A draw that a history makes for a proposal.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    pub messages: u64,
    pub seal: bool,
    /// Proposed as if so many messages more were in the log already.
    pub ahead: u64,
    /// Makes record ids differ between two proposals of one message.
    pub number: u64,
}

/// What a leader of `term` proposes next, seeing `ledger`.
pub fn next(ledger: &MemoryLedger, term: u64, now_ms: i64, draw: Draw) -> Bytes {
    let state = &ledger.state;
    let mut drafts = DraftsBuffer::default();
    let system = |kind, content: &str, drafts: &mut DraftsBuffer| {
        let content = SystemContent::of_text(kind, content).unwrap();
        drafts.push(0, &content.draft(drawn(bits("system", draw.number)), "t")).unwrap();
    };
    let command = if state.head.fence_term != term {
        Command::Fence
    } else if state.cluster.is_none() {
        let hour = Millis(now_ms).hour();
        let operator = format!(
            r#"{{"effectiveFrom":"{}","operatorId":"{OPERATOR}","recordingEntity":"AFGAW"}}"#,
            text(hour)
        );
        system(SystemKind::Operator, &operator, &mut drafts);
        Command::Initialize(Initialize {
            cluster_id: "sim",
            zone: "Asia/Kabul",
            clock: ClockKind::System,
            dedup_horizon_hours: 168,
            hash_key: [7; 16],
            rows: drafts.drafts(),
        })
    } else if state.stream(STREAM).is_none() {
        let stream = format!(
            r#"{{"created":"2026-04-20T13:00:00Z","firstSequence":1,"reason":"first","stream":"{STREAM}"}}"#
        );
        system(SystemKind::Stream, &stream, &mut drafts);
        Command::Append(Append { source: Source::Internal, drafts: drafts.drafts() })
    } else if draw.seal {
        Command::Seal
    } else {
        let position = state.stream(STREAM).map_or(0, |at| state.streams[at].position);
        let first = position + 1 + draw.ahead;
        let last = first + draw.messages - 1;
        for sequence in first..=last {
            drafts.push((sequence - first) as u32, &message(sequence, now_ms, draw.number)).unwrap();
        }
        Command::Ingest(Ingest {
            stream: STREAM,
            first,
            last,
            last_digest: Sha256::digest(last.to_be_bytes()).into(),
            ignored: 0,
            dead_lettered: 0,
            missing: 0,
            drafts: drafts.drafts(),
        })
    };
    let progress = Progress { applied: state.head.applied, acknowledged: Vec::new() };
    Envelope { progress, ..Envelope::new(term, Millis(now_ms), command) }.encode().unwrap().into()
}

fn text(hour: Hour) -> String {
    hour.to_string()
}

fn bits(name: &str, number: u64) -> [u8; 16] {
    let digest = Sha256::new().chain_update(name).chain_update(number.to_be_bytes()).finalize();
    digest[..16].try_into().unwrap()
}

fn drawn(id: [u8; 16]) -> Drawn {
    Drawn { version: SchemaVersion::V2, cdr_id: CdrId(id), salt: Salt(id) }
}

/// The message at a sequence of the stream: every seventh repeats an earlier one.
fn message_number(sequence: u64) -> u64 {
    if sequence.is_multiple_of(7) { sequence / 2 } else { sequence }
}

fn message(sequence: u64, now_ms: i64, number: u64) -> Draft<'static> {
    let id = bits("record", number << 20 | sequence);
    let sms = Sms {
        message_id: Uuid(bits("message", message_number(sequence))),
        calling_party: "+93700000001",
        called_party: "+93790000002",
        recording_entity: "AFGAW",
        service_center: "+93700000010",
        message_reference: "ref",
        event_at: Millis(now_ms),
        local_offset_minutes: 270,
        charge_type: ChargeType::ALL[0],
        billing_indicator: BillingIndicator::Unknown,
        direction: Direction::ALL[0],
        encoding: Encoding::ALL[0],
        final_state: FinalState::ALL[0],
        segment_count: 1,
        ..Sms::BLANK
    };
    let Drawn { version, cdr_id, salt } = drawn(id);
    Draft { version, cdr_id, operator_id: OPERATOR, trace_id: "t", salt, record: Record::Sms(sms) }
}

/// Every message up to the stream's position is in the ledger exactly once.
pub fn check_rows(ledger: &MemoryLedger) {
    let state = &ledger.state;
    let position = state.stream(STREAM).map_or(0, |at| state.streams[at].position);
    let expected: BTreeSet<u64> = (1..=position).map(message_number).collect();
    let sms = ledger.rows.iter().filter(|(canonical, _)| {
        let text = std::str::from_utf8(canonical).unwrap();
        text.contains(r#""recordType":"sms""#)
    });
    let mut found = BTreeSet::new();
    let mut count = 0;
    for (canonical, _) in sms {
        let text = std::str::from_utf8(canonical).unwrap();
        let (_, rest) = text.split_once(r#""messageId":""#).unwrap();
        found.insert(rest[..36].to_owned());
        count += 1;
    }
    let expected: BTreeSet<String> =
        expected.into_iter().map(|number| Uuid(bits("message", number)).to_string()).collect();
    assert_eq!(count, found.len(), "a message is in the ledger twice");
    assert_eq!(found, expected, "the ledger has not the messages of the stream");
}
