#![allow(clippy::unwrap_used)]

use super::batch::{Batch, Batcher};
use super::dead_letter::{dead_letter, put_away};
use super::halt::Halt;
use super::projection::Projector;
use super::pump::{Ingest, IngestSettings};
use super::tail::LastNamed;
use crate::clock::Clock;
use crate::dlr::{Parsed, Reason, parse};
use crate::metrics::Metrics;
use crate::pricing::TablePricing;
use cdr_bus::{AckHandle, Bus, BusError, Delivery, LocalBackend, LocalOptions, Outgoing};
use cdr_core::command::{
    Append, ClockKind, Command, DraftItem, DraftsBuffer, Envelope, Initialize, Reply, Source,
};
use cdr_core::memory::MemoryLedger;
use cdr_core::personal::{Salt, SystemContent};
use cdr_core::row::{Drawn, Record, SystemKind};
use cdr_core::rules::SchemaVersion;
use cdr_core::state::LedgerState;
use cdr_core::time::{HOUR_MS, MAX_MILLIS};
use cdr_core::{CdrId, Millis};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

const SUBJECT: &str = "sms.dlr.inbound";
const HORIZON_HOURS: u32 = 168;

fn entry(ledger: &mut MemoryLedger, command: Command<'_>) {
    let envelope = Envelope::new(0, Millis(0), command);
    let reply = ledger.apply_bytes(&envelope.encode().unwrap()).unwrap();
    assert!(!matches!(reply, Reply::Rejected(_)), "{reply:?}");
}

fn system_row(kind: SystemKind, body: &str) -> DraftsBuffer {
    let content = SystemContent::of_text(kind, body).unwrap();
    let draft = content
        .draft(Drawn { version: SchemaVersion::V2, cdr_id: CdrId::default(), salt: Salt::default() }, "test");
    let mut rows = DraftsBuffer::default();
    rows.push(0, &draft).unwrap();
    rows
}

/// A ledger with operator `AWCC` that began in the first hour of the epoch.
pub(super) fn ledger(zone: &str) -> MemoryLedger {
    let body = r#"{"effectiveFrom":"1970-01-01T00:00:00Z","operatorId":"AWCC","recordingEntity":"4120101"}"#;
    let rows = system_row(SystemKind::Operator, body);
    let mut ledger = MemoryLedger::default();
    let initialize = Initialize {
        cluster_id: "test",
        zone,
        clock: ClockKind::System,
        dedup_horizon_hours: HORIZON_HOURS,
        hash_key: [0; 16],
        rows: rows.drafts(),
    };
    entry(&mut ledger, Command::Initialize(initialize));
    assert!(ledger.state.partition("AWCC").is_some());
    ledger
}

/// Appends a system row.
pub(super) fn append(ledger: &mut MemoryLedger, kind: SystemKind, body: &[u8]) {
    let rows = system_row(kind, std::str::from_utf8(body).unwrap());
    entry(ledger, Command::Append(Append { source: Source::Internal, drafts: rows.drafts() }));
}

fn state(zone: &str) -> LedgerState {
    ledger(zone).state
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
        let state = state(zone);
        let summer = Millis::parse("2026-07-01T12:00:00Z").unwrap();
        let mut batcher = batcher(&state, Clock::replay(summer));
        batcher.add(&receipt(1, summer), &state).unwrap();
        let batch = batcher.take().unwrap();
        let Record::Sms(sms) = drafts(&batch).remove(0).draft.record else { panic!("no CDR") };
        assert_eq!(sms.local_offset_minutes, offset, "{zone}");
    }
    assert!(Projector::new("Asia/Nowhere", Arc::new(TablePricing::default())).is_err());
}

#[test]
fn the_submitters_id_is_taken_by_rows_that_have_it_and_ignored_by_others() {
    let (state, at) = (state("Asia/Kabul"), Millis::parse("1970-01-02T12:00:00Z").unwrap());
    let projector = Projector::new("Asia/Kabul", Arc::new(TablePricing::default())).unwrap();
    let book = projector.book();
    let taken = |version, correlation_id: serde_json::Value| {
        let mut message: serde_json::Value = serde_json::from_slice(&receipt(1, at).payload).unwrap();
        message["correlationId"] = correlation_id;
        let payload = message.to_string();
        let Parsed::Final(dlr) = parse(payload.as_bytes()) else { panic!("{payload}") };
        let drawn = Drawn { version, cdr_id: CdrId::default(), salt: Salt::default() };
        let draft = projector.project(&dlr, &state, drawn, at, &book).map_err(|reason| reason.to_string())?;
        assert_eq!(draft.version, version);
        let Record::Sms(sms) = draft.record else { panic!("no CDR") };
        Ok::<_, String>(sms.correlation_id.map(str::to_owned))
    };
    assert_eq!(taken(SchemaVersion::V3, json!("order-7")), Ok(Some("order-7".to_owned())));
    assert_eq!(taken(SchemaVersion::V3, json!(null)), Ok(None));
    for bad in [json!("two words"), json!(7), json!(""), json!("+93701234567"), json!({})] {
        let refused = taken(SchemaVersion::V3, bad.clone()).unwrap_err();
        assert!(refused.starts_with("correlationId is not a code"), "{bad}: {refused}");
        assert_eq!(taken(SchemaVersion::V2, bad), Ok(None));
    }
    assert_eq!(taken(SchemaVersion::V2, json!("order-7")), Ok(None));
}

/// The reasons of the dead letters that receipts of these event times give on a clock at `now`.
fn reasons(clock: &Clock, final_at: &[i64]) -> Vec<String> {
    let state = state("Asia/Kabul");
    let mut batcher = batcher(&state, clock.clone());
    for (sequence, at) in (1..).zip(final_at) {
        assert!(batcher.add(&receipt(sequence, Millis(*at)), &state).unwrap().is_none());
    }
    let batch = batcher.take().unwrap();
    assert_eq!(drafts(&batch).len() + batch.dead_letters.len(), final_at.len());
    batch.dead_letters.iter().map(|(_, reason)| reason.to_string()).collect()
}

#[test]
fn events_far_ahead_of_the_clock_are_put_away() {
    let ahead = "finalAt is more than an hour in the future";
    let (clock, slack) = (Clock::system(), 60_000);
    let now = clock.now().0;
    assert_eq!(reasons(&clock, &[now, now + HOUR_MS, now + HOUR_MS + slack]), [ahead]);
    assert_eq!(reasons(&clock, &[now + 24 * HOUR_MS, now + 400 * 24 * HOUR_MS]), [ahead; 2]);
    let old = now - i64::from(HORIZON_HOURS) * HOUR_MS;
    assert_eq!(reasons(&clock, &[old + slack, old - slack]), ["finalAt is older than the duplicate horizon"]);
}

#[test]
fn a_clock_that_follows_events_has_none_ahead() {
    let start = Millis::parse("2026-04-20T13:00:00Z").unwrap();
    let clock = Clock::replay(start);
    assert_eq!(reasons(&clock, &[start.0, start.0 + HOUR_MS / 2]), [] as [&str; 0]);
    let state = state("UTC");
    let mut batcher = batcher(&state, clock.clone());
    let tomorrow = Millis(start.0 + 24 * HOUR_MS);
    batcher.add(&receipt(1, start), &state).unwrap();
    let closed = batcher.add(&receipt(2, tomorrow), &state).unwrap();
    assert_eq!(drafts(&closed.unwrap()).len(), 1);
    assert_eq!(drafts(&batcher.take().unwrap()).len(), 1);
    clock.release();
    assert_eq!(reasons(&clock, &[tomorrow.0]).len(), 1, "a clock that ticks on follows no events");
}

#[test]
fn a_clock_behind_the_ledger_does_not_make_events_younger() {
    let mut state = state("UTC");
    let start = Millis::parse("2026-04-20T13:00:00Z").unwrap();
    let clock = Clock::replay(start);
    clock.release();
    state.head.last_recorded_at = Millis(start.0 + 2 * HOUR_MS);
    let mut batcher = batcher(&state, clock);
    let at = |ms| Millis(start.0 - i64::from(HORIZON_HOURS) * HOUR_MS + ms);
    batcher.add(&receipt(1, at(HOUR_MS)), &state).unwrap();
    batcher.add(&receipt(2, at(2 * HOUR_MS)), &state).unwrap();
    let batch = batcher.take().unwrap();
    assert_eq!((drafts(&batch).len(), batch.dead_letters.len()), (1, 1));
}

#[test]
fn the_end_of_9999_is_put_away_and_moves_no_clock() {
    let start = Millis::parse("2026-04-20T13:00:00Z").unwrap();
    let state = state("Asia/Kabul");
    let mut batcher = batcher(&state, Clock::replay(start));
    batcher.add(&receipt(1, Millis(MAX_MILLIS)), &state).unwrap();
    let closed = batcher.add(&receipt(2, start), &state).unwrap().unwrap();
    let batch = batcher.take().unwrap();
    assert_eq!((drafts(&batch).len(), batch.latest_event), (1, Some(start)));
    let reason = closed.dead_letters[0].1.to_string();
    assert_eq!(reason, "finalAt is not an instant with a local time before the year 10000");
    let west = Projector::new("Etc/GMT+5", Arc::new(TablePricing::default())).unwrap();
    assert!(west.check_local_time(Millis(MAX_MILLIS)).is_ok());
}

#[test]
fn a_batch_that_waited_for_long_is_stale() {
    let state = state("UTC");
    let mut batcher = batcher(&state, Clock::system());
    let before = Clock::system().now();
    batcher.add(&receipt(1, before), &state).unwrap();
    let batch = batcher.take().unwrap();
    assert!(!batch.is_stale(Millis(before.0 + 30 * 60_000)));
    assert!(batch.is_stale(Millis(before.0 + 31 * 60_000)));
}

/// First and last sequence, missing ones, offsets of drafts, and whether a message is at the end.
fn shape(batch: &Batch) -> (u64, u64, u64, Vec<u32>, bool) {
    let Command::Ingest(ingest) = batch.command("S") else { panic!("a batch proposes an ingest") };
    let offsets = drafts(batch).iter().map(|item| item.offset).collect();
    (ingest.first, ingest.last, ingest.missing, offsets, ingest.last_digest != [0; 32])
}

#[test]
fn gaps_beyond_32_bits_get_batches_of_their_own() {
    let state = state("UTC");
    let now = Clock::system().now();
    let wide = 1 << 32;
    let mut batcher = batcher(&state, Clock::system());
    let mut add = |sequence| batcher.add(&receipt(sequence, now), &state).unwrap();
    // A gap at the very beginning: a batch of missing sequences only.
    let closed = add(wide + 10).unwrap();
    assert_eq!(shape(&closed), (1, wide + 9, wide + 9, vec![], false));
    assert_eq!((closed.acks.len(), closed.oldest_stored_ms), (0, now.0));
    assert!(add(wide + 12).is_none());
    // The widest that an offset can hold, then one more.
    let first = wide + 10;
    assert!(add(first + u64::from(u32::MAX)).is_none());
    let closed = add(first + wide).unwrap();
    let offsets = vec![0, 2, u32::MAX];
    assert_eq!(shape(&closed), (first, first + wide - 1, wide - 3, offsets, true));
    let closed = add(first + 3 * wide).unwrap();
    assert_eq!(shape(&closed), (first + wide, first + 3 * wide - 1, 2 * wide - 1, vec![0], false));
    assert_eq!(shape(&batcher.take().unwrap()), (first + 3 * wide, first + 3 * wide, 0, vec![0], true));
}

#[tokio::test]
async fn the_inbound_stream_takes_nothing_that_no_dead_letter_could_hold() {
    let folder = tempfile::tempdir().unwrap();
    let bus = Arc::new(LocalBackend::open(folder.path(), LocalOptions::default()).unwrap());
    let settings = IngestSettings {
        subject: SUBJECT.to_owned(),
        stream: "S".to_owned(),
        durable: "reader".to_owned(),
        batch_max: 500,
        in_flight: 8,
        replicas: 1,
    };
    let (pricing, metrics) = (Arc::new(TablePricing::default()), Arc::new(Metrics::new().unwrap()));
    let last_named = LastNamed::default();
    let halt = Halt::in_dir(folder.path());
    Ingest { settings, bus: bus.clone(), pricing, metrics, last_named, halt }.ensure_streams().await.unwrap();
    let limit = bus.max_payload_bytes() - 4_096;
    let send = |bytes: usize| {
        let (subject, payload) = (SUBJECT.to_owned(), vec![b'x'; bytes].into());
        bus.publish(Outgoing { subject, payload, ..Outgoing::default() })
    };
    assert!(matches!(send(limit + 1).await, Err(BusError::TooLarge { .. })));
    send(limit).await.unwrap();
    let mut subscription = bus.open("S", "reader", 1).await.unwrap();
    let delivery = subscription.next_batch(1, Duration::from_secs(5)).await.unwrap().remove(0);
    let longest =
        Reason::Invalid { field: "finalAt", expected: "an instant with a local time before the year 10000" };
    let letter = dead_letter(&delivery, &format!("{}#4294967295", "S".repeat(64)), &longest.to_string());
    put_away(&*bus, &letter).await.unwrap();
    let stored = bus.message("S_DEADLETTER", 1).await.unwrap().unwrap();
    assert_eq!((stored.payload.len(), stored.headers.len()), (limit, 4));
}
