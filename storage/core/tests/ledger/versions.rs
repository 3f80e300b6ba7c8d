//! Rows of two versions in one ledger: sealed, proved, verified, masked; and a build that knows the first alone.

use crate::proofs::{prove, row_value};
use crate::samples::Sample;
use crate::scenarios::world;
use crate::world::{Message, World, buffer, trust};
use cdr_core::canonical::{personal_hash, push_archived, push_masked, push_row, push_whole, to_jcs};
use cdr_core::command::{Append, Command, Ingest, Source};
use cdr_core::hash::sha256;
use cdr_core::personal::Salt;
use cdr_core::proof::{PortableProof, Violation};
use cdr_core::reading::{cdr_row, cdr_row_as};
use cdr_core::row::{Draft, Frame, Record, Row, Sms, SystemKind};
use cdr_core::rules::{Build, SchemaVersion};
use cdr_core::schema::SchemaError;
use cdr_core::{CdrId, Hour, Millis};
use serde_json::{Map, Value, json};

fn version_of(world: &World, index: usize) -> String {
    row_value(world, index)["schemaVersion"].as_str().unwrap().to_owned()
}

fn proofs_of(version: &str) -> Vec<PortableProof> {
    let world = world("schema-version-3");
    let rows = 0..world.ledger.rows.len();
    rows.filter(|index| version_of(&world, *index) == version).map(|index| prove(&world, index)).collect()
}

#[test]
fn rows_of_two_versions_stand_in_one_chain_and_are_proved() {
    let world = world("schema-version-3");
    world.check();
    let versions: Vec<String> = (0..world.ledger.rows.len()).map(|index| version_of(&world, index)).collect();
    let of = |version: &str| versions.iter().filter(|of| *of == version).count();
    assert!(of("2") >= 6 && of("3") == 6, "{versions:?}");
    for (index, version) in versions.iter().enumerate() {
        let proof = prove(&world, index);
        assert_eq!(proof.verify_as(&trust(), Build::NEXT), Ok(()));
        let read: PortableProof = serde_json::from_slice(&to_jcs(&proof).unwrap()).unwrap();
        assert_eq!(read.verify_as(&trust(), Build::NEXT), Ok(()));
        let is_later_sms = version == "3" && proof.row["recordType"] == "sms";
        assert_eq!(proof.row.get("correlationId").is_some(), is_later_sms);
    }
}

#[test]
fn rows_from_before_the_rules_rose_do_not_move() {
    let (raised, plain) = (world("schema-version-3"), world("two-rows"));
    let before = plain.ledger.rows.len();
    assert_eq!(before, 5);
    assert_eq!(raised.ledger.rows[..before], plain.ledger.rows[..]);
    assert!((0..before).all(|index| version_of(&raised, index) == "2"));
}

#[test]
fn a_build_that_does_not_know_a_version_says_which_build_does() {
    for proof in proofs_of("2") {
        assert_eq!(proof.verify(&trust()), Ok(()));
    }
    for proof in proofs_of("3") {
        let refused = proof.verify(&trust()).unwrap_err();
        let Violation::NeedsBuild(needs) = &refused else { panic!("{refused}") };
        assert_eq!(needs.needs, Some(Build::NEXT.version));
        let text = refused.to_string();
        assert!(
            text.contains("schemaVersion 3, which needs build") && text.contains("the data is whole"),
            "{text}"
        );
    }
}

#[test]
fn a_row_of_a_later_version_is_refused_before_its_rules_are_in_force() {
    let mut world = World::begin(&["AWCC"], 24);
    let sample = Sample::ordinary(100, "AWCC", world.now).with_correlation(Some("order-7"));
    let mut audit = world.system_row(SystemKind::Audit, &json!({"entryType": "NOTE"}));
    audit.version = SchemaVersion::V3;
    assert_eq!(world.ledger.state.schema(), SchemaVersion::V2);
    let (cdr, note) = (buffer([(0, sample.draft())]), buffer([(0, audit.draft())]));
    let ingest = Command::Ingest(Ingest {
        stream: "SMS",
        first: 1,
        last: 1,
        last_digest: [9; 32],
        ignored: 0,
        dead_lettered: 0,
        missing: 0,
        drafts: cdr.drafts(),
    });
    let append = Command::Append(Append { source: Source::Internal, drafts: note.drafts() });
    for command in [ingest, append] {
        let why = world.refused(command).to_string();
        assert!(why.contains("schemaVersion 3 need rules version 2, and 1 are in force"), "{why}");
    }
    world.raise_rules();
    assert_eq!(world.ledger.state.schema(), SchemaVersion::V3);
    world.ingest("SMS", &[Message::Final(Box::new(sample))]);
    world.append(Source::Internal, &[audit]);
    world.check();
}

/// The proof with its row changed and the hash beside it made to fit.
fn changed(proof: &PortableProof, change: impl FnOnce(&mut Map<String, Value>)) -> String {
    let mut proof = proof.clone();
    change(proof.row.as_object_mut().unwrap());
    proof.row_hash = sha256(&to_jcs(&proof.row).unwrap());
    proof.verify_as(&trust(), Build::NEXT).unwrap_err().to_string()
}

#[test]
fn a_row_has_the_members_of_its_own_version_and_no_other() {
    let (two, three) = (&proofs_of("2")[0], &proofs_of("3")[0]);
    let cut = changed(three, |row| drop(row.remove("correlationId")));
    assert!(cut.contains("field correlationId is missing"), "{cut}");
    let renamed = changed(three, |row| drop(row.insert("schemaVersion".into(), "2".into())));
    assert!(renamed.contains("rows of schemaVersion 2 have no member correlationId"), "{renamed}");
    let more = changed(two, |row| drop(row.insert("correlationId".into(), Value::Null)));
    assert!(more.contains("rows of schemaVersion 2 have no member correlationId"), "{more}");
    for wrong in [json!(3), json!("03"), json!("x"), json!(""), Value::Null, json!("+3"), json!("9999999999")]
    {
        let refused = changed(three, |row| drop(row.insert("schemaVersion".into(), wrong.clone())));
        assert!(refused.contains("field schemaVersion is missing, or is not"), "{wrong}: {refused}");
    }
    for unheard in ["1", "4", "300"] {
        let refused = changed(three, |row| drop(row.insert("schemaVersion".into(), unheard.into())));
        assert!(
            refused.contains(&format!("schemaVersion {unheard}, which needs build of a later")),
            "{refused}"
        );
    }
    let kind = changed(three, |row| drop(row.insert("recordType".into(), "voice".into())));
    assert!(kind.contains("field recordType"), "{kind}");
}

fn row(version: SchemaVersion, correlation_id: Option<&str>) -> Row<'_> {
    Row {
        version,
        frame: Frame {
            bucket_hour: Hour(493_525),
            sequence: 1,
            chain_prev: [2; 32],
            recorded_at: Millis(1_776_690_000_200),
            source_stream: "S",
            source_sequence: 1,
            cdr_id: CdrId([3; 16]),
            operator_id: "AWCC",
            trace_id: "t",
        },
        salt: Salt([7; 16]),
        record: Record::Sms(Sms { called_party: "+93701234567", correlation_id, ..Sms::BLANK }),
    }
}

fn text(push: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    push(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn a_later_version_differs_in_its_number_and_its_field_alone() {
    let (two, three) = (row(SchemaVersion::V2, None), row(SchemaVersion::V3, Some("order-7")));
    let pushes: [fn(&Row<'_>, &mut Vec<u8>); 4] = [
        |row, out| push_row(row, out),
        |row, out| push_archived(row, &[4; 32], out),
        |row, out| push_whole(row, &[4; 32], out),
        |row, out| push_masked(row, personal_hash(row).as_ref(), &[4; 32], out),
    ];
    for push in pushes {
        let (old, new) = (text(|out| push(&two, out)), text(|out| push(&three, out)));
        assert!(!old.contains("correlationId"));
        let expected = old
            .replace("\"schemaVersion\":\"2\"", "\"schemaVersion\":\"3\"")
            .replace(",\"direction\":", ",\"correlationId\":\"order-7\",\"direction\":");
        assert_eq!(new, expected);
    }
    assert_eq!(personal_hash(&two), personal_hash(&three), "it is no personal data");
}

#[test]
fn a_record_is_read_by_the_builds_that_know_its_version() {
    let record = |row: &Row<'_>| -> Map<String, Value> {
        serde_json::from_str(&text(|out| push_whole(row, &[4; 32], out))).unwrap()
    };
    let (two, three) = (row(SchemaVersion::V2, None), row(SchemaVersion::V3, Some("order-7")));
    assert_eq!(cdr_row(&record(&two)), Ok(two));
    let json = record(&three);
    assert!(
        matches!(cdr_row(&json), Err(SchemaError::Version(needs)) if needs.needs == Some(Build::NEXT.version))
    );
    assert_eq!(cdr_row_as(&json, Build::NEXT), Ok(three));
}

#[test]
fn a_row_that_follows_another_has_its_fields() {
    let draft = |version| Draft {
        version,
        cdr_id: CdrId([1; 16]),
        operator_id: "AWCC",
        trace_id: "t",
        salt: Salt([2; 16]),
        record: Record::Sms(Sms::BLANK),
    };
    let [two, three] = SchemaVersion::ALL.map(|version| row(version, None));
    assert_eq!(draft(SchemaVersion::V2).following(&three).version, SchemaVersion::V3);
    assert_eq!(draft(SchemaVersion::V3).following(&two).version, SchemaVersion::V3);
    assert_eq!(draft(SchemaVersion::V2).following(&two).version, SchemaVersion::V2);
}
