//! Random records of every kind, the same for the same seed.
#![allow(dead_code, missing_docs)]

use cdr_core::row::{
    Adjustment, AdjustmentType, BillingIndicator, ChargeType, Direction, Encoding, FinalState, Frame, Record,
    Row, Sms,
};
use cdr_core::rules::SchemaVersion;
use cdr_core::{CdrId, Millis, Money, Uuid};

/// A small generator with a period of 2^64 (splitmix).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    fn digits(&mut self, count: u64) -> String {
        (0..count).map(|_| char::from(b'0' + self.below(10) as u8)).collect()
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }
}

/// A record with text of its own; a [`Row`] borrows it.
#[derive(Clone, Debug)]
pub struct Owned {
    pub cdr_id: CdrId,
    pub sequence: u64,
    pub calling: String,
    pub called: String,
    pub original: Option<String>,
    pub service_center: String,
    pub reference: String,
    pub event_at: Millis,
    pub offset_minutes: i16,
    pub submitted_at: Option<Millis>,
    pub charge: Money,
    pub charge_type: ChargeType,
    pub billing: BillingIndicator,
    pub direction: Direction,
    pub encoding: Encoding,
    pub state: FinalState,
    pub segments: u8,
    pub failure: Option<String>,
    pub imsi: Option<String>,
}

/// Sender names: Latin, with signs of their own, and outside ASCII. None is longer than eleven characters.
const SENDERS: [&str; 10] = [
    "AzizBank",
    "2FA Code",
    "100% Halal",
    "a=b",
    "کابل بانک",
    "وزارت صحت",
    "Grüße\u{7f}",
    "日本語の送信者",
    "8080",
    "😀",
];
/// Zones of the corpus in minutes, one of them with summer time: quarters of hours, east and west of Greenwich.
const OFFSETS: [i16; 6] = [270, 210, 0, -210, 345, 840];
/// The largest charge that a record can have.
pub const MAX_CHARGE: i64 = 999_999_999_999_999_999;

/// `count` records of one day.
pub fn records(seed: u64, count: u64) -> Vec<Owned> {
    let mut random = Random(seed);
    (0..count).map(|sequence| record(&mut random, sequence)).collect()
}

fn record(random: &mut Random, sequence: u64) -> Owned {
    let at = 1_776_626_700_000 + random.below(86_400_000) as i64;
    let charge = match random.below(8) {
        0 => 0,
        // A few of the largest: their sum is more than 64 bits hold.
        1 => MAX_CHARGE - random.below(3) as i64,
        2 => random.below(256) as i64,
        _ => random.below(5_000_000) as i64,
    };
    let number = |random: &mut Random| {
        let count = 4 + random.below(12);
        format!("+{}{}", 1 + random.below(9), random.digits(count.min(14)))
    };
    let state = *random.pick(FinalState::ALL);
    Owned {
        cdr_id: CdrId(random.bytes()),
        sequence: sequence + 1,
        calling: if random.below(3) == 0 { (*random.pick(&SENDERS)).to_owned() } else { number(random) },
        called: number(random),
        original: (random.below(4) == 0).then(|| number(random)),
        service_center: number(random),
        reference: reference(random),
        event_at: Millis(at),
        offset_minutes: *random.pick(&OFFSETS),
        submitted_at: (random.below(3) > 0).then(|| Millis(at - random.below(600_000) as i64)),
        charge: Money::from_micros(charge).unwrap(),
        charge_type: *random.pick(ChargeType::ALL),
        billing: *random.pick(BillingIndicator::ALL),
        direction: *random.pick(Direction::ALL),
        encoding: *random.pick(Encoding::ALL),
        state,
        segments: if random.below(10) == 0 { 255 } else { 1 + random.below(255) as u8 },
        failure: (state == FinalState::Failed).then(|| "ABSENT_SUBSCRIBER".to_owned()),
        imsi: (random.below(5) > 0).then(|| {
            let count = 6 + random.below(10);
            random.digits(count)
        }),
    }
}

fn reference(random: &mut Random) -> String {
    let count = 1 + random.below(20);
    let letters = b"0123456789ABCDEFabcdef-_/:= %";
    (0..count).map(|_| char::from(letters[random.below(letters.len() as u64) as usize])).collect()
}

impl Owned {
    pub fn sms(&self) -> Sms<'_> {
        Sms {
            message_id: Uuid(self.cdr_id.0),
            calling_party: &self.calling,
            called_party: &self.called,
            original_served_subscriber: self.original.as_deref(),
            recording_entity: "4120101",
            service_center: &self.service_center,
            message_reference: &self.reference,
            event_at: self.event_at,
            local_offset_minutes: self.offset_minutes,
            submitted_at: self.submitted_at,
            charge_amount: Some(self.charge),
            charge_currency: Some("AFN"),
            tap_tariff_class: Some("A042"),
            tariff_version: Some("2026-1"),
            charge_type: self.charge_type,
            billing_indicator: self.billing,
            direction: self.direction,
            encoding: self.encoding,
            final_state: self.state,
            segment_count: self.segments,
            failure_code: self.failure.as_deref(),
            imsi: self.imsi.as_deref(),
            ..Sms::BLANK
        }
    }

    pub fn row<'a>(&'a self, sms: Sms<'a>) -> Row<'a> {
        Row {
            version: SchemaVersion::V2,
            frame: Frame {
                bucket_hour: self.event_at.hour(),
                sequence: self.sequence,
                chain_prev: [0; 32],
                recorded_at: self.event_at,
                source_stream: "DLR",
                source_sequence: self.sequence,
                cdr_id: self.cdr_id,
                operator_id: "AWCC",
                trace_id: "corpus",
            },
            salt: cdr_core::personal::Salt([7; 16]),
            record: Record::Sms(sms),
        }
    }
}

/// An adjustment of a record, its id, and the code that a VOID gets.
pub struct Adjusting {
    pub id: CdrId,
    pub kind: AdjustmentType,
    pub void_reason: Option<&'static str>,
    pub void_code: &'static str,
    pub charge: Money,
}

/// A random adjustment.
pub fn adjusting(random: &mut Random) -> Adjusting {
    let kind = *random.pick(AdjustmentType::ALL);
    let voids = [("DUPLICATE_DLR", "01"), ("FRAUD_REVERSAL", "02"), ("SOMETHING_ELSE", "99")];
    let (void_reason, void_code) = *random.pick(&voids);
    let is_void = kind == AdjustmentType::Void;
    let charge = if is_void { 0 } else { random.below(9_000_000) as i64 };
    Adjusting {
        id: CdrId(random.bytes()),
        kind,
        void_reason: is_void.then_some(void_reason),
        void_code,
        charge: Money::from_micros(charge).unwrap(),
    }
}

impl Adjusting {
    pub fn row<'a>(&'a self, original: &'a Owned) -> Row<'a> {
        let adjustment = Adjustment {
            of: original.cdr_id,
            kind: self.kind,
            reason: Some("because: 100 % wrong (ناسم)"),
            void_reason: self.void_reason,
            ticket_id: Some("T-1"),
            issued_by: Some("user-1"),
            approver: None,
        };
        let sms = Sms {
            charge_amount: Some(self.charge),
            tap_tariff_class: Some("B001"),
            adjustment: Some(adjustment),
            ..original.sms()
        };
        let mut row = original.row(sms);
        row.frame.cdr_id = self.id;
        row
    }
}
