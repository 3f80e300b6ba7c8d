//! `verify-record` on proofs that the API gives.

use crate::api::SERVICE;
use crate::api::service::{RECORDS, cdr_id};
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};

/// A proof file and the root's public key.
fn files(dir: &Path) -> (String, String) {
    let proof = SERVICE.get(&format!("/v1/cdr/records/{}/proof", cdr_id(RECORDS))).text;
    let (file, root) = (dir.join("proof.json"), dir.join("root.pub"));
    std::fs::write(&file, proof).unwrap();
    std::fs::write(&root, hex::encode(SERVICE.root_public_key)).unwrap();
    (file.to_str().unwrap().to_owned(), root.to_str().unwrap().to_owned())
}

fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } =
        Command::new(testkit::binary()).arg("verify-record").args(arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

fn change(file: &str, change: impl FnOnce(&mut Value)) {
    let mut proof: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    change(&mut proof);
    std::fs::write(file, proof.to_string()).unwrap();
}

#[test]
fn a_proof_is_verified_with_and_without_a_root_key() {
    let dir = tempfile::tempdir().unwrap();
    let (file, root) = files(dir.path());
    let (code, said, _) = run(&["--cluster", "test", "--trust", &root, &file]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&cdr_id(RECORDS).to_string()) && !said.contains("NOT CHECKED"), "{said}");
    let (code, said, _) = run(&[&file]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("NOT CHECKED: whether that key") && said.contains("--trust"), "{said}");
    let (code, said, _) = run(&["--json", &file]);
    let answer: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &answer["verified"], &answer["trustChecked"]), (Some(0), &json!(true), &json!(false)));
    assert_eq!((&answer["clusterId"], &answer["violation"]), (&json!("test"), &Value::Null));
    let (_, said, _) = run(&["--json", "--cluster", "test", "--trust", &root, &file]);
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["trustChecked"], true);
}

#[test]
fn a_proof_without_personal_data_says_that_numbers_were_not_checked() {
    let dir = tempfile::tempdir().unwrap();
    let (file, root) = files(dir.path());
    let with_trust = ["--cluster", "test", "--trust", &root];
    let (_, said, _) = run(&[&with_trust[..], &[&file]].concat());
    assert!(!said.contains("not checked"), "{said}");
    let (_, said, _) = run(&[&["--json"], &with_trust[..], &[&file]].concat());
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["numbersChecked"], true);
    let path = format!("/v1/cdr/records/{}/proof", cdr_id(RECORDS));
    std::fs::write(&file, SERVICE.get_as(&path, &["cdr:read"]).text).unwrap();
    let (code, said, _) = run(&[&with_trust[..], &[&file]].concat());
    assert!(code == Some(0) && said.contains("Numbers not checked"), "{code:?} {said}");
    let (_, said, _) = run(&[&["--json"], &with_trust[..], &[&file]].concat());
    let answer: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&answer["verified"], &answer["numbersChecked"]), (&json!(true), &json!(false)));
}

/// What a change of a proof is answered with, and the change.
type Change<'a> = (&'a str, Box<dyn Fn(&mut Value) + 'a>);

#[test]
fn what_does_not_hold_is_named_with_exit_code_1() {
    let dir = tempfile::tempdir().unwrap();
    let (file, root) = files(dir.path());
    let good = std::fs::read_to_string(&file).unwrap();
    let other_root = dir.path().join("other.pub");
    std::fs::write(&other_root, hex::encode([9; 32])).unwrap();
    let (code, _, said) = run(&["--cluster", "test", "--trust", other_root.to_str().unwrap(), &file]);
    assert!(code == Some(1) && said.contains("does not vouch"), "{code:?} {said}");
    let (code, _, said) = run(&["--cluster", "another", "--trust", &root, &file]);
    assert!(code == Some(1) && said.contains("another cluster"), "{code:?} {said}");
    // None of these needs a root key to be seen.
    let flipped = |text: &Value| {
        let text = text.as_str().unwrap();
        let first = if text.starts_with('A') { 'B' } else { 'A' };
        json!(format!("{first}{}", &text[1..]))
    };
    let changes: [Change<'_>; 5] = [
        ("the row was changed", Box::new(|proof| proof["row"]["chargeAmount"] = json!("0.000000"))),
        ("the seal was changed", Box::new(|proof| proof["seal"]["recordCount"] = json!(1))),
        ("not by the signing key", Box::new(|proof| proof["signature"] = flipped(&proof["signature"]))),
        ("not signed yet", Box::new(|proof| proof["signature"] = Value::Null)),
        ("does not vouch", Box::new(|proof| proof["key"]["clusterId"] = json!("another"))),
    ];
    for (expected, tamper) in changes {
        std::fs::write(&file, &good).unwrap();
        change(&file, |proof| tamper(proof));
        let (code, _, said) = run(&[&file]);
        assert!(code == Some(1) && said.contains(expected), "{expected}: {code:?} {said}");
        let (code, answer, _) = run(&["--json", &file]);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!((code, &answer["verified"]), (Some(1), &json!(false)));
        assert!(answer["violation"].as_str().unwrap().contains(expected), "{answer}");
    }
}

#[test]
fn what_can_not_be_checked_is_exit_code_2() {
    let dir = tempfile::tempdir().unwrap();
    let (file, root) = files(dir.path());
    let missing = dir.path().join("none");
    let missing = missing.to_str().unwrap();
    for arguments in [
        &[missing][..],
        &[&root],
        &["--cluster", "test", "--trust", missing, &file],
        &["--cluster", "test", "--trust", &file, &file],
        &["--cluster", "test", &file],
        &["--trust", &root, &file],
    ] {
        let (code, said, why) = run(arguments);
        assert!(code == Some(2) && said.is_empty() && !why.is_empty(), "{arguments:?}: {code:?} {said}{why}");
    }
}

#[test]
fn a_proof_that_reads_in_two_ways_proves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (file, root) = files(dir.path());
    let good = std::fs::read_to_string(&file).unwrap();
    let sequence = good.split("\"cdrSequence\":").nth(1).unwrap().split([',', '}']).next().unwrap();
    let put = |what: &str| good.replacen("\"row\":{", &format!("\"row\":{{{what},"), 1);
    assert_ne!(put("x"), good);
    for forged in [
        put("\"chargeAmount\":\"0.000000\""),
        put("\"charge\\u0041mount\":\"0.000000\""),
        good.replacen("\"sequence\":", "\"sequence\":1,\"sequence\":", 1),
        good.replacen('{', "{\"formatVersion\":1,", 1),
        good.replacen(&format!("\"cdrSequence\":{sequence}"), "\"cdrSequence\":9007199254740993", 1),
        put(&format!("\"x\":{}1{}", "[".repeat(40), "]".repeat(40))),
    ] {
        assert_ne!(forged, good);
        std::fs::write(&file, &forged).unwrap();
        for arguments in
            [&[file.as_str()][..], &["--cluster", "test", "--trust", &root, &file], &["--json", &file]]
        {
            let (code, said, why) = run(arguments);
            assert!(code == Some(2) && said.is_empty(), "{forged}: {code:?} {said}{why}");
            assert!(why.contains("nothing was verified"), "{why}");
        }
    }
}

#[test]
fn what_the_api_said_in_place_of_a_proof_is_passed_on() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("answer.json");
    let missing = format!("/v1/cdr/records/{}/proof", cdr_id(9_999_999));
    std::fs::write(&file, SERVICE.get(&missing).text).unwrap();
    let (code, said, why) = run(&[file.to_str().unwrap()]);
    assert_eq!((code, said.as_str()), (Some(2), ""), "{why}");
    assert!(why.contains("does not exist (CDR_NOT_FOUND)") && why.contains("nothing was verified"), "{why}");
}
