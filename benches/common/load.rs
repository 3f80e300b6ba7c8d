//! Rated CDRs as the ingest proposes them: batches that continue a stream, encoded as log entries.
#![allow(dead_code, missing_docs)]

use bytes::Bytes;
use cdr_core::command::{Append, ClockKind, Command, DraftsBuffer, Envelope, Ingest, Initialize, Source};
use cdr_core::personal::{Salt, SystemContent};
use cdr_core::row::{
    BillingIndicator, ChargeType, Direction, Draft, Drawn, Encoding, FinalState, Record, Sms, SystemKind,
};
use cdr_core::rules::SchemaVersion;
use cdr_core::state::{Operator, StreamRecord};
use cdr_core::{CdrId, Millis, Money, Uuid};

const OPERATORS: [&str; 7] = ["AWCC", "MTN_AF", "ETS", "ROSHAN", "SALAAM", "INTL_IN", "INTL_OUT"];

/// Commands of one stream; the same seed gives the same rows.
pub struct Load {
    /// Term in which the entries are to be proposed.
    pub term: u64,
    position: u64,
    random: u64,
}

impl Load {
    pub fn new(seed: u64) -> Self {
        Self { term: 1, position: 0, random: seed }
    }

    fn next(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn uuid(&mut self) -> [u8; 16] {
        let (a, b) = (self.next().to_be_bytes(), self.next().to_be_bytes());
        let mut out = [0; 16];
        out[..8].copy_from_slice(&a);
        out[8..].copy_from_slice(&b);
        out
    }

    /// The entries that begin a ledger with seven operators and one stream.
    pub fn begin(&mut self, now: Millis) -> anyhow::Result<[Bytes; 3]> {
        let mut drafts = DraftsBuffer::default();
        for operator in OPERATORS {
            let body = Operator {
                effective_from: now.hour(),
                operator_id: operator.to_owned(),
                recording_entity: "4120101".to_owned(),
            };
            self.system(&mut drafts, SystemKind::Operator, &body)?;
        }
        let initialize = Command::Initialize(Initialize {
            cluster_id: "bench",
            zone: "Asia/Kabul",
            clock: ClockKind::System,
            dedup_horizon_hours: 168,
            hash_key: [7; 16],
            rows: drafts.drafts(),
        });
        let stream = StreamRecord {
            created: now.to_string(),
            first_sequence: 1,
            reason: "benchmark".to_owned(),
            stream: "LOAD".to_owned(),
        };
        let mut drafts = DraftsBuffer::default();
        self.system(&mut drafts, SystemKind::Stream, &stream)?;
        let append = Command::Append(Append { source: Source::Internal, drafts: drafts.drafts() });
        let term = self.term;
        Ok([entry(term, now, Command::Fence)?, entry(term, now, initialize)?, entry(term, now, append)?])
    }

    fn system(
        &mut self,
        drafts: &mut DraftsBuffer,
        kind: SystemKind,
        body: &impl serde::Serialize,
    ) -> anyhow::Result<()> {
        let content = SystemContent::new(kind, body).map_err(anyhow::Error::msg)?;
        let drawn = Drawn { version: SchemaVersion::V2, cdr_id: CdrId(self.uuid()), salt: Salt(self.uuid()) };
        drafts.push(0, &content.draft(drawn, "bench"))?;
        Ok(())
    }

    /// One batch of new rated CDRs.
    pub fn batch(&mut self, rows: u64, now: Millis) -> anyhow::Result<Bytes> {
        let mut drafts = DraftsBuffer::default();
        for i in 0..rows {
            let r = self.next();
            let called = format!("+937{:08}", r % 100_000_000);
            let reference = format!("{:016x}", self.next());
            let trace = format!("00-{:016x}{r:016x}-01", self.next());
            let random: [u8; 10] = self.uuid()[..10].try_into()?;
            let message_id = Uuid(self.uuid());
            let sms = Sms {
                message_id,
                tenant_id: Some(Uuid([(r >> 24) as u8; 16])),
                calling_party: "GHASI-BANK",
                called_party: &called,
                recording_entity: "4120101",
                service_center: "+93700000001",
                message_reference: &reference,
                event_at: Millis(now.0 - (r % 30_000) as i64),
                local_offset_minutes: 270,
                submitted_at: Some(Millis(now.0 - 60_000)),
                charge_amount: Money::from_micros(384_000),
                charge_currency: Some("AFN"),
                tap_tariff_class: Some("A042"),
                tariff_version: Some("bench-1"),
                charge_type: ChargeType::A2p,
                billing_indicator: BillingIndicator::Chargeable,
                direction: Direction::Mt,
                encoding: Encoding::Gsm7,
                final_state: FinalState::Delivered,
                segment_count: 1 + (r % 3) as u8,
                imsi: Some("412011234567890"),
                ..Sms::BLANK
            };
            let operator_id = OPERATORS[(r >> 40) as usize % OPERATORS.len()];
            let cdr_id = CdrId::from_parts(now.0, random);
            let (salt, record) = (Salt(self.uuid()), Record::Sms(sms));
            drafts.push(
                i as u32,
                &Draft { version: SchemaVersion::V2, cdr_id, operator_id, trace_id: &trace, salt, record },
            )?;
        }
        let first = self.position + 1;
        self.position += rows;
        entry(
            self.term,
            now,
            Command::Ingest(Ingest {
                stream: "LOAD",
                first,
                last: self.position,
                last_digest: [1; 32],
                ignored: 0,
                dead_lettered: 0,
                missing: 0,
                drafts: drafts.drafts(),
            }),
        )
    }
}

/// A command as a log entry.
pub fn entry(term: u64, now: Millis, command: Command<'_>) -> anyhow::Result<Bytes> {
    Ok(Envelope::new(term, now, command).encode()?.into())
}
