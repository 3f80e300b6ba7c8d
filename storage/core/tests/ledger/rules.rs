//! Which transitions are legal, one rule a test.

use crate::oracle::hour_text;
use crate::samples::Sample;
use crate::world::{HOUR_MS, Message, START_MS, SealKey, World, buffer, key_body, operator_body};
use cdr_core::apply::{MAX_HOURS_AT_ONCE, apply};
use cdr_core::command::{
    Append, ClockKind, Command, Drafts, DraftsBuffer, Ingest, Initialize, SignSeal, Source,
};
use cdr_core::memory::MemoryLedger;
use cdr_core::row::SystemKind;
use cdr_core::seal::verify_signature;
use cdr_core::{Envelope, Hour, Millis, Rejection, Reply};
use serde_json::{Value, json};

fn ingest(first: u64, last: u64, drafts: &DraftsBuffer) -> Ingest<'_> {
    Ingest {
        stream: "SMS",
        first,
        last,
        last_digest: [0; 32],
        ignored: 0,
        dead_lettered: 0,
        missing: 0,
        drafts: drafts.drafts(),
    }
}

fn last_row(world: &World) -> Value {
    serde_json::from_slice(&world.ledger.rows.last().unwrap().0).unwrap()
}

fn refuse_row(world: &mut World, kind: SystemKind, body: &Value) -> Rejection {
    let row = world.system_row(kind, body);
    let drafts = buffer([(0, row.draft())]);
    world.refused(Command::Append(Append { source: Source::Internal, drafts: drafts.drafts() }))
}

#[test]
fn nothing_but_a_beginning_is_taken_before_the_beginning() {
    let mut world = World::begin(&["AWCC"], 24);
    world.ledger = MemoryLedger::default();
    assert_eq!(world.send(Command::Fence), Reply::Fenced { term: 1 });
    assert_eq!(world.refused(Command::Seal), Rejection::NotInitialized);
    let mut begin = Initialize {
        cluster_id: "no such.name",
        zone: "UTC",
        clock: ClockKind::System,
        dedup_horizon_hours: 1,
        hash_key: [0; 16],
        rows: Drafts::default(),
    };
    assert!(matches!(world.refused(Command::Initialize(begin.clone())), Rejection::Illegal { .. }));
    begin.cluster_id = "good";
    assert_eq!(world.send(Command::Initialize(begin.clone())), Reply::Initialized);
    let known = Rejection::AlreadyInitialized { cluster_id: "good".to_owned() };
    assert_eq!(world.refused(Command::Initialize(begin)), known);
}

#[test]
fn a_deposed_leader_is_fenced_off() {
    let mut world = World::begin(&["AWCC"], 24);
    world.fence();
    assert_eq!(world.send(Command::Fence), Reply::Fenced { term: 2 }, "a leader may fence twice");
    world.term = 1;
    assert_eq!(world.refused(Command::Fence), Rejection::Fenced { term: 1, fence: 2 });
    assert_eq!(world.refused(Command::Seal), Rejection::Fenced { term: 1, fence: 2 });
    world.term = 3;
    assert_eq!(
        world.refused(Command::Seal),
        Rejection::Fenced { term: 3, fence: 2 },
        "a term begins with its fence"
    );
}

#[test]
fn a_batch_continues_its_stream() {
    let mut world = World::begin(&["AWCC"], 24);
    world.ingest("SMS", &[Message::Ignored, Message::Missing]);
    let sample = Sample::ordinary(1, "AWCC", START_MS);
    let drafts = buffer([(0, sample.draft())]);
    for first in [1, 2, 4] {
        let rejection = world.refused(Command::Ingest(ingest(first, first, &drafts)));
        assert_eq!(rejection, Rejection::Position { stream: "SMS".to_owned(), position: 2, first });
    }
    assert!(matches!(world.refused(Command::Ingest(ingest(3, 2, &drafts))), Rejection::Position { .. }));
}

#[test]
fn every_sequence_is_accounted_for() {
    let mut world = World::begin(&["AWCC"], 24);
    let samples = [1, 2].map(|n| Sample::ordinary(n, "AWCC", START_MS));
    let is_illegal = |world: &mut World, ingest| {
        assert!(matches!(world.refused(Command::Ingest(ingest)), Rejection::Illegal { .. }));
    };
    let in_order = buffer([(0, samples[0].draft()), (1, samples[1].draft())]);
    is_illegal(&mut world, ingest(1, 3, &in_order));
    is_illegal(&mut world, ingest(1, 1, &in_order));
    is_illegal(&mut world, Ingest { missing: u64::MAX, ..ingest(1, 2, &in_order) });
    is_illegal(&mut world, Ingest { ignored: u64::MAX - 2, dead_lettered: 5, ..ingest(1, 2, &in_order) });
    is_illegal(&mut world, Ingest { missing: u64::MAX - 2, ..ingest(1, u64::MAX, &in_order) });
    let backwards = buffer([(1, samples[0].draft()), (0, samples[1].draft())]);
    is_illegal(&mut world, ingest(1, 2, &backwards));
    let beyond = buffer([(0, samples[0].draft()), (2, samples[1].draft())]);
    is_illegal(&mut world, ingest(1, 2, &beyond));
    let reply = world.send(Command::Ingest(ingest(1, 2, &in_order)));
    assert!(matches!(reply, Reply::Ingested(i) if i.appended == 2 && i.position == 2));
}

#[test]
fn rows_keep_the_sequence_of_their_message() {
    let mut world = World::begin(&["AWCC"], 24);
    let message = world.ordinary("AWCC");
    world.ingest("SMS", &[Message::Ignored, Message::DeadLettered, message]);
    assert_eq!(last_row(&world)["source"], json!({"sequence": 3, "stream": "SMS"}));
    world.check();
}

#[test]
fn only_the_latest_epoch_of_a_stream_is_open() {
    let mut world = World::begin(&["AWCC"], 24);
    world.ingest("SMS", &[Message::Ignored]);
    world.open_stream("SMS#2", 1);
    let empty = DraftsBuffer::default();
    let closed = Ingest { ignored: 1, ..ingest(2, 2, &empty) };
    assert!(matches!(world.refused(Command::Ingest(closed)), Rejection::UnknownStream { .. }));
    for stream in ["api", "internal", "OTHER", "SMS#3", "SMS#1", "SMS#02", "#2", ""] {
        let wrong = Ingest { stream, ignored: 1, ..ingest(1, 1, &empty) };
        assert!(matches!(world.refused(Command::Ingest(wrong)), Rejection::UnknownStream { .. }), "{stream}");
    }
    world.ingest("SMS#2", &[Message::Ignored]);
    world.check();
}

#[test]
fn epochs_open_one_after_the_other() {
    let mut world = World::begin(&["AWCC"], 24);
    let record = |stream: &str, first: u64, created: &str| json!({"created": created, "firstSequence": first, "reason": "r", "stream": stream});
    let day = "2026-04-20T00:00:00Z";
    for body in [
        record("SMS", 1, day),
        record("SMS#3", 1, day),
        record("NEW#2", 1, day),
        record("SMS#2", 0, day),
        record("SMS#2", 1 << 53, day),
        record("SMS#2", 1, ""),
        record("", 1, day),
        record("api", 1, day),
        record("internal#2", 1, day),
        json!({"stream": "SMS#2"}),
    ] {
        assert!(
            matches!(refuse_row(&mut world, SystemKind::Stream, &body), Rejection::Illegal { .. }),
            "{body}"
        );
    }
}

#[test]
fn a_message_is_a_duplicate_in_any_epoch_and_operator() {
    let mut world = World::begin(&["AWCC", "MTN_AF"], 24);
    let first = Message::repeated(1, "AWCC", 10, START_MS);
    world.ingest("SMS", std::slice::from_ref(&first));
    world.open_stream("SMS#2", 1);
    world.ingest("SMS#2", &[Message::repeated(1, "MTN_AF", 11, START_MS), first]);
    let stream = &world.ledger.state.streams[world.ledger.state.stream("SMS#2").unwrap()];
    assert_eq!((stream.appended, stream.duplicate), (0, 2));
    world.check();
}

#[test]
fn the_dedup_horizon_is_counted_in_buckets() {
    for (hours_later, is_duplicate) in [(0, true), (3, true), (5, true), (6, false)] {
        let mut world = World::begin(&["AWCC"], 3);
        world.ingest("SMS", &[Message::repeated(1, "AWCC", 10, START_MS)]);
        world.now += hours_later * HOUR_MS;
        world.ingest("SMS", &[Message::repeated(1, "AWCC", 11, world.now)]);
        let rows = world
            .ledger
            .rows
            .iter()
            .filter(|(row, _)| String::from_utf8_lossy(row).contains("\"sms\""))
            .count();
        assert_eq!(rows == 1, is_duplicate, "{hours_later} hours later");
        world.check();
    }
}

#[test]
fn an_event_without_a_local_time_is_refused() {
    let end_of_9999 = 253_402_300_799_999;
    for (offset, legal) in [(270, false), (1, false), (1_440, false), (0, true), (-270, true)] {
        let mut world = World::begin(&["AWCC"], 24);
        let mut sample = Sample::ordinary(1, "AWCC", end_of_9999);
        sample.local_offset_minutes = offset;
        let drafts = buffer([(0, sample.draft())]);
        if legal {
            let reply = world.send(Command::Ingest(ingest(1, 1, &drafts)));
            assert!(matches!(reply, Reply::Ingested(_)), "{offset}: {reply:?}");
            let local = last_row(&world)["localTimeStamp"].clone();
            assert!(local.as_str().unwrap().starts_with("9999-12-31T"), "{local}");
        } else {
            let rejection = world.refused(Command::Ingest(ingest(1, 1, &drafts)));
            assert!(matches!(rejection, Rejection::Illegal { .. }), "{offset}: {rejection}");
        }
    }
}

#[test]
fn two_of_one_batch_make_one_row() {
    let mut world = World::begin(&["AWCC"], 24);
    world.ingest(
        "SMS",
        &[Message::repeated(1, "AWCC", 10, START_MS), Message::repeated(1, "AWCC", 11, START_MS)],
    );
    assert_eq!(world.ledger.state.partitions[0].frontier.count(), 1);
    world.check();
}

#[test]
fn recorded_at_never_runs_backwards() {
    let mut world = World::begin(&["AWCC"], 24);
    world.now += 60_000;
    let message = world.ordinary("AWCC");
    world.ingest("SMS", &[message]);
    world.now -= 3 * HOUR_MS;
    let message = world.ordinary("AWCC");
    world.ingest("SMS", &[message]);
    assert_eq!(last_row(&world)["recordedAt"], "2026-04-20T13:11:00.000Z");
    assert_eq!(last_row(&world)["bucketHour"], "2026-04-20T13:00:00Z");
    world.check();
}

#[test]
fn an_hour_is_sealed_before_the_first_row_of_the_next() {
    let mut world = World::begin(&["AWCC"], 24);
    world.now = 1_776_693_599_999;
    let message = world.ordinary("AWCC");
    world.ingest("SMS", &[message]);
    assert!(world.ledger.seals.is_empty(), "13:59:59.999 is still in the hour");
    world.now += 1;
    let message = world.ordinary("AWCC");
    world.ingest("SMS", &[message]);
    let seal = &world.ledger.seals.values().next().unwrap().seal;
    assert_eq!(seal.sealed_at.to_string(), "2026-04-20T14:00:00.000Z");
    let row = last_row(&world);
    assert_eq!((&row["bucketHour"], &row["cdrSequence"]), (&json!("2026-04-20T14:00:00Z"), &json!(1)));
    assert_eq!(row["chainHashPrev"], cdr_core::hash::to_hex(&seal.operator("AWCC").unwrap().bucket_root));
    world.check();
}

#[test]
fn skipped_hours_are_sealed_empty_up_to_a_limit() {
    let mut world = World::begin(&["AWCC"], 24);
    world.now += i64::from(MAX_HOURS_AT_ONCE + 1) * HOUR_MS;
    assert!(matches!(world.refused(Command::Seal), Rejection::ClockJump { .. }));
    world.now = START_MS + 5 * HOUR_MS;
    world.seal();
    let counts: Vec<u64> = world.ledger.seals.values().map(|closed| closed.seal.record_count).collect();
    assert_eq!(counts, [3, 0, 0, 0, 0]);
    world.check();
}

#[test]
fn operators_of_the_beginning_are_in_force_at_once() {
    let world = World::begin(&["zz", "AWCC", "MTN_AF"], 24);
    let names: Vec<&str> = world.ledger.state.partitions.iter().map(|p| p.operator_id.as_str()).collect();
    assert_eq!(names, ["AWCC", "MTN_AF", "_system", "zz"]);
    let registry: Vec<&str> = world.ledger.state.registry.iter().map(|o| o.operator_id.as_str()).collect();
    assert_eq!(registry, ["_system", "zz", "AWCC", "MTN_AF"]);
    let system = &world.ledger.state.partitions[2];
    assert_eq!(system.frontier.count(), 5, "three operators, a key, a stream");
    world.check();
}

#[test]
fn an_operator_joins_with_the_next_hour() {
    let mut world = World::begin(&["AWCC"], 24);
    let message = world.ordinary("AWCC");
    world.ingest("SMS", &[message]);
    world.join("MTN_AF");
    let sample = Sample::ordinary(50, "MTN_AF", world.now);
    let drafts = buffer([(0, sample.draft())]);
    let rejection = world.refused(Command::Ingest(ingest(2, 2, &drafts)));
    assert_eq!(rejection, Rejection::UnknownOperator { operator_id: "MTN_AF".to_owned() });
    world.now += HOUR_MS;
    let message = world.ordinary("MTN_AF");
    world.ingest("SMS", &[message]);
    world.check();
}

#[test]
fn who_may_not_join() {
    let mut world = World::begin(&["AWCC"], 24);
    let message = world.ordinary("AWCC");
    world.ingest("SMS", &[message]);
    let open = START_MS / HOUR_MS;
    for (id, from) in [
        ("AWCC", open + 1),
        ("_own", open + 1),
        ("a.b", open + 1),
        ("", open + 1),
        ("MTN_AF", open),
        ("MTN_AF", open + 2),
        ("MTN_AF", open - 1),
    ] {
        let rejection = refuse_row(&mut world, SystemKind::Operator, &operator_body(id, from));
        assert!(matches!(rejection, Rejection::Illegal { .. }), "{id} from {}", hour_text(from));
    }
}

#[test]
fn system_bodies_are_canonical_objects() {
    let mut world = World::begin(&["AWCC"], 24);
    for body in [
        "",
        "[]",
        "1",
        "{",
        "{\"b\":1,\"a\":1}",
        "{ }",
        "{\"a\":1,\"a\":1}",
        "{\"a\":1.0}",
        "{\"a\":\"\\u0041\"}",
    ] {
        let mut row = world.system_row(SystemKind::Audit, &json!({}));
        row.body = body.to_owned();
        let drafts = buffer([(0, row.draft())]);
        let rejection =
            world.refused(Command::Append(Append { source: Source::Api, drafts: drafts.drafts() }));
        assert!(matches!(rejection, Rejection::Illegal { .. }), "{body}");
    }
}

#[test]
fn personal_data_of_system_rows_are_apart_from_their_body() {
    let mut world = World::begin(&["AWCC"], 24);
    let all = r#"{"details":{"faults":null,"reason":null},"reason":"r","request":null}"#;
    let mut send = |body: &str, personal: Option<&str>| {
        let mut row = world.system_row(SystemKind::Audit, &json!({}));
        (row.body, row.personal) = (body.to_owned(), personal.map(str::to_owned));
        let drafts = buffer([(0, row.draft())]);
        world.send(Command::Append(Append { source: Source::Api, drafts: drafts.drafts() }))
    };
    for (body, personal) in [
        (r#"{"reason":"r"}"#, None),
        (r#"{"details":{"reason":"r"}}"#, None),
        (r#"{"reason":"r"}"#, Some(all)),
        ("{}", Some(r#"{"reason":"r"}"#)),
        ("{}", Some(r#"{"details":{"faults":null,"reason":null},"reason":null,"request":null}"#)),
        ("{}", Some(r#"{"details":{"faults":null,"reason":null},"reason":"r","request":null,"salt":"00"}"#)),
        ("{}", Some("[]")),
        ("{}", Some("")),
    ] {
        let reply = send(body, personal);
        assert!(
            matches!(reply, Reply::Rejected(Rejection::Illegal { .. })),
            "{body} {personal:?}: {reply:?}"
        );
    }
    assert!(matches!(send("{}", Some(all)), Reply::Appended { .. }));
}

#[test]
fn requests_append_system_rows_only() {
    let mut world = World::begin(&["AWCC"], 24);
    let sample = Sample::ordinary(1, "AWCC", START_MS);
    let drafts = buffer([(0, sample.draft())]);
    let rejection = world.refused(Command::Append(Append { source: Source::Api, drafts: drafts.drafts() }));
    assert!(matches!(rejection, Rejection::Illegal { .. }));
}

#[test]
fn signatures_are_attached_in_order_by_the_key_that_the_seal_names() {
    let mut world = World::begin(&["AWCC"], 24);
    let refused = |world: &mut World, hour, signature| {
        let rejection = world.refused(Command::SignSeal(SignSeal { hour: Hour(hour), signature }));
        assert!(matches!(rejection, Rejection::Signature { .. }));
    };
    let first = (START_MS / HOUR_MS) as u32;
    refused(&mut world, first, [0; 64]);
    world.now += 2 * HOUR_MS;
    world.seal();
    let closed = world.ledger.seals[&Hour(first)].clone();
    let later = world.ledger.seals[&Hour(first + 1)].clone();
    let name = json!({"signerKeyId": "key-1"});
    let signature = world.signature(&name, &closed.seal_hash);
    let later_signature = world.signature(&name, &later.seal_hash);
    refused(&mut world, first, [0; 64]);
    refused(&mut world, first, later_signature);
    refused(&mut world, first + 1, later_signature);
    let sign = SignSeal { hour: Hour(first), signature };
    assert_eq!(world.send(Command::SignSeal(sign.clone())), Reply::Signed);
    assert_eq!(world.ledger.state.head.next_unsigned, Hour(first + 1));
    assert_eq!(world.send(Command::SignSeal(sign)), Reply::Signed, "twice does no harm");
    world.sign_all();
    refused(&mut world, first + 2, [0; 64]);
    let key = world.ledger.state.keys.len();
    assert_eq!((key, world.ledger.signatures.len()), (1, 2));
    let public_key = world.ledger.state.keys[0].public_key().unwrap();
    assert!(verify_signature(&closed.seal_hash, &signature, &public_key));
}

#[test]
fn a_new_key_signs_from_the_open_hour_on() {
    let mut world = World::begin(&["AWCC"], 24);
    world.now += HOUR_MS;
    world.rotate_key();
    world.now += HOUR_MS;
    world.seal();
    let signers: Vec<_> =
        world.ledger.seals.values().map(|c| c.seal.signer_key_id.clone().unwrap()).collect();
    assert_eq!(signers, ["key-1", "key-2"]);
    world.sign_all();
    world.check();
}

#[test]
fn a_key_of_the_other_algorithm_seals_alike() {
    let mut world = World::begin(&["AWCC"], 24);
    world.now += HOUR_MS;
    world.rotate_to_p256();
    world.now += HOUR_MS;
    world.seal();
    let last = Hour(world.ledger.state.head.open_hour.0 - 1);
    let name = json!({"signerKeyId": "key-2"});
    let mut signature = world.signature(&name, &world.ledger.seals[&last].seal_hash);
    let by_the_old_one =
        world.signature(&json!({"signerKeyId": "key-1"}), &world.ledger.seals[&last].seal_hash);
    let first = world.signature(
        &json!({"signerKeyId": "key-1"}),
        &world.ledger.seals[&world.ledger.state.head.first_hour].seal_hash,
    );
    let hour = world.ledger.state.head.first_hour;
    assert_eq!(world.send(Command::SignSeal(SignSeal { hour, signature: first })), Reply::Signed);
    let sign = |signature| Command::SignSeal(SignSeal { hour: last, signature });
    assert!(matches!(world.refused(sign(by_the_old_one)), Rejection::Signature { .. }));
    signature[63] ^= 1;
    assert!(matches!(world.refused(sign(signature)), Rejection::Signature { .. }));
    signature[63] ^= 1;
    assert_eq!(world.send(sign(signature)), Reply::Signed);
    world.check();
}

#[test]
fn hours_that_no_key_covers_do_not_hold_up_signatures() {
    let mut world = World::begin_with_key(&["AWCC"], 24, 2, Some(1));
    let first = Hour((START_MS / HOUR_MS) as u32);
    let next_unsigned = |world: &World| world.ledger.state.head.next_unsigned.0 - first.0;
    world.now += HOUR_MS;
    world.seal();
    assert_eq!(world.ledger.seals[&first].seal.signer_key_id, None);
    assert_eq!(next_unsigned(&world), 1, "nobody can sign it");
    world.now += 2 * HOUR_MS;
    world.seal();
    assert_eq!(next_unsigned(&world), 2, "the first hour of the key waits for its signature");
    world.sign_all();
    assert_eq!(next_unsigned(&world), 3);

    // A second key of one hour, then a gap, then a third one.
    world.add_key(0, Some(1));
    world.add_key(3, None);
    world.now += 4 * HOUR_MS;
    world.seal();
    let signers: Vec<_> =
        world.ledger.seals.values().skip(3).map(|closed| closed.seal.signer_key_id.as_deref()).collect();
    assert_eq!(signers, [Some("key-2"), None, None, Some("key-3")]);
    assert_eq!(next_unsigned(&world), 3);
    let hour = Hour(first.0 + 3);
    let signature = world.signature(&json!({"signerKeyId": "key-2"}), &world.ledger.seals[&hour].seal_hash);
    assert_eq!(world.send(Command::SignSeal(SignSeal { hour, signature })), Reply::Signed);
    assert_eq!(next_unsigned(&world), 6, "the hours without a key are passed over");
    world.sign_all();
    assert_eq!(next_unsigned(&world), 7);
}

#[test]
fn keys_that_are_refused() {
    let mut world = World::begin(&["AWCC"], 24);
    world.now += 2 * HOUR_MS;
    world.seal();
    let open = world.oracle.open_hour;
    let key = SealKey::ed25519(8);
    let mut of_other_cluster = key_body("k", &key, open);
    of_other_cluster["clusterId"] = "other".into();
    let mut short = key_body("k", &key, open);
    short["publicKey"] = "00".into();
    let mut of_other_algorithm = key_body("k", &key, open);
    of_other_algorithm["algorithm"] = "ecdsa-p256".into();
    let mut unknown = key_body("k", &SealKey::p256(8), open);
    unknown["algorithm"] = "ecdsa-p384".into();
    let mut off_the_curve = key_body("k", &SealKey::p256(8), open);
    off_the_curve["publicKey"] = format!("04{}", "11".repeat(64)).into();
    for body in [
        key_body("key-1", &key, open),
        key_body("k", &key, open - 1),
        of_other_cluster,
        short,
        of_other_algorithm,
        unknown,
        off_the_curve,
    ] {
        assert!(
            matches!(refuse_row(&mut world, SystemKind::Key, &body), Rejection::Illegal { .. }),
            "{body}"
        );
    }
}

#[test]
fn apply_reports_what_changed() {
    let mut world = World::begin(&["AWCC", "MTN_AF"], 24);
    let samples = [1, 2, 3].map(|n| Sample::ordinary(n, "MTN_AF", START_MS));
    let drafts = buffer(samples.iter().enumerate().map(|(i, s)| (i as u32, s.draft())));
    let envelope = Envelope::new(1, Millis(START_MS), Command::Ingest(ingest(1, 3, &drafts)));
    let transition = apply(&world.ledger.state, &world.ledger, &envelope).unwrap();
    assert!(transition.changes.head && !transition.changes.all);
    assert_eq!(transition.changes.partitions, [1]);
    assert_eq!(transition.changes.streams, [world.ledger.state.stream("SMS").unwrap()]);
    let places: Vec<_> = transition.rows.iter().map(|r| (r.ordinal, r.operator, r.leaf_index)).collect();
    assert_eq!(places, [(4, 2, 0), (5, 2, 1), (6, 2, 2)]);
    assert!(transition.rows.iter().all(|r| !r.draft_bytes.is_empty()));
    world.now += HOUR_MS;
    let seal = Envelope::new(1, Millis(world.now), Command::Seal);
    assert!(apply(&world.ledger.state, &world.ledger, &seal).unwrap().changes.all);
}

#[test]
fn subtrees_of_256_rows_are_reported() {
    let world = World::begin(&["AWCC"], 24);
    let samples: Vec<Sample> = (0..600).map(|n| Sample::ordinary(n, "AWCC", START_MS)).collect();
    let drafts = buffer(samples.iter().enumerate().map(|(i, s)| (i as u32, s.draft())));
    let command = Command::Ingest(ingest(1, 600, &drafts));
    let envelope = Envelope::new(1, Millis(START_MS), command);
    let transition = apply(&world.ledger.state, &world.ledger, &envelope).unwrap();
    let hashes: Vec<_> = transition.rows.iter().map(|row| row.row_hash).collect();
    let expected: Vec<_> =
        (0..2).map(|i| crate::oracle::padded_root(&hashes[i * 256..(i + 1) * 256])).collect();
    assert_eq!(transition.subtrees.iter().map(|s| s.hash).collect::<Vec<_>>(), expected);
    assert!(
        transition
            .subtrees
            .iter()
            .enumerate()
            .all(|(i, s)| (s.level, s.index, s.operator) == (8, i as u64, 1))
    );
}
