#![allow(clippy::unwrap_used)]

use super::batch::{Batch, Batcher};
use super::projection::Projector;
use crate::bus::{AckHandle, Delivery};
use crate::clock::Clock;
use crate::pricing::TablePricing;
use cdr_core::command::{ClockKind, Command, DraftItem, DraftsBuffer, Envelope, Initialize};
use cdr_core::memory::MemoryLedger;
use cdr_core::row::{Draft, Record, SYSTEM_OPERATOR, System, SystemKind};
use cdr_core::state::LedgerState;
use cdr_core::{CdrId, Millis};
use serde_json::json;
use std::sync::Arc;

const SUBJECT: &str = "sms.dlr.inbound";
const HORIZON_HOURS: u32 = 168;

/// The state of a ledger with operator `AWCC` that began in the first hour of the epoch.
fn ledger(zone: &str) -> LedgerState {
    let body = r#"{"effectiveFrom":"1970-01-01T00:00:00Z","operatorId":"AWCC","recordingEntity":"4120101"}"#;
    let record = Record::System(System { kind: SystemKind::Operator, body });
    let draft = Draft { cdr_id: CdrId::default(), operator_id: SYSTEM_OPERATOR, trace_id: "test", record };
    let mut rows = DraftsBuffer::default();
    rows.push(0, &draft).unwrap();
    let initialize = Initialize {
        cluster_id: "test",
        zone,
        clock: ClockKind::System,
        dedup_horizon_hours: HORIZON_HOURS,
        hash_key: [0; 16],
        rows: rows.drafts(),
    };
    let mut ledger = MemoryLedger::default();
    let envelope = Envelope { term: 0, now: Millis(0), command: Command::Initialize(initialize) };
    ledger.apply_bytes(&envelope.encode().unwrap()).unwrap();
    assert!(ledger.state.partition("AWCC").is_some());
    ledger.state
}

fn batcher(state: &LedgerState, clock: Clock) -> Batcher {
    let zone = &state.cluster.as_ref().unwrap().zone;
    let projector = Projector::new(zone, Arc::new(TablePricing::default())).unwrap();
    Batcher::new("S".to_owned(), SUBJECT.to_owned(), 0, projector, clock, 500)
}

/// A receipt whose final state was reached at `final_at`.
fn receipt(sequence: u64, final_at: Millis) -> Delivery {
    let payload = json!({
        "schemaVersion": "1", "messageId": format!("0f8fad5b-d9cb-469f-a165-{sequence:012}"),
        "operatorId": "AWCC", "status": "DELIVERED", "direction": "MT", "chargeType": "A2P", "from": "Bank",
        "to": "+93771234567", "serviceCenterAddress": "+93770011111", "messageReference": "7F3A",
        "segmentCount": 1, "encoding": "GSM7", "finalAt": final_at.to_string(), "traceId": "trace",
    });
    Delivery {
        sequence,
        subject: Arc::from(SUBJECT),
        payload: payload.to_string().into(),
        stored_ms: final_at.0,
        ack: AckHandle::unbound(sequence),
    }
}

/// The drafts of a batch.
fn drafts(batch: &Batch) -> Vec<DraftItem<'_>> {
    let Command::Ingest(ingest) = batch.command("S") else { panic!("a batch proposes an ingest") };
    ingest.drafts.decode().unwrap()
}

#[test]
fn local_time_is_that_of_the_ledger() {
    for (zone, offset) in [("Asia/Kabul", 270), ("UTC", 0), ("America/St_Johns", -150)] {
        let state = ledger(zone);
        let summer = Millis::parse("2026-07-01T12:00:00Z").unwrap();
        let mut batcher = batcher(&state, Clock::replay(summer));
        batcher.add(&receipt(1, summer), &state).unwrap();
        let batch = batcher.take().unwrap();
        let Record::Sms(sms) = drafts(&batch).remove(0).draft.record else { panic!("no CDR") };
        assert_eq!(sms.local_offset_minutes, offset, "{zone}");
    }
    assert!(Projector::new("Asia/Nowhere", Arc::new(TablePricing::default())).is_err());
}
