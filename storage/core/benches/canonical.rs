//! Cost of a row: canonical bytes, hash, chain and tree, on one core. Target: 1.5 us a row.
//!
//! `cargo bench -p cdr-core --profile release`

#![allow(clippy::disallowed_methods, clippy::disallowed_types, clippy::disallowed_macros)]

use cdr_core::canonical::{push_row, row_hash};
use cdr_core::hash::sha256;
use cdr_core::merkle::Frontier;
use cdr_core::personal::Salt;
use cdr_core::row::{
    BillingIndicator, ChargeType, Direction, Draft, Encoding, FinalState, Place, Record, Row, Sms,
};
use cdr_core::rules::SchemaVersion;
use cdr_core::{CdrId, Hash, Hour, Millis, Money, Uuid, codec};
use std::hint::black_box;
use std::time::Instant;

const ROWS: u64 = 1_000_000;
const ROUNDS: usize = 5;

/// An ordinary priced message; its numbers vary with `i`.
fn draft(i: u64) -> Draft<'static> {
    let mut bits = [0x5a; 16];
    bits[8..].copy_from_slice(&i.to_be_bytes());
    let sms = Sms {
        message_id: Uuid(bits),
        tenant_id: Some(Uuid([7; 16])),
        calling_party: "AFGBANK",
        called_party: "+93791234567",
        recording_entity: "AFGAW",
        service_center: "+93700000010",
        message_reference: "a1b2c3d4",
        event_at: Millis(1_776_690_000_123 + i as i64),
        local_offset_minutes: 270,
        submitted_at: Some(Millis(1_776_689_998_000 + i as i64)),
        charge_amount: Money::from_micros(38_400 + (i % 1000) as i64),
        charge_currency: Some("AFN"),
        tap_tariff_class: Some("SMS_A2P"),
        tariff_version: Some("2026-04-01"),
        charge_type: ChargeType::A2p,
        billing_indicator: BillingIndicator::Chargeable,
        direction: Direction::Mt,
        encoding: Encoding::Gsm7,
        final_state: FinalState::Delivered,
        segment_count: 1,
        imsi: Some("412011234567890"),
        ..Sms::BLANK
    };
    Draft {
        version: SchemaVersion::V2,
        cdr_id: CdrId::from_parts(1_776_690_000_123 + i as i64, [i as u8; 10]),
        operator_id: "AWCC",
        salt: Salt([7; 16]),
        trace_id: "4bf92f3577b34da6a3ce929d0e0e4736",
        record: Record::Sms(sms),
    }
}

fn row(draft: Draft<'_>, i: u64, chain_prev: Hash) -> Row<'_> {
    let place = Place {
        bucket_hour: Hour(493_525),
        sequence: i + 1,
        chain_prev,
        recorded_at: Millis(1_776_690_001_000 + i as i64),
        source_stream: "SMS_DLR_INBOUND",
        source_sequence: i + 1,
    };
    Row::from_draft(draft, place)
}

/// The best of some rounds, in microseconds a row.
fn measure(name: &str, mut round: impl FnMut()) {
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        round();
        best = best.min(start.elapsed().as_secs_f64() * 1e6 / ROWS as f64);
    }
    println!("{name:<44} {best:>7.3} us/row");
}

fn main() {
    let mut bytes = Vec::new();
    push_row(&row(draft(1), 1, [1; 32]), &mut bytes);
    println!("{ROWS} rows of {} canonical bytes, best of {ROUNDS} rounds", bytes.len());

    measure("sha-256 of those bytes", || {
        for _ in 0..ROWS {
            black_box(sha256(black_box(&bytes)));
        }
    });
    measure("canonicalise", || {
        let mut out = Vec::new();
        for i in 0..ROWS {
            out.clear();
            push_row(&row(draft(i), i, [1; 32]), &mut out);
            black_box(&out);
        }
    });
    measure("canonicalise + hash + chain + tree", || {
        let (mut scratch, mut previous, mut frontier) = (Vec::new(), [1; 32], Frontier::default());
        for i in 0..ROWS {
            previous = row_hash(&row(draft(i), i, previous), &mut scratch);
            frontier.push(previous);
        }
        black_box(frontier.root());
    });
    let encoded: Vec<Vec<u8>> = (0..1000)
        .map(|i| {
            let mut out = Vec::new();
            codec::encode_draft(&draft(i), &mut out).map(|()| out).unwrap_or_default()
        })
        .collect();
    measure("decode + canonicalise + hash + chain + tree", || {
        let (mut scratch, mut previous, mut frontier) = (Vec::new(), [1; 32], Frontier::default());
        for i in 0..ROWS {
            let Ok(draft) = codec::decode_draft(&encoded[(i % 1000) as usize]) else {
                return;
            };
            previous = row_hash(&row(draft, i, previous), &mut scratch);
            frontier.push(previous);
        }
        black_box(frontier.root());
    });
}
