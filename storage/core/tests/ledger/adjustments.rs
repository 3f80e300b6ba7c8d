//! Adjustments, repeated requests, jobs and what is published: one rule a test.

use crate::oracle::{cdr_id, hex, sha};
use crate::samples::{Sample, SystemSample};
use crate::world::{HOUR_MS, Message, World, buffer};
use cdr_core::command::{Append, Command, OutboxPlace, Source};
use cdr_core::job::{JOB_PREFIX, JobCounts, JobRequest, JobState, JobStep, Place};
use cdr_core::row::{AdjustmentType, SystemKind};
use cdr_core::{CdrId, Hour, Rejection, Reply};
use serde_json::{Value, json};

fn one_record() -> (World, Sample) {
    let mut world = World::begin(&["AWCC", "MTN_AF"], 24);
    let sample = Sample::ordinary(100, "AWCC", world.now);
    world.ingest("SMS", &[Message::Final(Box::new(sample.clone()))]);
    (world, sample)
}

fn refused(world: &mut World, samples: &[&Sample]) -> Rejection {
    let drafts = buffer(samples.iter().map(|sample| (0, sample.draft())));
    world.refused(Command::Append(Append { source: Source::Api, drafts: drafts.drafts() }))
}

#[test]
fn the_message_and_the_operator_stay() {
    let (mut world, original) = one_record();
    let correction = original.adjusted(7, world.now, AdjustmentType::Correction);
    let elsewhere = Sample { operator_id: "MTN_AF".to_owned(), ..correction.clone() };
    let another = Sample { message_id: [9; 16], ..correction.clone() };
    let costly = Sample { charge_micros: Some(1), ..original.adjusted(8, world.now, AdjustmentType::Void) };
    for bad in [&elsewhere, &another, &costly] {
        assert!(matches!(refused(&mut world, &[bad]), Rejection::Illegal { .. }));
    }
    assert!(
        matches!(refused(&mut world, &[&original]), Rejection::Illegal { .. }),
        "originals come by a stream"
    );
    assert!(world.adjust(&correction));
}

#[test]
fn all_rows_of_a_command_or_none() {
    let (mut world, original) = one_record();
    let first = original.adjusted(7, world.now, AdjustmentType::Correction);
    let second = original.adjusted(8, world.now, AdjustmentType::Void);
    let superseded = Rejection::Superseded { cdr_id: cdr_id(original.cdr_id) };
    assert_eq!(refused(&mut world, &[&first, &second]), superseded);
    let rows = world.ledger.rows.clone();
    assert!(world.adjust(&first));
    assert_eq!(world.ledger.rows[..rows.len()], rows, "what was there stays byte for byte");
    world.check();
}

#[test]
fn an_adjustment_belongs_to_the_hour_of_its_issue_and_adds_to_no_sum() {
    let (mut world, original) = one_record();
    world.now += 5 * HOUR_MS;
    assert!(world.adjust(&original.adjusted(7, world.now, AdjustmentType::ReRate)));
    world.now += HOUR_MS;
    world.seal();
    let tallies = |hours_ago: u32| {
        let head = &world.ledger.state.head;
        let closed = &world.ledger.seals[&Hour(head.open_hour.0 - hours_ago)];
        let at = closed.seal.operators.iter().position(|o| o.operator_id == "AWCC").unwrap();
        (closed.seal.operators[at].record_count, closed.tallies[at])
    };
    let (count, first) = tallies(6);
    assert_eq!(count, first.mo + first.mt + first.broadcast + first.international_mt);
    assert_eq!(first.chargeable_micros + first.free_micros, i128::from(original.charge_micros.unwrap()));
    let (count, issue) = tallies(1);
    assert_eq!((count, issue.mo + issue.mt + issue.broadcast + issue.international_mt), (1, 1));
    assert_eq!(issue.chargeable_micros + issue.free_micros, 0);
}

fn request(key: &str, body: &str, answer: &Sample) -> Value {
    json!({
        "entryType": "ADJUSTMENT_ISSUED",
        "request": {
            "answer": cdr_id(answer.cdr_id), "body": hex(&sha(&[body.as_bytes()])), "key": hex(&sha(&[key.as_bytes()])),
        },
    })
}

fn issue(world: &mut World, adjustment: &Sample, body: &Value) -> Reply {
    let audit = world.system_row(SystemKind::Audit, body);
    let drafts = buffer([(0, adjustment.draft()), (0, audit.draft())]);
    let reply = world.send(Command::Append(Append { source: Source::Api, drafts: drafts.drafts() }));
    if matches!(reply, Reply::Appended { .. }) {
        world.oracle.append(world.now, "api", vec![adjustment.fields(), audit.fields()]);
    }
    reply
}

#[test]
fn a_repeated_request_gets_its_first_answer_and_changes_nothing() {
    let (mut world, original) = one_record();
    let first = original.adjusted(7, world.now, AdjustmentType::Correction);
    let body = request("key", "body", &first);
    assert!(matches!(issue(&mut world, &first, &body), Reply::Appended { .. }));
    world.now += 3 * HOUR_MS;
    let again = original.adjusted(8, world.now, AdjustmentType::Correction);
    let (state, body) = (world.ledger.state.clone(), request("key", "body", &again));
    assert_eq!(issue(&mut world, &again, &body), Reply::Repeated { answer: cdr_id(first.cdr_id) });
    assert_eq!(world.ledger.state, state);
    let body = request("key", "another body", &again);
    assert_eq!(issue(&mut world, &again, &body), Reply::Rejected(Rejection::IdempotencyConflict));
    let next = first.adjusted(9, world.now, AdjustmentType::Void);
    let body = request("another key", "body", &next);
    assert!(matches!(issue(&mut world, &next, &body), Reply::Appended { .. }));
    world.check();
}

fn job_row(world: &mut World, step: &JobStep) -> SystemSample {
    world.system_row(SystemKind::Job, &serde_json::to_value(step).unwrap())
}

#[test]
fn progress_counts_with_its_adjustments_or_not_at_all() {
    let (mut world, original) = one_record();
    let asked = job_row(&mut world, &JobStep::Requested(JobRequest::default()));
    world.append(Source::Api, std::slice::from_ref(&asked));
    let id = CdrId(asked.cdr_id);
    let progress = |behind| JobStep::Progress {
        job_id: id.with_prefix(JOB_PREFIX),
        behind,
        upto: Place { bucket_hour: Hour(1), cdr_sequence: 7 },
        counts: JobCounts { adjusted: 1, ..JobCounts::default() },
        sum_delta: "0.000001".to_owned(),
    };
    let rated = original.adjusted(7, world.now, AdjustmentType::ReRate);
    let step = job_row(&mut world, &progress(None));
    let drafts = buffer([(0, rated.draft()), (0, step.draft())]);
    let command = || Command::Append(Append { source: Source::Internal, drafts: drafts.drafts() });
    assert!(matches!(world.send(command()), Reply::Appended { .. }));
    world.oracle.append(world.now, "internal", vec![rated.fields(), step.fields()]);
    // A leader that does not know of it tries the same again: neither row nor progress is taken twice.
    assert!(matches!(world.refused(command()), Rejection::Superseded { .. }));
    let again = job_row(&mut world, &progress(None));
    let drafts = buffer([(0, again.draft())]);
    let moved = world.refused(Command::Append(Append { source: Source::Internal, drafts: drafts.drafts() }));
    assert_eq!(moved, Rejection::JobMoved { job_id: id.with_prefix(JOB_PREFIX) });
    world.restart();
    world.append_one(
        SystemKind::Job,
        &serde_json::to_value(JobStep::Finished { job_id: id.with_prefix(JOB_PREFIX) }).unwrap(),
    );
    let job = world.ledger.state.jobs.get(id).unwrap();
    assert_eq!((job.counts.adjusted, job.delta_micros, &job.state), (1, 1, &JobState::Finished));
    world.check();
}

#[test]
fn what_is_published_never_goes_back() {
    let (mut world, _) = one_record();
    let place = |index, events| OutboxPlace { index, events };
    for (said, kept) in [(place(5, 2), place(5, 2)), (place(5, 1), place(5, 2)), (place(6, 0), place(6, 0))] {
        assert_eq!(world.send(Command::Published(said)), Reply::Published);
        assert_eq!(world.ledger.state.head.published, kept);
    }
}
