//! Cost of events on one core: payloads of appended records, and signatures of published batches.
//!
//! `cargo bench --profile release --bench events -- [--rows 1000000]`. Aim: 300,000 payloads a second.

use cdr_core::personal::Salt;
use cdr_core::row::{BillingIndicator, ChargeType, Direction, Encoding, FinalState, Frame, Record, Row, Sms};
use cdr_core::rules::SchemaVersion;
use cdr_core::{CdrId, Hour, Millis, Money, Uuid};
use cdr_mediation::events::numbers::PLAIN;
use cdr_mediation::events::signature::{SignedBatch, TrustedKey, verify_event};
use cdr_mediation::events::signing_key::SigningKey;
use cdr_mediation::events::{EventHead, EventIds, record_appended};
use std::hint::black_box;
use std::time::Instant;

const ROUNDS: usize = 5;
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// An ordinary priced message; its ids vary with `i`.
fn row(i: u64) -> Row<'static> {
    let mut bits = [0x5a; 16];
    bits[8..].copy_from_slice(&i.to_be_bytes());
    let sms = Sms {
        message_id: Uuid(bits),
        tenant_id: Some(Uuid([7; 16])),
        calling_party: "+93701234567",
        called_party: "+93797654321",
        recording_entity: "4120101",
        service_center: "+93700000010",
        message_reference: "a1b2c3d4",
        event_at: Millis(1_776_690_000_123 + i as i64),
        local_offset_minutes: 270,
        submitted_at: Some(Millis(1_776_689_998_000 + i as i64)),
        charge_amount: Money::from_micros(38_400 + (i % 1000) as i64),
        charge_currency: Some("AFN"),
        tap_tariff_class: Some("A042"),
        tariff_version: Some("2026-04"),
        charge_type: ChargeType::A2p,
        billing_indicator: BillingIndicator::Chargeable,
        direction: Direction::Mt,
        encoding: Encoding::Gsm7,
        final_state: FinalState::Delivered,
        segment_count: 1,
        imsi: Some("412011234567890"),
        ..Sms::BLANK
    };
    let frame = Frame {
        bucket_hour: Hour(493_525),
        sequence: i + 1,
        chain_prev: [0xab; 32],
        recorded_at: Millis(1_776_690_000_500),
        source_stream: "SMS_DLR_INBOUND",
        source_sequence: i + 1,
        cdr_id: CdrId(bits),
        operator_id: "AWCC",
        trace_id: TRACE,
    };
    Row { version: SchemaVersion::V2, frame, salt: Salt([7; 16]), record: Record::Sms(sms) }
}

/// The best of several rounds, since others share the machine.
fn measure(what: &str, count: u64, mut run: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut best = f64::INFINITY;
    for _ in 0..ROUNDS {
        let started = Instant::now();
        run()?;
        best = best.min(started.elapsed().as_secs_f64());
    }
    println!("{what:<52} {:>12.0}/s {:>8.3} us", count as f64 / best, best * 1e6 / count as f64);
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let value = |name: &str| arguments.iter().position(|a| a == name).and_then(|i| arguments.get(i + 1));
    let rows: u64 = value("--rows").map_or(Ok(1_000_000), |text| text.parse())?;
    let ids = EventIds::new("afg-prod", 1);
    let event = |i: u64| -> anyhow::Result<Vec<u8>> {
        let event_id = ids.id(1000 + i / 500, (i % 500) as u32).ok_or_else(|| anyhow::anyhow!("no id"))?;
        let head =
            EventHead { event_id, trace_id: TRACE, occurred_at: Millis(1_776_690_000_500), numbers: &PLAIN };
        Ok(record_appended(&row(i), &[0xcd; 32], &head)?.payload)
    };
    println!("one payload is {} bytes", event(0)?.len());
    measure("cdr.record.appended.v1, id included", rows, || {
        for i in 0..rows {
            black_box(event(i)?);
        }
        Ok(())
    })?;

    let folder = std::env::temp_dir().join(format!("cdr-events-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let key = SigningKey::load_or_create(&folder.join("event-signing.pem"))?;
    let trusted = TrustedKey::from_pem("afg-prod", key.public_pem());
    std::fs::remove_dir_all(&folder)?;
    let trusted = trusted.ok_or_else(|| anyhow::anyhow!("the key's public half can't be read"))?;
    for size in [1usize, 100, 500, 1000] {
        let payloads = (0..size as u64).map(event).collect::<anyhow::Result<Vec<_>>>()?;
        let batches = (20_000 / size).clamp(20, 500);
        measure(&format!("signed with headers, batches of {size}"), (batches * size) as u64, || {
            for _ in 0..batches {
                let batch = SignedBatch::sign(&payloads, &key, "afg-prod", Millis(1_776_690_000_500))?;
                for i in 0..size {
                    black_box(batch.headers(i));
                }
            }
            Ok(())
        })?;
        let batch = SignedBatch::sign(&payloads, &key, "afg-prod", Millis(1_776_690_000_500))?;
        let headers = batch.headers(size - 1);
        measure(&format!("verified, batches of {size}"), 1000, || {
            for _ in 0..1000 {
                verify_event(&payloads[size - 1], &headers, &trusted)?;
            }
            Ok(())
        })?;
    }
    Ok(())
}
