use super::books::Books;
use super::fold::{Exports, RowPlace};
use super::quarantine::{QuarantineStep, Unfit};
use super::step::{DeliveryStep, ExportStep};
use super::*;
use crate::command::Rejection;

fn at(n: u8) -> RowPlace {
    RowPlace { id: CdrId([n; 16]), ordinal: u64::from(n) * 10, recorded_at: Millis(i64::from(n)) }
}

fn pins(day: u32, number: u32) -> ExportPins {
    ExportPins {
        created_at: Millis(0),
        created_offset_minutes: 270,
        cut_off_at: Millis(0),
        cut_off_offset_minutes: 270,
        encoder_version: 1,
        exchange_rates: std::collections::BTreeMap::new(),
        export_type: ExportType::Tap,
        file_name: "f".to_owned(),
        file_sequence_number: number,
        from_bucket: Hour(0),
        operator_id: "AWCC".to_owned(),
        recipient: "ATRAF".to_owned(),
        recording_entity: "4120101".to_owned(),
        schema_hash: [1; 32],
        schema_variant: "v".to_owned(),
        sender_roaming_partner: "AFGAW".to_owned(),
        series: "regulator".to_owned(),
        settlement_day: Day(day),
        upto_bucket: Hour(day * 24),
    }
}

fn encoded(name: &str) -> ExportStep {
    let content = FileContent {
        byte_size: 10,
        file_sha256: [2; 32],
        quarantined_count: 0,
        records_included: 3,
        total_charge: "30".to_owned(),
        trace_sha256: [3; 32],
    };
    ExportStep::Encoded { export_id: name.to_owned(), content }
}

fn signed(name: &str) -> ExportStep {
    let (algorithm, key_id, signature) = ("Ed25519".to_owned(), "k".to_owned(), "AA==".to_owned());
    ExportStep::Signed {
        export_id: name.to_owned(),
        signature: FileSignature { algorithm, key_id, signature },
    }
}

fn attempt(name: &str, outcome: Outcome) -> DeliveryStep {
    DeliveryStep::Attempted { export_id: name.to_owned(), channel: "SFTP".to_owned(), outcome, answer: None }
}

/// The fold with everything known at hand.
#[derive(Default)]
struct World {
    exports: Exports,
    books: Books,
}

impl World {
    fn export(&mut self, n: u8, step: ExportStep) -> Result<(), Rejection> {
        self.books.export(&mut self.exports, at(n), step)
    }

    fn delivery(&mut self, n: u8, step: DeliveryStep) -> Result<(), Rejection> {
        self.books.delivery(&mut self.exports, at(n), step)
    }
}

#[test]
fn numbers_and_days_go_on_where_they_were() {
    let mut world = World::default();
    world.export(1, ExportStep::Opened(pins(5, 1))).unwrap();
    for (day, number) in [(6, 3), (5, 2), (4, 2), (6, 1)] {
        let refused = world.export(2, ExportStep::Opened(pins(day, number)));
        assert!(matches!(refused, Err(Rejection::ExportMoved { .. })), "{day} {number}");
    }
    world.export(2, ExportStep::Opened(pins(6, 2))).unwrap();
    let second = &world.books.exports[&CdrId([2; 16])];
    assert_eq!(second.before, Some(Cut { day: Day(5), upto: Hour(120), ordinal: 10 }));
    assert_eq!(world.exports.last_number("regulator", ExportType::Tap, "4120101"), Some(2));
    assert_eq!(world.exports.reached(&second.series_key()).unwrap().ordinal, 20);
    assert_eq!(world.exports.open().count(), 2);
}

#[test]
fn a_request_stands_until_its_day_is_opened() {
    let mut world = World::default();
    let opened = pins(5, 1);
    let key = SeriesKey {
        series: opened.series.clone(),
        export_type: ExportType::Tap,
        operator_id: opened.operator_id.clone(),
    };
    let request = |day| ExportStep::Requested {
        export_type: ExportType::Tap,
        operator_id: key.operator_id.clone(),
        series: key.series.clone(),
        settlement_day: Day(day),
    };
    world.export(1, request(5)).unwrap();
    assert_eq!(world.exports.requested(&key), Some(Day(5)));
    world.export(2, ExportStep::Opened(opened)).unwrap();
    assert_eq!(world.exports.requested(&key), None);
    world.export(3, request(5)).unwrap();
    assert_eq!(world.exports.requested(&key), None, "that day has its file");
}

#[test]
fn only_rap_files_may_be_left_out() {
    let mut world = World::default();
    let skipped = |export_type| ExportStep::Skipped {
        export_type,
        operator_id: "AWCC".to_owned(),
        series: "regulator".to_owned(),
        settlement_day: Day(5),
        upto_bucket: Hour(120),
        rows_looked_at: 8,
    };
    assert!(world.export(1, skipped(ExportType::Tap)).is_err());
    world.export(1, skipped(ExportType::Rap)).unwrap();
    assert!(world.export(2, skipped(ExportType::Rap)).is_err(), "the day is done");
    let next = ExportPins { export_type: ExportType::Rap, ..pins(6, 1) };
    world.export(2, ExportStep::Opened(next)).unwrap();
    let before = world.books.exports[&CdrId([2; 16])].before.unwrap();
    assert_eq!(before.ordinal, 8, "what came after the look is still to be returned");
}

#[test]
fn every_step_happens_once_and_in_order() {
    let mut world = World::default();
    world.export(1, ExportStep::Opened(pins(5, 1))).unwrap();
    let name = CdrId([1; 16]).with_prefix(EXPORT_PREFIX);
    let moved = Err(Rejection::ExportMoved { export_id: name.clone() });
    let delivered = || attempt(&name, Outcome::Delivered { atra_receipt_id: Some("R".to_owned()) });
    let failed = || {
        let (error, reason) = ("UNREACHABLE".to_owned(), "no route".to_owned());
        attempt(&name, Outcome::Failed { error, reason })
    };
    assert_eq!(world.export(2, signed(&name)), moved);
    assert_eq!(world.delivery(2, delivered()), moved);
    world.export(2, encoded(&name)).unwrap();
    assert_eq!(world.export(3, encoded(&name)), moved);
    world.export(3, signed(&name)).unwrap();
    world.delivery(4, failed()).unwrap();
    assert_eq!(world.exports.get(CdrId([1; 16])).unwrap().delivery_status(), "FAILED");
    world.delivery(5, delivered()).unwrap();
    assert_eq!(world.exports.open().count(), 0);
    assert_eq!(world.delivery(6, delivered()), moved, "delivered once");
    let redropped = || DeliveryStep::Redropped { export_id: name.clone() };
    world.delivery(7, redropped()).unwrap();
    let export = world.exports.get(CdrId([1; 16])).unwrap();
    assert_eq!((export.failures, export.due_since), (0, Some(Millis(7))));
    assert!(export.signature.is_some(), "it is not signed anew");
    world.delivery(8, delivered()).unwrap();
    let acked = || DeliveryStep::Acked {
        export_id: name.clone(),
        atra_receipt_id: "R".to_owned(),
        rejection_reason: None,
        payload: None,
        retry_count: 0,
    };
    world.delivery(9, acked()).unwrap();
    assert_eq!(world.delivery(10, acked()), Err(Rejection::ExportAcked { export_id: name.clone() }));
    assert_eq!(world.delivery(10, redropped()), Err(Rejection::ExportAcked { export_id: name.clone() }));
    let other = "exp_00000000000000000000000000".to_owned();
    assert_eq!(world.export(11, encoded(&other)), Err(Rejection::UnknownExport { export_id: other }));
}

#[test]
fn a_record_leaves_quarantine_once() {
    let mut books = Books::default();
    let unfit = Unfit { series: "regulator".to_owned(), cdr_id: "cdr_x".to_owned(), ..unfit() };
    books.quarantine(at(1), QuarantineStep::Quarantined(unfit)).unwrap();
    assert!(books.waits("regulator", "cdr_x") && !books.waits("other", "cdr_x"));
    let quarantine_id = CdrId([1; 16]).with_prefix(quarantine::QUARANTINE_PREFIX);
    let resolved_by = "ops".to_owned();
    let resubmit = QuarantineStep::Resubmitted {
        quarantine_id: quarantine_id.clone(),
        resolved_by: resolved_by.clone(),
    };
    books.quarantine(at(2), resubmit).unwrap();
    assert!(!books.waits("regulator", "cdr_x"));
    let episode = books.quarantine[&CdrId([1; 16])].episode();
    assert_eq!((episode.opened, episode.resubmitted), (10, Some(20)));
    let discard = QuarantineStep::Discarded { quarantine_id, resolved_by };
    assert!(books.quarantine(at(3), discard).is_err());
}

fn unfit() -> Unfit {
    Unfit {
        cdr_id: String::new(),
        encoder_error: "why".to_owned(),
        export_id: None,
        operator_id: "AWCC".to_owned(),
        schema_variant: "v".to_owned(),
        series: String::new(),
    }
}

#[test]
fn bodies_read_as_they_are_written() {
    let name = CdrId([1; 16]).with_prefix(EXPORT_PREFIX);
    for step in [ExportStep::Opened(pins(5, 1)), encoded(&name), signed(&name)] {
        let text = String::from_utf8(crate::canonical::to_jcs(&step).unwrap()).unwrap();
        assert_eq!(serde_json::from_str::<ExportStep>(&text).unwrap(), step, "{text}");
    }
    let failed = Outcome::Failed { error: "FULL".to_owned(), reason: "no room".to_owned() };
    for step in [attempt(&name, failed), DeliveryStep::Redropped { export_id: name.clone() }] {
        let text = String::from_utf8(crate::canonical::to_jcs(&step).unwrap()).unwrap();
        assert_eq!(serde_json::from_str::<DeliveryStep>(&text).unwrap(), step, "{text}");
    }
}
