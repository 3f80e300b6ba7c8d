//! Messages whose receipt did not come in time, and receipts that come after all: one rule a test.

use crate::oracle::{cdr_id, uuid};
use crate::samples::Sample;
use crate::world::{HOUR_MS, Message, World, buffer};
use cdr_core::command::{Append, Command, DraftsBuffer, Ingest, Source};
use cdr_core::row::{AdjustmentType, FinalState, SystemKind};
use cdr_core::{Rejection, Reply};
use serde_json::{Value, json};

/// A world with a message that was recorded as EXPIRED without a receipt.
fn expired() -> (World, Sample) {
    let mut world = World::begin(&["AWCC", "MTN_AF"], 24);
    let sample = Sample::ordinary(100, "AWCC", world.now).ended(FinalState::Expired);
    world.expire(std::slice::from_ref(&sample));
    (world, sample)
}

/// A receipt of the same message.
fn receipt(world: &mut World, of: &Sample, state: FinalState) -> Sample {
    let number = world.number();
    Sample { message_id: of.message_id, ..Sample::ordinary(number, "AWCC", world.now) }.ended(state)
}

fn take(world: &mut World, samples: &[&Sample]) {
    let messages: Vec<_> = samples.iter().map(|sample| Message::Final(Box::new((*sample).clone()))).collect();
    world.ingest("SMS", &messages);
}

/// Sends a batch that must be refused, whatever else is in it.
fn outdated(world: &mut World, samples: &[&Sample]) {
    let drafts: DraftsBuffer = buffer((0..).zip(samples.iter().map(|sample| sample.draft())));
    let first = world.oracle.position("SMS") as u64 + 1;
    let ingest = Ingest {
        stream: "SMS",
        first,
        last: first + samples.len() as u64 - 1,
        last_digest: [0; 32],
        ignored: 0,
        dead_lettered: 0,
        missing: 0,
        drafts: drafts.drafts(),
    };
    let message_id = uuid(samples[samples.len() - 1].message_id);
    assert_eq!(world.refused(Command::Ingest(ingest)), Rejection::Outdated { message_id });
}

fn rows(world: &World) -> Vec<Value> {
    world.ledger.rows.iter().map(|(text, _)| serde_json::from_slice(text).unwrap()).collect()
}

#[test]
fn one_record_without_a_receipt_and_none_of_a_known_message() {
    let (mut world, sample) = expired();
    let known = Sample::ordinary(1, "AWCC", world.now);
    take(&mut world, &[&known]);
    let before = rows(&world).len();
    let again = receipt(&mut world, &sample, FinalState::Expired);
    let too_late = receipt(&mut world, &known, FinalState::Expired);
    let new = Sample::ordinary(2, "MTN_AF", world.now).ended(FinalState::Expired);
    world.expire(&[again, too_late, new.clone(), new]);
    assert_eq!(rows(&world).len(), before + 1);
    let last = rows(&world).pop().unwrap();
    assert_eq!((&last["finalState"], &last["source"]["stream"]), (&json!("EXPIRED"), &json!("internal")));
    world.now += HOUR_MS;
    world.seal();
    world.check();
}

#[test]
fn a_late_receipt_corrects_the_record_and_counts_in_its_stream() {
    let (mut world, sample) = expired();
    let first = receipt(&mut world, &sample, FinalState::Delivered);
    let second = receipt(&mut world, &sample, FinalState::Failed);
    // Two receipts in one batch: both are drafted as corrections, and one row follows.
    take(&mut world, &[&sample.corrected_by(&first), &sample.corrected_by(&second)]);
    let last = rows(&world).pop().unwrap();
    assert_eq!(
        (&last["finalState"], &last["adjustmentOf"]),
        (&json!("DELIVERED"), &json!(cdr_id(sample.cdr_id)))
    );
    assert_eq!(last["source"], json!({"sequence": 1, "stream": "SMS"}));
    // And so is any other afterwards, however it was drafted.
    let third = receipt(&mut world, &sample, FinalState::Failed);
    take(&mut world, &[&third, &sample.corrected_by(&third)]);
    world.now += HOUR_MS;
    world.seal();
    let closed = world.ledger.seals.values().last().unwrap();
    let statement = closed.seal.completeness.iter().find(|s| s.stream == "SMS").unwrap();
    assert_eq!((statement.received, statement.appended, statement.duplicate), (4, 1, 3));
    world.check();
}

#[test]
fn a_receipt_is_never_swallowed_by_a_record_that_came_before_it() {
    let (mut world, sample) = expired();
    let late = receipt(&mut world, &sample, FinalState::Delivered);
    let other = Sample::ordinary(1, "AWCC", world.now);
    outdated(&mut world, &[&other, &late]);
    // Nor is it taken for the correction of a row that is no longer in effect.
    let by_hand = sample.adjusted(50, world.now, AdjustmentType::Correction);
    assert!(world.adjust(&by_hand));
    outdated(&mut world, &[&other, &sample.corrected_by(&late)]);
    take(&mut world, &[&other, &by_hand.corrected_by(&late)]);
    assert_eq!(rows(&world).pop().unwrap()["adjustmentOf"], cdr_id(by_hand.cdr_id));
    // What nothing waits for can't be corrected.
    let stranger = Sample::ordinary(7, "AWCC", world.now);
    let of_nothing = Sample { message_id: stranger.message_id, ..sample.corrected_by(&stranger) };
    outdated(&mut world, &[&of_nothing]);
    world.check();
}

#[test]
fn an_expired_receipt_and_a_voided_record_change_nothing() {
    let (mut world, sample) = expired();
    let before = rows(&world).len();
    let expired_too = receipt(&mut world, &sample, FinalState::Expired);
    take(&mut world, &[&expired_too]);
    assert_eq!(rows(&world).len(), before, "there is nothing to correct");
    assert!(world.adjust(&sample.adjusted(50, world.now, AdjustmentType::Void)));
    let late = receipt(&mut world, &sample, FinalState::Delivered);
    take(&mut world, &[&late, &sample.corrected_by(&late)]);
    assert_eq!(rows(&world).len(), before + 1, "nothing follows a VOID");
    world.check();
}

#[test]
fn after_the_horizon_the_message_is_new() {
    let (mut world, sample) = expired();
    world.now += 28 * HOUR_MS;
    let late = receipt(&mut world, &sample, FinalState::Delivered);
    outdated(&mut world, &[&sample.corrected_by(&late)]);
    take(&mut world, &[&late]);
    assert_eq!(rows(&world).pop().unwrap()["adjustmentOf"], Value::Null);
    // The old line goes on beside it.
    assert!(world.adjust(&sample.adjusted(50, world.now, AdjustmentType::Correction)));
    let again = receipt(&mut world, &sample, FinalState::Failed);
    take(&mut world, &[&again]);
    world.check();
}

#[test]
fn only_a_worker_records_what_has_no_receipt_and_only_as_expired() {
    let (mut world, sample) = expired();
    let fresh = Sample::ordinary(1, "AWCC", world.now).ended(FinalState::Expired);
    let system = world.system_row(SystemKind::Audit, &json!({"act": "LOGIN"}));
    let refuse = |world: &mut World, source, drafts: DraftsBuffer| {
        let append = Append { source, drafts: drafts.drafts() };
        assert!(matches!(world.refused(Command::Append(append)), Rejection::Illegal { .. }));
    };
    refuse(&mut world, Source::Api, buffer([(0, fresh.draft())]));
    refuse(&mut world, Source::Internal, buffer([(0, fresh.clone().ended(FinalState::Failed).draft())]));
    refuse(&mut world, Source::Internal, buffer([(0, fresh.draft()), (0, system.draft())]));
    // Inbound streams correct EXPIRED to another state and nothing else.
    for wrong in [
        sample.adjusted(9, world.now, AdjustmentType::Void),
        sample.adjusted(9, world.now, AdjustmentType::ReRate),
        sample.adjusted(9, world.now, AdjustmentType::Correction),
    ] {
        let drafts = buffer([(0, wrong.ended(FinalState::Expired).draft())]);
        let first = world.oracle.position("SMS") as u64 + 1;
        let (last, ignored, dead_lettered, missing) = (first, 0, 0, 0);
        let (stream, last_digest, drafts) = ("SMS", [0; 32], drafts.drafts());
        let ingest = Ingest { stream, first, last, last_digest, ignored, dead_lettered, missing, drafts };
        assert!(matches!(world.refused(Command::Ingest(ingest)), Rejection::Illegal { .. }));
    }
    assert!(matches!(world.send(Command::Seal), Reply::Sealed { .. }));
}
