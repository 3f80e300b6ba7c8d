//! Portable proofs hold for every row, and for nothing else.

use crate::oracle::{hex, jcs};
use crate::scenarios::{all, world};
use crate::world::{HOUR_MS, World, root_key, trust};
use cdr_core::Hash;
use cdr_core::chain::national_leaf;
use cdr_core::merkle::InclusionProof;
use cdr_core::proof::{
    OperatorChain, PortableProof, Trust, Violation, encode_base64, verify_seal, verify_succession,
};
use cdr_core::seal::{Seal, StreamStatement};
use ed25519_dalek::Signer;
use serde_json::{Value, json};

pub fn row_value(world: &World, index: usize) -> Value {
    serde_json::from_slice(&world.ledger.rows[index].0).unwrap()
}

/// The row's personal data with their salt.
pub fn personal_value(world: &World, index: usize) -> Option<Value> {
    let bytes = &world.ledger.personal[index];
    (!bytes.is_empty()).then(|| serde_json::from_slice(bytes).unwrap())
}

/// The portable proof of a row in a sealed hour.
pub fn prove(world: &World, index: usize) -> PortableProof {
    let row = row_value(world, index);
    let (hour, operator_id) = (row["bucketHour"].clone(), row["operatorId"].as_str().unwrap().to_owned());
    let partition: Vec<usize> = (0..world.ledger.rows.len())
        .filter(|i| {
            let other = row_value(world, *i);
            other["bucketHour"] == hour && other["operatorId"] == operator_id.as_str()
        })
        .collect();
    let leaves: Vec<Hash> = partition.iter().map(|i| world.ledger.rows[*i].1).collect();
    let leaf_index = partition.iter().position(|i| *i == index).unwrap() as u64;
    let closed = world.ledger.seals.values().find(|c| hour == c.seal.bucket_hour.to_string()).unwrap();
    let national: Vec<Hash> =
        closed.seal.operators.iter().map(|o| national_leaf(&o.operator_id, &o.chain_hash)).collect();
    let at = closed.seal.operators.iter().position(|o| o.operator_id == operator_id).unwrap();
    let entry = &closed.seal.operators[at];
    let named = closed.seal.signer_key_id.clone().unwrap();
    PortableProof {
        format_version: 2,
        row,
        personal: personal_value(world, index),
        row_hash: world.ledger.rows[index].1,
        operator_proof: InclusionProof::from_leaves(leaf_index, &leaves).unwrap(),
        operator_chain: OperatorChain {
            bucket_root: entry.bucket_root,
            prev_chain_hash: entry.prev_chain_hash,
            chain_hash: entry.chain_hash,
        },
        national_proof: InclusionProof::from_leaves(at as u64, &national).unwrap(),
        seal: closed.seal.clone(),
        seal_hash: closed.seal_hash,
        signature: world
            .ledger
            .signatures
            .get(&closed.seal.bucket_hour)
            .map(|sign| encode_base64(&sign.signature)),
        key: world.ledger.state.key(&named).cloned(),
        anchor: None,
    }
}

fn some_proof() -> PortableProof {
    let world = world("one-operator-empty");
    prove(&world, world.ledger.rows.len() - 1)
}

fn violation(change: impl FnOnce(&mut PortableProof)) -> String {
    let mut proof = some_proof();
    change(&mut proof);
    proof.verify(&trust()).expect_err("a changed proof must not hold").to_string()
}

#[test]
fn a_proof_survives_its_file() {
    let proof = some_proof();
    let text = serde_json::to_string_pretty(&proof).unwrap();
    let read: PortableProof = serde_json::from_str(&text).unwrap();
    assert_eq!(read, proof);
    assert_eq!(read.verify(&trust()), Ok(()));
}

#[test]
fn violations_name_what_is_wrong() {
    let has = |text: String, part: &str| assert!(text.contains(part), "{text:?} does not say {part:?}");
    let cdr_id = some_proof().row["cdrId"].as_str().unwrap().to_owned();
    has(violation(|p| p.row["chargeAmount"] = "9.000000".into()), &cdr_id);
    has(violation(|p| p.row_hash[0] ^= 1), &cdr_id);
    has(violation(|p| p.operator_proof.siblings[0].0[5] ^= 1), "AWCC");
    has(violation(|p| p.operator_proof.leaf_index ^= 1), "AWCC");
    has(violation(|p| p.operator_chain.chain_hash[0] ^= 1), "chain");
    has(violation(|p| p.national_proof.siblings[0].0[0] ^= 1), "national tree");
    has(violation(|p| p.seal.record_count += 1), "seal was changed");
    has(violation(|p| p.seal_hash[31] ^= 1), "seal was changed");
    has(violation(|p| p.signature = Some(encode_base64(&[1; 64]))), "not by the signing key");
    has(violation(|p| p.signature = Some("AAAA".to_owned())), "not 64 bytes");
    has(violation(|p| p.signature = None), "not signed yet");
    has(violation(|p| p.key.as_mut().unwrap().key_id = "key-9".to_owned()), "key is not the one");
    has(violation(|p| p.key.as_mut().unwrap().root_signature = "00".repeat(64)), "root key");
    has(violation(|p| p.key.as_mut().unwrap().public_key = "00".repeat(32)), "root key");
    has(violation(|p| p.format_version = 1), "format version");
    has(
        violation(|p| member(p, "calledPartyAddress", "+93790000001".into())),
        "do not give the row's personalHash",
    );
    has(violation(|p| member(p, "salt", "00".repeat(16).into())), "do not give the row's personalHash");
    has(violation(|p| member(p, "salt", "00".into())), "salt is not");
    has(violation(|p| member(p, "extra", Value::Null)), "other members");
    has(violation(|p| p.personal = Some(Value::from("masked"))), "no object");
    has(violation(|p| p.row["personalHash"] = Value::Null), &cdr_id);
    has(violation(|p| p.anchor = Some(Value::Bool(true))), "anchor");
    has(violation(|p| p.seal.cluster_id = "other".to_owned()), "seal was changed");
}

fn member(proof: &mut PortableProof, name: &str, value: Value) {
    proof.personal.as_mut().unwrap()[name] = value;
}

#[test]
fn a_proof_without_the_personal_part_holds_and_says_so() {
    let mut proof = some_proof();
    assert!(!proof.withholds_personal());
    proof.personal = None;
    assert_eq!(proof.verify(&trust()), Ok(()));
    assert!(proof.withholds_personal());
    let world = world("one-operator-empty");
    let key_row = prove(&world, 2);
    assert_eq!((&key_row.personal, key_row.withholds_personal()), (&None, false), "it has no personal data");
}

#[test]
fn members_of_system_rows_are_checked_too() {
    let world = world("system-rows");
    let of_audit = |i: &usize| row_value(&world, *i)["recordType"] == "audit";
    let index = (0..world.ledger.rows.len()).filter(of_audit).find(|i| !world.ledger.personal[*i].is_empty());
    let proof = prove(&world, index.unwrap());
    assert_eq!(proof.verify(&trust()), Ok(()));
    for change in
        [json!({"reason": "r"}), json!({"details": {"reason": "r"}, "reason": "r", "request": null})]
    {
        let mut changed = proof.clone();
        let mut personal = change;
        personal["salt"] = proof.personal.as_ref().unwrap()["salt"].clone();
        changed.personal = Some(personal);
        assert!(changed.verify(&trust()).unwrap_err().to_string().contains("other members"));
    }
}

#[test]
fn another_root_or_cluster_is_not_trusted() {
    let proof = some_proof();
    let mut other = trust();
    other.root_public_key = [9; 32];
    assert!(matches!(proof.verify(&other), Err(Violation::Untrusted { .. })));
    let other = Trust { cluster_id: "other".to_owned(), ..trust() };
    assert!(matches!(proof.verify(&other), Err(Violation::Untrusted { .. })));
}

/// The proof with a key that the root vouches for, changed by `change` beforehand.
fn with_key(change: impl FnOnce(&mut Value)) -> Result<(), Violation> {
    let mut proof = some_proof();
    let mut body = serde_json::to_value(proof.key.take()).unwrap();
    change(&mut body);
    body.as_object_mut().unwrap().remove("rootSignature");
    let message = [b"cdr-key-v1\0", jcs(&body).as_bytes()].concat();
    body["rootSignature"] = hex(&root_key().sign(&message).to_bytes()).into();
    proof.key = Some(serde_json::from_value(body).unwrap());
    proof.verify(&trust())
}

#[test]
fn a_key_seals_its_own_hours_and_cluster_only() {
    let hour = some_proof().seal.bucket_hour;
    assert_eq!(with_key(|_| ()), Ok(()));
    assert_eq!(with_key(|key| key["toHour"] = hour.next().to_string().into()), Ok(()));
    let untrusted =
        |change: &dyn Fn(&mut Value)| matches!(with_key(change), Err(Violation::Untrusted { .. }));
    assert!(untrusted(&|key| key["fromHour"] = hour.next().to_string().into()), "not yet");
    assert!(untrusted(&|key| key["toHour"] = hour.to_string().into()), "no longer");
    assert!(untrusted(&|key| key["clusterId"] = "other".into()), "of another cluster");
    assert!(untrusted(&|key| key["algorithm"] = "none".into()), "of another kind");
    assert!(untrusted(&|key| key["keyId"] = "key-2".into()), "not the one that the seal names");
}

/// Every single byte of the file, changed, gives a file that does not read or does not verify. Bytes that
/// carry no meaning (white space) are not in the canonical text.
#[test]
fn any_changed_byte_breaks_the_proof() {
    let text = cdr_core::canonical::to_jcs(&some_proof()).unwrap();
    for at in 0..text.len() {
        for flip in [1, 2, 0x10, 0x20] {
            let mut changed = text.clone();
            changed[at] ^= flip;
            let Ok(proof) = serde_json::from_slice::<PortableProof>(&changed) else { continue };
            assert!(proof.verify(&trust()).is_err(), "byte {at} of the proof can be changed by {flip:#x}");
        }
    }
}

#[test]
fn a_row_of_another_hour_or_operator_does_not_pass() {
    let world = world("one-operator-empty");
    let (first, last) = (prove(&world, 0), prove(&world, world.ledger.rows.len() - 1));
    let mut mixed = first.clone();
    (mixed.row, mixed.row_hash) = (last.row.clone(), last.row_hash);
    assert!(matches!(mixed.verify(&trust()), Err(Violation::Mismatch { .. })));
    let mut other_hour = last;
    (other_hour.seal, other_hour.seal_hash, other_hour.signature) =
        (first.seal, first.seal_hash, first.signature);
    assert!(other_hour.verify(&trust()).unwrap_err().to_string().contains("another hour"));
}

fn seals(world: &World) -> Vec<(Seal, Hash)> {
    world.ledger.seals.values().map(|closed| (closed.seal.clone(), closed.seal_hash)).collect()
}

#[test]
fn seals_of_every_history_follow_one_another() {
    for scenario in all() {
        let seals = seals(&scenario.world);
        for (seal, hash) in &seals {
            assert_eq!(verify_seal(seal, hash), Ok(()), "{}", scenario.name);
        }
        for pair in seals.windows(2) {
            assert_eq!(verify_succession(&pair[0].0, &pair[0].1, &pair[1].0), Ok(()), "{}", scenario.name);
        }
    }
}

/// Signs a changed seal anew, so that only what the change contradicts can give it away.
fn sealed_violation(change: impl FnOnce(&mut Seal)) -> String {
    let mut seal = seals(&world("stream-epochs")).pop().unwrap().0;
    change(&mut seal);
    let hash = seal.hash().unwrap();
    verify_seal(&seal, &hash).expect_err("a contradictory seal must not pass").to_string()
}

#[test]
fn a_seal_that_contradicts_itself_is_named() {
    let has = |text: String, part: &str| assert!(text.contains(part), "{text:?} does not say {part:?}");
    has(sealed_violation(|s| s.record_count += 1), "record counts");
    has(sealed_violation(|s| s.operators[0].record_count += 1), "record counts");
    has(sealed_violation(|s| s.operators[0].record_count = u64::MAX), "record counts");
    has(sealed_violation(|s| s.operators[0].chain_hash[0] ^= 1), "AWCC");
    has(sealed_violation(|s| s.operators[0].prev_chain_hash[0] ^= 1), "AWCC");
    has(sealed_violation(|s| s.operators.swap(0, 1)), "bucketRoot");
    has(sealed_violation(|s| s.completeness.swap(0, 1)), "order");
    has(sealed_violation(|s| s.bucket_root[0] ^= 1), "bucketRoot");
    has(sealed_violation(|s| s.chain_hash[0] ^= 1), "chainHash");
    has(sealed_violation(|s| s.prev_chain_hash[0] ^= 1), "chainHash");
    has(sealed_violation(|s| s.format_version = 1), "format version");
    let of_stream = |change: fn(&mut StreamStatement)| {
        has(
            sealed_violation(|s| s.completeness.iter_mut().filter(|c| c.stream == "SMS#2").for_each(change)),
            "SMS#2",
        );
    };
    of_stream(|c| c.received += 1);
    of_stream(|c| c.missing += 1);
    of_stream(|c| c.last_sequence = u64::MAX);
    of_stream(|c| c.first_sequence = 0);
    of_stream(|c| c.duplicate = u64::MAX);
}

#[test]
fn an_empty_hour_has_the_empty_root() {
    let mut seal = seals(&world("empty-hour")).pop().unwrap().0;
    assert_eq!(seal.record_count, 0);
    seal.operators[0].bucket_root[0] ^= 1;
    seal.operators[0].chain_hash =
        cdr_core::chain::next_chain(&seal.operators[0].prev_chain_hash, &seal.operators[0].bucket_root);
    let hash = seal.hash().unwrap();
    assert!(verify_seal(&seal, &hash).unwrap_err().to_string().contains("empty root"));
}

fn succession_violation(name: &str, change: impl FnOnce(&mut Seal)) -> String {
    let seals = seals(&world(name));
    let (before, mut next) = (&seals[seals.len() - 2], seals[seals.len() - 1].0.clone());
    change(&mut next);
    verify_succession(&before.0, &before.1, &next).expect_err("a broken succession must not pass").to_string()
}

#[test]
fn gaps_between_hours_are_named() {
    let has = |text: String, part: &str| assert!(text.contains(part), "{text:?} does not say {part:?}");
    let of = |change: fn(&mut Seal)| succession_violation("operator-joins", change);
    has(of(|s| s.bucket_hour = s.bucket_hour.next()), "an hour is missing");
    has(of(|s| s.prev_seal_hash[0] ^= 1), "does not continue");
    has(of(|s| s.prev_chain_hash[0] ^= 1), "does not continue");
    has(of(|s| s.operators.retain(|o| o.operator_id != "AWCC")), "AWCC: it left");
    has(of(|s| s.operators[0].prev_bucket_root[0] ^= 1), "AWCC");
    has(of(|s| s.operators[0].prev_chain_hash[0] ^= 1), "AWCC");
    has(of(|s| s.operators[1].prev_chain_hash[0] ^= 1), "MTN_AF: it joins without its genesis");
    has(of(|s| s.operators[1].prev_bucket_root[0] ^= 1), "MTN_AF: it joins without its genesis");
    has(of(|s| s.generation = 0), "fork");
    has(of(|s| s.cluster_id = "other".to_owned()), "another cluster");
    for stream in ["SMS", "api", "internal"] {
        let gap = |s: &mut Seal| {
            s.completeness.iter_mut().filter(|c| c.stream == stream).for_each(|c| c.first_sequence += 1);
        };
        has(succession_violation("stream-epochs", gap), stream);
        has(succession_violation("stream-epochs", |s| s.completeness.retain(|c| c.stream != stream)), stream);
    }
}

#[test]
fn a_seal_without_its_hour_is_not_skipped() {
    let mut world = world("empty-hour");
    world.now += 2 * HOUR_MS;
    world.seal();
    let seals = seals(&world);
    assert!(verify_succession(&seals[0].0, &seals[0].1, &seals[2].0).is_err());
}
